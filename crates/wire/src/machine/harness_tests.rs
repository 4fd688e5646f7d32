//! Negative controls of the harness: one good machine passes, and each broken rule is caught.

use super::*;
use crate::machine::Wakeup;

/// Rings every 100 ms and echoes its inputs; `fault` breaks one rule.
struct Bell {
    fault: Fault,
    seed: u64,
    now: Instant,
    next: Instant,
    outputs: Vec<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    TakesInputFirst,
    WakesInThePast,
    NeverEnds,
}

const PERIOD: Duration = Duration::from_millis(100);

impl Bell {
    fn new(seed: u64, fault: Fault) -> Self {
        Self {
            fault,
            seed,
            now: Instant::ZERO,
            next: Instant::ZERO + PERIOD,
            outputs: Vec::new(),
        }
    }

    fn ring(&mut self) {
        if self.next <= self.now {
            self.outputs.push(format!("ring {:?}", self.now));
            self.next = self.now + PERIOD;
        }
    }
}

impl Machine for Bell {
    type Input = u32;
    type Output = String;

    fn handle_input(&mut self, now: Instant, input: u32) {
        self.now = self.now.max(now);
        if self.fault != Fault::TakesInputFirst {
            self.ring();
        }
        self.outputs.push(format!("input {input} {}", self.seed));
        self.ring();
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.ring();
    }

    fn poll_output(&mut self) -> Option<String> {
        if self.fault == Fault::NeverEnds {
            return Some(String::new());
        }
        if self.outputs.is_empty() {
            None
        } else {
            Some(self.outputs.remove(0))
        }
    }

    fn poll_timeout(&self) -> Option<Wakeup> {
        let at = if self.fault == Fault::WakesInThePast {
            Instant::ZERO
        } else {
            self.next
        };
        Some(Wakeup { at, why: "ring" })
    }
}

fn check(fault: Fault) {
    check_contract(
        0..20,
        |seed| Bell::new(seed, fault),
        |rng| rng.next_u32() % 9,
    );
}

#[test]
fn a_machine_that_keeps_the_contract_passes() {
    check(Fault::None);
}

#[test]
#[should_panic(expected = "did not fire the timers due")]
fn a_machine_that_takes_input_before_its_timers_is_caught() {
    check(Fault::TakesInputFirst);
}

#[test]
#[should_panic(expected = "more outputs than the contract allows")]
fn a_machine_that_never_ends_is_caught() {
    check(Fault::NeverEnds);
}

#[test]
#[should_panic(expected = "is not after")]
fn a_machine_that_wakes_in_the_past_is_caught() {
    check(Fault::WakesInThePast);
}

#[test]
#[should_panic(expected = "gave different outputs")]
fn a_machine_that_differs_from_its_twin_is_caught() {
    let built = std::cell::Cell::new(0);

    check_contract(
        0..20,
        |seed| {
            built.set(built.get() + 1);
            Bell::new(seed + built.get(), Fault::None)
        },
        |rng| rng.next_u32() % 9,
    );
}
