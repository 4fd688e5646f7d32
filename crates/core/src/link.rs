//! Links: dialling, greeting, liveness, and which of two connections to one peer is kept.
//!
//! Dials configured neighbours, exchanges hellos, measures round trips and loss, and reports when a link is up or
//! down. All control messages of a peer pass here first: those before its hello are queued, those of an unknown link
//! are dropped. Not the meaning of messages (`route`, `flow`), nor their transport. Called by `Control`.
//!
//! ```text
//!  dial ──Connected──▶ Greeting ──Hello──▶ Up ──quiet for dead_after──▶ closed: Silent
//!                         │ 5 s               │ Leave, lost, superseded
//!                         ▼                   ▼
//!                      closed              closed
//! ```
//!
//! Liveness does not rely on QUIC, whose idle timer is 30 s and whose packets are not media's: pings are datagrams on
//! the path of media, every 100 ms while a flow uses the link, every second otherwise. Time during which this node's
//! own process was stopped counts against no peer.
//!
//! Invariant: at most one link per node is up, and both ends agree which.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use levada_wire::control::Message;
use levada_wire::control::link::{Hello, Leave, LinkMessage, NODE_NAME_BYTES_MAX};
use levada_wire::datagram::link::{LinkDatagram, Pong};
use levada_wire::lane::{LinkCommand, LinkEvent};
use levada_wire::machine::{Machine, Wakeup};
use levada_wire::{Instant, LinkIndex, NetworkId, NodeId, PacketSize};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng as _;

use crate::api::{self, ConnectionLost, DialId, Event, LinkDown, LinkInput, Settings};
use crate::chance;
use crate::limits::{
    COPY_WARNING, DIAL_WAIT, FORMER_BOOTS_MAX, GREETING_MAX, HELD_MESSAGES_MAX, LINKS_MAX,
    LINKS_PER_ADDRESS_MAX, OWN_LATENESS, REDIAL_MAX,
};
use crate::subnet::Subnet;
use crate::view::LinkState;
use crate::wakeups::Wakeups;

mod border;
mod dialer;
mod liveness;
mod pressure;
mod rows;
mod size;
mod sizes;
#[cfg(test)]
mod tests;

pub use border::{Input, Output, Path};
use dialer::Dialer;
use liveness::{Liveness, Reachability};
pub use pressure::Pressure;
pub use size::PathSize;
use size::Size;

/// All links of this node.
#[derive(Debug)]
pub struct Links {
    me: NodeId,
    network: NetworkId,
    name: String,
    relay: bool,
    accept: bool,
    boot: u64,
    leaving: bool,
    now: Instant,
    rng: ChaCha20Rng,
    dialer: Dialer,
    links: BTreeMap<LinkIndex, Link>,
    /// The links to each peer.
    peers: BTreeSet<(NodeId, LinkIndex)>,
    /// When each link is to be looked at.
    wakeups: Wakeups<LinkIndex>,
    /// The packet sizes that links are tried with; at most as many as there are sizes.
    sizes: BTreeSet<PacketSize>,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Link {
    peer: NodeId,
    remote: SocketAddr,
    /// Whether this node opened the connection.
    dialled: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Greeting { until: Instant, held: Vec<Message> },
    Up(Box<Up>),
}

#[derive(Debug)]
struct Up {
    since: Instant,
    boot: u64,
    lives: Lives,
    name: String,
    relay: bool,
    liveness: Liveness,
    size: Size,
}

/// What links to one peer, each in the place of the one before, know of its processes.
#[derive(Clone, Debug, Default)]
struct Lives {
    /// Former boots, the latest last.
    former: VecDeque<u64>,
    /// When the user was told that the peer's key has a copy.
    warned: Option<Instant>,
}

impl Link {
    fn up(&self) -> Option<&Up> {
        match &self.state {
            State::Up(up) => Some(up),
            State::Greeting { .. } => None,
        }
    }

