//! How many bytes of frames the rings of a node may hold together.
//!
//! ```text
//!  one ring alone ─▶ may hold its own limit       all together beyond the room ─▶ who holds more than an equal share
//!                                                                                 lets go of its oldest
//! ```
//!
//! Not a reservation: a ring takes what it needs and is cut when there is too little for all, and who had not read that
//! is told how many frames it misses. Called by `ring`. Invariant: what a ring adds it takes away again, at the latest
//! when it is dropped; a ring that keeps to its share is never cut.

use std::sync::atomic::{AtomicUsize, Ordering};

/// See the module's head.
#[derive(Debug)]
pub(crate) struct FrameRoom {
    limit: usize,
    used: AtomicUsize,
    rings: AtomicUsize,
}

impl FrameRoom {
    /// For that many bytes.
    pub(crate) const fn new(limit: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
            rings: AtomicUsize::new(0),
        }
    }

    pub(super) fn open(&self) {
        self.rings.fetch_add(1, Ordering::Relaxed);
    }

    /// A ring that held so much is no more.
    pub(super) fn close(&self, bytes: usize) {
        self.rings.fetch_sub(1, Ordering::Relaxed);
        self.take(bytes);
    }

    pub(super) fn add(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn take(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether a ring that holds so much must let go of some, besides what it is `letting_go` of.
    pub(super) fn is_beyond(&self, bytes: usize, letting_go: usize) -> bool {
        let rings = self.rings.load(Ordering::Relaxed).max(1);
        self.used() - letting_go > self.limit && bytes > self.limit / rings
    }

    /// Bytes, with those that are still in inboxes.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
impl Default for FrameRoom {
    /// Enough for what one ring may hold.
    fn default() -> Self {
        Self::new(super::ring::RING_BYTES_MAX)
    }
}
