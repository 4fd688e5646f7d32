//! Local subscriptions: a program at this node wants a stream by name, whichever origin serves it, until it
//! unsubscribes.
//!
//! A subscription has a flow that serves it and, while the stream moves (the origin restarted, or a nearer one
//! appeared), the flow that will serve it next. Not the flows themselves (`carried`). Called by [`super::Flows`].
//! Invariant: each change of state is reported once, and the old flow is kept until the next one delivers.

use std::collections::BTreeMap;

use levada_wire::control::flow::InstanceRef;
use levada_wire::{Announce, FlowId, Layer, NodeId, RepairBudget, StreamName};

use super::catalogue::instance_of;
use crate::api::{Event, SubscriptionId, SubscriptionState};
use crate::limits::SUBSCRIPTIONS_MAX;
use crate::view::note_look;

#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
}

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) name: StreamName,
    pub(super) layer: Layer,
    /// How late packets may be for it.
    budget: RepairBudget,
    pub(super) serving: Option<Target>,
    pub(super) next: Option<Target>,
    told: Option<SubscriptionState>,
}

/// What is wanted of a flow here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The largest budget of its subscriptions.
    pub(super) budget: RepairBudget,
    /// How many subscriptions it serves or is to serve.
    pub(super) subscriptions: usize,
}

/// A flow that serves a subscription, or is to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) flow: FlowId,
    pub(super) announce: Announce,
}

impl Subscriptions {
    /// Adds a subscription; returns what to tell it when it cannot be taken.
    pub(super) fn add(
        &mut self,
        id: SubscriptionId,
        name: StreamName,
        layer: Layer,
        budget: RepairBudget,
    ) -> Option<Event> {
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return Some(Event::Subscription {
                id,
                state: SubscriptionState::Unknown,
            });
        }
        let subscription = Subscription {
            name,
            layer,
            budget,
            serving: None,
            next: None,
            told: None,
        };
        self.subscriptions.entry(id).or_insert(subscription);
        None
    }

    pub(super) fn remove(&mut self, id: SubscriptionId) {
        self.subscriptions.remove(&id);
    }

    pub(super) fn ids(&self) -> Vec<SubscriptionId> {
        self.subscriptions.keys().copied().collect()
    }

    pub(super) fn get(&self, id: SubscriptionId) -> Option<&Subscription> {
        self.subscriptions.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: SubscriptionId) -> Option<&mut Subscription> {
        self.subscriptions.get_mut(&id)
    }

    /// How many subscriptions a flow serves or is to serve.
    pub(super) fn count(&self, flow: FlowId) -> usize {
        self.targets().filter(|target| target.flow == flow).count()
    }

    /// All flows that subscriptions point at, one entry per subscription.
    pub(super) fn targets(&self) -> impl Iterator<Item = &Target> {
        let subscriptions = self.subscriptions.values().inspect(|_| note_look());
        subscriptions.flat_map(|subscription| subscription.serving.iter().chain(&subscription.next))
    }

    /// The flows that subscriptions point at.
    pub(super) fn wanted(&self) -> BTreeMap<FlowId, Wanted> {
        let mut flows = BTreeMap::new();
        for subscription in self.subscriptions.values() {
            for target in subscription.serving.iter().chain(&subscription.next) {
                let wanted = flows.entry(target.flow).or_insert(Wanted {
                    budget: subscription.budget,
                    subscriptions: 0,
                });
                wanted.budget = subscription.budget.max(wanted.budget);
                wanted.subscriptions += 1;
            }
        }
        flows
    }

    /// The instances whose secrets are needed.
    pub(super) fn instances(&self, me: &NodeId) -> Vec<InstanceRef> {
        let elsewhere = self
            .targets()
            .filter(|target| target.announce.origin != *me);
        let mut instances: Vec<_> = elsewhere
            .map(|target| instance_of(&target.announce))
            .collect();
        instances.sort();
        instances.dedup();
        instances
    }

    /// Lets go of a withdrawn instance; returns what to tell.
    pub(super) fn on_withdraw(&mut self, of: &InstanceRef) -> Vec<Event> {
        let is_of = |target: &Target| instance_of(&target.announce) == *of;
        let mut events = Vec::new();
        for (id, subscription) in &mut self.subscriptions {
            if subscription.next.as_ref().is_some_and(is_of) {
                subscription.next = None;
            }
            if subscription.serving.as_ref().is_some_and(is_of) {
                subscription.serving = None;
                events.extend(subscription.tell(*id, SubscriptionState::Ended));
            }
        }
        events
    }
}

impl Subscription {
    /// What to tell of a state, if it is news.
    pub(super) fn tell(&mut self, id: SubscriptionId, state: SubscriptionState) -> Option<Event> {
        if self.told.as_ref() == Some(&state) {
            return None;
        }
        self.told = Some(state.clone());
        Some(Event::Subscription { id, state })
    }

    /// Whether the last thing told was that the stream ended: silence follows until it comes back.
    pub(super) fn is_ended(&self) -> bool {
        self.told == Some(SubscriptionState::Ended)
    }
}
