//! Checker `copy`: a node sends a packet to a neighbour once, and again only when it is asked to.
//!
//! The same number of a flow goes from one node to another once for each time that the neighbour became an egress, when
//! it gets the newest group from its start. It goes again only for link datagrams about the flow that this neighbour
//! has sent since, or that were under way then ([`UNDER_WAY`]): those are sealed, but whom they concern is in clear.
//! Each allows two copies, and there are [`COPIES_MAX`] over all. Copies that a network makes are not counted: only
//! what nodes send. Called by `check` for each datagram. Invariant: what is remembered of a flow is bounded by
//! [`NUMBERS_MAX`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use levada_wire::packet::Kind;
use levada_wire::{FlowId, Header, Instant, LinkIndex};

use super::Facts;

/// How many numbers of a flow are remembered for a neighbour; the oldest go first.
const NUMBERS_MAX: usize = 4_096;
/// The most copies of a packet to one neighbour: more tries than any budget has room for.
const COPIES_MAX: usize = 64;
/// The longest that a request may be under way, the longest pause of a node included: it waits in the socket.
const UNDER_WAY: Duration = Duration::from_secs(4);

/// A packet that went to a neighbour.
#[derive(Clone, Copy, Debug)]
struct Sent {
    copies: usize,
    first_at: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Copies {
    sent: BTreeMap<(usize, FlowId), BTreeMap<SocketAddr, BTreeMap<u64, Sent>>>,
    /// The egresses of nodes, so that one whose terms change is not taken for a new one.
    egresses: BTreeSet<(usize, FlowId, LinkIndex)>,
    /// When link datagrams were sent, by their sender, their receiver, and the half of the flow's id that they show.
    asked: BTreeMap<(SocketAddr, SocketAddr, u32), VecDeque<Instant>>,
}

impl Copies {
    /// A neighbour of a node becomes an egress of a flow: it may get again what it had before.
    pub(super) fn egress_added(
        &mut self,
        node: usize,
        flow: FlowId,
        link: LinkIndex,
        neighbour: SocketAddr,
    ) {
        let is_new = self.egresses.insert((node, flow, link));
        if let Some(sent) = self.sent.get_mut(&(node, flow)).filter(|_| is_new) {
            sent.remove(&neighbour);
        }
    }

    /// A link is no egress of a flow any more.
    pub(super) fn egress_removed(&mut self, node: usize, flow: FlowId, link: LinkIndex) {
        self.egresses.remove(&(node, flow, link));
    }

    /// A node knows a flow no more.
    pub(super) fn flow_closed(&mut self, node: usize, flow: FlowId) {
        self.egresses
            .retain(|known| (known.0, known.1) != (node, flow));
    }

    /// A node's process is gone, and with it what it knew.
    pub(super) fn ended(&mut self, node: usize) {
        self.sent.retain(|(at, _), _| *at != node);
        self.egresses.retain(|(at, ..)| *at != node);
    }

    pub(super) fn datagram(
        &mut self,
        now: Instant,
        facts: &Facts,
        node: usize,
        [from, to]: [SocketAddr; 2],
        bytes: &[u8],
    ) -> Option<String> {
        if Kind::of(bytes) == Kind::Link {
            let steer = u32::from_be_bytes(*bytes.get(4..)?.first_chunk()?);
            let asked = self.asked.entry((from, to, steer)).or_default();
            asked.push_back(now);
            if asked.len() > NUMBERS_MAX {
                asked.pop_front();
            }
            return None;
        }
        let header = Header::peek(bytes)?;
        let sent = self.sent.entry((node, header.flow)).or_default();
        let sent = sent.entry(to).or_default();
        if sent.len() >= NUMBERS_MAX {
            sent.pop_first();
        }
        let number = header.number.value();
        let first_at = now;
        let record = sent.entry(number).or_insert(Sent {
            copies: 0,
            first_at,
        });
        record.copies += 1;
        let since = record.first_at - UNDER_WAY;
        let asked = self.asked.get(&(to, from, header.flow.steer()));
        let asked = asked.map_or(0, |times| {
            times.len() - times.partition_point(|&at| at < since)
        });
        let allowed = (1 + 2 * asked).min(COPIES_MAX);
        (record.copies > allowed).then(|| {
            let (name, flow) = (facts.name(node), header.flow);
            format!("{name} sends packet {number} of flow {flow} to {to} again, unasked")
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use levada_wire::Number;

    use super::*;
    use crate::check::fixture::{FLOW, at, facts, packet};

    fn to(host: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], 7800))
    }

    fn numbered(number: u64) -> Vec<u8> {
        packet(FLOW, Number::new(number).unwrap())
    }

