//! What a worker shares with its handle and with other lanes: commands, counters, the wish to stop, and an inbox.
//!
//! Not the work. Called by all sides. Invariant: the queue keeps the order of calls and never holds more than
//! [`COMMANDS_MAX`] commands (and some about links) or [`COMMAND_BYTES_MAX`] bytes of frames, and one frame may always be
//! queued.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use mio::Waker;

use super::WorkerCounters;
use super::handover::Inbox;
use levada_lane::api::Command;

/// The most commands that wait for the worker: a second's worth of frames of a thousand streams.
pub const COMMANDS_MAX: usize = 65_536;
/// The room for commands about links, besides [`COMMANDS_MAX`]: they go to all lanes, or to none.
pub(crate) const LINK_COMMANDS_MAX: usize = 4_096;
/// The most bytes of frames that wait for the worker.
pub const COMMAND_BYTES_MAX: usize = 64 << 20;

/// The queue of commands is full; the command comes back.
#[derive(Debug, thiserror::Error)]
#[error("{COMMANDS_MAX} commands or {} MiB of frames wait for the lane", COMMAND_BYTES_MAX >> 20)]
pub struct Full(pub Box<Command>);

#[derive(Debug, Default)]
struct Queue {
    commands: VecDeque<Command>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Counters {
    latest: WorkerCounters,
    /// How often someone asked for fresh counters, and how many of those were answered.
    asked: u64,
    answered: u64,
    /// The worker has ended: nobody will answer.
    is_final: bool,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Shared {
    stopping: AtomicBool,
    pub(super) inbox: Inbox,
    waker: Waker,
    queue: Mutex<Queue>,
    counters: Mutex<Counters>,
    answered: Condvar,
}

impl Shared {
    pub(super) fn new(waker: Waker) -> Self {
        Self {
            stopping: AtomicBool::new(false),
            inbox: Inbox::default(),
            waker,
            queue: Mutex::default(),
            counters: Mutex::default(),
            answered: Condvar::new(),
        }
    }

    pub(super) fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "the lane's thread cannot be woken");
        }
    }

    pub(super) fn ask_to_stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(super) fn push(&self, command: Command) -> Result<(), Full> {
        let bytes = frame_bytes(&command);
        let mut queue = lock(&self.queue);
        let has_room = queue.bytes == 0 || queue.bytes + bytes <= COMMAND_BYTES_MAX;
        if queue.commands.len() >= COMMANDS_MAX || !has_room {
            return Err(Full(Box::new(command)));
        }
        queue.bytes += bytes;
        self.put(queue, command);
        Ok(())
    }

    /// Whether [`Shared::push_about_link`] may be called. Others may take room at the same time, but none of this.
    pub(super) fn has_room_for_links(&self) -> bool {
        lock(&self.queue).commands.len() < COMMANDS_MAX + LINK_COMMANDS_MAX
    }

    pub(super) fn push_about_link(&self, command: Command) {
        self.put(lock(&self.queue), command);
    }

    fn put(&self, mut queue: MutexGuard<'_, Queue>, command: Command) {
        let was_empty = queue.commands.is_empty();
        queue.commands.push_back(command);
        drop(queue);
        if was_empty {
            self.wake(); // who finds commands waiting was preceded by somebody who woke the worker
        }
    }

    /// Moves up to `max` commands into `into`; says whether more are left.
    pub(super) fn take(&self, max: usize, into: &mut Vec<Command>) -> bool {
        let mut queue = lock(&self.queue);
        let count = max.min(queue.commands.len());
        into.extend(queue.commands.drain(..count));
        queue.bytes -= into.iter().map(frame_bytes).sum::<usize>();
        !queue.commands.is_empty()
    }

    pub(super) fn counters(&self) -> WorkerCounters {
        lock(&self.counters).latest.clone()
    }

    pub(super) fn fresh_counters(&self) -> WorkerCounters {
        let mut counters = lock(&self.counters);
        counters.asked += 1;
        let mine = counters.asked;
        self.wake();
        while counters.answered < mine && !counters.is_final {
            let waited = self.answered.wait(counters);
            counters = waited.unwrap_or_else(PoisonError::into_inner);
        }
        counters.latest.clone()
    }

    /// How often fresh counters were asked for; `None` if all were answered.
    pub(super) fn asked(&self) -> Option<u64> {
        let counters = lock(&self.counters);
        (counters.asked > counters.answered).then_some(counters.asked)
    }

    /// Publishes counters, as the answer to the first `answered` who asked.
    pub(super) fn publish(&self, latest: WorkerCounters, answered: Option<u64>) {
        let mut counters = lock(&self.counters);
        counters.latest = latest;
        counters.answered = answered.unwrap_or(counters.answered);
        drop(counters);
        self.answered.notify_all();
    }

    /// Nothing is published any more.
    pub(super) fn finish(&self) {
        lock(&self.counters).is_final = true;
        self.answered.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole between any two statements, whoever panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const fn frame_bytes(command: &Command) -> usize {
    match command {
        Command::Push { frame, .. } => frame.data.len(),
        _ => 0,
    }
}
