//! Whole nodes in a small net: each message is encoded and decoded on its way.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use levada_wire::announce::{LayerOffer, TrackOffer};
use levada_wire::control::flow::KeyGrant;
use levada_wire::control::{Decoder, FlowMessage};
use levada_wire::datagram::link::LinkDatagram;
use levada_wire::frame::TrackKind;
use levada_wire::key::{ContentSecret, Suite};
use levada_wire::lane::{FlowCommand, FlowEvent, LinkCommand, LinkEvent};
use levada_wire::machine::harness::check_contract;
use levada_wire::{
    Bitrate, FlowId, Identity, Layer, LinkIndex, NetworkId, Number, PacketSize, RepairBudget,
    StreamName, WallTime,
};
use rand_core::Rng as _;

use super::*;
use crate::api::{
    ConnectionLost, Event, FlowInput, LinkInput, Offer, Paths, SubscriptionId, SubscriptionState,
};
use crate::limits::{ANSWER_DEADLINE, ENDING, LINGER, REQUEST_EXPIRY};
use crate::view::{FlowRow, FlowState};

mod admission;
mod breaker;
mod ending;
mod flows;
mod keys;
mod moving;
mod paths;
mod refusals;
mod sizes;
mod storm;
mod terms;
mod watch;

/// Nodes by number. A link between `a` and `b` is index `b` at `a` and `a` at `b`.
struct Net {
    now: Instant,
    wall: u64,
    nodes: Vec<Control>,
    /// Messages under way, by sender and receiver; present while the link is up.
    linked: BTreeMap<(usize, usize), VecDeque<Vec<u8>>>,
    /// What each node's datapath was told.
    told: Vec<Vec<(FlowId, FlowCommand)>>,
    /// What each node's user was told.
    events: Vec<Vec<Event>>,
    /// Every byte of control that was sent.
    wire: Vec<u8>,
    /// Whether grants of content secrets to a consumer next door are kept back, in `withheld`.
    withhold_grants: bool,
    withheld: Vec<KeyGrant>,
    /// Messages from the first to the second are swallowed.
    deaf: Option<(usize, usize)>,
    /// Where link datagrams larger than [`PacketSize::DEFAULT`] are lost.
    narrow: BTreeSet<(usize, usize)>,
    /// Whose pings are lost.
    mute: Option<usize>,
    /// Over how many ways subscribers want it.
    paths: Paths,
}

/// How far every flow has come at every node, as soon as it is asked.
const HAVE: Option<Number> = Number::new(1_000);

fn settings(node: usize) -> Settings {
    Settings {
        identity: Identity::from_secret(&[u8::try_from(node).unwrap() + 1; 32]),
        network: NetworkId::OPEN,
        name: format!("n{node}"),
        relay: true,
        accept: true,
        uplink: None,
        seed: [u8::try_from(node).unwrap() + 1; 32],
    }
}

fn index(node: usize) -> LinkIndex {
    LinkIndex(u32::try_from(node).unwrap())
}

fn name(text: &str) -> StreamName {
    text.parse().unwrap()
}

fn offer(text: &str, wall: u64) -> Offer {
    let tracks = vec![TrackOffer {
        kind: TrackKind::Video,
        codec: "h264".into(),
    }];
    Offer {
        name: name(text),
        wall: WallTime(wall),
        packet_size: PacketSize::DEFAULT,
        suite: Suite::Aes128Gcm,
        layers: vec![LayerOffer {
            layer: Layer(0),
            peak: Bitrate(4_000_000),
            tracks,
        }],
        description: Arc::default(),
        flush_interval: Duration::ZERO,
        is_measured: false,
    }
}

impl Net {
    fn new(nodes: usize, links: &[(usize, usize)]) -> Self {
        let mut net = Self::of(
            (0..nodes)
                .map(|node| Control::new(settings(node)))
                .collect(),
        );
        for (a, b) in links {
            net.link(*a, *b);
        }
        net.settle();
        net
    }

    fn of(nodes: Vec<Control>) -> Self {
        let count = nodes.len();
        Self {
            now: Instant::from_nanos(1_000_000_000),
            wall: 1_700_000_000_000_000,
            nodes,
            linked: BTreeMap::new(),
            told: vec![Vec::new(); count],
            events: vec![Vec::new(); count],
            wire: Vec::new(),
            deaf: None,
            narrow: BTreeSet::new(),
            mute: None,
            paths: Paths::One,
            withhold_grants: false,
            withheld: Vec::new(),
        }
    }

