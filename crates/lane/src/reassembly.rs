//! The consumer of a flow: opens each packet once, in the order of numbers, and lays frames end to end again.
//!
//! ```text
//!            first packet of a group                a hole that repair has given up
//!  Seeking ─────────────────────────▶ Running ──────────────────────────────────▶ Running, after a Gap,
//!                                        │                                        at the next whole burst
//!                                        └── END, and its number reached ──▶ Ended
//! ```
//!
//! Only the last node puts packets in order; until then they travel as they come. Not decoding: frames are bytes. How
//! long a hole is worth waiting for is `repair`'s to know. Called by `forward::hand_on` (packets in) and by the lane
//! (frames out). Invariant: frames come out once each, whole and in the order of numbers; the first thing out is the
//! description and the first frame is the first of a group; memory is bounded by [`WAITING_PACKETS_MAX`] and
//! [`BURST_BYTES_MAX`].

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use levada_wire::packet::seal::Opener;
use levada_wire::{Header, Number, OriginTime};

use crate::api::{Delivery, Gap, GapReason};
use crate::flow::run::Run;
use crate::limits::{BURST_BYTES_MAX, EPOCHS_MAX, FRAMES_PER_BURST_MAX, WAITING_PACKETS_MAX};

mod unpack;

use unpack::Unpacker;

/// A packet that waits for its turn.
#[derive(Debug)]
struct Waiting {
    header: Header,
    /// First number of its burst.
    burst: Number,
    packet: Bytes,
}

/// Where the consumer is.
#[derive(Debug)]
enum State {
    /// No group's first packet has come yet.
    Seeking,
    /// All before `next` is done with.
    Running { next: Number },
    /// The stream ended on purpose.
    Ended,
}

/// The burst that is being laid together.
#[derive(Debug)]
struct Burst {
    first: Number,
    body: Vec<u8>,
}

