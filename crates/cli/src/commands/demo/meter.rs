//! What arrives at the player: frames, bytes, losses, and how long each frame was under way, hop by hop.
//!
//! ```text
//!   origin ──────── to_relay ────────▶ relay's subscriber
//!                                      │ to_player: the same frame, there and here
//!   origin ──────── latency ───────────▼─▶ player's subscriber
//! ```
//!
//! A latency is the wall clock at a subscriber minus the wall clock of the origin when the frame left it; all are of
//! this machine. The second hop is the time between the same frame at the relay's and at the player's subscriber, none
//! if the relay's was told later. What came out of a cache at the start was old before it left, and does not count.
//! Loss is counted by the numbers in the test card's pictures, not by what nodes report of themselves. Sans-IO: the
//! caller has the clock. Invariant: a frame is counted once at each place.

use std::collections::BTreeMap;
use std::time::Duration;

use levada::{Delivery, Frame, Group, TrackId, WallTime};
use levada_media::testcard::{CLOCK_CODEC, Clock};

mod histogram;
use histogram::Histogram;
pub(super) use histogram::Latency;

/// How many frames wait for their arrival at the other place: the test card's of some ten seconds. The oldest go first,
/// and then count for no hop.
const WAITING_MAX: usize = 1_024;

/// Counts what arrives.
#[derive(Debug)]
pub(super) struct Meter {
    clock_track: Option<TrackId>,
    leading: Option<TrackId>,
    first_group: Option<Group>,
    first_group_at_relay: Option<Group>,
    waiting: BTreeMap<(Group, TrackId, i64), Arrival>,
    next_picture: Option<u32>,
    /// When the newest picture came that did not come out of a cache.
    last_picture: Option<WallTime>,
    now: Counts,
    total: Counts,
    seconds: u64,
}

#[derive(Clone, Debug)]
struct Counts {
    frames: u64,
    pictures: u64,
    bytes: u64,
    lost: u64,
    gaps: u64,
    pause_micros: u64,
    latencies: Histogram,
    to_relay: Histogram,
    to_player: Histogram,
}

/// When a frame came to one place, while the other has not seen it.
#[derive(Clone, Copy, Debug)]
enum Arrival {
    AtRelay(WallTime),
    AtPlayer(WallTime),
}

/// What one second brought, or all of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Second {
    /// Seconds since the start.
    pub(super) at: u64,
    pub(super) frames: u64,
    pub(super) pictures: u64,
    pub(super) bytes: u64,
    /// Since the start.
    pub(super) frames_total: u64,
    /// Pictures that never came, since the start.
    pub(super) lost_total: u64,
    /// Holes that the node reported, since the start.
    pub(super) gaps_total: u64,
    /// The longest time between two pictures.
    pub(super) pause: Duration,
    /// From the origin to the player.
    pub(super) latency: Option<Latency>,
    /// From the origin to the relay.
    pub(super) to_relay: Option<Latency>,
    /// From the relay to the player.
    pub(super) to_player: Option<Latency>,
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

impl Meter {
    fn new() -> Self {
        Self {
            clock_track: None,
            leading: None,
            first_group: None,
            first_group_at_relay: None,
            waiting: BTreeMap::new(),
            next_picture: None,
            last_picture: None,
            now: Counts::new(),
            total: Counts::new(),
            seconds: 0,
        }
    }

    /// Takes in what the player's subscriber got at `now`.
    pub(super) fn note(&mut self, delivery: &Delivery, now: WallTime) {
        match delivery {
            Delivery::Description(description) => {
                self.leading = description.leading().map(|track| track.id);
                let clock = description
                    .tracks
                    .iter()
                    .find(|track| track.codec == CLOCK_CODEC);
                self.clock_track = clock.map(|track| track.id);
            }
            Delivery::Frame { group, frame, wall } => {
                self.on_frame(frame);
                let first = *self.first_group.get_or_insert(*group);
                if let Some(wall) = wall
                    && *group != first
                {
                    let micros = now.0.saturating_sub(wall.0);
                    self.each(|counts| counts.latencies.add(micros));
                    self.on_live(frame, now);
                    self.on_arrival((*group, frame.track, frame.dts), Arrival::AtPlayer(now));
                }
            }
            Delivery::Gap(_) => self.each(|counts| counts.gaps += 1),
            _ => {}
        }
    }

