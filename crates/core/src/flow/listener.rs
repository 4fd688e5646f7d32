//! A neighbour that is told of streams: how far it was told, and how much it may be told now.
//!
//! Not what it is told (`catalogue`) and not the telling (`telling`). Kept by [`super::Flows`]. Invariant: a cursor
//! only moves on.

use crate::credit::{Bucket, Credit};
use crate::limits::{TELLING_BURST, TELLING_BYTES_MAX, TELLING_PER_SECOND};

/// How far a neighbour has been told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    /// The last place that it was told.
    pub(super) at: u64,
    /// The last place when its link came up: what is before is told in collections, and nothing that is over.
    pub(super) begins: u64,
}

/// A neighbour that is told.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) cursor: Cursor,
    pub(super) credit: Credit,
}

impl Listener {
    pub(super) const fn new(cursor: Cursor) -> Self {
        let bucket = Bucket::new(TELLING_BURST, TELLING_PER_SECOND);
        Self {
            cursor,
            credit: Credit::new(TELLING_BYTES_MAX, bucket),
        }
    }
}
