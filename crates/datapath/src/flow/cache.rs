//! The newest group of a flow, which a newcomer is sent first, and what came shortly before, which may be asked again.
//!
//! ```text
//!   forgotten │ repair: the last second or more │ newest group ──────────────▶ time
//!                                               ▲ join point: the first packet of the newest group that has
//!                                                 its first packet
//! ```
//!
//! What lies before the join point stays for the time in which somebody may still ask for it ([`REPAIR_KEPT`], or the
//! flow's repair budget if that is longer), and goes first where there is not room for all. A group that does not fit
//! beside nothing else cannot be joined: its packets are still forwarded, the latest of them still serve repair, and
//! whoever joins waits for the next group. That is counted and visible, never silent. Not the window (`window.rs`): the
//! cache forgets. Called by `forward::hand_on`, by `repair` when it serves, and by the lane when an egress or a consumer
//! joins. Invariant: runs are in the order of their numbers, a newcomer gets none before the join point, and
//! [`Room::used`] is the sum over all caches of the lane.

use std::collections::VecDeque;
use std::time::Duration;

use levada_wire::{Instant, Number};

use super::run::Run;

/// The most runs of one flow's cache: 27 minutes of 10 ms bursts. Bounds the sends that one newcomer causes.
pub(crate) const CACHE_RUNS_MAX: usize = 16_384;
/// How long packets before the join point are kept at least: a few round trips around the world.
pub(crate) const REPAIR_KEPT: Duration = Duration::from_secs(1);

/// Bytes that all caches of a lane share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Bytes held now.
    pub(crate) used: usize,
    /// Bytes that may be held.
    pub(crate) limit: usize,
}

/// A run, and when it was cached.
#[derive(Clone, Debug)]
struct Held {
    run: Run,
    since: Instant,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Cache {
    held: VecDeque<Held>,
    /// The join point.
    start: Option<Number>,
    /// Start of the newest group that did not fit: it cannot be joined.
    skipped: Option<Number>,
    bytes: usize,
    packets: usize,
    bytes_max: usize,
    /// How long what is before the join point is kept.
    kept_for: Duration,
    overflows: u64,
}

impl Cache {
    /// An empty cache; `budget` is the repair budget of the flow.
    pub(crate) fn new(bytes_max: usize, budget: Duration) -> Self {
        Self {
            held: VecDeque::new(),
            start: None,
            skipped: None,
            bytes: 0,
            packets: 0,
            bytes_max,
            kept_for: REPAIR_KEPT.max(budget),
            overflows: 0,
        }
    }

    /// How late packets may be asked for from now on.
    pub(crate) fn set_budget(&mut self, budget: Duration) {
        self.kept_for = REPAIR_KEPT.max(budget);
    }

    /// Keeps a run, if there is room for it; says whether there was.
    pub(crate) fn insert(&mut self, run: &Run, now: Instant, room: &mut Room) -> bool {
        let is_newer = self.start.is_none_or(|start| run.first > start);
        let skipped = self.skipped.is_some_and(|start| run.group_start <= start);
        if run.first == run.group_start && is_newer && !skipped {
            self.start = Some(run.first);
        }
        self.drop_what_is_old(now, room);
        let bytes = run.bytes.len();
        while !self.has_room_for(bytes, room) {
            self.drop_before_join(run, room);
            if self.held.is_empty() && !self.has_room_for(bytes, room) {
                return false;
            }
        }
        let since = now;
        let run = run.clone();
        self.add(Held { run, since }, room);
        true
    }

    /// What a newcomer must be sent, in order; nothing while there is no join point.
    pub(crate) fn join(&self) -> impl Iterator<Item = &Run> {
        let from = match self.start {
            Some(start) => self.held.partition_point(|held| held.run.first < start),
            None => self.held.len(),
        };
        self.held.range(from..).map(|held| &held.run)
    }

    /// The packets from `number` on that lie together, `most` at most; `None` if the first of them is not here.
    pub(crate) fn part(&self, number: Number, most: usize) -> Option<Run> {
        let run = &self.held.get(self.place_of(number)?)?.run;
        let place = place_in(run, number);
        run.part(place..run.packets().min(place + most))
    }

    /// Lets go of one packet, which turned out to be false.
    pub(crate) fn forget(&mut self, number: Number, room: &mut Room) {
        let Some(held) = self.place_of(number).and_then(|at| self.remove(at, room)) else {
            return;
        };
        let (run, since) = (held.run, held.since);
        let place = place_in(&run, number);
        for part in [0..place, place + 1..run.packets()] {
            if let Some(run) = run.part(part) {
                self.add(Held { run, since }, room);
            }
        }
        if self.start == Some(number) {
            self.start = None;
        }
    }

    /// Gives everything back.
    pub(crate) fn clear(&mut self, room: &mut Room) {
        room.used -= self.bytes;
        self.held.clear();
        (self.start, self.bytes, self.packets) = (None, 0, 0);
    }

    /// Packets held.
    pub(crate) const fn packets(&self) -> usize {
        self.packets
    }

    /// Whether a newcomer would be sent something.
    pub(crate) const fn is_joinable(&self) -> bool {
        self.start.is_some()
    }

    /// How many groups did not fit.
    pub(crate) const fn overflows(&self) -> u64 {
        self.overflows
    }

    fn has_room_for(&self, bytes: usize, room: &Room) -> bool {
        self.bytes + bytes <= self.bytes_max
            && room.used + bytes <= room.limit
            && self.held.len() < CACHE_RUNS_MAX
    }

    /// Drops the oldest run that is there for repair alone; if all are of the newest group, nobody joins that any more.
    fn drop_before_join(&mut self, newest: &Run, room: &mut Room) {
        let is_of_group = |held: &Held| self.start.is_some_and(|start| held.run.first >= start);
        if self.held.front().is_none_or(is_of_group) && self.start.take().is_some() {
            self.skipped = Some(newest.group_start);
            self.overflows += 1;
        }
        self.remove(0, room);
    }

    fn drop_what_is_old(&mut self, now: Instant, room: &mut Room) {
        while let Some(oldest) = self.held.front() {
            let is_of_group = self.start.is_some_and(|start| oldest.run.first >= start);
            if is_of_group || now.since(oldest.since) <= self.kept_for {
                return;
            }
            self.remove(0, room);
        }
    }

    /// Where the run with that packet lies.
    fn place_of(&self, number: Number) -> Option<usize> {
        let at = self.held.partition_point(|held| held.run.end() <= number);
        let held = self.held.get(at)?;
        (held.run.first <= number).then_some(at)
    }

    fn add(&mut self, held: Held, room: &mut Room) {
        self.bytes += held.run.bytes.len();
        room.used += held.run.bytes.len();
        self.packets += held.run.packets();
        let first = held.run.first;
        let at = self.held.partition_point(|held| held.run.first < first);
        self.held.insert(at, held);
    }

    fn remove(&mut self, at: usize, room: &mut Room) -> Option<Held> {
        let held = self.held.remove(at)?;
        self.bytes -= held.run.bytes.len();
        room.used -= held.run.bytes.len();
        self.packets -= held.run.packets();
        Some(held)
    }
}

fn place_in(run: &Run, number: Number) -> usize {
    usize::try_from(number.since(run.first)).expect("a run is 64 packets long")
}

#[cfg(test)]
mod tests;
