//! Large pictures over paths with short queues: every picture comes, from the first group on, and next to nothing is
//! sent twice.
//!
//! ```text
//!   origin ── studio ── way: 40 ms there and back, a rate, a queue ── venue ── player
//! ```
//!
//! `cargo xtask trial narrow` plays longer.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it measured"
)]

use std::path::Path;
use std::time::Duration;

use levada_lab::machine::STILL_MAX;
use levada_lab::{
    Impairment, Net, Node, Recording, Traffic, Weight, eventually, heavy_clip, undisturbed,
};
use levada_wire::Bitrate;

const PEER: &str = env!("CARGO_BIN_EXE_lab-peer");
const SOON: Duration = Duration::from_secs(30);
/// 7 Mb/s: 30 pictures a second, one of them a key frame.
const WEIGHT: Weight = Weight {
    key: 227_000,
    other: 22_300,
};
const ONE_SECOND: u64 = 875_000;
/// By origins' counters.
const EXTRA_MAX: f64 = 0.03;
/// Plays for minutes.
const LONG: &str = "LEVADA_NARROW_LONG";

/// A path, and how long a player may wait for what comes over it.
#[derive(Clone, Copy, Debug)]
struct Narrow {
    mbit_per_s: u64,
    queue_bytes: usize,
    latency: &'static str,
}

const PATHS: [Narrow; 4] = [
    Narrow {
        mbit_per_s: 20,
        queue_bytes: 32_000,
        latency: "200ms",
    },
    Narrow {
        mbit_per_s: 50,
        queue_bytes: 32_000,
        latency: "200ms",
    },
    Narrow {
        mbit_per_s: 20,
        queue_bytes: 64_000,
        latency: "500ms",
    },
    // Twice the rate of the stream, and 10 ms of it.
    Narrow {
        mbit_per_s: 14,
        queue_bytes: 17_500,
        latency: "200ms",
    },
];

impl Narrow {
    fn impairment(&self) -> Impairment {
        Impairment {
            delay: Duration::from_millis(20),
            rate: Some(Bitrate(self.mbit_per_s * 1_000_000)),
            queue_bytes: self.queue_bytes,
            ..Impairment::default()
        }
    }
}

/// What came of it.
#[derive(Debug)]
struct Told {
    /// Whether the recording is the source from a key frame on.
    is_whole: bool,
    pictures: usize,
    given_up: u64,
    /// What the origin sent beyond what it made, by what it made.
    extra: f64,
}

impl Told {
    fn is_as_it_should_be(&self) -> bool {
        self.is_whole && self.given_up == 0 && self.extra <= EXTRA_MAX
    }
}

/// Plays so many seconds over a path.
fn play(path: Narrow, seconds: u64) -> Told {
    let mut net = Net::new().unwrap();
    let (mut studio, mut venue) = (net.lan("studio").unwrap(), net.lan("venue").unwrap());
    let origin = net.host("origin", &mut studio).unwrap();
    let player = net.host("player", &mut venue).unwrap();
    let lans = &mut [&mut studio, &mut venue];
    let way = net
        .way(lans, Path::new(PEER), &path.impairment(), 1)
        .unwrap();
    let file = heavy_clip(net.dir(), WEIGHT).unwrap();
    let cable = origin.count_sent(Traffic::Media).unwrap();
    let origin_node = Node::origin_beside(&origin, "cam", &file, &[]).unwrap();
    origin_node.answers(SOON);
    let latency = ["--latency", path.latency];
    let mut watcher = Node::watcher(&player, "cam", &[&origin], &latency, Path::new(PEER)).unwrap();
    watcher.records(seconds * ONE_SECOND, SOON + Duration::from_secs(seconds));

    let counted = origin_node.counters().unwrap();
    let given_up = watcher.counters().unwrap()["repair_given_up"];
    watcher.process().interrupt().unwrap();
    assert!(watcher.process().ended(SOON).success());
    let clip = Recording::read(&file).unwrap();
    let recording = Recording::read(&watcher.recording()).unwrap();
    let comparison = recording.compare(&clip).unwrap();
    let again = counted["repair_repairs_sent"] + counted["repair_parity_sent"];
    let sent = counted["copies_sent"];
    let passed = way.passed().unwrap();
    let on_cable = cable.read().unwrap().packets;
    assert!(
        on_cable >= sent,
        "{on_cable} went over the cable, {sent} were sent"
    );
    let told = Told {
        is_whole: comparison.is_whole() && comparison.runs[0].starts_with_key,
        pictures: recording.pictures(),
        given_up,
        extra: again as f64 / (sent - again) as f64,
    };
    println!("{path:?}: {told:?}, {passed:?}");
    told
}

#[test]
fn pictures_larger_than_the_queues_on_their_way_come_whole_from_the_first_group_on() {
    let seconds = if std::env::var_os(LONG).is_some() {
        120
    } else {
        5
    };

    for path in PATHS {
        let told = undisturbed(STILL_MAX, Told::is_as_it_should_be, || play(path, seconds));

        assert!(told.is_as_it_should_be(), "{path:?}: {told:?}");
        assert!(told.pictures as u64 > 20 * seconds, "{told:?}");
    }
}

#[test]
fn an_origin_that_takes_the_path_for_a_wire_loses_what_the_queue_does_not_hold() {
    let path = PATHS[0];
    let mut net = Net::new().unwrap();
    let (mut studio, mut venue) = (net.lan("studio").unwrap(), net.lan("venue").unwrap());
    let origin = net.host("origin", &mut studio).unwrap();
    let player = net.host("player", &mut venue).unwrap();
    origin.believe_in_a_wire().unwrap();
    let lans = &mut [&mut studio, &mut venue];
    let way = net
        .way(lans, Path::new(PEER), &path.impairment(), 1)
        .unwrap();
    let file = heavy_clip(net.dir(), WEIGHT).unwrap();
    let origin_node = Node::origin_beside(&origin, "cam", &file, &[]).unwrap();
    origin_node.answers(SOON);
    let latency = ["--latency", path.latency];
    let watcher = Node::watcher(&player, "cam", &[&origin], &latency, Path::new(PEER)).unwrap();

    let given_up = eventually(SOON, "pictures are given up", || {
        let given_up = *watcher.counters().ok()?.get("repair_given_up")?;
        (given_up > 100).then_some(given_up)
    });

    let passed = way.passed().unwrap();
    println!("not paced: {given_up} given up, {passed:?}");
    assert!(passed.lost > 100, "{passed:?}");
}
