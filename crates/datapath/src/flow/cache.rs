//! The newest group of a flow: what a newcomer is sent first, so that it can start decoding at once.
//!
//! ```text
//!   ... previous group │ newest group ──────────────────▶ time
//!                      ▲ join point: the first packet of the newest group that has its first packet
//! ```
//!
//! The previous group stays until the first packet of the next one is there. A group that does not fit is not
//! kept at all: its packets are still forwarded, and whoever joins waits for the next group. That is counted and
//! visible, never silent. Not the window (`window.rs`): the cache forgets. Called by `forward::hand_on` and by
//! the lane when an egress or a consumer joins. Invariant: no packet before the join point is held once there is
//! one, runs are in the order of their numbers, and [`Room::used`] is the sum over all caches of the lane.

use std::collections::VecDeque;

use levada_wire::Number;

use super::run::Run;

/// The most runs of one flow's cache: 27 minutes of 10 ms bursts. Bounds the sends that one newcomer causes.
pub(crate) const CACHE_RUNS_MAX: usize = 16_384;

/// Bytes that all caches of a lane share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Bytes held now.
    pub(crate) used: usize,
    /// Bytes that may be held.
    pub(crate) limit: usize,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Cache {
    runs: VecDeque<Run>,
    /// The join point.
    start: Option<Number>,
    /// Start of the newest group that did not fit: nothing of it or before it is kept.
    skipped: Option<Number>,
    bytes: usize,
    packets: usize,
    bytes_max: usize,
    overflows: u64,
}

