//! What ships has `unsafe` in one folder, what counts allocations in tests has some, and every other crate forbids it
//! (STYLE S14).
//!
//! It finds the keyword; whether a block is sound is for its `// SAFETY:` comment, clippy and Miri.
//! Called by `tidy`.
//! Invariant: the folders and the crates below are the only exceptions, tests included.

use crate::scan::words;
use crate::tree::{Finding, Member, Tree};

/// The only folders with `unsafe` in them: system calls, and the allocator of tests.
const FOLDERS: [&str; 2] = ["crates/ports/src/sys/", "crates/heap/src/"];
/// The only crates that do not forbid it.
const CRATES: [&str; 2] = ["levada-ports", "levada-heap"];
const FORBID: &str = "#![forbid(unsafe_code)]";

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree
        .rust
        .iter()
        .filter(|file| !FOLDERS.iter().any(|folder| file.path.starts_with(folder)))
    {
        for (number, line) in file.numbered() {
            if words(&line.code).any(|word| word == "unsafe") {
                let text = format!(
                    "`unsafe` outside {}; put a safe wrapper there and call it",
                    FOLDERS[0]
                );
                findings.push(Finding::new(&file.path, number, text));
            }
        }
    }
    let forbidding = tree
        .members
        .iter()
        .filter(|member| !CRATES.contains(&member.name.as_str()));
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
            ("crates/ports/src/sys/gso.rs", code),
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
            ("crates/ports/src/lib.rs", "//! Ports.\n"),
        ]);
        tree.members = vec![
            member("levada-core", "crates/core", &[]),
            member("levada-ports", "crates/ports", &[]),
            member("levada-wire", "crates/wire", &[]),
        ];

        let findings = check(&tree);

        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].path, "crates/wire/src/lib.rs");
    }
}
