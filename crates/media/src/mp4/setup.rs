//! What a player must be told of a track before its first fragment: the sample entry and the word for the codec.
//!
//! AVC and HEVC (ISO 14496-15 5.3.3, 8.3.3), AV1 (AV1 in ISOBMFF 2.3), VP9 (VP in ISOBMFF), AAC and MP3 (14496-1 and
//! -14), Opus (Opus in ISOBMFF 4.3). For pictures it follows from the first frame where decoding can start. Called by
//! the writer. Invariant: same frame, same bytes.

use bytes::BufMut as _;
use levada_wire::Track;

use super::boxes::put;
use super::writer::Omission;
use crate::aac::AudioConfig;
use crate::av1::{self, Sequence, obus};
use crate::bits::Bits;
use crate::nal::{Codec, ParameterSets, unescape, units};
use crate::rtp::vp9;

/// How a track is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Setup {
    /// Parameter sets; without SPS it is not known yet.
    Nal(Codec, ParameterSets),
    /// The sequence header.
    Av1(Option<Vec<u8>>),
    /// Profile, bits of a sample, chroma, width, height.
    Vp9(Option<Vp9>),
    /// AudioSpecificConfig and channels.
    Aac(Vec<u8>, u16),
    Mp3,
    /// OpusHead.
    Opus(Vec<u8>),
}

/// What a key frame of VP9 says (VP9 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vp9 {
    profile: u8,
    depth: u8,
    /// As `vpcC` says it: 1 for 4:2:0, 2 for 4:2:2, 3 for 4:4:4.
    chroma: u8,
    width: u16,
    height: u16,
}

impl Vp9 {
    fn parse(frame: &[u8]) -> Option<Self> {
        const SRGB: u32 = 7;
        let mut bits = Bits::new(frame);
        bits.skip(2)?;
        let (low, high) = (bits.take(1)?, bits.take(1)?);
        let profile = (high << 1 | low) as u8;
        bits.skip(usize::from(profile == 3))?;
        // No existing frame, a key frame, shown and resilient or not, the sync code.
        bits.skip(4)?;
        if bits.take(24)? != 0x49_83_42 {
            return None;
        }
        let depth = if profile < 2 {
            8
        } else if bits.flag()? {
            12
        } else {
            10
        };
        let is_srgb = bits.take(3)? == SRGB;
        let mut chroma = if is_srgb { 3 } else { 1 };
        bits.skip(usize::from(!is_srgb))?;
        if profile & 1 == 1 {
            if !is_srgb {
                chroma = if bits.flag()? { 2 } else { 3 };
                bits.skip(1)?;
            }
            bits.skip(1)?;
        }
        let size = [bits.take(16)?, bits.take(16)?];
        Some(Self {
            profile,
            depth,
            chroma,
            width: u16::try_from(size[0] + 1).ok()?,
            height: u16::try_from(size[1] + 1).ok()?,
        })
    }
}

impl Setup {
    pub(super) fn new(track: &Track) -> Result<Self, Omission> {
        Ok(match track.codec.as_str() {
            "h264" => Self::Nal(Codec::H264, ParameterSets::new(Codec::H264)),
            "h265" => Self::Nal(Codec::H265, ParameterSets::new(Codec::H265)),
            "av1" => Self::Av1(None),
            "vp9" => Self::Vp9(None),
            "aac" => {
                let config = AudioConfig::parse(&track.config).ok_or(Omission::Config)?;
                Self::Aac(track.config.clone(), config.channels().into())
            }
            "mp3" | "mp2" => Self::Mp3,
            "opus" if track.config.len() >= 19 => Self::Opus(track.config.clone()),
            "opus" => return Err(Omission::Config),
            _ => return Err(Omission::Codec),
        })
    }

    /// Takes over what a frame says where decoding can start.
    pub(super) fn learn(&mut self, frame: &[u8]) {
        match self {
            Self::Nal(_, sets) => sets.learn(frame),
            Self::Av1(header) => {
                let found = obus(frame).map_while(Result::ok);
                let mut found = found.filter(|obu| obu.kind() == av1::SEQUENCE_HEADER);
                if let Some(obu) = found
                    .next()
                    .filter(|obu| Sequence::parse(obu.payload).is_some())
                {
                    *header = Some(obu.payload.to_vec());
                }
            }
            Self::Vp9(known) if vp9::inspect(frame).sync => *known = Vp9::parse(frame).or(*known),
            _ => {}
        }
    }