    /// Whether it is up, and the peer was heard lately.
    fn is_well(&self) -> bool {
        self.up()
            .is_some_and(|up| up.liveness.state() == LinkState::Up)
    }

    fn up_mut(&mut self) -> Option<&mut Up> {
        match &mut self.state {
            State::Up(up) => Some(up),
            State::Greeting { .. } => None,
        }
    }

    fn wakeup(&self) -> Wakeup {
        match &self.state {
            State::Greeting { until, .. } => Wakeup {
                at: *until,
                why: "greeting",
            },
            State::Up(up) => {
                let (liveness, size) = (up.liveness.wakeup(), up.size.wakeup());
                if size.at < liveness.at {
                    size
                } else {
                    liveness
                }
            }
        }
    }
}

impl Links {
    /// Drawn at the start, as its hellos say it.
    #[must_use]
    pub const fn boot(&self) -> u64 {
        self.boot
    }

    /// Where the peer of a link is, and whether this node dialled it.
    #[must_use]
    pub fn way(&self, link: LinkIndex) -> Option<(SocketAddr, bool)> {
        let link = self.links.get(&link)?;
        Some((link.remote, link.dialled))
    }

    fn put_told(&mut self, link: LinkIndex, told: levada_wire::control::link::Outside) {
        self.outputs.push_back(Output::Told { link, told });
    }
}

impl Machine for Links {
    type Input = Input;
    type Output = Output;

    fn handle_input(&mut self, now: Instant, input: Input) {
        self.handle_timeout(now);
        match input {
            Input::Outside(input) => self.on_input(input),
            Input::Lane(link, LinkEvent::Datagram { message, received }) => {
                self.on_datagram(link, &message, received);
            }
            Input::Lane(link, LinkEvent::TooLarge { bytes }) => self.on_too_large(link, bytes),
            Input::Active { link, active } => self.on_active(link, active),
            Input::Sizes(sizes) => self.on_sizes(sizes),
            Input::Close(link) => {
                if self.links.contains_key(&link) {
                    self.close(link, LinkDown::Rests);
                }
            }
            Input::Leave => self.on_leave(),
        }
        self.dial();
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.forgive_own_absence(now);
        self.now = self.now.max(now);
        let due = self.wakeups.due(self.now);
        self.close_the_silent(&due);
        for link in &due {
            self.ping(*link);
        }
        for link in due {
            self.try_size(link);
            self.note(link);
        }
        self.dial();
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Wakeup> {
        Wakeup::earlier(self.dialer.wakeup(), self.wakeups.first())
    }
}

impl Links {
    /// No links yet.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let mut rng = chance::generator(&settings.seed, 1);
        let mut name = settings.name.clone();
        truncate(&mut name, NODE_NAME_BYTES_MAX);
        Self {
            me: settings.identity.id(),
            network: settings.network,
            name,
            relay: settings.relay,
            accept: settings.accept,
            boot: rng.next_u64(),
            leaving: false,
            now: Instant::ZERO,
            dialer: Dialer::new(chance::generator(&settings.seed, 2)),
            rng,
            links: BTreeMap::new(),
            peers: BTreeSet::new(),
            wakeups: Wakeups::default(),
            sizes: BTreeSet::from([PacketSize::DEFAULT]),
            outputs: VecDeque::new(),
        }
    }

    fn on_input(&mut self, input: LinkInput) {
        match input {
            LinkInput::AddNeighbour(neighbour) => self.dialer.add(self.now, neighbour),
            LinkInput::RemoveNeighbour(neighbour) => {
                let under_way = self.dialer.remove(neighbour);
                self.cancel(under_way);
            }
            LinkInput::Connected {
                link,
                peer,
                remote,
                dial,
            } => self.on_connected(link, peer, remote, dial),
            LinkInput::DialFailed { dial, reason } => self.on_dial_failed(dial, reason),
            LinkInput::Disconnected { link, reason } => {
                self.drop_link(link, LinkDown::Lost(reason));
            }
            LinkInput::Message { link, message } => self.on_message(link, message),
        }
    }

