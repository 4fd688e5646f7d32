//! What forwarding may cost, counted: sends by what leaves, allocations by the allocator (`levada-heap`).
//!
//! ```text
//! two origins, video and audio ─▶ trains: A0 B0 quic A1 B1 quic A2 ..., and the short ends ─▶ a lane ─▶ N egresses
//! ```
//!
//! Once with the machine alone, where each train's sends are seen one by one, and once in a worker over real sockets,
//! on IPv4 and IPv6, where receivers count what system calls brought. Each has a run beside it that must count more: a
//! counter that always says zero would please everybody. Called by nobody. Invariant: what is counted is the steady
//! state: flows that run, lists that have their size.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use levada_heap::allocations;
use levada_wire::key::LinkKey;
use levada_wire::packet::Kind;
use levada_wire::{FlowId, Frame, Header, Instant, LinkIndex, Machine, Number};

use crate::clock::Clock;
use crate::sys::{ProbeSettings, ProbeSocket, Socket, SocketSettings};
use crate::testkit::{self, WALL, address, frame};
use crate::worker::{self, WorkerCounters, WorkerHandle};
use levada_lane::api::{
    Command, Datagrams, EgressTerms, FlowCommand, Input, LinkCommand, Originate, Output, Path,
    PublisherCommand, Train,
};
use levada_lane::{Lane, LaneSettings};

const FLOWS: [FlowId; 2] = [FlowId(0x0101_0101_0000_0001), FlowId(0x0202_0202_0000_0002)];
const EGRESSES: usize = 20;
const UPSTREAM: LinkIndex = LinkIndex(1_000);
/// Where the pure lane's packets come from; its egresses are at `address(0..EGRESSES)`.
const ORIGIN: usize = 500;
/// Between two pictures: 30 a second.
const PICTURE: Duration = Duration::from_micros(33_333);
/// Four groups until everything has its size, and four that are counted.
const WARM_UP: usize = 120;
const COUNTED: usize = 120;

/// What a receive may allocate: a buffer and what counts its owners, and the same for each train that must be gathered,
/// of which there are fewer than half.
const ALLOCATED_PER_RECEIVE: u64 = 3;
/// What may be allocated beside, by time and not by packets: counters, four times a second.
const ALLOCATED_BY_TIME: u64 = 200;

/// What the pictures of one moment became: trains as the kernel would join them.
type Moment = Vec<Datagrams>;

/// An origin of one flow: a picture each call, and audio that sometimes rides with it and sometimes is alone.
struct Origin {
    lane: Lane,
    flow: FlowId,
}

impl Origin {
    fn new(flow: FlowId) -> Self {
        let mut lane = Lane::new(0, LaneSettings::default());
        let originate = Originate {
            flush_interval: Duration::from_millis(10),
            ..testkit::originate()
        };
        let (link, terms) = (testkit::link_to(0), EgressTerms::UNLIMITED);
        let commands = [
            testkit::add_link(1, 0),
            Command::Flow(flow, FlowCommand::Originate(Box::new(originate))),
            Command::Flow(flow, FlowCommand::AddEgress(link, terms)),
        ];
        for command in commands {
            lane.handle_input(Instant::ZERO, Input::Command(command));
        }
        Self { lane, flow }
    }

    /// The bursts of one picture and the audio around it.
    fn bursts(&mut self, picture: usize) -> Vec<Datagrams> {
        let at = Instant::from_nanos(1_000_000_000) + PICTURE * u32::try_from(picture).unwrap();
        let sync = picture.is_multiple_of(30);
        let dts = i64::try_from(picture).unwrap();
        // A sync frame is 24 kB and fills a send; the others are 2 to 5 kB.
        let bytes = if sync {
            24_000
        } else {
            2_000 + picture % 7 * 500
        };
        self.push(at, frame(1, sync, dts * 3_000, bytes));
        if picture.is_multiple_of(2) {
            self.push(at + PICTURE / 10, frame(2, true, dts * 33, 170));
        }
        let mut bursts = self.flush(at + PICTURE / 2);
        if picture.is_multiple_of(3) {
            self.push(at + PICTURE / 2, frame(2, true, dts * 33 + 16, 170));
            bursts.extend(self.flush(at + PICTURE * 9 / 10));
        }
        bursts
    }

    fn push(&mut self, now: Instant, frame: Frame) {
        let flow = self.flow;
        let wall = WALL;
        let push = Command::Publisher(flow, PublisherCommand::Push { frame, wall });
        self.lane.handle_input(now, Input::Command(push));
    }

