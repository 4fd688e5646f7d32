//! A hostile neighbour: a node with a key of its own, properly linked, that says what no machine would say.
//!
//! | act | what it does, again and again |
//! |---|---|
//! | `catalogue` | announces streams of origins that it made up, and new versions of them |
//! | `routes` | tells of ways to origins that it made up, and of a short one to each true origin, and takes them back |
//! | `keys` | asks for content secrets for consumers that it made up |
//! | `false-key` | accepts each request at once, with a carry key of its own making, and sends nothing |
//! | `far-numbers` | sends those it feeds true packets under numbers that are far away, with true carry tags |
//! | `false-head` | says to those it feeds that thousands of packets more were sent |
//! | `unread` | does not read: what its neighbours say to it waits with them |
//!
//! Besides, an ordinary process runs on the node, which may subscribe to everything and pass on what it is asked for;
//! as an insider it knows the carry keys that this one is told. Beside the checkers the one part of the simulator that
//! knows messages: who lies must know the words. Called by `world`, and by the laboratory, whose hostile neighbour is a
//! real process. Invariant: no key but its own, those it made up and those of an insider, and no knowledge of anybody's
//! machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use bytes::Bytes;
use levada_core::{Inbox, Message};
use levada_wire::announce::{self, LayerOffer, SignedAnnounce};
use levada_wire::control::flow::{
    Accept, Announce, CarryGrant, FlowMessage, InstanceRef, KeyRequest, carry_context,
};
use levada_wire::control::route::{Hops, RouteMessage, Sequence, Update};
use levada_wire::datagram::link::Head;
use levada_wire::identity::SealedSecret;
use levada_wire::key::{CarryKey, Suite};
use levada_wire::lane::FlowCommand;
use levada_wire::packet::{CARRY_BYTES, Kind, carry};
use levada_wire::unknown::Unknown;
use levada_wire::{
    Bitrate, Distance, FlowId, Header, Identity, InstanceId, Layer, LinkIndex, NodeId, Number,
    PacketSize,
};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;

use crate::chance::Rng;
use crate::connection::End;

/// How many origins it makes up.
const ORIGINS: u64 = 64;
/// How many streams each of them has.
const STREAMS: u64 = 64;
/// How far away the numbers are that nothing explains.
const FAR: u64 = 1 << 40;
/// How many packets more a false head claims.
const AHEAD: u64 = 8_000;
/// Where a packet has its number (docs/wire.md 4.1).
const NUMBER_AT: usize = 12;

/// What a hostile neighbour does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Announces streams of origins that it made up.
    Catalogue,
    /// Tells of ways that are none, and takes them back.
    Routes,
    /// Asks for content secrets for consumers that it made up.
    Keys,
    /// Accepts requests with carry keys of its own making.
    FalseKey,
    /// Sends packets of true flows under numbers that are far away.
    FarNumbers,
    /// Says that more was sent than was.
    FalseHead,
    /// Does not read.
    Unread,
}

/// See the module's head.
#[derive(Debug)]
pub struct Hostile {
    me: NodeId,
    acts: BTreeSet<Act>,
    /// Whether it does them at present; it always listens.
    pub(crate) is_active: bool,
    rng: Rng,
    made_up: Vec<Identity>,
    /// What it says next, of each kind.
    turn: u64,
    /// True streams that it has heard of.
    heard: BTreeSet<InstanceRef>,
    /// The newest sequence that it has heard of each origin.
    sequences: BTreeMap<NodeId, Sequence>,
    inboxes: BTreeMap<(End, u8), Inbox>,
    /// The flows that its process passes on.
    carried: BTreeMap<FlowId, CarriedFlow>,
}

/// What an insider knows of a flow that its process carries.
#[derive(Debug, Default)]
struct CarriedFlow {
    key: Option<CarryKey>,
    /// Whom it feeds, and where they are.
    children: BTreeMap<LinkIndex, SocketAddr>,
    /// The latest packet that it passed on.
    latest: Option<Bytes>,
}

/// What an insider sends to one of those that it feeds.
#[derive(Debug)]
pub(crate) enum Lie {
    Packet(SocketAddr, Bytes),
    Head(LinkIndex, Head),
}

/// Control bytes for one stream of a connection.
pub(crate) type Speech = (u8, Bytes);

