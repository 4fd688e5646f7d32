//! Parity datagrams: sent beside the packets of a flow, so that a receiver recovers lost packets without asking
//! (FEC).
//!
//! ```text
//! off len field
//!  0   1  kind     0x05
//!  1   1  shard    which of the block's shards this is, 0 to 31
//!  2   1  key      epoch of the carry key, as in all packets of the block
//!  3   1  packets  how many the block has, 1 to 64
//!  4   8  flow     bytes 4-7 steer
//! 12   4  first    low 32 bits of the first packet's number
//! 16   n  shard    n = the longest unit of the block
//! +n   8  carry    tag over all before it
//!
//! unit of a packet:  flags (1) | index (2) | bytes from 28 on: sent, body, seal, carry | 80 | zeros
//! ```
//!
//! A **block** is packets with consecutive numbers of one group, key and description version, so a unit omits the
//! fields that every packet of the block has in common. That makes room for this header: no parity datagram is longer
//! than the longest packet it covers, and any path that carries the one carries the other. Not the code (`code.rs`),
//! not when to send or use it (`lane::repair::parity`). Invariant: no bytes make a decoder panic, and a recovered
//! packet proves itself by its carry tag like any other.
//!
//! Wire definition: docs/wire.md section 4.5

use super::{
    CARRY_BYTES, HEADER_BYTES, Header, OVERHEAD_BYTES, PACKET_BYTES_MAX, SEAL_BYTES, carry,
};
use crate::id::FlowId;
use crate::key::CarryKey;
use crate::units::Number;

pub mod code;

pub use code::{BLOCK_PACKETS_MAX, BLOCK_SHARDS_MAX};

use code::Words;

/// Bytes before the shard.
pub const PARITY_HEADER_BYTES: usize = 16;

/// What of a packet its unit leaves out, the mark at its end counted in.
const LEFT_OUT_BYTES: usize = 24;
/// Where the header's `sent` begins: from here on a packet is in its unit as it is.
const SENT_AT: usize = 28;
/// Ends a unit: behind it there are only zeros.
const END: u8 = 0x80;
/// The shortest unit: that of a packet without a body.
const UNIT_BYTES_MIN: usize = OVERHEAD_BYTES - LEFT_OUT_BYTES;

const _: () = assert!(
    PARITY_HEADER_BYTES + CARRY_BYTES == LEFT_OUT_BYTES,
    "a parity datagram is as long as the longest packet of its block"
);

/// The clear header of a parity datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParityHeader {
    /// Which of the block's shards it brings, below [`BLOCK_SHARDS_MAX`].
    pub shard: u8,
    /// Epoch of the carry key.
    pub key: u8,
    /// How many packets the block has: 1 to [`BLOCK_PACKETS_MAX`].
    pub packets: u8,
    /// The flow.
    pub flow: FlowId,
    /// Low 32 bits of the number of the block's first packet.
    pub first: u32,
}

impl ParityHeader {
    /// Reads the header of a parity datagram; `None` if it is of another kind, or of a length or with a place none has.
    ///
    /// Nothing read here is proven until [`ParityHeader::check`] says so.
    #[must_use]
    pub fn peek(datagram: &[u8]) -> Option<Self> {
        // spec: WIRE 4.5 a parity datagram of less than 56 or more than 1,440 bytes, with a shard above 31, or of a
        // block of no or more than 64 packets, MUST be dropped
        if datagram.len() < OVERHEAD_BYTES || datagram.len() > PACKET_BYTES_MAX {
            return None;
        }
        let &[kind, shard, key, packets, ref rest @ ..] =
            datagram.first_chunk::<PARITY_HEADER_BYTES>()?;
        let (flow, first) = rest.split_first_chunk()?;
        let is_one = kind == 0x05
            && usize::from(shard) < BLOCK_SHARDS_MAX
            && (1..=BLOCK_PACKETS_MAX).contains(&usize::from(packets));
        is_one.then_some(Self {
            shard,
            key,
            packets,
            flow: FlowId(u64::from_be_bytes(*flow)),
            first: u32::from_be_bytes(*first.first_chunk()?),
        })
    }

