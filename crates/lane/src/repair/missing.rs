//! What a flow lacks: the numbers that were sent and have not come, until when each is of use, and when to ask again.
//!
//! ```text
//!            shown to be missing             asked                     asked once more, of the next upstream
//!   number ─────────────────────▶ reordering ─────▶ retry time ──────▶ retry time ──────▶ ...
//!                                                └ said again after 5 ms, if the link is long
//!   comes: repaired      GONE from every upstream, or no time left for an answer and then the deadline: given up
//! ```
//!
//! A gap shows when a higher number comes; a HEAD that names one asks its sender alone, and gives nothing up. The
//! deadline is the packet's own time (`arrival_baseline`) plus the budget; what cannot arrive before it is not asked
//! for. When the last answer but one would come too late for another full try, the last try is made a little early:
//! half a chance is better than none. Not sending, and not knowing links: `repair` does both. Called by it. Invariant:
//! at most as many numbers are tracked as the flow has room for; more, and the oldest are given up. After
//! [`Missing::ask`] the next wake-up lies ahead.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use levada_wire::datagram::link::LinkDatagram;
use levada_wire::{FlowId, Instant, LinkIndex, Number, OriginTime};

use super::counts::RepairCounts;
use super::numbers::{fit_together, pack};
use super::reordering::Reordering;
use super::trip::RoundTrip;
use crate::flow::run::Run;
use crate::limits::{
    BEGIN_BEFORE_MAX, MISSING_MIN, NACK_INTERVAL, REORDER_MAX, REPEAT_TRIP_MIN, RETRY_MIN,
    WINDOW_NUMBERS,
};

/// Somebody who may be asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RepairPeer {
    pub(crate) link: LinkIndex,
    pub(crate) trip: RoundTrip,
    /// No request before this moment.
    pub(crate) ready_at: Instant,
    /// It has been silent while others were not.
    pub(crate) is_quiet: bool,
}

/// A request that must be sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) link: LinkIndex,
    pub(crate) message: LinkDatagram,
}

/// One number that has not come.
#[derive(Debug)]
struct Want {
    deadline: Instant,
    /// When to say something: to ask, or to repeat what was asked.
    ask_at: Instant,
    /// When to try anew, after what was asked is repeated.
    retry_at: Instant,
    /// The next thing to do is to repeat the request, to the same upstream.
    repeats: bool,
    tries: u8,
    shown_at: Instant,
    /// When it was asked for last.
    asked_at: Instant,
    /// The upstream that showed that it is missing, later the one that was asked.
    link: Option<LinkIndex>,
    /// Only this upstream says that there is such a number: nobody else is asked.
    only: Option<LinkIndex>,
    /// What came is false.
    bad: bool,
    /// Upstreams that said that it will not come.
    gone_at: Vec<LinkIndex>,
}

/// How a gap came to be known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    pub(crate) link: LinkIndex,
    pub(crate) trip: RoundTrip,
    /// How much longer to wait before asking, since others may ask first and the answer comes to all.
    pub(crate) back_off: Duration,
    /// How much longer than the reordering time nobody asks, as far as there is time: parity may make it good.
    pub(crate) hold: Duration,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Missing {
    /// One past the highest number that came: what lies before it was sent.
    next: Option<Number>,
    /// How far each upstream says that it has sent, where that is beyond `next`.
    told: Vec<(LinkIndex, Number)>,
    /// Numbers from `next` on that were given up since that upstream alone spoke of them.
    told_in_vain: BTreeMap<Number, LinkIndex>,
    /// One past the highest number that came, and when that was sent; `None` before the first.
    latest: Option<(Number, OriginTime)>,
    wants: BTreeMap<Number, Want>,
    /// The next packet is the first, or the first after a time without upstream.
    is_joining: bool,
    /// Where the flow begins, if not with a group.
    beginning: Option<Number>,
    /// A newcomer plays the old packets that it is sent now: from this number on no deadline is before that moment.
    joined: Option<(Number, Instant)>,
    /// The group that is the newest at an upstream cannot be joined: nothing of it is asked for before what came first.
    unjoinable: Option<Unjoinable>,
    /// Something was given up since the join point was judged.
    has_given_up: bool,
    reordering: Reordering,
    /// The most that is tracked, and how far ahead a head may be.
    most: usize,
    ahead_max: u64,
    budget: Duration,
    wake: Option<Instant>,
}

