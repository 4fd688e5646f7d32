//! AC-3: the header in front of each frame.
//!
//! ```text
//! 0B77:16 crc:16 | rate:2 length code:6 | bsid:5 ...                          ETSI TS 102 366 4.3
//! ```
//!
//! Not a decoder, and not E-AC-3. Called by [`crate::ts`] and by gateways that need a frame's length.
//! Invariant: a header that parses has a length of at least 128 bytes.

use std::num::NonZeroU32;

use crate::audio::{Header, Parsed};

const HEADER_BYTES: usize = 6;
const FRAME_SAMPLES: u32 = 1_536;
/// Above it the stream is E-AC-3.
const BSID_MAX: u8 = 8;
/// kb/s by half the length code.
const BIT_RATES: [u32; 19] = [
    32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640,
];
const RATES: [u32; 3] = [48_000, 44_100, 32_000];

/// Reads the header at the front of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Parsed::Short;
    };
    frame(*head).map_or(Parsed::Bad, Parsed::Header)
}

fn frame([b0, b1, _, _, lengths, bsid]: [u8; HEADER_BYTES]) -> Option<Header> {
    if [b0, b1] != [0x0B, 0x77] || bsid >> 3 > BSID_MAX {
        return None;
    }
    let rate = *RATES.get(usize::from(lengths >> 6))?;
    let code = lengths & 0x3F;
    let bit_rate = *BIT_RATES.get(usize::from(code >> 1))?;
    // Words of 16 bits; at 44.1 kHz an odd code adds one.
    let odd = u32::from(rate == 44_100 && code & 1 == 1);
    let words = bit_rate * 1_000 * FRAME_SAMPLES / 16 / rate + odd;
    Some(Header {
        bytes: usize::try_from(words * 2).ok()?,
        skip: 0,
        samples: FRAME_SAMPLES,
        rate: NonZeroU32::new(rate)?,
        codec: "ac3",
        config: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_the_standard() {
        let bytes = |lengths| frame([0x0B, 0x77, 0, 0, lengths, 8 << 3]).map(|header| header.bytes);

        // 192 kb/s: table 4.13 says 384 words at 48 kHz, 417 and 418 at 44.1 kHz, 576 at 32 kHz.
        assert_eq!(bytes(20), Some(768));
        assert_eq!(bytes(0x40 | 20), Some(834));
        assert_eq!(bytes(0x40 | 21), Some(836));
        assert_eq!(bytes(0x80 | 20), Some(1_152));
        assert_eq!(bytes(0x80 | 37), Some(3_840));
    }

    #[test]
    fn what_is_not_ac3_is_refused() {
        assert!(frame([0x0B, 0x77, 0, 0, 38, 8 << 3]).is_none());
        assert!(frame([0x0B, 0x77, 0, 0, 0xC0, 8 << 3]).is_none());
        assert!(frame([0x0B, 0x77, 0, 0, 20, 16 << 3]).is_none());
        assert!(frame([0x0B, 0x78, 0, 0, 20, 8 << 3]).is_none());
    }
}
