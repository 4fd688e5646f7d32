//! The thread that owns a lane and a socket: it moves datagrams, commands and time between them, and passes to other
//! lanes what is theirs.
//!
//! ```text
//!            commands (bounded)            trains (GRO)
//!  node ──────────────────────▶ worker ◀─────────────────── socket ◀─▶ network
//!       ◀────────────────────── │ Lane │ ───────────────────▶  ▲
//!            events, QUIC       └──────┘   runs (GSO)          └── QUIC, sent by the node itself
//! ```
//!
//! Decides nothing. Called by [`crate::lanes`], which starts one per lane, and alone by measurements. Invariant: no
//! turn does more than its budget before all of commands, socket and timers had theirs; a send that fails is counted
//! and never ends anything; a full socket is waited for, with at most [`SEND_QUEUE_BYTES_MAX`] and [`BACKLOG_MAX`]
//! behind it.

use std::io;
use std::net::SocketAddr;
use std::ops::AddAssign;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};

use crate::clock::Clock;
use crate::sys::{Feature, Socket};
use levada_lane::Lane;
use levada_lane::api::{Command, Event, LaneCounters, Train};
use levada_wire::counters;

mod backlog;
mod channel_sockets;
mod commands;
mod handover;
mod queue;
mod send;
mod send_sockets;
mod spread;
mod turn;

pub use channel_sockets::{CHANNEL_SOCKETS_MAX, CHANNELS_PER_SOCKET_MAX};
#[cfg(test)]
pub(crate) use commands::LINK_COMMANDS_MAX;
pub use commands::{COMMANDS_MAX, FRAME_BYTES_MAX, FRAMES_MAX, Full};
pub use handover::{HANDED_BYTES_MAX, HANDED_SENDS_MAX};
pub use send::{BACKLOG_MAX, SEND_QUEUE_BYTES_MAX, SendCounters};
pub use send_sockets::{SEND_SOCKETS_MAX, WAYS_MAX};
pub use spread::SHARED_FROM;

use handover::{Giver, SiblingLanes};
use queue::Shared;

/// The counters that anyone may read at any time are at most this old.
pub const COUNTERS_INTERVAL: Duration = Duration::from_millis(250);
/// How long a worker that stops waits for a full socket.
pub const STOP_PATIENCE: Duration = Duration::from_millis(250);

/// The name of a lane's thread, which its number follows where there are several.
pub const THREAD_NAME: &str = "levada-lane";

const SOCKET: Token = Token(0);
const WAKER: Token = Token(1);
/// The first of the sockets to send by; the lane's own is none of them.
const FIRST_SEND_SOCKET: Token = Token(2);
/// The first of the sockets that receive channels.
const FIRST_CHANNEL_SOCKET: Token = Token(FIRST_SEND_SOCKET.0 + SEND_SOCKETS_MAX);

/// What a worker is made of.
pub struct Config {
    /// The lane, which moves to the thread.
    pub lane: Lane,
    /// What it drives it over.
    pub socket: Socket,
    /// The node's clock.
    pub clock: Clock,
    /// Takes events, once what the lane sends has left. Called on the worker's thread: it must not wait.
    pub on_event: Box<dyn FnMut(Event) + Send>,
    /// Takes QUIC. Called on the worker's thread: it must not wait.
    pub on_foreign: Box<dyn FnMut(Train) + Send>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("lane", &self.lane)
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

counters! {
    /// What a worker has counted.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct WorkerCounters, "" {
        /// Receives that brought something: a datagram or a train.
        receives: Counter "calls",
        /// Receives that failed, other than for want of a datagram.
        receive_errors: Counter "calls",
        /// Datagrams that the network brought and for which the receive buffer had no room: lost here, not on the way.
        receive_overflows: Counter "datagrams",
        /// Datagrams that arrived here and were passed on to the lane that owns their flow.
        passed_on: Counter "datagrams",
        /// Sends that another lane was given a share of.
        shared_sends: Counter "sends",
    } with {
        /// The lane's.
        pub lane: LaneCounters,
        /// The socket's.
        pub send: SendCounters,
    }
}

/// Counts of several lanes together.
impl AddAssign<&Self> for WorkerCounters {
    fn add_assign(&mut self, other: &Self) {
        self.add_counts(other);
        self.lane += &other.lane;
        self.send += &other.send;
    }
}

