//! A chain of lanes over hops that delay, lose, reorder and repeat datagrams, in virtual time.
//!
//! Not the simulator, which has the core as well: here requests are commands, and each lane's pings are answered as the
//! core does it. Each lane has a clock of its own. Called by the tests of repair. Invariant: both ledgers of each lane
//! sum to zero after every call.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use levada_wire::datagram::link::{LinkDatagram, Ping, Pong};
use levada_wire::lane;
use levada_wire::packet::Kind;
use levada_wire::{Bitrate, Instant, Machine, PacketSize, RepairBudget};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::api::{
    Command, Datagrams, Delivery, EgressTerms, Event, FlowCommand, Input, LinkCommand, LinkEvent,
    Originate, Output, Train,
};
use crate::lane::Lane;
use crate::settings::LaneSettings;
use crate::testkit::{self, FLOW, address, datagrams, link_to, only_frames};

/// How datagrams get lost, in thousandths.
#[derive(Clone, Copy, Debug)]
pub(in crate::repair) enum Loss {
    Even(u32),
    /// Gilbert's model: two states, and in the bad one a probability of its own.
    Bursts {
        begin: u32,
        end: u32,
        inside: u32,
    },
}

/// One hop, the same in both directions.
#[derive(Clone, Copy, Debug)]
pub(in crate::repair) struct Hop {
    pub(in crate::repair) delay: Duration,
    pub(in crate::repair) jitter: Duration,
    pub(in crate::repair) loss: Loss,
    /// In thousandths.
    pub(in crate::repair) duplicated: u32,
}

/// Pictures a second, their bytes and the interval of those that can start decoding: 8 Mb/s.
const RATE: u64 = 30;
const FRAME_BYTES: usize = 31_000;
const SYNC_BYTES: usize = 90_000;
const PING_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug)]
enum TestEvent {
    Arrive {
        from: usize,
        to: usize,
        bytes: Bytes,
    },
    Ping,
    Frame,
    Command(usize, Box<Command>),
}

pub(in crate::repair) struct Chain {
    lanes: Vec<Lane>,
    hops: Vec<Hop>,
    /// By hop and direction: whether a burst of loss is on.
    in_burst: Vec<[bool; 2]>,
    /// By hop: nothing passes before this.
    dark_until: Vec<Instant>,
    queue: BTreeMap<(Instant, u64), TestEvent>,
    order: u64,
    now: Instant,
    rng: ChaCha8Rng,
    pushed: Vec<Instant>,
    got: Vec<(Instant, i64)>,
    /// The first frame whose lateness counts: a newcomer plays what it is sent as it comes.
    settled_from: usize,
    /// The first that does not any more: what nothing follows is found by a head, and nobody waits for it.
    settled_until: usize,
    gaps: u64,
    disorder: u64,
    link_bytes: u64,
    media_bytes: u64,
    parity_bytes: u64,
    /// Nobody pings any more, so nobody learns what a link loses.
    is_quiet: bool,
    terms: EgressTerms,
    /// Every so many frames one can start decoding.
    sync_every: i64,
}

/// What became of a stream.
#[derive(Debug)]
pub(in crate::repair) struct Report {
    pub(in crate::repair) made: u64,
    pub(in crate::repair) lost_packets: u64,
    pub(in crate::repair) lost_frames: u64,
    /// Frames that came twice or before their turn.
    pub(in crate::repair) disorder: u64,
    /// The most that a frame was late, beyond the delay of the way.
    pub(in crate::repair) latest: Duration,
    /// By hop.
    pub(in crate::repair) sent_again: Vec<u64>,
    pub(in crate::repair) nacks: Vec<u64>,
    pub(in crate::repair) repaired: u64,
    pub(in crate::repair) late: u64,
    /// By hop: parity datagrams.
    pub(in crate::repair) parity_sent: Vec<u64>,
    /// Packets recovered.
    pub(in crate::repair) recovered: u64,
    /// Of the frames since [`Chain::settle`].
    pub(in crate::repair) lost_settled: u64,
    link_permille: u64,
    parity_permille: u64,
}

impl Report {
    /// Packets sent again on the worst hop, of those made.
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    pub(in crate::repair) fn extra_percent(&self) -> f64 {
        let most = self.sent_again.iter().max().copied().unwrap_or(0);
        most as f64 * 100.0 / self.made as f64
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} packets, lost {} ({} frames, {} when settled), {:.1}% sent again, latest {:?}, by hop: again {:?}, \
             nacks {:?}, parity {:?}; recovered {}, late {}; link datagrams {}, parity {} permille of bytes",
            self.made,
            self.lost_packets,
            self.lost_frames,
            self.lost_settled,
            self.extra_percent(),
            self.latest,
            self.sent_again,
            self.nacks,
            self.parity_sent,
            self.recovered,
            self.late,
            self.link_permille,
            self.parity_permille,
        )
    }
}