/// How far repair has come on a line of numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reached {
    next: Option<Number>,
    latest: Option<(Number, OriginTime)>,
}

/// A group that an upstream could not send from its start on.
#[derive(Clone, Copy, Debug)]
struct Unjoinable {
    start: Number,
    /// The first packet that came of it.
    came: Option<Number>,
}

impl Missing {
    pub(crate) const fn new(budget: Duration) -> Self {
        Self {
            next: None,
            told: Vec::new(),
            told_in_vain: BTreeMap::new(),
            latest: None,
            wants: BTreeMap::new(),
            is_joining: true,
            beginning: None,
            joined: None,
            unjoinable: None,
            has_given_up: false,
            reordering: Reordering::new(),
            most: MISSING_MIN,
            ahead_max: WINDOW_NUMBERS,
            budget,
            wake: None,
        }
    }

    /// How late packets may be that are missed from now on.
    pub(crate) const fn set_budget(&mut self, budget: Duration) {
        self.budget = budget;
    }

    /// So many numbers may be missing from now on, and a head may be so far ahead, if that is more than before.
    pub(crate) fn make_room(&mut self, missing: usize, ahead: u64) {
        (self.most, self.ahead_max) = (self.most.max(missing), self.ahead_max.max(ahead));
    }

    /// When [`Missing::ask`] has something to do.
    pub(crate) const fn wake(&self) -> Option<Instant> {
        self.wake
    }

    /// Whether a number was sent, is not here, and is not expected any more: said of numbers that did not come.
    pub(crate) fn is_hopeless(&self, number: Number) -> bool {
        self.next.is_some_and(|next| number < next) && !self.wants.contains_key(&number)
    }

    /// Whether a number is expected: it is missing, or it was not sent yet as far as is known.
    pub(crate) fn expects(&self, number: Number) -> bool {
        !self.is_hopeless(number)
    }

    /// One past the highest number that came; `None` before the first.
    pub(crate) const fn next(&self) -> Option<Number> {
        self.next
    }

    /// The flow begins there: nothing before is wanted.
    pub(crate) const fn begin_at(&mut self, number: Number) {
        self.beginning = Some(number);
    }

    /// The lowest number that is missing and may still come.
    pub(crate) fn first(&self) -> Option<Number> {
        self.wants.keys().next().copied()
    }

    /// Whether something below a number is missing and may still come.
    pub(crate) fn lacks_below(&self, number: Number) -> bool {
        self.wants.range(..number).next().is_some()
    }

    /// How many numbers of a range are missing and may still come.
    pub(crate) fn expected_in(&self, range: Range<Number>) -> u64 {
        self.wants.range(range).count() as u64
    }

    /// How far it has come.
    pub(crate) const fn reached(&self) -> Reached {
        Reached {
            next: self.next,
            latest: self.latest,
        }
    }

    /// Goes on from where it had come on another line; from nowhere it begins like a newcomer.
    pub(crate) fn resume(&mut self, reached: Reached) {
        (self.next, self.latest) = (reached.next, reached.latest);
        match reached.next {
            Some(next) => drop(self.wants.split_off(&next)),
            None => {
                self.wants.clear();
                self.join();
            }
        }
        (self.joined, self.unjoinable) = (None, None);
        (self.told, self.told_in_vain) = (Vec::new(), BTreeMap::new());
    }

    /// Whether anything was given up since the last call.
    pub(crate) const fn take_has_given_up(&mut self) -> bool {
        std::mem::replace(&mut self.has_given_up, false)
    }

    /// The next packets come from the start of a group: what of it was lost is of use, however old it is.
    pub(crate) const fn join(&mut self) {
        self.is_joining = true;
    }

