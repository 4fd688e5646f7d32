//! Tests of the cache: who joins where, what is kept for repair, what goes when there is no room.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use bytes::Bytes;
use levada_wire::OriginTime;
use proptest::prelude::*;

use super::*;
use crate::limits::{CACHE_RUNS_MAX, REPAIR_KEPT};
use levada_heap::held_bytes;

const PACKET: usize = 100;
const NOW: Instant = Instant::from_nanos(5_000_000_000);

fn cache(bytes_max: usize) -> Cache {
    Cache::new(bytes_max, Duration::from_millis(500))
}

fn number(value: u64) -> Number {
    Number::new(value).unwrap()
}

fn run(group_start: u64, first: u64, packets: usize) -> Run {
    Run {
        first: number(first),
        group_start: number(group_start),
        burst: number(first),
        sent: OriginTime(0),
        bytes: Bytes::from(vec![0; packets * PACKET]),
        segment_bytes: PACKET,
        buffer_bytes: packets * PACKET,
    }
}

/// What that many runs take that have that many packets together.
const fn taken(runs: usize, packets: usize) -> usize {
    runs * RUN_COST + packets * PACKET
}

fn room() -> Room {
    Room::new(taken(1_000, 1_000))
}

fn joined(cache: &Cache) -> Vec<(u64, usize)> {
    cache
        .join()
        .map(|run| (run.first.value(), run.packets()))
        .collect()
}

#[test]
fn a_newcomer_gets_the_previous_group_until_the_first_packet_of_the_next() {
    let (mut cache, mut room) = (cache(taken(1_000, 1_000)), room());
    cache.insert(&run(0, 0, 10), NOW, &mut room);

    cache.insert(&run(10, 11, 4), NOW, &mut room);
    assert_eq!(joined(&cache), [(0, 10), (11, 4)]);

    cache.insert(&run(10, 10, 1), NOW, &mut room);
    assert_eq!(joined(&cache), [(10, 1), (11, 4)]);
}

#[test]
fn what_is_before_the_join_point_is_kept_for_repair_and_for_a_second_only() {
    let (mut cache, mut room) = (cache(taken(1_000, 1_000)), room());
    cache.insert(&run(0, 0, 10), NOW, &mut room);
    cache.insert(&run(10, 10, 1), NOW, &mut room);
    let asked = cache.part(number(4), 3).unwrap();
    assert_eq!((asked.first, asked.packets()), (number(4), 3));
    assert_eq!(cache.part(number(8), 9).unwrap().packets(), 2);

    cache.insert(
        &run(10, 11, 1),
        NOW + REPAIR_KEPT + Duration::from_nanos(1),
        &mut room,
    );

    assert!(cache.part(number(9), 1).is_none());
    assert_eq!((cache.packets(), room.used), (2, taken(2, 2)));
}

#[test]
fn the_group_before_the_newest_stays_whole_for_those_who_have_just_begun_it() {
    let (mut cache, mut room) = (cache(taken(1_000, 1_000)), room());
    let second = |seconds| NOW + REPAIR_KEPT * seconds;
    for at in 0..6 {
        cache.insert(&run(0, u64::from(at), 1), second(at), &mut room);
    }
    cache.insert(&run(6, 6, 1), second(6), &mut room);
    cache.insert(&run(6, 7, 1), second(7), &mut room);
    assert!(cache.part(number(0), 6).is_some());

    let nanosecond = Duration::from_nanos(1);
    cache.insert(&run(6, 8, 1), second(7) + nanosecond, &mut room);

    assert!(cache.part(number(0), 1).is_none() && cache.part(number(5), 1).is_none());
    assert_eq!(cache.packets(), 3);
}

#[test]
fn a_longer_budget_is_kept_longer() {
    let (mut cache, mut room) = (Cache::new(taken(1_000, 1_000), 3 * REPAIR_KEPT), room());
    cache.insert(&run(0, 0, 1), NOW, &mut room);

    cache.insert(&run(1, 1, 1), NOW + 3 * REPAIR_KEPT, &mut room);

    assert!(cache.part(number(0), 1).is_some());
}

#[test]
fn what_is_kept_for_repair_makes_room_for_the_newest_group() {
    let (mut cache, mut room) = (cache(taken(2, 10)), room());
    cache.insert(&run(0, 0, 4), NOW, &mut room);
    cache.insert(&run(4, 4, 4), NOW, &mut room);

    cache.insert(&run(4, 8, 4), NOW, &mut room);

    assert_eq!(joined(&cache), [(4, 4), (8, 4)]);
    assert_eq!(
        (cache.part(number(3), 1).is_none(), cache.overflows()),
        (true, 0)
    );
}