    /// Writes the sample entry; `None` while it is not known.
    pub(super) fn put_entry(&self, track: &Track, out: &mut Vec<u8>) -> Option<()> {
        let rate = track.timescale.get();
        match self {
            Self::Nal(codec, sets) => {
                let sps = sets.parse_sps()?;
                let config = match codec {
                    Codec::H264 => avcc(sets)?,
                    Codec::H265 => hvcc(sets)?,
                };
                let (entry, kind) = match codec {
                    Codec::H264 => (b"avc1", b"avcC"),
                    Codec::H265 => (b"hvc1", b"hvcC"),
                };
                put_video(out, entry, [sps.width, sps.height], (kind, &config));
            }
            Self::Av1(header) => {
                let header = header.as_ref()?;
                let sequence = Sequence::parse(header)?;
                let size = [sequence.width, sequence.height];
                put_video(out, b"av01", size, (b"av1C", &av1c(&sequence, header)));
            }
            Self::Vp9(known) => {
                let known = (*known)?;
                let depth = known.depth << 4 | known.chroma << 1;
                // A full box; level 1 to be safe with players that read it; BT.709 all along.
                let config = [1, 0, 0, 0, known.profile, 10, depth, 1, 1, 1, 0, 0];
                let size = [known.width.into(), known.height.into()];
                put_video(out, b"vp09", size, (b"vpcC", &config));
            }
            Self::Aac(config, channels) => {
                put_audio(out, b"mp4a", *channels, rate, |out| {
                    put_esds(out, 0x40, config)
                });
            }
            Self::Mp3 => put_audio(out, b"mp4a", 2, rate, |out| put_esds(out, 0x6B, &[])),
            Self::Opus(head) => {
                let channels = u16::from(*head.get(9)?);
                put_audio(out, b"Opus", channels, 48_000, |out| {
                    put(out, b"dOps", |out| {
                        let &[channels, s0, s1, r0, r1, r2, r3, g0, g1, family] =
                            head[9..].first_chunk().expect("a head has 19 bytes");
                        out.extend([0, channels, s1, s0, r3, r2, r1, r0, g1, g0, family]);
                        out.extend(&head[19..]);
                    })
                });
            }
        }
        Some(())
    }

    /// The codec in the words of RFC 6381, for a MIME type; `None` while it is not known.
    pub(super) fn word(&self) -> Option<String> {
        Some(match self {
            Self::Nal(Codec::H264, sets) => {
                let &[_, profile, constraints, level, ..] = sets.sps()? else {
                    return None;
                };
                format!("avc1.{profile:02X}{constraints:02X}{level:02X}")
            }
            Self::Nal(Codec::H265, sets) => hevc_word(&profile_tier_level(sets)?),
            Self::Av1(header) => {
                let sequence = Sequence::parse(header.as_ref()?)?;
                let tier = if sequence.tier == 0 { 'M' } else { 'H' };
                let depth = if sequence.twelve_bits {
                    12
                } else if sequence.high_depth {
                    10
                } else {
                    8
                };
                format!(
                    "av01.{}.{:02}{tier}.{depth:02}",
                    sequence.profile, sequence.level
                )
            }
            Self::Vp9(known) => {
                let known = (*known)?;
                format!("vp09.{:02}.10.{:02}", known.profile, known.depth)
            }
            Self::Aac(config, _) => format!("mp4a.40.{}", config.first()? >> 3),
            Self::Mp3 => "mp4a.6B".into(),
            Self::Opus(_) => "opus".into(),
        })
    }
}

fn avcc(sets: &ParameterSets) -> Option<Vec<u8>> {
    let &[_, profile, constraints, level, ..] = sets.sps()? else {
        return None;
    };
    let mut out = vec![1, profile, constraints, level, 0xFF];
    for (kind, mark) in [(7, 0xE0), (8, 0)] {
        let count = sets.of_kind(kind).count().min(31);
        out.push(mark | u8::try_from(count).ok()?);
        sets.of_kind(kind)
            .take(count)
            .try_for_each(|nal| put_set(&mut out, nal))?;
    }
    if !matches!(profile, 66 | 77 | 88) {
        let sps = sets.parse_sps()?;
        let [luminance, chrominance] = sps.depth;
        out.extend([
            0xFC | sps.chroma & 3,
            0xF8 | luminance,
            0xF8 | chrominance,
            0,
        ]);
    }
    Some(out)
}

fn put_set(out: &mut Vec<u8>, nal: &[u8]) -> Option<()> {
    out.put_u16(u16::try_from(nal.len()).ok()?);
    out.put_slice(nal);
    Some(())
}

/// The twelve bytes of profile, tier and level in an SPS (H.265 7.3.3), and the byte of layers before them.
fn profile_tier_level(sets: &ParameterSets) -> Option<[u8; 13]> {
    let bytes = unescape(sets.sps()?);
    bytes.get(2..)?.first_chunk().copied()
}

fn hvcc(sets: &ParameterSets) -> Option<Vec<u8>> {
    let [layers, profile @ ..] = profile_tier_level(sets)?;
    let sps = sets.parse_sps()?;
    let [luminance, chrominance] = sps.depth;
    let mut out = vec![1];
    out.extend(profile);
    // No segmentation, no kind of parallelism, chroma, depths, no frame rate.
    out.extend([
        0xF0,
        0,
        0xFC,
        0xFC | sps.chroma & 3,
        0xF8 | luminance,
        0xF8 | chrominance,
        0,
        0,
    ]);
    let (count, is_nested) = ((layers >> 1 & 7) + 1, layers & 1);
    out.push(count << 3 | is_nested << 2 | 3);
    let kinds: Vec<u8> = (32..=34)
        .filter(|kind| sets.of_kind(*kind).next().is_some())
        .collect();
    out.push(u8::try_from(kinds.len()).ok()?);
    for kind in kinds {
        out.push(0x80 | kind);
        out.put_u16(u16::try_from(sets.of_kind(kind).count()).ok()?);
        sets.of_kind(kind)
            .try_for_each(|nal| put_set(&mut out, nal))?;
    }
    Some(out)
}