    fn input(&mut self, node: usize, input: Input) {
        self.nodes[node].handle_input(self.now, input);
        self.collect(node);
    }

    fn command(&mut self, node: usize, command: FlowInput) {
        self.input(node, Input::Flow(command));
    }

    fn publish(&mut self, node: usize, text: &str) {
        self.wall += 1_000_000;
        self.command(node, FlowInput::Publish(offer(text, self.wall)));
        self.settle();
    }

    fn revise(&mut self, node: usize, text: &str, peak: Bitrate) {
        let (name, mut layers) = (name(text), offer(text, 0).layers);
        layers[0].peak = peak;
        self.command(node, FlowInput::Revise { name, layers });
        self.settle();
    }

    fn subscribe(&mut self, node: usize, id: u64, text: &str) {
        self.subscribe_with(node, id, text, RepairBudget::DEFAULT);
    }

    fn subscribe_with(&mut self, node: usize, id: u64, text: &str, budget: RepairBudget) {
        let (id, name) = (SubscriptionId(id), name(text));
        self.command(
            node,
            FlowInput::Subscribe {
                id,
                name,
                layer: Layer(0),
                budget,
                paths: self.paths,
            },
        );
        self.settle();
    }

    fn unsubscribe(&mut self, node: usize, id: u64) {
        self.command(
            node,
            FlowInput::Unsubscribe {
                id: SubscriptionId(id),
            },
        );
        self.settle();
    }

