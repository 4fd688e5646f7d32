//! How far a child is with a flow: the states, each with what it needs to know.
//!
//! ```text
//!               its turn comes                comes no nearer
//!    Queued ──────────────────▶ CatchingUp ────────────────────▶ Throttled ─── too much waits ───▶ Skipping
//!     ▲ │ └─ the next group begins ──│─│──────────────────────────▶ ▲ ▲ │                          ▲ │ ▲ │
//!     │ │                            │ └─ the cache let go of what it was due ────────────────────▶┘ │ │ │
//!     │ │                            │                              │ └─│─ next group begins, kept ──┘ │ │
//!     │ │ its group                  │ caught up         its bucket │   │ caught up                    │ │
//!     │ │ cannot be joined           ▼                     is empty │   ▼                              │ │
//!     │ └──────────────────────────▶ Live ──────────────────────────┘ ◀─┘                              │ │
//!     └── it can after all ─────────┘ ▲ └── packets did not go out, or wait and are not kept ──────────┘ │
//!                                     └── next group begins, and is not kept in the cache ───────────────┘
//!    Live ──── more comes than its pace lets leave at once ────▶ Paced ──── it was all sent ────▶ Live
//!    Paced ─── its bucket is empty ─▶ Throttled; what waits is a second old ─▶ Skipping
//!    Skipping is for the next group if that is near; if it is not, or does not come, the child goes on without it, and
//!    with a gap (`flow/rhythm.rs`)
//!    ByChannel: hears a multicast channel, and is sent nothing over its link but repairs. AddEgress makes it Queued
//!    or Live; RemoveEgress makes each of the others ByChannel. Where the flow itself catches up, a Live child whose
//!    bucket is empty becomes CatchingUp, not Throttled
//! ```
//!
//! All but `Live` and `ByChannel` are **behind**: what the child is due lies in the flow's cache, once for whoever
//! waits for it, and its **cursor** is the next number that it is sent from there. Not what moves a child from one
//! state to another: that is `behind.rs`, and `join.rs` for newcomers. Called by all of the folder. Invariant: a cursor
//! goes forward only, until the child is live, and what is before `start` was never due.

use std::time::Duration;

use levada_wire::{Instant, Number, OriginTime};

use crate::limits::ROUNDS_UNJUDGED_MAX;

/// See the module's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Sent by multicast channels alone.
    ByChannel,
    /// Sent what comes as it comes.
    Live,
    /// A newcomer that waits for its turn; the group that it would begin with starts there.
    Queued { start: Number },
    /// A newcomer that is sent the newest group, in turn with others.
    CatchingUp {
        start: Number,
        cursor: Number,
        round: Round,
    },
    /// Was sent as much as it was admitted with: goes on as its bucket fills.
    Throttled { start: Number, cursor: Number },
    /// Keeps to what it was admitted with, and is sent no more at a time than its path is known to take.
    Paced { start: Number, cursor: Number },
    /// Goes on with the next group.
    Skipping { start: Number, cursor: Number },
}

/// Whether a newcomer comes nearer: what was there when the round began, and how much that was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Round {
    end: Number,
    packets: u64,
    /// When it began, and when the newest packet was sent that was there then.
    began: Option<(Instant, OriginTime)>,
    /// How many were judged nothing.
    unjudged: u8,
}

impl Progress {
    /// The next number to send from the cache, while it is sent from there.
    pub(crate) const fn cursor(self) -> Option<Number> {
        match self {
            Self::ByChannel | Self::Live => None,
            Self::Queued { start } => Some(start),
            Self::CatchingUp { cursor, .. }
            | Self::Throttled { cursor, .. }
            | Self::Paced { cursor, .. }
            | Self::Skipping { cursor, .. } => Some(cursor),
        }
    }

    /// The same state, with the cursor there.
    pub(crate) fn at(self, cursor: Number) -> Self {
        debug_assert!(self.cursor() <= Some(cursor), "a cursor goes forward only");
        match self {
            Self::ByChannel | Self::Live | Self::Queued { .. } => self,
            Self::CatchingUp { start, round, .. } => Self::CatchingUp {
                start,
                cursor,
                round,
            },
            Self::Throttled { start, .. } => Self::Throttled { start, cursor },
            Self::Paced { start, .. } => Self::Paced { start, cursor },
            Self::Skipping { start, .. } => Self::Skipping { start, cursor },
        }
    }

    /// What is older was never due.
    pub(crate) const fn start(self) -> Number {
        match self {
            Self::ByChannel | Self::Live => Number::ZERO,
            Self::Queued { start }
            | Self::CatchingUp { start, .. }
            | Self::Throttled { start, .. }
            | Self::Paced { start, .. }
            | Self::Skipping { start, .. } => start,
        }
    }

    /// Whether it is due something that lies in the cache, or will.
    pub(crate) const fn is_behind(self) -> bool {
        !matches!(self, Self::ByChannel | Self::Live)
    }
}

impl Round {
    /// The cursor of a newcomer has come to where the flow was when the round began. Another one begins, unless more
    /// has come meanwhile than half of what was there then: then it does not come near enough. Whoever `is_paced` may
    /// come nearer by little: its path bears no more. Packets below `next` are there, the newest of them sent at
    /// `sent`.
    ///
    /// Where the flow comes faster than it was sent, this node is a newcomer itself: who is sent it as fast comes
    /// nearer to where the origin is. So far, and for [`ROUNDS_UNJUDGED_MAX`] rounds at most, nothing is judged.
    pub(crate) fn is_far_as_ever(
        &mut self,
        cursor: Number,
        (next, sent): (Number, OriginTime),
        is_paced: bool,
        now: Instant,
    ) -> bool {
        let packets = next.since(cursor);
        if cursor < self.end || packets == 0 {
            return false;
        }
        let is_fast = self.began.is_some_and(|(at, before)| {
            let sent = u64::from(sent.micros_since(before).max(0).unsigned_abs());
            Duration::from_micros(sent) > now.since(at) * 2
        });
        let is_unjudged = is_fast && self.unjudged < ROUNDS_UNJUDGED_MAX;
        let near = if is_paced {
            self.packets
        } else {
            self.packets / 2
        };
        let is_far = self.began.is_some() && !is_unjudged && packets > near;
        *self = Self {
            end: next,
            packets,
            began: Some((now, sent)),
            unjudged: self.unjudged + u8::from(is_unjudged),
        };
        is_far
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    /// A newcomer that is always 100 packets behind, over rounds of 10 ms in which the flow goes on by that much of its
    /// own time; how many rounds until it is told to go on by itself.
    fn rounds(sent_millis: u32) -> usize {
        let (mut round, mut rounds) = (Round::default(), 0);
        let number = |value: usize| Number::new(value as u64).unwrap();
        loop {
            let now = Instant::from_nanos(10_000_000 * rounds as u64);
            let sent = OriginTime(sent_millis * 1_000 * u32::try_from(rounds).unwrap());
            let cursor = number(100 * rounds);
            if round.is_far_as_ever(cursor, (cursor.plus(100), sent), false, now) {
                return rounds;
            }
            rounds += 1;
        }
    }

    #[test]
    fn who_comes_no_nearer_is_told_after_one_round_unless_the_flow_itself_catches_up() {
        assert_eq!(rounds(10), 1);
        assert_eq!(rounds(80), 1 + usize::from(ROUNDS_UNJUDGED_MAX));
    }
}
