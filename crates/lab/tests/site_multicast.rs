//! One copy of a stream on each wire: a LAN whose hosts all know the relay, and all watch.

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
/// What may be on its way, or in the gap between two readings: packets of one picture and the sound beside it.
const UNDERWAY: u64 = 20;

/// An origin, a relay and three hosts in three LANs behind a router; all hosts are told of the relay alone.
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
    venue.snoop().unwrap();
    let origin_host = net.host("origin", &mut studio).unwrap();
    let relay_host = net.host("relay", &mut centre).unwrap();
    let hosts = ["a", "b", "c"].map(|name| net.host(name, &mut venue).unwrap());
    net.router("router", &mut [&mut studio, &mut centre, &mut venue])
        .unwrap();
    let relay = Node::relay(&relay_host).unwrap();
    let origin = Node::origin(&origin_host, "cam", &clip_file(), &relay_host).unwrap();
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

fn members(node: &Node) -> Vec<Value> {
    let rows = node.view("site").unwrap_or_default();
    rows.as_array().cloned().unwrap_or_default()
}

fn is_hub(node: &Node) -> bool {
    let rows = members(node);
    let mut rows = rows.iter();
    rows.any(|row| row["is_this"] == true && row["role"] == "hub")
}

fn links(node: &Node) -> usize {
    let rows = node.view("links").unwrap_or_default();
    let rows = rows.as_array().cloned().unwrap_or_default();
    rows.iter().filter(|row| row["state"] == "up").count()
}

/// How the stream reaches a node, as it says itself, and why.
fn reception(node: &Node) -> Option<(String, String)> {
    let rows = members(node);
    let own = rows.iter().find(|row| row["is_this"] == true)?;
    let text = |key: &str| Some(own["receptions"][0][key].as_str()?.to_owned());
    Some((text("mode")?, text("cause")?))
}

impl Wan {
    /// The hub, once it has a link to the relay and to each member, and each member has no other.
    fn hub(&self) -> usize {
        eventually(
            SOON,
            "a hub with a link to the relay and to each member",
            || {
                let up: Vec<usize> = self.nodes.iter().map(links).collect();
                let hub = self.nodes.iter().position(is_hub)?;
                let members = up.iter().enumerate().filter(|(at, _)| *at != hub);
                let is_star = up[hub] == self.nodes.len()
                    && members.into_iter().all(|(_, links)| *links == 1);
                is_star.then_some(hub)
            },
        )
    }

    /// All watch; gives the hub and the players once both members receive by multicast.
    fn watched(&self) -> (usize, Vec<Process>) {
        let hub = self.hub();
        self.nodes.iter().for_each(|node| node.learns("cam", SOON));
        let nodes = self.nodes.iter().zip(&self.hosts);
        let players = nodes.map(|(node, host)| node.play(host, "cam")).collect();
        for at in others(hub) {
            self.receives(at, "multicast");
        }
        (hub, players)
    }

    fn receives(&self, at: usize, mode: &str) -> String {
        let what = format!("{mode} at {}", self.hosts[at].name());
        eventually(SOON, &what, || {
            let (found, cause) = reception(&self.nodes[at])?;
            (found == mode).then_some(cause)
        })
    }

    /// Each host writes so much more.
    fn play_on(&self, bytes: u64) {
        let begin: Vec<u64> = self.nodes.iter().map(Node::recorded_bytes).collect();
        eventually(SOON, "more at every host", || {
            let mut nodes = self.nodes.iter().zip(&begin);
            let has_more = |(node, begin): (&Node, &u64)| node.recorded_bytes() > begin + bytes;
            nodes.all(has_more).then_some(())
        });
    }

    /// Nothing is missing in what a host has written from its first picture on.
    fn is_whole(&self, at: usize) {
        let file = self.nodes[at].recording();
        let recording = Recording::read(&file).unwrap();
        let clip = Recording::read(&clip_file()).unwrap();
        let comparison = recording.compare(&clip).unwrap();
        println!(
            "{}: {} pictures",
            self.hosts[at].name(),
            recording.pictures()
        );
        assert!(
            comparison.is_whole(),
            "{}: {comparison:?}",
            self.hosts[at].name()
        );
    }
}