/// The other end of a worker. Dropping it stops the worker.
#[derive(Debug)]
pub struct WorkerHandle {
    shared: Arc<Shared>,
    socket: Arc<Socket>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the thread of a lane that is the only one. Several: [`crate::lanes`].
///
/// # Errors
///
/// When the system gives no thread, no poller or no second handle of the socket.
pub fn spawn(config: Config) -> io::Result<WorkerHandle> {
    let mut seats = seats(1)?;
    let seat = seats.pop().expect("one was asked for");
    seat.start(config, true)
}

/// What a worker is started with: its place among the lanes, and what the others reach it by.
#[derive(Debug)]
pub(crate) struct Seat {
    here: usize,
    poll: Poll,
    shared: Arc<Shared>,
    /// Taken at once for all lanes: one that is never started gives nothing, and none waits for it.
    giver: Giver,
}

/// Makes the places of that many workers that know each other.
pub(crate) fn seats(lanes: usize) -> io::Result<Vec<Seat>> {
    let mut polls = Vec::new();
    for _ in 0..lanes {
        let poll = Poll::new()?;
        let shared = Arc::new(Shared::new(Waker::new(poll.registry(), WAKER)?));
        polls.push((poll, shared));
    }
    let all = polls.iter().map(|(_, shared)| Arc::clone(shared));
    let siblings = Arc::new(SiblingLanes::new(all.collect()));
    let seat = |(here, (poll, shared))| Seat {
        here,
        poll,
        shared,
        giver: Giver::new(Arc::clone(&siblings)),
    };
    Ok(polls.into_iter().enumerate().map(seat).collect())
}

impl Seat {
    /// Starts the worker. One that does not receive is given datagrams by the others.
    pub(crate) fn start(self, config: Config, receives: bool) -> io::Result<WorkerHandle> {
        let mut readiness = mio::net::UdpSocket::from_std(config.socket.try_clone_io()?);
        if receives {
            let registry = self.poll.registry();
            registry.register(&mut readiness, SOCKET, Interest::READABLE)?;
        }
        let socket = Arc::new(config.socket);
        let lanes = self.giver.siblings.len();
        let worker = turn::Worker::new(turn::Parts {
            lane: config.lane,
            clock: config.clock,
            on_event: config.on_event,
            on_foreign: config.on_foreign,
            socket: Arc::clone(&socket),
            shared: Arc::clone(&self.shared),
            readiness,
            receives,
            here: self.here,
            giver: self.giver,
        });
        let poll = self.poll;
        let name = match lanes {
            1 => THREAD_NAME.to_owned(),
            _ => format!("{THREAD_NAME}-{}", self.here),
        };
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || worker.run(poll, Events::with_capacity(16)))?;
        Ok(WorkerHandle {
            shared: self.shared,
            socket,
            thread: Some(thread),
        })
    }
}

impl WorkerHandle {
    /// Gives the lane a command. Control keeps the order of calls, and so do the commands of one publisher; neither
    /// waits for the other. Never waits.
    ///
    /// # Errors
    ///
    /// The command itself, when [`COMMANDS_MAX`] are waiting, or of a publisher's [`FRAMES_MAX`] or
    /// [`FRAME_BYTES_MAX`]: try again later.
    pub fn send(&self, command: Command) -> Result<(), Full> {
        self.shared.push(command)
    }

    /// The counters as of [`COUNTERS_INTERVAL`] ago at most. Never waits.
    #[must_use]
    pub fn counters(&self) -> WorkerCounters {
        self.shared.counters()
    }

    /// The counters after all commands sent so far. Waits for the worker's next turn.
    #[must_use]
    pub fn fresh_counters(&self) -> WorkerCounters {
        self.shared.fresh_counters()
    }

    /// The socket, for whoever sends on the same port.
    #[must_use]
    pub fn socket(&self) -> Arc<Socket> {
        Arc::clone(&self.socket)
    }

    /// Where the socket is bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr()
    }

    /// Whether runs leave in one system call.
    #[must_use]
    pub fn gso(&self) -> Feature {
        self.socket.gso()
    }

    /// Whether trains arrive in one system call.
    #[must_use]
    pub fn gro(&self) -> Feature {
        self.socket.gro()
    }

    /// Stops the worker after the commands sent so far, sends what is queued, and gives the last counters.
    ///
    /// A burst that still waits for its flush interval is lost: finish the flows first.
    #[must_use]
    pub fn stop(mut self) -> WorkerCounters {
        self.join();
        self.shared.counters()
    }

    /// Says that the worker is to stop, without waiting for it.
    pub(crate) fn ask_to_stop(&self) {
        self.shared.ask_to_stop();
    }

    /// Whether the queue has room for commands about links, besides all others.
    pub(crate) fn has_room_for_links(&self) -> bool {
        self.shared.has_room_for_links()
    }

    /// Gives the lane a command about a link: there is room kept for those.
    pub(crate) fn send_about_link(&self, command: Command) {
        self.shared.push_about_link(command);
    }

    /// Waits for the end of the worker, and keeps the socket.
    pub(crate) fn join(&mut self) {
        self.ask_to_stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the lane's thread panicked");
        }
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        self.join();
    }
}

#[cfg(test)]
mod tests;
