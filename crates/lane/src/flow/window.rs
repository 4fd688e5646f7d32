//! Which numbers of a flow were here: the ring of bits that tells a new packet from a second copy.
//!
//! ```text
//!        next - width                              next (one past the highest number seen)
//!  too old │ 1 1 1 0 1 1 1 1 1 1 ... 1 1 0 1 0 1 1 │ not seen yet: taking one moves the window there
//! ```
//!
//! Not the cache: a number stays known long after its packet is gone. Called by `forward` after the carry tag,
//! never before, since whoever moves a window far ahead makes everything behind it too old. Invariant:
//! [`Window::take`] says [`Novelty::New`] once per number, until the number is forgotten.

use levada_wire::Number;

use crate::limits::{LACKED_PARTS, WINDOW_NUMBERS};

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
    bits: Box<[u64]>,
    /// One past the highest number seen; zero before the first.
    next: u64,
    /// Where it began: what came before that is not lacked.
    first: u64,
    /// How many numbers between `first` and `next` are remembered as not seen.
    lacks: u64,
}

impl Window {
    /// A window of the least width.
    pub(crate) fn new() -> Self {
        Self::of_width(WINDOW_NUMBERS)
    }

    /// A window that remembers so many numbers: a multiple of 64, as many as the least width at least.
    pub(crate) fn of_width(width: u64) -> Self {
        let width = width.max(WINDOW_NUMBERS);
        Self {
            bits: vec![0; usize::try_from(width / 64).expect("it has a limit")].into(),
            next: 0,
            first: 0,
            lacks: 0,
        }
    }

    /// How many numbers it remembers.
    pub(crate) const fn width(&self) -> u64 {
        self.bits.len() as u64 * 64
    }

    /// Remembers more numbers from now on; what it had forgotten of them counts as seen, so that no copy passes.
    pub(crate) fn widen(&mut self, width: u64) {
        let old = self.width();
        if width <= old {
            return;
        }
        let mut wide = Self::of_width(width);
        for number in self.next.saturating_sub(width)..self.next {
            if self.next - number > old || self.is_set(number) {
                let (word, bit) = wide.place(number);
                wide.bits[word] |= bit;
            }
        }
        self.bits = wide.bits;
    }

    /// Whether a number can be of this window's flow: it is remembered, or so little ahead that what is on its way
    /// will still find a place when it comes. In an empty window any can.
    pub(crate) const fn explains(&self, number: Number) -> bool {
        let number = number.value();
        if number < self.next {
            return self.next - number <= self.width();
        }
        let ahead = number - self.next;
        let most = self.width() / LACKED_PARTS.1 * LACKED_PARTS.0;
        self.next == 0 || ahead == 0 || self.lacks + ahead <= most
    }

    /// Judges a number and remembers it.
    pub(crate) fn take(&mut self, number: Number) -> Novelty {
        let number = number.value();
        if number >= self.next {
            self.move_past(number);
        } else if self.next - number > self.width() {
            return Novelty::TooOld;
        }
        let (word, bit) = self.place(number);
        if self.bits[word] & bit != 0 {
            return Novelty::Duplicate;
        }
        self.bits[word] |= bit;
        self.lacks -= u64::from(number >= self.first);
        Novelty::New
    }

    /// Whether a number was seen, as far as is remembered.
    pub(crate) fn has(&self, number: Number) -> bool {
        let number = number.value();
        let is_here = number < self.next && self.next - number <= self.width();
        is_here && self.is_set(number)
    }

    /// Makes a number unseen again, so that a good copy of it may come.
    pub(crate) fn forget(&mut self, number: Number) {
        let number = number.value();
        if number < self.next && self.next - number <= self.width() {
            let (word, bit) = self.place(number);
            let was_seen = self.bits[word] & bit != 0;
            self.lacks += u64::from(was_seen && number >= self.first);
            self.bits[word] &= !bit;
        }
    }

    /// One past the highest number seen; zero before the first.
    pub(crate) const fn next(&self) -> Number {
        Number::from_low_bits(self.next)
    }

    fn move_past(&mut self, number: u64) {
        if self.next == 0 || number - self.next >= self.width() {
            self.bits.fill(0);
            (self.first, self.lacks) = (number, 1);
        } else {
            for passed in self.next..=number {
                let (word, bit) = self.place(passed);
                let was_lacked = self.bits[word] & bit == 0 && passed >= self.first + self.width();
                self.lacks = self.lacks + 1 - u64::from(was_lacked);
                self.bits[word] &= !bit;
            }
        }
        self.next = number + 1;
    }

    fn is_set(&self, number: u64) -> bool {
        let (word, bit) = self.place(number);
        self.bits[word] & bit != 0
    }

    const fn place(&self, number: u64) -> (usize, u64) {
        let at = number % self.width();
        ((at / 64) as usize, 1 << (at % 64))
    }
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
            let oldest = window.next.saturating_sub(WINDOW_NUMBERS).max(window.first);
            let taken = seen.range(oldest..window.next).count() as u64;
            prop_assert_eq!(window.lacks, window.next - oldest - taken);
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
    fn one_that_leaps_ahead_again_and_again_leaves_room_for_what_it_leapt_over() {
        let mut window = Window::new();
        window.take(number(100));
        let most = WINDOW_NUMBERS / 4 * 3;
        let step = most / 3;

        let mut at = 100;
        while window.explains(number(at + step)) {
            at += step;
            assert_eq!(window.take(number(at)), Novelty::New);
        }

        assert!(at + step - 100 > most && at - 100 < WINDOW_NUMBERS);
        assert!(!window.explains(Number::MAX) && window.explains(number(at + 1)));
        assert_eq!(window.take(number(101)), Novelty::New);
    }

    #[test]
    fn a_far_jump_moves_the_window_and_leaves_the_old_numbers_behind() {
        let mut window = Window::new();
        window.take(number(1));

        assert_eq!(window.take(Number::MAX), Novelty::New);
        assert_eq!(window.take(number(1)), Novelty::TooOld);
        assert_eq!(window.take(Number::MAX), Novelty::Duplicate);
    }

    #[test]
    fn a_window_that_was_widened_knows_what_it_knew_and_takes_nothing_twice() {
        let mut window = Window::new();
        for value in (0..20_000).filter(|value| value % 3 > 0) {
            window.take(number(value));
        }
        let (lacked, narrow) = (window.lacks, window.clone());

        window.widen(4 * WINDOW_NUMBERS);
        window.widen(WINDOW_NUMBERS);

        assert_eq!((window.width(), window.lacks), (4 * WINDOW_NUMBERS, lacked));
        for value in 0..30_000 {
            let is_known = narrow.next - value.min(narrow.next) <= WINDOW_NUMBERS;
            let before = is_known.then(|| narrow.clone().take(number(value)));
            let after = window.clone().take(number(value));
            assert_eq!(after, before.unwrap_or(Novelty::Duplicate), "{value}");
        }
        let far = 19_999 + 2 * WINDOW_NUMBERS;
        assert!(!narrow.explains(number(far)) && window.explains(number(far)));
    }
}
