//! What `rtpmap` and `fmtp` say of each codec.
//!
//! Called by the SDP. Invariant: `read` of what `write` gave is the same codec and mapping.

use std::num::{NonZeroU8, NonZeroU32};

use bytes::Bytes;
use levada_wire::frame::CONFIG_BYTES_MAX;
use levada_wire::{Track, TrackKind};

use super::OmissionReason;
use super::text::{from_base64, from_hex, to_base64, to_hex};
use crate::aac::AudioConfig;
use crate::bits::Bits;
use crate::nal::{self, ParameterSets};
use crate::opus;
use crate::rtp::{
    AacSizes, Encoding, Mapping, OPAQUE_PREFIX, TYPE_JPEG, TYPE_MPEG_AUDIO, TYPE_MPEG_TS,
    TYPE_PCMA, TYPE_PCMU,
};
use crate::ticks::TS_TIMESCALE;

/// The longest word of a codec.
const WORD_BYTES_MAX: usize = 32;

/// What a track's codec is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Codec {
    pub(super) kind: TrackKind,
    pub(super) word: String,
    pub(super) config: Vec<u8>,
}

/// The values of `rtpmap` and `fmtp`, without payload type.
pub(super) struct Format {
    pub(super) map: String,
    pub(super) parameters: Option<String>,
}

/// The value of a parameter of `fmtp`, whose name may be in any case.
fn parameter<'a>(parameters: &'a str, wanted: &str) -> Option<&'a str> {
    let pairs = parameters.split(';').map(str::trim);
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted))
        .map(|(_, value)| value.trim().trim_matches('"'))
}

fn number(parameters: &str, wanted: &str) -> Option<u32> {
    parameter(parameters, wanted)?.parse().ok()
}

/// Reads what a payload type is.
// tidy: long a table of encodings
pub(super) fn read(
    kind: TrackKind,
    payload_type: u8,
    map: Option<&str>,
    parameters: &str,
) -> Result<(Codec, Mapping), OmissionReason> {
    let map = match (map, payload_type) {
        (Some(map), _) => map,
        (None, TYPE_PCMU) => "PCMU/8000",
        (None, TYPE_PCMA) => "PCMA/8000",
        (None, TYPE_MPEG_AUDIO) => "MPA/90000",
        (None, TYPE_JPEG) => "JPEG/90000",
        (None, TYPE_MPEG_TS) => "MP2T/90000",
        (None, _) => return Err(OmissionReason::Unexplained),
    };
    let mut parts = map.split('/').map(str::trim);
    let name = parts.next().unwrap_or_default().to_ascii_uppercase();
    let clock = parts.next().and_then(|clock| clock.parse().ok());
    let clock: NonZeroU32 = clock.unwrap_or(TS_TIMESCALE);
    let channels = parts.next().and_then(|channels| channels.parse().ok());
    let channels: NonZeroU8 = channels.unwrap_or(NonZeroU8::MIN);
    let video = |word: &str, encoding| (TrackKind::Video, word.to_owned(), Vec::new(), encoding);
    let audio =
        |word: &str, config, encoding| (TrackKind::Audio, word.to_owned(), config, encoding);
    let (kind, word, config, encoding) = match name.as_str() {
        "H264" => video("h264", read_h264(parameters)?),
        "H265" | "HEVC" => video("h265", read_h265(parameters)?),
        "AV1" => video("av1", Encoding::Av1),
        "VP8" => video("vp8", Encoding::Vp8),
        "VP9" => video("vp9", Encoding::Vp9),
        "JPEG" => video("mjpeg", Encoding::Jpeg),
        "MPEG4-GENERIC" => {
            let (config, sizes) = read_aac(parameters)?;
            audio("aac", config, Encoding::Aac(sizes))
        }
        "MP4A-LATM" => audio("aac", read_latm(parameters)?, Encoding::Latm),
        "OPUS" => {
            let is_mono =
                channels == NonZeroU8::MIN || number(parameters, "sprop-stereo") == Some(0);
            audio(
                "opus",
                opus::head(if is_mono { 1 } else { 2 }),
                Encoding::Opus,
            )
        }
        "PCMU" | "PCMA" => {
            let config = if channels == NonZeroU8::MIN {
                vec![]
            } else {
                vec![channels.get()]
            };
            audio(
                &name.to_ascii_lowercase(),
                config,
                Encoding::G711 { channels },
            )
        }
        // Which layer it is shows in its frames.
        "MPA" => audio("mp3", Vec::new(), Encoding::MpegAudio),
        "MP2T" => (
            TrackKind::Data,
            "mpegts".into(),
            Vec::new(),
            Encoding::MpegTs,
        ),
        _ => {
            let word = opaque_word(&name).ok_or(OmissionReason::Unexplained)?;
            let config = format!("{map}\n{parameters}").into_bytes();
            (kind, word, config, Encoding::Opaque)
        }
    };
    if config.len() > CONFIG_BYTES_MAX {
        return Err(OmissionReason::Mode);
    }
    let mapping = Mapping {
        payload_type,
        clock,
        encoding,
    };
    Ok((Codec { kind, word, config }, mapping))
}

