//! Tests of several lanes over real sockets on loopback, with the kernel's steering and without.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};

use bytes::Bytes;
use levada_wire::datagram::link::{LinkDatagram, Ping};
use levada_wire::key::LinkKey;
use levada_wire::lane;
use levada_wire::packet::Kind;
use levada_wire::{FlowId, Frame, LinkIndex};

use super::*;
use crate::sys::{ProbeSettings, ProbeSocket, SocketSettings};
use crate::testkit::{self, Computer, frame, on_each_computer};
use crate::worker::{COMMANDS_MAX, HANDED_BYTES_MAX, LINK_COMMANDS_MAX, SHARED_FROM};
use levada_lane::api::{
    Datagrams, Delivery, EgressTerms, FlowCommand, LinkCommand, LinkEvent, Originate, Path,
    PublisherCommand,
};
use levada_lane::ledger::DropReason;

mod multicast;

const LINK: LinkIndex = LinkIndex(1);
const ADDRESSES: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

on_each_computer! {
    each_flow_is_one_lanes_and_arrives_whole,
    a_train_that_mixes_flows_and_quic_is_shared_out_by_datagram,
    a_ping_says_what_all_lanes_have_sent_and_is_told_what_all_have_received,
    a_long_egress_list_is_shared_by_all_lanes_and_each_egress_gets_all_in_order,
    a_receiver_that_stands_still_or_cannot_be_changes_nothing_for_others,
    lanes_start_again_on_the_port_that_they_left,
}

/// A flow of that lane, of two or more.
const fn flow_of(lane: u64) -> FlowId {
    FlowId(lane << 32 | 0x5555)
}

struct Node {
    lanes: Lanes,
    events: Receiver<Event>,
    foreign: Receiver<Train>,
}

impl Node {
    fn start(address: &str, lanes: usize, steering: bool) -> Self {
        let (on_event, events) = channel();
        Self::start_with(
            address,
            lanes,
            steering,
            events,
            Arc::new(move |event| on_event.send(event).unwrap_or(())),
        )
    }

    fn start_with(
        address: &str,
        lanes: usize,
        steering: bool,
        events: Receiver<Event>,
        on_event: Arc<dyn Fn(Event) + Send + Sync>,
    ) -> Self {
        let computer = Computer::here();
        let wanted = computer.sockets();
        let settings = SocketSettings {
            steering: steering && wanted.steering,
            ..wanted
        };
        let sockets = SocketSet::bind(address.parse().unwrap(), &settings, lanes).unwrap();
        sockets.each().for_each(|socket| computer.befall(socket));
        let (on_foreign, foreign): (Sender<Train>, _) = channel();
        let lanes = spawn(Config {
            sockets,
            lane: LaneSettings::default(),
            clock: Clock::start(),
            on_event,
            on_foreign: Arc::new(move |train| on_foreign.send(train).unwrap_or(())),
        });
        Self {
            lanes: lanes.unwrap(),
            events,
            foreign,
        }
    }

    fn command(&self, command: Command) {
        self.lanes.send(command).unwrap();
    }

    fn add_link(&self, link: LinkIndex, remote: SocketAddr) {
        let key = LinkKey::from_bytes([9; 32]);
        self.command(Command::Link(
            link,
            LinkCommand::Add {
                remote_index: LINK,
                remote,
                source: None,
                path: Path::Wire,
                send: key.clone(),
                receive: key,
            },
        ));
    }

    fn consume(&self, flow: FlowId) {
        self.command(Command::Flow(flow, FlowCommand::Open));
        self.command(Command::Flow(
            flow,
            FlowCommand::SetCarryKey {
                epoch: 1,
                key: testkit::carry(),
            },
        ));
        self.command(Command::Flow(flow, FlowCommand::AddUpstream(LINK)));
        self.command(consume(flow));
        // Answered once its commands are done: nothing comes before the consumer is ready.
        let _ = self.lanes.fresh_counters();
    }

    fn originate(&self, flow: FlowId) {
        self.command(Command::Flow(
            flow,
            FlowCommand::Originate(Box::new(Originate {
                ..testkit::originate()
            })),
        ));
    }

    fn push(&self, flow: FlowId, frame: Frame) {
        let wall = testkit::WALL;
        self.command(Command::Publisher(
            flow,
            PublisherCommand::Push { frame, wall },
        ));
    }

