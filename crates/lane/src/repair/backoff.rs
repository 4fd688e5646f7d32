//! How long one of many waits before it asks for what all of them may have lost.
//!
//! A switch that drops a multicast packet drops it for everybody behind it, and all of them notice at once. If all
//! asked at once, the sender would drown; so each waits a time drawn by itself, and whoever hears the repair meanwhile
//! has nothing left to ask for. Most draw a long time and few a short one (RFC 5401 section 3.2.3 has the reasons), so
//! that with ten members as with a thousand a few are first:
//!
//! ```text
//! share of members  1/128 1/128 1/64  1/32  1/16  1/8   1/4        1/2
//! waits             ├────┼────┼────┼────┼────┼────┼────┼──────────────▶ each an eighth of BACK_OFF_MAX, even within it
//! ```
//!
//! Not whether to wait: `repair` knows how a gap was shown. Called by it. Invariant: equal seeds draw equal times, and
//! none is longer than [`BACK_OFF_MAX`].

use std::time::Duration;

use crate::limits::BACK_OFF_MAX;

const SLOTS: u32 = 8;

/// A generator of one flow: SplitMix64 (Steele, Lea and Flood, 2014). What it draws need not be secret, only different.
#[derive(Clone, Debug)]
pub(crate) struct Backoff(u64);

impl Backoff {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A time to wait.
    pub(crate) fn back_off(&mut self) -> Duration {
        let drawn = self.next();
        // Half of all numbers begin with a one, a quarter with a zero and a one, and so on.
        let slot = SLOTS - 1 - drawn.leading_zeros().min(SLOTS - 1);
        let within = u32::try_from(drawn % 1_000).expect("below a thousand");
        BACK_OFF_MAX * (slot * 1_000 + within) / (SLOTS * 1_000)
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The times that members with different seeds draw, the shortest first.
    fn drawn(members: u64) -> Vec<Duration> {
        let times = (0..members).map(|seed| Backoff::new(seed).back_off());
        let mut times: Vec<_> = times.collect();
        times.sort_unstable();
        times
    }

    #[test]
    fn few_are_first_however_many_there_are() {
        let trip = Duration::from_millis(1);
        for members in [10, 100, 1_000] {
            let times = drawn(members);

            let before_the_repair = times.iter().filter(|&&time| time < times[0] + trip).count();

            assert!(before_the_repair <= 8, "{members}: {before_the_repair}");
        }
    }

    #[test]
    fn a_time_is_drawn_anew_each_time_and_never_too_long() {
        let mut backoff = Backoff::new(1);
        let times: Vec<_> = (0..10_000).map(|_| backoff.back_off()).collect();

        assert!(times.iter().all(|&time| time < BACK_OFF_MAX));
        assert!(times.iter().any(|&time| time < BACK_OFF_MAX / 16));
        assert!(
            times
                .iter()
                .filter(|&&time| time > BACK_OFF_MAX * 7 / 8)
                .count()
                > 4_500
        );
    }

    #[test]
    fn equal_seeds_draw_equal_times() {
        let (mut one, mut other) = (Backoff::new(7), Backoff::new(7));

        assert!((0..100).all(|_| one.back_off() == other.back_off()));
    }
}
