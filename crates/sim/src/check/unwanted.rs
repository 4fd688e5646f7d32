//! Checker `unwanted`: a flow that nobody wants ends.
//!
//! Two things must pass: that a node takes a flow which it neither consumes nor passes on, and that a node sends a flow
//! to one which does not take it from there. Called by `check` at every tick. Invariant: what is reported has lasted
//! for the bound without a break and without a fault.

use std::collections::BTreeMap;
use std::time::Duration;

use levada_wire::{FlowId, Instant};

use super::{Facts, Overview, Peer, Snapshot};

#[derive(Debug)]
pub(super) struct Unwanted {
    bound: Duration,
    seen: BTreeMap<Oddity, Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Oddity {
    /// The node takes the flow for nobody.
    Taken { node: usize, flow: FlowId },
    /// The node sends the flow to one that does not take it from there.
    Sent {
        node: usize,
        to: usize,
        flow: FlowId,
    },
}

impl Unwanted {
    pub(super) const fn new(bound: Duration) -> Self {
        Self {
            bound,
            seen: BTreeMap::new(),
        }
    }

    pub(super) fn check(&mut self, facts: &Facts, overview: &Overview) -> Option<String> {
        let before = std::mem::take(&mut self.seen);
        let since = |oddity: &Oddity| before.get(oddity).copied().unwrap_or(overview.now);
        self.seen = oddities(overview)
            .into_iter()
            .map(|oddity| (oddity.clone(), since(&oddity)))
            .collect();
        let lasting = self
            .seen
            .iter()
            .find(|(_, since)| facts.had(overview.now, **since, self.bound));
        lasting.map(|(oddity, since)| match oddity {
            Oddity::Taken { node, flow } => {
                format!("{} takes flow {flow} for nobody since {since:?}", facts.name(*node))
            }
            Oddity::Sent { node, to, flow } => {
                let (node, to) = (facts.name(*node), facts.name(*to));
                format!("{node} sends flow {flow} to {to}, which does not take it from there, since {since:?}")
            }
        })
    }
}

fn oddities(overview: &Overview) -> Vec<Oddity> {
    let mut oddities = Vec::new();
    for (node, snapshot) in overview.nodes.iter().enumerate() {
        let Some(snapshot) = snapshot else { continue };
        for row in &snapshot.flows {
            if row.upstream.is_some() && row.subscriptions == 0 && row.egresses.is_empty() {
                oddities.push(Oddity::Taken {
                    node,
                    flow: row.flow,
                });
            }
            let peers = row
                .egresses
                .iter()
                .filter_map(|link| snapshot.peers.get(link));
            let not_taken = peers.filter(|peer| !takes(overview, peer, row.flow));
            oddities.extend(not_taken.map(|peer| Oddity::Sent {
                node,
                to: peer.node,
                flow: row.flow,
            }));
        }
    }
    oddities
}

/// Whether the node at the other end takes the flow over this very connection.
fn takes(overview: &Overview, peer: &Peer, flow: FlowId) -> bool {
    let Some(other) = &overview.nodes[peer.node] else {
        return false;
    };
    let over_this = |snapshot: &Snapshot, link| {
        snapshot
            .peers
            .get(&link)
            .is_some_and(|back| back.connection == peer.connection)
    };
    let of_flow = other.flows.iter().filter(|row| row.flow == flow);
    let mut from = of_flow.flat_map(|row| row.upstream.into_iter().chain(row.second_upstream));
    from.any(|link| over_this(other, link))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::check::fixture::{self, FLOW, facts, overview};

    fn check(build: impl Fn(&mut Overview)) -> Option<String> {
        let facts = facts();
        let mut unwanted = Unwanted::new(Duration::from_secs(8));
        let mut found = None;
        for seconds in 1..=10 {
            let mut overview = overview(seconds);
            build(&mut overview);
            let now = unwanted.check(&facts, &overview);
            found = found.or(now);
        }
        found
    }

    #[test]
    fn a_flow_taken_for_nobody_is_reported() {
        let found = check(|overview| fixture::takes_from(overview, 1, FLOW, 0));

        assert!(found.unwrap().contains("b takes flow"));
    }

    #[test]
    fn a_flow_sent_to_one_that_does_not_take_it_is_reported() {
        let found = check(|overview| fixture::sends_to(overview, 0, FLOW, 1));

        assert!(
            found
                .unwrap()
                .contains("a sends flow 0000000000000007 to b")
        );
    }

    #[test]
    fn a_flow_on_its_way_to_a_subscriber_is_wanted() {
        let found = check(|overview| {
            fixture::sends_to(overview, 0, FLOW, 1);
            fixture::takes_from(overview, 1, FLOW, 0);
            fixture::subscribes(overview, 1, FLOW);
        });

        assert_eq!(found, None);
    }
}