    /// The counters once `are_there` says so. Each look waits for a turn of every lane.
    fn counters_when(&self, are_there: impl Fn(&WorkerCounters) -> bool) -> WorkerCounters {
        loop {
            let counters = self.lanes.fresh_counters();
            if are_there(&counters) {
                return counters;
            }
        }
    }
}

fn consume(of: FlowId) -> Command {
    match testkit::consume() {
        Command::Flow(
            _,
            FlowCommand::Consume {
                instance,
                suite,
                epoch,
                secret,
                ..
            },
        ) => Command::Flow(
            of,
            FlowCommand::Consume {
                instance,
                suite,
                epoch,
                secret,
            },
        ),
        other => other,
    }
}

/// Two nodes with a link between them.
fn pair(address: &str, lanes: usize, steering: bool) -> (Node, Node) {
    let origin = Node::start(address, lanes, steering);
    let consumer = Node::start(address, lanes, steering);
    origin.add_link(LINK, consumer.lanes.local_addr());
    consumer.add_link(LINK, origin.lanes.local_addr());
    (origin, consumer)
}

/// What lanes said to children of flows that fell quiet.
fn heads(counters: &WorkerCounters) -> u64 {
    counters.lane.ledger.repair.heads_sent
}

fn some_frames() -> Vec<Frame> {
    let frame = |i: i64| {
        let is_sync = i % 25 == 0;
        frame(1, is_sync, i * 3_600, 300 + 9_000 * usize::from(is_sync))
    };
    (0..50).map(frame).collect()
}

fn each_flow_is_one_lanes_and_arrives_whole() {
    for (address, steering) in ADDRESSES.into_iter().zip([true, false]) {
        for lanes in [1, 2, 3] {
            let (origin, consumer) = pair(address, lanes, steering);
            let flows: Vec<FlowId> = (0..4).map(flow_of).collect();
            for &flow in &flows {
                consumer.consume(flow);
                origin.originate(flow);
                origin.command(Command::Flow(
                    flow,
                    FlowCommand::AddEgress(LINK, EgressTerms::UNLIMITED),
                ));
            }

            for frame in some_frames() {
                flows
                    .iter()
                    .for_each(|&flow| origin.push(flow, frame.clone()));
            }
            for &flow in &flows {
                origin.command(Command::Publisher(flow, PublisherCommand::Finish));
            }

            let mut frames = vec![Vec::new(); flows.len()];
            let mut ended = 0;
            while ended < flows.len() {
                if let Event::Delivery { flow, delivery } = consumer.events.recv().unwrap() {
                    match delivery {
                        Delivery::Frame { frame, .. } => {
                            frames[usize::try_from(flow.steer()).unwrap()].push(frame);
                        }
                        Delivery::Gap(gap) => panic!("{gap:?}"),
                        Delivery::End => ended += 1,
                        Delivery::Description(_) => {}
                    }
                }
            }
            assert!(frames.iter().all(|frames| *frames == some_frames()));
            for (at, counters) in consumer.lanes.counters_by_lane().iter().enumerate() {
                let steer = |flow: u64| usize::try_from(FlowId(flow).steer()).unwrap();
                let rows = &counters.lane.flows;
                assert!(rows.iter().all(|row| steer(row.flow) % lanes == at));
            }
            let (sent, received) = (origin.lanes.stop(), consumer.lanes.stop());
            assert_eq!(received.lane.flows.len(), 4);
            assert_eq!(
                sent.lane.links[0].datagrams_out,
                received.lane.links[0].datagrams_in
            );
            assert!(sent.lane.ledger.check().is_zero());
            assert!(received.lane.ledger.check().is_zero());
        }
    }
}

/// A train with a datagram of each lane in turns, and QUIC between: all of one size.
fn mixed_train(to: SocketAddr, lanes: usize) -> Datagrams {
    let mut bytes = Vec::new();
    for at in 0..40_u64 {
        let mut datagram = [0x43; 500];
        if at % 4 != 3 {
            datagram[0] = 0x04;
            datagram[4..12].copy_from_slice(&flow_of(at % lanes as u64).0.to_be_bytes());
        }
        bytes.extend_from_slice(&datagram);
    }
    Datagrams {
        source: None,
        to,
        bytes: bytes.into(),
        segment_bytes: 500,
    }
}

