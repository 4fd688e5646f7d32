//! The life of a node: its start, the one task that owns the control core, and how the rest asks it.
//!
//! ```text
//!  Node, Publisher, Subscriber ──Request──────────▶┐
//!  quic tasks ─────────────────────QuicEvent──────▶│  Driver (one task)   ──▶ quic: dial, send, close
//!  datapath worker ──Datagram, Delivering─────────▶│  owns Pump<Control>  ──▶ datapath: commands
//!  look-ups, timers ──────────────────────────────▶┘                      ──▶ fanout, events
//!
//!  Publisher ──frames──▶ datapath worker ──frames──▶ fanout ──▶ Subscriber      (never through the driver)
//! ```
//!
//! | part | does |
//! |---|---|
//! | [`start()`] | takes all that a node needs, or nothing |
//! | `task` | the loop |
//! | `outputs` | does what the core says |
//! | `requests` | does what the node's user says, and lets whoever asks look at the core |
//! | `interests` | has those who want the same share one interest |
//! | `names` | knows when a neighbour's name is to be looked up again |
//! | [`pump`] | a machine and its clock |
//! | [`datapath`] | the queues between the lanes' threads and the tasks |
//!
//! Nothing is decided here; that is the core's. Called by `node`, `publisher` and `subscriber`. Invariant: only
//! the driver's task touches the core.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use levada_core::Control;
use levada_core::survey::Unheard;
use levada_lane::api::Command;
use levada_ports::worker::WorkerCounters;
use levada_wire::announce::LayerOffer;
use levada_wire::control::Message;
use levada_wire::control::survey::Overview;
use levada_wire::{Description, FlowId, Instant, LinkIndex, NodeId, StreamName, WallTime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot, watch};

use crate::events::Event;
use crate::fanout::{Fanout, Queue};
use crate::node::{Failed, Stopped};
use crate::publisher::{PublishError, PublishOptions, Publisher};
use crate::resolve::Address;
use crate::streams::Streams;
use crate::subscriber::{SubscribeError, SubscribeOptions, Subscriber};

mod datapath;
mod interests;
mod machine;
mod names;
mod outputs;
mod pump;
mod rarely;
mod requests;
mod start;
mod task;

pub(crate) use start::start;

/// The most publishers and subscribers of one node together. One more is refused.
pub(crate) const SLOTS_MAX: usize = 16_384;
/// The most requests of the node's user that may wait for the driver. More wait with their senders.
const REQUESTS_MAX: usize = 64;
/// The most events of the control plane that may wait. More wait with their connections.
pub(crate) const QUIC_EVENTS_MAX: usize = 1_024;
/// The most events that a slow listener may leave waiting. Older ones are lost to it, and it is told how many.
const EVENTS_MAX: usize = 256;

/// What never changes of a running node.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) id: NodeId,
    pub(crate) name: String,
    pub(crate) local_addr: SocketAddr,
    pub(crate) state_dir: PathBuf,
    pub(crate) relay: bool,
    pub(crate) client: bool,
}

/// How the rest of the crate asks a running node. Clones are the same node.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    about: About,
    datapath: datapath::Datapath,
    asked: mpsc::Sender<Asked>,
    /// Places for requests and for slots. Together they are as many as `asked` holds, so it is never full.
    request_places: Arc<Semaphore>,
    slot_places: Arc<Semaphore>,
    events: broadcast::WeakSender<Event>,
    next_slot: AtomicU64,
    stopped: watch::Receiver<Option<Failed>>,
    answers: Answers,
}

/// What the program around the node answers to commands: by word, a function from a question.
#[derive(Default)]
pub(crate) struct Answers(Mutex<BTreeMap<&'static str, Arc<Answer>>>);

type Answer = dyn Fn(&str) -> Result<String, String> + Send + Sync;

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answers")
    }
}

impl Answers {
    fn table(&self) -> MutexGuard<'_, BTreeMap<&'static str, Arc<Answer>>> {
        self.0
            .lock()
            .expect("no code that can panic runs under this lock")
    }
}

/// A request, with its place in the queue. One queue for all of them, so that a publisher's end and the next one's
/// beginning are seen in the order in which they happened.
#[derive(Debug)]
pub(crate) struct Asked {
    request: Request,
    /// Free again when the driver is done with it.
    _place: OwnedSemaphorePermit,
}

