//! Sample entries: what a track's codec is, and how its samples become frames.
//!
//! Called by the reader. Invariant: a sample that is not in its codec's form gives no frame, and no other harm.

use bytes::{BufMut as _, Bytes, BytesMut};
use levada_wire::TrackKind;
use levada_wire::frame::CONFIG_BYTES_MAX;

use super::boxes::{boxes, child, full};
use crate::av1::{self, obus};
use crate::nal::{self, Inspector, ParameterSets, Picture};
use crate::rtp::{vp8, vp9};

/// Why a track is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OmissionReason {
    /// No word for it.
    #[error("its codec is not supported")]
    Codec,
    /// Encrypted.
    #[error("it is encrypted")]
    Encrypted,
    /// Neither pictures nor sound.
    #[error("it is neither video nor audio")]
    Kind,
    /// Its tables or its codec's configuration cannot be read.
    #[error("its tables cannot be read")]
    Form,
    /// More tracks than a stream may have.
    #[error("a stream has at most {} tracks", levada_wire::frame::TRACKS_MAX)]
    TooMany,
}

/// How samples become frames.
#[derive(Debug)]
pub(super) enum Conversion {
    /// NAL units behind their lengths become Annex B.
    Nal {
        length_bytes: usize,
        sets: ParameterSets,
        inspector: Inspector,
    },
    /// OBUs get their sizes, key frames the sequence header of the configuration.
    Av1 {
        header: Bytes,
    },
    Vp8,
    Vp9,
    /// A sample is a frame.
    Whole,
}

/// What an entry says.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) kind: TrackKind,
    pub(super) word: &'static str,
    pub(super) config: Vec<u8>,
    pub(super) conversion: Conversion,
}

/// Bytes of a video entry before its boxes (8.5.2, 12.1.3), and of an audio entry (12.2.3).
const VIDEO_BYTES: usize = 78;
const AUDIO_BYTES: usize = 28;

/// Reads the first entry of a `stsd`.
pub(super) fn read(stsd: &Bytes, handler: [u8; 4]) -> Result<Entry, OmissionReason> {
    let entries = full(stsd).map(|(_, _, body)| body.slice(4.min(body.len())..));
    let (kind, entry) = entries
        .and_then(|entries| boxes(entries).next())
        .ok_or(OmissionReason::Form)?;
    match &handler {
        b"vide" => read_video(kind, &entry),
        b"soun" => read_audio(kind, &entry),
        _ => Err(OmissionReason::Kind),
    }
}

fn read_video(kind: [u8; 4], entry: &Bytes) -> Result<Entry, OmissionReason> {
    if entry.len() < VIDEO_BYTES {
        return Err(OmissionReason::Form);
    }
    let inner = entry.slice(VIDEO_BYTES..);
    let found = |kind| child(&inner, kind).ok_or(OmissionReason::Form);
    let of = |word, conversion| Entry {
        kind: TrackKind::Video,
        word,
        config: Vec::new(),
        conversion,
    };
    Ok(match &kind {
        b"avc1" | b"avc3" => of(
            "h264",
            read_avcc(&found(b"avcC")?).ok_or(OmissionReason::Form)?,
        ),
        b"hvc1" | b"hev1" => of(
            "h265",
            read_hvcc(&found(b"hvcC")?).ok_or(OmissionReason::Form)?,
        ),
        b"av01" => {
            let config = found(b"av1C")?;
            let header = config.slice(4.min(config.len())..);
            of("av1", Conversion::Av1 { header })
        }
        b"vp08" => of("vp8", Conversion::Vp8),
        b"vp09" => of("vp9", Conversion::Vp9),
        b"jpeg" => of("mjpeg", Conversion::Whole),
        // An object type of 6C is JPEG (14496-1 7.2.6.6.2).
        b"mp4v" if read_esds(&inner).is_some_and(|(object, _)| object == 0x6C) => {
            of("mjpeg", Conversion::Whole)
        }
        b"encv" => return Err(OmissionReason::Encrypted),
        _ => return Err(OmissionReason::Codec),
    })
}

