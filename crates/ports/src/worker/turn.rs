//! One turn of a worker: some commands, some receives, the timers due, all sends.
//!
//! Not what any of it means: the lane knows. Called by `worker::spawn`, in a thread of its own. Invariant: each
//! loop of a turn has a budget, and a turn that left work behind is followed by another without sleeping.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use levada_wire::lane;
use levada_wire::{Instant, Machine};
use mio::{Events, Interest, Poll};

use super::channel_sockets::ChannelSockets;
use super::handover::{Giver, SiblingLanes, Taken};
use super::queue::Shared;
use super::send_sockets::SendSockets;
use super::spread::Spread;
use super::{
    COUNTERS_INTERVAL, FIRST_CHANNEL_SOCKET, FIRST_SEND_SOCKET, SOCKET, STOP_PATIENCE, WAKER,
    WorkerCounters,
};
use crate::clock::Clock;
use crate::steer;
use crate::sys::{ReceiveBuffer, Socket};
use levada_lane::Lane;
use levada_lane::api::{Channel, Command, Event, Input, LinkEvent, Output, Train, Transmit};
use levada_lane::ledger::DropReason;

/// Receives of one turn, of up to 64 datagrams each.
const RECEIVES_PER_TURN: usize = 64;
/// Receive errors in a turn after which the socket is left alone until something new comes.
const RECEIVE_ERRORS_PER_TURN: u64 = 8;
/// What may gather before it is sent: one call of the lane may leave more than is allowed to wait for a full socket.
const FLUSH_BYTES: usize = 1 << 20;
/// Sends that gather for another lane before it is given them: few, so that it begins while this one still works.
const GIVEN_AT_ONCE: usize = 64;

/// What a worker is made of. See [`super::Config`].
pub(super) struct Parts {
    pub(super) lane: Lane,
    pub(super) clock: Clock,
    pub(super) on_event: Box<dyn FnMut(Event) + Send>,
    pub(super) on_foreign: Box<dyn FnMut(Train) + Send>,
    pub(super) socket: Arc<Socket>,
    pub(super) shared: Arc<Shared>,
    /// A second handle of the socket, by which the poller knows it.
    pub(super) readiness: mio::net::UdpSocket,
    /// Whether datagrams are taken from the socket, or only from other lanes.
    pub(super) receives: bool,
    /// Which of the lanes this is.
    pub(super) here: usize,
    /// The right to give to other lanes.
    pub(super) giver: Giver,
}

/// See the module's head.
pub(super) struct Worker {
    parts: Parts,
    send_sockets: SendSockets,
    channel_sockets: ChannelSockets,
    /// What was heard, while it is worked on.
    heard: Vec<Train>,
    buffer: ReceiveBuffer,
    commands: Vec<Command>,
    /// What the lane says, until what it sends has left.
    events: Vec<Event>,
    spread: Spread,
    /// What gathers for each other lane to send.
    given: Vec<Vec<Transmit>>,
    /// What other lanes gave, while it is worked on.
    taken: Taken,
    counters: Counters,
    /// Of the datagrams that found the receive buffer full, those that the lane knows of.
    overflows_told: u64,
    /// The socket may have something: readiness is told once, when it changes.
    is_readable: bool,
    /// What the poller tells of the socket.
    armed: Option<Interest>,
    /// Something happened since the counters were published.
    is_stale: bool,
    published: Instant,
}

/// What the worker itself counts.
#[derive(Debug, Default)]
struct Counters {
    receives: u64,
    receive_errors: u64,
    passed_on: u64,
    shared_sends: u64,
    /// Datagrams of another lane that it had no room for.
    lane_busy: u64,
}

/// Tells those who wait for counters that none will come, however the thread ends; and if nobody asked it to end, ends
/// the other lanes too: without its flows the node is no node.
struct Finish {
    shared: Arc<Shared>,
    siblings: Arc<SiblingLanes>,
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.shared.finish();
        if !self.shared.is_stopping() {
            self.siblings.stop();
        }
    }
}

impl Worker {
    pub(super) fn new(parts: Parts) -> Self {
        let (lanes, now) = (parts.giver.siblings.len(), parts.clock.now());
        Self {
            published: now,
            spread: Spread::new(parts.here, lanes),
            given: vec![Vec::new(); lanes],
            taken: Taken::default(),
            send_sockets: SendSockets::new(Arc::clone(&parts.socket), now),
            channel_sockets: ChannelSockets::default(),
            heard: Vec::new(),
            buffer: ReceiveBuffer::new(),
            commands: Vec::new(),
            events: Vec::new(),
            counters: Counters::default(),
            overflows_told: 0,
            is_readable: parts.receives,
            armed: parts.receives.then_some(Interest::READABLE),
            is_stale: true,
            parts,
        }
    }

