//! A hostile neighbour changes nobody else's figures.
//!
//! Two neighbours of a relay turn hostile: one lies in all ways that it has words for and wants everything, one does
//! not read. The same network without their lies is the measure; all checkers are on, and none excuses anything. Only
//! the public API.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use levada_core::limits::STREAMS_PER_ADDRESS_MAX;
use levada_sim::{Report, Scenario, run};

/// The liar is a shorter way to the origin, as it says, and a neighbour of the players too.
const NET: &str = r#"
about = "an origin, a relay and two players; two more neighbours may be hostile"
duration = "24s"
bounds = { loops = "2s", frames = "3s", answers = "3s", quiet = "3s", unwanted = "4s", continuity = "1s" }
network = [{ name = "o" }, { name = "r" }, { name = "p" }, { name = "q" }, { name = "l" }, { name = "d" }]
node = [
    { name = "origin", network = "o", start = "0s" },
    { name = "relay", network = "r", relay = true, neighbours = ["origin"], start = "0s" },
    { name = "player", network = "p", neighbours = ["relay", "liar"], start = "1s" },
    { name = "late", network = "q", neighbours = ["relay", "liar"], start = "1s" },
    { name = "liar", network = "l", relay = true, neighbours = ["relay"], start = "1s" },
    { name = "deaf", network = "d", relay = true, neighbours = ["relay"], start = "1s" },
]
wan = [
    { between = ["o", "r"], delay = "10ms" },
    { between = ["r", "p"], delay = "10ms" },
    { between = ["r", "q"], delay = "10ms" },
    { between = ["r", "l"], delay = "10ms" },
    { between = ["r", "d"], delay = "10ms" },
    { between = ["l", "p"], delay = "10ms" },
    { between = ["l", "q"], delay = "10ms" },
]
subscription = [
    { stream = "cam", nodes = ["player"], from = "3s" },
    { stream = "cam", nodes = ["late"], from = "12s" },
    { stream = "cam", nodes = ["liar"], from = "4s" },
    { stream = "other", nodes = ["liar"], from = "4s" },
]
[[stream]]
name = "cam"
origin = "origin"
video = { frames_per_second = 25, bytes = 6000, sync_every = 25, sync_bytes = 20000 }
[[stream]]
name = "other"
origin = "origin"
video = { frames_per_second = 25, bytes = 2000, sync_every = 25, sync_bytes = 8000 }
"#;

/// One more player, whom the liar feeds.
fn with_a_victim() -> String {
    NET.replace("network = [{", "network = [{ name = \"v\" }, {")
        .replace(
            "node = [",
            r#"node = [
    { name = "victim", network = "v", neighbours = ["liar"], start = "2s" },"#,
        )
        .replace(
            "wan = [",
            r#"wan = [
    { between = ["l", "v"], delay = "10ms" },"#,
        )
        .replace(
            "subscription = [",
            r#"subscription = [
    { stream = "cam", nodes = ["victim"], from = "4s" },"#,
        )
}

fn with(faults: &str, seed: u64) -> Report {
    run_in(NET, faults, seed)
}

fn run_in(net: &str, faults: &str, seed: u64) -> Report {
    let text = format!("{net}\n{faults}");
    let scenario = Scenario::parse("hostile.toml", &text).unwrap_or_else(|error| panic!("{error}"));
    run(&scenario, seed).unwrap_or_else(|failure| panic!("{failure}"))
}

fn liar(does: &str) -> String {
    format!(
        r#"
[[fault]]
kind = "hostile"
node = "liar"
does = [{does}]
every = "20ms"
at = "5s"
for = "18s"
"#
    )
}

const DEAF: &str = r#"
[[fault]]
kind = "hostile"
node = "deaf"
does = ["unread"]
every = "1s"
at = "2s"
for = "21s"
"#;

/// What went over the links that no hostile neighbour is an end of.
fn figures(report: &Report) -> Vec<(&str, u64)> {
    let honest = ["o > r", "r > p", "r > q"];
    let networks = report.networks.iter();
    let honest = networks.filter(|network| honest.contains(&network.name.as_str()));
    honest
        .map(|network| (network.name.as_str(), network.traffic.media_bytes))
        .collect()
}

