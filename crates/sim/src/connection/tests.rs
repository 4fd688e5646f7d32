//! Connections over a link of 10 ms that loses what a test tells it to lose.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::queue::Queue;

const DELAY: Duration = Duration::from_millis(10);
const STEPS_MAX: usize = 10_000;

enum Event {
    Arrive(Segment),
    Retry(Segment),
    Watch(ConnectionId),
}

/// Two hosts and the connections between them.
struct Pair {
    connections: Connections,
    queue: Queue<Event>,
    now: Instant,
    hosts: [Host; 2],
    /// Which of them runs.
    up: [bool; 2],
    paused: [bool; 2],
    /// Whether the segment that is sent now gets lost.
    loses: fn(&Segment) -> bool,
    happened: Vec<(u128, String)>,
}

impl Pair {
    fn new() -> Self {
        let host = |node: u8| Host {
            node: usize::from(node),
            boot: 0,
            address: SocketAddr::from(([10, 0, 0, node], 7800)),
        };
        Self {
            connections: Connections::default(),
            queue: Queue::new(),
            now: Instant::ZERO,
            hosts: [host(0), host(1)],
            up: [true; 2],
            paused: [false; 2],
            loses: |_| false,
            happened: Vec::new(),
        }
    }

    fn dial(&mut self) -> End {
        self.connections.dial(
            self.now,
            self.hosts[0],
            DialId(7),
            self.hosts[1].address,
            Some(1),
        );
        End {
            connection: ConnectionId(0),
            side: Side::Dialler,
        }
    }

    fn send(&mut self, end: End, text: &'static str) {
        self.send_about(1, end, text);
    }

    fn send_about(&mut self, concern: u8, end: End, text: &'static str) {
        self.connections
            .send(self.now, end, concern, Bytes::from_static(text.as_bytes()));
    }

    /// Runs until `until`; what the hosts were told, with the milliseconds at which they were.
    fn run(&mut self, until: Duration) -> Vec<(u128, String)> {
        let until = Instant::ZERO + until;
        for _ in 0..STEPS_MAX {
            self.take_acts();
            let Some((at, event)) = self.queue.pop() else {
                break;
            };
            if at > until {
                self.queue.push(at, event);
                break;
            }
            self.now = at;
            let paused = self.paused;
            match event {
                Event::Arrive(segment) => {
                    let node = segment.toward as usize;
                    let receiver = self.up[node].then_some(self.hosts[node]);
                    self.connections.arrive(at, segment, receiver);
                }
                Event::Retry(segment) => self.connections.retry(at, segment, |node| paused[node]),
                Event::Watch(id) => self.connections.watch(at, id, |node| paused[node]),
            }
        }
        self.now = until;
        std::mem::take(&mut self.happened)
    }

    fn take_acts(&mut self) {
        while let Some(act) = self.connections.poll_act() {
            match act {
                Act::Transmit { segment, .. } if (self.loses)(&segment) => {
                    self.connections.lost(self.now, segment)
                }
                Act::Transmit { segment, .. } => {
                    self.queue.push(self.now + DELAY, Event::Arrive(segment))
                }
                Act::Retry { at, segment } => self.queue.push(at, Event::Retry(segment)),
                Act::Watch { at, connection } => self.queue.push(at, Event::Watch(connection)),
                Act::Connected { end, .. } => self.note(format!("{:?} connected", end.side)),
                Act::DialFailed { reason, .. } => self.note(reason),
                Act::Chunk { end, bytes, .. } => {
                    self.note(format!(
                        "{:?} got {}",
                        end.side,
                        String::from_utf8_lossy(&bytes)
                    ));
                }
                Act::Lost { end, reason, .. } => {
                    self.note(format!("{:?} lost: {reason:?}", end.side))
                }
            }
        }
    }

