//! The peak of a flow whose publisher declares none: what its origin measures, and a quarter.
//!
//! ```text
//!  default ──3 s measured──▶ measured + 1/4 ──more than declared──▶ measured + 1/4, at once
//!                                  ▲ └──for 60 s less than half of it──▶ lowered
//! ```
//!
//! A peak is what every node on the way reserves, so it is raised at once and lowered rarely; two digits are said of
//! it, so that it does not change with every second. Not the measuring, which the datapath does, and not the announcing
//! (`offers`). Called by `offers`. Invariant: a raise is one by a quarter at least, and between two cuts [`PEAK_KEPT`]
//! passes, so that nobody hears more than a few changes a minute of one flow.

use levada_wire::{Bitrate, Instant};

use crate::limits::{PEAK_KEPT, PEAK_SETTLES};

/// See the module's head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peak {
    declared: Bitrate,
    /// The highest rate since then.
    highest: Bitrate,
    /// When the declared peak was looked at as a whole; `None` before the first measurement.
    since: Option<Instant>,
    /// Whether the default has given way to what was measured.
    is_measured: bool,
}

impl Peak {
    /// Nothing is measured yet.
    pub(super) const fn new(default: Bitrate) -> Self {
        Self {
            declared: default,
            highest: Bitrate(0),
            since: None,
            is_measured: false,
        }
    }

    /// Takes the highest rate of the last second; gives the peak that is to be declared from now on, if it is another.
    pub(super) fn measured(&mut self, now: Instant, rate: Bitrate) -> Option<Bitrate> {
        let since = *self.since.get_or_insert(now);
        self.highest = self.highest.max(rate);
        if rate > self.declared {
            return self.declare(now, with_margin(rate), rate);
        }
        let wanted = with_margin(self.highest);
        let settles = !self.is_measured && now.since(since) >= PEAK_SETTLES;
        if settles {
            self.is_measured = true;
            return self.declare(now, wanted, rate);
        }
        if now.since(since) < PEAK_KEPT {
            return None;
        }
        if wanted.0 <= self.declared.0 / 2 {
            return self.declare(now, wanted, rate);
        }
        (self.since, self.highest) = (Some(now), rate);
        None
    }

    fn declare(&mut self, now: Instant, peak: Bitrate, rate: Bitrate) -> Option<Bitrate> {
        (self.since, self.highest) = (Some(now), rate);
        let is_news = peak != self.declared;
        self.declared = peak;
        is_news.then_some(peak)
    }
}

/// A quarter more, rounded up to two digits.
fn with_margin(rate: Bitrate) -> Bitrate {
    let wanted = rate.0.saturating_add(rate.0.div_ceil(4));
    let mut unit: u64 = 1;
    while wanted / unit >= 100 {
        unit *= 10;
    }
    Bitrate(wanted.div_ceil(unit).saturating_mul(unit))
}

const _: () = assert!(
    PEAK_SETTLES.as_nanos() < PEAK_KEPT.as_nanos() && !PEAK_SETTLES.is_zero(),
    "what is measured first replaces the default before it can be lowered"
);

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: Bitrate = Bitrate(20_000_000);

    /// Measures each second from `from` on; gives what was declared, and in which second.
    fn measure(
        peak: &mut Peak,
        from: u64,
        rates: impl IntoIterator<Item = u64>,
    ) -> Vec<(u64, u64)> {
        let mut declared = Vec::new();
        for (second, rate) in (from..).zip(rates) {
            let now = Instant::from_nanos(second * 1_000_000_000);
            let news = peak.measured(now, Bitrate(rate));
            declared.extend(news.map(|peak| (second, peak.0)));
        }
        declared
    }

    #[test]
    fn after_three_seconds_the_highest_of_them_and_a_quarter_is_declared_with_two_digits() {
        let mut peak = Peak::new(DEFAULT);

        let declared = measure(&mut peak, 1, [3_000_000, 3_210_000, 100_000, 3_000_000]);

        assert_eq!(declared, [(3, 4_100_000)]);
    }

    #[test]
    fn what_exceeds_the_default_is_declared_at_once() {
        let mut peak = Peak::new(DEFAULT);

        let declared = measure(
            &mut peak,
            1,
            [50_000_000, 50_000_000, 50_000_000, 50_000_000],
        );

        assert_eq!(declared, [(1, 63_000_000)]);
    }

    #[test]
    fn more_than_was_declared_raises_the_peak_at_once() {
        let mut peak = Peak::new(DEFAULT);
        measure(&mut peak, 1, [4_000_000; 5]);

        let declared = measure(&mut peak, 6, [5_000_000, 5_000_001, 5_000_001]);

        assert_eq!(declared, [(7, 6_300_000)]);
    }

    #[test]
    fn a_minute_of_less_than_half_lowers_it_and_one_busy_second_does_not_let_it() {
        let mut peak = Peak::new(DEFAULT);
        measure(&mut peak, 1, [4_000_000; 3]);

        let quiet = (0..200).map(|second| if second == 70 { 3_000_000 } else { 1_000_000 });
        let declared = measure(&mut peak, 4, quiet);

        assert_eq!(declared, [(183, 1_300_000)], "not with the busy minute");
    }

    #[test]
    fn a_rate_that_jumps_about_is_declared_a_few_times_a_minute_at_most() {
        let mut peak = Peak::new(DEFAULT);
        let jumps = (0..600).map(|second| 1_000_000 * (1 + second * second % 37));

        let declared = measure(&mut peak, 1, jumps);

        assert!(declared.len() < 10, "{declared:?}");
    }

    #[test]
    fn no_rate_overflows() {
        let mut peak = Peak::new(DEFAULT);

        let declared = measure(&mut peak, 1, [u64::MAX, 0, u64::MAX]);

        assert_eq!(declared, [(1, u64::MAX)]);
        assert_eq!(with_margin(Bitrate(0)), Bitrate(0));
    }
}
