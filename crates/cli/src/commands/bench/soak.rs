//! `levada bench soak`: flags, the row of each sample, and the verdict.
//!
//! Not the soaking (`levada-bench`). Called by `commands/bench.rs`. Invariant: the exit code is not 0 if anything that
//! must not grow grew, or a ledger does not sum to zero.

use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use levada::Bitrate;
use levada_bench::Machine;
use levada_bench::soak::{self, Case, MIB, Report, Sample};

use super::{EGRESSES_MAX, FLOWS_MAX, LANES_MAX, per_cent, rate};
use crate::{say, units};

/// To how many egresses a flow goes unless it is said; to fewer if there are fewer.
const FANOUT_USUAL: u32 = 2;
/// The longest soak, in minutes: a day.
const MINUTES: std::ops::RangeInclusive<f64> = 0.01..=1_440.0;
/// How far apart samples may be, in seconds.
const EVERY: std::ops::RangeInclusive<u64> = 1..=600;

#[derive(Debug, clap::Args)]
pub(crate) struct Soak {
    /// How many flows the lanes carry
    #[arg(long, value_name = "N", default_value_t = 1_000,
        value_parser = units::whole(1..=FLOWS_MAX), allow_hyphen_values = true)]
    flows: u32,
    /// How many egresses there are, each with a socket of its own
    #[arg(long, value_name = "N", default_value_t = 1_000,
        value_parser = units::whole(1..=EGRESSES_MAX), allow_hyphen_values = true)]
    egresses: u32,
    /// To how many of them each flow goes [default: 2]
    #[arg(long, value_name = "N",
        value_parser = units::whole(1..=EGRESSES_MAX), allow_hyphen_values = true)]
    fanout: Option<u32>,
    /// The rate of each flow; without it, the one that loads a processor by 70%
    #[arg(long, value_parser = rate, allow_hyphen_values = true)]
    rate: Option<Bitrate>,
    /// How many lanes do it
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = units::whole(1..=LANES_MAX), allow_hyphen_values = true)]
    lanes: usize,
    /// How long
    #[arg(long, default_value = "10", value_parser = minutes, allow_hyphen_values = true)]
    minutes: Duration,
    /// Seconds between two samples
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
        value_parser = units::whole(EVERY), allow_hyphen_values = true)]
    every: u64,
    /// Print one JSON object for each sample, and one at the end
    #[arg(long)]
    json: bool,
}

/// A number of minutes.
fn minutes(text: &str) -> Result<Duration, String> {
    let (least, most) = MINUTES.into_inner();
    let minutes = text.parse::<f64>().ok();
    let minutes = minutes.filter(|minutes| MINUTES.contains(minutes));
    let cure = || format!("write a number of minutes from {least} to {most}, as in `10`");
    minutes
        .map(|minutes| Duration::from_secs_f64(minutes * 60.0))
        .ok_or_else(cure)
}

pub(super) fn execute(args: &Soak) -> anyhow::Result<ExitCode> {
    let machine = Machine::begin();
    let count = |count| usize::try_from(count).context("too many");
    if let Some(fanout) = args.fanout {
        anyhow::ensure!(
            fanout <= args.egresses,
            "`--fanout {fanout}` is more than the {} of `--egresses`: a flow goes to each at most once",
            args.egresses
        );
    }
    if args.rate.is_none() {
        say::note(
            "looking for the rate that loads a processor by 70%: up to some minutes; `--rate` spares it",
        );
    }
    let case = Case {
        flows: count(args.flows)?,
        egresses: count(args.egresses)?,
        fanout: count(args.fanout.unwrap_or(FANOUT_USUAL).min(args.egresses))?,
        rate: args.rate,
        lanes: args.lanes,
        long: args.minutes,
        every: Duration::from_secs(args.every),
    };
    let mut shown = Ok(());
    let report = soak::run(case, |sample| {
        if shown.is_ok() {
            shown = show(sample, args.json);
        }
    })?;
    shown?;
    let machine = machine.end();
    if args.json {
        let mut line = serde_json::to_value(&report)?;
        line["machine"] = serde_json::to_value(&machine)?;
        say::result(line)?;
    } else {
        say::result(format_args!("\n{machine}\n{}", verdict(&report)))?;
    }
    Ok(ExitCode::from(u8::from(!report.faults.is_empty())))
}

/// A sample as it is taken: a soak is long, and whoever waits wants to see it.
fn show(sample: &Sample, json: bool) -> anyhow::Result<()> {
    if json {
        say::result(serde_json::to_value(sample)?)?;
    } else {
        say::result(format_args!(
            "{:>7.0} s   memory {:>7.1} MiB   cached {:>6.1} MiB   load {:>3.0}%   {:>6.0} Mb/s   ledgers {}   dropped \
             {}   unsent {}",
            sample.seconds,
            sample.rss_bytes as f64 / MIB,
            sample.cached_bytes as f64 / MIB,
            sample.load * 100.0,
            sample.mbit_per_s_sent,
            if sample.ledgers_are_zero {
                "zero"
            } else {
                "OFF"
            },
            sample.dropped,
            sample.unsent,
        ))?;
    }
    Ok(())
}

/// `1 lane`, `2 egresses`.
fn counted<N: Display + PartialEq + From<u8>>(count: N, what: &str) -> String {
    let end = match (count == N::from(1), what.ends_with('s')) {
        (true, _) => "",
        (false, true) => "es",
        (false, false) => "s",
    };
    format!("{count} {what}{end}")
}

fn verdict(report: &Report) -> String {
    let mib = |bytes: u64| bytes as f64 / MIB;
    let faults = if report.faults.is_empty() {
        "nothing grew that must not, and both ledgers sum to zero".to_owned()
    } else {
        report.faults.join("; ")
    };
    format!(
        "{} of {}, each to {} of {}, {}, {:.0} s at a load of {}\n\
         memory of the lanes {:.1} MiB (of at most {:.1}), of which the caches count {:.1} \
         (of at most {:.1}); of feed and receivers {:.1} MiB\n\
         from the first third to the last: memory {:+.1} MiB, cached {:+.1} MiB; the feed stalled {}\n{faults}",
        counted(report.flows, "flow"),
        Bitrate(report.rate_bps),
        report.fanout,
        counted(report.egresses, "egress"),
        counted(report.lanes, "lane"),
        report.seconds,
        per_cent(&report.load),
        mib(report.lanes_rss_bytes),
        mib(report.lanes_rss_bytes_max),
        mib(report.cached_bytes),
        mib(report.cache_bytes_max),
        mib(report.feed_rss_bytes),
        report.rss_growth_bytes as f64 / MIB,
        report.cached_growth_bytes as f64 / MIB,
        counted(report.stalls, "time"),
    )
}