    /// Takes in what the relay's subscriber got at `now`.
    pub(super) fn note_at_relay(&mut self, delivery: &Delivery, now: WallTime) {
        let Delivery::Frame { group, frame, wall } = delivery else {
            return;
        };
        let first = *self.first_group_at_relay.get_or_insert(*group);
        if let Some(wall) = wall
            && *group != first
        {
            let micros = now.0.saturating_sub(wall.0);
            self.each(|counts| counts.to_relay.add(micros));
            self.on_arrival((*group, frame.track, frame.dts), Arrival::AtRelay(now));
        }
    }

    /// A frame came to one of the two places: it waits, or ends the other's wait.
    fn on_arrival(&mut self, frame: (Group, TrackId, i64), arrival: Arrival) {
        match (self.waiting.remove(&frame), arrival) {
            (Some(Arrival::AtRelay(relay)), Arrival::AtPlayer(player))
            | (Some(Arrival::AtPlayer(player)), Arrival::AtRelay(relay)) => {
                let micros = player.0.saturating_sub(relay.0);
                self.each(|counts| counts.to_player.add(micros));
            }
            _ => {
                self.waiting.insert(frame, arrival);
                if self.waiting.len() > WAITING_MAX {
                    self.waiting.pop_first();
                }
            }
        }
    }

    /// A frame came as it was made, not out of a cache.
    fn on_live(&mut self, frame: &Frame, now: WallTime) {
        if Some(frame.track) == self.leading {
            let before = self.last_picture.replace(now).unwrap_or(now);
            let pause = now.0.saturating_sub(before.0);
            self.each(|counts| counts.pause_micros = counts.pause_micros.max(pause));
        }
    }

    fn on_frame(&mut self, frame: &Frame) {
        let is_picture = Some(frame.track) == self.leading;
        let bytes = u64::try_from(frame.data.len()).unwrap_or(u64::MAX);
        self.each(|counts| {
            counts.frames += 1;
            counts.bytes += bytes;
            counts.pictures += u64::from(is_picture);
        });
        if Some(frame.track) == self.clock_track
            && let Some(clock) = Clock::decode(&frame.data)
        {
            let expected = self.next_picture.unwrap_or(clock.picture);
            let lost = u64::from(clock.picture.wrapping_sub(expected));
            self.each(|counts| counts.lost += lost);
            self.next_picture = Some(clock.picture.wrapping_add(1));
        }
    }

    fn each(&mut self, count: impl Fn(&mut Counts)) {
        count(&mut self.now);
        count(&mut self.total);
    }

    /// What came since the last call.
    pub(super) fn second(&mut self) -> Second {
        self.seconds += 1;
        let now = std::mem::replace(&mut self.now, Counts::new());
        self.summary(&now)
    }

    /// What came since the start.
    pub(super) fn total(&self) -> Second {
        self.summary(&self.total)
    }

    fn summary(&self, counts: &Counts) -> Second {
        Second {
            at: self.seconds,
            frames: counts.frames,
            pictures: counts.pictures,
            bytes: counts.bytes,
            frames_total: self.total.frames,
            lost_total: self.total.lost,
            gaps_total: self.total.gaps,
            pause: Duration::from_micros(counts.pause_micros),
            latency: counts.latencies.summary(),
            to_relay: counts.to_relay.summary(),
            to_player: counts.to_player.summary(),
        }
    }
}

