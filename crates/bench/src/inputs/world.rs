//! A core in memory, and the neighbours around it as far as it can tell.
//!
//! Over two links, the trunks, comes everything: both neighbours there tell of all origins, accept what they are asked
//! for, and hand over keys. Of the other links some are children that want one flow each. Nobody is wrong or late. Not
//! what is measured (`inputs`). Invariant: between two inputs everything that the core said has been answered.

use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;
use std::time::{Duration, Instant as Wall};

use anyhow::{Context as _, ensure};
use levada_core::limits::{
    LINKS_MAX, ORIGINS_MAX, STREAMS_MAX, STREAMS_PER_ORIGIN_MAX, SUBSCRIPTIONS_MAX, WAY_STEADY,
};
use levada_core::{
    ConnectionLost, Control, FlowInput, Input, LinkInput, Message, Output, Paths, Settings,
    SubscriptionId,
};
use levada_wire::announce::{LayerOffer, TrackOffer};
use levada_wire::control::flow::{
    self as flow, Accept, CarryGrant, InstanceRef, KeyGrant, KeyRequest, Request, carry_context,
    content_context,
};
use levada_wire::control::link::{Hello, LinkMessage};
use levada_wire::control::route::{Hops, Sequence, Update};
use levada_wire::control::{FlowMessage, RouteMessage};
use levada_wire::datagram::link::{LinkDatagram, Ping, Pong};
use levada_wire::identity::SealedSecret;
use levada_wire::key::Suite;
use levada_wire::lane::{self, FlowCommand, FlowEvent, LinkCommand, LinkEvent};
use levada_wire::{
    Announce, Bitrate, Distance, FlowId, Identity, InstanceId, Instant, Layer, LinkIndex,
    Machine as _, NetworkId, NodeId, Number, PacketSize, RepairBudget, SignedAnnounce, TrackKind,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use super::{Given, Kind, Size};

/// One call of the core.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) took: Duration,
    pub(super) outputs: usize,
}

/// So long the parts of what one input began are followed, in the time of the node.
const PARTS: Duration = Duration::from_millis(500);

pub(super) struct World {
    core: Control,
    now: Instant,
    size: Size,
    rng: ChaCha20Rng,
    origins: Vec<Identity>,
    announces: Vec<Announce>,
    flows: BTreeMap<FlowId, usize>,
    sequences: Vec<Sequence>,
    /// The links over which everything comes, the nearer first, and who is there.
    trunks: [(LinkIndex, NodeId); 2],
    /// How far all origins are from them.
    distances: [Distance; 2],
    /// The links that want a flow.
    children: Vec<LinkIndex>,
    /// Those that want nothing.
    idle: Vec<LinkIndex>,
    next_link: u32,
    /// What is answered, the oldest first.
    pending: VecDeque<Input>,
    /// Flows that were asked for since this was emptied.
    asked: usize,
    pub(super) is_counted: bool,
}

const NEAR: Distance = Distance::from_tenth_millis(100);
/// Less than one hop farther, so that this way is feasible beside the near one.
const NEXT: Distance = Distance::from_tenth_millis(110);
const FAR: Distance = Distance::from_tenth_millis(1_000);

/// What is measured: one call of the core with an input, or without one because it is time.
fn plainly(core: &mut Control, now: Instant, input: Option<Input>) -> Vec<Output> {
    match input {
        Some(input) => core.handle_input(now, input),
        None => core.handle_timeout(now),
    }
    let outputs = std::iter::from_fn(|| core.poll_output()).collect();
    black_box(core.poll_timeout());
    outputs
}

/// The same, under a name that a profiler can be told.
#[inline(never)]
pub(super) fn under_profile(core: &mut Control, now: Instant, input: Option<Input>) -> Vec<Output> {
    plainly(core, now, input)
}

impl World {
    pub(super) fn new(size: Size) -> anyhow::Result<Self> {
        let Size {
            links,
            children,
            origins,
            streams,
            subscriptions,
        } = size;
        ensure!(
            (children + 3..=LINKS_MAX).contains(&links)
                && children > 0
                && (1..=ORIGINS_MAX).contains(&origins)
                && (origins..=STREAMS_MAX.min(origins * STREAMS_PER_ORIGIN_MAX)).contains(&streams)
                && (1..=SUBSCRIPTIONS_MAX.min(streams)).contains(&subscriptions),
            "a node has {} to {LINKS_MAX} links, up to {ORIGINS_MAX} origins, up to {STREAMS_MAX} streams, at most \
             {STREAMS_PER_ORIGIN_MAX} of an origin, and up to {SUBSCRIPTIONS_MAX} subscriptions",
            children + 3
        );
        let identity = |number: usize| {
            let mut secret = [9; 32];
            secret[..8].copy_from_slice(&number.to_le_bytes());
            Identity::from_secret(&secret)
        };
        let mut world = Self {
            core: Control::new(settings(identity(0))),
            now: Instant::from_nanos(1_000_000_000),
            size,
            rng: ChaCha20Rng::from_seed([3; 32]),
            origins: (1..=origins).map(identity).collect(),
            announces: Vec::new(),
            flows: BTreeMap::new(),
            sequences: vec![Sequence(1); origins],
            trunks: [1, 2].map(|at| (LinkIndex(at), identity(origins + at as usize).id())),
            distances: [NEAR, NEXT],
            children: Vec::new(),
            idle: Vec::new(),
            next_link: 3,
            pending: VecDeque::new(),
            asked: 0,
            is_counted: false,
        };
        world.fill()?;
        Ok(world)
    }

