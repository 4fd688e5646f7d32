//! How long a packet may be overtaken before it counts as lost: as long as its way has shown that packets are.
//!
//! ```text
//!   7, 9 ──▶ 8 is missing ── window ──▶ asked for ─────── round trip ───────▶ 8 once more: asked for in vain
//!            └───────────── extent ────────────▶ 8, too early to be an answer
//! ```
//!
//! A fixed window takes jitter for loss. RACK widens its own by a quarter of the round trip for each round in which
//! something came twice (RFC 8985 section 6.2). Here who asks is who receives, so it sees more: a packet that came
//! before any answer can have come, and then again from whoever was asked, was overtaken by exactly as much as it was
//! late. The window becomes that and a quarter of it, at most a round trip as with RACK, and fades where RACK counts 16
//! recoveries: a stream has no recoveries but goes on. What was repaired farther up comes late as well; of that nobody
//! sends a second copy, so it does not count. Not when to ask again: `trip`. Called by `missing`. Invariant: a window
//! is never shorter than the base that it is given; at most [`REORDER_ASKED_MAX`] packets are remembered.

use std::collections::BTreeMap;
use std::time::Duration;

use levada_wire::{Instant, LinkIndex, Number};

use super::trip::RoundTrip;
use crate::limits::{REORDER_ASKED_MAX, REORDER_FADES_AFTER, REORDER_MAX};

/// A window is at most this part of the budget, so that there is time for an answer.
const BUDGET_PART: u32 = 4;

/// A packet that came too early for an answer to the request for it.
#[derive(Clone, Copy, Debug)]
struct Overtaken {
    asked: LinkIndex,
    extent: Duration,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Reordering {
    /// By how much packets were overtaken that were asked for in vain.
    extent: Duration,
    seen_at: Instant,
    overtaken: BTreeMap<Number, Overtaken>,
}

impl Reordering {
    pub(crate) const fn new() -> Self {
        Self {
            extent: Duration::ZERO,
            seen_at: Instant::ZERO,
            overtaken: BTreeMap::new(),
        }
    }

    /// How long to wait for what was overtaken, where `base` is enough for a steady way.
    pub(crate) fn window(
        &mut self,
        base: Duration,
        trip: RoundTrip,
        budget: Duration,
        now: Instant,
    ) -> Duration {
        self.fade(now);
        let longest = trip.time().max(REORDER_MAX).min(budget / BUDGET_PART);
        (self.extent * 5 / 4).min(longest).max(base)
    }

    /// A packet came `extent` after it was shown to be missing, and too early for an answer of whom it was asked.
    pub(crate) fn overtaken(&mut self, number: Number, asked: LinkIndex, extent: Duration) {
        self.overtaken.insert(number, Overtaken { asked, extent });
        if self.overtaken.len() > REORDER_ASKED_MAX {
            self.overtaken.pop_first();
        }
    }

    /// A packet came that is here already, over that link.
    pub(crate) fn came_again(&mut self, number: Number, link: LinkIndex, now: Instant) {
        let overtaken = self.overtaken.get(&number);
        let Some(&Overtaken { extent, .. }) = overtaken.filter(|packet| packet.asked == link)
        else {
            return;
        };
        self.overtaken.remove(&number);
        self.fade(now);
        if extent >= self.extent * 7 / 8 {
            self.seen_at = now;
        }
        self.extent = self.extent.max(extent);
    }

    /// What was not seen for a while counts for less and less.
    fn fade(&mut self, now: Instant) {
        while self.extent > Duration::ZERO && now.since(self.seen_at) >= REORDER_FADES_AFTER {
            self.seen_at += REORDER_FADES_AFTER;
            self.extent = self.extent * 3 / 4;
            if self.extent < REORDER_MAX / 16 {
                self.extent = Duration::ZERO;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    const LINK: LinkIndex = LinkIndex(1);
    const OTHER: LinkIndex = LinkIndex(2);
    const BASE: Duration = millis(5);
    const BUDGET: Duration = millis(500);

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const fn at(millis: u64) -> Instant {
        Instant::from_nanos((10_000 + millis) * 1_000_000)
    }

    fn number(value: u64) -> Number {
        Number::new(value).unwrap()
    }

    fn trip() -> RoundTrip {
        let mut trip = RoundTrip::default();
        trip.sample(millis(40));
        trip
    }

    fn window(reordering: &mut Reordering, now: Instant) -> Duration {
        reordering.window(BASE, trip(), BUDGET, now)
    }

    #[test]
    fn what_was_asked_for_in_vain_widens_the_window_by_as_much_as_it_was_late() {
        let mut reordering = Reordering::new();
        reordering.overtaken(number(7), LINK, millis(12));
        assert_eq!(
            window(&mut reordering, at(0)),
            BASE,
            "it did not come twice"
        );

        reordering.came_again(number(8), LINK, at(0));
        reordering.came_again(number(7), OTHER, at(0));
        assert_eq!(window(&mut reordering, at(0)), BASE);

        reordering.came_again(number(7), LINK, at(0));
        assert_eq!(window(&mut reordering, at(0)), millis(15));
    }

    #[test]
    fn the_window_is_at_most_a_round_trip_and_a_quarter_of_the_budget() {
        let mut reordering = Reordering::new();
        reordering.overtaken(number(7), LINK, millis(900));
        reordering.came_again(number(7), LINK, at(0));

        assert_eq!(window(&mut reordering, at(0)), millis(40));
        let short = reordering.window(BASE, trip(), millis(100), at(0));
        assert_eq!(short, millis(25));
        let shorter_than_the_base = reordering.window(BASE, trip(), millis(10), at(0));
        assert_eq!(shorter_than_the_base, BASE);
    }

    #[test]
    fn what_is_not_seen_any_more_is_forgotten_step_by_step() {
        let mut reordering = Reordering::new();
        reordering.overtaken(number(7), LINK, millis(16));
        reordering.came_again(number(7), LINK, at(0));
        let later = |steps| at(0) + REORDER_FADES_AFTER * steps;

        assert_eq!(window(&mut reordering, later(1) - millis(1)), millis(20));
        assert_eq!(window(&mut reordering, later(1)), millis(15));

        // What is seen again holds it up, what is much shorter does not.
        reordering.overtaken(number(8), LINK, millis(2));
        reordering.came_again(number(8), LINK, later(2) - millis(1));
        assert!(window(&mut reordering, later(2)) < millis(15));
        assert_eq!(window(&mut reordering, later(100)), BASE);
    }

    #[test]
    fn as_many_as_the_limit_are_remembered() {
        let mut reordering = Reordering::new();
        for value in 0..=REORDER_ASKED_MAX as u64 {
            reordering.overtaken(number(value), LINK, millis(9));
        }
        assert_eq!(reordering.overtaken.len(), REORDER_ASKED_MAX);

        reordering.came_again(number(0), LINK, at(0));
        assert_eq!(window(&mut reordering, at(0)), BASE, "it was forgotten");
        reordering.came_again(number(1), LINK, at(0));
        assert!(window(&mut reordering, at(0)) > BASE);
    }
}
