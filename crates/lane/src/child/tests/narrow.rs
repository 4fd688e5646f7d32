//! Tests of paced children: a path with a rate and a short queue between two lanes, and pictures that are larger.

use std::collections::VecDeque;

use bytes::Bytes;
use levada_wire::datagram::link::{LinkDatagram, Ping, Pong};
use levada_wire::lane::{self, FlowEvent};
use levada_wire::{Instant, RepairBudget};

use super::*;
use crate::api::{Event, LinkEvent};
use crate::limits::PACED_BACKLOG_MAX;
use crate::testkit::{add_link, datagrams};

/// How long the way is, one way.
const DELAY: Duration = Duration::from_millis(20);
/// IPv4 and UDP headers, which the path carries too.
const HEADERS: usize = 28;

/// A path from lane 0 to lane 1 of that rate, before which so many bytes may wait.
struct Path {
    rate: u64,
    queue: usize,
    /// When all that was taken has left.
    free_at: Instant,
    /// What is under way in both directions, with the lane that sent it.
    under_way: VecDeque<(Instant, usize, Bytes)>,
}

impl Path {
    fn new(megabits: u64, queue: usize) -> Self {
        Self {
            rate: megabits * 1_000_000,
            queue,
            free_at: Instant::ZERO,
            under_way: VecDeque::new(),
        }
    }

    fn take(&mut self, from: usize, datagram: Bytes, now: Instant) {
        if from == 1 {
            return self.put(now + DELAY, from, datagram); // there is room for little that goes back
        }
        let time = |bytes: usize| Duration::from_nanos(bytes as u64 * 8_000_000_000 / self.rate);
        let waits = self.free_at.since(now);
        if waits > time(self.queue) {
            return; // the queue is full
        }
        self.free_at = self.free_at.max(now) + time(datagram.len() + HEADERS);
        self.put(self.free_at + DELAY, from, datagram);
    }

    fn put(&mut self, at: Instant, from: usize, datagram: Bytes) {
        let place = self.under_way.partition_point(|(other, ..)| *other <= at);
        self.under_way.insert(place, (at, from, datagram));
    }
}

/// What came of it.
struct Outcome {
    sent: Vec<Frame>,
    /// With the time at which each came.
    came: Vec<(Instant, Frame)>,
    net: Net,
}

impl Outcome {
    fn lost(&self) -> usize {
        let came = |frame: &&Frame| !self.came.iter().any(|(_, came)| came == *frame);
        self.sent.iter().filter(came).count()
    }

    /// What was sent beyond the packets, of a thousand.
    fn extra_permille(&self) -> u64 {
        let made = self.net.lanes[0].ledger().made;
        let sent = self.net.lanes[0].ledger().sent;
        (sent - made) * 1_000 / made
    }
}

/// What is played over a path.
struct Play {
    /// Of the path to the child, as the parent is told.
    known: lane::Path,
    budget: Duration,
    seconds: i64,
    /// When the child joins.
    join: Duration,
    picture: usize,
    sync_picture: usize,
}

impl Default for Play {
    /// 7 Mb/s, with pictures of 227 KB.
    fn default() -> Self {
        Self {
            known: lane::Path::Unknown,
            budget: 200 * MS,
            seconds: 6,
            join: Duration::ZERO,
            picture: 22_350,
            sync_picture: 227_000,
        }
    }
}

impl Play {
    fn over(&self, mut path: Path) -> Outcome {
        let settings = LaneSettings {
            repair_budget: self.budget,
            ..LaneSettings::default()
        };
        let mut net = Net::with_settings(2, &settings);
        net.command(0, known(self.known));
        net.command(
            0,
            Command::Flow(FLOW, FlowCommand::Originate(Box::new(testkit::originate()))),
        );
        receive(&mut net, 1);
        let start = net.now;
        let (mut sent, mut came) = (Vec::new(), Vec::new());
        let (mut next, mut pinged, mut has_joined) = (0, start, false);
        while net.now.since(start) < Duration::from_secs(self.seconds as u64 + 1) {
            if net.now.since(start) >= self.join && !has_joined {
                has_joined = true;
                add_egress(&mut net, 1, 20_000_000);
            }
            if net.now >= start + 40 * MS * next && next < self.seconds as u32 * 25 {
                let is_sync = next % 25 == 0;
                let bytes = if is_sync {
                    self.sync_picture
                } else {
                    self.picture
                };
                let frame = frame(1, is_sync, i64::from(next) * 3_600, bytes);
                net.push(frame.clone());
                sent.push(frame);
                next += 1;
            }
            if net.now >= pinged {
                pinged = net.now + 50 * MS;
                ping(&mut net);
            }
            carry(&mut net, &mut path);
            came.extend(net.frames(1).into_iter().map(|frame| (net.now, frame)));
            net.now += MS / 4;
            for lane in 0..2 {
                net.timeout(lane);
            }
        }
        Outcome { sent, came, net }
    }
}

/// Tells lane 0 what lies between it and lane 1.
fn known(path: lane::Path) -> Command {
    let Command::Link(
        link,
        LinkCommand::Add {
            remote_index,
            remote,
            source,
            send,
            receive,
            ..
        },
    ) = add_link(0, 1)
    else {
        panic!("a link is added");
    };
    let add = LinkCommand::Add {
        remote_index,
        remote,
        source,
        path,
        send,
        receive,
    };
    Command::Link(link, add)
}