fn a_train_that_mixes_flows_and_quic_is_shared_out_by_datagram() {
    for address in ADDRESSES {
        for (lanes, steering) in [(2, true), (2, false), (3, true), (3, false)] {
            let node = Node::start(address, lanes, steering);
            let stranger = Node::start(address, 1, true);
            let train = mixed_train(node.lanes.local_addr(), lanes);

            for _ in 0..10 {
                stranger.lanes.socket().try_send(&train).unwrap();
            }

            let all = node.counters_when(|counters| counters.lane.ledger.arrived == 400);
            assert_eq!(all.lane.ledger.foreign, 100);
            let quic: usize = node.foreign.try_iter().map(|train| train.bytes.len()).sum();
            assert_eq!(quic, 100 * 500);
            assert_eq!(all.lane.ledger.dropped(DropReason::UnknownFlow), 300);
            // Of a train the kernel looks at the first only; what comes alone it brings where it belongs.
            let comes_alone = steering && !Computer::here().has_gso() && !Computer::is_bare();
            assert_eq!(
                all.passed_on == 0,
                comes_alone,
                "{address} {lanes} {steering}"
            );
            for (lane, counters) in node.lanes.counters_by_lane().iter().enumerate() {
                let of_lane = (0..40)
                    .filter(|at| at % 4 != 3 && at % lanes == lane)
                    .count();
                let dropped = counters.lane.ledger.dropped(DropReason::UnknownFlow);
                assert_eq!(dropped, 10 * of_lane as u64, "{address} {steering} {lane}");
            }
        }
    }
}

fn a_ping_says_what_all_lanes_have_sent_and_is_told_what_all_have_received() {
    for steering in [true, false] {
        let (origin, consumer) = pair("127.0.0.1:0", 3, steering);
        let flow = flow_of(2);
        consumer.consume(flow);
        origin.originate(flow);
        origin.command(Command::Flow(
            flow,
            FlowCommand::AddEgress(LINK, EgressTerms::UNLIMITED),
        ));
        for frame in some_frames() {
            origin.push(flow, frame);
        }
        let sent = origin.lanes.fresh_counters().lane.links[0].datagrams_out;
        consumer.counters_when(|counters| counters.lane.links[0].datagrams_in >= sent);

        let message = LinkDatagram::Ping(Ping {
            time: 1,
            sent: 0,
            padding: 0,
        });
        origin.command(Command::Link(LINK, LinkCommand::Send(message)));

        let told = consumer.events.iter().find_map(|event| match event {
            Event::Core(lane::Event::Link(
                _,
                LinkEvent::Datagram {
                    message, received, ..
                },
            )) => Some((message, received)),
            _ => None,
        });
        let Some((LinkDatagram::Ping(ping), received)) = told else {
            panic!("{told:?}");
        };
        // A lane may say a head at any time.
        assert!(sent > 50 && ping.sent >= sent && received >= sent);
        assert!(ping.sent.max(received) <= sent + heads(&origin.lanes.fresh_counters()));
    }
}

fn a_long_egress_list_is_shared_by_all_lanes_and_each_egress_gets_all_in_order() {
    for (address, steering) in ADDRESSES.into_iter().zip([true, false]) {
        let origin = Node::start(address, 2, steering);
        let flow = flow_of(1);
        origin.originate(flow);
        let receivers: Vec<ProbeSocket> = (0..=SHARED_FROM)
            .map(|_| Computer::far_end(address, &ProbeSettings::default()))
            .collect();
        for (at, receiver) in receivers.iter().enumerate() {
            let link = LinkIndex(u32::try_from(at).unwrap());
            origin.add_link(link, receiver.local_addr());
            origin.command(Command::Flow(
                flow,
                FlowCommand::AddEgress(link, EgressTerms::UNLIMITED),
            ));
        }

        for frame in some_frames() {
            origin.push(flow, frame);
        }
        origin.command(Command::Publisher(flow, PublisherCommand::Finish));
        let counters = origin.lanes.stop();

        assert!(counters.shared_sends > SHARED_FROM as u64);
        let ledger = &counters.lane.ledger;
        assert_eq!(counters.send.sent, ledger.sent + ledger.repair.heads_sent);
        assert_eq!((counters.send.waiting, counters.send.dropped), (0, 0));
        let first = datagrams(&receivers[0]);
        assert!(first.len() > 50);
        assert!(receivers[1..].iter().all(|each| datagrams(each) == first));
    }
}

