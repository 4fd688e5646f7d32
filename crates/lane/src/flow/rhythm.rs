//! How long the groups of a flow last, so that it is known whether the next is near.
//!
//! ```text
//!    ├───── 2 s ─────┼───── 2 s ─────┼── 1.2 s so far ─▶ 0.8 s ┄┄┼ the next is near
//! ```
//!
//! Who falls behind is better off with the next group than with half of this one, if it comes soon; of a group of ten
//! minutes it is better to miss a moment. The origin's clock counts. Not what is given up: `child/behind.rs`. Called by
//! `forward` for each run. Invariant: the word is about what came so far, and no group is near for ever.

use std::time::Duration;

use levada_wire::{Number, OriginTime};

use super::run::Run;
use crate::limits::NEXT_NEAR;

/// See the module's head.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rhythm {
    /// The newest group: its first number, and when the first that came of it was sent.
    newest: Option<(Number, OriginTime)>,
    /// How long the one before it lasted.
    length: Option<Duration>,
}

impl Rhythm {
    /// A run came.
    #[inline]
    pub(crate) fn note(&mut self, run: &Run) {
        let newest = self.newest.map(|(start, _)| start);
        if newest.is_some_and(|start| run.group_start <= start) {
            return;
        }
        self.length = self.newest.map(|(_, began)| time_from(began, run.sent));
        self.newest = Some((run.group_start, run.sent));
    }

    /// Whether, at what was sent then, the next group comes within [`NEXT_NEAR`] if it keeps to the one before; while
    /// none came before, whether this one is as young as that.
    pub(crate) fn is_near(&self, sent: OriginTime) -> bool {
        let Some((_, began)) = self.newest else {
            return true;
        };
        let lasts = time_from(began, sent);
        let length = self.length.unwrap_or_default();
        length.abs_diff(lasts) <= NEXT_NEAR
    }
}

fn time_from(began: OriginTime, sent: OriginTime) -> Duration {
    let micros = sent.micros_since(began).max(0).unsigned_abs();
    Duration::from_micros(u64::from(micros))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use bytes::Bytes;

    use super::*;

    /// What is known after groups that lasted so many milliseconds each, and when the last of them ended.
    fn after(groups: &[u32]) -> (Rhythm, OriginTime) {
        let mut rhythm = Rhythm::default();
        let mut sent = OriginTime(u32::MAX - 500_000); // the clock goes round
        for (at, length) in groups.iter().chain([&0]).enumerate() {
            let start = Number::new(100 * at as u64).unwrap();
            for first in [start, start.plus(1)] {
                rhythm.note(&Run {
                    first,
                    group_start: start,
                    burst: first,
                    sent,
                    bytes: Bytes::from_static(b"packet"),
                    segment_bytes: 6,
                    buffer_bytes: 6,
                });
            }
            sent = OriginTime(sent.0.wrapping_add(length * 1_000));
        }
        (rhythm, sent)
    }

    /// Whether the next group is near so many milliseconds after the last of `groups` ended.
    fn is_near(groups: &[u32], millis: u32) -> bool {
        let (rhythm, ended) = after(groups);
        rhythm.is_near(OriginTime(ended.0.wrapping_add(millis * 1_000)))
    }

    #[test]
    fn the_next_group_is_near_shortly_before_it_is_due() {
        let near = [0, 999, 1_001, 2_000, 2_999, 3_001].map(|at| is_near(&[5_000, 2_000], at));

        assert_eq!(near, [false, false, true, true, true, false]);
    }

    #[test]
    fn short_groups_are_always_near() {
        assert!((0..1_900).all(|at| is_near(&[1_000], at)));
    }

    #[test]
    fn a_first_group_that_is_young_may_be_short_and_one_that_goes_on_is_long() {
        let near = [0, 1_000, 1_001, 600_000].map(|at| is_near(&[], at));

        assert_eq!(near, [true, true, false, false]);
    }
}