impl Chain {
    /// A chain in which all are children of one another, and a stream that begins.
    pub(in crate::repair) fn new(hops: &[Hop], budget: Duration, seed: u64) -> Self {
        let mut chain = Self::of_links(hops, budget, seed);
        for child in 1..chain.lanes.len() {
            for (lane, command) in chain.joining(child) {
                chain.command(lane, command);
            }
        }
        chain.command(chain.lanes.len() - 1, testkit::consume());
        chain.begin(30);
        chain
    }

    /// A chain whose links are up and whose origin nobody asks for anything yet.
    pub(in crate::repair) fn of_links(hops: &[Hop], budget: Duration, seed: u64) -> Self {
        let settings = LaneSettings {
            repair_budget: budget,
            ..LaneSettings::default()
        };
        let mut chain = Self {
            lanes: (0..=hops.len())
                .map(|_| Lane::new(0, settings.clone()))
                .collect(),
            hops: hops.to_vec(),
            in_burst: vec![[false; 2]; hops.len()],
            dark_until: vec![Instant::ZERO; hops.len()],
            queue: BTreeMap::new(),
            order: 0,
            now: Instant::from_nanos(1_000_000_000),
            rng: ChaCha8Rng::seed_from_u64(seed),
            pushed: Vec::new(),
            got: Vec::new(),
            settled_from: 0,
            settled_until: usize::MAX,
            gaps: 0,
            disorder: 0,
            link_bytes: 0,
            media_bytes: 0,
            parity_bytes: 0,
            is_quiet: false,
            terms: EgressTerms {
                budget: RepairBudget::new(budget),
                ..EgressTerms::UNLIMITED
            },
            sync_every: 30,
        };
        chain.set_up();
        chain
    }

    /// The stream begins, with groups of that many frames.
    pub(in crate::repair) fn begin(&mut self, group_frames: i64) {
        self.sync_every = group_frames;
        self.schedule(self.now, TestEvent::Frame);
    }

    /// Children are admitted with that peak from now on, not with any.
    pub(in crate::repair) const fn admit(&mut self, peak: Bitrate) {
        self.terms.peak = peak;
    }

    /// What makes a lane the child of the one before it.
    pub(in crate::repair) fn joining(&self, child: usize) -> [(usize, Command); 4] {
        let upstream = FlowCommand::AddUpstream(link_to(child - 1));
        let egress = FlowCommand::AddEgress(link_to(child), self.terms);
        [
            (child, Command::Flow(FLOW, FlowCommand::Open)),
            (child, testkit::set_carry_key()),
            (child, Command::Flow(FLOW, upstream)),
            (child - 1, Command::Flow(FLOW, egress)),
        ]
    }

    /// A lane is given a command after that time.
    pub(in crate::repair) fn command_after(
        &mut self,
        after: Duration,
        lane: usize,
        command: Command,
    ) {
        self.schedule(self.now + after, TestEvent::Command(lane, command.into()));
    }

    /// When the last lane's consumer got each frame, and the number of the frame.
    pub(in crate::repair) fn got(&self) -> impl Iterator<Item = (Instant, i64)> {
        let number = |&(at, dts)| (at, dts / dts_of(1));
        self.got.iter().map(number)
    }

    pub(in crate::repair) const fn now(&self) -> Instant {
        self.now
    }

    fn set_up(&mut self) {
        for hop in 0..self.hops.len() {
            for (from, to) in [(hop, hop + 1), (hop + 1, hop)] {
                self.command(from, testkit::add_link(from, to));
            }
        }
        let originate = Originate {
            packet_size: PacketSize::DEFAULT,
            ..testkit::originate()
        };
        self.command(
            0,
            Command::Flow(FLOW, FlowCommand::Originate(Box::new(originate))),
        );
        self.schedule(self.now, TestEvent::Ping);
        // Round trips are known before the stream begins, as they are on a link that has been up for a while.
        self.run_until(self.now + Duration::from_secs(3));
    }

    /// The stream goes on for that long.
    pub(in crate::repair) fn play(&mut self, duration: Duration) {
        self.run_until(self.now + duration);
    }

    /// Nobody pings from now on: round trips are as they were, and what a link loses is not known.
    pub(in crate::repair) const fn quieten(&mut self) {
        self.is_quiet = true;
    }

    /// From now on all hops lose like that.
    pub(in crate::repair) fn set_loss(&mut self, loss: Loss) {
        for hop in &mut self.hops {
            hop.loss = loss;
        }
    }

