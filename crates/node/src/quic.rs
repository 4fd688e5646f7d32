//! QUIC between nodes: authenticated connections that carry control messages, on the datapath's own socket.
//!
//! | part | does |
//! |---|---|
//! | [`tls`] | proves node ids by raw public keys |
//! | [`shim`] | makes one socket of the datapath's for quinn |
//! | [`endpoint`] | dials and accepts, within limits |
//! | [`allowance`] | how much peers may say in a second |
//! | [`connection`] | one connection: a stream per concern and direction, and its end |
//! | [`close`] | the codes and words of a close |
//!
//! No media: that is sealed datagrams of the datapath's. Nothing here decides whether a link is wanted; `driver`
//! carries what happens here to the core. Invariant: a peer that has proven no node id reaches no code but the
//! handshake's.

use levada_core::{ConnectionLost, DialId};
use levada_wire::control::{Concern, Message};
use levada_wire::{LinkIndex, NodeId};
use tokio::sync::OwnedSemaphorePermit;

pub(crate) mod allowance;
pub(crate) mod close;
pub(crate) mod connection;
pub(crate) mod endpoint;
pub(crate) mod shim;
pub(crate) mod tls;

/// What happens on the control plane, for the driver.
#[derive(Debug)]
pub(crate) enum QuicEvent {
    /// A handshake ended well.
    Established(Established),
    /// An attempt of ours failed.
    DialFailed {
        /// The number of the attempt that failed.
        dial: DialId,
        /// Why, for people.
        reason: String,
    },
    /// A message came in.
    Message {
        /// On which link.
        link: LinkIndex,
        /// Decoded, and not judged yet.
        message: Message,
    },
    /// What was sent of a concern before a mark was handed to QUIC.
    Written {
        /// On which link.
        link: LinkIndex,
        /// On which of its streams.
        concern: Concern,
    },
    /// A connection is gone; nothing more comes from it.
    Lost {
        /// Which link it was.
        link: LinkIndex,
        /// Who ended it, in which words.
        reason: ConnectionLost,
    },
}

/// A connection whose peer is proven, and which nobody serves yet.
#[derive(Debug)]
pub(crate) struct Established {
    pub(crate) connection: quinn::Connection,
    pub(crate) peer: NodeId,
    /// The attempt that made it, if it was ours.
    pub(crate) dial: Option<DialId>,
    /// Its place among the connections this node may have.
    pub(crate) permit: OwnedSemaphorePermit,
}

#[cfg(test)]
mod tests;
