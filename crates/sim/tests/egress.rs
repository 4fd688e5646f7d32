//! Egresses that are held: what a stream beyond its peak does to those that share its way, seen from outside.
//!
//! Only the public API; the scenario stands here, beside what it is to show.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use levada_sim::{Options, Report, Scenario, run_with};

/// A way of 1.4 Mb/s that two streams share: one of 0.4 Mb/s, and one of 1.6 Mb/s that was admitted with `peak`.
fn crowded(peak: &str, seed: u64, seconds: u64) -> (Report, String) {
    let until = seconds - 1;
    let text = format!(
        r#"
        about = "a stream that is larger than its publisher says, and a calm one, over one narrow way"
        duration = "{seconds}s"
        network = [{{ name = "a" }}, {{ name = "b" }}]
        node = [
            {{ name = "origin", network = "a" }},
            {{ name = "calm", network = "b", neighbours = ["origin"] }},
            {{ name = "greedy", network = "b", neighbours = ["origin"] }},
        ]
        subscription = [
            {{ stream = "small", nodes = ["calm"], from = "1s" }},
            {{ stream = "large", nodes = ["greedy"], from = "1s" }},
        ]
        [[wan]]
        between = ["a", "b"]
        delay = "20ms"
        rate = "1400kb/s"
        queue = "500ms"
        [[stream]]
        name = "small"
        origin = "origin"
        from = "4s"
        video = {{ frames_per_second = 25, bytes = 2000, sync_every = 25, sync_bytes = 4000 }}
        [[stream]]
        name = "large"
        origin = "origin"
        from = "4s"
        until = "{until}s"
        peak = "{peak}"
        video = {{ frames_per_second = 25, bytes = 8000, sync_every = 25, sync_bytes = 8000 }}
    "#
    );
    let scenario = Scenario::parse("egress.toml", &text).unwrap_or_else(|error| panic!("{error}"));
    let mut lines = Vec::new();
    let options = Options {
        trace: Some(&mut lines),
        ..Options::default()
    };
    let report = run_with(&scenario, seed, options).unwrap_or_else(|failure| panic!("{failure}"));
    (report, String::from_utf8(lines).unwrap())
}

#[test]
fn a_stream_beyond_its_peak_costs_nobody_else_a_packet() {
    for seed in 1..=3 {
        let (report, trace) = crowded("400kb/s", seed, 17);

        assert_eq!(trace.matches("calm misses").count(), 0, "seed {seed}");
        assert_eq!(lost(&report), 0, "seed {seed}: {report}");
        // It has a beginning of most groups, and hears every 50 ms what passes of the rest.
        let gaps = trace.matches("greedy misses").count();
        assert!((10..=120).contains(&gaps), "seed {seed}: {gaps}");
        assert!(report.frames_delivered > 400, "seed {seed}: {report}");
    }
}

#[test]
fn without_a_bucket_that_holds_it_the_way_would_lose_packets_of_everybody() {
    for seed in 1..=3 {
        // No longer: then links that are pressed so hard are relieved of flows, by chance of the calm one too.
        let (report, _) = crowded("100Mb/s", seed, 12);

        assert!(lost(&report) > 300, "seed {seed}: {report}");
    }
}

/// What the way lost, whose ever it was.
fn lost(report: &Report) -> u64 {
    let way = report
        .networks
        .iter()
        .find(|network| network.name == "a > b");
    way.unwrap().traffic.lost
}
