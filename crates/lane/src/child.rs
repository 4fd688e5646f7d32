//! The egresses of a flow: the places a node sends it to, and what becomes of a run that goes on.
//!
//! ```text
//!   run ─▶ for each egress ─┬─ live, and its bucket has some ─▶ sent at once
//!                           └─ behind ─▶ stays in the cache, where the egress's cursor will come to it (`pace.rs`)
//! ```
//!
//! An egress is **live** or **behind** with a **cursor** into the flow's cache, so what waits is in memory once, whoever waits
//! for it. Behind is a newcomer, whoever was sent more than it was admitted with, and whoever waits for the next group. A
//! run from before the cursor, late or repaired, is sent at once: the cursor has passed its place.
//!
//! Not who may be an egress: the core decides that and commands it. Not what is sent from the cache: [`crate::pace`]. Called by
//! `forward::fan_out` for each run, and by `child`. Invariant: each egress is a link of the lane's link table; removing a link
//! removes its egresses first. No number is sent twice to one egress, but as a repair.

use std::collections::BTreeMap;
use std::time::Duration;

use levada_wire::{Bitrate, Instant, LinkIndex, Number};

use crate::api::EgressTerms;
use crate::child::bucket::Bucket;
use crate::child::withheld::Withheld;
use crate::flow::run::Run;
use crate::ledger::DropReason;
use crate::limits::{CATCH_UP_DEPTH, FORMER_MAX, GONE_INTERVAL, LIVE_DEPTH, PEAK_HEADROOM};
use crate::repair::tail::Tail;

pub(crate) mod behind;
pub(crate) mod bucket;
pub(crate) mod pace;
pub(crate) mod progress;
pub(crate) mod queue;
pub(crate) mod repairs;
#[cfg(test)]
mod tests;
pub(crate) mod withheld;

pub(crate) use progress::{Behind, Why};

/// What a link was sent of a flow of late. It outlives the egress: leaving and joining again gains nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sums {
    /// All but what is sent to a newcomer, and repairs.
    pub(crate) live: Bucket,
    /// As a newcomer.
    pub(crate) joins: Bucket,
}

impl Sums {
    fn new() -> Self {
        let unlimited = Bitrate(u64::MAX);
        Self {
            live: Bucket::new(unlimited, LIVE_DEPTH),
            joins: Bucket::new(unlimited, CATCH_UP_DEPTH),
        }
    }

    fn set_peak(&mut self, Bitrate(peak): Bitrate) {
        self.live
            .set_rate(Bitrate(peak.saturating_add(peak / PEAK_HEADROOM)));
        self.joins.set_rate(Bitrate(peak.saturating_mul(2)));
    }

    const fn is_forgotten(&self, now: Instant) -> bool {
        self.live.is_full(now) && self.joins.is_full(now)
    }
}

/// One egress.
#[derive(Debug)]
pub(crate) struct Egress {
    /// Where it goes.
    pub(crate) link: LinkIndex,
    pub(crate) sums: Sums,
    peak: Bitrate,
    /// How late packets may be at the other end.
    budget: Duration,
    /// `None` while it is live.
    pub(crate) behind: Option<Behind>,
    /// What it was not sent on purpose, of late.
    pub(crate) withheld: Option<Box<Withheld>>,
    /// The end of what it was sent, if it caught up after the others had heard the last of theirs.
    pub(crate) tail: Option<Box<Tail>>,
}

/// What becomes of a run at one egress.
pub(crate) enum Verdict {
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

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Egresses {
    /// In the order of their links, so that a replay sends in the same order.
    pub(crate) all: Vec<Egress>,
    /// One past the highest number that went on.
    pub(crate) next: Number,
    /// When one that is behind has something to do.
    pub(crate) wake: Option<Instant>,
    /// What former egresses were sent of late.
    former: BTreeMap<LinkIndex, Sums>,
}

impl Default for Egresses {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            next: Number::ZERO,
            wake: None,
            former: BTreeMap::new(),
        }
    }
}

impl Egresses {
    pub(crate) const fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn contains(&self, link: LinkIndex) -> bool {
        self.place_of(link).is_ok()
    }

