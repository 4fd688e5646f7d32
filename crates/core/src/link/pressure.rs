//! The pressure on one link: the rate sent, in thousandths of what a TCP connection would send on the same path.
//!
//! The measure of RFC 8083 section 4.3, by the simplified equation of RFC 5348 section 3.1, for packets of one size s:
//!
//! ```text
//!   TCP: T = s / (RTT * sqrt(2p/3))        here: X = s * packets / time
//!   X / T = packets / time * RTT * sqrt(2p/3)         the size cancels out
//! ```
//!
//! p and the packets come from the counts of pings and pongs over one window of loss. Loss alone does not prove
//! congestion: radio loses at random, and sending less does not help there. A round trip that has grown tells the two
//! apart. Not the decision, which needs the number of flows (`flow::breaker`). Called by [`super::Links`]. Invariant:
//! the pressure of a window without loss is zero.

use std::time::Duration;

use levada_wire::Instant;

use crate::limits::{RTT_GROWN_BY, RTT_KEPT};

/// What one window of loss says of a link, toward the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure {
    /// What was sent, in thousandths of what one TCP connection would send.
    pub tcp_permille: u64,
    /// Whether the round trip has grown: a queue is full somewhere.
    pub has_grown: bool,
}

/// What was sent and lost in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) lasted: Duration,
    pub(super) sent: u64,
    pub(super) lost: u64,
}

/// The least round trip lately: over one to two times [`RTT_KEPT`].
#[derive(Debug, Default)]
pub(super) struct Floor {
    since: Option<Instant>,
    least: Option<Duration>,
    least_before: Option<Duration>,
}

impl Floor {
    pub(super) fn sample(&mut self, now: Instant, trip: Duration) {
        if self.since.is_none_or(|since| now.since(since) >= RTT_KEPT) {
            self.since = Some(now);
            self.least_before = self.least.take();
        }
        self.least = Some(self.least.map_or(trip, |least| least.min(trip)));
    }

    fn has_grown(&self, trip: Duration) -> bool {
        let least = [self.least, self.least_before].into_iter().flatten().min();
        least.is_some_and(|least| trip >= least * 3 / 2 && trip >= least + RTT_GROWN_BY)
    }
}

impl Pressure {
    pub(super) fn of(window: Window, trip: Duration, floor: &Floor) -> Self {
        let Window { lasted, sent, lost } = window;
        // sqrt(2p/3), in thousandths.
        let (sent, lost) = (u128::from(sent), u128::from(lost.min(sent)));
        let root = (2 * lost * 1_000_000 / (3 * sent).max(1)).isqrt();
        let permille = sent * trip.as_micros() * root / lasted.as_micros().max(1);
        Self {
            tcp_permille: u64::try_from(permille).unwrap_or(u64::MAX),
            has_grown: floor.has_grown(trip),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressure(packets_per_second: u64, lost_percent: u64, trip: u64) -> u64 {
        let window = Window {
            lasted: Duration::from_secs(2),
            sent: packets_per_second * 2,
            lost: packets_per_second * 2 * lost_percent / 100,
        };
        Pressure::of(window, Duration::from_millis(trip), &Floor::default()).tcp_permille
    }

    #[test]
    fn pressure_is_rate_round_trip_and_loss() {
        // 8 Mb/s in packets of 1,232 bytes at 10% and 40 ms: TCP sends 0.95 Mb/s.
        assert!(
            (8_300..8_500).contains(&pressure(812, 10, 40)),
            "{}",
            pressure(812, 10, 40)
        );
        assert_eq!(pressure(812, 0, 40), 0);
        assert_eq!(pressure(0, 0, 40), 0);
        let double = 2 * pressure(812, 10, 40);
        let near = double * 99 / 100..=double * 101 / 100;
        assert!(near.contains(&pressure(812, 40, 40)), "four times the loss");
        assert!(near.contains(&pressure(1_624, 10, 40)), "twice the rate");
        assert!(near.contains(&pressure(812, 10, 80)), "twice the way");
    }

    #[test]
    fn a_round_trip_has_grown_beside_the_least_of_late() {
        let mut floor = Floor::default();
        let (now, ms) = (Instant::ZERO, Duration::from_millis(1));
        floor.sample(now, 40 * ms);

        assert!(!floor.has_grown(59 * ms) && floor.has_grown(60 * ms));
        floor.sample(now + RTT_KEPT, 100 * ms);
        assert!(floor.has_grown(100 * ms), "the window before still counts");
        floor.sample(now + RTT_KEPT * 2, 100 * ms);
        assert!(!floor.has_grown(100 * ms), "the path is so long now");
        let mut near = Floor::default();
        near.sample(now, ms);
        assert!(!near.has_grown(15 * ms), "a millisecond is soon doubled");
    }
}
