//! `levada run` as browsers and players see it: the HTTP gateway by real programs, and what a user is told when it
//! cannot be.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::TcpListener;
use std::process::Command;

use common::{Home, Process};

/// What ffprobe finds at a URL: one line for each track, and what it complains about.
fn probe(url: &str) -> (Vec<String>, String) {
    let mut command = Command::new("ffprobe");
    command.args(["-hide_banner", "-loglevel", "error", "-of", "csv=p=0"]);
    command.args(["-show_entries", "stream=codec_name,width,sample_rate", url]);
    let ended = Process::start(command).end();
    let mut lines: Vec<_> = ended.output.lines().map(str::to_owned).collect();
    // A transport stream's tracks are told once more for its program.
    lines.retain(|line| !line.is_empty());
    lines.sort();
    lines.dedup();
    (lines, ended.errors)
}

#[test]
fn a_stream_of_a_node_is_played_by_its_url() {
    let home = Home::new();
    let node = home.node(&["--source", "lobby/cam=test"]);
    home.wait_for_stream("lobby/cam", &node);

    for form in ["ts", "mp4"] {
        let (tracks, complaints) = probe(&format!("http://{}/live/lobby/cam.{form}", node.http));

        assert_eq!(complaints, "", "{form}");
        assert_eq!(tracks, ["aac,48000", "h264,640"], "{form}");
    }
}

#[test]
fn a_busy_port_is_a_warning_with_its_cure_and_not_the_end_of_the_node() {
    let home = Home::new();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();

    let mut node = home.node(&["--http", &address]);

    let warned = node.process.says("already in use");
    assert!(
        warned.contains("no HTTP here") && warned.contains("--http"),
        "{warned}"
    );
    assert_eq!(node.http, "");
    assert_ne!(node.rtsp, "");
}

#[test]
fn a_node_without_gateways_has_no_page() {
    let home = Home::new();

    let node = home.node(&["--no-gateways"]);

    assert_eq!(node.http, "");
}
