//! How a node is started: every knob it has, and every way in which a start can fail.
//!
//! Not the configuration file (`config`), which ends here too. Called by programs. Invariant: a failed start
//! leaves nothing behind: no lock, no socket, no task.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use levada_core::limits::{ADDRESSES_MAX, NEIGHBOURS_MAX};
use levada_ports::default_lanes;
use levada_wire::Bitrate;

use crate::node::Node;
use crate::resolve::{Address, AddressError};
use crate::site::SiteOptions;
use crate::state::StateError;
use crate::tap::Tap;

/// The most threads that move packets. See [`Builder::lanes`].
pub const LANES_MAX: usize = levada_ports::LANES_MAX;
/// The port of everything unicast.
pub(crate) const PORT_DEFAULT: u16 = 7800;

/// Whether a node forwards flows for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Relay {
    /// It does.
    Always,
    /// It does when that helps. At present every node that may relay helps, so this relays like
    /// [`Relay::Always`].
    #[default]
    Auto,
    /// It does not.
    Never,
}

impl Relay {
    pub(crate) const fn is_willing(self) -> bool {
        matches!(self, Self::Always | Self::Auto)
    }
}

/// Collects what a node needs to start. Made by [`Node::builder`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it is started"]
pub struct Builder {
    pub(crate) state: StateChoice,
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) join: Vec<String>,
    pub(crate) name: Option<String>,
    pub(crate) relay: Relay,
    pub(crate) client: bool,
    pub(crate) admin: bool,
    pub(crate) lanes: Option<usize>,
    pub(crate) uplink: Option<Bitrate>,
    pub(crate) interface_rate: Option<Bitrate>,
    pub(crate) cache_bytes: Option<usize>,
    pub(crate) site: Option<SiteOptions>,
    pub(crate) tap: Option<Arc<dyn Tap>>,
}

/// Where the node's state is.
#[derive(Clone, Debug, Default)]
pub(crate) enum StateChoice {
    /// [`crate::state::default_dir`].
    #[default]
    Default,
    /// A directory of the caller's choice.
    At(PathBuf),
    /// A fresh one, removed at the end.
    Temporary,
}

impl Builder {
    /// The state directory: the node's key, lock and local socket. Made if it does not exist. Without this,
    /// [`crate::state::default_dir`].
    ///
    /// ```
    /// let builder = levada::Node::builder().state("/var/lib/levada");
    /// ```
    pub fn state(mut self, dir: impl AsRef<Path>) -> Self {
        self.state = StateChoice::At(dir.as_ref().to_owned());
        self
    }

    /// A state directory of this start alone, removed when the node ends: a new key, and no lock to collide with.
    ///
    /// ```
    /// let builder = levada::Node::builder().temporary_state();
    /// ```
    pub fn temporary_state(mut self) -> Self {
        self.state = StateChoice::Temporary;
        self
    }

    /// The UDP address for everything unicast. Without this, port 7800 on all addresses; with
    /// [`Builder::client`], any free port. Port 0 takes a free one: see [`Node::local_addr`].
    ///
    /// ```
    /// let builder = levada::Node::builder().listen(([127, 0, 0, 1], 0).into());
    /// ```
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// A neighbour to keep a link to: `HOST[:PORT]`, or `NODEID@HOST[:PORT]` if nobody else may answer there. May be
    /// given several times. A name is looked up again and again until it is found.
    ///
    /// ```
    /// let builder = levada::Node::builder().join("relay.example:7800").join("10.0.0.7");
    /// ```
    pub fn join(mut self, address: impl Into<String>) -> Self {
        self.join.push(address.into());
        self
    }

    /// What the node calls itself, for people; at most 64 bytes. Without this, the host's name.
    ///
    /// ```
    /// let builder = levada::Node::builder().name("lobby");
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Whether the node forwards flows for others. Without this, [`Relay::Auto`].
    ///
    /// ```
    /// let builder = levada::Node::builder().relay(levada::Relay::Never);
    /// ```
    pub const fn relay(mut self, relay: Relay) -> Self {
        self.relay = relay;
        self
    }

    /// Client mode: the addresses given to [`Builder::join`] are tried until one answers, that one is kept, and
    /// no connection from outside is accepted. Flows are still forwarded over links made by hand.
    ///
    /// ```
    /// let builder = levada::Node::builder().client(true).join("a.example").join("b.example");
    /// ```
    pub const fn client(mut self, client: bool) -> Self {
        self.client = client;
        self
    }

    /// Whether other programs of this user find the node by the socket in its state directory ([`crate::admin`]).
    /// Without this, they do not.
    ///
    /// ```
    /// let builder = levada::Node::builder().admin(true);
    /// ```
    pub const fn admin(mut self, admin: bool) -> Self {
        self.admin = admin;
        self
    }

    /// How many threads move packets, 1 to [`LANES_MAX`]. Each flow is one thread's; a flow that goes to many is sent
    /// by all. Without this, one per processor, at most [`LANES_MAX`].
    ///
    /// ```
    /// let builder = levada::Node::builder().lanes(2);
    /// ```
    pub const fn lanes(mut self, lanes: usize) -> Self {
        self.lanes = Some(lanes);
        self
    }

