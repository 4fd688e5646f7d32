//! What the core and the lanes say to each other: the one vocabulary of both.
//!
//! Not what they do with it, and nothing that crosses a network. The core says [`FlowCommand`], and [`LinkCommand`] but
//! for `Add`, whose keys and addresses only the driver has; lanes say [`Event`]. Whoever drives the two hands it over
//! as it is. Invariant: plain data that names flows and links by number; of a flow's commands the order counts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::datagram::link::LinkDatagram;
use crate::frame::Description;
use crate::id::{FlowId, InstanceId, LinkIndex};
use crate::key::{CarryKey, ContentSecret, LinkKey, Suite};
use crate::units::{Bitrate, Number, PacketSize, RepairBudget};

/// What a lane is to do about a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkCommand {
    /// It is up: datagrams may be sent to and taken from it. For a link that is there already only `remote`, `source`
    /// and `path` count: the peer has moved, its keys and counts go on.
    Add {
        /// The peer's number for it, written into datagrams to it.
        remote_index: LinkIndex,
        /// Where the peer is.
        remote: SocketAddr,
        /// This host's address that it is reached from: links of one address share an interface. `None` is an address
        /// too.
        source: Option<IpAddr>,
        /// What lies between this host and the peer.
        path: Path,
        /// Seals what is sent.
        send: LinkKey,
        /// Opens what is received.
        receive: LinkKey,
    },
    /// It went down; its egresses and upstreams go with it.
    Remove,
    /// Send a link datagram; the lane fills in `sent` of a ping.
    Send(LinkDatagram),
}

/// What lies between this host and a peer, as far as this host can tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Path {
    /// Anything: what is sent there is paced, since a queue on the way may be shorter than a picture.
    #[default]
    Unknown,
    /// A wire that both are attached to, or nothing at all: what is sent at once arrives.
    Wire,
}

/// What a lane is to do about a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlowCommand {
    /// Be ready for its packets; hold early ones until the key is there.
    Open,
    /// The key that proves its packets during one epoch. At most two epochs are held.
    SetCarryKey {
        /// The key epoch, as in the headers of its packets.
        epoch: u8,
        /// The key.
        key: CarryKey,
    },
    /// Packets may come over this link, and over no link that was never added: report the first one.
    AddUpstream(LinkIndex),
    /// None are expected over this link any more. Late ones are still taken.
    RemoveUpstream(LinkIndex),
    /// Packets come by this channel too: from upstreams, as over their links.
    Join(Channel),
    /// They do not any more.
    Leave(Channel),
    /// Say how far the flow has come: the peer of this link is to be asked for what follows.
    Reach(LinkIndex),
    /// The upstream over this link has accepted, and is to take another's place: say when it has delivered, even as
    /// duplicates, all up to what is here now.
    Compare(LinkIndex),
    /// It begins there: nothing below this number is wanted, unless something of it was here before.
    Begin(Number),
    /// Send it over this link, from the start of the newest cached group on. For an egress that is there already
    /// only the terms count.
    AddEgress(LinkIndex, EgressTerms),
    /// The same to a peer that has moved here and has what is below this number.
    MoveEgress(LinkIndex, EgressTerms, Number),
    /// Stop sending it.
    RemoveEgress(LinkIndex),
    /// Send it to this channel, live packets alone, for that long. Said again, it lasts longer.
    AddChannel {
        /// To which channel.
        channel: Channel,
        /// For how long, unless it is renewed.
        lifetime: Duration,
    },
    /// Stop sending it there.
    RemoveChannel(Channel),
    /// A link's peer hears that channel: it may ask for what it lost.
    AddMember {
        /// A channel that the flow is sent to, or was.
        channel: Channel,
        /// This node's number for the link to the member.
        link: LinkIndex,
    },
    /// It does not any more.
    RemoveMember {
        /// A channel that the flow is sent to, or was.
        channel: Channel,
        /// This node's number for the link to the member.
        link: LinkIndex,
    },
    /// What the origin declares that the flow needs at most: its share of the caches' room when that is short.
    SetPeak(Bitrate),
    /// How late the flow's packets may be here, over all hops: time to ask for them again, and what a consumer waits
    /// for what is missing. [`RepairBudget::DEFAULT`] until said otherwise.
    SetBudget(RepairBudget),
    /// Open the flow for local subscribers, from the start of the newest cached group on. If it is consumed already
    /// this only adds the key of another epoch: no frame is delivered twice.
    Consume {
        /// The instance, from which keys are made.
        instance: InstanceId,
        /// How packets are sealed.
        suite: Suite,
        /// The key epoch of the secret.
        epoch: u8,
        /// From it comes the key that opens each packet's body.
        secret: ContentSecret,
    },
    /// No local subscriber is left.
    StopConsuming,
    /// Be the flow's origin. It is open, keyed and cached from now on.
    Originate(Box<Originate>),
    /// Forget the flow.
    Close,
}

