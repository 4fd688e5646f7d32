//! A flow that gets another parent, on purpose or because the one it had died: what that costs, seen from outside.
//!
//! Only the public API; the scenarios stand here, beside what they are to show. The checker `steady` fails a run in
//! which a player misses a packet or gets a frame too late.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use levada_sim::{Report, Scenario, run};

fn passes(name: &str, text: &str, seed: u64) -> Report {
    let scenario = Scenario::parse(name, text).unwrap_or_else(|error| panic!("{error}"));
    run(&scenario, seed).unwrap_or_else(|failure| panic!("{name}: {failure}"))
}

fn duplicates_of(report: &Report, node: &str) -> u64 {
    let of_node = report.duplicates.iter().find(|(name, _)| name == node);
    of_node.unwrap().1
}

/// 4 Mb/s in groups of ten seconds reach a player by way of a relay, and straight from 6.5 s on. The ways take 30 and
/// 20 ms, so that nothing may be later than 60 ms. The pace of a new parent begins at 1.5 times the flow, by which a
/// picture of 20 kB takes 26 ms: with what the player lacks before it that would be 74 ms, so that leaves in haste.
const BETTER_WAY: &str = r#"
    about = "a better way appears in the middle of a long group"
    duration = "18s"
    bounds = { steady = "2s", late = "60ms", frames = "9s" }
    network = [{ name = "a" }, { name = "b" }, { name = "c" }]
    wan = [
        { between = ["a", "b"], delay = "10ms" },
        { between = ["b", "c"], delay = "20ms" },
        { between = ["a", "c"], delay = "20ms" },
    ]
    node = [
        { name = "origin", network = "a", relay = true },
        { name = "relay", network = "b", relay = true, neighbours = ["origin"] },
        { name = "player", network = "c", neighbours = ["origin", "relay"] },
    ]
    subscription = [{ stream = "cam", nodes = ["player"], from = "1s" }]
    fault = [{ kind = "link-down", between = ["a", "c"], at = "0s", for = "6500ms" }]
    [[stream]]
    name = "cam"
    origin = "origin"
    video = { frames_per_second = 25, bytes = 19600, sync_every = 250, sync_bytes = 80000 }
    audio = { frames_per_second = 50, bytes = 300 }
"#;

/// Packets of one round trip of 40 ms and 100 ms: a picture is 18 packets, and sound is sent 50 times a second.
const DUPLICATES_MAX: u64 = 500 * 140 / 1_000;

#[test]
fn a_move_in_the_middle_of_a_long_group_makes_nothing_late_and_little_twice() {
    for seed in 1..=3 {
        let report = passes("better-way.toml", BETTER_WAY, seed);

        let straight = report.networks.iter().find(|one| one.name == "a > c");
        let bytes = straight.unwrap().traffic.media_bytes;
        assert!(bytes > 1_000_000, "seed {seed}: it did not move: {report}");
        let duplicates = duplicates_of(&report, "player");
        assert!(
            duplicates <= DUPLICATES_MAX,
            "seed {seed}: {duplicates} duplicates"
        );
    }
}

/// Two relays, each of which is killed in its turn, so that one kill at least concerns whom the players are fed by.
fn killed(players: usize, loss: &str, budget: &str, late: &str) -> String {
    let names: Vec<String> = (0..players).map(|player| format!("p{player}")).collect();
    let node = |name: &String| {
        format!(r#"{{ name = "{name}", network = "d", neighbours = ["r1", "r2"] }}"#)
    };
    let nodes: Vec<String> = names.iter().map(node).collect();
    let nodes = nodes.join(",\n");
    format!(
        r#"
        about = "relays are killed one after the other"
        duration = "24s"
        bounds = {{ steady = "2s", late = "{late}" }}
        network = [{{ name = "a" }}, {{ name = "b" }}, {{ name = "c" }}, {{ name = "d" }}]
        wan = [
            {{ between = ["a", "b"], delay = "20ms", loss = "{loss}" }},
            {{ between = ["a", "c"], delay = "20ms", loss = "{loss}" }},
            {{ between = ["b", "d"], delay = "20ms", loss = "{loss}" }},
            {{ between = ["c", "d"], delay = "20ms", loss = "{loss}" }},
        ]
        node = [
            {{ name = "origin", network = "a", relay = true }},
            {{ name = "r1", network = "b", relay = true, neighbours = ["origin"] }},
            {{ name = "r2", network = "c", relay = true, neighbours = ["origin"] }},
            {nodes}
        ]
        subscription = [{{ stream = "cam", nodes = {names:?}, from = "1s", budget = "{budget}" }}]
        fault = [
            {{ kind = "crash", node = "r1", at = ["6s", "7s"], for = "4s" }},
            {{ kind = "crash", node = "r2", at = ["14s", "15s"], for = "4s" }},
        ]
        [[stream]]
        name = "cam"
        origin = "origin"
        video = {{ frames_per_second = 25, bytes = 3000, sync_every = 50, sync_bytes = 15000 }}
        audio = {{ frames_per_second = 50, bytes = 160 }}
    "#
    )
}

#[test]
fn killed_parents_on_a_clean_way_cost_nothing_and_less_than_300_ms() {
    for seed in 1..=5 {
        // 40 ms away: nobody who plays 300 ms behind stands still for more than 20 ms.
        let text = killed(1, "0%", "300ms", "360ms");
        let report = passes("killed.toml", &text, seed);

        assert!(
            report.slowest.as_millis() > 60,
            "nothing was felt: {report}"
        );
    }
}

#[test]
fn killed_parents_on_a_lossy_way_cost_no_frame_at_500_ms() {
    for seed in 1..=10 {
        let text = killed(1, "5%", "500ms", "5s");

        passes("killed-lossy.toml", &text, seed);
    }
}

#[test]
fn a_hundred_children_of_a_killed_relay_are_whole_within_their_budget() {
    let text = killed(100, "0%", "500ms", "560ms")
        .replace("bytes = 3000", "bytes = 1000")
        .replace("duration = \"24s\"", "duration = \"17s\"");

    passes("killed-crowd.toml", &text, 1);
}
