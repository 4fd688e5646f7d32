//! What goes into a [`crate::Lane`] and what comes out: the border between packets and the world.
//!
//! Not the work. Used by `node` and `sim`, which join a lane to the core, and by the worker thread of `levada-ports`
//! that joins it to a socket. Invariant: commands carry no codec and no decision; they say what to do with a flow.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::AddAssign;
use std::sync::Arc;

use bytes::Bytes;
use levada_wire::counter::{Declared, Kind};
use levada_wire::frame::FRAME_BYTES_MAX;
use levada_wire::lane;
pub use levada_wire::lane::{
    Channel, EgressTerms, FlowCommand, FlowEvent, Interface, LinkCommand, LinkEvent, Originate,
    Path,
};
use levada_wire::{
    Bitrate, Description, FlowId, Frame, Group, LinkIndex, Number, WallTime, counters, reasons,
};
use serde::{Deserialize, Serialize};

use crate::ledger::{DropReason, Ledger};

/// What may happen to a lane.
#[derive(Clone, Debug)]
pub enum Input {
    /// One receive: a train of datagrams from one sender.
    Train(Train),
    /// One receive by a multicast channel. Media alone comes that way.
    Heard(Train),
    /// The node wants something.
    Command(Command),
    /// Packets that the lane had sent did not go out: they waited too long for a full socket.
    Late(Late),
    /// So many datagrams were brought to this host and found the receive buffer full: no link lost them.
    Overflow(u64),
    /// The system does not let a channel be joined.
    CannotJoin {
        /// The channel that nobody joined.
        channel: Channel,
        /// What the system says.
        reason: String,
    },
}

/// Packets of a flow that an egress is not sent, nor anything of the flow up to the next start of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late {
    /// Where they would have gone.
    pub egress: Egress,
    /// Of which flow.
    pub flow: FlowId,
    /// The first of them.
    pub first: Number,
    /// One past the last.
    pub end: Number,
}

/// One receive from the kernel: one datagram, or several of equal size (but the last) joined by GRO.
///
/// The kernel joins by addresses only: segments of different flows, and QUIC, may be in one train.
#[derive(Clone, Debug)]
pub struct Train {
    /// The source address of all its datagrams.
    pub from: SocketAddr,
    /// The address of this host that they were sent to, where the system tells.
    pub to: Option<IpAddr>,
    /// The datagrams end to end.
    pub bytes: Bytes,
    /// Size of each datagram but the last; never zero.
    pub segment_bytes: usize,
}

/// What is wanted of a lane, by what it concerns. What the core wants has its words in [`levada_wire::lane`].
#[derive(Clone, Debug)]
pub enum Command {
    /// A link.
    Link(LinkIndex, LinkCommand),
    /// A flow.
    Flow(FlowId, FlowCommand),
    /// A flow that starts here, by its publisher.
    Publisher(FlowId, PublisherCommand),
}

/// What the publisher of a flow wants.
#[derive(Clone, Debug)]
pub enum PublisherCommand {
    /// Send one frame.
    Push {
        /// The frame.
        frame: Frame,
        /// The wall clock at hand-over, for the control track.
        wall: WallTime,
    },
    /// The tracks changed: from the next group on this is the description.
    Describe(Arc<Description>),
    /// The stream ends on purpose: flush, and say the last number.
    Finish,
}

/// What a lane wants done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send datagrams.
    Transmit(Transmit),
    /// A segment that is not a lane's: QUIC, for the control plane.
    Foreign(Train),
    /// Take what is sent to this channel from now on, and hand it in as [`Input::Heard`].
    Join(Channel),
    /// Take it no more.
    Leave(Channel),
    /// Have the other lanes of the node look whether they are asked for room (`Lane::is_asked_for_room`).
    WakeOthers,
    /// Tell the node.
    Event(Event),
}

/// One send, and what it is: whoever has to know later need not look into its bytes.
#[derive(Clone, Debug)]
pub struct Transmit {
    /// The link it goes over, or the channel it goes to.
    pub egress: Egress,
    /// Which packets it carries; `None` for what is not media.
    pub packets: Option<Packets>,
    /// The datagrams, of one size but the last.
    pub datagrams: Datagrams,
}

