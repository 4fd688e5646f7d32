//! Opus: how long a packet lasts, the header that describes a stream, and its framing in a transport stream.
//!
//! ```text
//! control header   3FF:11 start trim:1 end trim:1 extension:1 reserved:2 | size: bytes up to the first below FF
//!                  [start trim:16] [end trim:16] [extension length:8, extension] | packet
//!                                                             Opus in MPEG-2 TS (opus-codec.org draft), 4
//! OpusHead         "OpusHead" 1:8 channels:8 pre-skip:16 rate:32 gain:16 family:8     RFC 7845 5.1, little-endian
//! ```
//!
//! Not a decoder. Called by [`crate::ts`] and by gateways. Invariant: a packet taken out is the packet put in.

use std::num::NonZeroU32;

use bytes::Bytes;

/// Samples per second that Opus counts in, whatever the sound's own rate.
pub const RATE: u32 = 48_000;

/// [`RATE`] as a timescale.
pub const TIMESCALE: NonZeroU32 = NonZeroU32::new(RATE).expect("not zero");

/// The longest packet (RFC 6716 3.2.5: 120 ms).
const PACKET_SAMPLES_MAX: u32 = 5_760;
const CONTROL_PREFIX: u16 = 0x7FE0;
const START_TRIM: u16 = 0x10;
const END_TRIM: u16 = 0x08;
const EXTENSION: u16 = 0x04;

/// Samples (at [`RATE`]) of a packet, from its first two bytes (RFC 6716 3.1); `None` if it has no such form.
#[must_use]
pub fn packet_samples(packet: &[u8]) -> Option<u32> {
    let toc = *packet.first()?;
    let frame = match toc >> 3 {
        config @ 0..=11 => [480, 960, 1_920, 2_880][usize::from(config & 3)],
        config @ 12..=15 => [480, 960][usize::from(config & 1)],
        config => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1)? & 0x3F),
    };
    Some(frame * frames).filter(|samples| (1..=PACKET_SAMPLES_MAX).contains(samples))
}

/// Writes an OpusHead for mono or stereo.
#[must_use]
pub fn head(channels: u8) -> Vec<u8> {
    let mut head = b"OpusHead\x01".to_vec();
    head.push(channels);
    head.extend_from_slice(&0_u16.to_le_bytes());
    head.extend_from_slice(&RATE.to_le_bytes());
    head.extend_from_slice(&[0, 0, 0]);
    head
}

/// The number of channels an OpusHead names.
#[must_use]
pub fn channels(head: &[u8]) -> Option<u8> {
    head.strip_prefix(b"OpusHead")
        .and_then(|rest| rest.get(1))
        .copied()
}

/// Takes the next packet out of what a PES packet carried; `None` at its end or at the first thing that is wrong.
pub(crate) fn next_packet(bytes: &mut Bytes) -> Option<Bytes> {
    let word = u16::from_be_bytes(*bytes.first_chunk()?);
    if word & CONTROL_PREFIX != CONTROL_PREFIX {
        return None;
    }
    let last = bytes.get(2..)?.iter().position(|byte| *byte != 0xFF)?;
    let size = 255 * last + usize::from(bytes[2 + last]);
    let mut start = 3 + last;
    start += if word & START_TRIM != 0 { 2 } else { 0 };
    start += if word & END_TRIM != 0 { 2 } else { 0 };
    if word & EXTENSION != 0 {
        start += 1 + usize::from(*bytes.get(start)?);
    }
    let end = start.checked_add(size).filter(|end| *end <= bytes.len())?;
    let packet = bytes.slice(start..end);
    *bytes = bytes.slice(end..);
    Some(packet)
}

/// The control header for a packet of `bytes`.
pub(crate) fn control_header(bytes: usize) -> Vec<u8> {
    let mut header = CONTROL_PREFIX.to_be_bytes().to_vec();
    header.resize(2 + bytes / 255, 0xFF);
    header.push(u8::try_from(bytes % 255).expect("a remainder of 255 fits a byte"));
    header
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_those_of_the_standard() {
        // CELT 20 ms in one, two and three frames; SILK 60 ms; hybrid 10 ms.
        assert_eq!(packet_samples(&[31 << 3]), Some(960));
        assert_eq!(packet_samples(&[31 << 3 | 1]), Some(1_920));
        assert_eq!(packet_samples(&[31 << 3 | 3, 3]), Some(2_880));
        assert_eq!(packet_samples(&[3 << 3]), Some(2_880));
        assert_eq!(packet_samples(&[12 << 3]), Some(480));
        assert_eq!(packet_samples(&[]), None);
        assert_eq!(packet_samples(&[3 << 3 | 3, 3]), None);
        assert_eq!(channels(&head(2)), Some(2));
    }

    #[test]
    fn trims_and_extensions_are_passed_over() {
        let mut bytes = Bytes::from_static(&[0x7F, 0xFC, 2, 9, 9, 9, 9, 1, 9, 5, 6]);

        assert_eq!(next_packet(&mut bytes).as_deref(), Some(&[5, 6][..]));
        assert_eq!(next_packet(&mut bytes), None);
    }

    proptest! {
        #[test]
        fn packets_survive_their_framing(
            packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..600), 0..5),
        ) {
            let framed = packets.iter().flat_map(|packet| [control_header(packet.len()), packet.clone()].concat());
            let framed: Vec<u8> = framed.collect();
            let mut bytes = Bytes::from(framed);

            let taken: Vec<_> = std::iter::from_fn(|| next_packet(&mut bytes)).collect();

            prop_assert_eq!(taken, packets);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut rest = Bytes::from([&[0x7F, 0xFF][..], &bytes].concat());
            let before = rest.len();

            while next_packet(&mut rest).is_some() {}

            prop_assert!(rest.len() <= before);
        }
    }
}
