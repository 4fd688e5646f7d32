//! Arithmetic of repeated measurements: medians, spreads, percentiles.
//!
//! Not the measuring. Called by every part of `bench`. Invariant: nothing is made up: of no values there is no median.

use serde::Serialize;

/// What several repetitions of one measurement gave.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one; of an even count the mean of the middle two.
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// The spread of these values, in any order; `None` of none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Self {
            median: f64::midpoint(low, high),
            min,
            max,
        })
    }
}

/// The smallest value that at least `per_cent` of all do not exceed (nearest rank); `None` of none.
pub(crate) fn percentile(sorted: &[u64], per_cent: f64) -> Option<u64> {
    debug_assert!(sorted.is_sorted(), "percentiles are read off sorted values");
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a length, clamped below"
    )]
    let rank = (sorted.len() as f64 * per_cent / 100.0).ceil() as usize;
    let last = sorted.len().checked_sub(1)?;
    sorted.get(rank.saturating_sub(1).min(last)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn median(values: &[f64]) -> Option<f64> {
        Spread::of(values.iter().copied()).map(|spread| spread.median)
    }

    #[test]
    fn a_median_is_the_middle_or_the_mean_of_the_middle_two() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_spread_goes_from_the_least_to_the_most() {
        let spread = Spread::of([5.0, -1.0, 2.0]);

        assert_eq!(spread.map(|s| (s.min, s.max)), Some((-1.0, 5.0)));
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<u64> = (1..=200).collect();

        assert_eq!(percentile(&values, 50.0), Some(100));
        assert_eq!(percentile(&values, 99.0), Some(198));
        assert_eq!(percentile(&values, 100.0), Some(200));
        assert_eq!(percentile(&values, 0.0), Some(1));
        assert_eq!(percentile(&[9], 99.0), Some(9));
        assert_eq!(percentile(&[], 50.0), None);
    }
}
