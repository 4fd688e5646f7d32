//! H.264 and H.265 byte streams (Annex B): NAL units, and what an access unit is good for.
//!
//! A NAL unit starts with 00 00 01. Its header says what it is: a slice of a picture, parameters, a delimiter.
//! One access unit is one picture with all that belongs to it. Not a decoder: only the few header bits are read
//! that say where a picture begins, whether decoding can start with it and whether others need it
//! (H.264 7.3.1, 7.4.1.2; H.265 7.3.1, 7.4.2.4). Called by [`crate::ts`] and by gateways that cut or check
//! access units; `splitter` cuts a stream into them. Invariant: no access unit is changed by a byte.

pub mod parameters;
pub(crate) mod splitter;

pub use parameters::ParameterSets;
pub(crate) use parameters::trim;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// ITU-T H.264, AVC.
    H264,
    /// ITU-T H.265, HEVC.
    H265,
}

/// What an access unit is good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// Decoding can start here.
    pub sync: bool,
    /// No other access unit refers to it.
    pub discardable: bool,
}

/// Bytes of an SEI NAL unit that are read; recovery points come early.
const SEI_BYTES_MAX: usize = 256;
const SEI_RECOVERY_POINT: usize = 6;

/// The NAL units of an access unit in Annex B, without their start codes; trailing zeros stay with the unit before
/// them.
pub fn units(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut next = start_code(bytes, 0);
    std::iter::from_fn(move || {
        let start = next? + 3;
        next = start_code(bytes, start);
        Some(&bytes[start..next.unwrap_or(bytes.len())])
    })
}

/// Where the next 00 00 01 begins, from `from` on.
pub(crate) fn start_code(bytes: &[u8], from: usize) -> Option<usize> {
    // Looks at where the 1 would stand: a byte above 0 there also rules out the next two places.
    let mut at = from + 2;
    while let Some(byte) = bytes.get(at) {
        match byte {
            0 => at += 1,
            1 if bytes[at - 2..at] == [0, 0] => return Some(at - 2),
            _ => at += 3,
        }
    }
    None
}

/// What a NAL unit's first bytes say about its place in an access unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Begins an access unit if the one before has its picture: delimiter, parameters, SEI and their like.
    Opens,
    /// The first slice of a picture.
    FirstSlice,
    /// A further slice.
    Slice,
    /// Anything else.
    Follows,
}

impl Codec {
    /// The codec's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::H265 => "h265",
        }
    }

    /// An access unit delimiter in Annex B, for pictures of any kind (H.264 7.3.2.4, H.265 7.3.2.5).
    pub(crate) const fn delimiter(self) -> &'static [u8] {
        match self {
            Self::H264 => &[0, 0, 0, 1, 0x09, 0xF0],
            Self::H265 => &[0, 0, 0, 1, 0x46, 0x01, 0x50],
        }
    }

    /// `nal_unit_type` of an access unit delimiter.
    pub(crate) const fn delimiter_kind(self) -> u8 {
        match self {
            Self::H264 => 9,
            Self::H265 => 35,
        }
    }

    /// Whether an access unit has its delimiter: first as it should be, or behind SEI as some encoders write it.
    pub(crate) fn is_delimited(self, access_unit: &[u8]) -> bool {
        let is_slice =
            |nal: &&[u8]| matches!(self.role(nal), Some(Role::FirstSlice | Role::Slice) | None);
        units(access_unit)
            .take_while(|nal| !is_slice(nal))
            .any(|nal| self.kind(nal) == Some(self.delimiter_kind()))
    }

    /// The role of the NAL unit at the front of `bytes`; `None` while there are too few of them.
    pub(crate) fn role(self, bytes: &[u8]) -> Option<Role> {
        let slice = |header_bytes: usize| {
            let first = *bytes.get(header_bytes)? & 0x80 != 0;
            Some(if first { Role::FirstSlice } else { Role::Slice })
        };
        match (self, self.kind(bytes)?) {
            (Self::H264, 1 | 2 | 5) => slice(1),
            (Self::H264, 6..=9 | 14..=18) => Some(Role::Opens),
            (Self::H265, 0..=31) => slice(2),
            (Self::H265, 32..=35 | 39 | 41..=44 | 48..=55) => Some(Role::Opens),
            _ => Some(Role::Follows),
        }
    }

    /// `nal_unit_type`.
    pub(crate) fn kind(self, nal: &[u8]) -> Option<u8> {
        let first = *nal.first()?;
        Some(match self {
            Self::H264 => first & 0x1F,
            Self::H265 => first >> 1 & 0x3F,
        })
    }
}

