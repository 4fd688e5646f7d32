//! Cuts an Annex B byte stream into access units.
//!
//! A new access unit begins with a delimiter, parameters or SEI once the one before has its picture, or with
//! the first slice of the next picture (H.264 7.4.1.2.3, H.265 7.4.2.4.4). How the bytes were packed into PES
//! packets does not matter, except that a packet from a sender who packs whole access units and says how long
//! they are ends its access unit at once instead of with the beginning of the next.
//!
//! Not the times themselves: an access unit takes the mark of the PES packet it begins in, or none. Called by
//! [`crate::ts`]. Invariant: the buffer starts at the beginning of an access unit, or the splitter hunts for one.

use bytes::{Bytes, BytesMut};
use levada_wire::frame::FRAME_BYTES_MAX;

use crate::marks::{Marks, Times};
use crate::nal::{Codec, Inspector, Picture, Role, start_code};

/// An access unit that was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) data: Bytes,
    pub(crate) times: Option<Times>,
    pub(crate) picture: Picture,
}

/// An access unit was larger than [`FRAME_BYTES_MAX`] and is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

#[derive(Debug)]
pub(crate) struct Splitter {
    codec: Codec,
    inspector: Inspector,
    buffer: BytesMut,
    marks: Marks,
    /// The times of the access unit at the buffer's front.
    times: Option<Times>,
    /// Where the search for the next start code goes on.
    scan: usize,
    /// The beginning of an access unit is still to be found.
    hunting: bool,
    /// The access unit at the front has its picture.
    has_picture: bool,
}

impl Splitter {
    pub(crate) fn new(codec: Codec) -> Self {
        Self {
            codec,
            inspector: Inspector::new(codec),
            buffer: BytesMut::new(),
            marks: Marks::default(),
            times: None,
            scan: 0,
            hunting: true,
            has_picture: false,
        }
    }

    /// A PES packet begins here; its times belong to the first access unit that begins in it.
    pub(crate) fn mark(&mut self, times: Times) {
        self.marks.set(self.buffer.len(), times);
    }

