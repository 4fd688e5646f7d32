//! One turn of a worker: some commands, some receives, the timers due, all sends.
//!
//! Not what any of it means: the lane knows. Called by `worker::spawn`, in a thread of its own. Invariant: each
//! loop of a turn has a budget, and a turn that left work behind is followed by another without sleeping.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use levada_wire::{Instant, Machine};
use mio::{Events, Interest, Poll};

use super::queue::Shared;
use super::send::SendQueue;
use super::{COUNTERS_INTERVAL, SOCKET, STOP_PATIENCE, WorkerCounters};
use crate::api::{Command, Event, Input, Output, Train};
use crate::clock::Clock;
use crate::lane::Lane;
use crate::sys::{ReceiveBuffer, Socket};

/// Commands of one turn: at 1 us each, less than a receive buffer takes to fill.
const COMMANDS_PER_TURN: usize = 1_024;
/// Receives of one turn, of up to 64 datagrams each.
const RECEIVES_PER_TURN: usize = 64;
/// Receive errors in a turn after which the socket is left alone until something new comes.
const RECEIVE_ERRORS_PER_TURN: u64 = 8;

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
}

/// See the module's head.
pub(super) struct Worker {
    parts: Parts,
    queue: SendQueue,
    buffer: ReceiveBuffer,
    commands: Vec<Command>,
    receive_errors: u64,
    /// The socket may have something: readiness is told once, when it changes.
    is_readable: bool,
    /// The socket was full, and nothing was heard of it since.
    is_blocked: bool,
    /// The poller tells when the socket can be written.
    is_armed: bool,
    /// Something happened since the counters were published.
    is_stale: bool,
    published: Instant,
}

/// Tells those who wait for counters that none will come, however the thread ends.
struct Finish(Arc<Shared>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.finish();
    }
}

impl Worker {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            published: parts.clock.now(),
            parts,
            queue: SendQueue::default(),
            buffer: ReceiveBuffer::new(),
            commands: Vec::new(),
            receive_errors: 0,
            is_readable: true,
            is_blocked: false,
            is_armed: false,
            is_stale: true,
        }
    }

    pub(super) fn run(mut self, mut poll: Poll, mut events: Events) {
        let _finish = Finish(Arc::clone(&self.parts.shared));
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
        self.send_the_rest(&mut poll, &mut events);
        let latest = self.counters();
        self.parts.shared.publish(latest, None);
    }

    /// Does some of everything; says whether commands are left.
    fn turn(&mut self) -> bool {
        let mut commands = std::mem::take(&mut self.commands);
        let has_more = self.parts.shared.take(COMMANDS_PER_TURN, &mut commands);
        for command in commands.drain(..) {
            self.input(Input::Command(command));
        }
        self.commands = commands;
        self.receive();
        let now = self.parts.clock.now();
        if self
            .parts
            .lane
            .poll_timeout()
            .is_some_and(|wakeup| wakeup.at <= now)
        {
            self.parts.lane.handle_timeout(now);
            self.take_outputs();
        }
        self.flush();
        has_more
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
                Ok(train) => self.input(Input::Train(train)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_readable = false,
                Err(_) => {
                    // Of an earlier send, usually: it says nothing of this socket.
                    self.receive_errors += 1;
                    errors += 1;
                    self.is_readable = errors < RECEIVE_ERRORS_PER_TURN;
                }
            }
        }
    }

    fn input(&mut self, input: Input) {
        let now = self.parts.clock.now();
        self.parts.lane.handle_input(now, input);
        self.take_outputs();
        self.flush();
    }

    fn take_outputs(&mut self) {
        self.is_stale = true;
        while let Some(output) = self.parts.lane.poll_output() {
            match output {
                Output::Transmit(transmit) => self.queue.push(transmit),
                Output::Foreign(train) => (self.parts.on_foreign)(train),
                Output::Event(event) => (self.parts.on_event)(event),
            }
        }
    }

    fn flush(&mut self) {
        if !self.is_blocked {
            let socket = &self.parts.socket;
            self.queue.flush(|run| socket.send_part(run));
            self.is_blocked = !self.queue.is_empty();
        }
    }

    /// How long there is nothing to do unless something comes.
    fn sleep(&self, has_commands: bool) -> Option<Duration> {
        if has_commands || self.is_readable {
            return Some(Duration::ZERO);
        }
        let now = self.parts.clock.now();
        let timer = self
            .parts
            .lane
            .poll_timeout()
            .map(|wakeup| wakeup.at.since(now));
        let counters = (self.published + COUNTERS_INTERVAL).since(now);
        match (timer, self.is_stale) {
            (Some(timer), true) => Some(timer.min(counters)),
            (None, true) => Some(counters),
            (timer, false) => timer,
        }
    }

    /// Waits for the socket, a command or the time; `false` if the poller is broken.
    fn wait(&mut self, poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> bool {
        if self.is_blocked != self.is_armed {
            let interest = if self.is_blocked {
                Interest::READABLE | Interest::WRITABLE
            } else {
                Interest::READABLE
            };
            let socket = &mut self.parts.readiness;
            self.is_armed =
                poll.registry().reregister(socket, SOCKET, interest).is_ok() && self.is_blocked;
        }
        match poll.poll(events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(error) => {
                tracing::error!(%error, "the lane's thread cannot wait for its socket, and ends");
                return false;
            }
        }
        for event in events.iter().filter(|event| event.token() == SOCKET) {
            self.is_readable |= event.is_readable() || event.is_error();
            self.is_blocked &= !event.is_writable();
        }
        true
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
        WorkerCounters {
            lane: self.parts.lane.counters(),
            send: self.queue.counters,
            receive_errors: self.receive_errors,
        }
    }

    /// Waits for a full socket a last time.
    fn send_the_rest(&mut self, poll: &mut Poll, events: &mut Events) {
        let end = self.parts.clock.now() + STOP_PATIENCE;
        self.flush();
        while !self.queue.is_empty() {
            let left = end.since(self.parts.clock.now());
            if left.is_zero() || !self.wait(poll, events, Some(left)) {
                return;
            }
            self.flush();
        }
    }
}
