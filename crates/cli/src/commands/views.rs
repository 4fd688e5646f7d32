//! `levada streams | nodes | links | flows | site | map | counters`: what a running node sees, as tables or as JSON.
//!
//! Not the rows, which the library makes. Invariant: JSON has everything a row has, in one line each time.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use levada::view::{
    Admission, CounterRow, FlowRow, LinkRow, MapRow, MemberRow, Mode, NodeRole, NodeRow, Ratio,
    Reception, Row, StreamRow,
};
use levada::{LinkIndex, PacketSize};
use tokio::time::MissedTickBehavior;

use crate::logging::{self, Level};
use crate::shutdown::Shutdown;
use crate::table::{Align, Table, or_dash, short, time};
use crate::{access, home, say};

/// How often a watched table is drawn.
pub(crate) const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Clears the terminal and goes to its upper left corner (ECMA-48 8.3.39, 8.3.21).
pub(crate) const CLEAR: &str = "\x1b[2J\x1b[H";

/// What a view can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The node whose state directory this is [default: the one of `levada run`]
    #[arg(long, value_name = "DIR")]
    pub(crate) node: Option<PathBuf>,
    /// Print JSON in one line: `version`, and `rows` of an object each
    #[arg(long)]
    pub(crate) json: bool,
    /// Print it again each second
    #[arg(long)]
    pub(crate) watch: bool,
}

/// A row that a table shows.
pub(crate) trait Shown: Row {
    /// What is said when there is none.
    const NONE: &str;

    /// The table of these rows.
    fn table(rows: &[Self]) -> Table;
}

