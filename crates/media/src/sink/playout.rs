//! When a frame is played: at once, or evenly and a little late (`--latency`).
//!
//! ```text
//!   arrival - media time of each frame:   5  4  9  3  6 ...     the smallest is the *base*: the way at its quickest
//!   a frame is due at                     base + media time + latency
//! ```
//!
//! So what the network made uneven becomes even, as long as it is not later than the latency. What a newcomer gets
//! from a cache is older than that and is played at once, because nothing can be decoded without it. What waits is the
//! caller's: a delivery, or what was made of it. Sans-IO: the caller has the clock. Called by `play` and gateways.
//! Invariant: the order of what waits is kept, and nothing waits longer than the latency.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use levada_wire::{Description, Instant, MediaTime, TrackId};

/// The most items that wait. At the limit the oldest is due at once.
const WAITING_MAX: usize = 16_384;
/// Clocks drift: the base gives way by one part in this many.
const SLEW: i64 = 2_000;

/// Items that wait until they are due: frames and what lies between them.
#[derive(Debug)]
pub struct Playout<T> {
    latency: Duration,
    waiting: VecDeque<Waiting<T>>,
    /// The smallest difference between arrival and media time, in microseconds, and when it last gave way.
    base: Option<(i64, Instant)>,
    timescales: Vec<(TrackId, NonZeroU32)>,
}

#[derive(Debug)]
struct Waiting<T> {
    item: T,
    /// Media time in microseconds and when it came; `None` for what is due as soon as it is in front.
    media: Option<(i64, Instant)>,
}

impl<T> Playout<T> {
    /// A playout that lets everything pass at once, or holds frames back until `latency` after the quickest.
    #[must_use]
    pub const fn new(latency: Duration) -> Self {
        Self {
            latency,
            waiting: VecDeque::new(),
            base: None,
            timescales: Vec::new(),
        }
    }

    /// The tracks of the frames that are pushed from now on.
    pub fn describe(&mut self, description: &Description) {
        let tracks = description.tracks.iter();
        self.timescales = tracks.map(|track| (track.id, track.timescale)).collect();
    }

    /// Another timeline begins: what is left of the old one has no base any more.
    pub fn start_instance(&mut self) {
        self.base = None;
        for waiting in &mut self.waiting {
            waiting.media = None;
        }
    }

    /// Takes in a frame of `track` whose decoding time is `dts`, in ticks of its track.
    pub fn push_frame(&mut self, item: T, (track, dts): (TrackId, i64), now: Instant) {
        let media = self.media(track, dts).filter(|_| !self.latency.is_zero());
        if let Some(media) = media {
            self.adapt(media, now);
        }
        let media = media.map(|media| (media, now));
        self.waiting.push_back(Waiting { item, media });
    }

    /// Takes in what has no time of its own: it is due as soon as it is in front.
    pub fn push(&mut self, item: T) {
        self.waiting.push_back(Waiting { item, media: None });
    }

    /// When the next one is due; `None` if there is none.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let front = self.waiting.front()?;
        let (Some((media, came)), Some((base, _))) = (front.media, self.base) else {
            return Some(Instant::ZERO);
        };
        if self.waiting.len() >= WAITING_MAX {
            return Some(Instant::ZERO);
        }
        let at = u64::try_from(base.saturating_add(media)).unwrap_or(0);
        let due = Instant::from_nanos(at.saturating_mul(1_000)) + self.latency;
        Some(due.min(came + self.latency))
    }

    /// Takes the next one if it is due.
    pub fn pop(&mut self, now: Instant) -> Option<T> {
        self.due().filter(|due| *due <= now)?;
        self.waiting.pop_front().map(|waiting| waiting.item)
    }

    fn media(&self, track: TrackId, ticks: i64) -> Option<i64> {
        let (_, timescale) = self.timescales.iter().find(|(id, _)| *id == track)?;
        let time = MediaTime {
            ticks,
            timescale: *timescale,
        };
        Some(time.as_micros())
    }

    fn adapt(&mut self, media: i64, now: Instant) {
        let arrived = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        let way = arrived.saturating_sub(media);
        let base = match self.base {
            None => way,
            Some((base, since)) => {
                let passed = i64::try_from(now.since(since).as_micros()).unwrap_or(i64::MAX);
                base.saturating_add(passed / SLEW).min(way)
            }
        };
        self.base = Some((base, now));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use crate::ticks::TS_TIMESCALE;
    use levada_wire::{Track, TrackKind};

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn playout(latency: u64) -> Playout<&'static str> {
        let track = Track {
            id: TrackId(1),
            kind: TrackKind::Video,
            codec: "x".into(),
            timescale: TS_TIMESCALE,
            config: Vec::new(),
            language: None,
        };
        let tracks = vec![track];
        let mut playout = Playout::new(Duration::from_millis(latency));
        playout.describe(&Description { tracks });
        playout.push("description");
        playout.pop(at(0)).unwrap();
        playout
    }

    fn push(playout: &mut Playout<&str>, millis: i64, now: Instant) {
        playout.push_frame("frame", (TrackId(1), millis * 90), now);
    }

    #[test]
    fn without_latency_everything_is_due_at_once() {
        let mut playout = playout(0);

        for millis in [0, 40, 80] {
            push(&mut playout, millis, at(5_000));
            assert!(playout.pop(at(5_000)).is_some());
        }
    }

    #[test]
    fn uneven_arrivals_become_even() {
        let mut playout = playout(100);
        for (media, came) in [
            (0, 1_000),
            (40, 1_040),
            (80, 1_170),
            (120, 1_171),
            (160, 1_172),
        ] {
            push(&mut playout, media, at(came));
        }

        for due in [1_100, 1_140, 1_180, 1_220, 1_260] {
            assert!(playout.pop(at(due - 1)).is_none(), "at {due}");
            // The base gave way a little.
            assert!(playout.pop(at(due + 1)).is_some(), "at {due}");
        }
        assert_eq!(playout.due(), None);
    }

    #[test]
    fn a_group_from_a_cache_is_played_at_once_up_to_the_latency() {
        let mut playout = playout(100);
        // A second of frames within a moment, then live.
        for media in (0..=1_000).step_by(40) {
            push(&mut playout, media, at(5_000));
        }

        let mut played = 0;
        while playout.pop(at(5_000)).is_some() {
            played += 1;
        }

        // All but the last 100 ms.
        assert_eq!(played, 23);
        assert_eq!(playout.due(), Some(at(5_020)));
    }

    #[test]
    fn a_new_instance_lets_go_of_the_old_one_and_finds_its_own_base() {
        let mut playout = playout(100);
        push(&mut playout, 60_000, at(1_000));
        assert!(playout.pop(at(1_050)).is_none());

        playout.start_instance();
        push(&mut playout, 0, at(1_060));

        assert!(playout.pop(at(1_060)).is_some());
        assert_eq!(playout.due(), Some(at(1_160)));
    }

    #[test]
    fn at_the_limit_the_oldest_is_played_at_once() {
        let mut playout = playout(60_000);

        for media in (0..).take(WAITING_MAX - 1) {
            push(&mut playout, media, at(1_000));
        }
        assert!(playout.pop(at(1_001)).is_none());
        push(&mut playout, 0, at(1_001));

        assert!(playout.pop(at(1_001)).is_some());
        assert!(playout.pop(at(1_001)).is_none());
    }
}
