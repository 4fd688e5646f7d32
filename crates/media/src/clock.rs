//! The clock of this process: machines like [`crate::Pacer`] are told the time, and here it is read.
//!
//! Not the wall clock, but for [`wall`], which goes into the test card. Called by sources and players. Invariant: it
//! never goes back.

use std::time::{SystemTime, UNIX_EPOCH};

use levada_wire::{Instant, WallTime};

/// A monotonic clock that starts when it is made.
#[derive(Clone, Copy, Debug)]
pub struct Clock(tokio::time::Instant);

impl Clock {
    /// A clock that shows zero now.
    #[must_use]
    pub fn start() -> Self {
        Self(tokio::time::Instant::now())
    }

    /// The time since the clock was started.
    #[must_use]
    pub fn now(self) -> Instant {
        let nanos = self.0.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Waits until `at`; not at all if that has passed.
    pub async fn wait(self, at: Instant) {
        tokio::time::sleep_until(self.0 + at.since(Instant::ZERO)).await;
    }

    /// Waits until `at`; for ever if there is none.
    pub async fn wait_if(self, at: Option<Instant>) {
        match at {
            Some(at) => self.wait(at).await,
            None => std::future::pending().await,
        }
    }
}

/// What time it is, for people.
#[must_use]
pub fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let micros = since.map_or(0, |since| since.as_micros());
    WallTime(u64::try_from(micros).unwrap_or(u64::MAX))
}
