//! `cargo xtask sim-golden`: every simulator scenario does, seed by seed, what it did when the golden file was made.
//!
//! The file has the first 32 bits of each run's trace hash, which covers the bytes and the time of every datagram. A
//! change that is only a rearrangement keeps all of them; one that is meant to change behaviour is followed by
//! `--bless`, and the difference then stands in its commit. Not the comparison of debug and release, which is in
//! `seeds`. Called by hand, and by `test`, which counts it as one test. Invariant: a scenario without a line in the
//! file is a failure, and so is a line without its scenario.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::process::{self, Ended};
use crate::seeds::{self, FIRST};
use crate::{test, tree};

const FILE: &str = "crates/sim/scenarios/golden.txt";
/// The seeds of a scenario that is not the first one, which has [`seeds::COUNT`].
const SEEDS: u64 = 40;
/// Digits of a trace hash that are kept: enough to show a change, short enough to read in a diff.
const DIGITS: usize = 8;
const DIGITS_PER_LINE: usize = 12;

/// The traces of one scenario, from seed 1 on.
type Traces = Vec<String>;
type Golden = BTreeMap<String, Traces>;

/// Compares, or writes the file anew with `--bless`. True if all is as it was.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<bool> {
    crate::refuse_unknown(arguments, &["--bless"])?;
    let levada = test::release_binary()?;
    if arguments.is_empty() {
        return check(&levada);
    }
    let now = traces(&levada)?;
    std::fs::write(tree::root()?.join(FILE), written(&now))?;
    println!("{FILE} is written: say in the commit why traces changed");
    Ok(true)
}

/// Runs every scenario and compares.
pub(crate) fn check(levada: &Path) -> anyhow::Result<bool> {
    let path = tree::root()?.join(FILE);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {FILE}"))?;
    let golden = parsed(&text)?;
    let problems = differences(&golden, &traces(levada)?);
    for problem in &problems {
        println!("{problem}");
    }
    if problems.is_empty() {
        let runs: usize = golden.values().map(Vec::len).sum();
        println!("{runs} runs of {} scenarios: as in {FILE}", golden.len());
    } else {
        println!("if that is meant: cargo xtask sim-golden --bless, and say why in the commit");
    }
    Ok(problems.is_empty())
}

fn traces(levada: &Path) -> anyhow::Result<Golden> {
    let scenarios = seeds::scenarios()?;
    let of_one = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let count = if name == FIRST { seeds::COUNT } else { SEEDS };
        Ok((name.into_owned(), run_seeds(levada, path, count)?))
    };
    scenarios.iter().map(of_one).collect()
}

/// Runs a scenario with seeds from 1 on.
fn run_seeds(levada: &Path, scenario: &Path, count: u64) -> anyhow::Result<Traces> {
    let mut command = Command::new(levada);
    command.args(["sim", "run", "--json", "--seeds", &count.to_string()]);
    command.arg(scenario);
    println!("$ {}", process::shown(&command));
    let mut traces = BTreeMap::new();
    let mut strange = String::new();
    let ended = process::watch(&mut command, test::LIMIT, |line| {
        match seed_and_trace(line) {
            Some((seed, trace)) => drop(traces.insert(seed, trace)),
            None => strange.push_str(line),
        }
    })?;
    let is_good = matches!(ended, Ended::Exited(status) if status.success());
    anyhow::ensure!(
        is_good && traces.len() as u64 == count,
        "`{}` gives {} traces of {count}: {strange}",
        process::shown(&command),
        traces.len()
    );
    Ok(traces.into_values().collect())
}

/// What a line of `levada sim run --json` says, if it is a run that passed.
fn seed_and_trace(line: &str) -> Option<(u64, String)> {
    if field(line, "passed")? != "true" {
        return None;
    }
    let trace = field(line, "trace")?.trim_matches('"').get(..DIGITS)?;
    Some((field(line, "seed")?.parse().ok()?, trace.to_owned()))
}

/// The value of a field of a flat JSON object that has no comma in it.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("\"{name}\":"))?;
    let end = rest.find([',', '}'])?;
    Some(&rest[..end])
}