impl Cache {
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Self {
            runs: VecDeque::new(),
            start: None,
            skipped: None,
            bytes: 0,
            packets: 0,
            bytes_max,
            overflows: 0,
        }
    }

    /// Keeps a run if it is of the newest group; says whether it did.
    pub(crate) fn insert(&mut self, run: &Run, room: &mut Room) -> bool {
        let before_join = self.start.is_some_and(|start| run.first < start);
        let skipped = self.skipped.is_some_and(|start| run.group_start <= start);
        if before_join || skipped {
            return false;
        }
        if run.first == run.group_start {
            self.start = Some(run.first);
            self.drop_before(run.first, room);
        }
        let bytes = run.bytes.len();
        if self.bytes + bytes > self.bytes_max
            || room.used + bytes > room.limit
            || self.runs.len() == CACHE_RUNS_MAX
        {
            self.clear(room);
            self.skipped = Some(run.group_start);
            self.overflows += 1;
            return false;
        }
        self.add(run, room);
        true
    }

    /// What a newcomer must be sent, in order; nothing while there is no join point.
    pub(crate) fn join(&self) -> impl Iterator<Item = &Run> {
        let joinable = self.start.is_some();
        self.runs.iter().filter(move |_| joinable)
    }

    /// Lets go of one packet, which turned out to be false.
    pub(crate) fn forget(&mut self, number: Number, room: &mut Room) {
        let at = self.runs.partition_point(|run| run.end() <= number);
        let Some(run) = self.runs.get(at).filter(|run| run.first <= number).cloned() else {
            return;
        };
        let place = usize::try_from(number.since(run.first)).expect("a run is 64 packets long");
        self.remove(at, room);
        for part in [0..place, place + 1..run.packets()] {
            if let Some(part) = run.part(part) {
                self.add(&part, room);
            }
        }
        if self.start == Some(number) {
            self.start = None;
        }
    }

    /// Gives everything back.
    pub(crate) fn clear(&mut self, room: &mut Room) {
        room.used -= self.bytes;
        self.runs.clear();
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

    fn add(&mut self, run: &Run, room: &mut Room) {
        self.bytes += run.bytes.len();
        room.used += run.bytes.len();
        self.packets += run.packets();
        let at = self.runs.partition_point(|held| held.first < run.first);
        self.runs.insert(at, run.clone());
    }

    fn remove(&mut self, at: usize, room: &mut Room) {
        if let Some(run) = self.runs.remove(at) {
            self.bytes -= run.bytes.len();
            room.used -= run.bytes.len();
            self.packets -= run.packets();
        }
    }

    fn drop_before(&mut self, number: Number, room: &mut Room) {
        while self.runs.front().is_some_and(|run| run.first < number) {
            self.remove(0, room);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use bytes::Bytes;

    use super::*;

    const PACKET: usize = 100;

    fn number(value: u64) -> Number {
        Number::new(value).unwrap()
    }

    fn run(group_start: u64, first: u64, packets: usize) -> Run {
        Run {
            first: number(first),
            group_start: number(group_start),
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
    fn the_previous_group_stays_until_the_first_packet_of_the_next() {
        let (mut cache, mut room) = (Cache::new(1_000 * PACKET), room());
        cache.insert(&run(0, 0, 10), &mut room);

        cache.insert(&run(10, 11, 4), &mut room);
        assert_eq!(joined(&cache), [(0, 10), (11, 4)]);

        cache.insert(&run(10, 10, 1), &mut room);
        assert_eq!(joined(&cache), [(10, 1), (11, 4)]);
        assert_eq!(room.used, 5 * PACKET);
        assert!(!cache.insert(&run(0, 9, 1), &mut room));
    }

    #[test]
    fn late_packets_take_their_place() {
        let (mut cache, mut room) = (Cache::new(1_000 * PACKET), room());
        for (first, packets) in [(0, 2), (6, 2), (2, 2), (4, 2)] {
            assert!(cache.insert(&run(0, first, packets), &mut room));
        }

        assert_eq!(joined(&cache), [(0, 2), (2, 2), (4, 2), (6, 2)]);
        assert_eq!(cache.packets(), 8);
    }

    #[test]
    fn nobody_joins_in_the_middle_of_a_group() {
        let (mut cache, mut room) = (Cache::new(1_000 * PACKET), room());
        cache.insert(&run(0, 5, 10), &mut room);

        assert!(joined(&cache).is_empty());
        assert!(!cache.is_joinable());
    }

    #[test]
    fn a_group_over_the_limit_moves_the_join_point_to_the_next() {
        let (mut cache, mut room) = (Cache::new(10 * PACKET), room());
        cache.insert(&run(0, 0, 10), &mut room);

        assert!(!cache.insert(&run(0, 10, 1), &mut room));
        assert!(!cache.insert(&run(0, 11, 1), &mut room));
        assert_eq!(
            (joined(&cache).len(), cache.overflows(), room.used),
            (0, 1, 0)
        );

        assert!(cache.insert(&run(12, 12, 3), &mut room));
        assert_eq!(joined(&cache), [(12, 3)]);
    }

    #[test]
    fn the_room_of_the_lane_bounds_each_flow() {
        let mut room = Room {
            used: 995 * PACKET,
            limit: 1_000 * PACKET,
        };
        let mut cache = Cache::new(1_000 * PACKET);

        assert!(cache.insert(&run(0, 0, 5), &mut room));
        assert!(!cache.insert(&run(0, 5, 1), &mut room));
        assert_eq!((room.used, cache.overflows()), (995 * PACKET, 1));
    }

    #[test]
    fn more_runs_than_the_limit_move_the_join_point_too() {
        let mut room = Room {
            used: 0,
            limit: usize::MAX,
        };
        let mut cache = Cache::new(usize::MAX);
        for first in 0..CACHE_RUNS_MAX as u64 {
            assert!(cache.insert(&run(0, first, 1), &mut room));
        }

        assert!(!cache.insert(&run(0, CACHE_RUNS_MAX as u64, 1), &mut room));
        assert_eq!(cache.overflows(), 1);
    }

    #[test]
    fn a_forgotten_packet_leaves_its_neighbours() {
        let (mut cache, mut room) = (Cache::new(1_000 * PACKET), room());
        cache.insert(&run(0, 0, 5), &mut room);

        cache.forget(number(2), &mut room);
        assert_eq!(joined(&cache), [(0, 2), (3, 2)]);
        assert_eq!((cache.packets(), room.used), (4, 4 * PACKET));

        cache.forget(number(2), &mut room);
        cache.forget(number(77), &mut room);
        assert_eq!(cache.packets(), 4);

        cache.insert(&run(0, 2, 1), &mut room);
        assert_eq!(joined(&cache), [(0, 2), (2, 1), (3, 2)]);
    }

    #[test]
    fn a_group_whose_first_packet_was_false_cannot_be_joined() {
        let (mut cache, mut room) = (Cache::new(1_000 * PACKET), room());
        cache.insert(&run(0, 0, 5), &mut room);

        cache.forget(number(0), &mut room);

        assert!(!cache.is_joinable());
        assert_eq!(cache.packets(), 4);
    }
}
