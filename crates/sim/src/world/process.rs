//! A node's process: how it starts, is called, wakes, stands still and ends.
//!
//! Not what it decides. Called by `world`. Invariant: a process is only called while it runs and does not stand still.

use levada_core::site::Willing;
use levada_core::{Input, LinkInput, Neighbour, Settings};
use levada_lane::api::Delivery;
use levada_wire::{Instant, NetworkId};

use super::{Event, Parcel, Script, World};
use crate::node::{Effect, Process};
use crate::sabotage::Sabotage;

/// More wake-ups of one node at one moment than this, and it spins.
const WAKES_AT_ONCE_MAX: u32 = 1_000;

impl World<'_> {
    /// Starts a node's process: nothing survived but its identity and its machine's clocks.
    pub(super) fn boot(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.process.is_some() {
            return;
        }
        let plan = &self.scenario.nodes[index];
        node.boots += 1;
        let mut rng = self
            .chance
            .split("boot", (index as u64) << 32 | u64::from(node.boots));
        let settings = Settings {
            identity: node.identity.clone(),
            network: NetworkId::OPEN,
            name: plan.name.clone(),
            relay: plan.relay,
            accept: true,
            uplink: plan.uplink,
            seed: rng.bytes(),
        };
        // The first publisher's node, so that there is something to go on with.
        let is_sabotaged = self.sabotage == Some(Sabotage::Machine)
            && self
                .scenario
                .streams
                .first()
                .is_some_and(|stream| stream.origin == index);
        node.process = Some(Process::new(settings, is_sabotaged));
        self.trace.event(self.now, &format!("{} starts", plan.name));
        for &neighbour in &plan.neighbours {
            let other = &self.nodes[neighbour];
            // People know where a neighbour is, and some of them also who.
            let node = (rng.below(2) == 0).then_some(other.id);
            let neighbour = Neighbour {
                addresses: vec![other.address],
                node,
            };
            let input = LinkInput::AddNeighbour(neighbour);
            self.call(index, |process, now| process.on_input(now, input));
        }
        if self.scenario.networks[plan.network].is_site {
            let node = &self.nodes[index];
            let (address, wall) = (node.address, node.clock.wall(self.now));
            let willing = if plan.relay {
                Willing::Auto
            } else {
                Willing::Never
            };
            self.call(index, |process, own| {
                process.join_site(own, address, willing, wall);
            });
        }
        self.resume_script(index);
    }

    /// Ends a node's process without a word.
    pub(super) fn kill(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let Some(ended) = node.process.take() else {
            return;
        };
        node.inbox.clear();
        node.wake = None;
        self.trace.event(
            self.now,
            &format!("{} is gone", self.scenario.nodes[index].name),
        );
        for (stream, plan) in self.scenario.streams.iter().enumerate() {
            if plan.origin == index {
                self.publishers[stream] = None;
            }
        }
        for &channel in ended.joined() {
            self.leave_channel(index, channel);
        }
        self.connections.crash(self.now, index);
        self.checks.ended(self.now, index);
    }

    /// Calls a process and does what it wants done.
    pub(super) fn call(&mut self, index: usize, f: impl FnOnce(&mut Process, Instant)) {
        let node = &mut self.nodes[index];
        let Some(process) = &mut node.process else {
            return;
        };
        f(process, node.clock.own(self.now));
        for effect in process.take_effects() {
            self.apply(index, effect);
        }
        self.plan_wake(index);
    }

    fn apply(&mut self, index: usize, effect: Effect) {
        let Some(host) = self.nodes[index].host(index) else {
            return;
        };
        let name = &self.scenario.nodes[index].name;
        match effect {
            Effect::Datagrams(transmit) => self.send(index, &transmit),
            Effect::Join(channel) => self.join_channel(index, channel),
            Effect::Leave(channel) => self.leave_channel(index, channel),
            Effect::Chunk {
                end,
                concern,
                bytes,
            } => self.send_chunk(index, end, concern, bytes),
            // Who reads has it at once.
            Effect::Mark { end, link, concern } => {
                if self.is_read(end) {
                    self.input(index, Input::Written { link, concern });
                }
            }
            Effect::Dial { dial, remote, peer } => {
                let expected = peer.and_then(|peer| self.by_id.get(&peer).copied());
                self.connections
                    .dial(self.now, host, dial, remote, expected);
            }
            Effect::CancelDial { dial } => self.connections.cancel_dial(self.now, host, dial),
            Effect::Close { end, reason } => {
                self.trace
                    .line(self.now, || format!("{name} closes a connection: {reason}"));
                self.connections.close(self.now, end, &reason);
            }
            Effect::Commanded {
                flow,
                command,
                egress,
            } => {
                self.trace.line(self.now, || {
                    format!("{name} tells its lane of flow {flow}: {command:?}")
                });
                if let Some(hostile) = self.hostile.get_mut(&index) {
                    hostile.is_told(flow, &command, egress);
                }
                self.checks
                    .commanded(self.now, index, flow, &command, egress);
            }
            Effect::Said(event) => {
                self.trace.line(self.now, || format!("{name} {event:?}"));
                self.checks.said(index, &event);
            }
            Effect::Delivered { flow, delivery } => {
                if let Delivery::Gap(gap) = &delivery {
                    let (packets, first) = (gap.packets, gap.first.value());
                    self.trace.line(self.now, || {
                        format!("{name} misses {packets} packets of flow {flow} from {first} on")
                    });
                }
                self.checks.delivered(self.now, index, flow, &delivery)
            }
            Effect::Runaway(what) => self.checks.spins(index, what.to_owned()),
        }
    }

    /// A wake-up that was planned is due.
    pub(super) fn on_wake(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.wake != Some(self.now) {
            return;
        }
        node.wake = None;
        if node.is_paused() {
            return;
        }
        let wakeup = node.process.as_ref().and_then(Process::wakeup);
        let Some((_, why)) = wakeup.filter(|(at, _)| *at <= node.clock.own(self.now)) else {
            self.plan_wake(index);
            return;
        };
        let (moment, count) = &mut node.wakes_now;
        *count = if *moment == self.now { *count + 1 } else { 1 };
        *moment = self.now;
        if *count > WAKES_AT_ONCE_MAX {
            self.checks.spins(
                index,
                format!("it wants to be woken for `{why}` again and again"),
            );
            return;
        }
        self.call(index, Process::on_time);
    }

    /// Plans the next wake-up, if it is earlier than what is planned.
    pub(super) fn plan_wake(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let Some((own, _)) = node.process.as_ref().and_then(Process::wakeup) else {
            return;
        };
        let at = node.clock.world(own).max(self.now);
        if node.wake.is_none_or(|planned| at < planned) {
            node.wake = Some(at);
            self.queue.push(at, Event::Wake(index));
        }
    }

    /// A process that stood still goes on: its timers are late, and what came meanwhile waits at its socket.
    pub(super) fn resume(&mut self, index: usize) {
        self.call(index, Process::on_time);
        while let Some(parcel) = self.nodes[index].inbox.pop_front() {
            match parcel {
                Parcel::Datagram { from, bytes } => self.arrive_datagram(index, from, bytes),
                Parcel::Heard { from, to, bytes } => self.on_heard(index, [from, to], bytes),
                Parcel::Segment(segment) => {
                    let host = self.nodes[index].host(index);
                    self.connections.arrive(self.now, segment, host);
                    self.settle_connections();
                }
                Parcel::Input(input) => {
                    self.call(index, |process, now| process.on_input(now, input));
                }
                Parcel::Script(script) => self.on_script(script),
            }
        }
    }

    /// Tells a process what its user wants, now or when it goes on.
    pub(super) fn input(&mut self, index: usize, input: impl Into<Input>) {
        let input = input.into();
        if self.nodes[index].is_paused() {
            self.nodes[index].inbox.push_back(Parcel::Input(input));
        } else {
            self.call(index, |process, now| process.on_input(now, input));
        }
    }

    /// Puts a step of the script off until the process goes on. True if that is so.
    pub(super) fn put_off(&mut self, index: usize, script: Script) -> bool {
        let is_paused = self.nodes[index].is_paused() && self.nodes[index].process.is_some();
        if is_paused {
            self.nodes[index].inbox.push_back(Parcel::Script(script));
        }
        is_paused
    }
}
