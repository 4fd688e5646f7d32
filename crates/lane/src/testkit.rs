//! A few lanes joined by perfect wires, for the tests of this crate and of `levada-ports` (feature `testkit`).
//!
//! Not the simulator: no delay, no loss but what a test does to a datagram by hand. Called by tests only.
//! Invariant: after every call of a lane both its ledgers sum to zero.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    missing_docs,
    reason = "read by those who write tests, beside the code"
)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use levada_wire::datagram::link::{LinkDatagram, LinkSeal};
use levada_wire::key::{CarryKey, ContentSecret, LinkKey, Suite};
use levada_wire::packet::{CARRY_BYTES, Class, HEADER_BYTES};
use levada_wire::{
    Description, FlowId, Frame, Group, Header, InstanceId, Instant, LinkIndex, Machine, Number,
    OriginTime, PacketSize, RepairBudget, Track, TrackId, TrackKind, WallTime,
};

use crate::api::{
    Command, Datagrams, Delivery, Egress, EgressTerms, Event, FlowCommand, Input, LinkCommand,
    Originate, Output, Path, PublisherCommand, Train, Transmit,
};
use crate::lane::Lane;
use crate::settings::LaneSettings;

pub const FLOW: FlowId = FlowId(0x1122_3344_5566_7788);
const INSTANCE: InstanceId = InstanceId([3; 16]);
pub const WALL: WallTime = WallTime(1_700_000_000_000_000);

pub fn carry() -> CarryKey {
    CarryKey::from_bytes([4; 16])
}

fn secret() -> ContentSecret {
    ContentSecret::from_bytes([5; 32])
}

pub fn track(id: u8, timescale: u32) -> Track {
    Track {
        id: TrackId(id),
        kind: TrackKind::Video,
        codec: "h264".into(),
        timescale: NonZeroU32::new(timescale).unwrap(),
        config: vec![id; 20],
        language: None,
    }
}

/// Track 1 leads and counts in 90 kHz, track 2 counts in milliseconds.
pub fn description() -> Arc<Description> {
    Arc::new(Description {
        tracks: vec![track(1, 90_000), track(2, 1_000)],
    })
}

pub fn originate() -> Originate {
    Originate {
        instance: INSTANCE,
        suite: Suite::Aes128Gcm,
        epoch: 1,
        secret: secret(),
        carry: carry(),
        packet_size: PacketSize::MIN,
        description: description(),
        flush_interval: Duration::ZERO,
    }
}

pub fn consume() -> Command {
    Command::Flow(
        FLOW,
        FlowCommand::Consume {
            instance: INSTANCE,
            suite: Suite::Aes128Gcm,
            epoch: 1,
            secret: secret(),
        },
    )
}

pub fn opener() -> levada_wire::packet::seal::Opener {
    levada_wire::packet::seal::Opener::new(secret(), FLOW, INSTANCE, Suite::Aes128Gcm)
}

pub fn sealer() -> levada_wire::packet::seal::Sealer {
    levada_wire::packet::seal::Sealer::new(secret(), carry(), FLOW, INSTANCE, Suite::Aes128Gcm)
}

/// The header of a packet that is a burst and the start of a group by itself.
pub fn header(number: u64) -> Header {
    Header {
        last: true,
        discardable: false,
        class: Class::KEEP,
        key: 1,
        description: 0,
        flow: FLOW,
        number: Number::new(number).unwrap(),
        index: 0,
        group: Group(0),
        offset: 0,
        sent: OriginTime(0),
    }
}

/// A packet as an origin would make it, sensible or not.
pub fn seal(header: &Header, body: &[u8]) -> Bytes {
    let mut packet = Vec::new();
    sealer().seal(header, body, &mut packet);
    packet.into()
}

/// What somebody who may only carry the flow can make of a packet: it passes its tag and does not open.
pub fn falsify(packet: &Bytes) -> Bytes {
    let mut forged = packet.to_vec();
    let tag = forged.len() - CARRY_BYTES;
    forged[HEADER_BYTES] ^= 1;
    forged.truncate(tag);
    let tag = levada_wire::packet::carry::tag_of(&carry(), &forged);
    forged.extend_from_slice(&tag);
    forged.into()
}

/// A send over a link that is no packet of a flow.
pub fn sent_over(
    link: LinkIndex,
    to: SocketAddr,
    bytes: Vec<u8>,
    segment_bytes: usize,
) -> Transmit {
    Transmit {
        egress: Egress::Link(link),
        packets: None,
        datagrams: Datagrams {
            source: None,
            to,
            bytes: bytes.into(),
            segment_bytes,
        },
    }
}

