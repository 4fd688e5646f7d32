//! SSRC, sequence and RTP time of a track: the same at every node that sends it.
//!
//! A player must not notice which node serves it: when the node that sends a multicast channel dies, another goes
//! on, and for a moment both may send. So nothing in a packet may depend on the node. Everything follows from
//! what all nodes know, the flow's id and the frames:
//!
//! - **SSRC, first sequence number, time offset** are hashes of flow and track. The flow dies with the instance,
//!   so a new start of the origin is a new source to players, as RFC 3550 8 wants.
//! - **RTP time** is the offset plus the frame's `pts` in ticks of the RTP clock, modulo 2^32.
//! - **How a frame is cut** is a function of its bytes alone (`packer.rs`): one size of packets for all.
//! - **Sequence numbers** count the packets of the track since the instance's start: the first sequence number
//!   plus that count, modulo 2^16. They must have no gap, since players take a gap for loss, and how many packets
//!   went before follows from no frame that a node that joins late will ever see: no formula of group and frame
//!   number is free of gaps while frames differ in size. So the count has to be told where a node joins,
//!   [`crate::rtp::Packer::resume`]:
//!   1. Best by the stream: the count of packets before a group, which the origin gets from the same code
//!      ([`crate::rtp::Packer::count`]) and says at the group's start. Then all nodes agree on every packet, also
//!      behind frames that one of them lost.
//!   2. Where the stream says none: the track's frame number on the wire (`FrameHeader::sequence`). That *is* the
//!      count for sound of one packet a frame, and for everything else all nodes that join at the same group
//!      still make the same packets.
//!
//!   Frames that a node misses are skipped by their frame numbers ([`crate::rtp::Packer::skip`]), so that players
//!   see a loss and not a seam.
//!
//! Not secret and not random: whoever may see the packets may know where the numbers come from. Called by the
//! packer. Invariant: same flow and track, same numbers, in every release (golden values below).

use std::hash::Hasher as _;

use levada_wire::{FlowId, TrackId};
use siphasher::sip::SipHasher13;

/// Keys the hash; any constant does, as long as it stays.
const KEY: &[u8; 16] = b"levada/1 rtp ids";

/// What a track's packets begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbering {
    /// Of all its packets.
    pub ssrc: u32,
    /// Of the first packet of the instance.
    pub first_sequence: u16,
    /// The RTP time of `pts` zero.
    pub time_offset: u32,
}

impl Numbering {
    /// The numbers of a track of a flow.
    #[must_use]
    pub fn of(flow: FlowId, track: TrackId) -> Self {
        let hash = |what: u8| {
            let mut hasher = SipHasher13::new_with_key(KEY);
            hasher.write(&flow.0.to_be_bytes());
            hasher.write(&[track.0, what]);
            hasher.finish().to_be_bytes()
        };
        let [s0, s1, s2, s3, t0, t1, t2, t3] = hash(0);
        let [n0, n1, ..] = hash(1);
        Self {
            ssrc: u32::from_be_bytes([s0, s1, s2, s3]),
            first_sequence: u16::from_be_bytes([n0, n1]),
            time_offset: u32::from_be_bytes([t0, t1, t2, t3]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_flow_never_change() {
        let of = |flow, track| Numbering::of(FlowId(flow), TrackId(track));

        let golden = Numbering {
            ssrc: 1_849_614_903,
            first_sequence: 65_420,
            time_offset: 124_194_193,
        };
        assert_eq!(of(0x0123_4567_89AB_CDEF, 1), golden);
        assert_ne!(of(0x0123_4567_89AB_CDEF, 2).ssrc, golden.ssrc);
        assert_ne!(of(0x0123_4567_89AB_CDEE, 1).ssrc, golden.ssrc);
    }
}