fn a_receiver_that_stands_still_or_cannot_be_changes_nothing_for_others() {
    for steering in [true, false] {
        let origin = Node::start("127.0.0.1:0", 2, steering);
        let flow = flow_of(1);
        origin.originate(flow);
        let tiny = ProbeSettings {
            receive_buffer: 1,
            ..ProbeSettings::default()
        };
        let any = "127.0.0.1:0".parse().unwrap();
        let still = ProbeSocket::bind(any, &tiny).unwrap();
        let well = ProbeSocket::bind(any, &ProbeSettings::default()).unwrap();
        // Port 0 is nobody's: the kernel refuses each send.
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let remotes = [still.local_addr(), nowhere, well.local_addr()];
        for (at, remote) in remotes.into_iter().enumerate() {
            let link = LinkIndex(u32::try_from(at).unwrap());
            origin.add_link(link, remote);
            origin.command(Command::Flow(
                flow,
                FlowCommand::AddEgress(link, EgressTerms::UNLIMITED),
            ));
        }

        for frame in some_frames() {
            origin.push(flow, frame);
        }
        origin.command(Command::Publisher(flow, PublisherCommand::Finish));
        let counters = origin.lanes.stop();

        let each = counters.lane.links[0].datagrams_out;
        let send = counters.send;
        assert_eq!((send.sent, send.refused), (2 * each, each));
        assert_eq!((send.dropped, send.skipped, send.waiting), (0, 0, 0));
        let heads = heads(&counters) / 3;
        assert_eq!(datagrams(&well).len() as u64, each - heads);
        assert!((datagrams(&still).len() as u64) < each);
    }
}

/// All packets that wait in a socket: loopback hands over before a send returns.
fn datagrams(socket: &ProbeSocket) -> Vec<Vec<u8>> {
    let mut buffer = vec![0; 2_000];
    let next = || {
        let arrival = socket.receive(&mut buffer).ok()?;
        Some(buffer[..arrival.bytes].to_vec())
    };
    let all = std::iter::from_fn(next);
    all.filter(|datagram| Kind::of(datagram) == Kind::Media)
        .collect()
}

fn lanes_start_again_on_the_port_that_they_left() {
    for address in ADDRESSES {
        let first = Node::start(address, 3, true);
        let local = first.lanes.local_addr().to_string();
        let socket = first.lanes.socket();
        let _ = first.lanes.stop();
        drop(socket);

        let again = Node::start(&local, 2, true);
        let train = mixed_train(again.lanes.local_addr(), 2);
        again.lanes.socket().try_send(&train).unwrap();

        let counters = again.counters_when(|counters| counters.lane.ledger.arrived == 40);
        assert_eq!(counters.lane.ledger.foreign, 10);
    }
}

/// A node of two lanes of which the second stands still until something is sent on the channel.
fn with_a_stuck_lane() -> (Node, std::sync::mpsc::SyncSender<()>) {
    let (go_on, may_go_on) = sync_channel(1);
    let (stuck, is_stuck) = sync_channel(1);
    let (_, events) = channel();
    let may_go_on = Mutex::new(may_go_on);
    let on_event = move |event| {
        if matches!(event, Event::Delivery { .. }) {
            // Sent once: a later delivery finds nobody to tell, and does not wait.
            if stuck.try_send(()).is_ok() {
                may_go_on.lock().unwrap().recv().unwrap_or(());
            }
        }
    };
    let node = Node::start_with("127.0.0.1:0", 2, false, events, Arc::new(on_event));
    let flow = flow_of(1);
    node.originate(flow);
    node.command(consume(flow));
    node.push(flow, frame(1, true, 0, 10));
    is_stuck.recv().unwrap();
    (node, go_on)
}

#[test]
fn datagrams_for_a_lane_that_is_far_behind_are_dropped_and_counted() {
    let (node, go_on) = with_a_stuck_lane();
    let stranger = Node::start("127.0.0.1:0", 1, true);
    let train = Datagrams {
        source: None,
        to: node.lanes.local_addr(),
        bytes: Bytes::from([4, 0, 0, 0, 0, 0, 0, 1].repeat(50 * 125)),
        segment_bytes: 1_000,
    };

    let mut given = 0;
    let busy = |counters: &WorkerCounters| counters.lane.ledger.dropped(DropReason::LaneBusy);
    while busy(&node.lanes.workers[0].fresh_counters()) == 0 {
        stranger.lanes.socket().try_send(&train).unwrap();
        given += train.bytes.len();
    }

    assert!(given > HANDED_BYTES_MAX);
    go_on.send(()).unwrap();
    let counters = node.lanes.stop();
    let ledger = &counters.lane.ledger;
    assert_eq!(
        ledger.dropped(DropReason::UnknownFlow),
        counters.passed_on,
        "what was passed on was handled"
    );
    assert!(busy(&counters) > 0 && ledger.check().is_zero());
}

