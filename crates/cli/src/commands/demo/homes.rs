//! Where the demo's nodes have their state, and how what a killed demo left is swept up.
//!
//! ```text
//! BASE/demo/
//!   lock             held while one demo makes or sweeps directories
//!   PID/             one demo
//!     lock           held while it runs
//!     paris/         a node's state directory, with the local socket by which it is told to leave
//!     paris.log      what the node said
//! ```
//!
//! Not the nodes (`network`). Invariant: nothing of a demo that runs is touched, and no process is ended that is not a
//! node of a demo.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use levada::admin::Client;

use crate::home;

const LOCK: &str = "lock";
/// How long a node that was left behind may take to leave, before it is killed.
const LEAVE_MAX: Duration = Duration::from_secs(3);

/// The directory of one demo, removed when this is dropped.
#[derive(Debug)]
pub(super) struct Homes {
    dir: PathBuf,
    _lock: File,
}

impl Homes {
    /// Makes one for this process, and sweeps up those of demos that were killed.
    pub(super) async fn make() -> anyhow::Result<Self> {
        Self::make_in(&home::demos_dir(), std::process::id()).await
    }

    async fn make_in(demos: &Path, process: u32) -> anyhow::Result<Self> {
        let cannot = || format!("cannot use {}", demos.display());
        fs::create_dir_all(demos).with_context(cannot)?;
        let alone = open_lock(demos).with_context(cannot)?;
        // Held by another demo for as long as it starts or sweeps.
        tokio::task::block_in_place(|| alone.lock()).with_context(cannot)?;
        sweep(demos).await.with_context(cannot)?;
        let dir = demos.join(process.to_string());
        fs::create_dir_all(&dir).with_context(cannot)?;
        let lock = open_lock(&dir).with_context(cannot)?;
        lock.try_lock().with_context(cannot)?;
        Ok(Self { dir, _lock: lock })
    }

    /// The state directory of a node.
    pub(super) fn state(&self, node: &str) -> PathBuf {
        self.dir.join(node)
    }

    /// A configuration file that says nothing, so that none of the user's is read.
    pub(super) fn no_config(&self) -> anyhow::Result<PathBuf> {
        let path = self.dir.join("empty.toml");
        fs::write(&path, "").with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Where a node says what it says.
    pub(super) fn log(&self, node: &str) -> PathBuf {
        self.dir.join(format!("{node}.log"))
    }
}

impl Drop for Homes {
    fn drop(&mut self) {
        // What stays is swept up by the next start.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn open_lock(dir: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    options.open(dir.join(LOCK))
}

/// Removes what demos left that run no more, their nodes first.
async fn sweep(demos: &Path) -> io::Result<()> {
    for entry in fs::read_dir(demos)? {
        let dir = entry?.path();
        if !dir.is_dir() {
            continue;
        }
        let lock = open_lock(&dir)?;
        if lock.try_lock().is_err() {
            continue;
        }
        for node in fs::read_dir(&dir)? {
            end_node(&node?.path()).await;
        }
        fs::remove_dir_all(&dir)?;
    }
    Ok(())
}

/// Has a node leave, or kills it where it does not.
async fn end_node(state: &Path) {
    let Ok(connected) = tokio::time::timeout(LEAVE_MAX, Client::connect(state)).await else {
        return kill(state).await;
    };
    let Ok(client) = connected else { return };
    if tokio::time::timeout(LEAVE_MAX, client.leave())
        .await
        .is_err()
    {
        kill(state).await;
    }
}

/// Kills the process that has the lock of a state directory, if it is a node with that directory.
async fn kill(state: &Path) {
    let process = fs::read_to_string(state.join(LOCK)).unwrap_or_default();
    let process = process.trim();
    let said = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let is_its = String::from_utf8_lossy(&said).contains(&*state.to_string_lossy());
    if process.is_empty() || !is_its {
        return;
    }
    let mut command = tokio::process::Command::new("kill");
    let command = command.args(["-KILL", process]).stderr(Stdio::null());
    // One that has ended meanwhile needs no signal.
    let _ = command.status().await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_killed_demo_left_is_swept_up_and_one_that_runs_is_not() {
        let demos = tempfile::tempdir().unwrap();
        let runs = Homes::make_in(demos.path(), 1).await.unwrap();
        fs::create_dir(runs.state("paris")).unwrap();
        // Its lock went with its process.
        let left = demos.path().join("2");
        fs::create_dir_all(left.join("paris")).unwrap();
        fs::write(left.join(LOCK), "").unwrap();

        let next = Homes::make_in(demos.path(), 3).await.unwrap();

        assert!(!left.exists());
        assert!(runs.state("paris").exists());
        drop((runs, next));
        let rest = fs::read_dir(demos.path()).unwrap();
        assert!(rest.flatten().all(|entry| entry.file_name() == LOCK));
    }
}
