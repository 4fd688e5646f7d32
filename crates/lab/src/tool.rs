//! Runs the programs that the laboratory is built with: `ip`, `nft`, and the shell's `kill`.
//!
//! Not the programs under test (`process`). Called by all of this crate. Invariant: a tool that fails is an error with
//! the command and what it said.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::Context as _;

/// Where Debian keeps tools that only root needs; not in every search path.
const SYSTEM_FOLDERS: &str = "/usr/sbin:/sbin";

/// Says what is missing for a laboratory on this machine.
pub(crate) fn require() -> anyhow::Result<()> {
    let id = run("id", &["-u"])?;
    anyhow::ensure!(
        id.trim() == "0",
        "the laboratory makes network namespaces and needs root: run the tests as root, for example with `sudo`"
    );
    for (tool, package) in [("ip", "iproute2"), ("nft", "nftables")] {
        let found = command(tool)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        anyhow::ensure!(
            found.is_ok(),
            "the laboratory needs `{tool}`: apt-get install -y {package}"
        );
    }
    Ok(())
}

/// Runs a tool and returns what it printed.
pub(crate) fn run(tool: &str, arguments: &[&str]) -> anyhow::Result<String> {
    run_with_input(tool, arguments, "")
}

/// Runs `ip` with words divided by spaces.
pub(crate) fn ip(words: &str) -> anyhow::Result<String> {
    run("ip", &words.split_whitespace().collect::<Vec<_>>())
}

/// Has `nft` in this namespace follow a script.
pub(crate) fn nft(namespace: &str, script: &str) -> anyhow::Result<()> {
    let arguments = ["netns", "exec", namespace, "nft", "-f", "-"];
    run_with_input("ip", &arguments, script)
        .with_context(|| format!("the script was: {script}"))
        .map(drop)
}

/// Sends a signal to processes or, where an id is negative, to process groups.
pub(crate) fn signal(signal: &str, ids: &[i64]) -> anyhow::Result<()> {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    // The shell's own `kill`: a bare Debian has no other.
    let script = format!("kill -s {signal} -- {}", ids.join(" "));
    run("sh", &["-c", &script]).map(drop)
}

/// A tool, found wherever Debian puts it.
fn command(tool: &str) -> Command {
    let mut command = Command::new(tool);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:{SYSTEM_FOLDERS}"));
    command
}

fn run_with_input(tool: &str, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let shown = || format!("`{tool} {}`", arguments.join(" "));
    let mut child = command(tool)
        .args(arguments.iter().map(OsStr::new))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", shown()))?;
    let mut stdin = child.stdin.take().context("its input is piped")?;
    // A tool that ends without reading says why on its standard error.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child
        .wait_with_output()
        .with_context(|| format!("cannot wait for {}", shown()))?;
    anyhow::ensure!(
        output.status.success(),
        "{} failed ({}): {}",
        shown(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    String::from_utf8(output.stdout).with_context(|| format!("{} printed no text", shown()))
}
