//! Limits of links: what a link that is idle, narrow or congested does, seen from outside.
//!
//! Only the public API; scenarios of a few lines stand here, beside what they are to show.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use levada_sim::{Options, Report, Scenario, run_with};

/// Runs a scenario and gives back its report and its trace for people.
fn traced(text: &str, seed: u64) -> (Report, String) {
    let scenario = Scenario::parse("links.toml", text).unwrap_or_else(|error| panic!("{error}"));
    let mut lines = Vec::new();
    let options = Options {
        trace: Some(&mut lines),
        ..Options::default()
    };
    let report = run_with(&scenario, seed, options).unwrap_or_else(|failure| panic!("{failure}"));
    (report, String::from_utf8(lines).unwrap())
}

#[test]
fn an_idle_link_outlives_bursts_of_loss() {
    // one datagram in five is lost, four in a row on average: to a ping a second a burst is often longer than the time
    // after which a peer counts as dead.
    let text = r#"
        about = "two nodes with nothing to say to each other, over a link that loses in bursts"
        duration = "60s"
        network = [{ name = "a" }, { name = "b" }]
        node = [
            { name = "1", network = "a", neighbours = ["2"] },
            { name = "2", network = "b" },
        ]
        [[wan]]
        between = ["a", "b"]
        delay = "20ms"
        bursts = { begin = "6%", end = "25%", inside = "100%" }
    "#;

    let deaths = (1..=20).map(|seed| traced(text, seed).1.matches("Silent").count());

    assert_eq!(deaths.sum::<usize>(), 0);
}

#[test]
fn a_stream_too_large_for_one_relay_comes_over_the_other() {
    // Both ways are as long; the one that is taken first does not carry packets of that size.
    let text = r#"
        about = "an origin, two relays, and a player at both"
        duration = "40s"
        network = [{ name = "o" }, { name = "x" }, { name = "y" }, { name = "p" }]
        node = [
            { name = "origin", network = "o" },
            { name = "narrow", network = "x", relay = true, neighbours = ["origin"], start = "0s" },
            { name = "wide", network = "y", relay = true, neighbours = ["origin"], start = "0s" },
            { name = "player", network = "p", neighbours = ["narrow", "wide"], start = "1s" },
        ]
        wan = [
            { between = ["o", "x"], delay = "10ms" },
            { between = ["o", "y"], delay = "10ms" },
            { between = ["x", "p"], delay = "10ms", loss = "2%", packet_size_max = 1300 },
            { between = ["y", "p"], delay = "10ms", loss = "2%" },
        ]
        subscription = [
            { stream = "large", nodes = ["player"], from = "3s" },
            { stream = "usual", nodes = ["player"], from = "3s" },
        ]
        [[stream]]
        name = "large"
        origin = "origin"
        packet_bytes = 1440
        video = { frames_per_second = 25, bytes = 6000, sync_every = 25, sync_bytes = 20000 }
        [[stream]]
        name = "usual"
        origin = "origin"
        video = { frames_per_second = 25, bytes = 6000, sync_every = 25, sync_bytes = 20000 }
    "#;

    for seed in 1..=2 {
        let (report, trace) = traced(text, seed);

        let media = |name: &str| {
            let network = report.networks.iter().find(|network| network.name == name);
            network.unwrap().traffic.media_bytes
        };
        let (narrow, wide) = (media("x > p"), media("y > p"));
        assert!(narrow > 3_000_000 && wide > 3_000_000, "{narrow} {wide}");
        assert!(report.frames_delivered > 1_700, "{report}");
        // Only before it was found out was it asked for there.
        assert!(trace.matches("TooLarge").count() < 40, "seed {seed}");
    }
}

/// An origin that sends 8 Mb/s to a player over a link of 20 ms each way.
fn eight_megabits(wan: &str) -> String {
    format!(
        r#"
        about = "8 Mb/s over one bad link"
        duration = "40s"
        network = [{{ name = "o" }}, {{ name = "p" }}]
        node = [
            {{ name = "origin", network = "o" }},
            {{ name = "player", network = "p", neighbours = ["origin"] }},
        ]
        wan = [{{ between = ["o", "p"], delay = "20ms", {wan} }}]
        subscription = [{{ stream = "cam", nodes = ["player"], from = "1s" }}]
        [bounds]
        frames = "60s"
        [[stream]]
        name = "cam"
        origin = "origin"
        video = {{ frames_per_second = 25, bytes = 38000, sync_every = 25, sync_bytes = 88000 }}
        "#
    )
}

