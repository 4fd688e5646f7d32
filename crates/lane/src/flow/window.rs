//! Which numbers of a flow were here: the ring of bits that tells a new packet from a second copy.
//!
//! ```text
//!        next - WINDOW_NUMBERS                     next (one past the highest number seen)
//!  too old │ 1 1 1 0 1 1 1 1 1 1 ... 1 1 0 1 0 1 1 │ not seen yet: taking one moves the window there
//! ```
//!
//! Not the cache: a number stays known long after its packet is gone. Called by `forward` after the carry tag,
//! never before, since whoever moves a window far ahead makes everything behind it too old. Invariant:
//! [`Window::take`] says [`Novelty::New`] once per number, until the number is forgotten.

use levada_wire::Number;

use crate::limits::WINDOW_NUMBERS;

const WORDS: usize = (WINDOW_NUMBERS / 64) as usize;

/// What the window says of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Novelty {
    /// Not seen before.
    New,
    /// Seen before.
    Duplicate,
    /// So old that nobody remembers.
    TooOld,
}

/// See the module's head.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// The bit of a number stands at the number modulo the width.
    bits: Box<[u64; WORDS]>,
    /// One past the highest number seen; zero before the first.
    next: u64,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self {
            bits: Box::new([0; WORDS]),
            next: 0,
        }
    }

    /// Judges a number and remembers it.
    pub(crate) fn take(&mut self, number: Number) -> Novelty {
        let number = number.value();
        if number >= self.next {
            self.move_past(number);
        } else if self.next - number > WINDOW_NUMBERS {
            return Novelty::TooOld;
        }
        let (word, bit) = place(number);
        if self.bits[word] & bit != 0 {
            return Novelty::Duplicate;
        }
        self.bits[word] |= bit;
        Novelty::New
    }

    /// Whether a number was seen, as far as is remembered.
    pub(crate) fn has(&self, number: Number) -> bool {
        let number = number.value();
        let (word, bit) = place(number);
        let is_here = number < self.next && self.next - number <= WINDOW_NUMBERS;
        is_here && self.bits[word] & bit != 0
    }

    /// Makes a number unseen again, so that a good copy of it may come.
    pub(crate) fn forget(&mut self, number: Number) {
        let number = number.value();
        if number < self.next && self.next - number <= WINDOW_NUMBERS {
            let (word, bit) = place(number);
            self.bits[word] &= !bit;
        }
    }

    /// One past the highest number seen; zero before the first.
    pub(crate) const fn next(&self) -> Number {
        Number::from_low_bits(self.next)
    }

    fn move_past(&mut self, number: u64) {
        if number - self.next >= WINDOW_NUMBERS {
            self.bits.fill(0);
        } else {
            for passed in self.next..=number {
                let (word, bit) = place(passed);
                self.bits[word] &= !bit;
            }
        }
        self.next = number + 1;
    }
}

const fn place(number: u64) -> (usize, u64) {
    let at = number % WINDOW_NUMBERS;
    ((at / 64) as usize, 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn number(value: u64) -> Number {
        Number::new(value).unwrap()
    }

    proptest! {
        #[test]
        fn the_window_agrees_with_a_set_of_all_numbers(
            steps in prop::collection::vec((any::<bool>(), 0..20_000_u64), 1..300),
        ) {
            let mut window = Window::new();
            let mut seen = BTreeSet::new();
            let mut at = 30_000;
            for (forward, step) in steps {
                at = if forward { at + step / 4 } else { at - step.min(at) };
                let highest = seen.last().copied().unwrap_or(0);
                let expected = if at + WINDOW_NUMBERS <= highest {
                    Novelty::TooOld
                } else if seen.insert(at) {
                    Novelty::New
                } else {
                    Novelty::Duplicate
                };

                prop_assert_eq!(window.take(number(at)), expected);
            }
        }
    }

    #[test]
    fn a_forgotten_number_is_new_again() {
        let mut window = Window::new();
        window.take(number(5));
        window.take(number(6));

        window.forget(number(5));
        window.forget(number(900));

        assert!(!window.has(number(5)) && window.has(number(6)) && !window.has(number(900)));
        assert_eq!(window.take(number(5)), Novelty::New);
        assert_eq!(window.take(number(6)), Novelty::Duplicate);
        assert_eq!(window.take(number(900)), Novelty::New);
    }

    #[test]
    fn a_far_jump_moves_the_window_and_leaves_the_old_numbers_behind() {
        let mut window = Window::new();
        window.take(number(1));

        assert_eq!(window.take(Number::MAX), Novelty::New);
        assert_eq!(window.take(number(1)), Novelty::TooOld);
        assert_eq!(window.take(Number::MAX), Novelty::Duplicate);
    }
}
