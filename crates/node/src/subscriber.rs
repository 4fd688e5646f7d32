//! A stream's way out: what a program gets for a stream it wants.
//!
//! Not where frames come from: `fanout` fills the queue that a [`Subscriber`] empties. Used by gateways, sinks
//! and `admin`. Invariant: dropping a subscriber ends its subscription.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use levada_core::Paths;
use levada_wire::control::flow::RefuseReason;
use levada_wire::{
    Announce, Description, Frame, Group, InstanceId, Layer, NodeId, RepairBudget, StreamName,
    WallTime,
};

use crate::driver::Slot;
use crate::fanout::Queue;
use crate::node::Stopped;

/// How a stream is subscribed to.
///
/// The limits are those of the subscriber's own queue. What it has not read yet waits in memory that all subscribers of
/// the flow on this node share: at most about 8,192 frames and other events, and 64 MiB of frames, beside that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscribeOptions {
    /// Which layer; layer 0 has all tracks.
    pub layer: Layer,
    /// How many frames may wait for this subscriber. When more come, it is skipped to the next group.
    pub queue_frames_max: usize,
    /// How many bytes may wait, with the same effect.
    pub queue_bytes_max: usize,
    /// How late a packet may be that is still of use, over all hops: time to ask for it again. Whoever plays later can
    /// wait longer. At most 10 s count.
    pub repair_budget: Duration,
    /// Over how many ways the stream comes. Over two nothing is missed when a node on one of them dies; it costs this
    /// node's line, and those of its neighbours, the stream twice.
    pub paths: Paths,
}

impl Default for SubscribeOptions {
    /// Room for a long group: 4,096 frames and 64 MiB; half a second for what is missing; one way.
    fn default() -> Self {
        Self {
            layer: Layer(0),
            queue_frames_max: 4_096,
            queue_bytes_max: 64 << 20,
            repair_budget: RepairBudget::DEFAULT.time(),
            paths: Paths::One,
        }
    }
}

impl SubscribeOptions {
    /// Chooses the layer.
    #[must_use]
    pub const fn with_layer(mut self, layer: Layer) -> Self {
        self.layer = layer;
        self
    }

    /// Sets how late a packet may be.
    #[must_use]
    pub const fn with_repair_budget(mut self, budget: Duration) -> Self {
        self.repair_budget = budget;
        self
    }

    /// Chooses over how many ways the stream comes.
    ///
    /// ```
    /// use levada::{Paths, SubscribeOptions};
    ///
    /// let options = SubscribeOptions::default().with_paths(Paths::Two);
    /// ```
    #[must_use]
    pub const fn with_paths(mut self, paths: Paths) -> Self {
        self.paths = paths;
        self
    }

    /// Sets how much may wait for this subscriber.
    #[must_use]
    pub const fn with_queue(mut self, frames_max: usize, bytes_max: usize) -> Self {
        self.queue_frames_max = frames_max;
        self.queue_bytes_max = bytes_max;
        self
    }
}

/// What a subscriber gets, in order.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Delivery {
    /// How far the subscription has come. Only the newest of several that wait is kept.
    State(State),
    /// What follows is of a later start of the stream, or of another origin: its description comes first, and its
    /// timestamps start at zero again, so that whoever needs unbroken ones re-bases them here.
    NewInstance(Instance),
    /// The tracks: before the first frame, and at the start of a group where they change.
    Description(Arc<Description>),
    /// One frame. The first one of all, and the first one after a gap made here, starts a group.
    Frame {
        /// Its group.
        group: Group,
        /// The frame.
        frame: Frame,
        /// The origin's wall clock at its hand-over, when known: for measuring latency.
        wall: Option<WallTime>,
    },
    /// Frames are missing here, and why.
    Gap(Gap),
    /// The origin ended the stream on purpose. The subscription stays: a later start follows as a new instance.
    End,
}

