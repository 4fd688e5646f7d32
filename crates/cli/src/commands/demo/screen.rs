//! What `demo` shows: a summary that is drawn over itself on a terminal, lines elsewhere, or JSON.
//!
//! Not what it means (`meter.rs`). Invariant: on a terminal it takes the same lines again and again.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use levada::view::FlowRow;
use levada::{Bitrate, View};
use serde_json::json;

use super::meter::{Latency, Second};
use super::network::Network;
use super::plan::{Does, FIRST_HOP, HERE, STREAMS, TEST_CARD};
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
        let relay = network.node(FIRST_HOP).address;
        let levada = say::program();
        let http = network.gateways().http();
        let rtsp = network.gateways().rtsp();
        let page = http.map(|http| format!("http://{http}/ui/"));
        if self.json {
            return say::result(json!({
                "stream": TEST_CARD,
                "join": relay.to_string(),
                "state": network.here().state_dir().display().to_string(),
                "page": page,
                "rtsp": rtsp.map(|rtsp| format!("rtsp://{rtsp}/{TEST_CARD}")),
                "nodes": network.nodes().iter().map(|node| json!({
                    "name": node.plan.name,
                    "listen": node.address.to_string(),
                    "state": node.state.display().to_string(),
                })).collect::<Vec<_>>(),
            }));
        }
        let page = page.unwrap_or_else(|| "(no port for it was free)".to_owned());
        let watch = rtsp.map_or_else(String::new, |rtsp| {
            format!("    or in a player:   vlc rtsp://{rtsp}/{TEST_CARD}\n")
        });
        say::result(format_args!(
            "Twelve nodes on this machine, joined by nothing but UDP on 127.0.0.1, late and lossy as over land and\n\
             sea: two origins, five relays, five players, three streams. What is measured here is what arrives at\n\
             {HERE}; {FIRST_HOP} consumes the test card too (ACTIVE), so that each hop is measured.\n\n    \
             look at it:       {page}\n{watch}    \
             join it:          {levada} play {TEST_CARD} --join {relay}\n    \
             look inside:      {levada} flows --watch --node {state}\n",
            state = network.here().state_dir().display(),
        ))
    }

    /// Shows one second of each stream.
    pub(super) fn draw(
        &mut self,
        seconds: &[Second],
        network: &Network,
        views: &[Option<View>],
    ) -> io::Result<()> {
        if self.json {
            return say::result(json_of(seconds, Some((network, views))));
        }
        if !self.is_terminal {
            let second = &seconds[0];
            return say::result(format_args!("{:>4} s  {}", second.at, line(second)));
        }
        let text = summary(seconds, network, views);
        let up = self.up();
        self.lines = text.lines().count();
        say::print(format_args!("{up}{text}"))
    }

    /// Says what is done to the network, above the summary.
    pub(super) fn tell(&mut self, text: &str) -> io::Result<()> {
        if self.json {
            return say::result(json!({ "story": text }));
        }
        let up = self.up();
        self.lines = 0;
        say::result(format_args!("{up}      >> {text}"))
    }

    /// What takes the summary away that stands there.
    fn up(&self) -> String {
        match self.lines {
            0 => String::new(),
            // Up, then erase to the end of the screen (ECMA-48 8.3.22, 8.3.39).
            lines => format!("\x1b[{lines}A\x1b[J"),
        }
    }

    /// Shows what it was, all in all.
    pub(super) fn conclude(&self, totals: &[Second]) -> io::Result<()> {
        if self.json {
            let mut value = json_of(totals, None);
            value["final"] = true.into();
            return say::result(value);
        }
        for ((stream, ..), total) in STREAMS.iter().zip(totals) {
            let hops =
                hops(total).map_or_else(String::new, |hops| format!("; hop latency: {hops}"));
            say::result(format_args!(
                "{stream}: {} frames arrived in {} s, {} lost, longest pause {}{hops}.",
                total.frames_total,
                total.at,
                total.lost_total,
                table::time(total.pause)
            ))?;
        }
        Ok(())
    }
}

fn whole_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// How long it was under way.
fn time(latency: Latency) -> String {
    format!(
        "{} (99%: {})",
        table::time(latency.p50),
        table::time(latency.p99)
    )
}

/// How long over the first hop, and over all others; `None` until both are measured.
fn hops(second: &Second) -> Option<String> {
    let [first, rest] = [second.to_relay?, second.to_player?].map(time);
    Some(format!("to {FIRST_HOP} {first}, on to {HERE} {rest}"))
}

