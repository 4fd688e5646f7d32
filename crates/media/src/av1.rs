//! AV1: the OBUs of a temporal unit, and whether decoding can start with it.
//!
//! ```text
//! OBU   forbidden:1 type:4 extension:1 has size:1 reserved:1 [extension:8] [size: leb128] payload     AV1 5.3
//! ```
//!
//! Not a decoder. Called by RTP and MP4. Invariant: no OBU reaches beyond the bytes it was found in.

use crate::bits::Bits;
use crate::nal::Picture;

pub(crate) const SEQUENCE_HEADER: u8 = 1;
pub(crate) const TEMPORAL_DELIMITER: u8 = 2;
const FRAME_HEADER: u8 = 3;
const FRAME: u8 = 6;
pub(crate) const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;

const EXTENSION: u8 = 0x04;
const HAS_SIZE: u8 = 0x02;
/// A size is of at most eight bytes (4.10.5), and of a frame's at most four.
const LEB128_BYTES_MAX: usize = 8;

/// One OBU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Obu<'a> {
    /// The header as it came.
    header: u8,
    /// The extension, if there is one.
    extension: Option<u8>,
    pub(crate) payload: &'a [u8],
}

/// A temporal unit that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotObus;

impl<'a> Obu<'a> {
    /// Takes the OBU at the front of `bytes`. One without size has all the rest.
    pub(crate) fn take(bytes: &mut &'a [u8]) -> Result<Self, NotObus> {
        let (&header, mut rest) = bytes.split_first().ok_or(NotObus)?;
        if header & 0x80 != 0 {
            return Err(NotObus);
        }
        let mut extension = None;
        if header & EXTENSION != 0 {
            let (first, behind) = rest.split_first().ok_or(NotObus)?;
            extension = Some(*first);
            rest = behind;
        }
        let size = if header & HAS_SIZE == 0 {
            rest.len()
        } else {
            take_leb128(&mut rest).ok_or(NotObus)?
        };
        let (payload, behind) = rest.split_at_checked(size).ok_or(NotObus)?;
        *bytes = behind;
        Ok(Self {
            header,
            extension,
            payload,
        })
    }

    pub(crate) const fn kind(&self) -> u8 {
        self.header >> 3 & 0x0F
    }

    /// Whether it is of use to whoever decodes: no delimiter, no list of tiles, no padding.
    pub(crate) const fn is_carried(&self) -> bool {
        !matches!(self.kind(), TEMPORAL_DELIMITER | TILE_LIST | PADDING)
    }

    /// Its header without size.
    pub(crate) fn bare_header(&self) -> ([u8; 2], usize) {
        let first = self.header & !HAS_SIZE;
        self.extension
            .map_or(([first, 0], 1), |extension| ([first, extension], 2))
    }

    /// Appends it with its size.
    pub(crate) fn write(&self, out: &mut impl Extend<u8>) {
        let ([first, second], bytes) = self.bare_header();
        out.extend([first | HAS_SIZE]);
        out.extend((bytes > 1).then_some(second));
        put_leb128(self.payload.len(), out);
        out.extend(self.payload.iter().copied());
    }

    /// Whether it begins a key frame (5.9.2).
    fn is_key(&self) -> bool {
        let mut bits = Bits::new(self.payload);
        matches!(self.kind(), FRAME | FRAME_HEADER)
            && bits.flag() == Some(false)
            && bits.take(2) == Some(0)
    }
}

/// The OBUs of a temporal unit, in the order of the bytes; an error is the last item.
pub(crate) fn obus(mut bytes: &[u8]) -> impl Iterator<Item = Result<Obu<'_>, NotObus>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let obu = Obu::take(&mut bytes);
        if obu.is_err() {
            bytes = &[];
        }
        Some(obu)
    })
}

