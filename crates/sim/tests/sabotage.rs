//! Negative controls: a broken checker, machine or link makes a run fail, and the command that is printed makes it fail
//! again in the same way. The negative control of each single checker stands beside the checker.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{SCENARIOS, scenario};
use levada_sim::{Failure, Options, Sabotage, run_with};

fn fails(name: &str, seed: u64, sabotage: Sabotage) -> Failure {
    let options = Options {
        sabotage: Some(sabotage),
        ..Options::default()
    };
    *run_with(&scenario(name), seed, options).expect_err("a sabotaged run fails")
}

/// Does what `levada sim run PATH --seed N --sabotage PART` does.
fn replay(command: &str) -> Failure {
    let words: Vec<&str> = command.split(' ').collect();
    let [
        "levada",
        "sim",
        "run",
        path,
        "--seed",
        seed,
        "--sabotage",
        sabotage,
    ] = words[..]
    else {
        panic!("not a command: {command}");
    };
    let name = path
        .strip_prefix("crates/sim/scenarios/")
        .unwrap()
        .strip_suffix(".toml")
        .unwrap();
    fails(name, seed.parse().unwrap(), sabotage.parse().unwrap())
}

#[test]
fn each_broken_part_is_noticed_and_its_replay_fails_in_the_same_way() {
    for sabotage in Sabotage::ALL {
        for seed in [1, 2] {
            let failure = fails("first", seed, sabotage);

            assert_eq!(failure.checker, sabotage.noticed_by(), "{failure}");
            assert_eq!((failure.seed, failure.sabotage), (seed, Some(sabotage)));
            let printed = failure.to_string();
            let (_, command) = printed.split_once("replay: ").unwrap();
            assert_eq!(replay(command), failure);
        }
    }
}

#[test]
fn broken_parts_are_noticed_in_other_scenarios_too() {
    for name in SCENARIOS {
        for sabotage in [Sabotage::Checker, Sabotage::Link] {
            let failure = fails(name, 1, sabotage);

            assert_eq!(failure.checker, sabotage.noticed_by(), "{name}: {failure}");
        }
    }
}
