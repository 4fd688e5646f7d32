//! What a node shows of itself: typed rows, the same for tables, `--json`, and whatever else shows them.
//!
//! | row | is shown by | is made by |
//! |---|---|---|
//! | [`StreamRow`] | `levada streams` | the core |
//! | [`NodeRow`] | `levada nodes` | here, of links, routes and streams |
//! | [`LinkRow`] | `levada links` | the core, and the lanes, which count |
//! | [`FlowRow`] | `levada flows` | the same |
//! | [`CounterRow`] | `levada counters` | the lanes, and the joints of this crate |
//! | [`MemberRow`] | `levada site` | the core |
//! | [`RouteRow`] | nobody alone | the core |
//! | [`MapRow`] | `levada map` | each node of the map, which is asked (`survey`) |
//! | [`HopRow`] | `levada trace` | each node on the way of a stream, in the same way |
//!
//! States are enums that are written as words. Names end in their unit: `seconds`, `bytes`, `bps` for bit/s, `ratio`
//! for 0 to 1, `packets`. Fields are added, and none is renamed or taken away without another [`VERSION`]. Not state:
//! nothing is read back. Who asks for rows does the work of joining them (`gather`); the core's task is only looked at,
//! slice by slice. Invariant: no secret can be put into a row.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::PathBuf;

use levada_wire::NodeId;
use levada_wire::counter::Declared;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use levada_core::channels::Mode;
pub use levada_core::view::{
    Admission, Demand, FlowCause, FlowState, LinkState, MemberRole, MemberRow, Ratio, Reception,
    Remote, RouteRow, Seconds, SiteInterface, StreamRow, TrackRow,
};
/// What the core knows of a link, and of a flow.
pub use levada_core::view::{FlowRow as FlowControl, LinkRow as LinkControl};
/// What the lanes count of them.
pub use levada_lane::api::{FlowCounters, LinkCounters};
pub use levada_wire::counter::Kind;

pub(crate) mod gather;
mod map;

pub use map::{HopRow, MapFlow, MapLink, MapRow};

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
    /// [`MemberRow`].
    Members,
    /// [`MapRow`].
    Map,
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
    MemberRow: Members,
    MapRow: Map,
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
    /// The members of its site, itself first; none if it forms none.
    #[serde(default)]
    pub members: Vec<MemberRow>,
    /// What was counted since the start.
    pub counters: Vec<CounterRow>,
}

impl View {
    /// The value of a counter, for all its reasons together; zero if there is none of that name.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        let rows = self.counters.iter().filter(|row| row.name == name);
        rows.map(|row| row.value).sum()
    }

    /// The value of a counter for one reason.
    #[must_use]
    pub fn counter_for(&self, name: &str, reason: &str) -> u64 {
        let is_it = |row: &&CounterRow| row.name == name && row.reason.as_deref() == Some(reason);
        self.counters.iter().find(is_it).map_or(0, |row| row.value)
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

/// One counter, or what it counted for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CounterRow {
    /// Its name.
    pub name: Cow<'static, str>,
    /// For which reason, where there are several.
    pub reason: Option<Cow<'static, str>>,
    /// Its value.
    pub value: u64,
    /// Of what, in the plural.
    pub unit: Cow<'static, str>,
    /// Whether it only grows.
    pub kind: Kind,
    /// What it means, in a sentence.
    pub help: Cow<'static, str>,
}

impl CounterRow {
    fn new((declared, value): (&Declared, u64)) -> Self {
        Self {
            name: declared.name.into(),
            reason: None,
            value,
            unit: declared.unit.into(),
            kind: declared.kind,
            help: plain(declared.help),
        }
    }

    /// What was counted for one reason, which has a meaning of its own.
    fn with_reason(self, reason: &'static str, help: &'static str) -> Self {
        Self {
            reason: Some(reason.into()),
            help: plain(help),
            ..self
        }
    }
}

/// What is written for rustdoc, without its marks.
fn plain(help: &'static str) -> Cow<'static, str> {
    const MARKS: [char; 3] = ['[', ']', '`'];
    if help.contains(MARKS) {
        help.replace(MARKS, "").into()
    } else {
        help.into()
    }
}
