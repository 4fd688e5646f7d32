//! Relief of a congested link: cuts its newest flows, and admits them again one by one; and what is said of a slow one.
//!
//! Not the timing (`breaker`), and not the measurement (`link`). Called by [`Flows`] for each window of loss, and by
//! `requests` before a child is admitted. Invariant: a link without children is never congested.

use std::time::Duration;

use levada_wire::control::flow::RefuseReason;
use levada_wire::{FlowId, Instant, LinkIndex};

use super::Flows;
use super::carried::ChildState;
use crate::api::Event;
use crate::link::Pressure;

impl Flows {
    /// Whether the breaker of a link keeps one more flow out.
    #[must_use]
    pub fn is_congested(&self, link: LinkIndex) -> bool {
        let breaker = self.breakers.get(&link);
        breaker.is_some_and(|breaker| !breaker.is_closed(self.now))
    }

    /// A child is fed over the link from now on.
    pub(super) fn note_let_in(&mut self, link: LinkIndex) {
        if let Some(breaker) = self.breakers.get_mut(&link) {
            breaker.let_in(self.now);
        }
    }

    /// What a child waits is shorter than its largest picture takes at the pace of its path.
    pub(super) fn on_slow(
        &mut self,
        flow: FlowId,
        link: LinkIndex,
        (takes, budget): (Duration, Duration),
    ) {
        let peer = self.neighbours.get(&link).copied();
        let carried = self.carried.get(flow);
        let carried = carried.filter(|carried| carried.children.contains_key(&link));
        if let Some((peer, carried)) = peer.zip(carried) {
            let name = carried.of.name.clone();
            self.event(Event::PathTooSlow {
                name,
                peer,
                takes,
                budget,
            });
        }
    }

    /// A window of loss of a link says at which pressure this node sends over it.
    pub(super) fn on_pressure(&mut self, link: LinkIndex, pressure: Pressure) {
        let Some(peer) = self.neighbours.get(&link).copied() else {
            return;
        };
        let fed = |flow: FlowId| {
            let child = self.carried.get(flow)?.children.get(&link)?;
            (child.state == ChildState::Granted).then_some((child.since, flow))
        };
        let over = self.carried.over(link).into_iter();
        let mut fed: Vec<(Instant, FlowId)> = over.filter_map(fed).collect();
        let breaker = self.breakers.entry(link).or_default();
        if fed.is_empty() {
            // What is lost of pings and requests for repair is no congestion by flows that could be cut.
            breaker.start_over();
            return;
        }
        if !breaker.note(self.now, pressure, fed.len()) {
            return;
        }
        let pause = breaker.pause();
        fed.sort_unstable();
        let cut = fed.split_off(fed.len() / 2);
        for (_, flow) in &cut {
            self.remove_child(*flow, link);
            self.refuse(*flow, link, RefuseReason::Congested);
        }
        self.event(Event::Congested {
            link,
            peer,
            flows: cut.len(),
            pause,
        });
    }
}
