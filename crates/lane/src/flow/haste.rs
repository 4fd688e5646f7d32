//! Whether a flow comes faster than it was sent: then this node is a newcomer itself, or something held it up.
//!
//! Not a rate, and no limit: whom it concerns is for `child` to say. Called by `forward` for each run. Invariant: one
//! packet changes nothing before [`HASTE_STEP`] has passed, and a packet from before the last look never does.

use levada_wire::{Instant, OriginTime};

use crate::limits::{HASTE_KEPT, HASTE_STEP};

/// See the module's head.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Haste {
    /// When it was looked at last, and when the newest packet was sent that was there then.
    looked: Option<(Instant, OriginTime)>,
    fast_until: Instant,
}

impl Haste {
    /// A packet came now that was sent then.
    #[inline]
    pub(crate) fn came(&mut self, sent: OriginTime, now: Instant) {
        let Some((at, before)) = self.looked else {
            self.looked = Some((now, sent));
            return;
        };
        let (passed, of_flow) = (now.since(at), sent.micros_since(before));
        if of_flow > 0 && passed >= HASTE_STEP {
            if u128::from(of_flow.unsigned_abs()) > 2 * passed.as_micros() {
                self.fast_until = now + HASTE_KEPT;
            }
            self.looked = Some((now, sent));
        }
    }

    /// Whether it came at more than twice the pace at which it was sent, a moment ago.
    pub(crate) fn is_fast(&self, now: Instant) -> bool {
        now < self.fast_until
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Packets of each millisecond of the flow, each `micros` after the one before.
    fn come(haste: &mut Haste, from: u32, packets: u32, micros: u64) {
        for at in 0..packets {
            let now = Instant::from_nanos(u64::from(from) * 1_000_000)
                + Duration::from_micros(micros) * at;
            haste.came(OriginTime((from + at) * 1_000), now);
        }
    }

    #[test]
    fn what_comes_at_its_own_pace_is_not_fast_and_a_group_that_is_caught_up_is() {
        let mut haste = Haste::default();
        come(&mut haste, 0, 500, 1_000);
        assert!(!haste.is_fast(Instant::ZERO));

        come(&mut haste, 500, 500, 125);
        let end = Instant::from_nanos(562_000_000);
        assert!(haste.is_fast(end) && !haste.is_fast(end + HASTE_KEPT));

        come(&mut haste, 1_000, 500, 1_000);
        assert!(!haste.is_fast(Instant::from_nanos(1_500_000_000)));
    }

    #[test]
    fn a_few_packets_that_jitter_brought_together_say_nothing() {
        let mut haste = Haste::default();
        come(&mut haste, 0, 100, 1_000);
        come(&mut haste, 100, 16, 0);
        come(&mut haste, 116, 100, 1_000);
        assert!(!haste.is_fast(Instant::ZERO));
    }
}
