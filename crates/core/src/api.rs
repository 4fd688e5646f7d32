//! What goes into [`crate::Control`] and what comes out: the whole border between decisions and the world.
//!
//! Not the decisions. Used by `node` and `sim`, which translate it to sockets or to virtual links, and by the
//! parts of this crate. Invariant: everything here is plain data; handing it over has no effect by itself.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use levada_wire::announce::LayerOffer;
use levada_wire::control::flow::RefuseReason;
use levada_wire::control::survey::Overview;
use levada_wire::control::{Concern, Message};
use levada_wire::key::Suite;
use levada_wire::lane::{self, FlowCommand, LinkCommand};
use levada_wire::{
    Announce, Bitrate, Description, FlowId, Identity, Layer, LinkIndex, NetworkId, NodeId,
    PacketSize, RepairBudget, StreamName, WallTime,
};

use crate::channels;
use crate::site;
use crate::survey::{Ask, Unheard};

/// What a node is told once, at its start.
#[derive(Clone)]
pub struct Settings {
    /// Who this node is.
    pub identity: Identity,
    /// The network it belongs to.
    pub network: NetworkId,
    /// Its name, for people.
    pub name: String,
    /// Whether it forwards flows for others.
    pub relay: bool,
    /// Whether it takes links that others open. Not so in client mode.
    pub accept: bool,
    /// The rate that its children are promised at most, all together; none for no limit.
    pub uplink: Option<Bitrate>,
    /// Seeds every random choice of the machines. From the system's entropy in production.
    pub seed: [u8; 32],
}

impl fmt::Debug for Settings {
    /// Without the seed: a node's content secrets and carry keys are drawn from it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            identity,
            network,
            name,
            relay,
            accept,
            uplink,
            seed: _,
        } = self;
        f.debug_struct("Settings")
            .field("identity", identity)
            .field("network", network)
            .field("name", name)
            .field("relay", relay)
            .field("accept", accept)
            .field("uplink", uplink)
            .finish_non_exhaustive()
    }
}

/// A configured neighbour: tried for ever, all its addresses in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Where it may be; dialled 250 ms apart until one answers.
    pub addresses: Vec<SocketAddr>,
    /// Who it must be, when that is known.
    pub node: Option<NodeId>,
}

/// One attempt to reach an address. Chosen by the core, named in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(pub u64);

/// The number of a local subscription to a stream by name. Chosen by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(pub u64);

/// What may happen, by the part that it concerns.
#[derive(Clone, Debug)]
pub enum Input {
    /// To connections and neighbours.
    Link(LinkInput),
    /// To streams and subscriptions.
    Flow(FlowInput),
    /// To the site.
    Site(site::Input),
    /// The lanes tell of packets.
    Lane(lane::Event),
    /// All that was said of that concern before an [`Output::Mark`] was handed to the transport.
    Written {
        /// This node's number for the link.
        link: LinkIndex,
        /// What the mark was of.
        concern: Concern,
    },
    /// The node's user asks what another node is. Answered by [`Output::Heard`].
    Ask(Ask),
    /// What this node says of itself, after [`Output::Describe`].
    Described {
        /// The number of that question.
        question: u32,
        /// Its links, flows and counts at the moment.
        overview: Overview,
    },
    /// This node goes away on purpose: it tells all neighbours, withdraws its streams, closes its links.
    Leave,
}

impl From<LinkInput> for Input {
    fn from(input: LinkInput) -> Self {
        Self::Link(input)
    }
}

impl From<site::Input> for Input {
    fn from(input: site::Input) -> Self {
        Self::Site(input)
    }
}

impl From<FlowInput> for Input {
    fn from(input: FlowInput) -> Self {
        Self::Flow(input)
    }
}

