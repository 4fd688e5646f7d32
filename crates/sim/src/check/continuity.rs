//! Checker `continuity`: while nothing goes wrong but loss, whoever has been consuming for a while misses nothing.
//!
//! Only in scenarios that say after which time (`continuity`), since only there the loss is one that repair can mend
//! within the budget. A newcomer has that time to settle, and so has everybody after a fault. Whoever wants a stream
//! until it is withdrawn has its last packets, and hears that it ended. Not the order of frames, which is `consumer`.
//! Called by `check` for each gap. Invariant: what is remembered ends with the consumption.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use levada_lane::api::Gap;
use levada_wire::{FlowId, Instant};

use super::Facts;

#[derive(Debug)]
pub(super) struct Continuity {
    after: Option<Duration>,
    began: BTreeMap<(usize, FlowId), Instant>,
    heard_end: BTreeSet<(usize, FlowId)>,
}

impl Continuity {
    pub(super) const fn new(after: Option<Duration>) -> Self {
        Self {
            after,
            began: BTreeMap::new(),
            heard_end: BTreeSet::new(),
        }
    }

    pub(super) fn begins(&mut self, now: Instant, node: usize, flow: FlowId) {
        self.began.entry((node, flow)).or_insert(now);
    }

    /// A consumer is let go of. One of a stream that was withdrawn must have heard END, if it is wanted to the last.
    pub(super) fn ends(
        &mut self,
        now: Instant,
        facts: &Facts,
        node: usize,
        flow: FlowId,
    ) -> Option<String> {
        let began = self.began.remove(&(node, flow))?;
        let has_heard = self.heard_end.remove(&(node, flow));
        let stream = facts.stream_of(flow)?;
        let is_over = facts.origins_of(stream).next().is_none() && facts.wants(node, stream);
        let owes = is_over && !has_heard && facts.had(now, began, self.after?);
        owes.then(|| {
            let name = facts.name(node);
            format!("{name} was never told that flow {flow} ended, and nothing but loss went wrong")
        })
    }

    /// A consumer hears that the stream ended.
    pub(super) fn hears_end(&mut self, node: usize, flow: FlowId) {
        self.heard_end.insert((node, flow));
    }

    /// A node's process is gone.
    pub(super) fn ended(&mut self, node: usize) {
        self.began.retain(|(at, _), _| *at != node);
        self.heard_end.retain(|(at, _)| *at != node);
    }

    pub(super) fn gap(
        &self,
        now: Instant,
        facts: &Facts,
        node: usize,
        flow: FlowId,
        gap: &Gap,
    ) -> Option<String> {
        let after = self.after?;
        let began = *self.began.get(&(node, flow))?;
        facts.had(now, began, after).then(|| {
            let (name, packets, first) = (facts.name(node), gap.packets, gap.first.value());
            format!(
                "{name} misses {packets} packets of flow {flow} from number {first} on, and nothing but loss went \
                 wrong"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use levada_core::SubscriptionId;
    use levada_lane::api::GapReason;
    use levada_wire::Number;

    use super::*;
    use crate::check::fixture::{FLOW, at, cam, facts};

    const GAP: Gap = Gap {
        first: Number::ZERO,
        packets: 2,
        reason: GapReason::Lost,
    };

    #[test]
    fn a_gap_in_calm_times_is_reported_after_the_bound() {
        let facts = facts();
        let mut continuity = Continuity::new(Some(Duration::from_secs(3)));
        continuity.begins(at(20), 2, FLOW);
        continuity.begins(at(24), 2, FLOW);

        assert_eq!(continuity.gap(at(23), &facts, 2, FLOW, &GAP), None);
        let found = continuity.gap(at(24), &facts, 2, FLOW, &GAP);

        assert!(found.is_some_and(|saw| saw.contains("misses 2 packets")));
    }

    #[test]
    fn who_has_just_begun_or_lives_with_a_fault_may_miss_something() {
        let mut facts = facts();
        let mut continuity = Continuity::new(Some(Duration::from_secs(3)));
        continuity.begins(at(10), 2, FLOW);
        continuity.ends(at(20), &facts, 2, FLOW);
        continuity.begins(at(22), 2, FLOW);
        assert_eq!(continuity.gap(at(24), &facts, 2, FLOW, &GAP), None);

        facts.fault_begins();
        assert_eq!(continuity.gap(at(60), &facts, 2, FLOW, &GAP), None);
    }

    #[test]
    fn the_last_packets_of_a_withdrawn_stream_may_not_be_missed() {
        let mut facts = facts();
        let mut continuity = Continuity::new(Some(Duration::from_secs(3)));
        continuity.begins(at(20), 2, FLOW);

        facts.unpublished(0, 0);

        assert!(continuity.gap(at(60), &facts, 2, FLOW, &GAP).is_some());
    }

    #[test]
    fn whoever_wants_a_stream_until_it_is_withdrawn_must_hear_its_end() {
        let mut facts = facts();
        facts.subscribed(2, SubscriptionId(1), cam());
        let mut continuity = Continuity::new(Some(Duration::from_secs(3)));
        let mut ends = |facts: &Facts, hears: bool| {
            continuity.begins(at(20), 2, FLOW);
            if hears {
                continuity.hears_end(2, FLOW);
            }
            continuity.ends(at(60), facts, 2, FLOW).is_some()
        };

        assert!(!ends(&facts, false), "the stream goes on");
        facts.unpublished(0, 0);

        assert!(!ends(&facts, true));
        assert!(ends(&facts, false));
    }

    #[test]
    fn a_scenario_that_says_nothing_allows_gaps() {
        let facts = facts();
        let mut continuity = Continuity::new(None);
        continuity.begins(at(0), 2, FLOW);

        assert_eq!(continuity.gap(at(60), &facts, 2, FLOW, &GAP), None);
    }
}
