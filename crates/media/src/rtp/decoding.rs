//! Decoding times, which RTP does not carry: it says when a picture is shown.
//!
//! With B pictures the order of decoding is not that of showing. Where pictures can be reordered by `n`, the time
//! to decode one is the `n`th before it in the order of showing: the smallest of the newest `n + 1` times. So
//! decoding times never fall and are never behind the presentation time. The SPS says `n`; where it does not, a
//! picture that more pictures overtook proves it too small, and those in hand are decoded late. Called by the unpacker.
//! Invariant: decoding times never fall.

use std::collections::VecDeque;

/// H.264 and H.265 hold at most this many pictures (H.264 A.3.1, H.265 A.4.2).
const DEPTH_MAX: usize = 16;

#[derive(Debug, Default)]
pub(super) struct DecodingTimes {
    depth: usize,
    /// The newest presentation times as they came.
    recent: VecDeque<i64>,
    /// The highest presentation times, sorted: `depth` of them between two pictures.
    newest: Vec<i64>,
    last: Option<i64>,
}

impl DecodingTimes {
    /// Pictures can be reordered by this many, or by more.
    pub(super) fn deepen(&mut self, depth: usize) {
        self.depth = self.depth.max(depth.min(DEPTH_MAX));
    }

    /// The decoding time of the next picture.
    pub(super) fn next(&mut self, pts: i64) -> i64 {
        let later = self.recent.iter().filter(|recent| **recent > pts).count();
        self.deepen(later);
        if self.recent.len() == DEPTH_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(pts);
        let at = self.newest.partition_point(|time| *time <= pts);
        self.newest.insert(at, pts);
        let missing = (self.depth + 1).saturating_sub(self.newest.len());
        // The first pictures are decoded just before the first time that is shown.
        let earlier = i64::try_from(missing).unwrap_or(0);
        let dts = self.newest[0].saturating_sub(earlier);
        if missing == 0 {
            self.newest.remove(0);
        }
        let dts = self.last.map_or(dts, |last| dts.max(last));
        self.last = Some(dts);
        dts
    }

    /// The stream goes on elsewhere: what was shown before says nothing.
    pub(super) fn restart(&mut self) {
        self.newest.clear();
        self.recent.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn times(depth: usize, pts: &[i64]) -> Vec<i64> {
        let mut decoding = DecodingTimes::default();
        decoding.deepen(depth);
        pts.iter().map(|pts| decoding.next(*pts)).collect()
    }

    #[test]
    fn without_reordering_both_times_are_one() {
        assert_eq!(times(0, &[0, 10, 20]), [0, 10, 20]);
    }

    #[test]
    fn reordered_pictures_are_decoded_in_even_steps() {
        // I P B B P B B: the second B is shown three pictures after it is decoded.
        let shown = [10, 40, 20, 30, 70, 50, 60];

        assert_eq!(times(1, &shown), [9, 10, 20, 30, 40, 50, 60]);
        assert_eq!(times(2, &shown), [8, 9, 10, 20, 30, 40, 50]);
        // Nobody said how deep: learnt from the third picture.
        assert_eq!(times(0, &shown), [10, 40, 40, 40, 40, 50, 60]);
    }

    proptest! {
        #[test]
        fn decoding_times_never_fall_and_precede_showing(
            depth in 0_usize..20,
            groups in proptest::collection::vec(0_usize..5, 1..20),
        ) {
            // Each group: an anchor, then the pictures shown before it.
            let (mut shown, mut now) = (vec![0], 1);
            for between in groups {
                let between = i64::try_from(between).unwrap_or(0);
                shown.push(now + between);
                shown.extend(now..now + between);
                now += between + 1;
            }

            let decoded = times(depth, &shown);

            prop_assert!(decoded.is_sorted());
            // The first picture is decoded when or before it is shown, and so is any once a depth is known.
            let behind = decoded.iter().zip(&shown).filter(|(dts, pts)| dts > pts).count();
            prop_assert!(depth == 0 || behind == 0, "{decoded:?} {shown:?}");
        }
    }
}