impl Hostile {
    /// A node of that id, which does nothing yet.
    #[must_use]
    pub fn new(me: NodeId, acts: &[Act], mut rng: Rng) -> Self {
        let made_up = (0..ORIGINS).map(|_| Identity::from_secret(&rng.bytes()));
        Self {
            me,
            acts: acts.iter().copied().collect(),
            is_active: false,
            made_up: made_up.collect(),
            rng,
            turn: 0,
            heard: BTreeSet::new(),
            sequences: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            carried: BTreeMap::new(),
        }
    }

    /// Its process was told what to do with a flow.
    pub(crate) fn is_told(
        &mut self,
        flow: FlowId,
        command: &FlowCommand,
        egress: Option<SocketAddr>,
    ) {
        match command {
            FlowCommand::SetCarryKey { key, .. } => {
                self.carried.entry(flow).or_default().key = Some(key.clone());
            }
            FlowCommand::AddEgress(link, _) | FlowCommand::MoveEgress(link, ..) => {
                let children = &mut self.carried.entry(flow).or_default().children;
                children.extend(egress.map(|at| (*link, at)));
            }
            FlowCommand::RemoveEgress(link) => {
                self.carried.entry(flow).or_default().children.remove(link);
            }
            FlowCommand::Close => drop(self.carried.remove(&flow)),
            _ => {}
        }
    }

    /// Its process sends a datagram.
    pub(crate) fn sees(&mut self, datagram: &Bytes) {
        if let Some(header) = Header::peek(datagram).filter(|_| Kind::of(datagram) == Kind::Media)
            && let Some(carried) = self.carried.get_mut(&header.flow)
        {
            carried.latest = Some(datagram.clone());
        }
    }

    /// What it sends to those that it feeds now.
    pub(crate) fn lie(&self) -> Vec<Lie> {
        let mut lies = Vec::new();
        for (flow, carried) in &self.carried {
            let (Some(key), Some(latest)) = (&carried.key, &carried.latest) else {
                continue;
            };
            let number = Header::peek(latest).map_or(0, |header| header.number.value());
            for (link, at) in &carried.children {
                if self.acts.contains(&Act::FarNumbers) {
                    lies.push(Lie::Packet(
                        *at,
                        renumbered(latest, number + FAR + self.turn, key),
                    ));
                }
                if self.acts.contains(&Act::FalseHead)
                    && let Some(highest) = Number::new(number + AHEAD)
                {
                    lies.push(Lie::Head(
                        *link,
                        Head {
                            flow: *flow,
                            highest,
                        },
                    ));
                }
            }
        }
        lies
    }

    /// Whether it reads nothing.
    pub(crate) fn reads_nothing(&self) -> bool {
        self.is_active && self.acts.contains(&Act::Unread)
    }

    /// What it says to each neighbour now, as it goes over a connection.
    pub(crate) fn say(&mut self) -> Vec<Speech> {
        self.messages().iter().map(speech).collect()
    }

    /// What it says to each neighbour now.
    pub fn messages(&mut self) -> Vec<Message> {
        self.turn += 1;
        let mut messages = Vec::new();
        if self.acts.contains(&Act::Catalogue) {
            messages.push(self.announce());
        }
        if self.acts.contains(&Act::Routes) {
            messages.extend(self.updates());
        }
        if self.acts.contains(&Act::Keys) {
            messages.extend(self.key_request());
        }
        messages
    }

    /// It knows of a true stream.
    pub fn know(&mut self, of: InstanceRef) {
        self.heard.insert(of);
    }

    /// A neighbour has said something; what it is answered, before anything else is.
    pub(crate) fn hear(
        &mut self,
        end: End,
        from: NodeId,
        concern: u8,
        bytes: &[u8],
    ) -> Vec<Speech> {
        let mut messages = Vec::new();
        let inbox = self.inboxes.entry((end, concern)).or_default();
        if inbox.push(bytes, &mut messages).is_err() {
            return Vec::new();
        }
        let mut answers = Vec::new();
        for message in messages {
            match message {
                Message::Flow(FlowMessage::Announce(one)) => self.learn(&one.statement),
                Message::Flow(FlowMessage::Collection(all)) => {
                    all.statements.iter().for_each(|one| self.learn(one));
                }
                Message::Route(RouteMessage::Update(update)) => {
                    let newest = self.sequences.entry(update.origin).or_default();
                    if update.sequence.is_newer_than(*newest) {
                        *newest = update.sequence;
                    }
                }
                Message::Flow(FlowMessage::Request(request)) => {
                    answers.extend(self.false_accept(from, request.flow));
                }
                _ => {}
            }
        }
        answers.iter().map(speech).collect()
    }

