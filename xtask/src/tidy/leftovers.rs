//! Nothing unfinished is committed: no marks for later, no stubs, no debug prints.
//!
//! It looks at code and comments, not into strings. Work for later belongs in the issue tracker.
//! Called by `tidy`.
//! Invariant: tests are held to the same rule.

use crate::scan::words;
use crate::tree::{Finding, Tree};

/// Words that promise work, in code or comments.
const MARKS: &[&str] = &["FIXME", "TODO", "XXX"];
/// Macros that stand for code that is not there, or for a look at a value.
const MACROS: &[&str] = &["todo", "unimplemented", "dbg"];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.rust {
        for (number, line) in file.numbered() {
            let mark = words(&line.comment)
                .chain(words(&line.code))
                .find(|word| MARKS.contains(word));
            if let Some(mark) = mark {
                let text = format!("`{mark}`: do it now, or write an issue and take the mark out");
                findings.push(Finding::new(&file.path, number, text));
            }
            if let Some(name) = MACROS.iter().find(|name| calls(&line.code, name)) {
                let text = format!("`{name}!`: write the code that belongs here");
                findings.push(Finding::new(&file.path, number, text));
            }
        }
    }
    findings
}

/// Whether the line calls this macro.
fn calls(code: &str, name: &str) -> bool {
    code.match_indices(&format!("{name}!")).any(|(at, _)| {
        !code[..at].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::fixture::tree;

    #[test]
    fn marks_in_comments_and_stubs_in_code_are_found() {
        let source = "// TODO: more\nfn f() { todo!() }\nfn g() { dbg!(1); }\nfn h() { unimplemented!() } // FIXME\n";

        let lines: Vec<usize> = check(&tree(&[("a.rs", source)]))
            .iter()
            .map(|found| found.line)
            .collect();

        assert_eq!(lines, [1, 2, 3, 4, 4]);
    }

    #[test]
    fn strings_and_longer_words_are_no_marks() {
        let source =
            "let a = \"TODO\"; let todo_list = method_todo!();\nlet dbg = 1; if dbg != 2 {}\n";

        assert_eq!(check(&tree(&[("a.rs", source)])), []);
    }
}