    fn flush(&mut self, now: Instant) -> Vec<Datagrams> {
        self.lane.handle_timeout(now);
        let mut bursts = Vec::new();
        while let Some(output) = self.lane.poll_output() {
            // What it says to its neighbour is of no concern here.
            if let Output::Transmit(run) = output
                && testkit::datagrams(&run.datagrams)
                    .first()
                    .is_some_and(|first| burst_of(first).is_some())
            {
                bursts.push(run.datagrams);
            }
        }
        bursts
    }
}

/// The packets of both flows and QUIC, a datagram of each in turn, as long as all are of one size; what is shorter ends
/// a train.
fn mix(flows: &[Vec<Bytes>]) -> Moment {
    let size = flows.iter().flatten().map(Bytes::len).max().unwrap();
    let quic = Bytes::from(vec![0x43; size]);
    let longest = flows.iter().map(Vec::len).max().unwrap();
    let mut trains = vec![Vec::new()];
    for at in 0..longest {
        let turn = flows.iter().filter_map(|packets| packets.get(at));
        for datagram in turn.chain([&quic]) {
            let train = trains.last_mut().unwrap();
            train.extend_from_slice(datagram);
            // The kernel joins up to 64, and nothing after a short one.
            if datagram.len() < size || train.len() / size == 50 {
                trains.push(Vec::new());
            }
        }
    }
    let filled = trains.into_iter().filter(|train| !train.is_empty());
    let send = |bytes: Vec<u8>| Datagrams {
        source: None,
        to: address(0),
        bytes: bytes.into(),
        segment_bytes: size,
    };
    filled.map(send).collect()
}

/// Each burst in trains of its own.
fn apart(flows: &[Vec<Bytes>]) -> Moment {
    let mut trains: Moment = Vec::new();
    for datagram in flows.iter().flatten() {
        match trains.last_mut() {
            Some(train) if !ends_burst(train) && train.segment_bytes >= datagram.len() => {
                train.bytes = [&train.bytes[..], datagram].concat().into();
            }
            _ => trains.push(Datagrams {
                source: None,
                to: address(0),
                bytes: datagram.clone(),
                segment_bytes: datagram.len(),
            }),
        }
    }
    trains
}

fn ends_burst(train: &Datagrams) -> bool {
    let latest = testkit::datagrams(train).pop();
    latest.is_some_and(|packet| Header::peek(&packet).unwrap().last)
}

/// What both origins send, moment by moment, from the first packet on.
fn traffic(lay: impl Fn(&[Vec<Bytes>]) -> Moment) -> Vec<Moment> {
    let mut origins = FLOWS.map(Origin::new);
    let moment = |picture| {
        let packets = |bursts: Vec<Datagrams>| bursts.iter().flat_map(testkit::datagrams).collect();
        let each = origins.each_mut();
        lay(&each.map(|origin| packets(origin.bursts(picture))))
    };
    (0..WARM_UP + COUNTED).map(moment).collect()
}

/// Makes a lane send both flows, which come from `origin`, to `egresses`.
fn set_up(origin: SocketAddr, egresses: &[SocketAddr]) -> Vec<Command> {
    let link_of = |at: usize| LinkIndex(u32::try_from(at).unwrap());
    let add_link = |link, remote| {
        Command::Link(
            link,
            LinkCommand::Add {
                remote_index: link,
                remote,
                source: None,
                path: Path::Wire,
                send: LinkKey::from_bytes([6; 32]),
                receive: LinkKey::from_bytes([7; 32]),
            },
        )
    };
    let mut commands = vec![add_link(UPSTREAM, origin)];
    let links = egresses.iter().enumerate();
    commands.extend(links.map(|(at, &remote)| add_link(link_of(at), remote)));
    for flow in FLOWS {
        commands.push(Command::Flow(flow, FlowCommand::Open));
        commands.push(Command::Flow(
            flow,
            FlowCommand::SetCarryKey {
                epoch: 1,
                key: testkit::carry(),
            },
        ));
        let link = UPSTREAM;
        commands.push(Command::Flow(flow, FlowCommand::AddUpstream(link)));
        let egresses = (0..egresses.len()).map(link_of);
        let terms = EgressTerms::UNLIMITED;
        commands
            .extend(egresses.map(|link| Command::Flow(flow, FlowCommand::AddEgress(link, terms))));
    }
    commands
}

/// So little memory that a cache has its full size soon, however fast time passes.
fn settings() -> LaneSettings {
    LaneSettings {
        flow_cache_bytes_max: 128 << 10,
        ..LaneSettings::default()
    }
}

/// A lane alone, under a clock of the test.
struct Alone {
    lane: Lane,
    now: Instant,
    /// What one call left; kept for its memory.
    sends: Vec<Datagrams>,
}

impl Alone {
    fn new() -> Self {
        let egresses: Vec<SocketAddr> = (0..EGRESSES).map(address).collect();
        let mut lane = Lane::new(0, settings());
        for command in set_up(address(ORIGIN), &egresses) {
            lane.handle_input(Instant::ZERO, Input::Command(command));
        }
        Self {
            lane,
            now: Instant::from_nanos(1_000_000_000),
            sends: Vec::with_capacity(EGRESSES * 64),
        }
    }

