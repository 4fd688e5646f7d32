//! Where an egress that is behind stands, and why.
//!
//! ```text
//!            in a row ──turn──▶ Joins ──caught up─────────────────────────▶ live
//!   Waits ───┤                    └──comes no nearer───▶ Held ──caught up──▶ live ──bucket empty──▶ Held
//!            └──next group begins──────────────────────▶ Held                        too much waits │
//!                                                          ▲──────next group begins────── Skips ◀───┘
//! ```
//!
//! Not what moves it: `flow::egress` does as runs come, [`crate::pace`] as time passes. Called by both. Invariant: while
//! an egress is behind, its cursor goes forward only.

use levada_wire::Number;

/// Why an egress is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// A newcomer that waits for its turn, or for the next group.
    Waits,
    /// A newcomer that is being sent the newest group.
    Joins,
    /// It was sent as much as it was admitted with.
    Held,
    /// It goes on with the next group.
    Skips,
}

/// Where an egress that is behind goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behind {
    /// What is older was never due.
    pub(crate) start: Number,
    /// The next number to send, if it comes.
    pub(crate) cursor: Number,
    pub(crate) why: Why,
    pub(crate) round: Round,
}

/// Whether a newcomer comes nearer: what was there when the round began, and how much that was.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Round {
    end: Number,
    packets: u64,
}

impl Behind {
    /// It goes on at `cursor`, and nothing from there on is too old for it.
    pub(crate) fn at(cursor: Number, why: Why) -> Self {
        Self {
            start: cursor,
            cursor,
            why,
            round: Round::default(),
        }
    }

    /// The cursor of a newcomer has come to where the flow was when the round began. Another one begins, unless more has
    /// come meanwhile than half of what was there then: then it does not come near enough. Packets below `next` are there.
    pub(crate) fn is_far_as_ever(&mut self, next: Number) -> bool {
        let packets = next.since(self.cursor);
        if self.cursor < self.round.end || packets == 0 {
            return false;
        }
        let is_first = self.round.end == Number::ZERO;
        let is_far = !is_first && packets > self.round.packets / 2;
        self.round = Round { end: next, packets };
        is_far
    }
}
