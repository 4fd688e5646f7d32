//! `levada outputs`: what a running node sends out as datagrams, and what is wrong with it.
//!
//! Not how it is sent. Invariant: JSON has everything a row has, in one line each time.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use levada_gateway_udp::Row;
use levada_wire::Bitrate;
use tokio::time::MissedTickBehavior;

use super::views::{Args, CLEAR, WATCH_EVERY};
use crate::logging::{self, Level};
use crate::shutdown::Shutdown;
use crate::table::{Align, Table, bytes, or_dash};
use crate::{home, outputs, say};

/// What is said when there is none.
const NONE: &str =
    "this node sends nothing out: give it `--output NAME=udp://239.1.1.1:5000`, or `[[output]]`";

pub(crate) async fn execute(
    args: Args,
    mut shutdown: Shutdown,
    debug: bool,
) -> anyhow::Result<ExitCode> {
    logging::start(Level::Warn, debug)?;
    let dir = args.node.clone().unwrap_or_else(home::node_dir);
    let mut ticks = tokio::time::interval(WATCH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.wait() => return Ok(ExitCode::SUCCESS),
        }
        let rows = outputs::list(&dir).await?;
        if args.json {
            say::result(serde_json::to_string(&rows)?)?;
        } else if args.watch && std::io::stdout().is_terminal() {
            say::print(format_args!("{CLEAR}{}", drawn(&rows.rows)))?;
        } else {
            say::print(drawn(&rows.rows))?;
        }
        if !args.watch {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn drawn(rows: &[Row]) -> String {
    let mut table = Table::new(&[
        ("STREAM", Align::Left),
        ("TO", Align::Left),
        ("STATE", Align::Left),
        ("RATE", Align::Right),
        ("NEEDED", Align::Right),
        ("FROM", Align::Left),
        ("BYTES", Align::Right),
        ("LATE", Align::Right),
        ("REFUSED", Align::Right),
        ("LOST", Align::Right),
        ("WHY", Align::Left),
    ]);
    for row in rows {
        let lost = row.frames_over_rate + row.frames_skipped + row.frames_late;
        table.row([
            row.stream.clone(),
            row.to.clone(),
            row.state.to_string(),
            row.rate_bps.map_or_else(
                || "as it comes".to_owned(),
                |rate| Bitrate(rate).to_string(),
            ),
            Bitrate(row.needed_bps).to_string(),
            or_dash(row.interface.as_ref()),
            bytes(row.bytes),
            row.datagrams_late.to_string(),
            row.datagrams_refused.to_string(),
            lost.to_string(),
            or_dash(row.reason.as_ref()),
        ]);
    }
    table.hide_silent(&["FROM", "LATE", "REFUSED", "LOST", "WHY"]);
    if table.is_empty() {
        format!("{NONE}\n")
    } else {
        table.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn an_output_says_where_to_how_fast_and_what_is_wrong() {
        let row: Row = serde_json::from_value(serde_json::json!({
            "stream": "lobby/cam", "to": "udp://239.1.1.1:5000", "state": "running", "reason": "too little",
            "rate_bps": 8_000_000, "needed_bps": 6_000_000, "interface": "10.0.0.1", "ttl": 1, "announced": true,
            "bytes": 1_500_000, "datagrams": 3, "datagrams_late": 0, "datagrams_refused": 0, "null_packets": 1,
            "frames": 5, "frames_over_rate": 4, "frames_skipped": 2, "frames_late": 1,
        }))
        .unwrap();

        let text = drawn(&[row]);

        let line = text.lines().nth(1).unwrap();
        for part in [
            "lobby/cam",
            "udp://239.1.1.1:5000",
            "running",
            "8.0 Mb/s",
            "6.0 Mb/s",
            "10.0.0.1",
            "1.5 MB",
            " 7 ",
            "too little",
        ] {
            assert!(line.contains(part), "`{part}` is not in {line}");
        }
        assert!(!text.contains("REFUSED"), "{text}");
        assert!(drawn(&[]).contains("--output"), "a way to have one is said");
    }
}
