//! The packet of a transport stream: 188 bytes, read and written.
//!
//! Not the search for packets in a byte stream (`sync.rs`), and not what payloads mean. Called by the
//! demuxer and the muxer. Invariant: whatever 188 bytes are given, reading them never panics; whatever is
//! written is 188 bytes long.
//!
//! ```text
//! off len field                                                       ISO 13818-1 2.4.3.2
//!  0   1  47
//!  1   2  error:1 unit starts here:1 priority:1 pid:13
//!  3   1  scrambling:2 adaptation field:1 payload:1 continuity:4
//! [4   1  length of the adaptation field
//!  5   1  discontinuity:1 random access:1 priority:1 pcr:1 opcr:1 splice:1 private:1 extension:1
//!  6   6  pcr: base:33 (90 kHz) reserved:6 extension:9 (27 MHz)]
//! ```

use std::fmt;

/// Bytes of a packet.
pub const PACKET_BYTES: usize = 188;
/// The first byte of every packet.
pub(super) const SYNC_BYTE: u8 = 0x47;

const HEADER_BYTES: usize = 4;
const PAYLOAD_BYTES_MAX: usize = PACKET_BYTES - HEADER_BYTES;
/// Length byte and flags of an adaptation field.
const ADAPTATION_BYTES: usize = 2;
const PCR_BYTES: usize = 6;

/// The number that tells the packets of one elementary stream or table from all others: 13 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(u16);

impl Pid {
    /// Carries the PAT.
    pub const PAT: Self = Self(0);
    /// Carries nothing.
    pub const NULL: Self = Self(0x1FFF);

    /// Keeps the low 13 bits of `value`.
    #[must_use]
    pub const fn from_low_bits(value: u16) -> Self {
        Self(value & 0x1FFF)
    }

    /// The plain integer.
    #[must_use]
    pub const fn value(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PID {:#06x}", self.0)
    }
}

/// A packet, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The PID, 0 to 8191.
    pub pid: Pid,
    /// The sender or the way here damaged it: nothing in it can be trusted.
    pub damaged: bool,
    /// A PES packet or a section begins in its payload.
    pub starts_unit: bool,
    /// The payload is encrypted.
    pub scrambled: bool,
    /// Counts the PID's packets that have a payload, modulo 16.
    pub continuity: u8,
    /// What the adaptation field says.
    pub adaptation: Adaptation,
    /// The payload, if it has one.
    pub payload: Option<&'a [u8]>,
}

/// The part of an adaptation field that matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adaptation {
    /// Clock and continuity of this PID begin anew.
    pub discontinuity: bool,
    /// Decoding can start in this packet.
    pub random_access: bool,
    /// The program's clock, in 27 MHz.
    pub pcr: Option<u64>,
}

impl<'a> Packet<'a> {
    /// Reads a packet; `None` when it does not start with 47 or its adaptation field is longer than itself.
    #[must_use]
    pub fn parse(bytes: &'a [u8; PACKET_BYTES]) -> Option<Self> {
        let [sync, high, low, control, rest @ ..] = bytes;
        if *sync != SYNC_BYTE {
            return None;
        }
        let (adaptation, payload) = match control & 0x30 {
            0x10 => (Adaptation::default(), Some(&rest[..])),
            0x20 => (Adaptation::parse(rest)?.0, None),
            0x30 => {
                let (adaptation, payload) = Adaptation::parse(rest)?;
                (adaptation, Some(payload))
            }
            _ => (Adaptation::default(), None),
        };
        Some(Self {
            pid: Pid::from_low_bits(u16::from_be_bytes([*high, *low])),
            damaged: high & 0x80 != 0,
            starts_unit: high & 0x40 != 0,
            scrambled: control & 0xC0 != 0,
            continuity: control & 0x0F,
            adaptation,
            payload,
        })
    }
}

impl Adaptation {
    /// Reads the adaptation field at the front of `bytes`; gives what follows it too.
    fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (&length, rest) = bytes.split_first()?;
        let (field, rest) = rest.split_at_checked(usize::from(length))?;
        let Some((&flags, field)) = field.split_first() else {
            return Some((Self::default(), rest));
        };
        let pcr = field
            .first_chunk()
            .filter(|_| flags & 0x10 != 0)
            .map(|pcr| parse_pcr(*pcr));
        let adaptation = Self {
            discontinuity: flags & 0x80 != 0,
            random_access: flags & 0x40 != 0,
            pcr,
        };
        Some((adaptation, rest))
    }

    /// Bytes this field takes; none at all when it says nothing.
    const fn bytes(&self) -> usize {
        if self.pcr.is_some() {
            ADAPTATION_BYTES + PCR_BYTES
        } else if self.discontinuity || self.random_access {
            ADAPTATION_BYTES
        } else {
            0
        }
    }
}

