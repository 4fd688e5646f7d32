//! What a person may see of a node, as rows that print and that become JSON.
//!
//! Not state: a snapshot, made by `driver` from the core's rows and the datapath's counters. Shown by the command
//! line and sent over `admin`. Ids are text here, in full. Invariant: no secret can be put into a row.

use serde::{Deserialize, Serialize};

use levada_core::view as core;

use levada_lane::api::LaneCounters;
use levada_lane::ledger::DropReason;
use levada_ports::worker::WorkerCounters;
use levada_wire::PacketSize;

use crate::quic::close;

/// A node at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct View {
    /// The node itself.
    pub node: NodeRow,
    /// Its links, and what becomes of configured neighbours.
    pub links: Vec<LinkRow>,
    /// Its routes to origins.
    pub routes: Vec<RouteRow>,
    /// The streams it knows.
    pub streams: Vec<StreamRow>,
    /// The flows it knows.
    pub flows: Vec<FlowRow>,
    /// What was counted since the start.
    pub counters: Counters,
}

/// The node itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeRow {
    /// Its id.
    pub id: String,
    /// What it calls itself.
    pub name: String,
    /// The address it listens on.
    pub listen: String,
    /// Its state directory.
    pub state: String,
    /// Whether it forwards for others.
    pub relay: bool,
    /// Whether it accepts nobody.
    pub client: bool,
    /// How long it runs.
    pub uptime_secs: u64,
    /// The rate that it promises to other nodes at most; none for no limit.
    pub uplink_bps: Option<u64>,
    /// What it has promised: the peak of each flow, once for each node that it goes to.
    pub admitted_bps: u64,
}

/// A link, or an attempt at one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LinkRow {
    /// This node's number for it.
    pub link: Option<u32>,
    /// The peer's node id, once proven.
    pub peer: Option<String>,
    /// What the peer calls itself.
    pub name: String,
    /// Where it is; a name while it is being looked up.
    pub remote: String,
    /// `resolving`, `dialing`, `greeting`, `up`, `suspect`, `waiting`.
    pub state: String,
    /// Why it is not up; empty when all is well.
    pub cause: String,
    /// Smoothed round-trip time.
    pub rtt_us: Option<u64>,
    /// Loss toward this node, in thousandths.
    pub loss_in_permille: u16,
    /// Loss toward the peer, in thousandths.
    pub loss_out_permille: u16,
    /// Whether the peer forwards for others.
    pub relay: bool,
    /// The bytes of the largest packets that may go over it to the peer; none while it is not up.
    pub packet_bytes: Option<usize>,
    /// Whether such a size was proven; until then it is assumed.
    pub is_packet_size_proven: bool,
    /// Whether further flows are kept out for now, because it loses too much of what it is given.
    pub is_congested: bool,
    /// Datagrams that came over it, QUIC not counted.
    pub datagrams_in: u64,
    /// Datagrams sent over it, QUIC not counted.
    pub datagrams_out: u64,
    /// The peaks of the flows that go out over it.
    pub admitted_bps: u64,
}

/// The selected route to an origin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RouteRow {
    /// The origin's node id.
    pub origin: String,
    /// How far it is, in tenths of a millisecond; none while there is no way.
    pub distance_tenth_ms: Option<u32>,
    /// Over which link; none for this node itself, or while there is no way.
    pub link: Option<u32>,
    /// How many other routes could take over at once.
    pub feasible_backups: usize,
}

/// A stream that is known here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StreamRow {
    /// Its name.
    pub name: String,
    /// Its origin's node id.
    pub origin: String,
    /// This start of it.
    pub instance: String,
    /// The flow of its layer 0.
    pub flow: String,
    /// `ACTIVE`, `STREAMING` or `HOLD`: the state of its layer 0 here.
    pub state: String,
    /// How far its origin is, in tenths of a millisecond; none while there is no way.
    pub distance_tenth_ms: Option<u32>,
    /// Whether this node is the origin.
    pub local: bool,
    /// The rate its origin reserves for layer 0.
    pub peak_bps: u64,
    /// What it carries, by codec.
    pub tracks: Vec<String>,
}

