//! Checker `copy`: a node sends a packet to a neighbour once.
//!
//! Nothing is sent again in this version, so the same number of a flow goes from one node to another at most once for each
//! time that the neighbour became an egress, when it gets the newest group from its start. Copies that a network makes are
//! not counted: only what nodes send. Called by `check` for each datagram. Invariant: what is remembered of a flow is
//! bounded by [`NUMBERS_MAX`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use levada_wire::{FlowId, Header};

use super::Facts;

/// How many numbers of a flow are remembered for a neighbour; the oldest go first.
const NUMBERS_MAX: usize = 4_096;

#[derive(Debug, Default)]
pub(super) struct Copies {
    sent: BTreeMap<(usize, FlowId), BTreeMap<SocketAddr, BTreeSet<u64>>>,
}

impl Copies {
    /// A neighbour of a node becomes an egress of a flow: it may get again what it had before.
    pub(super) fn egress_added(&mut self, node: usize, flow: FlowId, neighbour: SocketAddr) {
        if let Some(sent) = self.sent.get_mut(&(node, flow)) {
            sent.remove(&neighbour);
        }
    }

    /// A node's process is gone, and with it what it knew.
    pub(super) fn ended(&mut self, node: usize) {
        self.sent.retain(|(at, _), _| *at != node);
    }

    pub(super) fn datagram(
        &mut self,
        facts: &Facts,
        node: usize,
        to: SocketAddr,
        bytes: &[u8],
    ) -> Option<String> {
        let header = Header::peek(bytes)?;
        let sent = self
            .sent
            .entry((node, header.flow))
            .or_default()
            .entry(to)
            .or_default();
        if sent.len() >= NUMBERS_MAX {
            sent.pop_first();
        }
        let is_new = sent.insert(header.number.value());
        (!is_new).then(|| {
            let (name, number) = (facts.name(node), header.number.value());
            format!(
                "{name} sends packet {number} of flow {} to {to} again",
                header.flow
            )
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use levada_wire::Number;

    use super::*;
    use crate::check::fixture::{FLOW, facts, packet};

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

        assert_eq!(copies.datagram(&facts, 1, to(1), &numbered(5)), None);
        assert_eq!(copies.datagram(&facts, 1, to(2), &numbered(5)), None);
        assert_eq!(copies.datagram(&facts, 2, to(1), &numbered(5)), None);

        let found = copies.datagram(&facts, 1, to(1), &numbered(5));
        assert!(
            found
                .unwrap()
                .contains("b sends packet 5 of flow 0000000000000007 to 10.0.0.1:7800 again")
        );
    }

    #[test]
    fn a_new_egress_may_get_again_what_it_had_and_no_other_may() {
        let facts = facts();
        let mut copies = Copies::default();
        copies.datagram(&facts, 1, to(1), &numbered(5));
        copies.datagram(&facts, 1, to(2), &numbered(5));

        copies.egress_added(1, FLOW, to(1));

        assert_eq!(copies.datagram(&facts, 1, to(1), &numbered(5)), None);
        assert!(copies.datagram(&facts, 1, to(2), &numbered(5)).is_some());
    }

    #[test]
    fn a_new_process_may_send_it_again() {
        let facts = facts();
        let mut copies = Copies::default();

        copies.datagram(&facts, 1, to(1), &numbered(5));
        copies.ended(1);

        assert_eq!(copies.datagram(&facts, 1, to(1), &numbered(5)), None);
    }

    #[test]
    fn the_oldest_numbers_are_forgotten_at_the_limit() {
        let facts = facts();
        let mut copies = Copies::default();
        for number in 0..=NUMBERS_MAX as u64 {
            copies.datagram(&facts, 1, to(1), &numbered(number));
        }

        assert_eq!(copies.datagram(&facts, 1, to(1), &numbered(0)), None);
        assert!(
            copies
                .datagram(&facts, 1, to(1), &numbered(NUMBERS_MAX as u64))
                .is_some()
        );
    }
}
