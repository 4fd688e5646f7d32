//! RTP time, 32 bits that wrap, and media time, which does not.
//!
//! At 90 kHz RTP time wraps every 13 hours. A time is read as the one nearest to the time before it. Called by
//! packer and unpacker. Not the clock of RTCP (`rtcp.rs`), which says what wall time an RTP time is.
//! Invariant: times that differ by less than 2^31 keep their difference.

use std::num::NonZeroU32;

use crate::ticks::rescale;

const PERIOD: i64 = 1 << 32;

/// The RTP time of `ticks` of `timescale`, for a clock whose time zero is `offset`.
#[must_use]
pub fn rtp_time(ticks: i64, timescale: NonZeroU32, clock: NonZeroU32, offset: u32) -> u32 {
    let low = rescale(ticks, timescale, clock).rem_euclid(PERIOD);
    u32::try_from(low)
        .expect("the remainder of 2^32 has 32 bits")
        .wrapping_add(offset)
}

/// Makes RTP times endless.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwrapper {
    last: Option<i64>,
}

impl Unwrapper {
    /// The endless time of `rtp`: the nearest to the one before; of the first one, itself.
    pub fn unwrap(&mut self, rtp: u32) -> i64 {
        let rtp = i64::from(rtp);
        let ticks = self.last.map_or(rtp, |last| {
            let ahead = rtp.wrapping_sub(last).rem_euclid(PERIOD);
            let step = if ahead < PERIOD / 2 {
                ahead
            } else {
                ahead - PERIOD
            };
            last.saturating_add(step)
        });
        self.last = Some(ticks);
        ticks
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use proptest::prelude::*;

    use super::*;
    use crate::ticks::TS_TIMESCALE;

    #[test]
    fn a_time_below_zero_is_far_up() {
        assert_eq!(rtp_time(-1, TS_TIMESCALE, TS_TIMESCALE, 0), u32::MAX);
        assert_eq!(rtp_time(-1, TS_TIMESCALE, TS_TIMESCALE, 5), 4);
        let scale = |n| NonZeroU32::new(n).unwrap();
        assert_eq!(rtp_time(1, scale(10), scale(90_000), 1), 9_001);
    }

    proptest! {
        #[test]
        fn times_go_on_across_the_wrap_in_both_directions(
            start: u32, offset: u32, steps in proptest::collection::vec(-(1_i64 << 31) + 1..1 << 31, 0..20),
        ) {
            let (mut unwrapper, mut ticks) = (Unwrapper::default(), i64::from(start));
            let first = unwrapper.unwrap(rtp_time(ticks, TS_TIMESCALE, TS_TIMESCALE, offset));
            let shift = first - ticks;

            for step in steps {
                ticks += step;
                let rtp = rtp_time(ticks, TS_TIMESCALE, TS_TIMESCALE, offset);
                prop_assert_eq!(unwrapper.unwrap(rtp), ticks + shift);
            }
        }
    }
}
