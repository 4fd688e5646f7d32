//! How a child falls behind and comes back, and what of what waits for it is given up when it is too much.
//!
//! ```text
//!   run ─▶ for each child ─┬─ live, and its bucket and its pace have some ─▶ sent at once
//!                          └─ behind ─▶ stays in the cache, where the child's cursor will come to it (`pace.rs`)
//!
//!   what waits is older than 200 ms, and takes longer to send?
//!     ├─ without DISCARDABLE bursts it is short?        they are shed
//!     ├─ ... nor class 3? ... 2? ... 1?                 so are those, whole bursts only
//!     ├─ no, and the next group is near?                the child skips to it: half a group is of little use, and
//!     │                                                 keeps the next one waiting
//!     └─ no: what is too old is left out                a moment of a long group is missing, and not the rest of it
//! ```
//!
//! The states are drawn in `progress.rs`; every change of one for a child that is no newcomer is made here. A run from
//! before the cursor, late or repaired, is sent at once: the cursor has passed its place. Age is told by the packets'
//! own `sent` times, against the newest: no clock of ours. What is given up is withheld, so that the child hears GONE
//! at once. Not the sending: `forward` for what comes, `pace.rs` for what waits; both call this. Invariant: no number
//! is sent twice to one child, but as a repair, or where it was live and is sent a group from its start that it can
//! join after all (`join.rs`); bursts are shed whole or not at all, and class 0 that is not DISCARDABLE is never shed
//! (docs/wire.md 4.1).

use std::time::Duration;

use levada_wire::packet::Class;
use levada_wire::{Header, Instant, Number};

use super::Child;
use super::progress::Progress;
use super::withheld::Withheld;
use crate::flow::cache::Cache;
use crate::flow::rhythm::Rhythm;
use crate::flow::run::Run;
use crate::ledger::DropReason;
use crate::limits::{BACKLOG_AFTER, BACKLOG_MAX, GONE_INTERVAL, PACED_BACKLOG_MAX};

/// What becomes of a run at one child.
pub(crate) enum Disposition {
    Send,
    /// The cursor will come to it.
    Wait,
    /// It is not sent, on purpose.
    Withhold(DropReason),
    /// It is older than anything that is due here.
    Ignore,
}

/// What a child is told that asks for a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// As the cache has it.
    FromCache,
    /// It will come in its turn.
    Pending,
    /// It was withheld.
    Gone,
}

/// Copies that are given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GivenUp {
    /// Of bursts that are shed.
    pub(crate) shed: u64,
    /// Since the child goes on with the next group.
    pub(crate) skipped: u64,
}

/// When a burst is shed: DISCARDABLE first, then class 3, 2, 1; the rest never.
const STEPS: usize = 5;
const NEVER: usize = STEPS - 1;

/// As runs come.
impl Child {
    /// Whether a run goes out at once, as it does nearly always.
    #[inline]
    pub(crate) fn is_free(&self, run: &Run, is_late: bool, now: Instant) -> bool {
        let has_room = is_late || self.has_room(run, now);
        has_room && self.is_live() && self.withheld.is_none() && self.moved.is_none()
    }

    /// Whether it may be sent a run as it is, by what it was admitted with and by its pace.
    #[inline]
    fn has_room(&self, run: &Run, now: Instant) -> bool {
        let lets = self.pacer.as_ref().is_none_or(|pacer| pacer.lets(run, now));
        lets && self.buckets.live.is_ready(now)
    }