/// ISO 14496-15 E.3: profile, compatibility with its bits turned around, tier and level, constraints.
fn hevc_word(profile_tier_level: &[u8; 13]) -> String {
    let [_, profile, c0, c1, c2, c3, constraints @ .., level] = *profile_tier_level;
    let space = ["", "A", "B", "C"][usize::from(profile >> 6)];
    let tier = if profile & 0x20 == 0 { 'L' } else { 'H' };
    let compatible = u32::from_be_bytes([c0, c1, c2, c3]).reverse_bits();
    let mut word = format!(
        "hvc1.{space}{}.{compatible:X}.{tier}{level}",
        profile & 0x1F
    );
    let end = constraints
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    for byte in &constraints[..end] {
        word += &format!(".{byte:X}");
    }
    word
}

fn av1c(sequence: &Sequence, header: &[u8]) -> Vec<u8> {
    let bit = |is_set: bool, shift: u8| u8::from(is_set) << shift;
    let [across, down] = sequence.halved;
    let mut out = vec![
        0x81,
        sequence.profile << 5 | sequence.level,
        sequence.tier << 7
            | bit(sequence.high_depth, 6)
            | bit(sequence.twelve_bits, 5)
            | bit(sequence.mono, 4)
            | bit(across, 3)
            | bit(down, 2)
            | sequence.chroma_position,
        0,
        av1::SEQUENCE_HEADER << 3 | 2,
    ];
    av1::put_leb128(header.len(), &mut out);
    out.extend(header);
    out
}

/// A video entry with its configuration (ISO 14496-12 12.1.3).
fn put_video(out: &mut Vec<u8>, kind: &[u8; 4], size: [u32; 2], config: (&[u8; 4], &[u8])) {
    put(out, kind, |out| {
        out.extend([0, 0, 0, 0, 0, 0, 0, 1]);
        out.extend([0; 16]);
        for side in size {
            out.put_u16(u16::try_from(side).unwrap_or(u16::MAX));
        }
        // 72 dots an inch, one frame a sample, no name, 24 bits, no colours.
        out.extend([0, 0x48, 0, 0, 0, 0x48, 0, 0, 0, 0, 0, 0, 0, 1]);
        out.extend([0; 32]);
        out.extend([0, 0x18, 0xFF, 0xFF]);
        put(out, config.0, |out| out.extend(config.1));
    });
}

/// An audio entry with its configuration (12.2.3).
fn put_audio(
    out: &mut Vec<u8>,
    kind: &[u8; 4],
    channels: u16,
    rate: u32,
    config: impl FnOnce(&mut Vec<u8>),
) {
    put(out, kind, |out| {
        out.extend([0, 0, 0, 0, 0, 0, 0, 1]);
        out.extend([0; 8]);
        out.put_u16(channels.max(1));
        out.extend([0, 16, 0, 0, 0, 0]);
        // 16 bits before the point; a higher rate is in the configuration.
        out.put_u32(u32::from(u16::try_from(rate).unwrap_or(0)) << 16);
        config(out);
    });
}

/// An `esds` for audio (14496-1 7.2.6.5, 7.2.6.6).
fn put_esds(out: &mut Vec<u8>, object: u8, config: &[u8]) {
    let small = |bytes: usize| u8::try_from(bytes).expect("a configuration of AAC is small");
    let specific = if config.is_empty() {
        0
    } else {
        2 + config.len()
    };
    let decoder = 13 + specific;
    put(out, b"esds", |out| {
        out.extend([0, 0, 0, 0, 3, small(3 + 2 + decoder + 3), 0, 0, 0]);
        // Audio, no buffer size and rates.
        out.extend([
            4,
            small(decoder),
            object,
            0x15,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ]);
        if !config.is_empty() {
            out.extend([5, small(config.len())]);
            out.extend(config);
        }
        out.extend([6, 1, 2]);
    });
}

/// The NAL units of an access unit behind lengths of four bytes, without delimiters and sets that the entry has.
pub(super) fn put_nals(codec: Codec, sets: &ParameterSets, access_unit: &[u8], out: &mut Vec<u8>) {
    for nal in units(access_unit).map(crate::nal::trim) {
        let is_told =
            codec.kind(nal) == Some(codec.delimiter_kind()) || sets.iter().any(|set| set == nal);
        if !nal.is_empty() && !is_told {
            out.put_u32(u32::try_from(nal.len()).expect("a frame has less than 4 GiB"));
            out.put_slice(nal);
        }
    }
}
