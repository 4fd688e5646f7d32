//! `cargo xtask`: every check of this project behind one command, the same here and in CI.
//!
//! This file knows the names of the subcommands and hands over; each subcommand is a module of its own.
//! It is not a build system: `cargo build` and `cargo test -p CRATE` work without it.
//! Called through the alias in `.cargo/config.toml`, and by `.ci/run`.
//! Invariant: whatever fails, the exit code is not 0.

#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool speaks on the terminal"
)]

mod ci;
mod cost;
mod deny;
mod golden;
mod imports;
mod process;
mod scan;
mod seeds;
mod test;
mod tidy;
mod tree;
mod trial;
mod web;

use std::process::ExitCode;

/// One subcommand: its name, the arguments it takes, what it does, and the function that does it.
struct Command {
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
    run: fn(&[String]) -> anyhow::Result<bool>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "ci",
        arguments: "[--fail-fast]",
        about: "all that CI checks: fmt, tidy, web, clippy, doc, deny, test",
        run: ci::run,
    },
    Command {
        name: "core-cost",
        arguments: "",
        about: "count what each kind of input costs the core, and whether it grows (needs valgrind)",
        run: cost::run,
    },
    Command {
        name: "deny",
        arguments: "",
        about: "licences, sources and banned crates, as deny.toml says",
        run: deny::run,
    },
    Command {
        name: "sim-golden",
        arguments: "[--bless]",
        about: "run every simulator scenario and compare its traces with the golden file",
        run: golden::run,
    },
    Command {
        name: "sim-seeds",
        arguments: "[--count N]",
        about: "run the first simulator scenario with N seeds (default 1000)",
        run: seeds::run,
    },
    Command {
        name: "test",
        arguments: "",
        about: "install what the tests need (as root), run every test, count them",
        run: test::run,
    },
    Command {
        name: "tidy",
        arguments: "[--bless]",
        about: "the rules of docs/STYLE.md that a program can check",
        run: tidy::run,
    },
    Command {
        name: "trial",
        arguments: "NAME",
        about: "the long form of a test that CI runs in a short one: rtsp-matrix",
        run: trial::run,
    },
    Command {
        name: "web",
        arguments: "",
        about: "build the page anew and compare it with web/dist (needs Node.js)",
        run: web::run,
    },
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        eprint!("{}", help());
        return ExitCode::from(2);
    };
    if ["help", "--help", "-h"].contains(&name.as_str()) {
        print!("{}", help());
        return ExitCode::SUCCESS;
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        eprint!("{}", unknown(&name));
        return ExitCode::from(2);
    };
    let rest: Vec<String> = arguments.collect();
    if rest.iter().any(|argument| argument == "--help") {
        println!(
            "cargo xtask {} {}\n  {}",
            command.name, command.arguments, command.about
        );
        return ExitCode::SUCCESS;
    }
    match (command.run)(&rest) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cargo xtask {name}: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// The text of `cargo xtask help`.
fn help() -> String {
    let mut text = String::from("The project's own checks.\n\nUsage: cargo xtask COMMAND\n\n");
    for command in COMMANDS {
        let usage = format!("{} {}", command.name, command.arguments);
        text.push_str(&format!("  {usage:<24}{}\n", command.about));
    }
    text.push_str("\nBefore a commit: cargo xtask tidy. Before a push: cargo xtask ci.\n");
    text
}

/// What a misspelt command gets: what was wrong, and the nearest name there is.
fn unknown(name: &str) -> String {
    let nearest = COMMANDS
        .iter()
        .map(|command| command.name)
        .min_by_key(|known| distance(name, known));
    let hint = match nearest {
        Some(known) if distance(name, known) <= known.len().div_ceil(2) => {
            format!(" Did you mean `cargo xtask {known}`?")
        }
        _ => String::new(),
    };
    format!("There is no command `{name}`.{hint}\n\n{}", help())
}

/// The edits (insert, delete, replace) that turn `from` into `to`.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for column in 0..to.len() {
            let replaced = diagonal + usize::from(letter != to[column]);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

/// Refuses any argument that is not in `known`, with the list of those that are.
fn refuse_unknown(arguments: &[String], known: &[&str]) -> anyhow::Result<()> {
    for argument in arguments {
        if !known.contains(&argument.as_str()) {
            let taken = if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            };
            anyhow::bail!("unknown argument `{argument}`; it takes: {taken}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_misspelt_command_gets_the_nearest_name() {
        let text = unknown("tydi");

        assert!(text.contains("Did you mean `cargo xtask tidy`?"), "{text}");
    }

    #[test]
    fn a_word_that_is_near_to_nothing_gets_the_list_only() {
        let text = unknown("publish");

        assert!(!text.contains("Did you mean"), "{text}");
        assert!(text.contains("cargo xtask COMMAND"), "{text}");
    }

    #[test]
    fn the_help_names_every_command() {
        let text = help();

        for command in COMMANDS {
            assert!(text.contains(command.name), "{} is missing", command.name);
        }
    }

    #[test]
    fn distance_counts_single_edits() {
        assert_eq!(distance("tidy", "tidy"), 0);
        assert_eq!(distance("tdy", "tidy"), 1);
        assert_eq!(distance("test", "tidy"), 3);
    }

    #[test]
    fn an_argument_that_no_one_takes_is_refused() {
        let error = refuse_unknown(&["--bles".to_owned()], &["--bless"]).unwrap_err();

        assert!(error.to_string().contains("--bless"), "{error}");
    }
}
