//! The rate of a flow that starts here: the most that went out in any second, bytes on the wire.
//!
//! Eleven steps of 100 ms are added up, so that whatever second one looks at lies within: what is said is never too
//! little, and a tenth too much at most. It is said once a second while packets are made, and at once when it is a
//! quarter above what was said last. Not what follows from it: that is the core's. Called by [`super::Origin`].
//! Invariant: a call costs the same whatever time has passed.

use levada_wire::{Bitrate, Instant};

use crate::limits::{METER_SAID_EVERY, METER_STEP_MILLIS, METER_STEPS};

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// The bytes of each step, by its number modulo [`METER_STEPS`].
    steps: [u64; METER_STEPS],
    /// The number of the present step; `None` before the first packet.
    step: Option<u64>,
    /// The most that all steps held since the rate was said.
    most: u64,
    said: u64,
    /// The step in which it is said again.
    say_at: u64,
}

impl Meter {
    /// Counts what is sent now; gives the rate, when it is to be said.
    pub(super) fn count(&mut self, bytes: usize, now: Instant) -> Option<Bitrate> {
        let step = now.as_micros() / (METER_STEP_MILLIS * 1_000);
        self.move_to(step);
        self.steps[place(step)] += bytes as u64;
        let held: u64 = self.steps.iter().sum();
        self.most = self.most.max(held);
        let leaps = self.said > 0 && held > self.said + self.said / 4;
        if step < self.say_at && !leaps {
            return None;
        }
        (self.said, self.most) = (self.most, held);
        self.say_at = step + METER_SAID_EVERY;
        Some(Bitrate(self.said.saturating_mul(8)))
    }

    /// Empties the steps that begin.
    fn move_to(&mut self, step: u64) {
        let Some(before) = self.step.replace(step) else {
            self.say_at = step + METER_SAID_EVERY;
            return;
        };
        let passed = step.saturating_sub(before).min(METER_STEPS as u64);
        for begun in 0..passed {
            self.steps[place(step - begun)] = 0;
        }
    }
}

fn place(step: u64) -> usize {
    usize::try_from(step % METER_STEPS as u64).expect("it is below eleven")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet of that size each 10 ms between two moments; what is said, and when, in milliseconds.
    fn feed(meter: &mut Meter, millis: std::ops::Range<u64>, bytes: usize) -> Vec<(u64, u64)> {
        let moments = millis.step_by(10);
        let said = moments.filter_map(|millis| {
            let now = Instant::from_nanos(millis * 1_000_000);
            meter.count(bytes, now).map(|rate| (millis, rate.0))
        });
        said.collect()
    }

    #[test]
    fn a_steady_rate_is_said_each_second_and_not_too_low() {
        let mut meter = Meter::default();

        let said = feed(&mut meter, 50..4_050, 1_000);

        assert_eq!(
            said.iter().map(|(at, _)| *at).collect::<Vec<_>>(),
            [1_000, 2_000, 3_000, 4_000]
        );
        let true_rate = 100 * 1_000 * 8;
        for (at, rate) in &said[1..] {
            assert!(
                (true_rate..=true_rate * 11 / 10).contains(rate),
                "{rate} at {at}"
            );
        }
    }

    #[test]
    fn a_second_of_high_rate_is_found_wherever_it_lies() {
        let mut meter = Meter::default();
        feed(&mut meter, 0..1_530, 1_000);

        feed(&mut meter, 1_530..2_530, 1_200);
        let said = feed(&mut meter, 2_530..3_100, 10);

        let most = said.iter().map(|(_, rate)| *rate).max();
        assert!(most >= Some(100 * 1_200 * 8), "{said:?}");
    }

    #[test]
    fn a_rate_that_leaps_is_said_at_once() {
        let mut meter = Meter::default();
        feed(&mut meter, 0..1_010, 1_000);

        let said = feed(&mut meter, 1_010..1_600, 10_000);

        assert!(said[0].0 <= 1_050, "{said:?}");
        assert!(said.len() < 10, "by a quarter each: {said:?}");
    }

    #[test]
    fn what_was_sent_before_a_pause_is_forgotten() {
        let mut meter = Meter::default();
        feed(&mut meter, 0..3_000, 50_000);

        feed(&mut meter, 3_600_000..3_601_000, 10);
        let said = feed(&mut meter, 3_601_000..3_602_010, 10);

        assert!(
            said.last().is_some_and(|(_, rate)| *rate < 10_000),
            "{said:?}"
        );
    }
}
