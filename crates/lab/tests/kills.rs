//! The parent of a player is killed, again and again, over long ways: the other one takes over, and no frame is lost.
//!
//! ```text
//!               ┌── relay a ──┐
//!   origin ── way            way ── player          each host in a LAN of its own, 40 ms there and back
//!               └── relay b ──┘
//! ```
//!
//! What is printed of each kill is how late the latest picture after it was, beyond the quickest of all: where the
//! player has a latency, beyond when it was due. `cargo xtask trial kills` kills ten times, looks at stalls too, and
//! plays everything once more without a latency, which shows how late pictures come.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it measured"
)]

use std::path::Path;
use std::time::Duration;

use levada_lab::{
    Arrivals, Host, Impairment, Net, Node, Recording, clip_file, eventually, undisturbed, wall,
};

const PEER: &str = env!("CARGO_BIN_EXE_lab-peer");
const SOON: Duration = Duration::from_secs(30);
/// One second of the clip, which has 312,456 bytes in 8 s.
const ONE_SECOND: u64 = 312_456 / 8;
/// Half the time of a picture, and what a player's timer takes.
const STALL_MAX: Duration = Duration::from_millis(20);
/// A machine that keeps a process waiting for longer is to blame for a stall.
const STILL_MAX: Duration = Duration::from_millis(15);
/// Kills ten times.
const LONG: &str = "LEVADA_KILLS_LONG";

/// What a story is like.
#[derive(Clone, Copy, Debug)]
struct Kills {
    /// Of each hop, in either direction.
    loss: f64,
    /// What the player is told; without it, it plays at once, and half a second is for what is lost.
    latency: Option<&'static str>,
    count: usize,
    /// The longest that a picture may be late.
    stall_max: Duration,
}

/// What came of it.
#[derive(Debug)]
struct Told {
    is_whole: bool,
    given_up: u64,
    /// After each kill.
    latest: Vec<Duration>,
    stall_max: Duration,
}

impl Told {
    fn is_as_it_should_be(&self) -> bool {
        let is_even = self.latest.iter().all(|latest| *latest <= self.stall_max);
        self.is_whole && self.given_up == 0 && is_even
    }
}

/// The neighbour that a flow comes from, by the address that the player knows.
fn parent(player: &Node) -> Option<String> {
    let flow = player.flow("cam")?;
    let upstream = flow["upstream"].as_u64()?;
    let links = player.view("links").ok()?;
    let mut links = links.as_array()?.iter();
    let link = links.find(|link| link["link"].as_u64() == Some(upstream))?;
    Some(link["remote"].as_str()?.to_owned())
}

fn links_up(node: &Node) -> usize {
    let Ok(links) = node.view("links") else {
        return 0;
    };
    let links = links.as_array().into_iter().flatten();
    links.filter(|link| link["state"] == "up").count()
}

fn play(kills: Kills) -> Told {
    let mut net = Net::new().unwrap();
    let mut lans = ["a", "b", "c", "d"].map(|name| net.lan(name).unwrap());
    let names = ["origin", "relay1", "relay2", "player"];
    let mut lan = lans.iter_mut();
    let hosts = names.map(|name| net.host(name, lan.next().unwrap()).unwrap());
    let [origin, relay1, relay2, player] = &hosts;
    let impairment = Impairment {
        delay: Duration::from_millis(20),
        loss: kills.loss,
        ..Impairment::default()
    };
    let [a, b, c, d] = &mut lans;
    let way = net.way(&mut [a, b, c, d], Path::new(PEER), &impairment, 1);
    let way = way.unwrap();
    let relays: [&Host; 2] = [relay1, relay2];
    let mut relay_nodes = relays.map(|host| Node::relay(host).unwrap());
    let origin_node = Node::origin_beside(origin, "cam", &clip_file(), &relays).unwrap();
    for relay in &relay_nodes {
        relay.learns("cam", SOON);
    }
    let latency = kills.latency.map(|latency| ["--latency", latency]);
    let more = latency.as_ref().map_or(&[][..], |words| words);
    let mut watcher = Node::watcher(player, "cam", &relays, more, Path::new(PEER)).unwrap();
    watcher.records(3 * ONE_SECOND, SOON);

    let mut killed_at = Vec::new();
    for _ in 0..kills.count {
        eventually(SOON, "both relays have their links", || {
            (links_up(&origin_node) == 2 && links_up(&watcher) == 2).then_some(())
        });
        let parent = eventually(SOON, "the player has a parent", || parent(&watcher));
        let place = relays
            .iter()
            .position(|host| host.node_address().to_string() == parent);
        let place = place.unwrap_or_else(|| panic!("{parent} is no relay"));
        // Both are warm: what the other one knows of the stream it has known for a while.
        relay_nodes[1 - place].learns("cam", SOON);
        watcher.records(ONE_SECOND, SOON);
        killed_at.push(wall());
        relay_nodes[place].process().kill().unwrap();
        watcher.records(2 * ONE_SECOND, SOON);
        relay_nodes[place].restart().unwrap();
        relay_nodes[place].learns("cam", SOON);
    }

    let told = tell(kills, &mut watcher, &killed_at);
    println!("{:?}", way.passed().unwrap());
    told
}

/// Ends the player, and says what it has.
fn tell(kills: Kills, watcher: &mut Node, killed_at: &[Duration]) -> Told {
    let given_up = watcher.counters().unwrap()["repair_given_up"];
    watcher.process().interrupt().unwrap();
    assert!(watcher.process().ended(SOON).success());
    let clip = Recording::read(&clip_file()).unwrap();
    let recording = Recording::read(&watcher.recording()).unwrap();
    let comparison = recording.compare(&clip).unwrap();
    let arrivals = Arrivals::read(&watcher.recording()).unwrap();
    let ends = killed_at[1..].iter().copied().chain([Duration::MAX]);
    let after = killed_at.iter().zip(ends);
    let latest = after.map(|(&from, until)| {
        let late = arrivals.lateness(from..until);
        late.into_iter().max().unwrap_or_default()
    });
    let told = Told {
        is_whole: comparison.is_whole(),
        given_up,
        latest: latest.collect(),
        stall_max: kills.stall_max,
    };
    let mut usual = arrivals.lateness(Duration::ZERO..killed_at[0]);
    usual.sort_unstable();
    println!(
        "{kills:?}: {told:?}; before, half were within {:?}; runs {:?}",
        usual[usual.len() / 2],
        comparison.runs,
    );
    told
}

fn nothing_is_lost(loss: f64, latency: &'static str) {
    let is_long = std::env::var_os(LONG).is_some();
    let short = Kills {
        loss,
        latency: Some(latency),
        count: 1,
        stall_max: Duration::MAX,
    };
    let long = Kills {
        count: 10,
        stall_max: STALL_MAX,
        ..short
    };
    let at_once = Kills {
        latency: None,
        stall_max: Duration::MAX,
        ..long
    };
    let all = if is_long {
        vec![long, at_once]
    } else {
        vec![short]
    };
    for kills in all {
        let told = undisturbed(STILL_MAX, Told::is_as_it_should_be, || play(kills));

        assert!(told.is_as_it_should_be(), "{told:?}");
        assert_eq!(told.latest.len(), kills.count);
    }
}

#[test]
fn a_parent_that_is_killed_costs_no_frame_where_each_hop_loses_a_twentieth() {
    nothing_is_lost(0.05, "500ms");
}

#[test]
fn a_parent_that_is_killed_costs_no_frame_on_a_clean_wire_where_a_player_waits_for_300_ms() {
    nothing_is_lost(0.0, "300ms");
}
