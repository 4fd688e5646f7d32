//! Stream types and descriptors on one side, codec words on the other.
//!
//! A word that transport streams have no type for (`levada-clock`, `pcmu`) goes as private data with a
//! registration descriptor of ours: `LVDA`, the kind, the word's length, the word, the configuration. Other
//! programs see private data; our demuxer gets the track back. Not the framing of payloads (`elementary.rs`,
//! `mux.rs`). Called by the demuxer and the muxer. Invariant: `read` of what `write` gave is the same track.

use levada_wire::{Track, TrackKind};

use super::mux::Omission;
use super::psi::{Entry, descriptors};
use crate::aac::AudioConfig;
use crate::{nal, opus};

const TYPE_MPEG1_VIDEO: u8 = 0x01;
const TYPE_MPEG2_VIDEO: u8 = 0x02;
const TYPE_MPEG1_AUDIO: u8 = 0x03;
const TYPE_MPEG2_AUDIO: u8 = 0x04;
const TYPE_PRIVATE: u8 = 0x06;
const TYPE_AAC_ADTS: u8 = 0x0F;
const TYPE_AAC_LATM: u8 = 0x11;
const TYPE_H264: u8 = 0x1B;
const TYPE_H265: u8 = 0x24;
const TYPE_AC3: u8 = 0x81;
const TYPE_EAC3: u8 = 0x87;
/// Private sections, DSM-CC in its forms, SCTE 35: not PES.
const TYPES_SECTIONS: [u8; 7] = [0x05, 0x0A, 0x0B, 0x0C, 0x0D, 0x14, 0x86];

const TAG_REGISTRATION: u8 = 0x05;
const TAG_LANGUAGE: u8 = 0x0A;
const TAG_AC3: u8 = 0x6A;
const TAG_EAC3: u8 = 0x7A;
/// Extension descriptor; for Opus its first byte is 80, its second the channels.
const TAG_EXTENSION: u8 = 0x7F;
const EXTENSION_OPUS: u8 = 0x80;

const OURS: &[u8; 4] = b"LVDA";
/// The word of a stream type that has none of its own: `ts-` and the type in hexadecimal.
const OPAQUE_PREFIX: &str = "ts-";

const STREAM_VIDEO: u8 = 0xE0;
const STREAM_AUDIO: u8 = 0xC0;
const STREAM_PRIVATE: u8 = 0xBD;

/// How frames lie in PES payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Nal(nal::Codec),
    Adts,
    MpegAudio,
    Ac3,
    Opus,
    Mpeg2Video,
    /// One PES packet, one frame.
    Whole,
}

/// What an elementary stream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) kind: TrackKind,
    pub(super) codec: String,
    pub(super) config: Vec<u8>,
    pub(super) language: Option<String>,
    pub(super) framing: Framing,
}

impl Meaning {
    /// Its word or configuration shows in its first frame only.
    pub(super) const fn shows_later(&self) -> bool {
        matches!(self.framing, Framing::Adts | Framing::MpegAudio)
    }
}

/// What an entry of a PMT is; `None` if it carries no PES packets.
pub(super) fn read(entry: &Entry) -> Option<Meaning> {
    if TYPES_SECTIONS.contains(&entry.stream_type) {
        return None;
    }
    let tags = || descriptors(&entry.descriptors);
    let registration = tags()
        .find(|(tag, _)| *tag == TAG_REGISTRATION)
        .and_then(|(_, content)| content.split_first_chunk::<4>());
    let has = |wanted| tags().any(|(tag, _)| tag == wanted);
    let audio = |codec, framing| (TrackKind::Audio, codec, framing);
    let known = match (entry.stream_type, registration) {
        (TYPE_MPEG1_VIDEO | TYPE_MPEG2_VIDEO, _) => {
            (TrackKind::Video, "mpeg2video", Framing::Mpeg2Video)
        }
        (TYPE_H264, _) => (TrackKind::Video, "h264", Framing::Nal(nal::Codec::H264)),
        (TYPE_H265, _) => (TrackKind::Video, "h265", Framing::Nal(nal::Codec::H265)),
        (TYPE_MPEG1_AUDIO | TYPE_MPEG2_AUDIO, _) => audio("mp2", Framing::MpegAudio),
        (TYPE_AAC_ADTS, _) => audio("aac", Framing::Adts),
        (TYPE_AAC_LATM, _) => audio("aac-latm", Framing::Whole),
        (TYPE_AC3, _) => audio("ac3", Framing::Ac3),
        (TYPE_EAC3, _) => audio("eac3", Framing::Whole),
        (TYPE_PRIVATE, Some((OURS, rest))) => return read_ours(rest, entry),
        (TYPE_PRIVATE, Some((b"HEVC", _))) => {
            (TrackKind::Video, "h265", Framing::Nal(nal::Codec::H265))
        }
        (TYPE_PRIVATE, Some((b"Opus", _))) => audio("opus", Framing::Opus),
        (TYPE_PRIVATE, Some((b"AC-3", _))) => audio("ac3", Framing::Ac3),
        (TYPE_PRIVATE, Some((b"EAC3", _))) => audio("eac3", Framing::Whole),
        (TYPE_PRIVATE, _) if has(TAG_AC3) => audio("ac3", Framing::Ac3),
        (TYPE_PRIVATE, _) if has(TAG_EAC3) => audio("eac3", Framing::Whole),
        _ => return Some(read_opaque(entry)),
    };
    let (kind, codec, framing) = known;
    let config = if framing == Framing::Opus {
        opus_head(entry)
    } else {
        Vec::new()
    };
    let language = language(entry);
    Some(Meaning {
        kind,
        codec: codec.into(),
        config,
        language,
        framing,
    })
}

