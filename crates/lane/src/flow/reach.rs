//! How many packets of a flow there are within its budget: what its window, its list of what is missing and a child's
//! credit of repairs must have room for.
//!
//! Limits that are numbers of packets are too small for a fast flow and its budget: at 100 Mb/s a window of 8,192 is
//! 0.7 s. The peak is what the origin declares, a stranger's word, so each limit has a greatest value, whatever is
//! declared. Not a limit itself: those are in `limits.rs`. Called by the lane when peak or budget change. Invariant:
//! every limit lies between the two values that are named there for it.

use std::time::Duration;

use levada_wire::Bitrate;

use crate::limits::{
    CATCH_UP_HASTE, EARLY_REACH_MAX, KEY_LATE, MISSING_MAX, MISSING_MIN, PACKET_BYTES_MEAN,
    REPAIR_CREDIT, REPAIR_CREDIT_MAX, REPAIR_KEPT, WINDOW_NUMBERS, WINDOW_NUMBERS_MAX,
};

/// See the module's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Numbers that the window remembers: a multiple of 64.
    pub(crate) window: u64,
    /// Numbers that may be missing.
    pub(crate) missing: usize,
}

impl Reach {
    pub(crate) fn of(peak: Bitrate, budget: Duration) -> Self {
        // A late packet, the retries of its hop and what came meanwhile: all that is cached, and the budget again.
        let window = 2 * packets_in(peak, budget + REPAIR_KEPT);
        let window = window.clamp(WINDOW_NUMBERS, WINDOW_NUMBERS_MAX);
        let missing = usize::try_from(packets_in(peak, budget)).unwrap_or(MISSING_MAX);
        Self {
            window: window.next_power_of_two(),
            missing: missing.clamp(MISSING_MIN, MISSING_MAX),
        }
    }
}

/// Repaired packets that a child with that budget may be sent at once.
pub(crate) fn repair_credit(peak: Bitrate, budget: Duration) -> u64 {
    packets_in(peak, budget).clamp(REPAIR_CREDIT, REPAIR_CREDIT_MAX)
}

/// Packets of a newcomer's first group that come before the key does: they come at many times the peak, and the accept
/// that brings the key may have to be sent twice.
pub(crate) fn early_max(peak: Bitrate) -> usize {
    let fast = Bitrate(peak.0.saturating_mul(CATCH_UP_HASTE));
    let packets = usize::try_from(packets_in(fast, KEY_LATE)).unwrap_or(EARLY_REACH_MAX);
    packets.min(EARLY_REACH_MAX)
}

/// How many packets a flow has in that time at most.
fn packets_in(peak: Bitrate, time: Duration) -> u64 {
    let bits = u128::from(peak.0) * time.as_millis() / 1_000;
    u64::try_from(bits / 8 / u128::from(PACKET_BYTES_MEAN)).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::EARLY_PACKETS_MAX;

    const fn mbit(value: u64) -> Bitrate {
        Bitrate(value * 1_000_000)
    }

    #[test]
    fn a_slow_flow_has_the_least_of_everything_and_a_fast_one_what_it_needs() {
        let half = Duration::from_millis(500);
        let slow = Reach::of(mbit(4), half);
        assert_eq!((slow.window, slow.missing), (WINDOW_NUMBERS, MISSING_MIN));
        assert_eq!(repair_credit(mbit(4), half), REPAIR_CREDIT);

        assert!(early_max(mbit(4)) <= EARLY_PACKETS_MAX);
        assert_eq!(early_max(mbit(20)), 1_200);

        let fast = Reach::of(mbit(100), half);
        assert_eq!((fast.window, fast.missing), (65_536, 6_250));
        assert_eq!(repair_credit(mbit(100), half), 6_250);

        let late = Reach::of(mbit(8), Duration::from_secs(10));
        assert_eq!((late.window, late.missing), (32_768, 10_000));
    }

    #[test]
    fn whatever_is_declared_there_are_limits() {
        for peak in [Bitrate(u64::MAX), mbit(100_000)] {
            assert_eq!(early_max(peak), EARLY_REACH_MAX);
            let reach = Reach::of(peak, Duration::from_secs(10));
            assert_eq!(
                (reach.window, reach.missing),
                (WINDOW_NUMBERS_MAX, MISSING_MAX)
            );
            assert_eq!(
                repair_credit(peak, Duration::from_secs(10)),
                REPAIR_CREDIT_MAX
            );
        }
        assert_eq!(Reach::of(Bitrate(0), Duration::ZERO).window, WINDOW_NUMBERS);
    }
}
