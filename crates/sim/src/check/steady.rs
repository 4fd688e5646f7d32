//! Checker `steady`: whoever has been consuming for a while misses nothing and gets nothing late, whatever else fails.
//!
//! Only in scenarios that say after which time (`steady`), and how late a frame may be (`late`), counted from when its
//! publisher made it: there what fails has a way around it, and the budget leaves time to take it. Not the same as
//! `continuity`, which is silent while something fails. Called by `check` for each delivery. Invariant: what is
//! remembered ends with the consumption.

use std::collections::BTreeMap;
use std::time::Duration;

use levada_lane::api::Delivery;
use levada_wire::{FlowId, Instant};

use super::Facts;
use crate::media;

#[derive(Debug)]
pub(super) struct Steady {
    after: Option<Duration>,
    late: Option<Duration>,
    began: BTreeMap<(usize, FlowId), Instant>,
    /// The longest that a frame took, of those that are looked at.
    pub(super) slowest: Duration,
}

impl Steady {
    pub(super) const fn new(after: Option<Duration>, late: Option<Duration>) -> Self {
        Self {
            after,
            late,
            began: BTreeMap::new(),
            slowest: Duration::ZERO,
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

    pub(super) fn delivered(
        &mut self,
        now: Instant,
        facts: &Facts,
        node: usize,
        flow: FlowId,
        delivery: &Delivery,
    ) -> Option<String> {
        let after = self.after?;
        let began = *self.began.get(&(node, flow))?;
        if now.since(began) <= after {
            return None;
        }
        let name = facts.name(node);
        match delivery {
            Delivery::Gap(gap) => {
                let (packets, first) = (gap.packets, gap.first.value());
                Some(format!(
                    "{name} misses {packets} packets of flow {flow} from number {first} on"
                ))
            }
            Delivery::Frame { frame, .. } => {
                let origin = facts.origin(flow)?;
                let stamp = media::verify(&facts.plans, frame).ok()?;
                let track = &facts.plans[origin.stream].tracks[usize::from(frame.track.0) - 1];
                let took = now.since(origin.since + media::time_of(track, stamp.slot));
                self.slowest = self.slowest.max(took);
                let is_late = self.late.is_some_and(|late| took > late);
                is_late.then(|| format!("{name} gets a frame of flow {flow} after {took:?}"))
            }
            Delivery::Description(_) | Delivery::End => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use levada_lane::api::{Gap, GapReason};
    use levada_wire::{Group, Number, TrackId};

    use super::*;
    use crate::check::fixture::{FLOW, START, at, facts};
    use crate::media::Stamp;

    const SECOND: Duration = Duration::from_secs(1);

    /// What is found in a consumption that began at 10 s.
    fn found(now: Instant, delivery: &Delivery) -> Option<String> {
        let mut steady = Steady::new(Some(3 * SECOND), Some(SECOND));
        steady.begins(at(10), 2, FLOW);
        let mut facts = facts();
        facts.fault_begins();
        steady.delivered(now, &facts, 2, FLOW, delivery)
    }

    fn frame(made: u64) -> Delivery {
        let facts = facts();
        let track = &facts.plans[0].tracks[0];
        let since = facts.origin(FLOW).unwrap().since;
        let times = (0_u64..).map(|slot| since + media::time_of(track, slot));
        let slot = times.take_while(|&time| time < at(made)).count() as u64;
        let stamp = Stamp {
            stream: 0,
            start: START,
            track: TrackId(1),
            sequence: 1,
            slot,
        };
        Delivery::Frame {
            group: Group(0),
            frame: media::frame(&facts.plans[0], stamp).unwrap(),
            wall: None,
        }
    }

    #[test]
    fn a_gap_is_reported_though_something_fails_but_not_at_first() {
        let gap = Delivery::Gap(Gap {
            first: Number::ZERO,
            packets: 2,
            reason: GapReason::Lost,
        });

        assert_eq!(found(at(13), &gap), None);
        assert!(found(at(14), &gap).is_some_and(|saw| saw.contains("misses 2 packets")));
    }

    #[test]
    fn a_frame_that_took_too_long_is_reported() {
        assert_eq!(found(at(20), &frame(19)), None);

        let saw = found(at(20), &frame(18));

        assert!(saw.is_some_and(|saw| saw.contains("after 2s")));
    }
}