    /// Parity datagrams that were sent so far.
    pub(in crate::repair) fn parity_sent(&self) -> u64 {
        let sent = |lane: &Lane| lane.ledger().repair.parity_sent;
        self.lanes.iter().map(sent).sum()
    }

    /// From now on lateness counts.
    pub(in crate::repair) const fn settle(&mut self) {
        self.settled_from = self.pushed.len();
    }

    /// From now on lateness does not count.
    pub(in crate::repair) const fn stop_counting(&mut self) {
        self.settled_until = self.pushed.len();
    }

    /// Nothing passes over a hop for that long, in either direction.
    pub(in crate::repair) fn outage(&mut self, hop: usize, duration: Duration) {
        self.dark_until[hop] = self.now + duration;
    }

    /// The stream goes on for that long and stops; then as [`Chain::report`].
    pub(in crate::repair) fn report_after(mut self, rest: Duration) -> Report {
        self.play(rest);
        self.report()
    }

    /// Lets the last packets come, and counts.
    pub(in crate::repair) fn report(mut self) -> Report {
        self.queue
            .retain(|_, event| !matches!(event, TestEvent::Frame));
        self.run_until(self.now + Duration::from_secs(3));
        let way: Duration = self.hops.iter().map(|hop| hop.delay).sum();
        let late = |&(at, dts): &(Instant, i64)| {
            let frame = usize::try_from(dts / dts_of(1)).unwrap();
            let is_settled = (self.settled_from..self.settled_until).contains(&frame);
            is_settled.then(|| at.since(self.pushed[frame] + way))
        };
        let counts = |lane: &Lane| lane.ledger().repair;
        let first = dts_of(i64::try_from(self.settled_from).unwrap());
        let settled = self.got.iter().filter(|&&(_, dts)| dts >= first).count();
        let last = self.lanes.len() - 1;
        Report {
            made: self.lanes[0].ledger().made,
            lost_packets: self.gaps,
            lost_frames: (self.pushed.len() - self.got.len()) as u64,
            disorder: self.disorder,
            latest: self.got.iter().filter_map(late).max().unwrap_or_default(),
            sent_again: self.lanes[..last]
                .iter()
                .map(|lane| counts(lane).repairs_sent)
                .collect(),
            nacks: self.lanes[1..]
                .iter()
                .map(|lane| counts(lane).nacks_sent)
                .collect(),
            repaired: self.lanes[1..]
                .iter()
                .map(|lane| counts(lane).repairs_received)
                .sum(),
            late: self.lanes[1..]
                .iter()
                .map(|lane| counts(lane).repairs_late)
                .sum(),
            parity_sent: self.lanes[..last]
                .iter()
                .map(|lane| counts(lane).parity_sent)
                .collect(),
            recovered: self.lanes[1..]
                .iter()
                .map(|lane| counts(lane).recovered)
                .sum(),
            lost_settled: (self.pushed.len() - self.settled_from - settled) as u64,
            link_permille: self.link_bytes * 1_000 / self.media_bytes.max(1),
            parity_permille: self.parity_bytes * 1_000 / self.media_bytes.max(1),
        }
    }

    fn schedule(&mut self, at: Instant, event: TestEvent) {
        self.order += 1;
        self.queue.insert((at, self.order), event);
    }