/// What may happen to connections, and which neighbours the node's user wants.
#[derive(Clone, Debug)]
pub enum LinkInput {
    /// Keep a link to this neighbour. Ignored beyond [`crate::limits::NEIGHBOURS_MAX`], as are addresses beyond
    /// [`crate::limits::ADDRESSES_MAX`]: whoever takes them from a user refuses them there.
    AddNeighbour(Neighbour),
    /// Do not keep one any more; an existing link stays until it ends by itself.
    RemoveNeighbour(Neighbour),
    /// A connection is up, its peer's node id proven by TLS. `dial` names the attempt if it was ours.
    Connected {
        /// This node's number for it, never used before.
        link: LinkIndex,
        /// The proven peer.
        peer: NodeId,
        /// Where the peer is.
        remote: SocketAddr,
        /// The attempt that made it.
        dial: Option<DialId>,
    },
    /// An attempt failed.
    DialFailed {
        /// The number of the attempt that failed.
        dial: DialId,
        /// Why, for people.
        reason: String,
    },
    /// A connection is gone, whoever closed it.
    Disconnected {
        /// This node's number for the link.
        link: LinkIndex,
        /// Who ended it, in which words.
        reason: ConnectionLost,
    },
    /// A control message of any concern came in on a connection: links decide whether it is heard.
    Message {
        /// The number of the connection it came on.
        link: LinkIndex,
        /// Decoded, and not judged yet.
        message: Message,
    },
}

/// What the node's user may want of streams.
#[derive(Clone, Debug)]
pub enum FlowInput {
    /// Offer a stream. Answered by [`Event::Published`] for each layer, unless it is beyond a limit.
    Publish(Offer),
    /// The offered layers of a published stream changed (tracks, peak): announce it anew.
    Revise {
        /// Its name.
        name: StreamName,
        /// The layers as they are now.
        layers: Vec<LayerOffer>,
    },
    /// Take an offer back, on purpose.
    Unpublish {
        /// Its name.
        name: StreamName,
    },
    /// Want a stream, wherever it comes from, for as long as it takes.
    Subscribe {
        /// The caller's number for the subscription.
        id: SubscriptionId,
        /// The stream's name.
        name: StreamName,
        /// The layer; 0 has all tracks.
        layer: Layer,
        /// How late packets may be that its consumer still has a use for.
        budget: RepairBudget,
        /// Over how many ways it is to come.
        paths: Paths,
    },
    /// Do not want it any more.
    Unsubscribe {
        /// The subscription.
        id: SubscriptionId,
    },
}

/// A stream that this node offers.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Its name.
    pub name: StreamName,
    /// The wall clock at its start.
    pub wall: WallTime,
    /// The size of full packets.
    pub packet_size: PacketSize,
    /// How packets are sealed.
    pub suite: Suite,
    /// Its layers; layer 0 must be among them.
    pub layers: Vec<LayerOffer>,
    /// Its tracks, for the lane that is its origin.
    pub description: Arc<Description>,
    /// How long frames are gathered into a burst.
    pub flush_interval: Duration,
    /// Whether its publisher knows no peaks: those of the layers hold until they are measured, and
    /// [`FlowInput::Revise`] does not change them.
    pub is_measured: bool,
}

/// What the core wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Try to connect.
    Dial {
        /// The attempt's number.
        dial: DialId,
        /// The address and port that were dialled.
        remote: SocketAddr,
        /// Who must answer, when that is known.
        peer: Option<NodeId>,
    },
    /// Give up an attempt that is still under way.
    CancelDial {
        /// The number of the attempt that failed.
        dial: DialId,
    },
    /// Close a connection.
    Close {
        /// This node's number for the link.
        link: LinkIndex,
        /// Why.
        reason: LinkDown,
    },
    /// Send a control message.
    Send {
        /// On which connection.
        link: LinkIndex,
        /// Of any concern: it has a stream of its own on the connection.
        message: Message,
    },
    /// Say [`Input::Written`] once all that was sent of that concern before this was handed to the transport: no more
    /// of what everybody is told follows until then. Not answered where the link is gone.
    Mark {
        /// On which connection.
        link: LinkIndex,
        /// On which of its streams.
        concern: Concern,
    },
    /// A link is up: say [`LinkCommand::Add`] to the lanes, with its keys and addresses. Comes before any flow on it.
    LinkUp {
        /// This node's number for the link.
        link: LinkIndex,
        /// The peer's own number for the link, to be written into datagrams to it.
        remote_index: LinkIndex,
    },
    /// Tell the lanes, about a link that is up; never [`LinkCommand::Add`].
    Link(LinkIndex, LinkCommand),
    /// Tell the lanes, about a flow. What is said of one flow must be done in that order.
    Flow(FlowId, FlowCommand),
    /// Hear and speak on these interfaces for the site, and on no other.
    Listen(Vec<site::Listener>),
    /// Send a site datagram.
    Say {
        /// By this interface.
        interface: u32,
        /// To a channel or to a node.
        to: SocketAddr,
        /// The datagram.
        datagram: Vec<u8>,
    },
    /// A peer asks what this node is: say it by [`Input::Described`].
    Describe {
        /// The number of the question.
        question: u32,
        /// Only this flow, and the link that it comes by.
        flow: Option<FlowId>,
    },
    /// The end of an [`Input::Ask`].
    Heard {
        /// The caller's number for it.
        ask: u64,
        /// The overview, or why there is none.
        heard: Result<Overview, Unheard>,
    },
    /// Tell the node's user.
    Event(Event),
}

