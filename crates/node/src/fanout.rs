//! From the one opened flow to its local subscribers.
//!
//! The datapath opens each flow once, however many subscribers it has here. The flow's lane calls
//! [`Fanout::deliver`]; each subscriber has a bounded [`Queue`] of its own, so that a slow one holds up nobody.
//! The newest group is kept (frames are shared handles, and a limit bounds them), so that a second subscriber
//! starts at once like the first.
//!
//! Not the choice of the flow a subscription hangs on, which is the core's and arrives through `driver`.
//! Invariant: a subscriber's first frame starts a group, and so does its first frame after frames were skipped
//! here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use levada_core::SubscriptionId;
use levada_lane::api as datapath;
use levada_wire::{Description, FlowId, Frame, Group, WallTime};

use crate::subscriber::{Gap, GapReason, Instance, State};

mod queue;
pub(crate) use queue::Queue;

/// The most bytes of the newest group kept for a subscriber that comes later. Beyond it, that one starts at the
/// next group.
const REPLAY_BYTES_MAX: usize = 16 << 20;
/// The most frames of it, with the same effect.
const REPLAY_FRAMES_MAX: usize = 4_096;

/// One frame with what is said about it. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub(crate) struct Delivered {
    pub(crate) group: Group,
    pub(crate) frame: Frame,
    pub(crate) wall: Option<WallTime>,
}

/// All local subscribers. Shared by the driver, which attaches, and the worker, which delivers.
#[derive(Debug, Default)]
pub(crate) struct Fanout {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    flows: BTreeMap<FlowId, Flow>,
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
}

#[derive(Debug)]
struct Subscription {
    queue: Arc<Queue>,
    /// The flow that its frames come from, or came from last.
    flow: Option<FlowId>,
    /// Whether it hangs on that flow now.
    hangs: bool,
    /// The stream was taken back; its end is told when the flow says so itself, or closes.
    ends: bool,
    /// Whether the end of that flow was told.
    ended: bool,
}

impl Subscription {
    /// Tells the end, once.
    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.queue.push_end();
        }
    }
}

/// A flow that is opened here.
#[derive(Debug, Default)]
struct Flow {
    subscribers: Vec<SubscriptionId>,
    description: Option<Arc<Description>>,
    group: Option<Group>,
    /// The newest group from its start; empty when it has a hole or went beyond a limit.
    replay: Vec<Delivered>,
    replay_bytes: usize,
    /// Whether `replay` holds the newest group from its start until now.
    is_whole: bool,
    ended: bool,
}

impl Fanout {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table
            .lock()
            .expect("no code that can panic runs under this lock")
    }

    /// Adds a subscription, on no flow yet.
    pub(crate) fn add(&self, id: SubscriptionId, queue: Arc<Queue>) {
        let subscription = Subscription {
            queue,
            flow: None,
            hangs: false,
            ends: false,
            ended: false,
        };
        self.table().subscriptions.insert(id, subscription);
    }

    /// Forgets a subscription; says whether there was one.
    pub(crate) fn remove(&self, id: SubscriptionId) -> bool {
        let mut table = self.table();
        table.detach(id);
        table.subscriptions.remove(&id).is_some()
    }

    /// Gets ready for what the datapath will deliver of a flow. Called before the datapath is told to open it.
    pub(crate) fn open(&self, flow: FlowId) {
        self.table().flows.entry(flow).or_default();
    }

    /// Forgets a flow that is not opened any more.
    pub(crate) fn close(&self, flow: FlowId) {
        let mut table = self.table();
        let closed = table.flows.remove(&flow);
        for id in closed.into_iter().flat_map(|flow| flow.subscribers) {
            if let Some(subscription) = table.subscriptions.get_mut(&id) {
                subscription.hangs = false;
                if subscription.ends {
                    subscription.end();
                }
            }
        }
    }

    /// Tells a subscriber how far its wish has come.
    pub(crate) fn state(&self, id: SubscriptionId, state: State) {
        if let Some(subscription) = self.table().subscriptions.get(&id) {
            subscription.queue.push_state(state);
        }
    }

    /// Hangs a subscription on a flow: its frames come from there from now on.
    pub(crate) fn attach(&self, id: SubscriptionId, flow: FlowId, instance: Instance) {
        let mut table = self.table();
        let Some(subscription) = table.subscriptions.get(&id) else {
            return;
        };
        subscription.queue.push_state(State::Active { instance });
        let before = subscription.flow;
        if !(subscription.hangs && before == Some(flow)) {
            let is_other = before.is_some_and(|before| before != flow);
            table.detach(id);
            table.hang(id, flow, is_other.then_some(instance));
        }
    }

    /// The core says that the stream was taken back. Its last frames may still be on their way: the subscriber is told
    /// after them.
    pub(crate) fn end(&self, id: SubscriptionId) {
        if let Some(subscription) = self.table().subscriptions.get_mut(&id) {
            subscription.ends = true;
            if !subscription.hangs {
                subscription.end();
            }
        }
    }

    /// Ends all queues: the node is gone.
    pub(crate) fn finish(&self) {
        for subscription in self.table().subscriptions.values() {
            subscription.queue.finish();
        }
    }

    /// Takes what the datapath delivers of a flow. Called on the worker's thread; never waits for a subscriber.
    pub(crate) fn deliver(&self, flow: FlowId, delivery: datapath::Delivery) {
        let mut table = self.table();
        let Table {
            flows,
            subscriptions,
        } = &mut *table;
        let Some(flow) = flows.get_mut(&flow) else {
            return;
        };
        match delivery {
            datapath::Delivery::Description(description) => {
                flow.description = Some(Arc::clone(&description));
                for queue in flow.queues(subscriptions) {
                    queue.push_description(&description);
                }
            }
            datapath::Delivery::Frame { group, frame, wall } => {
                let delivered = Delivered { group, frame, wall };
                let starts_group = flow.keep(&delivered);
                for queue in flow.queues(subscriptions) {
                    queue.push_frame(&delivered, starts_group);
                }
            }
            datapath::Delivery::Gap(gap) => {
                flow.forget();
                for queue in flow.queues(subscriptions) {
                    queue.push_gap(gap_of(gap));
                }
            }
            datapath::Delivery::End => {
                flow.ended = true;
                for id in &flow.subscribers {
                    if let Some(subscription) = subscriptions.get_mut(id) {
                        subscription.end();
                    }
                }
            }
        }
    }
}