/// A place to which a node sends a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Egress {
    /// A link.
    Link(LinkIndex),
    /// A multicast channel.
    Channel(Channel),
}

impl Egress {
    /// A channel as an egress, and where that is.
    pub(crate) const fn to_channel(channel: Channel) -> (Self, SocketAddr, Option<IpAddr>) {
        (Self::Channel(channel), channel.address, None)
    }
}

/// Packets of a flow with consecutive numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packets {
    /// Of which flow.
    pub flow: FlowId,
    /// The number of the first.
    pub first: Number,
    /// The first is the first of its group.
    pub starts_group: bool,
}

/// Datagrams of equal size but the last, to one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagrams {
    /// The destination address and port.
    pub to: SocketAddr,
    /// The address of this host that they must come from; `None` leaves that to the system.
    pub source: Option<IpAddr>,
    /// The datagrams end to end, at most 64 KiB less headers.
    pub bytes: Bytes,
    /// Size of each datagram but the last.
    pub segment_bytes: usize,
}

impl Datagrams {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.bytes.len().div_ceil(self.segment_bytes.max(1)) as u64
    }
}

/// Something the node must know.
#[derive(Clone, Debug)]
pub enum Event {
    /// For the core.
    Core(lane::Event),
    /// A channel that a flow was sent to was not renewed in time: nothing is sent to it any more.
    ChannelEnded {
        /// The flow that was sent to it.
        flow: FlowId,
        /// The channel, which nothing is sent to any more.
        channel: Channel,
    },
    /// A channel cannot be joined: its packets must come another way.
    CannotJoin {
        /// For which flow.
        flow: FlowId,
        /// The channel that nobody joined.
        channel: Channel,
        /// What the system says.
        reason: String,
    },
    /// Something for the local subscribers of a flow, in order.
    Delivery {
        /// The flow that it came of.
        flow: FlowId,
        /// A frame, a gap, a description or the end.
        delivery: Delivery,
    },
}

/// What local subscribers of a flow get.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// The tracks: before the first frame, and at a group's start when they changed.
    Description(Arc<Description>),
    /// One frame. The first one of all is the first frame of a group.
    Frame {
        /// Its group.
        group: Group,
        /// The frame.
        frame: Frame,
        /// The origin's wall clock mapped to this frame's hand-over, when known: for measuring latency.
        wall: Option<WallTime>,
    },
    /// Frames are missing here, and why.
    Gap(Gap),
    /// The stream ended on purpose.
    End,
}

/// Frames that did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first number that is missing.
    pub first: Number,
    /// How many packets are missing.
    pub packets: u64,
    /// Why.
    pub reason: GapReason,
}

/// Why frames are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum GapReason {
    /// Packets did not arrive in time.
    Lost,
    /// A packet passed its carry tag but did not open, or what it held made no sense.
    Bad,
    /// More was waiting to be put in order than the limit allows.
    Overrun,
}

reasons! {
    /// Why a frame was not taken.
    #[derive(thiserror::Error)]
    pub enum FrameRefusal {
        /// The flow has no origin here.
        #[error("the stream was not opened for publishing")]
        NotOriginated => "not_originated",
        /// The stream was finished before.
        #[error("the stream was finished; publish it anew")]
        Finished => "finished",
        /// No track of that number.
        #[error("the description has no track of that number")]
        UnknownTrack => "unknown_track",
        /// Longer than [`FRAME_BYTES_MAX`].
        #[error("a frame has at most {FRAME_BYTES_MAX} bytes")]
        TooLarge => "too_large",
        /// Decoding and presentation are more than 2^31 ticks apart.
        #[error("pts and dts of a frame are at most 2^31 ticks apart")]
        TimesApart => "times_apart",
        /// The leading track cannot be decoded before its first sync frame.
        #[error("the leading track starts with a sync frame")]
        BeforeFirstSync => "before_first_sync",
        /// All 2^48 numbers are used.
        #[error("the stream has used all its packet numbers; publish it anew")]
        NumbersExhausted => "numbers_exhausted",
    }
}