#[test]
fn late_packets_take_their_place() {
    let (mut cache, mut room) = (cache(taken(1_000, 1_000)), room());
    for (first, packets) in [(0, 2), (6, 2), (2, 2), (4, 2)] {
        assert!(cache.insert(&run(0, first, packets), NOW, &mut room));
    }

    assert_eq!(joined(&cache), [(0, 2), (2, 2), (4, 2), (6, 2)]);
    assert_eq!(cache.packets(), 8);
}

#[test]
fn nobody_joins_in_the_middle_of_a_group() {
    let (mut cache, mut room) = (cache(taken(1_000, 1_000)), room());
    cache.insert(&run(0, 5, 10), NOW, &mut room);

    assert!(joined(&cache).is_empty());
    assert!(!cache.is_joinable());
}

#[test]
fn a_group_over_the_limit_moves_the_join_point_to_the_next_and_still_serves_repair() {
    let (mut cache, mut room) = (cache(taken(2, 10)), room());
    cache.insert(&run(0, 0, 5), NOW, &mut room);
    cache.insert(&run(0, 5, 5), NOW, &mut room);

    for first in [10, 11] {
        assert!(cache.insert(&run(0, first, 1), NOW, &mut room));
    }
    assert_eq!((joined(&cache).len(), cache.overflows()), (0, 1));
    assert!(cache.part(number(0), 1).is_none());
    assert!(cache.part(number(11), 1).is_some());

    assert!(cache.insert(&run(12, 12, 3), NOW, &mut room));
    assert_eq!(joined(&cache), [(12, 3)]);
    assert_eq!(room.used, taken(3, 5));
}

#[test]
fn the_room_of_the_lane_bounds_each_flow() {
    let mut room = room();
    room.used = taken(999, 995);
    let mut cache = cache(taken(1_000, 1_000));

    assert!(cache.insert(&run(0, 0, 5), NOW, &mut room));
    assert!(!cache.insert(&run(0, 5, 6), NOW, &mut room));
    assert_eq!((room.used, cache.overflows()), (taken(999, 995), 1));
    assert!(!cache.is_joinable());
}

#[test]
fn more_runs_than_the_limit_move_the_join_point_too() {
    let mut room = Room::new(usize::MAX);
    let mut cache = cache(usize::MAX);
    for first in 0..CACHE_RUNS_MAX as u64 {
        assert!(cache.insert(&run(0, first, 1), NOW, &mut room));
    }

    cache.insert(&run(0, CACHE_RUNS_MAX as u64, 1), NOW, &mut room);
    assert_eq!((cache.overflows(), cache.packets()), (1, CACHE_RUNS_MAX));
}

#[test]
fn a_forgotten_packet_leaves_its_neighbours() {
    let (mut cache, mut room) = (cache(taken(1_000, 1_000)), room());
    cache.insert(&run(0, 0, 5), NOW, &mut room);

    cache.forget(number(2), &mut room);
    assert_eq!(joined(&cache), [(0, 2), (3, 2)]);
    assert_eq!((cache.packets(), room.used), (4, cache.bytes()));

    cache.forget(number(2), &mut room);
    cache.forget(number(77), &mut room);
    assert_eq!(cache.packets(), 4);

    cache.insert(&run(0, 2, 1), NOW, &mut room);
    assert_eq!(joined(&cache), [(0, 2), (2, 1), (3, 2)]);
}

#[test]
fn a_group_whose_first_packet_was_false_cannot_be_joined() {
    let (mut cache, mut room) = (cache(taken(1_000, 1_000)), room());
    cache.insert(&run(0, 0, 5), NOW, &mut room);

    cache.forget(number(0), &mut room);

    assert!(!cache.is_joinable());
    assert_eq!(cache.packets(), 4);
}

/// Looks for holes, where that many of the missing numbers may still come.
fn judge(cache: &mut Cache, end: u64, expected: u64) -> bool {
    cache.judge(true, Some(number(end)), |_| expected)
}

#[test]
fn a_hole_that_may_be_filled_can_be_joined_and_one_that_will_not_cannot() {
    let (mut cache, mut room) = (cache(taken(1_000, 1_000)), room());
    cache.insert(&run(0, 0, 3), NOW, &mut room);
    cache.insert(&run(0, 5, 2), NOW, &mut room);

    judge(&mut cache, 7, 2);
    assert_eq!((joined(&cache), cache.holes()), (vec![(0, 3), (5, 2)], 0));
    judge(&mut cache, 7, 1);
    judge(&mut cache, 7, 1);

    assert!(joined(&cache).is_empty() && !cache.is_joinable());
    assert_eq!((cache.holes(), cache.packets()), (1, 5));
    assert!(cache.part(number(5), 1).is_some(), "it still serves repair");
}

