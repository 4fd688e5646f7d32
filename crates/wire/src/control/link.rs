//! What linked nodes say about the link itself.
//!
//! Liveness and loss are not here: they are measured by link datagrams (`datagram::link`), on the path that
//! media takes. Called by `core::link`. Invariant: nothing here is trusted before the TLS handshake has
//! pinned the peer's node id.
//!
//! Wire definition: docs/wire.md section 7.1

use minicbor::{Decode, Encode};

use super::messages;
use super::survey::{Answer, Question};
use crate::id::{LinkIndex, NetworkId, NodeId};

/// The most addresses of one [`Outside`] that count.
pub const OUTSIDE_ADDRESSES_MAX: usize = 16;

/// The most nodes of one [`Outside`] that count.
pub const OUTSIDE_NODES_MAX: usize = 64;

/// The longest name of a node, in bytes.
pub const NODE_NAME_BYTES_MAX: usize = 64;

messages! {
    /// Messages about the link.
    LinkMessage {
        /// The first message in each direction.
        0x01 => Hello,
        /// The last one: the sender goes away on purpose.
        0x02 => Leave,
        /// What the sender knows of the world outside its site.
        0x03 => Outside,
        /// What is a node, somewhere on a way that the asker knows?
        0x10 => Question,
        /// What it says of itself.
        0x11 => Answer,
    }
}

impl LinkMessage {
    /// What it holds beside itself.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::Hello(hello) => hello.name.len(),
            Self::Leave(leave) => leave.reason.len(),
            Self::Outside(outside) => {
                let addresses = outside.addresses.iter().map(String::len);
                addresses.sum::<usize>() + size_of_val(&*outside.linked)
            }
            Self::Question(question) => size_of_val(&*question.path),
            Self::Answer(answer) => answer.held_bytes(),
        }
    }
}

/// The first message in each direction.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Hello {
    /// The network the sender belongs to; links form within one network.
    #[n(0)]
    pub network: NetworkId,
    /// Drawn at each start of the node: tells a restarted peer from a second link to the same one.
    #[n(1)]
    pub boot: u64,
    /// What the sender wants written into link datagrams to it.
    #[n(2)]
    pub index: LinkIndex,
    /// The sender's name, for people.
    #[n(3)]
    pub name: String,
    /// Whether the sender forwards for others.
    #[n(4)]
    pub relay: bool,
}

/// The sender goes away on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Leave {
    /// Why, for people; at most 200 bytes are kept.
    #[n(0)]
    pub reason: String,
}

/// What the sender knows of the world outside its site: a member tells its hub, and the hub its members.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Outside {
    /// `IP:PORT` of the relays that a member was told of, for its hub to dial.
    #[n(0)]
    pub addresses: Vec<String>,
    /// The nodes outside the site that a hub has dialled and is linked to: members leave those to it.
    #[n(1)]
    pub linked: Vec<NodeId>,
}
