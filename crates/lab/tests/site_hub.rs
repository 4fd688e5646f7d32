//! A hub that is killed: whoever watches on its LAN misses no picture, since the next in line is linked to all and to
//! the relay already.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it measured"
)]

use std::time::{Duration, Instant};

use levada_lab::{Counter, Host, Net, Node, Process, Recording, Traffic, clip_file, eventually};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
/// How often a hub is killed. `LEVADA_LAB_KILLS` has it done more often.
const KILLS: usize = 3;

struct Wan {
    _net: Net,
    relay_host: Host,
    hosts: Vec<Host>,
    _origin: Node,
    relay: Node,
    nodes: Vec<Node>,
}

/// An origin and a relay in two LANs, and four hosts in a third, all of which are told of the relay.
fn wan() -> Wan {
    let mut net = Net::new().unwrap();
    let mut studio = net.lan("studio").unwrap();
    let mut centre = net.lan("centre").unwrap();
    let mut venue = net.lan("venue").unwrap();
    venue.snoop().unwrap();
    let origin_host = net.host("origin", &mut studio).unwrap();
    let relay_host = net.host("relay", &mut centre).unwrap();
    let hosts: Vec<Host> = ["a", "b", "c", "d"]
        .map(|name| net.host(name, &mut venue).unwrap())
        .into();
    net.router("router", &mut [&mut studio, &mut centre, &mut venue])
        .unwrap();
    let relay = Node::relay(&relay_host).unwrap();
    let origin = Node::origin(&origin_host, "cam", &clip_file(), &relay_host).unwrap();
    let join = relay_host.node_address().to_string();
    let member = |host| Node::member(host, &["--join", &join]).unwrap();
    let nodes = hosts.iter().map(member).collect();
    Wan {
        _net: net,
        relay_host,
        hosts,
        _origin: origin,
        relay,
        nodes,
    }
}

fn rows(node: &Node, view: &str) -> Vec<Value> {
    let rows = node.view(view).unwrap_or_default();
    rows.as_array().cloned().unwrap_or_default()
}

fn own(node: &Node) -> Option<Value> {
    let rows = rows(node, "site");
    rows.iter().find(|row| row["is_this"] == true).cloned()
}

fn links(node: &Node) -> usize {
    rows(node, "links")
        .iter()
        .filter(|row| row["state"] == "up")
        .count()
}

impl Wan {
    /// The hub, once it and its deputy have links to the relay and to each other host, and nobody else has any.
    fn hub(&self) -> usize {
        eventually(SOON, "a hub and a deputy that are ready", || {
            let owns: Option<Vec<Value>> = self.nodes.iter().map(own).collect();
            let owns = owns?;
            let with = |role: &str| owns.iter().position(|own| own["role"] == role);
            let (hub, deputy) = (with("hub")?, with("deputy")?);
            let up: Vec<usize> = self.nodes.iter().map(links).collect();
            let all = self.nodes.len();
            let expected = (0..all).map(|at| if at == hub || at == deputy { all } else { 2 });
            // The origin, the hub and the deputy.
            let is_ready = up.iter().copied().eq(expected) && links(&self.relay) == 3;
            is_ready.then_some(hub)
        })
    }
}

/// The longest time in which one of these recordings did not grow.
fn longest_gap(nodes: &[&Node], more: u64) -> Duration {
    let begin: Vec<u64> = nodes.iter().map(|node| node.recorded_bytes()).collect();
    let mut last: Vec<(u64, Instant)> =
        begin.iter().map(|bytes| (*bytes, Instant::now())).collect();
    let mut longest = Duration::ZERO;
    let until = Instant::now() + SOON;
    while last
        .iter()
        .zip(&begin)
        .any(|((bytes, _), begin)| *bytes < begin + more)
    {
        for (node, (bytes, at)) in nodes.iter().zip(&mut last) {
            let now = node.recorded_bytes();
            if now > *bytes {
                longest = longest.max(at.elapsed());
                (*bytes, *at) = (now, Instant::now());
            }
        }
        assert!(
            Instant::now() < until,
            "the recordings do not grow: {last:?}"
        );
        std::thread::yield_now();
    }
    longest
}

#[test]
fn a_hub_that_is_killed_costs_those_who_watch_no_picture() {
    let mut wan = wan();
    let kills = std::env::var("LEVADA_LAB_KILLS")
        .ok()
        .and_then(|text| text.parse().ok());
    let mut gaps = Vec::new();
    for _ in 0..kills.unwrap_or(KILLS) {
        let hub = wan.hub();
        wan.nodes.iter().for_each(|node| node.learns("cam", SOON));
        let others: Vec<usize> = (0..wan.nodes.len()).filter(|at| *at != hub).collect();
        let play = |at: &usize| {
            let _ = std::fs::remove_file(wan.nodes[*at].recording()); // of the time before, if there is one
            wan.nodes[*at].play(&wan.hosts[*at], "cam")
        };
        let mut players: Vec<Process> = others.iter().map(play).collect();
        for at in &others {
            wan.nodes[*at].records(400_000, SOON);
        }

        wan.nodes[hub].process().kill().unwrap();
        let left: Vec<&Node> = others.iter().map(|at| &wan.nodes[*at]).collect();
        let gap = longest_gap(&left, 500_000);

        players
            .iter()
            .for_each(|player| player.interrupt().unwrap());
        for player in &mut players {
            player.ended(SOON);
        }
        gaps.push(gap);
        println!("the longest gap was {gap:?}");
        for at in &others {
            let recording = Recording::read(&wan.nodes[*at].recording()).unwrap();
            let comparison = recording
                .compare(&Recording::read(&clip_file()).unwrap())
                .unwrap();
            assert!(
                comparison.is_whole(),
                "{}: {comparison:?}",
                wan.hosts[*at].name()
            );
        }
        wan.nodes[hub].restart().unwrap();
    }
    gaps.sort_unstable();
    println!("gaps: {gaps:?}");
}

/// What a deputy has ready costs nothing: one copy crosses to the LAN, by the hub.
#[test]
fn a_deputy_that_is_ready_takes_no_copy() {
    let wan = wan();
    let hub = wan.hub();
    wan.nodes.iter().for_each(|node| node.learns("cam", SOON));
    let play = |(node, host): (&Node, &Host)| node.play(host, "cam");
    let players: Vec<Process> = wan.nodes.iter().zip(&wan.hosts).map(play).collect();
    for node in &wan.nodes {
        node.records(400_000, SOON);
    }
    let counters: Vec<Counter> = wan
        .hosts
        .iter()
        .map(|host| wan.relay_host.count_sent_to(host, Traffic::Media).unwrap())
        .collect();

    for node in &wan.nodes {
        node.records(500_000, SOON);
    }

    let crossed: Vec<u64> = counters
        .iter()
        .map(|one| one.read().unwrap().packets)
        .collect();
    println!("hub {hub}: {crossed:?}");
    let busy = crossed
        .iter()
        .enumerate()
        .filter(|(_, packets)| **packets > 0);
    assert_eq!(busy.map(|(at, _)| at).collect::<Vec<_>>(), [hub]);
    drop(players);
}
