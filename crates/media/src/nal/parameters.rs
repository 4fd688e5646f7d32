//! Parameter sets: what H.264 and H.265 decoders need before the first picture.
//!
//! In this project they stand in the access units (the table in the crate's documentation), in other formats beside
//! them: `sprop-parameter-sets` of an SDP, `avcC` and `hvcC` of an MP4 file. [`ParameterSets`] keeps the newest, puts
//! them in front of a picture that lacks them, and reads the little of an SPS that formats ask for: size,
//! profile, and how far pictures are reordered (H.264 7.3.2.1.1, E.1; H.265 7.3.2.2, 7.3.3). Called by readers and
//! writers of RTP, SDP and MP4. Invariant: what is kept has at most [`SETS_MAX`] sets and [`SETS_BYTES_MAX`] bytes.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{Codec, start_code, unescape, units};
use crate::bits::Bits;

/// Parameter sets kept. Streams have one of each kind, or a few PPS.
pub const SETS_MAX: usize = 32;
/// Their bytes.
pub const SETS_BYTES_MAX: usize = 4_096;

const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// The parameter sets of a stream, in the order they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSets {
    codec: Codec,
    sets: Vec<Vec<u8>>,
}

/// What an SPS says, as far as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sps {
    /// Of the picture that is shown, in pixels.
    pub width: u32,
    /// Of the picture that is shown, in pixels.
    pub height: u32,
    /// By how many pictures the order of decoding can differ from that of showing; `None` if it is not said.
    pub reorder: Option<u8>,
    /// 0 for grey, 1 for 4:2:0, 2 for 4:2:2, 3 for 4:4:4.
    pub chroma: u8,
    /// Bits of a sample of luminance and of chrominance, less 8.
    pub depth: [u8; 2],
}

impl ParameterSets {
    /// None yet.
    #[must_use]
    pub const fn new(codec: Codec) -> Self {
        Self {
            codec,
            sets: Vec::new(),
        }
    }

    /// Those of these NAL units, without start codes; others are passed over.
    pub fn from_nals<'a>(codec: Codec, nals: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut sets = Self::new(codec);
        for nal in nals {
            sets.add(nal);
        }
        sets
    }

    /// Takes over those of an access unit in Annex B. An SPS there replaces all that were before.
    pub fn learn(&mut self, access_unit: &[u8]) {
        let own = units(access_unit).filter(|nal| self.codec.set_kind(nal).is_some());
        let own: Vec<&[u8]> = own.collect();
        if own.iter().any(|nal| self.codec.is_sps(nal)) {
            self.sets.clear();
        }
        for nal in own {
            self.add(nal);
        }
    }

    fn add(&mut self, nal: &[u8]) {
        let nal = trim(nal);
        let bytes: usize = self.sets.iter().map(Vec::len).sum();
        let has_room = self.sets.len() < SETS_MAX && bytes + nal.len() <= SETS_BYTES_MAX;
        let is_new = !self.sets.iter().any(|set| set == nal);
        if self.codec.set_kind(nal).is_some() && is_new && has_room {
            self.sets.push(nal.to_vec());
        }
    }

    /// All of them, without start codes.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.sets.iter().map(Vec::as_slice)
    }

    /// Those of one kind, `nal_unit_type`: 7 and 8 for SPS and PPS of H.264, 32 to 34 for VPS, SPS, PPS of H.265.
    pub fn of_kind(&self, kind: u8) -> impl Iterator<Item = &[u8]> {
        self.iter()
            .filter(move |nal| self.codec.kind(nal) == Some(kind))
    }

    /// The first SPS.
    #[must_use]
    pub fn sps(&self) -> Option<&[u8]> {
        self.iter().find(|nal| self.codec.is_sps(nal))
    }

    /// Whether there are any.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// All of them in Annex B.
    #[must_use]
    pub fn to_annex_b(&self) -> Bytes {
        let pieces = self.iter().map(|nal| [&START_CODE, nal].concat());
        pieces.collect::<Vec<_>>().concat().into()
    }

    /// What the SPS says; `None` without one that can be read.
    #[must_use]
    pub fn parse_sps(&self) -> Option<Sps> {
        let sps = self.sps()?;
        let bytes = unescape(sps);
        match self.codec {
            Codec::H264 => parse_h264(&bytes),
            Codec::H265 => parse_h265(&bytes),
        }
    }

    /// Puts the sets in front of an access unit in Annex B that has no SPS of its own.
    pub fn complete(&self, access_unit: &mut BytesMut) {
        let has_own = units(access_unit).any(|nal| self.codec.is_sps(nal));
        if has_own || self.sps().is_none() {
            return;
        }
        let at = self.behind_delimiter(access_unit);
        let rest = access_unit.split_off(at);
        for nal in self.iter() {
            access_unit.put_slice(&START_CODE);
            access_unit.put_slice(nal);
        }
        access_unit.unsplit(rest);
    }

    /// Where the NAL unit behind a delimiter begins, start code included; 0 without delimiter.
    fn behind_delimiter(&self, access_unit: &[u8]) -> usize {
        let Some(first) = start_code(access_unit, 0) else {
            return 0;
        };
        let is_delimiter =
            self.codec.kind(&access_unit[first + 3..]) == Some(self.codec.delimiter_kind());
        if !is_delimiter {
            return 0;
        }
        let next = start_code(access_unit, first + 3).unwrap_or(access_unit.len());
        // A zero before the start code belongs to it.
        next - usize::from(access_unit[next - 1] == 0)
    }
}

