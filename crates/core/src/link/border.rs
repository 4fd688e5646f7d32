//! What goes into [`super::Links`] and what comes out.
//!
//! Plain data, without a decision. Used by `Control`, which translates it to the node's own border. Invariant: a
//! [`Output::Pass`] never names a link that is not up.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use levada_wire::control::{LinkMessage, Message};
use levada_wire::datagram::link::LinkDatagram;
use levada_wire::{LinkIndex, NodeId, PacketSize};

use super::{Carries, Pressure};
use crate::api::{ConnectionLost, DialId, LinkDown, Neighbour};

/// What may happen to the links.
#[derive(Clone, Debug)]
pub enum Input {
    /// Keep a link to this neighbour.
    Add(Neighbour),
    /// Do not.
    Remove(Neighbour),
    /// A connection is up.
    Connected {
        /// This node's number for it.
        link: LinkIndex,
        /// The proven peer.
        peer: NodeId,
        /// Where it is.
        remote: SocketAddr,
        /// Which attempt made it.
        dial: Option<DialId>,
    },
    /// An attempt failed.
    DialFailed {
        /// Which.
        dial: DialId,
        /// Why.
        reason: String,
    },
    /// A connection is gone.
    Disconnected {
        /// Which.
        link: LinkIndex,
        /// How.
        reason: ConnectionLost,
    },
    /// A control message of any concern.
    Message {
        /// On which connection.
        link: LinkIndex,
        /// What.
        message: Message,
    },
    /// A link datagram.
    Datagram {
        /// On which link.
        link: LinkIndex,
        /// What.
        message: LinkDatagram,
        /// Datagrams that had arrived before it.
        received: u64,
    },
    /// Whether a flow uses the link: it is watched more closely then.
    Active {
        /// Which.
        link: LinkIndex,
        /// Whether.
        active: bool,
    },
    /// The packet sizes that known streams have; links are tried with each.
    Sizes(BTreeSet<PacketSize>),
    /// A datagram of that many bytes was too large for the link's first hop.
    TooLarge {
        /// Which link.
        link: LinkIndex,
        /// The bytes.
        bytes: usize,
    },
    /// This node leaves.
    Leave,
}

/// What the links want done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Try to connect.
    Dial {
        /// The attempt.
        dial: DialId,
        /// Where.
        remote: SocketAddr,
        /// Who must answer.
        peer: Option<NodeId>,
    },
    /// Give up an attempt.
    CancelDial {
        /// Which.
        dial: DialId,
    },
    /// Close a connection.
    Close {
        /// Which.
        link: LinkIndex,
        /// Why.
        reason: LinkDown,
    },
    /// Send a message about the link.
    Send {
        /// On which connection.
        link: LinkIndex,
        /// What.
        message: LinkMessage,
    },
    /// Send a link datagram.
    Datagram {
        /// On which link.
        link: LinkIndex,
        /// What.
        message: LinkDatagram,
    },
    /// A link is up.
    Up(Peer),
    /// A link that was up is no more.
    Down {
        /// Which.
        link: LinkIndex,
        /// To whom.
        peer: NodeId,
        /// Why.
        reason: LinkDown,
    },
    /// A message for another part, from a link that is up.
    Pass {
        /// Which link.
        link: LinkIndex,
        /// What.
        message: Message,
    },
    /// How large packets may be that go over a link; [`Carries::default`] until said otherwise.
    Carries {
        /// Which link.
        link: LinkIndex,
        /// How large.
        carries: Carries,
    },
    /// How hard this node presses on a link, once in a while.
    Presses {
        /// Which link.
        link: LinkIndex,
        /// How hard.
        pressure: Pressure,
    },
    /// An address could not be reached.
    DialFailed {
        /// Where.
        remote: SocketAddr,
        /// Why.
        reason: String,
    },
}

/// A peer as its hello and its connection say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// This node's number for the link.
    pub link: LinkIndex,
    /// The peer's number for it.
    pub remote_index: LinkIndex,
    /// The proven node.
    pub node: NodeId,
    /// What it calls itself.
    pub name: String,
    /// Whether it forwards for others.
    pub relay: bool,
    /// Where it is.
    pub remote: SocketAddr,
}
