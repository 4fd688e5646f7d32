//! The real binary as a test sees it: processes that are waited for by what they say, and never outlive the test.
//!
//! Not what is carried (`media.rs`). Invariant: each test has a home of its own, so no node of the machine is found or
//! disturbed, and every port is chosen by the system.

#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a test may panic, and each test file uses another part"
)]

use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) mod media;

/// The longest that anything may take on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that does not say when it changes.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A directory for all state of one test.
pub(crate) struct Home(tempfile::TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `levada ARGUMENTS`, in an environment that knows this home only.
    pub(crate) fn levada(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_levada"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LEVADA_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .env("LEVADA_STATE", self.path("state"))
            .stdin(Stdio::null());
        command
    }

    /// Starts a process that goes on by itself.
    pub(crate) fn start(&self, arguments: &[&str]) -> Process {
        Process::start(self.levada(arguments))
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).end()
    }

    /// Starts `levada run` on a free port of this machine.
    pub(crate) fn node(&self, arguments: &[&str]) -> Node {
        let fixed = ["run", "--json", "--listen", "127.0.0.1:0"];
        let is_told = |flag: &&str| {
            arguments
                .iter()
                .any(|told| told == flag || *told == "--no-gateways")
        };
        let mut gateways = Vec::new();
        for flag in ["--rtsp", "--http"] {
            if !is_told(&flag) {
                gateways.extend([flag, "127.0.0.1:0"]);
            }
        }
        let process = self.start(&[&fixed, &gateways[..], arguments].concat());
        let about: Value = serde_json::from_str(&process.line()).unwrap();
        let text = |key: &str| about[key].as_str().unwrap().to_owned();
        Node {
            process,
            address: text("listen"),
            state: text("state"),
            rtsp: about["rtsp"].as_str().unwrap_or_default().to_owned(),
            rtsps: about["rtsps"].as_str().unwrap_or_default().to_owned(),
            http: about["http"].as_str().unwrap_or_default().to_owned(),
        }
    }

    /// The rows of a view of a node, as JSON.
    pub(crate) fn view(&self, view: &str, node: &Node) -> Value {
        let ended = self.run(&[view, "--json", "--node", &node.state]);
        assert!(ended.status.success(), "{ended:?}");
        let mut view: Value = serde_json::from_str(&ended.output).unwrap();
        assert_eq!(view["version"], 1, "{view}");
        view["rows"].take()
    }

    /// Waits until a node knows a stream.
    pub(crate) fn wait_for_stream(&self, name: &str, node: &Node) {
        until(&format!("stream {name}"), || {
            let streams = self.view("streams", node);
            let mut names = streams
                .as_array()
                .unwrap()
                .iter()
                .map(|row| row["name"].clone());
            names.any(|known| known == name).then_some(())
        });
    }
}

/// A running node.
pub(crate) struct Node {
    pub(crate) process: Process,
    pub(crate) address: String,
    pub(crate) state: String,
    /// Where its RTSP gateway listens; empty if it has none.
    pub(crate) rtsp: String,
    /// Where it listens for RTSP by TLS; empty if it does not.
    pub(crate) rtsps: String,
    /// Where its HTTP gateway listens; empty if it has none.
    pub(crate) http: String,
}

/// A process, killed when the test is over.
pub(crate) struct Process {
    child: Child,
    output: Option<Receiver<String>>,
    errors: Receiver<String>,
    /// What was heard on standard error so far.
    heard: String,
}

/// What a process left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = lines(child.stdout.take().unwrap());
        let errors = lines(child.stderr.take().unwrap());
        Self {
            child,
            output: Some(output),
            errors,
            heard: String::new(),
        }
    }

    /// The next line of standard output.
    pub(crate) fn line(&self) -> String {
        let output = self.output.as_ref().unwrap();
        output
            .recv_timeout(PATIENCE)
            .expect("a line on standard output")
    }

    /// Waits for a line on standard error that contains `text`.
    pub(crate) fn says(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.errors.recv_timeout(left) {
                Ok(line) => {
                    self.heard.push_str(&line);
                    self.heard.push('\n');
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!("it never said `{text}` ({error}); it said: {}", self.heard),
            }
        }
    }

    /// Its number on this machine.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGKILL: no chance to say goodbye.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, as Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        let id = self.child.id().to_string();
        let asked = Command::new("kill").args(["-INT", &id]).status().unwrap();
        assert!(asked.success());
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        let status = until("the end of the process", || self.child.try_wait().unwrap());
        let output = self
            .output
            .take()
            .map_or_else(String::new, |lines| rest(&lines));
        self.heard.push_str(&rest(&self.errors));
        Ended {
            status,
            output,
            errors: std::mem::take(&mut self.heard),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a pipe as they come. Bytes that are no text are shown as such.
fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { return };
            if sender
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                return;
            }
        }
    });
    lines
}

fn rest(lines: &Receiver<String>) -> String {
    let mut text = String::new();
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                text.push_str(&line);
                text.push('\n');
            }
            Err(RecvTimeoutError::Disconnected) => return text,
            Err(RecvTimeoutError::Timeout) => panic!("a pipe stays open after its process: {text}"),
        }
    }
}

/// Looks until there is something to see.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// Waits until a file has as many bytes.
pub(crate) fn until_bytes(path: &Path, bytes: u64) {
    until(&format!("{bytes} bytes in {}", path.display()), || {
        let length = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        (length >= bytes).then_some(())
    });
}

/// What ffprobe has to say of a file: nothing, if all is well.
pub(crate) fn ffprobe(path: &Path) -> String {
    let probe = Command::new("ffprobe")
        .args(["-v", "warning"])
        .arg(path)
        .output()
        .expect("ffprobe is installed: `cargo xtask test` says how");
    assert!(probe.status.success());
    String::from_utf8_lossy(&[probe.stdout, probe.stderr].concat()).into_owned()
}
