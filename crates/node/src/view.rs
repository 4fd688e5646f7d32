//! What a node shows of itself: typed rows, the same for tables, `--json`, and whatever else shows them.
//!
//! | row | is shown by | is made by |
//! |---|---|---|
//! | [`StreamRow`] | `levada streams` | the core |
//! | [`NodeRow`] | `levada nodes` | here, of links, routes and streams |
//! | [`LinkRow`] | `levada links` | the core, and the lanes, which count |
//! | [`FlowRow`] | `levada flows` | the same |
//! | [`CounterRow`] | `levada counters` | the lanes, and the joints of this crate |
//! | [`RouteRow`] | nobody alone | the core |
//!
//! States are enums that are written as words. Names end in their unit: `seconds`, `bytes`, `bps` for bit/s, `ratio` for 0 to
//! 1, `packets`. Fields are added, and none is renamed or taken away without another [`VERSION`]. Not state: nothing is read
//! back. Who asks for rows does the work of joining them (`gather`); the core's task is only looked at, slice by slice.
//! Invariant: no secret can be put into a row.

use std::net::SocketAddr;
use std::path::PathBuf;

use levada_lane::api as lane;
use levada_wire::NodeId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use levada_core::view::{
    Admission, Demand, FlowCause, FlowState, LinkState, Ratio, Remote, RouteRow, Seconds,
    StreamRow, TrackRow,
};
/// What the core knows of a link, and of a flow.
pub use levada_core::view::{FlowRow as FlowControl, LinkRow as LinkControl};

pub(crate) mod gather;

/// Which names and meanings the rows have. It grows when one that was there is gone or means something else.
pub const VERSION: u32 = 1;

/// A table of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Table {
    /// [`StreamRow`].
    Streams,
    /// [`NodeRow`].
    Nodes,
    /// [`LinkRow`].
    Links,
    /// [`RouteRow`].
    Routes,
    /// [`FlowRow`].
    Flows,
    /// [`CounterRow`].
    Counters,
}

/// What [`crate::Node::rows`] gives. This crate alone says what is a row.
pub trait Row: gather::Gather + Serialize + DeserializeOwned {
    /// Of which table.
    const TABLE: Table;
}

/// Rows with their version, as `--json` prints them and as the local socket carries them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Rows<T> {
    /// See [`VERSION`].
    pub version: u32,
    /// In the order of their keys.
    pub rows: Vec<T>,
}

impl<T> Rows<T> {
    pub(crate) const fn new(rows: Vec<T>) -> Self {
        let version = VERSION;
        Self { version, rows }
    }
}

macro_rules! row {
    ($($name:ident: $table:ident,)+) => {
        $(impl Row for $name {
            const TABLE: Table = Table::$table;
        })+
    };
}

row! {
    StreamRow: Streams,
    NodeRow: Nodes,
    LinkRow: Links,
    RouteRow: Routes,
    FlowRow: Flows,
    CounterRow: Counters,
}

/// A node at one moment, or as good as: it goes on while its rows are gathered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct View {
    /// See [`VERSION`].
    pub version: u32,
    /// The node itself.
    pub node: About,
    /// Its links, and what becomes of configured neighbours.
    pub links: Vec<LinkRow>,
    /// Its routes to origins.
    pub routes: Vec<RouteRow>,
    /// The streams it knows.
    pub streams: Vec<StreamRow>,
    /// The flows it knows.
    pub flows: Vec<FlowRow>,
    /// What was counted since the start.
    pub counters: Vec<CounterRow>,
}

impl View {
    /// The value of a counter; zero if there is none of that name.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        let counter = self.counters.iter().find(|row| row.name == name);
        counter.map_or(0, |row| row.value)
    }
}

/// The node itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct About {
    /// Its id.
    pub id: NodeId,
    /// What it calls itself.
    pub name: String,
    /// The address it listens on.
    pub listen: SocketAddr,
    /// Its state directory.
    pub state_dir: PathBuf,
    /// Whether it forwards for others.
    pub is_relay: bool,
    /// Whether it accepts nobody.
    pub is_client: bool,
    /// How long it runs.
    pub uptime_seconds: Seconds,
    /// What it promises to others, and of how much.
    #[serde(flatten)]
    pub admission: Admission,
}

/// A node that is known here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeRow {
    /// Its id.
    pub id: NodeId,
    /// What it calls itself; empty while nobody has said.
    pub name: String,
    /// What it is to this node.
    pub role: NodeRole,
    /// Where it is; none of an origin behind others.
    pub address: Option<Remote>,
    /// How far it is as an origin; none while there is no way, or if it offers nothing.
    pub distance_seconds: Option<Seconds>,
    /// Whether it forwards for others; none of an origin behind others.
    pub is_relay: Option<bool>,
    /// Streams that it offers.
    pub streams: usize,
    /// What this node promises, and of how much; none of others.
    #[serde(flatten)]
    pub admission: Option<Admission>,
}

/// What a node is to this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeRole {
    /// Itself.
    This,
    /// At the other end of a link, or configured to be.
    Neighbour,
    /// Known for its streams only.
    Origin,
}

/// A link, or an attempt at one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRow {
    /// What the core knows of it.
    #[serde(flatten)]
    pub control: LinkControl,
    /// What the lanes counted.
    #[serde(flatten)]
    pub counters: LinkCounters,
}

/// What is counted of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkCounters {
    /// Datagrams that came over it, QUIC not counted.
    pub datagrams_in: u64,
    /// Datagrams sent over it, QUIC not counted.
    pub datagrams_out: u64,
}

/// A flow that is known here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowRow {
    /// What the core knows of it.
    #[serde(flatten)]
    pub control: FlowControl,
    /// What its lane counted.
    #[serde(flatten)]
    pub counters: FlowCounters,
}

/// What is counted of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowCounters {
    /// Proven packets taken in, or made here.
    pub packets_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Packets sent, over all egresses.
    pub packets_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Packets in the cache.
    pub cached_packets: u64,
    /// Groups that did not fit in the cache: whoever joined during one waited for the next.
    pub cache_overflows: u64,
    /// Groups that could not be joined, for a while at least, since something of them was lost for good.
    pub cache_holes: u64,
    /// Whether a newcomer is sent the newest group at once. If not it waits for the next.
    pub is_joinable: bool,
    /// Links that are being sent the newest group before they are sent what comes, or wait for their turn.
    pub newcomers: u64,
    /// Links that are held because they were sent more than they were admitted with, or that wait for the next group.
    pub behind: u64,
    /// Packets not sent on purpose, over all egresses: shed, or skipped to the next group.
    pub withheld: u64,
}

/// One counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CounterRow {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: u64,
}

impl CounterRow {
    fn new(name: impl Into<String>, value: u64) -> Self {
        Self {
            name: name.into(),
            value,
        }
    }
}

impl From<&lane::LinkCounters> for LinkCounters {
    fn from(counted: &lane::LinkCounters) -> Self {
        Self {
            datagrams_in: counted.received,
            datagrams_out: counted.sent,
        }
    }
}

impl From<&lane::FlowCounters> for FlowCounters {
    fn from(counted: &lane::FlowCounters) -> Self {
        Self {
            packets_in: counted.packets_in,
            bytes_in: counted.bytes_in,
            packets_out: counted.packets_out,
            bytes_out: counted.bytes_out,
            cached_packets: counted.cached_packets,
            cache_overflows: counted.cache_overflows,
            cache_holes: counted.cache_holes,
            is_joinable: counted.is_joinable,
            newcomers: counted.newcomers,
            behind: counted.behind,
            withheld: counted.withheld,
        }
    }
}
