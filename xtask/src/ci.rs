//! `cargo xtask ci`: one command defines "checked", here and on the server.
//!
//! Steps run one after another, fast ones first, and all of them, so that one run shows everything there is to mend.
//! Called by hand before a push, and by `.ci/run`.
//! Invariant: the last line counts the tests, and the exit code is 0 only if every step passed.

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::test::Tally;
use crate::{deny, process, test, tidy, web};

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    NotRun,
}

struct Step {
    name: &'static str,
    run: fn() -> anyhow::Result<bool>,
}

/// All but the tests, which are counted.
const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        run: fmt,
    },
    Step {
        name: "tidy",
        run: || tidy::run(&[]),
    },
    Step {
        name: "web",
        run: || web::run(&[]),
    },
    Step {
        name: "clippy",
        run: clippy,
    },
    Step {
        name: "doc",
        run: doc,
    },
    Step {
        name: "deny",
        run: || deny::run(&[]),
    },
];

/// Runs all steps and prints the table and the closing line. True if all passed.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<bool> {
    crate::refuse_unknown(arguments, &["--fail-fast"])?;
    let fail_fast = !arguments.is_empty();
    let mut rows = Vec::new();
    let mut stopped = false;
    for step in STEPS {
        rows.push(timed(step.name, stopped, || {
            (step.run)().unwrap_or_else(|error| {
                println!("{}: {error:#}", step.name);
                false
            })
        }));
        stopped |= fail_fast && rows.iter().any(|row| row.1 == Outcome::Failed);
    }
    let mut tally = Tally::default();
    rows.push(timed("test", stopped, || {
        tally = test::all();
        tally.is_good()
    }));
    println!("{}\n{tally}", table(&rows));
    Ok(rows.iter().all(|row| row.1 == Outcome::Passed))
}

/// A step's name, what it did, and how long it took.
type Row = (&'static str, Outcome, Duration);

fn timed(name: &'static str, stopped: bool, step: impl FnOnce() -> bool) -> Row {
    if stopped {
        return (name, Outcome::NotRun, Duration::ZERO);
    }
    println!("\n=== {name}");
    let started = Instant::now();
    let outcome = if step() {
        Outcome::Passed
    } else {
        Outcome::Failed
    };
    (name, outcome, started.elapsed())
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from("\nstep     result    seconds\n");
    for (name, outcome, took) in rows {
        let result = match outcome {
            Outcome::Passed => "ok",
            Outcome::Failed => "FAILED",
            Outcome::NotRun => "not run",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<9}{result:<9}{:>8.1}", took.as_secs_f64());
    }
    text
}

fn fmt() -> anyhow::Result<bool> {
    component("fmt", "rustfmt")?;
    process::succeeds(process::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> anyhow::Result<bool> {
    component("clippy", "clippy")?;
    let arguments = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    process::succeeds(process::cargo().args(arguments))
}

/// The library and the binary are both named `levada` and would be written to one folder: the binary's pages go first.
fn doc() -> anyhow::Result<bool> {
    let build = |crates: &[&str]| {
        let arguments = ["doc", "--no-deps", "--document-private-items"];
        process::succeeds(
            process::cargo()
                .args(arguments)
                .args(crates)
                .env("RUSTDOCFLAGS", "-D warnings"),
        )
    };
    Ok(build(&["--package", "levada-cli"])? & build(&["--workspace", "--exclude", "levada-cli"])?)
}

/// Makes sure that a part of the toolchain is there, with rustup if need be.
fn component(subcommand: &str, name: &str) -> anyhow::Result<()> {
    let there = process::cargo()
        .args([subcommand, "--version"])
        .output()
        .is_ok_and(|o| o.status.success());
    if there {
        return Ok(());
    }
    let added = process::find("rustup").is_some()
        && process::succeeds(Command::new("rustup").args(["component", "add", name]))?;
    anyhow::ensure!(
        added,
        "`cargo {subcommand}` is missing; install the component `{name}` of your Rust toolchain"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_every_step_with_its_result_and_time() {
        let rows = [
            ("fmt", Outcome::Passed, Duration::from_millis(1240)),
            ("clippy", Outcome::Failed, Duration::from_secs(61)),
            ("test", Outcome::NotRun, Duration::ZERO),
        ];

        let shown = table(&rows);

        assert!(shown.contains("fmt      ok            1.2\n"), "{shown}");
        assert!(shown.contains("clippy   FAILED       61.0\n"), "{shown}");
        assert!(shown.contains("test     not run       0.0\n"), "{shown}");
    }

    #[test]
    fn a_stopped_run_does_not_start_the_step() {
        let row = timed("fmt", true, || panic!("must not run"));

        assert_eq!(row.1, Outcome::NotRun);
    }
}