/// How far a subscription for a stream has come.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// No origin of that name is known (yet).
    Unknown,
    /// An origin is known, but there is no way to it at the moment.
    Unreachable {
        /// The origin.
        origin: NodeId,
    },
    /// It was asked for.
    Requested,
    /// It was refused; another try follows.
    Refused {
        /// Why.
        reason: RefuseReason,
    },
    /// A neighbour said that it sends it, and nothing comes.
    Stalled,
    /// Frames come.
    Active {
        /// From which start of the stream.
        instance: Instance,
    },
    /// Frames come over one way, though two were asked for: there is no other, or it refused. It is looked for again.
    OnePath {
        /// From which start of the stream.
        instance: Instance,
    },
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("no node offers a stream of that name yet"),
            Self::Unreachable { origin } => write!(
                f,
                "node {} offers it, but there is no way to that node at the moment",
                origin.short()
            ),
            Self::Requested => f.write_str("requested"),
            Self::Refused { reason } => write!(f, "refused: {reason}; trying again"),
            Self::Stalled => {
                f.write_str("a neighbour accepted, but nothing comes; another is tried")
            }
            Self::Active { instance } => write!(f, "comes from node {}", instance.origin.short()),
            Self::OnePath { instance } => write!(
                f,
                "comes from node {} over one way alone: no second one is to be had at the moment",
                instance.origin.short()
            ),
        }
    }
}

/// One start of a stream at one origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Instance {
    /// The origin.
    pub origin: NodeId,
    /// The start.
    pub id: InstanceId,
    /// Unix time of the start in units of 50 ms. With a group's number added, it names that group for ever, and
    /// equally at every node.
    pub group_base: u64,
}

impl Instance {
    pub(crate) const fn new(origin: NodeId, id: InstanceId, group_base: u64) -> Self {
        Self {
            origin,
            id,
            group_base,
        }
    }
}

impl From<&Announce> for Instance {
    fn from(announce: &Announce) -> Self {
        Self::new(announce.origin, announce.instance, announce.group_base)
    }
}

/// Frames that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// How many packets did not arrive; zero if it was not packets that were lost.
    pub packets: u64,
    /// How many frames were skipped here; zero if they never became whole.
    pub frames: u64,
}

/// Why frames are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum GapReason {
    /// Packets did not arrive in time.
    Lost,
    /// Packets did not open, or what they held made no sense.
    Bad,
    /// More packets waited to be put in order than the limit allows.
    Overrun,
    /// The flow was away, and how much of it is missing is not known.
    Interrupted,
    /// This subscriber did not take frames fast enough, and was skipped to the start of a group.
    Slow,
}

impl fmt::Display for GapReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "packets were lost",
            Self::Bad => "packets did not open",
            Self::Overrun => "too many packets waited to be put in order",
            Self::Interrupted => "the flow was away",
            Self::Slow => "the subscriber was too slow",
        })
    }
}

/// Gets one stream, for as long as it is held. Made by [`crate::Node::subscribe`].
///
/// Who takes frames too slowly is skipped to the start of a group, with a [`Delivery::Gap`] that counts what was
/// skipped; nobody else is held up.
#[derive(Debug)]
pub struct Subscriber {
    name: StreamName,
    queue: Arc<Queue>,
    /// Ends the subscription when it is dropped.
    _slot: Slot,
}

impl Subscriber {
    pub(crate) const fn new(name: StreamName, queue: Arc<Queue>, slot: Slot) -> Self {
        Self {
            name,
            queue,
            _slot: slot,
        }
    }

    /// The stream's name.
    #[must_use]
    pub const fn name(&self) -> &StreamName {
        &self.name
    }

    /// Waits for what comes next; `None` once the node is gone.
    ///
    /// May be dropped before it is ready: nothing is lost.
    pub async fn next(&mut self) -> Option<Delivery> {
        std::future::poll_fn(|context| self.queue.poll_next(context)).await
    }
}

impl Stream for Subscriber {
    type Item = Delivery;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.queue.poll_next(context)
    }
}

/// Why a stream cannot be subscribed to. That nobody offers it is no error: see [`State::Unknown`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The node is at its limit.
    #[error(
        "this node has {max} publishers and subscribers, which is all it may have: end one first"
    )]
    Full {
        /// The limit.
        max: usize,
    },
    /// The node subscribes to as many different streams as it may. Any number may subscribe to one of those.
    #[error(
        "this node subscribes to {max} streams, which is all it may: end the last subscriber of one first"
    )]
    FullOfStreams {
        /// The limit. Other layers, repair budgets and paths of a stream count too.
        max: usize,
    },
    /// The node is gone.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}
