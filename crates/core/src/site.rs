//! The site: the nodes that hear each other on a LAN, and the hub that they elect.
//!
//! ```text
//!  Heard ──▶ open, count ──▶ roster ──▶ who is there      ──▶ Follow: a link to the hub
//!                       └──▶ election ──▶ who is hub      ──▶ Send: beacons, claims, objections
//!  Interfaces ──▶ interfaces ──▶ where to hear and speak  ──▶ Listen
//! ```
//!
//! Members keep a link to the hub alone; where nobody may be hub, to a few of each other. Beacons are few whatever the
//! size of the site: the hub speaks, and who finds its own roster in the hub's beacon is nearly silent. Idle until
//! [`Input::Begin`]. Not sockets, and not the flows of a site. Called by `Control`. Invariant: nothing is used of a
//! datagram that is not of this network and site, whose MAC is false, or that was used before.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use levada_wire::control::link::Outside as Told;
use levada_wire::datagram::site::beacon::{
    Beacon, Flags, Interval, Member, Priority, RosterDigest,
};
use levada_wire::datagram::site::channel::{LINK_SCOPE_V4, LINK_SCOPE_V6, SITE_PORT, admin_scope};
use levada_wire::datagram::site::{Scope, SiteDatagram, SiteHeader, SiteSeal};
use levada_wire::key::NetworkSecret;
use levada_wire::machine::{Machine, Wakeup};
use levada_wire::{Identity, Instant, NetworkId, NodeId, NodePrefix};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng as _;

use crate::chance;
use crate::limits::{
    BEACON_ACTIVE, BEACON_FIRST, BEACON_IDLE, BEACON_INTERVAL_MAX, BEACON_MATCHED, BEACON_MEMBER,
    BEACON_PAUSE, BEACON_SHARE, INTERFACES_MAX, LISTEN, MEMBER_SUSPECT, MESH_MAX, OBJECTION_DELAY,
    SITE_PAUSED, SOURCE_KEPT, SOURCES_MAX,
};
use crate::route::Weight;

mod border;
mod election;
mod interfaces;
mod outside;
mod roster;
mod rows;
#[cfg(test)]
mod tests;

pub use border::{
    Cause, Choice, Event, Input, Interface, Kind, Listener, Local, Output, Place, Settings, Way,
    Willing,
};
use election::{Act, Election, HubBeacon, Role, Said};
pub use interfaces::Verdict;
use outside::{Outside, Part};
use roster::{News, Roster};

/// How many beacons a node sends close together when it comes.
const FIRST_BEACONS: u8 = 3;

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Site {
    identity: Identity,
    network: NetworkId,
    seal: SiteSeal,
    settings: Option<Settings>,
    now: Instant,
    rng: ChaCha20Rng,
    counter: u64,
    interfaces: Vec<(Interface, Verdict)>,
    listeners: Vec<Listener>,
    roster: Roster,
    election: Election,
    /// Who is next in line, and of which roster, hub and eligibility that is true.
    in_line: (Option<NodePrefix>, (u64, Option<NodeId>, bool)),
    /// What the hub's last beacon said.
    hub_roster: Option<RosterDigest>,
    outside: Outside,
    /// Where members are on the LAN, as was said.
    located: BTreeMap<NodePrefix, Local>,
    /// Members whose streams are wanted, or until when a link to them is kept all the same.
    sources: BTreeMap<NodeId, Option<Instant>>,
    /// Members to which a link is kept.
    kept: BTreeMap<NodePrefix, Place>,
    /// The hub to which the way is the deputy's.
    near: Option<NodeId>,
    /// The hub that was followed last.
    kept_hub: Option<NodePrefix>,
    is_active: bool,
    beacon: Option<Instant>,
    last_beacon: Option<Instant>,
    first_beacons: u8,
    counts: Counts,
    outputs: VecDeque<Output>,
}

/// What became of site datagrams that were not used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Used.
    pub heard: u64,
    /// Of another network or site.
    pub foreign: u64,
    /// Malformed, with a false MAC or a false signature.
    pub refused: u64,
    /// Used before, or too old.
    pub replayed: u64,
    /// Signed, and more than are checked of one sender.
    pub unchecked: u64,
    /// Of nodes for which there is no room.
    pub crowded: u64,
}

