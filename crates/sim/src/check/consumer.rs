//! Checker `consumer`: what a node's subscribers get is what was sent, in order, once, with every hole announced.
//!
//! The description comes first, and is the publisher's. The first frame of all starts a group, and a fresh one: what
//! was cached when the consumption began is at most [`GROUPS_OLD_MAX`] groups and [`WAY_MAX`] old, unless something
//! went wrong meanwhile. In each track sequences then grow by one, but for frames that a reported gap took. Each frame
//! is made again from its stamp and compared. Not whether anything arrives at all, which is `liveness`. Called by
//! `check` for each delivery. Invariant: what is remembered ends with the consumption; the next one starts anew.

use std::collections::{BTreeMap, BTreeSet};

use std::time::Duration;

use levada_lane::api::Delivery;
use levada_wire::{FlowId, Frame, Instant, TrackId};

use super::{Counts, Facts};
use crate::media;
use crate::scenario::TrackPlan;

/// The newest group is up to a group old when the next is about to begin; two more may have lost their start on the
/// way.
const GROUPS_OLD_MAX: u32 = 3;
/// How long a group may take from its origin to the cache that a consumption begins with, over all hops.
const WAY_MAX: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(super) struct Consumers {
    sessions: BTreeMap<(usize, FlowId), Session>,
    pub(super) counts: Counts,
}

/// One consumption of a flow at a node.
#[derive(Debug)]
struct Session {
    began: Instant,
    described: bool,
    ended: bool,
    /// The last sequence of each track.
    last: BTreeMap<TrackId, u32>,
    /// Tracks that may have lost frames in a gap since their last frame.
    after_gap: BTreeSet<TrackId>,
}

impl Consumers {
    pub(super) fn begins(&mut self, now: Instant, node: usize, flow: FlowId) {
        let session = self.sessions.entry((node, flow));
        session.or_insert_with(|| Session::new(now));
    }

    pub(super) fn ends(&mut self, node: usize, flow: FlowId) {
        self.sessions.remove(&(node, flow));
    }

    /// A node's process is gone.
    pub(super) fn ended(&mut self, node: usize) {
        self.sessions.retain(|(at, _), _| *at != node);
    }

    pub(super) fn delivered(
        &mut self,
        facts: &Facts,
        node: usize,
        flow: FlowId,
        delivery: &Delivery,
    ) -> Result<(), String> {
        let session = self
            .sessions
            .get_mut(&(node, flow))
            .ok_or("something is delivered, and nobody consumes")?;
        let origin = facts
            .origin(flow)
            .ok_or("a flow that no publisher started is delivered")?;
        if session.ended {
            return Err("something comes after the end".to_owned());
        }
        match delivery {
            Delivery::Description(description) => {
                session.described = true;
                if *description != media::description(&facts.plans[origin.stream]) {
                    return Err("the description is not the publisher's".to_owned());
                }
            }
            Delivery::Frame { frame, .. } => {
                self.counts.frames += 1;
                let stamp = media::verify(&facts.plans, frame)?;
                if (usize::from(stamp.stream), stamp.start) != (origin.stream, origin.start) {
                    return Err(format!("a frame of another stream or start: {stamp:?}"));
                }
                let is_first = session.last.is_empty();
                session.on_frame(frame, stamp.sequence)?;
                if is_first {
                    let track = &facts.plans[origin.stream].tracks[usize::from(frame.track.0) - 1];
                    let made = origin.since + media::time_of(track, stamp.slot);
                    session.on_first(facts, track, made)?;
                }
            }
            Delivery::Gap(_) => {
                self.counts.gaps += 1;
                session.after_gap = session.last.keys().copied().collect();
            }
            Delivery::End => session.ended = true,
        }
        Ok(())
    }
}

impl Session {
    const fn new(began: Instant) -> Self {
        Self {
            began,
            described: false,
            ended: false,
            last: BTreeMap::new(),
            after_gap: BTreeSet::new(),
        }
    }

    /// The first frame of all, which was made at `made`.
    fn on_first(&self, facts: &Facts, track: &TrackPlan, made: Instant) -> Result<(), String> {
        let group = media::time_of(track, u64::from(track.sync_every));
        let old_max = group * GROUPS_OLD_MAX + WAY_MAX;
        if facts.had(self.began, made, old_max) {
            let (made, began) = (made, self.began);
            return Err(format!(
                "the first frame of all, of {made:?}, was stale at {began:?}, when the consumption began"
            ));
        }
        Ok(())
    }

