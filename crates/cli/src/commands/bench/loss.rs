//! `levada bench loss`: its flags and its tables.
//!
//! Not the measuring (`levada-bench`). Called by `commands/bench.rs`. Invariant: without a flag that says what a path
//! is like, the set of the project's goals is measured; with one, that case alone.

use std::fmt::Write as _;
use std::time::Duration;

use levada::Bitrate;
use levada_bench::loss::{self, Case, End, Late, Report};
use levada_bench::{
    HELD_BACK_MAX, HOPS_MAX, Impairment, Machine, OUTAGE_EVERY, OUTAGE_FIRST, SYNC_FACTOR,
    SYNC_FACTOR_MAX,
};

use super::{measure_each, seconds, show};
use crate::table::{Align, Table, or_dash};
use crate::{say, units};

/// What is measured unless something else is said.
const RTT_USUAL: Duration = Duration::from_millis(40);
const RATE_USUAL: Bitrate = Bitrate(8_000_000);
const QUEUE_USUAL: usize = 32_000;
const BUDGET_USUAL: Duration = Duration::from_millis(400);
/// The longest way there and back: beyond, lanes take no answer for one.
const RTT_MAX: Duration = Duration::from_secs(2);
/// The most by which datagrams differ.
const JITTER_MAX: Duration = Duration::from_millis(500);
/// The longest budget, which caches keep packets for.
const BUDGET_MAX: Duration = Duration::from_secs(5);
/// The highest share of datagrams of which something may become.
const SHARE_MAX: f64 = 0.5;
/// The longest bursts in the mean.
const BURST_MAX: f64 = 100.0;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many hops, each with a path of its own [default: 1]
    #[arg(long, value_name = "N",
        value_parser = units::whole(1..=HOPS_MAX), allow_hyphen_values = true)]
    hops: Option<usize>,
    /// The stream's rate [default: 8Mb/s]
    #[arg(long, value_parser = rate, allow_hyphen_values = true)]
    rate: Option<Bitrate>,
    /// The share of datagrams that each hop loses, in either direction; `0%` for none [default: 10%, or 0% with
    /// --path-rate]
    #[arg(long, value_name = "SHARE", value_parser = share, allow_hyphen_values = true)]
    loss: Option<f64>,
    /// Have losses come in bursts of so many datagrams in the mean, 4 if no number is given
    #[arg(long, value_name = "DATAGRAMS", num_args = 0..=1, default_missing_value = "4", value_parser = burst)]
    bursts: Option<f64>,
    /// How long each hop takes there and back [default: 40ms]
    #[arg(long, value_name = "DURATION", value_parser = units::duration, allow_hyphen_values = true)]
    rtt: Option<Duration>,
    /// How much longer a datagram takes on its way at most, each by chance, so that they overtake each other
    #[arg(long, value_name = "DURATION", value_parser = units::duration, allow_hyphen_values = true)]
    jitter: Option<Duration>,
    /// The share of datagrams that are held back for up to 10ms so that others overtake them, 2% if none is given
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_missing_value = "2%", value_parser = share)]
    reorder: Option<f64>,
    /// The share of datagrams that come twice, 2% if none is given
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_missing_value = "2%", value_parser = share)]
    duplicate: Option<f64>,
    /// How long nothing passes: after a second, and then every two seconds
    #[arg(long, value_name = "DURATION", value_parser = units::duration, allow_hyphen_values = true)]
    outage: Option<Duration>,
    /// What each hop carries, in either direction; without it there is no limit
    #[arg(long, value_name = "RATE", value_parser = super::rate, allow_hyphen_values = true)]
    path_rate: Option<Bitrate>,
    /// How many bytes may wait before a hop that has a rate, with IPv4 and UDP headers [default: 32000]
    #[arg(long, value_name = "BYTES", value_parser = units::whole(1_500..=10_000_000_usize),
        allow_hyphen_values = true)]
    queue: Option<usize>,
    /// How many times as large as the others the first picture of each second is [default: 5]
    #[arg(long, value_name = "N", value_parser = units::whole(1..=SYNC_FACTOR_MAX), allow_hyphen_values = true)]
    sync_factor: Option<u64>,
    /// How late a packet may be, over all hops: the time in which it is repaired [default: 400ms]
    #[arg(long, value_name = "DURATION", value_parser = units::duration, allow_hyphen_values = true)]
    budget: Option<Duration>,
    /// How long the stream is
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = seconds, allow_hyphen_values = true)]
    seconds: Duration,
    /// From what all chance is drawn; each case is measured with several, one after the other
    #[arg(long, value_name = "NUMBER", value_delimiter = ',', default_value = "1",
        value_parser = units::whole(0..=u64::MAX), allow_hyphen_values = true)]
    seed: Vec<u64>,
    /// Print one JSON object for each case
    #[arg(long)]
    json: bool,
}