    fn run_until(&mut self, end: Instant) {
        loop {
            let timers = (0..self.lanes.len()).filter_map(|lane| {
                let wakeup = self.lanes[lane].poll_timeout()?;
                Some((wakeup.at - clock_of(lane), lane))
            });
            let timer = timers.min();
            let event = self.queue.first_key_value().map(|(&(at, _), _)| at);
            let next = [timer.map(|(at, _)| at), event].into_iter().flatten().min();
            let Some(at) = next.filter(|&at| at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            if let Some((_, lane)) = timer.filter(|&(due, _)| due == at) {
                let now = self.now + clock_of(lane);
                self.lanes[lane].handle_timeout(now);
                self.collect(lane);
            } else if let Some((_, event)) = self.queue.pop_first() {
                self.on_event(event);
            }
        }
    }

    fn on_event(&mut self, event: TestEvent) {
        match event {
            TestEvent::Arrive { from, to, bytes } => {
                let segment_bytes = bytes.len();
                let from = address(from);
                self.input(
                    to,
                    Input::Train(Train {
                        to: None,
                        from,
                        bytes,
                        segment_bytes,
                    }),
                );
            }
            TestEvent::Command(lane, command) => self.command(lane, *command),
            TestEvent::Ping if self.is_quiet => {}
            TestEvent::Ping => {
                for lane in 0..self.lanes.len() {
                    for peer in self.peers(lane) {
                        let time = (self.now + clock_of(lane)).as_micros();
                        self.say(
                            lane,
                            peer,
                            LinkDatagram::Ping(Ping {
                                time,
                                sent: 0,
                                padding: 0,
                            }),
                        );
                    }
                }
                self.schedule(self.now + PING_EVERY, TestEvent::Ping);
            }
            TestEvent::Frame => {
                let count = i64::try_from(self.pushed.len()).unwrap();
                let sync = count % self.sync_every == 0;
                let bytes = if sync { SYNC_BYTES } else { FRAME_BYTES };
                self.pushed.push(self.now);
                let frame = testkit::frame(1, sync, dts_of(count), bytes);
                self.command(0, testkit::push(frame));
                self.schedule(
                    self.now + Duration::from_secs(1) / u32::try_from(RATE).unwrap(),
                    TestEvent::Frame,
                );
            }
        }
    }

    fn peers(&self, lane: usize) -> Vec<usize> {
        let all = 0..self.lanes.len();
        all.filter(|&peer| peer.abs_diff(lane) == 1).collect()
    }

    fn say(&mut self, lane: usize, peer: usize, message: LinkDatagram) {
        let link = link_to(peer);
        self.command(lane, Command::Link(link, LinkCommand::Send(message)));
    }

    fn command(&mut self, lane: usize, command: Command) {
        self.input(lane, Input::Command(command));
    }

    fn input(&mut self, lane: usize, input: Input) {
        let now = self.now + clock_of(lane);
        self.lanes[lane].handle_input(now, input);
        self.collect(lane);
    }

    fn collect(&mut self, lane: usize) {
        while let Some(output) = self.lanes[lane].poll_output() {
            match output {
                Output::Transmit(transmit) => self.transmit(lane, &transmit.datagrams),
                Output::Event(Event::Delivery { delivery, .. }) => self.on_delivery(delivery),
                Output::Event(Event::Core(lane::Event::Link(
                    link,
                    LinkEvent::Datagram {
                        message: LinkDatagram::Ping(ping),
                        received,
                    },
                ))) => {
                    let peer = (0..self.lanes.len())
                        .find(|&peer| link_to(peer) == link)
                        .unwrap();
                    let pong = Pong {
                        time: ping.time,
                        sent: ping.sent,
                        received,
                        size: 0,
                    };
                    self.say(lane, peer, LinkDatagram::Pong(pong));
                }
                _ => {}
            }
        }
        let difference = self.lanes[lane].ledger().check();
        assert!(difference.is_zero(), "lane {lane}: {difference:?}");
    }

    fn on_delivery(&mut self, delivery: Delivery) {
        if let Delivery::Gap(gap) = &delivery {
            self.gaps += gap.packets;
        }
        for frame in only_frames(vec![delivery]) {
            self.disorder += u64::from(self.got.last().is_some_and(|&(_, last)| frame.dts <= last));
            self.got.push((self.now, frame.dts));
        }
    }

    fn transmit(&mut self, from: usize, transmit: &Datagrams) {
        let to = (0..self.lanes.len())
            .find(|&lane| address(lane) == transmit.to)
            .unwrap();
        let (hop, way) = (from.min(to), usize::from(to < from));
        for bytes in datagrams(transmit) {
            let count = bytes.len() as u64;
            match Kind::of(&bytes) {
                Kind::Media => self.media_bytes += count,
                Kind::Parity => self.parity_bytes += count,
                _ => self.link_bytes += count,
            }
            let copies = 1 + u32::from(self.hits(self.hops[hop].duplicated));
            for _ in 0..copies {
                if self.loses(hop, way) {
                    continue;
                }
                let Hop { delay, jitter, .. } = self.hops[hop];
                let jitter = jitter.mul_f64(f64::from(self.rng.next_u32()) / f64::from(u32::MAX));
                let bytes = bytes.clone();
                self.schedule(
                    self.now + delay + jitter,
                    TestEvent::Arrive { from, to, bytes },
                );
            }
        }
    }

    fn loses(&mut self, hop: usize, way: usize) -> bool {
        if self.now < self.dark_until[hop] {
            return true;
        }
        match self.hops[hop].loss {
            Loss::Even(permille) => self.hits(permille),
            Loss::Bursts { begin, end, inside } => {
                let turn = if self.in_burst[hop][way] { end } else { begin };
                self.in_burst[hop][way] ^= self.hits(turn);
                self.in_burst[hop][way] && self.hits(inside)
            }
        }
    }

    fn hits(&mut self, permille: u32) -> bool {
        self.rng.next_u32() % 1_000 < permille
    }
}

/// Every lane's clock started at another time.
const fn clock_of(lane: usize) -> Duration {
    Duration::from_secs(1_000 * lane as u64)
}

fn dts_of(frame: i64) -> i64 {
    frame * 90_000 / i64::try_from(RATE).unwrap()
}
