//! How much of what a child asks for it is sent: the sender's side of repair, without the sending.
//!
//! A child asks again when an answer may have been lost, and says each request twice on a long link; both must not make
//! packets pile up. So a packet goes to a child again only three quarters of a round trip after it went there before: a
//! request that was under way meanwhile is answered already, and no child gets more than two copies in a round trip. And
//! over time a child is sent no more repaired packets than live ones, beside a stock ([`REPAIR_CREDIT`]): whoever asks without end
//! gets the flow twice at most. Whoever asks for the third time has little time left: two copies go at once. Not the cache, not links: `repair` brings them together. Called by it. Invariant: what is
//! remembered of a child is bounded by [`CHILD_REPAIRS_MAX`], and of former ones, of whom [`FORMER_MAX`] are, only their stock.

use std::collections::BTreeMap;
use std::time::Duration;

use levada_wire::{Instant, LinkIndex, Number};

use crate::ledger::DropReason;
use crate::limits::{CHILD_REPAIRS_MAX, FORMER_MAX, REPAIR_CREDIT, TWICE_FROM};

/// When a packet last went to a child, and how often it was asked for with success.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Instant,
    times: u8,
}

/// Repaired packets that a child may still be sent.
#[derive(Clone, Copy, Debug)]
struct Stock {
    left: u64,
    /// Packets of the flow when it was last filled.
    packets: u64,
}

impl Stock {
    fn fill(&mut self, packets: u64) {
        self.left = REPAIR_CREDIT.min(self.left + packets.saturating_sub(self.packets));
        self.packets = packets;
    }
}

/// What one child was sent again.
#[derive(Debug)]
struct Child {
    sent: BTreeMap<Number, Sent>,
    stock: Stock,
}

impl Child {
    fn remember(&mut self, number: Number, sent: Sent) {
        self.sent.insert(number, sent);
        if self.sent.len() > CHILD_REPAIRS_MAX {
            self.sent.pop_first();
        }
    }
}

/// All children of a flow that ever asked.
#[derive(Debug, Default)]
pub(crate) struct Server {
    children: BTreeMap<LinkIndex, Child>,
    /// What is left to those that went: leaving and joining again gains nothing.
    former: BTreeMap<LinkIndex, Stock>,
}

impl Server {
    /// How many copies of a packet a child that asks for it may be sent now; they count as sent. `packets` counts those
    /// of the flow.
    pub(crate) fn admit(
        &mut self,
        link: LinkIndex,
        number: Number,
        trip: Duration,
        packets: u64,
        now: Instant,
    ) -> Result<u64, DropReason> {
        let former = &mut self.former;
        let child = self.children.entry(link).or_insert_with(|| Child {
            sent: BTreeMap::new(),
            stock: former.remove(&link).unwrap_or(Stock {
                left: REPAIR_CREDIT,
                packets,
            }),
        });
        child.stock.fill(packets);
        let last = child.sent.get(&number);
        if last.is_some_and(|last| now.since(last.at) < trip * 3 / 4) {
            return Err(DropReason::RepairTooSoon);
        }
        let times = last.map_or(0, |last| last.times).saturating_add(1);
        let copies = if times >= TWICE_FROM { 2 } else { 1 };
        if child.stock.left < copies {
            return Err(DropReason::RepairLimit);
        }
        child.stock.left -= copies;
        child.remember(number, Sent { at: now, times });
        Ok(copies)
    }

    /// A packet that was missing here goes on to all children: whoever has asked for it has been answered.
    pub(crate) fn forwarded(&mut self, number: Number, now: Instant) {
        for child in self.children.values_mut() {
            child.remember(number, Sent { at: now, times: 0 });
        }
    }

    /// A child is none any more; it may come back.
    pub(crate) fn remove(&mut self, link: LinkIndex) {
        if let Some(Child { stock, .. }) = self.children.remove(&link) {
            if self.former.len() == FORMER_MAX {
                self.former.pop_first();
            }
            self.former.insert(link, stock);
        }
    }

    /// A link is no more.
    pub(crate) fn forget(&mut self, link: LinkIndex) {
        self.children.remove(&link);
        self.former.remove(&link);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    const TRIP: Duration = Duration::from_millis(40);
    const CHILD: LinkIndex = LinkIndex(3);

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn number(value: u64) -> Number {
        Number::new(value).unwrap()
    }

    #[test]
    fn a_child_gets_at_most_two_copies_of_a_packet_in_a_round_trip_however_often_it_asks() {
        let mut server = Server::default();
        let mut ask = |millis| server.admit(CHILD, number(1), TRIP, 0, at(millis));

        let copies: Vec<(u64, u64)> = (0..100)
            .filter_map(|millis| Some((millis, ask(millis).ok()?)))
            .collect();

        assert_eq!(copies, [(0, 1), (30, 1), (60, 2), (90, 2)]);
        assert!(
            server
                .admit(LinkIndex(4), number(1), TRIP, 0, at(39))
                .is_ok()
        );
    }

    #[test]
    fn what_goes_on_to_all_children_answers_those_who_asked() {
        let mut server = Server::default();
        server.admit(CHILD, number(1), TRIP, 0, at(0)).unwrap();

        server.forwarded(number(2), at(10));

        let too_soon = Err(DropReason::RepairTooSoon);
        assert_eq!(server.admit(CHILD, number(2), TRIP, 0, at(39)), too_soon);
        assert_eq!(server.admit(CHILD, number(2), TRIP, 0, at(40)), Ok(1));
    }

    #[test]
    fn a_child_gets_a_stock_of_repairs_and_then_one_for_each_live_packet() {
        let mut server = Server::default();
        let mut admitted = |numbers: std::ops::Range<u64>, packets| {
            let admit = |&value: &u64| {
                server.admit(CHILD, number(value), TRIP, packets, at(0))
                    != Err(DropReason::RepairLimit)
            };
            numbers.filter(admit).count() as u64
        };

        assert_eq!(admitted(0..3_000, 500), REPAIR_CREDIT);
        assert_eq!(admitted(3_000..6_000, 510), 10);
        assert_eq!(admitted(6_000..9_000, 100_000), REPAIR_CREDIT);
    }

    #[test]
    fn what_is_remembered_of_a_child_is_bounded_and_ends_with_it() {
        let mut server = Server::default();
        for value in 0..2 * CHILD_REPAIRS_MAX as u64 {
            server
                .admit(CHILD, number(value), TRIP, value, at(0))
                .unwrap();
        }
        assert_eq!(server.children[&CHILD].sent.len(), CHILD_REPAIRS_MAX);

        server.remove(CHILD);

        assert!(server.children.is_empty());
    }

    #[test]
    fn former_children_keep_what_is_left_to_them_up_to_the_limit() {
        let mut server = Server::default();
        let last = u32::try_from(FORMER_MAX).unwrap();
        let empty = |server: &mut Server, link: LinkIndex| {
            let admit = |&value: &u64| server.admit(link, number(value), TRIP, 0, at(0)).is_ok();
            (0..=REPAIR_CREDIT).filter(admit).count() as u64
        };
        for link in (0..=last).map(LinkIndex) {
            empty(&mut server, link);
            server.remove(link);
        }

        assert_eq!(server.former.len(), FORMER_MAX);
        assert_eq!(
            empty(&mut server, LinkIndex(0)),
            REPAIR_CREDIT,
            "it is forgotten"
        );
        assert_eq!(empty(&mut server, LinkIndex(1)), 0);
        server.forget(LinkIndex(1));
        assert_eq!(
            empty(&mut server, LinkIndex(1)),
            REPAIR_CREDIT,
            "another peer"
        );
    }
}