/// What the node's user asks of the driver.
#[derive(Debug)]
pub(crate) enum Request {
    /// Offer a stream.
    Publish {
        /// The publisher's number.
        slot: SlotId,
        /// The stream's name.
        name: StreamName,
        /// Its tracks.
        description: Arc<Description>,
        /// As the program gave them, not checked yet.
        options: PublishOptions,
        /// Gets the flow.
        reply: oneshot::Sender<Result<FlowId, PublishError>>,
    },
    /// The layers of an offered stream changed.
    Revise {
        /// The stream's name.
        name: StreamName,
        /// What it offers now.
        layers: Vec<LayerOffer>,
    },
    /// End a stream; answered when the datapath and the core were told.
    Finish {
        /// The publisher's number.
        slot: SlotId,
        /// Told when it is done.
        reply: oneshot::Sender<()>,
    },
    /// Want a stream.
    Subscribe {
        /// The subscriber's number.
        slot: SlotId,
        /// The stream's name.
        name: StreamName,
        /// As the program gave them, not checked yet.
        options: SubscribeOptions,
        /// The subscriber's queue, which the fan-out fills.
        queue: Arc<Queue>,
        /// Told when the core knows, or why not.
        reply: oneshot::Sender<Result<(), SubscribeError>>,
    },
    /// Look at the core.
    Look(Look),
    /// Keep a link to a neighbour, as if it had been configured.
    Join {
        /// Its name or address.
        address: Address,
    },
    /// Do not dial the node at the other end of a link any more, and close the link.
    Part {
        /// This node's number for the link.
        link: LinkIndex,
        /// Told whether there is such a link.
        reply: oneshot::Sender<bool>,
    },
    /// Ask another node what it says of itself.
    Ask {
        /// The way to it, a neighbour first.
        path: Vec<NodeId>,
        /// Only this flow.
        flow: Option<FlowId>,
        /// Gets the overview, or why there is none.
        reply: oneshot::Sender<Result<Overview, Unheard>>,
    },
    /// What this node says of itself.
    Described {
        /// The number of the question.
        question: u32,
        /// Its links, flows and counts at the moment.
        overview: Overview,
    },
    /// Watch the streams.
    Watch {
        /// Gets the watch.
        reply: oneshot::Sender<Streams>,
    },
    /// Say something to every neighbour.
    Say {
        /// What the core did not decide to say.
        message: Message,
    },
    /// Go away on purpose.
    Leave {
        /// Told when it has begun.
        reply: oneshot::Sender<()>,
    },
    /// A publisher or a subscriber is gone.
    End {
        /// Its number.
        slot: SlotId,
    },
}

/// What the driver shows to whoever looks.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) control: &'a Control,
    /// Neighbours' names that were not found yet, and why.
    pub(crate) unresolved: &'a BTreeMap<String, String>,
    pub(crate) fanout: &'a Arc<Fanout>,
}

/// A look at the core, taken in the driver's task between two other things. It is short: a slice of rows.
pub(crate) struct Look(Box<dyn FnOnce(&Seen<'_>) + Send>);

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Look")
    }
}

/// The number of one publisher or subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SlotId(pub(crate) u64);

/// The place of one publisher or subscriber. Dropping it tells the driver, which cannot fail: there is room for that
/// message.
#[derive(Debug)]
pub(crate) struct Slot {
    id: SlotId,
    place: Option<OwnedSemaphorePermit>,
    /// The node lives for as long as somebody uses it.
    node: Handle,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            let ending = Asked {
                request: Request::End { slot: self.id },
                _place: place,
            };
            // Fails only if the node is gone.
            let _ = self.node.shared.asked.try_send(ending);
        }
    }
}

impl Handle {
    pub(crate) fn about(&self) -> &About {
        &self.shared.about
    }

    /// The wall clock, for what people read.
    pub(crate) fn wall(&self) -> WallTime {
        self.shared.datapath.clock().wall()
    }

    /// Tells the datapath something; waits while it is behind.
    pub(crate) async fn datapath(&self, command: Command) -> Result<(), Stopped> {
        self.shared.datapath.send(command).await
    }