/// Says what access units are good for, one after the other.
#[derive(Clone, Debug)]
pub struct Inspector {
    codec: Codec,
    /// The highest temporal layer of an H.265 stream, from its newest SPS. Only pictures of that layer can be
    /// without any that refer to them.
    highest_layer: u8,
}

impl Inspector {
    /// An inspector for a stream from its beginning.
    #[must_use]
    pub const fn new(codec: Codec) -> Self {
        Self {
            codec,
            highest_layer: 0,
        }
    }

    /// Says what the next access unit, in Annex B, is good for.
    pub fn inspect(&mut self, access_unit: &[u8]) -> Picture {
        match self.codec {
            Codec::H264 => inspect_h264(access_unit),
            Codec::H265 => self.inspect_h265(access_unit),
        }
    }

    fn inspect_h265(&mut self, access_unit: &[u8]) -> Picture {
        let (mut sync, mut slices, mut referred) = (false, false, false);
        for nal in units(access_unit) {
            let [first, second, rest @ ..] = nal else {
                continue;
            };
            match first >> 1 & 0x3F {
                kind @ 0..=31 => {
                    sync |= (16..=23).contains(&kind);
                    slices = true;
                    let layer = (second & 0x07).saturating_sub(1);
                    let unreferred = kind < 16 && kind % 2 == 0 && layer >= self.highest_layer;
                    referred |= !unreferred;
                }
                // sps_max_sub_layers_minus1
                33 => self.highest_layer = rest.first().map_or(0, |byte| byte >> 1 & 0x07),
                39 => sync |= has_recovery_point(rest),
                _ => {}
            }
        }
        Picture {
            sync,
            discardable: slices && !referred && !sync,
        }
    }
}

fn inspect_h264(access_unit: &[u8]) -> Picture {
    let (mut sync, mut referred, mut slices) = (false, false, false);
    let (mut sps, mut all_intra) = (false, true);
    for nal in units(access_unit) {
        let Some(&header) = nal.first() else { continue };
        match header & 0x1F {
            kind @ (1 | 2 | 5) => {
                sync |= kind == 5;
                slices = true;
                referred |= header & 0x60 != 0;
                all_intra &= matches!(slice_type(&nal[1..]), Some(2 | 4 | 7 | 9));
            }
            6 => sync |= has_recovery_point(&nal[1..]),
            7 => sps = true,
            _ => {}
        }
    }
    sync |= sps && slices && all_intra;
    Picture {
        sync,
        discardable: slices && !referred && !sync,
    }
}

/// `slice_type` of an H.264 slice header: the second Exp-Golomb number (H.264 7.3.3, 9.1).
fn slice_type(header: &[u8]) -> Option<u32> {
    let mut bits = header
        .iter()
        .take(8)
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    let mut exp_golomb = || {
        let zeros = bits.by_ref().take_while(|bit| *bit == 0).count();
        let mut value = 1_u32;
        for _ in 0..zeros {
            value = value.checked_mul(2)? | u32::from(bits.next()?);
        }
        Some(value - 1)
    };
    exp_golomb()?;
    exp_golomb()
}

/// Whether an SEI payload has a recovery point message (H.264 D.2.8, H.265 D.3.8).
fn has_recovery_point(sei: &[u8]) -> bool {
    let bytes = unescape(&sei[..sei.len().min(SEI_BYTES_MAX)]);
    let mut rest = &bytes[..];
    // 80 alone is the end of the NAL unit.
    while let Some((kind, after)) = sei_number(rest)
        && let Some((length, payload)) = sei_number(after)
    {
        if kind == SEI_RECOVERY_POINT {
            return true;
        }
        rest = payload.get(length..).unwrap_or_default();
    }
    false
}

/// A number of an SEI message: bytes are added up to the first that is not 255.
fn sei_number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let last = bytes.iter().position(|byte| *byte != 0xFF)?;
    Some((255 * last + usize::from(bytes[last]), &bytes[last + 1..]))
}

