//! A stream that comes over two ways at the same time: what it costs when nodes on one of them are killed, which is
//! nothing.
//!
//! Only the public API; the scenarios stand here, beside what they are to show. The checker `steady` fails a run in
//! which the player misses a packet or gets a frame too late.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use levada_sim::{Failure, Report, Scenario, run};

/// Three relays, 20 ms from the origin and 20 ms from the player, are killed in turn, ten times in all; each is away
/// for 3 s of each 15 s, so that two are always there. How late a frame may be is counted from when it was made.
fn killed(paths: u8, loss: &str, budget: &str, late: &str) -> String {
    let fault = |at: usize| {
        let (relay, at) = (at % 3 + 1, 8 + 5 * at);
        format!(
            r#"{{ kind = "crash", node = "r{relay}", at = ["{at}s", "{}s"], for = "3s" }}"#,
            at + 1
        )
    };
    let faults: Vec<String> = (0..10).map(fault).collect();
    let faults = faults.join(",\n");
    format!(
        r#"
        about = "relays are killed one after the other, and a player has two ways"
        duration = "62s"
        bounds = {{ steady = "6s", late = "{late}" }}
        network = [{{ name = "a" }}, {{ name = "b" }}, {{ name = "c" }}, {{ name = "d" }}, {{ name = "e" }}]
        wan = [
            {{ between = ["a", "b"], delay = "20ms", loss = "{loss}" }},
            {{ between = ["a", "c"], delay = "20ms", loss = "{loss}" }},
            {{ between = ["a", "d"], delay = "20ms", loss = "{loss}" }},
            {{ between = ["b", "e"], delay = "20ms", loss = "{loss}" }},
            {{ between = ["c", "e"], delay = "20ms", loss = "{loss}" }},
            {{ between = ["d", "e"], delay = "20ms", loss = "{loss}" }},
        ]
        node = [
            {{ name = "origin", network = "a", relay = true }},
            {{ name = "r1", network = "b", relay = true, neighbours = ["origin"] }},
            {{ name = "r2", network = "c", relay = true, neighbours = ["origin"] }},
            {{ name = "r3", network = "d", relay = true, neighbours = ["origin"] }},
            {{ name = "player", network = "e", neighbours = ["r1", "r2", "r3"] }},
        ]
        subscription = [
            {{ stream = "cam", nodes = ["player"], from = "1s", budget = "{budget}", paths = {paths} }},
        ]
        fault = [
            {faults}
        ]
        [[stream]]
        name = "cam"
        origin = "origin"
        video = {{ frames_per_second = 25, bytes = 6000, sync_every = 50, sync_bytes = 9000 }}
        audio = {{ frames_per_second = 50, bytes = 160 }}
    "#
    )
}

fn outcome(text: &str, seed: u64) -> Result<Report, Box<Failure>> {
    let scenario = Scenario::parse("paths.toml", text).unwrap_or_else(|error| panic!("{error}"));
    run(&scenario, seed)
}

fn passes(text: &str, seed: u64) -> Report {
    outcome(text, seed).unwrap_or_else(|failure| panic!("{failure}"))
}

/// The way takes 40 ms, and the largest picture at a pace of 1.5 times the flow 36 ms more.
const NO_STALL: &str = "90ms";

#[test]
fn over_two_ways_ten_kills_on_a_clean_wire_are_not_noticed() {
    for seed in 1..=5 {
        let report = passes(&killed(2, "0%", "200ms", NO_STALL), seed);

        assert!(report.frames_delivered > 4_000, "{report}");
    }
}

/// While another parent is asked one way is left, and 200 ms have room for three tries on it: one packet of a hundred
/// thousand is lost then, as in two of 24 seeds (decision 0036). The control over one way is below.
#[test]
fn over_two_ways_that_lose_five_of_a_hundred_ten_kills_cost_hardly_a_packet_at_200_ms() {
    // Who plays 200 ms behind a way of 40 ms never stands still.
    let text = killed(2, "5%", "200ms", "240ms");
    let outcomes: Vec<_> = (1..=5).map(|seed| outcome(&text, seed)).collect();
    let whole = outcomes.iter().flatten();

    assert!(whole.clone().count() >= 4, "{outcomes:?}");
    for report in whole {
        assert!(report.frames_delivered > 4_000, "{report}");
    }
}

#[test]
fn over_one_way_the_same_kills_are_noticed() {
    let stalls = |text: String| {
        (1..=5)
            .filter(|seed| outcome(&text, *seed).is_err())
            .count()
    };

    assert_eq!(stalls(killed(1, "0%", "200ms", NO_STALL)), 5);
    assert_eq!(stalls(killed(1, "5%", "200ms", "240ms")), 5);
}
