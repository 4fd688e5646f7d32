//! The breaker of a link (RFC 8083): while the pressure on a path is too high, its newest flows
//! are cut, and come back slowly.
//!
//! ```text
//!           3 windows too hard            the pause is over
//!   closed ───────────────────▶ open ───────────────────────▶ half: one flow at a time is admitted again,
//!     ▲                          ▲  newer half of the flows       each watched for 3 windows
//!     │                          │  refused as congested              │
//!     │                          └──── too hard again: twice as long ─┤
//!     └─────────────────── ten minutes without ───────────────────────┘
//! ```
//!
//! A link with n flows may have the pressure of n times ten TCP connections, since RFC 8083 judges each flow by
//! itself; twice that while the round trip has not grown, because loss without a queue is mostly the path's own and
//! repair is made for it. Not the measure (`link`), and not what is cut (`congestion`). Called by `congestion`.
//! Invariant: a link that was cut is not given more before its pause is over.

use std::time::Duration;

use levada_wire::Instant;

use crate::limits::{
    BREAKER_CALM, BREAKER_PAUSE_MAX, BREAKER_PAUSE_MIN, BREAKER_STEP, BREAKER_TCP,
    BREAKER_TCP_STEADY, BREAKER_WINDOWS,
};
use crate::link::Pressure;

/// The breaker of one link.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Windows in a row that were too hard.
    windows: u32,
    /// The last time it opened, how long that pause is, and when the next flow is admitted.
    opened: Option<Opened>,
}

#[derive(Clone, Copy, Debug)]
struct Opened {
    at: Instant,
    pause: Duration,
    next_at: Instant,
}

impl Breaker {
    /// Takes a window; says whether the breaker opens.
    pub(super) fn note(&mut self, now: Instant, pressure: Pressure, flows: usize) -> bool {
        let each = if pressure.has_grown {
            BREAKER_TCP
        } else {
            BREAKER_TCP_STEADY
        };
        let limit = each * 1_000 * flows as u64;
        self.windows = if pressure.tcp_permille > limit {
            self.windows + 1
        } else {
            0
        };
        if self.windows < BREAKER_WINDOWS {
            return false;
        }
        self.windows = 0;
        let before = self.opened.filter(|opened| !opened.is_over(now));
        let pause = before.map_or(BREAKER_PAUSE_MIN, |opened| {
            (opened.pause * 2).min(BREAKER_PAUSE_MAX)
        });
        self.opened = Some(Opened {
            at: now,
            pause,
            next_at: now + pause,
        });
        true
    }

    /// A window in which nothing was fed that could be cut: what was too hard before is no row any more.
    pub(super) const fn start_over(&mut self) {
        self.windows = 0;
    }

    /// How long nothing is admitted since it opened.
    pub(super) fn pause(&self) -> Duration {
        self.opened.map_or(BREAKER_PAUSE_MIN, |opened| opened.pause)
    }

    /// Whether one more flow may be admitted.
    pub(super) fn is_closed(&self, now: Instant) -> bool {
        self.opened.is_none_or(|opened| opened.next_at <= now)
    }

    /// A flow is admitted: the next one waits until it has shown how much the link bears.
    pub(super) fn let_in(&mut self, now: Instant) {
        self.opened = self.opened.filter(|opened| !opened.is_over(now));
        if let Some(opened) = &mut self.opened {
            opened.next_at = opened.next_at.max(now + BREAKER_STEP);
        }
    }
}

impl Opened {
    /// Whether it is so long ago that it says nothing any more.
    fn is_over(&self, now: Instant) -> bool {
        now.since(self.at) >= self.pause + BREAKER_CALM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pause_is_twice_as_long_up_to_the_limit_and_forgotten_after_calm() {
        let hard = Pressure {
            tcp_permille: u64::MAX,
            has_grown: true,
        };
        let mut breaker = Breaker::default();
        let mut now = Instant::ZERO;
        let mut open = |breaker: &mut Breaker, wait: Duration| {
            now += wait;
            let opened: Vec<bool> = (0..BREAKER_WINDOWS)
                .map(|_| breaker.note(now, hard, 1))
                .collect();
            assert_eq!(opened.iter().filter(|opened| **opened).count(), 1);
            breaker.opened.map(|opened| opened.pause)
        };

        let pauses: Vec<_> = (0..8)
            .map(|_| open(&mut breaker, BREAKER_PAUSE_MAX))
            .collect();
        let after_calm = open(&mut breaker, BREAKER_PAUSE_MAX + BREAKER_CALM);

        assert_eq!(
            pauses[..2],
            [10, 20].map(|secs| Some(Duration::from_secs(secs)))
        );
        assert_eq!(pauses[5..], [Some(BREAKER_PAUSE_MAX); 3]);
        assert_eq!(after_calm, Some(BREAKER_PAUSE_MIN));
    }
}
