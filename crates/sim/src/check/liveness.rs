//! Checker `liveness`: who subscribes to a stream whose origin is alive and can be reached gets frames.
//!
//! Reached: over links that are configured between nodes that run, through nodes that forward, on ways that are open.
//! Time starts anew with each fault, so the bound says how fast the overlay recovers. Called by `check` for each frame
//! and at every tick. Invariant: one frame of any origin of the name is enough.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use levada_core::SubscriptionId;
use levada_wire::{Instant, StreamName};

use super::{Facts, Overview};

#[derive(Debug)]
pub(super) struct Liveness {
    bound: Duration,
    /// Since when each subscription should get frames, without a break.
    due_since: BTreeMap<(usize, SubscriptionId), Instant>,
    last_frame: BTreeMap<(usize, StreamName), Instant>,
}

impl Liveness {
    pub(super) const fn new(bound: Duration) -> Self {
        Self {
            bound,
            due_since: BTreeMap::new(),
            last_frame: BTreeMap::new(),
        }
    }

    pub(super) fn frame(&mut self, now: Instant, node: usize, stream: Option<&StreamName>) {
        if let Some(stream) = stream {
            self.last_frame.insert((node, stream.clone()), now);
        }
    }

    pub(super) fn check(&mut self, facts: &Facts, overview: &Overview) -> Option<String> {
        let is_due = |node: usize, name: &StreamName| {
            facts.calm_since().is_some() && {
                let reached = reached_from(node, overview);
                facts
                    .origins_of(name)
                    .any(|origin| reached.contains(&origin))
            }
        };
        let before = std::mem::take(&mut self.due_since);
        let due = facts
            .subscriptions()
            .filter(|(node, _, name)| is_due(*node, name));
        self.due_since = due
            .map(|(node, id, _)| {
                (
                    (node, id),
                    before.get(&(node, id)).copied().unwrap_or(overview.now),
                )
            })
            .collect();
        facts.subscriptions().find_map(|(node, id, name)| {
            let due_since = *self.due_since.get(&(node, id))?;
            let last = self.last_frame.get(&(node, name.clone())).copied();
            let since = last.map_or(due_since, |last| last.max(due_since));
            (overview.now.since(since) > self.bound).then(|| {
                let node = facts.name(node);
                format!(
                    "{node} subscribes to `{name}` and got no frame since {since:?}, though all is well since \
                     {due_since:?}"
                )
            })
        })
    }
}

/// The nodes that a node can reach: neighbours, and whatever is behind those that forward.
fn reached_from(node: usize, overview: &Overview) -> BTreeSet<usize> {
    let mut reached = BTreeSet::from([node]);
    let mut open = vec![node];
    while let Some(here) = open.pop() {
        for there in &overview.reachable[here] {
            let forwards = overview.nodes[*there]
                .as_ref()
                .is_some_and(|snapshot| snapshot.relay);
            if reached.insert(*there) && forwards {
                open.push(*there);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::check::fixture::{at, cam, facts, overview};

    const BOUND: Duration = Duration::from_secs(5);

    /// c subscribes; a publishes; b forwards between them, or does not.
    fn check(forwards: bool, frame: Option<u64>, faults: u32) -> Option<String> {
        let mut facts = facts();
        facts.subscribed(2, SubscriptionId(1), cam());
        (0..faults).for_each(|_| facts.fault_begins());
        let mut liveness = Liveness::new(BOUND);
        let mut found = None;
        for seconds in 1..=7 {
            let mut overview = overview(seconds);
            overview.nodes[1].as_mut().unwrap().relay = forwards;
            if frame == Some(seconds) {
                liveness.frame(at(seconds), 2, Some(&cam()));
            }
            let now = liveness.check(&facts, &overview);
            found = found.or(now);
        }
        found
    }

    #[test]
    fn a_subscription_without_frames_is_reported() {
        assert!(
            check(true, None, 0)
                .unwrap()
                .contains("c subscribes to `cam`")
        );
    }

    #[test]
    fn frames_an_unreachable_origin_and_faults_excuse() {
        assert_eq!(check(true, Some(3), 0), None);
        assert_eq!(check(false, None, 0), None);
        assert_eq!(check(true, None, 1), None);
    }
}
