//! The thread that owns a lane and a socket: it moves datagrams, commands and time between them.
//!
//! ```text
//!            commands (bounded)            trains (GRO)
//!  node ──────────────────────▶ worker ◀─────────────────── socket ◀─▶ network
//!       ◀────────────────────── │ Lane │ ───────────────────▶  ▲
//!            events, QUIC       └──────┘   runs (GSO)          └── QUIC, sent by the node itself
//! ```
//!
//! Decides nothing. Called by the node, which spawns one per lane. Invariant: no turn does more than its budget
//! before all of commands, socket and timers had theirs; a send that fails is counted and never ends anything; a
//! full socket is waited for, with at most [`SEND_QUEUE_BYTES_MAX`] behind it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};

use crate::api::{Command, Event, LaneCounters, Train};
use crate::clock::Clock;
use crate::lane::Lane;
use crate::sys::{Feature, Socket};

mod queue;
mod send;
mod turn;

pub use queue::{COMMAND_BYTES_MAX, COMMANDS_MAX, Full};
pub use send::{SEND_QUEUE_BYTES_MAX, SendCounters};

use queue::Shared;

/// The counters that anyone may read at any time are at most this old.
pub const COUNTERS_INTERVAL: Duration = Duration::from_millis(250);
/// How long a worker that stops waits for a full socket.
pub const STOP_PATIENCE: Duration = Duration::from_millis(250);

const SOCKET: Token = Token(0);
const WAKER: Token = Token(1);

/// What a worker is made of.
pub struct Config {
    /// What it drives.
    pub lane: Lane,
    /// What it drives it over.
    pub socket: Socket,
    /// The node's clock.
    pub clock: Clock,
    /// Takes events. Called on the worker's thread: it must not wait.
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

/// What a worker has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerCounters {
    /// The lane's.
    pub lane: LaneCounters,
    /// The socket's.
    pub send: SendCounters,
    /// Receives that failed, other than for want of a datagram.
    pub receive_errors: u64,
}

/// The node's end of a worker. Dropping it stops the worker.
#[derive(Debug)]
pub struct WorkerHandle {
    shared: Arc<Shared>,
    socket: Arc<Socket>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the thread of a lane.
///
/// # Errors
///
/// When the system gives no thread, no poller or no second handle of the socket.
pub fn spawn(config: Config) -> io::Result<WorkerHandle> {
    let poll = Poll::new()?;
    let mut readiness = mio::net::UdpSocket::from_std(config.socket.try_clone_io()?);
    poll.registry()
        .register(&mut readiness, SOCKET, Interest::READABLE)?;
    let shared = Arc::new(Shared::new(Waker::new(poll.registry(), WAKER)?));
    let socket = Arc::new(config.socket);
    let worker = turn::Worker::new(turn::Parts {
        lane: config.lane,
        clock: config.clock,
        on_event: config.on_event,
        on_foreign: config.on_foreign,
        socket: Arc::clone(&socket),
        shared: Arc::clone(&shared),
        readiness,
    });
    let thread = std::thread::Builder::new()
        .name("levada-lane".into())
        .spawn(move || worker.run(poll, Events::with_capacity(8)))?;
    Ok(WorkerHandle {
        shared,
        socket,
        thread: Some(thread),
    })
}

impl WorkerHandle {
    /// Gives the lane a command, in the order of calls. Never waits.
    ///
    /// # Errors
    ///
    /// The command itself, when [`COMMANDS_MAX`] or [`COMMAND_BYTES_MAX`] are waiting: try again later.
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

    fn join(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.wake();
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