/// A rate that several lanes on one machine carry evenly.
fn rate(text: &str) -> Result<Bitrate, String> {
    let rate = super::rate(text)?;
    if rate > loss::RATE_MAX {
        return Err("loss is measured at up to 50Mb/s".to_owned());
    }
    Ok(rate)
}

fn share(text: &str) -> Result<f64, String> {
    let share = units::share(text)?;
    if share > SHARE_MAX {
        return Err("that is more than half of all datagrams: write up to 50%".to_owned());
    }
    Ok(share)
}

fn burst(text: &str) -> Result<f64, String> {
    let mean = text.parse::<f64>().ok();
    let mean = mean.filter(|mean| (1.0..=BURST_MAX).contains(mean));
    mean.ok_or_else(|| format!("write a number of datagrams from 1 to {BURST_MAX}, as in `4`"))
}

impl Args {
    /// What is to be measured.
    fn cases(&self) -> anyhow::Result<Vec<Case>> {
        if self.is_unsaid() {
            let of_seed = |&seed: &u64| loss::goals(self.seconds, seed);
            return Ok(self.seed.iter().flat_map(of_seed).collect());
        }
        let case = self.case()?;
        let seeds = self.seed.iter();
        Ok(seeds.map(|&seed| Case { seed, ..case }).collect())
    }

    /// The one case that the flags describe.
    fn case(&self) -> anyhow::Result<Case> {
        let rtt = self.rtt.unwrap_or(RTT_USUAL);
        let budget = self.budget.unwrap_or(BUDGET_USUAL);
        let (outage, jitter) = (
            self.outage.unwrap_or_default(),
            self.jitter.unwrap_or_default(),
        );
        let usual_loss = if self.path_rate.is_some() { 0.0 } else { 0.1 };
        let loss = self.loss.unwrap_or(usual_loss);
        anyhow::ensure!(
            rtt <= RTT_MAX,
            "`--rtt` is at most {RTT_MAX:?}: farther than around the world nobody is asked again"
        );
        anyhow::ensure!(
            budget > Duration::ZERO && budget <= BUDGET_MAX,
            "`--budget` is more than nothing and at most {BUDGET_MAX:?}: what is repaired must be in a cache"
        );
        anyhow::ensure!(
            jitter <= JITTER_MAX,
            "`--jitter` is at most {JITTER_MAX:?}: no path varies by more"
        );
        anyhow::ensure!(
            outage < OUTAGE_EVERY,
            "`--outage` is shorter than {OUTAGE_EVERY:?}, after which the next one begins"
        );
        anyhow::ensure!(
            outage.is_zero() || self.seconds > OUTAGE_FIRST,
            "the first outage begins after {OUTAGE_FIRST:?}: ask for more `--seconds`"
        );
        anyhow::ensure!(
            self.queue.is_none() || self.path_rate.is_some(),
            "`--queue` is before a path that has a rate: say `--path-rate` too"
        );
        anyhow::ensure!(
            self.path_rate
                .is_none_or(|path| path > self.rate.unwrap_or(RATE_USUAL)),
            "`--path-rate` is more than the stream's `--rate`: a path that is too narrow loses whatever is done"
        );
        anyhow::ensure!(
            self.bursts.is_none() || loss > 0.0,
            "`--bursts` says how losses come, and `--loss 0%` that there are none: leave one out"
        );
        Ok(Case {
            hops: self.hops.unwrap_or(1),
            rate: self.rate.unwrap_or(RATE_USUAL),
            impairment: Impairment {
                delay: rtt / 2,
                jitter,
                loss,
                burst: self.bursts.unwrap_or(0.0),
                reorder: self.reorder.unwrap_or(0.0),
                duplicate: self.duplicate.unwrap_or(0.0),
                outage,
                rate: self.path_rate,
                queue_bytes: self.queue.unwrap_or(QUEUE_USUAL),
            },
            sync_factor: self.sync_factor.unwrap_or(SYNC_FACTOR),
            budget,
            long: self.seconds,
            seed: 0,
        })
    }

    /// Whether no flag says what is to be measured.
    fn is_unsaid(&self) -> bool {
        let shares = [self.loss, self.bursts, self.reorder, self.duplicate];
        let times = [self.rtt, self.jitter, self.outage, self.budget];
        shares.iter().all(Option::is_none)
            && times.iter().all(Option::is_none)
            && self.hops.is_none()
            && self.rate.is_none()
            && self.path_rate.is_none()
            && self.queue.is_none()
            && self.sync_factor.is_none()
    }
}

