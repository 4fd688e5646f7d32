//! RTSP players that ask for multicast: two on one LAN are sent one copy by their node.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it measured"
)]

use std::path::Path;
use std::time::Duration;

use levada_lab::{Host, Net, Node, Process, Traffic, clip_file};

const SOON: Duration = Duration::from_secs(30);
/// What the clip needs in 4 s, without headers: it has 312,456 bytes in 8 s, of which a tenth is the transport
/// stream's.
const FOUR_SECONDS: u64 = 312_456 / 2;

/// Plays four seconds by multicast.
fn player(host: &Host, url: &str) -> Process {
    let arguments = [
        "-nostdin",
        "-loglevel",
        "warning",
        "-rtsp_transport",
        "udp_multicast",
        "-i",
        url,
        "-t",
        "4",
        "-f",
        "null",
        "-",
    ];
    Process::start(host, Path::new("ffmpeg"), arguments).unwrap()
}

#[test]
fn two_players_on_a_lan_share_one_copy() {
    let mut net = Net::new().unwrap();
    let mut lan = net.lan("lan").unwrap();
    lan.snoop().unwrap();
    let names = ["origin", "hub", "player1", "player2"];
    let [origin, hub, first, second] = names.map(|name| net.host(name, &mut lan).unwrap());
    let node = Node::relay(&hub).unwrap();
    let _origin = Node::origin(&origin, "cam", &clip_file(), &hub).unwrap();
    node.learns("cam", SOON);
    let url = format!("rtsp://{}:8554/cam", hub.address());
    let sent = hub.count_sent(Traffic::Datagrams).unwrap();

    let mut players = [player(&first, &url), player(&second, &url)];

    for player in &mut players {
        let status = player.ended(SOON);
        assert!(status.success(), "{}", player.log().unwrap());
    }
    // Who comes in the middle of a group has to wait for the next, and ffmpeg says so.
    let complaints = players.map(|player| player.log().unwrap());
    assert!(complaints.iter().any(String::is_empty), "{complaints:?}");
    let sent = sent.read().unwrap();
    println!("{} bytes of UDP for two players of 4 s", sent.bytes);
    // Both waited for a group, and control is a few kilobytes.
    assert!(sent.bytes > FOUR_SECONDS * 8 / 10, "{sent:?}");
    assert!(sent.bytes < FOUR_SECONDS * 18 / 10, "{sent:?}");
}
