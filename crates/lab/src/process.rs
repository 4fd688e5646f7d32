//! A program on a host: started, killed, stopped, gone on; never left behind.
//!
//! Not what it does (`node` for Levada's). Called by tests and `node`. Invariant: when a [`Process`] is dropped its
//! whole process group is dead, and if the test failed its last words are shown.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use crate::host::Host;
use crate::tool;
use crate::wait::eventually;

/// Lines of a log that a failed test shows.
const LAST_WORDS: usize = 40;
/// What is set for the program under test would be read by it as its configuration.
const VARIABLES: &str = "LEVADA_";

/// A running program.
#[derive(Debug)]
pub struct Process {
    child: Child,
    output: PathBuf,
    log: PathBuf,
}

impl Process {
    /// Starts `program` on a host, in a process group of its own. Standard output and standard error go to files.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start<A: AsRef<OsStr>>(
        host: &Host,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<Self> {
        Self::start_as(host, "", program, arguments)
    }

    /// The same for one of several on a host: its files have `label` in their names.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start_as<A: AsRef<OsStr>>(
        host: &Host,
        label: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<Self> {
        let file = |kind: &str| match label {
            "" => host.file(kind),
            label => host.file(&format!("{label}.{kind}")),
        };
        let (output, log) = (file("out"), file("log"));
        let open = |path: &Path| {
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .with_context(|| format!("cannot write {}", path.display()))
        };
        // `ip netns exec` becomes the program, so the child is the program.
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", host.namespace()])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(open(&output)?)
            .stderr(open(&log)?)
            .process_group(0);
        let names = std::env::vars_os().map(|(name, _)| name);
        for name in names.filter(|name| name.to_string_lossy().starts_with(VARIABLES)) {
            command.env_remove(name);
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {} on {}", program.display(), host.name()))?;
        Ok(Self { child, output, log })
    }

    /// What it wrote to standard output.
    ///
    /// # Errors
    ///
    /// When that cannot be read.
    pub fn output(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(&self.output)?)
    }

    /// What it wrote to standard error.
    ///
    /// # Errors
    ///
    /// When that cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    /// The memory that it has, in bytes: pages in use (`VmRSS` of proc(5)).
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn memory(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let mut lines = status.lines();
        let kib = lines.find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB"));
        Ok(kib.context("it has no memory")?.trim().parse::<u64>()? << 10)
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it as a power cut would.
    ///
    /// # Errors
    ///
    /// When it cannot be killed.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if self.is_running() {
            self.signal("KILL")?;
        }
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end, as Ctrl-C does.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn interrupt(&self) -> anyhow::Result<()> {
        self.signal("INT")
    }

    /// Stops it as it stands: it does nothing, and its sockets go on filling.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.signal("STOP")
    }

    /// Lets it go on after [`Process::stop`].
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn go_on(&self) -> anyhow::Result<()> {
        self.signal("CONT")
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// If it does not end `within` this time.
    #[track_caller]
    pub fn ended(&mut self, within: Duration) -> ExitStatus {
        let what = format!("the end of process {}", self.child.id());
        eventually(within, &what, || self.child.try_wait().ok().flatten())
    }

    fn signal(&self, signal: &str) -> anyhow::Result<()> {
        // The group has the number of its first process, and is named by its negative.
        tool::signal(signal, &[-i64::from(self.child.id())])
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "a failed test shows why")]
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("process {} stays: {error:#}", self.child.id());
        }
        if std::thread::panicking() {
            let log = self.log().unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(LAST_WORDS)..];
            eprintln!(
                "-- the last of {}:\n{}",
                self.log.display(),
                last.join("\n")
            );
        }
    }
}
