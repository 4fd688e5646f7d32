//! What the tests of whole runs share: the scenarios of this crate.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use levada_sim::Scenario;

/// The scenarios in `scenarios/`.
pub(crate) const SCENARIOS: [&str; 8] = [
    "first", "star", "chain", "ring", "clique", "six", "loss", "far",
];

/// One of them.
pub(crate) fn scenario(name: &str) -> Scenario {
    let path = format!("{}/scenarios/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    Scenario::parse(&format!("crates/sim/scenarios/{name}.toml"), &text).unwrap()
}
