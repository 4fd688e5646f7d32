//! A stranger on the LAN hears everything, forges a datagram a millisecond and replays what it heard: counters count
//! it, and nothing else changes.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it measured"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use levada_lab::{Net, Node, Process, Recording, clip_file};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);
/// One second of the clip, which has 312,456 bytes in 8 s.
const ONE_SECOND: u64 = 312_456 / 8;
/// Forged datagrams, a millisecond apart.
const FORGED: u64 = 6_000;
/// What may grow in a network that works, and by replays: packets and copies, each with the fate that it ought to have.
const USUAL: [&str; 19] = [
    "packets_arrived",
    "packets_made",
    "packets_forwarded",
    "packets_consumed",
    "packets_kept",
    "packets_control",
    "packets_foreign",
    "copies_due",
    "copies_sent",
    "cached_bytes",
    "socket_given",
    "socket_sent",
    "socket_sent_bytes",
    "socket_calls",
    "socket_waiting",
    "receives",
    "packets_dropped_duplicate",
    "packets_dropped_replayed",
    // Said of a flow that fell quiet, as it does between two pictures on a busy machine; questions are not usual.
    "repair_heads_sent",
];

/// What a stranger changes in the network, in all: what was forged is counted.
fn is_usual(name: &str) -> bool {
    USUAL.contains(&name) || ["packets_dropped_bad_tag", "packets_dropped_bad_seal"].contains(&name)
}

/// By how much each counter has grown that has grown; there are no fewer names than before.
fn growth(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let grown = after.iter().map(|(name, value)| {
        let earlier = before.get(name).copied().unwrap_or(0);
        (name.clone(), value - earlier.min(*value))
    });
    grown.filter(|(_, growth)| *growth > 0).collect()
}

/// Everything about links that a stranger could disturb: who is there, and what is lost on the way, which nothing is.
fn links(node: &Node) -> Vec<[Value; 5]> {
    let links = node.view("links").unwrap();
    let keys = ["link", "peer", "state", "loss_in_ratio", "loss_out_ratio"];
    let row = |link: &Value| keys.map(|key| link[key].clone());
    links.as_array().unwrap().iter().map(row).collect()
}

#[test]
fn forged_and_replayed_datagrams_change_nothing_but_counters() {
    let mut net = Net::new().unwrap();
    let mut lan = net.lan("lan").unwrap();
    let [origin, relay, player, stranger] =
        ["origin", "relay", "player", "stranger"].map(|name| net.host(name, &mut lan).unwrap());
    lan.mirror_to(&stranger).unwrap();
    let nodes = [
        Node::relay(&relay).unwrap(),
        Node::origin(&origin, "cam", &clip_file(), &relay).unwrap(),
    ];
    let mut watcher = Node::player(&player, "cam", &relay).unwrap();
    watcher.records(2 * ONE_SECOND, SOON);
    let all = || [&nodes[0], &nodes[1], &watcher];
    let links_before = all().map(links);
    let before = all().map(|node| node.counters().unwrap());

    let peer = Path::new(env!("CARGO_BIN_EXE_lab-peer"));
    let count = FORGED.to_string();
    let mut process = Process::start(&stranger, peer, ["stranger", &count]).unwrap();
    assert!(process.ended(SOON).success());
    watcher.records(ONE_SECOND, SOON);

    let report: Value = serde_json::from_str(&process.output().unwrap()).unwrap();
    let grown: Vec<_> = all()
        .into_iter()
        .zip(&before)
        .map(|(node, before)| growth(before, &node.counters().unwrap()))
        .collect();
    println!("the stranger: {report}");
    println!("relay, origin, player: {grown:?}");
    let sum = |name: &str| -> u64 {
        let rows = grown.iter().flatten().filter(|(row, _)| *row == name);
        rows.map(|(_, growth)| growth).sum()
    };
    for (what, reason) in [
        ("forged_media", "packets_dropped_bad_tag"),
        ("forged_link", "packets_dropped_bad_seal"),
    ] {
        let (forged, dropped) = (report[what].as_u64().unwrap(), sum(reason));
        assert!(forged > 1_000, "{report}");
        assert!(
            (forged * 95 / 100..=forged).contains(&dropped),
            "{dropped} of {forged}, {reason}"
        );
    }
    assert!(sum("packets_dropped_duplicate") > 100 && sum("packets_dropped_replayed") > 10);
    let unusual: Vec<_> = grown
        .iter()
        .flatten()
        .filter(|(name, _)| !is_usual(name))
        .collect();
    assert!(unusual.is_empty(), "{unusual:?}");
    assert_eq!(all().map(links), links_before);

    watcher.process().interrupt().unwrap();
    assert!(watcher.process().ended(SOON).success());
    let clip = Recording::read(&clip_file()).unwrap();
    let comparison = Recording::read(&watcher.recording())
        .unwrap()
        .compare(&clip)
        .unwrap();
    assert!(comparison.is_whole(), "{comparison:?}");
}
