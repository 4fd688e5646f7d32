//! Checker `whole`: while nothing goes wrong but loss, whoever has been consuming for a while misses nothing.
//!
//! Only in scenarios that say after which time (`whole`), since only there the loss is one that repair can mend within the
//! budget. A newcomer has that time to settle, and so has everybody after a fault; a stream that was withdrawn may end early. Not the order of frames, which is `consumer`.
//! Called by `check` for each gap. Invariant: what is remembered ends with the consumption.

use std::collections::BTreeMap;
use std::time::Duration;

use levada_datapath::api::Gap;
use levada_wire::{FlowId, Instant};

use super::Facts;

#[derive(Debug)]
pub(super) struct Whole {
    after: Option<Duration>,
    began: BTreeMap<(usize, FlowId), Instant>,
}

impl Whole {
    pub(super) const fn new(after: Option<Duration>) -> Self {
        Self {
            after,
            began: BTreeMap::new(),
        }
    }

    pub(super) fn begins(&mut self, now: Instant, node: usize, flow: FlowId) {
        self.began.entry((node, flow)).or_insert(now);
    }

    pub(super) fn ends(&mut self, node: usize, flow: FlowId) {
        self.began.remove(&(node, flow));
    }

    /// A node's process is gone.
    pub(super) fn ended(&mut self, node: usize) {
        self.began.retain(|(at, _), _| *at != node);
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
        // After a withdraw the last hops let go at once, and what was lost last is lost.
        let goes_on = facts.origins_of(facts.stream_of(flow)?).next().is_some();
        (goes_on && facts.had(now, began, after)).then(|| {
            let (name, packets, first) = (facts.name(node), gap.packets, gap.first.value());
            format!("{name} misses {packets} packets of flow {flow} from number {first} on, and nothing but loss went wrong")
        })
    }
}

#[cfg(test)]
mod tests {
    use levada_datapath::api::GapReason;
    use levada_wire::Number;

    use super::*;
    use crate::check::fixture::{FLOW, at, facts};

    const GAP: Gap = Gap {
        first: Number::ZERO,
        packets: 2,
        reason: GapReason::Lost,
    };

    #[test]
    fn a_gap_in_calm_times_is_reported_after_the_bound() {
        let facts = facts();
        let mut whole = Whole::new(Some(Duration::from_secs(3)));
        whole.begins(at(20), 2, FLOW);
        whole.begins(at(24), 2, FLOW);

        assert_eq!(whole.gap(at(23), &facts, 2, FLOW, &GAP), None);
        let found = whole.gap(at(24), &facts, 2, FLOW, &GAP);

        assert!(found.is_some_and(|saw| saw.contains("misses 2 packets")));
    }

    #[test]
    fn who_has_just_begun_or_lives_with_a_fault_may_miss_something() {
        let mut facts = facts();
        let mut whole = Whole::new(Some(Duration::from_secs(3)));
        whole.begins(at(10), 2, FLOW);
        whole.ends(2, FLOW);
        whole.begins(at(22), 2, FLOW);
        assert_eq!(whole.gap(at(24), &facts, 2, FLOW, &GAP), None);

        facts.fault_begins();
        assert_eq!(whole.gap(at(60), &facts, 2, FLOW, &GAP), None);
    }

    #[test]
    fn the_end_of_a_withdrawn_stream_may_be_missed() {
        let mut facts = facts();
        let mut whole = Whole::new(Some(Duration::from_secs(3)));
        whole.begins(at(20), 2, FLOW);

        facts.unpublished(0, 0);

        assert_eq!(whole.gap(at(60), &facts, 2, FLOW, &GAP), None);
    }

    #[test]
    fn a_scenario_that_says_nothing_allows_gaps() {
        let facts = facts();
        let mut whole = Whole::new(None);
        whole.begins(at(0), 2, FLOW);

        assert_eq!(whole.gap(at(60), &facts, 2, FLOW, &GAP), None);
    }
}
