//! Fan-out: delivers an opened flow to all its local subscribers.
//!
//! The datapath opens each flow once, however many subscribers it has here. The flow's lane calls [`Fanout::deliver`],
//! which puts what came into the flow's [`Ring`] and wakes one task. Subscribers read the ring on their own tasks, each
//! at its own pace, so that a slow one holds up nobody. The newest group is kept (frames are shared handles, and a
//! limit bounds them), so that a second subscriber starts at once like the first.
//!
//! Not the choice of the flow that a subscriber is attached to, which is the core's and arrives through `driver`.
//! Invariant: a subscriber's first frame starts a group, and so does its first frame after frames were skipped
//! here; what a lane does for a burst does not depend on how many subscribers there are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use crate::driver::SlotId;
use levada_lane::api as datapath;
use levada_wire::{FlowId, Frame, Group, WallTime};
use tokio::runtime::Handle;

use crate::subscriber::{Gap, GapReason, Instance, State};

mod queue;
mod ring;
mod room;
pub(crate) use queue::Queue;
pub(crate) use room::FrameRoom;

use ring::Ring;

/// One frame with what is said about it. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub(crate) struct Delivered {
    pub(crate) group: Group,
    pub(crate) frame: Frame,
    pub(crate) wall: Option<WallTime>,
}

/// All local subscribers. Shared by the driver, which attaches, and the lanes, which deliver.
#[derive(Debug)]
pub(crate) struct Fanout {
    /// Where the tasks that wake subscribers run.
    runtime: Handle,
    /// What all rings may hold.
    room: Arc<FrameRoom>,
    /// Lanes look here for a moment; only the driver writes.
    flows: RwLock<BTreeMap<FlowId, Arc<Ring>>>,
    /// The driver's alone.
    attachments: Mutex<BTreeMap<SlotId, Attachment>>,
}

#[derive(Debug)]
struct Attachment {
    queue: Arc<Queue>,
    /// The flow that its frames come from, or came from last.
    flow: Option<FlowId>,
    /// Whether it hangs on that flow now.
    hangs: bool,
    /// The stream was taken back; its end is told when the flow says so itself, or closes.
    ends: bool,
}

impl Fanout {
    pub(crate) fn new(runtime: Handle, room: FrameRoom) -> Self {
        Self {
            runtime,
            room: Arc::new(room),
            flows: RwLock::default(),
            attachments: Mutex::default(),
        }
    }

    fn attachments(&self) -> MutexGuard<'_, BTreeMap<SlotId, Attachment>> {
        self.attachments.lock().expect(SOUND)
    }

    /// The ring of a flow, made if there is none.
    fn ring(&self, flow: FlowId) -> Arc<Ring> {
        let mut flows = self.flows.write().expect(SOUND);
        let ring = flows.entry(flow).or_insert_with(|| {
            let ring = Arc::new(Ring::new(Arc::clone(&self.room)));
            self.runtime.spawn(Arc::clone(&ring).serve());
            ring
        });
        Arc::clone(ring)
    }

    /// Adds a subscriber, on no flow yet.
    pub(crate) fn add(&self, id: SlotId, queue: Arc<Queue>) {
        let attachment = Attachment {
            queue,
            flow: None,
            hangs: false,
            ends: false,
        };
        self.attachments().insert(id, attachment);
    }

    /// Forgets a subscriber, if there is one.
    pub(crate) fn remove(&self, id: SlotId) {
        if let Some(removed) = self.attachments().remove(&id) {
            removed.queue.detach();
        }
    }

    /// Gets ready for what the datapath will deliver of a flow. Called before the datapath is told to open it.
    pub(crate) fn open(&self, flow: FlowId) {
        self.ring(flow);
    }

    /// Forgets a flow that is not opened any more.
    pub(crate) fn close(&self, flow: FlowId) {
        let Some(ring) = self.flows.write().expect(SOUND).remove(&flow) else {
            return;
        };
        ring.close();
        let mut attachments = self.attachments();
        for id in ring.readers() {
            if let Some(attachment) = attachments.get_mut(&id) {
                attachment.queue.detach();
                attachment.hangs = false;
                if attachment.ends {
                    attachment.queue.push_end();
                }
            }
        }
    }

    /// Makes `subscriptions` of a flow as many as hang on it: many share one subscription of the core.
    pub(crate) fn count_readers(&self, flow: FlowId, subscriptions: &mut usize) {
        let ring = self.flows.read().expect(SOUND).get(&flow).cloned();
        let readers = ring.map_or(0, |ring| ring.count());
        *subscriptions = readers.max(*subscriptions);
    }

    /// Tells a subscriber how far its subscription has come.
    pub(crate) fn state(&self, id: SlotId, state: State) {
        if let Some(attachment) = self.attachments().get(&id) {
            attachment.queue.push_state(state);
        }
    }

    /// Attaches a subscriber to a flow: its frames come from there from now on.
    pub(crate) fn attach(&self, id: SlotId, flow: FlowId, instance: Instance) {
        let mut attachments = self.attachments();
        let Some(attachment) = attachments.get_mut(&id) else {
            return;
        };
        attachment.queue.push_state(State::Active { instance });
        let before = attachment.flow.replace(flow);
        if !(attachment.hangs && before == Some(flow)) {
            let is_other = before.is_some_and(|before| before != flow);
            let instance = is_other.then_some(instance);
            attachment.hangs = true;
            attachment.ends = false;
            attachment.queue.attach(self.ring(flow), id, instance);
        }
    }

    /// The core says that the stream was taken back. Its last frames may still be on their way: the subscriber is told
    /// after them.
    pub(crate) fn end(&self, id: SlotId) {
        if let Some(attachment) = self.attachments().get_mut(&id) {
            attachment.ends = true;
            if !attachment.hangs {
                attachment.queue.push_end();
            }
        }
    }

    /// Ends all queues: the node is gone.
    pub(crate) fn finish(&self) {
        for attachment in self.attachments().values() {
            attachment.queue.finish();
        }
        for ring in self.flows.read().expect(SOUND).values() {
            ring.close();
        }
    }

    /// Takes what the datapath delivers of a flow. Called on a lane's thread; never waits for a subscriber.
    pub(crate) fn deliver(&self, flow: FlowId, delivery: datapath::Delivery) {
        let ring = self.flows.read().expect(SOUND).get(&flow).cloned();
        if let Some(ring) = ring {
            ring.push(delivery); // which may put a whole inbox in order: not while others wait for the table
        }
    }
}

/// Why a lock is never poisoned.
const SOUND: &str = "no code that can panic runs under this lock";

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
