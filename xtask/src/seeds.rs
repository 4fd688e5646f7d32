//! `cargo xtask sim-seeds`: the first simulator scenario, with many seeds; and the proof that a run is the same one in
//! debug and in release.
//!
//! The `levada` binary runs them and prints seed and replay command of a failure; this only starts it and looks at its
//! exit code.
//! Called by hand, and its comparison by `test`, which counts it as one test; that one runs the many seeds by `golden`.
//! Invariant: for many seeds the optimised binary is used, the one that users get.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::process::{self, Ended};
use crate::{test, tree};

/// The seeds of a usual run.
pub(crate) const COUNT: u64 = 1000;
const SCENARIOS: &str = "crates/sim/scenarios";
/// The scenario that is run with many seeds.
pub(crate) const FIRST: &str = "first.toml";
const SCENARIO: &str = "crates/sim/scenarios/first.toml";
/// The seed with which every scenario is run in debug and in release.
const SAME_SEED: &str = "7";

/// Builds `levada` and runs the seeds. True if all passed.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<bool> {
    let count = count(arguments)?;
    pass(&test::release_binary()?, count)
}

fn count(arguments: &[String]) -> anyhow::Result<u64> {
    match arguments {
        [] => Ok(COUNT),
        [name, value] if name == "--count" => value
            .parse()
            .ok()
            .filter(|count| *count > 0)
            .with_context(|| {
                format!("`--count {value}`: write a whole number above 0, as in `--count {COUNT}`")
            }),
        _ => anyhow::bail!("it takes `--count N` and nothing else"),
    }
}

/// Runs the scenario with `count` seeds.
pub(crate) fn pass(levada: &Path, count: u64) -> anyhow::Result<bool> {
    let mut command = Command::new(levada);
    command
        .args(["sim", "run", SCENARIO, "--seeds", &count.to_string()])
        .current_dir(tree::root()?);
    println!("\n$ {}", process::shown(&command));
    let ended = process::watch(&mut command, test::LIMIT, |line| println!("{line}"))?;
    let problem = match ended {
        Ended::Exited(status) if status.success() => return Ok(true),
        Ended::Exited(status) | Ended::Left(status) => status.to_string(),
        Ended::Killed => format!("killed after {} minutes", test::LIMIT.as_secs() / 60),
    };
    println!("{count} seeds of {SCENARIO} did not pass: {problem}");
    Ok(false)
}

/// Runs every scenario with both binaries. True if each says the same: trace hash, counts, all.
pub(crate) fn same(debug: &Path, release: &Path) -> anyhow::Result<bool> {
    let mut is_same = true;
    for scenario in scenarios()? {
        let [in_debug, in_release] = [debug, release].map(|levada| said(levada, &scenario));
        is_same &= agree(&scenario, &in_debug?, &in_release?);
    }
    Ok(is_same)
}

/// The scenario files, in order.
pub(crate) fn scenarios() -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(tree::root()?.join(SCENARIOS))?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    let mut scenarios = paths.collect::<std::io::Result<Vec<_>>>()?;
    scenarios.retain(|path| path.extension().is_some_and(|it| it == "toml"));
    scenarios.sort();
    anyhow::ensure!(!scenarios.is_empty(), "{SCENARIOS} has no scenario");
    Ok(scenarios)
}

fn agree(scenario: &Path, in_debug: &str, in_release: &str) -> bool {
    let name = scenario.display();
    let is_same = in_debug == in_release;
    if is_same {
        println!("{name}, seed {SAME_SEED}: the same in debug and release");
    } else {
        println!(
            "{name}, seed {SAME_SEED}, differs:\n  debug:   {in_debug}\n  release: {in_release}"
        );
    }
    is_same
}

/// What a binary says of a run, with the trace hash in it.
fn said(levada: &Path, scenario: &Path) -> anyhow::Result<String> {
    let mut command = Command::new(levada);
    command.args(["sim", "run", "--json", "--seed", SAME_SEED]);
    command.arg(scenario);
    let mut output = String::new();
    let ended = process::watch(&mut command, test::LIMIT, |line| output.push_str(line))?;
    let is_whole = matches!(ended, Ended::Exited(status) if status.success());
    anyhow::ensure!(
        is_whole && output.contains("\"trace\""),
        "`{}` gives no trace hash: {output}",
        process::shown(&command)
    );
    Ok(output)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn parsed(arguments: &[&str]) -> anyhow::Result<u64> {
        count(
            &arguments
                .iter()
                .map(|argument| (*argument).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn the_count_is_a_thousand_unless_told() {
        assert_eq!(parsed(&[]).unwrap(), COUNT);
        assert_eq!(parsed(&["--count", "5"]).unwrap(), 5);
    }

    #[test]
    fn a_count_that_runs_nothing_is_refused() {
        for wrong in [
            &["--count", "0"][..],
            &["--count", "x"],
            &["--count"],
            &["5"],
        ] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn runs_that_differ_in_their_trace_do_not_agree() {
        let scenario = Path::new("first.toml");

        assert!(agree(scenario, r#"{"trace":"1"}"#, r#"{"trace":"1"}"#));
        assert!(!agree(scenario, r#"{"trace":"1"}"#, r#"{"trace":"2"}"#));
    }

    #[cfg(unix)]
    #[test]
    fn binaries_that_fail_or_say_no_trace_hash_prove_nothing() {
        for program in ["false", "echo"].map(Path::new) {
            let error = same(program, program).unwrap_err().to_string();

            assert!(error.contains("no trace hash"), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_binary_that_refuses_does_not_pass() {
        assert!(!pass(Path::new("false"), 1).unwrap());
        assert!(pass(Path::new("true"), 1).unwrap());
    }
}
