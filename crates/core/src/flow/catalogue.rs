//! Which streams are offered, as far as this node has heard.
//!
//! Statements spread epidemically: what is news here is passed on to every other neighbour, what is not stops
//! here. An origin that cannot be reached keeps its place: only a withdraw, a later instance or long absence
//! removes it. Not who carries what (`carried`). Called by [`super::Flows`]. Invariant: per origin and name at
//! most one announce, never one that was withdrawn.

use std::collections::BTreeMap;

use levada_wire::announce::{Announce, SignedAnnounce, SignedWithdraw};
use levada_wire::control::flow::{COLLECTION_MAX, Collection, InstanceRef};
use levada_wire::key::Suite;
use levada_wire::machine::Wakeup;
use levada_wire::{FlowId, InstanceId, Instant, Layer, NodeId, StreamName};

use super::offers::instance_of;
use crate::limits::{STREAMS_MAX, STREAMS_PER_ORIGIN_MAX, UNREACHABLE_KEPT, WITHDRAWN_MAX};

type Key = (StreamName, NodeId);

#[derive(Debug, Default)]
pub(super) struct Catalogue {
    entries: BTreeMap<Key, Entry>,
    per_origin: BTreeMap<NodeId, usize>,
    withdrawn: BTreeMap<Key, SignedWithdraw>,
    /// The flows of all layers of all entries.
    flows: BTreeMap<FlowId, (InstanceRef, Layer, Suite)>,
}

#[derive(Debug)]
struct Entry {
    statement: SignedAnnounce,
    /// Set while the origin cannot be reached.
    forget_at: Option<Instant>,
}

/// What became of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Taken; to be passed on.
    News,
    /// Known already, older than what is known, or beyond a limit.
    Old,
    /// Withdrawn before: whoever said it does not know that.
    Withdrawn,
}

impl Catalogue {
    pub(super) fn take(&mut self, statement: &SignedAnnounce) -> Verdict {
        let announce = statement.content();
        let key = (announce.name.clone(), announce.origin);
        if self.withdrawn(&key) == Some(announce.instance) {
            return Verdict::Withdrawn;
        }
        match self.entries.get(&key) {
            Some(known) if !announce.replaces(known.statement.content()) => return Verdict::Old,
            Some(_) => {}
            None if self.is_full_for(&announce.origin) => return Verdict::Old,
            None => {}
        }
        self.remove(&key);
        *self.per_origin.entry(announce.origin).or_insert(0) += 1;
        let of = instance_of(announce);
        for offer in &announce.layers {
            let flow = announce.flow(offer.layer);
            self.flows
                .insert(flow, (of.clone(), offer.layer, announce.suite));
        }
        self.entries.insert(
            key,
            Entry {
                statement: statement.clone(),
                forget_at: None,
            },
        );
        Verdict::News
    }

    pub(super) fn withdraw(&mut self, statement: &SignedWithdraw) -> Verdict {
        let withdraw = statement.content();
        let key = (withdraw.name.clone(), withdraw.origin);
        if self.withdrawn(&key) == Some(withdraw.instance) {
            return Verdict::Old;
        }
        if self.withdrawn.len() >= WITHDRAWN_MAX {
            self.withdrawn.pop_first();
        }
        self.withdrawn.insert(key.clone(), statement.clone());
        let known = self
            .entries
            .get(&key)
            .map(|entry| entry.statement.content().instance);
        if known == Some(withdraw.instance) {
            self.remove(&key);
        }
        Verdict::News
    }

    fn withdrawn(&self, key: &Key) -> Option<InstanceId> {
        self.withdrawn
            .get(key)
            .map(|statement| statement.content().instance)
    }

    /// What became of an announced stream that was withdrawn: the withdraw, and what is announced now.
    pub(super) fn after(
        &self,
        announce: &Announce,
    ) -> (Option<SignedWithdraw>, Option<SignedAnnounce>) {
        let key = (announce.name.clone(), announce.origin);
        let successor = self.entries.get(&key).map(|entry| entry.statement.clone());
        (self.withdrawn.get(&key).cloned(), successor)
    }

    fn remove(&mut self, key: &Key) {
        let Some(entry) = self.entries.remove(key) else {
            return;
        };
        if let Some(count) = self.per_origin.get_mut(&key.1) {
            *count -= 1;
            if *count == 0 {
                self.per_origin.remove(&key.1);
            }
        }
        let announce = entry.statement.content();
        for offer in &announce.layers {
            self.flows.remove(&announce.flow(offer.layer));
        }
    }

    /// What an announced flow is a flow of.
    pub(super) fn find(&self, flow: FlowId) -> Option<(InstanceRef, Layer, Suite)> {
        self.flows.get(&flow).cloned()
    }

    fn is_full_for(&self, origin: &NodeId) -> bool {
        let of_origin = self.per_origin.get(origin).copied().unwrap_or(0);
        self.entries.len() >= STREAMS_MAX || of_origin >= STREAMS_PER_ORIGIN_MAX
    }

    /// All that is known, in parts that fit a message.
    pub(super) fn collections(&self) -> Vec<Collection> {
        let statements: Vec<_> = self
            .entries
            .values()
            .map(|entry| &entry.statement)
            .collect();
        let parts = statements.chunks(COLLECTION_MAX);
        parts
            .map(|part| Collection {
                statements: part.iter().copied().cloned().collect(),
            })
            .collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Announce> {
        self.entries.values().map(|entry| entry.statement.content())
    }

    /// The announces of that name.
    pub(super) fn named<'a>(&'a self, name: &'a StreamName) -> impl Iterator<Item = &'a Announce> {
        let from = (name.clone(), NodeId([0; 32]));
        let range = self.entries.range(from..);
        range
            .take_while(move |((known, _), _)| known == name)
            .map(|(_, e)| e.statement.content())
    }

    /// Starts or stops the wait for an origin that cannot, or can, be reached.
    pub(super) fn note_reachable(&mut self, now: Instant, origin: &NodeId, reachable: bool) {
        let entries = self
            .entries
            .iter_mut()
            .filter(|((_, node), _)| node == origin);
        for (_, entry) in entries {
            entry.forget_at = match (reachable, entry.forget_at) {
                (true, _) => None,
                (false, None) => Some(now + UNREACHABLE_KEPT),
                (false, at) => at,
            };
        }
    }

    /// Forgets what was unreachable for too long; returns the names.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<StreamName> {
        let over: Vec<Key> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.forget_at.is_some_and(|at| at <= now))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &over {
            self.remove(key);
        }
        over.into_iter().map(|(name, _)| name).collect()
    }

    pub(super) fn wakeup(&self) -> Option<Wakeup> {
        let due = self
            .entries
            .values()
            .filter_map(|entry| entry.forget_at)
            .min()?;
        Some(Wakeup {
            at: due,
            why: "forget stream",
        })
    }
}
