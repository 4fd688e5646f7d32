//! How a track is carried in RTP: payload type, clock, and what its format leaves open.
//!
//! A sender makes a [`Mapping`] from a track; a receiver gets one from an SDP (`sdp.rs`). Not the formats
//! themselves: one file each. Called by packer, unpacker and the SDP. Invariant: the words of the table in the
//! crate's documentation are the only ones that are sent and received.

use std::num::NonZeroU32;

use bytes::Bytes;
use levada_wire::Track;

use crate::aac::AudioConfig;
use crate::ticks::TS_TIMESCALE;
use crate::{nal, opus};

/// What is inside the packets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Encoding {
    /// H.264 (RFC 6184) or H.265 (RFC 7798).
    Nal {
        /// Which of the two.
        codec: nal::Codec,
        /// Parameter sets that the SDP named, in Annex B; may be empty.
        parameter_sets: Bytes,
    },
    /// AAC (RFC 3640), mode AAC-hbr and its like.
    Aac(AacSizes),
    /// AAC as `MP4A-LATM` with its configuration in the SDP (RFC 6416). Received only.
    Latm,
    /// Opus (RFC 7587).
    Opus,
}

/// How many bits the fields of an AU header have (RFC 3640 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AacSizes {
    /// Bits of the access unit's size.
    pub size: u8,
    /// Bits of the first access unit's index.
    pub index: u8,
    /// Bits of the index step of those behind it.
    pub index_delta: u8,
}

impl AacSizes {
    /// Mode AAC-hbr (RFC 3640 3.3.6).
    pub const HIGH: Self = Self {
        size: 13,
        index: 3,
        index_delta: 3,
    };
    /// Mode AAC-lbr (RFC 3640 3.3.5).
    pub const LOW: Self = Self {
        size: 6,
        index: 2,
        index_delta: 2,
    };
}

/// How a track is carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// 0 to 127.
    pub payload_type: u8,
    /// Ticks of RTP time per second.
    pub clock: NonZeroU32,
    /// What is inside.
    pub encoding: Encoding,
}

/// Why a track cannot be sent as RTP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MappingError {
    /// No payload format is known for it.
    #[error("{codec} cannot be carried in RTP")]
    Codec {
        /// The track's word.
        codec: String,
    },
    /// Its configuration is missing or not understood.
    #[error("the configuration of the {codec} track is missing or not understood")]
    Config {
        /// The track's word.
        codec: String,
    },
}

impl Mapping {
    /// How a track is sent. A dynamic payload type is `dynamic`.
    ///
    /// # Errors
    ///
    /// There is no way to.
    pub fn of(track: &Track, dynamic: u8) -> Result<Self, MappingError> {
        let codec = || track.codec.clone();
        let of = |payload_type, clock, encoding| Self {
            payload_type,
            clock,
            encoding,
        };
        let nal = |codec| Encoding::Nal {
            codec,
            parameter_sets: Bytes::new(),
        };
        Ok(match track.codec.as_str() {
            "h264" => of(dynamic, TS_TIMESCALE, nal(nal::Codec::H264)),
            "h265" => of(dynamic, TS_TIMESCALE, nal(nal::Codec::H265)),
            "aac" => {
                let config = AudioConfig::parse(&track.config);
                let config = config.ok_or_else(|| MappingError::Config { codec: codec() })?;
                of(dynamic, config.rate(), Encoding::Aac(AacSizes::HIGH))
            }
            "opus" => of(dynamic, opus::TIMESCALE, Encoding::Opus),
            _ => return Err(MappingError::Codec { codec: codec() }),
        })
    }
}