/// The word of an encoding that is not known.
fn opaque_word(name: &str) -> Option<String> {
    let word = format!("{OPAQUE_PREFIX}{}", name.to_ascii_lowercase());
    let is_word = word.bytes().all(|byte| byte.is_ascii_graphic());
    (is_word && word.len() > OPAQUE_PREFIX.len() && word.len() <= WORD_BYTES_MAX).then_some(word)
}

fn read_h264(parameters: &str) -> Result<Encoding, OmissionReason> {
    if number(parameters, "packetization-mode") > Some(1) {
        return Err(OmissionReason::Mode);
    }
    let sets = parameter(parameters, "sprop-parameter-sets");
    Ok(encoding_of(nal::Codec::H264, sets))
}

fn read_h265(parameters: &str) -> Result<Encoding, OmissionReason> {
    if number(parameters, "sprop-max-don-diff") > Some(0) {
        return Err(OmissionReason::Mode);
    }
    let names = ["sprop-vps", "sprop-sps", "sprop-pps"];
    let sets = names.iter().filter_map(|name| parameter(parameters, name));
    Ok(encoding_of(nal::Codec::H265, sets))
}

/// The encoding with those of the sets that can be read.
fn encoding_of<'a>(codec: nal::Codec, texts: impl IntoIterator<Item = &'a str>) -> Encoding {
    let nals = texts.into_iter().flat_map(|text| text.split(','));
    let nals: Vec<_> = nals.filter_map(|nal| from_base64(nal.trim())).collect();
    let sets = ParameterSets::from_nals(codec, nals.iter().map(Vec::as_slice));
    Encoding::Nal {
        codec,
        parameter_sets: sets.to_annex_b(),
    }
}

fn read_aac(parameters: &str) -> Result<(Vec<u8>, AacSizes), OmissionReason> {
    let mode = parameter(parameters, "mode").unwrap_or_default();
    let usual = match mode.to_ascii_lowercase().as_str() {
        "" | "aac-hbr" => AacSizes::HIGH,
        "aac-lbr" => AacSizes::LOW,
        _ => return Err(OmissionReason::Mode),
    };
    let bits = |name, usual| {
        let bits = number(parameters, name).map_or(Some(usual), |bits| u8::try_from(bits).ok());
        bits.filter(|bits| *bits <= 32).ok_or(OmissionReason::Mode)
    };
    let sizes = AacSizes {
        size: bits("sizelength", usual.size)?,
        index: bits("indexlength", usual.index)?,
        index_delta: bits("indexdeltalength", usual.index_delta)?,
    };
    // Sizes that are not said, or more fields in a header, are of modes that nobody sends.
    let others = [
        "ctsdeltalength",
        "dtsdeltalength",
        "auxiliarydatasizelength",
    ];
    let is_plain = others
        .iter()
        .all(|name| number(parameters, name).unwrap_or(0) == 0);
    if sizes.size == 0 || !is_plain {
        return Err(OmissionReason::Mode);
    }
    let config = parameter(parameters, "config").and_then(from_hex);
    Ok((config.unwrap_or_default(), sizes))
}

/// The AudioSpecificConfig in a StreamMuxConfig (ISO 14496-3 1.7.3): one program, one layer, one frame.
fn read_latm(parameters: &str) -> Result<Vec<u8>, OmissionReason> {
    let is_apart = parameter(parameters, "cpresent") == Some("0");
    let config = parameter(parameters, "config").and_then(from_hex);
    let config = config.filter(|_| is_apart).ok_or(OmissionReason::Mode)?;
    let mut bits = Bits::new(&config);
    // Version 0, same framing, no further frames, programs and layers.
    let is_plain = bits.take(15) == Some(0b010_0000_0000_0000);
    let own: Vec<u8> = std::iter::from_fn(|| bits.take(8))
        .take(5)
        .map(|byte| byte as u8)
        .collect();
    let config = AudioConfig::parse(&own).filter(|_| is_plain);
    Ok(config.ok_or(OmissionReason::Mode)?.write().to_vec())
}