    /// Packets came. `time_of` says when a packet sent at that time should be here. Gives those that were missing, or
    /// `None` if the run is just the next.
    pub(crate) fn arrived(
        &mut self,
        run: &Run,
        shown: Shown,
        now: Instant,
        time_of: impl Fn(OriginTime) -> Instant,
        counts: &mut RepairCounts,
    ) -> Option<Vec<Number>> {
        if self.next == Some(run.first) && !self.is_joining && self.told.is_empty() {
            (self.next, self.latest) = (Some(run.end()), Some((run.end(), run.sent)));
            return None;
        }
        if std::mem::take(&mut self.is_joining) {
            self.joined = Some((run.group_start, now + self.budget));
        }
        let (start, before) = match (self.next, self.latest) {
            (Some(next), Some(latest)) => (next, latest),
            _ => {
                let start = self.enter(run);
                (start, (start, run.sent))
            }
        };
        // What was shown by one packet alone may have been overtaken; two in a row are a better sign.
        let is_sure = run.packets() > 1;
        let least = if is_sure {
            shown.trip.reordering()
        } else {
            REORDER_MAX
        };
        let gap = Gap {
            start,
            end: run.first,
            ask_at: now + self.wait(least, &shown, now),
            shown: Some(shown),
        };
        self.add(
            gap,
            now,
            |number| time_of(sent_of(number, before, run)),
            counts,
        );
        if let Some(gap) = self.joinable_again(run, shown, now) {
            self.add(gap, now, |_| now, counts);
        }
        let mut filled = Vec::new();
        for number in (0..run.packets()).map(|at| run.first.plus(at as u64)) {
            match self.wants.remove(&number) {
                Some(want) => {
                    counts.repairs_received += u64::from(want.tries > 0);
                    if let Some(asked) = want.is_overtaken(&shown, now) {
                        let extent = now.since(want.shown_at);
                        self.reordering.overtaken(number, asked, extent);
                    }
                    filled.push(number);
                }
                None if self.latest.is_some() && number < start => counts.repairs_late += 1,
                None => {}
            }
        }
        if self.latest.is_none_or(|(end, _)| run.end() > end) {
            self.latest = Some((run.end(), run.sent));
        }
        self.next = self.next.max(Some(run.end()));
        self.told.retain(|&(_, told)| Some(told) > self.next);
        if let Some(next) = self.next.filter(|_| !self.told_in_vain.is_empty()) {
            self.told_in_vain = self.told_in_vain.split_off(&next);
        }
        Some(filled)
    }

    /// Where a newcomer whose first packets these are begins: where it is to, or at the start of their group, if it can
    /// be joined.
    fn enter(&mut self, run: &Run) -> Number {
        let is_near = |begin: &Number| {
            run.first > run.group_start
                && run.first.since((*begin).min(run.first)) <= BEGIN_BEFORE_MAX
        };
        if let Some(begin) = self.beginning.take().filter(is_near) {
            return begin.min(run.first);
        }
        let unjoinable = self.unjoinable.as_mut();
        match unjoinable.filter(|group| group.start == run.group_start) {
            Some(group) if run.first > group.start => {
                group.came = Some(run.first);
                run.first
            }
            _ => run.group_start,
        }
    }

    /// The start of a group that could not be joined has come after all: what lies between it and what came first.
    fn joinable_again(&mut self, run: &Run, shown: Shown, now: Instant) -> Option<Gap> {
        let group = self.unjoinable?;
        let end = group.came.filter(|_| run.first == group.start)?;
        self.unjoinable = None;
        self.joined = Some((group.start, now + self.budget));
        Some(Gap {
            start: group.start,
            end,
            ask_at: now + REORDER_MAX,
            shown: Some(shown),
        })
    }

    /// An upstream says the highest number that it has sent. It is asked for what has not come; nothing is given up for
    /// its word alone, since others may go on before that number.
    pub(crate) fn head(&mut self, highest: Number, shown: Shown, now: Instant) {
        let came = self.next.unwrap_or(highest);
        let told = self.told.iter_mut().find(|(link, _)| *link == shown.link);
        let start = told.as_ref().map_or(came, |(_, told)| came.max(*told));
        // Farther ahead than any window reaches it is no tail: packets will show what is missing, or nothing does.
        if highest < start || highest.since(came) >= self.ahead_max {
            return;
        }
        let end = highest.next();
        match told {
            Some((_, told)) => *told = end,
            None => self.told.push((shown.link, end)), // one for each upstream at most
        }
        let gap = Gap {
            start,
            end,
            ask_at: now + self.wait(shown.trip.reordering(), &shown, now),
            shown: Some(shown),
        };
        self.add_told(&gap, shown.link, now);
    }

