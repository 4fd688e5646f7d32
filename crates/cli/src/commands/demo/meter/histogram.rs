//! How long something was under way, counted in steps, for the median and the slowest.
//!
//! Not where the times come from (`meter`, its caller). Invariant: what is said is no shorter than what was measured,
//! and at most a step longer.

use std::time::Duration;

/// Latencies are counted in steps of 10 us...
const STEP_US: u64 = 10;
/// ...up to 200 ms; above, they count as that.
const STEPS: usize = 20_000;

/// How long frames were under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Latency {
    pub(in super::super) p50: Duration,
    pub(in super::super) p99: Duration,
}

/// How many latencies were how long.
#[derive(Clone, Debug)]
pub(super) struct Histogram(Vec<u64>);

impl Histogram {
    pub(super) fn new() -> Self {
        Self(vec![0; STEPS])
    }

    pub(super) fn add(&mut self, micros: u64) {
        let step = usize::try_from(micros / STEP_US).unwrap_or(usize::MAX);
        self.0[step.min(STEPS - 1)] += 1;
    }

    pub(super) fn summary(&self) -> Option<Latency> {
        Some(Latency {
            p50: self.quantile(50)?,
            p99: self.quantile(99)?,
        })
    }

    /// The latency that so many per cent did not exceed, rounded up to a step; `None` if there are none.
    fn quantile(&self, percent: u64) -> Option<Duration> {
        let count: u64 = self.0.iter().sum();
        let rank = (count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let step = self.0.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        let micros = (u64::try_from(step).unwrap_or(u64::MAX) + 1) * STEP_US;
        Some(Duration::from_micros(micros))
    }
}