impl Table {
    fn detach(&mut self, id: SubscriptionId) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else {
            return;
        };
        subscription.hangs = false;
        if let Some(flow) = subscription.flow.and_then(|id| self.flows.get_mut(&id)) {
            flow.subscribers.retain(|other| *other != id);
        }
    }

    /// Hangs a subscription that hangs nowhere on a flow, and gives it what is kept of the newest group.
    fn hang(&mut self, id: SubscriptionId, flow_id: FlowId, instance: Option<Instance>) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else {
            return;
        };
        let flow = self.flows.entry(flow_id).or_default();
        flow.subscribers.push(id);
        subscription.flow = Some(flow_id);
        subscription.hangs = true;
        subscription.ends = false;
        subscription.ended = false;
        subscription.queue.start(instance);
        if let Some(description) = &flow.description {
            subscription.queue.push_description(description);
        }
        for (at, delivered) in flow.replay.iter().enumerate() {
            subscription.queue.push_frame(delivered, at == 0);
        }
        if flow.ended {
            subscription.end();
        }
    }
}

impl Flow {
    fn queues<'a>(
        &'a self,
        subscriptions: &'a BTreeMap<SubscriptionId, Subscription>,
    ) -> impl Iterator<Item = &'a Queue> {
        let found = self.subscribers.iter().map(|id| subscriptions.get(id));
        found.flatten().map(|subscription| &*subscription.queue)
    }

    /// Keeps a frame for later subscribers, and says whether it is the first of its group.
    fn keep(&mut self, delivered: &Delivered) -> bool {
        let starts_group = self.group != Some(delivered.group) && self.may_start(&delivered.frame);
        self.group = Some(delivered.group);
        if starts_group {
            self.replay.clear();
            self.replay_bytes = 0;
            self.is_whole = true;
        }
        if !self.is_whole {
            return starts_group;
        }
        self.replay_bytes += delivered.frame.data.len();
        if self.replay_bytes > REPLAY_BYTES_MAX || self.replay.len() == REPLAY_FRAMES_MAX {
            self.forget();
            return starts_group;
        }
        self.replay.push(delivered.clone());
        starts_group
    }

    /// Whether a frame may be the first of a group: groups start where the leading track can start decoding. A new
    /// group number alone says nothing, because the beginning may be missing.
    fn may_start(&self, frame: &Frame) -> bool {
        let leading = self.description.as_ref().and_then(|all| all.leading());
        frame.sync && leading.is_some_and(|track| track.id == frame.track)
    }

    /// Nobody can start in the newest group any more.
    fn forget(&mut self) {
        self.is_whole = false;
        self.replay = Vec::new();
        self.replay_bytes = 0;
    }
}

fn gap_of(gap: datapath::Gap) -> Gap {
    Gap {
        reason: match gap.reason {
            datapath::GapReason::Bad => GapReason::Bad,
            datapath::GapReason::Overrun => GapReason::Overrun,
            _ => GapReason::Lost,
        },
        packets: gap.packets,
        frames: 0,
    }
}

#[cfg(test)]
mod tests;
