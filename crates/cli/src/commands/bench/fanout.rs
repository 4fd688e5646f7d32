//! `levada bench fanout`: its flags and its table.
//!
//! Not the measuring (`bench/fanout.rs`). Called by `commands/bench.rs`. Invariant: a figure of the lane stands beside both
//! floors in one line.

use std::time::Duration;

use anyhow::Context as _;
use levada::Bitrate;

use super::{
    Common, EGRESSES_MAX, FLOWS_MAX, REPEAT_MAX, each_case, missing, per_cent, seconds, show,
    spread,
};
use crate::bench::contender::Task;
use crate::bench::cpu::Machine;
use crate::bench::fanout::{self, Case};
use crate::bench::origin::Camera;
use crate::bench::receivers::Kind;
use crate::table::{Align, Table, or_dash};
use crate::{say, units};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many egresses; several are measured one after the other
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "100",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(EGRESSES_MAX)))]
    pub(super) egresses: Vec<u32>,
    /// How many flows the lane carries, each to all egresses
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(FLOWS_MAX)))]
    pub(super) flows: u32,
    /// How long a frame waits at its origin for others to share its burst; publishers wait 10ms
    #[arg(long, value_name = "DURATION", default_value = "10ms", value_parser = units::duration)]
    pub(super) flush: Duration,
    /// How many lanes do it
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=levada_datapath::LANES_MAX as i64))]
    pub(super) lanes: u32,
    /// Rounds: in each the lane and both floors are measured once
    #[arg(long, value_name = "N", default_value_t = 7,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(REPEAT_MAX)))]
    pub(super) repeat: u32,
    /// How long each of the three is measured in a round
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = seconds)]
    pub(super) seconds: Duration,
    /// What the far ends are like
    #[arg(long, value_delimiter = ',', default_value = "gro,plain")]
    pub(super) receivers: Vec<Kind>,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn execute(args: &Args) -> anyhow::Result<()> {
    let machine = Machine::begin();
    let rounds = usize::try_from(args.repeat).context("too many rounds")?;
    let task = Task {
        flows: usize::try_from(args.flows).context("too many flows")?,
        lanes: usize::try_from(args.lanes).context("too many lanes")?,
    };
    let (reports, result) = each_case(&args.common.rate, &args.egresses, &args.receivers, |case| {
        let camera = Camera {
            flush_interval: args.flush,
            ..case.camera
        };
        let case = Case {
            task,
            camera,
            ..case
        };
        fanout::measure(case, rounds, args.seconds)
    });
    let lost = reports.iter().map(|report| report.missing_bytes).sum();
    if let Some(warning) = missing(lost) {
        say::note(warning);
    }
    show(args.common.json, &machine.end(), &reports, table, note)?;
    result
}

/// What several lanes do, which one lane's columns do not have.
fn note(report: &fanout::Report) -> Option<String> {
    (report.lanes > 1).then(|| {
        format!(
            "{} lanes, {}: {} Gbit by seconds of the busiest lane's processor, which is what goes through where each has \
             one to itself",
            report.lanes,
            report.receivers.name(),
            spread(&report.gbit_per_busiest_cpu_s_spread, 1),
        )
    })
}

fn table(reports: &[fanout::Report]) -> Table {
    let mut table = Table::new(&[
        ("EGRESSES", Align::Right),
        ("RATE", Align::Right),
        ("RECEIVERS", Align::Left),
        ("LANES", Align::Right),
        ("GBIT/CPU-S", Align::Right),
        ("RELAY FLOOR", Align::Right),
        ("OF IT", Align::Right),
        ("SEND FLOOR", Align::Right),
        ("OF IT", Align::Right),
        ("US/PACKET", Align::Right),
        ("PACKETS/SEND", Align::Right),
    ]);
    for report in reports {
        let sends = report.sends.filter(|&sends| sends > 0);
        let per_send = sends.map(|sends| report.packets as f64 / sends as f64);
        table.row([
            report.egresses.to_string(),
            Bitrate(report.rate_bps).to_string(),
            report.receivers.name().to_owned(),
            report.lanes.to_string(),
            spread(&report.gbit_per_cpu_s_spread, 1),
            spread(&report.floor_gbit_per_cpu_s_spread, 1),
            per_cent(&report.of_floor_spread),
            spread(&report.send_floor_gbit_per_cpu_s_spread, 1),
            per_cent(&report.of_send_floor_spread),
            format!("{:.2}", report.us_per_packet),
            or_dash(per_send.map(|count| format!("{count:.1}"))),
        ]);
    }
    table
}
