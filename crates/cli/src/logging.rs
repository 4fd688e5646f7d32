//! Logs: to standard error, so that standard output is for what was asked for.
//!
//! Not the messages of commands, which are printed as they are. Called once by `main`. Invariant: nothing is logged
//! to standard output, which may be a video.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// What is logged when the user does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Commands that somebody watches: only what went wrong.
    Warn,
    /// Nodes that run on their own: what an operator would tell a colleague.
    Info,
}

/// Starts logging. `--debug` goes before `LEVADA_LOG`, that before `RUST_LOG`, that before `level`.
pub(crate) fn start(level: Level, debug: bool) -> anyhow::Result<()> {
    let named = variable("LEVADA_LOG");
    start_with(&named.unwrap_or_else(|| filter(level)), debug)
}

/// Starts logging with this filter, unless `debug` asks for more.
pub(crate) fn start_with(filter: &str, debug: bool) -> anyhow::Result<()> {
    let filter = if debug { "warn,levada=debug" } else { filter };
    let parsed = EnvFilter::try_new(filter).map_err(|error| {
        anyhow::anyhow!("`{filter}` is no log filter: {error}; write `debug` or `levada=debug`")
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(debug)
        .init();
    Ok(())
}

/// The filter when Levada's own variable and file say nothing.
pub(crate) fn filter(level: Level) -> String {
    let usual = match level {
        Level::Info => "warn,levada=info",
        Level::Warn => "warn",
    };
    variable("RUST_LOG").unwrap_or_else(|| usual.to_owned())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}
