//! `levada publish NAME SOURCE`: publishes one stream, or one for each file of a folder, until its source ends.
//!
//! Not the sources themselves (`source.rs`). Invariant: whatever ends it (the source, Ctrl-C, an error), the stream is
//! taken back.

use std::net::SocketAddr;
use std::process::ExitCode;

use levada::{Bitrate, PublishOptions, StreamName};
use levada_media::source::{Options, Source};

use crate::access::{Access, NodeArgs, here};
use crate::broadcast::{self, Broadcasts, PublishSpec, Ready};
use crate::logging::{self, Level};
use crate::say;
use crate::shutdown::Shutdown;
use crate::units;

/// What it can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stream's name, for example `lobby/cam1`; the first part of the names for a folder
    name: StreamName,
    /// `test` for the test card, an MPEG-TS file, a folder of them, or `-` for MPEG-TS on standard input
    source: String,
    /// Start a file anew at its end, without a seam
    #[arg(long = "loop")]
    repeats: bool,
    /// The highest rate of the stream in any second, which nodes reserve and hold it to [default: measured]
    #[arg(long, value_name = "RATE", value_parser = units::bitrate, allow_hyphen_values = true)]
    peak: Option<Bitrate>,
    #[command(flatten)]
    node: NodeArgs,
}

pub(crate) async fn execute(
    args: Args,
    shutdown: Shutdown,
    debug: bool,
) -> anyhow::Result<ExitCode> {
    logging::start(Level::Warn, debug)?;
    let specs = [PublishSpec {
        name: args.name.clone(),
        source: Source::parse(&args.source),
        options: Options {
            repeats: args.repeats,
        },
    }];
    let mut waiting = shutdown.clone();
    let streams = tokio::select! {
        streams = broadcast::open(&specs) => streams?,
        () = waiting.wait() => return Ok(ExitCode::SUCCESS),
    };
    let mut options = PublishOptions::default();
    if let Some(peak) = args.peak {
        options = options.with_peak(peak);
    }
    let access = args.node.access("publish", &args.name).await?;
    let result = publish(&access, streams, options, &shutdown).await;
    access.leave().await;
    result.map(|()| ExitCode::SUCCESS)
}

async fn publish(
    access: &Access,
    streams: Vec<Ready>,
    options: PublishOptions,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let mut broadcasts = Broadcasts::default();
    let count = streams.len();
    for ready in streams {
        let said = introduction(access, &ready);
        broadcasts.start(access, ready, options, shutdown).await?;
        say::note(said);
    }
    let mut failed = Vec::new();
    loop {
        let ended = tokio::select! {
            biased;
            // Whoever told our node to leave has ended the streams with it.
            stopped = access.stopped() => return Ok(stopped?),
            ended = broadcasts.ended() => ended,
        };
        match ended {
            None => break,
            Some((_, Ok(()))) => {}
            Some((name, Err(error))) => failed.push(format!("`{name}`: {}", say::failure(&error))),
        }
    }
    anyhow::ensure!(
        failed.is_empty(),
        "{} of {count} streams failed: {}",
        failed.len(),
        failed.join("; ")
    );
    Ok(())
}

/// What is published, and how somebody else gets it.
fn introduction(access: &Access, ready: &Ready) -> String {
    let codecs: Vec<_> = ready
        .description
        .tracks
        .iter()
        .map(|track| &*track.codec)
        .collect();
    let name = &ready.name;
    let how = match access {
        Access::Running(_) => format!("levada play {name}"),
        Access::Own(node) => play_at(name, node.local_addr()),
    };
    format!(
        "publishing `{name}` ({}); watch it: {how}",
        codecs.join(", ")
    )
}

/// The command that plays a stream at a node of our own. One that listens on all addresses does not know by which of
/// them others reach it.
fn play_at(name: &StreamName, listens: SocketAddr) -> String {
    let reached = here(listens);
    let command = format!("levada play {name} --join {reached}");
    if listens.ip().is_unspecified() {
        format!(
            "{command} (on another machine, with this one's address instead of {})",
            reached.ip()
        )
    } else {
        command
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn other_machines_are_told_to_write_an_address_that_reaches_this_one() {
        let name = "cam".parse().unwrap();

        let everywhere = play_at(&name, "[::]:7".parse().unwrap());
        let at_one = play_at(&name, "10.0.0.1:7".parse().unwrap());

        assert_eq!(
            everywhere,
            "levada play cam --join 127.0.0.1:7 (on another machine, with this one's address instead of 127.0.0.1)"
        );
        assert_eq!(at_one, "levada play cam --join 10.0.0.1:7");
    }
}