fn read_audio(kind: [u8; 4], entry: &Bytes) -> Result<Entry, OmissionReason> {
    let channels = entry.get(16..18).ok_or(OmissionReason::Form)?[1];
    // QuickTime has more in front of the boxes, as its version says.
    let more = match entry.get(8..10) {
        Some([0, 1]) => 16,
        Some([0, 2]) => 36,
        _ => 0,
    };
    let inner = entry.slice((AUDIO_BYTES + more).min(entry.len())..);
    let of = |word, config| Entry {
        kind: TrackKind::Audio,
        word,
        config,
        conversion: Conversion::Whole,
    };
    Ok(match &kind {
        b"mp4a" => {
            let within = child(&inner, b"wave");
            let esds = read_esds(&inner).or_else(|| read_esds(within.as_ref()?));
            let (object, config) = esds.ok_or(OmissionReason::Form)?;
            match object {
                0x40 | 0x66..=0x68 if config.len() <= CONFIG_BYTES_MAX => {
                    of("aac", config.to_vec())
                }
                0x69 | 0x6B => of("mp3", Vec::new()),
                0xA5 => of("ac3", Vec::new()),
                0xA6 => of("eac3", Vec::new()),
                _ => return Err(OmissionReason::Codec),
            }
        }
        b"Opus" => {
            let config = child(&inner, b"dOps").and_then(|dops| opus_head(&dops));
            of("opus", config.ok_or(OmissionReason::Form)?)
        }
        b".mp3" => of("mp3", Vec::new()),
        b"ac-3" => of("ac3", Vec::new()),
        b"ec-3" => of("eac3", Vec::new()),
        b"ulaw" | b"alaw" => {
            let word = if &kind == b"ulaw" { "pcmu" } else { "pcma" };
            of(
                word,
                if channels > 1 {
                    vec![channels]
                } else {
                    Vec::new()
                },
            )
        }
        b"enca" => return Err(OmissionReason::Encrypted),
        _ => return Err(OmissionReason::Codec),
    })
}

/// Length of lengths, SPS, PPS (14496-15 5.3.3.1).
fn read_avcc(avcc: &Bytes) -> Option<Conversion> {
    let length_bytes = usize::from(avcc.get(4)? & 3) + 1;
    let mut nals = Vec::new();
    let mut rest = avcc.get(5..)?;
    for mask in [0x1F, 0xFF] {
        let (count, behind) = rest.split_first()?;
        rest = behind;
        for _ in 0..count & mask {
            let (nal, behind) = take_set(rest)?;
            nals.push(nal);
            rest = behind;
        }
    }
    Some(nal_conversion(nal::Codec::H264, length_bytes, &nals))
}

/// Length of lengths, arrays of parameter sets (14496-15 8.3.3.1).
fn read_hvcc(hvcc: &Bytes) -> Option<Conversion> {
    let length_bytes = usize::from(hvcc.get(21)? & 3) + 1;
    let (arrays, mut rest) = hvcc.get(22..)?.split_first()?;
    let mut nals = Vec::new();
    for _ in 0..*arrays {
        let (&[_, high, low], behind) = rest.split_first_chunk()?;
        rest = behind;
        for _ in 0..u16::from_be_bytes([high, low]) {
            let (nal, behind) = take_set(rest)?;
            nals.push(nal);
            rest = behind;
        }
    }
    Some(nal_conversion(nal::Codec::H265, length_bytes, &nals))
}