/// Both ends ping as cores do.
fn ping(net: &mut Net) {
    for (from, to) in [(0, 1), (1, 0)] {
        let ping = Ping {
            time: net.now.as_micros(),
            sent: 0,
            padding: 0,
        };
        let say = LinkCommand::Send(LinkDatagram::Ping(ping));
        net.command(from, Command::Link(link_to(to), say));
    }
}

/// Takes what the lanes sent, delivers what has arrived by now, and answers pings.
fn carry(net: &mut Net, path: &mut Path) {
    while let Some((from, sent)) = net.wires.pop_front() {
        for datagram in datagrams(&sent) {
            path.take(from, datagram, net.now);
        }
    }
    while path
        .under_way
        .front()
        .is_some_and(|(at, ..)| *at <= net.now)
    {
        let (_, from, datagram) = path.under_way.pop_front().unwrap();
        net.arrive_alone(from, 1 - from, datagram);
    }
    for lane in 0..2 {
        let events = std::mem::take(&mut net.events[lane]);
        for event in events {
            if let Event::Core(lane::Event::Link(
                link,
                LinkEvent::Datagram {
                    message: LinkDatagram::Ping(ping),
                    received,
                },
            )) = &event
            {
                let pong = Pong {
                    time: ping.time,
                    sent: ping.sent,
                    received: *received,
                    size: ping.size(),
                };
                let say = LinkCommand::Send(LinkDatagram::Pong(pong));
                net.command(lane, Command::Link(*link, say));
            } else {
                net.events[lane].push(event);
            }
        }
    }
}

/// The paths of the experiments, and one of twice the peak with 10 ms of queue.
fn paths() -> [(Path, Duration); 4] {
    [
        (Path::new(20, 32_000), 200 * MS),
        (Path::new(50, 32_000), 200 * MS),
        (Path::new(20, 64_000), 500 * MS),
        (Path::new(16, 20_000), 200 * MS),
    ]
}

#[test]
fn large_pictures_come_whole_over_paths_with_short_queues_from_the_first_group_on() {
    for (path, budget) in paths() {
        let what = format!("{} bit/s, {} bytes", path.rate, path.queue);
        let play = Play {
            budget,
            ..Play::default()
        };

        let outcome = play.over(path);

        assert_eq!(outcome.lost(), 0, "{what}");
        assert!(
            outcome.extra_permille() <= 30,
            "{what}: {}",
            outcome.extra_permille()
        );
    }
}

#[test]
fn without_a_pace_the_same_paths_lose_pictures() {
    for (path, budget) in paths() {
        let what = format!("{} bit/s, {} bytes", path.rate, path.queue);
        let play = Play {
            known: lane::Path::Wire,
            budget,
            ..Play::default()
        };

        let outcome = play.over(path);

        assert!(
            outcome.lost() > 0 || outcome.extra_permille() > 200,
            "{what}"
        );
    }
}

#[test]
fn what_waits_longer_than_a_second_for_its_pace_is_given_up_up_to_the_next_group() {
    let mut net = crowd(1, &LaneSettings::default());
    net.command(0, known(lane::Path::Unknown));
    add_egress(&mut net, 1, 20_000_000);
    let mut sent = held::play(&mut net, 0, 25, 25, 4_000);
    net.sleep(100 * MS);
    assert_eq!(net.frames(1), sent);

    // The pace has spent more than it has in a second: repairs without end could do that.
    let state = net.lanes[0].state_mut();
    let (flow, _) = state.flow(FLOW).unwrap();
    let pacer = flow.children.all[0].pacer.as_mut().unwrap();
    pacer.took(500_000, net.now);
    sent = held::play(&mut net, 25, 100, 25, 4_000);
    let withheld = row(&net, 0).withheld;
    net.sleep(PACED_BACKLOG_MAX);

    assert!(withheld > 0, "{:?}", row(&net, 0));
    let came = net.frames(1);
    assert!(came.len() < sent.len() && came.last() == sent.last());
    assert!(came[0].sync, "it goes on with a group");
    assert_eq!(net.lanes[1].ledger().repair.nacks_sent, 0);
}

#[test]
fn who_joins_in_the_middle_of_a_group_gets_all_of_it_at_the_same_pace() {
    for (path, budget) in paths() {
        let what = format!("{} bit/s, {} bytes", path.rate, path.queue);
        let play = Play {
            budget,
            join: 2_500 * MS,
            ..Play::default()
        };

        let outcome = play.over(path);

        let due = &outcome.sent[50..];
        let came: Vec<_> = outcome
            .came
            .iter()
            .map(|(_, frame)| frame.clone())
            .collect();
        assert_eq!(came, due, "{what}");
    }
}

#[test]
fn whoever_waits_shorter_than_its_largest_picture_takes_is_told_of_once() {
    for (budget, times) in [(20 * MS, 1), (500 * MS, 0)] {
        let mut net = crowd(1, &LaneSettings::default());
        net.command(0, known(lane::Path::Unknown));
        let terms = EgressTerms {
            budget: RepairBudget::new(budget),
            ..terms(20_000_000)
        };
        let add = FlowCommand::AddEgress(link_to(1), terms);
        net.command(0, Command::Flow(FLOW, add));

        for at in 0..6 * 25 {
            let bytes = if at % 25 == 0 { 227_000 } else { 20_000 };
            net.push(frame(1, at % 25 == 0, at * 3_600, bytes));
            net.sleep(40 * MS);
        }

        let slow = |event: &&Event| {
            matches!(
                event,
                Event::Core(lane::Event::Flow(_, FlowEvent::Slow { .. }))
            )
        };
        assert_eq!(net.events[0].iter().filter(slow).count(), times);
        assert_eq!(row(&net, 0).paced_too_slow, times as u64);
    }
}
