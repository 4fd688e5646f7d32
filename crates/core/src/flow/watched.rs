//! Which streams look otherwise than when they were taken last: a watch that asks the core nothing while nothing
//! changes.
//!
//! ```text
//!   watch ──▶ every stream is news, by name ──taken in slices──▶ only what changes is noted, once however often
//! ```
//!
//! Not the rows, nor what is taken of the notes (`rows`). Marked by [`super::Flows`] where streams and flows change.
//! Invariant: while nobody watches nothing is noted; at most one note for each stream that is known, or that went
//! since.

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
