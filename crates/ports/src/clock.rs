//! The clocks of a node: the one place of a node that reads them.
//!
//! Not passed into the pure half, which is told the time. Called by [`crate::worker`], once per receive, and by
//! the node, which shares one clock among all its parts. Invariant: all copies of a clock agree.

use std::time::{SystemTime, UNIX_EPOCH};

use levada_wire::{Instant, WallTime};

/// Anchors [`Instant`] to the system's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    anchor: std::time::Instant,
}

impl Clock {
    /// A clock whose epoch is now.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "a clock is what reads the time for others"
    )]
    pub fn start() -> Self {
        Self {
            anchor: std::time::Instant::now(),
        }
    }

    /// Time since the epoch, never going back.
    #[must_use]
    pub fn now(&self) -> Instant {
        let nanos = self.anchor.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The system's wall clock, which may be set while we run: for people and for tokens.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "a clock is what reads the time for others"
    )]
    pub fn wall(&self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let micros = since.unwrap_or_default().as_micros();
        WallTime(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_a_clock_agree_and_do_not_go_back() {
        let clock = Clock::start();
        let copy = clock;

        let first = clock.now();
        let second = copy.now();

        assert!(first <= second);
        assert!(clock.wall() > WallTime(1_600_000_000_000_000));
    }
}
