//! The newest group of a flow, which a newcomer is sent first, and what came shortly before, which may be asked again.
//!
//! ```text
//!   forgotten │ repair: the last second or more │ newest group ──────────────▶ time
//!                                               ▲ join point: the first packet of the newest group that has
//!                                                 its first packet
//! ```
//!
//! What lies before the join point stays for the time in which somebody may still ask for it ([`REPAIR_KEPT`], or the
//! flow's repair budget if that is longer), and goes first where there is not room for all.
//!
//! Two things move the join point to the next group: the newest does not fit beside nothing else, or it has a hole that
//! repair has given up. Its packets are still forwarded and still serve repair, and whoever joins waits for the next group; a
//! hole that is filled late moves the join point back. Both are counted and visible, never silent
//! (docs/decisions/0013).
//!
//! Not the window (`window.rs`): the cache forgets. Called by `forward::hand_on`, by `repair` when it serves, and by the lane
//! when an egress or a consumer joins. Invariant: runs are in the order of their numbers, a newcomer gets none before the
//! join point, and [`Room::used`] is the sum over all caches of the lane.

use std::collections::VecDeque;
use std::ops::Range;
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

/// What is known of the newest group that has its first packet.
#[derive(Clone, Copy, Debug)]
struct Start {
    first: Number,
    /// Packets held from there on.
    packets: u64,
    /// Something of it will not come.
    has_hole: bool,
    /// That was counted.
    is_counted: bool,
    /// Nobody has looked yet whether it has a hole.
    is_new: bool,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Cache {
    held: VecDeque<Held>,
    /// The join point, unless the group has a hole.
    start: Option<Start>,
    /// Start of the newest group that did not fit: it cannot be joined.
    skipped: Option<Number>,
    /// One past the highest number that was let go of for want of room or because it was old.
    dropped: Number,
    bytes: usize,
    packets: usize,
    bytes_max: usize,
    /// How long what is before the join point is kept.
    kept_for: Duration,
    overflows: u64,
    holes: u64,
}

impl Cache {
    /// An empty cache; `budget` is the repair budget of the flow.
    pub(crate) fn new(bytes_max: usize, budget: Duration) -> Self {
        Self {
            held: VecDeque::new(),
            start: None,
            skipped: None,
            dropped: Number::ZERO,
            bytes: 0,
            packets: 0,
            bytes_max,
            kept_for: REPAIR_KEPT.max(budget),
            overflows: 0,
            holes: 0,
        }
    }

    /// How late packets may be asked for from now on.
    pub(crate) fn set_budget(&mut self, budget: Duration) {
        self.kept_for = REPAIR_KEPT.max(budget);
    }

    /// Keeps a run, if there is room for it; says whether there was.
    pub(crate) fn insert(&mut self, run: &Run, now: Instant, room: &mut Room) -> bool {
        let is_newer = self.start.is_none_or(|start| run.first > start.first);
        let skipped = self.skipped.is_some_and(|start| run.group_start <= start);
        if run.first == run.group_start && is_newer && !skipped {
            self.start_at(run.first);
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
            Some(start) if !start.has_hole => self.place_from(start.first),
            _ => self.held.len(),
        };
        self.held.range(from..).map(|held| &held.run)
    }

    /// Looks whether the newest group has a hole that will not be filled, if there is cause to: a number of the flow was
    /// given up, or nobody has looked yet, or the last look found one. `end` is one past the highest number known, and
    /// `expected` counts those in a range that may still come. Says whether newcomers may join again who could not.
    pub(crate) fn judge(
        &mut self,
        has_given_up: bool,
        end: Option<Number>,
        expected: impl FnOnce(Range<Number>) -> u64,
    ) -> bool {
        let cached = self.held.back().map(|held| held.run.end());
        let Some((start, end)) = self.start.as_mut().zip(cached.max(end)) else {
            return false;
        };
        if !(has_given_up || std::mem::take(&mut start.is_new) || start.has_hole) {
            return false;
        }
        let lacks = end.since(start.first).saturating_sub(start.packets);
        let has_hole = lacks > 0 && lacks > expected(start.first..end);
        if has_hole && !std::mem::replace(&mut start.is_counted, true) {
            self.holes += 1;
        }
        std::mem::replace(&mut start.has_hole, has_hole) && !has_hole
    }

    /// Where a cursor that is below lacks packets that were here.
    pub(crate) const fn dropped(&self) -> Number {
        self.dropped
    }