/// A flow that is known here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FlowRow {
    /// Its id.
    pub flow: String,
    /// The stream's name.
    pub name: String,
    /// The stream's origin.
    pub origin: String,
    /// `ACTIVE`, `STREAMING` or `HOLD`.
    pub state: String,
    /// The rate that its origin declares.
    pub peak_bps: u64,
    /// The link it comes over.
    pub upstream: Option<u32>,
    /// The links it goes out over.
    pub egresses: Vec<u32>,
    /// Local subscriptions.
    pub subscriptions: usize,
    /// What it waits for, when it should flow and does not, or who refused it, when it comes another way; else empty.
    pub cause: String,
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

/// What was counted since the node started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counters {
    /// The datapath's two ledgers and its drops, by name.
    pub datapath: Vec<Counter>,
    /// What the joints of this crate dropped, by name.
    pub node: Vec<Counter>,
}

/// One counter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counter {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: u64,
}

impl Counter {
    pub(crate) fn new(name: impl Into<String>, value: u64) -> Self {
        Self {
            name: name.into(),
            value,
        }
    }
}

impl Counters {
    /// The value of a counter of either list; zero if there is none of that name.
    #[must_use]
    pub fn value(&self, name: &str) -> u64 {
        let mut all = self.datapath.iter().chain(&self.node);
        all.find(|counter| counter.name == name)
            .map_or(0, |counter| counter.value)
    }
}

impl View {
    /// Takes over the core's rows, and writes the datapath's counters beside what they belong to.
    pub(crate) fn new(mut node: NodeRow, view: core::View, counted: &WorkerCounters) -> Self {
        node.uplink_bps = view.admission.uplink.map(|uplink| uplink.0);
        node.admitted_bps = view.admission.admitted.0;
        let lane = &counted.lane;
        let flows = &view.flows;
        let links = view.links.into_iter().map(|row| {
            let goes =
                |flow: &&core::FlowRow| row.link.is_some_and(|link| flow.egresses.contains(&link));
            let peaks = flows.iter().filter(goes).map(|flow| flow.peak.0);
            let admitted = peaks.fold(0, u64::saturating_add);
            LinkRow::new(row, lane, admitted)
        });
        let links: Vec<LinkRow> = links.collect();
        let flows = view.flows.into_iter().map(|row| FlowRow::new(row, lane));
        Self {
            node,
            links,
            routes: view.routes.into_iter().map(RouteRow::from).collect(),
            streams: view.streams.into_iter().map(StreamRow::from).collect(),
            flows: flows.collect(),
            counters: Counters {
                datapath: datapath_counters(counted),
                node: Vec::new(),
            },
        }
    }
}

