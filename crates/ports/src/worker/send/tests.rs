//! Tests of what waits for a full socket.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use bytes::{Buf as _, Bytes};

use levada_wire::{Header, Number};

use super::*;
use crate::testkit::{address, sent_over};

const NOW: Instant = Instant::ZERO;

fn run(mark: u8, datagrams: usize) -> Transmit {
    let bytes = vec![mark; datagrams * 100];
    sent_over(LinkIndex(0), address(0), bytes, 100)
}

fn is_accounted_for(counters: &SendCounters) -> bool {
    let refused = counters.too_large + counters.refused;
    let gone = counters.sent + refused + counters.dropped + counters.skipped;
    counters.given == gone + counters.waiting
}

#[test]
fn a_full_socket_leaves_the_rest_in_order() {
    let mut queue = SendQueue::default();
    for mark in 0..3 {
        queue.push(NOW, run(mark, 2));
    }
    let mut taken = Vec::new();
    let mut room = 3;
    let mut send_part = |run: &mut Datagrams| {
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        room -= 1;
        taken.push(run.bytes[0]);
        run.bytes.advance(100);
        Ok(())
    };

    queue.flush(NOW, &mut send_part);
    assert_eq!((queue.counters.sent, queue.counters.waiting), (3, 3));
    assert!(is_accounted_for(&queue.counters) && !queue.is_empty());

    queue.flush(NOW, |run| {
        taken.push(run.bytes[0]);
        run.bytes.clear();
        Ok(())
    });
    assert_eq!(taken, [0, 0, 1, 1, 2]);
    assert!(is_accounted_for(&queue.counters) && queue.is_empty());
}

#[test]
fn more_than_the_limit_is_dropped_and_counted() {
    let mut queue = SendQueue::default();

    for _ in 0..SEND_QUEUE_BYTES_MAX / 10_000 + 5 {
        queue.push(NOW, run(0, 100));
    }

    assert!(queue.counters.dropped >= 400);
    assert!(queue.counters.waiting * 100 <= SEND_QUEUE_BYTES_MAX as u64);
    assert!(is_accounted_for(&queue.counters));
}

/// Packets of a flow over a link, 60,000 bytes of them, from that number on.
fn large(link: u32, first: u64, bytes: &Bytes) -> Transmit {
    let packets = Packets {
        flow: FlowId(7),
        first: Number::new(first).unwrap(),
        starts_group: false,
    };
    Transmit {
        egress: Egress::Link(LinkIndex(link)),
        packets: Some(packets),
        datagrams: Datagrams {
            source: None,
            to: address(0),
            bytes: bytes.clone(),
            segment_bytes: 1_000,
        },
    }
}

#[test]
fn while_the_socket_is_full_nobody_is_last_every_time_and_whoever_loses_packets_is_told() {
    let (mut queue, bytes) = (SendQueue::default(), Bytes::from(vec![0; 60_000]));
    queue.push(NOW, large(0, 0, &bytes));
    queue.flush(NOW, |_| Err(io::ErrorKind::WouldBlock.into()));
    let rounds = (SEND_QUEUE_BYTES_MAX / 60_000 / 4) as u64;
    // The first one is given twice as much as there is room for, then come the others.
    for round in 1..=4 * rounds {
        queue.push(NOW, large(0, round * 60, &bytes));
    }
    queue.flush(NOW, |_| Err(io::ErrorKind::WouldBlock.into()));
    for round in 0..rounds {
        (1..4).for_each(|link| queue.push(NOW, large(link, round * 60, &bytes)));
        queue.flush(NOW, |_| Err(io::ErrorKind::WouldBlock.into()));
    }

    let late: Vec<Late> = queue.take_late().collect();
    let missed = |link| {
        let of = late
            .iter()
            .filter(|late| late.egress == Egress::Link(LinkIndex(link)));
        of.map(|late| late.end.since(late.first)).sum::<u64>()
    };
    assert_eq!([1, 2, 3].map(missed), [0; 3], "they have a share each");
    assert_eq!(missed(0), queue.counters.dropped);
    assert!(missed(0) > 2 * rounds * 60, "{}", missed(0));
    assert!(is_accounted_for(&queue.counters));

    let mut sent = Vec::new();
    queue.flush(NOW, |run| {
        sent.push(run.bytes.len());
        run.bytes.clear();
        Ok(())
    });
    assert!(is_accounted_for(&queue.counters) && queue.is_empty());
}

