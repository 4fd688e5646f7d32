//! What goes into [`super::Channels`] and what comes out.
//!
//! Plain data, without a decision. Handed on by `Control`. Invariant: a link that is named here is up.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use levada_wire::control::FlowMessage;
use levada_wire::control::flow::{ChannelEnd, ChannelOffer, ChannelReport};
use levada_wire::datagram::site::SiteTag;
use levada_wire::datagram::site::probe::Probe;
use levada_wire::lane::{FlowCommand, FlowEvent, Interface};
use levada_wire::{FlowId, LinkIndex, NetworkId, NodeId, Number, PacketSize, StreamName};
use serde::{Deserialize, Serialize};

/// What may happen to the channels.
#[derive(Clone, Debug)]
pub enum Input {
    /// The node takes part in a site from now on. Said once.
    Begin(NetworkId, SiteTag),
    /// A link is up.
    LinkUp {
        /// This node's number for the link.
        link: LinkIndex,
        /// The peer's node id.
        peer: NodeId,
        /// Where the peer is.
        remote: SocketAddr,
    },
    /// A link went down.
    LinkDown(LinkIndex),
    /// Where a node of the site is, or that it is of the site no more.
    Local {
        /// The node.
        peer: NodeId,
        /// By which interface it is heard.
        at: Option<Local>,
    },
    /// Where a flow comes from and goes to changed.
    Shape(Shape),
    /// A neighbour speaks.
    Message(LinkIndex, Message),
    /// A lane tells of a flow.
    Lane(FlowId, FlowEvent),
    /// A probe was heard.
    Probe {
        /// Who sent it, as the site has proven.
        sender: NodeId,
        /// As it came.
        probe: Probe,
    },
}

/// Where a node of the site is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// By which interface.
    pub interface: Interface,
    /// Whether both ends are on a wire: elsewhere multicast is slow and goes unacknowledged, and unicast is better.
    pub is_wired: bool,
}

/// Where a flow comes from and goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The flow.
    pub flow: FlowId,
    /// The name of its stream.
    pub name: StreamName,
    /// The size of full packets.
    pub packet_size: PacketSize,
    /// The link that it comes over.
    pub from: Option<LinkIndex>,
    /// The links whose peers are fed.
    pub to: BTreeSet<LinkIndex>,
    /// Whether it is here still; else the lanes have closed it, and with it all that is of it.
    pub is_here: bool,
}

/// What neighbours say of channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A parent offers one.
    Offer(ChannelOffer),
    /// A parent takes an offer back.
    End(ChannelEnd),
    /// A child says what it hears.
    Report(ChannelReport),
}

/// What the channels want done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Tell the lanes.
    Command(FlowId, FlowCommand),
    /// Tell a neighbour.
    Send(LinkIndex, FlowMessage),
    /// Send a probe by an interface to a channel.
    Probe {
        /// The system's number for the interface.
        interface: u32,
        /// The channel.
        to: SocketAddr,
        /// The probe.
        probe: Probe,
    },
    /// A child gets the flow by a channel and needs no copy of its own, or needs one again.
    ByChannel {
        /// The flow.
        flow: FlowId,
        /// The link to the child.
        link: LinkIndex,
        /// Whether it gets it by a channel.
        is_so: bool,
        /// What it has, if it needs a copy of its own again.
        have: Option<Number>,
    },
    /// Tell the node's user.
    Event(Event),
}

/// What a user of the node may want to know of channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A stream reaches a node in another way than before.
    ModeChanged {
        /// The stream.
        name: StreamName,
        /// Who receives it: this node, or one that it sends to.
        receiver: NodeId,
        /// How from now on.
        mode: Mode,
        /// Why.
        cause: Cause,
    },
}

/// How a stream reaches a node of the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// By one copy for all who hear it.
    Multicast,
    /// By a copy of its own.
    Unicast,
}

/// Why a stream reaches a node as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// All begins by unicast; whether the channel is heard is being found out.
    Proving,
    /// It hears the channel.
    Heard,
    /// It heard nothing on the channel for longer than the stream pauses.
    Silent,
    /// It lost more than is worth repairing.
    Lossy {
        /// Of a thousand packets.
        permille: u16,
    },
    /// Its system does not let it join the channel.
    Unjoined,
    /// It, or this node, is not on a wire.
    NotWired,
    /// It says no reason that this version knows.
    Other,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Multicast => "multicast",
            Self::Unicast => "unicast",
        })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proving => f.write_str("whether the channel is heard is being found out"),
            Self::Heard => f.write_str("it hears the channel"),
            Self::Silent => f.write_str(
                "it heard nothing on the channel; a firewall or the switch drops UDP port 7801",
            ),
            Self::Lossy { permille: 0 } => f.write_str("it lost more than 5% on the channel"),
            Self::Lossy { permille } => {
                let (whole, tenth) = (permille / 10, permille % 10);
                write!(
                    f,
                    "it lost {whole}.{tenth}% on the channel; a link or switch on the way drops multicast"
                )
            }
            Self::Unjoined => f.write_str("its system did not let it join the channel"),
            Self::NotWired => f.write_str("multicast does not suit Wi-Fi and tunnels"),
            Self::Other => f.write_str("it says a reason that this version does not know"),
        }
    }
}
