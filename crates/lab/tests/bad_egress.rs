//! One egress of a relay is bad: its interface is slow, its subscriber stands still, its path takes no whole packets.
//! Nobody else notices: the others' files are whole, and what they counted is what they count where all is well.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it measured"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use levada_lab::machine::{self, STILL_MAX};
use levada_lab::{Host, Net, Node, Recording, clip_file};

const SOON: Duration = Duration::from_secs(30);
/// One second of the clip, which has 312,456 bytes in 8 s.
const ONE_SECOND: u64 = 312_456 / 8;
/// How long the egress is bad, by the stream's time: twice what a dead link takes to be found, and then some.
const BAD_FOR: u64 = 4 * ONE_SECOND;
/// What is recorded while the window of a link's loss passes, and a little more.
const WINDOW: u64 = 3 * ONE_SECOND;
/// Three copies of the stream, of 350 kb/s each with everything around it, do not fit.
const SLOW_KBIT: u32 = 500;
/// Handshakes pass (1,200 bytes and headers), media packets (1,232) do not.
const SMALL_MTU: u32 = 1_240;

/// The fault of one egress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Nothing,
    /// The relay's interface towards the venue is slow.
    SlowInterface,
    /// A subscriber is stopped as it stands.
    StoppedSubscriber,
    /// The relay's interface towards the venue takes no whole packets any more.
    SmallPackets,
}

/// What a node counts when something goes wrong. Everything else grows with the stream.
const FIGURES: [&str; 9] = [
    "packets_dropped_",
    "copies_unsent_",
    "packets_held",
    "packets_unopened",
    "receive_errors",
    "commands_refused",
    "socket_too_large",
    "socket_refused",
    "repair_",
];
/// Said of a flow that fell quiet, which happens between two pictures on a busy machine.
const QUIET: &str = "repair_heads_sent";

/// What a good player noticed.
#[derive(Debug, PartialEq)]
struct Noticed {
    /// Figures that have grown.
    figures: BTreeMap<String, u64>,
    /// Its links' losses, towards it and away.
    losses: Vec<(f64, f64)>,
}

/// What is told of one run.
#[derive(Debug, PartialEq)]
struct Told {
    players: Vec<Noticed>,
    /// Whether their files are the source.
    whole: Vec<bool>,
}

impl Told {
    fn is_usual(&self) -> bool {
        let is_usual = |noticed: &Noticed| {
            noticed.figures.is_empty() && noticed.losses.iter().all(|&loss| loss == (0.0, 0.0))
        };
        self.players.iter().all(is_usual) && self.whole == [true; 2]
    }
}

/// The network: two good players beside the origin, three subscribers at a venue behind the relay's second cable.
struct Places {
    _net: Net,
    origin: Host,
    relay: Host,
    /// The relay at its second cable.
    door: Host,
    good: [Host; 2],
    venue: [Host; 3],
}

fn places() -> Places {
    let mut net = Net::new().unwrap();
    let mut studio = net.lan("studio").unwrap();
    let mut venue = net.lan("venue").unwrap();
    let origin = net.host("origin", &mut studio).unwrap();
    let relay = net.host("relay", &mut studio).unwrap();
    let door = net.second_cable(&relay, &mut venue).unwrap();
    let good = ["good1", "good2"].map(|name| net.host(name, &mut studio).unwrap());
    let venue = ["far1", "far2", "far3"].map(|name| net.host(name, &mut venue).unwrap());
    Places {
        _net: net,
        origin,
        relay,
        door,
        good,
        venue,
    }
}

fn figures(node: &Node) -> BTreeMap<String, u64> {
    let counters = node.counters().unwrap().into_iter();
    let is_figure =
        |name: &str| FIGURES.iter().any(|figure| name.starts_with(figure)) && name != QUIET;
    counters
        .filter(|(name, value)| is_figure(name) && *value > 0)
        .collect()
}

/// By how much each counter has grown that has grown.
fn growth(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let earlier = |name: &String| before.get(name).copied().unwrap_or(0);
    let grown = after
        .iter()
        .map(|(name, value)| (name.clone(), value.saturating_sub(earlier(name))));
    grown.filter(|(_, growth)| *growth > 0).collect()
}

/// What a node's links lose for longer than one window of their loss. Now and then a good link seems to lose a datagram
/// in one window while nothing is asked for again; likely because lanes count while another one pings. What is really
/// lost shows in the figures as well.
fn losses(node: &Node) -> Vec<(f64, f64)> {
    let look = || -> Vec<(f64, f64)> {
        let links = node.view("links").unwrap();
        let loss = |link: &serde_json::Value| {
            let of = |key: &str| link[key].as_f64().unwrap_or(0.0);
            (of("loss_in_ratio"), of("loss_out_ratio"))
        };
        links.as_array().unwrap().iter().map(loss).collect()
    };
    let mut least = look();
    for _ in 0..2 {
        if least.iter().all(|&loss| loss == (0.0, 0.0)) {
            break;
        }
        node.records(WINDOW, SOON);
        let lower = |(a, b): (&(f64, f64), (f64, f64))| (a.0.min(b.0), a.1.min(b.1));
        least = least.iter().zip(look()).map(lower).collect();
    }
    least
}

