//! The destinations of a played stream.
//!
//! Not the form in which it is written (`writer.rs`). Called by `play`. Invariant: nothing is made or changed before
//! the first frame is there.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use levada::StreamName;
use levada_media::sink::OutFile;
use tokio::io::{AsyncWriteExt as _, Stdout};
use tokio::process::{Child, ChildStdin};

use super::Player;

/// How long a player may take to end once its input has.
const PLAYER_END: Duration = Duration::from_secs(2);

/// Where the user wants the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Standard output.
    Stdout,
    File(PathBuf),
    Player(Player),
}

/// A destination that is ready to be written to, or being written to.
#[derive(Debug)]
pub(crate) enum Target {
    Stdout(Stdout),
    File(PathBuf, OutFile),
    /// Not started before there is something to see.
    Waiting(Player, StreamName),
    Playing(Child, ChildStdin),
}

impl Target {
    /// Makes sure that the destination can be written to.
    pub(crate) async fn open(
        destination: Destination,
        stream: &StreamName,
    ) -> anyhow::Result<Self> {
        Ok(match destination {
            Destination::Stdout => {
                ensure!(
                    !std::io::stdout().is_terminal(),
                    "standard output is a terminal: pipe it into a program that plays MPEG-TS, or give a file with \
                     --out"
                );
                Self::Stdout(tokio::io::stdout())
            }
            Destination::File(path) => {
                let file = OutFile::open(&path).await.with_context(|| {
                    format!(
                        "cannot write {}; give another file with --out",
                        path.display()
                    )
                })?;
                Self::File(path, file)
            }
            Destination::Player(player) => {
                player.check()?;
                Self::Waiting(player, stream.clone())
            }
        })
    }

    /// Writes. A player or a pipe that was closed is an error of kind `BrokenPipe` at the root.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if let Self::Waiting(player, stream) = self {
            let mut child = player.start(stream)?;
            let input = child.stdin.take().expect("its standard input is piped");
            *self = Self::Playing(child, input);
        }
        match self {
            Self::Stdout(output) => {
                output
                    .write_all(bytes)
                    .await
                    .context("cannot write to standard output")?;
                output
                    .flush()
                    .await
                    .context("cannot write to standard output")
            }
            Self::File(path, file) => {
                let written = file.write(bytes).await;
                written.with_context(|| format!("cannot write {}", path.display()))
            }
            Self::Playing(_, input) => input
                .write_all(bytes)
                .await
                .context("the player was closed"),
            Self::Waiting(..) => unreachable!("started above"),
        }
    }

    /// Waits until the destination is closed by somebody else: a player by its user.
    pub(crate) async fn closed(&mut self) {
        match self {
            Self::Playing(child, _) => {
                let _ = child.wait().await;
            }
            _ => std::future::pending().await,
        }
    }

    /// Ends it: what was written is there, and a player has ended.
    pub(crate) async fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Stdout(mut output) => {
                // Everything was flushed when it was written.
                let _ = output.flush().await;
            }
            Self::File(path, file) => {
                let finished = file.finish().await;
                finished.with_context(|| format!("cannot finish {}", path.display()))?;
            }
            Self::Waiting(..) => {}
            Self::Playing(mut child, input) => {
                drop(input);
                if tokio::time::timeout(PLAYER_END, child.wait())
                    .await
                    .is_err()
                {
                    // It does not end by itself; killing it can only fail if it just did.
                    let _ = child.kill().await;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[tokio::test]
    async fn a_place_that_cannot_be_written_is_refused_by_name() {
        let stream = "cam".parse().unwrap();
        let destination = Destination::File("/no/such/folder/x.ts".into());

        let error = Target::open(destination, &stream)
            .await
            .unwrap_err()
            .to_string();

        assert!(error.contains("/no/such/folder/x.ts"), "{error}");
        assert!(error.contains("--out"), "{error}");
    }
}
