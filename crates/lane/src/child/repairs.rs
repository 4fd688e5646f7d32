//! What a child was sent again, and how much of what it asks for it is sent.
//!
//! A child asks again when an answer may have been lost, and says each request twice on a long link; both must not make
//! packets pile up. So a packet goes to a child again only three quarters of a round trip after it went there before: a
//! request that was under way meanwhile is answered already, and no child gets more than two copies in a round trip.
//! And over time a child is sent no more repaired packets than live ones, beside a credit ([`REPAIR_CREDIT`]): whoever
//! asks without end gets the flow twice at most. Whoever asks for the third time has little time left: two copies go at
//! once. Not the cache, not links: `repair` brings them together. Called by it. Invariant: what is remembered of a
//! child is bounded by [`CHILD_REPAIRS_MAX`], and nothing is before it asks for the first time.

use std::collections::BTreeMap;
use std::time::Duration;

use levada_wire::{Instant, Number};

use crate::ledger::DropReason;
use crate::limits::{CHILD_REPAIRS_MAX, REPAIR_CREDIT, TWICE_FROM};

/// When a packet last went to a child, and how often it was asked for with success.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Instant,
    times: u8,
}

/// Repaired packets that a child may still be sent. It outlives the child.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credit {
    left: u64,
    /// Packets of the flow when it was last filled.
    packets: u64,
}

impl Credit {
    fn fill(&mut self, packets: u64) {
        self.left = self.filled(packets);
        self.packets = packets;
    }

    /// Whether it is as it was in the beginning.
    pub(crate) fn is_full(self, packets: u64) -> bool {
        self.filled(packets) == REPAIR_CREDIT
    }

    fn filled(self, packets: u64) -> u64 {
        REPAIR_CREDIT.min(self.left + packets.saturating_sub(self.packets))
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Repairs {
    /// `None` until it asks.
    sent: Option<BTreeMap<Number, Sent>>,
    credit: Option<Credit>,
}

impl Repairs {
    /// Those of a child that had that credit left when it went.
    pub(crate) const fn of(credit: Option<Credit>) -> Self {
        Self { sent: None, credit }
    }

    /// What is left of the credit, if any of it was used.
    pub(crate) const fn credit(&self) -> Option<Credit> {
        self.credit
    }

    /// How many copies of a packet it may be sent now that it asks for it; they count as sent. `packets` counts those
    /// of the flow.
    pub(crate) fn admit(
        &mut self,
        number: Number,
        trip: Duration,
        packets: u64,
        now: Instant,
    ) -> Result<u64, DropReason> {
        let full = Credit {
            left: REPAIR_CREDIT,
            packets,
        };
        let credit = self.credit.get_or_insert(full);
        credit.fill(packets);
        let sent = self.sent.get_or_insert_default();
        let last = sent.get(&number);
        if last.is_some_and(|last| now.since(last.at) < trip * 3 / 4) {
            return Err(DropReason::RepairTooSoon);
        }
        let times = last.map_or(0, |last| last.times).saturating_add(1);
        let copies = if times >= TWICE_FROM { 2 } else { 1 };
        if credit.left < copies {
            return Err(DropReason::RepairLimit);
        }
        credit.left -= copies;
        remember(sent, number, Sent { at: now, times });
        Ok(copies)
    }

    /// A packet that was missing here goes on to all children: whoever has asked for it has been answered.
    pub(crate) fn forwarded(&mut self, number: Number, now: Instant) {
        if let Some(sent) = &mut self.sent {
            remember(sent, number, Sent { at: now, times: 0 });
        }
    }

    /// It is sent the flow no more: what it was sent again is forgotten, what it cost is not.
    pub(crate) fn end(&mut self) {
        self.sent = None;
    }
}

fn remember(sent: &mut BTreeMap<Number, Sent>, number: Number, at: Sent) {
    sent.insert(number, at);
    if sent.len() > CHILD_REPAIRS_MAX {
        sent.pop_first();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    const TRIP: Duration = Duration::from_millis(40);

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn number(value: u64) -> Number {
        Number::new(value).unwrap()
    }

    #[test]
    fn a_child_gets_at_most_two_copies_of_a_packet_in_a_round_trip_however_often_it_asks() {
        let mut repairs = Repairs::default();
        let mut ask = |millis| repairs.admit(number(1), TRIP, 0, at(millis));

        let copies: Vec<(u64, u64)> = (0..100)
            .filter_map(|millis| Some((millis, ask(millis).ok()?)))
            .collect();

        assert_eq!(copies, [(0, 1), (30, 1), (60, 2), (90, 2)]);
    }

    #[test]
    fn what_goes_on_to_all_children_answers_those_who_asked() {
        let mut repairs = Repairs::default();
        repairs.forwarded(number(3), at(0));
        repairs.admit(number(1), TRIP, 0, at(0)).unwrap();

        repairs.forwarded(number(2), at(10));

        let too_soon = Err(DropReason::RepairTooSoon);
        assert_eq!(repairs.admit(number(2), TRIP, 0, at(39)), too_soon);
        assert_eq!(repairs.admit(number(2), TRIP, 0, at(40)), Ok(1));
        assert_eq!(
            repairs.admit(number(3), TRIP, 0, at(1)),
            Ok(1),
            "it asked later"
        );
    }

    #[test]
    fn a_child_gets_a_credit_of_repairs_and_then_one_for_each_live_packet() {
        let mut repairs = Repairs::default();
        let mut admitted = |numbers: std::ops::Range<u64>, packets| {
            let admit = |&value: &u64| {
                repairs.admit(number(value), TRIP, packets, at(0)) != Err(DropReason::RepairLimit)
            };
            numbers.filter(admit).count() as u64
        };

        assert_eq!(admitted(0..3_000, 500), REPAIR_CREDIT);
        assert_eq!(admitted(3_000..6_000, 510), 10);
        assert_eq!(admitted(6_000..9_000, 100_000), REPAIR_CREDIT);
    }

    #[test]
    fn what_is_remembered_of_a_child_is_bounded_and_ends_with_it() {
        let mut repairs = Repairs::default();
        for value in 0..2 * CHILD_REPAIRS_MAX as u64 {
            repairs.admit(number(value), TRIP, value, at(0)).unwrap();
        }
        assert_eq!(
            repairs.sent.as_ref().map(|sent| sent.len()),
            Some(CHILD_REPAIRS_MAX)
        );

        repairs.end();

        assert!(repairs.sent.is_none());
    }
}