/// One second of a stream in one line.
fn line(second: &Second) -> String {
    let counts = format!(
        "{} pictures/s, {} frames/s, {}, {} lost",
        second.pictures,
        second.frames,
        Bitrate(second.bytes * 8),
        second.lost_total
    );
    let whole = second.latency.map(|all| format!("latency {}", time(all)));
    let parts = [Some(counts), whole, hops(second)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// One second, with the nodes behind it. No line is longer than 80 columns, or it could not be drawn over.
fn summary(seconds: &[Second], network: &Network, views: &[Option<View>]) -> String {
    let mut nodes = Table::new(&[
        ("NODE", Align::Left),
        ("DOES", Align::Left),
        ("LINKS", Align::Right),
        ("FLOWS", Align::Right),
        ("PACKETS IN", Align::Right),
        ("PACKETS OUT", Align::Right),
    ]);
    for (node, view) in network.nodes().iter().zip(views) {
        let does = match (node.plan.does, view) {
            (_, None) => "does not answer",
            (Does::Origin, _) => "origin",
            (Does::Relay, _) => "relay",
            (Does::Player, _) if node.plan.name == HERE => "player, page",
            (Does::Player, _) => "player",
        };
        let flowing = |view: &View| {
            view.flows
                .iter()
                .filter(|flow| flow.counters.packets_in > 0)
                .count()
        };
        let up = |view: &View| {
            view.links
                .iter()
                .filter(|link| link.control.state.is_up())
                .count()
        };
        let sum =
            |view: &View, count: fn(&FlowRow) -> u64| view.flows.iter().map(count).sum::<u64>();
        nodes.row([
            node.plan.name.to_owned(),
            does.to_owned(),
            or_dash(view.as_ref().map(up)),
            or_dash(view.as_ref().map(flowing)),
            or_dash(
                view.as_ref()
                    .map(|view| sum(view, |flow| flow.counters.packets_in)),
            ),
            or_dash(
                view.as_ref()
                    .map(|view| sum(view, |flow| flow.counters.packets_out)),
            ),
        ]);
    }
    let streams = streams(seconds);
    let hops = hops(&seconds[0]).unwrap_or_else(|| "-".to_owned());
    let at = seconds[0].at;
    format!("{nodes}\n{streams}\n{TEST_CARD}: {hops}\n{at} s; Ctrl-C ends it.\n")
}

/// What came of each stream in one second.
fn streams(seconds: &[Second]) -> Table {
    let mut streams = Table::new(&[
        ("STREAM", Align::Left),
        ("FROM", Align::Left),
        ("FRAMES/s", Align::Right),
        ("RATE", Align::Right),
        ("LATENCY", Align::Right),
        ("99%", Align::Right),
        ("LOST", Align::Right),
        ("PAUSE", Align::Right),
    ]);
    for ((stream, from, _), second) in STREAMS.iter().zip(seconds) {
        streams.row([
            (*stream).to_owned(),
            (*from).to_owned(),
            second.frames.to_string(),
            Bitrate(second.bytes * 8).to_string(),
            or_dash(second.latency.map(|latency| table::time(latency.p50))),
            or_dash(second.latency.map(|latency| table::time(latency.p99))),
            second.lost_total.to_string(),
            table::time(second.pause),
        ]);
    }
    streams
}

fn flow(view: &View) -> Option<&FlowRow> {
    view.flows
        .iter()
        .find(|flow| flow.control.name.as_str() == TEST_CARD)
}

fn json_of(seconds: &[Second], network: Option<(&Network, &[Option<View>])>) -> serde_json::Value {
    let json_of = |latency: Option<Latency>| {
        let latency = latency?;
        Some(json!({ "p50": whole_micros(latency.p50), "p99": whole_micros(latency.p99) }))
    };
    let nodes = network.map(|(network, views)| {
        let nodes = network.nodes().iter().zip(views).map(|(node, view)| {
            json!({
                "name": node.plan.name,
                "node": view.as_ref().map(|view| &view.node),
                "links": view.as_ref().map(|view| &view.links),
                "flow": view.as_ref().and_then(flow),
            })
        });
        nodes.collect::<Vec<_>>()
    });
    let stream = |second: &Second| {
        json!({
            "second": second.at,
            "frames": second.frames,
            "pictures": second.pictures,
            "bits": second.bytes * 8,
            "frames_total": second.frames_total,
            "lost_frames": second.lost_total,
            "gaps": second.gaps_total,
            "pause_us": whole_micros(second.pause),
            "latency_us": json_of(second.latency),
        })
    };
    let mut value = stream(&seconds[0]);
    value["hop_latency_us"] = json!({
        "origin_to_relay": json_of(seconds[0].to_relay),
        "relay_to_player": json_of(seconds[0].to_player),
    });
    value["nodes"] = json!(nodes);
    let streams = STREAMS
        .iter()
        .zip(seconds)
        .map(|((name, from, _), second)| {
            let mut value = stream(second);
            value["name"] = json!(name);
            value["origin"] = json!(from);
            value
        });
    value["streams"] = streams.collect();
    value
}
