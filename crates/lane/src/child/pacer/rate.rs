//! How fast a child is sent what waits: what its pace learns from what became of what was sent.
//!
//! ```text
//!            8 x ┬ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─   as the flow's rate of late
//!                │           ╱╲              ╱╲
//!                │        ╱     ╲_________╱     ╲___   a tenth more after each stretch that came whole; the last rate
//!          1.5 x ┤─────╱                               that did, once one lost its tail; again after a while
//!          1.1 x ┴ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─
//!
//!   a stretch   ▮▮▮▮▮▮▮▮ ▮▮▮▮▮▮▮▮ ▮▮▮▮▮▮▮▮ ▮▮▮▮▯▮▮▯ ▮▯▮▮▯▮▮▯     what left without a pause
//!               └ head ┘ └─────────────── tail ───────────┘     ▯ asked for again
//! ```
//!
//! A path that loses datagrams by chance loses as many of heads as of tails; a queue that is full loses of tails alone.
//! So a stretch is held against what heads lose, or the link as a whole: more than that, with room for chance, and its
//! rate was too high. So was it if the round trip has grown beyond what it was at its least. What is asked for late
//! finds its stretch judged already and changes nothing. Where parity goes, since there is no time for a second try,
//! the highest rate is begun with: a picture that is spread over the time of its repair is lost as well. Such a path is
//! known to lose by chance, and often several in a row, so there only a quarter of a tail beyond that says something,
//! and what was learned before it was known says nothing. Not the spending (`pacer.rs`). Called by
//! it. Invariant: the rate is between [`PACE_FLOOR`] and [`PACE_CEILING`] times what the flow needs, whatever a child
//! asks for, and at most [`STRETCHES_MAX`] stretches are remembered.

use std::collections::VecDeque;
use std::time::Duration;

use levada_wire::{Bitrate, Instant, Number};

use crate::limits::{
    PACE_CEILING, PACE_FLOOR, PACE_HEAD_PACKETS, PACE_JUDGED_AFTER, PACE_LOSS_UNKNOWN_PERMILLE,
    PACE_MIN, PACE_RETRY, PACE_RETRY_MAX, PACE_START, PACE_STRETCH_PACKETS, PACE_TAIL_MIN,
    PACE_TRIP_GROWTH, PACE_TRIP_PART, STRETCHES_MAX,
};
use crate::link::loss::Loss;
use crate::repair::trip::RoundTrip;

const LOSS_UNKNOWN: Loss = Loss::permille(PACE_LOSS_UNKNOWN_PERMILLE);

/// Packets that left one after the other without a pause.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    first: Number,
    end: Number,
    /// Packets before it are of the head.
    tail: Number,
    /// By which rate they left.
    rate: u64,
    ended: Instant,
    lost_of_head: u64,
    lost_of_tail: u64,
}

/// What heads lose: what the path loses by chance.
#[derive(Clone, Copy, Debug, Default)]
struct Heads {
    sent: u64,
    lost: u64,
}

/// The least round trip of this part of time and of the one before.
#[derive(Clone, Copy, Debug)]
struct LeastTrip {
    parts: [Option<Duration>; 2],
    next_part: Instant,
}