impl Format {
    pub(super) fn write(track: &Track, mapping: &Mapping) -> Self {
        let clock = mapping.clock;
        let bare = |name: &str| (format!("{name}/{clock}"), None);
        let (map, parameters) = match &mapping.encoding {
            Encoding::Nal {
                codec,
                parameter_sets,
            } => write_nal(*codec, parameter_sets, clock),
            Encoding::Aac(sizes) => write_aac(track, *sizes, clock),
            Encoding::Latm => write_latm(track, clock),
            Encoding::Av1 => bare("AV1"),
            Encoding::Vp8 => bare("VP8"),
            Encoding::Vp9 => bare("VP9"),
            Encoding::Jpeg => bare("JPEG"),
            Encoding::Opus => {
                // Two channels whatever they are (RFC 7587 4.1).
                let is_mono = opus::channels(&track.config) == Some(1);
                let stereo = format!("sprop-stereo={}", u8::from(!is_mono));
                (format!("opus/{clock}/2"), Some(stereo))
            }
            Encoding::G711 { channels } => {
                let name = track.codec.to_ascii_uppercase();
                let more = *channels > NonZeroU8::MIN;
                let channels = if more {
                    format!("/{channels}")
                } else {
                    String::new()
                };
                (format!("{name}/{clock}{channels}"), None)
            }
            Encoding::MpegAudio => bare("MPA"),
            Encoding::MpegTs => bare("MP2T"),
            Encoding::Opaque => {
                let text = String::from_utf8_lossy(&track.config);
                let (map, parameters) = text.split_once('\n').unwrap_or((&text, ""));
                let parameters = Some(parameters.trim()).filter(|text| !text.is_empty());
                (map.trim().to_owned(), parameters.map(Into::into))
            }
        };
        Self { map, parameters }
    }
}

fn write_nal(codec: nal::Codec, sets: &Bytes, clock: NonZeroU32) -> (String, Option<String>) {
    let sets = ParameterSets::from_nals(codec, nal::units(sets));
    let listed = |kind| {
        let texts: Vec<_> = sets.of_kind(kind).map(to_base64).collect();
        Some(texts.join(",")).filter(|text| !text.is_empty())
    };
    match codec {
        nal::Codec::H264 => {
            let mut parameters = "packetization-mode=1".to_owned();
            if let Some(&[_, profile, constraints, level, ..]) = sets.sps() {
                parameters += &format!(
                    ";profile-level-id={}",
                    to_hex(&[profile, constraints, level]).to_ascii_uppercase()
                );
            }
            let texts: Vec<_> = sets.iter().map(to_base64).collect();
            if !texts.is_empty() {
                parameters += &format!(";sprop-parameter-sets={}", texts.join(","));
            }
            (format!("H264/{clock}"), Some(parameters))
        }
        nal::Codec::H265 => {
            let kinds = [("sprop-vps", 32), ("sprop-sps", 33), ("sprop-pps", 34)];
            let pairs = kinds
                .iter()
                .filter_map(|(name, kind)| Some(format!("{name}={}", listed(*kind)?)));
            let parameters = pairs.collect::<Vec<_>>().join(";");
            let parameters = Some(parameters).filter(|text| !text.is_empty());
            (format!("H265/{clock}"), parameters)
        }
    }
}

fn write_aac(track: &Track, sizes: AacSizes, clock: NonZeroU32) -> (String, Option<String>) {
    let channels = AudioConfig::parse(&track.config).map_or(2, AudioConfig::channels);
    // Configuration 7 has eight channels; 0 leaves it to the stream.
    let channels = match channels {
        7 => 8,
        0 => 2,
        channels => channels,
    };
    let mode = if sizes == AacSizes::LOW {
        "AAC-lbr"
    } else {
        "AAC-hbr"
    };
    let mut parameters = format!(
        "streamtype=5;profile-level-id=1;mode={mode};sizelength={};indexlength={};indexdeltalength={}",
        sizes.size, sizes.index, sizes.index_delta
    );
    if !track.config.is_empty() {
        parameters += &format!(";config={}", to_hex(&track.config));
    }
    (
        format!("MPEG4-GENERIC/{clock}/{channels}"),
        Some(parameters),
    )
}

/// What [`read_latm`] reads: no framing, any fullness, nothing beside.
fn write_latm(track: &Track, clock: NonZeroU32) -> (String, Option<String>) {
    let parameters = AudioConfig::parse(&track.config).map(|config| {
        let config = u64::from(u16::from_be_bytes(config.write()));
        let bits = (0x2000 << 16 | config) << 13 | 0x3FC;
        let [_, _, bytes @ ..] = (bits << 4).to_be_bytes();
        format!("cpresent=0;config={}", to_hex(&bytes))
    });
    (format!("MP4A-LATM/{clock}"), parameters)
}
