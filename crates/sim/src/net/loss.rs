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
//! A burst is a moment of the way, not a number of datagrams: where none was sent for [`BURST_MAX`] it is over, or who
//! sends ten a second would be cut off for half a second each time, and who only dials for several.
//!
//! Not queues that overflow, which `wan` has. Called by `wan` and `lan`. Invariant: the state moves once per datagram.

use std::time::Duration;

use levada_wire::Instant;

use crate::chance::{Probability, Rng};

/// A pause of this length ends a burst.
pub const BURST_MAX: Duration = Duration::from_millis(50);

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
    last: Instant,
}

impl Loser {
    pub(super) const fn new(loss: Loss) -> Self {
        Self {
            loss,
            in_burst: false,
            last: Instant::ZERO,
        }
    }

    /// Whether a datagram that is sent now is lost.
    pub(super) fn loses(&mut self, now: Instant, rng: &mut Rng) -> bool {
        self.in_burst &= now.since(self.last) < BURST_MAX;
        self.last = now;
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
        losses_every(Duration::from_millis(1), loss)
    }

    fn losses_every(pause: Duration, loss: Loss) -> Vec<bool> {
        let mut rng = Chance::new(1).split("test", 0);
        let mut loser = Loser::new(loss);
        let mut now = Instant::ZERO;
        let mut lose = || {
            now += pause;
            loser.loses(now, &mut rng)
        };
        (0..100_000).map(|_| lose()).collect()
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

    #[test]
    fn a_burst_is_over_where_nothing_is_sent_for_a_while() {
        let bursts = Loss::Bursts {
            begin: percent(1),
            end: percent(20),
            inside: Probability::ALWAYS,
        };
        let rows = |lost: &[bool]| lost.windows(2).filter(|pair| pair[0] && pair[1]).count();

        let (often, seldom) = (losses(bursts), losses_every(BURST_MAX, bursts));

        assert!(rows(&often) > 2_000, "bursts are several in a row");
        // One in a hundred, and one in ten thousand by chance.
        assert!(rows(&seldom) < 50, "{}", rows(&seldom));
    }
}
