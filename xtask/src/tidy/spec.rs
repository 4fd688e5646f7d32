//! Each rule of `docs/wire.md` that code cites is cited rightly and proved by a test (STYLE S10).
//!
//! Code says `// spec: WIRE 4.2 a rule`, and the test that proves the rule repeats `WIRE 4.2`. Whether the test proves
//! it is for the reviewer; that there is one, and that the section exists, is checked here.
//! Called by `tidy`.
//! Invariant: tags in tests are held to the same numbers.

use super::markdown;
use super::wire::DOCUMENT;
use crate::tree::{Finding, Tree};

const TAG: &str = "spec: WIRE ";

/// One tag in a comment.
struct Citation<'a> {
    path: &'a str,
    line: usize,
    /// `4.2`; what stands there if it is no number.
    section: &'a str,
    rule: bool,
    in_test: bool,
}

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(document) = tree.text(DOCUMENT) else {
        // `wire` says that the document is missing.
        return Vec::new();
    };
    let sections = markdown::section_numbers(document);
    let citations = citations(tree);
    let proved = |section: &str| citations.iter().any(|c| c.in_test && c.section == section);
    let mut findings = Vec::new();
    for Citation {
        path,
        line,
        section,
        rule,
        in_test,
    } in &citations
    {
        let text = if !sections.iter().any(|known| known == section) {
            format!("{DOCUMENT} has no section `{section}`; cite the one that states the rule")
        } else if !*in_test && !*rule {
            "the tag states no rule; write `// spec: WIRE x.y the rule`".to_owned()
        } else if !*in_test && !proved(section) {
            format!("no test repeats `{TAG}{section}`; tag the test that proves the rule")
        } else {
            continue;
        };
        findings.push(Finding::new(path, *line, text));
    }
    findings
}

fn citations(tree: &Tree) -> Vec<Citation<'_>> {
    let mut found = Vec::new();
    for file in tree
        .rust
        .iter()
        .filter(|file| file.path.starts_with("crates/"))
    {
        for (number, line) in file.numbered() {
            let Some((_, tag)) = line.comment.split_once(TAG) else {
                continue;
            };
            let tag = tag.trim();
            let (section, rule) = tag.split_once(' ').unwrap_or((tag, ""));
            found.push(Citation {
                path: &file.path,
                line: number,
                section: section.trim_end_matches([':', '.', ',']),
                rule: !rule.trim().is_empty(),
                in_test: line.test || file.is_test(),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::fixture::{shown, tree};

    const WIRE: (&str, &str) = (
        DOCUMENT,
        "# Wire\n## 4 Packets\n### 4.2 Carry tag\n### 4.21 More\n",
    );

    #[test]
    fn a_rule_with_a_test_in_the_file_or_beside_it_passes() {
        let inside = "// spec: WIRE 4.2 a rule\n#[cfg(test)]\nmod tests {\n// spec: WIRE 4.2\n}\n";
        let beside = (
            "crates/core/src/link/tests.rs",
            "// spec: WIRE 4.21 it holds\n",
        );
        let code = (
            "crates/core/src/link.rs",
            "// spec: WIRE 4.21 another rule\n",
        );

        assert_eq!(
            check(&tree(&[
                WIRE,
                ("crates/wire/src/a.rs", inside),
                beside,
                code
            ])),
            []
        );
    }

    #[test]
    fn a_rule_without_a_test_is_found_even_if_a_longer_number_has_one() {
        let code = "// spec: WIRE 4.2 a rule\n#[cfg(test)]\nmod tests {\n// spec: WIRE 4.21\n}\n";

        let findings = shown(&check(&tree(&[WIRE, ("crates/wire/src/a.rs", code)])));

        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(
            findings[0].contains("no test repeats `spec: WIRE 4.2`"),
            "{findings:?}"
        );
    }

    #[test]
    fn a_section_that_does_not_exist_is_found_in_code_and_tests() {
        let code = "// spec: WIRE 9.9 a rule\n#[cfg(test)]\nmod tests {\n// spec: WIRE 9.9\n}\n";

        assert_eq!(
            check(&tree(&[WIRE, ("crates/wire/src/a.rs", code)])).len(),
            2
        );
    }

    #[test]
    fn a_tag_without_a_rule_is_found() {
        let code = "// spec: WIRE 4.2\n#[cfg(test)]\nmod tests {\n// spec: WIRE 4.2\n}\n";

        assert!(
            check(&tree(&[WIRE, ("crates/wire/src/a.rs", code)]))[0]
                .text
                .contains("states no rule")
        );
    }
}
