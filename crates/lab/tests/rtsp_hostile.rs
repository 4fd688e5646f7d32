//! A viewer among RTSP clients that do nothing, or what they can: its pictures are whole, and the node stays small.
//!
//! ```text
//!   clip ─▶ node ─▶ viewer (ffmpeg): every picture, one after another, without a skip
//!             ├──── a crowd, set up to play, that does nothing
//!             └──── others: silent, byte by byte, stopped within a picture, endless heads, a million lines, garbage
//! ```
//!
//! `cargo xtask trial rtsp-hostile` has a crowd of 10,000; the test alone a small one.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it measured"
)]

use std::path::Path;
use std::time::Duration;

use levada_lab::pictures::FRAMECRC;
use levada_lab::{Host, Net, Node, Process, Shown, clip_file, eventually};

const SOON: Duration = Duration::from_secs(120);
/// Set by `cargo xtask trial rtsp-hostile`.
const LONG: &str = "LEVADA_HOSTILE_LONG";
const CROWD: u64 = 300;
const CROWD_LONG: u64 = 9_900;
/// What an idle client may cost, in KiB.
const IDLE_KIB_MAX: u64 = 32;
/// What the hostile may cost together: their heads and pictures, and what allocators keep of what has gone.
const HOSTILE_KIB_MAX: u64 = 64 << 10;
/// What the crowd's cost is measured with at least: a node's own memory moves by some of that.
const MOVES_KIB: u64 = 8 << 10;
/// How long the viewer watches what happens.
const SECONDS: &str = "20";

fn peer(host: &Host, words: &[&str]) -> Process {
    let program = Path::new(env!("CARGO_BIN_EXE_lab-peer"));
    Process::start(host, program, words).unwrap()
}

/// Waits until it says a line that begins so, and returns that.
fn says(process: &Process, begin: &str) -> String {
    eventually(SOON, begin, || {
        let output = process.output().unwrap();
        let line = output.lines().find(|line| line.starts_with(begin));
        line.map(str::to_owned)
    })
}

#[test]
fn no_viewer_notices_a_crowd_or_those_who_do_what_they_can() {
    let is_long = std::env::var_os(LONG).is_some();
    let crowd_size = if is_long { CROWD_LONG } else { CROWD };
    let mut net = Net::new().unwrap();
    let mut lan = net.lan("lan").unwrap();
    let names = ["studio", "viewer", "crowd", "hostile"];
    let [studio, viewer, many, few] = &names.map(|name| net.host(name, &mut lan).unwrap());
    let mut node = Node::relay(studio).unwrap();
    node.answers(SOON);
    let clip = Shown::of_file(&clip_file()).unwrap();
    let _source = node.publish("film", clip_file().to_str().unwrap()).unwrap();
    node.learns("film", SOON);
    let at = format!("{}:8554", studio.address());

    let before = node.process().memory().unwrap() >> 10;
    let crowd = peer(many, &["rtsp-crowd", &at, "film", &crowd_size.to_string()]);
    let ready = says(&crowd, "ready ");
    let with_crowd = node.process().memory().unwrap() >> 10;
    let each = with_crowd.saturating_sub(before).saturating_sub(MOVES_KIB) / crowd_size;
    println!(
        "{ready}; {before} KiB before, {with_crowd} with the crowd: {:.1} for each",
        with_crowd.saturating_sub(before) as f64 / crowd_size as f64
    );
    let hostile = peer(few, &["rtsp-hostile", &at, "film"]);
    says(&hostile, "round 1");

    let pictures = viewer.file("pictures");
    let url = format!("rtsp://{at}/film");
    let words = ["-nostdin", "-loglevel", "warning", "-rtsp_transport", "tcp"];
    let words = words.into_iter().chain(["-i", &url, "-t", SECONDS]);
    let words = words.chain(FRAMECRC).chain([pictures.to_str().unwrap()]);
    let mut player = Process::start(viewer, Path::new("ffmpeg"), words).unwrap();
    let status = player.ended(SOON);

    let after = node.process().memory().unwrap() >> 10;
    println!("{after} KiB with the hostile besides");
    assert!(status.success(), "{}", player.log().unwrap());
    assert_eq!(player.log().unwrap(), "");
    let shown = Shown::of_framecrc(&std::fs::read_to_string(&pictures).unwrap()).unwrap();
    clip.place(&shown.pictures).unwrap();
    let sessions = node.sessions().unwrap();
    let is_viewer = |row: &&serde_json::Value| {
        row["agent"]
            .as_str()
            .is_some_and(|agent| agent.contains("Lavf"))
    };
    let row = sessions.iter().find(is_viewer).unwrap();
    assert_eq!(row["skips"], 0, "{row}");
    assert!(ready.ends_with("refused 0"), "{ready}");
    assert!(each < IDLE_KIB_MAX, "{each} KiB for each that is idle");
    assert!(after < with_crowd + HOSTILE_KIB_MAX, "{after} KiB");
    // Those who did what they could were there.
    let is_there = |reason: &str| {
        sessions.iter().any(|row| {
            row["ended"]
                .as_str()
                .is_some_and(|why| why.contains(reason))
        })
    };
    println!("somebody was dropped for being slow: {}", is_there("slow"));
    says(&hostile, "round 2");
}
