//! How long a question takes to be answered over one link, and what waiting times follow from that.
//!
//! The core pings every link and the lane carries pings and pongs, so the lane reads the time in each pong that it
//! opens: no message of its own, and the very path that media and repairs take. Smoothed as RFC 6298 section 2 does it.
//! Not liveness: `core::link`. Called by `link` (samples) and `repair` (times). Invariant: every time it gives is
//! positive and bounded, whatever was sampled.

use std::time::Duration;

use crate::limits::{REORDER_MAX, RETRY_MIN, TRIP_MAX, TRIP_UNKNOWN};

/// See the module's head.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RoundTrip {
    /// Smoothed time and its variation.
    known: Option<(Duration, Duration)>,
}

impl RoundTrip {
    /// A question was answered after `trip`.
    pub(crate) fn sample(&mut self, trip: Duration) {
        if trip > TRIP_MAX {
            return;
        }
        self.known = Some(match self.known {
            None => (trip, trip / 2),
            Some((smoothed, variation)) => {
                let off = smoothed.abs_diff(trip);
                ((smoothed * 7 + trip) / 8, (variation * 3 + off) / 4)
            }
        });
    }

    /// This one, or if nothing is known here, the other.
    pub(crate) const fn or(self, other: Self) -> Self {
        if self.known.is_some() { self } else { other }
    }

    /// It in 64 bits, to the microsecond: for lanes to read while another writes. ArrivalBaseline says that nothing
    /// is known.
    pub(crate) fn to_bits(self) -> u64 {
        let micros =
            |time: Duration| u64::from(u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
        self.known.map_or(0, |(smoothed, variation)| {
            micros(smoothed).max(1) << 32 | micros(variation)
        })
    }

    /// What [`RoundTrip::to_bits`] gave.
    pub(crate) fn from_bits(bits: u64) -> Self {
        let part = |micros: u64| Duration::from_micros(micros & u64::from(u32::MAX));
        Self {
            known: (bits > 0).then(|| (part(bits >> 32), part(bits))),
        }
    }

    /// Whether anything was sampled.
    pub(crate) const fn is_known(&self) -> bool {
        self.known.is_some()
    }

    /// The smoothed time.
    pub(crate) fn time(&self) -> Duration {
        self.known.map_or(TRIP_UNKNOWN, |(smoothed, _)| smoothed)
    }

    /// After this time an answer is not to be expected any more.
    pub(crate) fn retry_after(&self) -> Duration {
        let (smoothed, variation) = self.known.unwrap_or((TRIP_UNKNOWN, Duration::ZERO));
        (smoothed + 4 * variation).max(RETRY_MIN)
    }

    /// Two round trips and four times what they vary by.
    pub(crate) fn twice(&self) -> Duration {
        let (smoothed, variation) = self.known.unwrap_or((TRIP_UNKNOWN, Duration::ZERO));
        smoothed * 2 + variation * 4
    }

    /// No answer comes sooner than this; zero if nothing is known.
    pub(crate) fn least(&self) -> Duration {
        let (smoothed, variation) = self.known.unwrap_or_default();
        smoothed.saturating_sub(2 * variation).max(smoothed / 2)
    }

    /// How long a packet may at least be overtaken by later ones before it counts as lost.
    pub(crate) fn reordering(&self) -> Duration {
        (self.time() / 8).min(REORDER_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn what_another_lane_reads_is_the_same_to_the_microsecond() {
        let mut trip = RoundTrip::default();
        assert_eq!(RoundTrip::from_bits(trip.to_bits()).known, None);

        trip.sample(Duration::from_micros(40_123));
        let read = RoundTrip::from_bits(trip.to_bits());

        assert_eq!(read.time(), trip.time());
        assert!(trip.retry_after() - read.retry_after() < Duration::from_micros(4));
        assert_eq!(RoundTrip::default().or(trip).time(), trip.time());
    }

    #[test]
    fn a_steady_link_is_asked_again_after_one_round_trip() {
        let mut trip = RoundTrip::default();
        for _ in 0..40 {
            trip.sample(millis(40));
        }

        assert_eq!(trip.time(), millis(40));
        assert!(trip.retry_after() < millis(41));
        assert_eq!(trip.reordering(), REORDER_MAX);
    }

    #[test]
    fn an_unsteady_link_is_given_more_time() {
        let mut trip = RoundTrip::default();
        for at in 0..40 {
            trip.sample(millis(20 + 40 * (at % 2)));
        }

        assert!(trip.retry_after() > millis(90), "{trip:?}");
    }

    #[test]
    fn times_stay_bounded_whatever_is_sampled() {
        let mut trip = RoundTrip::default();
        assert_eq!(
            (trip.time(), trip.retry_after()),
            (TRIP_UNKNOWN, TRIP_UNKNOWN)
        );

        trip.sample(TRIP_MAX + millis(1));
        assert_eq!(trip.time(), TRIP_UNKNOWN);
        trip.sample(Duration::ZERO);
        assert_eq!(
            (trip.time(), trip.retry_after()),
            (Duration::ZERO, RETRY_MIN)
        );
    }
}