    fn collect(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].poll_output() {
            match output {
                Output::Send { link, message } => {
                    let to = link.0 as usize;
                    let mut bytes = Vec::new();
                    message.encode(&mut bytes);
                    self.wire.extend_from_slice(&bytes);
                    if self.deaf != Some((node, to))
                        && let Some(under_way) = self.linked.get_mut(&(node, to))
                    {
                        under_way.push_back(bytes);
                    }
                }
                Output::Link(link, LinkCommand::Send(message)) => {
                    let (to, link) = (link.0 as usize, index(node));
                    let is_large = matches!(&message, LinkDatagram::Ping(ping)
                        if usize::from(ping.size()) > PacketSize::DEFAULT.bytes());
                    let is_ping = matches!(&message, LinkDatagram::Ping(_));
                    let is_lost = is_large && self.narrow.contains(&(node, to))
                        || is_ping && self.mute == Some(node);
                    if self.linked.contains_key(&(node, to)) && !is_lost {
                        // Pings and pongs end in one step each, so this does not run away.
                        self.input(
                            to,
                            Input::Lane(lane::Event::Link(
                                link,
                                LinkEvent::Datagram {
                                    message,
                                    received: 0,
                                },
                            )),
                        );
                    }
                }
                Output::Flow(flow, command) => {
                    if let FlowCommand::Reach(link) = command {
                        let reached = FlowEvent::Reached { link, have: HAVE };
                        self.input(node, Input::Lane(lane::Event::Flow(flow, reached)));
                    }
                    self.told[node].push((flow, command));
                }
                Output::Event(event) => self.events[node].push(event),
                Output::Close { link, .. } => {
                    let to = link.0 as usize;
                    self.linked.remove(&(node, to));
                    if self.linked.remove(&(to, node)).is_some() {
                        let reason = ConnectionLost::ClosedByPeer(String::new());
                        self.input(
                            to,
                            Input::Link(LinkInput::Disconnected {
                                link: index(node),
                                reason,
                            }),
                        );
                    }
                }
                Output::Mark { link, concern } => {
                    self.input(node, Input::Written { link, concern })
                }
                Output::LinkUp { .. }
                | Output::Link(_, _)
                | Output::Dial { .. }
                | Output::CancelDial { .. }
                | Output::Listen(_)
                | Output::Say { .. }
                | Output::Describe { .. }
                | Output::Heard { .. } => {}
            }
        }
    }

    fn link(&mut self, a: usize, b: usize) {
        for (at, to) in [(a, b), (b, a)] {
            self.linked.insert((at, to), VecDeque::new());
        }
        for (at, to) in [(a, b), (b, a)] {
            let peer = self.nodes[to].id();
            let remote = SocketAddr::from(([127, 0, 0, 1], 7800));
            self.input(
                at,
                Input::Link(LinkInput::Connected {
                    link: index(to),
                    peer,
                    remote,
                    dial: None,
                }),
            );
        }
    }

    fn unlink(&mut self, a: usize, b: usize) {
        self.linked.remove(&(a, b));
        self.linked.remove(&(b, a));
        for (at, to) in [(a, b), (b, a)] {
            let reason = ConnectionLost::Failed("cable pulled".into());
            self.input(
                at,
                Input::Link(LinkInput::Disconnected {
                    link: index(to),
                    reason,
                }),
            );
        }
        self.settle();
    }

    /// Kills a node and starts it again under the same key, without its memory and without links.
    fn restart(&mut self, node: usize) {
        let peers: Vec<usize> = self
            .linked
            .keys()
            .filter(|(a, _)| *a == node)
            .map(|(_, b)| *b)
            .collect();
        let seed = [u8::try_from(node).unwrap() + 101; 32];
        self.nodes[node] = Control::new(Settings {
            seed,
            ..settings(node)
        });
        for peer in &peers {
            self.unlink(node, *peer);
        }
        for peer in peers {
            self.link(node, peer);
        }
        self.settle();
    }

    /// Delivers everything that is under way, without time passing.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            let busy = self
                .linked
                .iter_mut()
                .find(|(_, under_way)| !under_way.is_empty());
            let Some((&(from, to), under_way)) = busy else {
                return;
            };
            let bytes = under_way.pop_front().unwrap();
            let mut messages = Vec::new();
            Decoder::default().push(&bytes, &mut messages).unwrap();
            for message in messages {
                if let Message::Flow(FlowMessage::KeyGrant(grant)) = &message
                    && self.withhold_grants
                    && grant.consumer == self.nodes[to].id()
                {
                    self.withheld.push(grant.clone());
                    continue;
                }
                self.input(
                    to,
                    Input::Link(LinkInput::Message {
                        link: index(from),
                        message,
                    }),
                );
            }
        }
        panic!("the net does not come to rest");
    }

    fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        loop {
            self.settle();
            let due = self
                .nodes
                .iter()
                .filter_map(Control::poll_timeout)
                .map(|w| w.at)
                .min();
            let Some(at) = due.filter(|at| *at <= until) else {
                break;
            };
            self.now = at;
            for node in 0..self.nodes.len() {
                self.nodes[node].handle_timeout(self.now);
                self.collect(node);
            }
        }
        self.now = until;
    }

    /// What the datapath of a node was told since the last call.
    fn told(&mut self, node: usize) -> Vec<(FlowId, FlowCommand)> {
        std::mem::take(&mut self.told[node])
    }

    /// The states of a subscription since the last call.
    fn states(&mut self, node: usize) -> Vec<SubscriptionState> {
        let events = std::mem::take(&mut self.events[node]);
        let state = |event| match event {
            Event::Subscription { state, .. } => Some(state),
            _ => None,
        };
        events.into_iter().filter_map(state).collect()
    }

    fn flow(&self, node: usize, text: &str) -> Option<FlowRow> {
        self.nodes[node]
            .view()
            .flows
            .into_iter()
            .find(|row| row.name == name(text))
    }

    fn egresses(&self, node: usize, text: &str) -> Vec<usize> {
        let row = self.flow(node, text);
        row.map(|row| row.egresses.iter().map(|link| link.0 as usize).collect())
            .unwrap_or_default()
    }

    /// Tells a node something of the flow that comes over its link to `from`.
    fn hear(&mut self, node: usize, text: &str, from: usize, event: fn(LinkIndex) -> FlowEvent) {
        let flow = self.flow(node, text).unwrap().flow;
        let event = lane::Event::Flow(flow, event(index(from)));
        self.input(node, Input::Lane(event));
        self.settle();
    }

    /// Tells a node that packets of the flow come over its link to `from`, and have caught up with what was there.
    fn deliver(&mut self, node: usize, text: &str, from: usize) {
        self.hear(node, text, from, FlowEvent::Delivering);
        self.hear(node, text, from, FlowEvent::CaughtUp);
    }
}

fn active(states: &[SubscriptionState]) -> Vec<FlowId> {
    let active = |state: &SubscriptionState| match state {
        SubscriptionState::Active { flow, .. } => Some(*flow),
        _ => None,
    };
    states.iter().filter_map(active).collect()
}