/// The datapath's counters by name: packets, drops by reason, sends.
fn datapath_counters(counted: &WorkerCounters) -> Vec<Counter> {
    let (ledger, send) = (&counted.lane.ledger, &counted.send);
    let mut counters: Vec<Counter> = [
        ("arrived", ledger.arrived),
        ("made", ledger.made),
        ("forwarded", ledger.forwarded),
        ("consumed", ledger.consumed),
        ("kept", ledger.kept),
        ("held", ledger.held),
        ("control", ledger.control),
        ("foreign", ledger.foreign),
        ("unopened", ledger.unopened),
        ("due", ledger.due),
        ("sent", ledger.sent),
        ("cached_bytes", counted.lane.cached_bytes),
        ("commands_refused", counted.lane.commands_refused),
        ("socket_sent", send.sent),
        ("socket_sent_bytes", send.sent_bytes),
        ("socket_calls", send.calls),
        ("socket_too_large", send.too_large),
        ("socket_refused", send.refused),
        ("socket_dropped", send.dropped),
        ("socket_skipped", send.skipped),
        ("socket_blocked", send.blocked),
        ("socket_gso_failed", send.gso_failed),
        ("passed_on", counted.passed_on),
        ("shared_sends", counted.shared_sends),
        ("receives", counted.receives),
        ("receive_errors", counted.receive_errors),
    ]
    .map(|(name, value)| Counter::new(name, value))
    .into();
    let repair = ledger.repair.rows();
    counters.extend(repair.map(|(name, value)| Counter::new(format!("repair_{name}"), value)));
    for reason in DropReason::ALL {
        let name = reason.as_str();
        counters.push(Counter::new(
            format!("dropped_{name}"),
            ledger.dropped(reason),
        ));
        counters.push(Counter::new(
            format!("unsent_{name}"),
            ledger.unsent(reason),
        ));
    }
    for (refusal, times) in &counted.lane.frames_refused {
        counters.push(Counter::new(format!("frames_refused: {refusal}"), *times));
    }
    counters
}

impl LinkRow {
    fn new(row: core::LinkRow, lane: &LaneCounters, admitted: u64) -> Self {
        let counted = lane.links.iter().find(|link| Some(link.link) == row.link);
        Self {
            link: row.link.map(|link| link.0),
            peer: row.peer.map(|peer| peer.to_string()),
            name: close::shorten(&row.name),
            remote: row.remote.to_string(),
            state: row.state.to_owned(),
            cause: close::shorten(&row.cause),
            rtt_us: row
                .rtt
                .map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
            loss_in_permille: row.loss_in_permille,
            loss_out_permille: row.loss_out_permille,
            relay: row.relay,
            packet_bytes: row.packet_size.map(PacketSize::bytes),
            is_packet_size_proven: row.is_size_proven,
            is_congested: row.is_congested,
            datagrams_in: counted.map_or(0, |link| link.received),
            datagrams_out: counted.map_or(0, |link| link.sent),
            admitted_bps: admitted,
        }
    }
}

impl From<core::RouteRow> for RouteRow {
    fn from(row: core::RouteRow) -> Self {
        Self {
            origin: row.origin.to_string(),
            distance_tenth_ms: tenths(row.distance),
            link: row.link.map(|link| link.0),
            feasible_backups: row.feasible_backups,
        }
    }
}

impl From<core::StreamRow> for StreamRow {
    fn from(row: core::StreamRow) -> Self {
        let layer = levada_wire::Layer(0);
        let offer = row.announce.layer(layer);
        Self {
            name: row.name.to_string(),
            origin: row.announce.origin.to_string(),
            instance: row.announce.instance.to_string(),
            flow: row.announce.flow(layer).to_string(),
            state: row.state.to_string(),
            distance_tenth_ms: tenths(row.distance),
            local: row.local,
            peak_bps: offer.map_or(0, |offer| offer.peak.0),
            tracks: offer.map_or_else(Vec::new, |offer| {
                let codecs = offer.tracks.iter().map(|track| track.codec.clone());
                codecs.collect()
            }),
        }
    }
}

impl FlowRow {
    fn new(row: core::FlowRow, lane: &LaneCounters) -> Self {
        let counted = lane.flows.iter().find(|flow| flow.flow == row.flow.0);
        let counted = counted.copied().unwrap_or_default();
        Self {
            flow: row.flow.to_string(),
            name: row.name.to_string(),
            origin: row.origin.to_string(),
            state: row.state.to_string(),
            peak_bps: row.peak.0,
            upstream: row.upstream.map(|link| link.0),
            egresses: row.egresses.into_iter().map(|link| link.0).collect(),
            subscriptions: row.subscriptions,
            cause: row.cause,
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

fn tenths(distance: levada_wire::Distance) -> Option<u32> {
    distance.is_finite().then(|| distance.as_tenth_millis())
}
