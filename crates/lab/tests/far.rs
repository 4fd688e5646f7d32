//! Round trips of 600 ms and of a second: links live while streams begin and flow over them, and what is played is
//! whole.
//!
//! ```text
//!   origin ── way ── relay ── way ── player          each host in a LAN of its own
//! ```
//!
//! `cargo xtask trial far` begins ten times at each distance.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it measured"
)]

use std::path::Path;
use std::time::Duration;

use levada_lab::machine::STILL_MAX;
use levada_lab::{Impairment, Net, Node, Recording, clip_file, undisturbed};
use serde_json::Value;

const PEER: &str = env!("CARGO_BIN_EXE_lab-peer");
const SOON: Duration = Duration::from_secs(40);
/// One second of the clip, which has 312,456 bytes in 8 s.
const ONE_SECOND: u64 = 312_456 / 8;
/// Begins more often.
const LONG: &str = "LEVADA_FAR_LONG";

/// What came of it.
#[derive(Debug)]
struct Told {
    is_whole: bool,
    /// Of the relay and of the player: the numbers of their links when the player had linked, and at the end. A link
    /// that died and came back has another number.
    links: [[Vec<Value>; 2]; 2],
}

impl Told {
    fn is_as_it_should_be(&self) -> bool {
        let [relay, player] = &self.links;
        let lives = |[before, after]: &[Vec<Value>; 2]| before == after;
        self.is_whole && lives(relay) && lives(player) && relay[0].len() == 2
    }
}

/// The numbers of the links that are up.
fn links_up(node: &Node) -> Vec<Value> {
    let links = node.view("links").unwrap();
    let mut links: Vec<_> = links.as_array().unwrap().iter().collect();
    links.retain(|link| link["state"] == "up");
    links.into_iter().map(|link| link["link"].clone()).collect()
}

fn play(round_trip: Duration, seed: u64) -> Told {
    let mut net = Net::new().unwrap();
    let mut lans = ["a", "b", "c"].map(|name| net.lan(name).unwrap());
    let mut lan = lans.iter_mut();
    let [origin, relay, player] =
        ["origin", "relay", "player"].map(|name| net.host(name, lan.next().unwrap()).unwrap());
    let impairment = Impairment {
        delay: round_trip / 2,
        ..Impairment::default()
    };
    let [a, b, c] = &mut lans;
    let _way = net
        .way(&mut [a, b, c], Path::new(PEER), &impairment, seed)
        .unwrap();
    let relay_node = Node::relay(&relay).unwrap();
    let _origin = Node::origin_beside(&origin, "cam", &clip_file(), &[&relay]).unwrap();
    relay_node.learns("cam", SOON);
    let mut watcher = Node::watcher(&player, "cam", &[&relay], &[], Path::new(PEER)).unwrap();
    watcher.learns("cam", SOON);
    let all = || [&relay_node, &watcher].map(links_up);
    let before = all();

    watcher.records(4 * ONE_SECOND, SOON);

    let after = all();
    watcher.process().interrupt().unwrap();
    assert!(watcher.process().ended(SOON).success());
    let clip = Recording::read(&clip_file()).unwrap();
    let recording = Recording::read(&watcher.recording()).unwrap();
    let comparison = recording.compare(&clip).unwrap();
    let [relay_before, player_before] = before;
    let [relay_after, player_after] = after;
    let told = Told {
        is_whole: comparison.is_whole() && comparison.runs[0].starts_with_key,
        links: [[relay_before, relay_after], [player_before, player_after]],
    };
    println!(
        "{round_trip:?}: {told:?}, {} pictures",
        recording.pictures()
    );
    told
}

fn links_live(round_trip: Duration) {
    let count = if std::env::var_os(LONG).is_some() {
        10
    } else {
        1
    };
    for seed in 1..=count {
        let told = undisturbed(STILL_MAX, Told::is_as_it_should_be, || {
            play(round_trip, seed)
        });

        assert!(told.is_as_it_should_be(), "seed {seed}: {told:?}");
    }
}

#[test]
fn links_of_600_ms_live_while_a_stream_begins_and_flows_over_them() {
    links_live(Duration::from_millis(600));
}

#[test]
fn links_of_a_second_live_while_a_stream_begins_and_flows_over_them() {
    links_live(Duration::from_secs(1));
}
