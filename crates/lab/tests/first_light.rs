//! The first story: nobody watches and nothing flows; one watches; a second costs the origin nothing; nobody watches
//! again.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it measured"
)]

use std::time::{Duration, Instant};

use levada_lab::{Counter, Host, Net, Node, Recording, Traffic, clip_file, eventually};

const SOON: Duration = Duration::from_secs(15);
/// Two seconds of the clip, which has 312,456 bytes in 8 s.
const TWO_SECONDS: u64 = 312_456 / 4;
/// What may be on its way, or in the gap between two readings: packets of one picture and the sound beside it.
const UNDERWAY: u64 = 20;

/// A node keeps a flow for one second after its last consumer, and one that leaves not even so long. The rest is for a
/// busy machine.
const LINGER_AT_MOST: Duration = Duration::from_secs(3);

/// The origin in a studio, the relay in a centre, the players at a venue; a router joins the three LANs.
struct Places {
    _net: Net,
    origin: Host,
    relay: Host,
    players: [Host; 2],
}

fn places() -> Places {
    let mut net = Net::new().unwrap();
    let mut studio = net.lan("studio").unwrap();
    let mut centre = net.lan("centre").unwrap();
    let mut venue = net.lan("venue").unwrap();
    let origin = net.host("origin", &mut studio).unwrap();
    let relay = net.host("relay", &mut centre).unwrap();
    let players = ["player1", "player2"].map(|name| net.host(name, &mut venue).unwrap());
    net.router("router", &mut [&mut studio, &mut centre, &mut venue])
        .unwrap();
    Places {
        _net: net,
        origin,
        relay,
        players,
    }
}

fn packets(counter: &Counter) -> u64 {
    counter.read().unwrap().packets
}

/// Waits for `count` link datagrams: proof that time passes, that the cable is whole and that counters count.
fn link_datagrams_pass(link: &Counter, count: u64) {
    let begin = packets(link);
    eventually(SOON, "link datagrams leave the origin", || {
        (packets(link) >= begin + count).then_some(())
    });
}

/// Waits until the media stands still while two link datagrams pass, and says how long after `begin` it last moved.
fn stops_after(begin: Instant, media: &Counter, link: &Counter) -> Duration {
    let (mut last, mut moved, mut idle) = (packets(media), Duration::ZERO, packets(link));
    eventually(SOON, "no media leaves the origin", || {
        let now = packets(media);
        if now != last {
            (last, moved, idle) = (now, begin.elapsed(), packets(link));
        }
        (packets(link) >= idle + 2).then_some(moved)
    })
}

fn assert_whole(player: &Node) {
    let clip = Recording::read(&clip_file()).unwrap();
    let recording = Recording::read(&player.recording()).unwrap();
    let comparison = recording.compare(&clip).unwrap();
    assert!(comparison.is_whole(), "{comparison:?}");
    assert!(comparison.runs[0].starts_with_key, "{comparison:?}");
}

#[test]
fn a_stream_flows_once_over_each_hop_while_somebody_watches_and_not_otherwise() {
    let places = places();
    let [host1, host2] = &places.players;
    let media = places.origin.count_sent(Traffic::Media).unwrap();
    let link = places.origin.count_sent(Traffic::Link).unwrap();
    let quic = places.origin.count_sent(Traffic::Quic).unwrap();
    let to_relay = places.relay.count_received(Traffic::Media).unwrap();
    let to_player1 = places.relay.count_sent_to(host1, Traffic::Media).unwrap();
    let to_player2 = places.relay.count_sent_to(host2, Traffic::Media).unwrap();

    // Nobody watches.
    let relay = Node::relay(&places.relay).unwrap();
    let _origin = Node::origin(&places.origin, "cam", &clip_file(), &places.relay).unwrap();
    relay.learns("cam", SOON);
    link_datagrams_pass(&link, 4);
    assert_eq!(
        packets(&media),
        0,
        "nobody watches and media leaves the origin"
    );
    assert!(packets(&quic) > 0, "control reaches the relay by QUIC");

    // One watches.
    let mut player1 = Node::player(host1, "cam", &places.relay).unwrap();
    player1.records(2 * TWO_SECONDS, SOON);
    assert!(packets(&media) > 0);
    assert_eq!(packets(&to_player2), 0);

    // A second one joins, and costs the origin nothing.
    let before = [&to_relay, &to_player1].map(packets);
    let mut player2 = Node::player(host2, "cam", &places.relay).unwrap();
    player2.records(2 * TWO_SECONDS, SOON);
    let after = [&to_relay, &to_player1].map(packets);
    let [came, left] = [after[0] - before[0], after[1] - before[1]];
    println!(
        "while two watched, {came} packets came to the relay and {left} left it for each player"
    );
    assert!(came > 100, "{came} packets are no measurement");
    assert!(
        came.abs_diff(left) <= UNDERWAY,
        "{came} came and {left} left for one player"
    );
    assert!(packets(&to_player2) > 100);

    // Both leave.
    let leave = Instant::now();
    for player in [&mut player1, &mut player2] {
        player.process().interrupt().unwrap();
    }
    let stopped = stops_after(leave, &media, &link);
    println!("the last media left the origin {stopped:?} after both players were told to end");
    assert!(stopped < LINGER_AT_MOST);
    for player in [&mut player1, &mut player2] {
        assert!(player.process().ended(SOON).success());
        assert_whole(player);
    }
}
