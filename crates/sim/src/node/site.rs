//! A process's part in its site: its one interface, and the datagrams that go to the core and not to the lane.
//!
//! Not a decision: the site machine has those. Called by `node` and `world`. Invariant: a process that forms no site
//! hears nothing of one.

use std::net::SocketAddr;

use levada_core::site::{Choice, Input, Interface, Kind, Listener, Settings, Way, Willing};
use levada_lane::api::{self as lane, Channel, Train};
use levada_wire::datagram::site::SiteTag;
use levada_wire::{Instant, WallTime};

use super::{Effect, Process};

/// The number of the one interface of each host.
const ETH0: u32 = 1;

/// Whether it is a site datagram, as a socket of channels or a lane would tell.
pub(super) fn is_of_site(train: &Train) -> bool {
    train.bytes.first() == Some(&0x07)
}

impl Process {
    /// Takes part in the site of its LAN.
    pub(crate) fn join_site(
        &mut self,
        now: Instant,
        address: SocketAddr,
        willing: Willing,
        wall: WallTime,
    ) {
        let begin = Input::Begin(Settings {
            site: SiteTag::NONE,
            choice: Choice::Auto,
            port: address.port(),
            wall,
            willing,
        });
        let eth0 = Interface {
            index: ETH0,
            name: "eth0".to_owned(),
            kind: Kind::Wired,
            is_up: true,
            addresses: vec![address.ip()],
        };
        self.on_input(now, begin);
        self.on_input(now, Input::Interfaces(vec![eth0]));
    }

    /// Site datagrams came in, by a channel or by unicast.
    pub(super) fn on_site(&mut self, now: Instant, train: &Train, to: SocketAddr) {
        let mut channels = self.site.iter().flat_map(|listener| &listener.channels);
        let way = channels.find(|(_, channel)| *channel == to);
        let other = if to.ip().is_multicast() {
            Way::Media
        } else {
            Way::Direct
        };
        let way = way.map_or(other, |(way, _)| *way);
        for datagram in train.bytes.chunks(train.segment_bytes.max(1)) {
            let input = Input::Heard {
                interface: ETH0,
                way,
                from: train.from,
                datagram: datagram.to_vec(),
            };
            self.on_input(now, input);
        }
    }

    /// Hears the channels of these interfaces, and no others of a site.
    pub(super) fn listen(&mut self, listeners: Vec<Listener>) {
        for channel in channels(&self.site) {
            self.joined.remove(&channel);
            self.effects.push(Effect::Leave(channel));
        }
        for channel in channels(&listeners) {
            self.joined.insert(channel);
            self.effects.push(Effect::Join(channel));
        }
        self.site = listeners;
    }
}

fn channels(listeners: &[Listener]) -> Vec<Channel> {
    let of = |listener: &Listener| {
        let interface = lane::Interface {
            index: listener.index,
            address: listener.ipv4,
        };
        let channels = listener.channels.iter();
        let channels = channels.map(move |(_, address)| Channel {
            address: *address,
            interface,
        });
        channels.collect::<Vec<_>>()
    };
    listeners.iter().flat_map(of).collect()
}
