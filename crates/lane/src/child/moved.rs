//! What a child has that moved here from another parent: the flow up to a number, from which it goes on here.
//!
//! ```text
//!   the cache   ▮▮▮ ▮▮▮ ▮▮▮ ▮▮▮ ▮▮▮ next         the cache   ▮▮▮ ▮▮▮ next
//!                        ▲ has: sent from here               not sent: it has it ──▶ ▲ has: sent from here
//! ```
//!
//! A child may be ahead of its new parent, whose way is longer, or which has just begun itself: what comes until then
//! is not sent to it. That is believed for [`MOVED_FOR`] only: who says more than it has misses that long itself, and
//! with it whoever it feeds. Not where it begins, which is `join.rs`. Called by `behind.rs` for each run while there is
//! something to know. Invariant: once it is sent something live, everything is.

use levada_wire::{Instant, Number};

use crate::flow::run::Run;
use crate::limits::MOVED_FOR;

/// See the module's head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    /// All below this is there or under way.
    has: Number,
    until: Instant,
}

impl Moved {
    pub(crate) fn new(has: Number, now: Instant) -> Self {
        Self {
            has,
            until: now + MOVED_FOR,
        }
    }

    /// The first number that it lacks.
    pub(crate) const fn has(&self) -> Number {
        self.has
    }

    /// Whether it has all of a run.
    pub(crate) fn has_all(&self, run: &Run) -> bool {
        run.end() <= self.has
    }

    /// Whether what it has matters no more to a child that is live: a run goes out to it, or its time is over.
    pub(crate) fn is_over(&self, run: &Run, is_late: bool, now: Instant) -> bool {
        now >= self.until || !is_late && !self.has_all(run)
    }
}
