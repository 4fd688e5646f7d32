//! Local subscriptions: a program at this node wants a stream by name, whichever origin serves it, until it
//! unsubscribes.
//!
//! A subscription has a flow that serves it and, while the stream moves (the origin restarted, or a nearer one
//! appeared), the flow that will serve it next. What happens to a name, an origin or a flow touches the subscriptions
//! that it concerns, and those alone are looked at again. Not the flows themselves (`carried`). Called by
//! [`super::Flows`]. Invariants: each change of state is reported once, the old flow is kept until the next one
//! delivers, and the indexes agree with what subscriptions point at.

use std::collections::btree_map::{Entry, OccupiedEntry};
use std::collections::{BTreeMap, BTreeSet};

use levada_wire::control::flow::InstanceRef;
use levada_wire::{Announce, FlowId, Layer, NodeId, RepairBudget, StreamName};

use super::catalogue::instance_of;
use crate::api::{Event, Paths, SubscriptionId, SubscriptionState};
use crate::limits::SUBSCRIPTIONS_MAX;

#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
    names: BTreeMap<StreamName, BTreeSet<SubscriptionId>>,
    /// Those that each flow serves or is to serve.
    flows: BTreeMap<FlowId, BTreeSet<SubscriptionId>>,
    /// How often each points at flows of an origin.
    origins: BTreeMap<(NodeId, SubscriptionId), u8>,
    /// How often flows of an instance are pointed at.
    instances: BTreeMap<InstanceRef, usize>,
    /// Those to be looked at again.
    touched: BTreeSet<SubscriptionId>,
    /// Flows that came to be pointed at, or ceased to.
    moved: BTreeSet<FlowId>,
    /// Instances of which the same is true.
    moved_instances: BTreeSet<InstanceRef>,
}

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) name: StreamName,
    pub(super) layer: Layer,
    /// How late packets may be for it.
    budget: RepairBudget,
    paths: Paths,
    /// Changed by [`Subscriptions`] alone, whose indexes follow.
    pub(super) serving: Option<Target>,
    pub(super) next: Option<Target>,
    told: Option<SubscriptionState>,
}