    pub(super) fn run(mut self, mut poll: Poll, mut events: Events) {
        let _finish = Finish {
            shared: Arc::clone(&self.parts.shared),
            siblings: Arc::clone(&self.parts.giver.siblings),
        };
        loop {
            // Read first: commands sent before the wish to stop, or to know, are taken before it is granted.
            let is_stopping = self.parts.shared.is_stopping();
            let asked = self.parts.shared.asked();
            let has_commands = self.turn();
            if is_stopping && !has_commands {
                break;
            }
            self.publish(asked.filter(|_| !has_commands));
            let timeout = self.sleep(has_commands);
            if !self.wait(&mut poll, &mut events, timeout) {
                break;
            }
        }
        self.take_the_rest(&mut poll, &mut events);
        self.send_the_rest(&mut poll, &mut events);
        let latest = self.counters();
        self.parts.shared.publish(latest, None);
    }

    /// Does some of everything; says whether commands are left.
    fn turn(&mut self) -> bool {
        let mut commands = std::mem::take(&mut self.commands);
        let has_more = self.parts.shared.take(&mut commands);
        for command in commands.drain(..) {
            self.input(Input::Command(command));
        }
        self.commands = commands;
        self.take_from_others();
        self.receive();
        self.receive_channels();
        let now = self.parts.clock.now();
        let lane = &self.parts.lane;
        let is_due = lane.poll_timeout().is_some_and(|wakeup| wakeup.at <= now);
        if is_due || lane.is_asked_for_room() {
            self.parts.lane.handle_timeout(now);
            self.take_outputs(now);
        }
        self.flush(now);
        self.tell_too_large();
        self.tell_late();
        has_more
    }

    /// Tells the lanes of the flows what was not sent since it had waited too long.
    fn tell_late(&mut self) {
        let (lanes, mut late) = (self.given.len(), std::mem::take(&mut self.taken.late));
        self.send_sockets.take_late(&mut late);
        for one in late.drain(..) {
            let lane = steer::lane_of(one.flow, lanes);
            if lane == self.parts.here {
                self.input(Input::Late(one));
            } else {
                self.siblings().give_late(lane, one);
            }
        }
        self.taken.late = late;
    }

    /// Tells of the links that a datagram was too large for: at most once a turn for each.
    fn tell_too_large(&mut self) {
        let on_event = &mut self.parts.on_event;
        let say = |link, bytes| {
            on_event(Event::Core(lane::Event::Link(
                link,
                LinkEvent::TooLarge { bytes },
            )))
        };
        self.send_sockets.take_too_large(say);
    }

    /// Takes what came on channels: it is of this lane's flows.
    fn receive_channels(&mut self) {
        let mut heard = std::mem::take(&mut self.heard);
        let mut errors = 0;
        let (channels, buffer) = (&mut self.channel_sockets, &mut self.buffer);
        channels.receive(buffer, RECEIVES_PER_TURN, |train| match train {
            Ok(train) => heard.push(train),
            Err(_) => errors += 1,
        });
        self.counters.receive_errors += errors;
        for train in heard.drain(..) {
            self.input(Input::Heard(train));
        }
        self.heard = heard;
    }