    /// Judges a run that may not go out at once. `kept` says that it is in the cache, so that a cursor can come to it.
    #[cold]
    pub(crate) fn judge(
        &mut self,
        run: &Run,
        kept: bool,
        is_late: bool,
        is_near: bool,
        now: Instant,
    ) -> Disposition {
        if self.has_already(run, is_late, now) {
            return Disposition::Ignore;
        }
        self.withheld.take_if(|withheld| withheld.is_over(now));
        let is_withheld = self.has_withheld(run.first) || self.has_withheld(run.burst);
        match self.progress {
            Progress::ByChannel => Disposition::Ignore,
            Progress::Queued { start } => {
                if kept && run.group_start > start && self.moved.is_none() {
                    // The next group has come before its turn: it begins with that, as it comes.
                    let start = run.group_start;
                    let cursor = start;
                    self.progress = Progress::Throttled { start, cursor };
                }
                Disposition::Wait
            }
            Progress::Skipping { start, cursor } if run.first >= cursor => {
                if is_near || run.group_start >= cursor {
                    self.pass(run, kept, (start, cursor), now)
                } else {
                    self.go_on(run, kept, (start, cursor), now)
                }
            }
            Progress::CatchingUp { cursor, .. }
            | Progress::Throttled { cursor, .. }
            | Progress::Paced { cursor, .. }
                if run.first >= cursor =>
            {
                if kept {
                    Disposition::Wait
                } else {
                    self.lose(run, is_near, now)
                }
            }
            behind if behind.is_behind() && run.first < behind.start() => Disposition::Ignore,
            _ if is_withheld => Disposition::Withhold(DropReason::Shed),
            Progress::Live if is_late || self.has_room(run, now) => Disposition::Send,
            // What is in no cache cannot be paced.
            Progress::Live if !kept && self.buckets.live.is_ready(now) => Disposition::Send,
            Progress::Live => {
                let (start, cursor) = (Number::ZERO, run.first);
                self.progress = Progress::Paced { start, cursor };
                self.heed_bucket(now);
                if kept {
                    Disposition::Wait
                } else {
                    self.lose(run, is_near, now)
                }
            }
            Progress::CatchingUp { cursor, .. }
            | Progress::Throttled { cursor, .. }
            | Progress::Paced { cursor, .. }
            | Progress::Skipping { cursor, .. } => {
                self.progress = self.progress.at(cursor.max(run.end()));
                Disposition::Send
            }
        }
    }

    /// Whether a child that moved here has a run.
    fn has_already(&mut self, run: &Run, is_late: bool, now: Instant) -> bool {
        let is_live = self.is_live();
        self.moved
            .take_if(|moved| is_live && moved.is_over(run, is_late, now));
        self.moved.is_some_and(|moved| moved.has_all(run))
    }

    /// A run passes while the child waits for the next group, or it begins that.
    fn pass(
        &mut self,
        run: &Run,
        kept: bool,
        (start, from): (Number, Number),
        now: Instant,
    ) -> Disposition {
        if run.group_start < from {
            self.progress = self.progress.at(run.end());
            self.withhold((from, run.end()), now, GONE_INTERVAL);
            return Disposition::Withhold(DropReason::Skipped);
        }
        // The group's first packet may have been overtaken: then it is sent when it comes.
        self.go_on_at(run.group_start, kept, (start, from), now)
    }

    /// The next group does not come soon, as had been thought: the child goes on with this run.
    fn go_on(
        &mut self,
        run: &Run,
        kept: bool,
        from: (Number, Number),
        now: Instant,
    ) -> Disposition {
        self.go_on_at(run.first, kept, from, now)
    }

    fn go_on_at(
        &mut self,
        cursor: Number,
        kept: bool,
        (start, from): (Number, Number),
        now: Instant,
    ) -> Disposition {
        self.withhold((from, cursor), now, Duration::ZERO);
        if let Some(withheld) = &mut self.withheld {
            withheld.say(now);
        }
        if !kept {
            self.progress = Progress::Live;
            return Disposition::Send;
        }
        debug_assert!(from <= cursor, "a cursor goes forward only");
        self.progress = Progress::Throttled { start, cursor };
        Disposition::Wait
    }

    /// A run that the cursor would have come to is not in the cache, nor is anything before it.
    fn lose(&mut self, run: &Run, is_near: bool, now: Instant) -> Disposition {
        let from = self.progress.cursor().unwrap_or(run.first);
        if is_near {
            self.skip_to(run.end());
        } else {
            self.progress = self.progress.at(run.end());
        }
        self.withhold((from, run.end()), now, Duration::ZERO);
        Disposition::Withhold(DropReason::Skipped)
    }

    fn skip_to(&mut self, cursor: Number) {
        debug_assert!(
            self.progress.cursor() <= Some(cursor),
            "a cursor goes forward only"
        );
        let start = self.progress.start();
        self.progress = Progress::Skipping { start, cursor };
    }
}

/// As time passes.
impl Child {
    /// Whether it may be sent something from the cache now.
    pub(crate) fn may_go_on(&self, now: Instant) -> bool {
        let is_ready = self.may_go_on_at().is_some_and(|at| at <= now);
        is_ready && self.progress.cursor().is_some()
    }

