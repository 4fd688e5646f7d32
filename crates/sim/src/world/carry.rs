//! Datagrams and segments on their way, and what connections ask for.
//!
//! Not the way itself (`net`) and not reliability (`connection`): this moves things from one to the other and to the
//! processes. Called by `world`. Invariant: whatever leaves a node goes into the trace and past the checkers first.

use std::net::SocketAddr;

use bytes::Bytes;
use levada_lane::api::{Datagrams, Path, Train};
use levada_wire::key::LinkKey;
use levada_wire::packet::Kind;

use super::{Cargo, Event, Flight, Parcel, World};
use crate::connection::{Act, ConnectionId, End, Segment, Side};
use crate::net::{Load, Passage, Step};
use crate::node::Connected;

/// What the socket of a process that stands still holds: more is lost (Linux's default of 208 KiB, in packets).
pub(super) const INBOX_MAX: usize = 170;
/// The most datagrams that a kernel joins in one receive (UDP_GRO_CNT_MAX, net/ipv4/udp_offload.c).
const TRAIN_MAX: usize = 64;

impl World<'_> {
    /// A node sends datagrams.
    pub(super) fn send(&mut self, node: usize, datagrams: &Datagrams) {
        let from = self.nodes[node].address;
        let to = datagrams.to;
        let mut rest = datagrams.bytes.clone();
        while !rest.is_empty() {
            let bytes = rest.split_to(datagrams.segment_bytes.clamp(1, rest.len()));
            let load = Load {
                bytes: bytes.len(),
                media: Kind::of(&bytes) == Kind::Media,
            };
            self.trace.datagram(self.now, from, to, &bytes);
            self.checks.datagram(self.now, node, [from, to], &bytes);
            self.counts.datagram(load);
            self.stranger.hears(&bytes, to);
            if to.ip().is_multicast() {
                self.speak([from, to], load, &bytes);
                continue;
            }
            if let Some(hostile) = self.hostile.get_mut(&node) {
                hostile.sees(&bytes);
            }
            self.depart([from, to], load, bytes);
        }
    }

    /// A datagram leaves its node.
    pub(super) fn depart(&mut self, [from, to]: [SocketAddr; 2], load: Load, bytes: Bytes) {
        if let Some(transit) = self.net.depart(from, to, load) {
            self.step(Flight {
                transit,
                cargo: Cargo::Datagram(bytes),
            });
        }
    }

    /// A flight has come to the end of a stage.
    pub(super) fn on_flight(&mut self, flight: Flight) {
        if self.net.has_arrived(&flight.transit) {
            self.arrive(flight);
        } else {
            self.step(flight);
        }
    }

    /// Takes a flight through its next stage.
    fn step(&mut self, mut flight: Flight) {
        match self.net.step(self.now, &mut flight.transit) {
            Step::Lost => self.lose(flight.cargo),
            Step::Onward { first, copy } => {
                for passage in [Some(first), copy].into_iter().flatten() {
                    self.pass_on(passage, &flight);
                }
            }
        }
    }

    fn pass_on(&mut self, passage: Passage, flight: &Flight) {
        let cargo = match &flight.cargo {
            cargo if !passage.corrupt => cargo.clone(),
            Cargo::Datagram(bytes) => {
                let mut bytes = bytes.to_vec();
                let bit = self.rng.below(bytes.len() as u64 * 8);
                let byte = usize::try_from(bit / 8).expect("a datagram's length is a usize");
                bytes[byte] ^= 1 << (bit % 8);
                Cargo::Datagram(bytes.into())
            }
            // QUIC's packets are sealed: a changed one is as good as lost.
            cargo @ Cargo::Segment(_) => return self.lose(cargo.clone()),
        };
        self.queue.push(
            passage.at,
            Event::Flight(Flight {
                transit: flight.transit,
                cargo,
            }),
        );
    }

    fn lose(&mut self, cargo: Cargo) {
        if let Cargo::Segment(segment) = cargo {
            self.connections.lost(self.now, segment);
        }
    }

    fn arrive(&mut self, flight: Flight) {
        let (from, to) = (flight.transit.from, flight.transit.to);
        let Some(index) = self.by_address.get(&to).copied() else {
            return;
        };
        match flight.cargo {
            Cargo::Segment(segment) => self.arrive_segment(index, segment),
            Cargo::Datagram(bytes) => self.arrive_datagram(index, from, bytes),
        }
    }

    fn arrive_segment(&mut self, index: usize, segment: Segment) {
        let node = &mut self.nodes[index];
        if node.is_paused() {
            if node.inbox.len() < INBOX_MAX {
                node.inbox.push_back(Parcel::Segment(segment));
            } else {
                self.connections.lost(self.now, segment);
            }
            return;
        }
        let host = node.host(index);
        self.connections.arrive(self.now, segment, host);
    }

    /// A datagram is at a node's socket. Those of one sender that come at one moment are joined, as GRO does.
    pub(super) fn arrive_datagram(&mut self, index: usize, from: SocketAddr, bytes: Bytes) {
        let node = &mut self.nodes[index];
        if node.process.is_none() {
            return;
        }
        if node.is_paused() {
            if node.inbox.len() < INBOX_MAX {
                node.inbox.push_back(Parcel::Datagram { from, bytes });
            }
            return;
        }
        let to = node.address;
        let segment_bytes = bytes.len();
        let (mut joined, mut last, mut count) = (Vec::new(), segment_bytes, 1);
        while last == segment_bytes && count < TRAIN_MAX {
            let net = &self.net;
            let next = self.queue.pop_if(self.now, |event| match event {
                Event::Flight(Flight {
                    transit,
                    cargo: Cargo::Datagram(next),
                }) => {
                    net.has_arrived(transit)
                        && (transit.from, transit.to) == (from, to)
                        && next.len() <= segment_bytes
                }
                _ => false,
            });
            let Some(Event::Flight(Flight {
                cargo: Cargo::Datagram(next),
                ..
            })) = next
            else {
                break;
            };
            if joined.is_empty() {
                joined.extend_from_slice(&bytes);
            }
            joined.extend_from_slice(&next);
            last = next.len();
            count += 1;
        }
        let bytes = if joined.is_empty() {
            bytes
        } else {
            joined.into()
        };
        self.call(index, |process, now| {
            process.on_train(
                now,
                Train {
                    to: None,
                    from,
                    bytes,
                    segment_bytes,
                },
            )
        });
    }

    /// Does what connections ask for, until they ask for nothing.
    pub(super) fn settle_connections(&mut self) {
        while let Some(act) = self.connections.poll_act() {
            self.on_act(act);
        }
    }

    fn on_act(&mut self, act: Act) {
        match act {
            Act::Transmit { from, to, segment } => self.transmit(from, to, segment),
            Act::Retry { at, segment } => self.queue.push(at, Event::Retry(segment)),
            Act::Watch { at, connection } => self.queue.push(at, Event::Watch(connection)),
            Act::Connected {
                end,
                host,
                peer,
                dial,
            } => {
                let [send, receive] = self.link_keys(end);
                let plans = &self.scenario.nodes;
                let path = if plans[host.node].network == plans[peer.node].network {
                    Path::Wire
                } else {
                    Path::Unknown
                };
                let connected = Connected {
                    end,
                    peer: self.nodes[peer.node].id,
                    remote: peer.address,
                    path,
                    dial,
                    send,
                    receive,
                };
                self.call(host.node, |process, now| {
                    process.on_connected(now, connected)
                });
            }
            Act::DialFailed { host, dial, reason } => {
                let input = levada_core::LinkInput::DialFailed { dial, reason };
                self.call(host.node, |process, now| process.on_input(now, input));
            }
            Act::Chunk {
                end,
                host,
                concern,
                bytes,
            } => {
                self.checks.chunk_came_out(host.node, end, concern, &bytes);
                self.hostile_hears(host.node, end, concern, &bytes);
                self.call(host.node, |process, now| {
                    process.on_chunk(now, end, concern, &bytes)
                });
            }
            Act::Lost { end, host, reason } => {
                self.checks.connection_lost(end);
                self.call(host.node, |process, now| process.on_lost(now, end, reason));
            }
        }
    }

    fn transmit(&mut self, from: SocketAddr, to: SocketAddr, segment: Segment) {
        self.trace.segment(
            self.now,
            from,
            to,
            segment.part.word(),
            segment.part.bytes(),
        );
        self.counts.segments += 1;
        let load = Load {
            bytes: segment.part.wire_bytes(),
            media: false,
        };
        match self.net.depart(from, to, load) {
            Some(transit) => self.step(Flight {
                transit,
                cargo: Cargo::Segment(segment),
            }),
            None => self.connections.lost(self.now, segment),
        }
    }

    /// The keys of a connection, for the end that asks: what it seals with, what it opens with.
    fn link_keys(&mut self, end: End) -> [LinkKey; 2] {
        let ConnectionId(number) = end.connection;
        let mut rng = self.chance.split("link keys", u64::from(number));
        let keys: [[u8; 32]; 2] = [rng.bytes(), rng.bytes()];
        for key in &keys {
            self.checks.learn_link_key(key);
        }
        let [a, b] = keys.map(LinkKey::from_bytes);
        match end.side {
            Side::Dialler => [a, b],
            Side::Acceptor => [b, a],
        }
    }

    /// Control bytes leave a process, unless their connection is gone.
    pub(super) fn send_chunk(&mut self, node: usize, end: End, concern: u8, bytes: Bytes) {
        if !self.connections.is_open(end) {
            return;
        }
        self.checks.chunk_sent(self.now, node, end, concern, &bytes);
        self.counts.control_bytes += bytes.len() as u64;
        if !self.is_read(end) {
            self.checks.waits(node, end, bytes.len());
        }
        self.connections.send(self.now, end, concern, bytes);
    }
}