    /// A packet came over that link that is here already.
    pub(crate) fn came_again(&mut self, number: Number, link: LinkIndex, now: Instant) {
        self.reordering.came_again(number, link, now);
    }

    /// How long to wait for what may only be overtaken, `least` at least, and for others to ask.
    fn wait(&mut self, least: Duration, shown: &Shown, now: Instant) -> Duration {
        let window = self.reordering.window(least, shown.trip, self.budget, now);
        window + shown.back_off
    }

    /// Tracks what one upstream says that it has sent, the oldest if it is too much.
    fn add_told(&mut self, gap: &Gap, link: LinkIndex, now: Instant) {
        for number in (0..gap.end.since(gap.start)).map(|at| gap.start.plus(at)) {
            if let Some(want) = self.wants.get_mut(&number) {
                want.only = want.only.filter(|&only| only == link);
            } else if self.wants.len() < self.most && self.told_in_vain.get(&number) != Some(&link)
            {
                self.track(number, gap, Some(link), now + self.budget, now);
            }
        }
    }

    fn track(
        &mut self,
        number: Number,
        gap: &Gap,
        only: Option<LinkIndex>,
        deadline: Instant,
        now: Instant,
    ) {
        let ask_at = gap.first_try(deadline);
        self.wants.entry(number).or_insert_with(|| Want {
            deadline,
            ask_at,
            retry_at: ask_at,
            repeats: false,
            tries: 0,
            shown_at: now,
            asked_at: now,
            link: gap.shown.map(|shown| shown.link),
            only,
            bad: false,
            gone_at: Vec::new(),
        });
        self.wake = Some(self.wake.map_or(ask_at, |wake| wake.min(ask_at)));
    }

    /// Parity for all numbers up to that one has come, as far as it comes: what is still missing has nothing to wait
    /// for but what was overtaken.
    pub(crate) fn release(&mut self, last: Number, shown: &Shown, now: Instant) {
        let at = now + self.wait(shown.trip.reordering(), shown, now);
        let held = self.wants.range_mut(..=last);
        for (_, want) in held.filter(|(_, want)| want.tries == 0 && want.ask_at > at) {
            want.ask_at = at;
            self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
        }
    }

    /// How late a packet may be.
    pub(crate) const fn budget(&self) -> Duration {
        self.budget
    }

    /// A packet that came was false: a good copy is wanted until its deadline.
    pub(crate) fn bad(
        &mut self,
        number: Number,
        time: Instant,
        now: Instant,
        counts: &mut RepairCounts,
    ) {
        let gap = Gap {
            start: number,
            end: number.next(),
            ask_at: now,
            shown: None,
        };
        self.add(gap, now, |_| time, counts);
        if let Some(want) = self.wants.get_mut(&number) {
            want.bad = true;
        }
    }

    /// An upstream says that it lacks this one too: it will send it on when it comes, so it is given that time.
    pub(crate) fn pending(&mut self, number: Number, from: &RepairPeer, now: Instant) {
        if let Some(want) = self.wants.get_mut(&number) {
            want.repeats = false;
            want.ask_at = want.ask_at.max(want.next_try(from.trip, now));
        }
    }

    /// An upstream says that this one will not come; it is given up when all say so. Before anything came it is the
    /// first of a group that cannot be joined.
    pub(crate) fn gone(
        &mut self,
        number: Number,
        from: LinkIndex,
        sources: &[RepairPeer],
        now: Instant,
        counts: &mut RepairCounts,
    ) {
        if self.next.is_none() {
            let (start, came) = (number, None);
            self.unjoinable = Some(Unjoinable { start, came });
        }
        let Some(want) = self.wants.get_mut(&number) else {
            return;
        };
        if !want.gone_at.contains(&from) {
            want.gone_at.push(from);
        }
        if sources
            .iter()
            .all(|source| want.gone_at.contains(&source.link))
        {
            self.wants.remove(&number);
            if self.next.is_some_and(|next| number >= next) {
                self.told_in_vain.insert(number, from);
            }
            self.give_up(1, counts);
        } else {
            (want.ask_at, want.repeats) = (now, false);
            self.wake = Some(now);
        }
    }

