//! What the checkers know without looking at a machine: who publishes, who subscribes, whether all is calm.
//!
//! Told by the world, which did these things itself. Not a checker. Called by `check`. Invariant: nothing here comes
//! from a machine but the ids of flows, which only a machine can make.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use levada_core::SubscriptionId;
use levada_wire::{FlowId, Instant, StreamName};

use crate::scenario::{Scenario, StreamPlan};

/// What is known. See the module's head.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) plans: Vec<StreamPlan>,
    names: Vec<String>,
    /// Faults under way.
    faults: u32,
    /// When the last one ended.
    calm_since: Instant,
    flows: BTreeMap<FlowId, Publication>,
    /// Streams that are published now, by node.
    published: BTreeMap<(usize, usize), Publisher>,
    subscriptions: BTreeMap<(usize, SubscriptionId), StreamName>,
}

/// One start of a publisher.
#[derive(Clone, Copy, Debug)]
struct Publisher {
    start: u32,
    since: Instant,
}

/// Where a flow comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Publication {
    pub(crate) stream: usize,
    pub(crate) start: u32,
    /// When its publisher was started: frames count their time from there.
    pub(crate) since: Instant,
}

impl Facts {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            plans: scenario.streams.clone(),
            names: scenario
                .nodes
                .iter()
                .map(|node| node.name.clone())
                .collect(),
            faults: 0,
            calm_since: Instant::ZERO,
            flows: BTreeMap::new(),
            published: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
        }
    }

    pub(crate) const fn fault_begins(&mut self) {
        self.faults += 1;
    }

    pub(crate) const fn fault_ends(&mut self, now: Instant) {
        self.faults = self.faults.saturating_sub(1);
        self.calm_since = now;
    }

    /// Since when nothing goes wrong; `None` while something does.
    pub(crate) fn calm_since(&self) -> Option<Instant> {
        (self.faults == 0).then_some(self.calm_since)
    }

    /// Whether something that began at `since` has had `time` without any fault.
    pub(crate) fn had(&self, now: Instant, since: Instant, time: Duration) -> bool {
        self.calm_since()
            .is_some_and(|calm| now.since(since.max(calm)) > time)
    }

    pub(crate) fn published(&mut self, now: Instant, node: usize, stream: usize, start: u32) {
        let publisher = Publisher { start, since: now };
        self.published.insert((node, stream), publisher);
    }

    pub(crate) fn unpublished(&mut self, node: usize, stream: usize) {
        self.published.remove(&(node, stream));
    }

    pub(crate) fn originates(&mut self, node: usize, flow: FlowId, name: &StreamName) {
        let stream = self
            .published
            .iter()
            .find(|((at, stream), _)| *at == node && self.plans[*stream].name == *name);
        if let Some(((_, stream), publisher)) = stream {
            self.flows.insert(
                flow,
                Publication {
                    stream: *stream,
                    start: publisher.start,
                    since: publisher.since,
                },
            );
        }
    }

    pub(crate) fn subscribed(&mut self, node: usize, id: SubscriptionId, name: StreamName) {
        self.subscriptions.insert((node, id), name);
    }

    pub(crate) fn unsubscribed(&mut self, node: usize, id: SubscriptionId) -> Option<StreamName> {
        self.subscriptions.remove(&(node, id))
    }

    /// Whether somebody at that node subscribes to it.
    pub(crate) fn wants(&self, node: usize, stream: &StreamName) -> bool {
        let mut all = self.subscriptions.iter();
        all.any(|((at, _), name)| *at == node && name == stream)
    }

    /// A process is gone; the streams that were watched there.
    pub(crate) fn ended(&mut self, node: usize) -> BTreeSet<StreamName> {
        self.published.retain(|(at, _), _| *at != node);
        let gone = self.subscriptions.extract_if(.., |(at, _), _| *at == node);
        gone.map(|(_, name)| name).collect()
    }

    /// Where a flow comes from.
    pub(crate) fn origin(&self, flow: FlowId) -> Option<Publication> {
        self.flows.get(&flow).copied()
    }

    /// The stream that a flow is of.
    pub(crate) fn stream_of(&self, flow: FlowId) -> Option<&StreamName> {
        self.origin(flow)
            .map(|origin| &self.plans[origin.stream].name)
    }

    /// The nodes that publish a stream of that name now.
    pub(crate) fn origins_of(&self, name: &StreamName) -> impl Iterator<Item = usize> {
        let of_name = move |stream: usize| self.plans[stream].name == *name;
        self.published
            .keys()
            .filter(move |(_, stream)| of_name(*stream))
            .map(|(node, _)| *node)
    }

    /// All subscriptions: node, id, stream.
    pub(crate) fn subscriptions(
        &self,
    ) -> impl Iterator<Item = (usize, SubscriptionId, &StreamName)> {
        self.subscriptions
            .iter()
            .map(|((node, id), name)| (*node, *id, name))
    }

    /// Whether anybody, at one node or anywhere, subscribes to a stream.
    pub(crate) fn is_watched(&self, name: &StreamName, at: Option<usize>) -> bool {
        self.subscriptions()
            .any(|(node, _, wanted)| wanted == name && at.is_none_or(|at| at == node))
    }

    /// What a node is called.
    pub(crate) fn name(&self, node: usize) -> &str {
        &self.names[node]
    }
}
