//! `levada bench fanout`: its flags and its table.
//!
//! Not the measuring (`levada-bench`). Called by `commands/bench.rs`. Invariant: a figure of the lane stands beside
//! both floors in one line.

use std::time::Duration;

use anyhow::Context as _;
use levada::Bitrate;
use levada_bench::fanout::{self, Case};
use levada_bench::{Kind, Machine};

use super::{
    Common, EGRESSES_MAX, FLOWS_MAX, LANES_MAX, REPEAT_MAX, cases, flush, measure_each, missing,
    per_cent, seconds, show, spread,
};
use crate::table::{Align, Table, or_dash};
use crate::{say, units};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Measure the set of the project's goals: 1, 4 and 20 Mb/s, 10 to 1000 egresses, and two lanes
    #[arg(long, conflicts_with_all = ["egresses", "flows", "flush", "lanes", "rate"])]
    matrix: bool,
    /// How many egresses; several are measured one after the other
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "100",
        value_parser = units::whole(1..=EGRESSES_MAX), allow_hyphen_values = true)]
    pub(super) egresses: Vec<u32>,
    /// How many flows the lane carries, each to all egresses
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = units::whole(1..=FLOWS_MAX), allow_hyphen_values = true)]
    pub(super) flows: u32,
    /// How long a frame waits at its origin for others to share its burst; publishers wait 10ms, and 1s is the most
    #[arg(long, value_name = "DURATION", default_value = "10ms", value_parser = flush, allow_hyphen_values = true)]
    pub(super) flush: Duration,
    /// How many lanes do it
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = units::whole(1..=LANES_MAX), allow_hyphen_values = true)]
    pub(super) lanes: usize,
    /// Rounds: in each the lane and both floors are measured once
    #[arg(long, value_name = "N", default_value_t = 7,
        value_parser = units::whole(1..=REPEAT_MAX), allow_hyphen_values = true)]
    pub(super) repeat: u32,
    /// How long each of the three is measured in a round
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = seconds, allow_hyphen_values = true)]
    pub(super) seconds: Duration,
    /// What the far ends are like
    #[arg(long, value_delimiter = ',', default_value = "gro,plain")]
    pub(super) receivers: Vec<Kind>,
    #[command(flatten)]
    pub(super) common: Common,
}

impl Args {
    /// What is to be measured.
    fn cases(&self) -> anyhow::Result<Vec<Case>> {
        if self.matrix {
            return Ok(fanout::goals(&self.receivers));
        }
        let mut cases = cases(&self.common.rate, &self.egresses, &self.receivers);
        for case in &mut cases {
            case.camera.flush_interval = self.flush;
            case.task.flows = usize::try_from(self.flows).context("too many flows")?;
            case.task.lanes = self.lanes;
        }
        Ok(cases)
    }
}

pub(super) fn execute(args: &Args) -> anyhow::Result<()> {
    let cases = args.cases()?;
    let machine = Machine::begin();
    let rounds = usize::try_from(args.repeat).context("too many rounds")?;
    let (reports, result) = measure_each(cases, |case| fanout::measure(case, rounds, args.seconds));
    let lost_at_load = |report: &fanout::Report| Some(report.at_load.as_ref()?.missing_bytes);
    let lost = reports
        .iter()
        .map(|report| report.missing_bytes + lost_at_load(report).unwrap_or(0))
        .sum();
    if let Some(warning) = missing(lost) {
        say::note(warning);
    }
    show(args.common.json, &machine.end(), &reports, table, note)?;
    if !args.common.json {
        for sentence in fanout::flatness(&reports) {
            say::result(sentence)?;
        }
    }
    result
}

/// What several lanes do, which one lane's columns do not have.
fn note(report: &fanout::Report) -> Option<String> {
    let scale = report.scale.as_ref()?;
    Some(format!(
        "{} lanes by one, {}: {} times the bits by seconds of the busiest lane's processor, which is what goes through \
         where each has one to itself (as many threads of the relay floor by one: {}), at {} of the efficiency ({})",
        report.lanes,
        report.receivers.name(),
        spread(&scale.throughput, 2),
        spread(&scale.floor_throughput, 2),
        per_cent(&scale.efficiency),
        per_cent(&scale.floor_efficiency),
    ))
}

/// Medians, and the spread of what they are of their floors: all other spreads are in the JSON, so that a line fits. At
/// 70% of its capacity a lane is held against the floor at the same traffic, and with paced egresses against itself.
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
        ("PER SEND", Align::Right),
        ("AT 70%", Align::Right),
        ("PACED", Align::Right),
    ]);
    for report in reports {
        let sends = report.sends.filter(|&sends| sends > 0);
        let per_send = sends.map(|sends| report.packets as f64 / sends as f64);
        let at_load = report.at_load.as_ref();
        table.row([
            report.egresses.to_string(),
            Bitrate(report.rate_bps).to_string(),
            report.receivers.name().to_owned(),
            report.lanes.to_string(),
            format!("{:.1}", report.gbit_per_cpu_s),
            format!("{:.1}", report.floor_gbit_per_cpu_s_spread.median),
            per_cent(&report.of_floor_spread),
            format!("{:.1}", report.send_floor_gbit_per_cpu_s_spread.median),
            per_cent(&report.of_send_floor_spread),
            format!("{:.2}", report.us_per_packet),
            or_dash(per_send.map(|count| format!("{count:.1}"))),
            or_dash(at_load.map(|at_load| per_cent(&at_load.of_floor))),
            or_dash(at_load.map(|at_load| format!("x{}", spread(&at_load.paced_cost, 2)))),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &str) -> Result<Args, String> {
        let words = std::iter::once("fanout").chain(words.split_whitespace());
        let line = Line::try_parse_from(words);
        line.map(|line| line.args)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_matrix_has_what_the_goals_speak_of_and_nothing_may_be_said_against_it() {
        let cases = parse("--matrix --receivers gro").unwrap().cases().unwrap();

        let has = |megabits: u64, egresses, lanes| {
            cases.iter().any(|case| {
                case.camera.rate == Bitrate(megabits * 1_000_000)
                    && case.egresses == egresses
                    && case.task.lanes == lanes
            })
        };
        for (megabits, egresses, lanes) in [
            (1, 100, 1),
            (4, 10, 1),
            (4, 100, 1),
            (4, 1_000, 1),
            (20, 100, 1),
            (4, 100, 2),
        ] {
            assert!(
                has(megabits, egresses, lanes),
                "{megabits} {egresses} {lanes}"
            );
        }
        assert!(cases.iter().all(|case| case.receivers == Kind::Gro));
        let error = parse("--matrix --rate 4Mb/s").unwrap_err();
        assert!(error.contains("cannot be used with"), "{error}");
    }

    #[test]
    fn without_the_matrix_every_rate_is_measured_at_every_count() {
        let words = "--rate 1Mb/s,4Mb/s --egresses 10,20 --flows 3 --lanes 2 --flush 0ms";

        let cases = parse(words).unwrap().cases().unwrap();

        assert_eq!(cases.len(), 2 * 2 * 2);
        for case in &cases {
            assert_eq!((case.task.flows, case.task.lanes), (3, 2));
            assert!(case.camera.flush_interval.is_zero());
        }
    }
}
