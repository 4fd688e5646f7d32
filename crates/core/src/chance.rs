//! Chance, split by purpose: each part draws from its own generator, so that one part's draws never shift another's.
//!
//! Not a source of entropy: everything comes from the seed in [`crate::Settings`]. Called by the parts of this
//! crate. Invariant: same seed and purpose, same draws.

use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// The generator of one purpose.
pub(crate) fn generator(seed: &[u8; 32], purpose: u64) -> ChaCha20Rng {
    let mut rng = ChaCha20Rng::from_seed(*seed);
    rng.set_stream(purpose);
    rng
}

/// A duration drawn evenly between three quarters of `duration` and all of it, so that equal timers of
/// different nodes drift apart.
pub(crate) fn jittered(duration: Duration, rng: &mut ChaCha20Rng) -> Duration {
    let quarter = u64::try_from(duration.as_nanos() / 4).unwrap_or(u64::MAX);
    let less = if quarter == 0 {
        0
    } else {
        rng.next_u64() % quarter
    };
    duration - Duration::from_nanos(less)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jittered_duration_keeps_its_bounds() {
        let mut rng = generator(&[1; 32], 1);

        for _ in 0..1_000 {
            let drawn = jittered(Duration::from_millis(100), &mut rng);
            assert!(drawn > Duration::from_millis(75) && drawn <= Duration::from_millis(100));
        }
    }

    #[test]
    fn purposes_do_not_share_draws() {
        let first = generator(&[1; 32], 1).next_u64();

        assert_eq!(first, generator(&[1; 32], 1).next_u64());
        assert_ne!(first, generator(&[1; 32], 2).next_u64());
    }
}