    /// Takes the trains of a moment; says what the lane allocated, and shows what it sent for each train.
    fn take(&mut self, moment: &Moment, mut see: impl FnMut(&Datagrams, &[Datagrams])) -> u64 {
        let mut allocated = 0;
        for train in moment {
            let bytes = train.bytes.clone(); // shared from here on, as a slice of it would make it
            let before = allocations();
            let input = Input::Train(Train {
                to: None,
                from: address(ORIGIN),
                bytes,
                segment_bytes: train.segment_bytes,
            });
            self.lane.handle_input(self.now, input);
            while let Some(output) = self.lane.poll_output() {
                if let Output::Transmit(send) = output {
                    self.sends.push(send.datagrams);
                }
            }
            allocated += allocations() - before;
            see(train, &self.sends);
            self.sends.clear();
        }
        self.now += PICTURE;
        let before = allocations();
        self.lane.handle_timeout(self.now);
        while let Some(output) = self.lane.poll_output() {
            drop(output);
        }
        allocated + allocations() - before
    }
}

/// The flow and the first number of the burst of each media packet.
fn burst_of(datagram: &Bytes) -> Option<(FlowId, Number)> {
    let header = Header::peek(datagram).filter(|header| FLOWS.contains(&header.flow))?;
    Some((header.flow, header.burst()?))
}

fn packets(send: &Datagrams) -> usize {
    testkit::datagrams(send).len()
}

/// How many sends are more than one for each egress and burst of a train.
fn sends_too_many(train: &Datagrams, sends: &[Datagrams]) -> usize {
    let bursts: BTreeSet<_> = testkit::datagrams(train)
        .iter()
        .filter_map(burst_of)
        .collect();
    let is_media = |send: &&Datagrams| burst_of(&testkit::datagrams(send)[0]).is_some();
    let media = sends.iter().filter(is_media);
    let count = media.count();
    assert!(count >= bursts.len() * EGRESSES, "every burst goes to all");
    count - bursts.len() * EGRESSES
}

/// What a lane alone did with the counted part of some traffic.
#[derive(Debug, Default)]
struct Did {
    trains: u64,
    packets_sent: usize,
    sends_too_many: usize,
    allocated: u64,
}

fn forward(traffic: &[Moment], also: impl IntoIterator<Item = Command>) -> Did {
    let mut alone = Alone::new();
    for command in also {
        alone
            .lane
            .handle_input(Instant::ZERO, Input::Command(command));
    }
    for moment in &traffic[..WARM_UP] {
        alone.take(moment, |_, _| {});
    }
    let mut did = Did::default();
    for moment in &traffic[WARM_UP..] {
        did.allocated += alone.take(moment, |train, sends| {
            did.trains += 1;
            did.packets_sent += sends.iter().map(packets).sum::<usize>();
            did.sends_too_many += sends_too_many(train, sends);
        });
    }
    assert!(alone.lane.ledger().check().is_zero());
    assert!(did.packets_sent > COUNTED * EGRESSES * 15, "{did:?}");
    did
}

#[test]
fn forwarding_the_bursts_of_two_flows_allocates_nothing_at_all() {
    let did = forward(&traffic(apart), []);

    assert_eq!((did.sends_too_many, did.allocated), (0, 0), "{did:?}");
}

#[test]
fn each_burst_of_a_mixed_train_leaves_once_for_each_egress_at_the_cost_of_one_buffer_a_train() {
    let did = forward(&traffic(mix), []);

    assert_eq!(did.sends_too_many, 0, "{did:?}");
    // The buffer and what counts its owners, for the trains in which packets must be gathered.
    assert!(did.allocated <= 2 * did.trains, "{did:?}");
}

#[test]
fn packets_that_come_in_another_order_are_counted_as_more_sends() {
    let swap = |flows: &[Vec<Bytes>]| {
        let mut flows = flows.to_vec();
        flows.iter_mut().for_each(|packets| packets.swap(0, 1));
        apart(&flows)
    };

    let did = forward(&traffic(swap), []);

    assert!(did.sends_too_many > COUNTED * EGRESSES, "{did:?}");
}

#[test]
fn a_subscriber_beside_the_egresses_is_counted_as_allocations() {
    let consume = |flow| {
        let mut command = testkit::consume();
        if let Command::Flow(of, FlowCommand::Consume { .. }) = &mut command {
            *of = flow;
        }
        command
    };

    let did = forward(&traffic(apart), FLOWS.map(consume));

    assert!(did.allocated > did.trains, "{did:?}");
}

mod sockets;
