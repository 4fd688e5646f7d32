//! What a flow needs of a path: the most bytes of any second of late, and its largest burst.
//!
//! ```text
//!   ten steps of 100 ms by the origin's clock     │▁│█│▂│▁│▂│▁│▂│▁│▂│▂│   their sum is a second
//!                                                                     └ the most of it lately is the rate
//! ```
//!
//! Time is told by the packets' own `sent`, so that a group that is caught up with, or that was paced before, counts as
//! what it was made in. In the first second what has come counts as if half a second at least had passed. Not the peak
//! that the origin declares, which may be a default or a wish (`core::flow::peak`). Called by `forward` for each run;
//! read by the pacers of children. Invariant: a call costs the same whatever time has passed, and what is older than
//! [`RATE_PART`] twice over counts no more.

use std::time::Duration;

use levada_wire::{Bitrate, Number, OriginTime};

use super::run::Run;
use crate::limits::{RATE_FIRST, RATE_PART, RATE_STEP, RATE_STEPS};

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct FlowRate {
    /// When the newest packet was sent, on the origin's clock and since the first.
    newest: Option<(OriginTime, Duration)>,
    steps: [u64; RATE_STEPS],
    /// The most of this part of time, and of the one before.
    most: [Most; 2],
    part: u64,
    burst: Number,
    burst_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Most {
    second: u64,
    burst: u64,
}

impl FlowRate {
    /// Counts what came or was made here.
    pub(crate) fn count(&mut self, run: &Run) {
        let bytes = run.bytes.len() as u64;
        let (newest, at) = *self.newest.get_or_insert((run.sent, Duration::ZERO));
        let ahead = run.sent.micros_since(newest);
        let ahead_by = Duration::from_micros(u64::from(ahead.unsigned_abs()));
        if ahead < 0 && ahead_by > RATE_PART {
            *self = Self::default(); // nothing comes so late: it was quiet for as long as the clock goes round
            return self.count(run);
        }
        let at = if ahead > 0 {
            self.move_on(at, at + ahead_by);
            self.newest = Some((run.sent, at + ahead_by));
            at + ahead_by
        } else {
            at.saturating_sub(ahead_by)
        };
        let now = self.newest.map_or(at, |(_, now)| now);
        if now.saturating_sub(at) < RATE_STEP * (RATE_STEPS as u32 - 1) {
            self.steps[place(step(at))] += bytes;
        }
        self.burst_bytes = if run.burst == self.burst {
            self.burst_bytes + bytes
        } else {
            bytes
        };
        self.burst = run.burst;
        let most = &mut self.most[1];
        most.second = most.second.max(self.steps.iter().sum());
        most.burst = most.burst.max(self.burst_bytes);
    }

    /// The most that it had in a second of late, as bytes of packets; zero before the first.
    pub(crate) fn most(&self) -> Bitrate {
        let Some((_, since_first)) = self.newest else {
            return Bitrate(0);
        };
        let bits = self.most.iter().map(|most| most.second).max().unwrap_or(0) * 8;
        let known = since_first.clamp(RATE_FIRST, Duration::from_secs(1));
        let scaled = u128::from(bits) * 1_000_000 / known.as_micros();
        Bitrate(u64::try_from(scaled).unwrap_or(u64::MAX))
    }

    /// The bytes of its largest burst of late.
    pub(crate) fn largest_burst(&self) -> u64 {
        self.most.iter().map(|most| most.burst).max().unwrap_or(0)
    }

    /// Time goes on: empties the steps that begin.
    fn move_on(&mut self, from: Duration, to: Duration) {
        let (before, now) = (step(from), step(to));
        let begun = (now - before).min(RATE_STEPS as u64);
        for back in 0..begun {
            self.steps[place(now - back)] = 0;
        }
        let part = to.as_secs() / RATE_PART.as_secs();
        if part != self.part {
            let kept = if part == self.part + 1 {
                self.most[1]
            } else {
                Most::default()
            };
            self.most = [kept, Most::default()];
            self.part = part;
        }
    }
}

/// The number of the step in which that moment is.
fn step(at: Duration) -> u64 {
    u64::try_from(at.as_micros() / RATE_STEP.as_micros()).unwrap_or(u64::MAX)
}

fn place(step: u64) -> usize {
    usize::try_from(step % RATE_STEPS as u64).expect("it is below ten")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use bytes::Bytes;

    use super::*;

    /// A burst of that many bytes that was sent then.
    fn run(number: u64, millis: u32, bytes: usize) -> Run {
        let first = Number::new(number).unwrap();
        Run {
            first,
            group_start: first,
            burst: first,
            sent: OriginTime(millis.wrapping_mul(1_000)),
            bytes: Bytes::from(vec![0; bytes]),
            segment_bytes: 1_000,
            buffer_bytes: bytes,
        }
    }

    /// Bursts of a size each 40 ms from one second to another; the first of each second is of another size.
    fn play(rate: &mut FlowRate, seconds: std::ops::Range<u32>, first: usize, bytes: usize) {
        for at in seconds.start * 25..seconds.end * 25 {
            let bytes = if at % 25 == 0 { first } else { bytes };
            rate.count(&run(u64::from(at) * 1_000, at * 40, bytes));
        }
    }

    #[test]
    fn the_most_of_a_second_is_told_large_pictures_and_all() {
        let mut rate = FlowRate::default();

        play(&mut rate, 0..5, 200_000, 25_000);

        let most = rate.most().0;
        assert!((6_000_000..=6_500_000).contains(&most), "{most}");
        assert_eq!(rate.largest_burst(), 200_000);
    }

    #[test]
    fn in_the_first_second_what_came_counts_as_half_a_second_at_least() {
        let mut rate = FlowRate::default();
        assert_eq!(rate.most(), Bitrate(0));

        rate.count(&run(0, 0, 100_000));

        assert_eq!(rate.most(), Bitrate(1_600_000));
    }

    #[test]
    fn a_group_that_comes_at_once_counts_by_the_time_in_which_it_was_made() {
        let (mut live, mut caught_up) = (FlowRate::default(), FlowRate::default());
        play(&mut live, 0..2, 50_000, 5_000);
        play(&mut caught_up, 0..2, 50_000, 5_000); // the arrival has no part in it

        assert_eq!(live.most(), caught_up.most());
        assert!(live.most() < Bitrate(1_500_000));
    }

    #[test]
    fn a_calmer_flow_needs_less_after_a_while_and_time_may_leap() {
        let mut rate = FlowRate::default();
        play(&mut rate, 0..2, 200_000, 50_000);
        let busy = rate.most();

        play(&mut rate, 2..60, 5_000, 5_000);
        assert!(rate.most() < Bitrate(busy.0 / 4), "{:?}", rate.most());

        rate.count(&run(9_000_000, 120_000, 1_000));
        assert_eq!(rate.most(), Bitrate(8_000));
        rate.count(&run(9_900_000, 3_000_000, 1_000)); // more than half of the clock's round later
        assert_eq!(rate.most(), Bitrate(16_000));
        assert_eq!(rate.largest_burst(), 1_000);
    }

    #[test]
    fn what_comes_late_counts_in_its_own_time_and_what_is_too_old_not_at_all() {
        let mut rate = FlowRate::default();
        play(&mut rate, 0..3, 1_000, 1_000);
        let before = rate.most();

        rate.count(&run(1, 0, 900_000));
        assert_eq!(rate.most(), before);

        rate.count(&run(2, 2_500, 100_000));
        assert!(rate.most() > before);
    }
}