    /// The rate that is promised to other nodes at most. Each flow that goes to one reserves its peak; a request that
    /// does not fit beside what is admitted is refused, and its node asks another. Without this, there is no limit.
    ///
    /// ```
    /// let builder = levada::Node::builder().uplink(levada::Bitrate(50_000_000));
    /// ```
    pub const fn uplink(mut self, uplink: Bitrate) -> Self {
        self.uplink = Some(uplink);
        self
    }

    /// What each network interface of this machine carries. Newcomers are sent cached groups at a quarter of it.
    /// Without this, what the system says of the interface, or 1 Gb/s.
    ///
    /// ```
    /// let builder = levada::Node::builder().interface_rate(levada::Bitrate(100_000_000));
    /// ```
    pub const fn interface_rate(mut self, rate: Bitrate) -> Self {
        self.interface_rate = Some(rate);
        self
    }

    /// How much memory the newest groups of all flows may take together. Without this, a sixteenth of the machine's
    /// memory, 64 MiB to 1 GiB.
    ///
    /// ```
    /// let builder = levada::Node::builder().cache_bytes(256 << 20);
    /// ```
    pub const fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = Some(bytes);
        self
    }

    /// Has the node form a site with the nodes on its LAN, which find each other by multicast and elect a hub. Without
    /// this, it does not. In client mode this has no effect.
    ///
    /// ```
    /// let builder = levada::Node::builder().site(levada::SiteOptions::default());
    /// ```
    pub fn site(mut self, site: SiteOptions) -> Self {
        self.site = Some(site);
        self
    }

    /// Shows every control byte and every secret that passes: for the tests that prove the ones free of the others.
    #[doc(hidden)]
    pub fn tap(mut self, tap: Arc<dyn Tap>) -> Self {
        self.tap = Some(tap);
        self
    }

    /// Starts the node. Must be called on a tokio runtime with its timer on; the node's tasks run there until
    /// the last [`Node`] is dropped or one of them leaves.
    ///
    /// # Errors
    ///
    /// When an address is malformed, the state directory cannot be used or is in use, or the port is taken. The
    /// text says which, why, and what to do.
    pub async fn start(self) -> Result<Node, StartError> {
        Node::start(self).await
    }

    pub(crate) fn listen_or_default(&self) -> SocketAddr {
        let port = if self.client { 0 } else { PORT_DEFAULT };
        self.listen
            .unwrap_or_else(|| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))
    }

    /// The number of lanes, checked.
    pub(crate) fn lanes_or_default(&self) -> Result<usize, StartError> {
        match self.lanes {
            None => Ok(default_lanes()),
            Some(count) if (1..=LANES_MAX).contains(&count) => Ok(count),
            Some(count) => Err(StartError::Lanes { count }),
        }
    }

    /// Checks the addresses of all neighbours.
    pub(crate) fn neighbours(&self) -> Result<Vec<Address>, StartError> {
        // A client's addresses are those of one neighbour.
        let max = if self.client {
            ADDRESSES_MAX
        } else {
            NEIGHBOURS_MAX
        };
        let count = self.join.len();
        if count > max {
            return Err(StartError::Neighbours { count, max });
        }
        let parsed = self.join.iter().map(|text| text.parse());
        Ok(parsed.collect::<Result<_, AddressError>>()?)
    }
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The state directory is in use, or cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A neighbour's address makes no sense.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// More neighbours than a node keeps links to.
    #[error(
        "{count} neighbours are given and {max} are possible: leave some out, others are reached through the rest"
    )]
    Neighbours {
        /// How many are given.
        count: usize,
        /// The most allowed.
        max: usize,
    },
    /// The node's name is too long.
    #[error("the node's name has {bytes} bytes and may have {max}: choose a shorter one")]
    Name {
        /// Its length.
        bytes: usize,
        /// The longest allowed.
        max: usize,
    },
    /// Not a number of lanes that a node may have.
    #[error(
        "{count} lanes are given and 1 to {LANES_MAX} are possible: leave it out for one per processor"
    )]
    Lanes {
        /// How many are given.
        count: usize,
    },
    /// Another program has the port.
    #[error(
        "UDP port {} is already in use on {}: another program, perhaps another levada, has it; stop that, or listen on \
         another address",
        address.port(), address.ip()
    )]
    PortInUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The address cannot be listened on for another reason.
    #[error("cannot listen on UDP {address}: {source}; choose an address that this machine has")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// An interface that this host does not have.
    #[error("there is no network interface `{name}` on this machine; it has {known}")]
    Interface {
        /// As it was given.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// The local socket in the state directory cannot be made.
    #[error(
        "cannot make the local socket {}: {source}; give a state directory with a shorter path on a local disk",
        path.display()
    )]
    Admin {
        /// Where it should be.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The system gives no random bytes, threads or the like.
    #[error("the system does not give what a node needs ({what}): {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
}
