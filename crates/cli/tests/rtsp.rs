//! `levada run` as players and publishers see it: RTSP by real ffmpeg, and what a user is told when it cannot be.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Home, Process};

/// What ffprobe finds at a URL: one line for each track, and what it complains about.
fn probe(url: &str) -> (Vec<String>, String) {
    let mut command = Command::new("ffprobe");
    command.args([
        "-hide_banner",
        "-loglevel",
        "error",
        "-rtsp_transport",
        "tcp",
    ]);
    command.args([
        "-show_entries",
        "stream=codec_name,width,sample_rate",
        "-of",
        "csv=p=0",
        url,
    ]);
    let ended = Process::start(command).end();
    let lines = ended.output.lines().map(str::to_owned).collect();
    (lines, ended.errors)
}

#[test]
fn a_stream_of_a_node_is_played_by_its_url() {
    let home = Home::new();
    let node = home.node(&["--source", "lobby/cam=test"]);
    home.wait_for_stream("lobby/cam", &node);

    let (tracks, complaints) = probe(&format!("rtsp://{}/lobby/cam", node.rtsp));

    assert_eq!(complaints, "");
    assert_eq!(tracks, ["h264,640", "aac,48000"]);
}

#[test]
fn a_stream_that_nobody_offers_is_404_within_three_seconds() {
    let home = Home::new();
    let node = home.node(&[]);
    let asked = Instant::now();

    let (tracks, complaints) = probe(&format!("rtsp://{}/nobody", node.rtsp));

    assert!(
        asked.elapsed() < Duration::from_secs(4),
        "{:?}",
        asked.elapsed()
    );
    assert!(tracks.is_empty(), "{tracks:?}");
    assert!(complaints.contains("404"), "{complaints}");
}

#[test]
fn a_busy_port_is_a_warning_with_its_cure_and_not_the_end_of_the_node() {
    let home = Home::new();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();

    let mut node = home.node(&["--rtsp", &address]);

    let warned = node.process.says("already in use");
    assert!(warned.contains("--rtsp"), "{warned}");
    assert_eq!(node.rtsp, "");
    assert!(home.view("streams", &node).is_array());
}

#[test]
fn a_node_without_gateways_listens_for_nobody() {
    let home = Home::new();

    let node = home.node(&["--no-gateways"]);

    assert_eq!(node.rtsp, "");
}

#[test]
fn what_ffmpeg_publishes_at_one_node_is_played_two_hops_away() {
    let home = Home::new();
    let studio = home.node(&["--state", home.path("studio").to_str().unwrap()]);
    let relay = home.node(&[
        "--state",
        home.path("relay").to_str().unwrap(),
        "--join",
        &studio.address,
    ]);
    let venue = home.node(&[
        "--state",
        home.path("venue").to_str().unwrap(),
        "--join",
        &relay.address,
    ]);
    let mut publish = Command::new("ffmpeg");
    publish.args([
        "-nostdin",
        "-loglevel",
        "error",
        "-re",
        "-stream_loop",
        "-1",
        "-i",
    ]);
    publish.args([
        concat!(env!("CARGO_MANIFEST_DIR"), "/../media/assets/testcard.ts"),
        "-c:v",
        "copy",
        "-c:a",
        "aac",
    ]);
    publish.args([
        "-f",
        "rtsp",
        "-rtsp_transport",
        "tcp",
        &format!("rtsp://{}/live/a", studio.rtsp),
    ]);
    let _publisher = Process::start(publish);
    home.wait_for_stream("live/a", &venue);

    let mut play = Command::new("ffmpeg");
    play.args(["-nostdin", "-loglevel", "warning", "-rtsp_transport", "tcp"]);
    play.args([
        "-i",
        &format!("rtsp://{}/live/a", venue.rtsp),
        "-t",
        "2",
        "-f",
        "null",
        "-",
    ]);
    let played = Process::start(play).end();

    assert!(played.status.success(), "{}", played.errors);
    assert_eq!(played.errors, "");
}
