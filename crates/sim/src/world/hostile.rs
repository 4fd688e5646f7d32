//! The hostile neighbours of a run: when they speak, what they hear, and what waits for those that do not read.
//!
//! Not what they say (`crate::hostile`). All checkers stay on, and no fault excuses anything: nobody else may be worse
//! off. Called by `world`. Invariant: what they say goes over their own connections only.

use bytes::Bytes;
use levada_wire::datagram::link::LinkDatagram;

use super::{Event, World};
use crate::connection::End;
use crate::hostile::{Hostile, Lie, Speech};
use crate::net::Load;
use crate::scenario::FaultKind;

impl World<'_> {
    /// Makes the hostile neighbours of the scenario: they listen from the beginning.
    pub(super) fn place_hostile(&mut self) {
        for (index, plan) in self.scenario.faults.iter().enumerate() {
            if let FaultKind::Hostile { node, acts, .. } = &plan.kind {
                let rng = self.chance.split("hostile", index as u64);
                let hostile = Hostile::new(self.nodes[*node].id, acts, rng);
                self.hostile.insert(*node, hostile);
            }
        }
    }

    pub(super) fn turn_hostile(&mut self, node: usize, is_active: bool) {
        if let Some(hostile) = self.hostile.get_mut(&node) {
            hostile.is_active = is_active;
        }
    }

    /// A hostile neighbour speaks, and plans to speak again.
    pub(super) fn on_hostile(&mut self, fault: usize) {
        let FaultKind::Hostile { node, every, .. } = &self.scenario.faults[fault].kind else {
            return;
        };
        // The end of a fault forgets it.
        if self.faults[fault].is_none() {
            return;
        }
        self.queue.push(self.now + *every, Event::Hostile(fault));
        let process = self.nodes[*node].process.as_ref();
        let ends: Vec<End> = process
            .into_iter()
            .flat_map(|process| process.links().map(|(_, end)| end))
            .collect();
        let Some(hostile) = self.hostile.get_mut(node) else {
            return;
        };
        let speeches = hostile.say();
        let lies = hostile.lie();
        for lie in lies {
            self.lie(*node, lie);
        }
        for end in ends {
            self.speak_up(*node, end, &speeches);
        }
        self.settle_connections();
    }

    /// Control bytes came to a node that may be hostile: what it answers goes before what its process does.
    pub(super) fn hostile_hears(&mut self, node: usize, end: End, concern: u8, bytes: &Bytes) {
        let Some(from) = self.connections.peer(end).map(|host| host.node) else {
            return;
        };
        let from = self.nodes[from].id;
        let Some(hostile) = self.hostile.get_mut(&node) else {
            return;
        };
        let speeches = hostile.hear(end, from, concern, bytes);
        self.speak_up(node, end, &speeches);
    }

    /// Whether whoever is at the other end of a connection reads what it is sent.
    pub(super) fn is_read(&self, end: End) -> bool {
        let peer = self.connections.peer(end).map(|host| host.node);
        let peer = peer.and_then(|peer| self.hostile.get(&peer));
        !peer.is_some_and(Hostile::reads_nothing)
    }

    /// An insider sends a packet of its own making, or a link datagram as its process would.
    fn lie(&mut self, node: usize, lie: Lie) {
        match lie {
            Lie::Packet(to, bytes) => {
                let from = self.nodes[node].address;
                let load = Load {
                    bytes: bytes.len(),
                    media: true,
                };
                self.trace.datagram(self.now, from, to, &bytes);
                self.counts.forged += 1;
                self.depart([from, to], load, bytes);
            }
            Lie::Head(link, head) => self.call(node, |process, own| {
                process.say(own, link, LinkDatagram::Head(head));
            }),
        }
    }

    fn speak_up(&mut self, node: usize, end: End, speeches: &[Speech]) {
        for (concern, bytes) in speeches {
            self.send_chunk(node, end, *concern, bytes.clone());
        }
    }
}
