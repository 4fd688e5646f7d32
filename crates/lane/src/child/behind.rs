//! What waits for an egress that is held, and what of it is given up when it is too much.
//!
//! ```text
//!   older than 200 ms, and takes longer to send?
//!     ├─ without DISCARDABLE bursts it is short?        they are shed
//!     ├─ ... nor class 3? ... 2? ... 1?                 so are those, whole bursts only
//!     └─ no: the egress skips to the next group         half a group is of no use, and keeps the next one waiting
//! ```
//!
//! Age is told by the packets' own `sent` times, against the newest: no clock of ours. What is given up is withheld, so that
//! the child hears GONE at once. Not the sending: [`super`]. Called by it. Invariant: bursts are shed whole or not at all, and
//! class 0 that is not DISCARDABLE is never shed (docs/wire.md 4.1).

use std::time::Duration;

use levada_wire::packet::Class;
use levada_wire::{Header, Instant, Number};

use crate::child::{Behind, Egress, Why};
use crate::flow::cache::Cache;
use crate::flow::run::Run;
use crate::limits::{BACKLOG_AFTER, BACKLOG_MAX};

/// When a burst is shed: DISCARDABLE first, then class 3, 2, 1; the rest never.
const STEPS: usize = 5;
const NEVER: usize = STEPS - 1;

/// Copies that are given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GivenUp {
    /// Of bursts that are shed.
    pub(crate) shed: u64,
    /// Since the egress goes on with the next group.
    pub(crate) skipped: u64,
}

/// Gives up what is too much of what waits for an egress that is held.
pub(crate) fn relieve(egress: &mut Egress, cache: &Cache, next: Number, now: Instant) -> GivenUp {
    let shed = |shed| GivenUp { shed, skipped: 0 };
    let skipped = |skipped| GivenUp { shed: 0, skipped };
    let Some(behind) = egress.behind.filter(|behind| behind.why == Why::Held) else {
        return GivenUp::default();
    };
    if behind.cursor < cache.dropped() {
        return skipped(skip_what_is_lost(egress, cache, next, now));
    }
    let (Some(oldest), Some(newest)) = (cache.from(behind.cursor).next(), cache.newest()) else {
        return GivenUp::default();
    };
    let age = newest.sent.micros_since(oldest.sent).max(0).unsigned_abs();
    if Duration::from_micros(u64::from(age)) <= BACKLOG_MAX {
        return GivenUp::default();
    }
    let left = left_after(egress, cache, behind.cursor);
    if egress.sums.live.time_for(left[0], now) <= BACKLOG_MAX {
        return GivenUp::default();
    }
    let is_enough = |&step: &usize| egress.sums.live.time_for(left[step], now) <= BACKLOG_AFTER;
    match (1..STEPS).find(is_enough) {
        Some(step) => shed(shed_up_to(egress, cache, step, now)),
        None => skipped(skip(egress, cache, next, now)),
    }
}

/// Sends an egress on whose cursor has come to what the cache has let go of; gives the copies that are given up.
pub(crate) fn skip_what_is_lost(
    egress: &mut Egress,
    cache: &Cache,
    next: Number,
    now: Instant,
) -> u64 {
    match egress.behind {
        Some(Behind { cursor, why, .. })
            if matches!(why, Why::Joins | Why::Held) && cursor < cache.dropped() =>
        {
            cache.dropped().since(cursor) + skip(egress, cache, next, now)
        }
        _ => 0,
    }
}

/// Sends an egress on to the newest group, or, if it is there already, has it wait for the one after; gives the copies that are
/// given up.
pub(crate) fn skip(egress: &mut Egress, cache: &Cache, next: Number, now: Instant) -> u64 {
    let Some(behind) = egress.behind else {
        return 0;
    };
    let (cursor, why) = (behind.cursor, behind.why);
    let group = cache.join_point().filter(|&group| group > cursor);
    let target = group.unwrap_or_else(|| next.max(cursor));
    let here = cache.from(cursor).take_while(|run| run.first < target);
    let due = here.filter(|run| !egress.has_withheld(run.first));
    let packets = due.map(|run| run.packets() as u64).sum();
    egress.withhold((cursor, target), now, Duration::ZERO);
    egress.behind = Some(Behind {
        cursor: target,
        why: if group.is_some() { why } else { Why::Skips },
        ..behind
    });
    packets
}

/// Withholds the bursts that go at or before that step; gives the copies that are given up.
fn shed_up_to(egress: &mut Egress, cache: &Cache, step: usize, now: Instant) -> u64 {
    let Some(Behind { cursor, .. }) = egress.behind else {
        return 0;
    };
    let mut shed = 0;
    for run in cache.from(cursor) {
        if step_of(run, cursor) < step && !egress.has_withheld(run.first) {
            shed += run.packets() as u64;
            egress.withhold((run.burst, run.end()), now, Duration::ZERO);
        }
    }
    shed
}

/// The bytes that wait, and those that are left after each step of shedding.
fn left_after(egress: &Egress, cache: &Cache, cursor: Number) -> [usize; STEPS] {
    let mut left = [0; STEPS];
    for run in cache.from(cursor) {
        if !egress.has_withheld(run.first) {
            let steps = left.iter_mut().take(step_of(run, cursor) + 1);
            steps.for_each(|bytes| *bytes += run.bytes.len());
        }
    }
    left
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
