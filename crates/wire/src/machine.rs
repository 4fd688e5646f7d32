//! The contract that every protocol machine keeps, so that a simulator and a socket can drive the same code.
//!
//! A machine is told what happened and what time it is; it answers with what is to be done and when it
//! wants to be woken. It does no I/O, reads no clock, and takes chance from a generator it was given.
//!
//! ```text
//!            handle_input(now, input)          poll_output() -> Some(Output) ... None
//!   world ─────────────────────────▶ machine ─────────────────────────────────────▶ world
//!            handle_timeout(now)               poll_timeout() -> Wakeup { at, why }
//! ```
//!
//! The contract, checked for each machine by [`harness::check_contract`]:
//!
//! 1. any order of calls is legal;
//! 2. `now` never goes back: an earlier one is taken as the latest one seen;
//! 3. `handle_input` first fires the timers due at `now`;
//! 4. once `poll_output` has said `None`, `poll_timeout` lies after the last `now` and stays put until
//!    the next input;
//! 5. same inputs and same seed give the same outputs;
//! 6. one call leaves at most [`OUTPUTS_PER_CALL_MAX`] outputs behind.
//!
//! Not a runtime: who drives the machines (`node::driver`, `sim::world`) is none of this file's business.

use crate::time::Instant;

pub mod harness;

/// The most outputs one call may leave behind: a train of 64 packets, each sent alone to a thousand egresses, and all
/// frames of a burst. A machine that needs more splits its work over wake-ups.
pub const OUTPUTS_PER_CALL_MAX: usize = 69_632;

/// When a machine wants to be woken, and why, for traces and for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wakeup {
    /// The moment at which `handle_timeout` has something to do.
    pub at: Instant,
    /// The timer's name.
    pub why: &'static str,
}

impl Wakeup {
    /// The earlier of two wake-ups; the first of equals.
    #[must_use]
    pub fn earlier(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(if b.at < a.at { b } else { a }),
            (a, b) => a.or(b),
        }
    }
}

/// A protocol machine. See the module's head for the contract.
pub trait Machine {
    /// What may happen to it.
    type Input;
    /// What it wants done.
    type Output;

    /// Takes what happened at `now`. Never fails: a peer's mistake becomes an output.
    fn handle_input(&mut self, now: Instant, input: Self::Input);

    /// Fires the timers due at `now`.
    fn handle_timeout(&mut self, now: Instant);

    /// Takes the next thing to be done.
    fn poll_output(&mut self) -> Option<Self::Output>;

    /// Says when to call `handle_timeout`, if ever.
    fn poll_timeout(&self) -> Option<Wakeup>;
}
