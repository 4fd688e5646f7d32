//! `levada` on a host: the binary under test, its nodes, and what they say of themselves.
//!
//! Not a substitute for the library: everything goes through the command line, as a user's would. Called by tests.
//! Invariant: a node started again is the same node, with the same state directory and the same arguments.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::host::Host;
use crate::process::Process;
use crate::wait::eventually;

/// Names the binary under test; `cargo xtask test` sets it.
const VARIABLE: &str = "LEVADA_BIN";

/// A node in a process of its own.
#[derive(Debug)]
pub struct Node {
    process: Process,
    host: Host,
    program: PathBuf,
    arguments: Vec<String>,
}

impl Node {
    /// `levada run`: a node that forwards for others, and that is in no site.
    ///
    /// # Errors
    ///
    /// When there is no binary, or it cannot be started.
    pub fn relay(host: &Host) -> anyhow::Result<Self> {
        Self::start(
            host,
            &[
                "run",
                "--no-multicast",
                "--relay",
                "always",
                "--name",
                host.name(),
            ],
        )
    }

    /// `levada run`: a node that forwards for others, with a link to a neighbour.
    ///
    /// # Errors
    ///
    /// When there is no binary, or it cannot be started.
    pub fn relay_beside(host: &Host, neighbour: &Host) -> anyhow::Result<Self> {
        let join = neighbour.node_address().to_string();
        let command = [
            "run",
            "--no-multicast",
            "--relay",
            "always",
            "--name",
            host.name(),
            "--join",
            &join,
        ];
        Self::start(host, &command)
    }

    /// `levada run` with no neighbour: a member of the site of its LAN, with these arguments besides.
    ///
    /// # Errors
    ///
    /// When there is no binary, or it cannot be started.
    pub fn member(host: &Host, more: &[&str]) -> anyhow::Result<Self> {
        let command = [&["run", "--name", host.name()], more].concat();
        Self::start(host, &command)
    }

