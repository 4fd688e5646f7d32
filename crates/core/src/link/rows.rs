//! Rows of links for tables and JSON: made on request, in the order of their numbers.
//!
//! Not the meaning of a column (`crate::view`), and not what the flows know of a link, which `Control` adds. Called by
//! `Control`. Invariant: a row costs what it shows.

use std::ops::Bound;

use levada_wire::LinkIndex;

use super::{Link, Links};
use crate::view::{LinkRow, LinkState, Ratio, Remote, Seconds};

impl Links {
    /// The rows of the links behind `after`, by their numbers.
    pub fn rows(&self, after: Option<LinkIndex>) -> impl Iterator<Item = LinkRow> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let links = self.links.range((from, Bound::Unbounded));
        links.map(|(index, link)| link.row(*index))
    }

    /// The rows of the neighbours to which there is no link.
    pub fn neighbour_rows(&self) -> impl Iterator<Item = LinkRow> {
        self.dialer.rows()
    }
}

impl Link {
    fn row(&self, index: LinkIndex) -> LinkRow {
        let remote = Remote::Address(self.remote);
        let row = LinkRow {
            link: Some(index),
            peer: Some(self.peer),
            ..LinkRow::to(remote, LinkState::Greeting)
        };
        let Some(up) = self.up() else { return row };
        let (liveness, rtt) = (&up.liveness, up.liveness.rtt());
        let loss = |permille| rtt.map(|_| Ratio { permille });
        LinkRow {
            name: up.name.clone(),
            state: liveness.state(),
            rtt_seconds: rtt.map(Seconds),
            loss_in_ratio: loss(liveness.loss_in_permille()),
            loss_out_ratio: loss(liveness.loss_out_permille()),
            is_relay: up.relay,
            packet_bytes: Some(up.size.told()),
            is_packet_size_proven: up.size.is_proven(),
            ..row
        }
    }
}
