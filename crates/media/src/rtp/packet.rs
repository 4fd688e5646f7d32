//! The RTP header (RFC 3550 5.1): a view on received bytes, and the twelve bytes that are written.
//!
//! ```text
//! version:2 padding:1 extension:1 csrc count:4 | marker:1 payload type:7 | sequence:16
//! timestamp:32
//! ssrc:32
//! csrc:32 x count | extension: profile:16 words:16 data | payload | padding, its last byte says how many
//! ```
//!
//! Copies nothing. Not RTCP (`rtcp.rs`) and not what a payload means. Called by the unpacker, the packer and by
//! gateways that look at a packet. Invariant: the payload of a [`Packet`] lies within its bytes.

/// Bytes of a header without contributing sources and extension, which is what is written.
pub const HEADER_BYTES: usize = 12;

const VERSION: u8 = 2;
const PADDING: u8 = 0x20;
const EXTENSION: u8 = 0x10;
const MARKER: u8 = 0x80;

/// Why bytes are not an RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// Shorter than what its header announces.
    #[error("an RTP packet is cut short")]
    Short,
    /// Another protocol, or RTP of another version.
    #[error("not RTP version 2")]
    Version,
    /// RTCP that came where RTP belongs: types 64 to 95 are never RTP (RFC 5761 4).
    #[error("an RTCP packet where RTP was expected")]
    Rtcp,
}

/// A received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    bytes: &'a [u8],
    fixed: [u8; HEADER_BYTES],
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Looks at the bytes of one packet.
    ///
    /// # Errors
    ///
    /// They are not RTP version 2, or shorter than they say.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let (fixed, rest) = bytes
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or(PacketError::Short)?;
        let [first, second, ..] = *fixed;
        if first >> 6 != VERSION {
            return Err(PacketError::Version);
        }
        if (64..96).contains(&(second & !MARKER)) {
            return Err(PacketError::Rtcp);
        }
        let mut rest = rest
            .get(4 * usize::from(first & 0x0F)..)
            .ok_or(PacketError::Short)?;
        if first & EXTENSION != 0 {
            let (&[_, _, high, low], data) = rest.split_first_chunk().ok_or(PacketError::Short)?;
            let words = usize::from(u16::from_be_bytes([high, low]));
            rest = data.get(4 * words..).ok_or(PacketError::Short)?;
        }
        if first & PADDING != 0 {
            // A count of zero would not even cover itself (RFC 3550 5.1).
            let count = rest.last().map_or(0, |count| usize::from(*count));
            let end = rest.len().checked_sub(count).filter(|_| count > 0);
            rest = rest.get(..end.ok_or(PacketError::Short)?).unwrap_or(rest);
        }
        Ok(Self {
            bytes,
            fixed: *fixed,
            payload: rest,
        })
    }

    /// Set on the last packet of a picture, or on the first of a talk spurt.
    #[must_use]
    pub const fn marker(&self) -> bool {
        self.fixed[1] & MARKER != 0
    }

    /// 0 to 127; what it means is said in the SDP.
    #[must_use]
    pub const fn payload_type(&self) -> u8 {
        self.fixed[1] & !MARKER
    }

    /// One more for each packet, modulo 2^16.
    #[must_use]
    pub const fn sequence(&self) -> u16 {
        u16::from_be_bytes([self.fixed[2], self.fixed[3]])
    }

    /// Media time modulo 2^32, from a random start.
    #[must_use]
    pub const fn timestamp(&self) -> u32 {
        let [_, _, _, _, t0, t1, t2, t3, ..] = self.fixed;
        u32::from_be_bytes([t0, t1, t2, t3])
    }

    /// Whose packet it is.
    #[must_use]
    pub const fn ssrc(&self) -> u32 {
        let [.., s0, s1, s2, s3] = self.fixed;
        u32::from_be_bytes([s0, s1, s2, s3])
    }

    /// The sources a mixer put together.
    pub fn csrc(&self) -> impl Iterator<Item = u32> + 'a {
        let count = usize::from(self.fixed[0] & 0x0F);
        let (words, _) = self.bytes[HEADER_BYTES..].as_chunks();
        words
            .iter()
            .take(count)
            .map(|word| u32::from_be_bytes(*word))
    }

    /// The header extension: its profile and data.
    #[must_use]
    pub fn extension(&self) -> Option<(u16, &'a [u8])> {
        if self.fixed[0] & EXTENSION == 0 {
            return None;
        }
        let start = HEADER_BYTES + 4 * usize::from(self.fixed[0] & 0x0F);
        let (&[p0, p1, high, low], data) = self.bytes.get(start..)?.split_first_chunk()?;
        let words = usize::from(u16::from_be_bytes([high, low]));
        Some((u16::from_be_bytes([p0, p1]), data.get(..4 * words)?))
    }

    /// What is carried, without padding.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// A header to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last packet of a picture, or the first of a talk spurt.
    pub marker: bool,
    /// 0 to 127.
    pub payload_type: u8,
    /// One more for each packet, modulo 2^16.
    pub sequence: u16,
    /// Media time modulo 2^32.
    pub timestamp: u32,
    /// Whose packet it is.
    pub ssrc: u32,
}