    fn receive(&mut self) {
        let mut errors = 0;
        for _ in 0..RECEIVES_PER_TURN {
            if !self.is_readable {
                return;
            }
            let Parts {
                socket, readiness, ..
            } = &self.parts;
            let buffer = &mut self.buffer;
            match readiness.try_io(|| socket.receive(buffer)) {
                Ok(train) => {
                    self.counters.receives += 1;
                    self.tell_overflows();
                    self.on_train(train);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_readable = false,
                Err(_) => {
                    // Of an earlier send, usually: it says nothing of this socket.
                    self.counters.receive_errors += 1;
                    errors += 1;
                    self.is_readable = errors < RECEIVE_ERRORS_PER_TURN;
                }
            }
        }
    }

    /// Tells the lane what found the receive buffer full, which the system tells with what came after it.
    fn tell_overflows(&mut self) {
        let known = self.parts.socket.overflows();
        if known != self.overflows_told {
            let more = known - self.overflows_told;
            self.overflows_told = known;
            self.input(Input::Overflow(more));
        }
    }

    /// Takes what arrived here, and passes on what is another lane's.
    fn on_train(&mut self, train: Train) {
        let lanes = self.given.len();
        if lanes == 1 {
            return self.input(Input::Train(train));
        }
        for (lane, part) in steer::Parts::new(train, lanes, self.parts.here) {
            if lane == self.parts.here {
                self.input(Input::Train(part));
                continue;
            }
            self.is_stale = true;
            let datagrams = part.bytes.len().div_ceil(part.segment_bytes.max(1)) as u64;
            match self.siblings().give_train(lane, part) {
                Ok(()) => self.counters.passed_on += datagrams,
                Err(_) => self.counters.lane_busy += datagrams,
            }
        }
    }

    /// Takes what other lanes gave: datagrams of this lane's flows, and a share of their sends.
    fn take_from_others(&mut self) {
        let mut taken = std::mem::take(&mut self.taken);
        self.parts.shared.inbox.take(&mut taken);
        let Taken {
            trains,
            sends,
            late,
        } = &mut taken;
        for late in late.drain(..) {
            self.input(Input::Late(late));
        }
        if !sends.is_empty() {
            self.is_stale = true;
            let now = self.parts.clock.now();
            for send in sends.drain(..) {
                self.queue_send(now, send);
            }
            self.send_sockets.flush(now);
        }
        for train in trains.drain(..) {
            self.input(Input::Train(train));
        }
        self.taken = taken;
    }

    fn input(&mut self, input: Input) {
        let now = self.parts.clock.now();
        self.parts.lane.handle_input(now, input);
        self.take_outputs(now);
        self.flush(now);
    }

    /// Sends what is to be sent, and only then tells what happened: other nodes do not wait for local subscribers.
    fn flush(&mut self, now: Instant) {
        self.send_sockets.flush(now);
        self.events.drain(..).for_each(&mut self.parts.on_event);
    }

    fn take_outputs(&mut self, now: Instant) {
        self.is_stale = true;
        let mut sends = 0;
        while let Some(output) = self.parts.lane.poll_output() {
            match output {
                Output::Transmit(transmit) => {
                    sends += 1;
                    self.send(now, transmit);
                }
                Output::Foreign(train) => (self.parts.on_foreign)(train),
                Output::Join(channel) => self.join(now, channel),
                Output::Leave(channel) => self.channel_sockets.leave(channel),
                Output::WakeOthers => self.siblings().wake_all(),
                Output::Event(event) => self.events.push(event),
            }
        }
        for lane in 0..self.given.len() {
            self.give(lane);
        }
        self.spread.note(now, sends);
    }

    /// Joins a channel; the lane hears it if that fails.
    fn join(&mut self, now: Instant, channel: Channel) {
        if let Err(error) = self.channel_sockets.join(channel) {
            let reason = error.to_string();
            let failed = Input::CannotJoin { channel, reason };
            self.parts.lane.handle_input(now, failed);
        }
    }

    /// Sends, or has another lane send.
    fn send(&mut self, now: Instant, transmit: Transmit) {
        let lane = self.spread.home(transmit.egress);
        if lane == self.parts.here {
            return self.queue_send(now, transmit);
        }
        self.given[lane].push(transmit);
        if self.given[lane].len() >= GIVEN_AT_ONCE {
            self.give(lane);
        }
    }

    /// Gives another lane what has gathered for it.
    fn give(&mut self, lane: usize) {
        let mut sends = std::mem::take(&mut self.given[lane]);
        if !sends.is_empty() {
            let before = sends.len();
            self.siblings().give_sends(lane, &mut sends);
            self.counters.shared_sends += (before - sends.len()) as u64;
            self.send_sockets.drop_runs(&mut sends);
        }
        self.given[lane] = sends;
    }

    fn queue_send(&mut self, now: Instant, transmit: Transmit) {
        if self.send_sockets.push(now, transmit) >= FLUSH_BYTES {
            self.send_sockets.flush(now);
        }
    }

    fn siblings(&self) -> &SiblingLanes {
        &self.parts.giver.siblings
    }

    /// How long there is nothing to do unless something comes.
    fn sleep(&self, has_commands: bool) -> Option<Duration> {
        if has_commands || self.is_readable || self.channel_sockets.has_more() {
            return Some(Duration::ZERO);
        }
        let now = self.parts.clock.now();
        let timer = self
            .parts
            .lane
            .poll_timeout()
            .map(|wakeup| wakeup.at.since(now));
        let counters = (self.published + COUNTERS_INTERVAL).since(now);
        let counters = self.is_stale.then_some(counters);
        let retry = self.send_sockets.retry_at().map(|at| at.since(now));
        [timer, counters, retry].into_iter().flatten().min()
    }

    /// Waits for the socket, a command or the time; `false` if the poller is broken.
    fn wait(&mut self, poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> bool {
        self.arm(poll);
        match poll.poll(events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(error) => {
                tracing::error!(%error, "the lane's thread cannot wait for its socket, and ends");
                return false;
            }
        }
        for event in events.iter() {
            match event.token() {
                WAKER => {}
                SOCKET => {
                    let has_some = event.is_readable() || event.is_error();
                    self.is_readable |= self.parts.receives && has_some;
                    if event.is_writable() {
                        self.send_sockets.own_is_writable();
                    }
                }
                other if other >= FIRST_CHANNEL_SOCKET => self
                    .channel_sockets
                    .is_readable(other, FIRST_CHANNEL_SOCKET),
                other => self.send_sockets.is_writable(other, FIRST_SEND_SOCKET),
            }
        }
        true
    }

    /// Has the poller tell what is waited for now.
    fn arm(&mut self, poll: &Poll) {
        self.send_sockets.arm(poll.registry(), FIRST_SEND_SOCKET);
        self.channel_sockets
            .arm(poll.registry(), FIRST_CHANNEL_SOCKET);
        let reads = self.parts.receives.then_some(Interest::READABLE);
        let writes = self.send_sockets.is_own_blocked();
        let writes = writes.then_some(Interest::WRITABLE);
        let wanted = match (reads, writes) {
            (Some(reads), Some(writes)) => Some(reads | writes),
            (reads, writes) => reads.or(writes),
        };
        if wanted == self.armed {
            return;
        }
        let (registry, socket) = (poll.registry(), &mut self.parts.readiness);
        let result = match (self.armed, wanted) {
            (None, Some(wanted)) => registry.register(socket, SOCKET, wanted),
            (_, Some(wanted)) => registry.reregister(socket, SOCKET, wanted),
            (_, None) => registry.deregister(socket),
        };
        if result.is_ok() {
            self.armed = wanted;
        }
    }

    fn publish(&mut self, asked: Option<u64>) {
        let now = self.parts.clock.now();
        let is_due = self.is_stale && now.since(self.published) >= COUNTERS_INTERVAL;
        if is_due || asked.is_some() {
            let latest = self.counters();
            self.parts.shared.publish(latest, asked);
            self.published = now;
            self.is_stale = false;
        }
    }

    fn counters(&self) -> WorkerCounters {
        let mut lane = self.parts.lane.counters();
        lane.ledger.arrived += self.counters.lane_busy;
        let reason = DropReason::LaneBusy;
        lane.ledger.drop_packets(reason, self.counters.lane_busy);
        WorkerCounters {
            lane,
            send: self.send_sockets.counters(),
            receives: self.counters.receives,
            receive_errors: self.counters.receive_errors,
            receive_overflows: self.parts.socket.overflows(),
            passed_on: self.counters.passed_on,
            shared_sends: self.counters.shared_sends,
        }
    }

    /// Takes what other lanes still give while they end too.
    fn take_the_rest(&mut self, poll: &mut Poll, events: &mut Events) {
        self.spread = Spread::new(self.parts.here, 1); // from now on this lane sends everything itself
        self.parts.giver.end();
        loop {
            // Asked first: what is there when all others have ended is all that there will be.
            let is_quiet = self.siblings().is_quiet();
            self.take_from_others();
            if is_quiet || !self.wait(poll, events, None) {
                return;
            }
        }
    }

    /// Waits for a full socket a last time.
    fn send_the_rest(&mut self, poll: &mut Poll, events: &mut Events) {
        let end = self.parts.clock.now() + STOP_PATIENCE;
        loop {
            let now = self.parts.clock.now();
            self.send_sockets.flush(now);
            let left = end.since(now);
            let is_done = self.send_sockets.is_empty() || left.is_zero();
            if is_done || !self.wait(poll, events, Some(left)) {
                return;
            }
        }
    }
}
