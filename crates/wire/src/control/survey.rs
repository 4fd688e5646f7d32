//! What nodes ask each other about themselves, hop by hop: a question goes a way that its asker says, one answer
//! comes back the same way.
//!
//! ```text
//!   asker ── question(path: B, C) ──▶ A ── question(path: C) ──▶ B ── question(path: none) ──▶ C
//!         ◀── answer ──────────────── A ◀── answer ───────────── B ◀── answer(overview) ─────── C
//! ```
//!
//! For maps and traces; nothing is decided by it, and a node that does not answer misses nothing. Not what a node does
//! with a question, which is `core::survey`. Invariant: an overview names nodes and streams and counts, and holds
//! neither addresses nor secrets.
//!
//! Wire definition: docs/wire.md section 7.1

use minicbor::{Decode, Encode};

use crate::id::{FlowId, NodeId, NodePrefix, StreamName};

/// The most nodes of a question's path.
pub const SURVEY_PATH_MAX: usize = 16;
/// The most links, and the most flows, of one [`Overview`] that count.
pub const OVERVIEW_ROWS_MAX: usize = 64;

/// Asks a node for its overview.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Question {
    /// The sender's number for it, on this link.
    #[n(0)]
    pub id: u32,
    /// The nodes that it has still to pass, the one that is asked last; none where the receiver is asked.
    #[n(1)]
    pub path: Vec<NodePrefix>,
    /// Only this flow, and the link that it comes by, is asked about.
    #[n(2)]
    pub flow: Option<FlowId>,
}

/// Answers a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Answer {
    /// The number that the question had.
    #[n(0)]
    pub id: u32,
    /// None where the path ends before the node that is asked.
    #[n(1)]
    pub overview: Option<Overview>,
}

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Overview {
    /// Its name, for people; at most [`super::link::NODE_NAME_BYTES_MAX`] bytes count.
    #[n(0)]
    pub name: String,
    /// Whether it forwards for others.
    #[n(1)]
    pub relay: bool,
    /// Whether it is the hub of its site.
    #[n(2)]
    pub hub: bool,
    /// Milliseconds since its start: what is counted is counted since then.
    #[n(3)]
    pub uptime_ms: u64,
    /// Links that are up.
    #[n(4)]
    pub links: Vec<OverviewLink>,
    /// Flows that are there.
    #[n(5)]
    pub flows: Vec<OverviewFlow>,
    /// How many links it has in all.
    #[n(6)]
    pub links_total: u32,
    /// How many streams it knows.
    #[n(7)]
    pub streams_total: u32,
}

/// A link, as the node at one end sees it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct OverviewLink {
    /// The node at the other end.
    #[n(0)]
    pub peer: NodeId,
    /// What that calls itself.
    #[n(1)]
    pub name: String,
    /// Smoothed round trip in microseconds, once measured.
    #[n(2)]
    pub rtt_us: Option<u32>,
    /// Of a thousand datagrams, those lost on the way here.
    #[n(3)]
    pub loss_in_permille: u16,
    /// Those lost on the way there.
    #[n(4)]
    pub loss_out_permille: u16,
    /// Datagrams that came over it and were proven.
    #[n(5)]
    pub datagrams_in: u64,
    /// Datagrams that were sent over it.
    #[n(6)]
    pub datagrams_out: u64,
}

/// A flow, as a node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct OverviewFlow {
    /// Its id.
    #[n(0)]
    pub flow: FlowId,
    /// The name of its stream.
    #[n(1)]
    pub name: StreamName,
    /// The node that offers it.
    #[n(2)]
    pub origin: NodeId,
    /// The node that it comes from; none at its origin, and where nothing flows.
    #[n(3)]
    pub upstream: Option<NodeId>,
    /// Local consumers.
    #[n(4)]
    pub subscriptions: u32,
    /// Links and channels that it goes out to.
    #[n(5)]
    pub egresses: u32,
    /// Proven packets taken in, or made here.
    #[n(6)]
    pub packets_in: u64,
    /// Their bytes.
    #[n(7)]
    pub bytes_in: u64,
    /// Packets sent, over all egresses.
    #[n(8)]
    pub packets_out: u64,
    /// Packets that were lost on the way here and came after all.
    #[n(9)]
    pub repaired: u64,
    /// Packets not sent on purpose, over all egresses.
    #[n(10)]
    pub withheld: u64,
}

impl Answer {
    /// What it holds beside itself.
    pub(super) fn held_bytes(&self) -> usize {
        let Some(overview) = &self.overview else {
            return 0;
        };
        let names = overview.links.iter().map(|link| link.name.len());
        let flows = overview.flows.iter().map(|flow| flow.name.as_str().len());
        let rows = size_of_val(&*overview.links) + size_of_val(&*overview.flows);
        overview.name.len() + names.sum::<usize>() + flows.sum::<usize>() + rows
    }
}
