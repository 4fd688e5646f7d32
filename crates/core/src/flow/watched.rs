//! Which streams look otherwise than when they were taken last: a watch that asks the core nothing while nothing changes.
//!
//! ```text
//!   watch ──▶ every stream is news, by name ──taken in slices──▶ only what changes is noted, once however often
//! ```
//!
//! Not the rows (`rows`). Marked by [`Flows`] where streams and flows change, read by `Control`'s driver. Invariant: while
//! nobody watches nothing is noted; at most one note for each stream that is known, or that went since.

use std::collections::BTreeSet;

use levada_wire::{NodeId, StreamName};

use super::Flows;
use super::catalogue::Key;
use crate::view::StreamChange;

/// What is noted for whoever watches.
#[derive(Debug, Default)]
pub(super) struct Watched(Option<Notes>);

#[derive(Debug, Default)]
struct Notes {
    /// Streams that changed.
    changed: BTreeSet<Key>,
    /// The streams behind this one are still to be shown for the first time; none once all were.
    first: Option<Option<Key>>,
}

impl Watched {
    /// A stream is shown again, if anybody watches.
    pub(super) fn mark(&mut self, name: &StreamName, origin: NodeId) {
        if let Some(notes) = &mut self.0 {
            notes.changed.insert((name.clone(), origin));
        }
    }
}

impl Flows {
    /// Begins to note which streams change, all of them first; or ceases to.
    pub fn watch_streams(&mut self, is_watched: bool) {
        self.watched.0 = is_watched.then(|| Notes {
            changed: BTreeSet::new(),
            first: Some(None),
        });
    }

    /// Whether there is anything to take.
    #[must_use]
    pub fn has_stream_changes(&self) -> bool {
        let notes = self.watched.0.as_ref();
        notes.is_some_and(|notes| notes.first.is_some() || !notes.changed.is_empty())
    }

    /// Takes up to `max` of the streams that changed, as they are now.
    pub fn take_stream_changes(&mut self, max: usize) -> Vec<StreamChange> {
        let Some(mut notes) = self.watched.0.take() else {
            return Vec::new();
        };
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some((name, origin)) = notes.changed.pop_first()
        {
            taken.push(match self.stream_row_of(&name, origin) {
                Some(row) => StreamChange::Known(row),
                None => StreamChange::Gone { name, origin },
            });
        }
        if let Some(after) = notes.first.take() {
            let left = max - taken.len();
            let rows: Vec<_> = self.stream_rows(after.clone()).take(left).collect();
            let last = rows.last().map(|row| (row.name.clone(), row.origin));
            notes.first = (rows.len() == left).then_some(last.or(after));
            taken.extend(rows.into_iter().map(StreamChange::Known));
        }
        self.watched.0 = Some(notes);
        taken
    }

    /// All streams of that name are shown again: something besides the core changed.
    pub fn mark_stream(&mut self, name: &StreamName) {
        for announce in self.catalogue.named(name) {
            self.watched.mark(name, announce.origin);
        }
    }

    /// All streams of an origin are shown again, since the way to it is another.
    pub(super) fn mark_origin(&mut self, origin: NodeId) {
        if self.watched.0.is_some() {
            for announce in self.catalogue.behind(None) {
                if announce.origin == origin {
                    self.watched.mark(&announce.name, origin);
                }
            }
        }
    }
}
