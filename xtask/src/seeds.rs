//! `cargo xtask sim-seeds`: the first simulator scenario, with many seeds.
//!
//! The `levada` binary runs them and prints seed and replay command of a failure; this only starts it and looks at its
//! exit code.
//! Called by hand, and by `test`, which counts it as one test.
//! Invariant: the optimised binary is used, the one that users get.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::process::{self, Ended};
use crate::{test, tree};

/// The seeds of a usual run.
pub(crate) const COUNT: u64 = 1000;
const SCENARIO: &str = "crates/sim/scenarios/first.toml";

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

    #[cfg(unix)]
    #[test]
    fn a_binary_that_refuses_does_not_pass() {
        assert!(!pass(Path::new("false"), 1).unwrap());
        assert!(pass(Path::new("true"), 1).unwrap());
    }
}