/// The datagrams of a send, one by one.
pub fn datagrams(sent: &Datagrams) -> Vec<Bytes> {
    let (bytes, step) = (&sent.bytes, sent.segment_bytes);
    let starts = (0..bytes.len()).step_by(step);
    starts
        .map(|at| bytes.slice(at..bytes.len().min(at + step)))
        .collect()
}

pub fn set_carry_key() -> Command {
    Command::Flow(
        FLOW,
        FlowCommand::SetCarryKey {
            epoch: 1,
            key: carry(),
        },
    )
}

/// A frame of a track whose bytes tell it from others.
pub fn frame(track: u8, sync: bool, dts: i64, bytes: usize) -> Frame {
    let mark = u8::try_from(dts.rem_euclid(251)).unwrap();
    Frame {
        track: TrackId(track),
        sync,
        discardable: false,
        dts,
        pts: dts + 7,
        data: Bytes::from(vec![mark; bytes]),
    }
}

pub fn push(frame: Frame) -> Command {
    Command::Publisher(FLOW, PublisherCommand::Push { frame, wall: WALL })
}

pub fn address(lane: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 1_000 + u16::try_from(lane).unwrap()))
}

/// The number that each lane has for its link to `lane`.
pub fn link_to(lane: usize) -> LinkIndex {
    LinkIndex(u32::try_from(lane).unwrap() + 100)
}

/// What seals link datagrams from one lane to another.
fn link_key(from: usize, to: usize) -> LinkKey {
    LinkKey::from_bytes([u8::try_from((from * 16 + to) % 251).unwrap(); 32])
}

/// What a link datagram from one lane to another says.
pub fn open(from: usize, to: usize, datagram: &[u8]) -> LinkDatagram {
    LinkSeal::new(&link_key(from, to)).open(datagram).unwrap()
}

pub fn add_link(from: usize, to: usize) -> Command {
    Command::Link(
        link_to(to),
        LinkCommand::Add {
            remote_index: link_to(from),
            remote: address(to),
            source: None,
            path: Path::Wire,
            send: link_key(from, to),
            receive: link_key(to, from),
        },
    )
}

#[derive(Debug)]
pub struct Net {
    pub lanes: Vec<Lane>,
    pub events: Vec<Vec<Event>>,
    pub foreign: Vec<Train>,
    pub now: Instant,
    /// What is on the wires: the sending lane, and what it sent.
    pub wires: VecDeque<(usize, Datagrams)>,
    /// The wires of this lane are cut, both ways.
    pub cut: Option<usize>,
    /// Lanes that hear what is sent to any multicast channel.
    pub hearers: Vec<usize>,
    /// On which a child is sent the flow: with the budget of all lanes.
    terms: EgressTerms,
}

impl Net {
    /// That many lanes, each linked to all others.
    pub fn new(lanes: usize) -> Self {
        Self::with_settings(lanes, &LaneSettings::default())
    }

    pub fn with_settings(lanes: usize, settings: &LaneSettings) -> Self {
        let lane = |at: usize| {
            let seed = at as u64;
            let settings = LaneSettings {
                seed,
                ..settings.clone()
            };
            Lane::new(0, settings)
        };
        let mut net = Self {
            lanes: (0..lanes).map(lane).collect(),
            events: vec![Vec::new(); lanes],
            foreign: Vec::new(),
            now: Instant::from_nanos(1_000_000_000),
            wires: VecDeque::new(),
            cut: None,
            hearers: Vec::new(),
            terms: EgressTerms {
                budget: RepairBudget::new(settings.repair_budget),
                ..EgressTerms::UNLIMITED
            },
        };
        for from in 0..lanes {
            for to in (0..lanes).filter(|&to| to != from) {
                net.command(from, add_link(from, to));
            }
        }
        net
    }

    /// Makes lane 0 the origin and each later lane the child of the one before it.
    pub fn chain(lanes: usize) -> Self {
        let mut net = Self::new(lanes);
        net.command(
            0,
            Command::Flow(FLOW, FlowCommand::Originate(Box::new(originate()))),
        );
        for child in 1..lanes {
            net.join(child - 1, child);
        }
        net
    }

    /// Makes `child` receive the flow from `parent`.
    pub fn join(&mut self, parent: usize, child: usize) {
        let (flow, upstream) = (FLOW, link_to(parent));
        self.command(child, Command::Flow(flow, FlowCommand::Open));
        self.command(child, set_carry_key());
        self.command(
            child,
            Command::Flow(flow, FlowCommand::AddUpstream(upstream)),
        );
        let link = link_to(child);
        self.command(
            parent,
            Command::Flow(flow, FlowCommand::AddEgress(link, self.terms)),
        );
    }

