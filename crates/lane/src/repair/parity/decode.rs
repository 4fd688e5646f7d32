//! The receiver's side of parity: the shards that came, until they are of no more use, and the packets made of them.
//!
//! ```text
//!                 shards    packets in the cache
//!   block 9..35   0, 2, 3   all but 12 and 30      two are missing, three shards: recovered
//!   block 35..61  1         all but 40 and 41      one is too few: they are asked for
//!   block 61..80  -         all                    done: nothing is kept
//! ```
//!
//! Of a block that is whole nothing is kept but that it was there, so on a good day a shard is looked at and forgotten.
//! The packets come from the flow's cache. Not trust: shards come here proven by their tag, and packets recovered go
//! through the door of `forward`, tag and all. Called by `parity.rs`. Invariant: at most [`BLOCKS_MAX`] blocks are
//! known of a flow, and each is decoded once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;

use levada_wire::packet::parity::code::{self, Words};
use levada_wire::packet::parity::{ParityHeader, packet_of, unit_of};
use levada_wire::{Instant, Number};

use crate::flow::cache::Cache;
use crate::flow::run::Run;
use crate::ledger::DropReason;
use crate::limits::{BLOCKS_MAX, PARITY_HEARD_FOR};

/// The blocks of one flow. See the module's head.
#[derive(Debug, Default)]
pub(crate) struct ParityDecoder {
    /// By first number and number of packets: upstreams may make different blocks.
    blocks: BTreeMap<(Number, u8), Block>,
    /// When a shard came last.
    heard_at: Option<Instant>,
    /// Something came since it was last tried to make packets anew.
    is_news: bool,
}

/// One block.
#[derive(Debug)]
struct Block {
    /// Whose shards came last.
    from: SocketAddr,
    /// The bytes of each shard.
    bytes: usize,
    /// Which shards came; bit by bit.
    seen: u32,
    /// Those that are still of use: place and bytes.
    shards: Vec<(usize, Words)>,
    /// Whole, or tried in vain.
    is_done: bool,
}

/// Packets that were recovered.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// They are where they would have come from.
    pub(crate) from: SocketAddr,
    pub(crate) bytes: Vec<u8>,
    /// Where each of them lies, in the order of their numbers.
    pub(crate) ranges: Vec<Range<usize>>,
}

impl ParityDecoder {
    /// Takes a shard that was proven.
    pub(crate) fn take(
        &mut self,
        header: &ParityHeader,
        first: Number,
        shard: &[u8],
        from: SocketAddr,
        now: Instant,
    ) -> Result<(), DropReason> {
        let place = (first, header.packets);
        if !self.blocks.contains_key(&place) && self.blocks.len() == BLOCKS_MAX {
            if self
                .blocks
                .keys()
                .next()
                .is_some_and(|&oldest| place < oldest)
            {
                return Err(DropReason::TooOld);
            }
            self.blocks.pop_first();
        }
        let block = self.blocks.entry(place).or_insert_with(|| Block {
            from,
            bytes: shard.len(),
            seen: 0,
            shards: Vec::new(),
            is_done: false,
        });
        let bit = 1 << header.shard;
        if block.seen & bit != 0 {
            return Err(DropReason::Duplicate);
        }
        if block.bytes != shard.len() {
            return Err(DropReason::Contradiction);
        }
        (block.seen, block.from) = (block.seen | bit, from);
        if !block.is_done {
            let mut words = Words::default();
            words.set(&[shard]);
            block.shards.push((usize::from(header.shard), words));
            self.is_news = true;
        }
        self.heard_at = Some(now);
        Ok(())
    }

    /// Whether an upstream sends parity of late.
    pub(crate) fn hears(&self, now: Instant) -> bool {
        self.heard_at
            .is_some_and(|at| now.since(at) < PARITY_HEARD_FOR)
    }

    /// Whether something came since it was last tried to make packets anew.
    pub(crate) const fn is_waiting(&self) -> bool {
        self.is_news
    }

    /// Takes note of packets; says whether a block may be whole now.
    pub(crate) fn on_run(&mut self, run: &Run) -> bool {
        let concerns = |(&(first, packets), block): (&(Number, u8), &Block)| {
            !block.is_done && run.first < first.plus(packets.into()) && first < run.end()
        };
        let is_news = !self.blocks.is_empty() && self.blocks.iter().any(concerns);
        self.is_news |= is_news;
        is_news
    }

    /// Makes packets anew of the first block that allows it, if something came since it was last tried.
    pub(crate) fn make(&mut self, cache: &Cache) -> Option<Recovered> {
        if !self.is_news {
            return None;
        }
        for (&(first, packets), block) in &mut self.blocks {
            if block.is_done {
                continue;
            }
            let (held, missing) = look_up(cache, first, packets);
            block.is_done =
                missing.is_empty() || missing.len() <= block.shards.len() && !held.is_empty();
            if !block.is_done {
                continue;
            }
            let shards = std::mem::take(&mut block.shards);
            if !missing.is_empty() {
                return Some(decode(block, shards, first, &held, &missing));
            }
        }
        self.is_news = false;
        None
    }
}

/// What of a block is in the cache, and the places of what is not.
fn look_up(cache: &Cache, first: Number, packets: u8) -> (Vec<Run>, Vec<usize>) {
    let (mut held, mut missing) = (Vec::new(), Vec::new());
    let packets = usize::from(packets);
    let mut place = 0;
    while place < packets {
        match cache.part(first.plus(place as u64), packets - place) {
            Some(run) => {
                place += run.packets();
                held.push(run);
            }
            None => {
                missing.push(place);
                place += 1;
            }
        }
    }
    (held, missing)
}

/// Makes the missing packets of a block; of as many shards there are at least.
fn decode(
    block: &Block,
    shards: Vec<(usize, Words)>,
    first: Number,
    held: &[Run],
    missing: &[usize],
) -> Recovered {
    let (places, mut sums): (Vec<usize>, Vec<Words>) =
        shards.into_iter().take(missing.len()).unzip();
    let mut unit = Words::default();
    for (number, packet) in held.iter().flat_map(Run::iter) {
        let place = usize::try_from(number.since(first)).expect("a block is bounded");
        unit_of(&packet, &mut unit);
        code::add(&unit, place, &mut sums, &places);
    }
    code::recover(&mut sums, &places, missing);
    let beside = held.first().and_then(Run::header);
    let beside = beside.expect("what is cached has a header, and something is");
    let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
    for (sum, &place) in sums.iter().zip(missing) {
        let (start, number) = (bytes.len(), first.plus(place as u64));
        if packet_of(sum, block.bytes, number, &beside, &mut bytes) {
            ranges.push(start..bytes.len());
        }
    }
    Recovered {
        from: block.from,
        bytes,
        ranges,
    }
}

#[cfg(test)]
mod tests;
