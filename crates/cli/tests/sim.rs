//! `levada sim run`: what a failure prints shows the same failure again.
//!
//! Not the simulator (`levada-sim` has its own tests).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::Path;

use common::Home;
use serde_json::Value;

/// From the root of the repository, as a user writes it.
const SCENARIO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sim/scenarios/first.toml");

#[test]
fn a_failure_prints_a_command_that_shows_it_again() {
    let home = Home::new();
    for part in ["checker", "machine", "link"] {
        let failed = home.run(&["sim", "run", SCENARIO, "--seed", "3", "--sabotage", part]);
        assert_eq!(failed.status.code(), Some(1), "{failed:?}");
        let command = failed
            .output
            .lines()
            .find_map(|line| line.strip_prefix("replay: "));
        let mut command = command.unwrap().split(' ');
        let program = command.next().unwrap();

        let again = home.run(&command.collect::<Vec<_>>());

        assert_eq!(program, levada_from_here());

        assert_eq!(again.status.code(), Some(1));
        assert_eq!(again.output, failed.output);
    }
}

/// The binary under test, as a shell in this directory may call it.
fn levada_from_here() -> String {
    let levada = Path::new(env!("CARGO_BIN_EXE_levada"));
    let here = std::env::current_dir().unwrap();
    levada.strip_prefix(here).map_or_else(
        |_| levada.display().to_string(),
        |below| format!("./{}", below.display()),
    )
}

#[test]
fn of_several_seeds_the_smallest_that_fails_is_shown() {
    let home = Home::new();

    let failed = home.run(&[
        "sim",
        "run",
        SCENARIO,
        "--seed",
        "5",
        "--seeds",
        "6",
        "--sabotage",
        "machine",
        "--json",
    ]);

    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let last: Value = serde_json::from_str(failed.output.lines().last().unwrap()).unwrap();
    assert_eq!((&last["seed"], &last["passed"]), (&5.into(), &false.into()));
    assert!(
        last["replay"]
            .as_str()
            .unwrap()
            .contains("--seed 5 --sabotage machine")
    );
}

#[test]
fn seeds_that_pass_end_with_one_line_and_a_trace_can_be_kept() {
    let home = Home::new();
    let trace = home.path("trace");

    let many = home.run(&["sim", "run", SCENARIO, "--seeds", "4"]);
    let one = home.run(&["sim", "run", SCENARIO, "--trace", trace.to_str().unwrap()]);

    assert!(many.status.success(), "{many:?}");
    assert_eq!(many.output.lines().count(), 1);
    assert!(many.output.starts_with("4 seeds of "), "{many:?}");
    assert!(one.output.contains("seed 1: "), "{one:?}");
    assert!(std::fs::read_to_string(&trace).unwrap().lines().count() > 100);
}

#[test]
fn a_file_that_is_no_scenario_is_refused_by_name() {
    let home = Home::new();
    let file = home.path("x.toml");
    std::fs::write(&file, "abuot = \"nothing\"").unwrap();

    let ended = home.run(&["sim", "run", file.to_str().unwrap()]);
    let missing = home.run(&["sim", "run", "/no/such/scenario.toml"]);

    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended.errors.contains("x.toml") && ended.errors.contains("abuot"),
        "{ended:?}"
    );
    assert!(
        missing.errors.contains("/no/such/scenario.toml"),
        "{missing:?}"
    );
}