fn read_opaque(entry: &Entry) -> Meaning {
    Meaning {
        kind: TrackKind::Data,
        codec: format!("{OPAQUE_PREFIX}{:02x}", entry.stream_type),
        config: entry.descriptors.clone(),
        language: language(entry),
        framing: Framing::Whole,
    }
}

fn read_ours(content: &[u8], entry: &Entry) -> Option<Meaning> {
    let opaque = || Some(read_opaque(entry));
    let Some((&[kind, length], rest)) = content.split_first_chunk() else {
        return opaque();
    };
    let Some((word, config)) = rest.split_at_checked(usize::from(length)) else {
        return opaque();
    };
    let (Ok(codec), 1..=32) = (std::str::from_utf8(word), word.len()) else {
        return opaque();
    };
    let kind = match kind {
        0 => TrackKind::Video,
        1 => TrackKind::Audio,
        _ => TrackKind::Data,
    };
    let (codec, config) = (codec.to_owned(), config.to_vec());
    Some(Meaning {
        kind,
        codec,
        config,
        language: language(entry),
        framing: Framing::Whole,
    })
}

fn language(entry: &Entry) -> Option<String> {
    let (_, content) = descriptors(&entry.descriptors).find(|(tag, _)| *tag == TAG_LANGUAGE)?;
    let code = content
        .first_chunk::<3>()
        .filter(|code| code.iter().all(u8::is_ascii_alphabetic))?;
    Some(code.iter().map(|letter| char::from(*letter)).collect())
}

fn opus_head(entry: &Entry) -> Vec<u8> {
    let channels = descriptors(&entry.descriptors).find_map(|(tag, content)| match content {
        [EXTENSION_OPUS, channels, ..] if tag == TAG_EXTENSION => Some(*channels),
        _ => None,
    });
    match channels {
        Some(1) => opus::head(1),
        // 0 is two channels that belong not together; above 2 the mapping does not fit a short header.
        Some(0 | 2) => opus::head(2),
        _ => Vec::new(),
    }
}

/// How a frame becomes a PES payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrapping {
    Plain,
    /// Behind an access unit delimiter, where it has none.
    Delimited(nal::Codec),
    Adts(AudioConfig),
    Opus,
}

/// How a track is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) stream_type: u8,
    pub(super) stream_id: u8,
    pub(super) descriptors: Vec<u8>,
    pub(super) wrapping: Wrapping,
    /// Only our own demuxer knows what it is.
    pub(super) private: bool,
}

/// How a track is written, or why it cannot be.
pub(super) fn write(track: &Track) -> Result<Form, Omission> {
    let form = |stream_type, stream_id| Form {
        stream_type,
        stream_id,
        descriptors: language_descriptor(track),
        wrapping: Wrapping::Plain,
        private: false,
    };
    Ok(match track.codec.as_str() {
        "h264" => Form {
            wrapping: Wrapping::Delimited(nal::Codec::H264),
            ..form(TYPE_H264, STREAM_VIDEO)
        },
        "h265" => Form {
            wrapping: Wrapping::Delimited(nal::Codec::H265),
            ..form(TYPE_H265, STREAM_VIDEO)
        },
        "mpeg2video" => form(TYPE_MPEG2_VIDEO, STREAM_VIDEO),
        "mp2" | "mp3" => form(TYPE_MPEG1_AUDIO, STREAM_AUDIO),
        "aac-latm" => form(TYPE_AAC_LATM, STREAM_AUDIO),
        "ac3" => with_registration(form(TYPE_AC3, STREAM_PRIVATE), b"AC-3"),
        "eac3" => with_registration(form(TYPE_EAC3, STREAM_PRIVATE), b"EAC3"),
        "aac" => {
            let config = AudioConfig::parse(&track.config).ok_or(Omission::AudioConfig)?;
            Form {
                wrapping: Wrapping::Adts(config),
                ..form(TYPE_AAC_ADTS, STREAM_AUDIO)
            }
        }
        "opus" => {
            let channels = opus::channels(&track.config).unwrap_or(2);
            let mut form = with_registration(form(TYPE_PRIVATE, STREAM_PRIVATE), b"Opus");
            form.descriptors
                .extend_from_slice(&[TAG_EXTENSION, 2, EXTENSION_OPUS, channels]);
            Form {
                wrapping: Wrapping::Opus,
                ..form
            }
        }
        word => match opaque_type(word) {
            Some(stream_type) => Form {
                descriptors: track.config.clone(),
                ..form(stream_type, STREAM_PRIVATE)
            },
            None => write_ours(track, form(TYPE_PRIVATE, STREAM_PRIVATE))?,
        },
    })
}