    /// The runs from `cursor` on, in order; the first may begin before it.
    pub(crate) fn from(&self, cursor: Number) -> impl Iterator<Item = &Run> {
        let at = self.held.partition_point(|held| held.run.end() <= cursor);
        self.held.range(at..).map(|held| &held.run)
    }

    /// The first run from `cursor` on, without what is before it.
    pub(crate) fn next_from(&self, cursor: Number) -> Option<Run> {
        let run = self.from(cursor).next()?;
        if run.first >= cursor {
            return Some(run.clone());
        }
        run.part(place_in(run, cursor)..run.packets())
    }

    /// The run with the highest numbers.
    pub(crate) fn newest(&self) -> Option<&Run> {
        self.held.back().map(|held| &held.run)
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
        if self.start.is_some_and(|start| start.first == number) {
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
        matches!(
            self.start,
            Some(Start {
                has_hole: false,
                ..
            })
        )
    }

    /// The join point.
    pub(crate) fn join_point(&self) -> Option<Number> {
        let start = self.start.filter(|start| !start.has_hole)?;
        Some(start.first)
    }

    /// The first number of the newest group of which anything is held.
    pub(crate) fn newest_group(&self) -> Option<Number> {
        self.held.back().map(|held| held.run.group_start)
    }

    /// How many groups did not fit.
    pub(crate) const fn overflows(&self) -> u64 {
        self.overflows
    }

    /// How many groups could not be joined, for a while at least, since something of them was lost.
    pub(crate) const fn holes(&self) -> u64 {
        self.holes
    }

    /// The newest group begins with that number.
    fn start_at(&mut self, first: Number) {
        let held = self.held.range(self.place_from(first)..);
        let packets = held.map(|held| held.run.packets() as u64).sum();
        self.start = Some(Start {
            first,
            packets,
            has_hole: false,
            is_counted: false,
            is_new: true,
        });
    }

    fn has_room_for(&self, bytes: usize, room: &Room) -> bool {
        self.bytes + bytes <= self.bytes_max
            && room.used + bytes <= room.limit
            && self.held.len() < CACHE_RUNS_MAX
    }

    /// Drops the oldest run that is there for repair alone; if all are of the newest group, nobody joins that any more.
    fn drop_before_join(&mut self, newest: &Run, room: &mut Room) {
        let is_of_group = |held: &Held| is_from(self.start.as_ref(), &held.run);
        if self.held.front().is_none_or(is_of_group) && self.start.take().is_some() {
            self.skipped = Some(newest.group_start);
            self.overflows += 1;
        }
        self.drop_oldest(room);
    }

    fn drop_what_is_old(&mut self, now: Instant, room: &mut Room) {
        while let Some(oldest) = self.held.front() {
            if is_from(self.start.as_ref(), &oldest.run) || now.since(oldest.since) <= self.kept_for
            {
                return;
            }
            self.drop_oldest(room);
        }
    }

    fn drop_oldest(&mut self, room: &mut Room) {
        if let Some(oldest) = self.remove(0, room) {
            self.dropped = self.dropped.max(oldest.run.end());
        }
    }

    /// Where the runs from that number on begin.
    fn place_from(&self, number: Number) -> usize {
        self.held.partition_point(|held| held.run.first < number)
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
        if let Some(start) = self.start_of(&held.run) {
            start.packets += held.run.packets() as u64;
        }
        self.held.insert(self.place_from(held.run.first), held);
    }

    fn remove(&mut self, at: usize, room: &mut Room) -> Option<Held> {
        let held = self.held.remove(at)?;
        self.bytes -= held.run.bytes.len();
        room.used -= held.run.bytes.len();
        self.packets -= held.run.packets();
        if let Some(start) = self.start_of(&held.run) {
            start.packets -= held.run.packets() as u64;
        }
        Some(held)
    }

    /// The newest group, if the run lies in it.
    fn start_of(&mut self, run: &Run) -> Option<&mut Start> {
        self.start.as_mut().filter(|start| run.first >= start.first)
    }
}

fn is_from(start: Option<&Start>, run: &Run) -> bool {
    start.is_some_and(|start| run.first >= start.first)
}

fn place_in(run: &Run, number: Number) -> usize {
    usize::try_from(number.since(run.first)).expect("a run is 64 packets long")
}

#[cfg(test)]
mod tests;
