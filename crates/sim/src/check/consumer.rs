//! Checker `consumer`: what a node's subscribers get is what was sent, in order, once, with every hole announced.
//!
//! The description comes first, and is the publisher's. The first frame of all starts a group. In each track sequences
//! then grow by one, but for frames that a reported gap took. Each frame is made again from its stamp and compared. Not
//! whether anything arrives at all, which is `liveness`. Called by `check` for each delivery. Invariant: what is
//! remembered ends with the consumption; the next one starts anew.

use std::collections::{BTreeMap, BTreeSet};

use levada_datapath::api::Delivery;
use levada_wire::{FlowId, Frame, TrackId};

use super::{Counts, Facts};
use crate::media;

#[derive(Debug, Default)]
pub(super) struct Consumers {
    sessions: BTreeMap<(usize, FlowId), Session>,
    pub(super) counts: Counts,
}

/// One consumption of a flow at a node.
#[derive(Debug, Default)]
struct Session {
    described: bool,
    ended: bool,
    /// The last sequence of each track.
    last: BTreeMap<TrackId, u32>,
    /// Tracks that may have lost frames in a gap since their last frame.
    after_gap: BTreeSet<TrackId>,
}

impl Consumers {
    pub(super) fn begins(&mut self, node: usize, flow: FlowId) {
        self.sessions.entry((node, flow)).or_default();
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
                session.on_frame(frame, stamp.sequence)?;
            }
            Delivery::Gap(_) => {
                self.counts.gaps += 1;
                session.after_gap = session.last.keys().copied().collect();
            }
            Delivery::End => session.ended = true,
            _ => {}
        }
        Ok(())
    }
}

impl Session {
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
    use levada_datapath::api::{Gap, GapReason};
    use levada_wire::{Group, Number};

    use super::*;
    use crate::check::fixture::{FLOW, START, facts};
    use crate::media::Stamp;

    const NODE: usize = 2;

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
        consumers.begins(NODE, FLOW);
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
        consumers.begins(NODE, FLOW);
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
    fn a_delivery_to_nobody_is_reported() {
        let facts = facts();
        let mut consumers = Consumers::default();
        consumers.begins(NODE, FLOW);
        consumers.begins(1, FLOW);
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
