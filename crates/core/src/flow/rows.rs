//! Rows of flows and streams for tables and JSON: made on request, in the order of their keys.
//!
//! Not the meaning of a column (`crate::view`). Called by `Control`, for tables and watches. Invariant: the cost of a
//! row does not depend on how many links, flows and subscriptions there are.

use std::collections::BTreeSet;
use std::ops::Bound;

use levada_wire::{Announce, Bitrate, FlowId, Layer, LinkIndex, NodeId, StreamName};

use super::Flows;
use super::carried::{Carried, Second};
use super::watched::Notes;
use crate::view::{Demand, FlowRow, FlowState, Seconds, StreamChange, StreamRow, TrackRow};

impl Flows {
    /// The rows of the flows behind `after`.
    pub fn flow_rows(&self, after: Option<FlowId>) -> impl Iterator<Item = FlowRow> {
        let flows = self.carried.behind(after);
        flows.map(|(flow, carried)| FlowRow {
            flow,
            name: carried.of.name.clone(),
            origin: carried.of.origin,
            state: carried.state(),
            peak_bps: carried.peak,
            upstream: carried.upstream.link(),
            second_upstream: carried.second.map(Second::link),
            egresses: egresses(carried),
            subscriptions: self.subscriptions(flow),
            cause: carried.cause(self.paths_of(flow)),
        })
    }

    /// The rows of the streams behind `after`, by name and origin.
    pub fn stream_rows(
        &self,
        after: Option<(StreamName, NodeId)>,
    ) -> impl Iterator<Item = StreamRow> {
        let streams = self.catalogue.behind(after);
        streams.map(|announce| self.stream_row(announce))
    }

    /// The row of one stream, if it is known.
    pub(super) fn stream_row_of(&self, name: &StreamName, origin: NodeId) -> Option<StreamRow> {
        let announce = self.catalogue.of(name, origin)?;
        Some(self.stream_row(announce))
    }

    fn stream_row(&self, announce: &Announce) -> StreamRow {
        let flow = announce.flow(Layer(0));
        let (state, children) = self.carried.shown(flow).unwrap_or((FlowState::Hold, 0));
        let offer = announce.layer(Layer(0));
        let tracks = offer.iter().flat_map(|offer| &offer.tracks);
        StreamRow {
            name: announce.name.clone(),
            origin: announce.origin,
            instance: announce.instance,
            group_base: announce.group_base,
            flow,
            state,
            distance_seconds: Seconds::of(self.distance_to(&announce.origin)),
            is_local: announce.origin == self.me,
            peak_bps: offer.map_or(Bitrate(0), |offer| offer.peak),
            tracks: tracks.map(TrackRow::from).collect(),
            demand: Demand {
                subscriptions: self.subscriptions(flow),
                children,
            },
        }
    }

    /// The origins behind `after`, each with the number of its streams.
    pub fn origins(&self, after: Option<NodeId>) -> impl Iterator<Item = (NodeId, usize)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.catalogue.origins((from, Bound::Unbounded))
    }

    /// The peaks of the flows that go out over a link.
    #[must_use]
    pub fn admitted_over(&self, link: LinkIndex) -> Bitrate {
        self.carried.admitted_over(link)
    }

    /// How many subscriptions a flow serves or is to serve.
    fn subscriptions(&self, flow: FlowId) -> usize {
        let wanted = self.wanted.get(&flow);
        wanted.map_or(0, |wanted| wanted.subscriptions)
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
            for name in self.catalogue.names_of(&origin).into_iter().flatten() {
                self.watched.mark(name, origin);
            }
        }
    }
}

/// The links that a flow goes out over: nearly all of those that want it.
fn egresses(carried: &Carried) -> Vec<LinkIndex> {
    let mut egresses = Vec::with_capacity(carried.children.len());
    egresses.extend(carried.granted());
    egresses
}
