//! Time as the machines see it: a number they are handed, never a clock they can read.
//!
//! Not `std::time::Instant`: that type can only be made by reading a clock, which a simulator does not
//! have and a machine must not do. Production anchors [`Instant`] to a monotonic clock once, at start;
//! the simulator counts from zero. Called by everyone. Invariant: no method of this file reads a clock.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// A moment of one node's monotonic time, in nanoseconds since an epoch of that node's choosing.
///
/// Instants of two nodes do not compare.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The node's epoch.
    pub const ZERO: Self = Self(0);

    /// The moment `nanos` nanoseconds after the epoch.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Microseconds since the epoch, rounded down.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0 / 1_000
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at the end of time, 584 years after the epoch.
    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    /// Saturates at the epoch.
    fn sub(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(nanos))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:06}s",
            self.0 / 1_000_000_000,
            self.0 % 1_000_000_000 / 1_000
        )
    }
}

/// The low 32 bits of the origin's clock in microseconds at hand-over of a burst; wraps every 71.6 minutes.
///
/// It is the origin's *own* time: only differences of two values of one flow mean anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct OriginTime(pub u32);

impl OriginTime {
    /// The origin time of `now` on the origin's own clock.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the field is the low 32 bits"
    )]
    pub const fn from_instant(now: Instant) -> Self {
        Self(now.as_micros() as u32)
    }

    /// Signed microseconds from `earlier` to `self`, right while they are less than 35 minutes apart.
    #[must_use]
    #[expect(
        clippy::cast_possible_wrap,
        reason = "wrapping difference, read as signed on purpose"
    )]
    pub const fn micros_since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }
}

/// Microseconds since the Unix epoch. For display, tokens and the start of an instance; never for logic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(pub u64);

impl WallTime {
    /// Whole seconds since the Unix epoch.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Time since the Unix epoch in units of 50 ms, as `group_base` counts it.
    #[must_use]
    pub const fn as_group_base(self) -> u64 {
        self.0 / 50_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_never_goes_below_zero() {
        let early = Instant::from_nanos(5);
        let late = Instant::from_nanos(9);

        assert_eq!(late.since(early), Duration::from_nanos(4));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(early - Duration::from_secs(1), Instant::ZERO);
    }

    #[test]
    fn origin_time_compares_across_its_wrap() {
        let before = OriginTime(u32::MAX - 10);
        let after = OriginTime(20);

        assert_eq!(after.micros_since(before), 31);
        assert_eq!(before.micros_since(after), -31);
    }
}