    /// `levada run` on all cables of a host: a node that forwards between LANs.
    ///
    /// # Errors
    ///
    /// When there is no binary, or it cannot be started.
    pub fn relay_on_all_cables(host: &Host) -> anyhow::Result<Self> {
        let command = [
            "run",
            "--no-multicast",
            "--relay",
            "always",
            "--name",
            host.name(),
        ];
        let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, host.node_address().port());
        Self::start_at(host, any.into(), &command)
    }

    /// `levada publish`: a node that publishes a file, over and over.
    ///
    /// # Errors
    ///
    /// When there is no binary, or it cannot be started.
    pub fn origin(host: &Host, name: &str, file: &Path, join: &Host) -> anyhow::Result<Self> {
        let (file, join) = (text(file)?, join.node_address().to_string());
        Self::start(host, &["publish", name, file, "--loop", "--join", &join])
    }

    /// `levada play`: a node that writes a stream to [`Node::recording`].
    ///
    /// # Errors
    ///
    /// When there is no binary, or it cannot be started.
    pub fn player(host: &Host, name: &str, join: &Host) -> anyhow::Result<Self> {
        let (file, join) = (host.file("ts"), join.node_address().to_string());
        Self::start(
            host,
            &["play", name, "--out", text(&file)?, "--join", &join],
        )
    }

    /// `levada publish` on all addresses of a host, of both families: a node that publishes a file, over and over.
    ///
    /// # Errors
    ///
    /// When there is no binary, or it cannot be started.
    pub fn origin_on_all_addresses(host: &Host, name: &str, file: &Path) -> anyhow::Result<Self> {
        let command = ["publish", name, text(file)?, "--loop"];
        Self::start_at(host, all_addresses(host), &command)
    }

    /// `levada play` from whatever address of its host: as [`Node::player`], through a neighbour at that address.
    ///
    /// # Errors
    ///
    /// When there is no binary, or it cannot be started.
    pub fn player_through(host: &Host, name: &str, join: &str) -> anyhow::Result<Self> {
        let file = host.file("ts");
        let command = ["play", name, "--out", text(&file)?, "--join", join];
        Self::start_at(host, all_addresses(host), &command)
    }

    /// `levada publish`: a node that publishes a file, over and over, with links to these neighbours.
    ///
    /// # Errors
    ///
    /// When there is no binary, or it cannot be started.
    pub fn origin_beside(
        host: &Host,
        name: &str,
        file: &Path,
        joins: &[&Host],
    ) -> anyhow::Result<Self> {
        let joins = all_joins(joins);
        let mut command = vec!["publish", name, text(file)?, "--loop"];
        command.extend(joins.iter().map(String::as_str));
        Self::start(host, &command)
    }

    /// `levada play` of which is written down when each byte came: see [`crate::Arrivals`]. `more` are arguments;
    /// `peer` is the program `lab-peer`.
    ///
    /// # Errors
    ///
    /// When there is no binary, or it cannot be started.
    pub fn watcher(
        host: &Host,
        name: &str,
        joins: &[&Host],
        more: &[&str],
        peer: &Path,
    ) -> anyhow::Result<Self> {
        let joins = all_joins(joins);
        let mut command = vec!["play", name, "--out", "-"];
        command.extend(joins.iter().map(String::as_str));
        command.extend(more);
        let arguments = arguments(host, host.node_address().into(), &command)?;
        // The one that writes ends when the player has: an interrupt is the player's alone.
        let script = r#"trap "" INT; file=$1; peer=$2; shift 2; "$@" | "$peer" stamp "$file""#;
        let (file, binary) = (host.file("ts"), binary()?);
        // Nobody takes an earlier player's recording for this one's.
        if file.exists() {
            std::fs::remove_file(&file)?;
        }
        let words = [script, "sh", text(&file)?, text(peer)?, text(&binary)?];
        let words = ["-c"].into_iter().chain(words).map(str::to_owned);
        let all: Vec<String> = words.chain(arguments).collect();
        Self::of(host, PathBuf::from("sh"), all)
    }

    fn start(host: &Host, command: &[&str]) -> anyhow::Result<Self> {
        Self::start_at(host, host.node_address().into(), command)
    }

    fn start_at(host: &Host, listen: SocketAddr, command: &[&str]) -> anyhow::Result<Self> {
        let arguments = arguments(host, listen, command)?;
        Self::of(host, binary()?, arguments)
    }

    fn of(host: &Host, program: PathBuf, arguments: Vec<String>) -> anyhow::Result<Self> {
        Ok(Self {
            process: Process::start(host, &program, &arguments)?,
            host: host.clone(),
            program,
            arguments,
        })
    }

    /// Kills it and starts it again.
    ///
    /// # Errors
    ///
    /// When it cannot be killed or started.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.process.kill()?;
        self.process = Process::start(&self.host, &self.program, &self.arguments)?;
        Ok(())
    }

    /// `levada play` at this node: writes a stream of its to [`Node::recording`], for as long as the process lives.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn play(&self, host: &Host, name: &str) -> Process {
        let (file, state) = (self.recording(), state(host));
        let start = || {
            let words = ["play", name, "--out", text(&file)?, "--node", text(&state)?];
            Process::start(host, &binary()?, words)
        };
        start().expect("a player starts")
    }

    /// The process.
    #[must_use]
    pub const fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Where a player writes.
    #[must_use]
    pub fn recording(&self) -> PathBuf {
        self.host.file("ts")
    }

    /// How much a player has written.
    #[must_use]
    pub fn recorded_bytes(&self) -> u64 {
        std::fs::metadata(self.recording()).map_or(0, |metadata| metadata.len())
    }

    /// What it counted itself, by name and reason: `levada counters --json`. What the kernel saw on a cable is
    /// [`crate::Counter`].
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn counters(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let rows = self.view("counters")?;
        let row = |row: &Value| {
            let name = row["name"].as_str()?;
            let name = match row["reason"].as_str() {
                Some(reason) => format!("{name}_{reason}"),
                None => name.to_owned(),
            };
            Some((name, row["value"].as_u64()?))
        };
        let rows = rows.as_array().context("the counters are no rows")?;
        Ok(rows.iter().filter_map(row).collect())
    }

    /// The flow of a stream here, if it is known: a row of `levada flows --json`.
    #[must_use]
    pub fn flow(&self, stream: &str) -> Option<Value> {
        row(&self.view("flows").ok()?, "name", stream).cloned()
    }

    /// Waits until a stream is known here and its origin can be reached.
    ///
    /// # Panics
    ///
    /// If it is not `within` this time.
    #[track_caller]
    pub fn learns(&self, stream: &str, within: Duration) {
        let what = format!("`{stream}` is known at {}", self.host.name());
        eventually(within, &what, || {
            let streams = self.view("streams").ok()?;
            let stream = row(&streams, "name", stream)?;
            stream["distance_seconds"].as_f64()
        });
    }

    /// Waits until it answers commands.
    ///
    /// # Panics
    ///
    /// If it does not `within` this time.
    #[track_caller]
    pub fn answers(&self, within: Duration) {
        let what = format!("the node at {} answers", self.host.name());
        eventually(within, &what, || self.view("nodes").ok());
    }

    /// Waits until a player has written this much more, and returns how much it has written.
    ///
    /// # Panics
    ///
    /// If it does not do so `within` this time.
    #[track_caller]
    pub fn records(&self, more: u64, within: Duration) -> u64 {
        let begin = self.recorded_bytes();
        let what = format!(
            "{more} bytes more than {begin} written at {}",
            self.host.name()
        );
        eventually(within, &what, || {
            let bytes = self.recorded_bytes();
            (bytes >= begin + more).then_some(bytes)
        })
    }

    /// The sessions of its gateways, also those that ended: `levada sessions --ended --json`.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn sessions(&self) -> anyhow::Result<Vec<Value>> {
        let rows = self.show(&["sessions", "--ended"])?;
        let rows = rows.as_array().context("the sessions are no rows")?;
        Ok(rows.clone())
    }

    /// `levada publish --loop` at this node.
    ///
    /// # Errors
    ///
    /// When there is no binary, or it cannot be started.
    pub fn publish(&self, name: &str, source: &str) -> anyhow::Result<Process> {
        let state = state(&self.host);
        let arguments = ["publish", name, source, "--loop", "--node", text(&state)?];
        Process::start_as(&self.host, name, &binary()?, arguments)
    }

    /// The rows of `levada VIEW --json`; an error while it does not answer.
    ///
    /// # Errors
    ///
    /// When the command fails or prints no JSON.
    pub fn view(&self, view: &str) -> anyhow::Result<Value> {
        self.show(&[view])
    }

    fn show(&self, words: &[&str]) -> anyhow::Result<Value> {
        let state = state(&self.host);
        let view = words.join(" ");
        let mut command = Command::new(binary()?);
        command.env_remove(VARIABLE);
        let output = command
            .args(words)
            .args(["--json", "--node", text(&state)?])
            .output()?;
        anyhow::ensure!(
            output.status.success(),
            "`levada {view}` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let mut json: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("`levada {view} --json` printed no JSON"))?;
        Ok(json["rows"].take())
    }
}

