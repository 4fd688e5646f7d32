//! The words of connections: which one, which end, whose process; and what they ask the world to do.
//!
//! No behaviour. Used by `connection` and `world`, and by checkers to tell ends apart. Invariant: a [`ConnectionId`] is
//! never used twice in a run.

use std::net::SocketAddr;

use bytes::Bytes;
use levada_core::{ConnectionLost, DialId};
use levada_wire::Instant;

use super::Segment;

/// One connection of a run; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u32);

/// A side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Dialler,
    Acceptor,
}

impl Side {
    pub(crate) const ALL: [Self; 2] = [Self::Dialler, Self::Acceptor];

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct End {
    pub(crate) connection: ConnectionId,
    pub(crate) side: Side,
}

/// One start of a node's process, and where it listens. Connections die with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) node: usize,
    pub(crate) boot: u32,
    pub(crate) address: SocketAddr,
}

/// What the world must do for a connection.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Put a segment on its way.
    Transmit {
        from: SocketAddr,
        to: SocketAddr,
        segment: Segment,
    },
    /// Call [`super::Connections::retry`] with it at that time.
    Retry { at: Instant, segment: Segment },
    /// Call [`super::Connections::watch`] at that time.
    Watch {
        at: Instant,
        connection: ConnectionId,
    },
    /// An end is connected to a proven peer.
    Connected {
        end: End,
        host: Host,
        peer: Host,
        dial: Option<DialId>,
    },
    /// A dial failed.
    DialFailed {
        host: Host,
        dial: DialId,
        reason: String,
    },
    /// Bytes came out, in order.
    Chunk {
        end: End,
        host: Host,
        concern: u8,
        bytes: Bytes,
    },
    /// An end's connection is gone.
    Lost {
        end: End,
        host: Host,
        reason: ConnectionLost,
    },
}
