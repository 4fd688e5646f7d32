//! `levada bench core | fanout | hop | join | local | loss | micro | rtsp | soak | views`: what a node does on this
//! machine, each figure beside its floor.
//!
//! Not the measuring (`levada-bench`): flags, tables, JSON. Invariant: each command ends by itself, and what is printed
//! for people is a part of what `--json` has.

use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use levada::Bitrate;
use levada_bench::fanout::Case;
use levada_bench::{Camera, Kind, Machine, RATE_MAX, RATE_MIN, Spread, Task, hop, join, micro};
use serde::Serialize;

use crate::logging::{self, Level};
use crate::table::{Align, Table};
use crate::{say, units};

mod core;
mod fanout;
mod local;
mod loss;
mod rtsp;
mod soak;
mod views;

/// The most egresses that may be asked for: a lane's own limit shows before it.
const EGRESSES_MAX: u32 = 10_000;
/// The most flows: a lane's own limit shows before it.
const FLOWS_MAX: u32 = 10_000;
/// The most lanes: as many as a node has.
const LANES_MAX: usize = levada_ports::LANES_MAX;
/// The most repetitions.
const REPEAT_MAX: u32 = 1_000;
/// The longest that frames wait for others at their origin.
const FLUSH_MAX: Duration = Duration::from_secs(1);
/// How long one measurement may last, in seconds.
const SECONDS: std::ops::RangeInclusive<f64> = 0.01..=60.0;

/// What can be measured.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// What one input costs the core, by how many links, streams and subscriptions there are
    Core(core::Args),
    /// How many bits a lane sends to many egresses for each second of its processor
    Fanout(fanout::Args),
    /// How much later packets are because they went through one node at 70% load
    Hop(Hop),
    /// How soon a newcomer has the first whole frame of a flow that is carried already
    Join(Join),
    /// What a lane does for many local subscribers of one flow, beside one, and how late they have each frame
    Local(local::Args),
    /// What arrives over hops that lose datagrams; without a flag about the path, the set of the project's goals
    Loss(loss::Args),
    /// What each step of a packet's way costs by itself, in memory
    Micro(Micro),
    /// What the RTSP gateway pays for many readers of one stream, beside the kernel alone, and how late they have it
    Rtsp(rtsp::Args),
    /// Whether anything grows when many flows go on for long
    Soak(soak::Soak),
    /// How long the core of a node with many links and flows is held by whoever looks at its rows
    Views(views::Args),
}

/// Flags of all measurements of streams.
#[derive(Debug, clap::Args)]
struct Common {
    /// The stream's rate; several are measured one after the other
    #[arg(long, value_delimiter = ',', default_value = "4Mb/s", value_parser = rate, allow_hyphen_values = true)]
    rate: Vec<Bitrate>,
    /// Print one JSON object for each line of the table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Hop {
    /// How many egresses; several are measured one after the other
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "8,100",
        value_parser = units::whole(1..=EGRESSES_MAX), allow_hyphen_values = true)]
    egresses: Vec<u32>,
    /// How many flows the lane carries, each to all egresses; without it as many as make 70% load
    #[arg(long, value_name = "N", value_parser = units::whole(1..=FLOWS_MAX), allow_hyphen_values = true)]
    flows: Option<u32>,
    /// Rounds: in each the lane and the floor are measured once
    #[arg(long, value_name = "N", default_value_t = 5,
        value_parser = units::whole(1..=REPEAT_MAX), allow_hyphen_values = true)]
    repeat: u32,
    /// How long each of the two is measured in a round
    #[arg(long, value_name = "SECONDS", default_value = "0.6", value_parser = seconds, allow_hyphen_values = true)]
    seconds: Duration,
    /// What the far ends are like; plain ones take more of a processor than the lane does
    #[arg(long, value_delimiter = ',', default_value = "gro")]
    receivers: Vec<Kind>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Join {
    /// How many newcomers of each kind, one after the other
    #[arg(long, value_name = "N", default_value_t = 200,
        value_parser = units::whole(1..=REPEAT_MAX), allow_hyphen_values = true)]
    repeat: u32,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Micro {
    /// Rounds: in each every step is measured once
    #[arg(long, value_name = "N", default_value_t = 41,
        value_parser = units::whole(1..=REPEAT_MAX), allow_hyphen_values = true)]
    repeat: u32,
    /// Print one JSON object for each line of the table
    #[arg(long)]
    json: bool,
}

