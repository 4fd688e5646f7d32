//! A LAN: one switch with a port for each host and one for the router.
//!
//! Unicast goes to its port. Multicast goes where the switch believes it is wanted: it *snoops* on the hosts'
//! membership reports (RFC 4541) and forgets a port 260 s after its last report (RFC 3376 section 8.4). A *querier*
//! makes the hosts report again every 125 s; where none is, a channel falls silent after 260 s, and nobody is told.
//! The table knows channels by their MAC address, of which 32 channels share one, and 224.0.0.x goes to every port.
//! Each port loses by itself. Not the hosts' sockets: a host hears a channel that it joined. Called by `net`, and by
//! its tests with plain probes. Invariant: a frame never goes back to the port it came from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use levada_wire::Instant;

use super::loss::{Loser, Loss};
use super::{Load, Passage, Step, Traffic};
use crate::chance::Rng;

/// How often a querier asks (RFC 3376 section 8.2).
pub const QUERY_INTERVAL: Duration = Duration::from_secs(125);
/// How long a port counts as a member after its last report (RFC 3376 section 8.4: 2 x 125 s + 10 s).
pub const MEMBERSHIP_INTERVAL: Duration = Duration::from_secs(260);
/// How long a port counts as a member after a leave that a querier confirms (RFC 3376 section 8.8: 2 x 1 s).
pub const LEAVE_INTERVAL: Duration = Duration::from_secs(2);

/// How a LAN is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanSettings {
    /// From a host to a host, or to the router.
    pub delay: Duration,
    /// What each port loses toward its host.
    pub loss: Loss,
    /// Whether somebody asks for memberships.
    pub querier: bool,
    /// Whether channels that nobody reported go to all ports; else they go nowhere.
    pub floods_unknown: bool,
}

impl LanSettings {
    /// A wired LAN with a querier, where nothing gets lost.
    #[must_use]
    pub const fn wired() -> Self {
        Self {
            delay: Duration::from_micros(100),
            loss: Loss::NONE,
            querier: true,
            floods_unknown: false,
        }
    }
}

/// A port of the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port(u32);

/// The MAC address of a channel, as far as it differs: the low 23 bits of the channel (RFC 1112 section 6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ChannelMac(u32);

impl ChannelMac {
    fn of(channel: Ipv4Addr) -> Self {
        Self(channel.to_bits() & 0x007f_ffff)
    }

    /// 224.0.0.x, and every channel that a switch cannot tell from it: x.0.0.y and x.128.0.y.
    const fn is_link_local(self) -> bool {
        self.0 >> 8 == 0
    }
}

/// A switch and its ports.
#[derive(Debug)]
pub struct Lan {
    settings: LanSettings,
    ports: Vec<Host>,
    /// Until when a port counts as a member.
    snooping: BTreeMap<(ChannelMac, Port), Instant>,
    traffic: Traffic,
}

#[derive(Debug)]
struct Host {
    channels: BTreeSet<Ipv4Addr>,
    loser: Loser,
    plugged: bool,
}

impl Lan {
    /// A LAN without hosts.
    #[must_use]
    pub const fn new(settings: LanSettings) -> Self {
        Self {
            settings,
            ports: Vec::new(),
            snooping: BTreeMap::new(),
            traffic: Traffic {
                datagrams: 0,
                bytes: 0,
                media_bytes: 0,
                lost: 0,
            },
        }
    }

    /// Plugs a host in.
    pub fn attach(&mut self) -> Port {
        let port = Port(u32::try_from(self.ports.len()).expect("a scenario has few nodes"));
        self.ports.push(Host {
            channels: BTreeSet::new(),
            loser: Loser::new(self.settings.loss),
            plugged: true,
        });
        port
    }

    /// Whether somebody must call [`Lan::on_query`] every [`QUERY_INTERVAL`].
    #[must_use]
    pub const fn has_querier(&self) -> bool {
        self.settings.querier
    }

    /// What crossed the switch: each frame once, however many ports it went to.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Pulls or plugs a host's cable.
    pub fn plug(&mut self, port: Port, plugged: bool) {
        self.host_mut(port).plugged = plugged;
    }

