//! `levada trace NAME`: the way of a stream to a running node, hop by hop, the origin last.
//!
//! Not the asking, which is the library's. Invariant: JSON has everything a row has, in one line each time.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use levada::StreamName;
use levada::admin::Client;
use levada::view::HopRow;
use tokio::time::MissedTickBehavior;

use super::views::{CLEAR, WATCH_EVERY, percent};
use crate::logging::{self, Level};
use crate::shutdown::Shutdown;
use crate::table::{Align, Table, or_dash, time};
use crate::{home, say};

/// What it can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stream's name; it has to flow at the node that is asked
    name: StreamName,
    /// The node whose state directory this is [default: the one of `levada run`]
    #[arg(long, value_name = "DIR")]
    node: Option<PathBuf>,
    /// Print JSON in one line: `version`, and `rows` of an object each
    #[arg(long)]
    json: bool,
    /// Print it again each second
    #[arg(long)]
    watch: bool,
}

pub(crate) async fn execute(
    args: Args,
    mut shutdown: Shutdown,
    debug: bool,
) -> anyhow::Result<ExitCode> {
    logging::start(Level::Warn, debug)?;
    let dir = args.node.unwrap_or_else(home::node_dir);
    let mut ticks = tokio::time::interval(WATCH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.wait() => return Ok(ExitCode::SUCCESS),
        }
        let rows = Client::connect(&dir).await?.trace(&args.name).await?;
        if args.json {
            say::result(serde_json::to_string(&rows)?)?;
        } else {
            let is_drawn = args.watch && std::io::stdout().is_terminal();
            let clear = if is_drawn { CLEAR } else { "" };
            say::print(format_args!("{clear}{}", drawn(&rows.rows)))?;
        }
        if !args.watch {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// The way, this node first, and what it takes in all.
fn drawn(rows: &[HopRow]) -> String {
    let mut table = Table::new(&[
        ("NODE", Align::Left),
        ("NAME", Align::Left),
        ("LATENCY", Align::Right),
        ("LOSS", Align::Right),
        ("REPAIRED", Align::Right),
        ("PACKETS", Align::Right),
        ("WITHHELD", Align::Right),
        ("TO LINKS", Align::Right),
        ("HERE", Align::Right),
        ("CAUSE", Align::Left),
    ]);
    for row in rows {
        table.row([
            row.node.short(),
            row.name.clone(),
            if row.is_origin {
                "origin".to_owned()
            } else {
                or_dash(latency(row).map(time))
            },
            or_dash(row.loss_ratio.map(percent)),
            row.repaired.to_string(),
            row.packets_in.to_string(),
            row.withheld.to_string(),
            row.egresses.to_string(),
            row.subscriptions.to_string(),
            row.cause.clone().unwrap_or_default(),
        ]);
    }
    table.hide_silent(&["CAUSE", "WITHHELD"]);
    let whole: Duration = rows.iter().filter_map(latency).sum();
    let hops = rows.len().saturating_sub(1);
    let end = match rows.last() {
        Some(last) if last.is_origin => "",
        _ => " as far as is known",
    };
    format!(
        "{table}\n{hops} hops, {} from the origin{end}\n",
        time(whole)
    )
}

/// Half of the round trip of the hop by which the stream comes.
fn latency(row: &HopRow) -> Option<Duration> {
    row.rtt_seconds.map(|rtt| rtt.0 / 2)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn row(name: &str, rtt_seconds: Option<f64>, is_origin: bool) -> HopRow {
        let upstream = rtt_seconds.map(|_| "00".repeat(32));
        serde_json::from_value(serde_json::json!({
            "node": "11".repeat(32), "name": name, "is_origin": is_origin, "upstream": upstream,
            "rtt_seconds": rtt_seconds, "loss_ratio": rtt_seconds.map(|_| 0.01), "packets_in": 100,
            "packets_out": 200, "repaired": 3, "withheld": 0, "subscriptions": 1, "egresses": 2, "cause": null,
        }))
        .unwrap()
    }

    #[test]
    fn a_way_is_the_sum_of_its_hops() {
        let way = [
            row("wien", Some(0.018), false),
            row("paris", Some(0.024), false),
            row("funchal", None, true),
        ];

        let text = drawn(&way);

        assert!(text.contains("wien      9.0 ms  1.0%"), "{text}");
        assert!(text.contains("funchal   origin"), "{text}");
        assert!(
            text.ends_with("2 hops, 21.0 ms from the origin\n"),
            "{text}"
        );
        assert!(!text.contains("WITHHELD"), "{text}");
        let part = drawn(&way[..2]);
        assert!(part.ends_with("as far as is known\n"), "{part}");
    }
}