impl Head {
    /// The bytes: no padding, no extension, no contributing sources.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = VERSION << 6;
        bytes[1] = self.payload_type & !MARKER | if self.marker { MARKER } else { 0 };
        bytes[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        bytes[8..].copy_from_slice(&self.ssrc.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sources_extension_and_padding_are_no_payload() {
        let fixed = [0xB2, 0xE0, 0, 9, 0, 0, 0, 7, 1, 2, 3, 4];
        let sources = [0, 0, 0, 5, 0, 0, 0, 6];
        let extension = [0xBE, 0xDE, 0, 1, 8, 8, 8, 8];
        let bytes = [&fixed[..], &sources, &extension, &[7, 7, 0, 0, 3]].concat();

        let packet = Packet::parse(&bytes).unwrap();

        assert_eq!(packet.payload(), [7, 7]);
        assert_eq!(packet.csrc().collect::<Vec<_>>(), [5, 6]);
        assert_eq!(packet.extension(), Some((0xBEDE, &[8; 4][..])));
        assert_eq!((packet.marker(), packet.payload_type()), (true, 0x60));
    }

    #[test]
    fn what_is_not_rtp_says_why() {
        let parse = |bytes: &[u8]| Packet::parse(bytes).unwrap_err();
        let cut = |first: u8, tail: &[u8]| parse(&[&[first, 96][..], &[0; 10], tail].concat());

        assert_eq!(parse(&[0x80; 11]), PacketError::Short);
        assert_eq!(cut(0x40, &[]), PacketError::Version);
        assert_eq!(cut(0x82, &[0; 7]), PacketError::Short);
        assert_eq!(cut(0x90, &[0, 0, 0, 1, 0]), PacketError::Short);
        assert_eq!(cut(0xA0, &[7, 0]), PacketError::Short);
        assert_eq!(cut(0xA0, &[7, 3]), PacketError::Short);
        assert_eq!(cut(0xA0, &[]), PacketError::Short);
        // A sender report on the port of RTP.
        let report = [&[0x80, 200][..], &[0; 26]].concat();
        assert_eq!(parse(&report), PacketError::Rtcp);
    }

    proptest! {
        #[test]
        fn a_packet_survives_its_bytes(
            marker: bool, payload_type in 0_u8..64, sequence: u16, timestamp: u32, ssrc: u32,
            payload in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let head = Head { marker, payload_type, sequence, timestamp, ssrc };
            let bytes = [&head.encode()[..], &payload].concat();

            let packet = Packet::parse(&bytes).unwrap();

            let back = Head {
                marker: packet.marker(),
                payload_type: packet.payload_type(),
                sequence: packet.sequence(),
                timestamp: packet.timestamp(),
                ssrc: packet.ssrc(),
            };
            prop_assert_eq!(back, head);
            prop_assert_eq!(packet.payload(), payload);
            prop_assert_eq!(packet.csrc().count() + packet.extension().into_iter().count(), 0);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(packet) = Packet::parse(&bytes) {
                prop_assert!(packet.payload().len() + HEADER_BYTES <= bytes.len());
                let extension = packet.extension().map_or(0, |(_, data)| data.len() + 4);
                prop_assert!(4 * packet.csrc().count() + extension + HEADER_BYTES <= bytes.len());
            }
        }
    }
}
