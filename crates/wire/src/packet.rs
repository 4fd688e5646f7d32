//! The media packet: 32 clear bytes, a sealed body, two tags.
//!
//! A packet is made once, at the origin, and no hop changes a byte of it. The clear header is all that
//! relays and caches use; the *seal* proves the packet to who may open it, the *carry tag* proves it to who
//! may only carry it. Not the frames inside (`frame.rs`), not other datagrams (`datagram`). Called by
//! `lane`. Invariant: [`Header::peek`] says `Some` only for bytes long enough to hold header and tags.
//!
//! Wire definition: docs/wire.md section 4
//!
//! ```text
//! off len field    meaning
//!  0   1  kind     0x04
//!  1   1  flags    80 LAST of burst, 40 DISCARDABLE, 30 class
//!  2   1  key      epoch of content and carry secrets
//!  3   1  desc     description version
//!  4   8  flow     bytes 4-7 steer
//! 12   6  number   one space per flow, from 0, never reset
//! 18   2  index    place in its burst
//! 20   4  group    flow-wide, equal in all layers
//! 24   4  offset   packets since the group's first
//! 28   4  sent     us, origin's clock at hand-over
//! 32   n  body     sealed frames end to end; n equal in a burst but the last
//! +n  16  seal     AEAD tag
//! +16  8  carry    SipHash-1-3 tag over all before it
//! ```

use crate::id::FlowId;
use crate::time::OriginTime;
use crate::units::{Group, Number, PacketSize};

pub mod carry;
pub mod parity;
pub mod seal;

/// Bytes of the clear header.
pub const HEADER_BYTES: usize = 32;
/// Bytes of the AEAD tag.
pub const SEAL_BYTES: usize = 16;
/// Bytes of the carry tag.
pub const CARRY_BYTES: usize = 8;
/// What a packet has beside its body.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + SEAL_BYTES + CARRY_BYTES;
/// The largest packet of any stream.
pub const PACKET_BYTES_MAX: usize = PacketSize::MAX.bytes();
/// The most packets of one burst: what one GSO send carries (64 KiB less headers, at the default size).
pub const BURST_PACKETS_MAX: usize = 53;

const LAST: u8 = 0x80;
const DISCARDABLE: u8 = 0x40;
const CLASS: u8 = 0x30;

/// What a datagram is, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 0x04: a media packet.
    Media,
    /// 0x05: parity over media packets (`parity.rs`).
    Parity,
    /// 0x06: a link datagram.
    Link,
    /// 0x07: a site datagram.
    Site,
    /// Has bit 0x40, which QUIC always sets.
    Quic,
    /// Nothing of ours.
    Unknown,
}

impl Kind {
    /// Classifies one datagram.
    #[must_use]
    pub const fn of(datagram: &[u8]) -> Self {
        // spec: WIRE 1.2 a datagram whose first byte is none of ours and not QUIC's MUST be dropped
        let Some(&first) = datagram.first() else {
            return Self::Unknown;
        };
        match first {
            0x04 => Self::Media,
            0x05 => Self::Parity,
            0x06 => Self::Link,
            0x07 => Self::Site,
            byte if byte & 0x40 != 0 => Self::Quic,
            _ => Self::Unknown,
        }
    }

    /// The first byte of a datagram of this kind; QUIC and unknown ones have none of their own.
    #[must_use]
    pub const fn first_byte(self) -> Option<u8> {
        match self {
            Self::Media => Some(0x04),
            Self::Parity => Some(0x05),
            Self::Link => Some(0x06),
            Self::Site => Some(0x07),
            Self::Quic | Self::Unknown => None,
        }
    }
}

/// How early a burst is shed when there is not room for all: 3 goes before 1, 0 never goes by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class(u8);

impl Class {
    /// Never shed by class.
    pub const KEEP: Self = Self(0);

    /// The class of that value, or `None` above 3.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        if value <= 3 { Some(Self(value)) } else { None }
    }

    /// 0 to 3.
    #[must_use]
    pub const fn value(self) -> u8 {
        self.0
    }
}

/// The clear header of a media packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The burst ends here.
    pub last: bool,
    /// All frames of the burst are discardable.
    pub discardable: bool,
    /// When to shed the burst.
    pub class: Class,
    /// Epoch of the content and carry secrets.
    pub key: u8,
    /// Version of the description that the frames need.
    pub description: u8,
    /// The flow.
    pub flow: FlowId,
    /// The packet's place in the flow.
    pub number: Number,
    /// Its place in its burst.
    pub index: u16,
    /// The group it belongs to.
    pub group: Group,
    /// Packets since the group's first.
    pub offset: u32,
    /// When the origin handed the burst over.
    pub sent: OriginTime,
}

