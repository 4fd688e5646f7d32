//! The pace of a child over a path that nobody knows: how much of what it is due may leave now, and what waits for it.
//!
//! ```text
//!   a picture of 190 packets          ▮▮▮▮▮▮▮▮ ▮▮▮▮▮▮▮▮ ▮▮▮▮▮▮▮▮ ...      8 packets at most in a send, at the rate of
//!                                                                       `pacer/rate.rs`
//!   a picture that came paced         ▮▮▮▮▮▮▮▮ ─▶ at once               a ceiling, not a schedule
//! ```
//!
//! A queue on the way may be shorter than a picture, and then eats the end of each. So what goes to a child leaves in
//! small sends: what was repaired first, then parity, then what its cursor comes to in the cache. Nothing of it is held
//! here but the numbers it asked for and a little parity. Why like that, and the figures:
//! docs/decisions/0034-egresses-are-paced.md. Not the sending (`pace.rs`, `pacer/asked.rs`), and not for peers on a
//! wire of this host (`LinkCommand::Add`). Called by `forward`, `repair` and the rest of the folder. Invariant: over
//! any time t no more leaves than the rate times (t + [`PACE_DEPTH`]) and one send, but what is late already, and at
//! most [`PACED_REPAIRS_MAX`] numbers and [`PACED_PARITY_MAX`] pieces of parity wait.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use levada_wire::{Bitrate, Instant, Number};

use super::bucket::Bucket;
use crate::flow::cache::Cache;
use crate::flow::run::Run;
use crate::limits::{
    PACE_CEILING, PACE_DEPTH, PACE_HASTE_BYTES, PACE_SEND, PACE_SEND_PACKETS, PACE_SLOW_FOR,
    PACE_START, PACED_PARITY_MAX, PACED_REPAIRS_MAX,
};
use crate::link::loss::Loss;
use crate::repair::trip::RoundTrip;

pub(crate) mod asked;
pub(crate) mod rate;

use rate::PaceRate;

/// Parity that waits: it follows the packets that it covers.
#[derive(Debug)]
pub(crate) struct Parity {
    /// One past the last number that it covers.
    pub(crate) end: Number,
    /// Its datagrams end to end.
    pub(crate) bytes: Bytes,
    pub(crate) datagram_bytes: usize,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Pacer {
    rate: PaceRate,
    bucket: Bucket,
    /// Packets that it asked for, and how many copies of each it gets.
    repairs: BTreeMap<Number, u64>,
    parity: VecDeque<Parity>,
    /// What may still leave as fast as a pace ever becomes: see [`Pacer::hasten`].
    haste_bytes: usize,
    /// Since when the largest picture takes longer than the child waits, and whether that was told.
    slow_since: Option<Instant>,
    is_slow_told: bool,
}

impl Pacer {
    pub(crate) fn new(now: Instant) -> Self {
        let rate = PaceRate::new(now);
        Self {
            bucket: Bucket::new(rate.now(), PACE_DEPTH),
            rate,
            repairs: BTreeMap::new(),
            parity: VecDeque::new(),
            haste_bytes: 0,
            slow_since: None,
            is_slow_told: false,
        }
    }

    /// The largest picture has so many bytes, and the child waits so long; says how long the picture takes, if that is
    /// too long for both and is to be told.
    pub(crate) fn slow_news(
        &mut self,
        picture: u64,
        budget: Duration,
        now: Instant,
    ) -> Option<Duration> {
        let takes = self.time_for(picture);
        if takes <= budget {
            self.slow_since = None;
            self.is_slow_told &= takes > budget * 3 / 4; // a rate that goes up and down is no news
            return None;
        }
        let since = *self.slow_since.get_or_insert(now);
        let is_news = !self.is_slow_told && now.since(since) >= PACE_SLOW_FOR;
        self.is_slow_told |= is_news;
        is_news.then_some(takes)
    }

    /// The child moved here and is so much behind: what of that the shortest queues hold leaves in haste, so that it is
    /// not later than the path for long. That is no stretch: nothing is learned of it.
    pub(crate) const fn hasten(&mut self, bytes: usize) {
        self.haste_bytes = if bytes < PACE_HASTE_BYTES {
            bytes
        } else {
            PACE_HASTE_BYTES
        };
    }

    /// Follows what the flow needs and what became of what was sent.
    pub(crate) fn attend(&mut self, needs: Bitrate, path: (RoundTrip, Option<Loss>), now: Instant) {
        if self.rate.attend(needs, path, now) {
            self.bucket.set_rate(self.rate.now());
        }
    }

    /// The rate by which it goes.
    #[cfg(test)]
    pub(crate) const fn rate(&self) -> Bitrate {
        self.rate.now()
    }

    /// Whether there is no time for a second try: then pictures are spread by little.
    pub(crate) const fn hurry(&mut self, is_hasty: bool) {
        self.rate.hurry(is_hasty);
    }

    /// How long so many bytes take.
    pub(crate) fn time_for(&self, bytes: u64) -> Duration {
        Duration::from_nanos(bytes.saturating_mul(8_000_000_000) / self.rate.now().0.max(1))
    }