pub(super) fn execute(args: &Args) -> anyhow::Result<()> {
    let cases = args.cases()?;
    let machine = Machine::begin();
    let count = cases.len();
    let (reports, result) = measure_each(cases.into_iter().enumerate(), |(place, case)| {
        if count > 1 {
            say::note(format_args!("case {} of {count}", place + 1));
        }
        loss::measure(case)
    });
    let machine = machine.end();
    show(args.json, &machine, &reports, hop_tables, |_| None)?;
    if !args.json && !reports.is_empty() {
        say::result("")?;
        say::print(end_table(&reports))?;
    }
    for (place, report) in reports.iter().enumerate() {
        for (who, end) in ends(report) {
            if let Some(contradiction) = &end.contradiction {
                say::note(format_args!(
                    "warning: do not trust case {}: of the {who} {contradiction}",
                    place + 1
                ));
            }
        }
    }
    result
}

fn ends(report: &Report) -> [(&'static str, &End); 3] {
    [
        ("lane", &report.end),
        ("floor", &report.floor),
        ("control", &report.control),
    ]
}

/// A case in a few words.
fn about(report: &Report) -> String {
    let percent = |share: f64| format!("{:.0}%", share * 100.0);
    let mut words = vec![
        Bitrate(report.rate_bps).to_string(),
        format!("{:.0} ms RTT", report.rtt_ms),
    ];
    if report.jitter_ms > 0.0 {
        words.push(format!("up to {:.0} ms more", report.jitter_ms));
    }
    if report.loss > 0.0 {
        let mut loss = format!("{} lost", percent(report.loss));
        if report.burst > 0.0 {
            loss = format!("{loss} in bursts of {:.0}", report.burst);
        }
        words.push(loss);
    }
    if report.reorder > 0.0 {
        let most = HELD_BACK_MAX.as_millis();
        words.push(format!("{} up to {most} ms late", percent(report.reorder)));
    }
    if report.duplicate > 0.0 {
        words.push(format!("{} twice", percent(report.duplicate)));
    }
    if report.outage_ms > 0.0 {
        words.push(format!("{:.0} ms of silence", report.outage_ms));
    }
    if let Some(rate) = report.path_rate_bps {
        let queue = report.queue_bytes / 1_000;
        words.push(format!("{} with a queue of {queue} KB", Bitrate(rate)));
    }
    if report.sync_factor != SYNC_FACTOR {
        words.push(format!("sync pictures of {} others", report.sync_factor));
    }
    words.push(format!("budget {:.0} ms", report.budget_ms));
    words.push(format!("seed {}", report.seed));
    words.join(", ")
}

/// What each hop of each case is like, and what went over it.
fn hop_tables(reports: &[Report]) -> String {
    let mut text = String::new();
    for (place, report) in reports.iter().enumerate() {
        let _ = writeln!(text, "case {}: {}", place + 1, about(report));
    }
    format!("{text}\n{}", hop_table(reports))
}

fn hop_table(reports: &[Report]) -> Table {
    let mut table = Table::new(&[
        ("CASE", Align::Right),
        ("HOP", Align::Right),
        ("PACKETS", Align::Right),
        ("LOST", Align::Right),
        ("NACKS", Align::Right),
        ("REPAIRED", Align::Right),
        ("RECOVERED", Align::Right),
        ("EXTRA PACKETS", Align::Right),
        ("EXTRA BYTES", Align::Right),
        ("GIVEN UP", Align::Right),
    ]);
    for (place, report) in reports.iter().enumerate() {
        for (at, hop) in report.hops.iter().enumerate() {
            table.row([
                (place + 1).to_string(),
                (at + 1).to_string(),
                hop.packets.to_string(),
                hop.lost.to_string(),
                hop.nacks.to_string(),
                hop.repaired.to_string(),
                or_dash(hop.recovered),
                format!("{:.1}%", hop.extra * 100.0),
                format!("{:.1}%", hop.extra_bytes * 100.0),
                hop.given_up.to_string(),
            ]);
        }
    }
    table
}

fn end_table(reports: &[Report]) -> Table {
    let mut table = Table::new(&[
        ("CASE", Align::Right),
        ("FRAMES", Align::Right),
        ("LOST", Align::Right),
        ("WHY", Align::Left),
        ("WITHOUT REPAIR", Align::Right),
        ("ON A GOOD PATH", Align::Right),
        ("P50 MS", Align::Right),
        ("P99 MS", Align::Right),
        ("MAX MS", Align::Right),
        ("GOOD P50 MS", Align::Right),
        ("GOOD P99 MS", Align::Right),
    ]);
    for (place, report) in reports.iter().enumerate() {
        let End { late, .. } = &report.end;
        let control = &report.control;
        let at = |late: &Option<Late>, of: fn(&Late) -> f64| {
            or_dash(late.map(|late| format!("{:.1}", of(&late))))
        };
        table.row([
            (place + 1).to_string(),
            report.end.frames.to_string(),
            report.end.frames_lost.to_string(),
            why(&report.end),
            report.floor.frames_lost.to_string(),
            control.frames_lost.to_string(),
            at(late, |late| late.p50_ms),
            at(late, |late| late.p99_ms),
            at(late, |late| late.max_ms),
            at(&control.late, |late| late.p50_ms),
            at(&control.late, |late| late.p99_ms),
        ]);
    }
    table
}

/// The packets that are missing in what was delivered, by the reason.
fn why(end: &End) -> String {
    let all = end.gaps.iter();
    let all: Vec<String> = all
        .map(|(reason, packets)| format!("{packets} packets {reason}"))
        .collect();
    if all.is_empty() {
        "-".to_owned()
    } else {
        all.join(", ")
    }
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

    /// What a line asks for, or what it is told.
    fn cases(words: &str) -> Result<Vec<Case>, String> {
        let words = std::iter::once("loss").chain(words.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.args.cases().map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_word_about_the_path_the_goals_are_measured() {
        let goals = cases("--seconds 3 --seed 5").unwrap();

        assert_eq!(goals, loss::goals(Duration::from_secs(3), 5));
    }

    #[test]
    fn each_case_is_measured_with_every_seed() {
        let seeds = |words: &str| {
            let cases = cases(words).unwrap().into_iter();
            cases.map(|case| case.seed).collect::<Vec<_>>()
        };

        assert_eq!(seeds("--jitter 16ms --seed 3,1"), [3, 1]);
        let each = seeds("").len();
        assert_eq!(seeds("--seed 3,1"), [vec![3; each], vec![1; each]].concat());
    }

    #[test]
    fn jitter_makes_a_case_of_its_own_and_has_a_most() {
        let case = cases("--jitter 16ms --loss 1% --duplicate 1%").unwrap()[0];

        assert_eq!(case.impairment.jitter, Duration::from_millis(16));
        let error = cases("--jitter 1s").unwrap_err();
        assert!(error.contains("--jitter"), "{error}");
    }

    #[test]
    fn one_word_about_the_path_makes_one_case_with_the_usual_rest() {
        let cases = cases("--budget 200ms --bursts --reorder --duplicate 1%").unwrap();

        let [case] = cases[..] else {
            panic!("one case, not {cases:?}");
        };
        let Impairment {
            delay,
            loss,
            burst,
            reorder,
            duplicate,
            outage,
            rate,
            ..
        } = case.impairment;
        assert_eq!((rate, case.sync_factor), (None, 5));
        assert_eq!((delay.as_millis(), case.budget.as_millis()), (20, 200));
        assert_eq!((loss, burst, reorder, duplicate), (0.1, 4.0, 0.02, 0.01));
        assert_eq!((case.hops, case.rate), (1, Bitrate(8_000_000)));
        assert!(outage.is_zero());
    }

    #[test]
    fn a_path_with_a_rate_loses_nothing_but_what_its_queue_does_not_hold() {
        let cases = cases("--path-rate 20Mb/s --rate 7Mb/s --sync-factor 11").unwrap();

        let [
            Case {
                impairment,
                sync_factor,
                ..
            },
        ] = cases[..]
        else {
            panic!("one case, not {cases:?}");
        };
        assert_eq!(impairment.rate, Some(Bitrate(20_000_000)));
        assert_eq!((impairment.queue_bytes, sync_factor), (QUEUE_USUAL, 11));
        assert!(impairment.loss.abs() < f64::EPSILON);
    }

    #[test]
    fn what_cannot_be_measured_is_refused_with_the_cure() {
        for (words, cure) in [
            ("--hops 0", "from 1 to 8"),
            ("--loss 10", "`10%`"),
            ("--loss 60%", "up to 50%"),
            ("--rate 60Mb/s", "up to 50Mb/s"),
            ("--bursts 0.5", "from 1 to 100"),
            ("--bursts 4 --loss 0%", "leave one out"),
            ("--rtt 3s", "`--rtt` is at most 2s"),
            ("--rtt 40", "`40ms`"),
            ("--budget 0ms", "`--budget` is more than nothing"),
            ("--queue 9000", "`--path-rate` too"),
            ("--queue 9000 --path-rate 5Mb/s", "more than the stream's"),
            ("--sync-factor 0", "from 1 to 30"),
            ("--outage 2s", "`--outage` is shorter than 2s"),
            ("--outage 100ms --seconds 0.5", "more `--seconds`"),
        ] {
            let error = cases(words).unwrap_err();
            assert!(error.contains(cure), "{words}: {error}");
        }
    }
}
