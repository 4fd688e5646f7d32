//! Rows of what other nodes say of themselves: the map of the network, and the hops of a stream.
//!
//! Not how they are asked (`survey`). Invariant: a row holds what its node says, which no other node has proven.

use levada_wire::{FlowId, NodeId, StreamName};
use serde::{Deserialize, Serialize};

use super::{Ratio, Seconds};

/// A node on the map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MapRow {
    /// Its id.
    pub id: NodeId,
    /// What it calls itself, or what a neighbour of it says.
    pub name: String,
    /// Links between this node and it, on the way that it was asked; 0 for this node itself.
    pub hops: usize,
    /// The node before it on that way; none of this node and of its neighbours.
    pub via: Option<NodeId>,
    /// Whether it forwards for others.
    pub is_relay: bool,
    /// Whether it is the hub of its site.
    pub is_hub: bool,
    /// How long it runs.
    pub uptime_seconds: Seconds,
    /// Why it did not answer; none if it did.
    pub cause: Option<String>,
    /// Its links that are up, 64 at most.
    pub links: Vec<MapLink>,
    /// What flows through it, 64 flows at most.
    pub flows: Vec<MapFlow>,
    /// How many links it has.
    pub links_total: u32,
    /// How many streams it knows.
    pub streams_total: u32,
}

/// A link, as the node at one end sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MapLink {
    /// The node at the other end.
    pub peer: NodeId,
    /// What that calls itself.
    pub name: String,
    /// Smoothed round-trip time, once measured.
    pub rtt_seconds: Option<Seconds>,
    /// Loss toward the node whose row this is.
    pub loss_in_ratio: Ratio,
    /// Loss toward the peer.
    pub loss_out_ratio: Ratio,
    /// Datagrams that came over it and were proven.
    pub datagrams_in: u64,
    /// Datagrams that were sent over it.
    pub datagrams_out: u64,
}

/// A flow, as a node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MapFlow {
    /// Its id.
    pub flow: FlowId,
    /// The name of its stream.
    pub name: StreamName,
    /// The node that offers it.
    pub origin: NodeId,
    /// The node that it comes from; none at its origin.
    pub upstream: Option<NodeId>,
    /// Local consumers.
    pub subscriptions: u32,
    /// Links and channels that it goes out to.
    pub egresses: u32,
    /// Proven packets taken in, or made here.
    pub packets_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Packets sent, over all egresses.
    pub packets_out: u64,
    /// Packets that were lost on the way here and came after all.
    pub repaired: u64,
    /// Packets not sent on purpose, over all egresses.
    pub withheld: u64,
}

/// A node on the way of a stream, and the hop by which the stream comes to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HopRow {
    /// Its id.
    pub node: NodeId,
    /// What it calls itself.
    pub name: String,
    /// Whether it is the stream's origin, where the way begins.
    pub is_origin: bool,
    /// The node that the stream comes from; none at the origin.
    pub upstream: Option<NodeId>,
    /// Round-trip time of that hop.
    pub rtt_seconds: Option<Seconds>,
    /// Loss on that hop, toward this node.
    pub loss_ratio: Option<Ratio>,
    /// Proven packets taken in, or made here.
    pub packets_in: u64,
    /// Packets sent, over all egresses.
    pub packets_out: u64,
    /// Packets that were lost on that hop or before it and came after all.
    pub repaired: u64,
    /// Packets not sent on purpose, over all egresses.
    pub withheld: u64,
    /// Local consumers.
    pub subscriptions: u32,
    /// Links and channels that it goes out to.
    pub egresses: u32,
    /// Why the way ends here, if this is not the origin.
    pub cause: Option<String>,
}