    /// Gives up what is too late and makes the requests that are due, at most one for each source.
    pub(crate) fn ask(
        &mut self,
        flow: FlowId,
        sources: &mut [RepairPeer],
        now: Instant,
        counts: &mut RepairCounts,
    ) -> Vec<Ask> {
        let mut drafts: Vec<Draft> = Vec::new();
        let mut wake: Option<Instant> = None;
        let before = self.wants.len();
        self.wants.retain(|&number, want| {
            if want.deadline <= now {
                if let Some(only) = want.only {
                    self.told_in_vain.insert(number, only);
                }
                return false;
            }
            let at = want
                .step(number, sources, &mut drafts, now)
                .min(want.deadline);
            wake = Some(wake.map_or(at, |wake| wake.min(at)));
            true
        });
        self.wake = wake;
        self.give_up((before - self.wants.len()) as u64, counts);
        counts.nacks_sent += drafts.len() as u64;
        for source in sources {
            if drafts.iter().any(|draft| draft.link == source.link) {
                source.ready_at = now + NACK_INTERVAL;
            }
        }
        drafts.into_iter().map(|draft| draft.finish(flow)).collect()
    }

    /// Tracks a gap: its numbers that are of use, the newest if there are too many.
    fn add(
        &mut self,
        gap: Gap,
        now: Instant,
        time_of: impl Fn(Number) -> Instant,
        counts: &mut RepairCounts,
    ) {
        let count = if gap.start < gap.end {
            gap.end.since(gap.start)
        } else {
            0
        };
        let tracked = count.min(self.most as u64);
        self.give_up(count - tracked, counts);
        for number in (0..tracked).map(|at| gap.start.plus(count - tracked + at)) {
            if let Some(want) = self.wants.get_mut(&number) {
                want.only = None; // it was told of already
                continue;
            }
            // A clock that jumped must not make anybody wait for ever.
            let mut deadline = time_of(number).min(now) + self.budget;
            if let Some((_, earliest)) = self.joined.filter(|&(first, _)| number >= first) {
                deadline = deadline.max(earliest);
            }
            let in_vain = self.told_in_vain.get(&number).copied();
            if in_vain.is_some() && in_vain == gap.shown.map(|shown| shown.link) {
                self.has_given_up = true; // and counted
                continue;
            }
            if deadline <= now {
                self.give_up(1, counts);
                continue;
            }
            self.track(number, &gap, None, deadline, now);
        }
        while self.wants.len() > self.most {
            let last = self.wants.last_entry();
            match last.filter(|want| want.get().only.is_some()) {
                Some(told) => drop(told.remove()),
                None => {
                    self.wants.pop_first();
                    self.give_up(1, counts);
                }
            }
        }
    }

    const fn give_up(&mut self, packets: u64, counts: &mut RepairCounts) {
        self.has_given_up |= packets > 0;
        counts.given_up += packets;
    }
}

/// Numbers that have not come.
struct Gap {
    start: Number,
    end: Number,
    ask_at: Instant,
    /// How it came to be known; none for a packet that came and was bad.
    shown: Option<Shown>,
}

impl Gap {
    /// When to ask for one of its packets first: as late as parity may still come, and as early as an answer needs.
    fn first_try(&self, deadline: Instant) -> Instant {
        let held = self.shown.filter(|shown| shown.hold > Duration::ZERO);
        held.map_or(self.ask_at, |shown| {
            let last_chance = deadline - shown.trip.time() - RETRY_MIN / 8;
            (self.ask_at + shown.hold).min(last_chance).max(self.ask_at)
        })
    }
}

/// When a missing packet was sent, as near as can be told: with the packet after it if it is of that one's burst, else
/// somewhere between the packet before it and that one.
fn sent_of(number: Number, (start, before): (Number, OriginTime), after: &Run) -> OriginTime {
    if number >= after.burst || after.burst <= start {
        return after.sent;
    }
    let micros = u64::from(after.sent.micros_since(before).max(0).unsigned_abs());
    let (at, of) = (number.since(start) + 1, after.burst.since(start) + 1);
    let part = micros * at / of;
    OriginTime(
        before
            .0
            .wrapping_add(u32::try_from(part).unwrap_or(u32::MAX)),
    )
}

