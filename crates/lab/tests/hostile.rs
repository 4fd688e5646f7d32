//! A hostile neighbour of a relay and of a player lies in all ways that it has, and wants everything: no other link's
//! figures change, whoever watches sees every frame, and the relay's memory stays within a bound.
//!
//! ```text
//!   origin ── relay ── far player              all on one LAN; what is drawn is who has a link to whom
//!               │ ╲
//!           hostile ── near player
//! ```
//!
//! A calm run of the same length is the measure. How each lie would end without the limits is shown where that can be
//! built: `crates/sim/tests/hostile.rs`, and the tests of lane and core.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it measured"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use levada_lab::machine::STILL_MAX;
use levada_lab::{Host, Net, Node, Process, Recording, clip_file, eventually, undisturbed};
use serde_json::Value;

const PEER: &str = env!("CARGO_BIN_EXE_lab-peer");
const SOON: Duration = Duration::from_secs(30);
/// One second of the clip, which has 312,456 bytes in 8 s.
const ONE_SECOND: u64 = 312_456 / 8;
/// What a hostile neighbour may cost in memory beside what the relay has without one: what it announces is kept up to
/// the share of one neighbour, and routes, requests and keys are counted.
const MORE_MAX: u64 = 24 << 20;
/// How long it lies.
const LONG: &str = "LEVADA_HOSTILE_LONG";

/// What a node counts when something goes wrong on its links.
const FIGURES: [&str; 6] = [
    "copies_unsent_",
    "packets_unopened",
    "receive_errors",
    "commands_refused",
    "socket_refused",
    "repair_given_up",
];

/// What came of it.
#[derive(Debug)]
struct Told {
    /// By the far player and the near one.
    whole: [bool; 2],
    /// Of the origin and of the far player, who have no link to the hostile one: figures that are not zero, and the
    /// losses of their links.
    figures: [BTreeMap<String, u64>; 2],
    losses: [Vec<Value>; 2],
    /// Of the relay.
    rss_bytes: u64,
}

impl Told {
    fn is_usual(&self) -> bool {
        let is_calm = |losses: &Vec<Value>| losses.iter().all(|loss| loss.as_f64() == Some(0.0));
        self.whole == [true; 2]
            && self.figures.iter().all(BTreeMap::is_empty)
            && self.losses.iter().all(is_calm)
    }
}

fn figures(node: &Node) -> BTreeMap<String, u64> {
    let counters = node.counters().unwrap().into_iter();
    let is_figure = |name: &str| FIGURES.iter().any(|figure| name.starts_with(figure));
    counters
        .filter(|(name, value)| is_figure(name) && *value > 0)
        .collect()
}

fn losses(node: &Node) -> Vec<Value> {
    let links = node.view("links").unwrap();
    let loss = |link: &Value| ["loss_in_ratio", "loss_out_ratio"].map(|key| link[key].clone());
    links.as_array().unwrap().iter().flat_map(loss).collect()
}

/// Starts the liar, and waits until it has lied in all ways.
fn lie(host: &Host, neighbours: [&Host; 2]) -> Process {
    let state = host.file("state");
    let mut words = vec![
        "hostile".to_owned(),
        host.node_address().to_string(),
        state.to_str().unwrap().to_owned(),
    ];
    words.extend(neighbours.map(|neighbour| neighbour.node_address().to_string()));
    let process = Process::start(host, Path::new(PEER), words).unwrap();
    eventually(SOON, "it lies in all ways", || {
        let said = said(&process)?;
        let lies = ["messages", "false_keys", "wanted", "far"];
        lies.iter()
            .all(|lie| said[lie].as_u64() > Some(0))
            .then_some(())
    });
    process
}

fn said(process: &Process) -> Option<Value> {
    let output = process.output().ok()?;
    let line = output.rsplit_once('\n')?.0.lines().next_back()?.to_owned();
    serde_json::from_str(&line).ok()
}

fn play(is_hostile: bool, seconds: u64) -> Told {
    let mut net = Net::new().unwrap();
    let mut lan = net.lan("lan").unwrap();
    let [origin, relay, near, far, liar] =
        ["origin", "relay", "near", "far", "liar"].map(|name| net.host(name, &mut lan).unwrap());
    let mut relay_node = Node::relay(&relay).unwrap();
    let origin_node = Node::origin(&origin, "cam", &clip_file(), &relay).unwrap();
    relay_node.learns("cam", SOON);
    let peer = Path::new(PEER);
    let mut far_player = Node::watcher(&far, "cam", &[&relay], &[], peer).unwrap();
    let mut near_player = Node::watcher(&near, "cam", &[&relay], &[], peer).unwrap();
    for player in [&far_player, &near_player] {
        player.records(ONE_SECOND, SOON);
    }
    let liar = is_hostile.then(|| lie(&liar, [&relay, &near]));

    far_player.records(seconds * ONE_SECOND, SOON + Duration::from_secs(seconds));

    let rss_bytes = relay_node.process().memory().unwrap();
    let mut told = Told {
        whole: [false; 2],
        figures: [&origin_node, &far_player].map(figures),
        losses: [&origin_node, &far_player].map(losses),
        rss_bytes,
    };
    let clip = Recording::read(&clip_file()).unwrap();
    for (player, whole) in [&mut far_player, &mut near_player]
        .into_iter()
        .zip(&mut told.whole)
    {
        player.process().interrupt().unwrap();
        assert!(player.process().ended(SOON).success());
        let recording = Recording::read(&player.recording()).unwrap();
        *whole = recording.compare(&clip).unwrap().is_whole();
    }
    let said = liar.as_ref().and_then(said);
    let dropped = relay_node.counters().unwrap().into_iter();
    let dropped: BTreeMap<_, _> = dropped
        .filter(|(name, value)| {
            *value > 0 && (name.contains("dropped") || name.contains("catalogue"))
        })
        .collect();
    println!("hostile {is_hostile}: {told:?}, it said {said:?}, the relay {dropped:?}");
    told
}

#[test]
fn a_hostile_neighbour_changes_no_other_links_figures_and_costs_a_bounded_memory() {
    let seconds = if std::env::var_os(LONG).is_some() {
        120
    } else {
        8
    };

    let calm = undisturbed(STILL_MAX, Told::is_usual, || play(false, seconds));
    let hostile = undisturbed(STILL_MAX, Told::is_usual, || play(true, seconds));

    assert!(calm.is_usual(), "{calm:?}");
    assert!(hostile.is_usual(), "{hostile:?}");
    let most = calm.rss_bytes + MORE_MAX;
    assert!(hostile.rss_bytes < most, "{} of {most}", hostile.rss_bytes);
}
