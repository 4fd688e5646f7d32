//! Stories of sites: nodes on a LAN whose switch, cables and processes fail as the story says.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use levada_wire::datagram::site::{Claim, SiteTag};
use levada_wire::machine::harness::check_contract;
use levada_wire::{Identity, WallTime};

use super::*;
use crate::limits::{
    CLAIM_WAIT, DEAF_MAX, DEAF_MIN, EPOCH_AHEAD_MAX, HUB_SILENT_INTERVALS, MEMBERS_MAX,
    SIGNATURES_BURST_MAX,
};

mod election;
mod interleavings;
mod members;

/// From one host to another.
const DELAY: Duration = Duration::from_millis(1);
/// The interface of every host.
const ETH0: u32 = 2;

/// A datagram under way.
#[derive(Clone, Debug)]
struct Parcel {
    from: usize,
    to: usize,
    way: Way,
    datagram: Vec<u8>,
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Arrives,
    Lost,
    Late,
}

/// Hosts on one switch, each with a node.
#[derive(Clone, Debug)]
struct Lan {
    now: Instant,
    nodes: Vec<Site>,
    alive: Vec<bool>,
    paused_until: Vec<Option<Instant>>,
    /// Who does not hear whose multicast.
    unheard: BTreeSet<(usize, usize)>,
    /// Who is not reached by whom at all.
    cut: BTreeSet<(usize, usize)>,
    under_way: BTreeMap<(Instant, u64), Parcel>,
    sent: u64,
    /// By node: datagrams that it said, each channel counted.
    said: Vec<u64>,
    events: Vec<Vec<Event>>,
    /// The links that each node keeps.
    links: Vec<BTreeSet<NodeId>>,
    /// The longest time with two hubs that ran, and since when there are two.
    two_hubs: Duration,
    two_since: Option<Instant>,
}

fn host(node: usize) -> IpAddr {
    let [high, low] = u16::try_from(node + 1).unwrap().to_be_bytes();
    Ipv4Addr::new(10, 0, high, low).into()
}

fn identity(node: usize) -> Identity {
    let mut secret = [7; 32];
    secret[..8].copy_from_slice(&(node as u64 + 1).to_be_bytes());
    Identity::from_secret(&secret)
}

fn wired(node: usize) -> Interface {
    Interface {
        index: ETH0,
        name: "eth0".to_owned(),
        kind: Kind::Wired,
        is_up: true,
        addresses: vec![host(node)],
    }
}

fn settings(willing: Willing) -> Settings {
    Settings {
        site: SiteTag::NONE,
        choice: Choice::Auto,
        port: 7_800,
        wall: WallTime(1_700_000_000_000_000),
        willing,
    }
}

/// A node that has not begun.
fn node(at: usize) -> Site {
    let seed = [u8::try_from(at % 251).unwrap() + 1; 32];
    Site::new(identity(at), NetworkId::OPEN, at as u64 + 1, &seed)
}

impl Lan {
    fn new() -> Self {
        Self {
            now: Instant::from_nanos(1_000_000_000),
            nodes: Vec::new(),
            alive: Vec::new(),
            paused_until: Vec::new(),
            unheard: BTreeSet::new(),
            cut: BTreeSet::new(),
            under_way: BTreeMap::new(),
            sent: 0,
            said: Vec::new(),
            events: Vec::new(),
            links: Vec::new(),
            two_hubs: Duration::ZERO,
            two_since: None,
        }
    }

    /// So many willing nodes, plugged in at once.
    fn of(count: usize) -> Self {
        let mut lan = Self::new();
        for _ in 0..count {
            lan.add(Willing::Auto);
        }
        lan
    }

    /// The same, after they have agreed.
    fn formed(count: usize) -> Self {
        let mut lan = Self::of(count);
        lan.run(Duration::from_secs(3));
        lan.assert_agreed();
        lan
    }

    fn add(&mut self, willing: Willing) -> usize {
        let at = self.nodes.len();
        self.nodes.push(node(at));
        self.alive.push(true);
        self.paused_until.push(None);
        self.said.push(0);
        self.events.push(Vec::new());
        self.links.push(BTreeSet::new());
        self.tell(at, Input::Begin(settings(willing)));
        self.tell(at, Input::Interfaces(vec![wired(at)]));
        at
    }

    fn tell(&mut self, at: usize, input: Input) {
        self.nodes[at].handle_input(self.now, input);
        self.drain(at, |_| Fate::Arrives);
    }

    fn prefix(&self, at: usize) -> NodePrefix {
        self.nodes[at].identity.id().prefix()
    }

