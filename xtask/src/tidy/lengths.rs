//! Files and functions stay short enough to read (STYLE S8).
//!
//! Counts lines of code only. A long function may give its reason on the spot; what was long before the rule is in the
//! ratchet file and may only shrink. It says nothing about short functions that do too much.
//! Called by `tidy`.
//! Invariant: a reason that is not needed any more is a finding too.

use super::functions::{Function, functions};
use super::ratchet::{self, Over};
use crate::tree::{Finding, RustFile, Tree};

/// Lines of code in a file.
const FILE_WARNS: usize = 500;
const FILE_FAILS: usize = 800;
/// Lines of code in a function, signature and brace included.
const FUNCTION_FAILS: usize = 70;
/// Lines of code of tests inside a file with other code.
const TESTS_WARN: usize = 150;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let over = over_limit(tree);
    let mut findings: Vec<Finding> = tree.rust.iter().flat_map(check_file).collect();
    findings.extend(ratchet::check(tree, &over));
    findings
}

/// Every file and function over its limit that gives no reason on the spot.
pub(crate) fn over_limit(tree: &Tree) -> Vec<Over> {
    let mut over = Vec::new();
    for file in &tree.rust {
        let length = code_lines(file);
        if length > FILE_FAILS {
            over.push(Over {
                name: file.path.clone(),
                path: file.path.clone(),
                line: 0,
                length,
                limit: FILE_FAILS,
            });
        }
        let long = functions(&file.lines)
            .into_iter()
            .filter(|function| function.length > FUNCTION_FAILS);
        for function in long.filter(|function| function.excuse.is_none()) {
            over.push(Over {
                name: format!("{}::{}", file.path, function.name),
                path: file.path.clone(),
                line: function.line,
                length: function.length,
                limit: FUNCTION_FAILS,
            });
        }
    }
    over
}

fn code_lines(file: &RustFile) -> usize {
    file.lines.iter().filter(|line| line.is_code()).count()
}

fn check_file(file: &RustFile) -> Vec<Finding> {
    let mut findings: Vec<Finding> = functions(&file.lines)
        .iter()
        .filter_map(|function| check_excuse(file, function))
        .collect();
    let length = code_lines(file);
    if length > FILE_WARNS && length <= FILE_FAILS {
        let text = format!("{length} lines of code; split it before it has {FILE_FAILS}");
        findings.push(Finding::warning(&file.path, 0, text));
    }
    let tests = file
        .lines
        .iter()
        .filter(|line| line.test && line.is_code())
        .count();
    if tests > TESTS_WARN && tests < length {
        let first = file
            .lines
            .iter()
            .position(|line| line.test)
            .map_or(0, |index| index + 1);
        let text =
            format!("{tests} lines of tests; over {TESTS_WARN} they move to a sibling `tests.rs`");
        findings.push(Finding::warning(&file.path, first, text));
    }
    findings
}

fn check_excuse(file: &RustFile, function: &Function) -> Option<Finding> {
    let Function {
        name,
        line,
        length,
        excuse,
    } = function;
    let reason = excuse.as_ref()?;
    let text = if *length <= FUNCTION_FAILS {
        format!("`{name}` has {length} lines and needs no `// tidy: long`; remove the marker")
    } else if reason.is_empty() {
        format!("`{name}` is marked long without a reason; write why it cannot be split")
    } else {
        return None;
    };
    Some(Finding::new(&file.path, *line, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::fixture::{shown, tree};

    fn function(lines: usize) -> String {
        format!("fn long() {{\n{}}}\n", "    x();\n".repeat(lines - 2))
    }

    #[test]
    fn a_function_at_the_limit_passes_and_one_line_more_fails() {
        let at_limit = tree(&[("a.rs", &function(70))]);
        let over = tree(&[("a.rs", &function(71))]);

        assert_eq!(check(&at_limit), []);
        assert_eq!(shown(&check(&over)).len(), 1);
        assert!(
            check(&over)[0].text.starts_with("`long` has 71 lines"),
            "{:?}",
            check(&over)
        );
    }

    #[test]
    fn a_reason_excuses_a_long_function_but_an_empty_one_does_not() {
        let with_reason = tree(&[(
            "a.rs",
            &format!("// tidy: long a table of flags\n{}", function(80)),
        )]);
        let without = tree(&[("a.rs", &format!("// tidy: long\n{}", function(80)))]);

        assert_eq!(check(&with_reason), []);
        assert!(check(&without)[0].text.contains("without a reason"));
    }

    #[test]
    fn a_marker_on_a_short_function_is_a_finding() {
        let tree = tree(&[("a.rs", "// tidy: long a table\nfn short() {}\n")]);

        assert!(check(&tree)[0].text.contains("remove the marker"));
    }

    #[test]
    fn a_file_warns_over_500_lines_and_fails_over_800() {
        let warns = tree(&[("a.rs", &"x();\n".repeat(501))]);
        let fails = tree(&[("a.rs", &"x();\n".repeat(801))]);
        let passes = tree(&[(
            "a.rs",
            &format!("{}{}", "x();\n".repeat(500), "// why\n".repeat(500)),
        )]);

        assert!(check(&warns)[0].warning);
        assert!(!check(&fails)[0].warning);
        assert_eq!(check(&passes), []);
    }

    #[test]
    fn many_lines_of_tests_inside_a_file_warn() {
        let tests = format!(
            "x();\n#[cfg(test)]\nmod tests {{\n{}}}\n",
            "    x();\n".repeat(160)
        );

        let findings = check(&tree(&[("a.rs", &tests)]));

        assert!(findings[0].warning && findings[0].line == 2, "{findings:?}");
    }
}
