//! What a person may see of a node: plain rows for tables, JSON and the dashboard.
//!
//! Snapshots, not state: nothing here is read back. Made by [`crate::Control::view`], shown by `cli`. Invariant:
//! no secret can be put into a row.

use std::net::SocketAddr;
use std::time::Duration;

use levada_wire::{Announce, Bitrate, Distance, FlowId, LinkIndex, NodeId, PacketSize, StreamName};

/// All rows at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Links and what becomes of configured neighbours.
    pub links: Vec<LinkRow>,
    /// Routes to origins.
    pub routes: Vec<RouteRow>,
    /// Known streams.
    pub streams: Vec<StreamRow>,
    /// Known flows.
    pub flows: Vec<FlowRow>,
    /// What is reserved for them.
    pub admission: Admission,
}

/// What a node has promised to its children.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// The rate that children are promised at most, all together; none if it is not limited.
    pub uplink: Option<Bitrate>,
    /// The peaks of all flows, once for each child.
    pub admitted: Bitrate,
}

/// A link, or an attempt at one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRow {
    /// This node's number for it; none while there is no connection.
    pub link: Option<LinkIndex>,
    /// The peer, once proven.
    pub peer: Option<NodeId>,
    /// What the peer calls itself.
    pub name: String,
    /// Where it is.
    pub remote: SocketAddr,
    /// `dialing`, `greeting`, `up`, `suspect`, `waiting`.
    pub state: &'static str,
    /// Why it is not up, or how the last attempt ended; empty when all is well.
    pub cause: String,
    /// Smoothed round-trip time.
    pub rtt: Option<Duration>,
    /// Loss toward this node in the last seconds, in thousandths.
    pub loss_in_permille: u16,
    /// Loss toward the peer, in thousandths.
    pub loss_out_permille: u16,
    /// Whether the peer forwards for others.
    pub relay: bool,
    /// Packets of this size may go over it to the peer; none while it is not up.
    pub packet_size: Option<PacketSize>,
    /// Whether a ping of that size was answered; until then it is assumed.
    pub is_size_proven: bool,
    /// Whether its breaker keeps further flows out: the link loses too much of what it is given.
    pub is_congested: bool,
}

/// The selected route to an origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRow {
    /// Where it leads.
    pub origin: NodeId,
    /// How far that is.
    pub distance: Distance,
    /// Over which link; none for this node itself, or while there is no way.
    pub link: Option<LinkIndex>,
    /// How many other routes could take over at once.
    pub feasible_backups: usize,
}

/// A stream that is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRow {
    /// Its name.
    pub name: StreamName,
    /// What its origin says of it.
    pub announce: Announce,
    /// Its distance; infinite while there is no way to it.
    pub distance: Distance,
    /// Whether this node is the origin.
    pub local: bool,
    /// The state of its layer 0 here.
    pub state: FlowState,
}

/// A flow's state here, in the words that users see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlowState {
    /// Consumed here.
    Active,
    /// Only forwarded.
    Streaming,
    /// Known; nothing flows.
    Hold,
}

impl std::fmt::Display for FlowState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Active => "ACTIVE",
            Self::Streaming => "STREAMING",
            Self::Hold => "HOLD",
        })
    }
}

/// A flow that is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRow {
    /// Its id.
    pub flow: FlowId,
    /// The stream's name.
    pub name: StreamName,
    /// The stream's origin.
    pub origin: NodeId,
    /// Its state.
    pub state: FlowState,
    /// The link it comes over.
    pub upstream: Option<LinkIndex>,
    /// The rate that its origin declares.
    pub peak: Bitrate,
    /// The links it goes out over.
    pub egresses: Vec<LinkIndex>,
    /// Local subscriptions.
    pub subscriptions: usize,
    /// What it waits for, when it should flow and does not, or who refused it, when it comes another way; else empty.
    pub cause: String,
}
