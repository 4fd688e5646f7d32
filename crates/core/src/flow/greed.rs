//! What follows when somebody has, or asks for, as much as may be.
//!
//! A stream that finds no room is counted, said to this node's user, and said to its publisher: an announce refusal
//! goes the way to the origin. Not the counts (`intake`, `catalogue`). Called by [`Flows`]. Invariant: what is said for
//! want of room is bounded by a bucket, so that nobody is made to say more than he is told.

use levada_wire::control::FlowMessage;
use levada_wire::control::flow::{AnnounceRefusal, RefuseReason};
use levada_wire::control::route::HOPS_MAX;
use levada_wire::unknown::Unknown;
use levada_wire::{Announce, LinkIndex};

use super::Flows;
use super::catalogue::instance_of;
use crate::api::Event;
use crate::limits::{FLOWS_PER_ADDRESS_MAX, FULL_WARNING};
use crate::view::CatalogueCounts;

impl Flows {
    /// What became of announces.
    #[must_use]
    pub fn catalogue_counts(&self) -> CatalogueCounts {
        CatalogueCounts {
            streams: self.catalogue.len() as u64,
            refused: self.intake.refused,
        }
    }

    /// Whether those at the address of a stranger use as many flows as they may.
    pub(super) fn is_greedy(&self, link: LinkIndex) -> bool {
        let beside = self.intake.beside(link);
        let used: usize = beside.map(|link| self.carried.flows_over(link)).sum();
        used >= FLOWS_PER_ADDRESS_MAX
    }

    /// An announce found no room.
    pub(super) fn on_full(&mut self, from: LinkIndex, announce: &Announce) {
        let told = self.intake.on_refused(self.now);
        if let (Some(refused), Some(peer)) = (told, self.neighbours.get(&from)) {
            self.event(Event::CatalogueFull {
                peer: *peer,
                name: announce.name.clone(),
                refused,
            });
        }
        if self.intake.may_refuse(self.now) {
            let refusal = AnnounceRefusal {
                of: instance_of(announce),
                node: self.me,
                hops_left: u8::try_from(HOPS_MAX).unwrap_or(u8::MAX),
                reason: RefuseReason::Full,
                unknown: Unknown::default(),
            };
            self.send(from, FlowMessage::AnnounceRefusal(refusal));
        }
    }

    /// Somebody did not take an announce: its publisher is told, if it is here, else whoever is nearer to it.
    pub(super) fn on_announce_refusal(&mut self, link: LinkIndex, refusal: AnnounceRefusal) {
        if refusal.of.origin == self.me {
            self.on_not_listed(refusal);
            return;
        }
        let next = self.toward(&refusal.of).filter(|next| *next != link);
        let Some(next) = next.filter(|_| self.relay && refusal.hops_left > 0) else {
            return;
        };
        if self.intake.may_refuse(self.now) {
            let hops_left = refusal.hops_left - 1;
            let refusal = AnnounceRefusal {
                hops_left,
                ..refusal
            };
            self.send(next, FlowMessage::AnnounceRefusal(refusal));
        }
    }

    fn on_not_listed(&mut self, refusal: AnnounceRefusal) {
        let AnnounceRefusal {
            of, node, reason, ..
        } = refusal;
        let now = self.now;
        let own = self.published.get_mut(&of.name);
        let Some(own) = own.filter(|own| own.of == of) else {
            return;
        };
        let was_said = |at| now.since(at) < FULL_WARNING;
        if own.not_listed_at.is_some_and(was_said) {
            return;
        }
        own.not_listed_at = Some(now);
        let name = of.name;
        self.event(Event::NotListed { name, node, reason });
    }
}
