//! Which child is sent parity, and how much of it: the rule, without any state but whether it is on.
//!
//! ```text
//!   off ── two tries do not fit in the budget, and 1% gets lost ──▶ on
//!   on  ── two tries fit in 7/8 of it, or less than 0.3% gets lost ──▶ off
//! ```
//!
//! A try takes the retry time, and the first begins after the reordering time. Where two fit, asking again repairs
//! nearly all and costs what was lost; parity costs more, and is sent whether something was lost or not. Of a block of
//! k packets with a loss p, k p are expected to be lost; two standard deviations more are sent, half of the block at
//! most. Not the loss (`link::loss`) and not the round trip (`repair::trip`). Called by `encode.rs`. Invariant: of a
//! block of k packets never more than k/2 shards.

use std::time::Duration;

use crate::limits::{PARITY_OFF_PERMILLE, PARITY_ON_PERMILLE, PARITY_SHARE};
use crate::link::loss::Loss;
use crate::repair::trip::RoundTrip;

/// How a child is reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    pub(crate) trip: RoundTrip,
    pub(crate) loss: Loss,
    /// How late packets may be at the child.
    pub(crate) budget: Duration,
}

/// What one child needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    loss: Loss,
    pub(crate) budget: Duration,
}

impl Demand {
    /// What a child needs that is reached like that, given what it needed before; `None` if no parity.
    pub(crate) fn review(before: Option<Self>, reach: Reach) -> Option<Self> {
        let Reach { trip, loss, budget } = reach;
        let two_tries = 2 * trip.retry_after() + trip.reordering();
        let (fits_in, least) = match before {
            None => (budget, Loss::permille(PARITY_ON_PERMILLE)),
            Some(_) => (budget * 7 / 8, Loss::permille(PARITY_OFF_PERMILLE)),
        };
        (two_tries > fits_in && loss >= least).then_some(Self { loss, budget })
    }

    /// How many shards of a block of that many packets it is sent.
    pub(crate) fn shards(self, packets: usize) -> usize {
        let one = u64::from(Loss::ALL.0);
        let lost = packets as u64 * u64::from(self.loss.0);
        // The deviation of a count of rare things is the root of the count.
        let deviation = (lost * one).isqrt();
        let wanted = (lost + 2 * deviation).div_ceil(one);
        usize::try_from(wanted).map_or(usize::MAX, |wanted| wanted.min(packets / PARITY_SHARE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn trip(millis_there_and_back: u64) -> RoundTrip {
        let mut trip = RoundTrip::default();
        for _ in 0..40 {
            trip.sample(millis(millis_there_and_back));
        }
        trip
    }

    fn demand(
        before: Option<Demand>,
        there_and_back: u64,
        permille: u32,
        budget: u64,
    ) -> Option<Demand> {
        let reach = Reach {
            trip: trip(there_and_back),
            loss: Loss::permille(permille),
            budget: millis(budget),
        };
        Demand::review(before, reach)
    }

    #[test]
    fn parity_is_for_links_that_lose_and_are_too_long_for_two_tries() {
        assert!(demand(None, 100, 100, 200).is_some());
        assert!(demand(None, 100, 100, 150).is_some());
        assert!(demand(None, 40, 100, 200).is_none());
        assert!(demand(None, 100, 100, 400).is_none());
        assert!(demand(None, 100, 9, 200).is_none());
    }

    #[test]
    fn what_is_on_stays_on_until_things_are_clearly_better() {
        let on = demand(None, 100, 100, 200);

        assert!(demand(on, 95, 4, 200).is_some());
        assert!(demand(None, 95, 100, 200).is_none());
        assert!(demand(on, 100, 2, 200).is_none());
        assert!(demand(on, 80, 100, 200).is_none());
    }

    #[test]
    fn shards_follow_the_loss_and_stay_below_half_of_the_block() {
        let shards = |permille, packets| {
            let loss = Loss::permille(permille);
            let budget = millis(100);
            Demand { loss, budget }.shards(packets)
        };

        assert_eq!(
            [10, 50, 100, 200].map(|loss| shards(loss, 40)),
            [2, 5, 8, 14]
        );
        assert_eq!(
            [10, 50, 100, 200].map(|loss| shards(loss, 10)),
            [1, 2, 3, 5]
        );
        assert_eq!([1, 2, 3].map(|packets| shards(1_000, packets)), [0, 1, 1]);
        assert!((0..=64).all(|packets| shards(1_000, packets) == packets / PARITY_SHARE));
    }
}