/// A rate that traffic can be made of.
fn rate(text: &str) -> Result<Bitrate, String> {
    let rate = units::bitrate(text)?;
    if !(RATE_MIN.0..=RATE_MAX.0).contains(&rate.0) {
        return Err("a stream is measured at 64kb/s to 400Mb/s".to_owned());
    }
    Ok(rate)
}

/// How long frames may wait for others.
fn flush(text: &str) -> Result<Duration, String> {
    let flush = units::duration(text)?;
    if flush > FLUSH_MAX {
        return Err("a frame that waits so long is late: write up to 1s".to_owned());
    }
    Ok(flush)
}

/// A number of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let (least, most) = SECONDS.into_inner();
    let seconds = text.strip_suffix('s').unwrap_or(text).parse::<f64>();
    let seconds = seconds.ok().filter(|seconds| SECONDS.contains(seconds));
    let cure = || format!("write a number of seconds from {least} to {most}, as in `0.5`");
    seconds.map(Duration::from_secs_f64).ok_or_else(cure)
}

pub(crate) fn execute(command: Command, debug: bool) -> anyhow::Result<ExitCode> {
    logging::start(Level::Warn, debug)?;
    match command {
        Command::Core(args) => core::execute(&args),
        Command::Fanout(args) => fanout::execute(&args),
        Command::Hop(args) => hops(&args),
        Command::Join(args) => joins(&args),
        Command::Local(args) => local::execute(&args),
        Command::Loss(args) => loss::execute(&args),
        Command::Micro(args) => micros(&args),
        Command::Rtsp(args) => rtsp::execute(&args),
        Command::Soak(args) => return soak::execute(&args),
        Command::Views(args) => views::execute(&args),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// What was measured, and the first error of what could not be.
type Measured<R> = (Vec<R>, anyhow::Result<()>);

/// All cases that the flags name.
fn cases(rates: &[Bitrate], egresses: &[u32], receivers: &[Kind]) -> Vec<Case> {
    let mut cases = Vec::new();
    for &rate in rates {
        for &egresses in egresses {
            cases.extend(receivers.iter().map(|&receivers| Case {
                egresses: usize::try_from(egresses).expect("at most 10,000"),
                camera: Camera::usual(rate),
                receivers,
                task: Task { flows: 1, lanes: 1 },
            }));
        }
    }
    cases
}

/// Measures all cases. One that fails does not take the others with it.
fn measure_each<C, R>(
    cases: impl IntoIterator<Item = C>,
    measure: impl Fn(C) -> anyhow::Result<R>,
) -> Measured<R> {
    let (mut reports, mut result) = (Vec::new(), Ok(()));
    for case in cases {
        match measure(case) {
            Ok(report) => reports.push(report),
            Err(error) => result = result.and(Err(error)),
        }
    }
    (reports, result)
}

/// Says what was measured: JSON by the line, or the machine, a table, and what does not fit in one.
fn show<R: Serialize, T: Display>(
    json: bool,
    machine: &Machine,
    reports: &[R],
    table: impl Fn(&[R]) -> T,
    note: impl Fn(&R) -> Option<String>,
) -> anyhow::Result<()> {
    if reports.is_empty() {
        return Ok(());
    }
    if json {
        for report in reports {
            let mut line = serde_json::to_value(report)?;
            line["machine"] = serde_json::to_value(machine)?;
            say::result(line)?;
        }
    } else {
        say::result(format_args!("{machine}\n"))?;
        say::print(table(reports))?;
        for note in reports.iter().filter_map(note) {
            say::result(note)?;
        }
    }
    Ok(())
}

fn missing(bytes: u64) -> Option<String> {
    (bytes > 0).then(|| {
        format!(
            "warning: {bytes} bytes did not arrive: the receivers could not follow, and the figures are too low or too \
             high"
        )
    })
}

/// A median and what it lies between.
fn spread(spread: &Spread, digits: usize) -> String {
    let Spread { median, min, max } = spread;
    // `-23 (-25--20)` reads badly.
    let to = if *min < 0.0 { " to " } else { "-" };
    format!("{median:.digits$} ({min:.digits$}{to}{max:.digits$})")
}

fn per_cent(of: &Spread) -> String {
    let [median, min, max] = [of.median, of.min, of.max].map(|share| share * 100.0);
    format!("{median:.0}% ({min:.0}-{max:.0})")
}

fn hops(args: &Hop) -> anyhow::Result<()> {
    let machine = Machine::begin();
    let rounds = usize::try_from(args.repeat).context("too many rounds")?;
    let flows = args.flows.map(usize::try_from).transpose();
    let flows = flows.context("too many flows")?;
    let cases = cases(&args.common.rate, &args.egresses, &args.receivers);
    let (reports, result) = measure_each(cases, |case| {
        hop::measure(case, flows, rounds, args.seconds)
    });
    show(
        args.common.json,
        &machine.end(),
        &reports,
        hop_tables,
        |report| Some(hop_goal(report)),
    )?;
    result
}

/// How late all packets were, and below it the last of each run: side by side they are wider than a terminal.
fn hop_tables(reports: &[hop::Report]) -> String {
    format!("{}\n{}", hop_table(reports), last_table(reports))
}

fn hop_table(reports: &[hop::Report]) -> Table {
    let mut table = Table::new(&[
        ("EGRESSES", Align::Right),
        ("RATE", Align::Right),
        ("FLOWS", Align::Right),
        ("RECEIVERS", Align::Left),
        ("WHO", Align::Left),
        ("LOAD", Align::Right),
        ("WAITED", Align::Right),
        ("P50 US", Align::Right),
        ("P99 US", Align::Right),
    ]);
    for report in reports {
        for (who, late) in [("lane", &report.lane), ("relay floor", &report.floor)] {
            table.row([
                report.egresses.to_string(),
                Bitrate(report.rate_bps).to_string(),
                report.flows.to_string(),
                report.receivers.name().to_owned(),
                who.to_owned(),
                format!("{:.0}%", late.load.median * 100.0),
                format!("{:.1}%", late.kept_waiting.median * 100.0),
                spread(&late.p50_us, 0),
                spread(&late.p99_us, 0),
            ]);
        }
    }
    table
}

fn last_table(reports: &[hop::Report]) -> Table {
    let mut table = Table::new(&[
        ("EGRESSES", Align::Right),
        ("RECEIVERS", Align::Left),
        ("WHO", Align::Left),
        ("LAST P50 US", Align::Right),
        ("LAST P99 US", Align::Right),
        ("ACROSS P50 US", Align::Right),
        ("ACROSS P99 US", Align::Right),
    ]);
    for report in reports {
        for (who, late) in [("lane", &report.lane), ("relay floor", &report.floor)] {
            table.row([
                report.egresses.to_string(),
                report.receivers.name().to_owned(),
                who.to_owned(),
                spread(&late.last_p50_us, 0),
                spread(&late.last_p99_us, 0),
                spread(&late.across_p50_us, 0),
                spread(&late.across_p99_us, 0),
            ]);
        }
    }
    table
}

fn hop_goal(report: &hop::Report) -> String {
    format!(
        "{} egresses ({}): N x c x 1.5 is {:.0} us; within it are, from a run's first egress to its last, {:.1}% of \
         runs, from the origin on {:.1}%; {} rounds, and {} disturbed ones that do not count",
        report.egresses,
        report.receivers.name(),
        report.last_goal_us,
        report.across_within_goal * 100.0,
        report.last_within_goal * 100.0,
        report.rounds,
        report.disturbed,
    )
}

fn joins(args: &Join) -> anyhow::Result<()> {
    let machine = Machine::begin();
    let count = usize::try_from(args.repeat).context("too many newcomers")?;
    let mut reports = Vec::new();
    for &rate in &args.common.rate {
        reports.extend(join::measure(rate, count)?);
    }
    show(
        args.common.json,
        &machine.end(),
        &reports,
        join_table,
        |_| None,
    )
}

fn join_table(reports: &[join::Report]) -> Table {
    let mut table = Table::new(&[
        ("NEWCOMER", Align::Left),
        ("RATE", Align::Right),
        ("WHO", Align::Left),
        ("P50 US", Align::Right),
        ("P99 US", Align::Right),
        ("MAX US", Align::Right),
        ("JOINS", Align::Right),
    ]);
    for report in reports {
        for (who, took) in [("lane", &report.lane), ("floor", &report.floor)] {
            table.row([
                report.newcomer.to_owned(),
                Bitrate(report.rate_bps).to_string(),
                who.to_owned(),
                format!("{:.0}", took.p50_us),
                format!("{:.0}", took.p99_us),
                format!("{:.0}", took.max_us),
                report.joins.to_string(),
            ]);
        }
    }
    table
}

fn micros(args: &Micro) -> anyhow::Result<()> {
    let machine = Machine::begin();
    let rounds = usize::try_from(args.repeat).context("too many rounds")?;
    let rows = micro::measure(rounds)?;
    show(args.json, &machine.end(), &rows, micro_table, |_| None)
}

fn micro_table(rows: &[micro::Row]) -> Table {
    let mut table = Table::new(&[
        ("STEP", Align::Left),
        ("NS/PACKET", Align::Right),
        ("BY COPIES", Align::Right),
    ]);
    for row in rows {
        table.row([
            row.step.to_owned(),
            spread(&row.ns_per_packet_spread, 0),
            format!("{:.1}", row.times_copy),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }

    fn parse(words: &str) -> Result<Command, String> {
        let words = std::iter::once("bench").chain(words.split(' '));
        let line = Line::try_parse_from(words);
        line.map(|line| line.command)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn lists_of_egresses_rates_and_receivers_are_taken() {
        let words = "fanout --egresses 10,100 --rate 1Mb/s,20Mb/s --receivers plain --seconds 0.1";

        let command = parse(words);

        assert!(
            matches!(&command, Ok(Command::Fanout(args))
                if args.egresses == [10, 100]
                    && args.common.rate == [Bitrate(1_000_000), Bitrate(20_000_000)]
                    && args.receivers == [Kind::Plain]
                    && args.seconds == Duration::from_millis(100)),
            "{command:?}"
        );
    }

    #[test]
    fn what_cannot_be_measured_is_refused_with_the_cure() {
        for (words, cure) in [
            ("core --links 7", "from 8 to 1000000"),
            ("core --counted", "--together"),
            ("fanout --egresses 0", "from 1 to 10000"),
            ("fanout --egresses -1", "from 1 to 10000"),
            ("fanout --lanes two", "from 1 to 8"),
            ("fanout --flush 1h", "up to 1s"),
            ("soak --rate -5Mb/s", "as in `4Mb/s`"),
            ("fanout --rate 4", "say the unit"),
            ("fanout --rate 1Gb/s", "64kb/s to 400Mb/s"),
            ("hop --receivers tcp", "gro, plain"),
            ("hop --seconds 0", "0.01 to 60"),
            ("join --repeat 0", "from 1 to 1000"),
            ("loss --loss 2", "`2%`"),
            ("lost", "unrecognized subcommand"),
        ] {
            let error = parse(words).expect_err(words);
            assert!(error.contains(cure), "{words}: {error}");
        }
    }

    #[test]
    fn a_spread_is_shown_with_its_ends() {
        let values = Spread {
            median: 0.987,
            min: 0.9,
            max: 1.02,
        };

        assert_eq!(spread(&values, 2), "0.99 (0.90-1.02)");
        let below = Spread {
            min: -0.5,
            ..values
        };
        assert_eq!(spread(&below, 1), "1.0 (-0.5 to 1.0)");
        assert_eq!(per_cent(&values), "99% (90-102)");
        assert_eq!(missing(0), None);
    }
}
