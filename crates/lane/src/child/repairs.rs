//! What children were sent again, and how much of what one asks for it is sent.
//!
//! ```text
//!   Repaired, one ring for all flows of a lane        Repairs, one for each child
//!   flow, number, child or all │ when, how often      credit: stock, and a packet for each live one
//! ```
//!
//! A child asks again when an answer may have been lost, and says each request twice on a long link; both must not make
//! packets pile up. So a packet goes to a child again only three quarters of a round trip after it went there before: a
//! request that was under way meanwhile is answered already, and no child gets more than two copies in a round trip.
//! And over time a child is sent no more repaired packets than live ones, beside a credit (`flow/reach.rs`): whoever
//! asks without end gets the flow twice at most. Whoever asks for the third time has little time left: two copies go at
//! once. Not the cache, not links: `repair` brings them together. Called by it. Invariant: of all flows and children
//! together [`REPAIRED_MAX`] packets are remembered, the latest; who is forgotten for others gets a copy too many at
//! worst, on its own credit.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use levada_wire::{FlowId, Instant, LinkIndex, Number};

use crate::ledger::DropReason;
use crate::limits::{REPAIRED_MAX, TWICE_FROM};

/// When a packet last went to a child, and how often it was asked for with success.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Instant,
    times: u8,
    /// Its place in the ring.
    stamp: u64,
}

/// A packet, and who was sent it again: one child, or all.
type Key = (FlowId, Number, Option<LinkIndex>);

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Repaired {
    sent: BTreeMap<Key, Sent>,
    /// What was remembered, the oldest first; the entry is still that one if it has that stamp.
    order: VecDeque<(u64, Key)>,
    stamp: u64,
}

impl Repaired {
    /// A packet that was missing here goes on to all children: whoever has asked for it has been answered.
    pub(crate) fn forwarded(&mut self, flow: FlowId, number: Number, now: Instant) {
        self.remember((flow, number, None), now, 0);
    }

    /// When a packet last went to a child that asks since then.
    fn last(&self, of: &Request, since: Instant) -> Option<Sent> {
        let to_it = self.sent.get(&(of.flow, of.number, Some(of.child)));
        let to_all = self.sent.get(&(of.flow, of.number, None));
        let both = [to_it, to_all].into_iter().flatten();
        let since = both.filter(|sent| sent.at >= since);
        since.max_by_key(|sent| (sent.at, sent.stamp)).copied()
    }

    fn remember(&mut self, key: Key, at: Instant, times: u8) {
        self.stamp += 1;
        let stamp = self.stamp;
        self.sent.insert(key, Sent { at, times, stamp });
        self.order.push_back((stamp, key));
        if self.order.len() > REPAIRED_MAX {
            let oldest = self.order.pop_front();
            let (stamp, key) = oldest.expect("it is longer than that");
            if self.sent.get(&key).is_some_and(|sent| sent.stamp == stamp) {
                self.sent.remove(&key);
            }
        }
    }
}

/// A child asks for a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) flow: FlowId,
    pub(crate) child: LinkIndex,
    pub(crate) number: Number,
    /// The round trip to the child.
    pub(crate) trip: Duration,
    /// Packets of the flow so far.
    pub(crate) packets: u64,
    /// The most that a child of this flow may be sent again at once.
    pub(crate) credit: u64,
}

/// Repaired packets that a child may still be sent. It outlives the child.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credit {
    left: u64,
    most: u64,
    /// Packets of the flow when it was last filled.
    packets: u64,
}

impl Credit {
    const fn full(of: &Request) -> Self {
        Self {
            left: of.credit,
            most: of.credit,
            packets: of.packets,
        }
    }

    fn fill(&mut self, of: &Request) {
        // More of a peak or of a budget is more to be had at once.
        self.left += of.credit.saturating_sub(self.most);
        self.most = of.credit;
        self.left = self.filled(of.packets);
        self.packets = of.packets;
    }

    /// Whether it is as it was in the beginning.
    pub(crate) fn is_full(self, packets: u64) -> bool {
        self.filled(packets) == self.most
    }