fn others(hub: usize) -> impl Iterator<Item = usize> {
    (0..3).filter(move |at| *at != hub)
}

fn packets(counter: &Counter) -> u64 {
    counter.read().unwrap().packets
}

fn is_near(counted: u64, made: u64) -> bool {
    counted.abs_diff(made) <= UNDERWAY + made / 50
}

#[test]
fn three_hosts_that_watch_take_one_copy_from_the_wan_and_put_one_on_the_lan() {
    let wan = wan();
    let (hub, mut players) = wan.watched();
    let made = wan.origin_host.count_sent(Traffic::Media).unwrap();
    let over_wan = wan.hosts.each_ref().map(|host| {
        let counter = wan.relay_host.count_sent_to(host, Traffic::Media);
        counter.unwrap()
    });
    let on_lan = wan
        .hosts
        .each_ref()
        .map(|host| host.count_sent(Traffic::Media).unwrap());
    let received = wan
        .hosts
        .each_ref()
        .map(|host| host.count_received(Traffic::Media).unwrap());
    let all = || {
        let sum = |counters: &[Counter; 3]| counters.iter().map(packets).sum::<u64>();
        [packets(&made), sum(&over_wan), sum(&on_lan)]
    };

    let (before, each_before) = (all(), received.each_ref().map(packets));
    wan.play_on(1_000_000);
    let (after, each_after) = (all(), received.each_ref().map(packets));

    let [made, crossed, spoken] = [0, 1, 2].map(|at| after[at] - before[at]);
    let each = [0, 1, 2].map(|at| each_after[at] - each_before[at]);
    println!(
        "{made} packets were made, {crossed} crossed the WAN, {spoken} went on the LAN, {each:?} reached the hosts"
    );
    assert!(made > 500, "{made} packets are no measurement");
    assert!(is_near(crossed, made), "{crossed} of {made} over the WAN");
    assert!(is_near(spoken, made), "{spoken} of {made} on the LAN");
    assert!(
        each.iter().all(|each| is_near(*each, made)),
        "{each:?} of {made}"
    );
    let at_hub = members(&wan.nodes[hub]);
    let by_multicast = at_hub
        .iter()
        .filter(|row| row["receptions"][0]["mode"] == "multicast");
    assert_eq!(by_multicast.count(), 2, "{at_hub:?}");
    players
        .iter_mut()
        .for_each(|player| player.interrupt().unwrap());
    for player in &mut players {
        player.ended(SOON);
    }
    (0..3).for_each(|at| wan.is_whole(at));
}

#[test]
fn a_host_whose_port_drops_multicast_goes_back_to_unicast_alone_and_returns() {
    let wan = wan();
    let (hub, mut players) = wan.watched();
    let [deaf, other] = others(hub).collect::<Vec<_>>()[..] else {
        panic!("two members");
    };
    let to_other = wan.hosts[other].count_received(Traffic::Media).unwrap();
    let made = wan.origin_host.count_sent(Traffic::Media).unwrap();
    wan.play_on(300_000);

    wan.hosts[deaf].refuse_channels(true).unwrap();
    let blocked = Instant::now();
    let cause = wan.receives(deaf, "unicast");
    println!(
        "unicast {:?} after the block, as a view of it shows: {cause}",
        blocked.elapsed()
    );
    let before = (packets(&to_other), packets(&made));
    wan.play_on(500_000);
    let after = (packets(&to_other), packets(&made));
    let (other_got, made) = (after.0 - before.0, after.1 - before.1);
    println!("{made} packets were made, {other_got} reached the other member");
    assert!(cause.contains("heard nothing"), "{cause}");
    assert!(is_near(other_got, made), "{other_got} of {made}");
    assert_eq!(reception(&wan.nodes[other]).unwrap().0, "multicast");

    wan.hosts[deaf].refuse_channels(false).unwrap();
    wan.receives(deaf, "multicast");
    wan.play_on(300_000);

    players
        .iter_mut()
        .for_each(|player| player.interrupt().unwrap());
    for player in &mut players {
        player.ended(SOON);
    }
    (0..3).for_each(|at| wan.is_whole(at));
}