    pub(crate) fn get_mut(&mut self, link: LinkIndex) -> Option<&mut Egress> {
        let place = self.place_of(link).ok()?;
        Some(&mut self.all[place])
    }

    /// The links of those that have been sent all there is.
    pub(crate) fn live(&self) -> impl Iterator<Item = LinkIndex> + '_ {
        let live = self.all.iter().filter(|egress| egress.behind.is_none());
        live.map(|egress| egress.link)
    }

    /// How many are behind for that reason.
    pub(crate) fn behind(&self, why: Why) -> u64 {
        let behind = self.all.iter().filter_map(|egress| egress.behind);
        behind.filter(|behind| behind.why == why).count() as u64
    }

    /// Whether an egress is behind for that reason.
    pub(crate) fn is_behind(&self, link: LinkIndex, why: Why) -> bool {
        let egress = self.place_of(link).map(|place| &self.all[place]);
        egress.is_ok_and(|egress| egress.behind.is_some_and(|behind| behind.why == why))
    }

    /// Whether an egress is held and its bucket has some.
    pub(crate) fn may_go_on(&self, link: LinkIndex, now: Instant) -> bool {
        let egress = self.place_of(link).map(|place| &self.all[place]);
        self.is_behind(link, Why::Held) && egress.is_ok_and(|egress| egress.sums.live.is_ready(now))
    }

    /// Adds a live egress; one that is there already stays as it is.
    pub(crate) fn add(&mut self, link: LinkIndex, terms: EgressTerms) {
        let Err(place) = self.place_of(link) else {
            return;
        };
        let mut sums = self.former.remove(&link).unwrap_or_else(Sums::new);
        sums.set_peak(terms.peak);
        let egress = Egress {
            link,
            sums,
            peak: terms.peak,
            budget: terms.budget,
            behind: None,
            withheld: None,
            tail: None,
        };
        self.all.insert(place, egress);
    }

    /// Gives an egress other terms; `false` if there is none.
    pub(crate) fn set_terms(
        &mut self,
        link: LinkIndex,
        EgressTerms { peak, budget }: EgressTerms,
    ) -> bool {
        let egress = self.get_mut(link);
        if let Some(egress) = egress {
            (egress.peak, egress.budget) = (peak, budget);
            egress.sums.set_peak(peak);
            return true;
        }
        false
    }

    /// Those that are live, and how late packets may be at their other ends.
    pub(crate) fn live_budgets(&self) -> impl Iterator<Item = (LinkIndex, Duration)> + '_ {
        let live = self.all.iter().filter(|egress| egress.behind.is_none());
        live.map(|egress| (egress.link, egress.budget))
    }

    /// Whether an egress is there and live.
    pub(crate) fn is_live(&self, link: LinkIndex) -> bool {
        let place = self.place_of(link);
        place.is_ok_and(|place| self.all[place].behind.is_none())
    }

    /// The peaks of all egresses together.
    pub(crate) fn admitted(&self) -> Bitrate {
        let peaks = self.all.iter().map(|egress| egress.peak.0);
        Bitrate(peaks.fold(0, u64::saturating_add))
    }

    /// Removes an egress, and remembers what it was sent of late; `false` if there is none.
    pub(crate) fn remove(&mut self, link: LinkIndex, now: Instant) -> bool {
        let Ok(place) = self.place_of(link) else {
            return false;
        };
        let Egress { sums, .. } = self.all.remove(place);
        self.former.retain(|_, sums| !sums.is_forgotten(now));
        if !sums.is_forgotten(now) {
            if self.former.len() == FORMER_MAX {
                self.former.pop_first();
            }
            self.former.insert(link, sums);
        }
        true
    }

    /// Removes an egress whose link is no more.
    pub(crate) fn forget(&mut self, link: LinkIndex) {
        if let Ok(place) = self.place_of(link) {
            self.all.remove(place);
        }
        self.former.remove(&link);
    }

    /// What a child is told that asks for a number.
    pub(crate) fn reply(&self, link: LinkIndex, number: Number) -> Reply {
        let Ok(place) = self.place_of(link) else {
            return Reply::FromCache;
        };
        let egress = &self.all[place];
        match egress.behind {
            // Of what comes next nobody knows yet whether it begins the next group.
            Some(behind) if number >= behind.cursor && behind.why != Why::Skips => Reply::Pending,
            _ if egress.has_withheld(number) => Reply::Gone,
            _ => Reply::FromCache,
        }
    }

    fn place_of(&self, link: LinkIndex) -> Result<usize, usize> {
        self.all.binary_search_by_key(&link, |egress| egress.link)
    }
}

