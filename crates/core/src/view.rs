//! What a node shows of its decisions: typed rows, as tables, JSON and metrics have them.
//!
//! Snapshots, not state: nothing here is read back. Each part of [`crate::Control`] makes its own rows, lazily and in
//! the order of their keys, so that who wants many takes them in slices and holds up nobody. `levada::view` joins them
//! with what the lanes counted. Names end in their unit: seconds, bytes, `bps` for bit/s, `ratio` for 0 to 1.
//! Invariant: no secret can be put into a row, and making one costs what it shows.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use levada_wire::announce::TrackOffer;
use levada_wire::control::flow::RefuseReason;
use levada_wire::counters;
use levada_wire::{
    Bitrate, Distance, FlowId, InstanceId, LinkIndex, NodeId, PacketSize, StreamName, TrackKind,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod site;

pub use site::{MemberRole, MemberRow, Reception, SiteInterface};

/// All rows of a small network at one moment, for tests and the simulator. Elsewhere rows are taken in slices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Links and what becomes of configured neighbours.
    pub links: Vec<LinkRow>,
    /// Routes to origins.
    pub routes: Vec<RouteRow>,
    /// Known streams.
    pub streams: Vec<StreamRow>,
    /// Known flows.
    pub flows: Vec<FlowRow>,
    /// What is reserved for them.
    pub admission: Admission,
}

/// What a node has promised to its children.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// The rate that children are promised at most, all together; none if it is not limited.
    pub uplink_bps: Option<Bitrate>,
    /// The peaks of all flows, once for each child.
    pub admitted_bps: Bitrate,
}

counters! {
    /// The catalogue of streams.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct CatalogueCounts, "catalogue_" {
        /// Streams that are known.
        streams: Gauge "streams",
        /// Announces that were not taken, since the catalogue had all it can have: of all, of their origin, or of the
        /// address that they came from.
        refused: Counter "announces",
    }
}

/// A link, or an attempt at one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRow {
    /// This node's number for it; none while there is no connection.
    pub link: Option<LinkIndex>,
    /// The peer, once proven.
    pub peer: Option<NodeId>,
    /// What the peer calls itself.
    pub name: String,
    /// The peer's address and port, or its configured name until that is resolved.
    pub remote: Remote,
    /// How far it has come.
    pub state: LinkState,
    /// Why it is not up, or how the last attempt ended; none when all is well.
    pub cause: Option<String>,
    /// Smoothed round-trip time, once measured.
    pub rtt_seconds: Option<Seconds>,
    /// Loss toward this node in the last seconds, once the round trip is measured.
    pub loss_in_ratio: Option<Ratio>,
    /// Loss toward the peer.
    pub loss_out_ratio: Option<Ratio>,
    /// Whether the peer forwards for others.
    pub is_relay: bool,
    /// Packets of this size may go over it to the peer; none while it is not up.
    pub packet_bytes: Option<PacketSize>,
    /// Whether a ping of that size was answered; until then it is assumed.
    pub is_packet_size_proven: bool,
    /// Whether its breaker keeps further flows out: the link loses too much of what it is given.
    pub is_congested: bool,
    /// The peaks of the flows that go out over it.
    pub admitted_bps: Bitrate,
}

impl LinkRow {
    /// Of a neighbour to which there is no link, or one that is not up yet.
    #[must_use]
    pub const fn to(remote: Remote, state: LinkState) -> Self {
        Self {
            link: None,
            peer: None,
            name: String::new(),
            remote,
            state,
            cause: None,
            rtt_seconds: None,
            loss_in_ratio: None,
            loss_out_ratio: None,
            is_relay: false,
            packet_bytes: None,
            is_packet_size_proven: false,
            is_congested: false,
            admitted_bps: Bitrate(0),
        }
    }
}

/// Where a neighbour is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// Its address.
    Address(SocketAddr),
    /// Its name, while that is being looked up.
    Name(String),
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl Serialize for Remote {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Remote {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Ok(match text.parse() {
            Ok(address) => Self::Address(address),
            Err(_) => Self::Name(text),
        })
    }
}

/// Writes an enum and its words from one table: what JSON has is what tables show.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident => $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)+
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self {
                    $(Self::$variant => $word,)+
                })
            }
        }
    };
}

words! {
    /// How far a link has come.
    LinkState {
        /// The neighbour's name is being looked up.
        Resolving => "resolving",
        /// The last attempt ended; the next one comes after a pause.
        Waiting => "waiting",
        /// An attempt is under way.
        Dialing => "dialing",
        /// Connected, and hello is not said yet.
        Greeting => "greeting",
        /// Up.
        Up => "up",
        /// Up, and silent for longer than usual.
        Suspect => "suspect",
    }
}

impl LinkState {
    /// Whether flows go over a link in this state.
    #[must_use]
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Up | Self::Suspect)
    }
}

words! {
    /// The state of a flow here, in the words that users see; a later one outweighs an earlier one.
    FlowState {
        /// Known; nothing flows.
        Hold => "HOLD",
        /// Only forwarded.
        Streaming => "STREAMING",
        /// Consumed here.
        Active => "ACTIVE",
    }
}

/// The selected route to an origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteRow {
    /// The node id of the origin that it leads to.
    pub origin: NodeId,
    /// How far that is; none while there is no way.
    pub distance_seconds: Option<Seconds>,
    /// Over which link; none for this node itself, or while there is no way.
    pub link: Option<LinkIndex>,
    /// How many other routes could take over at once.
    pub feasible_backups: usize,
}