/// What a temporal unit is good for. Whether others refer to it is not looked for.
pub(crate) fn inspect(temporal_unit: &[u8]) -> Picture {
    let (mut header, mut key) = (false, None);
    for obu in obus(temporal_unit).map_while(Result::ok) {
        header |= obu.kind() == SEQUENCE_HEADER;
        if matches!(obu.kind(), FRAME | FRAME_HEADER) {
            key.get_or_insert_with(|| obu.is_key());
        }
    }
    Picture {
        sync: header && key == Some(true),
        discardable: false,
    }
}

/// What a sequence header says, as far as formats ask for it (5.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sequence {
    pub(crate) profile: u8,
    pub(crate) level: u8,
    pub(crate) tier: u8,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) high_depth: bool,
    pub(crate) twelve_bits: bool,
    pub(crate) mono: bool,
    /// Whether chrominance is halved in each direction.
    pub(crate) halved: [bool; 2],
    pub(crate) chroma_position: u8,
}

impl Sequence {
    /// Reads the payload of a sequence header.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let mut bits = Bits::new(payload);
        let mut sequence = Self {
            profile: bits.take(3)? as u8,
            ..Self::default()
        };
        bits.skip(1)?;
        let reduced = bits.flag()?;
        if reduced {
            sequence.level = bits.take(5)? as u8;
        } else {
            sequence.operating_points(&mut bits)?;
        }
        let (width_bits, height_bits) = (bits.take(4)? as u8 + 1, bits.take(4)? as u8 + 1);
        sequence.width = bits.take(width_bits)? + 1;
        sequence.height = bits.take(height_bits)? + 1;
        if !reduced && bits.flag()? {
            bits.skip(7)?;
        }
        bits.skip(3)?;
        if !reduced {
            skip_tools(&mut bits)?;
        }
        bits.skip(3)?;
        sequence.colours(&mut bits)?;
        Some(sequence)
    }

    /// Timing, decoder model and operating points; the first one counts (5.5.1).
    fn operating_points(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        let mut delay_bits = None;
        if bits.flag()? {
            bits.skip(64)?;
            if bits.flag()? {
                bits.ue()?;
            }
            if bits.flag()? {
                delay_bits = Some(bits.take(5)? as usize + 1);
                bits.skip(42)?;
            }
        }
        let has_display_delay = bits.flag()?;
        for point in 0..=bits.take(5)? {
            bits.skip(12)?;
            let level = bits.take(5)? as u8;
            let tier = if level > 7 { bits.take(1)? as u8 } else { 0 };
            if point == 0 {
                (self.level, self.tier) = (level, tier);
            }
            if let Some(delay_bits) = delay_bits
                && bits.flag()?
            {
                bits.skip(2 * delay_bits + 1)?;
            }
            if has_display_delay && bits.flag()? {
                bits.skip(4)?;
            }
        }
        Some(())
    }

    /// 5.5.2.
    fn colours(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        const SRGB: [u32; 3] = [1, 13, 0];
        self.high_depth = bits.flag()?;
        self.twelve_bits = self.profile == 2 && self.high_depth && bits.flag()?;
        self.mono = self.profile != 1 && bits.flag()?;
        let mut colours = [2; 3];
        if bits.flag()? {
            colours = [bits.take(8)?, bits.take(8)?, bits.take(8)?];
        }
        if self.mono {
            self.halved = [true; 2];
        } else if colours != SRGB {
            bits.skip(1)?;
            self.halved = match self.profile {
                0 => [true; 2],
                1 => [false; 2],
                _ if self.twelve_bits => {
                    let across = bits.flag()?;
                    [across, across && bits.flag()?]
                }
                _ => [true, false],
            };
            if self.halved == [true; 2] {
                self.chroma_position = bits.take(2)? as u8;
            }
        }
        Some(())
    }
}