fn take_set(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

fn nal_conversion(codec: nal::Codec, length_bytes: usize, nals: &[&[u8]]) -> Conversion {
    Conversion::Nal {
        length_bytes,
        sets: ParameterSets::from_nals(codec, nals.iter().copied()),
        inspector: Inspector::new(codec),
    }
}

/// Object type and decoder configuration of an `esds` (14496-1 7.2.6.5, 7.2.6.6).
fn read_esds(parent: &Bytes) -> Option<(u8, Bytes)> {
    let (_, _, body) = full(&child(parent, b"esds")?)?;
    let stream = take_descriptor(body, 3)?;
    let flags = *stream.get(2)?;
    let mut at = 3 + if flags & 0x80 != 0 { 2 } else { 0 };
    if flags & 0x40 != 0 {
        at += 1 + usize::from(*stream.get(at)?);
    }
    at += if flags & 0x20 != 0 { 2 } else { 0 };
    let decoder = take_descriptor(stream.slice(at.min(stream.len())..), 4)?;
    let object = *decoder.first()?;
    let specific = take_descriptor(decoder.slice(13.min(decoder.len())..), 5);
    Some((object, specific.unwrap_or_default()))
}

/// The content of the descriptor of that tag at the front.
fn take_descriptor(bytes: Bytes, tag: u8) -> Option<Bytes> {
    if *bytes.first()? != tag {
        return None;
    }
    let (mut length, mut at) = (0_usize, 1);
    loop {
        let byte = *bytes.get(at).filter(|_| at < 5)?;
        length = length << 7 | usize::from(byte & 0x7F);
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    (at + length <= bytes.len()).then(|| bytes.slice(at..at + length))
}

/// OpusHead from `dOps`, whose numbers are the other way around (Opus in ISOBMFF 4.3.2).
fn opus_head(dops: &[u8]) -> Option<Vec<u8>> {
    let &[version, channels, s0, s1, r0, r1, r2, r3, g0, g1, family] = dops.first_chunk()?;
    if version != 0 {
        return None;
    }
    let mut head = b"OpusHead\x01".to_vec();
    head.extend([channels, s1, s0, r3, r2, r1, r0, g1, g0, family]);
    if family > 0 {
        head.extend(dops.get(11..13 + usize::from(channels))?);
    }
    Some(head)
}

impl Conversion {
    /// The frame in a sample, and what it is good for; `None` if it is in no form.
    pub(super) fn convert(&mut self, sample: Vec<u8>) -> Option<(Bytes, Picture)> {
        let sound = Picture {
            sync: true,
            discardable: false,
        };
        match self {
            Self::Nal {
                length_bytes,
                sets,
                inspector,
                ..
            } => {
                let mut unit = to_annex_b(&sample, *length_bytes)?;
                sets.learn(&unit);
                let picture = inspector.inspect(&unit);
                if picture.sync {
                    sets.complete(&mut unit);
                }
                Some((unit.freeze(), picture))
            }
            Self::Av1 { header } => {
                let obus: Vec<_> = obus(&sample).collect::<Result<_, _>>().ok()?;
                let mut unit = Vec::with_capacity(sample.len() + header.len());
                let has_own = obus.iter().any(|obu| obu.kind() == av1::SEQUENCE_HEADER);
                // Whether it is a key frame shows with a header in front.
                if !has_own && av1::inspect(&[header, &sample[..]].concat()).sync {
                    unit.extend_from_slice(header);
                }
                let carried = obus.iter().filter(|obu| obu.is_carried());
                carried.for_each(|obu| obu.write(&mut unit));
                let picture = av1::inspect(&unit);
                (!unit.is_empty()).then(|| (unit.into(), picture))
            }
            Self::Vp8 => {
                let picture = vp8::inspect(&sample);
                Some((sample.into(), picture))
            }
            Self::Vp9 => {
                let picture = vp9::inspect(&sample);
                Some((sample.into(), picture))
            }
            Self::Whole => Some((sample.into(), sound)),
        }
        .filter(|(data, _)| !data.is_empty())
    }
}

/// NAL units behind their lengths as Annex B.
fn to_annex_b(mut sample: &[u8], length_bytes: usize) -> Option<BytesMut> {
    let mut unit = BytesMut::with_capacity(sample.len() + 16);
    while !sample.is_empty() {
        let (length, rest) = sample.split_at_checked(length_bytes)?;
        let length = length
            .iter()
            .fold(0, |length, byte| length << 8 | usize::from(*byte));
        let (nal, rest) = rest.split_at_checked(length)?;
        if !nal.is_empty() {
            unit.put_slice(&[0, 0, 0, 1]);
            unit.put_slice(nal);
        }
        sample = rest;
    }
    Some(unit)
}