    /// Whether the host's cable is in.
    #[must_use]
    pub fn is_plugged(&self, port: Port) -> bool {
        self.ports[port.0 as usize].plugged
    }

    /// One port loses in another way: a Wi-Fi host.
    pub fn set_port_loss(&mut self, port: Port, loss: Loss) {
        self.host_mut(port).loser = Loser::new(loss);
    }

    /// A host joins a channel and reports it.
    pub fn join(&mut self, now: Instant, port: Port, channel: Ipv4Addr) {
        self.host_mut(port).channels.insert(channel);
        self.report(now, port, channel);
    }

    /// A host leaves a channel. Only a querier asks whether the port still has a member; else the entry runs out.
    pub fn leave(&mut self, now: Instant, port: Port, channel: Ipv4Addr) {
        let mac = ChannelMac::of(channel);
        let host = self.host_mut(port);
        host.channels.remove(&channel);
        let still_wanted = host
            .channels
            .iter()
            .any(|other| ChannelMac::of(*other) == mac);
        if self.settings.querier && !still_wanted && self.snooping.contains_key(&(mac, port)) {
            self.snooping.insert((mac, port), now + LEAVE_INTERVAL);
        }
    }

    /// The querier asks: every host reports its channels again.
    pub fn on_query(&mut self, now: Instant) {
        for index in 0..self.ports.len() {
            let port = Port(u32::try_from(index).expect("a scenario has few nodes"));
            for channel in self.ports[index].channels.clone() {
                self.report(now, port, channel);
            }
        }
    }

    /// Carries a frame from one port to another; `None` is the router's port.
    pub fn unicast(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        from: Option<Port>,
        to: Option<Port>,
        load: Load,
    ) -> Step {
        self.traffic.count(load);
        let sent = from.is_none_or(|port| self.is_plugged(port));
        let heard = sent && to.is_none_or(|port| self.hears(now, rng, port));
        if !heard {
            self.traffic.lost += 1;
            return Step::Lost;
        }
        let first = Passage {
            at: now + self.settings.delay,
            corrupt: false,
        };
        Step::Onward { first, copy: None }
    }

    /// Carries a frame to a channel. Gives back the hosts that hear it: reached by the switch and joined.
    pub fn multicast(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        from: Port,
        channel: Ipv4Addr,
        load: Load,
    ) -> Vec<(Port, Instant)> {
        if !self.is_plugged(from) {
            return Vec::new();
        }
        self.traffic.count(load);
        let at = now + self.settings.delay;
        let reached = self.ports_of(now, from, channel);
        let joined = reached
            .into_iter()
            .filter(|port| self.ports[port.0 as usize].channels.contains(&channel));
        let joined: Vec<_> = joined.collect();
        joined
            .into_iter()
            .filter(|port| self.hears(now, rng, *port))
            .map(|port| (port, at))
            .collect()
    }

    /// The ports that a frame to a channel goes to.
    #[must_use]
    pub fn ports_of(&self, now: Instant, from: Port, channel: Ipv4Addr) -> Vec<Port> {
        let mac = ChannelMac::of(channel);
        let is_member = |port: &Port| {
            self.snooping
                .get(&(mac, *port))
                .is_some_and(|until| *until > now)
        };
        let all = (0..self.ports.len())
            .map(|index| Port(u32::try_from(index).expect("a scenario has few nodes")));
        let others: Vec<Port> = all.filter(|port| *port != from).collect();
        let is_known = others.iter().any(is_member) || is_member(&from);
        if mac.is_link_local() || (!is_known && self.settings.floods_unknown) {
            return others;
        }
        others.into_iter().filter(is_member).collect()
    }

    fn report(&mut self, now: Instant, port: Port, channel: Ipv4Addr) {
        if self.is_plugged(port) {
            self.snooping
                .insert((ChannelMac::of(channel), port), now + MEMBERSHIP_INTERVAL);
        }
    }

    fn hears(&mut self, now: Instant, rng: &mut Rng, port: Port) -> bool {
        let host = self.host_mut(port);
        host.plugged && !host.loser.loses(now, rng)
    }

    fn host_mut(&mut self, port: Port) -> &mut Host {
        &mut self.ports[port.0 as usize]
    }
}

#[cfg(test)]
mod tests;
