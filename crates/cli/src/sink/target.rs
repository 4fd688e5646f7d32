//! The places a played stream can be written to.
//!
//! Not the form in which it is written (`writer.rs`). Called by `play`. Invariant: a file that exists is emptied only
//! when the first frame is there, and one that was made for nothing is removed.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use levada::StreamName;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncWriteExt as _, Stdout};
use tokio::process::{Child, ChildStdin};

use super::Player;

/// How long a player may take to end once its input has.
const PLAYER_END: Duration = Duration::from_secs(2);

/// Where the user wants the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Standard output.
    Stdout,
    File(PathBuf),
    Player(Player),
}

/// A place that is ready to be written to, or being written to.
#[derive(Debug)]
pub(crate) enum Target {
    Stdout(Stdout),
    File(OutFile),
    /// Not started before there is something to see.
    Waiting(Player, StreamName),
    Playing(Child, ChildStdin),
}

/// A file and what must be known to leave no trace.
#[derive(Debug)]
pub(crate) struct OutFile {
    path: PathBuf,
    file: File,
    is_new: bool,
    has_begun: bool,
}

impl Target {
    /// Makes sure that the place can be written to.
    pub(crate) async fn open(place: Place, stream: &StreamName) -> anyhow::Result<Self> {
        Ok(match place {
            Place::Stdout => {
                ensure!(
                    !std::io::stdout().is_terminal(),
                    "standard output is a terminal: pipe it into a program that plays MPEG-TS, or give a file with --out"
                );
                Self::Stdout(tokio::io::stdout())
            }
            Place::File(path) => Self::File(OutFile::open(&path).await?),
            Place::Player(player) => {
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
            Self::File(file) => file.write(bytes).await,
            Self::Playing(_, input) => input
                .write_all(bytes)
                .await
                .context("the player was closed"),
            Self::Waiting(..) => unreachable!("started above"),
        }
    }

    /// Waits until the place is closed by somebody else: a player by its user.
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
            Self::File(file) => file.finish().await?,
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

impl OutFile {
    async fn open(path: &Path) -> anyhow::Result<Self> {
        let is_new = !tokio::fs::try_exists(path).await.unwrap_or(true);
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .await;
        let file = file.with_context(|| {
            format!(
                "cannot write {}; give another file with --out",
                path.display()
            )
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            is_new,
            has_begun: false,
        })
    }

    async fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let cannot = || format!("cannot write {}", self.path.display());
        if !std::mem::replace(&mut self.has_begun, true) {
            // Devices and named pipes have no length.
            let is_file = self.file.metadata().await.with_context(cannot)?.is_file();
            if is_file {
                self.file.set_len(0).await.with_context(cannot)?;
            }
        }
        self.file.write_all(bytes).await.with_context(cannot)?;
        // So that the file can be watched while it grows.
        self.file.flush().await.with_context(cannot)
    }

    async fn finish(mut self) -> anyhow::Result<()> {
        if self.has_begun {
            let flushed = self.file.flush().await;
            return flushed.with_context(|| format!("cannot write {}", self.path.display()));
        }
        if self.is_new {
            let removed = tokio::fs::remove_file(&self.path).await;
            removed.with_context(|| format!("cannot remove the empty {}", self.path.display()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    async fn target(path: &Path) -> Target {
        let stream = "cam".parse().unwrap();
        Target::open(Place::File(path.to_owned()), &stream)
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_file_is_left_alone_until_something_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        std::fs::write(&old, "what was there").unwrap();

        for path in [&old, &new] {
            target(path).await.finish().await.unwrap();
        }

        assert_eq!(std::fs::read_to_string(&old).unwrap(), "what was there");
        assert!(!new.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_written_holds_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("old");
        std::fs::write(&path, "what was there").unwrap();

        let mut target = target(&path).await;
        target.write(b"ne").await.unwrap();
        target.write(b"w").await.unwrap();
        target.finish().await.unwrap();

        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
    }

    #[tokio::test]
    async fn a_place_that_cannot_be_written_is_refused_by_name() {
        let stream = "cam".parse().unwrap();
        let place = Place::File("/no/such/folder/x.ts".into());

        let error = Target::open(place, &stream).await.unwrap_err().to_string();

        assert!(error.contains("/no/such/folder/x.ts"), "{error}");
        assert!(error.contains("--out"), "{error}");
    }
}