impl Machine for Site {
    type Input = Input;
    type Output = Output;

    fn handle_input(&mut self, now: Instant, input: Input) {
        self.handle_timeout(now);
        match input {
            Input::Begin(settings) => self.begin(settings),
            Input::Interfaces(interfaces) => self.on_interfaces(interfaces),
            Input::Heard {
                interface,
                way,
                from,
                datagram,
            } => self.on_datagram((interface, way), from, &datagram),
            Input::Active(is_active) => self.on_active(is_active),
            Input::Linked { peer, way } => self.on_linked(peer, way),
            Input::Neighbour {
                addresses,
                is_wanted,
            } => self.outside.configure(addresses, is_wanted),
            Input::Told { peer, told } => self.on_told(peer, &told),
            Input::Wants(origin, is_so) => self.on_wants(origin, is_so),
            Input::Probe {
                interface,
                to,
                probe,
            } => {
                let datagram = self.sealed(&SiteDatagram::Probe(probe));
                self.send(interface, to, datagram);
            }
            Input::Leave => self.election.resign(),
        }
        self.settle();
    }

    fn handle_timeout(&mut self, now: Instant) {
        let due = self.poll_timeout().map(|wakeup| wakeup.at);
        self.now = self.now.max(now);
        if due.is_none_or(|due| due > self.now) {
            return;
        }
        if due.is_some_and(|due| self.now.since(due) > SITE_PAUSED) {
            self.election.on_pause(self.now);
            self.outputs.push_back(Output::Event(Event::Paused));
        }
        let silent = BEACON_INTERVAL_MAX * 4;
        for node in self.roster.expire(self.now, silent) {
            self.lose(node);
        }
        self.election.on_time(self.now, self.is_deputy());
        let now = self.now;
        self.sources
            .retain(|_, until| until.is_none_or(|until| until > now));
        self.settle();
        if self.beacon.is_some_and(|at| at <= self.now) {
            self.send_beacon();
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Wakeup> {
        if self.listeners.is_empty() {
            return None;
        }
        let beacon = self.beacon.map(|at| (at, "site beacon"));
        let expiry = self.roster.next_expiry().map(|at| (at, "site member"));
        let election = self.election.wakeup(self.is_deputy());
        let outside = self
            .outside
            .wakeup(self.part())
            .map(|at| (at, "site uplink"));
        let sources = self.sources.values().flatten().min();
        let sources = sources.map(|at| (*at, "site source"));
        let first = [beacon, expiry, election, outside, sources]
            .into_iter()
            .flatten()
            .min();
        first.map(|(at, why)| {
            // What was due when an input made it so is done at the next moment.
            let at = at.max(self.now + Duration::from_micros(1));
            Wakeup { at, why }
        })
    }
}

impl Site {
    /// A node without a site, until it begins.
    #[must_use]
    pub fn new(identity: Identity, network: NetworkId, boot: u64, seed: &[u8; 32]) -> Self {
        let me = identity.id();
        let own = Member {
            boot,
            port: 0,
            flags: Flags::default(),
            priority: Priority::NEVER,
        };
        Self {
            identity,
            network,
            seal: SiteSeal::new(&NetworkSecret::open().site_key(&network)),
            settings: None,
            now: Instant::ZERO,
            rng: chance::generator(seed, 4),
            counter: 0,
            interfaces: Vec::new(),
            listeners: Vec::new(),
            roster: Roster::new(me.prefix(), own),
            election: Election::new(me),
            in_line: (None, (0, None, false)),
            hub_roster: None,
            outside: Outside::default(),
            located: BTreeMap::new(),
            sources: BTreeMap::new(),
            kept: BTreeMap::new(),
            near: None,
            kept_hub: None,
            is_active: false,
            beacon: None,
            last_beacon: None,
            first_beacons: 0,
            counts: Counts::default(),
            outputs: VecDeque::new(),
        }
    }

    /// What became of what was heard.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    fn begin(&mut self, settings: Settings) {
        if self.settings.is_some() {
            return;
        }
        self.counter = settings.wall.0;
        self.settings = Some(settings);
        self.describe();
    }

    fn on_interfaces(&mut self, interfaces: Vec<Interface>) {
        let Some(settings) = &self.settings else {
            return;
        };
        let (v4, v6) = admin_scope(self.network, settings.site);
        let mut chosen = 0;
        let judged = interfaces.into_iter().map(|interface| {
            let mut verdict = interfaces::judge(&interface, &settings.choice);
            if verdict == Verdict::Chosen {
                chosen += 1;
                if chosen > INTERFACES_MAX {
                    verdict = Verdict::TooMany;
                }
            }
            (interface, verdict)
        });
        self.interfaces = judged.collect();
        let taken = self
            .interfaces
            .iter()
            .filter(|(_, verdict)| *verdict == Verdict::Chosen);
        let listeners = taken.map(|(interface, _)| listener(interface, (v4, v6)));
        let listeners: Vec<Listener> = listeners.collect();
        if listeners == self.listeners {
            return;
        }
        self.listeners = listeners;
        self.outputs
            .push_back(Output::Listen(self.listeners.clone()));
        let kept: BTreeSet<u32> = self.listeners.iter().map(|one| one.index).collect();
        for node in self.roster.forget_interfaces(|index| kept.contains(&index)) {
            self.lose(node);
        }
        let members: Vec<NodePrefix> = self.roster.members().keys().copied().collect();
        for prefix in members {
            self.locate(prefix);
        }
        if self.listeners.is_empty() {
            self.election.end();
            self.beacon = None;
            return;
        }
        let jitter = self.draw(LISTEN / 8);
        self.election.begin(self.now, jitter);
        self.first_beacons = FIRST_BEACONS;
        let soon = self.draw(BEACON_FIRST / 10);
        self.hasten(soon);
    }

    /// What is no member is noted too: it may come to be one.
    fn on_wants(&mut self, origin: NodeId, is_so: bool) {
        if is_so {
            self.sources.insert(origin, None);
        } else if let Some(kept) = self.sources.get_mut(&origin) {
            *kept = Some(self.now + SOURCE_KEPT);
        }
    }

    fn lose(&mut self, node: NodeId) {
        let lost = Output::Event(Event::MemberLost { node });
        self.outputs.push_back(lost);
        self.located.remove(&node.prefix());
        self.outputs.push_back(Output::Local(node, None));
    }

    /// Says where a member is, if that is news. One that is heard by several interfaces is at the first.
    fn locate(&mut self, prefix: NodePrefix) {
        let Some(known) = self.roster.member(prefix) else {
            return;
        };
        let Some(index) = known.heard.keys().next().copied() else {
            return;
        };
        let listener = self.listeners.iter().find(|one| one.index == index);
        let is_wired_here =
            |(one, _): &(Interface, Verdict)| one.index == index && one.kind == Kind::Wired;
        let local = Local {
            interface: index,
            ipv4: listener.and_then(|one| one.ipv4),
            is_wired: self.interfaces.iter().any(is_wired_here)
                && !known.member.flags.has(Flags::WIRELESS),
        };
        if self.located.insert(prefix, local) != Some(local) {
            self.outputs
                .push_back(Output::Local(known.node, Some(local)));
        }
    }

    fn on_active(&mut self, is_active: bool) {
        if self.is_active != is_active {
            self.is_active = is_active;
            if is_active && matches!(self.election.role(), Role::Hub(_)) {
                self.hasten(Duration::ZERO);
            }
        }
    }

    fn on_linked(&mut self, peer: NodeId, way: Option<(SocketAddr, bool)>) {
        if let Some((remote, is_dialled)) = way {
            self.outside.on_linked(peer, remote, is_dialled);
        } else {
            self.outside.on_unlinked(peer);
            self.roster
                .suspect(peer.prefix(), self.now + MEMBER_SUSPECT);
        }
    }

    /// A peer that is no member is not heard: it could have this node dial whom it likes.
    fn on_told(&mut self, peer: NodeId, told: &Told) {
        if self.roster.member(peer.prefix()).is_some() {
            let acts = self.outside.on_told(self.part(), peer, told);
            self.do_outside(acts);
        }
    }

    fn part(&self) -> Part {
        match self.election.role() {
            Role::Hub(_) => Part::Hub,
            Role::Following(hub) if self.is_deputy() => Part::Deputy(hub.node),
            Role::Following(hub) => Part::Member(hub.node),
            Role::Apart | Role::Listening { .. } | Role::Claiming { .. } => Part::Unled,
        }
    }

    fn settle_outside(&mut self) {
        if self.settings.is_none() {
            return;
        }
        let (part, roster) = (self.part(), &self.roster);
        let is_member = |peer: NodeId| roster.member(peer.prefix()).is_some();
        let acts = self.outside.settle(self.now, part, is_member);
        self.do_outside(acts);
    }

    fn do_outside(&mut self, acts: Vec<outside::Act>) {
        let outputs = acts.into_iter().map(|act| match act {
            outside::Act::Dial(address) => Output::Lend(address),
            outside::Act::Forget(address) => Output::TakeBack(address),
            outside::Act::Rest(peer, addresses) => Output::Rest(peer, addresses),
            outside::Act::Wake(addresses) => Output::Wake(addresses),
            outside::Act::Standby(peer, true) => Output::Weigh(peer, Weight::Standby),
            outside::Act::Standby(peer, false) => Output::Weigh(peer, Weight::Usual),
            outside::Act::Tell(peer, told) => Output::Tell(peer, told),
        });
        self.outputs.extend(outputs);
    }

    fn scope(&self) -> Option<Scope> {
        let settings = self.settings.as_ref()?;
        Some(Scope {
            key: 0,
            site: settings.site,
            network: self.network,
        })
    }

    fn on_datagram(&mut self, place: (u32, Way), from: SocketAddr, datagram: &[u8]) {
        let is_by_media = place.1 == Way::Media;
        let is_wanted = is_by_media || self.is_listening(place.0);
        let Some(scope) = self.scope().filter(|_| is_wanted) else {
            return;
        };
        let Some(header) = SiteHeader::peek(datagram) else {
            self.counts.refused += 1;
            return;
        };
        if header.sender == self.identity.id().prefix() {
            return; // its own, which the kernel gives to all nodes of this host
        }
        // spec: WIRE 9.1 a datagram of another network or site, or whose MAC is false, is dropped before it is used
        if header.scope != scope {
            self.counts.foreign += 1;
            return;
        }
        if header.is_signed() {
            if !self.seal.is_marked(datagram) {
                self.counts.refused += 1;
                return;
            }
            if !self.roster.may_check(self.now, header.sender) {
                self.counts.unchecked += 1;
                return;
            }
        }
        let Some((_, message)) = self.seal.open(datagram) else {
            self.counts.refused += 1;
            return;
        };
        if !self
            .roster
            .is_fresh(self.now, header.sender, header.counter)
        {
            self.counts.replayed += 1;
            return;
        }
        self.counts.heard += 1;
        let said = Said {
            from,
            interface: place.0,
        };
        match message {
            SiteDatagram::Probe(probe) => {
                if let Some(known) = self.roster.member(header.sender) {
                    self.outputs.push_back(Output::Probed(known.node, probe));
                }
            }
            _ if is_by_media => {}
            SiteDatagram::Beacon(beacon) => self.on_beacon(&beacon, place, from),
            SiteDatagram::Claim(claim) => {
                let jitter = self.draw(OBJECTION_DELAY);
                self.election.on_claim(self.now, &claim, said, jitter);
            }
            SiteDatagram::Objection(objection) => {
                self.election
                    .on_objection(self.now, header.sender, &objection);
            }
            SiteDatagram::Resignation(resignation) => {
                self.election.on_resignation(self.now, &resignation);
            }
            SiteDatagram::Handover(handover) => self.election.on_handover(self.now, &handover),
            // What a later version says.
            _ => {}
        }
    }

    fn is_listening(&self, interface: u32) -> bool {
        self.listeners.iter().any(|one| one.index == interface)
    }

    fn on_beacon(&mut self, beacon: &Beacon, place: (u32, Way), from: SocketAddr) {
        let before = self
            .roster
            .member(beacon.node.prefix())
            .map(|known| known.member.boot);
        let news = self.roster.on_beacon(self.now, beacon, place, from);
        match news {
            News::Full => {
                self.counts.crowded += 1;
                return;
            }
            News::Found => {
                let mut address = from;
                address.set_port(beacon.member.port);
                let found = Event::MemberFound(Place {
                    node: beacon.node,
                    address,
                });
                self.outputs.push_back(Output::Event(found));
            }
            News::Changed | News::Nothing => {}
        }
        self.locate(beacon.node.prefix());
        let is_new = news == News::Found || before.is_some_and(|boot| boot != beacon.member.boot);
        if is_new && matches!(self.election.role(), Role::Hub(_)) {
            let soon = self.draw(BEACON_PAUSE / 3);
            self.hasten(soon); // so that a newcomer need not wait for the next one
        }
        let Some((_, epoch)) = beacon.hub.filter(|(hub, _)| *hub == beacon.node.prefix()) else {
            return;
        };
        let said = HubBeacon {
            node: beacon.node,
            epoch,
            priority: beacon.member.priority,
            interval: Duration::from_millis(beacon.interval.0.max(1).into()),
            interface: place.0,
        };
        self.election.on_hub(self.now, &said);
        if self
            .election
            .hub()
            .is_some_and(|(hub, _)| hub == beacon.node)
        {
            self.hub_roster = Some(beacon.roster);
        }
    }

    /// Whether this node is next in line.
    fn is_deputy(&self) -> bool {
        let me = self.identity.id().prefix();
        self.deputy() == Some(me)
    }

    /// Whoever is next in line to the hub; none while there is no hub.
    const fn deputy(&self) -> Option<NodePrefix> {
        self.in_line.0
    }

    /// Looks for whoever is next in line, if something has changed since.
    fn find_deputy(&mut self) {
        let is_eligible = self.election.is_eligible(self.now);
        let hub = self.election.hub().map(|(hub, _)| hub);
        let of = (self.roster.version(), hub, is_eligible);
        if self.in_line.1 != of {
            let deputy = hub.and_then(|hub| self.roster.deputy(hub.prefix(), is_eligible));
            self.in_line = (deputy, of);
        }
    }

    /// Whether a link leads out of the site.
    fn has_uplink(&self) -> bool {
        let is_member = |peer: NodeId| self.roster.member(peer.prefix()).is_some();
        self.outside.has_uplink(is_member)
    }

    /// Says anew what this node is.
    fn describe(&mut self) {
        let Some(settings) = &self.settings else {
            return;
        };
        let chosen = |kind| {
            let is_it = |(one, verdict): &(Interface, Verdict)| {
                *verdict == Verdict::Chosen && one.kind == kind
            };
            self.interfaces.iter().any(is_it)
        };
        let (is_wired, is_wireless) = (chosen(Kind::Wired), chosen(Kind::Wireless));
        let mut flags = Flags::default();
        let mut steps = 4;
        if is_wired {
            steps += 5;
        } else if is_wireless {
            flags = flags.with(Flags::WIRELESS);
        }
        if self.has_uplink() {
            flags = flags.with(Flags::UPLINK);
            steps += 2;
        }
        let priority = match settings.willing {
            Willing::Never => Priority::NEVER,
            Willing::Auto => Priority::new(steps).unwrap_or_default(),
            Willing::Always => Priority::new(steps + 2).unwrap_or_default(),
        };
        if settings.willing != Willing::Never {
            flags = flags.with(Flags::RELAY);
        }
        let own = Member {
            port: settings.port,
            flags,
            priority,
            ..self.roster.own()
        };
        self.election.set_priority(priority);
        if self.roster.set_own(own) {
            self.hasten(BEACON_PAUSE);
        }
    }

    /// Draws consequences, and does what the election wants.
    fn settle(&mut self) {
        self.describe();
        self.find_deputy();
        let me = self.identity.id().prefix();
        if let Role::Hub(_) = self.election.role() {
            let best = self.deputy().filter(|best| *best != me);
            let best =
                best.and_then(|best| Some((best, self.roster.member(best)?.member.priority)));
            self.election.on_challenger(self.now, best);
        }
        while let Some(act) = self.election.poll() {
            match act {
                Act::Claim(claim) => self.say(&SiteDatagram::Claim(claim)),
                Act::Resign(resignation) => self.say(&SiteDatagram::Resignation(resignation)),
                Act::HandOver(handover) => self.say(&SiteDatagram::Handover(handover)),
                Act::Object(to, interface, objection) => {
                    let datagram = self.sealed(&SiteDatagram::Objection(objection));
                    self.send(interface, to, datagram);
                }
                Act::Beacon => self.hasten(Duration::ZERO),
                Act::Hub(hub, cause) => {
                    self.hub_roster = None;
                    let event = Event::HubChanged { hub, cause };
                    self.outputs.push_back(Output::Event(event));
                }
                Act::Deaf => self.outputs.push_back(Output::Event(Event::Deaf)),
            }
        }
        self.find_deputy();
        self.update_kept();
        self.weigh_hub();
        self.settle_outside();
    }

    /// Which members links are kept to; none while that is to stay as it is.
    fn wanted(&self) -> Option<BTreeMap<NodePrefix, Place>> {
        let place = |prefix: NodePrefix| {
            let known = self.roster.member(prefix)?;
            let place = Place {
                node: known.node,
                address: known.address,
            };
            Some((prefix, place))
        };
        if self.listeners.is_empty() {
            return Some(BTreeMap::new());
        }
        match self.election.role() {
            Role::Following(hub) => {
                // The hub has links to all, and needs none besides.
                let sources = self.sources.keys().map(|node| node.prefix());
                let sources = sources.filter_map(place).take(SOURCES_MAX);
                let hub = place(hub.node.prefix())?;
                // Whoever is next is linked already on the day on which it is hub.
                let next = self.deputy().filter(|_| !self.is_deputy());
                let next = next.and_then(place);
                Some(sources.chain(next).chain([hub]).collect())
            }
            Role::Hub(_) => Some(BTreeMap::new()),
            Role::Apart | Role::Listening { .. } | Role::Claiming { .. } => {
                if !self.roster.is_without_candidates() {
                    return None;
                }
                let members = self.roster.members().keys();
                Some(
                    members
                        .filter_map(|prefix| place(*prefix))
                        .take(MESH_MAX)
                        .collect(),
                )
            }
        }
    }

    /// A deputy is nearer to its hub than the others.
    fn weigh_hub(&mut self) {
        let near = match self.part() {
            Part::Deputy(hub) => Some(hub),
            Part::Hub | Part::Member(_) | Part::Unled => None,
        };
        if self.near == near {
            return;
        }
        if let Some(before) = std::mem::replace(&mut self.near, near) {
            self.outputs.push_back(Output::Weigh(before, Weight::Usual));
        }
        if let Some(hub) = near {
            self.outputs.push_back(Output::Weigh(hub, Weight::Near));
        }
    }

    fn update_kept(&mut self) {
        let Some(wanted) = self.wanted() else {
            return;
        };
        if wanted == self.kept {
            return;
        }
        for (prefix, place) in &wanted {
            if self.kept.get(prefix) != Some(place) {
                self.outputs.push_back(Output::Follow(place.clone()));
            }
        }
        for (prefix, place) in &self.kept {
            if wanted.get(prefix) == Some(place) {
                continue;
            }
            // A former hub is not left before the next one delivers; nor is anybody who only moved.
            let is_source = self.kept_hub != Some(*prefix) && !wanted.contains_key(prefix);
            self.outputs.push_back(if is_source {
                Output::Part(place.clone())
            } else {
                Output::Unfollow(place.clone())
            });
        }
        self.kept = wanted;
        if let Role::Following(hub) = self.election.role() {
            self.kept_hub = Some(hub.node.prefix());
        }
    }

    /// How long until the next beacon.
    fn period(&mut self) -> Duration {
        if let Role::Hub(_) = self.election.role() {
            return if self.is_active {
                BEACON_ACTIVE
            } else {
                BEACON_IDLE
            };
        }
        let shared = BEACON_SHARE * self.roster.count();
        let is_matched = self.hub_roster == Some(self.roster.digest());
        let times = if is_matched { BEACON_MATCHED } else { 1 };
        let period = (BEACON_MEMBER.max(shared) * times).min(BEACON_INTERVAL_MAX);
        chance::jittered(period, &mut self.rng)
    }

    /// Has the next beacon follow so soon, and not too close to the last.
    fn hasten(&mut self, delay: Duration) {
        if self.listeners.is_empty() {
            return;
        }
        let after = self.last_beacon.map(|last| last + BEACON_PAUSE);
        let at = (self.now + delay).max(after.unwrap_or(self.now));
        self.beacon = Some(self.beacon.map_or(at, |planned| planned.min(at)));
    }

    fn send_beacon(&mut self) {
        let period = self.period();
        let is_hub = matches!(self.election.role(), Role::Hub(_));
        self.last_beacon = Some(self.now);
        self.beacon = Some(self.now + period);
        if self.first_beacons > 0 {
            self.first_beacons -= 1;
            if self.first_beacons > 0 {
                self.beacon = Some(self.now + BEACON_FIRST.min(period));
            }
        }
        let promised = if is_hub {
            period
        } else {
            period.max(BEACON_MEMBER)
        };
        let millis = u16::try_from(promised.as_millis()).unwrap_or(u16::MAX);
        let hub = self
            .election
            .hub()
            .map(|(hub, epoch)| (hub.prefix(), epoch));
        self.say(&SiteDatagram::Beacon(Beacon {
            node: self.identity.id(),
            member: self.roster.own(),
            roster: self.roster.digest(),
            hub,
            interval: Interval(millis),
        }));
    }

    /// Sends a message to all channels.
    fn say(&mut self, message: &SiteDatagram) {
        for at in 0..self.listeners.len() {
            for channel in 0..self.listeners[at].channels.len() {
                let datagram = self.sealed(message);
                let listener = &self.listeners[at];
                let (index, (_, to)) = (listener.index, listener.channels[channel]);
                self.send(index, to, datagram);
            }
        }
    }

    fn send(&mut self, interface: u32, to: SocketAddr, datagram: Vec<u8>) {
        self.outputs.push_back(Output::Send {
            interface,
            to,
            datagram,
        });
    }

    fn sealed(&mut self, message: &SiteDatagram) -> Vec<u8> {
        let mut datagram = Vec::new();
        if let Some(scope) = self.scope() {
            self.counter += 1;
            self.seal
                .seal(&self.identity, scope, self.counter, message, &mut datagram);
        }
        datagram
    }

    /// A duration drawn evenly from zero to `most`.
    fn draw(&mut self, most: Duration) -> Duration {
        let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX).max(1);
        Duration::from_nanos(self.rng.next_u64() % nanos)
    }
}

/// The channels of a site on an interface, at admin scope those two.
fn listener(interface: &Interface, (v4, v6): (Ipv4Addr, Ipv6Addr)) -> Listener {
    let ipv4 = interface
        .addresses
        .iter()
        .find_map(|address| match address {
            IpAddr::V4(ip) => Some(*ip),
            IpAddr::V6(_) => None,
        });
    let ipv6 = interface.addresses.iter().any(IpAddr::is_ipv6);
    let mut channels = Vec::new();
    if ipv4.is_some() {
        channels.push((Way::Link, SocketAddr::from((LINK_SCOPE_V4, SITE_PORT))));
        channels.push((Way::Admin, SocketAddr::from((v4, SITE_PORT))));
    }
    if ipv6 {
        channels.push((Way::Link, SocketAddr::from((LINK_SCOPE_V6, SITE_PORT))));
        channels.push((Way::Admin, SocketAddr::from((v6, SITE_PORT))));
    }
    Listener {
        index: interface.index,
        name: interface.name.clone(),
        ipv4,
        ipv6,
        channels,
    }
}