/// Content secrets that a node's datapath was given.
fn secrets(told: &[(FlowId, FlowCommand)]) -> Vec<ContentSecret> {
    let secret = |(_, command): &(FlowId, FlowCommand)| match command {
        FlowCommand::Consume { secret, .. } => Some(secret.clone()),
        FlowCommand::Originate(originate) => Some(originate.secret.clone()),
        _ => None,
    };
    told.iter().filter_map(secret).collect()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

#[test]
fn the_contract_holds_for_the_whole() {
    let peers: Vec<NodeId> = (1..4).map(|node| settings(node).identity.id()).collect();
    check_contract(
        0..60,
        |seed| {
            let seed = [seed.to_le_bytes()[0]; 32];
            Control::new(Settings {
                seed,
                ..settings(0)
            })
        },
        |rng| {
            let link = LinkIndex(rng.next_u32() % 3);
            let peer = peers[link.0 as usize];
            let remote = SocketAddr::from(([127, 0, 0, 1], 1));
            let text = ["a", "b"][rng.next_u32() as usize % 2];
            match rng.next_u32() % 9 {
                0 => Input::Link(LinkInput::Connected {
                    link,
                    peer,
                    remote,
                    dial: None,
                }),
                1 => Input::Link(LinkInput::Disconnected {
                    link,
                    reason: ConnectionLost::ClosedHere,
                }),
                2 => Input::Flow(FlowInput::Publish(offer(text, u64::from(rng.next_u32())))),
                3 => Input::Flow(FlowInput::Unpublish { name: name(text) }),
                4 => Input::Flow(FlowInput::Subscribe {
                    id: SubscriptionId(u64::from(rng.next_u32() % 4)),
                    name: name(text),
                    layer: Layer(0),
                    budget: RepairBudget::DEFAULT,
                    paths: [Paths::One, Paths::Two][(rng.next_u32() % 2) as usize],
                }),
                5 => Input::Flow(FlowInput::Unsubscribe {
                    id: SubscriptionId(u64::from(rng.next_u32() % 4)),
                }),
                _ => Input::Link(LinkInput::Message {
                    link,
                    message: flows::any_message(rng, &peers),
                }),
            }
        },
    );
}

#[test]
fn every_node_learns_of_a_stream_and_of_its_end() {
    let mut net = Net::new(4, &[(0, 1), (1, 2), (2, 3), (3, 1)]);

    net.publish(0, "cam");
    let known = (0..4)
        .filter(|node| net.nodes[*node].view().streams.len() == 1)
        .count();
    net.command(0, FlowInput::Unpublish { name: name("cam") });
    net.settle();

    assert_eq!(known, 4);
    assert!((0..4).all(|node| net.nodes[node].view().streams.is_empty()));
}

#[test]
fn a_node_that_joins_later_learns_what_is_known_and_not_what_was_withdrawn() {
    let mut net = Net::new(3, &[(0, 1)]);
    net.publish(0, "kept");
    net.publish(0, "gone");
    net.command(0, FlowInput::Unpublish { name: name("gone") });
    net.settle();

    net.link(1, 2);
    net.settle();

    let streams = net.nodes[2].view().streams;
    assert_eq!(streams.len(), 1);
    assert_eq!(streams[0].name, name("kept"));
    assert_eq!(streams[0].state, FlowState::Hold);
}

#[test]
fn a_stream_withdrawn_behind_a_partition_does_not_come_back() {
    let mut net = Net::new(3, &[(0, 1), (1, 2)]);
    net.publish(0, "cam");
    net.unlink(1, 2);
    net.command(0, FlowInput::Unpublish { name: name("cam") });
    net.settle();

    net.link(1, 2);
    net.settle();

    assert!(net.nodes[1].view().streams.is_empty());
    assert!(
        net.nodes[2].view().streams.is_empty(),
        "what 2 still said was answered"
    );
}

#[test]
fn a_leaving_node_withdraws_its_streams_and_closes_its_links() {
    let mut net = Net::new(2, &[(0, 1)]);
    net.publish(0, "cam");

    net.input(0, Input::Leave);
    // What was said before the close is delivered before it: the shell flushes.
    net.settle();

    let gone = net.events[1]
        .iter()
        .any(|event| matches!(event, Event::LinkDown { .. }));
    assert!(gone, "{:?}", net.events[1]);
}