    pub fn command(&mut self, lane: usize, command: Command) {
        self.input(lane, Input::Command(command));
    }

    pub fn push(&mut self, frame: Frame) {
        self.command(0, push(frame));
    }

    pub fn input(&mut self, lane: usize, input: Input) {
        let now = self.now;
        self.lanes[lane].handle_input(now, input);
        self.collect(lane);
    }

    /// Lets time pass, with all timers of all lanes at their moment.
    pub fn sleep(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            self.deliver();
            let wakeups = self.lanes.iter().enumerate().filter_map(|(lane, machine)| {
                let wakeup = machine.poll_timeout()?;
                (wakeup.at <= end).then_some((wakeup.at, lane))
            });
            let Some((at, lane)) = wakeups.min() else {
                break;
            };
            self.now = at;
            self.timeout(lane);
        }
        self.now = end;
    }

    /// The timers of one lane have come to their moment.
    pub fn timeout(&mut self, lane: usize) {
        self.lanes[lane].handle_timeout(self.now);
        self.collect(lane);
    }

    /// Delivers what is on the wires, and what that causes.
    pub fn deliver(&mut self) {
        while let Some((from, transmit)) = self.wires.pop_front() {
            let touches = |lane| from == lane || transmit.to == address(lane);
            if !self.cut.is_some_and(touches) {
                self.arrive(from, &transmit);
            }
        }
    }

    /// Delivers one send.
    pub fn arrive(&mut self, from: usize, transmit: &Datagrams) {
        if transmit.to.ip().is_multicast() {
            return self.arrive_by_channel(from, transmit);
        }
        // `from` may be a stranger: a number that no lane has.
        let to = (0..self.lanes.len()).find(|&lane| address(lane) == transmit.to);
        let train = Train {
            to: None,
            from: address(from),
            bytes: transmit.bytes.clone(),
            segment_bytes: transmit.segment_bytes,
        };
        self.input(to.unwrap(), Input::Train(train));
    }

    /// Delivers one send to a channel.
    fn arrive_by_channel(&mut self, from: usize, transmit: &Datagrams) {
        for lane in self.hearers.clone() {
            let train = Train {
                to: None,
                from: address(from),
                bytes: transmit.bytes.clone(),
                segment_bytes: transmit.segment_bytes,
            };
            self.input(lane, Input::Heard(train));
        }
    }

    /// Delivers one datagram by itself.
    pub fn arrive_alone(&mut self, from: usize, to: usize, datagram: Bytes) {
        let transmit = Datagrams {
            source: None,
            to: address(to),
            segment_bytes: datagram.len(),
            bytes: datagram,
        };
        self.arrive(from, &transmit);
    }

    /// Takes all datagrams off the wires, one by one.
    pub fn intercept(&mut self) -> Vec<Bytes> {
        let sends: Vec<_> = self.wires.drain(..).collect();
        sends.iter().flat_map(|(_, run)| datagrams(run)).collect()
    }

    fn collect(&mut self, lane: usize) {
        while let Some(output) = self.lanes[lane].poll_output() {
            match output {
                Output::Transmit(transmit) => self.wires.push_back((lane, transmit.datagrams)),
                Output::Foreign(train) => self.foreign.push(train),
                Output::Join(_) => self.hearers.push(lane),
                Output::WakeOthers => {}
                Output::Leave(_) => self.hearers.retain(|&hearer| hearer != lane),
                Output::Event(event) => self.events[lane].push(event),
            }
        }
        let difference = self.lanes[lane].ledger().check();
        assert!(difference.is_zero(), "lane {lane}: {difference:?}");
    }

    /// Takes what the subscribers of a lane got since the last time.
    pub fn deliveries(&mut self, lane: usize) -> Vec<Delivery> {
        let events = std::mem::take(&mut self.events[lane]);
        let deliveries = events.into_iter().filter_map(|event| match event {
            Event::Delivery { delivery, .. } => Some(delivery),
            _ => None,
        });
        deliveries.collect()
    }

    /// Takes the frames that the subscribers of a lane got since the last time.
    pub fn frames(&mut self, lane: usize) -> Vec<Frame> {
        only_frames(self.deliveries(lane))
    }
}

pub fn only_frames(deliveries: Vec<Delivery>) -> Vec<Frame> {
    let frames = deliveries
        .into_iter()
        .filter_map(|delivery| match delivery {
            Delivery::Frame { frame, .. } => Some(frame),
            _ => None,
        });
    frames.collect()
}
