//! Rule 6 of the machine contract, kept in every run: one call leaves at most `OUTPUTS_PER_CALL_MAX` outputs behind.
//!
//! `wire::machine::harness` calls a machine by itself; here it has real company. Not a checker of the network
//! (`check`): what is found ends the run by the world's `machine` checker. Called by `Process`. Invariant: outputs are
//! held against the calls since the machine last had nothing to say.

use levada_wire::machine::OUTPUTS_PER_CALL_MAX;

/// Calls of one machine, and what it said since it was last silent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    calls: usize,
    outputs: usize,
}

impl Tally {
    /// The machine was called.
    pub(super) const fn called(&mut self) {
        self.calls += 1;
    }

    /// It had something to say, or not. False if it has said more than it may.
    pub(super) const fn polled(&mut self, is_output: bool) -> bool {
        if is_output {
            self.outputs += 1;
            self.outputs <= self.calls.saturating_mul(OUTPUTS_PER_CALL_MAX)
        } else {
            *self = Self {
                calls: 0,
                outputs: 0,
            };
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(tally: &mut Tally, outputs: usize) -> bool {
        (0..outputs).all(|_| tally.polled(true))
    }

    #[test]
    fn a_call_may_leave_as_many_outputs_as_the_contract_says_and_no_more() {
        let mut tally = Tally::default();

        tally.called();
        assert!(says(&mut tally, OUTPUTS_PER_CALL_MAX));
        assert!(!says(&mut tally, 1));
    }

    #[test]
    fn each_call_counts_until_the_machine_is_silent() {
        let mut tally = Tally::default();
        tally.called();
        tally.called();
        assert!(says(&mut tally, 2 * OUTPUTS_PER_CALL_MAX));
        assert!(tally.polled(false));

        tally.called();

        assert!(says(&mut tally, OUTPUTS_PER_CALL_MAX));
        assert!(!says(&mut tally, 1));
    }

    #[test]
    fn an_output_without_any_call_is_one_too_many() {
        assert!(!says(&mut Tally::default(), 1));
    }
}