/// Something a user of the node may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A link came up.
    LinkUp {
        /// This node's number for the link.
        link: LinkIndex,
        /// The peer's node id.
        peer: NodeId,
        /// What it calls itself.
        name: String,
        /// The peer's address and port.
        remote: SocketAddr,
    },
    /// A link went down.
    LinkDown {
        /// This node's number for the link.
        link: LinkIndex,
        /// The peer's node id.
        peer: NodeId,
        /// Why.
        reason: LinkDown,
    },
    /// Two processes run with the key of one node, whose machine or state directory was copied. One is linked, the
    /// other is refused. Said once a minute at most.
    KeyCopied {
        /// The node id that both prove.
        peer: NodeId,
        /// Where the one is that is linked.
        linked: SocketAddr,
        /// Where the other is.
        refused: SocketAddr,
    },
    /// A link loses too much of what it is given: flows over it were cut, the newest first, and no further one is let
    /// in for a while (RFC 8083).
    Congested {
        /// This node's number for the link.
        link: LinkIndex,
        /// The peer's node id.
        peer: NodeId,
        /// How many flows were cut.
        flows: usize,
        /// How long no further one is admitted.
        pause: Duration,
    },
    /// A neighbour could not be reached; it is tried again.
    DialFailed {
        /// The address and port that were dialled.
        remote: SocketAddr,
        /// Why, for people.
        reason: String,
    },
    /// A layer of a stream is published here from now on. Comes before the order to originate its flow.
    Published {
        /// The stream's name.
        name: StreamName,
        /// The layer.
        layer: Layer,
        /// Its flow.
        flow: FlowId,
    },
    /// A stream became known, was revised, restarted, or went.
    StreamsChanged {
        /// Its name.
        name: StreamName,
    },
    /// Streams that neighbours announce are not taken, since the catalogue has all it can have, of one origin, of one
    /// address or of all. Said once a minute at most.
    CatalogueFull {
        /// Who announced the last of them.
        peer: NodeId,
        /// Its name.
        name: StreamName,
        /// How many were not taken since this was said before.
        refused: u64,
    },
    /// A node did not take the announce of a stream that is published here: whoever is behind it does not know the
    /// stream. Said once a minute at most, for each stream.
    NotListed {
        /// The stream's name.
        name: StreamName,
        /// The node that did not take it, as it says itself.
        node: NodeId,
        /// Why.
        reason: RefuseReason,
    },
    /// A stream published here sends more in a second than its publisher declared. It is held to that: nodes may skip
    /// what is above it. Said once a minute at most.
    PeakExceeded {
        /// Its name.
        name: StreamName,
        /// The declared most in any second.
        peak: Bitrate,
        /// The rate over the last second.
        rate: Bitrate,
    },
    /// The largest picture of a stream takes longer at the pace of the path to a neighbour than the neighbour waits.
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
    /// Something happened in the site.
    Site(site::Event),
    /// A stream reaches a node of the site in another way.
    Channels(channels::Event),
    /// A subscription moved on.
    Subscription {
        /// The caller's number for it.
        id: SubscriptionId,
        /// To what.
        state: SubscriptionState,
    },
}

/// Over how many ways a flow comes to whoever subscribes to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Paths {
    /// Over the best; another is asked when that one fails.
    #[default]
    One,
    /// Over two neighbours at the same time, whose ways share as few nodes as routes can tell: when one fails nothing
    /// is missed. It costs the flow twice.
    Two,
}