/// What is wanted of a flow here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The largest budget of its subscriptions.
    pub(super) budget: RepairBudget,
    /// The most ways that one of them wants.
    pub(super) paths: Paths,
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
        (budget, paths): (RepairBudget, Paths),
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
            paths,
            serving: None,
            next: None,
            told: None,
        };
        self.touched.insert(id);
        let names = self.names.entry(subscription.name.clone());
        if let Entry::Vacant(vacant) = self.subscriptions.entry(id) {
            names.or_default().insert(id);
            vacant.insert(subscription);
        }
        None
    }

    pub(super) fn remove(&mut self, id: SubscriptionId) {
        self.set_targets(id, None, None);
        self.touched.remove(&id);
        let Some(removed) = self.subscriptions.remove(&id) else {
            return;
        };
        if let Some(same) = self.names.get_mut(&removed.name) {
            same.remove(&id);
            if same.is_empty() {
                self.names.remove(&removed.name);
            }
        }
    }

    pub(super) fn get(&self, id: SubscriptionId) -> Option<&Subscription> {
        self.subscriptions.get(&id)
    }

    /// How many subscriptions a flow serves or is to serve.
    pub(super) fn count(&self, flow: FlowId) -> usize {
        self.flows.get(&flow).map_or(0, BTreeSet::len)
    }

    /// The subscriptions that any of these flows serves or is to serve.
    pub(super) fn served_by(&self, flows: &[FlowId]) -> BTreeSet<SubscriptionId> {
        let served = flows.iter().filter_map(|flow| self.flows.get(flow));
        served.flatten().copied().collect()
    }

    /// What is wanted of a flow, if a subscription points at it.
    pub(super) fn wanted(&self, flow: FlowId) -> Option<Wanted> {
        let ids = self.flows.get(&flow)?;
        let all = || ids.iter().map(|id| &self.subscriptions[id]);
        Some(Wanted {
            budget: all().map(|one| one.budget).max()?,
            paths: all().map(|one| one.paths).max()?,
            subscriptions: ids.len(),
        })
    }

    /// The flow that is to serve a subscription next.
    pub(super) fn set_next(&mut self, id: SubscriptionId, next: Option<Target>) {
        let Some(subscription) = self.subscriptions.get(&id) else {
            return;
        };
        if subscription.next != next {
            let serving = subscription.serving.clone();
            self.set_targets(id, serving, next);
        }
    }

    /// The flow that was to serve a subscription next serves it now; returns the one that served it before.
    pub(super) fn promote(&mut self, id: SubscriptionId) -> Option<FlowId> {
        let subscription = self.subscriptions.get(&id)?;
        let before = subscription.serving.as_ref().map(|target| target.flow);
        let next = subscription.next.clone();
        self.set_targets(id, next, None);
        // What served it before is wanted no more.
        self.touched.insert(id);
        before
    }

    fn set_targets(&mut self, id: SubscriptionId, serving: Option<Target>, next: Option<Target>) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else {
            return;
        };
        let before = [
            std::mem::replace(&mut subscription.serving, serving.clone()),
            std::mem::replace(&mut subscription.next, next.clone()),
        ];
        for target in before.iter().flatten() {
            self.unpoint(id, target);
        }
        for target in [serving, next].iter().flatten() {
            self.point(id, target);
        }
    }

    fn point(&mut self, id: SubscriptionId, target: &Target) {
        self.flows.entry(target.flow).or_default().insert(id);
        self.moved.insert(target.flow);
        *self
            .origins
            .entry((target.announce.origin, id))
            .or_insert(0) += 1;
        let of = instance_of(&target.announce);
        *self.instances.entry(of.clone()).or_insert(0) += 1;
        self.moved_instances.insert(of);
    }

    fn unpoint(&mut self, id: SubscriptionId, target: &Target) {
        if let Some(ids) = self.flows.get_mut(&target.flow) {
            ids.remove(&id);
            if ids.is_empty() {
                self.flows.remove(&target.flow);
            }
        }
        self.moved.insert(target.flow);
        let of = instance_of(&target.announce);
        if let Entry::Occupied(count) = self.origins.entry((of.origin, id)) {
            count_down(count);
        }
        if let Entry::Occupied(count) = self.instances.entry(of.clone()) {
            count_down(count);
        }
        self.moved_instances.insert(of);
    }

    /// Whether anything is to be looked at again.
    pub(super) fn is_touched(&self) -> bool {
        !self.touched.is_empty() || !self.moved.is_empty()
    }

    pub(super) fn touch_name(&mut self, name: &StreamName) {
        self.touched
            .extend(self.names.get(name).into_iter().flatten());
    }

    /// Touches those that want one of these names: the fewer are looked for among the others.
    pub(super) fn touch_names(&mut self, names: &BTreeSet<StreamName>) {
        if names.len() < self.names.len() {
            names.iter().for_each(|name| self.touch_name(name));
        } else {
            let of_them = self.names.iter().filter(|(name, _)| names.contains(*name));
            self.touched.extend(of_them.flat_map(|(_, ids)| ids));
        }
    }

    pub(super) fn touch_flow(&mut self, flow: FlowId) {
        self.touched
            .extend(self.flows.get(&flow).into_iter().flatten());
    }

    /// Touches those that flows of an origin serve or are to serve.
    pub(super) fn touch_origin(&mut self, origin: NodeId) {
        let all = (origin, SubscriptionId(0))..=(origin, SubscriptionId(u64::MAX));
        let ids = self.origins.range(all).map(|((_, id), _)| *id);
        self.touched.extend(ids);
    }

    pub(super) fn take_touched(&mut self) -> BTreeSet<SubscriptionId> {
        std::mem::take(&mut self.touched)
    }

    /// The flows that may be wanted otherwise than when this was asked last.
    pub(super) fn take_moved(&mut self) -> BTreeSet<FlowId> {
        std::mem::take(&mut self.moved)
    }

    /// The instances elsewhere whose secrets may have come to be needed, or not any more, and whether they are.
    pub(super) fn take_moved_instances(&mut self, me: &NodeId) -> Vec<(InstanceRef, bool)> {
        let moved = std::mem::take(&mut self.moved_instances).into_iter();
        let elsewhere = moved.filter(|of| of.origin != *me);
        let needed = elsewhere.map(|of| {
            let is_needed = self.instances.contains_key(&of);
            (of, is_needed)
        });
        needed.collect()
    }

    /// Lets go of a withdrawn instance; returns what to tell.
    pub(super) fn on_withdraw(&mut self, of: &InstanceRef) -> Vec<Event> {
        let is_of = |target: &Target| instance_of(&target.announce) == *of;
        let mut events = Vec::new();
        let ids = self.names.get(&of.name).cloned().unwrap_or_default();
        for id in ids {
            let Some(subscription) = self.subscriptions.get(&id) else {
                continue;
            };
            let kept = |target: &Option<Target>| target.clone().filter(|target| !is_of(target));
            let (serving, next) = (kept(&subscription.serving), kept(&subscription.next));
            let is_over = subscription.serving.is_some() && serving.is_none();
            self.set_targets(id, serving, next);
            if is_over {
                events.extend(self.tell(id, SubscriptionState::Ended));
            }
        }
        events
    }

    /// What to tell a subscription of its state, if it is news.
    pub(super) fn tell(&mut self, id: SubscriptionId, state: SubscriptionState) -> Option<Event> {
        self.subscriptions.get_mut(&id)?.tell(id, state)
    }
}

/// Takes one away, and the entry with the last.
fn count_down<K: Ord, N: From<u8> + PartialEq + std::ops::SubAssign>(
    mut count: OccupiedEntry<'_, K, N>,
) {
    *count.get_mut() -= N::from(1);
    if *count.get() == N::from(0) {
        count.remove();
    }
}

impl Subscription {
    /// What to tell of a state, if it is news.
    fn tell(&mut self, id: SubscriptionId, state: SubscriptionState) -> Option<Event> {
        if self.told.as_ref() == Some(&state) {
            return None;
        }
        self.told = Some(state.clone());
        Some(Event::Subscription { id, state })
    }

    /// Over how many ways it is to come.
    pub(super) const fn paths(&self) -> Paths {
        self.paths
    }

    /// Whether the last thing told was that it comes over one way alone.
    pub(super) const fn is_told_of_one_path(&self) -> bool {
        matches!(self.told, Some(SubscriptionState::OnePath { .. }))
    }

    /// Whether the last thing told was that the stream ended: silence follows until it comes back.
    pub(super) fn is_ended(&self) -> bool {
        self.told == Some(SubscriptionState::Ended)
    }
}
