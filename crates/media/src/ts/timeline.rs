//! The times of a program, made endless.
//!
//! A transport stream counts 90 kHz modulo 2^33, which wraps every 26.5 hours. Each time is read as the one
//! nearest to the time before it, of whatever track, so all tracks wrap together. Not a judge of jumps: those
//! are the demuxer's to report. Invariant: times that differ by less than 13 hours keep their difference.

use super::pes::{CLOCK_BITS, Header};
use crate::marks::Times;

const PERIOD: i64 = 1 << CLOCK_BITS;

#[derive(Debug, Default)]
pub(super) struct Timeline {
    last: Option<i64>,
}

impl Timeline {
    /// The times of a PES packet; `None` if it says none.
    pub(super) fn times(&mut self, header: Header) -> Option<Times> {
        let pts = header.pts?;
        let dts = self.endless(header.dts.unwrap_or(pts));
        self.last = Some(dts);
        Some(Times {
            dts,
            pts: nearest(pts, dts),
        })
    }

    /// The newest decoding time of any track.
    pub(super) const fn last(&self) -> Option<i64> {
        self.last
    }

    fn endless(&self, raw: u64) -> i64 {
        self.last
            .map_or_else(|| nearest(raw, PERIOD / 2), |last| nearest(raw, last))
    }
}

/// The time nearest to `last` that is `raw` modulo 2^33.
fn nearest(raw: u64, last: i64) -> i64 {
    let raw = i64::try_from(raw % PERIOD.unsigned_abs()).expect("33 bits");
    let ahead = raw.wrapping_sub(last).rem_euclid(PERIOD);
    let step = if ahead < PERIOD / 2 {
        ahead
    } else {
        ahead - PERIOD
    };
    last.saturating_add(step)
}

/// An endless time as the 33 bits that are written.
pub(super) fn raw(ticks: i64) -> u64 {
    ticks.rem_euclid(PERIOD).unsigned_abs()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_go_on_across_the_wrap_in_both_directions() {
        let mut timeline = Timeline::default();
        let mut dts = |raw| {
            timeline
                .times(Header {
                    pts: Some(raw),
                    ..Header::default()
                })
                .unwrap()
                .dts
        };

        assert_eq!(dts((1 << 33) - 100), PERIOD - 100);
        assert_eq!(dts(50), PERIOD + 50);
        assert_eq!(dts((1 << 33) - 10), PERIOD - 10);
        assert_eq!(dts(90_000), PERIOD + 90_000);
    }

    proptest! {
        #[test]
        fn differences_survive(
            start in 0..PERIOD,
            steps in proptest::collection::vec(-PERIOD / 2 + 1..PERIOD / 2, 0..20),
            delay in 0_i64..90_000,
        ) {
            let mut timeline = Timeline::default();
            let mut time = start;
            for step in [0].into_iter().chain(steps) {
                time += step;
                let header = Header { dts: Some(raw(time)), pts: Some(raw(time + delay)), ..Header::default() };

                prop_assert_eq!(timeline.times(header), Some(Times { dts: time, pts: time + delay }));
            }
        }
    }
}
