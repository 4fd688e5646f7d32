//! Tests of blocks: where they begin and end, and what is made of them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use bytes::Bytes;
use levada_wire::{Group, OriginTime};

use super::*;
use crate::testkit::{self, FLOW, carry};

const fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

/// Packets of one burst from that number on; the last one is LAST. Group 0 starts at number 0, group 1 at 1,000.
fn burst(first: u64, packets: u64, bytes: usize) -> Run {
    let number = |value| Number::new(value).unwrap();
    let group = u32::from(first >= 1_000);
    let packet = |at: u64| {
        let header = Header {
            last: at + 1 == packets,
            index: u16::try_from(at).unwrap(),
            group: Group(group),
            offset: u32::try_from((first + at) % 1_000).unwrap(),
            ..testkit::header(first + at)
        };
        testkit::seal(&header, &vec![at as u8; bytes])
    };
    let all: Vec<Bytes> = (0..packets).map(packet).collect();
    Run {
        first: number(first),
        group_start: number(u64::from(group) * 1_000),
        burst: number(first),
        sent: OriginTime(0),
        segment_bytes: all[0].len(),
        buffer_bytes: 0,
        bytes: all.concat().into(),
    }
}

/// A encoder of which one child needs parity that has a budget of 200 ms.
fn encoder() -> ParityEncoder {
    let mut encoder = ParityEncoder::default();
    encoder.reviewed(Some(Duration::from_millis(200)), at(0));
    encoder
}

/// What ends while the encoder takes a run: first number and packets of each block.
fn ended(encoder: &mut ParityEncoder, run: Run, now: Instant) -> Vec<(u64, usize)> {
    let (mut all, mut rest) = (Vec::new(), Some(run));
    while let Some(run) = rest {
        let block;
        (block, rest) = encoder.take(run, now);
        all.extend(block.map(|block| (block.runs[0].first.value(), block.packets())));
    }
    all
}

#[test]
fn a_block_ends_with_a_burst_when_it_has_enough_packets() {
    let mut encoder = encoder();

    assert_eq!(ended(&mut encoder, burst(0, 10, 5), at(0)), []);
    assert_eq!(ended(&mut encoder, burst(10, 10, 5), at(1)), [(0, 20)]);
    assert_eq!(encoder.timer(), None);
}

#[test]
fn a_large_burst_is_several_blocks() {
    let mut encoder = encoder();

    let blocks = ended(&mut encoder, burst(0, 100, 5), at(0));

    assert_eq!(blocks, [(0, 40), (40, 40), (80, 20)]);
}

#[test]
fn a_block_ends_before_a_hole_and_with_its_group_and_does_not_take_what_is_late() {
    let mut encoder = encoder();
    let mut take = |first| ended(&mut encoder, burst(first, 3, 5), at(0));

    assert_eq!(take(0), []);
    assert_eq!(take(4), [(0, 3)]);
    assert_eq!(take(2), [], "late");
    assert_eq!(take(7), []);
    assert_eq!(take(1_000), [(4, 6)]);
    assert_eq!(take(1_003), []);
}

#[test]
fn packets_of_two_epochs_are_in_no_block_together() {
    let mut encoder = encoder();
    let of_epoch = |first, epoch| {
        let run = burst(first, 1, 5);
        let mut bytes = run.bytes.to_vec();
        bytes[2] = epoch;
        let bytes = bytes.into();
        Run { bytes, ..run }
    };

    assert_eq!(ended(&mut encoder, of_epoch(0, 1), at(0)), []);
    assert_eq!(ended(&mut encoder, of_epoch(1, 1), at(0)), []);
    assert_eq!(ended(&mut encoder, of_epoch(2, 2), at(0)), [(0, 2)]);
}

#[test]
fn a_block_waits_for_a_tenth_of_the_budget() {
    let mut encoder = encoder();
    ended(&mut encoder, burst(0, 2, 5), at(100));
    ended(&mut encoder, burst(2, 2, 5), at(110));

    assert_eq!(encoder.timer(), Some(at(120)));
    assert!(encoder.due(at(119)).is_none());
    assert_eq!(encoder.due(at(120)).map(|block| block.packets()), Some(4));
    assert_eq!(encoder.timer(), None);
}

#[test]
fn nothing_is_kept_while_nobody_wants_parity() {
    let mut encoder = encoder();
    ended(&mut encoder, burst(0, 3, 5), at(0));
    assert!(!encoder.is_idle(at(1)));

    encoder.reviewed(None, at(250));

    assert_eq!(encoder.timer(), None);
    assert!(encoder.is_idle(at(499)) && !encoder.is_idle(at(500)));
    assert_eq!(ended(&mut encoder, burst(3, 50, 5), at(251)), []);
}

#[test]
fn shards_are_datagrams_of_the_size_of_the_packets() {
    let mut encoder = encoder();
    let (block, _) = encoder.take(burst(5, 20, 300), at(0));
    let key = carry();

    let shards = block.unwrap().encode(FLOW, |_| Some(&key), 4).unwrap();

    assert_eq!(
        shards.datagram_bytes,
        300 + levada_wire::packet::OVERHEAD_BYTES
    );
    let places: Vec<u8> = shards
        .bytes
        .chunks(shards.datagram_bytes)
        .map(|datagram| {
            assert!(ParityHeader::check(&key, datagram));
            let header = ParityHeader::peek(datagram).unwrap();
            assert_eq!((header.packets, header.first, header.flow), (20, 5, FLOW));
            header.shard
        })
        .collect();
    assert_eq!(places, [0, 1, 2, 3]);
}
