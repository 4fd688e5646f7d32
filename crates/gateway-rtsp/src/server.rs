//! The RTSP server: listens, lets clients in, and gives each connection a task.
//!
//! ```text
//!   listener ─▶ gate ─▶ client task: reads, drives `Connection`, answers its questions
//!                            │ from PLAY on, all writes                │ RECORD
//!                            ▼                                         ▼
//!                        senders: a few tasks, each with many clients  Publisher
//! ```
//!
//! Not the protocol, which is [`crate::connection`]. Called by `levada-cli` and tests. Invariant: dropping the server
//! ends its connections and streams.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use levada::Node;
use levada_gateway::{Kit, Limits, Permit, Registry, Streams, Tls, Users};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::channel::Channels;
use crate::format::Rtp;
use crate::message::{Response, Status};
use crate::pull::Pulls;
use crate::sender;
use crate::socket::Socket;
use crate::udp::{RTP_PORT_DEFAULT, Udp};

mod client;
mod play;
mod record;

/// The port of RTSP, unless it is set otherwise.
pub const PORT_DEFAULT: u16 = 8554;
/// The port of RTSP by TLS, unless it is set otherwise.
pub const SECURE_PORT_DEFAULT: u16 = 8322;
/// How long a client by TLS may take to take the last of what was written.
const FAREWELL: Duration = Duration::from_secs(2);
/// After an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Tasks that write, at most.
const SENDERS_MAX: usize = 8;

/// Collects what a server needs. Made by [`Server::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct Builder {
    node: Node,
    kit: Kit,
    hold: Duration,
    senders: usize,
    rtp_port: Option<u16>,
    pulls: Option<Pulls>,
}

impl Builder {
    /// What the node's gateways share: users, limits and sessions. Without this, the server has its own, and everybody
    /// may play and publish.
    pub fn kit(mut self, kit: Kit) -> Self {
        self.kit = kit;
        self
    }

    /// Who may play and publish.
    pub fn users(mut self, users: Users) -> Self {
        self.kit = self.kit.with_users(users);
        self
    }

    /// How many clients there may be.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.kit = self.kit.with_limits(limits);
        self
    }

    /// What the node pulls, also for players that name a server in the URL. Without this, what they name alone.
    pub fn pulls(mut self, pulls: Pulls) -> Self {
        self.pulls = Some(pulls);
        self
    }

    /// How long players are held while a source is away. Without this, 10 s.
    pub const fn hold(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }

    /// How many tasks write to players, 1 to 8. Without this, one per processor.
    pub fn senders(mut self, senders: usize) -> Self {
        self.senders = senders.clamp(1, SENDERS_MAX);
        self
    }

    /// The UDP port of RTP; RTCP has the next one. Zero takes two that are free. Without this 8000, or two that are
    /// free where that is taken, or where the port of RTSP is not fixed either.
    pub const fn rtp_port(mut self, port: u16) -> Self {
        self.rtp_port = Some(port);
        self
    }

    /// Listens. Must be called on a tokio runtime with its timer and I/O on.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on.
    pub async fn start(self, address: SocketAddr) -> Result<Server, ListenError> {
        let failed = |source| ListenError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let is_free = address.port() == 0;
        let address = listener.local_addr().map_err(failed)?;
        let udp = match self.rtp_port {
            Some(port) => Udp::bind(address.ip(), port).await,
            None if is_free => Udp::bind(address.ip(), 0).await,
            None => match Udp::bind(address.ip(), RTP_PORT_DEFAULT).await {
                Ok(udp) => Ok(udp),
                Err(_) => Udp::bind(address.ip(), 0).await,
            },
        };
        let warn =
            |error| tracing::warn!("RTSP clients get no RTP over UDP, only over TCP: {error}");
        let udp = udp.map_err(warn).ok().map(Arc::new);
        let shared = Arc::new(Shared {
            streams: Streams::new(self.node.clone(), Rtp::new).with_hold(self.hold),
            pulls: self
                .pulls
                .unwrap_or_else(|| Pulls::new(self.node.clone(), self.kit.registry().clone())),
            node_id: self.node.id().short(),
            senders: (0..self.senders)
                .map(|_| sender::start(self.kit.gate().clone()))
                .collect(),
            kit: self.kit,
            node: self.node,
            next: AtomicU64::new(0),
            channels: Channels::default(),
            udp,
        });
        let registry = shared.kit.registry().clone();
        let mut tasks = JoinSet::new();
        if let Some(udp) = &shared.udp {
            tasks.spawn(Arc::clone(udp).receive());
        }
        tasks.spawn(accept(listener, Arc::clone(&shared), None));
        tracing::info!(%address, "the RTSP gateway listens");
        Ok(Server {
            address,
            secure: None,
            registry,
            shared,
            tasks,
        })
    }
}

