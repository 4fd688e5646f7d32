//! `levada run --rtsps` as players see it: real ffmpeg and GStreamer by TLS, and what a user is told when there is
//! none.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::TcpListener;
use std::process::Command;

use common::{Home, Node, Process};

/// A node that shows the test card, and where it listens for TLS.
fn node(home: &Home, more: &[&str]) -> (Node, String) {
    let arguments = [&["--source", "cam=test", "--rtsps", "127.0.0.1:0"], more].concat();
    let node = home.node(&arguments);
    home.wait_for_stream("cam", &node);
    let url = format!("rtsps://{}/cam", node.rtsps);
    (node, url)
}

/// The codecs that ffprobe finds, and what it complains about.
fn probe(url: &str) -> (String, String) {
    let mut command = Command::new("ffprobe");
    let words = "-hide_banner -loglevel error -show_entries stream=codec_name -of csv=p=0";
    command.args(words.split(' ')).arg(url);
    let ended = Process::start(command).end();
    (ended.output, ended.errors)
}

#[test]
fn ffmpeg_and_gstreamer_play_by_tls() {
    let home = Home::new();
    let (_node, url) = node(&home, &[]);

    let (codecs, complaints) = probe(&url);
    let mut gstreamer = Command::new("gst-launch-1.0");
    let pipeline = format!(
        "-q rtspsrc location={url} tls-validation-flags=0 ! application/x-rtp,media=video ! rtph264depay \
         ! h264parse ! fakesink num-buffers=25"
    );
    gstreamer.args(pipeline.split_whitespace());
    let shown = Process::start(gstreamer).end();
    // In the clear there are no media for who asks by TLS.
    let mut in_the_clear = Command::new("gst-launch-1.0");
    let pipeline = format!(
        "-q rtspsrc location={url} tls-validation-flags=0 protocols=udp ! fakesink num-buffers=25"
    );
    in_the_clear.args(pipeline.split_whitespace());
    let refused = Process::start(in_the_clear).end();

    assert!(!refused.status.success(), "{refused:?}");
    assert_eq!((&*codecs, &*complaints), ("h264\naac\n", ""));
    assert!(shown.status.success(), "{shown:?}");
}

#[test]
fn the_own_certificate_stays_and_files_of_the_user_are_taken_instead() {
    let home = Home::new();
    let (own, _) = node(&home, &[]);
    let made = |node: &Node, file: &str| format!("{}/{file}", node.state);
    let [certificate, key] = ["tls-certificate.pem", "tls-key.pem"].map(|file| made(&own, file));
    let before = std::fs::read(&certificate).unwrap();
    let copies = [home.path("copy.pem"), home.path("copy.key")];
    std::fs::copy(&certificate, &copies[0]).unwrap();
    std::fs::copy(&key, &copies[1]).unwrap();
    drop(own);

    let (again, _) = node(&home, &[]);
    let [certificate_file, key_file] = copies.each_ref().map(|path| path.to_str().unwrap());
    let state = home.path("other");
    let (_other, url) = node(
        &home,
        &[
            "--certificate",
            certificate_file,
            "--key",
            key_file,
            "--state",
            state.to_str().unwrap(),
        ],
    );

    assert_eq!(
        std::fs::read(made(&again, "tls-certificate.pem")).unwrap(),
        before
    );
    assert!(!state.join("tls-certificate.pem").exists());
    // Who trusts that one certificate alone is content with it.
    let mut trusting = Command::new("openssl");
    let address = url.trim_start_matches("rtsps://").trim_end_matches("/cam");
    trusting.args(["s_client", "-connect", address, "-CAfile", certificate_file]);
    trusting.args(["-servername", "localhost", "-verify_return_error", "-brief"]);
    let ended = Process::start(trusting).end();
    assert!(ended.errors.contains("Verification: OK"), "{ended:?}");
}

#[test]
fn files_that_cannot_be_used_end_the_command_with_their_name() {
    let home = Home::new();
    let missing = home.path("missing.pem");
    let missing = missing.to_str().unwrap();

    let unreadable = home.run(&[
        "run",
        "--rtsps",
        "127.0.0.1:0",
        "--certificate",
        missing,
        "--key",
        missing,
    ]);
    let alone = home.run(&["run", "--certificate", missing]);

    assert!(!unreadable.status.success() && !alone.status.success());
    assert!(unreadable.errors.contains("missing.pem"), "{unreadable:?}");
    assert!(alone.errors.contains("--key"), "{alone:?}");
}

#[test]
fn a_busy_port_is_a_warning_and_rtsp_goes_on() {
    let home = Home::new();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();

    let mut node = home.node(&["--source", "cam=test", "--rtsps", &address]);
    let warned = node.process.says("already in use");
    home.wait_for_stream("cam", &node);
    let (codecs, complaints) = probe(&format!("rtsp://{}/cam", node.rtsp));

    assert!(warned.contains("--rtsps"), "{warned}");
    assert_eq!(node.rtsps, "");
    assert_eq!((&*codecs, &*complaints), ("h264\naac\n", ""));
}
