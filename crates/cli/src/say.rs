//! What commands say: results on standard output, everything else on standard error.
//!
//! Not logs (`logging.rs`). Called by every command. Invariant: nobody reading is no reason to panic: a closed
//! standard output ends a command in order, a closed standard error is ignored.

use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;

/// Prints a line of what was asked for.
pub(crate) fn result(text: impl fmt::Display) -> io::Result<()> {
    print(format_args!("{text}\n"))
}

/// Prints what was asked for, as it is.
pub(crate) fn print(text: impl fmt::Display) -> io::Result<()> {
    let mut output = io::stdout().lock();
    write!(output, "{text}")?;
    output.flush()
}

/// Tells the user something on the way.
pub(crate) fn note(text: impl fmt::Display) {
    // Whoever closed standard error does not want to know.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// How this program was called, so that a command it prints can be copied; short if it lies under the current
/// directory.
pub(crate) fn program() -> String {
    let Some(called) = std::env::args().next() else {
        return "levada".to_owned();
    };
    match std::env::current_dir() {
        Ok(here) => from_here(&called, &here),
        Err(_) => called,
    }
}

fn from_here(called: &str, here: &Path) -> String {
    match Path::new(called).strip_prefix(here) {
        Ok(below) => Path::new(".").join(below).display().to_string(),
        Err(_) => called.to_owned(),
    }
}

/// Why a command failed, with all causes. Some of them repeat theirs, which is said once.
pub(crate) fn failure(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Whether a command failed only because nobody reads its output any more, as behind `| head`.
pub(crate) fn is_unread(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_below_this_directory_is_called_from_here() {
        let here = Path::new("/home/me/levada");

        for (called, shown) in [
            ("levada", "levada"),
            ("target/release/levada", "target/release/levada"),
            ("/usr/bin/levada", "/usr/bin/levada"),
            (
                "/home/me/levada/target/release/levada",
                "./target/release/levada",
            ),
        ] {
            assert_eq!(from_here(called, here), shown);
        }
    }

    #[test]
    fn a_cause_is_said_once() {
        let cause = || io::Error::other("no such file");
        let plain = anyhow::Error::new(cause()).context("cannot read x");
        let repeated =
            anyhow::Error::new(cause()).context("cannot read x: no such file; give another");

        assert_eq!(failure(&plain), "cannot read x: no such file");
        assert_eq!(
            failure(&repeated),
            "cannot read x: no such file; give another"
        );
    }
}
