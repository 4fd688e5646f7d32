//! The bytes on the wire do not change without `docs/wire.md`.
//!
//! A file of `levada-wire` that defines bytes says so in its head: `//! Wire definition: docs/wire.md section N`. The
//! document ends with a fingerprint of each such file; when code and fingerprint differ, someone looks at both and
//! then runs `cargo xtask tidy --bless`. It guards against forgetting, not against malice, so FNV-1a is enough.
//! Called by `tidy`.
//! Invariant: comments, blank lines, indentation and test modules never change a fingerprint.

use super::markdown;
use crate::tree::{Finding, RustFile, Tree};

pub(crate) const DOCUMENT: &str = "docs/wire.md";
const FOLDER: &str = "crates/wire/src/";
const MARKER: &str = "//! Wire definition: docs/wire.md section ";
const SECTION: &str = "Fingerprint";
const ADVICE: &str = "bytes on the wire are defined here; bring docs/wire.md up to date, then run `cargo xtask \
    tidy --bless`";

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(document) = tree.text(DOCUMENT) else {
        return vec![Finding::new(
            DOCUMENT,
            0,
            "is missing; it states every byte of the wire",
        )];
    };
    let sections = markdown::section_numbers(document);
    let definitions = definitions(tree);
    let mut findings = Vec::new();
    for (file, number, cited) in &definitions {
        if !sections.iter().any(|known| known == cited) {
            let text = format!(
                "{DOCUMENT} has no section `{cited}`; name the one that states these bytes"
            );
            findings.push(Finding::new(&file.path, *number, text));
        }
    }
    if definitions.is_empty() {
        let text =
            format!("no file in {FOLDER} is marked `{MARKER}N`; mark those that define bytes");
        findings.push(Finding::new(DOCUMENT, 0, text));
    }
    let Some(section) = markdown::section(document, SECTION) else {
        let text = format!("has no section `## {SECTION}`; run `cargo xtask tidy --bless`");
        findings.push(Finding::new(DOCUMENT, 0, text));
        return findings;
    };
    if section.end <= document.lines().count() {
        findings.push(Finding::new(
            DOCUMENT,
            section.end,
            format!("`## {SECTION}` comes last; move this above it"),
        ));
    }
    findings.extend(compare(&definitions, &recorded(document, section)));
    findings
}

/// A file that defines bytes, the line of its marker, and the section it cites.
type Definition<'a> = (&'a RustFile, usize, &'a str);
/// A line of the document, a path, and a fingerprint.
type Recorded<'a> = (usize, &'a str, &'a str);

fn compare(definitions: &[Definition<'_>], recorded: &[Recorded<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, number, _) in definitions {
        let known = recorded.iter().find(|(_, path, _)| *path == file.path);
        if known.is_none_or(|(_, _, fingerprint)| *fingerprint != fingerprint_of(file)) {
            findings.push(Finding::new(&file.path, *number, ADVICE));
        }
    }
    for (line, path, _) in recorded {
        if !definitions.iter().any(|(file, _, _)| file.path == *path) {
            let text = format!(
                "`{path}` is not marked as a wire definition; run `cargo xtask tidy --bless`"
            );
            findings.push(Finding::new(DOCUMENT, *line, text));
        }
    }
    findings
}

/// The document with the fingerprints of today, or none if there is no document.
pub(crate) fn bless(tree: &Tree) -> Option<String> {
    let document = tree.text(DOCUMENT)?;
    let lines: Vec<&str> = document.lines().collect();
    let (before, after) = match markdown::section(document, SECTION) {
        Some(section) => (&lines[..section.start - 2], &lines[section.end - 1..]),
        None => (&lines[..], &[][..]),
    };
    let mut text = before.join("\n").trim_end().to_owned();
    text.push_str(&format!(
        "\n\n## {SECTION}\n\n`cargo xtask tidy` compares these with the files of `{FOLDER}` that define bytes. When \
         one differs, bring this\ndocument up to date and run `cargo xtask tidy --bless`, which writes this \
         section.\n\n```text\n"
    ));
    for (file, _, _) in definitions(tree) {
        text.push_str(&format!("{} {}\n", file.path, fingerprint_of(file)));
    }
    text.push_str("```\n");
    if !after.is_empty() {
        text.push_str(&format!("\n{}\n", after.join("\n")));
    }
    Some(text)
}

fn definitions(tree: &Tree) -> Vec<Definition<'_>> {
    let files = tree
        .rust
        .iter()
        .filter(|file| file.path.starts_with(FOLDER));
    let marked = files.filter_map(|file| {
        let marker = file
            .numbered()
            .find_map(|(number, line)| Some((number, line.comment.strip_prefix(MARKER)?)));
        let (number, cited) = marker?;
        let section = cited.split_whitespace().next().unwrap_or_default();
        Some((file, number, section.trim_end_matches(['.', ',', ':'])))
    });
    marked.collect()
}

