//! When a frame is due, so that a file plays as fast as it was recorded.
//!
//! The first frame anchors media time to the caller's clock; every other frame is due as much later as its time
//! is. Where times jump the anchor is set anew, and so it is where the caller has fallen so far behind that
//! catching up would be a flood. Not a timer and not an order of frames (`interleave.rs`). Called by file sources
//! and the test card. Invariant: no clock is read; a frame is never due before the one before it was.

use std::time::Duration;

use levada_wire::{Instant, MediaTime};

/// A step of media time beyond this, either way, is a jump.
const JUMP: Duration = Duration::from_secs(10);
/// Tracks of one stream may run this far apart without being a jump backwards.
const SKEW: Duration = Duration::from_secs(2);
/// A caller later than this starts afresh from where it is.
const LATE_MAX: Duration = Duration::from_secs(2);

/// Says when frames are due.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pacer {
    anchor: Option<Anchor>,
}

#[derive(Clone, Copy, Debug)]
struct Anchor {
    media: i128,
    at: Instant,
    /// The newest frame's time and when it was due.
    newest: i128,
    due: Instant,
}

impl Pacer {
    /// A pacer that the first frame anchors.
    #[must_use]
    pub const fn new() -> Self {
        Self { anchor: None }
    }

    /// When the next frame, decoded at `dts`, is due. It may lie behind `now`: then it is due at once.
    pub fn due(&mut self, dts: MediaTime, now: Instant) -> Instant {
        let media = nanos(dts);
        let held = self.anchor.filter(|anchor| !anchor.jumps(media));
        let due = held.map(|anchor| anchor.due_at(media));
        let (anchor, due) = match (held, due) {
            (Some(anchor), Some(due)) if now.since(due) <= LATE_MAX => (anchor, due),
            _ => {
                // Behind what was promised already, if that is later.
                let at = self.anchor.map_or(now, |anchor| anchor.due.max(now));
                (
                    Anchor {
                        media,
                        at,
                        newest: media,
                        due: at,
                    },
                    at,
                )
            }
        };
        let newest = anchor.newest.max(media);
        self.anchor = Some(Anchor {
            newest,
            due,
            ..anchor
        });
        due
    }
}

impl Anchor {
    fn jumps(&self, media: i128) -> bool {
        let step = media - self.newest;
        step > signed(JUMP) || step < -signed(SKEW)
    }

    fn due_at(&self, media: i128) -> Instant {
        let since = u64::try_from((media - self.media).max(0)).unwrap_or(u64::MAX);
        (self.at + Duration::from_nanos(since)).max(self.due)
    }
}

/// Media time in nanoseconds, rounded down.
fn nanos(time: MediaTime) -> i128 {
    (i128::from(time.ticks) * 1_000_000_000).div_euclid(i128::from(time.timescale.get()))
}

fn signed(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ticks::TS_TIMESCALE;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn dts(millis: i64) -> MediaTime {
        MediaTime {
            ticks: millis * 90,
            timescale: TS_TIMESCALE,
        }
    }

    #[test]
    fn frames_are_due_as_far_apart_as_their_times() {
        let mut pacer = Pacer::new();

        assert_eq!(pacer.due(dts(70_000), at(5)), at(5));
        assert_eq!(pacer.due(dts(70_040), at(6)), at(45));
        // Audio a little behind the picture before it is due with it.
        assert_eq!(pacer.due(dts(70_030), at(6)), at(45));
        assert_eq!(pacer.due(dts(71_000), at(100)), at(1_005));
    }

    #[test]
    fn a_jump_of_times_does_not_stop_or_flood() {
        let mut pacer = Pacer::new();
        pacer.due(dts(0), at(0));
        pacer.due(dts(1_000), at(0));

        assert_eq!(pacer.due(dts(11_001), at(1_000)), at(1_000));
        assert_eq!(pacer.due(dts(11_041), at(1_000)), at(1_040));
        assert_eq!(pacer.due(dts(0), at(1_010)), at(1_040));
        assert_eq!(pacer.due(dts(40), at(1_040)), at(1_080));
    }

    #[test]
    fn ten_seconds_of_silence_are_waited_for() {
        let mut pacer = Pacer::new();
        pacer.due(dts(0), at(0));

        assert_eq!(pacer.due(dts(10_000), at(0)), at(10_000));
    }

    #[test]
    fn a_late_caller_catches_up_within_two_seconds_and_starts_afresh_beyond() {
        let mut pacer = Pacer::new();
        pacer.due(dts(0), at(0));

        assert_eq!(pacer.due(dts(40), at(2_040)), at(40));
        assert_eq!(pacer.due(dts(80), at(2_081)), at(2_081));
        assert_eq!(pacer.due(dts(120), at(2_081)), at(2_121));
    }
}
