//! AAC: the decoder configuration, and the ADTS header that carries the same in front of each frame.
//!
//! ```text
//! AudioSpecificConfig   object type:5 rate index:4 channels:4 ...               ISO 14496-3 1.6.2.1
//! ADTS  FFF:12 mpeg2:1 layer:2 no crc:1 | profile:2 rate index:4 private:1 channels:3 others:4
//!       length:13 fullness:11 blocks-1:2 | crc:16, unless "no crc"              ISO 14496-3 1.A.2.2
//! ```
//!
//! Not a decoder. Called by [`crate::ts`] and by gateways that name the configuration in their own protocols.
//! Invariant: an [`AudioConfig`] can be said in ADTS.

use std::num::NonZeroU32;

use crate::audio::{Header, Parsed};

/// Samples of a frame (the 960 of DAB+ do not occur in ADTS).
pub const FRAME_SAMPLES: u32 = 1_024;
/// Bytes of an ADTS header without checksum, as it is written.
pub const ADTS_BYTES: usize = 7;
/// The longest frame ADTS can carry, without header.
pub const ADTS_DATA_BYTES_MAX: usize = (1 << 13) - 1 - ADTS_BYTES;

const CRC_BYTES: usize = 2;
/// Rates by index (ISO 14496-3 table 1.18).
const RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];
/// Object types that say: spectral band replication, then the real object type behind the extended rate.
const OBJECT_SBR: u8 = 5;
const OBJECT_PS: u8 = 29;

/// What a decoder has to know, as far as ADTS can say it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioConfig {
    /// 1 Main, 2 LC, 3 SSR, 4 LTP.
    object_type: u8,
    rate_index: u8,
    channels: u8,
}

impl AudioConfig {
    /// Reads an AudioSpecificConfig; `None` if ADTS cannot say it (another object type, a rate out of the table).
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let word = bytes
            .iter()
            .chain(&[0; 4])
            .take(4)
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        let bits = |from: u32, count: u32| (word << from >> (32 - count)) as u8;
        let (mut object_type, rate_index, channels) = (bits(0, 5), bits(5, 4), bits(9, 4));
        if matches!(object_type, OBJECT_SBR | OBJECT_PS) {
            // Behind the rate of the extension stands the object type of the core.
            object_type = bits(17, 5);
        }
        let config = Self {
            object_type,
            rate_index,
            channels,
        };
        (bytes.len() >= 2 && config.is_adts()).then_some(config)
    }

    fn is_adts(self) -> bool {
        (1..=4).contains(&self.object_type)
            && usize::from(self.rate_index) < RATES.len()
            && self.channels < 8
    }

    /// Writes it as AudioSpecificConfig.
    #[must_use]
    pub fn write(self) -> [u8; 2] {
        let word = u16::from(self.object_type) << 11
            | u16::from(self.rate_index) << 7
            | u16::from(self.channels) << 3;
        word.to_be_bytes()
    }

    /// Samples per second, of the core where there is band replication.
    #[must_use]
    pub fn rate(self) -> NonZeroU32 {
        NonZeroU32::new(RATES[usize::from(self.rate_index)]).expect("no rate of the table is zero")
    }

    /// The channel configuration: the number of channels up to 6, then 7 for 7.1; 0 leaves it to the stream.
    #[must_use]
    pub const fn channels(self) -> u8 {
        self.channels
    }

    /// Writes the ADTS header for a frame of `data_bytes`; `None` above [`ADTS_DATA_BYTES_MAX`].
    #[must_use]
    pub fn adts_header(self, data_bytes: usize) -> Option<[u8; ADTS_BYTES]> {
        if data_bytes > ADTS_DATA_BYTES_MAX {
            return None;
        }
        let length = u64::try_from(data_bytes + ADTS_BYTES).ok()?;
        let fixed = 0xFFF1 << 40
            | u64::from(self.object_type - 1) << 38
            | u64::from(self.rate_index) << 34
            | u64::from(self.channels) << 30;
        // Fullness 7FF: variable rate.
        let [_, bytes @ ..] = (fixed | length << 13 | 0x7FF << 2).to_be_bytes();
        Some(bytes)
    }
}

/// Reads the ADTS header at the front of `bytes`.
pub(crate) fn parse_adts(bytes: &[u8]) -> Parsed {
    let Some(head) = bytes.first_chunk::<ADTS_BYTES>() else {
        return Parsed::Short;
    };
    let [b0, b1, b2, b3, b4, b5, b6] = *head;
    let config = AudioConfig {
        object_type: (b2 >> 6) + 1,
        rate_index: b2 >> 2 & 0x0F,
        channels: (b2 & 1) << 2 | b3 >> 6,
    };
    let skip = if b1 & 1 == 0 {
        ADTS_BYTES + CRC_BYTES
    } else {
        ADTS_BYTES
    };
    let length = usize::from(b3 & 3) << 11 | usize::from(b4) << 3 | usize::from(b5 >> 5);
    // Several raw data blocks under one header are allowed and not found in the wild.
    let one_block = b6 & 3 == 0;
    if b0 != 0xFF || b1 & 0xF6 != 0xF0 || !config.is_adts() || length <= skip || !one_block {
        return Parsed::Bad;
    }
    Parsed::Header(Header {
        bytes: length,
        skip,
        samples: FRAME_SAMPLES,
        rate: config.rate(),
        codec: "aac",
        config: Some(config.write()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_configuration_with_band_replication_names_its_core() {
        // Object type 5, 24 kHz, stereo, extended to 48 kHz, core LC.
        let config = AudioConfig::parse(&[0x2B, 0x11, 0x88, 0x00]).unwrap();

        assert_eq!(config.rate().get(), 24_000);
        assert_eq!(config.write(), [0x13, 0x10]);
    }

    #[test]
    fn what_adts_cannot_say_is_refused() {
        assert_eq!(AudioConfig::parse(&[]), None);
        assert_eq!(AudioConfig::parse(&[0x11]), None);
        assert_eq!(AudioConfig::parse(&[0x17, 0x80, 0, 0, 0]), None);
        assert_eq!(AudioConfig::parse(&[0xB8, 0x00]), None);
        let config = AudioConfig::parse(&[0x11, 0x90]).unwrap();
        assert_eq!(config.adts_header(ADTS_DATA_BYTES_MAX + 1), None);
    }

    proptest! {
        #[test]
        fn configuration_and_length_survive_adts(
            object_type in 1_u8..5,
            rate_index in 0_u8..13,
            channels in 0_u8..8,
            bytes in 1..=ADTS_DATA_BYTES_MAX,
        ) {
            let config = AudioConfig { object_type, rate_index, channels };
            prop_assert_eq!(AudioConfig::parse(&config.write()), Some(config));

            let Parsed::Header(header) = parse_adts(&config.adts_header(bytes).unwrap()) else { panic!("not ADTS") };

            prop_assert_eq!(header.bytes, bytes + ADTS_BYTES);
            prop_assert_eq!(header.skip, ADTS_BYTES);
            prop_assert_eq!(header.config, Some(config.write()));
            prop_assert_eq!(header.rate, config.rate());
        }
    }
}