/// What an egress was admitted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EgressTerms {
    /// The rate that the flow's origin declares: no more is to be sent, but for repair.
    pub peak: Bitrate,
    /// How late packets may be at the other end.
    pub budget: RepairBudget,
}

impl EgressTerms {
    /// Whatever comes goes out. For benches and tests: an origin always declares something.
    pub const UNLIMITED: Self = Self {
        peak: Bitrate(u64::MAX),
        budget: RepairBudget::DEFAULT,
    };
}

/// How to be a flow's origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Originate {
    /// The instance, from which keys are made.
    pub instance: InstanceId,
    /// How packets are sealed.
    pub suite: Suite,
    /// The key epoch of the secrets.
    pub epoch: u8,
    /// What seals the packets.
    pub secret: ContentSecret,
    /// The key of the carry tags during that epoch.
    pub carry: CarryKey,
    /// The size of full packets.
    pub packet_size: PacketSize,
    /// The tracks.
    pub description: Arc<Description>,
    /// How long a frame may wait for others to share its burst; zero sends each at once.
    pub flush_interval: Duration,
}

/// An interface of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface {
    /// Its number.
    pub index: u32,
    /// Its IPv4 address, if it has one: by that the system knows it when something is sent to a channel of IPv4.
    pub address: Option<Ipv4Addr>,
}

/// A multicast channel of the network on one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Channel {
    /// Where packets for it are sent.
    pub address: SocketAddr,
    /// On which interface.
    pub interface: Interface,
}

/// What a lane tells the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// About a link.
    Link(LinkIndex, LinkEvent),
    /// About a flow.
    Flow(FlowId, FlowEvent),
    /// A site datagram came in on a channel of media: unproven, and nothing but a probe should come that way.
    Site {
        /// Where it came from.
        from: SocketAddr,
        /// As it came.
        datagram: Vec<u8>,
    },
}

/// What a lane tells of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// A link datagram came in and opened.
    Datagram {
        /// Decoded; its sender is the link's peer.
        message: LinkDatagram,
        /// Datagrams that had arrived on the link before this one.
        received: u64,
    },
    /// The system did not send a datagram: it is too large for the link's first hop.
    TooLarge {
        /// How many bytes it had.
        bytes: usize,
    },
}

/// What a lane tells of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlowEvent {
    /// The first proven packet came from an upstream since it was added, or since it was suspect.
    Delivering(LinkIndex),
    /// What [`FlowCommand::Reach`] asked for: one past the highest number that came; none if nothing did.
    Reached {
        /// This node's number for the link.
        link: LinkIndex,
        /// What a request over it says.
        have: Option<Number>,
    },
    /// What [`FlowCommand::Compare`] asked for has come.
    CaughtUp(LinkIndex),
    /// Nothing of the flow has come over an upstream for far longer than the flow ever pauses.
    Suspect(LinkIndex),
    /// The largest picture takes longer at a child's pace than the child waits, and has for seconds: what gets lost of
    /// its end cannot be repaired in time. Said once until that is over.
    Slow {
        /// The child's link.
        link: LinkIndex,
        /// How long the picture takes.
        takes: Duration,
        /// How long the child waits.
        budget: Duration,
    },
    /// The most that was made in any second lately of a flow that starts here, as bytes of packets, which are payload
    /// of UDP: said each second while packets are made, and at once when it leaps.
    Measured(Bitrate),
    /// How well the flow was heard on its channels since this was said before: about each 100 ms while packets come.
    Heard(Heard),
    /// It is not sent to this channel any more, since that was not renewed in time.
    ChannelEnded(Channel),
    /// The system does not let this channel be joined.
    CannotJoin(Channel),
}

/// What was heard of a flow on its channels during a short time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The link whose peer sent it.
    pub link: LinkIndex,
    /// Packets that came at the first try.
    pub packets: u64,
    /// Packets that did not, between those.
    pub lost: u64,
    /// Nothing from before that time is missing: whoever hears that well needs no other copy.
    pub is_whole: bool,
}