impl Header {
    /// Reads the header of a media packet; `None` if `packet` is of another kind, or of a length no packet has.
    ///
    /// Nothing read here is proven until the carry tag is.
    #[must_use]
    #[inline]
    pub fn peek(packet: &[u8]) -> Option<Self> {
        // spec: WIRE 4.1 a packet of less than 56 or more than 1,440 bytes MUST be dropped
        if packet.len() < OVERHEAD_BYTES || packet.len() > PACKET_BYTES_MAX {
            return None;
        }
        let b: &[u8; HEADER_BYTES] = packet.first_chunk()?;
        if b[0] != 0x04 {
            return None;
        }
        Some(Self {
            last: b[1] & LAST != 0,
            discardable: b[1] & DISCARDABLE != 0,
            class: Class((b[1] & CLASS) >> 4),
            key: b[2],
            description: b[3],
            flow: FlowId(u64::from_be_bytes([
                b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11],
            ])),
            number: Number::from_low_bits(u64::from_be_bytes([
                0, 0, b[12], b[13], b[14], b[15], b[16], b[17],
            ])),
            index: u16::from_be_bytes([b[18], b[19]]),
            group: Group(u32::from_be_bytes([b[20], b[21], b[22], b[23]])),
            offset: u32::from_be_bytes([b[24], b[25], b[26], b[27]]),
            sent: OriginTime(u32::from_be_bytes([b[28], b[29], b[30], b[31]])),
        })
    }

    /// Writes the header.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut b = [0; HEADER_BYTES];
        b[0] = 0x04;
        b[1] = if self.last { LAST } else { 0 }
            | if self.discardable { DISCARDABLE } else { 0 }
            | self.class.0 << 4;
        b[2] = self.key;
        b[3] = self.description;
        b[4..12].copy_from_slice(&self.flow.0.to_be_bytes());
        b[12..18].copy_from_slice(&self.number.value().to_be_bytes()[2..]);
        b[18..20].copy_from_slice(&self.index.to_be_bytes());
        b[20..24].copy_from_slice(&self.group.0.to_be_bytes());
        b[24..28].copy_from_slice(&self.offset.to_be_bytes());
        b[28..32].copy_from_slice(&self.sent.0.to_be_bytes());
        b
    }

    /// The number of the first packet of this packet's burst; `None` if index and number disagree.
    #[must_use]
    // spec: WIRE 4.1 a packet whose index or offset is larger than its number MUST be dropped
    pub const fn burst(&self) -> Option<Number> {
        self.number.minus(self.index as u64)
    }

    /// The number of the first packet of this packet's group; `None` if offset and number disagree.
    #[must_use]
    pub const fn group_start(&self) -> Option<Number> {
        self.number.minus(self.offset as u64)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn any_header()(
            (last, discardable, class) in (any::<bool>(), any::<bool>(), 0..4_u8),
            (key, description, flow) in any::<(u8, u8, u64)>(),
            number in 0..=Number::MAX.value(),
            (index, group, offset, sent) in any::<(u16, u32, u32, u32)>(),
        ) -> Header {
            Header {
                last,
                discardable,
                class: Class::new(class).unwrap(),
                key,
                description,
                flow: FlowId(flow),
                number: Number::new(number).unwrap(),
                index,
                group: Group(group),
                offset,
                sent: OriginTime(sent),
            }
        }
    }

    fn packet(header: &Header, bytes: usize) -> Vec<u8> {
        let mut packet = header.encode().to_vec();
        packet.resize(bytes, 0xAA);
        packet
    }

    proptest! {
        #[test]
        fn a_header_survives_its_bytes(header in any_header(), bytes in OVERHEAD_BYTES..=PACKET_BYTES_MAX) {
            prop_assert_eq!(Header::peek(&packet(&header, bytes)), Some(header));
        }

        #[test]
        fn any_bytes_are_a_header_or_none(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            if let Some(header) = Header::peek(&bytes) {
                prop_assert_eq!(&header.encode()[4..], &bytes[4..HEADER_BYTES]);
            }
        }
    }

    // spec: WIRE 4.1
    #[test]
    fn a_packet_too_short_for_its_tags_or_too_long_is_no_packet() {
        let header = Header::peek(&packet(&zero(), OVERHEAD_BYTES)).unwrap();

        assert_eq!(Header::peek(&packet(&header, OVERHEAD_BYTES - 1)), None);
        assert_eq!(Header::peek(&packet(&header, PACKET_BYTES_MAX + 1)), None);
    }

    // spec: WIRE 1.2
    #[test]
    fn each_kind_is_known_by_its_first_byte() {
        for kind in [Kind::Media, Kind::Parity, Kind::Link, Kind::Site] {
            assert_eq!(Kind::of(&[kind.first_byte().unwrap()]), kind);
        }
        assert_eq!(Kind::of(&[0x40]), Kind::Quic);
        assert_eq!(Kind::of(&[0xC3]), Kind::Quic);
        assert_eq!(Kind::of(&[0x80]), Kind::Unknown);
        assert_eq!(Kind::of(&[]), Kind::Unknown);
    }

    // spec: WIRE 4.1
    #[test]
    fn a_header_that_contradicts_itself_names_no_burst_and_no_group() {
        let header = Header {
            index: 5,
            offset: 9,
            number: Number::new(4).unwrap(),
            ..zero()
        };

        assert_eq!(header.burst(), None);
        assert_eq!(header.group_start(), None);
    }

    fn zero() -> Header {
        Header {
            last: false,
            discardable: false,
            class: Class::KEEP,
            key: 0,
            description: 0,
            flow: FlowId(0),
            number: Number::ZERO,
            index: 0,
            group: Group(0),
            offset: 0,
            sent: OriginTime(0),
        }
    }
}