    fn hub_of(&self, at: usize) -> Option<usize> {
        let (hub, _) = self.nodes[at].election.hub()?;
        (0..self.nodes.len()).find(|other| self.nodes[*other].identity.id() == hub)
    }

    fn hubs(&self) -> Vec<usize> {
        let is_hub =
            |at: &usize| self.alive[*at] && matches!(self.nodes[*at].election.role(), Role::Hub(_));
        (0..self.nodes.len()).filter(is_hub).collect()
    }

    /// One hub, which all that live follow.
    #[track_caller]
    fn assert_agreed(&self) -> usize {
        let hubs = self.hubs();
        assert_eq!(hubs.len(), 1, "{hubs:?} at {:?}", self.now);
        for at in (0..self.nodes.len()).filter(|at| self.alive[*at]) {
            assert_eq!(self.hub_of(at), Some(hubs[0]), "node {at}");
        }
        hubs[0]
    }

    fn deputy_of(&self, at: usize) -> usize {
        let deputy = self.nodes[at].deputy().unwrap();
        (0..self.nodes.len())
            .find(|other| self.prefix(*other) == deputy)
            .unwrap()
    }

    fn kill(&mut self, at: usize) {
        self.alive[at] = false;
    }

    fn pause(&mut self, at: usize, time: Duration) {
        self.paused_until[at] = Some(self.now + time);
    }

    /// Does what a node wants done; `fate` decides what becomes of each datagram that it sends.
    fn drain(&mut self, at: usize, mut fate: impl FnMut(&Parcel) -> Fate) {
        while let Some(output) = self.nodes[at].poll_output() {
            match output {
                Output::Send { to, datagram, .. } => {
                    self.said[at] += 1;
                    for parcel in self.parcels(at, to, &datagram) {
                        let late = match fate(&parcel) {
                            Fate::Arrives => Duration::ZERO,
                            Fate::Late => Duration::from_millis(60),
                            Fate::Lost => continue,
                        };
                        self.sent += 1;
                        let key = (self.now + DELAY + late, self.sent);
                        self.under_way.insert(key, parcel);
                    }
                }
                Output::Event(event) => self.events[at].push(event),
                Output::Follow(place) => {
                    self.links[at].insert(place.node);
                }
                Output::Unfollow(place) | Output::Part(place) => {
                    self.links[at].remove(&place.node);
                }
                // Links out of the site are `outside`'s.
                Output::Listen(_)
                | Output::Lend(_)
                | Output::TakeBack(_)
                | Output::Rest(..)
                | Output::Wake(_)
                | Output::Tell(..)
                | Output::Weigh(..)
                | Output::Local(..)
                | Output::Probed(..) => {}
            }
        }
    }

    fn parcels(&self, from: usize, to: SocketAddr, datagram: &[u8]) -> Vec<Parcel> {
        let way = match to.ip() {
            ip if !ip.is_multicast() => Way::Direct,
            IpAddr::V4(ip) if ip == LINK_SCOPE_V4 => Way::Link,
            _ => Way::Admin,
        };
        let is_reached = |at: &usize| {
            let is_meant = way != Way::Direct || host(*at) == to.ip();
            let is_heard = way == Way::Direct || !self.unheard.contains(&(from, *at));
            *at != from && is_meant && is_heard && !self.cut.contains(&(from, *at))
        };
        let reached = (0..self.nodes.len()).filter(is_reached);
        reached
            .map(|to| Parcel {
                from,
                to,
                way,
                datagram: datagram.to_vec(),
            })
            .collect()
    }

    fn run(&mut self, time: Duration) {
        self.run_with(time, |_, _| Fate::Arrives);
    }

    fn run_with(&mut self, time: Duration, mut fate: impl FnMut(Instant, &Parcel) -> Fate) {
        let end = self.now + time;
        loop {
            let parcel = self.under_way.keys().next().map(|(at, _)| *at);
            let wakeups = (0..self.nodes.len())
                .filter(|at| self.alive[*at])
                .filter_map(|at| {
                    let wakeup = self.nodes[at].poll_timeout()?.at;
                    Some(wakeup.max(self.paused_until[at].unwrap_or(wakeup)))
                });
            let Some(next) = wakeups.chain(parcel).min().filter(|next| *next <= end) else {
                self.now = end;
                return self.note_hubs();
            };
            self.now = self.now.max(next);
            let now = self.now;
            for at in 0..self.nodes.len() {
                if self.is_running(at) && self.nodes[at].poll_timeout().is_some_and(|w| w.at <= now)
                {
                    self.nodes[at].handle_timeout(now);
                    self.drain(at, |parcel| fate(now, parcel));
                }
            }
            while let Some(entry) = self
                .under_way
                .first_entry()
                .filter(|one| one.key().0 <= now)
            {
                let (_, parcel) = entry.remove_entry();
                self.deliver(parcel, &mut fate);
            }
            self.note_hubs();
        }
    }