fn differences(golden: &Golden, now: &Golden) -> Vec<String> {
    let mut problems = Vec::new();
    for name in golden.keys().filter(|name| !now.contains_key(*name)) {
        problems.push(format!("{name} is in {FILE} and is no scenario"));
    }
    for (name, traces) in now {
        let Some(before) = golden.get(name) else {
            problems.push(format!("{name} is not in {FILE}"));
            continue;
        };
        if before.len() != traces.len() {
            problems.push(format!(
                "{name}: {} seeds were run, {FILE} has {}",
                traces.len(),
                before.len()
            ));
        }
        let differ = before
            .iter()
            .zip(traces)
            .enumerate()
            .filter(|(_, (a, b))| a != b);
        let seeds: Vec<usize> = differ.map(|(place, _)| place + 1).collect();
        if let Some(first) = seeds.first() {
            problems.push(format!(
                "{name}: {} seeds do something else, the first is {first}",
                seeds.len()
            ));
        }
    }
    problems
}

fn written(golden: &Golden) -> String {
    let mut text = format!(
        "# The first {DIGITS} digits of the trace hash of each seed, from 1 on: cargo xtask sim-golden\n"
    );
    for (name, traces) in golden {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}");
        for line in traces.chunks(DIGITS_PER_LINE) {
            let _ = writeln!(text, "  {}", line.join(" "));
        }
    }
    text
}

fn parsed(text: &str) -> anyhow::Result<Golden> {
    let mut golden = Golden::new();
    let mut name = None;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if line.starts_with(' ') {
            let traces = name.as_ref().and_then(|name| golden.get_mut(name));
            let traces: &mut Traces =
                traces.with_context(|| format!("{FILE}: `{line}` belongs to no scenario"))?;
            traces.extend(line.split_whitespace().map(str::to_owned));
        } else {
            name = Some(line.to_owned());
            golden.insert(line.to_owned(), Traces::new());
        }
    }
    Ok(golden)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn golden(runs: &[(&str, &[&str])]) -> Golden {
        let owned = |traces: &[&str]| traces.iter().map(|&trace| trace.to_owned()).collect();
        let all = runs
            .iter()
            .map(|&(name, traces)| (name.to_owned(), owned(traces)));
        all.collect()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let long = ["0123abcd"; 30];
        let made = golden(&[("a.toml", &long), ("b.toml", &["1", "2"])]);

        assert_eq!(parsed(&written(&made)).unwrap(), made);
        assert!(parsed("  0123abcd\n").is_err());
    }

    #[test]
    fn a_run_that_passed_has_a_seed_and_a_trace_and_another_line_has_none() {
        let passed = r#"{"seed":7,"passed":true,"trace":"0123456789abcdef","gaps":0}"#;

        assert_eq!(seed_and_trace(passed), Some((7, "01234567".to_owned())));
        assert_eq!(seed_and_trace(&passed.replace("true", "false")), None);
        assert_eq!(seed_and_trace("words"), None);
    }

    #[test]
    fn each_thing_that_differs_is_named() {
        let before = golden(&[("a.toml", &["1", "2", "3"]), ("gone.toml", &["1"])]);
        let now = golden(&[("a.toml", &["1", "x", "3"]), ("new.toml", &["1"])]);

        let problems = differences(&before, &now).join("\n");

        for expected in [
            "a.toml: 1 seeds",
            "the first is 2",
            "gone.toml is in",
            "new.toml is not in",
        ] {
            assert!(problems.contains(expected), "{problems}");
        }
        assert_eq!(differences(&before, &before), Vec::<String>::new());
        assert_eq!(
            differences(
                &golden(&[("a.toml", &["1"])]),
                &golden(&[("a.toml", &["1", "2"])])
            )
            .len(),
            1
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_binary_that_fails_or_says_no_trace_hash_proves_nothing() {
        for program in ["false", "echo"].map(Path::new) {
            assert!(check(program).is_err());
        }
    }
}
