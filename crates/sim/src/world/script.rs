//! What people do: publishers start, make frames and end; players come and go.
//!
//! A player stays with its node: if the process dies, it asks again when the process is back, as a gateway's client
//! does. Not faults. Called by `world`. Invariant: the checkers know of each subscription before a machine does.

use levada_core::{FlowInput, SubscriptionId};
use levada_wire::{Instant, Layer};

use super::{Event, Script, World};
use crate::media::{self, Stamp};

/// A publisher that runs.
#[derive(Debug)]
pub(super) struct Publisher {
    start: u32,
    since: Instant,
    /// By track: frames made so far.
    made: Vec<u32>,
}

impl World<'_> {
    /// Plans what the scenario's publishers and players do, at times that the seed chooses.
    pub(super) fn plan_script(&mut self) {
        for (index, plan) in self.scenario.streams.iter().enumerate() {
            let mut rng = self.chance.split("stream", index as u64);
            let from = Instant::ZERO + plan.from.choose(&mut rng);
            self.queue.push(from, Event::Script(Script::Publish(index)));
            if let Some(until) = &plan.until {
                let until = Instant::ZERO + until.choose(&mut rng);
                self.queue
                    .push(until, Event::Script(Script::Unpublish(index)));
            }
        }
        for (index, plan) in self.scenario.subscriptions.iter().enumerate() {
            let mut rng = self.chance.split("subscription", index as u64);
            let from = Instant::ZERO + plan.from.choose(&mut rng);
            self.queue
                .push(from, Event::Script(Script::Subscribe(index)));
            if let Some(until) = &plan.until {
                let until = Instant::ZERO + until.choose(&mut rng);
                self.queue
                    .push(until, Event::Script(Script::Unsubscribe(index)));
            }
        }
    }

    pub(super) fn on_script(&mut self, script: Script) {
        let node = match script {
            Script::Publish(stream) | Script::Unpublish(stream) => {
                self.scenario.streams[stream].origin
            }
            Script::Subscribe(id) | Script::Unsubscribe(id) => self.scenario.subscriptions[id].node,
        };
        if self.put_off(node, script) {
            return;
        }
        match script {
            Script::Publish(stream) => {
                self.wants.streams[stream] = true;
                self.publish(stream);
            }
            Script::Unpublish(stream) => {
                self.wants.streams[stream] = false;
                self.unpublish(stream);
            }
            Script::Subscribe(id) => {
                self.wants.subscriptions[id] = true;
                self.subscribe(id);
            }
            Script::Unsubscribe(id) => {
                self.wants.subscriptions[id] = false;
                self.unsubscribe(id);
            }
        }
    }

    /// A process has started: its publishers and players are there again.
    pub(super) fn resume_script(&mut self, node: usize) {
        for stream in 0..self.scenario.streams.len() {
            if self.wants.streams[stream] && self.scenario.streams[stream].origin == node {
                self.publish(stream);
            }
        }
        for id in 0..self.scenario.subscriptions.len() {
            if self.wants.subscriptions[id] && self.scenario.subscriptions[id].node == node {
                self.subscribe(id);
            }
        }
    }

    /// A process is about to leave: its publishers and players end first.
    pub(super) fn end_script(&mut self, node: usize) {
        for stream in 0..self.scenario.streams.len() {
            if self.scenario.streams[stream].origin == node {
                self.unpublish(stream);
            }
        }
        for id in 0..self.scenario.subscriptions.len() {
            if self.wants.subscriptions[id] && self.scenario.subscriptions[id].node == node {
                self.unsubscribe(id);
            }
        }
    }

    fn publish(&mut self, stream: usize) {
        let plan = &self.scenario.streams[stream];
        let node = &self.nodes[plan.origin];
        if node.process.is_none() || self.publishers[stream].is_some() {
            return;
        }
        let start = self.starts;
        self.starts += 1;
        let offer = media::offer(plan, node.clock.wall(self.now));
        self.trace.event(
            self.now,
            &format!(
                "{} publishes {}",
                self.scenario.nodes[plan.origin].name, plan.name
            ),
        );
        self.checks.published(self.now, plan.origin, stream, start);
        self.publishers[stream] = Some(Publisher {
            start,
            since: self.now,
            made: vec![0; plan.tracks.len()],
        });
        self.call(plan.origin, |process, now| {
            process.on_input(now, FlowInput::Publish(offer))
        });
        for track in 0..plan.tracks.len() {
            self.queue.push(
                self.now,
                Event::Frame {
                    stream,
                    start,
                    track,
                    slot: 0,
                },
            );
        }
    }

    fn unpublish(&mut self, stream: usize) {
        let plan = &self.scenario.streams[stream];
        if self.publishers[stream].take().is_some() {
            self.trace.event(
                self.now,
                &format!(
                    "{} withdraws {}",
                    self.scenario.nodes[plan.origin].name, plan.name
                ),
            );
            self.checks.unpublished(plan.origin, stream);
            self.call(plan.origin, |process, now| {
                process.unpublish(now, &plan.name)
            });
        }
    }

    fn subscribe(&mut self, index: usize) {
        let plan = &self.scenario.subscriptions[index];
        if self.nodes[plan.node].process.is_none() {
            return;
        }
        let (id, name) = (SubscriptionId(index as u64), plan.stream.clone());
        self.trace.event(
            self.now,
            &format!("{} plays {name}", self.scenario.nodes[plan.node].name),
        );
        self.checks
            .subscribed(self.now, plan.node, id, name.clone());
        self.input(
            plan.node,
            FlowInput::Subscribe {
                id,
                name,
                layer: Layer(0),
                budget: plan.budget,
                paths: plan.paths,
            },
        );
    }

    fn unsubscribe(&mut self, index: usize) {
        let plan = &self.scenario.subscriptions[index];
        if self.nodes[plan.node].process.is_none() {
            return;
        }
        let id = SubscriptionId(index as u64);
        let name = &self.scenario.nodes[plan.node].name;
        self.trace.event(
            self.now,
            &format!("{name} does not play {} any more", plan.stream),
        );
        // First, since the node lets go of the flow within the command, and owes nobody its end from now on.
        self.checks.unsubscribed(self.now, plan.node, id);
        self.input(plan.node, FlowInput::Unsubscribe { id });
    }

    /// A publisher's next frame. While its process stands still none is made.
    pub(super) fn on_frame(&mut self, stream: usize, start: u32, track: usize, slot: u64) {
        let plan = &self.scenario.streams[stream];
        let Some(publisher) = self.publishers[stream]
            .as_mut()
            .filter(|publisher| publisher.start == start)
        else {
            return;
        };
        let next = publisher.since + media::time_of(&plan.tracks[track], slot + 1);
        self.queue.push(
            next,
            Event::Frame {
                stream,
                start,
                track,
                slot: slot + 1,
            },
        );
        let node = &self.nodes[plan.origin];
        if node.is_paused() {
            return;
        }
        let stamp = Stamp {
            stream: u16::try_from(stream).expect("ITEMS_MAX streams"),
            start,
            track: media::track_id(track),
            sequence: publisher.made[track],
            slot,
        };
        publisher.made[track] += 1;
        self.counts.frames_made += 1;
        let frame = media::frame(plan, stamp).expect("the stamp is of a track of the plan");
        let wall = node.clock.wall(self.now);
        self.call(plan.origin, |process, now| {
            process.push(now, &plan.name, frame, wall)
        });
    }
}
