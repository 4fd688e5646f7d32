//! Rows of channels for tables and JSON: how each stream reaches a node of the site.
//!
//! Not the meaning of a column (`crate::view`). Called by `Control`. Invariant: a row costs what it shows.

use levada_wire::NodeId;

use super::Channels;
use super::border::{Cause, Mode};
use super::sending::Member;
use crate::view::Reception;

impl Channels {
    /// How streams reach a node: this one, or one that it sends to.
    #[must_use]
    pub fn receptions(&self, node: NodeId) -> Vec<Reception> {
        if node == self.me {
            return self.own();
        }
        let peers = self.around.peers.iter();
        let links = peers.filter(|(_, peer)| peer.node == node);
        let flows = links.filter_map(|(link, _)| Some((*link, self.by_link.get(link)?)));
        let flows = flows.flat_map(|(link, flows)| flows.iter().map(move |flow| (link, *flow)));
        let rows = flows.filter_map(|(link, flow)| {
            let (outlet, member) = self.sending.get(&flow)?.member(link)?;
            let (mode, cause) = match member {
                Member::By => (Mode::Multicast, Cause::Heard),
                Member::Own { cause, .. } => (Mode::Unicast, cause),
            };
            let name = &self.shapes.get(&flow)?.name;
            Some(Reception {
                stream: name.clone(),
                mode,
                cause: cause.to_string(),
                channel: outlet.channel.address.ip().to_string(),
            })
        });
        rows.collect()
    }

    fn own(&self) -> Vec<Reception> {
        let rows = self.receiving.iter().filter_map(|(flow, receiving)| {
            let joined = receiving.joined.as_ref()?;
            let (mode, cause) = receiving.mode();
            Some(Reception {
                stream: self.shapes.get(flow)?.name.clone(),
                mode,
                cause: cause.to_string(),
                channel: joined.channel.address.ip().to_string(),
            })
        });
        rows.collect()
    }
}
