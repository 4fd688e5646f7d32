//! The segments of a connection: what crosses the networks in place of QUIC packets.
//!
//! Not bytes on a wire of ours; their sizes are chosen so that rates and queues see about what QUIC would send. Called
//! by `connection` and by `world`, which carries them. Invariant: a segment says everything that is needed to send it
//! again.

use std::collections::BTreeMap;

use bytes::Bytes;
use levada_wire::Instant;

use super::{ConnectionId, Side};

/// QUIC's short header, the AEAD tag and a STREAM frame's header, about.
const OVERHEAD_BYTES: usize = 40;

/// One segment.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) connection: ConnectionId,
    pub(crate) toward: Side,
    pub(crate) part: Part,
    /// How often it was sent before.
    pub(crate) attempt: u32,
    /// When it was sent for the first time.
    pub(crate) first: Instant,
    /// When it was sent last.
    pub(crate) sent: Instant,
}

/// What a segment brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The first flight: who is there?
    Hello,
    /// The second: a node, and its proof.
    Welcome,
    /// The host is there, but no process.
    Refuse,
    /// The third: the dialler's proof.
    Finished,
    /// A piece of the stream of one concern.
    Chunk {
        concern: u8,
        sequence: u64,
        bytes: Bytes,
    },
    /// The sender is there.
    Alive,
    /// The sender closed the connection, after it had sent so many chunks of each concern.
    Close {
        reason: String,
        after: BTreeMap<u8, u64>,
    },
}

impl Part {
    /// One word for traces.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Welcome => "welcome",
            Self::Refuse => "refuse",
            Self::Finished => "finished",
            Self::Chunk { .. } => "chunk",
            Self::Alive => "alive",
            Self::Close { .. } => "close",
        }
    }

    /// The bytes of a chunk.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Chunk { bytes, .. } => bytes,
            _ => &[],
        }
    }

    /// What it weighs on a link. Handshakes are padded (RFC 9000 section 14.1) and carry a certificate.
    pub(crate) fn wire_bytes(&self) -> usize {
        match self {
            Self::Hello | Self::Welcome => 1_200,
            Self::Finished => 600,
            Self::Chunk { bytes, .. } => bytes.len() + OVERHEAD_BYTES,
            Self::Refuse | Self::Alive | Self::Close { .. } => OVERHEAD_BYTES,
        }
    }
}