    /// From when on it may be sent something from the cache, unless it waits for its turn or for a group.
    fn may_go_on_at(&self) -> Option<Instant> {
        match self.progress {
            Progress::Throttled { .. } | Progress::Paced { .. } => {
                let pace = self.pacer.as_ref().map(|pacer| pacer.ready_at());
                let live = self.buckets.live.ready_at();
                Some(live.max(pace.unwrap_or(Instant::ZERO)))
            }
            _ => None,
        }
    }

    /// Whoever is held by its pace, and was sent what it was admitted with too, is throttled.
    pub(crate) const fn heed_bucket(&mut self, now: Instant) {
        if let Progress::Paced { start, cursor } = self.progress
            && !self.buckets.live.is_ready(now)
        {
            self.progress = Progress::Throttled { start, cursor };
        }
    }

    /// Gives up what is too much of what waits for it while it is throttled or paced. Packets below `next` are there.
    pub(crate) fn relieve(
        &mut self,
        cache: &Cache,
        (next, rhythm): (Number, &Rhythm),
        now: Instant,
    ) -> GivenUp {
        let shed = |shed| GivenUp { shed, skipped: 0 };
        let skipped = |skipped| GivenUp { shed: 0, skipped };
        let (cursor, oldest_max) = match self.progress {
            Progress::Throttled { cursor, .. } => (cursor, BACKLOG_MAX),
            Progress::Paced { cursor, .. } => {
                (cursor, PACED_BACKLOG_MAX.max(self.terms().budget.time()))
            }
            _ => return GivenUp::default(),
        };
        if cursor < cache.dropped() {
            return skipped(self.skip_what_is_lost(cache, (next, rhythm), now));
        }
        let (Some(oldest), Some(newest)) = (cache.from(cursor).next(), cache.newest()) else {
            return GivenUp::default();
        };
        let age = newest.sent.micros_since(oldest.sent).max(0).unsigned_abs();
        if Duration::from_micros(u64::from(age)) <= oldest_max {
            return GivenUp::default();
        }
        if matches!(self.progress, Progress::Paced { .. }) {
            return skipped(self.skip(cache, (next, rhythm), now));
        }
        let left = self.left_after(cache, cursor);
        let time_for = |bytes| self.buckets.live.time_for(bytes, now);
        if time_for(left[0]) <= BACKLOG_MAX {
            return GivenUp::default();
        }
        match (1..STEPS).find(|&step| time_for(left[step]) <= BACKLOG_AFTER) {
            Some(step) => shed(self.shed(cache, cursor, step, now)),
            None => skipped(self.skip(cache, (next, rhythm), now)),
        }
    }

    /// Goes on behind what the cache has let go of, if the cursor has come to that; gives the copies that are given up.
    pub(crate) fn skip_what_is_lost(
        &mut self,
        cache: &Cache,
        following: (Number, &Rhythm),
        now: Instant,
    ) -> u64 {
        match self.progress {
            Progress::CatchingUp { cursor, .. }
            | Progress::Throttled { cursor, .. }
            | Progress::Paced { cursor, .. }
                if cursor < cache.dropped() =>
            {
                cache.dropped().since(cursor) + self.skip(cache, following, now)
            }
            _ => 0,
        }
    }

    /// Goes on with the newest group, or, if it is there already, with the one after if that is near, else with what is
    /// not too old; gives the copies that are given up.
    fn skip(&mut self, cache: &Cache, (next, rhythm): (Number, &Rhythm), now: Instant) -> u64 {
        let Some(cursor) = self.progress.cursor() else {
            return 0;
        };
        let is_near = || cache.newest().is_none_or(|run| rhythm.is_near(run.sent));
        let group = cache.join_point().filter(|&group| group > cursor);
        let group = group.or_else(|| (!is_near()).then(|| self.goes_on_at(cache, next, now)));
        let target = group.unwrap_or_else(|| next.max(cursor));
        let here = cache.from(cursor).take_while(|run| run.first < target);
        let due = here.filter(|run| !self.has_withheld(run.first));
        let packets = due.map(|run| run.packets() as u64).sum();
        self.withhold((cursor, target), now, Duration::ZERO);
        match group {
            Some(_) => self.progress = self.progress.at(target),
            None => self.skip_to(target),
        }
        packets
    }

