//! What arrives at the player: frames, bytes, losses, and how long each frame was under way.
//!
//! Latency is the wall clock at the subscriber minus the wall clock of the origin when the frame left it; both are of
//! this machine. What came out of a cache at the start was old before it left, and does not count. Loss is counted
//! by the numbers in the test card's pictures, not by what nodes report of themselves. Sans-IO: the caller has the
//! clock. Invariant: a frame is counted once.

use std::time::Duration;

use levada::{Delivery, Frame, Group, TrackId, WallTime};
use levada_media::testcard::{CLOCK_CODEC, Clock};

/// Latencies are counted in steps of 10 us...
const STEP_US: u64 = 10;
/// ...up to 200 ms; above, they count as that.
const STEPS: usize = 20_000;

/// Counts what arrives.
#[derive(Debug)]
pub(super) struct Meter {
    clock_track: Option<TrackId>,
    leading: Option<TrackId>,
    first_group: Option<Group>,
    next_picture: Option<u32>,
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
    latencies: Histogram,
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
    pub(super) latency: Option<Latency>,
}

/// How long frames were under way, from the origin to the player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Latency {
    pub(super) p50: Duration,
    pub(super) p99: Duration,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self {
            clock_track: None,
            leading: None,
            first_group: None,
            next_picture: None,
            now: Counts::new(),
            total: Counts::new(),
            seconds: 0,
        }
    }

    /// Takes in what the subscriber got at `now`.
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
                }
            }
            Delivery::Gap(_) => self.each(|counts| counts.gaps += 1),
            _ => {}
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
            latency: counts.latencies.summary(),
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
            latencies: Histogram(vec![0; STEPS]),
        }
    }
}

/// How many latencies were how long.
#[derive(Clone, Debug)]
struct Histogram(Vec<u64>);

impl Histogram {
    fn add(&mut self, micros: u64) {
        let step = usize::try_from(micros / STEP_US).unwrap_or(usize::MAX);
        self.0[step.min(STEPS - 1)] += 1;
    }

    fn summary(&self) -> Option<Latency> {
        Some(Latency {
            p50: self.quantile(50)?,
            p99: self.quantile(99)?,
        })
    }

    /// The latency that so many per cent did not exceed, rounded up to a step; `None` if there are none.
    fn quantile(&self, percent: u64) -> Option<Duration> {
        let count: u64 = self.0.iter().sum();
        let rank = (count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let step = self.0.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        let micros = (u64::try_from(step).unwrap_or(u64::MAX) + 1) * STEP_US;
        Some(Duration::from_micros(micros))
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
}