    fn on_connected(
        &mut self,
        link: LinkIndex,
        peer: NodeId,
        remote: SocketAddr,
        dial: Option<DialId>,
    ) {
        if dial.is_none() {
            self.drop_former_greeting(peer);
        }
        let refusal = self.refusal_of(link, peer, remote, dial);
        if let Some(reason) = refusal {
            if let Some(dial) = dial {
                if reason == LinkDown::Duplicate {
                    self.dialer.on_linked(dial, peer);
                } else {
                    self.on_dial_failed(dial, reason.to_string());
                }
            }
            self.put(api::Output::Close { link, reason });
            return;
        }
        if let Some(dial) = dial {
            self.dialer.on_linked(dial, peer);
        }
        let hello = Hello {
            network: self.network,
            boot: self.boot,
            index: link,
            name: self.name.clone(),
            relay: self.relay,
        };
        self.send(link, LinkMessage::Hello(hello));
        let state = State::Greeting {
            until: self.now + GREETING_MAX,
            held: Vec::new(),
        };
        self.links.insert(
            link,
            Link {
                peer,
                remote,
                dialled: dial.is_some(),
                state,
            },
        );
        self.peers.insert((peer, link));
        self.note(link);
    }

    /// A link changed: it is looked at when it wants to be now.
    fn note(&mut self, link: LinkIndex) {
        let wakeup = self.links.get(&link).map(Link::wakeup);
        self.wakeups.note(link, wakeup);
    }

    /// The links to a peer.
    fn links_to(&self, peer: NodeId) -> impl Iterator<Item = (LinkIndex, &Link)> {
        let range = (peer, LinkIndex(0))..=(peer, LinkIndex(u32::MAX));
        let links = self.peers.range(range);
        links.filter_map(|(_, link)| Some((*link, self.links.get(link)?)))
    }

    /// Why a new connection is not kept, if it is not.
    fn refusal_of(
        &self,
        link: LinkIndex,
        peer: NodeId,
        remote: SocketAddr,
        dial: Option<DialId>,
    ) -> Option<LinkDown> {
        let wanted = match dial {
            Some(dial) => self.dialer.on_connected(dial),
            None => self.accept,
        };
        // Nothing was said on the new connection yet, so the peer does not prefer it either. One that is suspect may be
        // of a former life of the peer: both ends then choose by their hellos.
        let mut kept = self
            .links_to(peer)
            .filter(|(_, link)| link.dialled || link.is_well());
        if self.leaving {
            Some(LinkDown::Leaving)
        } else if peer == self.me {
            Some(LinkDown::Self_)
        } else if dial.is_some() && kept.next().is_some() {
            Some(LinkDown::Duplicate)
        } else if !wanted || self.links.contains_key(&link) {
            Some(LinkDown::Unwanted)
        } else if dial.is_none() && self.links.len() >= LINKS_MAX {
            // Neighbours that this node was told to link to have places of their own.
            Some(LinkDown::Full)
        } else if dial.is_none() && self.is_crowded(remote) {
            Some(LinkDown::Crowded)
        } else {
            None
        }
    }

    /// Whether so many links come from one address that one more may not. Counted, for there are few.
    fn is_crowded(&self, remote: SocketAddr) -> bool {
        let Some(subnet) = Subnet::of(remote) else {
            return false;
        };
        let others = self.links.values().filter(|link| !link.dialled);
        let from_there = others.filter(|link| Subnet::of(link.remote) == Some(subnet));
        from_there.count() >= LINKS_PER_ADDRESS_MAX
    }

    /// One connection of a peer may wait for its hello: a newer one takes the place of an older one, so that nobody
    /// takes all places by greeting none.
    fn drop_former_greeting(&mut self, peer: NodeId) {
        let greeting = self
            .links_to(peer)
            .find(|(_, link)| !link.dialled && link.up().is_none());
        if let Some(index) = greeting.map(|(index, _)| index) {
            self.close(index, LinkDown::Duplicate);
        }
    }