/// A stream that is known here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRow {
    /// Its name.
    pub name: StreamName,
    /// The origin's node id: several origins may offer one name.
    pub origin: NodeId,
    /// This start of it.
    pub instance: InstanceId,
    /// Unix time of that start in units of 50 ms.
    pub group_base: u64,
    /// The flow of its layer 0.
    pub flow: FlowId,
    /// The state of layer 0 here.
    pub state: FlowState,
    /// How far its origin is; none while there is no way to it.
    pub distance_seconds: Option<Seconds>,
    /// Whether this node is the origin.
    pub is_local: bool,
    /// The rate that its origin declares for layer 0.
    pub peak_bps: Bitrate,
    /// What is in layer 0: all tracks.
    pub tracks: Vec<TrackRow>,
    /// Who wants it here.
    #[serde(flatten)]
    pub demand: Demand,
}

/// What became of a stream since it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamChange {
    /// It is news, or its row is another.
    Known(StreamRow),
    /// Its origin took it back, or could not be reached for too long.
    Gone {
        /// Its name.
        name: StreamName,
        /// The origin's node id.
        origin: NodeId,
    },
}

/// One track of a stream, as its origin announces it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackRow {
    /// Video, audio or data.
    pub kind: TrackKind,
    /// The codec in one word.
    pub codec: String,
}

impl From<&TrackOffer> for TrackRow {
    fn from(offer: &TrackOffer) -> Self {
        Self {
            kind: offer.kind,
            codec: offer.codec.clone(),
        }
    }
}

/// Who wants a stream here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// Subscriptions of this node.
    pub subscriptions: usize,
    /// Neighbours that it goes out to.
    pub children: usize,
}

impl Demand {
    /// Whether anybody does.
    #[must_use]
    pub const fn is_any(self) -> bool {
        self.subscriptions + self.children > 0
    }
}

/// A flow that is known here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowRow {
    /// Its id.
    pub flow: FlowId,
    /// The stream's name.
    pub name: StreamName,
    /// The stream's origin.
    pub origin: NodeId,
    /// Its state.
    pub state: FlowState,
    /// The rate that its origin declares.
    pub peak_bps: Bitrate,
    /// The link it comes over.
    pub upstream: Option<LinkIndex>,
    /// The link it comes over besides, for who wants it over two ways.
    pub second_upstream: Option<LinkIndex>,
    /// The links it goes out over.
    pub egresses: Vec<LinkIndex>,
    /// Local subscriptions.
    pub subscriptions: usize,
    /// What it waits for, when it should flow and does not, or who refused it, when it comes another way.
    pub cause: Option<FlowCause>,
}

/// Why a flow does not come, or comes another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FlowCause {
    /// It comes, but not over this link, whose peer refused it.
    Elsewhere {
        /// The link that is avoided.
        link: LinkIndex,
        /// Why it was refused there.
        reason: RefuseReason,
    },
    /// It comes over one way alone, though two are wanted: there is no other, or none that does not refuse it.
    OnePath {
        /// Why another neighbour does not send it, if one was asked.
        refused: Option<RefuseReason>,
    },
    /// It is asked for and not answered yet.
    Asked,
    /// It was refused.
    Refused {
        /// Why.
        reason: RefuseReason,
    },
    /// There is no way to its origin.
    NoRoute,
}

impl fmt::Display for FlowCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elsewhere { link, reason } => write!(f, "not over link {}: {reason}", link.0),
            Self::OnePath { refused: None } => f.write_str("one way alone: there is no other"),
            Self::OnePath {
                refused: Some(reason),
            } => write!(f, "one way alone: {reason} on the other"),
            Self::Asked => f.write_str("asked for, not answered yet"),
            Self::Refused { reason } => reason.fmt(f),
            Self::NoRoute => f.write_str("no way to the origin"),
        }
    }
}

/// A duration, which serde writes in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub Duration);

impl Seconds {
    /// What a distance stands for; none when it is infinite.
    #[must_use]
    pub fn of(distance: Distance) -> Option<Self> {
        let tenths = u64::from(distance.as_tenth_millis());
        distance
            .is_finite()
            .then(|| Self(Duration::from_micros(tenths * 100)))
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(self.0.as_secs_f64())
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let seconds = Duration::try_from_secs_f64(f64::deserialize(from)?);
        seconds.map(Self).map_err(serde::de::Error::custom)
    }
}

/// A share, which serde writes as a number from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ratio {
    /// In thousandths.
    pub permille: u16,
}

impl Serialize for Ratio {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(f64::from(self.permille) / 1_000.0)
    }
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let permille = (f64::deserialize(from)? * 1_000.0)
            .round()
            .clamp(0.0, 1_000.0);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped just above"
        )]
        let permille = permille as u16;
        Ok(Self { permille })
    }
}

/// Notes a look at one flow, child or subscription, so that tests can say what a row costs.
#[cfg_attr(
    not(test),
    allow(clippy::missing_const_for_fn, reason = "only tests count")
)]
pub(crate) fn note_look() {
    #[cfg(test)]
    LOOKS.set(LOOKS.get() + 1);
}

/// How many looks this thread has noted.
#[cfg(test)]
pub(crate) fn looks() -> usize {
    LOOKS.get()
}

#[cfg(test)]
thread_local! {
    static LOOKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}
