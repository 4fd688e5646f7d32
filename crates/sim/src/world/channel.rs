//! Datagrams to multicast channels: from a host to the hosts of its LAN that joined, as lanes say (`Output::Join`).
//!
//! Not the switch (`net::lan`), nor who is told to join: the core. Called by `world`. Invariant: a process that ends
//! has left its channels, as its sockets would.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use levada_lane::api::{Channel, Train};

use super::carry::INBOX_MAX;
use super::{Event, Parcel, World};
use crate::net::Load;

impl World<'_> {
    /// A process joins a channel.
    pub(super) fn join_channel(&mut self, node: usize, channel: Channel) {
        let host = self.nodes[node].address.ip();
        if let IpAddr::V4(group) = channel.address.ip() {
            self.net.join(self.now, host, group);
        } else {
            let reason = "the switches of the simulator know IPv4 alone".to_owned();
            self.call(node, |process, now| {
                process.cannot_join(now, channel, reason)
            });
        }
    }

    /// A process leaves a channel.
    pub(super) fn leave_channel(&mut self, node: usize, channel: Channel) {
        let host = self.nodes[node].address.ip();
        if let IpAddr::V4(group) = channel.address.ip() {
            self.net.leave(self.now, host, group);
        }
    }

    /// A datagram leaves for a channel.
    pub(super) fn speak(&mut self, [from, to]: [SocketAddr; 2], load: Load, bytes: &Bytes) {
        let IpAddr::V4(group) = to.ip() else {
            return;
        };
        for (host, at) in self.net.multicast(self.now, from, group, load) {
            let node = self.nodes.iter().position(|one| one.address.ip() == host);
            let node = node.expect("each host has a node");
            let bytes = bytes.clone();
            self.queue.push(
                at,
                Event::Heard {
                    node,
                    from,
                    to,
                    bytes,
                },
            );
        }
    }

    /// It has come to one of those who joined.
    pub(super) fn on_heard(&mut self, node: usize, [from, to]: [SocketAddr; 2], bytes: Bytes) {
        let (one, segment_bytes) = (&mut self.nodes[node], bytes.len());
        if one.is_paused() {
            if one.process.is_some() && one.inbox.len() < INBOX_MAX {
                one.inbox.push_back(Parcel::Heard { from, to, bytes });
            }
            return;
        }
        let train = Train {
            to: None,
            from,
            bytes,
            segment_bytes,
        };
        self.call(node, |process, now| process.on_heard(now, train, to));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::time::Duration;

    use levada_lane::api::{Command, FlowCommand, Interface};
    use levada_wire::{FlowId, Instant, LinkIndex};

    use super::*;
    use crate::scenario::Scenario;
    use crate::trace::Trace;

    const LAN: &str = r#"
about = "a hub and two players on a LAN"
duration = "20s"
[[network]]
name = "lan"
[[node]]
name = "hub"
network = "lan"
relay = true
[[node]]
name = "one"
network = "lan"
neighbours = ["hub"]
[[node]]
name = "two"
network = "lan"
neighbours = ["hub"]
[[stream]]
name = "cam"
origin = "hub"
video = { frames_per_second = 10, bytes = 500, sync_every = 10, sync_bytes = 900 }
[[subscription]]
stream = "cam"
nodes = ["one", "two"]
from = "1s"
"#;
    const PLAYERS: [usize; 2] = [1, 2];

    fn channel(address: &str) -> Channel {
        Channel {
            address: address.parse().unwrap(),
            interface: Interface {
                index: 1,
                address: None,
            },
        }
    }

    /// Tells a node's lane something of the flow, as the core would.
    fn command(world: &mut World<'_>, node: usize, command: FlowCommand) {
        let flow = flow(world);
        world.call(node, |process, now| {
            process.tell(now, Command::Flow(flow, command));
        });
    }

    fn flow(world: &World<'_>) -> FlowId {
        let hub = world.nodes[0].process.as_ref().unwrap();
        hub.control().flow_rows(None).next().unwrap().flow
    }

    fn run_to(world: &mut World<'_>, secs: u64) {
        let violation = world.run_until(Instant::ZERO + Duration::from_secs(secs));
        assert!(violation.is_none(), "{violation:?}");
    }

    /// Packets of media that the hub sends in the next seconds, and what each player's lane takes of them.
    fn packets(world: &mut World<'_>, secs: u64) -> (u64, [u64; 2]) {
        let taken = |world: &World<'_>| {
            PLAYERS.map(|node| {
                let lane = world.nodes[node].process.as_ref().unwrap().lane();
                lane.counters().flows[0].packets_in
            })
        };
        let sent = |world: &World<'_>| world.net.lan(0).traffic().media_bytes;
        let (sent_before, before) = (sent(world), taken(world));
        run_to(world, secs);
        let after = taken(world);
        (
            sent(world) - sent_before,
            [0, 1].map(|at| after[at] - before[at]),
        )
    }

    #[test]
    fn one_copy_reaches_the_nodes_whose_lanes_joined_the_channel() {
        let scenario = Scenario::parse("lan.toml", LAN).unwrap();
        let mut world = World::new(&scenario, 1, None, Trace::new(None));
        run_to(&mut world, 4);
        let (by_links, _) = packets(&mut world, 6);
        let group = channel("239.1.2.3:7801");
        let hub = world.nodes[0].process.as_ref().unwrap();
        let links: Vec<LinkIndex> = hub.links().map(|(link, _)| link).collect();

        for node in PLAYERS {
            command(&mut world, node, FlowCommand::Join(group));
        }
        let lifetime = Duration::from_secs(60);
        let add = FlowCommand::AddChannel {
            channel: group,
            lifetime,
        };
        command(&mut world, 0, add);
        for link in links {
            let member = FlowCommand::AddMember {
                channel: group,
                link,
            };
            command(&mut world, 0, member);
            command(&mut world, 0, FlowCommand::RemoveEgress(link));
        }
        let (by_channel, taken) = packets(&mut world, 8);

        assert!(taken.iter().all(|&packets| packets > 15), "{taken:?}");
        assert!(by_channel * 3 < by_links * 2, "{by_channel} of {by_links}");

        world.kill(2);
        let (from, now) = (world.nodes[0].address, world.now);
        let load = Load {
            bytes: 100,
            media: true,
        };
        let hearers = world.net.multicast(now, from, [239, 1, 2, 3].into(), load);
        let one = world.nodes[1].address.ip();
        assert_eq!(hearers.len(), 1);
        assert_eq!(hearers[0].0, one, "whoever ended has left");
    }

    #[test]
    fn a_channel_that_no_switch_knows_cannot_be_joined() {
        let scenario = Scenario::parse("lan.toml", LAN).unwrap();
        let mut world = World::new(&scenario, 1, None, Trace::new(None));
        run_to(&mut world, 4);

        command(&mut world, 1, FlowCommand::Join(channel("[ff15::1]:7801")));

        let player = world.nodes[1].process.as_ref().unwrap();
        assert!(player.joined().is_empty());
    }
}