impl Counts {
    fn new() -> Self {
        Self {
            frames: 0,
            pictures: 0,
            bytes: 0,
            lost: 0,
            gaps: 0,
            pause_micros: 0,
            latencies: Histogram::new(),
            to_relay: Histogram::new(),
            to_player: Histogram::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::sync::Arc;

    use levada_media::TestCard;

    use super::*;

    /// A meter that knows the test card's tracks, and its frames.
    fn meter() -> (Meter, impl Iterator<Item = Frame>) {
        let mut card = TestCard::new();
        let mut meter = Meter::new();
        let description = Arc::new(card.description().clone());
        meter.note(&Delivery::Description(description), WallTime(0));
        (
            meter,
            std::iter::repeat_with(move || card.next_frame(WallTime(0))),
        )
    }

    fn delivery(group: u32, frame: Frame, wall: u64) -> Delivery {
        Delivery::Frame {
            group: Group(group),
            frame,
            wall: Some(WallTime(wall)),
        }
    }

    #[test]
    fn every_picture_that_does_not_come_is_counted_once() {
        let (mut meter, frames) = meter();
        let clock = meter.clock_track.unwrap();
        let mut pictures = 0;

        for frame in frames.take(500) {
            pictures += u64::from(Some(frame.track) == meter.leading);
            let is_lost = frame.track == clock && (10..=12).contains(&pictures);
            if !is_lost {
                meter.note(&delivery(0, frame, 0), WallTime(0));
            }
        }

        let total = meter.total();
        assert_eq!((total.lost_total, total.pictures), (3, pictures));
        assert_eq!(total.frames_total, 497);
    }

    #[test]
    fn latency_is_measured_from_the_second_group_on() {
        let (mut meter, mut frames) = meter();
        meter.note(&delivery(7, frames.next().unwrap(), 0), WallTime(900_000));
        assert_eq!(meter.total().latency, None);

        for micros in 1..=100 {
            let now = WallTime(5_000 + micros * 100);
            meter.note(&delivery(8, frames.next().unwrap(), 5_000), now);
        }

        let latency = meter.second().latency.unwrap();
        assert_eq!(latency.p50, Duration::from_micros(5_010));
        assert_eq!(latency.p99, Duration::from_micros(9_910));
        assert_eq!(meter.second().latency, None);
        assert_eq!(meter.total().latency, Some(latency));
    }

    #[test]
    fn the_longest_pause_between_two_pictures_counts_from_the_second_group_on() {
        let (mut meter, frames) = meter();
        let leading = meter.leading;
        let pictures: Vec<_> = frames
            .filter(|frame| Some(frame.track) == leading)
            .take(5)
            .collect();

        for (frame, (group, at)) in
            pictures
                .into_iter()
                .zip([(7, 0), (7, 900), (8, 1_000), (8, 1_040), (8, 1_240)])
        {
            meter.note(&delivery(group, frame, 0), WallTime(at * 1_000));
        }

        assert_eq!(meter.second().pause, Duration::from_millis(200));
        assert_eq!(meter.second().pause, Duration::ZERO);
        assert_eq!(meter.total().pause, Duration::from_millis(200));
    }

    #[test]
    fn each_hop_is_measured_with_the_same_frame_at_both_places_whoever_is_told_first() {
        let (mut meter, mut frames) = meter();
        let first = frames.next().unwrap();
        meter.note_at_relay(&delivery(7, first.clone(), 0), WallTime(900_000));
        meter.note(&delivery(7, first, 0), WallTime(900_000));
        let before = meter.total();
        assert_eq!((before.to_relay, before.to_player), (None, None));

        for frame in frames.take(100) {
            let delivery = delivery(8, frame, 5_000);
            meter.note_at_relay(&delivery, WallTime(5_100));
            meter.note(&delivery, WallTime(5_900));
        }
        let both = meter.second();
        let (mut late, mut frames) = self::meter();
        for group in [7, 8] {
            let delivery = delivery(group, frames.next().unwrap(), 5_000);
            late.note(&delivery, WallTime(5_200));
            late.note_at_relay(&delivery, WallTime(5_300));
        }

        let p99 = |latency: Option<Latency>| latency.unwrap().p99;
        assert_eq!(p99(both.to_relay), Duration::from_micros(110));
        assert_eq!(p99(both.to_player), Duration::from_micros(810));
        assert_eq!(p99(both.latency), Duration::from_micros(910));
        assert_eq!(p99(late.second().to_player), Duration::from_micros(10));
        assert_eq!((meter.waiting.len(), late.waiting.len()), (0, 0));
    }

    #[test]
    fn a_frame_that_never_comes_to_the_other_place_is_forgotten_at_the_limit() {
        let (mut meter, frames) = meter();

        for (group, frame) in (0..).zip(frames.take(WAITING_MAX + 10)) {
            meter.note_at_relay(&delivery(group, frame, 0), WallTime(0));
        }

        assert_eq!(meter.waiting.len(), WAITING_MAX);
    }
}
