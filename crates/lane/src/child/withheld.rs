//! What a child was not sent on purpose: so that the child hears GONE, and that it is not sent after all when it
//! asks.
//!
//! ```text
//!   sent │ withheld │ sent │ withheld ............ │ cursor
//!                          said so far ▲  └ not said yet: goes out when the time has come, packed in few datagrams
//! ```
//!
//! Not the choice of what to withhold: `behind.rs`. Called by that, by `pace.rs` and by `flow::multicast`. Invariant:
//! at most [`WITHHELD_RANGES_MAX`] ranges are remembered, in order and apart from each other, and one saying names at
//! most [`GONE_NUMBERS_MAX`] numbers; a child that asks for older ones hears GONE or gets them as repairs.

use std::collections::VecDeque;
use std::time::Duration;

use levada_wire::{Instant, Number};

use crate::limits::{GONE_INTERVAL, GONE_NUMBERS_MAX, WITHHELD_FOR, WITHHELD_RANGES_MAX};

/// Numbers from the first up to, but not with, the second.
type Range = (Number, Number);

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Withheld {
    ranges: VecDeque<Range>,
    /// What is below this was said.
    said: Number,
    say_at: Option<Instant>,
    latest: Instant,
}

impl Withheld {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            ranges: VecDeque::new(),
            said: Number::ZERO,
            say_at: None,
            latest: now,
        }
    }

    /// Withholds numbers, and says so after `wait`.
    pub(crate) fn add(&mut self, (first, end): Range, now: Instant, wait: Duration) {
        if first >= end {
            return;
        }
        // Those that it touches become one with it.
        let from = self.ranges.partition_point(|range| range.1 < first);
        let to = self.ranges.partition_point(|range| range.0 <= end);
        let touched = self.ranges.range(from..to);
        let whole = touched.fold((first, end), |whole, range| {
            (whole.0.min(range.0), whole.1.max(range.1))
        });
        if self.ranges.get(from) == Some(&whole) {
            return; // a part of what is withheld already
        }
        self.ranges.drain(from..to);
        self.ranges.insert(from, whole);
        if self.ranges.len() > WITHHELD_RANGES_MAX {
            self.ranges.pop_front();
        }
        let say_at = now + wait;
        self.say_at = Some(self.say_at.map_or(say_at, |at| at.min(say_at)));
        (self.said, self.latest) = (self.said.min(first), now);
    }

    /// What is not said yet is said now.
    pub(crate) fn say(&mut self, now: Instant) {
        self.say_at = self.say_at.map(|at| at.min(now));
    }

    /// Whether that number is withheld, as far as is remembered.
    pub(crate) fn contains(&self, number: Number) -> bool {
        let at = self.ranges.partition_point(|&(_, end)| end <= number);
        self.ranges.get(at).is_some_and(|range| range.0 <= number)
    }

    /// When something is to be said.
    pub(crate) const fn say_at(&self) -> Option<Instant> {
        self.say_at
    }

    /// What is to be said by now, in order.
    pub(crate) fn take_unsaid(&mut self, now: Instant) -> Vec<Number> {
        if self.say_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.say_at = None;
        let (mut unsaid, mut left) = (Vec::new(), GONE_NUMBERS_MAX);
        for &(first, end) in self.ranges.iter().rev() {
            let first = first.max(self.said);
            if first >= end || left == 0 {
                break;
            }
            let count = end.since(first).min(left);
            left -= count;
            let newest = (1..=count).filter_map(|back| end.minus(back));
            unsaid.extend(newest);
        }
        unsaid.reverse();
        self.said = self.ranges.back().map_or(self.said, |range| range.1);
        unsaid
    }

    /// Whether something was withheld a moment ago.
    pub(crate) fn is_recent(&self, now: Instant) -> bool {
        now.since(self.latest) < GONE_INTERVAL
    }

    /// Whether nobody asks for any of it any more.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.say_at.is_none() && now.since(self.latest) > WITHHELD_FOR
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::limits::{GONES_MAX, NUMBERS_PER_DATAGRAM};

    const NOW: Instant = Instant::from_nanos(1_000_000_000);
    const SOON: Duration = Duration::from_millis(50);

    fn number(value: u64) -> Number {
        Number::new(value).unwrap()
    }

    fn withheld(ranges: &[(u64, u64)]) -> Withheld {
        let mut withheld = Withheld::new(NOW);
        for &(first, end) in ranges {
            withheld.add((number(first), number(end)), NOW, Duration::ZERO);
        }
        withheld
    }

    fn unsaid(withheld: &mut Withheld, now: Instant) -> Vec<u64> {
        let numbers = withheld.take_unsaid(now);
        numbers.into_iter().map(Number::value).collect()
    }

    #[test]
    fn each_number_is_said_once_and_remembered() {
        let mut withheld = withheld(&[(3, 5), (8, 9)]);

        assert_eq!(unsaid(&mut withheld, NOW), [3, 4, 8]);
        assert_eq!(unsaid(&mut withheld, NOW), [0; 0]);
        for (value, is_withheld) in [(2, false), (3, true), (4, true), (5, false), (8, true)] {
            assert_eq!(withheld.contains(number(value)), is_withheld, "{value}");
        }
    }

    #[test]
    fn ranges_that_touch_or_cover_each_other_become_one() {
        let mut withheld = withheld(&[(3, 5), (8, 9), (9, 12)]);
        assert_eq!(withheld.ranges.len(), 2);

        withheld.add((number(4), number(20)), NOW, Duration::ZERO);
        withheld.add((number(6), number(10)), NOW, Duration::ZERO);
        assert_eq!(withheld.ranges, [(number(3), number(20))]);

        withheld.add((number(30), number(31)), NOW, Duration::ZERO);
        withheld.add((number(24), number(26)), NOW, Duration::ZERO);

        let rest = [(number(24), number(26)), (number(30), number(31))];
        assert_eq!(
            withheld.ranges.range(1..).copied().collect::<Vec<_>>(),
            rest
        );
    }

    #[test]
    fn what_follows_soon_is_said_together() {
        let mut withheld = Withheld::new(NOW);
        withheld.add((number(1), number(2)), NOW, SOON);
        withheld.add((number(2), number(3)), NOW + SOON / 2, SOON);

        assert_eq!(withheld.say_at(), Some(NOW + SOON));
        assert_eq!(unsaid(&mut withheld, NOW + SOON / 2), [0; 0]);
        assert_eq!(unsaid(&mut withheld, NOW + SOON), [1, 2]);
    }

    #[test]
    fn of_more_ranges_than_the_limit_the_oldest_is_forgotten() {
        let ranges: Vec<(u64, u64)> = (0..=WITHHELD_RANGES_MAX as u64)
            .map(|at| (at * 3, at * 3 + 1))
            .collect();

        let withheld = withheld(&ranges);

        assert!(!withheld.contains(number(0)));
        assert!(withheld.contains(number(3)));
        assert_eq!(withheld.ranges.len(), WITHHELD_RANGES_MAX);
    }

    #[test]
    fn of_more_numbers_than_the_limit_the_newest_are_said() {
        let mut withheld = withheld(&[(10, 20), (1_000, 1_000_000)]);

        let said = unsaid(&mut withheld, NOW);

        assert_eq!(said.len() as u64, GONE_NUMBERS_MAX);
        assert_eq!(said.len() as u64 / NUMBERS_PER_DATAGRAM, GONES_MAX);
        assert_eq!(said.last(), Some(&999_999));
        assert!(said.is_sorted());
    }

    #[test]
    fn it_is_over_when_all_was_said_and_time_has_passed() {
        let mut withheld = withheld(&[(1, 2)]);
        let later = NOW + WITHHELD_FOR + SOON;

        assert!(!withheld.is_over(later));
        withheld.take_unsaid(NOW);

        assert!(!withheld.is_over(NOW));
        assert!(withheld.is_over(later));
    }
}
