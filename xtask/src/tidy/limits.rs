//! A limit exists only if a test reaches it: each `..._MAX` of the halves of a node is named in some test.
//!
//! It finds names; whether the test sees the stated behaviour is the reviewer's business. Limits of the wire have tests
//! of their own (`crates/wire/tests/limits.rs`) and are not looked at here. Called by `tidy`. Invariant: an exception
//! has a reason, and one that a test has made needless is a finding.

use std::collections::BTreeSet;

use crate::scan::words;
use crate::tree::{Finding, RustFile, Tree};

/// Where limits are looked for: the folders of the lane and the ports, and the file that has all those of the core.
const PLACES: [&str; 3] = [
    "crates/lane/src/",
    "crates/ports/src/",
    "crates/core/src/limits.rs",
];
const SUFFIX: &str = "_MAX";

/// Limits that no test names, and why.
const EXCEPTIONS: [(&str, &str); 3] = [
    (
        "ANSWERS_MAX",
        "what a request causes at most; counted out at compile time",
    ),
    (
        "LINKS_IN_ALL_MAX",
        "a sum of two limits, each of which is reached; the node gives it to the lanes and to QUIC",
    ),
    (
        "RECEIVE_ERRORS_MAX",
        "no socket that only hears can be made to fail again and again; the same rule as the lane's own socket",
    ),
];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let tested: BTreeSet<&str> = tree.rust.iter().flat_map(words_of_tests).collect();
    let mut findings = Vec::new();
    for file in tree.rust.iter().filter(|file| is_looked_at(file)) {
        for (number, name) in limits_of(file) {
            let exception = EXCEPTIONS.iter().find(|(excepted, _)| *excepted == name);
            let text = match (exception, tested.contains(name)) {
                (None, true) | (Some(_), false) => continue,
                (None, false) => {
                    format!("no test names the limit {name}: reach it and see what happens there")
                }
                (Some((_, why)), true) => {
                    format!("a test names {name}: strike the exception ({why})")
                }
            };
            findings.push(Finding::new(&file.path, number, text));
        }
    }
    findings
}

fn is_looked_at(file: &RustFile) -> bool {
    !file.is_test() && PLACES.iter().any(|place| file.path.starts_with(place))
}

/// All words of a file's tests.
fn words_of_tests(file: &RustFile) -> impl Iterator<Item = &str> {
    let lines = file.lines.iter().filter(|line| line.test || file.is_test());
    lines.flat_map(|line| words(&line.code))
}

/// The limits that a file defines, with their lines.
fn limits_of(file: &RustFile) -> impl Iterator<Item = (usize, &str)> {
    let lines = file.numbered().filter(|(_, line)| !line.test);
    lines.filter_map(|(number, line)| {
        let mut words = words(&line.code).skip_while(|word| *word != "const");
        let name = words.nth(1)?;
        name.ends_with(SUFFIX).then_some((number, name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::fixture::{shown, tree};

    const PATH: &str = "crates/lane/src/queue.rs";

    fn found(code: &str) -> Vec<String> {
        shown(&check(&tree(&[(PATH, code)])))
    }

    #[test]
    fn a_limit_that_no_test_names_is_found() {
        let found = found("pub(crate) const RUNS_MAX: usize = 3;\nfn f() { g(RUNS_MAX); }\n");

        assert_eq!(found.len(), 1);
        assert!(found[0].contains("RUNS_MAX"), "{found:?}");
    }

    #[test]
    fn a_limit_that_a_test_names_is_reached_here_or_elsewhere() {
        let here = "const RUNS_MAX: usize = 3;\n#[cfg(test)]\nmod tests {\n    fn f() { g(RUNS_MAX); }\n}\n";
        let elsewhere = tree(&[
            (PATH, "pub const RUNS_MAX: usize = 3;\n"),
            ("crates/ports/src/lanes/tests.rs", "use crate::RUNS_MAX;\n"),
        ]);

        assert_eq!(found(here), [""; 0]);
        assert_eq!(check(&elsewhere), []);
    }

    #[test]
    fn what_is_no_limit_or_lies_elsewhere_is_free() {
        let elsewhere = tree(&[("crates/cli/src/main.rs", "const RUNS_MAX: usize = 3;\n")]);

        assert_eq!(
            found("const PAUSE: usize = 3;\n// const OLD_MAX: usize = 3;\n"),
            [""; 0]
        );
        assert_eq!(check(&elsewhere), []);
    }

    #[test]
    fn an_exception_holds_until_a_test_reaches_the_limit() {
        let limit = format!("const {}: usize = 3;\n", EXCEPTIONS[0].0);
        let tested = format!(
            "{limit}#[cfg(test)]\nmod tests {{\n    fn f() {{ g({}); }}\n}}\n",
            EXCEPTIONS[0].0
        );

        assert_eq!(found(&limit), [""; 0]);
        assert!(found(&tested)[0].contains("strike the exception"));
    }
}
