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

/// Debian's Python, which knows GStreamer.
const PYTHON: &str = "/usr/bin/python3";
const GST_SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gst_server.py");
const GST_PORT: &str = "8555";

/// A film that lasts longer than the test.
fn make_film(file: &Path) {
    let mut command = std::process::Command::new("ffmpeg");
    let words = "-nostdin -loglevel error -f lavfi -i testsrc2=size=160x120:rate=25:duration=300 -f lavfi -i \
                 sine=duration=300:sample_rate=48000 -c:v libx264 -preset ultrafast -g 25 -pix_fmt yuv420p -c:a aac";
    let status = command.args(words.split_whitespace()).arg(file).status();
    assert!(status.unwrap().success());
}

/// GStreamer's RTSP server with a film.
fn gst_server(host: &Host, film: &Path) -> Process {
    let film = film.to_str().unwrap();
    let arguments = [GST_SERVER, film, GST_PORT];
    let server = Process::start_as(host, "gst-server", Path::new(PYTHON), arguments).unwrap();
    eventually(SOON, "the server to listen", || {
        server.output().unwrap().contains("listens").then_some(())
    });
    server
}

/// GStreamer as a player that goes on.
fn gst_player(host: &Host, url: &str) -> Process {
    let pipeline = format!("-q rtspsrc location={url} protocols=tcp ! decodebin ! fakesink");
    let words = pipeline.split_whitespace();
    Process::start_as(host, "gst-player", Path::new("gst-launch-1.0"), words).unwrap()
}

/// What the players of a node have got, by their sessions.
fn got(node: &Node) -> Vec<(u64, u64)> {
    let rows = sessions(node, "play").into_iter();
    let number = |row: &Value, key: &str| row[key].as_u64().unwrap();
    let mut got: Vec<_> = rows
        .filter(|row| row["ended"].is_null())
        .map(|row| (number(&row, "id"), number(&row, "bytes")))
        .collect();
    got.sort_unstable();
    got
}

/// Waits until each of these sessions has got more than it had.
fn all_go_on(nodes: &[&Node], before: &[Vec<(u64, u64)>]) {
    for (node, before) in nodes.iter().zip(before) {
        eventually(SOON, "players that go on", || {
            let now = got(node);
            let goes_on = |(id, bytes): &(u64, u64)| {
                now.iter()
                    .any(|(known, more)| known == id && *more >= bytes + PLAYS)
            };
            before.iter().all(goes_on).then_some(())
        });
    }
}

/// The issue's own words: `rtsp://localhost:8554/x?server:port`.
#[test]
fn a_film_of_a_gstreamer_server_is_played_everywhere_over_one_connection_whatever_dies() {
    let mut net = Net::new().unwrap();
    let mut lan = net.lan("lan").unwrap();
    let names = ["media", "a", "b", "c", "d"];
    let [media, a, b, c, d] = &names.map(|name| net.host(name, &mut lan).unwrap());
    let film = net.dir().join("film.mp4");
    make_film(&film);
    let mut server = gst_server(media, &film);
    let clients = |server: &Process| server.output().unwrap().matches("client ").count();
    let mut hub = Node::relay(a).unwrap();
    let [second, third, fourth] = [(b, a), (c, b), (d, c)]
        .map(|(host, neighbour)| Node::relay_beside(host, neighbour).unwrap());
    for node in [&hub, &second, &third, &fourth] {
        eventually(SOON, "a node that answers", || node.view("sessions").ok());
    }
    let url = format!("rtsp://localhost:8554/x?{}:{GST_PORT}", media.address());

    let mut players = vec![player(a, &url)];
    plays(&hub, PLAYS);
    players.push(gst_player(a, &url));
    for (host, node) in [(b, &second), (c, &third), (d, &fourth)] {
        players.push(player(host, &url));
        plays(node, PLAYS);
    }
    eventually(SOON, "two players at the first node", || {
        let got = got(&hub);
        (got.len() == 2 && got.iter().all(|(_, bytes)| *bytes >= PLAYS)).then_some(())
    });
    assert_eq!(clients(&server), 1, "{}", server.output().unwrap());

    // The node that has the connection dies; the others hold together without it.
    let others = [&second, &third, &fourth];
    let before = others.map(got);
    hub.process().kill().unwrap();
    let killed = Instant::now();
    all_go_on(&others, &before);
    println!(
        "{:?} after the kill all have {PLAYS} bytes more",
        killed.elapsed()
    );
    // Two nodes may take over at the same moment: one of them yields.
    eventually(SOON, "one connection again", || {
        let closed = server.output().unwrap().matches("closed ").count();
        (clients(&server) == closed + 1).then_some(())
    });

    let before = others.map(got);
    server.kill().unwrap();
    let restarted = Instant::now();
    server = gst_server(media, &film);
    all_go_on(&others, &before);
    println!(
        "{:?} after the server was restarted all have {PLAYS} bytes more",
        restarted.elapsed()
    );
    for player in &mut players[2..] {
        assert!(player.is_running(), "{}", player.log().unwrap());
    }
    drop(server);
}