/// A rate that was too high.
#[derive(Clone, Copy, Debug)]
struct Limit {
    /// The last one below it that was not.
    rate: u64,
    /// When more is tried again.
    until: Instant,
    wait: Duration,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct PaceRate {
    now: u64,
    /// What the flow needs.
    needs: u64,
    /// Nothing was learned yet: the rate follows what the flow needs.
    is_new: bool,
    /// There is no time for a second try: the rate is the highest, until it turns out to be too high.
    is_hasty: bool,
    limit: Option<Limit>,
    stretches: VecDeque<Stretch>,
    heads: Heads,
    /// What the link loses of all that is sent over it; while nobody knows, [`LOSS_UNKNOWN`].
    loss: Loss,
    trips: LeastTrip,
}

impl PaceRate {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            now: PACE_MIN.0,
            needs: 0,
            is_new: true,
            is_hasty: false,
            limit: None,
            stretches: VecDeque::new(),
            heads: Heads::default(),
            loss: LOSS_UNKNOWN,
            trips: LeastTrip {
                parts: [None; 2],
                next_part: now + PACE_TRIP_PART,
            },
        }
    }

    pub(crate) const fn now(&self) -> Bitrate {
        Bitrate(self.now)
    }

    /// Whether there is no time for a second try, on a path that is known to lose.
    pub(crate) const fn hurry(&mut self, is_hasty: bool) {
        if is_hasty && !self.is_hasty {
            self.limit = None; // the path was to blame, and not the rate
        }
        self.is_hasty = is_hasty;
    }

    /// Follows what the flow needs, and judges the stretches that are old enough; says whether the rate is another.
    pub(crate) fn attend(
        &mut self,
        needs: Bitrate,
        (trip, loss): (RoundTrip, Option<Loss>),
        now: Instant,
    ) -> bool {
        let before = self.now;
        self.loss = loss.unwrap_or(LOSS_UNKNOWN);
        self.needs = needs.0;
        if self.is_new {
            self.now = part(self.needs, PACE_START);
        }
        let patience = trip.retry_after() + PACE_JUDGED_AFTER;
        while let Some(stretch) = self.stretches.front() {
            if stretch.ended + patience > now {
                break;
            }
            let stretch = self.stretches.pop_front().expect("it is there");
            let has_grown = self.trips.has_grown(trip, now);
            self.judge(stretch, has_grown, now);
        }
        let (floor, ceiling) = (part(self.needs, PACE_FLOOR), part(self.needs, PACE_CEILING));
        let floor = floor.max(PACE_MIN.0);
        if self.is_hasty && self.limit.is_none() {
            self.now = ceiling;
        }
        self.now = self.now.clamp(floor, ceiling.max(floor));
        self.now != before
    }

    /// Packets leave for the first time, up to but without the second number; `goes_on` says that there was no pause
    /// before them.
    pub(crate) fn sent(&mut self, (first, end): (Number, Number), goes_on: bool, now: Instant) {
        if let Some(last) = self.stretches.back_mut() {
            if first < last.end {
                return; // late: nobody knows with what it left
            }
            let is_short = last.end.since(last.first) < PACE_STRETCH_PACKETS;
            if goes_on && is_short && last.rate == self.now {
                (last.end, last.ended) = (end, now);
                return;
            }
        }
        if self.stretches.len() == STRETCHES_MAX {
            self.stretches.pop_front();
        }
        let head = if goes_on { 0 } else { PACE_HEAD_PACKETS };
        self.stretches.push_back(Stretch {
            first,
            end,
            tail: first.plus(head),
            rate: self.now,
            ended: now,
            lost_of_head: 0,
            lost_of_tail: 0,
        });
    }

    /// A packet was asked for again, for the first time; says whether the rate is another.
    pub(crate) fn lost(&mut self, number: Number, now: Instant) -> bool {
        let mut stretches = self.stretches.iter_mut();
        let of = stretches.find(|one| one.first <= number && number < one.end);
        let Some(stretch) = of else {
            return false;
        };
        if number < stretch.tail {
            stretch.lost_of_head += 1;
            return false;
        }
        stretch.lost_of_tail += 1;
        // At once: what is on its way to be lost is the more, the longer it goes on like that.
        let (stretch, before) = (*stretch, self.now);
        if stretch.lost_of_tail > self.by_chance(stretch.packets().1) {
            self.fall(stretch, now);
        }
        self.now != before
    }

    fn judge(&mut self, stretch: Stretch, has_grown: bool, now: Instant) {
        let (head, tail) = stretch.packets();
        let (expected, by_chance) = (self.expected(tail), self.by_chance(tail));
        self.heads.add(head, stretch.lost_of_head);
        if stretch.lost_of_tail > by_chance || has_grown && tail >= PACE_TAIL_MIN {
            return self.fall(stretch, now);
        }
        if tail >= PACE_TAIL_MIN && stretch.rate >= self.now && stretch.lost_of_tail <= expected + 1
        {
            self.rise(now);
        }
    }

    /// So many of so many packets may get lost by chance: two deviations more than are expected, which of rare things
    /// are the root of their count, and two since a few packets say little.
    fn by_chance(&self, packets: u64) -> u64 {
        let expected = self.expected(packets);
        let in_a_row = if self.is_hasty { packets / 4 } else { 0 };
        expected + 2 * expected.isqrt() + 2 + in_a_row
    }

    /// How many of so many packets get lost by chance.
    fn expected(&self, packets: u64) -> u64 {
        let of_link = (packets * u64::from(self.loss.0)).div_ceil(u64::from(Loss::ALL.0));
        self.heads.expected(packets).max(of_link)
    }

    /// A stretch was too fast.
    fn fall(&mut self, stretch: Stretch, now: Instant) {
        self.is_new = false;
        let tail = stretch.packets().1;
        // What came through of it, and a tenth less at least; half of it at most is given up at a time.
        let came = stretch.rate / tail.max(1) * tail.saturating_sub(stretch.lost_of_tail);
        let rate = came.clamp(stretch.rate / 2, stretch.rate / 11 * 10);
        if rate >= self.now {
            return; // it is slower already
        }
        self.now = rate;
        let wait = match self.limit {
            None => PACE_RETRY,
            Some(limit) if now < limit.until => limit.wait, // more of what is known already
            Some(limit) => limit.wait * 2,
        };
        let wait = wait.min(PACE_RETRY_MAX);
        self.limit = Some(Limit {
            rate,
            until: now + wait,
            wait,
        });
    }

    /// A stretch came through, at this rate.
    fn rise(&mut self, now: Instant) {
        let more = self.now + self.now / 10;
        let most = self.limit.filter(|limit| now < limit.until);
        let more = most.map_or(more, |limit| more.min(limit.rate.max(self.now)));
        if more > self.now {
            (self.now, self.is_new) = (more, false);
        }
    }
}

impl Stretch {
    /// The packets of its head and of its tail.
    fn packets(&self) -> (u64, u64) {
        let head = self.tail.min(self.end).since(self.first);
        (head, self.end.since(self.first) - head)
    }
}

impl Heads {
    /// How many of so many packets get lost as heads do.
    fn expected(self, packets: u64) -> u64 {
        (packets * self.lost).div_ceil(self.sent.max(1))
    }

    fn add(&mut self, sent: u64, lost: u64) {
        if self.sent >= 1_024 {
            (self.sent, self.lost) = (self.sent / 2, self.lost / 2);
        }
        (self.sent, self.lost) = (self.sent + sent, self.lost + lost);
    }
}

impl LeastTrip {
    /// Whether a trip takes much longer than it did at its least of late.
    fn has_grown(&mut self, trip: RoundTrip, now: Instant) -> bool {
        if !trip.is_known() {
            return false;
        }
        let time = trip.time();
        if now >= self.next_part {
            self.parts = [self.parts[1], None];
            self.next_part = now + PACE_TRIP_PART;
        }
        let part = &mut self.parts[1];
        *part = Some(part.map_or(time, |least| least.min(time)));
        let least = self.parts.iter().flatten().min().copied().unwrap_or(time);
        time > least + PACE_TRIP_GROWTH.max(least / 2)
    }
}

/// So many sixteenths of a rate.
const fn part(rate: u64, sixteenths: u64) -> u64 {
    (rate / 16).saturating_mul(sixteenths)
}

#[cfg(test)]
mod tests;
