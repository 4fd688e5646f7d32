//! Ways that vanished: a flow that comes does not move to one that may vanish again.
//!
//! A neighbour that tells of a short way and takes it back, again and again, would have flows move to and fro, each
//! time as newcomers. Not the choice of a way (`eligible`) and not the moving (`settle`). Kept by [`super::Flows`].
//! Invariant: what is remembered vanished less than [`WAY_STEADY`] ago, but for what was not looked at since.

use std::collections::BTreeMap;

use levada_wire::{Instant, LinkIndex, NodeId};

use crate::limits::{WAY_STEADY, WAYS_VANISHED_MAX};

/// The ways that vanished lately, by origin and link.
#[derive(Debug, Default)]
pub(super) struct Vanished(BTreeMap<(NodeId, LinkIndex), Instant>);

impl Vanished {
    /// The selected way vanished though its link is there.
    pub(super) fn note(&mut self, now: Instant, origin: NodeId, link: LinkIndex) {
        if self.0.len() >= WAYS_VANISHED_MAX {
            self.0.retain(|_, at| now.since(*at) < WAY_STEADY);
        }
        // Beyond the limit it is not remembered, and a flow may move to it.
        if self.0.len() < WAYS_VANISHED_MAX {
            self.0.insert((origin, link), now);
        }
    }

    /// Whether a way has not vanished lately.
    pub(super) fn is_steady(&self, now: Instant, origin: NodeId, link: LinkIndex) -> bool {
        let vanished = self.0.get(&(origin, link));
        vanished.is_none_or(|at| now.since(*at) >= WAY_STEADY)
    }

    pub(super) fn on_link_down(&mut self, link: LinkIndex) {
        self.0.retain(|(_, known), _| *known != link);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_way_is_steady_again_after_a_while_and_more_than_the_most_are_not_remembered() {
        let mut vanished = Vanished::default();
        let (now, link) = (Instant::from_nanos(1), LinkIndex(1));
        let origin = |number: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&(number as u64).to_be_bytes());
            NodeId(id)
        };
        for number in 0..=WAYS_VANISHED_MAX {
            vanished.note(now, origin(number), link);
        }

        let last = origin(WAYS_VANISHED_MAX);
        let almost = now + WAY_STEADY - Duration::from_millis(1);
        assert!(!vanished.is_steady(almost, origin(0), link));
        assert!(vanished.is_steady(almost, origin(0), LinkIndex(2)));
        assert!(vanished.is_steady(almost, last, link));
        assert!(vanished.is_steady(now + WAY_STEADY, origin(0), link));
        vanished.note(now + WAY_STEADY, last, link);
        assert!(!vanished.is_steady(now + WAY_STEADY, last, link));
        vanished.on_link_down(link);
        assert!(vanished.is_steady(now + WAY_STEADY, last, link));
    }
}
