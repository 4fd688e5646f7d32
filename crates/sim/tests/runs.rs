//! Whole runs: every scenario passes, one seed makes one run, and players get what they should.
//!
//! Only the public API. The thousand seeds of CI are run by `cargo xtask sim-golden`, in release.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{SCENARIOS, scenario};
use levada_sim::{Options, Report, run, run_seeds, run_with};

fn passes(name: &str, seed: u64) -> Report {
    run(&scenario(name), seed).unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn twenty_seeds_of_the_first_scenario_pass() {
    let reports =
        run_seeds(&scenario("first"), 1..=20).unwrap_or_else(|failure| panic!("{failure}"));

    assert_eq!(reports.len(), 20);
    for report in reports {
        assert!(report.frames_delivered > report.frames_made, "{report}");
        assert!(report.forged > 100, "{report}");
    }
}

#[test]
fn three_seeds_of_every_other_scenario_pass() {
    for name in SCENARIOS.into_iter().filter(|name| *name != "first") {
        for seed in 1..=3 {
            let report = passes(name, seed);
            assert!(
                report.frames_delivered > report.frames_made,
                "{name}: {report}"
            );
        }
    }
}

#[test]
fn one_seed_makes_one_run_and_another_seed_another() {
    let first = passes("first", 7);

    assert_eq!(first, passes("first", 7));
    assert_ne!(first.trace, passes("first", 8).trace);
}

#[test]
fn a_trace_for_people_changes_nothing_and_tells_what_happened() {
    let mut lines = Vec::new();
    let options = Options {
        trace: Some(&mut lines),
        ..Options::default()
    };

    let traced =
        run_with(&scenario("first"), 7, options).unwrap_or_else(|failure| panic!("{failure}"));

    assert_eq!(traced, passes("first", 7));
    let text = String::from_utf8(lines).unwrap();
    for expected in [
        "=== origin publishes sports/final",
        "crash of origin",
        "Media",
        "LinkUp",
    ] {
        assert!(text.contains(expected), "{expected}");
    }
    assert_eq!(
        text.matches("ContentSecret(").count(),
        text.matches("ContentSecret(..)").count()
    );
}

#[test]
fn a_long_link_with_little_time_is_sent_parity_and_loses_little() {
    let mut lines = Vec::new();
    let options = Options {
        trace: Some(&mut lines),
        ..Options::default()
    };

    let report =
        run_with(&scenario("far"), 1, options).unwrap_or_else(|failure| panic!("{failure}"));

    let text = String::from_utf8(lines).unwrap();
    let parity = text.lines().filter(|line| line.contains("Parity")).count() as u64;
    assert!(
        parity > 500 && parity * 4 < report.media_packets,
        "{parity}"
    );
    // One try alone would leave a gap at one packet in 200 of either link.
    assert!(report.gaps * 500 < report.media_packets, "{report}");
}

#[test]
fn one_copy_of_a_flow_crosses_a_link_however_many_players_are_behind_it() {
    let text = r#"
        about = "a relay with four players behind it"
        duration = "12s"
        network = [{ name = "origin" }, { name = "site" }]
        wan = [{ between = ["origin", "site"], delay = "10ms" }]
        node = [
            { name = "origin", network = "origin" },
            { name = "hub", network = "site", relay = true, neighbours = ["origin"] },
            { name = "p1", network = "site", neighbours = ["hub"] },
            { name = "p2", network = "site", neighbours = ["hub"] },
            { name = "p3", network = "site", neighbours = ["hub"] },
            { name = "p4", network = "site", neighbours = ["hub"] },
        ]
        subscription = [{ stream = "cam", nodes = ["p1", "p2", "p3", "p4"], from = "2s" }]
        [[stream]]
        name = "cam"
        origin = "origin"
        video = { frames_per_second = 25, bytes = 900, sync_every = 25, sync_bytes = 4000 }
    "#;
    let with = levada_sim::Scenario::parse("copies.toml", text).unwrap();
    let one_player = text.replace(r#"["p1", "p2", "p3", "p4"]"#, r#"["p1"]"#);
    let one = levada_sim::Scenario::parse("copies.toml", &one_player).unwrap();
    let wan_bytes = |report: &Report| {
        let wan = report
            .networks
            .iter()
            .find(|network| network.name == "origin > site");
        wan.unwrap().traffic.media_bytes
    };

    let (with, one) = (run(&with, 1).unwrap(), run(&one, 1).unwrap());

    assert_eq!(wan_bytes(&with), wan_bytes(&one));
    assert_eq!(with.frames_delivered, 4 * one.frames_delivered);
    assert_eq!(with.gaps, 0);
}

#[test]
fn a_peak_that_nobody_declares_is_measured_and_known_everywhere_and_one_that_is_declared_stays() {
    let text = r#"
        about = "two cameras of one rate, of which one declares it"
        duration = "12s"
        network = [{ name = "origin" }, { name = "site" }]
        wan = [{ between = ["origin", "site"], delay = "10ms" }]
        node = [
            { name = "origin", network = "origin" },
            { name = "relay", network = "site", relay = true, neighbours = ["origin"] },
            { name = "player", network = "site", neighbours = ["relay"] },
        ]
        subscription = [{ stream = "measured", nodes = ["player"], from = "2s" }]
        [[stream]]
        name = "measured"
        origin = "origin"
        video = { frames_per_second = 25, bytes = 4000, sync_every = 25, sync_bytes = 4000 }
        [[stream]]
        name = "declared"
        origin = "origin"
        peak = "7Mb/s"
        video = { frames_per_second = 25, bytes = 4000, sync_every = 25, sync_bytes = 4000 }
    "#;
    let scenario = levada_sim::Scenario::parse("peaks.toml", text).unwrap();

    let report = run(&scenario, 1).unwrap();

    let known = |stream: &str| -> Vec<_> {
        let rows = report
            .known
            .iter()
            .filter(|row| row.stream.as_str() == stream);
        rows.map(|row| (row.node.as_str(), row.peak.0)).collect()
    };
    // 25 frames of about 4,000 bytes in a second, with headers, seals and descriptions, and a quarter more.
    let [(_, peak), ..] = known("measured")[..] else {
        panic!("{report}");
    };
    assert!((1_000_000..1_800_000).contains(&peak), "{peak}");
    let everywhere = |peak| [("origin", peak), ("relay", peak), ("player", peak)];
    assert_eq!(known("measured"), everywhere(peak));
    assert_eq!(known("declared"), everywhere(7_000_000));
}

#[test]
fn a_relay_whose_uplink_is_full_refuses_and_the_other_one_serves() {
    let text = r#"
        about = "two relays of which each has room for one of two players"
        duration = "20s"
        network = [{ name = "origin" }, { name = "relays" }, { name = "players" }]
        wan = [
            { between = ["origin", "relays"], delay = "10ms" },
            { between = ["relays", "players"], delay = "5ms", rate = "20Mb/s" },
        ]
        node = [
            { name = "origin", network = "origin" },
            { name = "r1", network = "relays", relay = true, uplink = "5Mb/s", neighbours = ["origin"] },
            { name = "r2", network = "relays", relay = true, uplink = "5Mb/s", neighbours = ["origin"] },
            { name = "p1", network = "players", neighbours = ["r1", "r2"] },
            { name = "p2", network = "players", neighbours = ["r1", "r2"] },
        ]
        subscription = [{ stream = "cam", nodes = ["p1", "p2"], from = "3s" }]
        [[stream]]
        name = "cam"
        origin = "origin"
        peak = "4Mb/s"
        video = { frames_per_second = 25, bytes = 8000, sync_every = 25, sync_bytes = 9000 }
    "#;
    let scenario = levada_sim::Scenario::parse("uplink.toml", text).unwrap();
    let bytes = |report: &Report, way: &str| {
        let network = report.networks.iter().find(|network| network.name == way);
        network.unwrap().traffic.media_bytes
    };

    for seed in 1..=5 {
        let report = run(&scenario, seed).unwrap();

        // One copy to each relay, one to each player: neither relay feeds both.
        let [to_relays, to_players] =
            ["origin > relays", "relays > players"].map(|way| bytes(&report, way));
        assert_eq!(report.gaps, 0, "{report}");
        assert!(to_relays > to_players * 9 / 10, "{report}");
        assert!(
            report.frames_delivered > report.frames_made * 3 / 2,
            "{report}"
        );
    }
}

/// Each asks the other for a while: whoever turns out to have a way of its own feeds the other, and not both.
#[test]
fn two_that_ask_each_other_do_not_feed_each_other() {
    let report = passes("ring", 4);

    assert!(report.frames_delivered > 0, "{report}");
}