    /// Appends a datagram that brings the shard, which has `bytes` bytes.
    pub fn encode(&self, key: &CarryKey, shard: &Words, bytes: usize, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0x05, self.shard, self.key, self.packets]);
        out.extend_from_slice(&self.flow.0.to_be_bytes());
        out.extend_from_slice(&self.first.to_be_bytes());
        shard.append_to(bytes, out);
        let tag = carry::tag_of(key, &out[start..]);
        out.extend_from_slice(&tag);
    }

    /// Whether the last eight bytes of the datagram are its carry tag. No tag of a media packet is one: the kind is
    /// under it.
    #[must_use]
    pub fn check(key: &CarryKey, datagram: &[u8]) -> bool {
        // spec: WIRE 4.5 the carry tag MUST be checked before the datagram changes anything but counters
        Self::peek(datagram).is_some() && carry::check(key, datagram)
    }

    /// The shard of a datagram that has a header.
    #[must_use]
    pub fn shard_of(datagram: &[u8]) -> &[u8] {
        let end = datagram.len().saturating_sub(CARRY_BYTES);
        datagram.get(PARITY_HEADER_BYTES..end).unwrap_or_default()
    }

    /// The number of the block's first packet: of those with these low bits, the one next to `near`.
    #[must_use]
    pub const fn first_near(&self, near: Number) -> Number {
        const TURN: u64 = 1 << 32;
        let before = near.value() & !(TURN - 1) | self.first as u64;
        let above = before.saturating_sub(near.value());
        let below = near.value().saturating_sub(before);
        Number::from_low_bits(if above > TURN / 2 && before >= TURN {
            before - TURN
        } else if below > TURN / 2 {
            before + TURN
        } else {
            before
        })
    }
}

/// How long the unit of a packet is.
#[must_use]
pub const fn unit_bytes(packet: &[u8]) -> usize {
    packet.len() - LEFT_OUT_BYTES
}

/// Makes `words` hold the unit of a packet.
///
/// # Panics
///
/// If it is too short for a packet.
pub fn unit_of(packet: &[u8], words: &mut Words) {
    words.set(&[&packet[1..2], &packet[18..20], &packet[SENT_AT..], &[END]]);
}

/// Appends the packet of that unit to `out`; `beside` is the header of any packet of the same block. `false`, and
/// nothing appended, if it is the unit of none. Its carry tag says whether the packet is genuine.
pub fn packet_of(
    unit: &Words,
    bytes: usize,
    number: Number,
    beside: &Header,
    out: &mut Vec<u8>,
) -> bool {
    let start = out.len();
    // The unit is read where most of it will stand: its last three bytes before `sent` are flags and index.
    out.resize(start + SENT_AT - 3, 0);
    unit.append_to(bytes, out);
    let sent_on = out.get(start + SENT_AT..).unwrap_or_default();
    let length = sent_on.iter().rposition(|&byte| byte != 0);
    let end = start + SENT_AT + length.unwrap_or_default();
    let is_packet =
        out.get(end) == Some(&END) && (OVERHEAD_BYTES..=PACKET_BYTES_MAX).contains(&(end - start));
    if !is_packet {
        out.truncate(start);
        return false;
    }
    out.truncate(end);
    let packet = &mut out[start..];
    let (flags, index) = (packet[25], [packet[26], packet[27]]);
    let header = Header {
        number,
        // Modulo 2^32, as offsets of one group differ like their numbers; a contradiction is found by whoever takes it
        // in.
        offset: beside
            .offset
            .wrapping_add(number.value().wrapping_sub(beside.number.value()) as u32),
        ..*beside
    };
    packet[..SENT_AT].copy_from_slice(&header.encode()[..SENT_AT]);
    packet[1] = flags;
    packet[18..20].copy_from_slice(&index);
    true
}

const _: () = assert!(
    UNIT_BYTES_MIN + PARITY_HEADER_BYTES + CARRY_BYTES == OVERHEAD_BYTES
        && HEADER_BYTES - SENT_AT + SEAL_BYTES + CARRY_BYTES + 4 == UNIT_BYTES_MIN,
    "the shortest unit is flags, index, sent, both tags and the mark"
);

#[cfg(test)]
mod tests;
