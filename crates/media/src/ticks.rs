//! Ticks: the times of tracks, which count in different timescales.
//!
//! Not a clock and not [`levada_wire::Instant`]: ticks say where a frame stands in its stream, never what time
//! it is. Called by everyone in this crate. Invariant: no conversion overflows; it saturates.

use std::cmp::Ordering;
use std::num::NonZeroU32;

/// Ticks per second of every track that comes from a transport stream (ISO 13818-1 2.4.3.7).
pub const TS_TIMESCALE: NonZeroU32 = NonZeroU32::new(90_000).expect("not zero");

/// The moment `ticks` of timescale `from`, in ticks of timescale `to`, rounded to the nearest, halves up.
#[must_use]
pub fn rescale(ticks: i64, from: NonZeroU32, to: NonZeroU32) -> i64 {
    if from == to {
        return ticks;
    }
    let from = i128::from(from.get());
    let scaled = (i128::from(ticks) * i128::from(to.get()) * 2 + from).div_euclid(2 * from);
    i64::try_from(scaled).unwrap_or(if scaled < 0 { i64::MIN } else { i64::MAX })
}

/// A length of time in ticks of some timescale. Spans of different timescales compare.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The length in ticks of `timescale`.
    pub ticks: i64,
    /// Ticks per second.
    pub timescale: NonZeroU32,
}

impl Span {
    /// This span `count` times.
    #[must_use]
    pub const fn times(self, count: i64) -> Self {
        Self {
            ticks: self.ticks.saturating_mul(count),
            timescale: self.timescale,
        }
    }

    /// The span in ticks of another timescale, rounded to the nearest.
    #[must_use]
    pub fn in_timescale(self, timescale: NonZeroU32) -> i64 {
        rescale(self.ticks, self.timescale, timescale)
    }
}

impl Ord for Span {
    fn cmp(&self, other: &Self) -> Ordering {
        let cross = |a: &Self, b: &Self| i128::from(a.ticks) * i128::from(b.timescale.get());
        cross(self, other).cmp(&cross(other, self))
    }
}

impl PartialOrd for Span {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Span {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Span {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn ticks_round_to_the_nearest_and_saturate() {
        let scale = |n| NonZeroU32::new(n).unwrap();

        assert_eq!(rescale(1_024, scale(48_000), TS_TIMESCALE), 1_920);
        assert_eq!(rescale(1, scale(3), scale(2)), 1);
        assert_eq!(rescale(-1, scale(4), scale(1)), 0);
        assert_eq!(rescale(-3, scale(4), scale(1)), -1);
        assert_eq!(rescale(i64::MIN, scale(1), scale(u32::MAX)), i64::MIN);
    }

    #[test]
    fn spans_of_different_timescales_compare() {
        let span = |ticks, scale| Span {
            ticks,
            timescale: NonZeroU32::new(scale).unwrap(),
        };

        assert_eq!(span(1, 2), span(2, 4));
        assert!(span(1, 3) < span(1, 2));
        assert!(span(i64::MAX, 1) > span(i64::MAX, 2));
        assert_eq!(span(3, 30).times(10).in_timescale(TS_TIMESCALE), 90_000);
    }
}
