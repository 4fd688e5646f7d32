//! What `demo` shows: a summary that is drawn over itself on a terminal, lines elsewhere, or JSON.
//!
//! Not what it means (`meter.rs`). Invariant: on a terminal it takes the same lines again and again.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use levada::view::FlowRow;
use levada::{Bitrate, View};
use serde_json::json;

use super::meter::{Latency, Second};
use super::{Network, STREAM, Views};
use crate::say;
use crate::table::{self, Align, Table, or_dash};

/// Where the summary goes.
#[derive(Debug)]
pub(super) struct Screen {
    json: bool,
    is_terminal: bool,
    /// Lines of the summary that stands there.
    lines: usize,
}

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        Self {
            json,
            is_terminal: io::stdout().is_terminal(),
            lines: 0,
        }
    }

    /// Says what there is to see, and how to look at it from outside.
    pub(super) fn introduce(&self, network: &Network) -> io::Result<()> {
        let relay = network.relay.local_addr();
        let levada = say::program();
        if self.json {
            return say::result(json!({
                "stream": STREAM,
                "join": relay.to_string(),
                "state": network.relay.state_dir().display().to_string(),
            }));
        }
        say::result(format_args!(
            "Three nodes on this machine, joined by nothing but UDP on 127.0.0.1: the test card `{STREAM}` flows\n\
             from an origin through a relay to a player. The relay consumes it too (ACTIVE), to measure each hop.\n\
             In another terminal:\n\n    \
             watch it:     {levada} play {STREAM} --join {relay}\n    \
             look inside:  {levada} flows --watch --node {state}\n",
            state = network.relay.state_dir().display(),
        ))
    }

    /// Shows one second.
    pub(super) fn draw(&mut self, second: &Second, views: &Views) -> io::Result<()> {
        if self.json {
            return say::result(json_of(second, Some(views)));
        }
        if !self.is_terminal {
            return say::result(format_args!("{:>4} s  {}", second.at, line(second)));
        }
        let text = summary(second, views);
        let up = match self.lines {
            0 => String::new(),
            // Up, then erase to the end of the screen (ECMA-48 8.3.22, 8.3.39).
            lines => format!("\x1b[{lines}A\x1b[J"),
        };
        self.lines = text.lines().count();
        say::print(format_args!("{up}{text}"))
    }

    /// Shows what it was, all in all.
    pub(super) fn conclude(&self, total: &Second) -> io::Result<()> {
        if self.json {
            let mut value = json_of(total, None);
            value["final"] = true.into();
            return say::result(value);
        }
        let hops = hops(total).map_or_else(String::new, |hops| format!("; hop latency: {hops}"));
        say::result(format_args!(
            "{} frames arrived in {} s, {} lost{hops}.",
            total.frames_total, total.at, total.lost_total
        ))
    }
}

fn whole_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// What came in one second.
fn counts(second: &Second) -> String {
    format!(
        "{} pictures/s, {} frames/s, {}, {} lost",
        second.pictures,
        second.frames,
        Bitrate(second.bytes * 8),
        second.lost_total
    )
}

/// How long it was under way.
fn time(latency: Latency) -> String {
    format!(
        "{} (99%: {})",
        table::time(latency.p50),
        table::time(latency.p99)
    )
}

/// How long over each hop; `None` until both are measured.
fn hops(second: &Second) -> Option<String> {
    let [to_relay, to_player] = [second.to_relay?, second.to_player?].map(time);
    Some(format!("to relay {to_relay}, on to player {to_player}"))
}

/// One second in one line.
fn line(second: &Second) -> String {
    let whole = second.latency.map(|all| format!("latency {}", time(all)));
    let parts = [Some(counts(second)), whole, hops(second)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// One second with the nodes and links behind it. No line is longer than 80 columns, or it could not be drawn over.
fn summary(second: &Second, views: &Views) -> String {
    let mut nodes = Table::new(&[
        ("NODE", Align::Left),
        ("ADDRESS", Align::Left),
        ("FLOW", Align::Left),
        ("PACKETS IN", Align::Right),
        ("PACKETS OUT", Align::Right),
    ]);
    for (name, view) in views.all() {
        let flow = flow(view);
        nodes.row([
            name.to_owned(),
            view.node.listen.to_string(),
            or_dash(flow.map(|flow| flow.control.state)),
            or_dash(flow.map(|flow| flow.counters.packets_in)),
            or_dash(flow.map(|flow| flow.counters.packets_out)),
        ]);
    }
    let mut links = Table::new(&[
        ("LINK", Align::Left),
        ("STATE", Align::Left),
        ("RTT", Align::Right),
    ]);
    for row in views.relay.links.iter().map(|row| &row.control) {
        links.row([
            format!("relay - {}", row.name),
            row.state.to_string(),
            or_dash(row.rtt_seconds.map(|rtt| table::time(rtt.0))),
        ]);
    }
    let (at, counts) = (second.at, counts(second));
    let whole = second.latency.map_or_else(|| "-".to_owned(), time);
    let hops = hops(second).unwrap_or_else(|| "-".to_owned());
    format!("{nodes}\n{links}\n{at} s: {counts}\nlatency {whole}\nhops: {hops}\nCtrl-C ends it.\n")
}

fn flow(view: &View) -> Option<&FlowRow> {
    view.flows
        .iter()
        .find(|flow| flow.control.name.as_str() == STREAM)
}

fn json_of(second: &Second, views: Option<&Views>) -> serde_json::Value {
    let json_of = |latency: Option<Latency>| {
        let latency = latency?;
        Some(json!({ "p50": whole_micros(latency.p50), "p99": whole_micros(latency.p99) }))
    };
    let nodes = views.map(|views| {
        let node = |(name, view): (&str, &View)| {
            json!({ "name": name, "node": view.node, "links": view.links, "flow": flow(view) })
        };
        views.all().map(node)
    });
    json!({
        "second": second.at,
        "frames": second.frames,
        "pictures": second.pictures,
        "bits": second.bytes * 8,
        "frames_total": second.frames_total,
        "lost_frames": second.lost_total,
        "gaps": second.gaps_total,
        "latency_us": json_of(second.latency),
        "hop_latency_us": {
            "origin_to_relay": json_of(second.to_relay),
            "relay_to_player": json_of(second.to_player),
        },
        "nodes": nodes,
    })
}
