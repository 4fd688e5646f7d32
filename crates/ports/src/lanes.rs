//! All lanes of a node, behind a handle that looks like one worker.
//!
//! ```text
//!            ┌─ commands of a flow ──▶ lane (FlowId::steer) mod lanes ─┐ datagrams that arrived at the wrong lane,
//!  node ──▶ Lanes ─ of a link ───────▶ every lane                      ├─ shares of long egress lists
//!            └─ counters ◀──────────── added up                        ┘ (`worker::handover`)
//! ```
//!
//! Each flow is one lane's: its window, cache and egresses are touched by one thread. A link is known to all lanes,
//! each of which seals and counts for itself ([`levada_wire::datagram::link::Counter`] names the lane). Pings and pongs
//! are lane 0's, and say what all lanes have sent and received ([`levada_lane::Shared`]); one room for
//! caches and one rate for newcomers are theirs together as well. Not a thread: [`crate::worker`] is. Called by the
//! node. Invariant: a command about a link reaches all lanes or none, and each lane gets its commands in the order of
//! calls.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use levada_wire::Bitrate;

use crate::clock::Clock;
use crate::steer::{self, Taker};
use crate::sys::{Feature, Socket, SocketSet};
use crate::worker::{self, Full, WorkerCounters, WorkerHandle};
use levada_lane::api::{Command, Event, Train};
use levada_lane::{Lane, LaneSettings, Shared};

/// The most lanes: beyond, one flow in each hardly exists, and a long egress list is shared well enough.
pub const LANES_MAX: usize = 8;

/// As many lanes as are of use here: one per processor, at most [`LANES_MAX`].
#[must_use]
pub fn default_lanes() -> usize {
    let processors = std::thread::available_parallelism();
    processors.map_or(1, |count| count.get().min(LANES_MAX))
}

/// What lanes are made of.
pub struct Config {
    /// The sockets, one for each lane.
    pub sockets: SocketSet,
    /// The limits of a node. Its lanes have the room of caches and what interfaces carry together.
    pub lane: LaneSettings,
    /// The node's clock.
    pub clock: Clock,
    /// Takes events. Called on the lanes' threads: it must not wait. The events of one flow come in order.
    pub on_event: Arc<dyn Fn(Event) + Send + Sync>,
    /// Takes QUIC. Called on the lanes' threads: it must not wait.
    pub on_foreign: Arc<dyn Fn(Train) + Send + Sync>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("sockets", &self.sockets)
            .field("lane", &self.lane)
            .finish_non_exhaustive()
    }
}

/// See the module's head. Dropping it stops all lanes.
#[derive(Debug)]
pub struct Lanes {
    /// At least one.
    workers: Vec<WorkerHandle>,
    /// What they have together.
    shared: Shared,
    steering: Feature,
    /// Held while a command goes to all lanes, so that the room seen before is there.
    to_all: Mutex<()>,
}

/// Starts a thread per socket.
///
/// # Errors
///
/// When the system gives no thread, no poller or no second handle of a socket.
pub fn spawn(config: Config) -> io::Result<Lanes> {
    let steering = config.sockets.steering();
    let sockets = config.sockets.into_sockets();
    let count = sockets.len();
    let shared = Shared::new(count, config.lane.interface_rate);
    let mut workers = Lanes {
        workers: Vec::new(),
        shared: shared.clone(),
        steering,
        to_all: Mutex::new(()),
    };
    for (at, (seat, socket)) in worker::seats(count)?.into_iter().zip(sockets).enumerate() {
        let number = u8::try_from(at).expect("there are few lanes");
        let (on_event, on_foreign) = (Arc::clone(&config.on_event), Arc::clone(&config.on_foreign));
        let lane = worker::Config {
            lane: Lane::among(number, config.lane.clone(), shared.clone()),
            socket,
            clock: config.clock,
            on_event: Box::new(move |event| on_event(event)),
            on_foreign: Box::new(move |train| on_foreign(train)),
        };
        let receives = at == 0 || steering.is_on();
        workers.workers.push(seat.start(lane, receives)?);
    }
    Ok(workers)
}

impl Lanes {
    /// Gives the lane of a flow, or all lanes, a command, in the order of calls. Never waits.
    ///
    /// # Errors
    ///
    /// The command itself, when as many as may are waiting at a lane that it concerns: try again later.
    pub fn send(&self, command: Command) -> Result<(), Full> {
        match steer::taker(&command, self.workers.len()) {
            Taker::Lane(lane) => self.workers[lane].send(command),
            Taker::All => self.send_to_all(command),
        }
    }

    fn send_to_all(&self, command: Command) -> Result<(), Full> {
        let _room = self.to_all.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.workers.iter().all(WorkerHandle::has_room_for_links) {
            return Err(Full(Box::new(command)));
        }
        for worker in &self.workers {
            worker.send_about_link(command.clone());
        }
        Ok(())
    }

    /// From now on the interface with that address carries so much, and newcomers there get a quarter of it.
    pub fn set_interface_rate(&self, source: IpAddr, rate: Bitrate) {
        self.shared.set_interface_rate(source, rate);
    }

    /// The counters as of [`worker::COUNTERS_INTERVAL`] ago at most. Never waits.
    #[must_use]
    pub fn counters(&self) -> WorkerCounters {
        self.add_up(WorkerHandle::counters)
    }

    /// The counters after all commands sent so far. Waits for a turn of each lane.
    #[must_use]
    pub fn fresh_counters(&self) -> WorkerCounters {
        self.add_up(WorkerHandle::fresh_counters)
    }

    /// The counters of each lane, as [`Lanes::counters`].
    #[must_use]
    pub fn counters_by_lane(&self) -> Vec<WorkerCounters> {
        self.workers.iter().map(WorkerHandle::counters).collect()
    }

    fn add_up(&self, of: impl Fn(&WorkerHandle) -> WorkerCounters) -> WorkerCounters {
        let mut sum = WorkerCounters::default();
        for worker in &self.workers {
            sum += &of(worker);
        }
        sum
    }

    /// How many lanes there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.workers.len()
    }

    /// The socket of lane 0, for whoever sends on the same port.
    #[must_use]
    pub fn socket(&self) -> Arc<Socket> {
        self.workers[0].socket()
    }

    /// Where all sockets are bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.workers[0].local_addr()
    }

    /// Whether runs leave in one system call.
    #[must_use]
    pub fn gso(&self) -> Feature {
        self.workers[0].gso()
    }

    /// Whether trains arrive in one system call.
    #[must_use]
    pub fn gro(&self) -> Feature {
        self.workers[0].gro()
    }

    /// Whether the kernel brings each datagram to the lane of its flow; if not, lane 0 receives for all.
    #[must_use]
    pub const fn steering(&self) -> Feature {
        self.steering
    }

    /// Stops all lanes after the commands sent so far, sends what is queued, and gives the last counters.
    ///
    /// A burst that still waits for its flush interval is lost: finish the flows first.
    #[must_use]
    pub fn stop(mut self) -> WorkerCounters {
        self.join();
        self.counters()
    }

    /// Ends all threads before the first socket closes: closing one alone would renumber the others.
    fn join(&mut self) {
        for worker in &self.workers {
            worker.ask_to_stop();
        }
        for worker in &mut self.workers {
            worker.join();
        }
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.join();
    }
}

#[cfg(test)]
mod tests;
