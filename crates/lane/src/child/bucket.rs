//! A token bucket, kept as one moment: when it will be full again.
//!
//! ```text
//!          ┌──────── depth ────────┐
//!   ───────┼───────────┬───────────┼──────────▶ time
//!         now       full_at      now + depth          what is taken moves `full_at` to the right, by the time that it
//!                                                     takes at the rate; ready while that is not beyond the depth
//! ```
//!
//! Whoever finds it ready may take any amount, and leaves a debt if that was more than there is: a packet cannot be
//! sent in part, and a bucket that is smaller than one run must let it pass too. Not a queue and not a timer. Called by
//! `forward`, `behind.rs` and `queue.rs`, for every run and child, so it costs a multiplication and two comparisons.
//! Invariant: over any time t no more is taken than rate x (t + depth), and the last amount.

use std::time::Duration;

use levada_wire::{Bitrate, Instant};

/// Below this rate all are one: so that an amount times its cost fits in 64 bits.
const RATE_MIN: u64 = 8_000;
/// The cost of a byte is counted in nanoseconds divided by two to this power.
const FRACTION_BITS: u32 = 16;

/// See the module's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// What a byte costs, in 2^-16 ns; zero is no limit.
    cost: u64,
    depth: u64,
    full_at: u64,
}

impl Bucket {
    /// A full bucket; a rate of `u64::MAX` bits a second is no limit.
    pub(crate) fn new(rate: Bitrate, depth: Duration) -> Self {
        let mut bucket = Self {
            cost: 0,
            depth: u64::try_from(depth.as_nanos()).unwrap_or(u64::MAX),
            full_at: 0,
        };
        bucket.set_rate(rate);
        bucket
    }

    /// From now on it fills at another rate. What is owed keeps its moment.
    pub(crate) const fn set_rate(&mut self, rate: Bitrate) {
        const BYTE: u64 = 8_000_000_000 << FRACTION_BITS;
        let rate = if rate.0 < RATE_MIN { RATE_MIN } else { rate.0 };
        self.cost = BYTE / rate;
    }

    /// The same bucket, full again at that moment of the clock, in nanoseconds.
    pub(crate) const fn filled_at(mut self, full_at: u64) -> Self {
        self.full_at = full_at;
        self
    }

    /// When it is full again, in nanoseconds of the clock.
    pub(crate) const fn full_at(&self) -> u64 {
        self.full_at
    }

    /// Whether something may be taken.
    #[inline]
    pub(crate) const fn is_ready(&self, now: Instant) -> bool {
        self.full_at <= now.as_nanos().saturating_add(self.depth)
    }

    /// From when on something may be taken.
    pub(crate) const fn ready_at(&self) -> Instant {
        Instant::from_nanos(self.full_at.saturating_sub(self.depth))
    }

    /// Whether nothing is owed.
    pub(crate) const fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now.as_nanos()
    }

    /// Takes that many bytes, ready or not.
    #[inline]
    pub(crate) fn take(&mut self, bytes: usize, now: Instant) {
        let from = self.full_at.max(now.as_nanos());
        self.full_at = from.saturating_add(self.nanos(bytes));
    }

    /// How long it takes until that many bytes are sent, if all of them wait.
    pub(crate) fn time_for(&self, bytes: usize, now: Instant) -> Duration {
        let owed = self.full_at.max(now.as_nanos());
        let sent_at = owed
            .saturating_add(self.nanos(bytes))
            .saturating_sub(self.depth);
        Instant::from_nanos(sent_at).since(now)
    }

    const fn nanos(&self, bytes: usize) -> u64 {
        (bytes as u64).saturating_mul(self.cost) >> FRACTION_BITS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_nanos(5_000_000_000);
    const SECOND: Duration = Duration::from_secs(1);
    /// A thousand bytes a second.
    const RATE: Bitrate = Bitrate(8_000);

    #[test]
    fn what_is_there_goes_at_once_and_the_rest_at_the_rate() {
        let mut bucket = Bucket::new(RATE, SECOND);
        let mut taken_at = Vec::new();
        let mut now = NOW;
        for _ in 0..30 {
            now = now.max(bucket.ready_at());
            assert!(bucket.is_ready(now));
            bucket.take(100, now);
            taken_at.push(now.since(NOW));
        }

        assert_eq!(taken_at[..11], [Duration::ZERO; 11]);
        assert_eq!(taken_at[11], SECOND / 10);
        assert_eq!(taken_at[29], SECOND * 19 / 10);
    }

    #[test]
    fn more_than_the_bucket_holds_passes_once_and_is_owed() {
        let mut bucket = Bucket::new(RATE, SECOND);

        bucket.take(60_000, NOW);

        assert!(!bucket.is_ready(NOW + SECOND * 58));
        assert!(bucket.is_ready(NOW + SECOND * 59));
        assert!(bucket.is_full(NOW + SECOND * 60));
    }

    #[test]
    fn a_rate_without_limit_is_always_ready() {
        let mut bucket = Bucket::new(Bitrate(u64::MAX), Duration::ZERO);

        for _ in 0..1_000 {
            bucket.take(usize::MAX, NOW);
        }

        assert!(bucket.is_ready(NOW));
    }

    #[test]
    fn another_rate_counts_for_what_is_taken_from_then_on() {
        let mut bucket = Bucket::new(RATE, Duration::ZERO);
        bucket.take(1_000, NOW);

        bucket.set_rate(Bitrate(80_000));
        bucket.take(1_000, NOW);

        assert_eq!(bucket.ready_at(), NOW + SECOND + SECOND / 10);
        assert_eq!(bucket.time_for(500, NOW), SECOND + SECOND * 3 / 20);
    }

    #[test]
    fn the_slowest_rate_and_the_largest_amount_do_not_overflow() {
        let mut bucket = Bucket::new(Bitrate(0), SECOND);

        bucket.take(usize::MAX, NOW);
        bucket.take(usize::MAX, NOW);

        assert!(!bucket.is_ready(NOW));
        assert!(bucket.ready_at() > NOW);
    }
}
