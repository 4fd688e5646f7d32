//! No line of Rust or prose is wider than 120 columns (STYLE S8).
//!
//! A column is a character, however many bytes it has. Rust is held in code, literals and comments alike, although the
//! formatter breaks code earlier. Rows of tables, in Markdown and in comments, are free, and so are code fences of
//! Markdown and any line with a URL: none of them can be broken.
//! Called by `tidy`.
//! Invariant: what a reader sees is what is counted: a file of any line endings has the same widths.

use super::markdown;
use crate::tree::{Finding, Tree};

/// The widest that a line may be.
const COLUMNS_MAX: usize = 120;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let rust = tree.rust.iter().flat_map(|file| {
        let lines = (1..).zip(file.source.lines());
        lines.filter_map(|(number, line)| check_line(&file.path, number, line))
    });
    let texts = tree.texts.iter().filter(|file| file.path.ends_with(".md"));
    let prose = texts.flat_map(|file| {
        markdown::prose(&file.text)
            .filter_map(|(number, line)| check_line(&file.path, number, line))
    });
    rust.chain(prose).collect()
}

fn check_line(path: &str, number: usize, line: &str) -> Option<Finding> {
    let columns = line.chars().count();
    let inside = line
        .trim_start()
        .trim_start_matches(['/', '!'])
        .trim_start();
    let is_free = inside.starts_with('|') || line.contains("://");
    let is_wide = columns > COLUMNS_MAX && !is_free;
    is_wide.then(|| {
        let text = format!("{columns} columns, {COLUMNS_MAX} are allowed; break the line");
        Finding::new(path, number, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::fixture::{shown, tree};

    #[test]
    fn a_line_of_120_characters_passes_and_one_more_is_found() {
        let most = "ä".repeat(117);
        let tree = tree(&[
            ("a.rs", &format!("// {most}\r\n// {most}a\n")),
            ("a.md", &format!("ab {most}\nab {most}a\n")),
        ]);

        let found = shown(&check(&tree));

        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("a.rs:2: 121 columns"), "{found:?}");
        assert!(found[1].starts_with("a.md:2: 121 columns"), "{found:?}");
    }

    #[test]
    fn tables_fences_urls_and_data_are_free() {
        let wide = "x ".repeat(70);
        let tree = tree(&[
            (
                "a.md",
                &format!("| {wide}|\n```text\n{wide}\n```\n<https://example.net/{wide}>\n"),
            ),
            ("vectors.txt", &wide),
            (
                "a.rs",
                &format!("// https://example.net/{wide}\n    //! | {wide}|\n"),
            ),
        ]);

        assert_eq!(check(&tree), []);
    }
}
