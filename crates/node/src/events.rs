//! What happens at a node, for whoever wants to know at once: a terminal, a dashboard.
//!
//! Not state: who missed some looks at the [`crate::View`]. Sent by `driver`. Invariant: a listener that is slow
//! loses the oldest events and is told how many; nobody waits for it.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use levada_core::channels::Mode;
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
    /// A stream reaches a node of the site in another way: by one copy for all, or by one of its own.
    ModeChanged {
        /// Its name.
        name: StreamName,
        /// Who receives it: this node, or one that it sends to.
        node: NodeId,
        /// How from now on.
        mode: Mode,
        /// Why, for people.
        reason: String,
    },
    /// Streams that neighbours announce are not taken, since this node knows as many as it may.
    CatalogueFull {
        /// Who announced the last of them.
        peer: NodeId,
        /// Its name.
        name: StreamName,
        /// How many were not taken since this was said before.
        refused: u64,
    },
    /// A node did not take the announce of a stream that is published here: whoever is behind it does not know the
    /// stream.
    NotListed {
        /// The stream's name.
        name: StreamName,
        /// The node that did not take it, as it says itself.
        node: NodeId,
        /// Why, for people.
        reason: String,
    },
    /// The largest picture of a stream takes longer at the pace of the path to a neighbour than the neighbour waits:
    /// what gets lost of its end cannot be repaired in time.
    PathTooSlow {
        /// The stream's name.
        name: StreamName,
        /// The neighbour's node id.
        peer: NodeId,
        /// How long the picture takes.
        takes: Duration,
        /// How long the neighbour waits.
        budget: Duration,
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

impl Event {
    /// What kind it is, in one word.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::LinkUp { .. } => "link_up",
            Self::LinkDown { .. } => "link_down",
            Self::KeyCopied { .. } => "key_copied",
            Self::Congested { .. } => "congested",
            Self::MemberFound { .. } => "member_found",
            Self::MemberLost { .. } => "member_lost",
            Self::HubChanged { .. } => "hub_changed",
            Self::ModeChanged { .. } => "mode_changed",
            Self::CatalogueFull { .. } => "catalogue_full",
            Self::NotListed { .. } => "not_listed",
            Self::PathTooSlow { .. } => "path_too_slow",
            Self::DialFailed { .. } => "dial_failed",
            Self::NotResolved { .. } => "not_resolved",
            Self::StreamsChanged { .. } => "streams_changed",
            Self::Failed { .. } => "failed",
            Self::Missed { .. } => "missed",
        }
    }

    /// The peer that it is about.
    #[must_use]
    pub const fn peer(&self) -> Option<NodeId> {
        match self {
            Self::LinkUp { peer, .. }
            | Self::LinkDown { peer, .. }
            | Self::KeyCopied { peer, .. }
            | Self::Congested { peer, .. }
            | Self::CatalogueFull { peer, .. }
            | Self::PathTooSlow { peer, .. } => Some(*peer),
            _ => None,
        }
    }

    /// The stream that it is about.
    #[must_use]
    pub const fn stream(&self) -> Option<&StreamName> {
        match self {
            Self::StreamsChanged { name }
            | Self::ModeChanged { name, .. }
            | Self::CatalogueFull { name, .. }
            | Self::NotListed { name, .. }
            | Self::PathTooSlow { name, .. } => Some(name),
            _ => None,
        }
    }
}

/// As a sentence for people.
impl fmt::Display for Event {
    // tidy: long a sentence for each event
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkUp { peer, name, remote } => {
                write!(f, "the link to {name} ({}) at {remote} is up", peer.short())
            }
            Self::LinkDown { peer, reason } => {
                write!(f, "the link to {} is down: {reason}", peer.short())
            }
            Self::KeyCopied {
                peer,
                linked,
                refused,
            } => write!(
                f,
                "two nodes have the key of {}: {linked} is linked, {refused} is refused; give one of them a state \
                 directory of its own",
                peer.short()
            ),
            Self::Congested { peer, flows, pause } => write!(
                f,
                "the link to {} loses too much: {flows} flows were cut, and for {} s none is admitted",
                peer.short(),
                pause.as_secs()
            ),
            Self::MemberFound { node, address } => {
                write!(f, "{} at {address} was found in the site", node.short())
            }
            Self::MemberLost { node } => {
                write!(f, "{} was not heard in the site for too long", node.short())
            }
            Self::HubChanged {
                hub: Some(hub),
                reason,
            } => {
                write!(f, "{} is the hub of the site: {reason}", hub.short())
            }
            Self::HubChanged { hub: None, reason } => write!(f, "the site has no hub: {reason}"),
            Self::ModeChanged {
                name,
                node,
                mode,
                reason,
            } => write!(f, "{} receives `{name}` by {mode}: {reason}", node.short()),
            Self::CatalogueFull {
                peer,
                name,
                refused,
            } => write!(
                f,
                "{refused} streams were not taken, the last `{name}` from {}: this node knows as many as it may",
                peer.short()
            ),
            Self::NotListed { name, node, reason } => write!(
                f,
                "{} does not list `{name}`, so that whoever is behind it cannot play it: {reason}",
                node.short()
            ),
            Self::PathTooSlow {
                name,
                peer,
                takes,
                budget,
            } => too_slow(f, name, peer, (*takes, *budget)),
            Self::DialFailed { remote, reason } => write!(f, "{remote} was not reached: {reason}"),
            Self::NotResolved { address, reason } => {
                write!(f, "`{address}` was not found: {reason}")
            }
            Self::StreamsChanged { name } => write!(f, "`{name}` came, changed or went"),
            Self::Failed { reason } => {
                write!(f, "the node stops, since a part of it failed: {reason}")
            }
            Self::Missed { events } => write!(f, "{events} events were missed"),
        }
    }
}

fn too_slow(
    f: &mut fmt::Formatter<'_>,
    name: &StreamName,
    peer: &NodeId,
    (takes, budget): (Duration, Duration),
) -> fmt::Result {
    write!(
        f,
        "the largest picture of `{name}` takes {} ms over the path to {}, which waits {} ms: what is lost of it cannot \
         be repaired; play with more latency there, or publish smaller key frames",
        takes.as_millis(),
        peer.short(),
        budget.as_millis()
    )
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
