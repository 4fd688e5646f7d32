//! The sender's side of parity: which packets make a block, when it ends, and its shards.
//!
//! ```text
//!   live packets   5 6 7 8 │ 9 10 11 ... 24 LAST │ 25 26 . 28 29 ...
//!                           └ next group          └ a burst ends and     └ a hole in the numbers: 28 begins the next
//!                                                   the block has 16
//! ```
//!
//! A block ends with its group, before a hole, at [`BLOCK_FULL`] packets, at the end of a burst if it has
//! [`BLOCK_ENOUGH`], and when it is a tenth of the least budget old ([`BLOCK_AGE_PART`]). What comes late is in no
//! block: it was repaired, and is asked for once more if it is lost again. A block is encoded once for all children:
//! each is sent the first few of its shards, as its link needs (`demand.rs`). Not the sending: `parity.rs` does that.
//! Called by it. Invariant: while no child needs parity nothing is kept, and a packet costs two comparisons.

use std::time::Duration;

use levada_wire::key::CarryKey;
use levada_wire::packet::parity::code::{self, Words};
use levada_wire::packet::parity::{ParityHeader, unit_bytes, unit_of};
use levada_wire::{FlowId, Header, Instant, Number};

use crate::flow::run::Run;
use crate::limits::{BLOCK_AGE_PART, BLOCK_ENOUGH, BLOCK_FULL, PARITY_REVIEW_EVERY};

/// Makes blocks of the packets of one flow. See the module's head.
#[derive(Debug, Default)]
pub(crate) struct ParityEncoder {
    /// The least budget of the children that need parity; `None` if none does.
    least_budget: Option<Duration>,
    review_at: Instant,
    open: Option<Block>,
}

/// Packets that are covered together.
#[derive(Debug)]
pub(crate) struct Block {
    runs: Vec<Run>,
    packets: usize,
    /// When it ends by itself.
    ends_at: Instant,
}

/// The shards of a block, as datagrams of equal size end to end.
#[derive(Debug)]
pub(crate) struct Shards {
    pub(crate) bytes: Vec<u8>,
    /// The size of each.
    pub(crate) datagram_bytes: usize,
}

impl ParityEncoder {
    /// Whether packets that are sent now are of no interest.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        self.least_budget.is_none() && now < self.review_at
    }

    /// Whether it is time to look at the links again.
    pub(crate) fn must_review(&self, now: Instant) -> bool {
        now >= self.review_at
    }

    /// It is known what each child needs: that is the least budget of those that need parity.
    pub(crate) fn reviewed(&mut self, least_budget: Option<Duration>, now: Instant) {
        self.least_budget = least_budget;
        self.review_at = now + PARITY_REVIEW_EVERY;
        if least_budget.is_none() {
            self.open = None;
        }
    }

    /// Takes packets that were sent; gives the block that ended, and what of the packets is to be taken after it.
    pub(crate) fn take(&mut self, run: Run, now: Instant) -> (Option<Block>, Option<Run>) {
        let Some(budget) = self.least_budget else {
            return (None, None);
        };
        let marks = marks_of(&run);
        if let Some(open) = &mut self.open {
            if run.first < open.end() {
                return (None, None); // late
            }
            if marks.is_none() || !open.goes_on_with(&run, marks) {
                return (self.open.take(), Some(run));
            }
        } else if marks.is_none() {
            return (None, None);
        }
        let age_max = budget / BLOCK_AGE_PART;
        let open = self.open.get_or_insert_with(|| Block {
            runs: Vec::new(),
            packets: 0,
            ends_at: now + age_max,
        });
        let room = BLOCK_FULL - open.packets;
        let rest = run.part(room..run.packets());
        let Some(part) = run.part(0..room.min(run.packets())) else {
            return (None, None);
        };
        open.packets += part.packets();
        let ends = open.packets == BLOCK_FULL
            || open.packets >= BLOCK_ENOUGH && rest.is_none() && ends_burst(&part);
        open.runs.push(part);
        let ended = if ends { self.open.take() } else { None };
        (ended, rest)
    }

    /// When the block that is open ends by itself.
    pub(crate) fn timer(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| open.ends_at)
    }

    /// The block that is open, if it is too old.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Block> {
        self.open.take_if(|open| open.ends_at <= now)
    }
}

impl Block {
    /// How many packets it has.
    pub(crate) const fn packets(&self) -> usize {
        self.packets
    }

    /// Its first shards, under the key of its packets' epoch; `None` if there is no such key.
    pub(crate) fn encode<'a>(
        &self,
        flow: FlowId,
        key: impl Fn(u8) -> Option<&'a CarryKey>,
        shards: usize,
    ) -> Option<Shards> {
        let first = self.runs.first()?.header()?;
        let key = key(first.key)?;
        let each = || self.runs.iter().flat_map(Run::iter);
        let bytes = each().map(|(_, packet)| unit_bytes(&packet)).max()?;
        let places: Vec<usize> = (0..shards).collect();
        let mut sums = vec![Words::zero(bytes); shards];
        let mut unit = Words::default();
        for (place, (_, packet)) in each().enumerate() {
            unit_of(&packet, &mut unit);
            code::add(&unit, place, &mut sums, &places);
        }
        let mut out = Vec::new();
        for (shard, sum) in (0..).zip(&sums) {
            let header = ParityHeader {
                shard,
                key: first.key,
                packets: u8::try_from(self.packets).expect("a block is bounded"),
                flow,
                // Its low bits are what is sent.
                first: first.number.value() as u32,
            };
            header.encode(key, sum, bytes, &mut out);
        }
        Some(Shards {
            datagram_bytes: out.len() / shards.max(1),
            bytes: out,
        })
    }

    /// One past its last number.
    pub(crate) fn end(&self) -> Number {
        self.runs.last().map_or(Number::ZERO, Run::end)
    }

    fn goes_on_with(&self, run: &Run, marks: Option<[u8; 2]>) -> bool {
        let same =
            |before: &Run| before.group_start == run.group_start && marks_of(before) == marks;
        run.first == self.end() && self.runs.last().is_some_and(same)
    }
}

/// Key epoch and description version of a run's packets; `None` if they differ, so that no block can hold them.
fn marks_of(run: &Run) -> Option<[u8; 2]> {
    let mut packets = run.bytes.chunks(run.segment_bytes);
    let marks = |packet: &[u8]| packet.get(2..4)?.try_into().ok();
    let first = marks(packets.next()?);
    packets
        .all(|packet| marks(packet) == first)
        .then_some(first?)
}

fn ends_burst(run: &Run) -> bool {
    let last = run.bytes.chunks(run.segment_bytes).next_back();
    last.and_then(Header::peek)
        .is_some_and(|header| header.last)
}

#[cfg(test)]
mod tests;
