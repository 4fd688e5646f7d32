//! `levada bench local`: its flags and its table.
//!
//! Not the measuring (`levada_bench::local`). Called by `commands/bench.rs`. Invariant: what many subscribers cost the
//! lane stands beside what one does, in one line.

use std::time::Duration;

use anyhow::Context as _;
use levada::Bitrate;
use levada_bench::{Machine, local};

use super::{Common, REPEAT_MAX, seconds, show, spread};
use crate::table::{Align, Table};
use crate::units;

/// The most subscribers: beyond, their own work is all that is measured.
const SUBSCRIBERS_MAX: usize = 4_096;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many subscribers; several are measured one after the other
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,10,100,500",
        value_parser = units::whole(1..=SUBSCRIBERS_MAX), allow_hyphen_values = true)]
    subscribers: Vec<usize>,
    /// Rounds: in each one subscriber and each count are measured once
    #[arg(long, value_name = "N", default_value_t = 5,
        value_parser = units::whole(1..=REPEAT_MAX), allow_hyphen_values = true)]
    repeat: u32,
    /// How long each is measured in a round
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds, allow_hyphen_values = true)]
    seconds: Duration,
    #[command(flatten)]
    common: Common,
}

pub(super) fn execute(args: &Args) -> anyhow::Result<()> {
    let machine = Machine::begin();
    let rounds = usize::try_from(args.repeat).context("too many rounds")?;
    let mut reports = Vec::new();
    for &rate in &args.common.rate {
        reports.extend(local::measure(
            rate,
            &args.subscribers,
            rounds,
            args.seconds,
        )?);
    }
    show(args.common.json, &machine.end(), &reports, table, note)
}

fn table(reports: &[local::Report]) -> Table {
    let mut table = Table::new(&[
        ("SUBSCRIBERS", Align::Right),
        ("RATE", Align::Right),
        ("LANE US/BURST", Align::Right),
        ("ONE", Align::Right),
        ("BY ONE", Align::Right),
        ("LATE P50 US", Align::Right),
        ("P99 US", Align::Right),
        ("BURSTS", Align::Right),
    ]);
    for report in reports {
        table.row([
            report.subscribers.to_string(),
            Bitrate(report.rate_bps).to_string(),
            spread(&report.lane_us, 1),
            spread(&report.one_us, 1),
            spread(&report.times_one, 2),
            spread(&report.p50_us, 0),
            spread(&report.p99_us, 0),
            report.bursts.to_string(),
        ]);
    }
    table
}

fn note(report: &local::Report) -> Option<String> {
    let (missing, subscribers) = (report.missing_frames, report.subscribers);
    (missing > 0).then(|| {
        format!("warning: {missing} frames did not reach {subscribers} subscribers: they could not follow")
    })
}