counters! {
    /// Counters of a lane at one moment, for tables and checkers. See [`crate::ledger`].
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct LaneCounters, "" {
        /// Bytes in all caches together.
        cached_bytes: Gauge "bytes",
        /// Commands that named what is not here, or one more than a limit allows.
        commands_refused: Counter "commands",
    } with {
        /// The two ledgers.
        pub ledger: Ledger,
        /// Counters of each flow, by its id.
        pub flows: Vec<FlowCounters>,
        /// Counters of each link, by its number.
        pub links: Vec<LinkCounters>,
        /// Frames that were not taken, by reason.
        pub frames_refused: BTreeMap<FrameRefusal, u64>,
    }
}

/// What is counted of [`FrameRefusal`].
pub const FRAMES_REFUSED: Declared = Declared {
    name: "frames_refused",
    help: "Frames that a publisher of this node handed in and that were not taken.",
    unit: "frames",
    kind: Kind::Counter,
};

/// Counters of several lanes together: rows of one link are added up, and a flow is in one lane only.
impl AddAssign<&Self> for LaneCounters {
    fn add_assign(&mut self, other: &Self) {
        self.add_counts(other);
        let Self {
            ledger,
            flows,
            links,
            frames_refused,
            ..
        } = other;
        self.ledger += ledger;
        self.flows.extend_from_slice(flows);
        self.flows.sort_unstable_by_key(|row| row.flow);
        for theirs in links {
            match self
                .links
                .binary_search_by_key(&theirs.link, |row| row.link)
            {
                Ok(at) => self.links[at].add_counts(theirs),
                Err(at) => self.links.insert(at, *theirs),
            }
        }
        for (&reason, times) in frames_refused {
            *self.frames_refused.entry(reason).or_insert(0) += times;
        }
    }
}

counters! {
    /// Counters of one link: all datagrams but QUIC.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct LinkCounters, "link_" {
        /// Datagrams that came over it and were proven.
        datagrams_in: Counter "datagrams",
        /// Datagrams handed to the socket for it.
        datagrams_out: Counter "datagrams",
    } with {
        /// Which link. Not written: a row has its key already.
        #[serde(skip)]
        pub link: LinkIndex,
    }
}

counters! {
    /// Counters of one flow.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct FlowCounters, "flow_" {
        /// Proven packets taken in, or made here.
        packets_in: Counter "packets",
        /// Their bytes.
        bytes_in: Counter "bytes",
        /// Packets sent, over all egresses.
        packets_out: Counter "packets",
        /// Their bytes.
        bytes_out: Counter "bytes",
        /// Packets in the cache.
        cached_packets: Gauge "packets",
        /// Groups that did not fit in the cache: whoever joined during one waited for the next.
        cache_overflows: Counter "groups",
        /// Groups that could not be joined, for a while at least, since something of them was lost for good.
        cache_holes: Counter "groups",
        /// Egresses that are being sent the newest group, or wait for their turn.
        newcomers: Gauge "egresses",
        /// Egresses that are held because they were sent more than they were admitted with, or wait for the next group.
        behind: Gauge "egresses",
        /// Packets that were lost on the way here and came after all: asked for again, or recovered from parity.
        repaired: Counter "packets",
        /// Packets not sent on purpose, over all egresses: shed, or skipped to the next group.
        withheld: Counter "packets",
        /// Egresses over paths that nobody knows: what they are sent is spread.
        paced: Gauge "egresses",
        /// How long the largest picture of late takes over the slowest of those.
        paced_ms_max: Gauge "milliseconds",
        /// Of those the ones over which it takes longer than they wait: what is lost of its end cannot be repaired.
        paced_too_slow: Gauge "egresses",
    } with {
        /// Which flow. Not written: a row has its key already.
        #[serde(skip)]
        pub flow: u64,
        /// Whether a newcomer is sent the newest group at once; if not it waits for the next.
        pub is_joinable: bool,
        /// The peaks that its egresses were admitted with, together.
        #[serde(rename = "admitted_bps")]
        pub admitted: Bitrate,
    }
}

impl FlowCounters {
    /// Copies are not sent, on purpose.
    pub(crate) const fn withhold(&mut self, reason: DropReason, packets: u64, ledger: &mut Ledger) {
        self.withheld += packets;
        ledger.drop_copies(reason, packets);
    }
}
