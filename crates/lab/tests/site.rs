//! Sites: hosts of one LAN that nobody told of each other find each other, elect a hub, and follow its deputy.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it measured"
)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use levada_lab::{Host, Net, Node, eventually};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

fn members(node: &Node) -> Vec<Value> {
    let rows = node.view("site").unwrap_or_default();
    rows.as_array().cloned().unwrap_or_default()
}

/// The hub that a node follows or is, and how many nodes it knows, itself among them.
fn hub(node: &Node) -> Option<(String, usize)> {
    let rows = members(node);
    let hub = rows.iter().find(|row| row["role"] == "hub")?;
    Some((hub["node"].as_str()?.to_owned(), rows.len()))
}

fn is_hub(node: &Node) -> bool {
    members(node)
        .iter()
        .any(|row| row["is_this"] == true && row["role"] == "hub")
}

/// Waits until all these nodes know `count` members and the same hub.
fn agree(nodes: &[&Node], count: usize) -> String {
    eventually(SOON, "one hub for all", || {
        let seen: Vec<_> = nodes.iter().map(|node| hub(node)).collect::<Option<_>>()?;
        let hubs: BTreeSet<&String> = seen.iter().map(|(hub, _)| hub).collect();
        let is_whole = seen.iter().all(|(_, known)| *known == count);
        (hubs.len() == 1 && is_whole).then(|| seen[0].0.clone())
    })
}

/// How many links of a node are up.
fn links(node: &Node) -> usize {
    let rows = node.view("links").unwrap_or_default();
    let rows = rows.as_array().cloned().unwrap_or_default();
    rows.iter().filter(|row| row["state"] == "up").count()
}

fn hosts<const N: usize>(net: &mut Net, lan: &str, names: [&str; N]) -> [Host; N] {
    let mut lan = net.lan(lan).unwrap();
    lan.snoop().unwrap();
    names.map(|name| net.host(name, &mut lan).unwrap())
}

#[test]
fn hosts_of_a_lan_elect_one_hub_and_its_deputy_follows_when_it_is_killed() {
    let mut net = Net::new().unwrap();
    let hosts = hosts(&mut net, "hall", ["a", "b", "c"]);
    let elsewhere = self::hosts(&mut net, "yard", ["d"]);
    let mut nodes: Vec<Node> = hosts
        .iter()
        .map(|host| Node::member(host, &[]).unwrap())
        .collect();
    // Controls: a host of another LAN, and nodes of another label, see none of them.
    let alone = Node::member(&elsewhere[0], &[]).unwrap();

    let first = agree(&nodes.iter().collect::<Vec<_>>(), 3);
    let hub = nodes.iter().position(is_hub).unwrap();
    // A star: the hub has a link to each, and nobody else has more than one.
    eventually(SOON, "a link of each member to the hub", || {
        let up: Vec<usize> = nodes.iter().map(links).collect();
        let members = up.iter().enumerate().filter(|(at, _)| *at != hub);
        let is_star = up[hub] == 2 && members.into_iter().all(|(_, links)| *links == 1);
        is_star.then_some(())
    });
    assert_eq!(
        agree(&[&alone], 1),
        members(&alone)[0]["node"].as_str().unwrap()
    );
    assert_eq!(links(&alone), 0);

    nodes[hub].process().kill().unwrap();
    let killed = Instant::now();
    let left: Vec<&Node> = nodes
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != hub)
        .map(|(_, node)| node)
        .collect();
    eventually(SOON, "another hub", || {
        let hubs: Option<Vec<_>> = left.iter().map(|node| self::hub(node)).collect();
        hubs?.iter().all(|(hub, _)| *hub != first).then_some(())
    });
    println!(
        "the next hub was followed {:?} after the kill, idle",
        killed.elapsed()
    );
    let second = agree(&left, 2);
    assert_ne!(second, first);
    eventually(SOON, "a link to the next hub", || {
        left.iter().all(|node| links(node) == 1).then_some(())
    });
}

#[test]
fn nodes_of_another_label_or_without_multicast_are_not_found() {
    let mut net = Net::new().unwrap();
    let [a, b, c, d] = hosts(&mut net, "hall", ["a", "b", "c", "d"]);
    let one = Node::member(&a, &[]).unwrap();
    let two = Node::member(&b, &["--site", "yard"]).unwrap();
    let three = Node::member(&c, &["--site", "yard", "--interface", "eth0"]).unwrap();
    let silent = Node::member(&d, &["--no-multicast"]).unwrap();

    agree(&[&two, &three], 2);
    agree(&[&one], 1);
    eventually(SOON, "a node that answers", || silent.view("links").ok());

    assert!(members(&silent).is_empty());
    assert_eq!(links(&one), 0);
}

#[test]
fn a_stream_of_a_member_plays_at_another_that_was_told_nothing() {
    let mut net = Net::new().unwrap();
    let [a, b, c] = hosts(&mut net, "hall", ["a", "b", "c"]);
    let clip = levada_lab::clip_file();
    let source = format!("cam={}", clip.display());
    let origin = Node::member(&a, &["--source", &source]).unwrap();
    let others = [&b, &c].map(|host| Node::member(host, &[]).unwrap());

    agree(&[&origin, &others[0], &others[1]], 3);

    for node in &others {
        node.learns("cam", SOON);
    }
}
