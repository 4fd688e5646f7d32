//! Checks the contract of any machine by fuzzing the order, the times and the inputs of its calls.
//!
//! Not a test of what a machine decides: only of how it behaves. Called by the tests of `core` and
//! `lane`, once per machine. Invariant: every random choice comes from the seed, so that a failure is
//! replayed by the seed that its message names.

use std::fmt::Debug;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::{Machine, OUTPUTS_PER_CALL_MAX};
use crate::time::Instant;

/// Calls made in one run.
const CALLS: usize = 400;

/// Runs the machine that `make` builds through `seeds` random schedules and checks the contract in each.
///
/// `make(seed)` must build equal machines for equal seeds; `input(rng)` draws any input, sensible or not.
///
/// # Panics
///
/// When the contract is broken; the message names the rule and the seed.
pub fn check_contract<M>(
    seeds: std::ops::Range<u64>,
    make: impl Fn(u64) -> M,
    input: impl Fn(&mut ChaCha8Rng) -> M::Input,
) where
    M: Machine,
    M::Output: Debug,
{
    for seed in seeds {
        let run = |timers_first| Run::new(seed, make(seed), timers_first).play(&input);
        let first = run(false);
        assert!(
            first == run(false),
            "seed {seed}: same inputs and seed gave different outputs"
        );
        assert!(
            first == run(true),
            "seed {seed}: handle_input did not fire the timers due before it took its input"
        );
    }
}

struct Run<M> {
    seed: u64,
    machine: M,
    rng: ChaCha8Rng,
    /// Whether each input is preceded by a `handle_timeout` of the same moment: it must change nothing.
    timers_first: bool,
    now: Instant,
    /// The latest time the machine was told.
    told: Instant,
    /// Calls since all outputs were taken.
    calls: usize,
    trace: Vec<String>,
}

impl<M> Run<M>
where
    M: Machine,
    M::Output: Debug,
{
    fn new(seed: u64, machine: M, timers_first: bool) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let now = Instant::from_nanos(1_000_000_000);
        Self {
            seed,
            machine,
            rng,
            timers_first,
            now,
            told: Instant::ZERO,
            calls: 0,
            trace: Vec::new(),
        }
    }

    fn play(mut self, input: &impl Fn(&mut ChaCha8Rng) -> M::Input) -> Vec<String> {
        for _ in 0..CALLS {
            let now = self.next_time();
            match self.rng.next_u32() % 8 {
                0..4 => {
                    let drawn = input(&mut self.rng);
                    if self.timers_first {
                        self.machine.handle_timeout(now);
                    }
                    self.machine.handle_input(now, drawn);
                    self.note_call(now);
                }
                4 | 5 => self.tell_time(now),
                // A caller may take only some of what there is.
                6 => self.take(3),
                _ => self.drain(),
            }
        }
        self.drain();
        self.sleep_through_timers();
        self.trace
    }

    /// Mostly a little later, at times much later, at times the very wake-up, at times in the past.
    fn next_time(&mut self) -> Instant {
        let step = match self.rng.next_u32() % 10 {
            0..5 => Duration::from_micros(u64::from(self.rng.next_u32() % 20_000)),
            5..7 => Duration::from_millis(u64::from(self.rng.next_u32() % 5_000)),
            7 => match self.machine.poll_timeout() {
                Some(wakeup) => wakeup.at.since(self.now),
                None => Duration::ZERO,
            },
            8 => Duration::ZERO,
            _ => return self.now - Duration::from_millis(u64::from(self.rng.next_u32() % 5_000)),
        };
        self.now += step;
        self.now
    }

    fn tell_time(&mut self, now: Instant) {
        self.machine.handle_timeout(now);
        self.note_call(now);
    }

    fn note_call(&mut self, now: Instant) {
        self.told = self.told.max(now);
        self.calls += 1;
    }

    fn take(&mut self, count: usize) {
        for _ in 0..count {
            let Some(output) = self.machine.poll_output() else {
                return;
            };
            self.trace.push(format!("{output:?}"));
        }
    }

    /// Takes all outputs, then checks rules 4 and 6.
    fn drain(&mut self) {
        let mut taken = 0;
        while let Some(output) = self.machine.poll_output() {
            self.trace.push(format!("{output:?}"));
            taken += 1;
            assert!(
                taken <= self.calls.max(1) * OUTPUTS_PER_CALL_MAX,
                "seed {}: {} calls left more outputs than the contract allows",
                self.seed,
                self.calls
            );
        }
        self.calls = 0;
        let wakeup = self.machine.poll_timeout();
        if let Some(wakeup) = wakeup {
            self.trace.push(format!("{wakeup:?}"));
            assert!(
                wakeup.at > self.told,
                "seed {}: wake-up `{}` at {:?} is not after {:?}",
                self.seed,
                wakeup.why,
                wakeup.at,
                self.told
            );
        }
        assert_eq!(
            wakeup,
            self.machine.poll_timeout(),
            "seed {}: poll_timeout moved without an input",
            self.seed
        );
    }

    /// Follows the machine's own wake-ups; [`Run::drain`] checks that each lies ahead.
    fn sleep_through_timers(&mut self) {
        self.tell_time(self.now);
        self.drain();
        for _ in 0..50 {
            let Some(wakeup) = self.machine.poll_timeout() else {
                return;
            };
            self.now = wakeup.at;
            self.tell_time(self.now);
            self.drain();
        }
    }
}

#[cfg(test)]
#[path = "harness_tests.rs"]
mod tests;