/// A NAL unit without the zeros that may follow it in Annex B.
pub(crate) fn trim(nal: &[u8]) -> &[u8] {
    let end = nal.iter().rposition(|byte| *byte != 0);
    &nal[..end.map_or(0, |last| last + 1)]
}

impl Codec {
    /// The kind of a parameter set; `None` for any other NAL unit.
    pub(crate) fn set_kind(self, nal: &[u8]) -> Option<u8> {
        self.kind(nal).filter(|kind| match self {
            Self::H264 => matches!(kind, 7 | 8 | 13),
            Self::H265 => matches!(kind, 32..=34),
        })
    }

    fn is_sps(self, nal: &[u8]) -> bool {
        self.kind(nal)
            == Some(match self {
                Self::H264 => 7,
                Self::H265 => 33,
            })
    }
}

fn parse_h264(sps: &[u8]) -> Option<Sps> {
    let mut bits = Bits::new(sps.get(1..)?);
    let profile = bits.take(8)?;
    bits.skip(16)?;
    bits.ue()?;
    let (mut chroma, mut depth) = (1, [0; 2]);
    if matches!(
        profile,
        100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135
    ) {
        chroma = bits.ue()?;
        if chroma == 3 {
            bits.skip(1)?;
        }
        depth = [small(bits.ue()?)?, small(bits.ue()?)?];
        bits.skip(1)?;
        if bits.flag()? {
            skip_scaling(&mut bits, if chroma == 3 { 12 } else { 8 })?;
        }
    }
    bits.ue()?;
    match bits.ue()? {
        0 => drop(bits.ue()?),
        1 => {
            bits.skip(1)?;
            bits.se()?;
            bits.se()?;
            for _ in 0..bits.ue()?.min(255) {
                bits.se()?;
            }
        }
        _ => {}
    }
    bits.ue()?;
    bits.skip(1)?;
    let width = bits.ue()?.checked_add(1)?.checked_mul(16)?;
    let map_height = bits.ue()?.checked_add(1)?.checked_mul(16)?;
    let frame_only = u32::from(bits.flag()?);
    if frame_only == 0 {
        bits.skip(1)?;
    }
    bits.skip(1)?;
    let height = map_height.checked_mul(2 - frame_only)?;
    let (unit_x, unit_y) = match chroma {
        0 | 3 => (1, 2 - frame_only),
        2 => (2, 2 - frame_only),
        _ => (2, 2 * (2 - frame_only)),
    };
    let crop = cropping(&mut bits)?;
    let shown = |size: u32, unit: u32, [a, b]: [u32; 2]| {
        size.checked_sub(a.checked_add(b)?.checked_mul(unit)?)
    };
    Some(Sps {
        width: shown(width, unit_x, [crop[0], crop[1]])?,
        height: shown(height, unit_y, [crop[2], crop[3]])?,
        reorder: h264_reorder(&mut bits).flatten(),
        chroma: small(chroma)?,
        depth,
    })
}

