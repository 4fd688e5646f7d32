//! Chance: one seed for a whole run, split into generators that do not disturb each other.
//!
//! Each purpose (one WAN link, one node's start, one fault) draws from a generator of its own. A change that draws once
//! more for one purpose then leaves all others as they were, so that a seed keeps most of its meaning while code
//! changes. Not for secrets: a run must be repeatable. Called by everything in this crate that is not certain.
//! Invariant: no chance comes from anywhere else.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// The seed of a run, from which all generators are made.
#[derive(Clone, Copy, Debug)]
pub struct Chance {
    seed: u64,
}

impl Chance {
    /// All of a run's chance.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The generator for one purpose, told apart from others of the same kind by `index`.
    #[must_use]
    pub fn split(&self, purpose: &str, index: u64) -> Rng {
        let mut stream = Fnv64::default();
        stream.write(purpose.as_bytes());
        stream.write(&index.to_be_bytes());
        let mut generator = ChaCha8Rng::seed_from_u64(self.seed);
        generator.set_stream(stream.0);
        Rng(generator)
    }
}

/// One generator.
#[derive(Clone, Debug)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// A number from zero to `bound - 1`; zero if `bound` is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.0.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64)
            .expect("a product of two 64-bit numbers, shifted by 64, has 64 bits")
    }

    /// A duration from zero to `most`, both included, to the nanosecond.
    pub fn up_to(&mut self, most: Duration) -> Duration {
        let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX - 1);
        Duration::from_nanos(self.below(nanos + 1))
    }

    /// Whether something of this probability happens. Draws nothing where the answer is certain.
    pub fn hits(&mut self, probability: Probability) -> bool {
        match probability {
            Probability::NEVER => false,
            Probability::ALWAYS => true,
            Probability(millionths) => self.below(1_000_000) < u64::from(millionths),
        }
    }

    /// Random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}

/// How likely something is, in millionths: no float takes part in a run, so that every machine rounds alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probability(u32);

impl Probability {
    /// It does not happen.
    pub const NEVER: Self = Self(0);
    /// It happens each time.
    pub const ALWAYS: Self = Self(1_000_000);

    /// The probability of `millionths` in a million, or `None` above a million.
    #[must_use]
    pub const fn from_millionths(millionths: u32) -> Option<Self> {
        if millionths <= 1_000_000 {
            Some(Self(millionths))
        } else {
            None
        }
    }

    /// Millionths.
    #[must_use]
    pub const fn as_millionths(self) -> u32 {
        self.0
    }
}

/// FNV-1a with 64 bits: spreads names over generators. Not for anything that somebody may attack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fnv64(pub(crate) u64);

impl Default for Fnv64 {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv64 {
    /// Takes more bytes in.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_repeats_and_purposes_do_not_share() {
        let draw = |seed, purpose, index| Chance::new(seed).split(purpose, index).below(u64::MAX);

        assert_eq!(draw(7, "wan", 0), draw(7, "wan", 0));
        assert_ne!(draw(7, "wan", 0), draw(7, "wan", 1));
        assert_ne!(draw(7, "wan", 0), draw(7, "lan", 0));
        assert_ne!(draw(7, "wan", 0), draw(8, "wan", 0));
    }

    #[test]
    fn a_probability_is_met_in_the_long_run() {
        let mut rng = Chance::new(1).split("test", 0);
        let tenth = Probability(100_000);

        let hits = (0..10_000).filter(|_| rng.hits(tenth)).count();

        assert!((900..1_100).contains(&hits), "{hits} of 10,000");
        assert!(!rng.hits(Probability::NEVER));
        assert!(rng.hits(Probability::ALWAYS));
    }

    #[test]
    fn draws_stay_below_their_bound() {
        let mut rng = Chance::new(1).split("test", 0);

        assert!((0..1_000).all(|_| rng.below(3) < 3));
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.up_to(Duration::ZERO), Duration::ZERO);
    }
}
