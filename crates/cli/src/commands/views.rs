//! `levada streams | nodes | links | flows | counters`: what a running node sees, as tables or as JSON.
//!
//! Not the rows, which the library makes. Invariant: JSON has everything a row has, in one line each time.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use levada::view::{FlowRow, LinkRow, StreamRow};
use levada::{Bitrate, View};
use serde::Serialize;
use tokio::time::MissedTickBehavior;

use crate::logging::{self, Level};
use crate::shutdown::Shutdown;
use crate::table::{Align, Table, micros, or_dash, short, tenths};
use crate::{access, home, say};

/// How often a watched table is drawn.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Clears the terminal and goes to its upper left corner (ECMA-48 8.3.39, 8.3.21).
const CLEAR: &str = "\x1b[2J\x1b[H";

/// What a view can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The node whose state directory this is [default: the one of `levada run`]
    #[arg(long, value_name = "DIR")]
    node: Option<PathBuf>,
    /// Print JSON in one line: an array of rows; of counters, an object
    #[arg(long)]
    json: bool,
    /// Print it again each second
    #[arg(long)]
    watch: bool,
}

/// What is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Streams,
    Nodes,
    Links,
    Flows,
    Counters,
}

pub(crate) async fn execute(
    kind: Kind,
    args: Args,
    mut shutdown: Shutdown,
    debug: bool,
) -> anyhow::Result<ExitCode> {
    logging::start(Level::Warn, debug)?;
    let dir = args.node.clone().unwrap_or_else(home::node_dir);
    let mut ticks = tokio::time::interval(WATCH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.wait() => return Ok(ExitCode::SUCCESS),
        }
        let view = access::view(&dir).await?;
        if args.json {
            say::result(kind.json(&view)?)?;
        } else if args.watch && std::io::stdout().is_terminal() {
            say::print(format_args!("{CLEAR}{}", kind.table(&view)))?;
        } else {
            say::print(kind.table(&view))?;
        }
        if !args.watch {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

impl Kind {
    fn json(self, view: &View) -> serde_json::Result<String> {
        match self {
            Self::Streams => serde_json::to_string(&view.streams),
            Self::Nodes => serde_json::to_string(&nodes(view)),
            Self::Links => serde_json::to_string(&view.links),
            Self::Flows => serde_json::to_string(&view.flows),
            Self::Counters => serde_json::to_string(&counters(view)),
        }
    }

    fn table(self, view: &View) -> String {
        let (table, none) = match self {
            Self::Streams => (streams_table(&view.streams), "no stream is known here"),
            Self::Nodes => (nodes_table(&nodes(view)), "no node is known here"),
            Self::Links => (
                links_table(&view.links),
                "this node has no link and no neighbour to dial",
            ),
            Self::Flows => (flows_table(&view.flows), "no flow is known here"),
            Self::Counters => (counters_table(&counters(view)), "nothing was counted yet"),
        };
        if table.is_empty() {
            format!("{none}\n")
        } else {
            table.to_string()
        }
    }
}

fn streams_table(rows: &[StreamRow]) -> Table {
    let mut table = Table::new(&[
        ("STREAM", Align::Left),
        ("STATE", Align::Left),
        ("ORIGIN", Align::Left),
        ("DISTANCE", Align::Right),
        ("PEAK", Align::Right),
        ("TRACKS", Align::Left),
    ]);
    for row in rows {
        let distance = match (row.local, row.distance_tenth_ms) {
            (true, _) => "here".to_owned(),
            (false, Some(distance)) => tenths(distance),
            (false, None) => "unreachable".to_owned(),
        };
        table.row([
            row.name.clone(),
            row.state.clone(),
            short(&row.origin),
            distance,
            Bitrate(row.peak_bps).to_string(),
            row.tracks.join(", "),
        ]);
    }
    table
}

fn links_table(rows: &[LinkRow]) -> Table {
    let mut table = Table::new(&[
        ("LINK", Align::Right),
        ("NODE", Align::Left),
        ("NAME", Align::Left),
        ("ADDRESS", Align::Left),
        ("STATE", Align::Left),
        ("RTT", Align::Right),
        ("LOSS IN", Align::Right),
        ("LOSS OUT", Align::Right),
        ("PACKET", Align::Right),
        ("ADMITTED", Align::Right),
        ("CAUSE", Align::Left),
    ]);
    for row in rows {
        let is_measured = row.rtt_us.is_some();
        let loss = |permille| or_dash(is_measured.then(|| percent(permille)));
        table.row([
            or_dash(row.link),
            or_dash(row.peer.as_deref().map(short)),
            row.name.clone(),
            row.remote.clone(),
            if row.is_congested {
                "congested".to_owned()
            } else {
                row.state.clone()
            },
            or_dash(row.rtt_us.map(micros)),
            loss(row.loss_in_permille),
            loss(row.loss_out_permille),
            or_dash(
                row.packet_bytes
                    .map(|bytes| packet_size(bytes, row.is_packet_size_proven)),
            ),
            Bitrate(row.admitted_bps).to_string(),
            row.cause.clone(),
        ]);
    }
    table.hide_silent(&["CAUSE"]);
    table
}

/// How large packets may be: what is only assumed has a mark.
fn packet_size(bytes: usize, is_proven: bool) -> String {
    format!("{bytes} B{}", if is_proven { "" } else { "?" })
}

fn percent(permille: u16) -> String {
    format!("{}.{}%", permille / 10, permille % 10)
}

fn flows_table(rows: &[FlowRow]) -> Table {
    let mut table = Table::new(&[
        ("STREAM", Align::Left),
        ("FLOW", Align::Left),
        ("STATE", Align::Left),
        ("PEAK", Align::Right),
        ("FROM LINK", Align::Right),
        ("TO LINKS", Align::Left),
        ("HERE", Align::Right),
        ("PACKETS IN", Align::Right),
        ("PACKETS OUT", Align::Right),
        ("CACHED", Align::Right),
        ("JOIN", Align::Left),
        ("BEHIND", Align::Left),
        ("WITHHELD", Align::Right),
        ("CAUSE", Align::Left),
    ]);
    for row in rows {
        table.row([
            row.name.clone(),
            short(&row.flow),
            row.state.clone(),
            Bitrate(row.peak_bps).to_string(),
            or_dash(row.upstream),
            or_dash(to_links(&row.egresses)),
            row.subscriptions.to_string(),
            row.packets_in.to_string(),
            row.packets_out.to_string(),
            row.cached_packets.to_string(),
            join(row).into(),
            behind(row),
            row.withheld.to_string(),
            row.cause.clone(),
        ]);
    }
    table.hide_silent(&["BEHIND", "WITHHELD", "CAUSE"]);
    table
}

/// The link that a flow goes out over, or how many there are: the JSON has them all.
fn to_links(egresses: &[u32]) -> Option<String> {
    match egresses {
        [] => None,
        [one] => Some(one.to_string()),
        several => Some(format!("{} links", several.len())),
    }
}

/// Where a newcomer of a flow begins.
const fn join(row: &FlowRow) -> &'static str {
    match (row.is_joinable, row.cached_packets) {
        (true, _) => "now",
        (false, 0) => "-",
        (false, _) => "next group",
    }
}

/// How many of the links that a flow goes out over have not been sent all there is, and why.
fn behind(row: &FlowRow) -> String {
    let counts = [(row.newcomers, "joining"), (row.behind, "held")];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let words: Vec<_> = counts
        .map(|(count, why)| format!("{count} {why}"))
        .collect();
    or_dash((!words.is_empty()).then(|| words.join(", ")))
}

/// What the node and its datapath counted, by name.
fn counters(view: &View) -> BTreeMap<&str, u64> {
    let rows = view.counters.datapath.iter().chain(&view.counters.node);
    rows.map(|row| (row.name.as_str(), row.value)).collect()
}

/// Without the zeros: most reasons to drop a packet never come up.
fn counters_table(counters: &BTreeMap<&str, u64>) -> Table {
    let mut table = Table::new(&[("NAME", Align::Left), ("VALUE", Align::Right)]);
    for (name, value) in counters.iter().filter(|(_, value)| **value > 0) {
        table.row([(*name).to_owned(), value.to_string()]);
    }
    table
}

/// A node that is known here, put together from links and routes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct NodeRow {
    id: String,
    name: String,
    /// `this`, `neighbour` or `origin`.
    role: &'static str,
    address: Option<String>,
    distance_tenth_ms: Option<u32>,
    relay: Option<bool>,
    streams: usize,
    /// What this node promises to others at most, and what it has promised.
    uplink_bps: Option<u64>,
    admitted_bps: Option<u64>,
}

