//! The set of streams whose row changed since a watch took it last: while nothing changes, a watch costs the core
//! nothing.
//!
//! ```text
//!   watch ──▶ every stream is news, by name ──taken in slices──▶ only what changes is noted, once however often
//! ```
//!
//! Not the rows, nor the taking of them (`rows`). Marked by [`super::Flows`] where streams and flows change.
//! Invariant: nothing is recorded without a watch, and each stream is recorded once at most.

use std::collections::BTreeSet;

use levada_wire::{NodeId, StreamName};

use super::catalogue::Key;

/// What is noted for whoever watches.
#[derive(Debug, Default)]
pub(super) struct Watched(pub(super) Option<Notes>);

#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Streams that changed.
    pub(super) changed: BTreeSet<Key>,
    /// The streams behind this one are still to be shown for the first time; none once all were.
    pub(super) first: Option<Option<Key>>,
}

impl Watched {
    /// A stream is shown again, if anybody watches.
    pub(super) fn mark(&mut self, name: &StreamName, origin: NodeId) {
        if let Some(notes) = &mut self.0 {
            notes.changed.insert((name.clone(), origin));
        }
    }
}