    fn note(&mut self, what: String) {
        self.happened
            .push((self.now.since(Instant::ZERO).as_millis(), what));
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn told<const N: usize>(expected: [(u128, &str); N]) -> Vec<(u128, String)> {
    expected.map(|(at, what)| (at, what.to_owned())).into()
}

#[test]
fn a_dial_takes_one_round_trip_here_and_one_and_a_half_there() {
    let mut pair = Pair::new();
    pair.dial();

    assert_eq!(
        pair.run(secs(1)),
        told([(20, "Dialler connected"), (30, "Acceptor connected")])
    );
}

#[test]
fn a_dial_to_nobody_is_refused_and_one_into_the_dark_runs_out() {
    let mut refused = Pair::new();
    refused.up[1] = false;
    refused.dial();
    let mut dark = Pair::new();
    dark.loses = |_| true;
    dark.dial();

    assert_eq!(
        refused.run(secs(60)),
        told([(20, "10.0.0.1:7800: nobody listens there")])
    );
    assert_eq!(
        dark.run(secs(60)),
        told([(10_000, "10.0.0.1:7800: no answer within 10 s")])
    );
}

#[test]
fn a_refusal_that_is_lost_is_asked_for_again() {
    let mut pair = Pair::new();
    pair.up[1] = false;
    pair.loses = |segment| segment.attempt == 0 && segment.part == Part::Refuse;
    pair.dial();
    pair.run(Duration::from_millis(200));
    pair.up[1] = true;

    assert_eq!(
        pair.run(secs(2)),
        told([(330, "Dialler connected"), (340, "Acceptor connected")])
    );
}

#[test]
fn a_hello_that_was_lost_does_not_make_the_round_trip_longer() {
    let mut pair = Pair::new();
    pair.loses = |segment| segment.attempt == 0;
    let end = pair.dial();
    pair.run(secs(3));

    pair.send(end, "one");

    // The finish was sent again after 1.5 x 20 ms + 10 ms, and so is the chunk.
    assert_eq!(pair.run(secs(4)), told([(3_050, "Acceptor got one")]));
}

#[test]
fn another_node_than_expected_fails_the_dial() {
    let mut pair = Pair::new();
    pair.connections.dial(
        pair.now,
        pair.hosts[0],
        DialId(7),
        pair.hosts[1].address,
        Some(5),
    );

    assert_eq!(
        pair.run(secs(1)),
        told([(20, "10.0.0.1:7800: another node answers there")])
    );
}

#[test]
fn a_dial_that_was_given_up_says_nothing_more() {
    let mut pair = Pair::new();
    pair.dial();
    pair.connections
        .cancel_dial(pair.now, pair.hosts[0], DialId(7));

    assert_eq!(pair.run(secs(60)), []);
}

#[test]
fn bytes_come_out_in_order_though_one_was_lost() {
    let mut pair = Pair::new();
    let end = pair.dial();
    pair.run(secs(1));
    pair.loses = |segment| segment.attempt == 0 && segment.part.bytes() == b"one";

    pair.send(end, "one");
    pair.send(end, "two");

    // 1.5 x 20 ms + 10 ms later it is sent again.
    let expected = told([(1_050, "Acceptor got one"), (1_050, "Acceptor got two")]);
    assert_eq!(pair.run(secs(2)), expected);
}

#[test]
fn what_overtakes_the_first_chunk_about_the_link_waits_for_it() {
    let mut pair = Pair::new();
    let end = pair.dial();
    pair.run(secs(1));
    pair.loses = |segment| segment.attempt == 0 && segment.part.bytes() == b"hello";

    pair.send(end, "hello");
    pair.send_about(3, end, "flow");
    pair.send_about(2, end, "route");
    let overtaken = pair.run(secs(2));
    pair.send_about(2, end, "more");

    let expected = ["hello", "route", "flow"].map(|text| (1_050, format!("Acceptor got {text}")));
    assert_eq!(overtaken, expected);
    assert_eq!(pair.run(secs(3)), told([(2_010, "Acceptor got more")]));
}

#[test]
fn the_other_side_learns_of_a_close_even_if_it_is_lost_once() {
    let mut pair = Pair::new();
    let end = pair.dial();
    pair.run(secs(1));
    pair.loses = |segment| segment.attempt == 0 && matches!(segment.part, Part::Close { .. });

    pair.connections.close(pair.now, end, "enough");

    let happened = pair.run(secs(2));
    assert_eq!(happened[0], (1_000, "Dialler lost: ClosedHere".to_owned()));
    assert_eq!(
        happened[1],
        (1_050, "Acceptor lost: ClosedByPeer(\"enough\")".to_owned())
    );
}

#[test]
fn what_was_said_before_a_close_arrives_before_it() {
    let mut pair = Pair::new();
    let end = pair.dial();
    pair.run(secs(1));
    pair.loses = |segment| segment.attempt == 0 && segment.part.bytes() == b"farewell";

    pair.send(end, "farewell");
    pair.connections.close(pair.now, end, "enough");

    let happened: Vec<String> = pair
        .run(secs(2))
        .into_iter()
        .map(|(_, what)| what)
        .collect();
    assert_eq!(
        happened[1..],
        [
            "Acceptor got farewell",
            "Acceptor lost: ClosedByPeer(\"enough\")"
        ]
    );
}

#[test]
fn both_ends_give_up_when_the_way_is_dark_for_thirty_seconds() {
    let mut pair = Pair::new();
    pair.dial();
    pair.run(secs(1));
    pair.loses = |_| true;

    let happened = pair.run(secs(60));

    assert_eq!(happened.len(), 2);
    assert!(
        happened
            .iter()
            .all(|(at, what)| (30_000..36_000).contains(at) && what.contains("nothing heard"))
    );
}

#[test]
fn a_peer_that_died_is_noticed_by_its_silence_only() {
    let mut pair = Pair::new();
    let end = pair.dial();
    pair.run(secs(1));
    pair.connections.crash(pair.now, 1);
    pair.hosts[1].boot = 1;

    pair.send(end, "are you there?");
    let happened = pair.run(secs(60));

    assert_eq!(happened.len(), 1, "{happened:?}");
    assert!(happened[0].1.starts_with("Dialler lost: Failed"));
}

#[test]
fn a_paused_process_sends_nothing_again_until_it_goes_on() {
    let mut pair = Pair::new();
    let end = pair.dial();
    pair.run(secs(1));
    pair.loses = |segment| segment.attempt == 0 && segment.part.bytes() == b"one";
    pair.send(end, "one");

    pair.paused[0] = true;
    assert_eq!(pair.run(secs(4)), []);
    pair.paused[0] = false;

    let happened = pair.run(secs(5));
    assert_eq!(happened.len(), 1);
    assert_eq!(happened[0].1, "Acceptor got one");
}

#[test]
fn a_broken_link_brings_one_chunk_twice() {
    let mut pair = Pair::new();
    pair.connections = Connections::broken();
    let end = pair.dial();
    pair.run(secs(1));

    for _ in 0..=Doubler::AFTER {
        pair.send(end, "one");
    }

    let expected = usize::try_from(Doubler::AFTER + 2).unwrap();
    assert_eq!(pair.run(secs(2)).len(), expected);
}

#[test]
fn whoever_dials_without_end_is_noticed() {
    let mut pair = Pair::new();
    for _ in 0..CONNECTIONS_MAX {
        pair.dial();
    }
    assert!(!pair.connections.is_overfull());

    pair.dial();

    assert!(pair.connections.is_overfull());
}
