//! What the core and the lanes say to each other.
//!
//! Not what they do with it, and nothing that crosses a network. Said and heard by `levada-core` and by the lanes, handed
//! over by whoever drives both. Invariant: plain data, which names flows and links by number.

use crate::datagram::link::LinkDatagram;
use crate::{Bitrate, FlowId, LinkIndex};

/// What a lane tells the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// About a link.
    Link(LinkIndex, LinkEvent),
    /// About a flow.
    Flow(FlowId, FlowEvent),
}

/// What a lane tells of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// A link datagram came in and opened.
    Datagram {
        /// What it says.
        message: LinkDatagram,
        /// Datagrams that had arrived on the link before this one.
        received: u64,
    },
    /// The system did not send a datagram of that many bytes: it is too large for the link's first hop.
    TooLarge {
        /// With its headers but those of UDP and IP.
        bytes: usize,
    },
}

/// What a lane tells of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlowEvent {
    /// The first proven packet came from an upstream since it was added.
    Delivering(LinkIndex),
    /// The most that was made in any second lately of a flow that starts here, as bytes of packets, which are payload of
    /// UDP: said each second while packets are made, and at once when it leaps.
    Measured(Bitrate),
}
