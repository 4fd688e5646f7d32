//! The newest group of a flow, which a newcomer is sent first, and what came shortly before, which may be asked again.
//!
//! ```text
//!   forgotten │ repair: the last second or more, and for  │ newest group ──────────────▶ time
//!             │ as long all of the group before           ▲ join point: the first packet of the newest group that has
//!                                                           its first packet
//! ```
//!
//! What lies before the join point stays for the time in which somebody may still ask for it ([`REPAIR_KEPT`], or the
//! flow's repair budget if that is longer), and goes first where there is not room for all. The group before the newest
//! stays whole for that time after its end: who joined in it has just begun it.
//!
//! A run is kept as it lies in the buffer it came in if it is most of that, else it is copied (`cache/copies.rs`): what
//! is charged is the memory that is really held, and that is what the limits bound (docs/decisions/0021).
//!
//! Two things move the join point to the next group: the newest does not fit beside nothing else, or it has a hole that
//! repair has given up. Its packets are still forwarded and still serve repair, and whoever joins waits for the next
//! group; a hole that is filled late moves the join point back. Both are counted and visible, never silent
//! (docs/decisions/0013).
//!
//! Not the window (`window.rs`): the cache forgets. Called by `forward::hand_on`, by `repair` when it serves, and by
//! the lane when an egress or a consumer joins. Invariant: runs are in the order of their numbers, a newcomer gets none
//! before the join point, and [`Room::used`] is the sum over all caches of the lane.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use levada_wire::{Bitrate, Instant, Number};

use super::run::Run;
use crate::limits::{CACHE_RUNS_MAX, CHUNK_BYTES_MAX, REPAIR_KEPT, ROOM_ASKED_EVERY};
use crate::shared::SharedRoom;

mod copies;

use copies::{ChunkIndex, Copies};

/// Bytes that all caches of a node share. While there is room for all each takes what it needs; when it is short a flow
/// has a right to its share, by its declared peak, and whoever holds more loses it first.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    /// Bytes held now by this lane.
    pub(crate) used: usize,
    /// Bytes that may be held by all.
    pub(crate) limit: usize,
    /// The declared peaks of all flows of this lane together, in bit/s.
    peaks: u128,
    /// What other lanes held when that was asked last: bytes, and peaks.
    others: (usize, u128),
    /// The number of this lane, and what it shares with the others.
    among: Option<(usize, Arc<SharedRoom>)>,
    /// How often others had asked for room when this lane gave back last.
    asked: u64,
    /// When this lane may ask others again, and whether it has just done so.
    ask_again_at: Instant,
    has_asked: bool,
}

impl Room {
    pub(crate) const fn new(limit: usize) -> Self {
        Self {
            used: 0,
            limit,
            peaks: 0,
            others: (0, 0),
            among: None,
            asked: 0,
            ask_again_at: Instant::ZERO,
            has_asked: false,
        }
    }

    /// The same room, shared with other lanes if there are any.
    pub(crate) fn among(self, lane: usize, shared: Arc<SharedRoom>) -> Self {
        let among = shared.has_others().then_some((lane, shared));
        Self { among, ..self }
    }

    /// Tells the others what this lane holds: at the end of a call.
    pub(crate) fn say(&self) {
        if let Some((lane, shared)) = &self.among {
            shared.say(*lane, self.used, self.peaks);
        }
    }

    /// Hears what others hold: at the beginning of a call. Says whether one has asked for room since the last time.
    pub(crate) fn hear(&mut self) -> bool {
        let Some((lane, shared)) = &self.among else {
            return false;
        };
        self.others = shared.others(*lane);
        let asked = shared.asked();
        std::mem::replace(&mut self.asked, asked) != asked
    }

    /// A flow of this lane has a right to room that none of its own lane holds: asks the others, which must be woken
    /// then. Not again and again: each of them looks at all its flows.
    pub(crate) fn ask_others(&mut self, now: Instant) {
        let may_ask = self.others.0 > 0 && now >= self.ask_again_at;
        if let Some((_, shared)) = self.among.as_ref().filter(|_| may_ask) {
            shared.ask();
            self.asked = shared.asked();
            (self.ask_again_at, self.has_asked) = (now + ROOM_ASKED_EVERY, true);
        }
    }

    /// Whether others were asked since the last call.
    pub(crate) const fn take_has_asked(&mut self) -> bool {
        std::mem::replace(&mut self.has_asked, false)
    }