    /// How many packets of that size one send has.
    pub(crate) fn send_packets(&self, packet_bytes: usize) -> usize {
        let bits = u128::from(self.rate.now().0) * PACE_SEND.as_micros() / 1_000_000;
        let packets = bits / 8 / packet_bytes.max(1) as u128;
        usize::try_from(packets).map_or(PACE_SEND_PACKETS, |it| it.clamp(1, PACE_SEND_PACKETS))
    }

    /// The beginning of a run that one send takes.
    pub(crate) fn first_of(&self, run: Run) -> Run {
        let most = self.send_packets(run.segment_bytes);
        if run.packets() <= most {
            return run;
        }
        run.part(0..most).expect("one packet at least")
    }

    /// Whether a run may leave as it is.
    pub(crate) fn lets(&self, run: &Run, now: Instant) -> bool {
        self.bucket.is_ready(now) && run.packets() <= self.send_packets(run.segment_bytes)
    }

    /// Whether something may leave.
    pub(crate) const fn is_ready(&self, now: Instant) -> bool {
        self.bucket.is_ready(now)
    }

    /// From when on something may leave.
    pub(crate) const fn ready_at(&self) -> Instant {
        self.bucket.ready_at()
    }

    /// Packets leave for the first time.
    pub(crate) fn sent(&mut self, run: &Run, now: Instant) {
        let bytes = run.bytes.len();
        if self.haste_bytes > 0 {
            self.haste_bytes = self.haste_bytes.saturating_sub(bytes);
            let charged = bytes * PACE_START as usize / PACE_CEILING as usize;
            return self.bucket.take(charged, now);
        }
        let goes_on = !self.bucket.is_full(now);
        self.rate.sent((run.first, run.end()), goes_on, now);
        self.bucket.take(bytes, now);
    }

    /// Something else leaves.
    pub(crate) fn took(&mut self, bytes: usize, now: Instant) {
        self.bucket.take(bytes, now);
    }

    /// A packet was lost on the way, of those that left for the first time.
    pub(crate) fn lost(&mut self, number: Number, now: Instant) {
        if self.rate.lost(number, now) {
            self.bucket.set_rate(self.rate.now());
        }
    }

    /// Takes a packet that is to be sent again; `false` if too many wait.
    pub(crate) fn ask(&mut self, number: Number, copies: u64) -> bool {
        if self.repairs.len() >= PACED_REPAIRS_MAX {
            return false;
        }
        self.repairs.insert(number, copies);
        true
    }

    /// Takes parity; the oldest goes if there is too much: it was for packets that are long there, or repaired.
    pub(crate) fn cover(&mut self, parity: Parity) {
        if self.parity.len() >= PACED_PARITY_MAX {
            self.parity.pop_front();
        }
        self.parity.push_back(parity);
    }

    /// Whether something waits but what the cursor comes to.
    pub(crate) fn has_asked(&self, cursor: Option<Number>) -> bool {
        !self.repairs.is_empty() || self.is_covering(cursor)
    }

    /// The packets that are sent again next, as the cache has them; numbers that it has no more are passed.
    pub(crate) fn next_repair(&mut self, cache: &Cache) -> Option<Run> {
        while let Some((&first, _)) = self.repairs.first_key_value() {
            let asked = self.repairs.keys().zip(0..);
            let in_a_row = asked.take_while(|&(&number, at)| number == first.plus(at));
            let run = cache.part(first, in_a_row.take(PACE_SEND_PACKETS).count());
            let run = run.map(|run| self.first_of(run));
            for at in 0..run.as_ref().map_or(1, Run::packets) {
                self.sent_again(first.plus(at as u64), run.is_some());
            }
            if run.is_some() {
                return run;
            }
        }
        None
    }

    /// The parity that is sent next, of the size of one send at most.
    pub(crate) fn next_parity(&mut self, cursor: Option<Number>) -> Option<(Bytes, usize)> {
        if !self.is_covering(cursor) {
            return None;
        }
        let mut parity = self.parity.pop_front()?;
        let most = self.send_packets(parity.datagram_bytes) * parity.datagram_bytes;
        let part = parity.bytes.split_to(most.min(parity.bytes.len()));
        let datagram_bytes = parity.datagram_bytes;
        if !parity.bytes.is_empty() {
            self.parity.push_front(parity);
        }
        Some((part, datagram_bytes))
    }

    /// The flow goes on elsewhere: what waits is of no use.
    pub(crate) fn clear(&mut self) {
        self.repairs.clear();
        self.parity.clear();
    }

    fn is_covering(&self, cursor: Option<Number>) -> bool {
        let first = self.parity.front();
        first.is_some_and(|first| cursor.is_none_or(|cursor| cursor >= first.end))
    }

    fn sent_again(&mut self, number: Number, is_sent: bool) {
        if let Some(copies) = self.repairs.get_mut(&number).filter(|left| **left > 1)
            && is_sent
        {
            *copies -= 1;
            return;
        }
        self.repairs.remove(&number);
    }
}

#[cfg(test)]
mod tests;