/// Takes out the emulation prevention bytes: 00 00 03 was 00 00 (H.264 7.3.1).
pub(crate) fn unescape(nal: &[u8]) -> Vec<u8> {
    let mut zeros = 0;
    let mut bytes = Vec::new();
    for &byte in nal {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        bytes.push(byte);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn h264(nals: &[&[u8]]) -> Picture {
        let unit: Vec<u8> = nals
            .iter()
            .flat_map(|nal| [&[0, 0, 1], *nal].concat())
            .collect();
        Inspector::new(Codec::H264).inspect(&unit)
    }

    fn h265(inspector: &mut Inspector, nals: &[&[u8]]) -> Picture {
        let unit: Vec<u8> = nals
            .iter()
            .flat_map(|nal| [&[0, 0, 1], *nal].concat())
            .collect();
        inspector.inspect(&unit)
    }

    const SYNC: Picture = Picture {
        sync: true,
        discardable: false,
    };
    const REFERRED: Picture = Picture {
        sync: false,
        discardable: false,
    };
    const DISCARDABLE: Picture = Picture {
        sync: false,
        discardable: true,
    };

    #[test]
    fn h264_decoding_starts_at_idr_recovery_point_and_intra_with_parameters() {
        // Slice headers: first_mb 0 (1), slice_type 7 = I (0001000) or 5 = P (00110).
        assert_eq!(h264(&[&[0x09, 0xF0], &[0x65, 0x88]]), SYNC);
        assert_eq!(h264(&[&[0x06, 6, 1, 0x84, 0x80], &[0x41, 0x9A]]), SYNC);
        // A message of two bytes before it.
        assert_eq!(
            h264(&[&[0x06, 0, 2, 7, 7, 6, 1, 0x84, 0x80], &[0x41, 0x9A]]),
            SYNC
        );
        assert_eq!(h264(&[&[0x67, 1], &[0x68, 1], &[0x41, 0x88]]), SYNC);
        assert_eq!(h264(&[&[0x67, 1], &[0x68, 1], &[0x41, 0x9A]]), REFERRED);
        assert_eq!(h264(&[&[0x06, 5, 1, 6, 0x80], &[0x41, 0x88]]), REFERRED);
    }

    #[test]
    fn a_recovery_point_is_looked_for_at_the_beginning_only() {
        let filler = |bytes: u8| {
            let sei = [
                &[0x06, 5, bytes][..],
                &vec![7; usize::from(bytes)],
                &[6, 1, 0x84, 0x80],
            ];
            h264(&[&sei.concat(), &[0x41, 0x9A]])
        };

        assert_eq!(filler(200), SYNC);
        assert_eq!(filler(254), REFERRED);
    }

    #[test]
    fn h264_without_reference_is_discardable() {
        assert_eq!(
            h264(&[&[0x09, 0xF0], &[0x01, 0x9A], &[0x01, 0x40]]),
            DISCARDABLE
        );
        assert_eq!(h264(&[&[0x01, 0x9A], &[0x21, 0x40]]), REFERRED);
        assert_eq!(h264(&[&[0x67, 1], &[0x68, 1]]), REFERRED);
    }

    #[test]
    fn h265_is_discardable_in_the_highest_temporal_layer_only() {
        let mut inspector = Inspector::new(Codec::H265);

        assert_eq!(
            h265(&mut inspector, &[&[0x42, 1, 0x01], &[0x26, 1, 0x80]]),
            SYNC
        );
        assert_eq!(h265(&mut inspector, &[&[0x00, 1, 0x80]]), DISCARDABLE);
        assert_eq!(h265(&mut inspector, &[&[0x02, 1, 0x80]]), REFERRED);
        assert_eq!(
            h265(&mut inspector, &[&[0x4E, 1, 6, 1, 0x80], &[0x02, 1, 0x80]]),
            SYNC
        );
        assert_eq!(
            h265(&mut inspector, &[&[0x42, 1, 0x03], &[0x26, 1, 0x80]]),
            SYNC
        );
        assert_eq!(h265(&mut inspector, &[&[0x00, 1, 0x80]]), REFERRED);
        assert_eq!(h265(&mut inspector, &[&[0x00, 2, 0x80]]), DISCARDABLE);
    }

    proptest! {
        #[test]
        fn start_codes_are_where_a_plain_search_finds_them(
            bytes in proptest::collection::vec(0_u8..3, 0..60),
            from in 0_usize..20,
        ) {
            let plain = (from..bytes.len().saturating_sub(2)).find(|at| bytes[*at..at + 3] == [0, 0, 1]);

            prop_assert_eq!(start_code(&bytes, from), plain);
        }

        #[test]
        fn any_bytes_are_inspected_without_panic(
            bytes in proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(0xFF), any::<u8>()], 0..200),
        ) {
            for codec in [Codec::H264, Codec::H265] {
                let picture = Inspector::new(codec).inspect(&bytes);

                prop_assert!(!(picture.sync && picture.discardable));
            }
        }
    }
}
