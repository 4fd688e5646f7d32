//! Tests of a pacer by itself.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
use levada_wire::OriginTime;

use super::*;
use crate::limits::PACE_MIN;

const NOW: Instant = Instant::from_nanos(5_000_000_000);
const MS: Duration = Duration::from_millis(1);

fn number(value: u64) -> Number {
    Number::new(value).unwrap()
}

fn run(first: u64, packets: usize) -> Run {
    Run {
        first: number(first),
        group_start: number(0),
        burst: number(first),
        sent: OriginTime(0),
        bytes: Bytes::from(vec![0; packets * 1_000]),
        segment_bytes: 1_000,
        buffer_bytes: packets * 1_000,
    }
}

/// A pacer of 12 Mb/s: a send of 8,000 bytes in 5.3 ms.
fn paced() -> Pacer {
    let mut pacer = Pacer::new(NOW);
    pacer.attend(Bitrate(8_000_000), (RoundTrip::default(), None), NOW);
    pacer
}

#[test]
fn sends_have_eight_packets_at_most_and_fewer_where_that_would_take_long() {
    let mut slow = Pacer::new(NOW);
    assert_eq!(slow.rate(), PACE_MIN);

    assert_eq!(slow.send_packets(1_000), 1);
    slow.attend(Bitrate(2_000_000), (RoundTrip::default(), None), NOW);
    assert_eq!(slow.send_packets(1_000), 3);
    assert_eq!(paced().send_packets(1_000), PACE_SEND_PACKETS);
    assert_eq!(paced().first_of(run(3, 64)).packets(), PACE_SEND_PACKETS);
    assert_eq!(paced().first_of(run(3, 2)).packets(), 2);
}

#[test]
fn what_leaves_over_time_is_the_rate_and_what_comes_paced_leaves_at_once() {
    let mut pacer = paced();
    let (mut now, mut left) = (NOW, 0);
    while now < NOW + 100 * MS {
        if pacer.lets(&run(left, 8), now) {
            pacer.sent(&run(left, 8), now);
            left += 8;
        }
        now += MS / 4;
    }
    // 12 Mb/s are 150 packets in 100 ms, and a send and two milliseconds go ahead.
    assert!((150..=168).contains(&left), "{left}");

    let mut next = paced();
    let mut now = NOW;
    for at in 0..40 {
        // A little early, a little late: within the depth.
        let jitter = if at % 2 == 0 { MS } else { Duration::ZERO };
        assert!(next.lets(&run(at * 8, 8), now + jitter), "{at}");
        next.sent(&run(at * 8, 8), now + jitter);
        now += Duration::from_micros(5_334);
    }
    assert!(!next.lets(&run(400, 9), now), "more than a send");
}

#[test]
fn what_is_asked_for_waits_up_to_the_limit_and_leaves_in_order_twice_where_it_is_due_twice() {
    let mut pacer = paced();
    let (mut cache, mut room) = cached(0, 30);
    for asked in [3, 4, 5, 20] {
        assert!(pacer.ask(number(asked), if asked == 20 { 2 } else { 1 }));
    }
    assert!(pacer.ask(number(99), 1), "it is not in the cache");
    assert!(pacer.has_asked(None));

    let sent: Vec<_> = std::iter::from_fn(|| pacer.next_repair(&cache))
        .map(|run| (run.first.value(), run.packets()))
        .collect();
    assert_eq!(sent, [(3, 3), (20, 1), (20, 1)]);
    assert!(!pacer.has_asked(None));

    for asked in 0..PACED_REPAIRS_MAX as u64 {
        assert!(pacer.ask(number(1_000 + asked), 1));
    }
    assert!(!pacer.ask(number(9), 1));
    cache.clear(&mut room);
    pacer.clear();
    assert!(!pacer.has_asked(None));
}

fn cached(first: u64, packets: usize) -> (Cache, crate::flow::cache::Room) {
    let mut cache = Cache::new(1 << 20, MS);
    let mut room = crate::flow::cache::Room::new(1 << 20);
    assert!(cache.insert(&run(first, packets), NOW, &mut room));
    (cache, room)
}

#[test]
fn parity_follows_what_it_covers_in_sends_of_its_own_and_the_oldest_goes_at_the_limit() {
    let mut pacer = paced();
    let parity = |end: u64, datagrams: usize| Parity {
        end: number(end),
        bytes: Bytes::from(vec![0; datagrams * 1_000]),
        datagram_bytes: 1_000,
    };
    pacer.cover(parity(40, 12));

    assert!(pacer.next_parity(Some(number(39))).is_none());
    assert!(!pacer.has_asked(Some(number(39))));
    let sizes = [Some(number(40)), None, None].map(|cursor| {
        let part = pacer.next_parity(cursor);
        part.map(|(bytes, each)| bytes.len() / each)
    });
    assert_eq!(sizes, [Some(8), Some(4), None]);

    for block in 0..=PACED_PARITY_MAX as u64 {
        pacer.cover(parity(block, 1));
    }
    assert_eq!(pacer.parity.len(), PACED_PARITY_MAX);
    assert_eq!(pacer.parity.front().map(|one| one.end), Some(number(1)));
}

#[test]
fn what_a_child_that_moved_lacks_leaves_in_haste_as_far_as_short_queues_hold_it() {
    let left_after_6_ms = |lacks: usize| {
        let mut pacer = paced();
        pacer.hasten(lacks);
        let (mut now, mut left) = (NOW, 0);
        while now < NOW + 6 * MS {
            if pacer.lets(&run(left, 8), now) {
                pacer.sent(&run(left, 8), now);
                left += 8;
            }
            now += MS / 4;
        }
        left
    };

    assert_eq!(left_after_6_ms(0), 16);
    assert_eq!(left_after_6_ms(8_000), 24);
    assert_eq!(left_after_6_ms(PACE_HASTE_BYTES), 32);
    assert_eq!(left_after_6_ms(1_000_000), 32);
}

#[test]
fn a_picture_that_takes_too_long_for_seconds_is_told_once_until_that_is_over() {
    let (mut pacer, second) = (paced(), 1_000 * MS);
    // 300 kB take 200 ms at 12 Mb/s.
    let mut told = |from: u32, picture: u64| -> Vec<u32> {
        let seconds = from..from + 10;
        let is_told = |&at: &u32| {
            pacer
                .slow_news(picture, 100 * MS, NOW + second * at)
                .is_some()
        };
        seconds.filter(is_told).collect()
    };

    assert_eq!(told(0, 150_000), [], "100 ms are not longer");
    assert_eq!(told(10, 300_000), [13]);
    assert_eq!(told(20, 140_000), []);
    assert_eq!(told(30, 300_000), [], "a little better and worse again");
    assert_eq!(told(40, 90_000), []);
    assert_eq!(told(50, 300_000), [53]);
}
