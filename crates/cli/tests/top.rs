//! `levada top` in a real terminal: a pseudo-terminal of 80 columns and 24 lines, as over SSH.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use common::Home;

/// The longest that anything may take on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn it_shows_a_node_and_leaves_the_terminal_as_it_was() {
    let home = Home::new();
    let node = home.node(&["--name", "terrace", "--source", "lobby/cam=test"]);
    home.wait_for_stream("lobby/cam", &node);
    let top = home.levada(&["top", "--node", &node.state]);
    let words = std::iter::once(top.get_program()).chain(top.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let line = format!("stty cols 80 rows 24; exec {}", words.join(" "));

    // util-linux's `script` runs a command on a pseudo-terminal.
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]);
    command.env("TERM", "xterm").env("SHELL", "/bin/sh");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command
        .spawn()
        .expect("script(1) of util-linux is installed");
    let mut output = process.stdout.take().unwrap();
    let (sender, pieces) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = output.read(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if sender.send(text).is_err() {
                return;
            }
        }
    });
    let mut seen = String::new();
    while !(seen.contains("terrace") && seen.contains("lobby/cam")) {
        seen += &pieces.recv_timeout(PATIENCE).expect("it draws");
    }
    process.stdin.as_mut().unwrap().write_all(b"q").unwrap();
    while let Ok(piece) = pieces.recv_timeout(PATIENCE) {
        seen += &piece;
    }

    assert!(process.wait().unwrap().success(), "{seen}");
    assert!(seen.contains("F10"), "{seen}");
    // The alternate screen was entered and left (xterm's 1049).
    assert!(
        seen.contains("\x1b[?1049h") && seen.contains("\x1b[?1049l"),
        "{seen}"
    );
}

#[test]
fn without_a_terminal_it_says_so_and_what_prints_without() {
    let home = Home::new();
    let node = home.node(&["--no-gateways"]);

    let ended = home.run(&["top", "--node", &node.state]);

    assert!(!ended.status.success());
    assert!(ended.errors.contains("--watch"), "{ended:?}");
}
