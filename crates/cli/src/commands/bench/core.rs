//! `levada bench core`: its flags, its table and its plot.
//!
//! Not the measuring (`levada-bench`). Called by `commands/bench.rs`. Invariant: what is measured is a node that there
//! can be.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use levada_bench::Machine;
use levada_bench::inputs::{self, Dimension, Kind, Report, Rounds, Size};
use serde::Serialize;

use super::{REPEAT_MAX, show};
use crate::table::{Align, Table};
use crate::{say, units};

/// More than a node has of anything: the core's own limits show before it.
const SIZE_MAX: usize = 1_000_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many links the node has; several are measured one after the other
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "10,64,256",
        value_parser = units::whole(8..=SIZE_MAX), allow_hyphen_values = true)]
    links: Vec<usize>,
    /// How many streams it knows
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "10,100,1000,8000",
        value_parser = units::whole(1..=SIZE_MAX), allow_hyphen_values = true)]
    streams: Vec<usize>,
    /// How many streams it watches, each of an origin of its own
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,16,256,1000",
        value_parser = units::whole(1..=SIZE_MAX), allow_hyphen_values = true)]
    subscriptions: Vec<usize>,
    /// Measure one node that has all of it instead: the first number of each flag
    #[arg(long)]
    together: bool,
    /// How often each kind of input is given; those that touch much a tenth as often
    #[arg(long, value_name = "N", default_value_t = 100,
        value_parser = units::whole(2..=REPEAT_MAX), allow_hyphen_values = true)]
    repeat: u32,
    /// Draw the medians into this file (SVG)
    #[arg(long, value_name = "FILE", conflicts_with = "together")]
    plot: Option<PathBuf>,
    /// Give one input of each kind, for a profiler, and print the kind of each call (see `cargo xtask core-cost`)
    #[arg(long, hide = true, requires = "together")]
    counted: bool,
    /// Print one JSON object for each line of the table
    #[arg(long)]
    json: bool,
}

/// A line of the table, with what there is more and more of.
#[derive(Clone, Debug, Serialize)]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<Dimension>,
    #[serde(flatten)]
    report: Report,
}

pub(super) fn execute(args: &Args) -> anyhow::Result<()> {
    let small = usize::try_from(args.repeat)?;
    let large = small.div_ceil(10).max(2);
    let rounds = Rounds { small, large };
    if args.counted {
        for kind in inputs::count(together(args)?)? {
            say::result(kind.name())?;
        }
        return Ok(());
    }
    let machine = Machine::begin();
    let mut rows = Vec::new();
    let mut measure = |of, size| {
        let reports = inputs::measure(size, rounds)?;
        rows.extend(reports.into_iter().map(|report| Row { of, report }));
        anyhow::Ok(())
    };
    if args.together {
        measure(None, together(args)?)?;
    } else {
        for of in Dimension::ALL {
            for size in sizes(args, of) {
                measure(Some(of), of.sized(*size))?;
            }
        }
    }
    show(args.json, &machine.end(), &rows, table, |_| None)?;
    if !args.json && !args.together {
        say::result(format_args!("\n{}", exponents(args, &rows)))?;
    }
    if let Some(path) = &args.plot {
        let cannot = || format!("cannot write the plot {}", path.display());
        std::fs::write(path, plot(&rows)).with_context(cannot)?;
    }
    Ok(())
}

fn sizes(args: &Args, of: Dimension) -> &[usize] {
    match of {
        Dimension::Links => &args.links,
        Dimension::Streams => &args.streams,
        Dimension::Subscriptions => &args.subscriptions,
    }
}

/// One node with the first number of each flag: each stream that is watched has an origin of its own.
fn together(args: &Args) -> anyhow::Result<Size> {
    let first = |sizes: &[usize]| sizes.first().copied().context("a flag names no number");
    let subscriptions = first(&args.subscriptions)?;
    let streams = first(&args.streams)?.max(subscriptions);
    Ok(Size {
        links: first(&args.links)?,
        streams,
        subscriptions,
        ..Dimension::Subscriptions.sized(subscriptions)
    })
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&[
        ("INPUT", Align::Left),
        ("LINKS", Align::Right),
        ("STREAMS", Align::Right),
        ("SUBSCRIPTIONS", Align::Right),
        ("SAID", Align::Right),
        ("P50 US", Align::Right),
        ("P99 US", Align::Right),
        ("MAX US", Align::Right),
        ("WHOLE US", Align::Right),
        ("MOVED MS", Align::Right),
    ]);
    for Row { report, .. } in rows {
        let size = report.size;
        let moved = report.asked_again_ms;
        table.row([
            report.kind.name().to_owned(),
            size.links.to_string(),
            size.streams.to_string(),
            size.subscriptions.to_string(),
            format!("{:.0}", report.outputs),
            format!("{:.1}", report.p50_us),
            format!("{:.1}", report.p99_us),
            format!("{:.1}", report.max_us),
            format!("{:.1}", report.whole_us),
            moved.map_or_else(|| "-".to_owned(), |moved| format!("{moved:.1}")),
        ]);
    }
    table
}

