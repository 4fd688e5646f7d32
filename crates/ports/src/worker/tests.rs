//! Tests of workers over real sockets on loopback.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::mpsc::{Receiver, channel};

use bytes::Bytes;
use levada_wire::datagram::link::{LinkDatagram, Ping};
use levada_wire::key::LinkKey;
use levada_wire::lane;
use levada_wire::{Frame, LinkIndex};

use super::*;
use crate::testkit::{self, Computer, FLOW, frame, on_each_computer};
use levada_lane::LaneSettings;
use levada_lane::api::{
    Datagrams, Delivery, EgressTerms, FlowCommand, LinkCommand, LinkEvent, Path, PublisherCommand,
};
use levada_lane::ledger::DropReason;

const LINK: LinkIndex = LinkIndex(1);

on_each_computer! {
    a_stream_crosses_real_sockets,
    a_train_that_mixes_quic_media_and_link_datagrams_is_told_apart,
    garbage_is_counted_and_disturbs_nothing,
    a_full_command_queue_gives_the_command_back,
    what_was_sent_before_a_stop_is_done_before_it,
    the_counters_are_there_without_waiting,
}

struct Node {
    handle: WorkerHandle,
    events: Receiver<Event>,
    foreign: Receiver<Train>,
}

impl Node {
    fn start(address: &str) -> Self {
        let settings = Computer::here().sockets();
        let socket = Socket::bind(address.parse().unwrap(), &settings).unwrap();
        Computer::here().befall(&socket);
        let (on_event, events) = channel();
        let (on_foreign, foreign) = channel();
        let handle = spawn(Config {
            lane: Lane::new(0, LaneSettings::default()),
            socket,
            clock: Clock::start(),
            on_event: Box::new(move |event| on_event.send(event).unwrap_or(())),
            on_foreign: Box::new(move |train| on_foreign.send(train).unwrap_or(())),
        });
        Self {
            handle: handle.unwrap(),
            events,
            foreign,
        }
    }

    fn command(&self, command: Command) {
        self.handle.send(command).unwrap();
    }

    /// Links to another node; both ends use the same key both ways.
    fn link(&self, other: &Self) {
        let key = LinkKey::from_bytes([9; 32]);
        self.command(Command::Link(
            LINK,
            LinkCommand::Add {
                remote_index: LINK,
                remote: other.handle.local_addr(),
                source: None,
                path: Path::Wire,
                send: key.clone(),
                receive: key,
            },
        ));
    }

    fn next_delivery(&self) -> Delivery {
        loop {
            if let Event::Delivery { delivery, .. } = self.events.recv().unwrap() {
                return delivery;
            }
        }
    }

    /// The frames up to the end of the stream.
    fn frames(&self) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            match self.next_delivery() {
                Delivery::Frame { frame, .. } => frames.push(frame),
                Delivery::End => return frames,
                Delivery::Description(_) => {}
                Delivery::Gap(gap) => panic!("{gap:?}"),
            }
        }
    }
}

/// An origin and a consumer that receives its flow.
fn pair(address: &str) -> (Node, Node) {
    let origin = Node::start(address);
    let consumer = Node::start(address);
    origin.link(&consumer);
    consumer.link(&origin);
    let flow = FLOW;
    consumer.command(Command::Flow(flow, FlowCommand::Open));
    consumer.command(testkit::set_carry_key());
    consumer.command(Command::Flow(flow, FlowCommand::AddUpstream(LINK)));
    consumer.command(testkit::consume());
    // Answered once its commands are done: nothing comes before the consumer is ready.
    let _ = consumer.handle.fresh_counters();
    origin.command(Command::Flow(
        FLOW,
        FlowCommand::Originate(Box::new(testkit::originate())),
    ));
    origin.command(Command::Flow(
        flow,
        FlowCommand::AddEgress(LINK, EgressTerms::UNLIMITED),
    ));
    (origin, consumer)
}

fn some_frames() -> Vec<Frame> {
    (0..50)
        .map(|i| {
            frame(
                1,
                i % 25 == 0,
                i * 3_600,
                300 + 9_000 * usize::from(i % 25 == 0),
            )
        })
        .collect()
}

