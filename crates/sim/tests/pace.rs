//! Large pictures over paths whose queues are shorter: from the first group on nobody misses a packet.
//!
//! Only the public API; the scenario stands here, beside what it is to show.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use levada_sim::{Report, Scenario, run};

/// A stream of 7 Mb/s with pictures of 227 KB, over a path of that rate whose queue is so long, 40 ms there and back. A
/// player is there from the beginning, and one comes in the middle of a group.
fn over(rate: &str, queue: &str, budget: &str, hops: usize, seed: u64) -> Report {
    let names = ["origin", "r1", "r2", "far"];
    let (far, networks) = (hops, &names[..=hops]);
    let network: Vec<_> = networks
        .iter()
        .map(|name| format!("{{ name = \"{name}\" }}"))
        .collect();
    let wan: Vec<_> = networks.windows(2).map(|two| {
        let [from, to] = two else { unreachable!("windows of two") };
        format!("{{ between = [\"{from}\", \"{to}\"], delay = \"20ms\", rate = \"{rate}\", queue = \"{queue}\" }}")
    }).collect();
    let node: Vec<_> = networks[1..].iter().zip(networks).map(|(name, before)| {
        format!("{{ name = \"{name}\", network = \"{name}\", relay = true, neighbours = [\"{before}\"] }}")
    }).collect();
    let text = format!(
        r#"
        about = "pictures that are larger than the queue of their path"
        duration = "14s"
        network = [{}]
        wan = [{}]
        node = [
            {{ name = "origin", network = "origin", relay = true }},
            {},
            {{ name = "late", network = "{last}", neighbours = ["{before}"] }},
        ]
        subscription = [
            {{ stream = "cam", nodes = ["{last}"], from = "1s", budget = "{budget}" }},
            {{ stream = "cam", nodes = ["late"], from = "6500ms", budget = "{budget}" }},
        ]
        [bounds]
        continuity = "1s"
        [[stream]]
        name = "cam"
        origin = "origin"
        from = "3s"
        until = "12s"
        video = {{ frames_per_second = 25, bytes = 22350, sync_every = 25, sync_bytes = 227000 }}
    "#,
        network.join(", "),
        wan.join(", "),
        node.join(", "),
        last = networks[far],
        before = networks[far - 1],
    );
    let scenario = Scenario::parse("pace.toml", &text).unwrap_or_else(|error| panic!("{error}"));
    run(&scenario, seed).unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn pictures_larger_than_the_queue_come_whole_over_each_path() {
    // 32 KB and 64 KB at those rates, and 10 ms at twice the peak for each of the two players.
    for (rate, queue, budget) in [
        ("40Mb/s", "13ms", "200ms"),
        ("50Mb/s", "5ms", "200ms"),
        ("40Mb/s", "26ms", "500ms"),
        ("32Mb/s", "10ms", "200ms"),
    ] {
        let report = over(rate, queue, budget, 1, 1);

        assert_eq!(report.gaps, 0, "{rate} {queue}: {report}");
        assert!(report.frames_delivered > 225, "{rate} {queue}: {report}");
    }
}

#[test]
fn three_hops_pace_each_for_itself_and_lose_nothing_either() {
    let report = over("40Mb/s", "13ms", "500ms", 3, 2);

    assert_eq!(report.gaps, 0, "{report}");
    assert!(report.frames_delivered > 225, "{report}");
}
