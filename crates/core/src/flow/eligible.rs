//! Eligibility: which link may carry which flow. A link is not eligible while its path is not proven to carry the
//! flow's packet size, or while its breaker is open (`breaker`).
//!
//! | who | does |
//! |---|---|
//! | parent | refuses a child over a link that does not carry the flow's packets; lets it wait while that is being found out |
//! | child | asks for that flow over another neighbour that tells of a way, and asks the link again after a while |
//!
//! The parent decides, because it alone knows the path that the packets take: the one to the child. A child uses an
//! alternative neighbour only under the feasibility condition (`route`), and keeps it for as long as that neighbour
//! advertises a route. Not the search for the path's packet size (`link`). Called by [`Flows`]. Invariants: no child
//! is fed over a link that does not carry the flow's packets, and no link becomes an egress of a flow while it is an
//! upstream of that flow or is asked to be.

use levada_wire::control::flow::RefuseReason;
use levada_wire::{FlowId, LinkIndex, NodeId, PacketSize};

use super::carried::{Carried, ChildState, Upstream};
use super::{Flows, Output};
use crate::api::Paths;
use crate::link::PathSize;
use crate::route::Alternative;

/// Whether packets of a flow get over a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Yes,
    /// It is being found out.
    Maybe,
    No,
}

impl Flows {
    /// Whether packets of that size get over a link to the neighbour.
    pub(super) fn fit(&self, link: LinkIndex, size: PacketSize) -> Fit {
        let path = self.path_sizes.get(&link).copied().unwrap_or_default();
        match (size <= path.size, path.is_trying) {
            (true, _) => Fit::Yes,
            (false, true) => Fit::Maybe,
            (false, false) => Fit::No,
        }
    }

    /// What keeps a flow from a link at the moment, if anything does.
    pub(super) fn obstacle(&self, link: LinkIndex, carried: &Carried) -> Option<RefuseReason> {
        if carried.asked().any(|asked| asked == link) {
            // Two neighbours that move to each other's way would feed each other what neither gets.
            Some(RefuseReason::Loop)
        } else if self.fit(link, carried.packet_size) != Fit::Yes {
            Some(RefuseReason::TooLarge)
        } else if self.is_congested(link) {
            Some(RefuseReason::Congested)
        } else {
            None
        }
    }

    /// Whether a child over that link may be fed now, or must wait, or why it is refused.
    pub(super) fn is_eligible(
        &self,
        link: LinkIndex,
        carried: &Carried,
    ) -> Result<bool, RefuseReason> {
        let size = carried.packet_size;
        let is_new = !carried.children.contains_key(&link);
        if self.way(carried) == Some(link) {
            Err(RefuseReason::Loop)
        } else if self.fit(link, size) == Fit::No {
            Err(RefuseReason::TooLarge)
        } else if is_new && self.is_congested(link) {
            Err(RefuseReason::Congested)
        } else {
            Ok(self.obstacle(link, carried).is_none())
        }
    }

    /// The packet size of a link changed: children are refused, or fed that have waited for it.
    pub(super) fn on_path_size(&mut self, link: LinkIndex, path: PathSize) {
        if !self.neighbours.contains_key(&link) {
            return;
        }
        self.path_sizes.insert(link, path);
        let has_child = |flow: FlowId| {
            let carried = self.carried.get(flow)?;
            let child = carried.children.get(&link)?;
            Some((flow, carried.packet_size, child.state))
        };
        let over = self.carried.over(link).into_iter();
        let children: Vec<_> = over.filter_map(has_child).collect();
        for (flow, size, state) in children {
            match (self.fit(link, size), state) {
                (Fit::No, _) => {
                    self.remove_child(flow, link);
                    self.refuse(flow, link, RefuseReason::TooLarge);
                }
                (Fit::Yes, ChildState::Waiting { .. }) => self.grant_waiting(flow),
                _ => {}
            }
        }
    }

    /// Neighbours besides the selected one tell of other ways to an origin.
    pub(super) fn on_alternatives(&mut self, origin: NodeId, alternatives: Vec<Alternative>) {
        let asks = |carried: &Carried| matches!(carried.upstream, Upstream::Asking { .. });
        let two = |carried: &Carried| {
            let wanted = self.wanted.get(&carried.flow());
            carried.second.is_some() || wanted.is_some_and(|wanted| wanted.paths == Paths::Two)
        };
        let waits =
            |carried: &Carried| !carried.avoided.is_empty() || asks(carried) || two(carried);
        let flows = self.carried.of_origin(&origin);
        self.carried.change(flows, waits, |_| {});
        if alternatives.is_empty() {
            self.alternatives.remove(&origin);
        } else {
            self.alternatives.insert(origin, alternatives);
        }
    }

    /// The link over which a flow should come: the route's, or another while that one refuses it, or while that other
    /// was asked and has not answered.
    pub(super) fn way(&self, carried: &Carried) -> Option<LinkIndex> {
        let route = self.toward(&carried.of)?;
        let is_open = |link: &LinkIndex| !carried.avoided.contains_key(link);
        let alternatives = self.alternatives.get(&carried.of.origin);
        let alternatives = alternatives.map_or(&[][..], Vec::as_slice);
        let feasible = alternatives
            .iter()
            .filter(|alternative| alternative.is_feasible);
        let feasible = feasible.map(|alternative| alternative.link);
        let mut feasible = feasible.filter(|link| self.neighbours.contains_key(link));
        // Who was asked is heard before a nearer way is asked: over ways that flap nobody would come to answer.
        if let Upstream::Asking { link, until } = carried.upstream
            && until > self.now
            && is_open(&link)
            && feasible.clone().any(|other| other == link)
        {
            return Some(link);
        }
        if is_open(&route) {
            return Some(route);
        }
        let detour = feasible.find(is_open);
        // What was feasible when it was chosen is kept while the neighbour tells of a way that does not lead through
        // here.
        let kept = || match carried.upstream {
            Upstream::Flowing { link, .. } => {
                let tells = alternatives
                    .iter()
                    .any(|alternative| alternative.link == link);
                tells.then_some(link).filter(is_open)
            }
            _ => None,
        };
        detour.or_else(kept).or(Some(route))
    }

    /// Whether a neighbour tells of a way to an origin besides the route.
    pub(super) fn is_other_way(&self, origin: &NodeId, link: LinkIndex) -> bool {
        let others = self.alternatives.get(origin).into_iter().flatten();
        others.into_iter().any(|other| other.link == link)
    }

    /// The neighbour refused the flow, does not answer or delivers nothing: for a while another is asked, if any.
    pub(super) fn avoid(&mut self, flow: FlowId, link: LinkIndex, reason: RefuseReason) {
        let until = self.now + crate::limits::LINK_AVOIDED;
        if let Some(carried) = self.carried.get_mut(flow)
            && carried.asked().any(|asked| asked == link)
        {
            carried.avoided.insert(link, (reason, until));
        }
    }

    /// Has links tried with the packet sizes of the streams that are known, if these are others now.
    pub(super) fn tell_sizes(&mut self) {
        if let Some(sizes) = self.catalogue.take_sizes() {
            self.outputs.push_back(Output::Sizes(sizes));
        }
    }
}
