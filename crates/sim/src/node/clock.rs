//! A node's clocks: its monotonic time, which began anywhere, and the wall's, which is a little wrong.
//!
//! Machines get a node's own time, so that one which compares the instants of two nodes fails here. Not the world's
//! time, which only the simulator knows. Called by `world`. Invariant: a node's monotonic time never goes back.

use std::time::Duration;

use levada_wire::{Instant, WallTime};

use crate::chance::Rng;
use crate::scenario::Leap;

/// The wall's time at the start of every run: 2027-01-15, 08:00 UTC.
const EPOCH_MICROS: u64 = 1_800_000_000_000_000;
/// How wrong a wall clock may be.
const WALL_ERROR_MAX: Duration = Duration::from_millis(50);
/// How long a machine may have run when the node starts.
const UPTIME_MAX: Duration = Duration::from_secs(1_000_000);

/// The clocks of one machine; they outlive its process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Own time at the world's start.
    base: Duration,
    /// What the wall clock shows at the world's start, in microseconds.
    wall: u64,
}

impl Clock {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let base = rng.up_to(UPTIME_MAX);
        let error = micros(rng.up_to(WALL_ERROR_MAX * 2));
        Self {
            base,
            wall: EPOCH_MICROS + error - micros(WALL_ERROR_MAX),
        }
    }

    /// The node's own time.
    pub(crate) fn own(&self, world: Instant) -> Instant {
        world + self.base
    }

    /// The world's time at a moment of the node's own.
    pub(crate) fn world(&self, own: Instant) -> Instant {
        own - self.base
    }

    /// What the node's wall clock shows.
    pub(crate) const fn wall(&self, world: Instant) -> WallTime {
        WallTime(self.wall + world.as_micros())
    }

    /// The clocks leap.
    pub(crate) fn leap(&mut self, leap: Leap) {
        if leap.back {
            self.wall = self.wall.saturating_sub(micros(leap.by));
        } else {
            self.wall += micros(leap.by);
            self.base += leap.by;
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Chance;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn own_time_and_the_worlds_translate_both_ways() {
        let mut clock = Clock::new(&mut Chance::new(1).split("clock", 0));
        let now = Instant::from_nanos(1_234_567_891);
        assert_eq!(clock.world(clock.own(now)), now);

        let before = clock.own(now);
        clock.leap(Leap {
            back: false,
            by: SECOND,
        });

        assert_eq!(clock.own(now), before + SECOND);
        assert_eq!(clock.world(clock.own(now)), now);
    }

    #[test]
    fn only_the_wall_clock_leaps_back() {
        let mut clock = Clock::new(&mut Chance::new(1).split("clock", 0));
        let (own, wall) = (clock.own(Instant::ZERO), clock.wall(Instant::ZERO));

        clock.leap(Leap {
            back: true,
            by: SECOND,
        });

        assert_eq!(clock.own(Instant::ZERO), own);
        assert_eq!(clock.wall(Instant::ZERO).0, wall.0 - 1_000_000);
    }
}
