//! The newest group of a flow, which a newcomer is sent first, and what came shortly before, which may be asked again.
//!
//! ```text
//!   forgotten │ repair: the last second or more │ newest group ──────────────▶ time
//!                                               ▲ join point: the first packet of the newest group that has
//!                                                 its first packet
//! ```
//!
//! What lies before the join point stays for the time in which somebody may still ask for it ([`REPAIR_KEPT`], or the
//! flow's repair budget if that is longer), and goes first where there is not room for all. A group that does not fit
//! beside nothing else cannot be joined: its packets are still forwarded, the latest of them still serve repair, and
//! whoever joins waits for the next group. That is counted and visible, never silent. Not the window (`window.rs`): the
//! cache forgets. Called by `forward::hand_on`, by `repair` when it serves, and by the lane when an egress or a consumer
//! joins. Invariant: runs are in the order of their numbers, a newcomer gets none before the join point, and
//! [`Room::used`] is the sum over all caches of the lane.

use std::collections::VecDeque;
use std::time::Duration;

use levada_wire::{Instant, Number};

use super::run::Run;

/// The most runs of one flow's cache: 27 minutes of 10 ms bursts. Bounds the sends that one newcomer causes.
pub(crate) const CACHE_RUNS_MAX: usize = 16_384;
/// How long packets before the join point are kept at least: a few round trips around the world.
pub(crate) const REPAIR_KEPT: Duration = Duration::from_secs(1);

/// Bytes that all caches of a lane share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Bytes held now.
    pub(crate) used: usize,
    /// Bytes that may be held.
    pub(crate) limit: usize,
}

/// A run, and when it was cached.
#[derive(Clone, Debug)]
struct Held {
    run: Run,
    since: Instant,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Cache {
    held: VecDeque<Held>,
    /// The join point.
    start: Option<Number>,
    /// Start of the newest group that did not fit: it cannot be joined.
    skipped: Option<Number>,
    bytes: usize,
    packets: usize,
    bytes_max: usize,
    /// How long what is before the join point is kept.
    kept_for: Duration,
    overflows: u64,
}

impl Cache {
    /// An empty cache; `budget` is the repair budget of the flow.
    pub(crate) fn new(bytes_max: usize, budget: Duration) -> Self {
        Self {
            held: VecDeque::new(),
            start: None,
            skipped: None,
            bytes: 0,
            packets: 0,
            bytes_max,
            kept_for: REPAIR_KEPT.max(budget),
            overflows: 0,
        }
    }

    /// Keeps a run, if there is room for it; says whether there was.
    pub(crate) fn insert(&mut self, run: &Run, now: Instant, room: &mut Room) -> bool {
        let is_newer = self.start.is_none_or(|start| run.first > start);
        let skipped = self.skipped.is_some_and(|start| run.group_start <= start);
        if run.first == run.group_start && is_newer && !skipped {
            self.start = Some(run.first);
        }
        self.drop_what_is_old(now, room);
        let bytes = run.bytes.len();
        while !self.has_room_for(bytes, room) {
            self.drop_before_join(run, room);
            if self.held.is_empty() && !self.has_room_for(bytes, room) {
                return false;
            }
        }
        let since = now;
        let run = run.clone();
        self.add(Held { run, since }, room);
        true
    }

    /// What a newcomer must be sent, in order; nothing while there is no join point.
    pub(crate) fn join(&self) -> impl Iterator<Item = &Run> {
        let from = match self.start {
            Some(start) => self.held.partition_point(|held| held.run.first < start),
            None => self.held.len(),
        };
        self.held.range(from..).map(|held| &held.run)
    }

    /// The packets from `number` on that lie together, `most` at most; `None` if the first of them is not here.
    pub(crate) fn part(&self, number: Number, most: usize) -> Option<Run> {
        let run = &self.held.get(self.place_of(number)?)?.run;
        let place = place_in(run, number);
        run.part(place..run.packets().min(place + most))
    }

    /// Lets go of one packet, which turned out to be false.
    pub(crate) fn forget(&mut self, number: Number, room: &mut Room) {
        let Some(held) = self.place_of(number).and_then(|at| self.remove(at, room)) else {
            return;
        };
        let (run, since) = (held.run, held.since);
        let place = place_in(&run, number);
        for part in [0..place, place + 1..run.packets()] {
            if let Some(run) = run.part(part) {
                self.add(Held { run, since }, room);
            }
        }
        if self.start == Some(number) {
            self.start = None;
        }
    }