    /// Links, origins, streams, subscriptions and children, in this order.
    fn fill(&mut self) -> anyhow::Result<()> {
        for (link, peer) in self.trunks {
            self.join(link, peer);
        }
        for at in 0..self.size.subscriptions {
            let subscribe = FlowInput::Subscribe {
                id: SubscriptionId(at as u64),
                name: name(at),
                layer: Layer(0),
                budget: RepairBudget::DEFAULT,
                paths: Paths::One,
            };
            self.tell(subscribe.into());
        }
        for trunk in 0..2 {
            for origin in 0..self.origins.len() {
                let update = self.update(trunk, origin);
                self.tell(update);
            }
        }
        for at in 0..self.size.streams {
            let announce = self.announce(at);
            self.flows.insert(announce.flow(Layer(0)), at);
            self.announces.push(announce);
            let said = self.announced(at);
            self.tell(said);
        }
        let rows = self.core.flow_rows(None);
        let coming = rows.filter(|row| row.state == levada_core::view::FlowState::Active);
        let coming = coming.count();
        ensure!(
            coming == self.size.subscriptions,
            "{coming} of {} subscriptions are served",
            self.size.subscriptions
        );
        for child in 0..self.size.children {
            let link = self.add_link();
            self.children.push(link);
            let request = self.request(child);
            self.tell(request);
        }
        for _ in self.size.children + 2..self.size.links {
            let link = self.add_link();
            self.idle.push(link);
        }
        Ok(())
    }

    /// One more link, whose peer wants nothing.
    fn add_link(&mut self) -> LinkIndex {
        let link = LinkIndex(self.next_link);
        self.next_link += 1;
        let mut peer = [0xc; 32];
        peer[..4].copy_from_slice(&link.0.to_le_bytes());
        self.join(link, NodeId(peer));
        link
    }

    fn join(&mut self, link: LinkIndex, peer: NodeId) {
        let connected = LinkInput::Connected {
            link,
            peer,
            remote: ([127, 0, 0, 1], 7_800).into(),
            dial: None,
        };
        self.tell(connected.into());
        let hello = Hello {
            network: NetworkId::OPEN,
            boot: u64::from(link.0),
            index: link,
            name: String::new(),
            relay: true,
        };
        self.tell(heard(link, Message::Link(LinkMessage::Hello(hello))));
    }

    /// Gives an input of that kind, and follows what it begins.
    pub(super) fn give(&mut self, kind: Kind, round: usize) -> anyhow::Result<Given> {
        let origin = round % self.origins.len();
        let input = match kind {
            Kind::Ping => {
                let link = self.children[round % self.children.len()];
                let time = self.now.as_micros();
                arrived(link, LinkDatagram::Ping(Ping::short(time, 0)))
            }
            Kind::Sequence => {
                self.sequences[origin] = self.sequences[origin].next();
                self.update(0, origin)
            }
            Kind::Announce => {
                let at = round % self.announces.len();
                self.announces[at].version += 1;
                self.announced(at)
            }
            Kind::Request => self.request(round % self.children.len()),
            Kind::Route => return Ok(self.move_origin(origin)),
            Kind::LinkDown => {
                let link = self.idle.pop().context("there is an idle link")?;
                let given = self.one(gone(link));
                let link = self.add_link();
                self.idle.push(link);
                return Ok(given);
            }
            Kind::TrunkDown => return self.lose_trunk(),
            Kind::Second => return Ok(self.pass_second()),
        };
        let given = self.one(input);
        if kind == Kind::Sequence {
            let also = self.update(1, origin);
            self.tell(also);
        }
        Ok(given)
    }

    fn one(&mut self, input: Input) -> Given {
        let call = self.call(Some(input));
        self.answer();
        Given {
            calls: vec![call],
            asked_again: None,
        }
    }

