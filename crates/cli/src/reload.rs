//! When the configuration is to be read again: its file changed, or somebody sent SIGHUP.
//!
//! Not the reading, and not what follows from it, which is `run`'s. Called by `run`. Invariant: a terminal that closes
//! ends the node, as it ends any program that was started from it; it only sends the same signal.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the configuration's reader has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Read the configuration again.
    Reload,
    /// The terminal is gone.
    End,
}

/// Looks at the file, and listens to the signal.
#[derive(Debug)]
pub(crate) struct Reload {
    path: PathBuf,
    seen: Option<Stamp>,
    looks: Interval,
    hang_up: HangUp,
    had_terminal: bool,
}

/// What tells a file from what it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            modified: metadata.modified().ok(),
            bytes: metadata.len(),
        })
    }
}

impl Reload {
    /// Watches from now on. Must be called on a tokio runtime, before the file is read for the first time.
    pub(crate) fn watch(path: PathBuf) -> std::io::Result<Self> {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            seen: Stamp::of(&path),
            path,
            looks,
            hang_up: HangUp::new()?,
            had_terminal: std::io::stdin().is_terminal(),
        })
    }

    /// Waits until something is due. May be dropped before it is ready.
    pub(crate) async fn due(&mut self) -> Due {
        loop {
            tokio::select! {
                () = self.hang_up.next() => {
                    // The kernel answers no question about a terminal that hung up.
                    let is_gone = self.had_terminal && !std::io::stdin().is_terminal();
                    return if is_gone { Due::End } else { Due::Reload };
                }
                _ = self.looks.tick() => {}
            }
            let stamp = Stamp::of(&self.path);
            // A file that is away is being written, or will be missed by whoever asks for a reload.
            if stamp.is_some() && std::mem::replace(&mut self.seen, stamp) != stamp {
                return Due::Reload;
            }
        }
    }
}

#[cfg(unix)]
#[derive(Debug)]
struct HangUp(tokio::signal::unix::Signal);

#[cfg(unix)]
impl HangUp {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::hangup()).map(Self)
    }

    async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(not(unix))]
#[derive(Debug)]
struct HangUp;

#[cfg(not(unix))]
impl HangUp {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[tokio::test]
    async fn a_file_is_due_when_it_comes_and_when_it_changes_but_not_when_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("levada.toml");
        let mut reload = Reload::watch(path.clone()).unwrap();

        std::fs::write(&path, "a").unwrap();
        assert_eq!(reload.due().await, Due::Reload);
        std::fs::write(&path, "ab").unwrap();
        assert_eq!(reload.due().await, Due::Reload);
        std::fs::remove_file(&path).unwrap();
        let away = tokio::time::timeout(LOOK_EVERY * 2, reload.due()).await;
        assert!(away.is_err(), "it is away: {away:?}");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(reload.due().await, Due::Reload);
    }
}
