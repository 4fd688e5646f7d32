//! How a track is carried in RTP: payload type, clock, and what its format leaves open.
//!
//! A sender makes a [`Mapping`] from a track; a receiver gets one from an SDP (`sdp.rs`). Not the formats
//! themselves: one file each. Called by packer, unpacker and the SDP. Invariant: the words of the table in the
//! crate's documentation are the only ones that are sent and received.

use std::num::{NonZeroU8, NonZeroU32};

use bytes::Bytes;
use levada_wire::Track;

use crate::aac::AudioConfig;
use crate::nal::ParameterSets;
use crate::ticks::TS_TIMESCALE;
use crate::{nal, opus};

/// The word of a track whose payloads are not understood: this, and its encoding name in small letters.
pub(crate) const OPAQUE_PREFIX: &str = "rtp-";
/// Of all video formats.
const VIDEO: NonZeroU32 = TS_TIMESCALE;
/// Payload types that are the same everywhere (RFC 3551 6).
pub(crate) const TYPE_PCMU: u8 = 0;
pub(crate) const TYPE_PCMA: u8 = 8;
pub(crate) const TYPE_MPEG_AUDIO: u8 = 14;
pub(crate) const TYPE_JPEG: u8 = 26;
pub(crate) const TYPE_MPEG_TS: u8 = 33;

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
    /// AV1 (its own specification).
    Av1,
    /// VP8 (RFC 7741).
    Vp8,
    /// VP9 (RFC 9628).
    Vp9,
    /// JPEG (RFC 2435).
    Jpeg,
    /// Opus (RFC 7587).
    Opus,
    /// G.711 (RFC 3551 4.5.14).
    G711 {
        /// Samples of one moment.
        channels: NonZeroU8,
    },
    /// MPEG audio, MP3 among it (RFC 2250 3).
    MpegAudio,
    /// A whole transport stream (RFC 2250 2).
    MpegTs,
    /// Anything else, payload by payload.
    Opaque,
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
    /// The payload format, by its name in SDP.
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
            "h264" => of(dynamic, VIDEO, nal(nal::Codec::H264)),
            "h265" => of(dynamic, VIDEO, nal(nal::Codec::H265)),
            "av1" => of(dynamic, VIDEO, Encoding::Av1),
            "vp8" => of(dynamic, VIDEO, Encoding::Vp8),
            "vp9" => of(dynamic, VIDEO, Encoding::Vp9),
            "mjpeg" => of(TYPE_JPEG, VIDEO, Encoding::Jpeg),
            "aac" => {
                let config = AudioConfig::parse(&track.config);
                let config = config.ok_or_else(|| MappingError::Config { codec: codec() })?;
                of(dynamic, config.rate(), Encoding::Aac(AacSizes::HIGH))
            }
            "opus" => of(dynamic, opus::TIMESCALE, Encoding::Opus),
            word @ ("pcmu" | "pcma") => {
                let channels =
                    channels(track).ok_or_else(|| MappingError::Config { codec: codec() })?;
                let clock = track.timescale;
                let is_static = clock.get() == 8_000 && channels == NonZeroU8::MIN;
                let own = if word == "pcmu" { TYPE_PCMU } else { TYPE_PCMA };
                let payload_type = if is_static { own } else { dynamic };
                of(payload_type, clock, Encoding::G711 { channels })
            }
            "mp2" | "mp3" => of(TYPE_MPEG_AUDIO, TS_TIMESCALE, Encoding::MpegAudio),
            "mpegts" => of(TYPE_MPEG_TS, TS_TIMESCALE, Encoding::MpegTs),
            word if word.starts_with(OPAQUE_PREFIX) => {
                of(dynamic, track.timescale, Encoding::Opaque)
            }
            _ => return Err(MappingError::Codec { codec: codec() }),
        })
    }
}

impl Encoding {
    /// Takes over the parameter sets of a picture where decoding can start, for the SDP to name them.
    pub fn learn(&mut self, access_unit: &[u8]) {
        if let Self::Nal {
            codec,
            parameter_sets,
        } = self
        {
            let mut sets = ParameterSets::from_nals(*codec, nal::units(parameter_sets));
            sets.learn(access_unit);
            *parameter_sets = sets.to_annex_b();
        }
    }
}

/// The channels of a G.711 track: one, unless its configuration says how many.
fn channels(track: &Track) -> Option<NonZeroU8> {
    match track.config[..] {
        [] => Some(NonZeroU8::MIN),
        [channels] => NonZeroU8::new(channels),
        _ => None,
    }
}
