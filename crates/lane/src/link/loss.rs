//! How many of the datagrams sent over a link get lost.
//!
//! A pong says how many datagrams its asker had sent before the ping and how many of them had arrived, so the lane that
//! pings reads the loss of the link in each pong that it opens: a difference of two counts that never guess, whatever
//! repair made good. Not the verdict on the link: `core::link` has its own. Called by `link.rs`; read by
//! `repair::parity`. Invariant: between 0 and [`Loss::ALL`], whatever a peer says.

use crate::limits::{LOSS_SAMPLE, LOSS_WEIGHT};

/// A part of the datagrams, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Loss(pub(crate) u32);

impl Loss {
    /// All of them.
    pub(crate) const ALL: Self = Self(1_000_000);

    /// So many of a thousand.
    pub(crate) const fn permille(value: u32) -> Self {
        Self(value * 1_000)
    }
}

/// Follows the loss of one link. See the module's head.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Follower {
    /// What the last pong said.
    last: Option<(u64, u64)>,
    /// Of the sample that is not full yet.
    sent: u64,
    arrived: u64,
    /// Smoothed, in millionths. Below zero for a moment when datagrams came that seemed to be lost.
    smoothed: i64,
}

impl Follower {
    /// A pong says that of `sent` datagrams `arrived` had come; gives the loss when there is a new sample.
    pub(crate) fn sample(&mut self, sent: u64, arrived: u64) -> Option<Loss> {
        let (sent_before, arrived_before) = *self.last.get_or_insert((sent, arrived));
        // An older pong that was overtaken says nothing new.
        let more_sent = sent.checked_sub(sent_before)?;
        let more_arrived = arrived.checked_sub(arrived_before)?;
        self.last = Some((sent, arrived));
        self.sent = self.sent.saturating_add(more_sent);
        self.arrived = self.arrived.saturating_add(more_arrived);
        if self.sent < LOSS_SAMPLE {
            return None;
        }
        let all = i64::from(Loss::ALL.0);
        let part = u128::from(self.arrived) * u128::from(Loss::ALL.0) / u128::from(self.sent);
        let lost = all - i64::try_from(part).unwrap_or(i64::MAX).min(2 * all);
        self.smoothed += (lost - self.smoothed) / LOSS_WEIGHT;
        (self.sent, self.arrived) = (0, 0);
        let loss = u32::try_from(self.smoothed.max(0)).unwrap_or(u32::MAX);
        Some(Loss(loss.min(Loss::ALL.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is known after so many pongs, each after 80 datagrams of which so many of a thousand are lost.
    fn after(follower: &mut Follower, pongs: u64, permille: u64) -> Option<Loss> {
        let (mut sent, mut arrived) = follower.last.unwrap_or_default();
        let mut known = None;
        for _ in 0..pongs {
            sent += 80;
            arrived += 80 * (1_000 - permille) / 1_000;
            known = follower.sample(sent, arrived).or(known);
        }
        known
    }

    #[test]
    fn the_loss_of_a_link_is_known_within_seconds() {
        let mut follower = Follower::default();
        assert_eq!(after(&mut follower, 30, 0), Some(Loss(0)));

        let known = after(&mut follower, 60, 100);

        assert!(known > Some(Loss::permille(90)) && known <= Some(Loss::permille(110)));
        assert!(after(&mut follower, 100, 0) < Some(Loss::permille(3)));
    }

    #[test]
    fn datagrams_that_were_only_late_do_not_count() {
        let mut follower = Follower::default();
        follower.sample(0, 0);

        follower.sample(300, 250);
        let known = follower.sample(600, 600);

        assert!(known < Some(Loss::permille(10)), "{known:?}");
    }

    #[test]
    fn a_pong_that_was_overtaken_changes_nothing() {
        let mut follower = Follower::default();
        follower.sample(0, 0);
        follower.sample(200, 200);

        assert_eq!(follower.sample(100, 100), None);
        assert_eq!(follower.sample(256, 256), Some(Loss(0)));
    }

    #[test]
    fn a_peer_that_lies_is_believed_within_bounds() {
        let lies = [
            (300, 9_000),
            (u64::MAX, 9_001),
            (0, 0),
            (u64::MAX, u64::MAX),
            (300, 1),
        ];
        for first in lies {
            for second in lies {
                let mut follower = Follower::default();
                for (sent, arrived) in [(0, 0), first, second, (u64::MAX, u64::MAX)] {
                    let loss = follower.sample(sent, arrived);
                    assert!(
                        loss.is_none_or(|loss| loss <= Loss::ALL),
                        "{first:?} {second:?}"
                    );
                }
            }
        }
    }
}