fn opaque_type(word: &str) -> Option<u8> {
    let digits = word
        .strip_prefix(OPAQUE_PREFIX)
        .filter(|digits| digits.len() == 2)?;
    u8::from_str_radix(digits, 16).ok()
}

fn with_registration(mut form: Form, identifier: &[u8; 4]) -> Form {
    form.descriptors.extend_from_slice(&[TAG_REGISTRATION, 4]);
    form.descriptors.extend_from_slice(identifier);
    form
}

fn write_ours(track: &Track, mut form: Form) -> Result<Form, Omission> {
    let kind = match track.kind {
        TrackKind::Video => 0,
        TrackKind::Audio => 1,
        _ => 2,
    };
    let word = track.codec.as_bytes();
    let mut content = [&OURS[..], &[kind]].concat();
    content.push(u8::try_from(word.len()).map_err(|_| Omission::Config)?);
    content.extend_from_slice(word);
    content.extend_from_slice(&track.config);
    let length = u8::try_from(content.len()).map_err(|_| Omission::Config)?;
    form.descriptors
        .extend_from_slice(&[TAG_REGISTRATION, length]);
    form.descriptors.extend_from_slice(&content);
    form.private = true;
    Ok(form)
}

fn language_descriptor(track: &Track) -> Vec<u8> {
    match track.language.as_deref().map(str::as_bytes) {
        Some(code @ [_, _, _]) => [&[TAG_LANGUAGE, 4], code, &[0]].concat(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use levada_wire::TrackId;

    use super::super::packet::Pid;
    use super::*;
    use crate::ticks::TS_TIMESCALE;

    fn track(kind: TrackKind, codec: &str, config: &[u8]) -> Track {
        let (codec, config) = (codec.into(), config.to_vec());
        Track {
            id: TrackId(1),
            kind,
            codec,
            timescale: TS_TIMESCALE,
            config,
            language: None,
        }
    }

    fn read_back(track: &Track) -> Meaning {
        let form = write(track).unwrap();
        let pid = Pid::from_low_bits(0x100);
        read(&Entry {
            stream_type: form.stream_type,
            pid,
            descriptors: form.descriptors,
        })
        .unwrap()
    }

    #[test]
    fn every_word_is_read_as_it_was_written() {
        let (video, audio, data) = (TrackKind::Video, TrackKind::Audio, TrackKind::Data);
        let head = opus::head(1);
        let tracks = [
            (video, "h264", &[][..]),
            (video, "h265", &[]),
            (video, "mpeg2video", &[]),
            (video, "av1", &[1, 2, 3]),
            (audio, "mp2", &[]),
            (audio, "ac3", &[]),
            (audio, "eac3", &[]),
            (audio, "aac-latm", &[]),
            (audio, "opus", &head),
            (audio, "pcmu", &[]),
            (data, "levada-clock", &[]),
            (data, "ts-15", &[0x26, 1, 0]),
            (data, "ts-06", &[0x59, 2, 7, 7]),
        ];
        for (kind, word, config) in tracks {
            let meaning = read_back(&track(kind, word, config));

            assert_eq!(
                (meaning.kind, &*meaning.codec, &*meaning.config),
                (kind, word, config)
            );
        }
    }

    #[test]
    fn a_language_is_carried() {
        let german = Track {
            language: Some("deu".into()),
            ..track(TrackKind::Audio, "mp2", &[])
        };

        assert_eq!(read_back(&german).language.as_deref(), Some("deu"));
    }

    #[test]
    fn what_cannot_be_written_says_why() {
        let long = track(TrackKind::Data, "levada-clock", &[0; 300]);

        assert_eq!(write(&long), Err(Omission::Config));
        assert_eq!(
            write(&track(TrackKind::Audio, "aac", &[])),
            Err(Omission::AudioConfig)
        );
    }

    #[test]
    fn sections_are_no_tracks() {
        let entry = |stream_type| Entry {
            stream_type,
            pid: Pid::PAT,
            descriptors: Vec::new(),
        };

        assert_eq!(read(&entry(0x86)), None);
        assert_eq!(read(&entry(0x06)).unwrap().codec, "ts-06");
    }
}
