//! What a worker shares with its handle and with other lanes: commands, counters, the wish to stop, and an inbox.
//!
//! Not the work. Called by all sides. Invariant: who gives a command that may be taken finds the worker awake or wakes
//! it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use mio::Waker;

use super::WorkerCounters;
use super::commands::{Commands, Full};
use super::handover::Inbox;
use levada_lane::api::Command;

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
    commands: Mutex<Commands>,
    counters: Mutex<Counters>,
    answered: Condvar,
}

impl Shared {
    pub(super) fn new(waker: Waker) -> Self {
        Self {
            stopping: AtomicBool::new(false),
            inbox: Inbox::default(),
            waker,
            commands: Mutex::default(),
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
        self.give(|commands| commands.give(command))
    }

    /// Whether [`Shared::push_about_link`] may be called. Others may take room at the same time, but none of this.
    pub(super) fn has_room_for_links(&self) -> bool {
        lock(&self.commands).has_room_for_links()
    }

    pub(super) fn push_about_link(&self, command: Command) {
        self.give(|commands| commands.give_about_link(command));
    }

    fn give<T>(&self, give: impl FnOnce(&mut Commands) -> T) -> T {
        let mut commands = lock(&self.commands);
        let was_empty = commands.is_empty();
        let given = give(&mut commands);
        drop(commands);
        if was_empty {
            self.wake(); // who finds commands waiting was preceded by somebody who woke the worker
        }
        given
    }

    /// Moves the commands of one turn into `into`; says whether more are left.
    pub(super) fn take(&self, into: &mut Vec<Command>) -> bool {
        let mut commands = lock(&self.commands);
        commands.take(into);
        !commands.is_empty()
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