fn a_stream_crosses_real_sockets() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (origin, consumer) = pair(address);

        for frame in some_frames() {
            origin.command(testkit::push(frame));
        }
        origin.command(Command::Publisher(FLOW, PublisherCommand::Finish));

        assert_eq!(consumer.frames(), some_frames(), "{address}");
        let sent = origin.handle.stop();
        let received = consumer.handle.stop();
        assert_eq!(sent.send.sent, received.lane.ledger.arrived);
        assert_eq!(
            sent.lane.links[0].datagrams_out,
            received.lane.links[0].datagrams_in
        );
        if cfg!(target_os = "linux") {
            let has_gso = sent.send.calls < sent.send.sent;
            assert_eq!(has_gso, Computer::here().has_gso(), "{address}");
            assert_eq!(sent.send.gso_failed, u64::from(Computer::here().fails()));
        }
    }
}

fn a_train_that_mixes_quic_media_and_link_datagrams_is_told_apart() {
    let (origin, consumer) = pair("[::1]:0");
    origin.command(testkit::push(frame(1, true, 0, 100)));
    let ping = LinkDatagram::Ping(Ping {
        time: 1,
        sent: 0,
        padding: 0,
    });
    // One socket sends all three; on IPv6 the kernel joins whatever has one size.
    let quic = Datagrams {
        source: None,
        to: consumer.handle.local_addr(),
        bytes: Bytes::from(vec![0x43; 3 * 576]),
        segment_bytes: 576,
    };

    for dts in 1..20 {
        origin.handle.socket().try_send(&quic).unwrap();
        origin.command(testkit::push(frame(1, false, dts, 2_000)));
        origin.command(Command::Link(LINK, LinkCommand::Send(ping.clone())));
    }
    origin.command(Command::Publisher(FLOW, PublisherCommand::Finish));

    let quic_bytes: usize = (0..19 * 3)
        .map(|_| {
            let train = consumer.foreign.recv().unwrap();
            assert_eq!(train.from, origin.handle.local_addr());
            train.bytes.len()
        })
        .sum();
    assert_eq!(quic_bytes, 19 * 3 * 576);
    let mut frames = 0;
    let mut pings = 0;
    while frames < 20 || pings < 19 {
        match consumer.events.recv().unwrap() {
            Event::Delivery {
                delivery: Delivery::Frame { .. },
                ..
            } => frames += 1,
            Event::Core(lane::Event::Link(_, LinkEvent::Datagram { .. })) => pings += 1,
            _ => {}
        }
    }
    // Where threads have to wait, the flow may seem to be quiet, and its head is said.
    let heads = origin.handle.stop().lane.ledger.repair.heads_sent;
    let ledger = consumer.handle.stop().lane.ledger;
    assert_eq!(ledger.foreign, 57);
    assert!((19..=19 + heads).contains(&ledger.control));
    assert!(ledger.check().is_zero());
}

fn garbage_is_counted_and_disturbs_nothing() {
    let (origin, consumer) = pair("127.0.0.1:0");
    let stranger =
        Socket::bind("127.0.0.1:0".parse().unwrap(), &Computer::here().sockets()).unwrap();
    let to = consumer.handle.local_addr();
    for (at, frame) in some_frames().into_iter().enumerate() {
        let bytes = Bytes::from(vec![u8::try_from(at % 16).unwrap(); 60]);
        let segment_bytes = bytes.len();
        stranger
            .try_send(&Datagrams {
                source: None,
                to,
                bytes,
                segment_bytes,
            })
            .unwrap();
        origin.command(testkit::push(frame));
    }
    origin.command(Command::Publisher(FLOW, PublisherCommand::Finish));

    assert_eq!(consumer.frames(), some_frames());
    // All of it arrived before it is counted: a last QUIC datagram of the same sender says so.
    let last = Bytes::from_static(&[0x40]);
    stranger
        .try_send(&Datagrams {
            source: None,
            to,
            bytes: last,
            segment_bytes: 1,
        })
        .unwrap();
    consumer.foreign.recv().unwrap();
    let ledger = consumer.handle.stop().lane.ledger;
    assert_eq!(ledger.dropped_in_all(), 50);
    assert_eq!(ledger.dropped(DropReason::BadTag), 0);
}