fn parse_pcr([b0, b1, b2, b3, b4, b5]: [u8; PCR_BYTES]) -> u64 {
    let base = u64::from(u32::from_be_bytes([b0, b1, b2, b3])) << 1 | u64::from(b4 >> 7);
    let extension = u64::from(b4 & 1) << 8 | u64::from(b5);
    base * 300 + extension
}

fn write_pcr(pcr: u64) -> [u8; PCR_BYTES] {
    let (base, extension) = ((pcr / 300) & 0x1_FFFF_FFFF, pcr % 300);
    let [_, _, b0, b1, b2, b3, b4, b5] = (base << 15 | 0x7E00 | extension).to_be_bytes();
    [b0, b1, b2, b3, b4, b5]
}

/// A packet to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// The PID, 0 to 8191.
    pub(super) pid: Pid,
    /// A PES packet or a section begins in it.
    pub(super) starts_unit: bool,
    /// The PID's count of packets that have a payload.
    pub(super) continuity: u8,
    /// What its adaptation field says.
    pub(super) adaptation: Adaptation,
}

/// Appends one packet to `out`, filled with as much of `payload` as fits, and gives the rest of it.
///
/// A payload too short to fill the packet is preceded by stuffing; an empty one makes a packet without payload.
pub(super) fn write<'a>(out: &mut Vec<u8>, head: Head, payload: &'a [u8]) -> &'a [u8] {
    let wanted = head.adaptation.bytes();
    let (now, later) = payload.split_at(payload.len().min(PAYLOAD_BYTES_MAX - wanted));
    let field = PAYLOAD_BYTES_MAX - now.len();
    let [high, low] = head.pid.value().to_be_bytes();
    let control = if field > 0 { 0x20 } else { 0 } | if now.is_empty() { 0 } else { 0x10 };
    let unit = if head.starts_unit { 0x40 } else { 0 };
    out.extend_from_slice(&[
        SYNC_BYTE,
        unit | high,
        low,
        control | head.continuity & 0x0F,
    ]);
    if let Some(length) = field.checked_sub(1) {
        write_adaptation(out, head.adaptation, length);
    }
    out.extend_from_slice(now);
    later
}

/// Appends an adaptation field of `length` bytes behind its length byte, stuffed to that length.
fn write_adaptation(out: &mut Vec<u8>, adaptation: Adaptation, length: usize) {
    let end = out.len() + 1 + length;
    out.push(u8::try_from(length).expect("a field fits its packet of 188 bytes"));
    if length > 0 {
        let flags = if adaptation.discontinuity { 0x80 } else { 0 }
            | if adaptation.random_access { 0x40 } else { 0 }
            | if adaptation.pcr.is_some() { 0x10 } else { 0 };
        out.push(flags);
        if let Some(pcr) = adaptation.pcr {
            out.extend_from_slice(&write_pcr(pcr));
        }
    }
    out.resize(end, 0xFF);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_packet_survives_its_bytes(
            pid in 0_u16..0x2000, continuity in 0_u8..16, starts_unit: bool, discontinuity: bool, random_access: bool,
            pcr in proptest::option::of(0_u64..(1 << 33) * 300),
            payload in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let adaptation = Adaptation { discontinuity, random_access, pcr };
            let head = Head { pid: Pid::from_low_bits(pid), starts_unit, continuity, adaptation };
            let mut out = Vec::new();

            let rest = write(&mut out, head, &payload);
            let packet = Packet::parse(out.first_chunk().unwrap()).unwrap();

            prop_assert_eq!(out.len(), PACKET_BYTES);
            prop_assert_eq!(packet.pid, head.pid);
            prop_assert_eq!(packet.continuity, continuity);
            prop_assert_eq!(packet.starts_unit, starts_unit);
            prop_assert_eq!(packet.adaptation, adaptation);
            prop_assert_eq!([packet.payload.unwrap_or_default(), rest].concat(), payload);
        }

        #[test]
        fn any_bytes_are_read_without_panic(mut bytes: [u8; 32], fill: u8) {
            bytes[0] = SYNC_BYTE;
            let mut packet = [fill; PACKET_BYTES];
            packet[..32].copy_from_slice(&bytes);

            if let Some(packet) = Packet::parse(&packet) {
                prop_assert!(packet.payload.is_none_or(|payload| payload.len() <= PAYLOAD_BYTES_MAX));
            }
        }
    }
}
