//! `levada sim run SCENARIO`: runs a simulated network with one seed or many.
//!
//! The simulator itself is `levada-sim`; here is its terminal. Invariant: of several seeds that fail, the smallest is
//! shown, so that the same command always says the same.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use levada_sim::{Failure, Options, Report, Sabotage, Scenario};

use crate::logging::{self, Level};
use crate::{say, units};

/// The largest scenario file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// How often progress is shown.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// Runs at once at most: each is single-threaded, and they share nothing.
const THREADS_MAX: usize = 8;
/// The most seeds of one call.
const SEEDS_MAX: u64 = 1_000_000;
/// The first seed, if none is named.
const SEED_DEFAULT: u64 = 1;

/// What can be done with simulated networks.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Run a scenario; says what went wrong, when, and how to see it again
    Run(Args),
}

/// What a run can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The scenario file (TOML), for example `crates/sim/scenarios/first.toml`
    scenario: PathBuf,
    /// The seed, or the first of several [default: 1]
    #[arg(long, value_name = "N", value_parser = units::whole(0..=u64::MAX), allow_hyphen_values = true)]
    seed: Option<u64>,
    /// Run this many seeds, as many at once as there are processors
    #[arg(long, value_name = "N", value_parser = units::whole(1..=SEEDS_MAX), allow_hyphen_values = true)]
    seeds: Option<u64>,
    /// Write a line for each event to this file
    #[arg(long, value_name = "FILE", conflicts_with = "seeds")]
    trace: Option<PathBuf>,
    /// Break a part on purpose, to see that it is noticed: `checker`, `machine` or `link`
    #[arg(long, value_name = "PART")]
    sabotage: Option<Sabotage>,
    /// Print one JSON object for each seed
    #[arg(long)]
    json: bool,
}

pub(crate) fn execute(command: Command, debug: bool) -> anyhow::Result<ExitCode> {
    logging::start(Level::Warn, debug)?;
    let Command::Run(args) = command;
    let scenario = read(&args)?;
    let failure = match args.seeds {
        None => run_one(&args, &scenario)?,
        Some(count) => run_many(&args, &scenario, count)?,
    };
    let Some(mut failure) = failure else {
        return Ok(ExitCode::SUCCESS);
    };
    failure.program = say::program();
    if args.json {
        say::result(failure_json(&failure))?;
    } else {
        say::result(&failure)?;
    }
    Ok(ExitCode::FAILURE)
}

fn read(args: &Args) -> anyhow::Result<Scenario> {
    let path = args.scenario.display().to_string();
    let cannot = || format!("cannot read the scenario {path}");
    let bytes = std::fs::metadata(&args.scenario)
        .with_context(cannot)?
        .len();
    anyhow::ensure!(
        bytes <= FILE_BYTES_MAX,
        "{path} is larger than 16 MiB, which no scenario is"
    );
    let text = std::fs::read_to_string(&args.scenario).with_context(cannot)?;
    Ok(Scenario::parse(&path, &text)?)
}

/// Runs one seed, and prints what it did.
fn run_one(args: &Args, scenario: &Scenario) -> anyhow::Result<Option<Box<Failure>>> {
    let seed = args.seed.unwrap_or(SEED_DEFAULT);
    let mut file = None;
    if let Some(path) = &args.trace {
        let made = File::create(path);
        let made = made.with_context(|| format!("cannot write the trace {}", path.display()))?;
        file = Some(BufWriter::new(made));
    }
    let options = Options {
        sabotage: args.sabotage,
        trace: file.as_mut().map(|file| file as &mut dyn std::io::Write),
    };
    let result = levada_sim::run_with(scenario, seed, options);
    if let Some(mut file) = file {
        file.flush().context("cannot write the trace")?;
    }
    match result {
        Err(failure) => Ok(Some(failure)),
        Ok(report) => {
            if args.json {
                say::result(report_json(&report))?;
            } else {
                say::print(&report)?;
            }
            Ok(None)
        }
    }
}