pub(crate) async fn execute<R: Shown>(
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
        let rows = access::rows::<R>(&dir).await?;
        if args.json {
            say::result(serde_json::to_string(&rows)?)?;
        } else if args.watch && std::io::stdout().is_terminal() {
            say::print(format_args!("{CLEAR}{}", drawn(&rows.rows)))?;
        } else {
            say::print(drawn(&rows.rows))?;
        }
        if !args.watch {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn drawn<R: Shown>(rows: &[R]) -> String {
    let table = R::table(rows);
    if table.is_empty() {
        format!("{}\n", R::NONE)
    } else {
        table.to_string()
    }
}

impl Shown for StreamRow {
    const NONE: &str = "no stream is known here";

    fn table(rows: &[Self]) -> Table {
        let mut table = Table::new(&[
            ("STREAM", Align::Left),
            ("STATE", Align::Left),
            ("ORIGIN", Align::Left),
            ("DISTANCE", Align::Right),
            ("PEAK", Align::Right),
            ("TRACKS", Align::Left),
        ]);
        for row in rows {
            let distance = match (row.is_local, row.distance_seconds) {
                (true, _) => "here".to_owned(),
                (false, Some(distance)) => time(distance.0),
                (false, None) => "unreachable".to_owned(),
            };
            let tracks: Vec<&str> = row.tracks.iter().map(|track| &*track.codec).collect();
            table.row([
                row.name.to_string(),
                row.state.to_string(),
                row.origin.short(),
                distance,
                row.peak_bps.to_string(),
                tracks.join(", "),
            ]);
        }
        table
    }
}

impl Shown for LinkRow {
    const NONE: &str = "this node has no link and no neighbour to dial";

    fn table(rows: &[Self]) -> Table {
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
        for row in rows.iter().map(|row| &row.control) {
            table.row([
                or_dash(row.link.map(|link| link.0)),
                or_dash(row.peer.map(|peer| peer.short())),
                row.name.clone(),
                row.remote.to_string(),
                if row.is_congested {
                    "congested".to_owned()
                } else {
                    row.state.to_string()
                },
                or_dash(row.rtt_seconds.map(|rtt| time(rtt.0))),
                or_dash(row.loss_in_ratio.map(percent)),
                or_dash(row.loss_out_ratio.map(percent)),
                or_dash(
                    row.packet_bytes
                        .map(|size| packet_size(size, row.is_packet_size_proven)),
                ),
                row.admitted_bps.to_string(),
                row.cause.clone().unwrap_or_default(),
            ]);
        }
        table.hide_silent(&["CAUSE"]);
        table
    }
}

/// How large packets may be: what is only assumed has a mark.
fn packet_size(size: PacketSize, is_proven: bool) -> String {
    format!("{} B{}", size.bytes(), if is_proven { "" } else { "?" })
}

pub(crate) fn percent(ratio: Ratio) -> String {
    format!("{}.{}%", ratio.permille / 10, ratio.permille % 10)
}

impl Shown for MapRow {
    const NONE: &str = "this node is not on a map";

    fn table(rows: &[Self]) -> Table {
        let mut table = Table::new(&[
            ("NODE", Align::Left),
            ("NAME", Align::Left),
            ("HOPS", Align::Right),
            ("VIA", Align::Left),
            ("ROLE", Align::Left),
            ("LINKS", Align::Right),
            ("STREAMS", Align::Right),
            ("FLOWING", Align::Left),
            ("CAUSE", Align::Left),
        ]);
        let name_of = |id| {
            let known = rows.iter().find(|row| row.id == id);
            known.map_or_else(String::new, |row| row.name.clone())
        };
        for row in rows {
            let role = match (row.is_hub, row.is_relay) {
                (true, _) => "hub",
                (_, true) => "relay",
                _ => "-",
            };
            let flowing: Vec<_> = row.flows.iter().map(|flow| flow.name.as_str()).collect();
            table.row([
                row.id.short(),
                row.name.clone(),
                row.hops.to_string(),
                or_dash(row.via.map(name_of)),
                role.to_owned(),
                row.links_total.to_string(),
                row.streams_total.to_string(),
                or_dash((!flowing.is_empty()).then(|| flowing.join(", "))),
                row.cause.clone().unwrap_or_default(),
            ]);
        }
        table.hide_silent(&["CAUSE"]);
        table
    }
}

impl Shown for FlowRow {
    const NONE: &str = "no flow is known here";

    fn table(rows: &[Self]) -> Table {
        let mut table = Table::new(&[
            ("STREAM", Align::Left),
            ("FLOW", Align::Left),
            ("STATE", Align::Left),
            ("PEAK", Align::Right),
            ("FROM LINK", Align::Right),
            ("AND", Align::Right),
            ("TO LINKS", Align::Left),
            ("HERE", Align::Right),
            ("PACKETS IN", Align::Right),
            ("PACKETS OUT", Align::Right),
            ("CACHED", Align::Right),
            ("JOIN", Align::Left),
            ("BEHIND", Align::Left),
            ("WITHHELD", Align::Right),
            ("PACE", Align::Left),
            ("CAUSE", Align::Left),
        ]);
        for row in rows {
            let (flow, counted) = (&row.control, &row.counters);
            table.row([
                flow.name.to_string(),
                short(&flow.flow.to_string()),
                flow.state.to_string(),
                flow.peak_bps.to_string(),
                or_dash(flow.upstream.map(|link| link.0)),
                flow.second_upstream
                    .map(|link| link.0.to_string())
                    .unwrap_or_default(),
                or_dash(to_links(&flow.egresses)),
                flow.subscriptions.to_string(),
                counted.packets_in.to_string(),
                counted.packets_out.to_string(),
                counted.cached_packets.to_string(),
                join(row).into(),
                behind(row),
                counted.withheld.to_string(),
                pace(row),
                flow.cause
                    .map(|cause| cause.to_string())
                    .unwrap_or_default(),
            ]);
        }
        table.hide_silent(&["AND", "BEHIND", "WITHHELD", "PACE", "CAUSE"]);
        table
    }
}

/// The link that a flow goes out over, or how many there are: the JSON has them all.
fn to_links(egresses: &[LinkIndex]) -> Option<String> {
    match egresses {
        [] => None,
        [one] => Some(one.0.to_string()),
        several => Some(format!("{} links", several.len())),
    }
}

/// Where a newcomer of a flow begins.
const fn join(row: &FlowRow) -> &'static str {
    match (row.counters.is_joinable, row.counters.cached_packets) {
        (true, _) => "now",
        (false, 0) => "-",
        (false, _) => "next group",
    }
}

/// How many of the links that a flow goes out over have not been sent all there is, and why.
fn behind(row: &FlowRow) -> String {
    let counts = [
        (row.counters.newcomers, "joining"),
        (row.counters.behind, "held"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let words: Vec<_> = counts
        .map(|(count, why)| format!("{count} {why}"))
        .collect();
    or_dash((!words.is_empty()).then(|| words.join(", ")))
}

/// How long the largest picture takes over the slowest path that it is spread over, and for how many that is too long.
fn pace(row: &FlowRow) -> String {
    let levada::view::FlowCounters {
        paced,
        paced_ms_max,
        paced_too_slow,
        ..
    } = row.counters;
    match (paced, paced_too_slow) {
        (0, _) => or_dash(None::<String>),
        (_, 0) => format!("{paced_ms_max} ms"),
        (_, slow) => format!("{paced_ms_max} ms, longer than {slow} of {paced} links wait"),
    }
}

impl Shown for CounterRow {
    const NONE: &str = "nothing was counted yet";

    /// Without the zeros: most reasons to drop a packet never come up.
    fn table(rows: &[Self]) -> Table {
        let mut table = Table::new(&[
            ("NAME", Align::Left),
            ("REASON", Align::Left),
            ("VALUE", Align::Right),
            ("MEANING", Align::Left),
        ]);
        for row in rows.iter().filter(|row| row.value > 0) {
            table.row([
                row.name.to_string(),
                row.reason.as_deref().unwrap_or_default().to_owned(),
                row.value.to_string(),
                row.help.to_string(),
            ]);
        }
        table.hide_silent(&["REASON"]);
        table
    }
}

impl Shown for NodeRow {
    const NONE: &str = "no node is known here";

    fn table(rows: &[Self]) -> Table {
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
            let role = match row.role {
                NodeRole::This => "this",
                NodeRole::Neighbour => "neighbour",
                NodeRole::Origin => "origin",
            };
            let relay = row.is_relay.map(|relay| if relay { "yes" } else { "no" });
            table.row([
                row.id.short(),
                row.name.clone(),
                role.to_owned(),
                or_dash(row.address.as_ref()),
                or_dash(row.distance_seconds.map(|distance| time(distance.0))),
                or_dash(relay),
                row.streams.to_string(),
                or_dash(row.admission.map(of_uplink)),
            ]);
        }
        table
    }
}

impl Shown for MemberRow {
    const NONE: &str =
        "this node forms no site: it runs with --no-multicast, in client mode, or for one command";

    fn table(rows: &[Self]) -> Table {
        let mut table = Table::new(&[
            ("NODE", Align::Left),
            ("ROLE", Align::Left),
            ("ADDRESS", Align::Left),
            ("PRIORITY", Align::Right),
            ("UPLINK", Align::Left),
            ("HEARD", Align::Right),
            ("LOSS", Align::Right),
            ("LOSS SNOOPED", Align::Right),
            ("RECEIVES BY", Align::Left),
            ("CAUSE", Align::Left),
        ]);
        for row in rows {
            let this = if row.is_this { " (this)" } else { "" };
            let uplink = if row.has_uplink { "yes" } else { "no" };
            table.row([
                row.node.short(),
                format!("{}{this}", row.role),
                or_dash(row.address.as_ref()),
                row.priority.to_string(),
                uplink.to_owned(),
                or_dash(
                    row.heard_seconds
                        .map(|ago| format!("{:.1} s ago", ago.0.as_secs_f64())),
                ),
                or_dash(row.loss_link_ratio.map(percent)),
                or_dash(row.loss_admin_ratio.map(percent)),
                receives_by(&row.receptions),
                row.cause.clone().unwrap_or_default(),
            ]);
        }
        table.hide_silent(&["RECEIVES BY", "CAUSE"]);
        table
    }
}

/// How streams reach a node: how many by each way, and why not by multicast.
fn receives_by(receptions: &[Reception]) -> String {
    let of = |mode: Mode| receptions.iter().filter(move |one| one.mode == mode);
    let multicast = of(Mode::Multicast).count();
    let mut parts = Vec::new();
    if multicast > 0 {
        parts.push(format!("multicast: {multicast}"));
    }
    let causes: BTreeSet<&str> = of(Mode::Unicast).map(|one| one.cause.as_str()).collect();
    for cause in causes {
        let count = of(Mode::Unicast).filter(|one| one.cause == cause).count();
        parts.push(format!("unicast: {count}, {cause}"));
    }
    parts.join("; ")
}

/// What is admitted, and of how much.
fn of_uplink(admission: Admission) -> String {
    let admitted = admission.admitted_bps;
    match admission.uplink_bps {
        Some(uplink) => format!("{admitted} of {uplink}"),
        None => format!("{admitted}, no limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_that_goes_to_many_links_says_how_many() {
        let links = [7, 8, 9].map(LinkIndex);

        assert_eq!(to_links(&[]), None);
        assert_eq!(to_links(&links[..1]).as_deref(), Some("7"));
        assert_eq!(to_links(&links).as_deref(), Some("3 links"));
    }

    #[test]
    fn a_packet_size_has_a_unit_and_a_mark_until_it_is_proven() {
        assert_eq!(packet_size(PacketSize::DEFAULT, true), "1232 B");
        assert_eq!(packet_size(PacketSize::DEFAULT, false), "1232 B?");
    }
}
