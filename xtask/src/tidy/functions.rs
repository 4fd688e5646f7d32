//! Finds the functions of a Rust file and counts their lines of code.
//!
//! It finds `fn NAME`, walks to the body's brace and to the brace that closes it. Closures belong to their function;
//! a function inside a function counts for both.
//! Called by `lengths`.
//! Invariant: comments and blank lines never count, so nobody saves on them.

use crate::scan::Line;

/// What a function above the limit says for itself, directly above it or its attributes.
const MARKER: &str = "// tidy: long";

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// The line of the word `fn`, from 1.
    pub(crate) line: usize,
    /// Lines of code from there to the closing brace.
    pub(crate) length: usize,
    /// The reason of its marker, if it has one; may be empty.
    pub(crate) excuse: Option<String>,
}

/// Every function with a body, in the order of the file.
pub(crate) fn functions(lines: &[Line]) -> Vec<Function> {
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        for (column, name) in names(&line.code) {
            if let Some(end) = body_end(lines, index, column) {
                found.push(Function {
                    name: name.to_owned(),
                    line: index + 1,
                    length: lines[index..=end]
                        .iter()
                        .filter(|line| line.is_code())
                        .count(),
                    excuse: excuse(lines, index),
                });
            }
        }
    }
    found
}

/// Each `fn NAME` of a line: where the name starts, and the name.
fn names(code: &str) -> Vec<(usize, &str)> {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if code[..at].chars().next_back().is_some_and(is_word) {
            continue;
        }
        let rest = &code[at + 3..];
        let length = rest.find(|letter| !is_word(letter)).unwrap_or(rest.len());
        if length > 0 {
            found.push((at + 3, &rest[..length]));
        }
    }
    found
}

/// The line that closes the body of the function whose name stands at `column`, or none if it has no body.
fn body_end(lines: &[Line], start: usize, column: usize) -> Option<usize> {
    let mut brackets = 0_i32;
    let mut braces = 0_i32;
    for (index, line) in lines.iter().enumerate().skip(start) {
        let code = if index == start {
            &line.code[column..]
        } else {
            line.code.as_str()
        };
        for letter in code.chars() {
            match letter {
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets -= 1,
                ';' if brackets == 0 && braces == 0 => return None,
                '{' => braces += 1,
                '}' => {
                    braces -= 1;
                    if braces == 0 && brackets == 0 {
                        return Some(index);
                    }
                }
                _ => {}
            }
        }
    }
    None
}

/// Looks for the marker upwards, through attributes and comments.
fn excuse(lines: &[Line], function: usize) -> Option<String> {
    for line in lines[..function].iter().rev() {
        if let Some(reason) = line.comment.trim().strip_prefix(MARKER) {
            return Some(reason.trim().to_owned());
        }
        let code = line.code.trim();
        let ends_an_item = code.ends_with(['{', '}', ';']);
        if ends_an_item || (code.is_empty() && line.comment.is_empty()) {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::scan::scan;

    #[test]
    fn a_function_counts_its_code_from_fn_to_brace() {
        let source =
            "fn one(\n    a: [u8; 4],\n) -> u8 {\n    // why\n\n    a[0]\n}\n\nfn two() {}\n";

        let found = functions(&scan(source));

        let counts: Vec<(&str, usize, usize)> = found
            .iter()
            .map(|f| (f.name.as_str(), f.line, f.length))
            .collect();
        assert_eq!(counts, [("one", 1, 5), ("two", 9, 1)]);
    }

    #[test]
    fn pointers_declarations_and_words_that_end_in_fn_are_no_functions() {
        let source = "trait T { fn declared(&self) -> [u8; 4]; }\ntype F = fn (u8);\nlet cfn = \"fn x() {}\";\n";

        assert_eq!(functions(&scan(source)), []);
    }

    #[test]
    fn a_marker_above_the_attributes_is_found_with_its_reason() {
        let source = "// tidy: long a table\n/// Doc.\n#[allow(\n    clippy::x,\n)]\nfn long() {}\nfn other() {}";

        let found = functions(&scan(source));

        assert_eq!(found[0].excuse.as_deref(), Some("a table"));
        assert_eq!(found[1].excuse, None);
    }
}
