//! `levada sessions`: who plays and publishes what at a running node, how, and since when; `--kick` ends a session.
//!
//! Not how a session is recorded. Invariant: JSON has everything a row has, in one line each time.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use levada_gateway::session::Row;
use tokio::time::MissedTickBehavior;

use super::views::{CLEAR, WATCH_EVERY};
use crate::logging::{self, Level};
use crate::shutdown::Shutdown;
use crate::table::{Align, Table, bytes, long_time, or_dash};
use crate::{home, say, sessions};

/// What is said when there is none.
const NONE: &str = "nobody plays or publishes by a gateway of this node";

/// What it can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The node whose state directory this is [default: the one of `levada run`]
    #[arg(long, value_name = "DIR")]
    node: Option<PathBuf>,
    /// Show the last sessions that ended too, and why they did
    #[arg(long)]
    ended: bool,
    /// End the session of that number
    #[arg(long, value_name = "ID", conflicts_with_all = ["ended", "json", "watch"])]
    kick: Option<u64>,
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
    let dir = args.node.clone().unwrap_or_else(home::node_dir);
    if let Some(id) = args.kick {
        sessions::kick(&dir, id).await?;
        say::note(format_args!("session {id} is being ended"));
        return Ok(ExitCode::SUCCESS);
    }
    let mut ticks = tokio::time::interval(WATCH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.wait() => return Ok(ExitCode::SUCCESS),
        }
        let rows = sessions::list(&dir, args.ended).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let drawn = || drawn(&rows.rows, now.unwrap_or_default());
        if args.json {
            say::result(serde_json::to_string(&rows)?)?;
        } else if args.watch && std::io::stdout().is_terminal() {
            say::print(format_args!("{CLEAR}{}", drawn()))?;
        } else {
            say::print(drawn())?;
        }
        if !args.watch {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn drawn(rows: &[Row], now: Duration) -> String {
    let mut table = Table::new(&[
        ("ID", Align::Right),
        ("ROLE", Align::Left),
        ("STREAM", Align::Left),
        ("PROTOCOL", Align::Left),
        ("TRANSPORT", Align::Left),
        ("USER", Align::Left),
        ("FROM", Align::Left),
        ("BEGAN", Align::Right),
        ("BYTES", Align::Right),
        ("SKIPS", Align::Right),
        ("PROGRAM", Align::Left),
        ("ENDED", Align::Left),
    ]);
    for row in rows {
        let began = now.saturating_sub(Duration::from_millis(row.since_unix_ms));
        table.row([
            row.id.to_string(),
            row.role.to_string(),
            row.stream.clone(),
            row.protocol.clone(),
            row.transport.to_string(),
            or_dash(row.user.as_ref()),
            row.remote.to_string(),
            format!("{} ago", long_time(began)),
            bytes(row.bytes),
            row.skips.to_string(),
            row.agent.clone(),
            or_dash(row.ended),
        ]);
    }
    table.hide_silent(&["USER", "SKIPS", "PROGRAM", "ENDED"]);
    if table.is_empty() {
        format!("{NONE}\n")
    } else {
        table.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use levada_gateway::session::About;
    use levada_gateway::{EndReason, Registry, Role, Transport};

    use super::*;

    #[test]
    fn a_session_says_who_what_how_and_since_when() {
        let registry = Registry::default();
        let session = registry.begin(About {
            role: Role::Play,
            stream: "lobby/cam".parse().unwrap(),
            protocol: "rtsp",
            transport: Transport::Udp,
            user: Some("anna".into()),
            remote: ([10, 0, 0, 1], 5_000).into(),
            agent: "Lavf61".into(),
        });
        session.counts().add_bytes(1_500_000);
        let began = Duration::from_millis(registry.rows()[0].since_unix_ms);

        let live = drawn(&registry.rows(), began + Duration::from_secs(90));
        session.end_with(EndReason::Slow);
        drop(session);
        let ended = drawn(&registry.rows(), began);

        let line = live.lines().nth(1).unwrap();
        for part in [
            "play",
            "lobby/cam",
            "rtsp",
            "udp",
            "anna",
            "10.0.0.1:5000",
            "1 min",
            "1.5 MB",
            "Lavf61",
        ] {
            assert!(line.contains(part), "`{part}` is not in {line}");
        }
        assert!(!live.contains("ENDED"), "{live}");
        assert!(ended.contains("did not read fast enough"), "{ended}");
        assert_eq!(drawn(&[], began), format!("{NONE}\n"));
    }
}