    /// Gives everything back.
    pub(crate) fn clear(&mut self, room: &mut Room) {
        room.used -= self.bytes;
        self.held.clear();
        (self.start, self.bytes, self.packets) = (None, 0, 0);
    }

    /// Packets held.
    pub(crate) const fn packets(&self) -> usize {
        self.packets
    }

    /// Whether a newcomer would be sent something.
    pub(crate) const fn is_joinable(&self) -> bool {
        self.start.is_some()
    }

    /// How many groups did not fit.
    pub(crate) const fn overflows(&self) -> u64 {
        self.overflows
    }

    fn has_room_for(&self, bytes: usize, room: &Room) -> bool {
        self.bytes + bytes <= self.bytes_max
            && room.used + bytes <= room.limit
            && self.held.len() < CACHE_RUNS_MAX
    }

    /// Drops the oldest run that is there for repair alone; if all are of the newest group, nobody joins that any more.
    fn drop_before_join(&mut self, newest: &Run, room: &mut Room) {
        let is_of_group = |held: &Held| self.start.is_some_and(|start| held.run.first >= start);
        if self.held.front().is_none_or(is_of_group) && self.start.take().is_some() {
            self.skipped = Some(newest.group_start);
            self.overflows += 1;
        }
        self.remove(0, room);
    }

    fn drop_what_is_old(&mut self, now: Instant, room: &mut Room) {
        while let Some(oldest) = self.held.front() {
            let is_of_group = self.start.is_some_and(|start| oldest.run.first >= start);
            if is_of_group || now.since(oldest.since) <= self.kept_for {
                return;
            }
            self.remove(0, room);
        }
    }

    /// Where the run with that packet lies.
    fn place_of(&self, number: Number) -> Option<usize> {
        let at = self.held.partition_point(|held| held.run.end() <= number);
        let held = self.held.get(at)?;
        (held.run.first <= number).then_some(at)
    }

    fn add(&mut self, held: Held, room: &mut Room) {
        self.bytes += held.run.bytes.len();
        room.used += held.run.bytes.len();
        self.packets += held.run.packets();
        let first = held.run.first;
        let at = self.held.partition_point(|held| held.run.first < first);
        self.held.insert(at, held);
    }

