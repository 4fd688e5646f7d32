//! Marks: which times belong to which byte of a buffered elementary stream.
//!
//! A PES packet's time belongs to the first access unit that *begins* in it (ISO 13818-1 2.4.3.7), and access
//! units begin where they like. So a splitter marks the place in its buffer where each PES packet began and
//! asks, for each access unit it cuts, which mark is its own. Not a clock, and blind to what the bytes mean.
//! Called by the splitters `nal` and `audio`. Invariant: offsets grow from front to back.

use std::collections::VecDeque;

/// Decoding and presentation time of an access unit, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) dts: i64,
    pub(crate) pts: i64,
}

/// The most marks kept. More than one stand in a buffer only while an access unit is spread over PES packets;
/// the oldest go first, as only the newest before a cut is ever used.
const MARKS_MAX: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Marks(VecDeque<(usize, Times)>);

impl Marks {
    /// A PES packet with these times begins at `offset` of the buffer.
    pub(crate) fn set(&mut self, offset: usize, times: Times) {
        if self.0.len() == MARKS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((offset, times));
    }

    /// Takes the times of the access unit that begins at `offset`: the newest mark at or before it.
    pub(crate) fn take(&mut self, offset: usize) -> Option<Times> {
        let mut times = None;
        while let Some((_, marked)) = self.0.pop_front_if(|(at, _)| *at <= offset) {
            times = Some(marked);
        }
        times
    }

    /// Whether a PES packet begins exactly at `offset`.
    pub(crate) fn stands_at(&self, offset: usize) -> bool {
        self.0.iter().any(|(at, _)| *at == offset)
    }

    /// The first `bytes` of the buffer are gone. A mark among them moves to the front: its access unit is still to
    /// come.
    pub(crate) fn advance(&mut self, bytes: usize) {
        for (at, _) in &mut self.0 {
            *at = at.saturating_sub(bytes);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(dts: i64) -> Times {
        Times { dts, pts: dts }
    }

    #[test]
    fn the_newest_mark_up_to_the_place_counts() {
        let mut marks = Marks::default();
        for (offset, dts) in [(0, 1), (5, 2), (9, 3)] {
            marks.set(offset, times(dts));
        }

        assert!(marks.stands_at(5));
        assert_eq!(marks.take(8), Some(times(2)));
        assert_eq!(marks.take(8), None);
        marks.advance(20);
        assert_eq!(marks.take(0), Some(times(3)));
    }

    #[test]
    fn above_the_limit_the_oldest_mark_goes() {
        let mut marks = Marks::default();
        for offset in 0..=MARKS_MAX {
            marks.set(offset, times(7));
        }

        assert_eq!(marks.take(0), None);
        assert_eq!(marks.take(1), Some(times(7)));
    }
}
