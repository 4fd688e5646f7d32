//! The sharing of a long egress list: the lane that owns a flow admits and caches, and all lanes send.
//!
//! ```text
//! one call of the lane left more than 64 sends ─▶ for a second, each destination has a lane that sends to it,
//!                                                 in turns: egress a by lane 0, b by lane 1, c by lane 0, ...
//! ```
//!
//! A destination keeps its lane while the sharing goes on, so what is sent to it stays in order; only where sharing
//! begins or ends may a few packets pass each other, as they may on any path. Sends wait in `handover.rs`. Not the
//! sending. Called by the worker's turn. Invariant: at most [`DESTINATIONS_MAX`] destinations have a lane; more are
//! this lane's own.

use std::collections::BTreeMap;
use std::time::Duration;

use levada_lane::Egress;
use levada_wire::{Instant, LinkIndex};

/// With more sends than this in one call they are shared: below, the other lane's waking costs more than it saves.
pub const SHARED_FROM: usize = 64;
/// How long sharing goes on after the last such call.
const SHARED_FOR: Duration = Duration::from_secs(1);
/// The most destinations that have a lane.
const DESTINATIONS_MAX: usize = 4_096;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Spread {
    here: usize,
    lanes: usize,
    until: Option<Instant>,
    homes: BTreeMap<LinkIndex, usize>,
}

impl Spread {
    pub(super) const fn new(here: usize, lanes: usize) -> Self {
        Self {
            here,
            lanes,
            until: None,
            homes: BTreeMap::new(),
        }
    }

    /// The lane that sends to a destination.
    pub(super) fn home(&mut self, egress: Egress) -> usize {
        // A channel is sent to by one socket of one lane, so that its packets stay in order.
        let Egress::Link(link) = egress else {
            return self.here;
        };
        if self.until.is_none() {
            return self.here;
        }
        if let Some(&home) = self.homes.get(&link) {
            return home;
        }
        if self.homes.len() >= DESTINATIONS_MAX {
            return self.here;
        }
        let home = (self.here + self.homes.len()) % self.lanes;
        self.homes.insert(link, home);
        home
    }

    /// Notes how many sends a call left: what the next one does depends on it.
    pub(super) fn note(&mut self, now: Instant, sends: usize) {
        if self.lanes == 1 {
            return;
        }
        if sends > SHARED_FROM {
            self.until = Some(now + SHARED_FOR);
        } else if self.until.is_some_and(|until| until <= now) {
            self.until = None;
            self.homes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    const NOW: Instant = Instant::ZERO;

    fn homes(spread: &mut Spread, destinations: u16) -> Vec<usize> {
        let link = |at| Egress::Link(LinkIndex(u32::from(at)));
        let homes = (0..destinations).map(|at| spread.home(link(at)));
        homes.collect()
    }

    #[test]
    fn a_short_list_is_sent_by_its_own_lane() {
        let mut spread = Spread::new(1, 3);

        spread.note(NOW, SHARED_FROM);

        assert_eq!(homes(&mut spread, 4), [1; 4]);
    }

    #[test]
    fn a_long_list_is_shared_evenly_and_each_destination_keeps_its_lane() {
        let mut spread = Spread::new(1, 3);

        spread.note(NOW, SHARED_FROM + 1);
        let first = homes(&mut spread, 6);
        spread.note(NOW + SHARED_FOR / 2, 3);

        assert_eq!(first, [1, 2, 0, 1, 2, 0]);
        assert_eq!(homes(&mut spread, 6), first);
    }

    #[test]
    fn sharing_ends_when_no_list_was_long_for_a_while() {
        let mut spread = Spread::new(0, 2);
        spread.note(NOW, 1_000);
        homes(&mut spread, 6);

        spread.note(NOW + SHARED_FOR, 1);

        assert_eq!(homes(&mut spread, 6), [0; 6]);
        assert!(spread.homes.is_empty());
    }

    #[test]
    fn a_lane_alone_shares_with_nobody() {
        let mut spread = Spread::new(0, 1);

        spread.note(NOW, 1_000);

        assert_eq!(spread.home(Egress::Link(LinkIndex(1))), 0);
        assert!(spread.homes.is_empty());
    }

    #[test]
    fn more_destinations_than_the_limit_are_sent_to_by_the_lane_itself() {
        let mut spread = Spread::new(0, 2);
        spread.note(NOW, 1_000);
        let limit = u16::try_from(DESTINATIONS_MAX).unwrap();
        homes(&mut spread, limit);

        assert_eq!(homes(&mut spread, limit + 9)[DESTINATIONS_MAX..], [0; 9]);
    }
}