    fn is_running(&mut self, at: usize) -> bool {
        if self.paused_until[at].is_some_and(|until| until <= self.now) {
            self.paused_until[at] = None;
        }
        self.alive[at] && self.paused_until[at].is_none()
    }

    fn deliver(&mut self, parcel: Parcel, fate: &mut impl FnMut(Instant, &Parcel) -> Fate) {
        let (at, now) = (parcel.to, self.now);
        if !self.alive[at] {
            return;
        }
        if let Some(until) = self.paused_until[at].filter(|until| *until > now) {
            // It waits at the socket.
            self.sent += 1;
            self.under_way.insert((until, self.sent), parcel);
            return;
        }
        self.paused_until[at] = None;
        let input = Input::Heard {
            interface: ETH0,
            way: parcel.way,
            from: (host(parcel.from), 40_000).into(),
            datagram: parcel.datagram,
        };
        self.nodes[at].handle_input(now, input);
        self.drain(at, |parcel| fate(now, parcel));
    }

    fn note_hubs(&mut self) {
        let running = self
            .hubs()
            .into_iter()
            .filter(|at| self.paused_until[*at].is_none());
        if running.count() < 2 {
            self.two_since = None;
        } else {
            let since = *self.two_since.get_or_insert(self.now);
            self.two_hubs = self.two_hubs.max(self.now.since(since));
        }
    }
}

/// A message of a node, as another would hear it.
fn sealed(from: usize, counter: u64, message: &SiteDatagram) -> Vec<u8> {
    let scope = Scope {
        key: 0,
        site: SiteTag::NONE,
        network: NetworkId::OPEN,
    };
    let seal = SiteSeal::new(&NetworkSecret::open().site_key(&NetworkId::OPEN));
    let mut datagram = Vec::new();
    seal.seal(&identity(from), scope, counter, message, &mut datagram);
    datagram
}

fn beacon_of(from: usize) -> SiteDatagram {
    SiteDatagram::Beacon(Beacon {
        node: identity(from).id(),
        member: Member {
            boot: from as u64 + 1,
            port: 7_800,
            flags: Flags::RELAY,
            priority: Priority::new(9).unwrap(),
        },
        roster: RosterDigest::default(),
        hub: None,
        interval: Interval(5_000),
    })
}

fn claim_of(from: usize, epoch: u32) -> SiteDatagram {
    SiteDatagram::Claim(Claim {
        node: identity(from).id(),
        epoch: levada_wire::datagram::site::beacon::Epoch(epoch),
        priority: Priority::new(9).unwrap(),
    })
}

/// Hands a datagram to a node as if it came from `from`.
fn hand(lan: &mut Lan, to: usize, from: usize, datagram: Vec<u8>) {
    let input = Input::Heard {
        interface: ETH0,
        way: Way::Link,
        from: (host(from), 40_000).into(),
        datagram,
    };
    lan.tell(to, input);
}

#[test]
fn the_contract_of_machines_holds() {
    check_contract(
        0..60,
        |seed| {
            let mut site = node(usize::try_from(seed).unwrap());
            site.handle_input(Instant::ZERO, Input::Begin(settings(Willing::Auto)));
            site.handle_input(Instant::ZERO, Input::Interfaces(vec![wired(0)]));
            site
        },
        |rng| {
            let draw = rng.next_u32();
            let (from, counter) = (100 + (draw as usize >> 8) % 5, u64::from(draw >> 4));
            let datagram = match draw % 8 {
                0 => sealed(from, counter, &beacon_of(from)),
                1 => sealed(from, counter, &claim_of(from, draw % 7)),
                2 => return Input::Active(draw & 256 == 0),
                3 => {
                    return Input::Interfaces(if draw & 256 == 0 {
                        vec![]
                    } else {
                        vec![wired(0)]
                    });
                }
                4 => {
                    let (peer, is_up) = (identity(from).id(), draw & 256 == 0);
                    let way = is_up.then(|| ((host(from), 7_800).into(), draw & 512 == 0));
                    return Input::Linked { peer, way };
                }
                5 => {
                    return if draw & 0xff00 == 0 {
                        Input::Leave
                    } else {
                        Input::Active(true)
                    };
                }
                _ => draw.to_be_bytes().repeat(20),
            };
            Input::Heard {
                interface: ETH0,
                way: Way::Link,
                from: (host(from), 40_000).into(),
                datagram,
            }
        },
    );
}
