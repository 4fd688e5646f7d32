//! The HTTP server: listens, and serves the gateway's paths and those of whoever else has pages here.
//!
//! ```text
//!   Server::builder(node).users(..).merge(other pages).start(address)
//! ```
//!
//! Not the connections (`serve`) nor the answers (`live`). Called by `levada-cli` and tests. Invariant: dropping the
//! server ends its connections and streams.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use levada::{Node, Stopped};
use levada_gateway::{Kit, Limits, Registry, Streams, Users};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::catalogue::Catalogue;
use crate::format::{Mjpeg, Mp4, Tracks, Ts};
use crate::hls::{Cuts, visits::Visits};
use crate::{live, serve};

/// The port of HTTP, unless it is set otherwise.
pub const PORT_DEFAULT: u16 = 8080;

/// Collects what a server needs. Made by [`Server::builder`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct Builder {
    node: Node,
    kit: Kit,
    hold: Duration,
    rtsp_port: Option<u16>,
    others: Vec<Router>,
}

impl Builder {
    /// What the node's gateways share: users, limits and sessions. Without this, the server has its own, and everybody
    /// may play.
    pub fn kit(mut self, kit: Kit) -> Self {
        self.kit = kit;
        self
    }

    /// Takes these users instead of those of the kit.
    pub fn users(mut self, users: Users) -> Self {
        self.kit = self.kit.with_users(users);
        self
    }

    /// How many clients there may be.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.kit = self.kit.with_limits(limits);
        self
    }

    /// How long players are held while a source is away. Without this, 10 s.
    pub const fn hold(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }

    /// Where RTSP players ask on this node, for links. Without this there are none.
    pub const fn rtsp_port(mut self, port: Option<u16>) -> Self {
        self.rtsp_port = port;
        self
    }

    /// More pages on the same port. Pages of other sites may read the gateway's answers, not these: that is for them to
    /// say. Their handlers have the connection as an extension, [`serve::Peer`]. The paths of
    /// the gateway itself are `/`, `/live/`, `/clock` and `/assets/`; a path that is there twice is a panic at
    /// [`Self::start`].
    pub fn merge(mut self, router: Router) -> Self {
        self.others.push(router);
        self
    }

    /// Listens. Must be called on a tokio runtime with its timer and I/O on.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on, or the node is gone.
    pub async fn start(self, address: SocketAddr) -> Result<Server, ListenError> {
        let failed = |source| ListenError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let node = &self.node;
        let hold = self.hold;
        let mp4 = |tracks| {
            let streams = Streams::new(node.clone(), move |name| Mp4::new(name, tracks));
            streams.with_hold(hold)
        };
        let shared = Arc::new(Shared {
            mp4: [Tracks::All, Tracks::Video, Tracks::Audio].map(mp4),
            ts: Streams::new(node.clone(), Ts::new).with_hold(hold),
            mjpeg: Streams::new(node.clone(), Mjpeg::new).with_hold(hold),
            cuts: Cuts::new(node.clone()),
            visits: Visits::new(self.kit.registry().clone()),
            catalogue: Catalogue::follow(node).await?,
            kit: self.kit.clone(),
            rtsp_port: self.rtsp_port,
        });
        let routers = self.others.into_iter();
        let router = routers.fold(live::router(shared), Router::merge);
        let gate = self.kit.gate().clone();
        let task = tokio::spawn(serve::serve(listener, router, gate));
        tracing::info!(%address, "the HTTP gateway listens");
        Ok(Server {
            address,
            registry: self.kit.registry().clone(),
            task,
        })
    }
}

/// A running HTTP server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    registry: Registry,
    task: JoinHandle<()>,
}

impl Server {
    /// What can be said about a server before it starts.
    pub fn builder(node: Node) -> Builder {
        Builder {
            node,
            kit: Kit::default(),
            hold: levada_gateway::encode::HOLD,
            rtsp_port: None,
            others: Vec::new(),
        }
    }

    /// The address that it listens on, with the port it really has.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The sessions of this server, and of all gateways that it shares the registry with.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a server does not listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The system does not let it.
    #[error("cannot listen for HTTP on TCP {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The node is gone.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl ListenError {
    /// Whether another program has the port.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }
}

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    mp4: [Streams<Mp4>; 3],
    pub(crate) ts: Streams<Ts>,
    pub(crate) mjpeg: Streams<Mjpeg>,
    pub(crate) cuts: Cuts,
    pub(crate) visits: Arc<Visits>,
    pub(crate) catalogue: Catalogue,
    pub(crate) kit: Kit,
    pub(crate) rtsp_port: Option<u16>,
}

impl Shared {
    /// The streams as fragmented MP4 of these tracks.
    pub(crate) const fn mp4(&self, tracks: Tracks) -> &Streams<Mp4> {
        match tracks {
            Tracks::All => &self.mp4[0],
            Tracks::Video => &self.mp4[1],
            Tracks::Audio => &self.mp4[2],
        }
    }
}