/// A number of a few bits.
fn small(value: u32) -> Option<u8> {
    u8::try_from(value).ok().filter(|value| *value < 8)
}

/// Left, right, top, bottom in units of the chroma format.
fn cropping(bits: &mut Bits<'_>) -> Option<[u32; 4]> {
    if !bits.flag()? {
        return Some([0; 4]);
    }
    Some([bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?])
}

fn skip_scaling(bits: &mut Bits<'_>, lists: u8) -> Option<()> {
    for list in 0..lists {
        if !bits.flag()? {
            continue;
        }
        let (mut last, mut next) = (8_i32, 8_i32);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                next = last.checked_add(bits.se()?)?.rem_euclid(256);
            }
            last = if next == 0 { last } else { next };
        }
    }
    Some(())
}

/// `max_num_reorder_frames` of the VUI (E.1.1), if it is there.
fn h264_reorder(bits: &mut Bits<'_>) -> Option<Option<u8>> {
    if !bits.flag()? {
        return Some(None);
    }
    if bits.flag()? && bits.take(8)? == 255 {
        bits.skip(32)?;
    }
    if bits.flag()? {
        bits.skip(1)?;
    }
    if bits.flag()? {
        bits.skip(4)?;
        if bits.flag()? {
            bits.skip(24)?;
        }
    }
    if bits.flag()? {
        bits.ue()?;
        bits.ue()?;
    }
    if bits.flag()? {
        bits.skip(65)?;
    }
    let hrds = [hypothetical_decoder(bits)?, hypothetical_decoder(bits)?];
    if hrds.contains(&true) {
        bits.skip(1)?;
    }
    bits.skip(1)?;
    if !bits.flag()? {
        return Some(None);
    }
    bits.skip(1)?;
    for _ in 0..4 {
        bits.ue()?;
    }
    Some(u8::try_from(bits.ue()?).ok())
}

/// Passes over HRD parameters (E.1.2); says whether there were any.
fn hypothetical_decoder(bits: &mut Bits<'_>) -> Option<bool> {
    if !bits.flag()? {
        return Some(false);
    }
    let count = bits.ue()?.min(31);
    bits.skip(8)?;
    for _ in 0..=count {
        bits.ue()?;
        bits.ue()?;
        bits.skip(1)?;
    }
    bits.skip(20)?;
    Some(true)
}

