//! What goes into [`super::Links`] from the other parts and what comes out for them.
//!
//! Plain data, without a decision. Handed on by `Control`. Invariant: a [`Output::Pass`] never names a link that is
//! not up.

use std::collections::BTreeSet;

use levada_wire::control::Message;
use levada_wire::control::link::Outside;
use levada_wire::lane::LinkEvent;
use levada_wire::{LinkIndex, NodeId, PacketSize};

use super::pressure::Pressure;
use super::size::PathSize;
use crate::api::{self, LinkInput};
use crate::subnet::Subnet;

/// What may happen to the links.
#[derive(Clone, Debug)]
pub enum Input {
    /// Something outside the core.
    Outside(LinkInput),
    /// A lane tells of a link.
    Lane(LinkIndex, LinkEvent),
    /// Whether a flow uses the link: it is watched more closely then.
    Active {
        /// This node's number for the link.
        link: LinkIndex,
        /// Whether.
        active: bool,
    },
    /// The packet sizes that known streams have; links are tried with each.
    Sizes(BTreeSet<PacketSize>),
    /// Close a link that the hub of the site has too.
    Close(LinkIndex),
    /// This node leaves.
    Leave,
}

/// What the links want done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Something outside the core.
    Outside(api::Output),
    /// The link that comes up next was opened by a stranger: shares of what there is for all are counted by address.
    Stranger {
        /// This node's number for the link.
        link: LinkIndex,
        /// Where it comes from.
        subnet: Subnet,
    },
    /// A link is up.
    Up {
        /// This node's number for the link.
        link: LinkIndex,
        /// The peer's node id.
        peer: NodeId,
    },
    /// A link that was up went down.
    Down {
        /// This node's number for the link.
        link: LinkIndex,
    },
    /// A message for another part, from a link that is up.
    Pass {
        /// This node's number for the link.
        link: LinkIndex,
        /// Of the concern of routes or of flows, or of a survey.
        message: Message,
    },
    /// The peer of a link that is up tells what it knows of the world outside its site.
    Told {
        /// This node's number for the link.
        link: LinkIndex,
        /// As it came.
        told: Outside,
    },
    /// What was found out about the path of a link.
    Path(LinkIndex, Path),
}

/// What was found out about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// How large packets may be that go over it; [`PathSize::default`] until said otherwise.
    Size(PathSize),
    /// The send rate beside that of a TCP connection, once per window of loss.
    Pressure(Pressure),
}
