//! Content secrets on their way from origins to consumers.
//!
//! A consumer's request follows the route to the origin; each node on the way remembers for a moment whom to give
//! the answer to. The answer is sealed to the consumer and signed by the origin: nodes between carry it and
//! learn nothing. Not carry keys, which go one hop with an accept (`requests`). Called by [`super::Flows`].
//! Invariant: only an answer of whoever was asked is passed on, and a grant only if the origin signed it.

use levada_wire::control::FlowMessage;
use levada_wire::control::flow::{
    InstanceRef, KeyGrant, KeyRefusal, KeyRequest, RefuseReason, content_context,
};
use levada_wire::control::route::HOPS_MAX;
use levada_wire::identity::SealedSecret;
use levada_wire::key::ContentSecret;
use levada_wire::unknown::Unknown;
use levada_wire::{LinkIndex, NodeId};

use super::Flows;
use super::carried::Carried;
use crate::limits::{KEY_GRANTS_KEPT_MAX, KEY_PENDING, KEYS_PENDING_MAX};

impl Flows {
    /// Asks the origins for the secrets that are due.
    pub(super) fn ask_for_secrets(&mut self) {
        for (of, tries) in self.keys.due(self.now) {
            let Some(link) = self.way_to_ask(&of, tries) else {
                continue;
            };
            let hops_left = u8::try_from(HOPS_MAX).unwrap_or(u8::MAX);
            let request = KeyRequest {
                of,
                consumer: self.me,
                hops_left,
                unknown: Unknown::default(),
            };
            self.send(link, FlowMessage::KeyRequest(request));
        }
    }

    /// Whom to ask for a secret: whoever the route begins with, then in turn the others that lead there. One of them
    /// may keep what it is to pass on.
    fn way_to_ask(&self, of: &InstanceRef, tries: usize) -> Option<LinkIndex> {
        let route = self.toward(of)?;
        let others = self.alternatives.get(&of.origin).into_iter().flatten();
        let feasible = others.filter(|other| other.is_feasible);
        let is_there = |link: &LinkIndex| self.neighbours.contains_key(link);
        let others = feasible.map(|other| other.link).filter(is_there);
        let ways: Vec<LinkIndex> = std::iter::once(route).chain(others).collect();
        ways.get(tries % ways.len()).copied()
    }

    pub(super) fn on_key_request(&mut self, link: LinkIndex, request: KeyRequest) {
        let KeyRequest {
            of,
            consumer,
            hops_left,
            unknown,
        } = request;
        let refuse = |of, reason| {
            FlowMessage::KeyRefusal(KeyRefusal {
                of,
                consumer,
                reason,
                unknown: Unknown::default(),
            })
        };
        if !self.intake.takes_key_request(self.now, link) {
            self.send(link, refuse(of, RefuseReason::Full));
            return;
        }
        if of.origin == self.me {
            let answer = match self.grant_for(&of, &consumer) {
                Some(grant) => FlowMessage::KeyGrant(grant),
                None => refuse(of, RefuseReason::Unknown),
            };
            self.send(link, answer);
            return;
        }
        let next = self.toward(&of).filter(|next| *next != link);
        let subnet = self.intake.subnet(link);
        let is_news = !self.keys.pending.contains_key(&(of.clone(), consumer));
        let refusal = if !self.relay {
            Some(RefuseReason::NotWilling)
        } else if next.is_none() || hops_left == 0 {
            Some(RefuseReason::NoRoute)
        } else if self.keys.pending.len() >= KEYS_PENDING_MAX
            || is_news && self.keys.shares.is_full(subnet)
        {
            Some(RefuseReason::Full)
        } else {
            None
        };
        match (refusal, next) {
            (None, Some(next)) => {
                let until = self.now + KEY_PENDING;
                self.keys.shares.add((of.clone(), consumer), subnet);
                self.keys.wait((of.clone(), consumer), link, next, until);
                let hops_left = hops_left - 1;
                // spec: WIRE 7.3 fields that this version does not know go on with it
                let request = KeyRequest {
                    of,
                    consumer,
                    hops_left,
                    unknown,
                };
                self.send(next, FlowMessage::KeyRequest(request));
            }
            (reason, _) => {
                self.send(link, refuse(of, reason.unwrap_or(RefuseReason::NoRoute)));
            }
        }
    }

    /// The grant of an instance's secret to a consumer, made once: whoever asks again gets the same.
    fn grant_for(&mut self, of: &InstanceRef, consumer: &NodeId) -> Option<KeyGrant> {
        let published = self
            .published
            .get_mut(&of.name)
            .filter(|own| own.of == *of)?;
        if let Some(grant) = published.grants.get(consumer) {
            return Some(grant.clone());
        }
        let epoch = published.epoch;
        let context = content_context(of, epoch);
        let secret = published.secret.bytes();
        let sealed = SealedSecret::seal(consumer, &context, secret, &mut self.rng)?;
        let grant = KeyGrant::sign(of.clone(), *consumer, epoch, sealed, &self.identity);
        if published.grants.len() >= KEY_GRANTS_KEPT_MAX {
            published.grants.pop_first();
        }
        published.grants.insert(*consumer, grant.clone());
        Some(grant)
    }

    pub(super) fn on_key_grant(&mut self, link: LinkIndex, grant: KeyGrant) {
        if grant.consumer != self.me {
            self.pass_grant_on(link, grant);
            return;
        }
        if !self.keys.is_asked_for(&grant.of) {
            return;
        }
        if !grant.is_signed_by_origin() {
            return;
        }
        let context = content_context(&grant.of, grant.epoch);
        if let Some(opened) = self.identity.open_secret::<32>(&grant.sealed, &context) {
            let opened = ContentSecret::from_bytes(*opened);
            let flows = self.carried.of_origin(&grant.of.origin);
            let is_of = |carried: &Carried| carried.of == grant.of;
            self.carried.change(flows, is_of, |_| {});
            self.keys.hold(grant.of, grant.epoch, opened);
        }
    }

    pub(super) fn on_key_refusal(&mut self, link: LinkIndex, refusal: KeyRefusal) {
        // A consumer simply asks again: what was refused may be allowed, or reachable, by then.
        let of = (refusal.of.clone(), refusal.consumer);
        if self
            .keys
            .pending
            .get(&of)
            .is_some_and(|pending| pending.asked == link)
        {
            self.answer(&of, &FlowMessage::KeyRefusal(refusal));
        }
    }

    /// Passes a grant on to whoever waits for it. Only a genuine one: a false one would take its place.
    fn pass_grant_on(&mut self, link: LinkIndex, grant: KeyGrant) {
        let of = (grant.of.clone(), grant.consumer);
        let asked = self
            .keys
            .pending
            .get(&of)
            .is_some_and(|pending| pending.asked == link);
        if asked && grant.is_signed_by_origin() {
            self.answer(&of, &FlowMessage::KeyGrant(grant));
        }
    }

    fn answer(&mut self, of: &(InstanceRef, NodeId), answer: &FlowMessage) {
        let pending = self.keys.wait_no_more(of);
        for asker in pending.into_iter().flat_map(|pending| pending.askers) {
            self.send(asker, answer.clone());
        }
    }
}