fn parse_h265(sps: &[u8]) -> Option<Sps> {
    let mut bits = Bits::new(sps.get(2..)?);
    bits.skip(4)?;
    let layers = bits.take(3)?;
    bits.skip(1)?;
    skip_profile_tier_level(&mut bits, layers)?;
    bits.ue()?;
    let chroma = bits.ue()?;
    if chroma == 3 {
        bits.skip(1)?;
    }
    let (width, height) = (bits.ue()?, bits.ue()?);
    let crop = cropping(&mut bits)?;
    let (unit_x, unit_y) = match chroma {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let depth = [small(bits.ue()?)?, small(bits.ue()?)?];
    bits.ue()?;
    let is_for_all = bits.flag()?;
    let mut reorder = None;
    for _ in if is_for_all { 0 } else { layers }..=layers {
        bits.ue()?;
        reorder = u8::try_from(bits.ue()?).ok();
        bits.ue()?;
    }
    let shown = |size: u32, unit: u32, [a, b]: [u32; 2]| {
        size.checked_sub(a.checked_add(b)?.checked_mul(unit)?)
    };
    Some(Sps {
        width: shown(width, unit_x, [crop[0], crop[1]])?,
        height: shown(height, unit_y, [crop[2], crop[3]])?,
        reorder,
        chroma: small(chroma)?,
        depth,
    })
}

/// H.265 7.3.3 with `profilePresentFlag`.
fn skip_profile_tier_level(bits: &mut Bits<'_>, layers: u32) -> Option<()> {
    bits.skip(96)?;
    let mut present = Vec::new();
    for _ in 0..layers {
        present.push((bits.flag()?, bits.flag()?));
    }
    if layers > 0 {
        bits.skip(2 * (8 - usize::try_from(layers).ok()?))?;
    }
    for (profile, level) in present {
        bits.skip(if profile { 88 } else { 0 } + if level { 8 } else { 0 })?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use proptest::prelude::*;

    use super::*;

    /// x264, 160x120, high profile with B pictures.
    const H264: &[u8] = &[
        0x67, 0x64, 0x00, 0x0B, 0xAC, 0xD9, 0x42, 0x84, 0x7E, 0x5C, 0x04, 0x40, 0x00, 0x00, 0x03,
        0x00, 0x40, 0x00, 0x00, 0x0C, 0x83, 0xC5, 0x0A, 0x65, 0x80,
    ];
    /// x265, 160x120, with B pictures.
    const H265: &[u8] = &[
        0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00,
        0x03, 0x00, 0x1E, 0xA0, 0x14, 0x20, 0x79, 0x65, 0x95, 0x92, 0x49, 0x32, 0xBC, 0x05, 0xA0,
        0x20, 0x00, 0x00, 0x03, 0x00, 0x20, 0x00, 0x00, 0x03, 0x03, 0x21,
    ];

    fn parse(codec: Codec, nal: &[u8]) -> Option<Sps> {
        ParameterSets::from_nals(codec, [nal]).parse_sps()
    }

    #[test]
    fn the_sps_of_encoders_is_read() {
        let expected = |reorder| {
            Some(Sps {
                width: 160,
                height: 120,
                reorder: Some(reorder),
                chroma: 1,
                depth: [0; 2],
            })
        };

        assert_eq!(parse(Codec::H264, H264), expected(2));
        assert_eq!(parse(Codec::H265, H265), expected(2));
        assert_eq!(parse(Codec::H264, &H264[..6]), None);
    }

    #[test]
    fn sets_go_in_front_of_a_picture_that_has_none() {
        let mut sets = ParameterSets::new(Codec::H264);
        sets.learn(&[0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 2, 0, 0, 0, 1, 0x06, 5]);
        let complete = |unit: &[u8]| {
            let mut unit = BytesMut::from(unit);
            sets.complete(&mut unit);
            unit.to_vec()
        };

        let both = [0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 2];
        let (delimiter, picture) = ([0, 0, 0, 1, 9, 0xF0], [0, 0, 0, 1, 0x65, 7]);
        assert_eq!(complete(&picture), [&both[..], &picture].concat());
        assert_eq!(
            complete(&[delimiter, picture].concat()),
            [&delimiter[..], &both, &picture].concat()
        );
        let own = [&[0, 0, 1, 0x67, 3][..], &picture].concat();
        assert_eq!(complete(&own), own);

        sets.learn(&own);
        assert_eq!(sets.iter().collect::<Vec<_>>(), [&[0x67, 3][..]]);
    }

    #[test]
    fn no_more_is_kept_than_the_limits_allow() {
        let mut many = ParameterSets::new(Codec::H264);
        let mut large = ParameterSets::new(Codec::H264);
        for n in 1..=u8::MAX {
            many.learn(&[0, 0, 1, 0x68, n]);
            large.learn(&[&[0, 0, 1, 0x68][..], &[n; 300]].concat());
        }

        assert_eq!(many.iter().count(), SETS_MAX);
        let bytes = large.iter().map(<[u8]>::len).sum::<usize>();
        assert!(bytes <= SETS_BYTES_MAX && bytes + 301 > SETS_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            for (codec, head) in [(Codec::H264, &[0x67, 100][..]), (Codec::H265, &[0x42, 1])] {
                let nal = [head, &bytes].concat();
                let _ = parse(codec, &nal);
                let mut sets = ParameterSets::new(codec);
                sets.learn(&[&[0, 0, 1], &nal[..]].concat());
                let mut unit = BytesMut::from(&[&[0, 0, 1, 9][..], &bytes].concat()[..]);
                sets.complete(&mut unit);
            }
        }
    }
}