    pub(crate) async fn publish(
        &self,
        name: StreamName,
        description: Arc<Description>,
        options: PublishOptions,
    ) -> Result<Publisher, PublishError> {
        let slot = self.slot().ok_or(PublishError::Full { max: SLOTS_MAX })?;
        let flow = self
            .ask(|reply| Request::Publish {
                slot: slot.id,
                name: name.clone(),
                description: Arc::clone(&description),
                options,
                reply,
            })
            .await??;
        Ok(Publisher::new(slot, name, flow, options.peak, description))
    }

    pub(crate) async fn subscribe(
        &self,
        name: StreamName,
        options: SubscribeOptions,
    ) -> Result<Subscriber, SubscribeError> {
        let slot = self.slot().ok_or(SubscribeError::Full { max: SLOTS_MAX })?;
        let queue = Arc::new(Queue::new(&options));
        self.ask(|reply| Request::Subscribe {
            slot: slot.id,
            name: name.clone(),
            options,
            queue: Arc::clone(&queue),
            reply,
        })
        .await??;
        Ok(Subscriber::new(name, queue, slot))
    }

    /// Looks at the core, and says what was seen.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Seen<'_>) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        self.ask(|reply| {
            let tell = |seen: &Seen<'_>| drop(reply.send(look(seen)));
            Request::Look(Look(Box::new(tell)))
        })
        .await
    }

    pub(crate) async fn streams(&self) -> Result<Streams, Stopped> {
        self.ask(|reply| Request::Watch { reply }).await
    }

    /// What the lanes have counted, after all commands sent so far.
    pub(crate) async fn counters(&self) -> Result<WorkerCounters, Stopped> {
        self.shared.datapath.counters().await
    }

    /// What was dropped between the datapath and the control plane, by name.
    pub(crate) fn losses(&self) -> datapath::Losses {
        self.shared.datapath.losses()
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.shared.datapath.clock().now().since(Instant::ZERO)
    }

    /// Listens to what happens from now on.
    pub(crate) fn events(&self) -> Option<broadcast::Receiver<Event>> {
        Some(self.shared.events.upgrade()?.subscribe())
    }

    /// See [`crate::Node::answer`].
    pub(crate) fn set_answer(&self, word: &'static str, answer: Arc<Answer>) {
        self.shared.answers.table().insert(word, answer);
    }

    /// What the program answers; `None` if it does not know the word.
    pub(crate) fn program_answer(
        &self,
        word: &str,
        question: &str,
    ) -> Option<Result<String, String>> {
        let answer = self.shared.answers.table().get(word).cloned();
        answer.map(|answer| answer(question))
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.request(request(reply)).await?;
        answer.await.map_err(|_| Stopped)
    }

    /// Sends a request that has no answer.
    pub(crate) async fn request(&self, request: Request) -> Result<(), Stopped> {
        let places = Arc::clone(&self.shared.request_places);
        let place = places.acquire_owned().await.map_err(|_| Stopped)?;
        let asked = Asked {
            request,
            _place: place,
        };
        self.shared.asked.try_send(asked).map_err(|_| Stopped)
    }

    /// Waits until the node is gone; an error if it had to.
    pub(crate) async fn stopped(&self) -> Result<(), Failed> {
        let mut stopped = self.shared.stopped.clone();
        // The sender's end is the message; what was sent before it is why.
        while stopped.changed().await.is_ok() {}
        let why = stopped.borrow().clone();
        why.map_or(Ok(()), Err)
    }

    /// A handle that does not keep the node alive.
    pub(crate) fn downgrade(&self) -> WeakHandle {
        WeakHandle(Arc::downgrade(&self.shared))
    }

    /// A place for a publisher or a subscriber; `None` if all are taken.
    fn slot(&self) -> Option<Slot> {
        let place = Arc::clone(&self.shared.slot_places).try_acquire_owned();
        Some(Slot {
            id: SlotId(self.shared.next_slot.fetch_add(1, Ordering::Relaxed)),
            place: Some(place.ok()?),
            node: self.clone(),
        })
    }
}

impl Slot {
    pub(crate) const fn id(&self) -> SlotId {
        self.id
    }

    pub(crate) const fn node(&self) -> &Handle {
        &self.node
    }
}

/// See [`Handle::downgrade`].
#[derive(Clone, Debug)]
pub(crate) struct WeakHandle(std::sync::Weak<Shared>);

impl WeakHandle {
    pub(crate) fn upgrade(&self) -> Option<Handle> {
        self.0.upgrade().map(|shared| Handle { shared })
    }
}

#[cfg(test)]
mod tests;