    fn learn(&mut self, statement: &SignedAnnounce) {
        let announce = statement.content();
        if self.made_up.iter().all(|one| one.id() != announce.origin) {
            self.heard.insert(InstanceRef {
                origin: announce.origin,
                name: announce.name.clone(),
                instance: announce.instance,
            });
        }
    }

    /// One of its streams, first all of them, then again and again in newer versions.
    fn announce(&self) -> Message {
        let all = ORIGINS * STREAMS;
        let (stream, version) = (self.turn % all, self.turn / all + 1);
        let origin = &self.made_up[usize::try_from(stream % ORIGINS).unwrap_or(0)];
        let content = announce::Announce {
            origin: origin.id(),
            name: format!("flood/{}", stream / ORIGINS)
                .parse()
                .expect("it is made of letters and digits"),
            instance: InstanceId([1; 16]),
            group_base: u64::MAX / 2,
            version: u32::try_from(version).unwrap_or(u32::MAX),
            suite: Suite::Aes128Gcm,
            packet_size: PacketSize::DEFAULT,
            layers: vec![LayerOffer {
                layer: Layer(0),
                peak: Bitrate(1),
                tracks: Vec::new(),
            }],
            carry: None,
        };
        let statement = SignedAnnounce::sign(content, origin);
        Message::Flow(FlowMessage::Announce(Announce { statement }))
    }

    /// A way to an origin that it made up; and to each true one, which it takes back every other time.
    fn updates(&mut self) -> Vec<Message> {
        let made_up = NodeId(self.rng.bytes());
        let is_back = self.turn % 2 == 1;
        let distance = if is_back {
            Distance::from_tenth_millis(1)
        } else {
            Distance::INFINITE
        };
        let me = self.me.prefix();
        let update = |origin: NodeId, sequence, distance| {
            let hops = Hops::origin(origin.prefix()).through(me)?;
            Some(Message::Route(RouteMessage::Update(Update {
                origin,
                sequence,
                distance,
                hops,
            })))
        };
        let true_ones = self
            .heard
            .iter()
            .map(|of| of.origin)
            .collect::<BTreeSet<_>>();
        let true_ones = true_ones.into_iter().filter_map(|origin| {
            let sequence = self.sequences.get(&origin).copied().unwrap_or_default();
            update(origin, sequence, distance)
        });
        let near = Distance::from_tenth_millis(1);
        true_ones
            .chain(update(made_up, Sequence(1), near))
            .collect()
    }

    fn key_request(&mut self) -> Option<Message> {
        let consumer = NodeId(self.rng.bytes());
        let of = self.heard.first()?.clone();
        Some(Message::Flow(FlowMessage::KeyRequest(KeyRequest {
            of,
            consumer,
            hops_left: 32,
            unknown: Unknown::default(),
        })))
    }

    fn false_accept(&mut self, to: NodeId, flow: FlowId) -> Option<Message> {
        let does = self.is_active && self.acts.contains(&Act::FalseKey);
        does.then(|| self.false_key(to, flow))?
    }

    /// An accept of a flow with a carry key of its own making.
    pub fn false_key(&mut self, to: NodeId, flow: FlowId) -> Option<Message> {
        let mut rng = ChaCha8Rng::from_seed(self.rng.bytes());
        let (epoch, key): (u8, [u8; 16]) = (0, self.rng.bytes());
        let sealed = SealedSecret::seal(&to, &carry_context(flow, epoch), &key, &mut rng)?;
        let key = Some(CarryGrant { epoch, sealed });
        Some(Message::Flow(FlowMessage::Accept(Accept { flow, key })))
    }
}

/// A packet under another number, with a carry tag that is true.
fn renumbered(packet: &Bytes, number: u64, key: &CarryKey) -> Bytes {
    let mut forged = packet.to_vec();
    forged[NUMBER_AT..NUMBER_AT + 6].copy_from_slice(&number.to_be_bytes()[2..]);
    let sealed = forged.len() - CARRY_BYTES;
    let tag = carry::tag_of(key, &forged[..sealed]);
    forged[sealed..].copy_from_slice(&tag);
    forged.into()
}

fn speech(message: &Message) -> Speech {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    (message.concern().code(), bytes.into())
}