impl Want {
    /// Does what is due, and says when the next thing is.
    fn step(
        &mut self,
        number: Number,
        sources: &[RepairPeer],
        drafts: &mut Vec<Draft>,
        now: Instant,
    ) -> Instant {
        if self.ask_at > now {
            return self.ask_at;
        }
        let Some(source) = self.choose(sources) else {
            self.ask_at = now + RETRY_MIN; // nobody to ask: perhaps soon there is
            return self.ask_at;
        };
        if now + source.trip.time() > self.deadline {
            self.ask_at = self.deadline; // an answer would be too late; what was asked may still come
            return self.ask_at;
        }
        if source.ready_at > now {
            return source.ready_at;
        }
        if !draft(drafts, source.link, self.bad, number) {
            return now + NACK_INTERVAL;
        }
        if self.repeats {
            self.repeats = false;
            self.ask_at = self.retry_at.max(now + NACK_INTERVAL);
            return self.ask_at;
        }
        self.tries = self.tries.saturating_add(1);
        self.asked_at = now;
        self.link = Some(source.link);
        self.repeats = source.trip.time() >= REPEAT_TRIP_MIN;
        let said_last = if self.repeats {
            now + NACK_INTERVAL
        } else {
            now
        };
        self.retry_at = self.next_try(source.trip, said_last);
        self.ask_at = if self.repeats {
            said_last
        } else {
            self.retry_at
        };
        self.ask_at
    }

    /// Whom it was asked of, once, if it comes too early to be the answer.
    fn is_overtaken(&self, came: &Shown, now: Instant) -> Option<LinkIndex> {
        let asked = self.link.filter(|_| self.tries == 1 && !self.bad)?;
        let is_early = came.link != asked || now < self.asked_at + came.trip.least();
        is_early.then_some(asked)
    }

    /// When to try after a try at `now`: after the retry time, or a little before it if that is the last chance.
    fn next_try(&self, trip: RoundTrip, now: Instant) -> Instant {
        let next = now + trip.retry_after();
        let last_chance = self.deadline - trip.time() - RETRY_MIN / 8;
        if next <= last_chance {
            return next;
        }
        let is_worth_it = last_chance >= now + trip.time() * 7 / 8;
        if is_worth_it {
            last_chance
        } else {
            self.deadline
        }
    }

    /// First who showed the gap, from the second try on the others in turn; a repeated request goes where it went. Who
    /// has fallen silent is asked if nobody else can be.
    fn choose<'a>(&self, sources: &'a [RepairPeer]) -> Option<&'a RepairPeer> {
        let before = sources
            .iter()
            .position(|source| Some(source.link) == self.link);
        let onward = usize::from(self.tries > 0 && !self.repeats);
        let first = before.map_or(0, |place| place + onward);
        let in_turn = (0..sources.len()).map(|at| &sources[(first + at) % sources.len()]);
        let mut may_have = in_turn.filter(|source| {
            let is_told = self.only.is_none_or(|only| only == source.link);
            is_told && !self.gone_at.contains(&source.link)
        });
        let other = may_have.clone().next();
        may_have.find(|source| !source.is_quiet).or(other)
    }
}

/// A request that numbers are still added to.
struct Draft {
    link: LinkIndex,
    bad: bool,
    numbers: Vec<Number>,
}

impl Draft {
    fn finish(self, flow: FlowId) -> Ask {
        let numbers = pack(flow, &self.numbers).into_iter().next();
        let numbers = numbers.expect("a draft begins with a number, and all fit together");
        let message = if self.bad {
            LinkDatagram::NackBad(numbers)
        } else {
            LinkDatagram::Nack(numbers)
        };
        Ask {
            link: self.link,
            message,
        }
    }
}

/// Adds a number to the request to that upstream; `false` if it must wait for the next one.
fn draft(drafts: &mut Vec<Draft>, link: LinkIndex, bad: bool, number: Number) -> bool {
    match drafts.iter_mut().find(|draft| draft.link == link) {
        None => {
            drafts.push(Draft {
                link,
                bad,
                numbers: vec![number],
            });
            true
        }
        Some(draft) => {
            let fits = draft.bad == bad && fit_together(draft.numbers[0], number);
            if fits {
                draft.numbers.push(number);
            }
            fits
        }
    }
}

#[cfg(test)]
mod tests;
