//! MPEG audio, layers I to III: the header in front of each frame.
//!
//! ```text
//! FFF:11 version:2 layer:2 no crc:1 | bit rate:4 rate:2 padding:1 private:1 | mode:2 ...     ISO 11172-3 2.4.1.3
//! ```
//!
//! Not a decoder. Called by [`crate::ts`] and by gateways that need a frame's length. Invariant: a header that
//! parses has a length above its own four bytes. Free format, which has no length, is not parsed.

use std::num::NonZeroU32;

use crate::audio::{Header, Parsed};

const HEADER_BYTES: usize = 4;
/// Rates of MPEG-1; MPEG-2 halves them, MPEG-2.5 quarters them.
const RATES: [u32; 3] = [44_100, 48_000, 32_000];
/// kb/s by index.
const RATES_1_LAYER_1: [u32; 15] = [
    0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448,
];
const RATES_1_LAYER_2: [u32; 15] = [
    0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384,
];
const RATES_1_LAYER_3: [u32; 15] = [
    0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
];
const RATES_2_LAYER_1: [u32; 15] = [
    0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256,
];
const RATES_2_LAYER_2_3: [u32; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];

/// Reads the header at the front of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Parsed::Short;
    };
    frame(*head).map_or(Parsed::Bad, Parsed::Header)
}

fn frame([b0, b1, b2, _]: [u8; HEADER_BYTES]) -> Option<Header> {
    if b0 != 0xFF || b1 & 0xE0 != 0xE0 {
        return None;
    }
    // 0 is version 2.5, 2 is 2, 3 is 1; 1 is reserved.
    let (version, layer) = (b1 >> 3 & 3, 4 - (b1 >> 1 & 3));
    let rate_shift = match version {
        3 => 0,
        2 => 1,
        0 => 2,
        _ => return None,
    };
    let first = version == 3;
    let kilobits = match (first, layer) {
        (true, 1) => RATES_1_LAYER_1,
        (true, 2) => RATES_1_LAYER_2,
        (true, 3) => RATES_1_LAYER_3,
        (false, 1) => RATES_2_LAYER_1,
        (false, 2 | 3) => RATES_2_LAYER_2_3,
        _ => return None,
    };
    let kilobits = *kilobits
        .get(usize::from(b2 >> 4))
        .filter(|rate| **rate > 0)?;
    let rate = RATES.get(usize::from(b2 >> 2 & 3))? >> rate_shift;
    let padding = u32::from(b2 >> 1 & 1);
    let samples = match layer {
        1 => 384,
        3 if !first => 576,
        _ => 1_152,
    };
    // Layer I counts in slots of four bytes.
    let slot = if layer == 1 { 4 } else { 1 };
    let bytes = (samples / 8 / slot * kilobits * 1_000 / rate + padding) * slot;
    Some(Header {
        bytes: usize::try_from(bytes).ok()?,
        skip: 0,
        samples,
        rate: NonZeroU32::new(rate)?,
        codec: if layer == 3 { "mp3" } else { "mp2" },
        config: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_the_standard() {
        // MPEG-1 layer III, 128 kb/s, 44.1 kHz, with padding: 144 * 128000 / 44100 + 1.
        let mp3 = frame([0xFF, 0xFB, 0x92, 0x00]).map(|h| (h.bytes, h.samples, h.codec));
        // MPEG-1 layer II, 192 kb/s, 48 kHz.
        let mp2 = frame([0xFF, 0xFD, 0xA4, 0x00]).map(|h| (h.bytes, h.samples, h.codec));
        // MPEG-2 layer III, 64 kb/s, 22.05 kHz.
        let low = frame([0xFF, 0xF3, 0x80, 0x00]).map(|h| (h.bytes, h.samples, h.codec));

        assert_eq!(mp3, Some((418, 1_152, "mp3")));
        assert_eq!(mp2, Some((576, 1_152, "mp2")));
        assert_eq!(low, Some((208, 576, "mp3")));
    }

    #[test]
    fn no_header_is_shorter_than_itself_and_free_format_is_refused() {
        let headers = (0..=u16::MAX).filter_map(|word| {
            let [b1, b2] = word.to_be_bytes();
            frame([0xFF, b1, b2, 0])
        });

        assert!(
            headers
                .into_iter()
                .all(|header| header.bytes > HEADER_BYTES)
        );
        assert!(frame([0xFF, 0xFB, 0x00, 0x00]).is_none());
    }
}
