//! Drives any machine by a real clock.
//!
//! It hands inputs in with the time they came, waits for the machine's timer, and hands outputs out. Not the
//! meaning of either. Called by `driver`. Invariant: the machine sees no time but the clock's, read once per call.

use std::time::Duration;

use levada_ports::Clock;
use levada_wire::{Instant, Machine, WallTime};

/// The longest wait at once: a timer beyond it is looked at again.
const WAIT_MAX: Duration = Duration::from_secs(3_600);

/// A machine and the clock it runs by.
#[derive(Debug)]
pub(crate) struct Pump<M> {
    machine: M,
    clock: Clock,
}

impl<M: Machine> Pump<M> {
    pub(crate) const fn new(machine: M, clock: Clock) -> Self {
        Self { machine, clock }
    }

    pub(crate) const fn machine(&self) -> &M {
        &self.machine
    }

    /// For what is no input of the machine: it neither takes time nor makes outputs.
    pub(crate) const fn machine_mut(&mut self) -> &mut M {
        &mut self.machine
    }

    /// The machine's time.
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// The wall clock, for what people read.
    pub(crate) fn wall(&self) -> WallTime {
        self.clock.wall()
    }

    /// Hands in what happened just now.
    pub(crate) fn handle(&mut self, input: impl Into<M::Input>) {
        self.machine.handle_input(self.clock.now(), input.into());
    }

    /// Fires the timers that are due.
    pub(crate) fn fire(&mut self) {
        self.machine.handle_timeout(self.clock.now());
    }

    /// Takes the next thing to be done.
    pub(crate) fn poll(&mut self) -> Option<M::Output> {
        self.machine.poll_output()
    }

    /// Waits until the machine wants to be woken; for ever if it does not. May be dropped and called again.
    pub(crate) async fn due(&self) {
        let Some(wakeup) = self.machine.poll_timeout() else {
            return std::future::pending().await;
        };
        let wait = wakeup.at.since(self.clock.now()).min(WAIT_MAX);
        tokio::time::sleep(wait).await;
    }
}
