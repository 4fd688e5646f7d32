//! Sites: nodes that nobody told of each other, seen from outside.
//!
//! Only the public API; the scenarios stand here, beside what they are to show.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use levada_sim::{Options, Report, Scenario, run_with};

/// Five nodes of one LAN, and one of another; nobody has a neighbour. The hub dies, whoever it is.
fn hall(is_site: bool, faults: &str, seed: u64) -> (Report, String) {
    let text = format!(
        r#"
        about = "a LAN whose nodes find each other"
        duration = "40s"
        bounds = {{ frames = "9s" }}
        network = [{{ name = "hall", site = {is_site} }}, {{ name = "yard", site = {is_site} }}]
        node = [
            {{ name = "n0", network = "hall", relay = true }},
            {{ name = "n1", network = "hall", relay = true }},
            {{ name = "n2", network = "hall", relay = true }},
            {{ name = "origin", network = "hall" }},
            {{ name = "player", network = "hall" }},
            {{ name = "alone", network = "yard", relay = true }},
        ]
        subscription = [{{ stream = "cam", nodes = ["player"], from = "6s", until = "36s" }}]
        {faults}
        [[stream]]
        name = "cam"
        origin = "origin"
        from = "5s"
        video = {{ frames_per_second = 25, bytes = 900, sync_every = 25, sync_bytes = 4000 }}
    "#
    );
    let scenario = Scenario::parse("hall.toml", &text).unwrap_or_else(|error| panic!("{error}"));
    let mut lines = Vec::new();
    let options = Options {
        trace: Some(&mut lines),
        ..Options::default()
    };
    let report = run_with(&scenario, seed, options).unwrap_or_else(|failure| panic!("{failure}"));
    (report, String::from_utf8(lines).unwrap())
}

fn knowers(report: &Report) -> Vec<&str> {
    let mut nodes: Vec<&str> = report.known.iter().map(|one| one.node.as_str()).collect();
    nodes.sort_unstable();
    nodes
}

#[test]
fn a_stream_crosses_a_site_that_nobody_configured_and_no_other_lan_sees_it() {
    for seed in 1..=5 {
        let (report, _) = hall(true, "", seed);

        assert_eq!(
            knowers(&report),
            ["n0", "n1", "n2", "origin", "player"],
            "seed {seed}"
        );
        assert!(
            report.frames_delivered > 25 * 28,
            "seed {seed}: {}",
            report.frames_delivered
        );
        assert_eq!(report.gaps, 0, "seed {seed}");
    }
}

#[test]
fn without_a_site_the_same_nodes_know_nothing_of_each_other() {
    let text = r#"
        about = "a LAN whose nodes do not look for each other"
        duration = "10s"
        network = [{ name = "hall" }]
        node = [{ name = "origin", network = "hall" }, { name = "player", network = "hall" }]
        [[stream]]
        name = "cam"
        origin = "origin"
        video = { frames_per_second = 25, bytes = 900, sync_every = 25, sync_bytes = 4000 }
    "#;
    let scenario = Scenario::parse("hall.toml", text).unwrap();

    let report = levada_sim::run(&scenario, 1).unwrap();

    assert_eq!(knowers(&report), ["origin"]);
    assert_eq!(report.connections, 0);
}

#[test]
fn a_stream_goes_on_after_each_of_three_relays_crashed_or_stood_still_in_turn() {
    let faults = r#"
        [[fault]]
        kind = "crash"
        node = "n0"
        at = "10s"
        for = "5s"
        [[fault]]
        kind = "pause"
        node = "n1"
        at = "18s"
        for = "2s"
        [[fault]]
        kind = "crash"
        node = "n2"
        at = "26s"
        for = "4s"
    "#;
    for seed in 1..=8 {
        let (report, trace) = hall(true, faults, seed);

        let changes = trace.matches("cause: Silent").count();
        assert!(changes > 0, "seed {seed}: no hub fell silent");
        assert!(
            report.frames_delivered > 25 * 10,
            "seed {seed}: {}",
            report.frames_delivered
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    assert_eq!(hall(true, "", 3).0.trace, hall(true, "", 3).0.trace);
    assert_ne!(hall(true, "", 3).0.trace, hall(true, "", 4).0.trace);
}

/// A relay outside and a LAN of five, all of which are told of it; so many of them watch.
fn watched(players: &str, faults: &str, seed: u64) -> Report {
    let text = format!(
        r#"
        about = "a LAN that watches a stream from outside"
        duration = "40s"
        bounds = {{ frames = "9s" }}
        network = [{{ name = "hall", site = true }}, {{ name = "centre" }}]
        wan = [{{ between = ["hall", "centre"], delay = "10ms" }}]
        node = [
            {{ name = "n0", network = "hall", relay = true, neighbours = ["relay"] }},
            {{ name = "n1", network = "hall", relay = true, neighbours = ["relay"] }},
            {{ name = "n2", network = "hall", relay = true, neighbours = ["relay"] }},
            {{ name = "n3", network = "hall", neighbours = ["relay"] }},
            {{ name = "n4", network = "hall", neighbours = ["relay"] }},
            {{ name = "relay", network = "centre", relay = true }},
        ]
        subscription = [{{ stream = "cam", nodes = [{players}], from = "9s", until = "36s" }}]
        {faults}
        [[stream]]
        name = "cam"
        origin = "relay"
        from = "5s"
        video = {{ frames_per_second = 25, bytes = 900, sync_every = 25, sync_bytes = 4000 }}
    "#
    );
    let scenario = Scenario::parse("watched.toml", &text).unwrap_or_else(|error| panic!("{error}"));
    levada_sim::run(&scenario, seed).unwrap_or_else(|failure| panic!("{failure}"))
}

fn media_bytes(report: &Report, network: &str) -> u64 {
    let network = report.networks.iter().find(|one| one.name == network);
    network.unwrap().traffic.media_bytes
}

#[test]
fn five_who_watch_on_a_lan_cost_it_and_the_wan_hardly_more_than_one() {
    const ALL: &str = r#""n0", "n1", "n2", "n3", "n4""#;
    for seed in 1..=3 {
        let (one, all) = (watched(r#""n4""#, "", seed), watched(ALL, "", seed));

        let frames = (one.frames_delivered, all.frames_delivered);
        assert!(
            frames.0 > 25 * 26 && frames.1 > 5 * 25 * 26,
            "seed {seed}: {frames:?}"
        );
        assert_eq!((one.gaps, all.gaps), (0, 0), "seed {seed}");
        let wan = [&one, &all].map(|report| media_bytes(report, "centre > hall"));
        assert!(
            wan[1] < wan[0] * 23 / 20,
            "seed {seed}: {wan:?} over the WAN"
        );
        // Each copy crosses the switch; one begins by unicast at each, and one comes from the WAN.
        let lan = [&one, &all].map(|report| media_bytes(report, "hall"));
        assert!(lan[1] < lan[0] * 3 / 2, "seed {seed}: {lan:?} on the LAN");
    }
}