    fn on_frame(&mut self, frame: &Frame, sequence: u32) -> Result<(), String> {
        if !self.described {
            return Err("a frame comes before the description".to_owned());
        }
        if self.last.is_empty() && !(frame.sync && frame.track == media::track_id(0)) {
            return Err("the first frame of all does not start a group".to_owned());
        }
        let may_skip = self.after_gap.remove(&frame.track);
        match self.last.insert(frame.track, sequence) {
            Some(last) if sequence == last => {
                Err(format!("frame {sequence} of {:?} comes twice", frame.track))
            }
            Some(last) if sequence < last => Err(format!(
                "frame {sequence} of {:?} comes after {last}",
                frame.track
            )),
            Some(last) if sequence > last + 1 && !may_skip => Err(format!(
                "frame {sequence} of {:?} comes after {last}, and no gap was reported",
                frame.track
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use levada_lane::api::{Gap, GapReason};
    use levada_wire::{Group, Number};

    use super::*;
    use crate::check::fixture::{FLOW, START, facts};
    use crate::media::Stamp;

    const NODE: usize = 2;
    const NOW: Instant = Instant::from_nanos(2_000_000_000);

    enum Step {
        Description,
        Frame(u8, u32),
        Gap,
        End,
    }
    use Step::{Description, End, Frame as F, Gap as G};

    fn video(sequence: u32) -> Frame {
        frame(1, sequence, START)
    }

    fn frame(track: u8, sequence: u32, start: u32) -> Frame {
        let stamp = Stamp {
            stream: 0,
            start,
            track: TrackId(track),
            sequence,
            slot: u64::from(sequence),
        };
        media::frame(&facts().plans[0], stamp).unwrap()
    }

    fn delivery(frame: Frame) -> Delivery {
        Delivery::Frame {
            group: Group(0),
            frame,
            wall: None,
        }
    }

    fn consume(steps: &[Step]) -> Result<(), String> {
        let facts = facts();
        let mut consumers = Consumers::default();
        consumers.begins(NOW, NODE, FLOW);
        steps.iter().try_for_each(|step| {
            let delivery = match step {
                Description => Delivery::Description(media::description(&facts.plans[0])),
                F(track, sequence) => delivery(frame(*track, *sequence, START)),
                G => Delivery::Gap(Gap {
                    first: Number::ZERO,
                    packets: 1,
                    reason: GapReason::Lost,
                }),
                End => Delivery::End,
            };
            consumers.delivered(&facts, NODE, FLOW, &delivery)
        })
    }

    #[test]
    fn frames_in_order_with_announced_holes_pass() {
        let steps = [
            Description,
            F(1, 10),
            F(2, 4),
            F(1, 11),
            F(2, 5),
            G,
            F(1, 14),
            F(2, 9),
            F(1, 15),
            End,
        ];

        assert_eq!(consume(&steps), Ok(()));
    }

    #[test]
    fn what_a_subscriber_must_not_get_is_reported() {
        let cases: [(&[Step], &str); 8] = [
            (&[F(1, 10)], "before the description"),
            (&[Description, F(1, 11)], "does not start a group"),
            (&[Description, F(2, 0)], "does not start a group"),
            (&[Description, F(1, 10), F(1, 11), F(1, 11)], "comes twice"),
            (
                &[Description, F(1, 10), F(1, 11), F(1, 10)],
                "comes after 11",
            ),
            (&[Description, F(1, 10), F(1, 12)], "no gap was reported"),
            (
                &[Description, F(1, 10), G, F(1, 12), F(1, 14)],
                "no gap was reported",
            ),
            (&[Description, F(1, 10), End, F(1, 11)], "after the end"),
        ];

        for (steps, expected) in cases {
            let found = consume(steps).unwrap_err();
            assert!(found.contains(expected), "{found}");
        }
    }

    #[test]
    fn a_frame_of_another_start_or_with_a_wrong_bit_is_reported() {
        let facts = facts();
        let mut consumers = Consumers::default();
        consumers.begins(NOW, NODE, FLOW);
        let mut changed = video(10);
        let mut data = changed.data.to_vec();
        data[30] ^= 1;
        changed.data = data.into();

        let mut reported = |frame| {
            consumers
                .delivered(&facts, NODE, FLOW, &delivery(frame))
                .unwrap_err()
        };

        assert!(reported(frame(1, 10, START + 1)).contains("another stream or start"));
        assert!(reported(changed).contains("data differ"));
    }

    #[test]
    fn a_stale_first_group_is_reported_unless_something_went_wrong_meanwhile() {
        let began = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let found = |consumption: Instant, fault: Option<Instant>| {
            let mut facts = facts();
            if let Some(at) = fault {
                facts.fault_begins();
                facts.fault_ends(at);
            }
            let mut consumers = Consumers::default();
            consumers.begins(consumption, NODE, FLOW);
            let description = Delivery::Description(media::description(&facts.plans[0]));
            consumers
                .delivered(&facts, NODE, FLOW, &description)
                .unwrap();
            // Made one second after the start; a group has one second.
            consumers.delivered(&facts, NODE, FLOW, &delivery(video(10)))
        };

        assert_eq!(found(began(4), None), Ok(()));
        assert_eq!(found(began(5), Some(began(4))), Ok(()));
        assert!(found(began(5), None).unwrap_err().contains("stale"));
    }

    #[test]
    fn a_delivery_to_nobody_is_reported() {
        let facts = facts();
        let mut consumers = Consumers::default();
        consumers.begins(NOW, NODE, FLOW);
        consumers.begins(NOW, 1, FLOW);
        consumers.ends(NODE, FLOW);
        consumers.ended(1);

        for node in [NODE, 1] {
            let found = consumers
                .delivered(&facts, node, FLOW, &Delivery::End)
                .unwrap_err();
            assert!(found.contains("nobody consumes"), "{found}");
        }
    }
}