/// The row of `rows` whose `key` is `value`.
fn row<'a>(rows: &'a Value, key: &str, value: &str) -> Option<&'a Value> {
    let mut rows = rows.as_array()?.iter();
    rows.find(|row| row[key].as_str() == Some(value))
}

/// A command with what says where the node listens and what is its state.
fn arguments(host: &Host, listen: SocketAddr, command: &[&str]) -> anyhow::Result<Vec<String>> {
    let mut arguments: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
    arguments.extend(["--listen".to_owned(), listen.to_string()]);
    arguments.extend(["--state".to_owned(), text(&state(host))?.to_owned()]);
    Ok(arguments)
}

fn all_joins(hosts: &[&Host]) -> Vec<String> {
    let join = |host: &&Host| ["--join".to_owned(), host.node_address().to_string()];
    hosts.iter().flat_map(join).collect()
}

fn state(host: &Host) -> PathBuf {
    host.file("state")
}

fn all_addresses(host: &Host) -> SocketAddr {
    SocketAddr::from((Ipv6Addr::UNSPECIFIED, host.node_address().port()))
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not text", path.display()))
}

/// The binary under test: the one that is named, else the one that was built here.
///
/// # Errors
///
/// When there is none; it says how to build it.
pub fn binary() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os(VARIABLE) {
        let named = PathBuf::from(named);
        anyhow::ensure!(
            named.is_file(),
            "{VARIABLE} names {}, which is no file",
            named.display()
        );
        return Ok(named);
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let built = ["release", "debug"].map(|profile| target.join(profile).join("levada"));
    built.into_iter().find(|binary| binary.is_file()).context(
        "there is no `levada` to test: build it with `cargo build --release --package levada-cli`",
    )
}
