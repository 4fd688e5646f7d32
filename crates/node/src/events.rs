//! What happens at a node, for whoever wants to know at once: a terminal, a dashboard.
//!
//! Not state: who missed some looks at the [`crate::View`]. Sent by `driver`. Invariant: a listener that is slow
//! loses the oldest events and is told how many; nobody waits for it.

use std::net::SocketAddr;
use std::time::Duration;

use levada_wire::{NodeId, StreamName};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A link came up.
    LinkUp {
        /// The peer's node id.
        peer: NodeId,
        /// What it calls itself.
        name: String,
        /// The peer's address and port.
        remote: SocketAddr,
    },
    /// A link went down.
    LinkDown {
        /// The peer's node id.
        peer: NodeId,
        /// Why, for people.
        reason: String,
    },
    /// Two nodes run with one key, whose state directory was copied: one is linked, the other is refused.
    KeyCopied {
        /// The node id that both prove.
        peer: NodeId,
        /// Where the one is that is linked.
        linked: SocketAddr,
        /// Where the other is.
        refused: SocketAddr,
    },
    /// A link loses too much of what it is given: its newest flows were cut, and no further one is admitted for a
    /// while.
    Congested {
        /// The peer's node id.
        peer: NodeId,
        /// How many flows were cut.
        flows: usize,
        /// How long no further one is admitted.
        pause: Duration,
    },
    /// A node was found on the LAN.
    MemberFound {
        /// Its id.
        node: NodeId,
        /// Its address and port.
        address: SocketAddr,
    },
    /// A node of the site was not heard for too long.
    MemberLost {
        /// Its id.
        node: NodeId,
    },
    /// The site has another hub, or none.
    HubChanged {
        /// The hub; none while there is none.
        hub: Option<NodeId>,
        /// Why, for people.
        reason: String,
    },
    /// A neighbour could not be reached; it is tried again.
    DialFailed {
        /// The address and port that were dialled.
        remote: SocketAddr,
        /// Why, for people.
        reason: String,
    },
    /// A neighbour's name was not found; it is looked up again.
    NotResolved {
        /// The address as it was given.
        address: String,
        /// Why, for people.
        reason: String,
    },
    /// A stream became known, changed, or went: the view says which.
    StreamsChanged {
        /// Its name.
        name: StreamName,
    },
    /// A part of the node failed, and the node stops.
    Failed {
        /// Which, for people.
        reason: String,
    },
    /// The listener was too slow, and this many events are lost to it.
    Missed {
        /// How many events were lost.
        events: u64,
    },
}

/// A listener. Made by [`crate::Node::events`].
#[derive(Debug)]
pub struct Events {
    receiver: Option<broadcast::Receiver<Event>>,
}

impl Events {
    pub(crate) const fn new(receiver: Option<broadcast::Receiver<Event>>) -> Self {
        Self { receiver }
    }

    /// Waits for the next event; `None` once the node is gone.
    pub async fn next(&mut self) -> Option<Event> {
        match self.receiver.as_mut()?.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(events)) => Some(Event::Missed { events }),
            Err(RecvError::Closed) => None,
        }
    }
}
