//! Sites: hosts of one LAN that nobody told of each other find each other, elect a hub, and follow its deputy.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it measured"
)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use levada_lab::{Host, Net, Node, Process, Traffic, eventually};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
/// What may be on its way, or in the gap between two readings: packets of one picture and the sound beside it.
const UNDERWAY: u64 = 20;

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
    // Two stars: the hub and its deputy have a link to each. Of three hosts that is all there are.
    eventually(
        SOON,
        "a link of each member to the hub and to the deputy",
        || {
            let up: Vec<usize> = nodes.iter().map(links).collect();
            up.iter().all(|links| *links == 2).then_some(())
        },
    );
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

/// An origin, a relay and three hosts in three LANs behind a router; all are told of the relay alone.
struct Wan {
    _net: Net,
    origin_host: Host,
    relay_host: Host,
    hosts: [Host; 3],
    _origin: Node,
    _relay: Node,
    nodes: Vec<Node>,
}

fn wan() -> Wan {
    let mut net = Net::new().unwrap();
    let mut studio = net.lan("studio").unwrap();
    let mut centre = net.lan("centre").unwrap();
    let mut venue = net.lan("venue").unwrap();
    let origin_host = net.host("origin", &mut studio).unwrap();
    let relay_host = net.host("relay", &mut centre).unwrap();
    let hosts = ["a", "b", "c"].map(|name| net.host(name, &mut venue).unwrap());
    net.router("router", &mut [&mut studio, &mut centre, &mut venue])
        .unwrap();
    let relay = Node::relay(&relay_host).unwrap();
    let clip = levada_lab::clip_file();
    let origin = Node::origin(&origin_host, "cam", &clip, &relay_host).unwrap();
    let join = relay_host.node_address().to_string();
    let member = |host| Node::member(host, &["--join", &join]).unwrap();
    let nodes = hosts.iter().map(member).collect();
    Wan {
        _net: net,
        origin_host,
        relay_host,
        hosts,
        _origin: origin,
        _relay: relay,
        nodes,
    }
}

impl Wan {
    /// The hub, once it and its deputy have links to the relay and to each member, and the third host has no other.
    fn hub(&self) -> Option<usize> {
        let mut up: Vec<usize> = self.nodes.iter().map(links).collect();
        let hub = self.nodes.iter().position(is_hub)?;
        let is_ready = up[hub] == 3;
        up.sort_unstable();
        (is_ready && up == [2, 3, 3]).then_some(hub)
    }
}

fn written(host: &Host) -> u64 {
    std::fs::metadata(host.file("ts")).map_or(0, |file| file.len())
}

/// Waits until each of these hosts has written that much more.
fn write_more(hosts: &[&Host], bytes: u64) {
    let begin: Vec<u64> = hosts.iter().map(|host| written(host)).collect();
    eventually(SOON, "more at every host", || {
        let mut hosts = hosts.iter().zip(&begin);
        hosts
            .all(|(host, begin)| written(host) > begin + bytes)
            .then_some(())
    });
}

#[test]
fn hosts_that_all_know_the_relay_take_one_copy_over_the_wan_and_go_on_when_the_hub_dies() {
    let mut wan = wan();
    agree(&wan.nodes.iter().collect::<Vec<_>>(), 3);
    let hub = eventually(SOON, "one link to the relay", || wan.hub());
    wan.nodes.iter().for_each(|node| node.learns("cam", SOON));
    let made = wan.origin_host.count_sent(Traffic::Media).unwrap();
    let over_wan = wan.hosts.each_ref().map(|host| {
        let counter = wan.relay_host.count_sent_to(host, Traffic::Media);
        counter.unwrap()
    });
    let packets = || over_wan.each_ref().map(|one| one.read().unwrap().packets);
    let nodes = wan.nodes.iter().zip(&wan.hosts);
    let players: Vec<Process> = nodes.map(|(node, host)| node.play(host, "cam")).collect();
    let all: Vec<&Host> = wan.hosts.iter().collect();
    write_more(&all, 200_000);

    let before = (made.read().unwrap().packets, packets());
    write_more(&all, 500_000);
    let sent = made.read().unwrap().packets - before.0;
    let after = packets();
    let crossed = [0, 1, 2].map(|at| after[at] - before.1[at]);

    let sum: u64 = crossed.iter().sum();
    println!("{sent} packets were made; {crossed:?} crossed to the three hosts");
    assert!(sent > 200, "{sent} packets are no measurement");
    // What may be on its way between two readings, and 2%.
    assert!(
        sum.abs_diff(sent) <= UNDERWAY + sent / 50,
        "{sum} of {sent}"
    );
    assert_eq!(crossed.iter().filter(|packets| **packets > 0).count(), 1);

    wan.nodes[hub].process().kill().unwrap();
    let killed = Instant::now();
    let left = all.iter().enumerate().filter(|(at, _)| *at != hub);
    let left: Vec<&Host> = left.map(|(_, host)| *host).collect();
    write_more(&left, 300_000);
    println!(
        "300 kB more at both other hosts {:?} after the kill",
        killed.elapsed()
    );
    drop(players);
}
