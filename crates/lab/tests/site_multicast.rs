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
    fn hub(&self) -> usize {
        hub_of(&self.nodes)
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

/// Three hosts of a LAN that are told of the relay.
fn lan_of_members(
    net: &mut Net,
    lan: &mut levada_lab::Lan,
    names: [&str; 3],
    join: &str,
) -> ([Host; 3], Vec<Node>) {
    lan.snoop().unwrap();
    let hosts = names.map(|name| net.host(name, lan).unwrap());
    let member = |host| Node::member(host, &["--join", join]).unwrap();
    let nodes = hosts.iter().map(member).collect();
    (hosts, nodes)
}

/// The hub of a LAN, once it and its deputy have links to the relay and to each member, and the third has no other.
fn hub_of(nodes: &[Node]) -> usize {
    eventually(SOON, "a hub and a deputy that are ready", || {
        let hub = nodes.iter().position(is_hub)?;
        let mut up: Vec<usize> = nodes.iter().map(links).collect();
        let is_ready = up[hub] == 3;
        up.sort_unstable();
        (is_ready && up == [2, 3, 3]).then_some(hub)
    })
}

/// Three LANs of three hosts each, and one with a relay that all of them know.
struct Lans {
    _net: Net,
    relay_host: Host,
    _relay: Node,
    sites: [([Host; 3], Vec<Node>); 3],
}

impl Lans {
    fn new() -> Self {
        let mut net = Net::new().unwrap();
        let mut lans = ["one", "two", "idle", "centre"].map(|name| net.lan(name).unwrap());
        let relay_host = net.host("relay", &mut lans[3]).unwrap();
        let join = relay_host.node_address().to_string();
        let names = [["a", "b", "c"], ["d", "e", "f"], ["g", "h", "i"]];
        let mut at = 0;
        let sites = names.map(|names| {
            at += 1;
            lan_of_members(&mut net, &mut lans[at - 1], names, &join)
        });
        let [one, two, idle, centre] = &mut lans;
        net.router("router", &mut [one, two, idle, centre]).unwrap();
        let relay = Node::relay(&relay_host).unwrap();
        Self {
            _net: net,
            relay_host,
            _relay: relay,
            sites,
        }
    }
}

/// MISSION A: a member that is not hub publishes; its LAN, both links of the relay that are used and the other LAN have
/// one copy each, a LAN where nobody watches has none.
// tidy: long one story, told in its order: who publishes, who watches, what each wire carried
#[test]
fn a_member_that_is_not_hub_publishes_and_each_wire_has_one_copy() {
    let lans = Lans::new();
    let (relay_host, [one, two, idle]) = (&lans.relay_host, &lans.sites);
    let ((hosts_one, nodes_one), (hosts_two, nodes_two)) = (one, two);
    let (hosts_idle, nodes_idle) = idle;
    let [hub, hub_two, _] = [nodes_one, nodes_two, nodes_idle].map(|nodes| hub_of(nodes));
    let [publisher, watcher] = others(hub).collect::<Vec<_>>()[..] else {
        panic!("two members");
    };
    let clip = clip_file();
    let _publishing = nodes_one[publisher]
        .publish("cam", clip.to_str().unwrap())
        .unwrap();
    let watching = nodes_two
        .iter()
        .zip(hosts_two)
        .chain([(&nodes_one[watcher], &hosts_one[watcher])]);
    let watching: Vec<(&Node, &Host)> = watching.collect();
    let mut players = Vec::new();
    for (node, host) in &watching {
        node.learns("cam", SOON);
        players.push(node.play(host, "cam"));
    }
    let receives = |node: &Node| {
        eventually(SOON, "multicast", || {
            reception(node).filter(|(mode, _)| mode == "multicast")
        })
    };
    receives(&nodes_one[watcher]);
    receives(&nodes_one[hub]);
    others(hub_two).for_each(|at| drop(receives(&nodes_two[at])));

    let sent = |hosts: &[Host; 3]| {
        hosts
            .each_ref()
            .map(|host| host.count_sent(Traffic::Media).unwrap())
    };
    let (from_one, from_two, from_idle) = (sent(hosts_one), sent(hosts_two), sent(hosts_idle));
    let from_relay = relay_host.count_sent(Traffic::Media).unwrap();
    let to_watcher = hosts_one[watcher].count_received(Traffic::Media).unwrap();
    let all = || {
        let each = |counters: &[Counter; 3]| counters.each_ref().map(packets);
        (
            each(&from_one),
            each(&from_two),
            each(&from_idle),
            packets(&from_relay),
            packets(&to_watcher),
        )
    };
    let before = all();
    for (node, _) in &watching {
        node.records(700_000, SOON);
    }
    let after = all();

    let more = |after: [u64; 3], before: [u64; 3]| [0, 1, 2].map(|at| after[at] - before[at]);
    let lan_one = more(after.0, before.0);
    let (lan_two, lan_idle) = (more(after.1, before.1), more(after.2, before.2));
    let (relayed, watched) = (after.3 - before.3, after.4 - before.4);
    let made = lan_one[publisher];
    println!("publisher {publisher}, hub {hub}: LAN 1 sends {lan_one:?}, the relay {relayed}");
    println!("LAN 2 sends {lan_two:?}, the idle LAN {lan_idle:?}");
    assert!(made > 300, "{made} packets are no measurement");
    assert!(is_near(watched, made), "{watched} of {made} at the watcher");
    assert!(
        is_near(lan_one[hub], made),
        "{lan_one:?}: one copy leaves by the hub"
    );
    assert_eq!(lan_one[watcher], 0);
    assert!(is_near(relayed, made), "{relayed} of {made}");
    assert!(is_near(lan_two.iter().sum(), made), "{lan_two:?} of {made}");
    assert_eq!(lan_idle, [0; 3]);
    players
        .iter()
        .for_each(|player| player.interrupt().unwrap());
    for player in &mut players {
        player.ended(SOON);
    }
    for (node, host) in &watching {
        let recording = Recording::read(&node.recording()).unwrap();
        let comparison = recording.compare(&Recording::read(&clip).unwrap()).unwrap();
        assert!(comparison.is_whole(), "{}: {comparison:?}", host.name());
    }
}