fn a_full_command_queue_gives_the_command_back() {
    let node = Node::start("127.0.0.1:0");
    let big = || testkit::push(frame(1, true, 0, FRAME_BYTES_MAX / 2 + 1));

    // The worker may take one in between, never as fast as they are queued.
    let full = (0..1_000).find_map(|_| node.handle.send(big()).err());

    let full = full.unwrap();
    assert!(matches!(
        *full.0,
        Command::Publisher(_, PublisherCommand::Push { .. })
    ));
    assert!(full.to_string().contains("64 MiB"));
}

fn what_was_sent_before_a_stop_is_done_before_it() {
    let (origin, consumer) = pair("127.0.0.1:0");
    for frame in some_frames() {
        origin.command(testkit::push(frame));
    }
    origin.command(Command::Publisher(FLOW, PublisherCommand::Finish));

    let counters = origin.handle.stop();

    let ledger = &counters.lane.ledger;
    // On a busy machine a head may have gone too.
    assert_eq!(counters.send.sent, ledger.sent + ledger.repair.heads_sent);
    assert_eq!(counters.send.waiting, 0);
    assert_eq!(consumer.frames(), some_frames());
}

fn the_counters_are_there_without_waiting() {
    let node = Node::start("127.0.0.1:0");
    node.command(Command::Flow(FLOW, FlowCommand::Open));

    let fresh = node.handle.fresh_counters();

    assert_eq!(fresh.lane.flows.len(), 1);
    assert_eq!(node.handle.counters(), fresh);
}

#[cfg(target_os = "linux")]
#[test]
fn runs_that_are_refused_in_the_middle_of_a_stream_cost_no_frame_and_are_told() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (origin, consumer) = pair(address);
        let frames = some_frames();
        let (before, after) = frames.split_at(25);
        let push = |frames: &[Frame]| {
            for frame in frames {
                origin.command(testkit::push(frame.clone()));
            }
        };
        push(before);
        let first = origin.handle.fresh_counters().send;
        assert_eq!(first.gso_failed, 0);
        assert!(first.calls < first.sent, "{first:?}");

        origin.handle.socket().refuse_runs(true);
        push(after);
        origin.command(Command::Publisher(FLOW, PublisherCommand::Finish));

        assert_eq!(consumer.frames(), frames, "{address}");
        let (sent, received) = (origin.handle.stop(), consumer.handle.stop());
        let last = sent.send;
        assert_eq!((last.gso_failed, last.refused), (1, 0));
        assert_eq!(last.calls - first.calls, last.sent - first.sent);
        assert_eq!(last.sent, received.lane.ledger.arrived);
    }
}

#[test]
fn what_is_sent_leaves_before_local_subscribers_are_told() {
    let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let to = peer.local_addr().unwrap();
    let (told, tells) = channel();
    let on_event = move |event: Event| {
        let is_frame = |delivery: &Delivery| matches!(delivery, Delivery::Frame { .. });
        if matches!(&event, Event::Delivery { delivery, .. } if is_frame(delivery)) {
            let arrived = peer.recv(&mut [0; 2_000]).map_err(|error| error.kind());
            told.send(arrived.is_ok()).unwrap();
        }
    };
    let handle = spawn(Config {
        lane: Lane::new(0, LaneSettings::default()),
        socket: Socket::bind("127.0.0.1:0".parse().unwrap(), &Computer::here().sockets()).unwrap(),
        clock: Clock::start(),
        on_event: Box::new(on_event),
        on_foreign: Box::new(drop),
    });
    let handle = handle.unwrap();
    let key = LinkKey::from_bytes([9; 32]);
    let add_link = Command::Link(
        LINK,
        LinkCommand::Add {
            remote_index: LINK,
            remote: to,
            source: None,
            path: Path::Wire,
            send: key.clone(),
            receive: key,
        },
    );
    let add_egress = Command::Flow(FLOW, FlowCommand::AddEgress(LINK, EgressTerms::UNLIMITED));
    let originate = Command::Flow(FLOW, FlowCommand::Originate(Box::new(testkit::originate())));
    for command in [add_link, originate, testkit::consume(), add_egress] {
        handle.send(command).unwrap();
    }

    handle.send(testkit::push(frame(1, true, 0, 300))).unwrap();

    assert_eq!(tells.recv(), Ok(true), "the packet had not left");
}
