//! `levada publish NAME SOURCE`: publishes one stream, or one for each file of a folder, until its source ends.
//!
//! Not the sources themselves (`source.rs`). Invariant: whatever ends it (the source, Ctrl-C, an error), the stream is
//! taken back.

use std::process::ExitCode;

use levada::{Bitrate, PublishOptions, StreamName};

use crate::access::{Access, NodeArgs, here};
use crate::broadcast::{self, Broadcasts, Ready, Wish};
use crate::logging::{self, Level};
use crate::say;
use crate::shutdown::Shutdown;
use crate::source::{Options, Source};
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
    /// The highest rate of the stream, which is reserved for it [default: 20Mb/s]
    #[arg(long, value_name = "RATE", value_parser = units::bitrate)]
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
    let wishes = [Wish {
        name: args.name.clone(),
        source: Source::parse(&args.source),
        options: Options {
            repeats: args.repeats,
        },
    }];
    let mut waiting = shutdown.clone();
    let streams = tokio::select! {
        streams = broadcast::open(&wishes) => streams?,
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
            () = access.stopped() => return Ok(()),
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
        Access::Own(node) => format!("levada play {name} --join {}", here(node.local_addr())),
    };
    format!(
        "publishing `{name}` ({}); watch it: {how}",
        codecs.join(", ")
    )
}