    fn remove(&mut self, at: usize, room: &mut Room) -> Option<Held> {
        let held = self.held.remove(at)?;
        self.bytes -= held.run.bytes.len();
        room.used -= held.run.bytes.len();
        self.packets -= held.run.packets();
        Some(held)
    }
}

fn place_in(run: &Run, number: Number) -> usize {
    usize::try_from(number.since(run.first)).expect("a run is 64 packets long")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use bytes::Bytes;
    use levada_wire::OriginTime;

    use super::*;

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
        }
    }

    fn room() -> Room {
        Room {
            used: 0,
            limit: 1_000 * PACKET,
        }
    }

    fn joined(cache: &Cache) -> Vec<(u64, usize)> {
        cache
            .join()
            .map(|run| (run.first.value(), run.packets()))
            .collect()
    }

    #[test]
    fn a_newcomer_gets_the_previous_group_until_the_first_packet_of_the_next() {
        let (mut cache, mut room) = (cache(1_000 * PACKET), room());
        cache.insert(&run(0, 0, 10), NOW, &mut room);

        cache.insert(&run(10, 11, 4), NOW, &mut room);
        assert_eq!(joined(&cache), [(0, 10), (11, 4)]);

        cache.insert(&run(10, 10, 1), NOW, &mut room);
        assert_eq!(joined(&cache), [(10, 1), (11, 4)]);
    }

    #[test]
    fn what_is_before_the_join_point_is_kept_for_repair_and_for_a_second_only() {
        let (mut cache, mut room) = (cache(1_000 * PACKET), room());
        cache.insert(&run(0, 0, 10), NOW, &mut room);
        cache.insert(&run(10, 10, 1), NOW + REPAIR_KEPT, &mut room);
        let asked = cache.part(number(4), 3).unwrap();
        assert_eq!((asked.first, asked.packets()), (number(4), 3));
        assert_eq!(cache.part(number(8), 9).unwrap().packets(), 2);

        cache.insert(
            &run(10, 11, 1),
            NOW + REPAIR_KEPT + Duration::from_nanos(1),
            &mut room,
        );

        assert!(cache.part(number(9), 1).is_none());
        assert_eq!((cache.packets(), room.used), (2, 2 * PACKET));
    }

    #[test]
    fn a_longer_budget_is_kept_longer() {
        let (mut cache, mut room) = (Cache::new(1_000 * PACKET, 3 * REPAIR_KEPT), room());
        cache.insert(&run(0, 0, 1), NOW, &mut room);

        cache.insert(&run(1, 1, 1), NOW + 3 * REPAIR_KEPT, &mut room);

        assert!(cache.part(number(0), 1).is_some());
    }

    #[test]
    fn what_is_kept_for_repair_makes_room_for_the_newest_group() {
        let (mut cache, mut room) = (cache(10 * PACKET), room());
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
        let (mut cache, mut room) = (cache(1_000 * PACKET), room());
        for (first, packets) in [(0, 2), (6, 2), (2, 2), (4, 2)] {
            assert!(cache.insert(&run(0, first, packets), NOW, &mut room));
        }

        assert_eq!(joined(&cache), [(0, 2), (2, 2), (4, 2), (6, 2)]);
        assert_eq!(cache.packets(), 8);
    }

    #[test]
    fn nobody_joins_in_the_middle_of_a_group() {
        let (mut cache, mut room) = (cache(1_000 * PACKET), room());
        cache.insert(&run(0, 5, 10), NOW, &mut room);

        assert!(joined(&cache).is_empty());
        assert!(!cache.is_joinable());
    }

    #[test]
    fn a_group_over_the_limit_moves_the_join_point_to_the_next_and_still_serves_repair() {
        let (mut cache, mut room) = (cache(10 * PACKET), room());
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
        assert_eq!(room.used, 10 * PACKET);
    }

    #[test]
    fn the_room_of_the_lane_bounds_each_flow() {
        let mut room = Room {
            used: 995 * PACKET,
            limit: 1_000 * PACKET,
        };
        let mut cache = cache(1_000 * PACKET);

        assert!(cache.insert(&run(0, 0, 5), NOW, &mut room));
        assert!(!cache.insert(&run(0, 5, 6), NOW, &mut room));
        assert_eq!((room.used, cache.overflows()), (995 * PACKET, 1));
        assert!(!cache.is_joinable());
    }

    #[test]
    fn more_runs_than_the_limit_move_the_join_point_too() {
        let mut room = Room {
            used: 0,
            limit: usize::MAX,
        };
        let mut cache = cache(usize::MAX);
        for first in 0..CACHE_RUNS_MAX as u64 {
            assert!(cache.insert(&run(0, first, 1), NOW, &mut room));
        }

        cache.insert(&run(0, CACHE_RUNS_MAX as u64, 1), NOW, &mut room);
        assert_eq!((cache.overflows(), cache.packets()), (1, CACHE_RUNS_MAX));
    }

    #[test]
    fn a_forgotten_packet_leaves_its_neighbours() {
        let (mut cache, mut room) = (cache(1_000 * PACKET), room());
        cache.insert(&run(0, 0, 5), NOW, &mut room);

        cache.forget(number(2), &mut room);
        assert_eq!(joined(&cache), [(0, 2), (3, 2)]);
        assert_eq!((cache.packets(), room.used), (4, 4 * PACKET));

        cache.forget(number(2), &mut room);
        cache.forget(number(77), &mut room);
        assert_eq!(cache.packets(), 4);

        cache.insert(&run(0, 2, 1), NOW, &mut room);
        assert_eq!(joined(&cache), [(0, 2), (2, 1), (3, 2)]);
    }

    #[test]
    fn a_group_whose_first_packet_was_false_cannot_be_joined() {
        let (mut cache, mut room) = (cache(1_000 * PACKET), room());
        cache.insert(&run(0, 0, 5), NOW, &mut room);

        cache.forget(number(0), &mut room);

        assert!(!cache.is_joinable());
        assert_eq!(cache.packets(), 4);
    }
}