/// This node, then its neighbours, then the origins behind them, each once.
fn nodes(view: &View) -> Vec<NodeRow> {
    let streams = |id: &str| view.streams.iter().filter(|row| row.origin == id).count();
    let mut distances = BTreeMap::new();
    for route in &view.routes {
        distances.insert(&*route.origin, route.distance_tenth_ms);
    }
    let distance = |id: &str| distances.get(id).copied().flatten();
    let mut rows = vec![NodeRow {
        id: view.node.id.clone(),
        name: view.node.name.clone(),
        role: "this",
        address: Some(view.node.listen.clone()),
        distance_tenth_ms: Some(0),
        relay: Some(view.node.relay),
        streams: streams(&view.node.id),
        uplink_bps: view.node.uplink_bps,
        admitted_bps: Some(view.node.admitted_bps),
    }];
    for link in &view.links {
        let Some(peer) = &link.peer else { continue };
        rows.push(NodeRow {
            id: peer.clone(),
            name: link.name.clone(),
            role: "neighbour",
            address: Some(link.remote.clone()),
            distance_tenth_ms: distance(peer),
            relay: Some(link.relay),
            streams: streams(peer),
            ..NodeRow::default()
        });
    }
    let origins = view.routes.iter().map(|route| &route.origin);
    for origin in origins.chain(view.streams.iter().map(|row| &row.origin)) {
        if rows.iter().any(|row| row.id == *origin) {
            continue;
        }
        rows.push(NodeRow {
            id: origin.clone(),
            role: "origin",
            distance_tenth_ms: distance(origin),
            streams: streams(origin),
            ..NodeRow::default()
        });
    }
    rows
}