/// A running RTSP server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    secure: Option<SocketAddr>,
    registry: Registry,
    shared: Arc<Shared>,
    /// They end with this.
    tasks: JoinSet<()>,
}

impl Server {
    /// What can be said about a server before it starts.
    pub fn builder(node: Node) -> Builder {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Builder {
            node,
            kit: Kit::default(),
            hold: levada_gateway::encode::HOLD,
            senders: processors.min(SENDERS_MAX),
            rtp_port: None,
            pulls: None,
        }
    }

    /// The address that it listens on, with the port it really has.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Listens for RTSP by TLS as well, with that certificate. Must be called where [`Builder::start`] may be.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on; the server goes on without.
    pub async fn listen_secure(
        &mut self,
        address: SocketAddr,
        tls: Tls,
    ) -> Result<(), ListenError> {
        let failed = |source| ListenError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        tracing::info!(%address, "the RTSP gateway listens for TLS");
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn(accept(listener, shared, Some(tls)));
        self.secure = Some(address);
        Ok(())
    }

    /// The address that it listens on for TLS, if it does.
    #[must_use]
    pub const fn secure_addr(&self) -> Option<SocketAddr> {
        self.secure
    }

    /// Who plays and publishes.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }
}

/// Why a server does not listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for RTSP on TCP {address}: {source}")]
pub struct ListenError {
    /// The address asked for.
    pub address: SocketAddr,
    /// What the system says.
    pub source: io::Error,
}

impl ListenError {
    /// Whether another program has the port.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    node: Node,
    streams: Streams<Rtp>,
    kit: Kit,
    pulls: Pulls,
    node_id: String,
    senders: Vec<sender::Handle>,
    /// Numbers connections.
    next: AtomicU64,
    channels: Channels,
    /// The ports of RTP, if there are any.
    udp: Option<Arc<Udp>>,
}

impl Shared {
    /// A number for a connection, and the sender that writes to it.
    fn number(&self) -> (u64, sender::Handle) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let at = usize::try_from(number).unwrap_or(0) % self.senders.len();
        (number, self.senders[at].clone())
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, tls: Option<Tls>) {
    // They end with this task.
    let mut clients = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = clients.join_next() => continue,
        };
        match accepted {
            Ok((stream, remote)) => admit(stream, remote, &shared, tls.as_ref(), &mut clients),
            Err(error) => {
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(
    stream: TcpStream,
    remote: SocketAddr,
    shared: &Arc<Shared>,
    tls: Option<&Tls>,
    clients: &mut JoinSet<()>,
) {
    match shared.kit.gate().enter(remote.ip()) {
        Ok(permit) => {
            // Without it a response could wait for the acknowledgement of what was sent before.
            let _ = stream.set_nodelay(true);
            let shared = Arc::clone(shared);
            match tls.cloned() {
                Some(tls) => clients.spawn(run_secure(stream, tls, remote, shared, permit)),
                None => clients.spawn(client::run(Socket::Tcp(stream), remote, shared, permit)),
            };
        }
        Err(error) => {
            tracing::debug!("a client was not let in: {error}");
            if tls.is_some() {
                // Nothing can be said before a handshake, which would cost what is to be saved.
                return;
            }
            let response = Response::new(Status::NOT_ENOUGH_BANDWIDTH);
            let response = response.with_body("text/plain", format!("{error}\r\n"));
            // It fits into an empty socket, or the client does not hear why.
            let _ = stream.try_write(&response.encode());
        }
    }
}

/// Takes a client's handshake, and serves it then.
#[cfg(unix)]
async fn run_secure(
    stream: TcpStream,
    tls: Tls,
    remote: SocketAddr,
    shared: Arc<Shared>,
    permit: Permit,
) {
    let opened = tls.accept(stream).await.and_then(Socket::tls);
    let (socket, copy) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            return tracing::debug!("a client did not get through its handshake: {error}");
        }
    };
    // It ends with this task, if that does not wait for it.
    let mut copying = JoinSet::new();
    copying.spawn(copy);
    client::run(socket, remote, shared, permit).await;
    let _ = tokio::time::timeout(FAREWELL, copying.join_next()).await;
}

#[cfg(not(unix))]
async fn run_secure(_: TcpStream, _: Tls, _: SocketAddr, _: Arc<Shared>, _: Permit) {
    tracing::warn!("there is no RTSP by TLS on this platform yet");
}