    #[test]
    fn a_packet_sent_twice_to_one_neighbour_is_reported() {
        let facts = facts();
        let mut copies = Copies::default();

        assert_eq!(
            copies.datagram(at(20), &facts, 1, [to(9), to(1)], &numbered(5)),
            None
        );
        assert_eq!(
            copies.datagram(at(20), &facts, 1, [to(9), to(2)], &numbered(5)),
            None
        );
        assert_eq!(
            copies.datagram(at(20), &facts, 2, [to(8), to(1)], &numbered(5)),
            None
        );

        let found = copies.datagram(at(20), &facts, 1, [to(9), to(1)], &numbered(5));
        assert!(
            found.unwrap().contains(
                "b sends packet 5 of flow 0000000000000007 to 10.0.0.1:7800 again, unasked"
            )
        );
    }

    /// The clear part of a link datagram about the flow.
    fn request() -> Vec<u8> {
        let mut bytes = vec![0x06, 0, 0, 0];
        bytes.extend_from_slice(&FLOW.steer().to_be_bytes());
        bytes.resize(60, 0);
        bytes
    }

    #[test]
    fn a_packet_goes_again_to_who_asks_and_twice_at_most_each_time() {
        let facts = facts();
        let mut copies = Copies::default();
        let send =
            |copies: &mut Copies| copies.datagram(at(20), &facts, 1, [to(9), to(1)], &numbered(5));

        assert_eq!(send(&mut copies), None);
        for _ in 0..3 {
            assert_eq!(
                copies.datagram(at(20), &facts, 2, [to(1), to(9)], &request()),
                None
            );
            assert_eq!(send(&mut copies), None);
            assert_eq!(send(&mut copies), None);
        }

        assert!(send(&mut copies).is_some());
    }

    #[test]
    fn a_request_of_another_neighbour_or_to_another_node_allows_nothing() {
        let facts = facts();
        let mut copies = Copies::default();
        copies.datagram(at(20), &facts, 1, [to(9), to(1)], &numbered(5));

        copies.datagram(at(20), &facts, 2, [to(2), to(9)], &request());
        copies.datagram(at(20), &facts, 2, [to(1), to(8)], &request());

        let found = copies.datagram(at(20), &facts, 1, [to(9), to(1)], &numbered(5));
        assert!(found.is_some());
    }

    #[test]
    fn a_request_from_before_the_packet_allows_nothing() {
        let facts = facts();
        let mut copies = Copies::default();
        copies.datagram(at(15), &facts, 2, [to(1), to(9)], &request());

        copies.datagram(at(20), &facts, 1, [to(9), to(1)], &numbered(5));

        let found = copies.datagram(at(20), &facts, 1, [to(9), to(1)], &numbered(5));
        assert!(found.is_some());
    }

    #[test]
    fn a_new_egress_may_get_again_what_it_had_and_no_other_may() {
        let facts = facts();
        let mut copies = Copies::default();
        copies.datagram(at(20), &facts, 1, [to(9), to(1)], &numbered(5));
        copies.datagram(at(20), &facts, 1, [to(9), to(2)], &numbered(5));

        copies.egress_added(1, FLOW, LinkIndex(1), to(1));

        assert_eq!(
            copies.datagram(at(20), &facts, 1, [to(9), to(1)], &numbered(5)),
            None
        );
        copies.egress_added(1, FLOW, LinkIndex(1), to(1)); // its terms change
        assert!(
            copies
                .datagram(at(20), &facts, 1, [to(9), to(1)], &numbered(5))
                .is_some()
        );
        assert!(
            copies
                .datagram(at(20), &facts, 1, [to(9), to(2)], &numbered(5))
                .is_some()
        );
    }

    #[test]
    fn a_new_process_may_send_it_again() {
        let facts = facts();
        let mut copies = Copies::default();

        copies.datagram(at(20), &facts, 1, [to(9), to(1)], &numbered(5));
        copies.ended(1);

        assert_eq!(
            copies.datagram(at(20), &facts, 1, [to(9), to(1)], &numbered(5)),
            None
        );
    }

    #[test]
    fn the_oldest_numbers_are_forgotten_at_the_limit() {
        let facts = facts();
        let mut copies = Copies::default();
        for number in 0..=NUMBERS_MAX as u64 {
            copies.datagram(at(20), &facts, 1, [to(9), to(1)], &numbered(number));
        }

        assert_eq!(
            copies.datagram(at(20), &facts, 1, [to(9), to(1)], &numbered(0)),
            None
        );
        assert!(
            copies
                .datagram(
                    at(20),
                    &facts,
                    1,
                    [to(9), to(1)],
                    &numbered(NUMBERS_MAX as u64)
                )
                .is_some()
        );
    }
}