    /// Whether another lane waits for what this one may give back.
    pub(crate) fn is_asked(&self) -> bool {
        let among = self.among.as_ref();
        among.is_some_and(|(_, shared)| shared.asked() != self.asked)
    }

    /// What is held by all lanes.
    const fn used_by_all(&self) -> usize {
        self.used + self.others.0
    }

    /// Whether a run might not fit: cheap, and wrong on the safe side only.
    pub(crate) const fn may_be_short(&self, run: &Run) -> bool {
        self.used_by_all() + run.buffer_bytes + CHUNK_BYTES_MAX + RUN_COST > self.limit
    }

    /// The share of a flow with that peak.
    fn share(&self, peak: Bitrate) -> usize {
        let peaks = self.peaks + self.others.1;
        let part = self.limit as u128 * u128::from(peak.0) / peaks.max(1);
        usize::try_from(part).unwrap_or(self.limit)
    }
}

/// A run, when it was cached, and what it lies in.
#[derive(Clone, Debug)]
struct Held {
    run: Run,
    since: Instant,
    /// Where it was copied to; `None` if it lies in the buffer that it came in, which it then is most of.
    copy: Option<ChunkIndex>,
}

/// What a held run takes besides its bytes: its place in the list, which may be four times as long as what is in it,
/// and what counts the owners of its buffer.
const RUN_COST: usize = 4 * size_of::<Held>() + 64;
/// The list is made shorter when less than this part of it is used.
const LIST_USED_MIN: usize = 4;

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
    /// Where the group before the newest begins, and when the newest began.
    before: Option<(Number, Instant)>,
    /// Start of the newest group that did not fit: it cannot be joined.
    skipped: Option<Number>,
    /// One past the highest number that was let go of for want of room or because it was old.
    dropped: Number,
    copies: Copies,
    /// Buffers that runs lie in as they came.
    buffers: usize,
    packets: usize,
    bytes_max: usize,
    /// What the origin declares that the flow needs at most.
    peak: Bitrate,
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
            before: None,
            skipped: None,
            dropped: Number::ZERO,
            copies: Copies::default(),
            buffers: 0,
            packets: 0,
            bytes_max,
            peak: Bitrate(0),
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
            self.before = self.start.map(|start| (start.first, now));
            self.start_at(run.first);
        }
        self.drop_what_is_old(now, room);
        while !self.has_room_for(run, room) {
            self.drop_for_room(run.group_start, room);
            if self.held.is_empty() && !self.has_room_for(run, room) {
                return false;
            }
        }
        self.keep(run.clone(), now, room);
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

    /// Looks whether the newest group has a hole that will not be filled, if there is cause to: a number of the flow
    /// was given up, or nobody has looked yet, or the last look found one. `end` is one past the highest number known,
    /// and `expected` counts those in a range that may still come. Says whether newcomers may join again who could not.
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
                self.keep(run, since, room);
            }
        }
        if self.start.is_some_and(|start| start.first == number) {
            self.start = None;
        }
    }

    /// Lets go of all from that number on: the flow does not go on there.
    pub(crate) fn forget_from(&mut self, number: Number, room: &mut Room) {
        if self.start.is_some_and(|start| start.first >= number) {
            self.start = None;
        }
        while self
            .held
            .back()
            .is_some_and(|held| held.run.first >= number)
        {
            self.remove(self.held.len() - 1, room);
        }
        self.skipped.take_if(|start| *start >= number);
        self.dropped = self.dropped.min(number);
        if self.start.is_none() {
            let all = self.held.iter().rev().map(|held| &held.run);
            let newest = all
                .filter(|run| run.first == run.group_start)
                .map(|run| run.first)
                .next();
            newest.into_iter().for_each(|first| self.start_at(first));
        }
    }

    /// What the flow needs at most from now on, by which its share is measured.
    pub(crate) fn set_peak(&mut self, peak: Bitrate, room: &mut Room) {
        room.peaks = room.peaks - u128::from(self.peak.0) + u128::from(peak.0);
        self.peak = peak;
    }

    /// Whether the lane is short of room for a run that this flow has a right to keep: others must make some.
    pub(crate) fn wants_room(&self, run: &Run, room: &Room) -> bool {
        let cost = self.cost_of(run);
        room.used_by_all() + cost > room.limit && self.bytes() + cost <= room.share(self.peak)
    }

    /// How much it holds beyond its share.
    pub(crate) fn excess(&self, room: &Room) -> usize {
        self.bytes().saturating_sub(room.share(self.peak))
    }

    /// Goes back to its share, oldest first: a group that is cut into cannot be joined.
    pub(crate) fn give_back(&mut self, room: &mut Room) {
        while let Some(newest) = self.newest_group().filter(|_| self.excess(room) > 0) {
            self.drop_for_room(newest, room);
        }
    }

    /// Gives everything back.
    pub(crate) fn clear(&mut self, room: &mut Room) {
        self.set_peak(Bitrate(0), room);
        room.used -= self.bytes();
        (self.held, self.copies) = (VecDeque::new(), Copies::default());
        (self.start, self.buffers, self.packets) = (None, 0, 0);
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

    /// What it holds in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.copies.bytes() + self.buffers + self.held.len() * RUN_COST
    }

    /// What keeping a run takes.
    pub(crate) fn cost_of(&self, run: &Run) -> usize {
        let bytes = if is_most(run) {
            run.buffer_bytes
        } else {
            self.copies.takes(run.bytes.len())
        };
        bytes + RUN_COST
    }

    fn has_room_for(&self, run: &Run, room: &Room) -> bool {
        let bytes = self.cost_of(run);
        self.bytes() + bytes <= self.bytes_max
            && room.used_by_all() + bytes <= room.limit
            && self.held.len() < CACHE_RUNS_MAX
    }

    /// Drops the oldest run; if all are of the newest group, nobody joins that any more. `newest` is its start.
    fn drop_for_room(&mut self, newest: Number, room: &mut Room) {
        let is_of_group = |held: &Held| is_from(self.start.as_ref(), &held.run);
        if self.held.front().is_none_or(is_of_group) && self.start.take().is_some() {
            self.skipped = Some(newest);
            self.overflows += 1;
        }
        self.drop_oldest(room);
    }

    fn drop_what_is_old(&mut self, now: Instant, room: &mut Room) {
        let before = self.before;
        let before = before.filter(|&(_, ended)| now.since(ended) <= self.kept_for);
        let kept = before.map(|(first, _)| first);
        while let Some(oldest) = self.held.front() {
            let is_of_group = is_from(self.start.as_ref(), &oldest.run)
                || kept.is_some_and(|first| oldest.run.first >= first);
            if is_of_group || now.since(oldest.since) <= self.kept_for {
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

    /// Keeps a run: as it lies there if it is most of its buffer, else a copy of it.
    fn keep(&mut self, mut run: Run, since: Instant, room: &mut Room) {
        room.used -= self.bytes();
        let mut copy = None;
        if is_most(&run) {
            self.buffers += run.buffer_bytes;
        } else {
            let (bytes, place) = self.copies.copy(&run.bytes);
            (run.bytes, copy) = (bytes, Some(place));
        }
        self.packets += run.packets();
        if let Some(start) = self.start_of(&run) {
            start.packets += run.packets() as u64;
        }
        let at = self.place_from(run.first);
        self.held.insert(at, Held { run, since, copy });
        room.used += self.bytes();
    }

    fn remove(&mut self, at: usize, room: &mut Room) -> Option<Held> {
        room.used -= self.bytes();
        let held = self.held.remove(at);
        if let Some(held) = &held {
            match held.copy {
                Some(place) => self.copies.release(place),
                None => self.buffers -= held.run.buffer_bytes,
            }
            self.packets -= held.run.packets();
            if let Some(start) = self.start_of(&held.run) {
                start.packets -= held.run.packets() as u64;
            }
            if self.held.capacity() > LIST_USED_MIN * (self.held.len() + 8) {
                self.held.shrink_to(2 * self.held.len());
            }
        }
        room.used += self.bytes();
        held
    }

    /// The newest group, if the run lies in it.
    fn start_of(&mut self, run: &Run) -> Option<&mut Start> {
        self.start.as_mut().filter(|start| run.first >= start.first)
    }
}

/// Whether a run is so much of the buffer it lies in that it is kept as it is: of the runs in a buffer, one at most.
const fn is_most(run: &Run) -> bool {
    2 * run.bytes.len() > run.buffer_bytes
}

fn is_from(start: Option<&Start>, run: &Run) -> bool {
    start.is_some_and(|start| run.first >= start.first)
}

fn place_in(run: &Run, number: Number) -> usize {
    usize::try_from(number.since(run.first)).expect("a run is 64 packets long")
}

#[cfg(test)]
mod tests;