/// What one run came to.
struct Run {
    told: Told,
    /// What the relay's counters grew by.
    relayed: BTreeMap<String, u64>,
    /// What each subscriber at the venue recorded of what a good player did, on average.
    beyond: f64,
}

impl Run {
    /// How often each packet left the relay.
    fn copies(&self) -> f64 {
        self.relayed["copies_sent"] as f64 / self.relayed["packets_forwarded"] as f64
    }
}

/// Plays the stream to all, lets the trouble come, and says what the good players noticed and what the relay counted.
fn run(trouble: Trouble) -> Run {
    let places = places();
    let relay = Node::relay_on_all_cables(&places.relay).unwrap();
    let _origin = Node::origin(&places.origin, "cam", &clip_file(), &places.relay).unwrap();
    relay.learns("cam", SOON);
    let play = |host: &Host, join: &Host| Node::player(host, "cam", join).unwrap();
    let mut good = places.good.each_ref().map(|host| play(host, &places.relay));
    let mut far = places.venue.each_ref().map(|host| play(host, &places.door));
    for player in good.iter().chain(&far) {
        player.records(ONE_SECOND, SOON);
    }

    let before = good.each_ref().map(figures);
    let relay_before = relay.counters().unwrap();
    let recorded = |nodes: &[Node]| nodes.iter().map(Node::recorded_bytes).sum::<u64>() as f64;
    let recorded_before = (recorded(&good), recorded(&far));
    match trouble {
        Trouble::Nothing => {}
        Trouble::SlowInterface => places.door.slow_down(SLOW_KBIT).unwrap(),
        Trouble::StoppedSubscriber => far[0].process().stop().unwrap(),
        Trouble::SmallPackets => places.door.set_mtu(SMALL_MTU).unwrap(),
    }
    for player in &good {
        player.records(BAD_FOR, SOON);
    }

    let relayed = growth(&relay_before, &relay.counters().unwrap());
    let by_good = (recorded(&good) - recorded_before.0) / good.len() as f64;
    let by_far = (recorded(&far) - recorded_before.1) / far.len() as f64;
    let players = good
        .iter()
        .zip(&before)
        .map(|(node, before)| Noticed {
            figures: growth(before, &figures(node)),
            losses: losses(node),
        })
        .collect();
    for player in &mut good {
        player.process().interrupt().unwrap();
        assert!(player.process().ended(SOON).success());
    }
    let clip = Recording::read(&clip_file()).unwrap();
    let is_whole = |node: &Node| {
        let recording = Recording::read(&node.recording()).unwrap();
        recording.compare(&clip).unwrap().is_whole()
    };
    let told = Told {
        players,
        whole: good.iter().map(is_whole).collect(),
    };
    let beyond = by_far / by_good;
    println!("{trouble:?}: {told:?}, beyond {beyond:.2}, the relay {relayed:?}");
    Run {
        told,
        relayed,
        beyond,
    }
}

/// Runs until nobody was disturbed or the machine was not to blame.
fn undisturbed(trouble: Trouble) -> Run {
    machine::undisturbed(STILL_MAX, |run: &Run| run.told.is_usual(), || run(trouble))
}

/// Compares a run with trouble to one without, and gives both, the usual one first.
#[track_caller]
fn nobody_else_notices(trouble: Trouble) -> [Run; 2] {
    let usual = undisturbed(Trouble::Nothing);
    let troubled = undisturbed(trouble);

    assert!(usual.told.is_usual(), "{:?}", usual.told);
    assert_eq!(troubled.told, usual.told);
    [usual, troubled]
}

#[test]
fn a_slow_interface_changes_nothing_for_subscribers_beyond_another() {
    let [usual, slow] = nobody_else_notices(Trouble::SlowInterface).map(|run| run.beyond);

    // Less than half of three copies fits, whatever becomes of their links.
    assert!(slow < usual * 0.75, "{slow} of {usual}");
}

#[test]
fn a_subscriber_that_stands_still_changes_nothing_for_others() {
    let runs = nobody_else_notices(Trouble::StoppedSubscriber);
    let [usual, without] = runs.map(|run| run.copies());

    // Its link is taken for dead, and nothing is sent to it any more.
    assert!(without < usual * 0.95, "{without} of {usual}");
}

#[test]
fn a_path_that_takes_no_whole_packets_any_more_changes_nothing_for_others() {
    let [_, Run { relayed, .. }] = nobody_else_notices(Trouble::SmallPackets);

    assert!(relayed["socket_too_large"] > 0, "{relayed:?}");
    let failed = relayed.get("socket_gso_failed");
    assert_eq!(failed, None, "the path is to blame, not GSO");
}
