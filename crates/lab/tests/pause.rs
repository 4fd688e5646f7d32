//! A relay that stands still for two seconds, as a machine does whose virtual machine is moved.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it measured"
)]

use std::time::{Duration, Instant};

use levada_lab::{Net, Node, Recording, clip_file, eventually};

const SOON: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_secs(2);
/// Two seconds of the clip, which has 312,456 bytes in 8 s.
const TWO_SECONDS: u64 = 312_456 / 4;

/// How many links of this node are up.
fn links_up(node: &Node) -> usize {
    let Ok(links) = node.view("links") else {
        return 0;
    };
    let links = links.as_array().into_iter().flatten();
    links.filter(|link| link["state"] == "up").count()
}

#[test]
fn a_relay_that_stands_still_for_two_seconds_costs_nobody_a_link_for_ever() {
    let mut net = Net::new().unwrap();
    let mut lan = net.lan("lan").unwrap();
    let hosts = ["origin", "relay", "player"].map(|name| net.host(name, &mut lan).unwrap());
    let [origin, relay, player] = &hosts;
    let mut relay_node = Node::relay(relay).unwrap();
    let origin = Node::origin(origin, "cam", &clip_file(), relay).unwrap();
    let mut player = Node::player(player, "cam", relay).unwrap();
    player.records(TWO_SECONDS, SOON);

    relay_node.process().stop().unwrap();
    let stopped = Instant::now();
    eventually(SOON, "the end of the pause", || {
        (stopped.elapsed() >= PAUSE).then_some(())
    });
    let written = player.recorded_bytes();
    relay_node.process().go_on().unwrap();
    let went_on = Instant::now();

    player.records(TWO_SECONDS, SOON);
    println!(
        "{written} bytes at the end of the pause; two seconds more {:?} after it",
        went_on.elapsed()
    );
    eventually(SOON, "both links of the relay are up", || {
        (links_up(&relay_node) == 2).then_some(())
    });
    assert_eq!((links_up(&origin), links_up(&player)), (1, 1));
    player.process().interrupt().unwrap();
    assert!(player.process().ended(SOON).success());
    let clip = Recording::read(&clip_file()).unwrap();
    let recording = Recording::read(&player.recording()).unwrap();
    let comparison = recording.compare(&clip).unwrap();
    println!("{comparison:?}");
    assert!(
        comparison.runs.iter().all(|run| run.starts_with_key),
        "{comparison:?}"
    );
}