impl Egress {
    /// What it was admitted with.
    pub(crate) const fn peak(&self) -> Bitrate {
        self.peak
    }

    /// Whether a run goes out at once, as it does nearly always.
    #[inline]
    pub(crate) fn is_free(&self, is_late: bool, now: Instant) -> bool {
        let has_room = is_late || self.sums.live.is_ready(now);
        has_room && self.behind.is_none() && self.withheld.is_none()
    }

    /// Judges a run that may not go out at once.
    #[cold]
    pub(crate) fn judge(&mut self, run: &Run, kept: bool, is_late: bool, now: Instant) -> Verdict {
        if self.withheld.as_ref().is_some_and(|it| it.is_over(now)) {
            self.withheld = None;
        }
        let is_withheld = self.has_withheld(run.first) || self.has_withheld(run.burst);
        match &mut self.behind {
            Some(behind) if behind.why == Why::Waits => {
                if kept && run.group_start > behind.start {
                    // The next group has come before its turn: it begins with that, as it comes.
                    *behind = Behind::at(run.group_start, Why::Held);
                }
                Verdict::Wait
            }
            Some(behind) if run.first >= behind.cursor => match behind.why {
                Why::Skips => self.pass(run, kept, now),
                _ if kept => Verdict::Wait,
                _ => self.lose(run, now),
            },
            Some(behind) if run.first < behind.start => Verdict::Ignore,
            _ if is_withheld => Verdict::Withhold(DropReason::Shed),
            Some(behind) => {
                behind.cursor = behind.cursor.max(run.end());
                Verdict::Send
            }
            None if is_late || self.sums.live.is_ready(now) => Verdict::Send,
            None => {
                let start = Number::ZERO;
                let behind = Behind::at(run.first, Why::Held);
                self.behind = Some(Behind { start, ..behind });
                if kept {
                    Verdict::Wait
                } else {
                    self.lose(run, now)
                }
            }
        }
    }

    /// A run passes while the egress waits for the next group, or it begins that.
    fn pass(&mut self, run: &Run, kept: bool, now: Instant) -> Verdict {
        let Some(behind) = &mut self.behind else {
            return Verdict::Send;
        };
        let from = behind.cursor;
        if run.group_start < from {
            behind.cursor = run.end();
            self.withhold((from, run.end()), now, GONE_INTERVAL);
            return Verdict::Withhold(DropReason::Skipped);
        }
        // The group's first packet may have been overtaken: then it is sent when it comes.
        (behind.cursor, behind.why) = (run.group_start, Why::Held);
        self.withhold((from, run.group_start), now, Duration::ZERO);
        if let Some(withheld) = &mut self.withheld {
            withheld.say(now);
        }
        if kept {
            return Verdict::Wait;
        }
        self.behind = None;
        Verdict::Send
    }

    /// A run that the cursor would have come to is not in the cache, nor is anything before it.
    fn lose(&mut self, run: &Run, now: Instant) -> Verdict {
        if let Some(behind) = &mut self.behind {
            let from = std::mem::replace(&mut behind.cursor, run.end());
            behind.why = Why::Skips;
            self.withhold((from, run.end()), now, Duration::ZERO);
        }
        Verdict::Withhold(DropReason::Skipped)
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
        let held = self.behind.filter(|behind| behind.why == Why::Held);
        let sends = held.map(|_| self.sums.live.ready_at());
        let says = self.withheld.as_ref().and_then(|it| it.say_at());
        let tail = self.tail.as_ref().and_then(|tail| tail.timer());
        earliest(earliest(sends, says), tail)
    }
}

/// The earlier of two moments, where there is one.
pub(crate) fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
