//! Checker `loop`: no cycle of selected upstreams lasts.
//!
//! Each node names, for each flow, the link it takes the flow from. Following these from node to node must lead to an
//! origin or to a node that waits. For a moment two nodes may believe in each other; not longer than the bound. A node
//! that stands still or is gone ends the way. Called by `check` at every tick. Invariant: a cycle is known by its
//! nodes, from whichever of them it is found.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use levada_wire::{FlowId, Instant};

use super::{Facts, Overview};

#[derive(Debug)]
pub(super) struct Loops {
    bound: Duration,
    /// Sees loops that are not there: takes a node that it sends a flow to for one that it gets it from.
    is_broken: bool,
    seen: BTreeMap<(FlowId, BTreeSet<usize>), Instant>,
}

impl Loops {
    pub(super) const fn new(bound: Duration, is_broken: bool) -> Self {
        Self {
            bound,
            is_broken,
            seen: BTreeMap::new(),
        }
    }

    pub(super) fn check(&mut self, facts: &Facts, overview: &Overview) -> Option<String> {
        let cycles = self.cycles(overview);
        let seen = std::mem::take(&mut self.seen);
        let since =
            |cycle: &(FlowId, BTreeSet<usize>)| seen.get(cycle).copied().unwrap_or(overview.now);
        self.seen = cycles
            .into_iter()
            .map(|cycle| (cycle.clone(), since(&cycle)))
            .collect();
        let lasting = self
            .seen
            .iter()
            .find(|(_, since)| overview.now.since(**since) > self.bound);
        lasting.map(|((flow, nodes), since)| {
            let names: Vec<&str> = nodes.iter().map(|node| facts.name(*node)).collect();
            format!(
                "flow {flow} goes round since {since:?} among {}",
                names.join(", ")
            )
        })
    }

    fn cycles(&self, overview: &Overview) -> BTreeSet<(FlowId, BTreeSet<usize>)> {
        let mut upstreams: BTreeMap<FlowId, BTreeMap<usize, usize>> = BTreeMap::new();
        for (node, snapshot) in overview.nodes.iter().enumerate() {
            let Some(snapshot) = snapshot.as_ref().filter(|snapshot| !snapshot.is_paused) else {
                continue;
            };
            for row in &snapshot.flows {
                let link = row.upstream.or_else(|| {
                    self.is_broken
                        .then(|| row.egresses.first().copied())
                        .flatten()
                });
                if let Some(peer) = link.and_then(|link| snapshot.peers.get(&link)) {
                    upstreams
                        .entry(row.flow)
                        .or_default()
                        .insert(node, peer.node);
                }
            }
        }
        let cycles_of = |(flow, next): (&FlowId, &BTreeMap<usize, usize>)| {
            let cycles: Vec<_> = next
                .keys()
                .filter_map(|start| cycle_from(*start, next))
                .map(|cycle| (*flow, cycle))
                .collect();
            cycles
        };
        upstreams.iter().flat_map(cycles_of).collect()
    }
}

/// The cycle that `start` is part of, if it is part of one.
fn cycle_from(start: usize, next: &BTreeMap<usize, usize>) -> Option<BTreeSet<usize>> {
    let mut passed = BTreeSet::new();
    let mut node = start;
    while passed.insert(node) {
        node = *next.get(&node)?;
    }
    (node == start).then_some(passed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::check::fixture::{self, FLOW, overview};

    const BOUND: Duration = Duration::from_secs(2);

    /// a takes from b, b from c, c from a.
    fn ring(seconds: u64) -> Overview {
        let mut overview = overview(seconds);
        for (node, from) in [(0, 1), (1, 2), (2, 0)] {
            fixture::takes_from(&mut overview, node, FLOW, from);
        }
        overview
    }

    fn straight(seconds: u64) -> Overview {
        let mut overview = overview(seconds);
        for (node, from) in [(0, 1), (1, 2)] {
            fixture::takes_from(&mut overview, node, FLOW, from);
        }
        fixture::sends_to(&mut overview, 2, FLOW, 1);
        overview
    }

    #[test]
    fn a_cycle_that_lasts_is_reported_with_its_nodes() {
        let facts = fixture::facts();
        let mut loops = Loops::new(BOUND, false);

        assert_eq!(loops.check(&facts, &ring(1)), None);
        assert_eq!(loops.check(&facts, &ring(3)), None);
        assert!(
            loops
                .check(&facts, &ring(4))
                .unwrap()
                .contains("among a, b, c")
        );
    }

    #[test]
    fn a_cycle_that_breaks_and_forms_again_starts_anew() {
        let facts = fixture::facts();
        let mut loops = Loops::new(BOUND, false);

        assert_eq!(loops.check(&facts, &ring(1)), None);
        assert_eq!(loops.check(&facts, &straight(3)), None);
        assert_eq!(loops.check(&facts, &ring(4)), None);
    }

    #[test]
    fn a_straight_way_is_a_loop_only_to_a_broken_checker() {
        let facts = fixture::facts();
        let mut good = Loops::new(BOUND, false);
        let mut broken = Loops::new(BOUND, true);

        for seconds in [1, 4] {
            assert_eq!(good.check(&facts, &straight(seconds)), None);
        }
        assert_eq!(broken.check(&facts, &straight(1)), None);
        assert!(broken.check(&facts, &straight(4)).is_some());
    }
}
