//! The book is held to the program: its commands are understood, its references are what the program says.
//!
//! Not whether they do what the book says, which the tests of each command are for.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::{Path, PathBuf};

use common::Home;

fn book() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/book/src")
}

/// The commands of `levada` in the shell blocks of a text, each as its words.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    let mut is_shell = false;
    for line in text.lines() {
        if let Some(language) = line.strip_prefix("```") {
            is_shell = language == "sh";
            continue;
        }
        let line = line.split(" #").next().unwrap_or_default();
        let its = line.split(['|', '&']).map(str::trim);
        for command in its.filter(|_| is_shell) {
            if let Some(arguments) = command.strip_prefix("levada ") {
                let words = arguments.split_whitespace();
                commands.push(
                    words
                        .map(|word| word.trim_matches(['`', '\'']).to_owned())
                        .collect(),
                );
            }
        }
    }
    commands
}

#[test]
fn each_command_of_the_book_and_of_the_readme_is_understood() {
    let home = Home::new();
    let chapters = std::fs::read_dir(book())
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    let texts = chapters
        .filter(|path| path.is_file())
        .chain([book().join("../../../README.md")]);
    let mut count = 0;

    for path in texts {
        for words in commands(&std::fs::read_to_string(&path).unwrap()) {
            // `--help` behind everything else is answered only if all before it is understood up to there; what is not
            // a flag of that command is refused by name.
            let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
            words.push("--no-such-flag");
            let ended = home.run(&words);

            let refused = ended
                .errors
                .contains("unexpected argument '--no-such-flag'");
            assert!(
                refused,
                "{}: levada {}: {}",
                path.display(),
                words.join(" "),
                ended.errors
            );
            count += 1;
        }
    }
    assert!(count > 30, "{count} commands were found");
}

#[test]
fn the_references_are_what_the_program_says() {
    let home = Home::new();

    for chapter in ["commands", "configuration", "metrics"] {
        let said = home.run(&["reference", chapter]);
        assert!(said.status.success(), "{said:?}");
        let path = book().join(format!("reference/{chapter}.md"));
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            said.output == written,
            "write it anew: levada reference {chapter} > docs/book/src/reference/{chapter}.md"
        );
    }
}

#[test]
fn a_command_that_is_not_one_would_be_found() {
    let text = "```sh\nlevada plya cam | levada run --jion x # no\n```\n```text\nlevada no\n```\n";

    let found = commands(text);

    assert_eq!(found, [vec!["plya", "cam"], vec!["run", "--jion", "x"]]);
    let home = Home::new();
    for mut words in found
        .iter()
        .map(|words| words.iter().map(String::as_str).collect::<Vec<_>>())
    {
        words.push("--no-such-flag");
        let ended = home.run(&words);
        assert!(
            !ended.errors.contains("'--no-such-flag'"),
            "{}",
            ended.errors
        );
    }
}