/// What [`Reassembly::advance`] leaves for its caller to do.
#[derive(Debug, Default)]
pub(crate) struct Advanced {
    /// Things for the subscribers, in order.
    pub(crate) deliveries: VecDeque<Delivery>,
    /// A packet that passed its carry tag and did not open, and when it was sent: a good copy may come.
    pub(crate) forgotten: Option<(Number, OriginTime)>,
    /// It stopped for lack of room and can go on at once.
    pub(crate) has_more: bool,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Reassembly {
    state: State,
    openers: Vec<(u8, Opener)>,
    waiting: BTreeMap<Number, Waiting>,
    burst: Option<Burst>,
    /// First number of a burst of which a part is missing: the rest of it is of no use.
    broken: Option<Number>,
    /// The packet that is next has come and was false.
    next_was_false: bool,
    /// First packets of groups that were false; empty between two calls of the lane.
    refused: Vec<(Number, OriginTime)>,
    unpacker: Unpacker,
}

impl Reassembly {
    /// A consumer that has seen nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            state: State::Seeking,
            openers: Vec::new(),
            waiting: BTreeMap::new(),
            burst: None,
            broken: None,
            next_was_false: false,
            refused: Vec::new(),
            unpacker: Unpacker::default(),
        }
    }

    /// Whether no group's first packet has come yet.
    pub(crate) const fn is_seeking(&self) -> bool {
        matches!(self.state, State::Seeking)
    }

    /// Opens packets of that epoch from now on.
    pub(crate) fn add_opener(&mut self, epoch: u8, opener: Opener) {
        self.openers.retain(|&(held, _)| held != epoch);
        if self.openers.len() == EPOCHS_MAX {
            self.openers.remove(0);
        }
        self.openers.push((epoch, opener));
    }

    /// Whether a packet is of use and is true.
    pub(crate) fn wants(&mut self, header: &Header, packet: &[u8]) -> bool {
        !self.is_past(header.number) && self.opens(header, packet) == Some(true)
    }

    /// Whether it opens; `None` without its key.
    fn opens(&mut self, header: &Header, packet: &[u8]) -> Option<bool> {
        let mut openers = self.openers.iter_mut();
        let (_, opener) = openers.find(|(epoch, _)| *epoch == header.key)?;
        Some(opener.open(packet, &mut Vec::new()).is_some())
    }

    fn is_false(&mut self, header: &Header, packet: &[u8]) -> bool {
        self.opens(header, packet) == Some(false)
    }

    /// Takes proven packets, in any order.
    pub(crate) fn push(&mut self, run: &Run) {
        for (number, packet) in run.iter() {
            if self.is_past(number) {
                continue;
            }
            let Some(header) = Header::peek(&packet) else {
                continue; // admitted packets have a header
            };
            let Some(burst) = header.burst() else {
                continue; // nor do they contradict themselves
            };
            let is_start = header.offset == 0 && header.index == 0;
            if is_start && self.is_seeking() {
                if self.is_false(&header, &packet) {
                    self.refused.push((number, header.sent));
                    continue; // it must not begin where the stream never comes by
                }
                self.waiting = self.waiting.split_off(&number);
                self.state = State::Running { next: number };
            }
            let waiting = Waiting {
                header,
                burst,
                packet,
            };
            self.waiting.insert(number, waiting);
            if matches!(self.state, State::Seeking) && self.waiting.len() > WAITING_PACKETS_MAX {
                self.waiting.pop_first();
            }
        }
    }

    /// Opens what is next, and gives up what `is_hopeless`: sent, and not expected any more. Stops once `room`
    /// deliveries are there, and at a packet that does not open, so that the caller may expect a good copy of it.
    pub(crate) fn advance(
        &mut self,
        room: usize,
        is_hopeless: impl Fn(Number) -> bool,
    ) -> Advanced {
        let mut done = Advanced {
            forgotten: self.refused.pop(),
            ..Advanced::default()
        };
        if done.forgotten.is_some() {
            return done;
        }
        while let State::Running { next } = self.state {
            if done.deliveries.len() + FRAMES_PER_BURST_MAX > room {
                let is_waiting = !self.waiting.is_empty();
                done.has_more = self.waiting.contains_key(&next) || is_waiting && is_hopeless(next);
                return done;
            }
            if self.waiting.contains_key(&next) {
                if !self.take(next, &mut done) {
                    return done;
                }
            } else if self.waiting.len() > WAITING_PACKETS_MAX {
                self.skip(next, GapReason::Overrun, &mut done);
            } else if !self.waiting.is_empty() && is_hopeless(next) {
                // What is given up is given up for a later packet, and that one must be true.
                done.forgotten = self.take_false(next);
                if done.forgotten.is_some() {
                    return done;
                }
                let reason = if self.next_was_false {
                    GapReason::Bad
                } else {
                    GapReason::Lost
                };
                self.skip(next, reason, &mut done);
            } else {
                return done;
            }
        }
        done
    }

    fn is_past(&self, number: Number) -> bool {
        match self.state {
            State::Seeking => false,
            State::Running { next } => number < next,
            State::Ended => true,
        }
    }

    fn move_to(&mut self, next: Number) {
        self.state = State::Running { next };
        self.next_was_false = false;
    }

    /// Takes the packet whose turn it is; `false` if it turned out to be false.
    fn take(&mut self, number: Number, done: &mut Advanced) -> bool {
        let Some(waiting) = self.waiting.remove(&number) else {
            return false;
        };
        if self.broken == Some(waiting.burst) {
            self.move_to(number.next());
            return true;
        }
        self.begin_burst(&waiting, done);
        if !self.open(&waiting) {
            done.forgotten = Some((number, waiting.header.sent));
            self.next_was_false = true;
            return false;
        }
        self.move_to(number.next());
        if waiting.header.last {
            self.end_burst(&waiting.header, done);
        } else {
            self.bound_burst(number, done);
        }
        true
    }

    /// Makes sure that `self.burst` is the packet's burst; one that ended without LAST is given up.
    fn begin_burst(&mut self, waiting: &Waiting, done: &mut Advanced) {
        let first = waiting.burst;
        if self
            .burst
            .as_ref()
            .is_some_and(|burst| burst.first == first)
        {
            return;
        }
        if let Some(unended) = self.burst.take() {
            self.give_up(unended.first, waiting.header.number, GapReason::Bad, done);
        }
        let body = Vec::new();
        self.burst = Some(Burst { first, body });
    }

    fn open(&mut self, waiting: &Waiting) -> bool {
        let burst = self.burst.as_mut().expect("begun just before");
        // A burst is entered at its first packet: `skip` and `Seeking` go on nowhere else.
        let is_next = waiting.header.index == 0 || !burst.body.is_empty();
        let opener = self
            .openers
            .iter_mut()
            .find(|(e, _)| *e == waiting.header.key);
        match opener {
            Some((_, opener)) if is_next => opener.open(&waiting.packet, &mut burst.body).is_some(),
            _ => false,
        }
    }

    /// Gives up a burst that is longer than any origin makes.
    fn bound_burst(&mut self, number: Number, done: &mut Advanced) {
        let too_long = |burst: &mut Burst| burst.body.len() > BURST_BYTES_MAX;
        if let Some(burst) = self.burst.take_if(too_long) {
            self.broken = Some(burst.first);
            self.give_up(burst.first, number.next(), GapReason::Overrun, done);
        }
    }

    fn end_burst(&mut self, last: &Header, done: &mut Advanced) {
        let burst = self
            .burst
            .take()
            .expect("the last packet was just laid to it");
        let body = Bytes::from(burst.body);
        match self.unpacker.unpack(last, &body) {
            Ok(deliveries) => done.deliveries.extend(deliveries),
            Err(reason) => self.give_up(burst.first, last.number.next(), reason, done),
        }
        if self.unpacker.end().is_some_and(|end| last.number >= end) {
            done.deliveries.push_back(Delivery::End);
            self.state = State::Ended;
            self.waiting.clear();
        }
    }

    /// Takes the first false packet out of those that a skip of `next` would go by.
    fn take_false(&mut self, next: Number) -> Option<(Number, OriginTime)> {
        let mut at = next;
        while let Some((&number, waiting)) = self.waiting.range(at..).next() {
            let (header, packet, burst) = (waiting.header, waiting.packet.clone(), waiting.burst);
            if self.is_false(&header, &packet) {
                self.waiting.remove(&number);
                return Some((number, header.sent));
            }
            if burst > next {
                return None;
            }
            at = number.next();
        }
        None
    }

    /// Gives up the number that is next, and with it the rest of its burst; goes on at the next burst.
    fn skip(&mut self, next: Number, reason: GapReason, done: &mut Advanced) {
        let mut broken = self.burst.take().map(|burst| burst.first);
        let mut go_on = next.next(); // it was false, and nothing may have come after it yet
        let mut useless = 0;
        while let Some((&number, waiting)) = self.waiting.first_key_value() {
            if waiting.burst > next {
                go_on = go_on.max(waiting.burst);
                break;
            }
            broken = Some(waiting.burst);
            go_on = number.next();
            useless += 1;
            self.waiting.pop_first();
        }
        self.broken = broken;
        self.tell_gap(next, go_on.since(next) - useless, reason, done);
        self.move_to(go_on);
    }

    /// Says that the packets from `first` up to `end` were of no use.
    fn give_up(&self, first: Number, end: Number, reason: GapReason, done: &mut Advanced) {
        self.tell_gap(first, end.since(first), reason, done);
    }

    fn tell_gap(&self, first: Number, packets: u64, reason: GapReason, done: &mut Advanced) {
        // Before the description nothing was promised, so nothing is missing.
        if self.unpacker.has_description() {
            // What follows on a gap for the same reason is one with it.
            if let Some(Delivery::Gap(before)) = done.deliveries.back_mut()
                && (before.first.plus(before.packets), before.reason) == (first, reason)
            {
                before.packets += packets;
                return;
            }
            let gap = Gap {
                first,
                packets,
                reason,
            };
            done.deliveries.push_back(Delivery::Gap(gap));
        }
    }
}

#[cfg(test)]
mod tests;