#[test]
fn what_no_lane_has_room_for_is_told() {
    let (mut queue, bytes) = (SendQueue::default(), Bytes::from(vec![0; 60_000]));

    queue.drop_runs(&mut vec![large(3, 600, &bytes), large(3, 660, &bytes)]);

    let late: Vec<Late> = queue.take_late().collect();
    assert_eq!(late.len(), 1);
    let range = (late[0].first.value(), late[0].end.value());
    assert_eq!((range, queue.counters.dropped), ((600, 720), 120));
}

#[cfg(target_os = "linux")]
#[test]
fn who_a_datagram_was_too_large_for_is_noted_once_with_the_least_size_up_to_the_limit() {
    let mut queue = SendQueue::default();
    let mut larger = run(0, 1);
    larger.datagrams.segment_bytes = 150;
    larger.datagrams.bytes = Bytes::from_static(&[0; 150]);
    queue.push(NOW, larger);
    queue.push(NOW, run(0, 2));
    for link in 1..=u32::try_from(TOO_LARGE_MAX).unwrap() {
        let egress = Egress::Link(LinkIndex(link));
        queue.push(
            NOW,
            Transmit {
                egress,
                ..run(0, 1)
            },
        );
    }

    queue.flush(NOW, |run| {
        let gone = run.segment_bytes.min(run.bytes.len());
        run.bytes.advance(gone);
        Err(io::Error::from_raw_os_error(libc::EMSGSIZE))
    });

    let noted: Vec<_> = queue.take_too_large().collect();
    assert_eq!(noted[0], (LinkIndex(0), 100));
    assert_eq!(noted.len(), TOO_LARGE_MAX);
    assert_eq!(queue.take_too_large().count(), 0);
    assert!(is_accounted_for(&queue.counters));
}

#[test]
fn a_refused_datagram_does_not_stop_the_next_run() {
    let mut queue = SendQueue::default();
    queue.push(NOW, run(0, 1));
    queue.push(NOW, run(1, 1));

    queue.flush(NOW, |run| {
        let is_first = run.bytes[0] == 0;
        run.bytes.clear();
        if is_first {
            Err(io::ErrorKind::PermissionDenied.into())
        } else {
            Ok(())
        }
    });

    assert_eq!((queue.counters.refused, queue.counters.sent), (1, 1));
    assert!(is_accounted_for(&queue.counters));
}

/// Packets of a flow in one run, longer together than a packet may be; the first is at that place of its group.
const RUN: usize = 25;

fn packets(flow: u64, offset: u32) -> Transmit {
    let number = Number::new(u64::from(offset) + 1_000).unwrap();
    let packets = Packets {
        flow: FlowId(flow),
        first: number,
        starts_group: offset == 0,
    };
    let header = Header {
        flow: FlowId(flow),
        offset,
        ..crate::testkit::header(number.value())
    };
    let packet = [&header.encode()[..], &[0; 40]].concat();
    Transmit {
        packets: Some(packets),
        ..sent_over(LinkIndex(0), address(0), packet.repeat(RUN), packet.len())
    }
}

/// The flow and the offset of a run's first packet.
fn first_of(run: &Datagrams) -> Option<(u64, u32)> {
    let header = Header::peek(&run.bytes[..run.segment_bytes])?;
    Some((header.flow.0, header.offset))
}