    /// The near neighbour tells that an origin is far from it, and then that it is near again.
    fn move_origin(&mut self, origin: usize) -> Given {
        let near = std::mem::replace(&mut self.distances[0], FAR);
        let far = self.update(0, origin);
        self.distances[0] = near;
        let given = self.one(far);
        let back = self.update(0, origin);
        self.tell(back);
        // A way that vanished is used again after a while only.
        self.now += WAY_STEADY + Duration::from_secs(1);
        let counts = std::mem::take(&mut self.is_counted);
        self.call(None);
        self.answer();
        self.is_counted = counts;
        given
    }

    /// The near neighbour is gone, and later comes back as the one that is not so near.
    fn lose_trunk(&mut self) -> anyhow::Result<Given> {
        let (link, peer) = self.trunks[0];
        self.asked = 0;
        let (begin, mut busy) = (self.now, Duration::ZERO);
        let mut calls = vec![self.call(Some(gone(link)))];
        let mut asked_again = None;
        loop {
            busy += calls.last().map_or(Duration::ZERO, |call| call.took);
            self.answer();
            if asked_again.is_none() && self.asked >= self.size.subscriptions {
                asked_again = Some(self.now.since(begin) + busy);
            }
            let due = self.core.poll_timeout();
            let Some(due) = due.filter(|due| due.at <= begin + PARTS && asked_again.is_none())
            else {
                break;
            };
            self.now = self.now.max(due.at);
            calls.push(self.call(None));
        }
        asked_again.with_context(|| {
            format!("{} of {} flows moved", self.asked, self.size.subscriptions)
        })?;
        self.trunks.reverse();
        let link = LinkIndex(self.next_link);
        self.next_link += 1;
        self.trunks[1] = (link, peer);
        self.join(link, peer);
        for origin in 0..self.origins.len() {
            // Who is near now is told of with a newer sequence, so that both ways are feasible as they were.
            self.sequences[origin] = self.sequences[origin].next();
            for trunk in 0..2 {
                let update = self.update(trunk, origin);
                self.tell(update);
            }
        }
        Ok(Given { calls, asked_again })
    }

    /// Lets a second pass in which nothing changes. Peers ping when they are pinged, and a third of the children say
    /// their requests again.
    fn pass_second(&mut self) -> Given {
        let until = self.now + Duration::from_secs(1);
        for child in 0..self.children.len().div_ceil(3) {
            let request = self.request(child);
            self.pending.push_back(request);
        }
        let mut calls = Vec::new();
        loop {
            while let Some(input) = self.pending.pop_front() {
                calls.push(self.call(Some(input)));
            }
            let due = self.core.poll_timeout();
            let Some(due) = due.filter(|due| due.at <= until) else {
                break;
            };
            self.now = self.now.max(due.at);
            calls.push(self.call(None));
        }
        self.now = until;
        Given {
            calls,
            asked_again: None,
        }
    }

    fn tell(&mut self, input: Input) {
        let counts = std::mem::take(&mut self.is_counted);
        self.call(Some(input));
        self.answer();
        self.is_counted = counts;
    }

    /// Answers what the core said, until it has nothing more to say.
    fn answer(&mut self) {
        let counts = std::mem::take(&mut self.is_counted);
        while let Some(input) = self.pending.pop_front() {
            self.call(Some(input));
        }
        self.is_counted = counts;
    }

    fn call(&mut self, input: Option<Input>) -> Call {
        let begin = Wall::now();
        let outputs = if self.is_counted {
            under_profile(&mut self.core, self.now, input)
        } else {
            plainly(&mut self.core, self.now, input)
        };
        let took = begin.elapsed();
        let count = outputs.len();
        for output in outputs {
            self.hear(output);
        }
        Call {
            took,
            outputs: count,
        }
    }

    /// What the core said, and what is answered.
    fn hear(&mut self, output: Output) {
        match output {
            Output::Mark { link, concern } => {
                self.pending.push_back(Input::Written { link, concern })
            }
            Output::Send { link, message } => {
                if let Message::Flow(message) = message
                    && self.trunks.iter().any(|trunk| trunk.0 == link)
                {
                    self.hear_request(link, message);
                }
            }
            Output::Link(link, LinkCommand::Send(LinkDatagram::Ping(ping))) => {
                let pong = Pong {
                    time: ping.time,
                    sent: 0,
                    received: 0,
                    size: ping.size(),
                };
                self.pending
                    .push_back(arrived(link, LinkDatagram::Pong(pong)));
                if ping.size() == 0 {
                    self.pending
                        .push_back(arrived(link, LinkDatagram::Ping(ping)));
                }
            }
            Output::Flow(flow, FlowCommand::Reach(link)) => {
                let have = Number::new(1_000);
                let event = FlowEvent::Reached { link, have };
                self.pending
                    .push_back(Input::Lane(lane::Event::Flow(flow, event)));
            }
            Output::Flow(flow, FlowCommand::Compare(link)) => {
                let event = FlowEvent::CaughtUp(link);
                self.pending
                    .push_back(Input::Lane(lane::Event::Flow(flow, event)));
            }
            _ => {}
        }
    }

