//! How datagrams get lost: evenly, or in bursts.
//!
//! Bursts follow Gilbert's model (E. N. Gilbert, "Capacity of a Burst-Noise Channel", 1960): two states, and in the bad
//! one a datagram is lost with a probability of its own.
//!
//! ```text
//!            begin
//!    good ──────────▶ bad: lost with `inside`
//!         ◀──────────
//!             end
//! ```
//!
//! Not queues that overflow, which `wan` has. Called by `wan` and `lan`. Invariant: the state moves once per datagram.

use crate::chance::{Probability, Rng};

/// A way of losing datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Each with the same probability.
    Even(Probability),
    /// In bursts.
    Bursts {
        /// That a burst begins, per datagram outside of one.
        begin: Probability,
        /// That it ends, per datagram inside of it.
        end: Probability,
        /// That a datagram inside of it is lost.
        inside: Probability,
    },
}

impl Loss {
    /// Nothing is lost.
    pub const NONE: Self = Self::Even(Probability::NEVER);
}

/// A way of losing and the state it is in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loser {
    loss: Loss,
    in_burst: bool,
}

impl Loser {
    pub(super) const fn new(loss: Loss) -> Self {
        Self {
            loss,
            in_burst: false,
        }
    }

    /// Whether the next datagram is lost.
    pub(super) fn loses(&mut self, rng: &mut Rng) -> bool {
        match self.loss {
            Loss::Even(probability) => rng.hits(probability),
            Loss::Bursts { begin, end, inside } => {
                let turn = if self.in_burst { end } else { begin };
                self.in_burst ^= rng.hits(turn);
                self.in_burst && rng.hits(inside)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::chance::Chance;

    fn losses(loss: Loss) -> Vec<bool> {
        let mut rng = Chance::new(1).split("test", 0);
        let mut loser = Loser::new(loss);
        (0..100_000).map(|_| loser.loses(&mut rng)).collect()
    }

    fn percent(millionths: u32) -> Probability {
        Probability::from_millionths(millionths * 10_000).unwrap()
    }

    #[test]
    fn even_loss_meets_its_rate() {
        let lost = losses(Loss::Even(percent(5)));

        let count = lost.iter().filter(|lost| **lost).count();

        assert!((4_700..5_300).contains(&count), "{count}");
    }

    #[test]
    fn bursts_meet_their_rate_and_their_length() {
        // 1% begin and 24% end: bad for 4% of the time, 4.2 datagrams at once.
        let lost = losses(Loss::Bursts {
            begin: percent(1),
            end: percent(24),
            inside: Probability::ALWAYS,
        });

        let count = lost.iter().filter(|lost| **lost).count();
        let bursts = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count();

        assert!((3_500..4_500).contains(&count), "{count}");
        assert!(
            (35..50).contains(&(count * 10 / bursts)),
            "{count} in {bursts} bursts"
        );
    }
}
