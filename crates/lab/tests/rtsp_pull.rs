//! Players name a media server in the URL of their own node: the whole network has one connection to it, whichever node
//! dies.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it measured"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use levada_lab::{Host, Net, Node, Process, clip_file, eventually};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
/// What players have got when they surely play.
const PLAYS: u64 = 60_000;

/// A player that goes on.
fn player(host: &Host, url: &str) -> Process {
    let arguments = [
        "-nostdin",
        "-loglevel",
        "warning",
        "-rtsp_transport",
        "tcp",
        "-i",
        url,
        "-f",
        "null",
        "-",
    ];
    Process::start(host, Path::new("ffmpeg"), arguments).unwrap()
}

/// The sessions of a node in that role.
fn sessions(node: &Node, role: &str) -> Vec<Value> {
    let rows = node.view("sessions").unwrap();
    let rows = rows.as_array().unwrap().iter();
    rows.filter(|row| row["role"] == role).cloned().collect()
}

/// Waits until the player of a node has got so many bytes, and returns its session's number and how many they are.
fn plays(node: &Node, bytes: u64) -> (u64, u64) {
    eventually(SOON, "a player that plays", || {
        let rows = sessions(node, "play");
        let number = |key: &str| rows.first()?[key].as_u64();
        number("id")
            .zip(number("bytes"))
            .filter(|(_, got)| *got >= bytes)
    })
}

#[test]
fn one_connection_serves_players_at_three_nodes_and_outlives_the_node_that_made_it() {
    let mut net = Net::new().unwrap();
    let mut lan = net.lan("lan").unwrap();
    let names = ["studio", "media", "a", "b", "c"];
    let [studio, media, a, b, c] = &names.map(|name| net.host(name, &mut lan).unwrap());
    let server = Node::relay(media).unwrap();
    let _origin = Node::origin(studio, "film", &clip_file(), media).unwrap();
    server.learns("film", SOON);
    // Another network than the server's.
    let mut nodes = vec![Node::relay(a).unwrap()];
    nodes.push(Node::relay_beside(b, a).unwrap());
    nodes.push(Node::relay_beside(c, b).unwrap());
    let url = format!("rtsp://localhost:8554/film?{}:8554", media.address());

    let mut players = Vec::new();
    for (host, node) in [a, b, c].into_iter().zip(&nodes) {
        eventually(SOON, "a node that answers", || node.view("sessions").ok());
        players.push(player(host, &url));
        plays(node, PLAYS);
    }
    let connections = || sessions(&server, "play").len();
    eventually(SOON, "one connection", || {
        (connections() == 1).then_some(())
    });

    // The chain a, b, c must hold together without the one that goes.
    let pulls = nodes.iter().map(|node| sessions(node, "publish").len());
    assert_eq!(
        pulls.collect::<Vec<_>>(),
        [1, 0, 0],
        "the first that was asked"
    );
    let before: Vec<_> = nodes[1..].iter().map(|node| plays(node, PLAYS)).collect();
    nodes[0].process().kill().unwrap();
    let killed = Instant::now();
    for (node, (id, got)) in nodes[1..].iter().zip(before) {
        let (still, _) = plays(node, got + PLAYS);
        assert_eq!(still, id, "the session goes on");
    }
    println!(
        "{:?} after the kill all have {PLAYS} bytes more",
        killed.elapsed()
    );
    eventually(SOON, "one connection again", || {
        (connections() == 1).then_some(())
    });
    for player in &mut players[1..] {
        assert!(player.is_running(), "{}", player.log().unwrap());
    }
}