    fn on_dial_failed(&mut self, dial: DialId, reason: String) {
        let Some(remote) = self.dialer.on_failed(self.now, dial, &reason) else {
            return;
        };
        self.put(api::Output::Event(Event::DialFailed { remote, reason }));
    }

    fn on_message(&mut self, link: LinkIndex, message: Message) {
        match message {
            Message::Link(LinkMessage::Hello(hello)) => self.on_hello(link, hello),
            Message::Link(LinkMessage::Leave(leave)) => self.on_peer_leaves(link, leave),
            Message::Link(LinkMessage::Outside(told)) => {
                if self
                    .links
                    .get(&link)
                    .is_some_and(|link| link.up().is_some())
                {
                    self.put_told(link, told);
                }
            }
            message @ (Message::Route(_)
            | Message::Flow(_)
            | Message::Link(LinkMessage::Question(_) | LinkMessage::Answer(_))) => {
                self.pass(link, message);
            }
        }
    }

    /// Passes on what is about something else; before the hello it waits, for concerns have streams of their own.
    fn pass(&mut self, link: LinkIndex, message: Message) {
        match self.links.get_mut(&link).map(|known| &mut known.state) {
            None => {}
            Some(State::Up(_)) => self.outputs.push_back(Output::Pass { link, message }),
            Some(State::Greeting { held, .. }) if held.len() < HELD_MESSAGES_MAX => {
                held.push(message);
            }
            Some(State::Greeting { .. }) => {
                self.close(link, LinkDown::Protocol("too much before the hello"));
            }
        }
    }

    fn on_peer_leaves(&mut self, link: LinkIndex, Leave { mut reason }: Leave) {
        if self.links.contains_key(&link) {
            truncate(&mut reason, 200);
            self.close(link, LinkDown::PeerLeft(reason));
        }
    }

    fn on_hello(&mut self, link: LinkIndex, mut hello: Hello) {
        let Some(greeted) = self.links.get(&link) else {
            return;
        };
        if greeted.up().is_some() {
            self.close(link, LinkDown::Protocol("a second hello"));
            return;
        }
        if hello.network != self.network {
            self.close(link, LinkDown::WrongNetwork);
            return;
        }
        let (peer, dialled) = (greeted.peer, greeted.dialled);
        let rival = self.links_to(peer).find_map(|(index, other)| {
            let up = other.up()?;
            (index != link).then_some((index, other.dialled, up))
        });
        let mut lives = Lives::default();
        if let Some((rival, rival_dialled, up)) = rival {
            let same = up.boot == hello.boot;
            if up.lives.former.contains(&hello.boot) {
                // A life that was taken for over goes on: two processes have this key.
                self.warn_of_copy(rival, link);
                self.close(link, LinkDown::Copied);
                return;
            }
            // Both ends see the same two connections and keep the one that the smaller id opened; a restarted
            // peer's old link is dead whatever its age.
            let keep_rival = same && rival_dialled != dialled && rival_dialled == (self.me < peer);
            if keep_rival {
                self.close(link, LinkDown::Duplicate);
                return;
            }
            lives.clone_from(&up.lives);
            let reason = if same {
                LinkDown::Duplicate
            } else {
                lives.former.push_back(up.boot);
                while lives.former.len() > FORMER_BOOTS_MAX {
                    lives.former.pop_front();
                }
                LinkDown::Superseded
            };
            self.close(rival, reason);
        }
        truncate(&mut hello.name, NODE_NAME_BYTES_MAX);
        self.open(link, hello, lives);
    }

