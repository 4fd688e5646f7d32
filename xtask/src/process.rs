//! Runs programs: plainly, or watched line by line and ended when they hang.
//!
//! It knows nothing of tests. On Ctrl-C the terminal ends the children with us, because they stay in our process group.
//! Used by `test`, `seeds`, `ci` and `deny`.
//! Invariant: a watched program that is past its limit is killed with everything it started, before `watch` returns.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// How long the output of a program may stay open after its end. Longer, and something it started still holds it.
const OUTPUT_LINGER: Duration = Duration::from_secs(5);
/// Lines between the reader and us; a full queue only slows the program down.
const LINES_MAX: usize = 1024;

/// How a watched program ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// By itself, but a process that it started lives on.
    Left(ExitStatus),
    /// By us, after its limit.
    Killed,
}

enum Event {
    Line(String),
    OutputClosed,
    Exited(std::io::Result<ExitStatus>),
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Shows the command, runs it to its end, and says whether it succeeded.
pub(crate) fn succeeds(command: &mut Command) -> anyhow::Result<bool> {
    println!("$ {}", shown(command));
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    Ok(status.success())
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let name = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default();
    let words = [name].into_iter().chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The program of this name, in the search path or where system tools lie.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    // Appended: a name like `gst-launch-1.0` has a dot and no extension.
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let mut candidates = folders.map(|folder| folder.join(&file));
    candidates.find(|candidate| candidate.is_file())
}

/// Runs the command, hands each line of its standard output to `on_line`, and kills it after `limit`.
pub(crate) fn watch(
    command: &mut Command,
    limit: Duration,
    mut on_line: impl FnMut(&str),
) -> anyhow::Result<Ended> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    let id = child.id();
    let output = child.stdout.take().context("standard output is piped")?;
    let events = events(child, output);
    let mut deadline = Instant::now() + limit;
    let mut open = true;
    let mut status = None;
    let mut killed = false;
    while open || status.is_none() {
        match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Event::Line(line)) => on_line(&line),
            Ok(Event::OutputClosed) => open = false,
            Ok(Event::Exited(ended)) => {
                status = Some(ended.context("cannot wait for a child")?);
                deadline = deadline.min(Instant::now() + OUTPUT_LINGER);
            }
            Err(RecvTimeoutError::Timeout) if status.is_some() || killed => break,
            Err(RecvTimeoutError::Timeout) => {
                killed = true;
                kill(id);
                deadline = Instant::now() + OUTPUT_LINGER;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(match status {
        Some(status) if !killed && open => Ended::Left(status),
        Some(status) if !killed => Ended::Exited(status),
        _ => Ended::Killed,
    })
}

/// What happens to the child, in order; one thread reads, one waits.
fn events(mut child: Child, output: impl Read + Send + 'static) -> Receiver<Event> {
    let (sender, receiver) = sync_channel(LINES_MAX);
    let lines = sender.clone();
    thread::spawn(move || read_lines(output, &lines));
    thread::spawn(move || sender.send(Event::Exited(child.wait())));
    receiver
}

fn read_lines(output: impl Read, lines: &SyncSender<Event>) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while output
        .read_until(b'\n', &mut line)
        .is_ok_and(|read| read > 0)
    {
        let text = String::from_utf8_lossy(&line)
            .trim_end_matches(['\r', '\n'])
            .to_owned();
        if lines.send(Event::Line(text)).is_err() {
            return;
        }
        line.clear();
    }
    // Nobody listens any more if this fails, and then nobody needs to know.
    let _ = lines.send(Event::OutputClosed);
}

/// Kills a child of ours with everything it started.
fn kill(id: u32) {
    let mut victims = descendants(id);
    victims.push(id);
    let ids = victims
        .iter()
        .map(u32::to_string)
        .collect::<Vec<_>>()
        .join(" ");
    let result = if cfg!(windows) {
        Command::new("taskkill")
            .args(["/F", "/T", "/PID", &id.to_string()])
            .status()
    } else {
        // The shell's own `kill`: a bare Debian has no other.
        Command::new("sh")
            .args(["-c", &format!("kill -KILL {ids}")])
            .status()
    };
    if let Err(error) = result {
        eprintln!("cannot kill {ids}: {error}");
    }
}

/// All processes below `id`, where the kernel lists them.
fn descendants(id: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pairs: Vec<(u32, u32)> = ids.filter_map(|id| Some((id, parent(id)?))).collect();
    let mut found = vec![id];
    let mut next = 0;
    while next < found.len() {
        let above = found[next];
        found.extend(
            pairs
                .iter()
                .filter(|(_, parent)| *parent == above)
                .map(|(id, _)| *id),
        );
        next += 1;
    }
    found.split_off(1)
}

/// The parent of a process: the second word after the name in brackets, proc_pid_stat(5).
fn parent(id: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_is_found_by_its_whole_name() {
        assert!(find("cargo").is_some());
        assert!(find("cargo.no-such-ending").is_none());
    }

    #[test]
    fn every_line_is_handed_over_and_the_status_kept() {
        let mut lines = Vec::new();

        let ended = watch(&mut shell("echo one; printf two; exit 3"), LONG, |line| {
            lines.push(line.to_owned())
        });

        assert_eq!(lines, ["one", "two"]);
        assert!(matches!(ended.unwrap(), Ended::Exited(status) if status.code() == Some(3)));
    }

    #[test]
    fn a_hung_program_is_killed_with_its_children() {
        let mut child = String::new();
        // The shell waits for its child, and the child waits for nothing that ever comes.
        let script = "tail -f /dev/null & echo $!; wait";

        let ended = watch(&mut shell(script), Duration::from_millis(500), |line| {
            child = line.to_owned()
        });

        assert!(matches!(ended.unwrap(), Ended::Killed));
        // A killed process is seen until the kernel has taken it down: wait for that, not for a time.
        let deadline = Instant::now() + LONG;
        let lives = || {
            let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        while lives() {
            assert!(Instant::now() < deadline, "{child} lives");
            thread::yield_now();
        }
    }

    #[test]
    fn a_process_left_behind_is_noticed() {
        let mut child = String::new();

        let ended = watch(&mut shell("tail -f /dev/null & echo $!"), LONG, |line| {
            child = line.to_owned()
        });

        assert!(matches!(ended.unwrap(), Ended::Left(_)));
        kill(child.parse().unwrap());
    }

    #[test]
    fn a_command_is_shown_as_typed() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["fmt", "--check"]);

        assert_eq!(shown(&command), "cargo fmt --check");
    }
}
