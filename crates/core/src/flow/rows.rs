//! What is shown of flows and streams: a row each, in the order of their keys, made when it is taken.
//!
//! Not the meaning of a column (`crate::view`). Called by `Control`, for whoever shows a node. Invariant: a row costs what
//! it shows, however many links, flows and subscriptions there are besides.

use std::ops::Bound;

use levada_wire::{Announce, Bitrate, FlowId, Layer, LinkIndex, NodeId, StreamName};

use super::Flows;
use crate::view::{Demand, FlowRow, FlowState, Seconds, StreamRow, TrackRow};

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
            egresses: carried.granted().collect(),
            subscriptions: self.subscriptions(flow),
            cause: carried.cause(),
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
