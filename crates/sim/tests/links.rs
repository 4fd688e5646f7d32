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
    // One datagram in five is lost, five in a row on average: to a ping a second a burst is often longer than the time
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
        bursts = { begin = "5%", end = "20%", inside = "100%" }
    "#;

    let deaths = (1..=20).map(|seed| traced(text, seed).1.matches("Silent").count());

    assert_eq!(deaths.sum::<usize>(), 0);
}