/// Runs several seeds at once, and prints one line for all.
fn run_many(args: &Args, scenario: &Scenario, count: u64) -> anyhow::Result<Option<Box<Failure>>> {
    let first = args.seed.unwrap_or(SEED_DEFAULT);
    let last = first
        .checked_add(count - 1)
        .context("there are no seeds beyond 2^64")?;
    let began = Instant::now();
    let mut progress = Progress::new(first, count);
    let mut failures = BTreeMap::new();
    let (mut events, mut simulated) = (0, Duration::ZERO);
    each_seed(scenario, args.sabotage, first..=last, |seed, result| {
        match result {
            Ok(report) => {
                events += report.events;
                simulated += report.duration;
                if args.json {
                    say::result(report_json(&report))?;
                }
            }
            Err(failure) => {
                failures.insert(seed, failure);
            }
        }
        progress.step();
        Ok(failures.is_empty())
    })?;
    progress.clear();
    if let Some((_, failure)) = failures.pop_first() {
        return Ok(Some(failure));
    }
    let took = began.elapsed();
    if !args.json {
        say::result(format_args!(
            "{count} seeds of {} passed: {events} events, {} s of virtual time in {:.1} s",
            scenario.path(),
            simulated.as_secs(),
            took.as_secs_f64(),
        ))?;
    }
    Ok(None)
}

/// Runs each seed on one of several threads, and hands what came of it to `take`, until that says false. Seeds are
/// begun in order, so when it does, every smaller one was begun and is waited for.
fn each_seed(
    scenario: &Scenario,
    sabotage: Option<Sabotage>,
    seeds: std::ops::RangeInclusive<u64>,
    mut take: impl FnMut(u64, Result<Report, Box<Failure>>) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let (first, count) = (*seeds.start(), seeds.end() - seeds.start());
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (sender, results) = mpsc::sync_channel(THREADS_MAX);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(THREADS_MAX) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at > count {
                        return;
                    }
                    let options = Options {
                        sabotage,
                        trace: None,
                    };
                    let result = levada_sim::run_with(scenario, first + at, options);
                    if sender.send((first + at, result)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut outcome = Ok(());
        for (seed, result) in results {
            match take(seed, result) {
                Ok(true) => {}
                // Begin no more; what was begun still comes.
                Ok(false) => next.store(count + 1, Ordering::Relaxed),
                Err(error) => {
                    next.store(count + 1, Ordering::Relaxed);
                    outcome = Err(error);
                }
            }
        }
        outcome
    })
}

/// How far several seeds have come, for whoever watches.
struct Progress {
    first: u64,
    count: u64,
    done: u64,
    shown: Instant,
    is_terminal: bool,
}

impl Progress {
    fn new(first: u64, count: u64) -> Self {
        Self {
            first,
            count,
            done: 0,
            shown: Instant::now(),
            is_terminal: std::io::stderr().is_terminal(),
        }
    }

    fn step(&mut self) {
        self.done += 1;
        if self.is_terminal && self.shown.elapsed() >= PROGRESS_EVERY {
            self.shown = Instant::now();
            let (first, done, count) = (self.first, self.done, self.count);
            let _ = write!(std::io::stderr(), "\r{done} of {count} seeds from {first} ");
        }
    }

    /// Takes the line away again.
    fn clear(&self) {
        if self.is_terminal {
            // To the line's start, and erase it (ECMA-48 8.3.41).
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn report_json(report: &Report) -> serde_json::Value {
    serde_json::json!({
        "seed": report.seed,
        "passed": true,
        "trace": report.trace.to_string(),
        "duration_us": micros(report.duration),
        "events": report.events,
        "datagrams": report.datagrams,
        "media_packets": report.media_packets,
        "media_bytes": report.media_bytes,
        "control_bytes": report.control_bytes,
        "connections": report.connections,
        "forged": report.forged,
        "frames_made": report.frames_made,
        "frames_delivered": report.frames_delivered,
        "gaps": report.gaps,
    })
}

fn failure_json(failure: &Failure) -> serde_json::Value {
    serde_json::json!({
        "seed": failure.seed,
        "passed": false,
        "trace": failure.trace.to_string(),
        "at_us": failure.at.as_micros(),
        "checker": failure.checker,
        "saw": failure.saw,
        "replay": failure.replay(),
    })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