    /// Takes bytes in and gives access units to `on_unit`.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        mut on_unit: impl FnMut(Unit),
    ) -> Result<(), TooLarge> {
        self.buffer.extend_from_slice(bytes);
        self.scan(false, &mut on_unit);
        if self.buffer.len() > FRAME_BYTES_MAX {
            self.lose();
            return Err(TooLarge);
        }
        Ok(())
    }

    /// The bytes so far end an access unit.
    pub(crate) fn flush(&mut self, mut on_unit: impl FnMut(Unit)) {
        self.scan(true, &mut on_unit);
        if !self.hunting {
            self.cut(self.buffer.len(), &mut on_unit);
        }
        self.lose();
    }

    /// Bytes were lost: the access unit in hand is given up.
    pub(crate) fn lose(&mut self) {
        self.buffer.clear();
        self.marks.clear();
        self.times = None;
        self.scan = 0;
        self.hunting = true;
        self.has_picture = false;
    }

    fn scan(&mut self, end: bool, on_unit: &mut impl FnMut(Unit)) {
        while let Some(at) = start_code(&self.buffer, self.scan) {
            let role = match self.codec.role(&self.buffer[at + 3..]) {
                Some(role) => role,
                None if end => Role::Follows,
                None => {
                    self.scan = at;
                    return;
                }
            };
            self.scan = at + 3;
            if self.begins(role) {
                self.cut(self.unit_start(at), on_unit);
            }
            self.has_picture |= !self.hunting && matches!(role, Role::FirstSlice | Role::Slice);
        }
        // The last two bytes may belong to a start code that is still to come.
        self.scan = self.scan.max(self.buffer.len().saturating_sub(2));
        if self.hunting {
            self.forget(self.scan.saturating_sub(1));
        }
    }

    const fn begins(&self, role: Role) -> bool {
        match role {
            Role::Opens | Role::FirstSlice => self.hunting || self.has_picture,
            Role::Slice | Role::Follows => false,
        }
    }

    /// A zero before the start code belongs to it, unless a PES packet says that the access unit begins behind it.
    fn unit_start(&self, start_code: usize) -> usize {
        let before = start_code
            .checked_sub(1)
            .filter(|before| self.buffer[*before] == 0 && !self.marks.stands_at(start_code));
        before.unwrap_or(start_code)
    }

    /// Ends the access unit in hand where the next one begins.
    fn cut(&mut self, at: usize, on_unit: &mut impl FnMut(Unit)) {
        let next = self.marks.take(at);
        let data = self.forget(at).freeze();
        if !self.hunting && !data.is_empty() {
            let picture = self.inspector.inspect(&data);
            on_unit(Unit {
                data,
                times: self.times,
                picture,
            });
        }
        self.times = next;
        self.hunting = false;
        self.has_picture = false;
    }

    fn forget(&mut self, bytes: usize) -> BytesMut {
        self.marks.advance(bytes);
        self.scan = self.scan.saturating_sub(bytes);
        self.buffer.split_to(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use proptest::prelude::*;

    use super::*;

    const AUD: &[u8] = &[0, 0, 0, 1, 0x09, 0xF0];
    const FIRST: &[u8] = &[0, 0, 1, 0x65, 0x88, 7, 7];
    const MORE: &[u8] = &[0, 0, 1, 0x65, 0x40, 7, 7];
    const PARAMETERS: &[u8] = &[0, 0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x68, 9, 9];

    fn split(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut splitter, mut units) = (Splitter::new(Codec::H264), Vec::new());
        for chunk in chunks {
            splitter
                .push(chunk, |unit| units.push(unit.data.to_vec()))
                .unwrap();
        }
        splitter.flush(|unit| units.push(unit.data.to_vec()));
        units
    }

    #[test]
    fn access_units_are_cut_with_and_without_delimiters() {
        let units = [
            [AUD, PARAMETERS, FIRST, MORE].concat(),
            [AUD, FIRST].concat(),
            [PARAMETERS, FIRST, MORE, MORE].concat(),
            [&[0], FIRST].concat(),
            FIRST.to_vec(),
        ];

        assert_eq!(split(&[&units.concat()]), units);
    }

    #[test]
    fn the_beginning_is_found_behind_the_rest_of_a_lost_unit() {
        let bytes = [&[9, 9, 9], MORE, FIRST, MORE].concat();

        assert_eq!(split(&[&bytes]), [[FIRST, MORE].concat()]);
        assert_eq!(split(&[MORE]), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn a_unit_takes_the_times_of_the_packet_it_begins_in() {
        let times = |dts| Times { dts, pts: dts };
        let (mut splitter, mut units) = (Splitter::new(Codec::H264), Vec::new());
        let mut push = |splitter: &mut Splitter, bytes: &[u8]| {
            splitter
                .push(bytes, |unit| units.push((unit.data.len(), unit.times)))
                .unwrap();
        };

        splitter.mark(times(1));
        push(&mut splitter, &[AUD, FIRST, &[5; 9]].concat());
        splitter.mark(times(2));
        push(&mut splitter, &[&[6; 9], AUD, FIRST, AUD, FIRST].concat());
        splitter.mark(times(3));
        push(&mut splitter, &[AUD, FIRST, AUD].concat());
        splitter.flush(|_| ());

        let expected = [
            (31, Some(times(1))),
            (13, Some(times(2))),
            (13, None),
            (13, Some(times(3))),
        ];
        assert_eq!(units, expected);
    }

    #[test]
    fn zeros_that_end_a_packet_stay_with_its_unit() {
        let mut splitter = Splitter::new(Codec::H264);
        let mut units = Vec::new();

        for dts in [1, 2] {
            splitter.mark(Times { dts, pts: dts });
            splitter
                .push(&[FIRST, &[0]].concat(), |unit| units.push(unit))
                .unwrap();
        }
        splitter.flush(|unit| units.push(unit));

        let whole = [FIRST, &[0]].concat();
        assert!(units.iter().all(|unit| unit.data == whole));
        assert_eq!(
            units
                .iter()
                .map(|unit| unit.times.unwrap().dts)
                .collect::<Vec<_>>(),
            [1, 2]
        );
    }

    #[test]
    fn a_unit_above_the_limit_is_left_out_and_the_next_is_found() {
        let mut splitter = Splitter::new(Codec::H264);
        let mut units = 0;
        splitter.push(FIRST, |_| units += 1).unwrap();

        let result = splitter.push(&vec![7; FRAME_BYTES_MAX], |_| units += 1);
        splitter.push(FIRST, |_| units += 1).unwrap();
        splitter.flush(|_| units += 1);

        assert_eq!((result, units), (Err(TooLarge), 1));
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(
            bytes in proptest::collection::vec(
                prop_oneof![Just(0_u8), Just(1), Just(0x65), Just(9), any::<u8>()], 0..300,
            ),
            cut in 1_usize..40,
        ) {
            let chunks: Vec<_> = bytes.chunks(cut).collect();

            prop_assert_eq!(split(&chunks), split(&[&bytes]));
        }
    }
}