    fn hear_request(&mut self, link: LinkIndex, message: FlowMessage) {
        match message {
            FlowMessage::Request(request) => {
                self.asked += usize::from(request.have.is_some());
                let key = request.needs_key.then(|| self.carry(request.flow));
                let accept = Accept {
                    flow: request.flow,
                    key,
                };
                let accept = Message::Flow(FlowMessage::Accept(accept));
                self.pending.push_back(heard(link, accept));
                let event = FlowEvent::Delivering(link);
                let event = lane::Event::Flow(request.flow, event);
                self.pending.push_back(Input::Lane(event));
            }
            FlowMessage::KeyRequest(request) => {
                let grant = Message::Flow(FlowMessage::KeyGrant(self.grant(request)));
                self.pending.push_back(heard(link, grant));
            }
            _ => {}
        }
    }

    fn carry(&mut self, flow: FlowId) -> CarryGrant {
        let context = carry_context(flow, 0);
        let sealed = SealedSecret::seal(&self.core.id(), &context, &[5; 16], &mut self.rng);
        CarryGrant {
            epoch: 0,
            sealed: sealed.expect("the core's id is a sound key"),
        }
    }

    fn grant(&mut self, request: KeyRequest) -> KeyGrant {
        let KeyRequest { of, consumer, .. } = request;
        let context = content_context(&of, 0);
        let sealed = SealedSecret::seal(&consumer, &context, &[6; 32], &mut self.rng);
        let sealed = sealed.expect("the core's id is a sound key");
        let origin = self.origin_of(&of);
        KeyGrant::sign(of, consumer, 0, sealed, &self.origins[origin])
    }

    fn origin_of(&self, of: &InstanceRef) -> usize {
        let at = self.flows[&of.flow(Layer(0))];
        at % self.origins.len()
    }

    fn update(&self, trunk: usize, origin: usize) -> Input {
        let (link, peer) = self.trunks[trunk];
        let id = self.origins[origin].id();
        let hops = Hops::origin(id.prefix()).through(peer.prefix());
        let update = Update {
            origin: id,
            sequence: self.sequences[origin],
            distance: self.distances[trunk],
            hops: hops.expect("two hops are few"),
        };
        heard(link, Message::Route(RouteMessage::Update(update)))
    }

    fn announce(&self, at: usize) -> Announce {
        let mut instance = [0; 16];
        instance[..8].copy_from_slice(&at.to_le_bytes());
        Announce {
            origin: self.origins[at % self.origins.len()].id(),
            name: name(at),
            instance: InstanceId(instance),
            group_base: levada_wire::WallTime(1_700_000_000_000_000).as_group_base(),
            version: 1,
            suite: Suite::Aes128Gcm,
            packet_size: PacketSize::DEFAULT,
            layers: vec![LayerOffer {
                layer: Layer(0),
                peak: Bitrate(4_000_000),
                tracks: vec![TrackOffer {
                    kind: TrackKind::Video,
                    codec: "h264".into(),
                }],
            }],
            carry: None,
        }
    }

    fn announced(&self, at: usize) -> Input {
        let origin = &self.origins[at % self.origins.len()];
        let statement = SignedAnnounce::sign(self.announces[at].clone(), origin);
        let message = FlowMessage::Announce(flow::Announce { statement });
        heard(self.trunks[0].0, Message::Flow(message))
    }

    fn request(&self, child: usize) -> Input {
        let announce = &self.announces[child % self.size.subscriptions];
        let request = Request {
            flow: announce.flow(Layer(0)),
            needs_key: false,
            budget: RepairBudget::DEFAULT,
            have: None,
        };
        let message = Message::Flow(FlowMessage::Request(request));
        heard(self.children[child], message)
    }
}

fn settings(identity: Identity) -> Settings {
    Settings {
        identity,
        network: NetworkId::OPEN,
        name: "hub".into(),
        relay: true,
        accept: true,
        uplink: None,
        seed: [1; 32],
    }
}

fn name(at: usize) -> levada_wire::StreamName {
    format!("hall/cam-{at}").parse().expect("a sound name")
}

fn heard(link: LinkIndex, message: Message) -> Input {
    LinkInput::Message { link, message }.into()
}

fn gone(link: LinkIndex) -> Input {
    let reason = ConnectionLost::Failed("gone".into());
    LinkInput::Disconnected { link, reason }.into()
}

fn arrived(link: LinkIndex, message: LinkDatagram) -> Input {
    let event = LinkEvent::Datagram {
        message,
        received: 0,
    };
    Input::Lane(lane::Event::Link(link, event))
}
