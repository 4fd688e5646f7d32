//! `levada publish NAME SOURCE`: publishes one stream until its source ends, or one for each file of a folder until it
//! is told to end.
//!
//! Not the sources themselves (`levada_media::source`). Invariant: whatever ends it (the source, Ctrl-C, an error), the
//! stream is taken back.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::process::ExitCode;

use levada::{Bitrate, Description, PublishOptions, StreamName};
use levada_gateway_http::pull::Choice;
use levada_media::source::{Options, Request};
use levada_wire::NetworkId;

use crate::access::{Access, NodeArgs, here};
use crate::broadcast::{self, Broadcasts, News, Opening};
use crate::logging::{self, Level};
use crate::say;
use crate::shutdown::Shutdown;
use crate::units;

/// What it can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The stream's name, for example `lobby/cam1`; the first part of the names for a folder
    name: StreamName,
    /// `test` for the test card, `test-waves` for another picture, `test-sound` for sound alone; a file: MPEG-TS, MP4,
    /// motion JPEG, or the SDP of an RTP session; a folder, whose files are a stream each, also those that come later;
    /// `-` for MPEG-TS on standard input; `udp://` or `rtp://` and `GROUP:PORT`, `IP:PORT` or `:PORT` for MPEG-TS in
    /// datagrams; `http://...m3u8` or `https://...m3u8` for HLS of another server. Other files and URLs are read by
    /// ffmpeg, if it is installed
    source: String,
    /// Start a file anew at its end, without a seam
    #[arg(long = "loop")]
    repeats: bool,
    /// The program of a transport stream that has several [default: the first]
    #[arg(long, value_name = "NUMBER", value_parser = units::whole(1..=u16::MAX), allow_hyphen_values = true)]
    program: Option<u16>,
    /// How many pictures a second motion JPEG has, which does not say so itself [default: 25]
    #[arg(long, value_name = "NUMBER", value_parser = units::whole(1..=1_000_u32), allow_hyphen_values = true)]
    rate: Option<u32>,
    /// Of several variants of a playlist, the `best`, the best that is no higher (`720p`), or that place (`1` is the
    /// first)
    #[arg(
        long,
        value_name = "VARIANT",
        default_value = "best",
        hide_default_value = true
    )]
    variant: Choice,
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
    let requests = [Request {
        text: args.source.clone(),
        name: args.name.clone(),
        options: args.options(),
    }];
    let mut waiting = shutdown.clone();
    let opening = tokio::select! {
        opening = broadcast::open_variant(&requests, &args.variant) => opening?,
        () = waiting.wait() => return Ok(ExitCode::SUCCESS),
    };
    let mut options = PublishOptions::default();
    if let Some(peak) = args.peak {
        options = options.with_peak(peak);
    }
    let access = args.node.access("publish", &args.name).await?;
    let result = publish(&access, opening, options, &shutdown).await;
    access.leave().await;
    result.map(|()| ExitCode::SUCCESS)
}

impl Args {
    fn options(&self) -> Options {
        Options {
            repeats: self.repeats,
            program: self.program.and_then(NonZeroU16::new),
            rate: self.rate.and_then(NonZeroU32::new),
            network: Some(NetworkId::OPEN),
        }
    }
}

async fn publish(
    access: &Access,
    mut opening: Opening,
    options: PublishOptions,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let mut broadcasts = Broadcasts::new(access, options, shutdown);
    let mut count = 0;
    for ready in std::mem::take(&mut opening.streams) {
        let said = introduction(access, &ready.name, &ready.description);
        broadcasts.start(ready).await?;
        count += 1;
        say::note(said);
    }
    broadcasts.watch(&mut opening);
    let mut failed = Vec::new();
    loop {
        let news = tokio::select! {
            biased;
            // Whoever told our node to leave has ended the streams with it.
            stopped = access.stopped() => return Ok(stopped?),
            news = broadcasts.next() => news,
        };
        match news {
            None => break,
            Some(News::Begun(name, description)) => {
                count += 1;
                say::note(introduction(access, &name, &description));
            }
            Some(News::Ended(_, Ok(()))) => {}
            Some(News::Ended(name, Err(error))) => {
                failed.push(format!("`{name}`: {}", say::failure(&error)));
            }
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
fn introduction(access: &Access, name: &StreamName, description: &Description) -> String {
    let how = match access {
        Access::Running(_) => format!("levada play {name}"),
        Access::Own(node) => play_at(name, node.local_addr()),
    };
    let codecs = broadcast::codecs(description);
    format!("publishing `{name}` ({codecs}); watch it: {how}")
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
