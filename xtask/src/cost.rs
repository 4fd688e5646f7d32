//! `cargo xtask core-cost`: what each kind of input costs the control core, counted in instructions.
//!
//! Runs `levada bench core --counted` under valgrind's callgrind, with little and with much of each thing, and computes
//! by which power of it the count grows: instructions are the same on every machine, however busy. Not times, which
//! `levada bench core` measures. Called by hand. Invariant: what grows and is no exception is a failure, and so is an
//! exception that does not grow.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::process::{self, Ended};
use crate::{test, tree};

/// The greatest power by which the cost of an input may grow.
const POWER_MAX: f64 = 0.2;

/// What there is more and more of: its flag, and how much of it is little and much.
const THINGS: &[(&str, [u32; 2])] = &[
    ("links", [16, 240]),
    ("streams", [32, 4_096]),
    ("subscriptions", [8, 256]),
];
/// What there is of everything else.
const LITTLE: &[(&str, u32)] = &[("links", 16), ("streams", 32), ("subscriptions", 8)];

/// Inputs whose cost grows by more: with what, and why. It gets shorter.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("sequence", "links", "it is told to all neighbours"),
    ("announce", "links", "it is told to all neighbours"),
    ("route", "links", "it is told to all neighbours"),
    ("trunk down", "links", "it is told to all neighbours"),
    ("trunk down", "subscriptions", "each flow moves"),
];

/// The instructions of each kind of input.
type Counts = BTreeMap<String, u64>;

/// Counts, and compares. True if all is as it should be.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<bool> {
    crate::refuse_unknown(arguments, &[])?;
    anyhow::ensure!(
        process::find("valgrind").is_some(),
        "valgrind is missing: `apt-get install valgrind`"
    );
    let levada = test::release_binary()?;
    let folder = tree::root()?.join("target/core-cost");
    let mut problems = Vec::new();
    println!("input        grows with       instructions         power");
    for (thing, sizes) in THINGS {
        let [few, many] = sizes.map(|size| counts(&levada, &folder, thing, size));
        for line in lines(thing, *sizes, &few?, &many?) {
            println!("{}", line.shown);
            problems.extend(line.problem);
        }
    }
    for problem in &problems {
        println!("{problem}");
    }
    Ok(problems.is_empty())
}

/// Counts the instructions of one input of each kind.
fn counts(levada: &Path, folder: &Path, thing: &str, size: u32) -> anyhow::Result<Counts> {
    // What an earlier run left would be taken for a part of this one.
    if folder.exists() {
        std::fs::remove_dir_all(folder).context("cannot empty target/core-cost")?;
    }
    std::fs::create_dir_all(folder).context("cannot make target/core-cost")?;
    let mut command = Command::new("valgrind");
    command.args(["-q", "--tool=callgrind", "--collect-atstart=no"]);
    command.args([
        "--toggle-collect=*under_profile*",
        "--dump-after=*world::under_profile*",
    ]);
    let out = folder.join("out");
    command.arg(format!("--callgrind-out-file={}", out.display()));
    command
        .arg(levada)
        .args(["bench", "core", "--together", "--counted"]);
    for (other, little) in LITTLE {
        let size = if *other == thing { size } else { *little };
        command.arg(format!("--{other}={size}"));
    }
    let mut kinds = Vec::new();
    let ended = process::watch(&mut command, test::LIMIT, |line| {
        kinds.push(line.trim().to_owned())
    })?;
    let is_good = matches!(ended, Ended::Exited(status) if status.success());
    anyhow::ensure!(is_good, "`{}` failed", process::shown(&command));
    let mut counts = Counts::new();
    for (at, kind) in kinds.into_iter().enumerate() {
        let path = folder.join(format!("out.{}", at + 1));
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("callgrind did not write {}", path.display()))?;
        let total = total(&text).with_context(|| format!("{} has no total", path.display()))?;
        *counts.entry(kind).or_insert(0) += total;
    }
    Ok(counts)
}

/// The instructions of one part of a profile.
fn total(profile: &str) -> Option<u64> {
    let mut lines = profile.lines();
    let total = lines.find_map(|line| line.strip_prefix("totals:"))?;
    total.split_whitespace().next()?.parse().ok()
}

/// What is said of one kind of input.
struct Line {
    shown: String,
    problem: Option<String>,
}

fn lines(thing: &str, sizes: [u32; 2], few: &Counts, many: &Counts) -> Vec<Line> {
    let line = |(kind, &after): (&String, &u64)| {
        let before = few.get(kind).copied().unwrap_or(0).max(1);
        let power = power(sizes, [before, after]);
        let is_exception = |one: &&(&str, &str, &str)| one.0 == kind && one.1 == thing;
        let exception = EXCEPTIONS.iter().find(is_exception);
        let grows = power > POWER_MAX;
        let problem = match exception {
            None if grows => Some(format!(
                "`{kind}` costs more the more {thing} there are: {before} and {after} instructions with {} and {}",
                sizes[0], sizes[1]
            )),
            Some(_) if !grows => Some(format!(
                "`{kind}` does not grow with {thing} any more: take it off EXCEPTIONS in xtask/src/cost.rs"
            )),
            _ => None,
        };
        let why = exception.map_or(String::new(), |one| format!("  exception: {}", one.2));
        Line {
            shown: format!("{kind:<13}{thing:<14}{before:>12} {after:>12}{power:>10.2}{why}"),
            problem,
        }
    };
    many.iter().map(line).collect()
}

fn power(sizes: [u32; 2], counts: [u64; 2]) -> f64 {
    let ratio = |before: f64, after: f64| (after / before).ln();
    ratio(counts[0] as f64, counts[1] as f64) / ratio(f64::from(sizes[0]), f64::from(sizes[1]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn what_grows_is_a_problem_and_so_is_an_exception_that_does_not() {
        let counts = |count| Counts::from([("ping".to_owned(), count)]);
        let problem = |after| {
            let lines = lines("links", [10, 1_000], &counts(1_000), &counts(after));
            lines[0].problem.clone()
        };

        assert_eq!(problem(2_000), None);
        assert!(problem(3_000).unwrap().contains("1000 and 3000"));
    }

    #[test]
    fn a_profile_has_one_total_of_instructions() {
        let profile = "version: 1\nevents: Ir\n\nfn=(1) under_profile\n0 5\n\ntotals: 4711\n";

        assert_eq!(total(profile), Some(4_711));
        assert_eq!(total("version: 1\n"), None);
    }

    #[test]
    fn the_power_is_that_of_the_ratio_of_sizes() {
        assert!((power([10, 100], [7, 700]) - 2.0).abs() < 1e-9);
        assert!(power([10, 100], [7, 7]).abs() < 1e-9);
    }
}
