//! `cargo xtask test`: every test of the workspace, and one closing line that counts them.
//!
//! Cargo builds; the test binaries are run from here one after another, so that each can be timed, counted and, when it
//! hangs, killed by name. Doctests and the simulator's runs follow. Nothing is skipped because of the machine: what is
//! missing is installed or named.
//! Called by hand, by the README, and by `ci`.
//! Invariant: what did not run to its end counts as failed, so a run that proves nothing never looks good.

mod build;
pub(crate) mod needs;
mod tally;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::{self, Ended};
use crate::{golden, seeds};
use build::TestBinary;
pub(crate) use build::release_binary;
pub(crate) use needs::meet as meet_needs;
pub(crate) use tally::Tally;

/// A test binary that takes longer hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(600);
/// The crate whose tests need root and the machine for themselves: they come last.
const LAST: &str = "levada-lab";

/// Runs all tests and prints the closing line. True if some ran and all passed.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<bool> {
    crate::refuse_unknown(arguments, &[])?;
    let tally = all();
    println!("{tally}");
    Ok(tally.is_good())
}

/// Runs all tests. Prints everything but the closing line, which belongs to whoever speaks last.
pub(crate) fn all() -> Tally {
    let mut tally = Tally::default();
    if let Err(error) = run_into(&mut tally) {
        tally.fail(format!("{error:#}"));
    }
    tally.show_failures();
    tally
}

fn run_into(tally: &mut Tally) -> anyhow::Result<()> {
    meet_needs()?;
    let levada = release_binary()
        .map_err(|error| tally.fail(format!("{error:#}")))
        .ok();
    let built = build::tests()?;
    if !built.complete {
        tally.fail("some tests do not build, see above".to_owned());
    }
    let mut binaries = built.binaries;
    binaries.sort_by_key(|binary| (binary.package == LAST, binary.name.clone()));
    for binary in &binaries {
        run_binary(binary, levada.as_deref(), tally)?;
    }
    run_doctests(tally)?;
    if let Some(levada) = levada {
        let same = build::debug_binary(&binaries).and_then(|debug| seeds::same(&debug, &levada));
        match same {
            Ok(true) => tally.passed += 1,
            Ok(false) => tally.fail("the simulator, the same run in debug and release".to_owned()),
            Err(error) => tally.fail(format!("the simulator in debug and release: {error:#}")),
        }
        match golden::check(&levada) {
            Ok(true) => tally.passed += 1,
            Ok(false) => tally.fail("the simulator's golden traces".to_owned()),
            Err(error) => tally.fail(format!("the simulator's golden traces: {error:#}")),
        }
    }
    Ok(())
}

fn run_binary(binary: &TestBinary, levada: Option<&Path>, tally: &mut Tally) -> anyhow::Result<()> {
    let mut command = Command::new(&binary.executable);
    command
        .current_dir(&binary.directory)
        .envs(binary.environment.iter().cloned());
    command.envs(levada.map(|levada| ("LEVADA_BIN", levada)));
    run_counted(&binary.name, &mut command, tally)
}

/// One run for all crates: cargo would build the dependencies again for each crate alone.
fn run_doctests(tally: &mut Tally) -> anyhow::Result<()> {
    let mut command = process::cargo();
    command.args(["test", "--quiet", "--workspace", "--doc", "--no-fail-fast"]);
    run_counted("the doctests", &mut command, tally)
}

/// Runs one program that speaks as libtest does, and adds what it says to the tally.
fn run_counted(name: &str, command: &mut Command, tally: &mut Tally) -> anyhow::Result<()> {
    println!("\n== {name}");
    let started = Instant::now();
    let mut own = Tally::default();
    let mut counted = false;
    let ended = process::watch(command, LIMIT, |line| {
        println!("{line}");
        counted |= own.read_line(name, line);
    })?;
    let problem = match ended {
        Ended::Killed => Some(format!(
            "hung and was killed after {} minutes",
            LIMIT.as_secs() / 60
        )),
        Ended::Left(_) => Some("ended, but a process that it started lives on".to_owned()),
        Ended::Exited(status) if !counted => Some(format!("ended without a result ({status})")),
        Ended::Exited(status) if !status.success() && own.failed == 0 => {
            Some(format!("failed ({status})"))
        }
        Ended::Exited(_) => None,
    };
    if let Some(problem) = problem {
        println!("{name}: {problem}");
        own.fail(format!("{name}: {problem}"));
    }
    println!(
        "== {name}: {own} in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    tally.add(own);
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn counted(script: &str) -> Tally {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let mut tally = Tally::default();
        run_counted("some tests", &mut command, &mut tally).unwrap();
        tally
    }

    #[test]
    fn a_binary_that_passes_is_counted_as_it_says() {
        let tally = counted("echo 'test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured'");

        assert_eq!(tally.to_string(), "3 passed, 0 failed, 1 skipped");
        assert!(tally.is_good());
    }

    #[test]
    fn a_binary_that_ends_without_a_result_has_failed() {
        assert_eq!(counted("echo hello").to_string(), "0 passed, 1 failed");
        assert_eq!(counted("kill -ABRT $$").to_string(), "0 passed, 1 failed");
    }

    #[test]
    fn a_binary_that_passes_and_then_exits_with_an_error_has_failed() {
        let tally = counted("echo 'test result: ok. 3 passed; 0 failed; 0 ignored'; exit 1");

        assert_eq!(tally.to_string(), "3 passed, 1 failed");
    }
}
