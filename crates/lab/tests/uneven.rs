//! Ways on which datagrams overtake each other: what is late is not taken for lost, and who joins has a picture soon.
//!
//! ```text
//!   origin ── studio ── way: 40 ms there and back, up to 16 ms more each way ── venue ── player
//! ```
//!
//! `cargo xtask trial uneven` plays for a minute and joins twenty times.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it measured"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use levada_lab::machine::STILL_MAX;
use levada_lab::{
    Arrivals, Host, Impairment, Net, Node, Recording, Way, Weight, heavy_clip, undisturbed, wall,
};

const PEER: &str = env!("CARGO_BIN_EXE_lab-peer");
const SOON: Duration = Duration::from_secs(30);
/// 4 Mb/s: 30 pictures a second, one of them a key frame.
const WEIGHT: Weight = Weight {
    key: 80_000,
    other: 14_500,
};
const ONE_SECOND: u64 = 500_000;
/// By the origin's counters.
const TWICE_MAX: f64 = 0.03;
/// From the start of a player's program to its first picture.
const FIRST_MAX: Duration = Duration::from_millis(600);
/// Plays longer and joins more often.
const LONG: &str = "LEVADA_UNEVEN_LONG";

/// The network, and an origin that publishes in it.
struct Story {
    player: Host,
    origin: Host,
    origin_node: Node,
    file: PathBuf,
    way: Way,
    _net: Net,
}

fn story(more: Impairment, seed: u64) -> Story {
    let mut net = Net::new().unwrap();
    let (mut studio, mut venue) = (net.lan("studio").unwrap(), net.lan("venue").unwrap());
    let origin = net.host("origin", &mut studio).unwrap();
    let player = net.host("player", &mut venue).unwrap();
    let impairment = Impairment {
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(16),
        ..more
    };
    let lans = &mut [&mut studio, &mut venue];
    let way = net.way(lans, Path::new(PEER), &impairment, seed).unwrap();
    let file = heavy_clip(net.dir(), WEIGHT).unwrap();
    let origin_node = Node::origin_beside(&origin, "cam", &file, &[]).unwrap();
    origin_node.answers(SOON);
    Story {
        player,
        origin,
        origin_node,
        file,
        way,
        _net: net,
    }
}

impl Story {
    fn watcher(&self) -> Node {
        Node::watcher(&self.player, "cam", &[&self.origin], &[], Path::new(PEER)).unwrap()
    }

    /// Ends a player in order: whether its recording is the source from a key frame on.
    fn is_whole(&self, watcher: &mut Node) -> bool {
        watcher.process().interrupt().unwrap();
        assert!(watcher.process().ended(SOON).success());
        let clip = Recording::read(&self.file).unwrap();
        let recording = Recording::read(&watcher.recording()).unwrap();
        let comparison = recording.compare(&clip).unwrap();
        comparison.is_whole() && comparison.runs[0].starts_with_key
    }
}

/// Plays so many seconds: whether all came, and what the origin sent again of what it sent.
fn twice(seconds: u64) -> (bool, f64) {
    let story = story(Impairment::default(), 1);
    let mut watcher = story.watcher();
    watcher.records(seconds * ONE_SECOND, SOON + Duration::from_secs(seconds));

    let counted = story.origin_node.counters().unwrap();
    let again = counted["repair_repairs_sent"] + counted["repair_parity_sent"];
    let twice = again as f64 / (counted["copies_sent"] - again) as f64;
    let is_whole = story.is_whole(&mut watcher);
    let passed = story.way.passed().unwrap();
    println!("{seconds} s: whole {is_whole}, {again} sent again, {twice:.4} of all, {passed:?}");
    (is_whole, twice)
}

#[test]
fn datagrams_that_overtake_each_other_are_not_sent_twice() {
    let seconds = if std::env::var_os(LONG).is_some() {
        60
    } else {
        8
    };
    let is_usual = |told: &(bool, f64)| told.0 && told.1 <= TWICE_MAX;

    let told = undisturbed(STILL_MAX, is_usual, || twice(seconds));

    assert!(is_usual(&told), "{told:?}");
}

#[test]
fn every_cold_join_over_a_bad_way_has_a_picture_soon() {
    let count = if std::env::var_os(LONG).is_some() {
        20
    } else {
        5
    };
    let bad = Impairment {
        loss: 0.01,
        duplicate: 0.01,
        ..Impairment::default()
    };
    let story = story(bad, 1);
    let join = || {
        let begin = wall();
        let mut watcher = story.watcher();
        watcher.records(2 * ONE_SECOND, SOON);
        let is_whole = story.is_whole(&mut watcher);
        let first = Arrivals::read(&watcher.recording()).unwrap().first();
        (is_whole, first.unwrap() - begin)
    };
    let is_usual = |told: &(bool, Duration)| told.0 && told.1 <= FIRST_MAX;

    let joins: Vec<_> = (0..count)
        .map(|_| undisturbed(STILL_MAX, is_usual, join))
        .collect();

    println!("{joins:?}, {:?}", story.way.passed().unwrap());
    assert!(joins.iter().all(is_usual), "{joins:?}");
}