#[test]
fn a_hole_that_is_filled_late_moves_the_join_point_back() {
    let (mut cache, mut room) = (cache(taken(1_000, 1_000)), room());
    cache.insert(&run(0, 0, 3), NOW, &mut room);
    cache.insert(&run(0, 4, 2), NOW, &mut room);
    judge(&mut cache, 6, 0);

    cache.insert(&run(0, 3, 1), NOW, &mut room);
    assert!(judge(&mut cache, 6, 0));

    assert_eq!(joined(&cache), [(0, 3), (3, 1), (4, 2)]);
    assert!(!judge(&mut cache, 6, 0), "it is told once");
}

#[test]
fn a_lost_end_is_a_hole_and_the_next_group_is_joined() {
    let (mut cache, mut room) = (cache(taken(1_000, 1_000)), room());
    cache.insert(&run(0, 0, 3), NOW, &mut room);

    judge(&mut cache, 5, 0);
    assert!(!cache.is_joinable());
    cache.insert(&run(5, 5, 1), NOW, &mut room);
    judge(&mut cache, 6, 0);

    assert_eq!((joined(&cache), cache.holes()), (vec![(5, 1)], 1));
}

#[test]
fn a_group_whose_start_comes_after_its_hole_was_given_up_cannot_be_joined() {
    let (mut cache, mut room) = (cache(taken(1_000, 1_000)), room());
    cache.insert(&run(10, 12, 1), NOW, &mut room);
    judge(&mut cache, 13, 1);

    cache.insert(&run(10, 10, 1), NOW, &mut room);
    cache.judge(false, Some(number(13)), |_| 0);

    assert!(!cache.is_joinable());
    assert_eq!(cache.newest_group(), Some(number(10)));
}

/// A run of one packet that came in a train with others'.
fn part_of_a_train(number: u64, train: usize) -> Run {
    let train = Bytes::from(vec![0; train]);
    Run {
        bytes: train.slice(300..300 + PACKET),
        buffer_bytes: train.len(),
        ..run(0, number, 1)
    }
}

#[test]
fn a_small_part_of_a_train_is_copied_and_most_of_one_is_kept_as_it_is() {
    let (mut cache, mut room) = (cache(taken(1_000, 1_000)), room());
    let (small, large) = (part_of_a_train(0, 2 * PACKET + 300), run(0, 1, 5));
    let most = Run {
        buffer_bytes: 6 * PACKET,
        ..large.clone()
    };

    cache.insert(&small, NOW, &mut room);
    cache.insert(&most, NOW, &mut room);

    let kept: Vec<&Run> = cache.join().collect();
    assert_eq!(kept[0].bytes, small.bytes);
    assert_ne!(kept[0].bytes.as_ptr(), small.bytes.as_ptr());
    assert_eq!(kept[1].bytes.as_ptr(), large.bytes.as_ptr());
    assert_eq!(room.used - cache.copies.bytes(), taken(2, 6));
}

proptest! {
    #[test]
    fn what_is_charged_bounds_what_the_allocator_gave(
        sizes in prop::collection::vec((1..20_usize, 0..6_usize, any::<bool>()), 1..200),
        forgotten in prop::collection::vec(0..2_000_u64, 0..20),
    ) {
        let before = held_bytes();
        let mut room = Room::new(200_000);
        let mut cache = cache(150_000);
        let (mut next, mut group) = (0, 0);
        for (at, (packets, others, begins)) in sizes.into_iter().enumerate() {
            if begins {
                group = next;
            }
            {
                // Dropped before memory is counted: the train is received into and sent on, the cache alone keeps
                // something.
                let train = Bytes::from(vec![0; (packets + others * 4) * PACKET]);
                let run = Run {
                    bytes: train.slice(..packets * PACKET),
                    buffer_bytes: train.len(),
                    ..run(group, next, packets)
                };
                cache.insert(&run, NOW + Duration::from_millis(50) * at as u32, &mut room);
            }
            next += packets as u64;
            let given = usize::try_from(held_bytes() - before).unwrap();

            prop_assert_eq!(room.used, cache.bytes());
            prop_assert!(given <= room.used + 4_096, "{} of {}", given, room.used);
            prop_assert!(room.used <= 150_000);
        }
        for number in forgotten {
            cache.forget(Number::new(number).unwrap(), &mut room);
            let given = usize::try_from(held_bytes() - before).unwrap();
            prop_assert!(given <= room.used + 4_096 && room.used == cache.bytes());
        }
        cache.clear(&mut room);
        prop_assert_eq!(room.used, 0);
    }
}