#[test]
fn a_path_that_loses_two_fifths_is_relieved_and_one_that_loses_a_tenth_is_repaired() {
    let (_, hopeless) = traced(&eight_megabits(r#"loss = "40%""#), 1);
    let (repaired, bearable) = traced(&eight_megabits(r#"loss = "10%""#), 1);

    let opened = |trace: &str| trace.matches("origin Congested").count();
    assert!(
        (1..=3).contains(&opened(&hopeless)),
        "{}",
        opened(&hopeless)
    );
    assert_eq!(opened(&bearable), 0);
    assert_eq!(repaired.gaps, 0);
    assert!(repaired.frames_delivered > 900, "{repaired}");
}

#[test]
fn a_queue_that_is_full_for_seconds_is_relieved() {
    let narrow = r#"rate = "2Mb/s", queue = "200ms""#;

    let (_, trace) = traced(&eight_megabits(narrow), 1);

    let opened = trace.matches("origin Congested").count();
    assert!((1..=3).contains(&opened), "{opened}");
}

/// An origin, a relay and a player, both ways as long; the relay is killed at 30 s, if at all, and comes back.
fn far_away(delay: &str, more: &str, is_killed: bool) -> String {
    let kill = r#"
        [[fault]]
        kind = "crash"
        node = "relay"
        at = "30s"
        for = "20s"
    "#;
    let kill = if is_killed { kill } else { "" };
    format!(
        r#"
        about = "two hops by satellite"
        duration = "60s"
        network = [{{ name = "o" }}, {{ name = "r" }}, {{ name = "p" }}]
        node = [
            {{ name = "origin", network = "o", neighbours = ["relay"] }},
            {{ name = "relay", network = "r", relay = true }},
            {{ name = "player", network = "p", neighbours = ["relay"] }},
        ]
        wan = [
            {{ between = ["o", "r"], delay = "{delay}", {more} }},
            {{ between = ["r", "p"], delay = "{delay}", {more} }},
        ]
        subscription = [
            {{ stream = "cam", nodes = ["player"], from = "2s", until = "8s", budget = "3s" }},
            {{ stream = "cam", nodes = ["player"], from = ["14s", "15s"], budget = "3s" }},
        ]
        [bounds]
        frames = "20s"
        quiet = "10s"
        unwanted = "20s"
        answers = "8s"
        [[stream]]
        name = "cam"
        origin = "origin"
        video = {{ frames_per_second = 25, bytes = 4000, sync_every = 25, sync_bytes = 12000 }}
        {kill}
        "#
    )
}

#[test]
fn streams_play_and_no_link_dies_where_a_round_trip_takes_600_ms_or_a_second() {
    for (delay, more) in [
        ("300ms", r#"loss = "2%""#),
        ("300ms", r#"jitter = "40ms""#),
        // At 2% such a rate over such a distance is more than the breaker lets pass.
        ("500ms", r#"loss = "0.5%""#),
    ] {
        let (report, trace) = traced(&far_away(delay, more, false), 1);

        let deaths = trace.matches("Silent").count();
        assert_eq!(deaths, 0, "{delay}, {more}");
        assert!(report.frames_delivered > 1_100, "{delay}, {more}: {report}");
    }
}

/// The times of the lines of a trace that say this, in seconds.
fn times(trace: &str, what: &str) -> Vec<f64> {
    let lines = trace.lines().filter(|line| line.contains(what));
    let time = |line: &str| line.split_once("s ")?.0.parse().ok();
    lines.filter_map(time).collect()
}

#[test]
fn a_kill_is_noticed_within_three_halves_of_a_round_trip_and_half_a_second_where_that_is_long() {
    for (delay, bound) in [("300ms", 1.4), ("500ms", 2.0)] {
        let (_, trace) = traced(&far_away(delay, "", true), 1);

        let noticed = times(&trace, "Silent");

        assert_eq!(noticed.len(), 2, "by the origin and by the player");
        let late = noticed
            .iter()
            .find(|at| !(30.0..30.0 + bound).contains(*at));
        assert_eq!(late, None, "{delay}");
    }
}
