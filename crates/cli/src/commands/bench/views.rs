//! `levada bench views`: its flags and its table.
//!
//! Not the measuring (`levada-bench`). Called by `commands/bench.rs`. Invariant: what is measured is a node that there
//! can be.

use levada_bench::views::{self, Case, Report};
use levada_bench::{Machine, Spread};

use super::{REPEAT_MAX, show, spread};
use crate::table::{Align, Table};
use crate::units;

/// As many links as a node has at most.
const LINKS_MAX: usize = 256;
/// As many flows, in round numbers.
const FLOWS_MAX: usize = 4_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many links the node has
    #[arg(long, value_name = "N", default_value_t = LINKS_MAX,
        value_parser = units::whole(8..=LINKS_MAX), allow_hyphen_values = true)]
    links: usize,
    /// How many flows it carries
    #[arg(long, value_name = "N", default_value_t = FLOWS_MAX,
        value_parser = units::whole(1..=FLOWS_MAX), allow_hyphen_values = true)]
    flows: usize,
    /// How many of the links each flow goes out over
    #[arg(long, value_name = "N", default_value_t = 16,
        value_parser = units::whole(1..=LINKS_MAX), allow_hyphen_values = true)]
    egresses: usize,
    /// Rounds: in each all rows are taken once in slices and once at once
    #[arg(long, value_name = "N", default_value_t = 50,
        value_parser = units::whole(1..=REPEAT_MAX), allow_hyphen_values = true)]
    repeat: u32,
    /// Print one JSON object for each line of the table
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(args: &Args) -> anyhow::Result<()> {
    let case = Case {
        links: args.links,
        flows: args.flows,
        egresses: args.egresses,
        rounds: usize::try_from(args.repeat)?,
    };
    let machine = Machine::begin();
    let reports = views::measure(&case)?;
    show(args.json, &machine.end(), &reports, table, |_| None)
}

fn table(reports: &[Report]) -> Table {
    let mut table = Table::new(&[
        ("ROWS OF", Align::Left),
        ("ROWS", Align::Right),
        ("SLICES", Align::Right),
        ("LONGEST SLICE US", Align::Right),
        ("ALL SLICES US", Align::Right),
        ("AT ONCE US", Align::Right),
    ]);
    for report in reports {
        let micros = |of: &Spread| spread(of, 0);
        table.row([
            report.table.to_owned(),
            report.rows.to_string(),
            report.slices.to_string(),
            micros(&report.longest_slice_us),
            micros(&report.all_slices_us),
            micros(&report.at_once_us),
        ]);
    }
    table
}