/// Size and cost of all that was measured of one kind, as one thing grows.
fn points(rows: &[Row], kind: Kind, of: Dimension) -> Vec<(f64, f64)> {
    let rows = rows
        .iter()
        .filter(|row| row.of == Some(of) && row.report.kind == kind);
    let point = |row: &Row| {
        let size = row.report.size;
        let size = match of {
            Dimension::Links => size.links,
            Dimension::Streams => size.streams,
            Dimension::Subscriptions => size.subscriptions,
        };
        (size as f64, row.report.whole_us)
    };
    rows.map(point).collect()
}

/// By which power of each thing each kind of input grows.
fn exponents(args: &Args, rows: &[Row]) -> Table {
    let mut table = Table::new(&[
        ("GROWS BY THE POWER", Align::Left),
        ("OF LINKS", Align::Right),
        ("OF STREAMS", Align::Right),
        ("OF SUBSCRIPTIONS", Align::Right),
    ]);
    for kind in Kind::ALL {
        let power = |of| {
            let power = inputs::exponent(&points(rows, kind, of));
            let power = power.filter(|_| sizes(args, of).len() > 1);
            power.map_or_else(|| "-".to_owned(), |power| format!("{power:.2}"))
        };
        let [links, streams, subscriptions] = Dimension::ALL.map(power);
        table.row([kind.name().to_owned(), links, streams, subscriptions]);
    }
    table
}

/// Three diagrams side by side, one for each thing that grows: both axes by powers of ten.
fn plot(rows: &[Row]) -> String {
    const COLOURS: [&str; 8] = [
        "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#444444", "#ee7733",
    ];
    const LEFT: [f64; 3] = [60.0, 360.0, 660.0];
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1100\" height=\"400\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"1100\" height=\"400\" fill=\"white\"/>\n",
    );
    let x = |size: f64| 230.0 * size.max(1.0).log10() / 5.0;
    // From 0.1 us at the bottom to 10 s at the top.
    let y = |micros: f64| 350.0 - 40.0 * (micros.max(0.1).log10() + 1.0);
    // Writing to a string cannot fail.
    for (of, left) in Dimension::ALL.into_iter().zip(LEFT) {
        for power in -1..=7 {
            let at = y(10_f64.powi(power));
            let _ = writeln!(
                svg,
                "<path d=\"M{left} {at}h230\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
                left - 4.0,
                at + 4.0,
                [
                    "0.1 us", "1 us", "10 us", "100 us", "1 ms", "10 ms", "100 ms", "1 s", "10 s"
                ][usize::try_from(power + 1).expect("from -1 on")]
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"385\">{} (1 to 100,000)</text>",
            of.name()
        );
        for (kind, colour) in Kind::ALL.into_iter().zip(COLOURS) {
            let points = points(rows, kind, of);
            let points = points
                .iter()
                .map(|(size, cost)| (left + x(*size), y(*cost)));
            let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                points.join(" ")
            );
        }
    }
    for (at, (kind, colour)) in Kind::ALL.into_iter().zip(COLOURS).enumerate() {
        let at = 40 + 24 * at;
        let _ = writeln!(
            svg,
            "<path d=\"M920 {at}h30\" stroke=\"{colour}\" stroke-width=\"2\"/><text x=\"958\" y=\"{}\">{}</text>",
            at + 4,
            kind.name()
        );
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(of: Dimension, size: usize, whole_us: f64) -> Row {
        let report = Report {
            kind: Kind::Ping,
            size: of.sized(size),
            calls: 1,
            outputs: 1.0,
            p50_us: whole_us,
            p99_us: whole_us,
            max_us: whole_us,
            whole_us,
            asked_again_ms: None,
        };
        Row {
            of: Some(of),
            report,
        }
    }

    #[test]
    fn a_plot_has_a_point_for_each_size_at_its_power_of_ten() {
        let rows = [
            row(Dimension::Streams, 10, 1.0),
            row(Dimension::Streams, 100, 10.0),
        ];

        let svg = plot(&rows);

        assert!(svg.contains("points=\"406.0,310.0 452.0,270.0\""), "{svg}");
        assert!(svg.ends_with("</svg>\n"));
    }
}