    /// Tells the user, now and then, that two processes have the key of one node.
    fn warn_of_copy(&mut self, kept: LinkIndex, refused: LinkIndex) {
        let Some(remote) = self.links.get(&refused).map(|link| link.remote) else {
            return;
        };
        let now = self.now;
        let Some(link) = self.links.get_mut(&kept) else {
            return;
        };
        let (peer, linked) = (link.peer, link.remote);
        let Some(up) = link.up_mut() else { return };
        if up
            .lives
            .warned
            .is_some_and(|at| now.since(at) < COPY_WARNING)
        {
            return;
        }
        up.lives.warned = Some(now);
        self.put(api::Output::Event(Event::KeyCopied {
            peer,
            linked,
            refused: remote,
        }));
    }

    fn open(&mut self, link: LinkIndex, hello: Hello, lives: Lives) {
        let now = self.now;
        let Some(peer) = self.links.get(&link).map(|opened| opened.peer) else {
            return;
        };
        assert!(
            !self.links_to(peer).any(|(_, other)| other.up().is_some()),
            "no link is up twice to one node"
        );
        let opened = self.links.get_mut(&link).expect("it was there above");
        let up = Up {
            since: now,
            lives,
            boot: hello.boot,
            name: hello.name.clone(),
            relay: hello.relay,
            liveness: Liveness::new(now),
            size: Size::new(now),
        };
        let before = std::mem::replace(&mut opened.state, State::Up(Box::new(up)));
        let (remote, dialled) = (opened.remote, opened.dialled);
        self.put(api::Output::LinkUp {
            link,
            remote_index: hello.index,
        });
        self.put(api::Output::Event(Event::LinkUp {
            link,
            peer,
            name: hello.name,
            remote,
        }));
        if let Some(subnet) = Subnet::of(remote).filter(|_| !dialled) {
            self.outputs.push_back(Output::Stranger { link, subnet });
        }
        self.outputs.push_back(Output::Up { link, peer });
        if let State::Greeting { held, .. } = before {
            self.outputs.extend(
                held.into_iter()
                    .map(|message| Output::Pass { link, message }),
            );
        }
        self.ping(link);
        self.try_size(link);
        self.note(link);
    }

    fn on_datagram(&mut self, link: LinkIndex, message: &LinkDatagram, received: u64) {
        let now = self.now;
        let Some(up) = self.links.get_mut(&link).and_then(Link::up_mut) else {
            return;
        };
        up.liveness.on_heard(now);
        match message {
            LinkDatagram::Ping(ping) => {
                up.liveness.on_ping(now, ping.sent, received);
                let pong = Pong {
                    time: ping.time,
                    sent: ping.sent,
                    received,
                    size: ping.size(),
                };
                let message = LinkDatagram::Pong(pong);
                self.put(api::Output::Link(link, LinkCommand::Send(message)));
            }
            LinkDatagram::Pong(pong) => {
                if let Some(pressure) = up.liveness.on_pong(now, pong) {
                    let path = Path::Pressure(pressure);
                    self.outputs.push_back(Output::Path(link, path));
                }
                up.size.on_pong(now, pong.time, pong.size, &self.sizes);
                self.try_size(link);
            }
            // Everything else is about flows and never leaves the datapath.
            _ => {}
        }
        self.note(link);
    }

    fn on_active(&mut self, link: LinkIndex, active: bool) {
        let now = self.now;
        if let Some(up) = self.links.get_mut(&link).and_then(Link::up_mut) {
            up.liveness.set_active(now, active);
            // What silence means is another.
            up.liveness.reachability(now);
            up.size.set_active(now, active);
            self.ping(link);
            self.note(link);
        }
    }

    fn on_leave(&mut self) {
        self.leaving = true;
        let under_way = self.dialer.stop();
        self.cancel(under_way);
        let links: Vec<LinkIndex> = self.links.keys().copied().collect();
        for link in links {
            let leave = Leave {
                reason: "the node leaves".into(),
            };
            self.send(link, LinkMessage::Leave(leave));
            self.close(link, LinkDown::Leaving);
        }
    }

    /// Closes a connection from this side.
    fn close(&mut self, link: LinkIndex, reason: LinkDown) {
        self.put(api::Output::Close {
            link,
            reason: reason.clone(),
        });
        self.drop_link(link, reason);
    }