#[test]
fn an_egress_that_is_behind_goes_on_with_the_next_group_and_others_go_on_at_once() {
    let mut queue = SendQueue::default();
    let late = NOW + BACKLOG_MAX + Duration::from_millis(1);
    queue.push(NOW, packets(1, 0));
    queue.push(NOW, packets(2, 0));
    queue.flush(NOW, |_| Err(io::ErrorKind::WouldBlock.into()));
    for offset in [1, 2, 0, 1] {
        queue.push(late, packets(1, offset));
    }
    queue.push(late, packets(3, 7));

    let mut sent = Vec::new();
    queue.flush(late, |run| {
        sent.extend(first_of(run));
        run.bytes.clear();
        Ok(())
    });

    assert_eq!(sent, [(1, 0), (1, 1), (3, 7)]);
    assert_eq!(queue.counters.skipped, 4 * RUN as u64);
    assert!(is_accounted_for(&queue.counters) && queue.is_empty());
}

#[test]
fn a_channel_that_is_behind_goes_on_with_what_is_not_late() {
    let mut queue = SendQueue::default();
    let late = NOW + BACKLOG_MAX + Duration::from_millis(1);
    let channel = levada_lane::api::Channel {
        address: ([239, 192, 1, 2], 7_801).into(),
        interface: levada_lane::api::Interface {
            index: 1,
            address: None,
        },
    };
    let to_channel = |offset| Transmit {
        egress: Egress::Channel(channel),
        ..packets(1, offset)
    };
    queue.push(NOW, to_channel(0));
    queue.flush(NOW, |_| Err(io::ErrorKind::WouldBlock.into()));
    for offset in [1, 2] {
        queue.push(late, to_channel(offset));
    }

    let mut sent = Vec::new();
    queue.flush(late, |run| {
        sent.extend(first_of(run));
        run.bytes.clear();
        Ok(())
    });

    assert_eq!(sent, [(1, 1), (1, 2)]);
    assert_eq!(queue.counters.skipped, RUN as u64);
    assert!(is_accounted_for(&queue.counters) && queue.is_empty());
}

#[test]
fn of_more_egresses_than_the_limit_one_is_forgotten_and_the_newest_skips() {
    let mut queue = SendQueue::default();
    let late = NOW + BACKLOG_MAX * 2;
    let beyond = SKIPPING_MAX as u64;
    for flow in 0..=beyond {
        queue.push(NOW, packets(flow, 0));
    }
    queue.push(late, packets(0, 1));
    queue.push(late, packets(beyond, 1));

    let mut sent = Vec::new();
    queue.flush(late, |run| {
        sent.extend(first_of(run));
        run.bytes.clear();
        Ok(())
    });

    assert_eq!(sent, [(0, 1)]);
    assert_eq!(queue.counters.skipped, (beyond + 2) * RUN as u64);
}

#[test]
fn a_late_datagram_that_is_no_packet_goes_alone() {
    let mut queue = SendQueue::default();
    let late = NOW + BACKLOG_MAX * 2;
    queue.push(NOW, run(6, 1));
    queue.push(late, run(6, 1));

    queue.flush(late, |run| {
        run.bytes.clear();
        Ok(())
    });

    assert_eq!((queue.counters.skipped, queue.counters.sent), (1, 1));
}

#[test]
fn the_lane_is_told_of_each_egress_what_it_misses_in_one_range() {
    let mut queue = SendQueue::default();
    let late = NOW + BACKLOG_MAX * 2;
    let run = u32::try_from(RUN).unwrap();
    for at in 0..3 {
        queue.push(NOW, packets(1, at * run));
        queue.push(NOW, packets(2, at * run));
    }
    queue.push(late, packets(1, 3 * run));

    queue.flush(late, |run| {
        run.bytes.clear();
        Ok(())
    });

    let told = queue.take_late();
    let told: Vec<_> = told
        .map(|late| (late.flow.0, late.first.value(), late.end.since(late.first)))
        .collect();
    assert_eq!(
        told,
        [(1, 1_000, 4 * RUN as u64), (2, 1_000, 3 * RUN as u64)]
    );
    assert_eq!(queue.take_late().count(), 0);
}

#[test]
fn of_more_ranges_than_the_limit_the_lane_is_not_told() {
    let mut queue = SendQueue::default();
    for flow in 0..=LATE_MAX as u64 {
        queue.push(NOW, packets(flow, 0));
    }

    queue.flush(NOW + BACKLOG_MAX * 2, |_| Ok(()));

    assert_eq!(queue.take_late().count(), LATE_MAX);
}