/// How far a subscription has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscriptionState {
    /// No origin of that name is known (yet).
    Unknown,
    /// An origin is known, but there is no way to it at the moment.
    Unreachable {
        /// The origin.
        origin: NodeId,
    },
    /// The flow was requested.
    Requested {
        /// The flow's id.
        flow: FlowId,
    },
    /// The flow was refused; another try follows.
    Refused {
        /// The flow's id.
        flow: FlowId,
        /// Why.
        reason: RefuseReason,
    },
    /// Frames come from this flow from now on. A second one means that the stream moved to a new instance.
    Active {
        /// The flow's id.
        flow: FlowId,
        /// What its origin says of it.
        announce: Box<Announce>,
    },
    /// The same, but over one way though two are wanted: there is no other, or it was refused.
    /// [`SubscriptionState::Active`] follows when there are two.
    OnePath {
        /// The flow's id.
        flow: FlowId,
        /// What its origin says of it.
        announce: Box<Announce>,
    },
    /// A neighbour accepted, and nothing has come for [`crate::limits::STALLED_AFTER`]; another is asked besides, if
    /// there is one. [`SubscriptionState::Active`] follows when something comes.
    Stalled {
        /// The flow's id.
        flow: FlowId,
    },
    /// The origin took the stream back on purpose. Its last packets may still be on their way: the flow stays open for
    /// [`crate::limits::ENDING`].
    Ended,
}

/// Why a link closed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkDown {
    /// The peer left on purpose, with its reason.
    PeerLeft(String),
    /// This node leaves.
    Leaving,
    /// The peer fell silent.
    Silent,
    /// The connection was lost underneath.
    Lost(ConnectionLost),
    /// Another link to the same node is kept instead.
    Duplicate,
    /// The peer restarted, and its new link took the place of this one.
    Superseded,
    /// Another process with the peer's key is linked.
    Copied,
    /// Not the node that was expected.
    WrongNode,
    /// The node linked to itself.
    Self_,
    /// Of another network.
    WrongNetwork,
    /// The peer broke the protocol.
    Protocol(&'static str),
    /// A limit of this node is reached.
    Full,
    /// Too many links come from the peer's address.
    Crowded,
    /// This node has no more use for it.
    Unwanted,
    /// The hub of this node's site has a link to the same node.
    Rests,
}

/// How a connection ended underneath.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionLost {
    /// The peer closed it, with its words.
    ClosedByPeer(String),
    /// This node closed it.
    ClosedHere,
    /// The transport gave up, with its words.
    Failed(String),
}

impl fmt::Display for LinkDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerLeft(words) => write!(f, "the peer left: {words}"),
            Self::Leaving => f.write_str("this node leaves"),
            Self::Silent => f.write_str("the peer fell silent"),
            Self::Lost(lost) => lost.fmt(f),
            Self::Duplicate => f.write_str("another link to the same node is kept"),
            Self::Superseded => f.write_str("the peer restarted"),
            Self::Copied => f.write_str(
                "another node with the same key is linked: its state directory was copied; give each a key of its own",
            ),
            Self::WrongNode => f.write_str("another node answers at this address"),
            Self::Self_ => f.write_str("this address is this node's own"),
            Self::WrongNetwork => f.write_str("the peer belongs to another network"),
            Self::Protocol(what) => write!(f, "the peer broke the protocol: {what}"),
            Self::Full => f.write_str("this node has all the links it can have"),
            Self::Crowded => write!(
                f,
                "{} links come from this address already, which is all that may",
                crate::limits::LINKS_PER_ADDRESS_MAX
            ),
            Self::Unwanted => f.write_str("this node takes no links"),
            Self::Rests => f.write_str("the hub of its site has a link for it"),
        }
    }
}

impl fmt::Display for ConnectionLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClosedByPeer(words) => write!(f, "closed by the peer: {words}"),
            Self::ClosedHere => f.write_str("closed by this node"),
            Self::Failed(words) => write!(f, "the connection failed: {words}"),
        }
    }
}

/// What is declared of a stream whose publisher declares nothing, until it is measured.
pub const PEAK_DEFAULT: Bitrate = Bitrate(20_000_000);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_are_shown_show_no_seed() {
        let settings = Settings {
            identity: Identity::from_secret(&[1; 32]),
            network: NetworkId::OPEN,
            name: "cam".to_owned(),
            relay: true,
            accept: true,
            uplink: None,
            seed: [213; 32],
        };

        let shown = format!("{settings:?} {settings:#x?}");

        assert!(shown.contains("cam"), "{shown}");
        assert!(!shown.contains("213") && !shown.contains("d5"), "{shown}");
    }
}