/// Every frame came, and over the honest links went the same media as without any lie.
fn assert_nobody_is_worse_off(does: &str, seed: u64) {
    let calm = with("", seed);
    let hostile = with(&(liar(does) + DEAF), seed);

    assert!(
        figures(&calm).iter().all(|(_, bytes)| *bytes > 1_000_000),
        "{calm}"
    );
    assert_eq!(figures(&hostile), figures(&calm), "{does}, seed {seed}");
    assert_eq!(
        hostile.frames_delivered, calm.frames_delivered,
        "{does}, seed {seed}"
    );
    assert_eq!((hostile.gaps, calm.gaps), (0, 0));
    assert!(
        hostile.control_bytes > calm.control_bytes,
        "it did say something"
    );
    assert_stays_within_its_memory(&hostile);
}

/// Nobody honest knows more streams than there are and one address may bring.
fn assert_stays_within_its_memory(report: &Report) {
    for node in ["origin", "relay", "player", "late"] {
        let known = report.known.iter().filter(|known| known.node == node);
        let known = known.count();
        assert!(
            (2..=2 + STREAMS_PER_ADDRESS_MAX).contains(&known),
            "{node} knows {known}"
        );
    }
}

/// What went over one direction of a link.
fn media_over(report: &Report, name: &str) -> u64 {
    let network = report.networks.iter().find(|network| network.name == name);
    network.unwrap().traffic.media_bytes
}

/// The lies of an insider reach those whom it feeds, and harm not even these.
fn assert_an_insider_harms_nobody(does: &str, seed: u64) -> [Report; 2] {
    let net = with_a_victim();
    let calm = run_in(&net, "", seed);
    let hostile = run_in(&net, &liar(does), seed);

    assert!(media_over(&calm, "l > v") > 1_000_000, "{calm}");
    assert_eq!(figures(&hostile), figures(&calm), "{does}, seed {seed}");
    assert_eq!(
        (hostile.frames_delivered, hostile.gaps),
        (calm.frames_delivered, 0),
        "{does}, seed {seed}"
    );
    [calm, hostile]
}

#[test]
fn far_numbers_with_true_carry_tags_change_nobodys_figures() {
    let [calm, hostile] = assert_an_insider_harms_nobody(r#""far-numbers""#, 1);

    // 18 s of one packet each 20 ms for each of those it feeds.
    let [calm, hostile] = [calm, hostile].map(|report| media_over(&report, "l > v"));
    assert!(
        hostile > calm + 500 * 500,
        "they did come: {calm} {hostile}"
    );
}

#[test]
fn heads_of_packets_that_never_were_change_nobodys_figures() {
    let [calm, hostile] = assert_an_insider_harms_nobody(r#""false-head""#, 1);

    let asked = |report: &Report| {
        let networks = report.networks.iter();
        let way = networks.filter(|network| network.name == "v > l");
        way.map(|network| network.traffic.bytes).sum::<u64>()
    };
    let (calm, hostile) = (asked(&calm), asked(&hostile));
    assert!(hostile > calm, "the victim asks for them: {calm} {hostile}");
}

#[test]
fn a_flood_of_streams_and_a_neighbour_that_does_not_read_change_nobodys_figures() {
    assert_nobody_is_worse_off(r#""catalogue""#, 1);
}

#[test]
fn ways_that_flap_and_origins_that_are_not_change_nobodys_figures() {
    assert_nobody_is_worse_off(r#""routes""#, 1);
}

#[test]
fn false_keys_of_the_nearest_parent_change_nobodys_figures() {
    assert_nobody_is_worse_off(r#""routes", "false-key""#, 1);
}

#[test]
fn key_requests_for_invented_consumers_change_nobodys_figures() {
    assert_nobody_is_worse_off(r#""keys""#, 1);
}

#[test]
fn everything_at_once_changes_nobodys_figures() {
    let all = r#""catalogue", "routes", "keys", "false-key""#;

    for seed in 1..=2 {
        assert_nobody_is_worse_off(all, seed);
    }
}
