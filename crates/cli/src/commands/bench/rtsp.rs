//! `levada bench rtsp`: its flags and its table.
//!
//! Not the measuring (`levada_bench::rtsp`). Called by `commands/bench.rs`. Invariant: what the gateway pays stands
//! beside what the kernel alone pays, in one line.

use std::time::Duration;

use anyhow::Context as _;
use levada::Bitrate;
use levada_bench::Machine;
use levada_bench::rtsp::{self, Transport};

use super::{Common, REPEAT_MAX, flush, measure_each, per_cent, seconds, show, spread};
use crate::table::{Align, Table};
use crate::units;

/// The most readers: each is two to four sockets of this process, and systems allow 1,024 by default.
const READERS_MAX: usize = 4_096;
/// The most threads of a server.
const THREADS_MAX: usize = 8;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How the readers read; both are measured one after the other
    #[arg(long, value_delimiter = ',', default_value = "tcp,udp")]
    transport: Vec<Transport>,
    /// How many readers; several are measured one after the other
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "200,500",
        value_parser = units::whole(1..=READERS_MAX), allow_hyphen_values = true)]
    readers: Vec<usize>,
    /// How many threads the server has; several are measured one after the other
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1",
        value_parser = units::whole(1..=THREADS_MAX), allow_hyphen_values = true)]
    threads: Vec<usize>,
    /// How long the publisher's frames wait for others; readers have them as much later
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = flush, allow_hyphen_values = true)]
    flush: Duration,
    /// Rounds: in each the server and the floor are measured once
    #[arg(long, value_name = "N", default_value_t = 3,
        value_parser = units::whole(1..=REPEAT_MAX), allow_hyphen_values = true)]
    repeat: u32,
    /// How long each is measured in a round
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds, allow_hyphen_values = true)]
    seconds: Duration,
    #[command(flatten)]
    common: Common,
}

pub(super) fn execute(args: &Args) -> anyhow::Result<()> {
    let machine = Machine::begin();
    let rounds = usize::try_from(args.repeat).context("too many rounds")?;
    let mut cases = Vec::new();
    for &transport in &args.transport {
        for &rate in &args.common.rate {
            for &threads in &args.threads {
                cases.extend(args.readers.iter().map(|&readers| rtsp::Case {
                    transport,
                    rate,
                    readers,
                    threads,
                    flush_interval: args.flush,
                }));
            }
        }
    }
    let (reports, result) = measure_each(cases, |case| rtsp::measure(case, rounds, args.seconds));
    show(args.common.json, &machine.end(), &reports, table, note)?;
    result
}

fn table(reports: &[rtsp::Report]) -> Table {
    let mut table = Table::new(&[
        ("BY", Align::Left),
        ("READERS", Align::Right),
        ("RATE", Align::Right),
        ("THREADS", Align::Right),
        ("GBIT/CPU-S", Align::Right),
        ("FLOOR", Align::Right),
        ("OF FLOOR", Align::Right),
        ("BUSIEST", Align::Right),
        ("LATE P50 US", Align::Right),
        ("FLOOR", Align::Right),
        ("P99 US", Align::Right),
        ("FLOOR", Align::Right),
    ]);
    for report in reports {
        table.row([
            report.transport.name().to_owned(),
            report.readers.to_string(),
            Bitrate(report.rate_bps).to_string(),
            report.threads.to_string(),
            spread(&report.server_gbit_per_cpu_s, 2),
            spread(&report.floor_gbit_per_cpu_s, 2),
            per_cent(&report.of_floor),
            spread(&report.busiest_gbit_per_cpu_s, 2),
            spread(&report.p50_us, 0),
            spread(&report.floor_p50_us, 0),
            spread(&report.p99_us, 0),
            spread(&report.floor_p99_us, 0),
        ]);
    }
    table
}

fn note(report: &rtsp::Report) -> Option<String> {
    let (starved, readers) = (report.starved, report.readers);
    (starved > 0)
        .then(|| format!("warning: {starved} of {readers} readers got less than their part"))
}