    /// The first burst that waits with so little behind it that all goes out in time.
    fn goes_on_at(&self, cache: &Cache, next: Number, now: Instant) -> Number {
        let cursor = self.progress.cursor().unwrap_or(next);
        let mut left = self.left_after(cache, cursor)[0];
        for run in cache.from(cursor) {
            let is_start = run.first == run.burst && run.first > cursor;
            if is_start && self.buckets.live.time_for(left, now) <= BACKLOG_AFTER {
                return run.first;
            }
            if !self.has_withheld(run.first) {
                left -= run.bytes.len();
            }
        }
        next.max(cursor)
    }

    /// Withholds the bursts that go at or before that step; gives the copies that are given up.
    fn shed(&mut self, cache: &Cache, cursor: Number, step: usize, now: Instant) -> u64 {
        let mut shed = 0;
        for run in cache.from(cursor) {
            if step_of(run, cursor) < step && !self.has_withheld(run.first) {
                shed += run.packets() as u64;
                self.withhold((run.burst, run.end()), now, Duration::ZERO);
            }
        }
        shed
    }

    /// The bytes that wait, and those that are left after each step of shedding.
    fn left_after(&self, cache: &Cache, cursor: Number) -> [usize; STEPS] {
        let mut left = [0; STEPS];
        for run in cache.from(cursor) {
            if !self.has_withheld(run.first) {
                let steps = left.iter_mut().take(step_of(run, cursor) + 1);
                steps.for_each(|bytes| *bytes += run.bytes.len());
            }
        }
        left
    }

    /// Packets that it had been sent did not go out: it goes on with the next group, unless that `is_on_its_way`. Gives
    /// the copies that are given up besides.
    pub(crate) fn miss(
        &mut self,
        missed: (Number, Number),
        is_on_its_way: bool,
        cache: &Cache,
        (next, rhythm): (Number, &Rhythm),
        now: Instant,
    ) -> u64 {
        self.withhold(missed, now, Duration::ZERO);
        let is_near = || cache.newest().is_none_or(|run| rhythm.is_near(run.sent));
        match self.progress {
            _ if is_on_its_way => 0,
            Progress::Live if is_near() => {
                self.skip_to(next);
                0
            }
            Progress::Throttled { .. } | Progress::Paced { .. } => {
                self.skip(cache, (next, rhythm), now)
            }
            _ => 0,
        }
    }

    /// There is nothing left for it in the cache.
    pub(crate) const fn catch_up(&mut self) {
        self.progress = Progress::Live;
    }
}

/// What is not sent.
impl Child {
    /// What it is told when it asks for a number.
    pub(crate) fn reply(&self, number: Number) -> Reply {
        match self.progress {
            Progress::ByChannel => Reply::FromCache,
            // Of what comes next nobody knows yet whether it begins the next group.
            Progress::Queued { start: cursor }
            | Progress::CatchingUp { cursor, .. }
            | Progress::Throttled { cursor, .. }
            | Progress::Paced { cursor, .. }
                if number >= cursor =>
            {
                Reply::Pending
            }
            _ if self.has_withheld(number) => Reply::Gone,
            _ => Reply::FromCache,
        }
    }

    /// Remembers that it is not sent those numbers, and when to say so.
    pub(crate) fn withhold(&mut self, range: (Number, Number), now: Instant, wait: Duration) {
        let withheld = self
            .withheld
            .get_or_insert_with(|| Withheld::new(now).into());
        withheld.add(range, now, wait);
    }

    pub(crate) fn has_withheld(&self, number: Number) -> bool {
        let withheld = self.withheld.as_ref();
        withheld.is_some_and(|withheld| withheld.contains(number))
    }

    /// When something is to be done for it. Newcomers are woken by their interface.
    pub(crate) fn wake(&self) -> Option<Instant> {
        let sends = self.may_go_on_at();
        let cursor = self.progress.cursor();
        let pacer = self.pacer.as_ref().filter(|pacer| pacer.has_asked(cursor));
        let answers = pacer.map(|pacer| pacer.ready_at());
        let says = self.withheld.as_ref().and_then(|it| it.say_at());
        let tail = self.tail.as_ref().and_then(|tail| tail.timer());
        [sends, answers, says, tail].into_iter().flatten().min()
    }
}

/// At which step a run is shed. Of a burst that was sent in part the rest never is.
fn step_of(run: &Run, cursor: Number) -> usize {
    let Some(header) = Header::peek(&run.bytes).filter(|_| run.burst >= cursor) else {
        return NEVER;
    };
    match header.class {
        _ if header.discardable => 0,
        Class::KEEP => NEVER,
        class => 4 - usize::from(class.value()),
    }
}