fn recorded(document: &str, section: std::ops::Range<usize>) -> Vec<Recorded<'_>> {
    let numbered = document
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line));
    let inside =
        numbered.filter(|(number, line)| section.contains(number) && line.starts_with(FOLDER));
    inside
        .filter_map(|(number, line)| {
            line.split_once(' ')
                .map(|(path, print)| (number, path, print.trim()))
        })
        .collect()
}

/// FNV-1a with 128 bits over the code of a file.
fn fingerprint_of(file: &RustFile) -> String {
    // Offset and prime: draft-eastlake-fnv, section 5.
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let code = file
        .lines
        .iter()
        .filter(|line| !line.test && line.is_code());
    for byte in code.flat_map(|line| line.text.trim().bytes().chain([b'\n'])) {
        hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::tree::fixture::{shown, tree};

    const HEAD: &str = "//! Header.\n//! Wire definition: docs/wire.md section 4.\n";
    const PAGE: &str = "# Wire\n\n## 4 Packets\n\nBytes.\n";
    const FILE: &str = "crates/wire/src/header.rs";

    fn blessed(code: &str) -> Tree {
        let source = format!("{HEAD}{code}");
        let page = bless(&tree(&[(DOCUMENT, PAGE), (FILE, &source)])).unwrap();
        tree(&[(DOCUMENT, &page), (FILE, &source)])
    }

    fn with_code(blessed: &Tree, code: &str) -> Tree {
        tree(&[
            (DOCUMENT, blessed.text(DOCUMENT).unwrap()),
            (FILE, &format!("{HEAD}{code}")),
        ])
    }

    #[test]
    fn a_blessed_document_passes_and_is_blessed_the_same_again() {
        let tree = blessed("const SIZE: usize = 16;\n");

        assert_eq!(shown(&check(&tree)), Vec::<String>::new());
        assert_eq!(bless(&tree).as_deref(), tree.text(DOCUMENT));
    }

    #[test]
    fn a_changed_byte_or_label_fails_at_the_marker() {
        let before = blessed("const SIZE: usize = 16;\nconst LABEL: &str = \"carry v1\";\n");
        let size = with_code(
            &before,
            "const SIZE: usize = 17;\nconst LABEL: &str = \"carry v1\";\n",
        );
        let label = with_code(
            &before,
            "const SIZE: usize = 16;\nconst LABEL: &str = \"carry v2\";\n",
        );

        for tree in [size, label] {
            assert_eq!(shown(&check(&tree)), [format!("{FILE}:2: {ADVICE}")]);
        }
    }

    #[test]
    fn comments_blank_lines_and_tests_change_nothing() {
        let before = blessed("const SIZE: usize = 16;\n");
        let after = with_code(
            &before,
            "\n// why\nconst SIZE: usize = 16; // bytes\n#[cfg(test)]\nmod tests {}\n",
        );

        assert_eq!(check(&after), []);
    }

    #[test]
    fn a_new_definition_and_a_gone_one_fail() {
        let before = blessed("const SIZE: usize = 16;\n");
        let page = before.text(DOCUMENT).unwrap();
        let moved = tree(&[(DOCUMENT, page), ("crates/wire/src/seal.rs", HEAD)]);

        let paths: Vec<String> = check(&moved).into_iter().map(|found| found.path).collect();

        assert_eq!(paths, ["crates/wire/src/seal.rs", DOCUMENT]);
    }

    #[test]
    fn a_section_that_does_not_exist_or_no_marker_at_all_fails() {
        let cited = tree(&[
            (DOCUMENT, PAGE),
            (FILE, "//! Wire definition: docs/wire.md section 9\n"),
        ]);
        let unmarked = tree(&[(DOCUMENT, PAGE), (FILE, "//! Header.\n")]);

        assert!(check(&cited)[0].text.contains("no section `9`"));
        assert!(
            check(&unmarked)[0]
                .text
                .contains("mark those that define bytes")
        );
    }

    #[test]
    fn the_fingerprint_must_be_the_last_section() {
        let tree = blessed("x();\n");
        let page = format!("{}\n## More\n", tree.text(DOCUMENT).unwrap());
        let findings = check(&self::tree(&[
            (DOCUMENT, &page),
            (FILE, &format!("{HEAD}x();\n")),
        ]));

        assert!(findings[0].text.contains("comes last"), "{findings:?}");
    }
}
