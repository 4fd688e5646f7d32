//! Tests of what is kept of parity, and of its limits.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use super::*;
use crate::limits::BLOCKS_MAX;
use crate::testkit::{FLOW, address};

fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

fn number(value: u64) -> Number {
    Number::new(value).unwrap()
}

const fn header(shard: u8, packets: u8) -> ParityHeader {
    ParityHeader {
        shard,
        key: 1,
        packets,
        flow: FLOW,
        first: 0,
    }
}

fn take(decoder: &mut ParityDecoder, first: u64, shard: u8, packets: u8) -> Result<(), DropReason> {
    let header = header(shard, packets);
    decoder.take(&header, number(first), &[7; 40], address(0), at(0))
}

fn kept(decoder: &ParityDecoder) -> usize {
    let shards = decoder.blocks.values().map(|block| block.shards.len());
    shards.sum()
}

#[test]
fn a_shard_counts_once() {
    let mut decoder = ParityDecoder::default();

    assert_eq!(take(&mut decoder, 0, 0, 10), Ok(()));
    assert_eq!(take(&mut decoder, 0, 1, 10), Ok(()));
    assert_eq!(take(&mut decoder, 0, 0, 10), Err(DropReason::Duplicate));
    assert_eq!(kept(&decoder), 2);
}

#[test]
fn a_shard_of_another_length_is_not_of_the_block() {
    let mut decoder = ParityDecoder::default();
    take(&mut decoder, 0, 0, 10).unwrap();

    let other = decoder.take(&header(1, 10), number(0), &[7; 41], address(0), at(0));

    assert_eq!(other, Err(DropReason::Contradiction));
    assert_eq!(kept(&decoder), 1);
}

#[test]
fn the_newest_blocks_are_known_and_no_more() {
    let mut decoder = ParityDecoder::default();
    let blocks = BLOCKS_MAX as u64;
    for block in 0..2 * blocks {
        take(&mut decoder, 100 + 10 * block, 0, 10).unwrap();
    }

    assert_eq!(
        (decoder.blocks.len(), kept(&decoder)),
        (BLOCKS_MAX, BLOCKS_MAX)
    );
    let oldest = decoder.blocks.keys().next().unwrap().0;
    assert_eq!(oldest, number(100 + 10 * blocks));
    assert_eq!(take(&mut decoder, 100, 1, 10), Err(DropReason::TooOld));
}

#[test]
fn shards_without_any_packet_of_the_block_make_nothing() {
    let mut decoder = ParityDecoder::default();
    for shard in 0..3 {
        take(&mut decoder, 0, shard, 3).unwrap();
    }
    let cache = Cache::new(1 << 20, Duration::ZERO);

    assert!(decoder.make(&cache).is_none());
    assert!(!decoder.is_waiting());
}

#[test]
fn parity_is_expected_for_a_while_after_the_last_shard() {
    let mut decoder = ParityDecoder::default();
    assert!(!decoder.hears(at(0)));

    take(&mut decoder, 0, 0, 3).unwrap();

    assert!(decoder.hears(at(999)) && !decoder.hears(at(1_000)));
}
