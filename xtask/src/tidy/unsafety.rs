//! `unsafe` lives in one folder, and every crate but one forbids it (STYLE S14).
//!
//! It finds the keyword; whether a block is sound is for its `// SAFETY:` comment, clippy and Miri.
//! Called by `tidy`.
//! Invariant: the folder and the crate below are the only exceptions, tests included.

use crate::scan::words;
use crate::tree::{Finding, Member, Tree};

/// The only folder with `unsafe` in it.
const FOLDER: &str = "crates/lane/src/sys/";
/// The only crate that does not forbid it.
const CRATE: &str = "levada-lane";
const FORBID: &str = "#![forbid(unsafe_code)]";

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree
        .rust
        .iter()
        .filter(|file| !file.path.starts_with(FOLDER))
    {
        for (number, line) in file.numbered() {
            if words(&line.code).any(|word| word == "unsafe") {
                let text =
                    format!("`unsafe` outside {FOLDER}; put a safe wrapper there and call it");
                findings.push(Finding::new(&file.path, number, text));
            }
        }
    }
    let forbidding = tree.members.iter().filter(|member| member.name != CRATE);
    findings.extend(forbidding.flat_map(|member| check_roots(tree, member)));
    findings
}

fn check_roots(tree: &Tree, member: &Member) -> Vec<Finding> {
    let roots = tree
        .rust
        .iter()
        .filter(|file| member.roots.contains(&file.path));
    let lacking = roots.filter(|file| !file.lines.iter().any(|line| line.code.trim() == FORBID));
    lacking
        .map(|file| Finding::new(&file.path, 0, format!("add `{FORBID}` below the head")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::fixture::{member, shown, tree};

    #[test]
    fn the_keyword_is_found_outside_its_folder_only() {
        let code = "unsafe { f() }\n";
        let tree = tree(&[
            ("crates/lane/src/sys/gso.rs", code),
            ("crates/lane/src/lane.rs", code),
        ]);

        let findings = shown(&check(&tree));

        assert_eq!(findings.len(), 1);
        assert!(
            findings[0].starts_with("crates/lane/src/lane.rs:1: "),
            "{findings:?}"
        );
    }

    #[test]
    fn comments_strings_and_lint_names_are_no_keyword() {
        let source = "#![deny(unsafe_code)] // unsafe\nlet a = \"unsafe\";\n";

        assert_eq!(check(&tree(&[("a.rs", source)])), []);
    }

    #[test]
    fn a_crate_that_does_not_forbid_it_is_found() {
        let mut tree = tree(&[
            (
                "crates/wire/src/lib.rs",
                "//! Wire. #![forbid(unsafe_code)]\n",
            ),
            (
                "crates/core/src/lib.rs",
                "//! Core.\n#![forbid(unsafe_code)]\n",
            ),
            ("crates/lane/src/lib.rs", "//! Datapath.\n"),
        ]);
        tree.members = vec![
            member("levada-core", "crates/core", &[]),
            member("levada-lane", "crates/lane", &[]),
            member("levada-wire", "crates/wire", &[]),
        ];

        let findings = check(&tree);

        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].path, "crates/wire/src/lib.rs");
    }
}
