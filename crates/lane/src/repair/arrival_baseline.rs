//! A flow's own time over one upstream: when a packet should be here, if nothing delayed it.
//!
//! The clock of the origin and ours differ by an unknown constant, and every packet takes the way's delay and some
//! waiting on top. The least (arrival - sent) of the last 30 s is the constant plus the delay of the way without
//! waiting: the **zero**. A packet's own time is zero + sent; how late it may be is the budget. No clock is
//! synchronised. Not a deadline by itself: `repair` adds the budget. Called by `flow::upstream`. Invariant: zero
//! follows a faster way at once and a slower one, or a drifting clock, by 0.5 ms in a second at most, so that playout
//! does not jump.

use std::time::Duration;

use levada_wire::{Instant, OriginTime};

use crate::limits::{BASELINE_PART, BASELINE_SLEW};

/// Arrival less sent in microseconds, of two clocks that know nothing of each other: only differences mean something.
type Offset = OriginTime;

/// See the module's head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ArrivalBaseline {
    held: Offset,
    least: Offset,
    least_before: Offset,
    part_since: Instant,
    slewed_at: Instant,
}

impl ArrivalBaseline {
    /// A zero from the first packet.
    pub(crate) fn new(sent: OriginTime, now: Instant) -> Self {
        let first = offset(sent, now);
        Self {
            held: first,
            least: first,
            least_before: first,
            part_since: now,
            slewed_at: now,
        }
    }

    /// A packet arrived.
    pub(crate) fn sample(&mut self, sent: OriginTime, now: Instant) {
        let new = offset(sent, now);
        if now.since(self.part_since) >= BASELINE_PART {
            (self.least_before, self.least) = (self.least, new);
            self.part_since = now;
        } else {
            self.least = lesser(self.least, new);
        }
        let least = lesser(self.least, self.least_before);
        let above = least.micros_since(self.held);
        let rise = now.since(self.slewed_at).as_micros() / u128::from(BASELINE_SLEW);
        if above <= 0 {
            self.held = least;
            self.slewed_at = now;
        } else if rise > 0 {
            let rise = u32::try_from(rise).unwrap_or(u32::MAX);
            self.held.0 = self.held.0.wrapping_add(rise.min(above.unsigned_abs()));
            self.slewed_at = now;
        }
    }

    /// When a packet sent at that time should be here, seen from `now`.
    pub(crate) fn time_of(&self, sent: OriginTime, now: Instant) -> Instant {
        let due = OriginTime(sent.0.wrapping_add(self.held.0));
        let micros = due.micros_since(OriginTime::from_instant(now));
        let distance = Duration::from_micros(u64::from(micros.unsigned_abs()));
        if micros < 0 {
            now - distance
        } else {
            now + distance
        }
    }
}

const fn offset(sent: OriginTime, now: Instant) -> Offset {
    OriginTime(OriginTime::from_instant(now).0.wrapping_sub(sent.0))
}

const fn lesser(a: Offset, b: Offset) -> Offset {
    if a.micros_since(b) < 0 { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The origin's clock is this far ahead of ours, beyond where its 32 bits turn over.
    const AHEAD: u32 = u32::MAX - 1_000;

    const fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    /// What the origin writes at that time of our clock.
    fn sent(millis: u64) -> OriginTime {
        OriginTime(OriginTime::from_instant(at(millis)).0.wrapping_add(AHEAD))
    }

    /// A packet a second, each on its way for `delay`.
    fn run(baseline: &mut ArrivalBaseline, seconds: std::ops::Range<u64>, delay: u64) {
        for second in seconds {
            baseline.sample(sent(second * 1_000), at(second * 1_000 + delay));
        }
    }

    #[test]
    fn the_fastest_packet_makes_the_zero() {
        let mut baseline = ArrivalBaseline::new(sent(0), at(70));
        baseline.sample(sent(100), at(140));
        baseline.sample(sent(200), at(290));

        assert_eq!(baseline.time_of(sent(300), at(0)), at(340));
        assert_eq!(baseline.time_of(sent(300), at(900)), at(340));
    }

    #[test]
    fn a_slower_way_is_followed_after_the_window_and_slowly() {
        let mut baseline = ArrivalBaseline::new(sent(0), at(40));
        run(&mut baseline, 1..16, 40);
        run(&mut baseline, 16..40, 60);
        assert!(
            baseline.time_of(sent(40_000), at(40_000)) < at(40_045),
            "{baseline:?}"
        );

        run(&mut baseline, 40..60, 60);
        let after = baseline.time_of(sent(60_000), at(60_000));
        assert!(after > at(60_045) && after < at(60_060), "{after:?}");

        run(&mut baseline, 60..120, 60);
        assert_eq!(baseline.time_of(sent(120_000), at(120_000)), at(120_060));
    }

    #[test]
    fn a_faster_way_is_followed_at_once() {
        let mut baseline = ArrivalBaseline::new(sent(0), at(60));
        run(&mut baseline, 1..100, 60);

        baseline.sample(sent(100_000), at(100_020));

        assert_eq!(baseline.time_of(sent(101_000), at(101_000)), at(101_020));
    }
}