/// Which tools of compression are used (5.5.1).
fn skip_tools(bits: &mut Bits<'_>) -> Option<()> {
    bits.skip(4)?;
    let has_order = bits.flag()?;
    if has_order {
        bits.skip(2)?;
    }
    let chooses_screen = bits.flag()?;
    let may_be_screen = chooses_screen || bits.flag()?;
    if may_be_screen && !bits.flag()? {
        bits.skip(1)?;
    }
    if has_order {
        bits.skip(3)?;
    }
    Some(())
}

/// Takes a number of variable length (4.10.5).
pub(crate) fn take_leb128(bytes: &mut &[u8]) -> Option<usize> {
    let mut value = 0_u64;
    for at in 0..LEB128_BYTES_MAX {
        let (byte, rest) = bytes.split_first()?;
        value |= u64::from(byte & 0x7F) << (7 * at);
        *bytes = rest;
        if byte & 0x80 == 0 {
            return usize::try_from(value).ok();
        }
    }
    None
}

/// Appends a number of variable length.
pub(crate) fn put_leb128(mut value: usize, out: &mut impl Extend<u8>) {
    loop {
        let low = (value & 0x7F) as u8;
        value >>= 7;
        out.extend([if value > 0 { low | 0x80 } else { low }]);
        if value == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use proptest::prelude::*;

    use super::*;

    const LIBAOM: [u8; 10] = [0x00, 0x00, 0x00, 0x03, 0xB4, 0xFF, 0x73, 0x6B, 0xE4, 0x01];

    #[test]
    fn decoding_starts_at_a_key_frame_behind_a_sequence_header() {
        let (sequence, key, inter) = ([0x0A, 1, 0], [0x32, 2, 0x10, 0], [0x32, 2, 0x30, 0]);
        let inspect = |obus: &[&[u8]]| inspect(&obus.concat()).sync;

        assert!(inspect(&[&[0x12, 0], &sequence, &key]));
        assert!(!inspect(&[&sequence, &inter]));
        assert!(!inspect(&[&key]));
        // A show_existing_frame shows no new picture.
        assert!(!inspect(&[&sequence, &[0x1A, 1, 0x80]]));
    }

    #[test]
    fn the_sequence_header_of_an_encoder_is_read() {
        // libaom, 160x120, 8 bits, 4:2:0.
        let header = Sequence::parse(&LIBAOM).unwrap();

        let expected = Sequence {
            width: 160,
            height: 120,
            halved: [true; 2],
            ..Sequence::default()
        };
        assert_eq!(
            header,
            Sequence {
                level: header.level,
                chroma_position: header.chroma_position,
                ..expected
            }
        );
        assert_eq!(Sequence::parse(&LIBAOM[..5]), None);
    }

    #[test]
    fn an_obu_that_reaches_too_far_is_none() {
        fn count(bytes: &[u8]) -> Vec<Result<Obu<'_>, NotObus>> {
            obus(bytes).collect()
        }

        assert_eq!(count(&[0x32, 5, 1]), [Err(NotObus)]);
        assert_eq!(
            count(&[0x32, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]),
            [Err(NotObus)]
        );
        assert_eq!(count(&[0x36]), [Err(NotObus)]);
        assert_eq!(count(&[0xB0, 1]), [Err(NotObus)]);
        assert_eq!(count(&[0x30, 1, 2])[0].unwrap().payload, [1, 2]);
    }

    proptest! {
        #[test]
        fn numbers_survive_their_bytes(value in 0_usize..1 << 50) {
            let mut bytes = Vec::new();
            put_leb128(value, &mut bytes);

            let mut rest = &bytes[..];

            prop_assert_eq!(take_leb128(&mut rest), Some(value));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut again = Vec::new();
            for obu in obus(&bytes).map_while(Result::ok) {
                obu.write(&mut again);
            }
            let written: Vec<_> = obus(&again).map(|obu| obu.unwrap().payload).collect();
            let read: Vec<_> = obus(&bytes).map_while(Result::ok).map(|obu| obu.payload).collect();
            prop_assert_eq!(written, read);
            let _ = inspect(&bytes);
        }
    }
}