#[test]
fn a_command_about_a_link_reaches_all_lanes_or_none() {
    let (node, go_on) = with_a_stuck_lane();
    let flow = flow_of(1);
    let full = (0..=COMMANDS_MAX).find_map(|_| {
        node.lanes
            .send(Command::Flow(flow, FlowCommand::Open))
            .err()
    });
    assert!(full.is_some(), "the queue of the lane that stands still");

    node.add_link(LINK, testkit::address(1));
    let remove = || Command::Link(LinkIndex(77), LinkCommand::Remove);
    let mut taken = 0;
    while node.lanes.send(remove()).is_ok() {
        taken += 1;
    }

    assert_eq!(taken + 1, LINK_COMMANDS_MAX as u64);
    go_on.send(()).unwrap();
    let counters = node.lanes.stop();
    assert_eq!(counters.lane.links.len(), 1);
    assert_eq!(counters.lane.commands_refused, 2 * taken);
}

/// Eight lanes with that much room for caches.
fn lanes_with_room(cache_bytes_max: usize) -> Node {
    let sockets = SocketSet::bind(
        "127.0.0.1:0".parse().unwrap(),
        &SocketSettings::default(),
        LANES_MAX,
    );
    let (_, events) = channel();
    let (_, foreign) = channel();
    let lanes = spawn(Config {
        sockets: sockets.unwrap(),
        lane: LaneSettings {
            cache_bytes_max,
            flow_cache_bytes_max: cache_bytes_max,
            ..LaneSettings::default()
        },
        clock: Clock::start(),
        on_event: Arc::new(|_| ()),
        on_foreign: Arc::new(|_| ()),
    });
    Node {
        lanes: lanes.unwrap(),
        events,
        foreign,
    }
}

#[test]
fn a_flow_may_have_the_room_of_all_lanes_and_gives_back_what_is_anothers() {
    const ROOM: usize = 1 << 20;
    let node = lanes_with_room(ROOM);
    let (greedy, honest) = (flow_of(1), flow_of(2));
    assert!((1..=LANES_MAX).contains(&default_lanes()));
    node.originate(greedy);
    for at in 0..45 {
        node.push(greedy, frame(1, at == 0, at, 20_000));
    }
    let cached = node.lanes.fresh_counters().lane.cached_bytes;
    assert!(cached > 6 * ROOM as u64 / LANES_MAX as u64, "{cached}");

    // The other one has a right to half of the room; the greedy one stands still, and its lane with it.
    node.originate(honest);
    let is_joinable = (0..50).any(|group| {
        for at in 0..10 {
            let dts = 90_000 * (group * 10 + at);
            node.push(honest, frame(1, at == 0, dts, 30_000));
        }
        let counters = node.lanes.fresh_counters().lane;
        assert!(counters.cached_bytes <= ROOM as u64 + (128 << 10));
        counters
            .flows
            .iter()
            .any(|row| row.flow == honest.0 && row.is_joinable)
    });

    assert!(is_joinable);
}

#[test]
fn a_lane_that_panics_ends_the_others() {
    let (ended, is_ended) = channel::<()>();
    let ended = Mutex::new(ended);
    let on_event = move |event| {
        let _alive = ended.lock().is_ok();
        assert!(
            matches!(
                event,
                Event::Core(lane::Event::Link(_, LinkEvent::Datagram { .. }))
            ),
            "as a bug would"
        );
    };
    let (_, events) = channel();
    let node = Node::start_with("127.0.0.1:0", 3, true, events, Arc::new(on_event));
    let flow = flow_of(2);
    node.originate(flow);
    node.command(consume(flow));

    node.push(flow, frame(1, true, 0, 10));

    assert!(
        is_ended.recv().is_err(),
        "no thread has the closure any more"
    );
    assert_eq!(
        node.lanes.fresh_counters().lane.links.len(),
        0,
        "nobody waits"
    );
}