    /// Forgets a connection that is gone or being closed.
    fn drop_link(&mut self, link: LinkIndex, reason: LinkDown) {
        let Some(dropped) = self.links.remove(&link) else {
            return;
        };
        let peer = dropped.peer;
        self.peers.remove(&(peer, link));
        self.wakeups.note(link, None);
        // One whose peer closes each link as soon as it is up is dialled less and less often.
        let is_sent_away = matches!(reason, LinkDown::Lost(ConnectionLost::ClosedByPeer(_)));
        let has_lived = dropped
            .up()
            .is_some_and(|up| !is_sent_away || self.now.since(up.since) >= REDIAL_MAX);
        if has_lived {
            self.dialer.on_lived(peer);
        }
        if self.links_to(peer).next().is_none() {
            self.dialer.on_lost(self.now, peer, &reason.to_string());
        }
        if dropped.up().is_some() {
            self.put(api::Output::Link(link, LinkCommand::Remove));
            self.put(api::Output::Event(Event::LinkDown { link, peer, reason }));
            self.outputs.push_back(Output::Down { link });
        }
    }

    /// Time during which this node did not run counts against nobody: its peers may have spoken all along.
    fn forgive_own_absence(&mut self, now: Instant) {
        let Some(due) = self.poll_timeout() else {
            return;
        };
        let late = now.since(due.at);
        if late <= OWN_LATENESS {
            return;
        }
        for up in self.links.values_mut().filter_map(Link::up_mut) {
            up.liveness.forgive(late);
            // It may be suspect no more.
            up.liveness.reachability(now);
        }
        let links: Vec<LinkIndex> = self.links.keys().copied().collect();
        links.into_iter().for_each(|link| self.note(link));
    }

    /// Closes those of these links, which are due, that were silent for too long.
    fn close_the_silent(&mut self, due: &[LinkIndex]) {
        let now = self.now;
        let mut over = Vec::new();
        for index in due {
            let Some(link) = self.links.get_mut(index) else {
                continue;
            };
            match &mut link.state {
                State::Greeting { until, .. } if *until <= now => {
                    over.push((*index, LinkDown::Protocol("no hello in time")));
                }
                State::Up(up) => {
                    if up.liveness.reachability(now) == Reachability::Dead {
                        over.push((*index, LinkDown::Silent));
                    }
                }
                State::Greeting { .. } => {}
            }
        }
        for (link, reason) in over {
            self.close(link, reason);
        }
    }

    fn ping(&mut self, link: LinkIndex) {
        let up = self.links.get_mut(&link).and_then(Link::up_mut);
        let ping = up.and_then(|up| up.liveness.ping_if_due(self.now, &mut self.rng));
        if let Some(ping) = ping {
            let message = LinkDatagram::Ping(ping);
            self.put(api::Output::Link(link, LinkCommand::Send(message)));
        }
    }

    fn dial(&mut self) {
        for dial in self.dialer.late(self.now) {
            self.put(api::Output::CancelDial { dial });
            self.on_dial_failed(dial, format!("no answer within {} s", DIAL_WAIT.as_secs()));
        }
        if !self.leaving {
            let due = self.dialer.dial_due(self.now);
            self.outputs.extend(due.into_iter().map(Output::Outside));
        }
    }

    fn cancel(&mut self, dials: Vec<DialId>) {
        for dial in dials {
            self.put(api::Output::CancelDial { dial });
        }
    }

    fn send(&mut self, link: LinkIndex, message: LinkMessage) {
        let message = Message::Link(message);
        self.put(api::Output::Send { link, message });
    }

    fn put(&mut self, output: api::Output) {
        self.outputs.push_back(Output::Outside(output));
    }
}

/// Cuts a text from a peer to at most `bytes`, at a character's border.
fn truncate(text: &mut String, bytes: usize) {
    while text.len() > bytes {
        text.pop();
    }
}
