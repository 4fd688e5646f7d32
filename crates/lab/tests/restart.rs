//! Power cuts: an origin or a relay is killed and started again, and whoever watches goes on watching.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it measured"
)]

use std::time::Duration;

use levada_lab::{Comparison, Net, Node, Recording, clip_file};

const SOON: Duration = Duration::from_secs(20);
/// Two seconds of the clip, which has 312,456 bytes in 8 s.
const TWO_SECONDS: u64 = 312_456 / 4;

/// Origin, relay and player on one LAN, and two seconds recorded.
struct Story {
    origin: Node,
    relay: Node,
    player: Node,
    _net: Net,
}

fn story() -> Story {
    let mut net = Net::new().unwrap();
    let mut lan = net.lan("lan").unwrap();
    let [origin, relay, player] =
        ["origin", "relay", "player"].map(|name| net.host(name, &mut lan).unwrap());
    let relay_node = Node::relay(&relay).unwrap();
    let origin = Node::origin(&origin, "cam", &clip_file(), &relay).unwrap();
    let player = Node::player(&player, "cam", &relay).unwrap();
    player.records(TWO_SECONDS, SOON);
    Story {
        origin,
        relay: relay_node,
        player,
        _net: net,
    }
}

/// Ends the player in order and reads what it wrote.
fn recorded(player: &mut Node) -> Comparison {
    player.process().interrupt().unwrap();
    assert!(player.process().ended(SOON).success());
    let clip = Recording::read(&clip_file()).unwrap();
    let recording = Recording::read(&player.recording()).unwrap();
    let comparison = recording.compare(&clip).unwrap();
    println!("{comparison:?}");
    comparison
}

#[test]
fn an_origin_killed_and_started_again_goes_on_in_the_players_file_at_a_group_start() {
    let mut story = story();

    story.origin.restart().unwrap();
    story.player.records(TWO_SECONDS, SOON);

    let comparison = recorded(&mut story.player);
    let [before, after] = &*comparison.runs else {
        panic!("one run before the cut and one after it: {comparison:?}");
    };
    assert!(before.pictures >= 30 && before.starts_with_key);
    assert!(after.pictures >= 30 && after.starts_with_key);
    assert_eq!(comparison.holes, 0);
}

#[test]
fn a_relay_killed_and_started_again_goes_on_in_the_players_file_at_a_group_start() {
    let mut story = story();

    story.relay.restart().unwrap();
    story.player.records(TWO_SECONDS, SOON);

    let comparison = recorded(&mut story.player);
    let last = comparison.runs.last().unwrap();
    assert!(comparison.runs.len() <= 2, "{comparison:?}");
    assert!(
        last.pictures >= 30 && last.starts_with_key,
        "{comparison:?}"
    );
    assert_eq!(comparison.holes, 0);
}