    fn filled(self, packets: u64) -> u64 {
        let more = packets.saturating_sub(self.packets);
        self.most.min(self.left + more)
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Repairs {
    /// Since when it asks; `None` until it does.
    asks_since: Option<Instant>,
    credit: Option<Credit>,
}

impl Repairs {
    /// Those of a child that had that credit left when it went.
    pub(crate) const fn of(credit: Option<Credit>) -> Self {
        let asks_since = None;
        Self { asks_since, credit }
    }

    /// What is left of the credit, if any of it was used.
    pub(crate) const fn credit(&self) -> Option<Credit> {
        self.credit
    }

    /// Whether it has not been sent that packet again yet, as far as is remembered.
    pub(crate) fn is_first(&self, repaired: &Repaired, of: &Request) -> bool {
        let since = self.asks_since;
        since.is_none_or(|since| repaired.last(of, since).is_none())
    }

    /// How many copies of a packet it may be sent now that it asks for it; they count as sent.
    pub(crate) fn admit(
        &mut self,
        repaired: &mut Repaired,
        of: &Request,
        now: Instant,
    ) -> Result<u64, DropReason> {
        let credit = self.credit.get_or_insert_with(|| Credit::full(of));
        credit.fill(of);
        let since = *self.asks_since.get_or_insert(now);
        let last = repaired.last(of, since);
        if last.is_some_and(|last| now.since(last.at) < of.trip * 3 / 4) {
            return Err(DropReason::RepairTooSoon);
        }
        let times = last.map_or(0, |last| last.times).saturating_add(1);
        let copies = if times >= TWICE_FROM { 2 } else { 1 };
        if credit.left < copies {
            return Err(DropReason::RepairLimit);
        }
        credit.left -= copies;
        repaired.remember((of.flow, of.number, Some(of.child)), now, times);
        Ok(copies)
    }

    /// It is sent the flow no more: what it was sent again counts no more, what it cost does.
    pub(crate) const fn end(&mut self) {
        self.asks_since = None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::limits::REPAIR_CREDIT;

    const TRIP: Duration = Duration::from_millis(40);
    const CHILD: LinkIndex = LinkIndex(1);

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    /// A child asks for a packet of a flow that has had so many.
    fn request(number: u64, packets: u64) -> Request {
        Request {
            flow: FlowId(1),
            child: CHILD,
            number: Number::new(number).unwrap(),
            trip: TRIP,
            packets,
            credit: REPAIR_CREDIT,
        }
    }

    #[test]
    fn a_child_gets_at_most_two_copies_of_a_packet_in_a_round_trip_however_often_it_asks() {
        let (mut repaired, mut repairs) = (Repaired::default(), Repairs::default());
        let mut ask = |millis| repairs.admit(&mut repaired, &request(1, 0), at(millis));

        let copies: Vec<(u64, u64)> = (0..100)
            .filter_map(|millis| Some((millis, ask(millis).ok()?)))
            .collect();

        assert_eq!(copies, [(0, 1), (30, 1), (60, 2), (90, 2)]);
    }

    #[test]
    fn what_one_child_was_sent_again_nobody_else_was_nor_was_it_of_another_flow() {
        let (mut repaired, mut repairs) = (Repaired::default(), Repairs::default());
        repairs.admit(&mut repaired, &request(1, 0), at(0)).unwrap();

        for (flow, child) in [(1, 2), (2, 1)] {
            let other = Request {
                flow: FlowId(flow),
                child: LinkIndex(child),
                ..request(1, 0)
            };
            let mut its = Repairs::default();
            assert_eq!(its.admit(&mut repaired, &other, at(1)), Ok(1));
        }
    }

    #[test]
    fn what_goes_on_to_all_children_answers_those_who_asked() {
        let (mut repaired, mut repairs) = (Repaired::default(), Repairs::default());
        let flow = FlowId(1);
        repaired.forwarded(flow, Number::new(3).unwrap(), at(0));
        let mut admit = |repaired: &mut Repaired, number, millis| {
            repairs.admit(repaired, &request(number, 0), at(millis))
        };
        admit(&mut repaired, 1, 1).unwrap();

        repaired.forwarded(flow, Number::new(2).unwrap(), at(10));

        let too_soon = Err(DropReason::RepairTooSoon);
        assert_eq!(admit(&mut repaired, 2, 39), too_soon);
        assert_eq!(admit(&mut repaired, 2, 40), Ok(1));
        assert_eq!(admit(&mut repaired, 3, 2), Ok(1), "it asked later");
    }

    #[test]
    fn a_child_gets_a_credit_of_repairs_and_then_one_for_each_live_packet() {
        let (mut repaired, mut repairs) = (Repaired::default(), Repairs::default());
        let mut admitted = |numbers: std::ops::Range<u64>, packets, credit| {
            let admit = |&value: &u64| {
                let request = Request {
                    credit,
                    ..request(value, packets)
                };
                let admitted = repairs.admit(&mut repaired, &request, at(0));
                admitted != Err(DropReason::RepairLimit)
            };
            numbers.filter(admit).count() as u64
        };

        assert_eq!(admitted(0..3_000, 500, REPAIR_CREDIT), REPAIR_CREDIT);
        assert_eq!(admitted(3_000..6_000, 510, REPAIR_CREDIT), 10);
        assert_eq!(
            admitted(6_000..9_000, 100_000, REPAIR_CREDIT),
            REPAIR_CREDIT
        );
        assert_eq!(admitted(9_000..12_000, 100_000, REPAIR_CREDIT + 50), 50);
        assert_eq!(admitted(12_000..15_000, 200_000, 300), 300);
    }

    #[test]
    fn all_children_of_all_flows_share_one_ring_that_keeps_the_latest() {
        let mut repaired = Repaired::default();
        let ask = |repaired: &mut Repaired, at_of: u64, now| {
            let request = Request {
                flow: FlowId(at_of % 256),
                child: LinkIndex(u32::try_from(at_of % 50).unwrap()),
                ..request(at_of, at_of)
            };
            let mut repairs = Repairs {
                asks_since: Some(at(0)),
                credit: None,
            };
            repairs.admit(repaired, &request, now)
        };
        let most = REPAIRED_MAX as u64;

        for value in 0..=most {
            ask(&mut repaired, value, at(1)).unwrap();
        }

        assert_eq!(
            (repaired.sent.len(), repaired.order.len()),
            (REPAIRED_MAX, REPAIRED_MAX)
        );
        assert_eq!(ask(&mut repaired, 0, at(2)), Ok(1), "it was forgotten");
        assert!(ask(&mut repaired, most, at(2)).is_err());
    }

    #[test]
    fn with_a_child_ends_what_it_was_sent_again() {
        let (mut repaired, mut repairs) = (Repaired::default(), Repairs::default());
        repairs.admit(&mut repaired, &request(1, 0), at(0)).unwrap();

        repairs.end();

        let again = repairs.admit(&mut repaired, &request(1, 0), at(1));
        assert_eq!(again, Ok(1));
    }
}
