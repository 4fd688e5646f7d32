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