fn nodes_table(rows: &[NodeRow]) -> Table {
    let mut table = Table::new(&[
        ("NODE", Align::Left),
        ("NAME", Align::Left),
        ("ROLE", Align::Left),
        ("ADDRESS", Align::Left),
        ("DISTANCE", Align::Right),
        ("RELAY", Align::Left),
        ("STREAMS", Align::Right),
        ("ADMITTED", Align::Left),
    ]);
    for row in rows {
        let relay = row.relay.map(|relay| if relay { "yes" } else { "no" });
        table.row([
            short(&row.id),
            row.name.clone(),
            row.role.to_owned(),
            or_dash(row.address.clone()),
            or_dash(row.distance_tenth_ms.map(tenths)),
            or_dash(relay),
            row.streams.to_string(),
            or_dash(
                row.admitted_bps
                    .map(|admitted| of_uplink(admitted, row.uplink_bps)),
            ),
        ]);
    }
    table
}

/// What is admitted, and of how much.
fn of_uplink(admitted: u64, uplink: Option<u64>) -> String {
    let admitted = Bitrate(admitted);
    match uplink {
        Some(uplink) => format!("{admitted} of {}", Bitrate(uplink)),
        None => format!("{admitted}, no limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_that_goes_to_many_links_says_how_many() {
        assert_eq!(to_links(&[]), None);
        assert_eq!(to_links(&[7]).as_deref(), Some("7"));
        assert_eq!(to_links(&[7, 8, 9]).as_deref(), Some("3 links"));
    }

    #[test]
    fn a_packet_size_has_a_unit_and_a_mark_until_it_is_proven() {
        assert_eq!(packet_size(1_232, true), "1232 B");
        assert_eq!(packet_size(1_232, false), "1232 B?");
    }
}
