//! The code map in `ARCHITECTURE.md` names every crate of the workspace, and documents name only files that exist.
//!
//! A member is a `### crates/NAME` heading under `## Code map`; within its entry a path may begin at the crate's
//! folder. Elsewhere a path is what begins with a folder of the repository. A part in capitals (`crates/gateway-NAME`)
//! stands for whatever is chosen. Names of types are not checked: rustdoc does that where they are linked.
//! Called by `tidy`.
//! Invariant: a crate without an entry fails, so nobody adds a room that is not on the map.

use super::markdown;
use crate::tree::{Finding, Tree};

const DOCUMENT: &str = "ARCHITECTURE.md";
const SECTION: &str = "Code map";
/// How a backticked word that names a file begins or ends.
const FILE_ENDINGS: &[&str] = &[".rs", ".toml", ".md", ".txt", ".ts", ".html"];
/// The documents whose paths are checked. Decisions are not among them: they speak of their day.
const DOCUMENTS: &[&str] = &[
    DOCUMENT,
    "CONTRIBUTING.md",
    "README.md",
    "docs/STYLE.md",
    "docs/glossary.md",
];
const ROOT_FOLDERS: &[&str] = &["crates/", "docs/", "fuzz/", "xtask/", "web/", "bench/"];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = map(tree);
    findings.extend(DOCUMENTS.iter().flat_map(|document| paths(tree, document)));
    findings
}

/// Paths from the root of the repository, wherever a document names them, that lead nowhere.
fn paths(tree: &Tree, document: &str) -> Vec<Finding> {
    let text = tree.text(document).unwrap_or_default();
    let map = (document == DOCUMENT)
        .then(|| markdown::section(text, SECTION))
        .flatten()
        .unwrap_or_default();
    let lines = markdown::prose(text).filter(|(number, _)| !map.contains(number));
    let named = lines
        .flat_map(|(number, line)| markdown::inline_code(line).map(move |path| (number, path)));
    named
        .filter(|(_, path)| is_rooted(path) && is_path(path) && !tree.has(path))
        .map(|(number, path)| {
            let text = format!("`{path}` does not exist; name what took its place");
            Finding::new(document, number, text)
        })
        .collect()
}

fn map(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.text(DOCUMENT) else {
        return vec![Finding::new(
            DOCUMENT,
            0,
            "is missing; write it, docs/STYLE.md S19 says what stands in it",
        )];
    };
    let Some(section) = markdown::section(text, SECTION) else {
        return vec![Finding::new(
            DOCUMENT,
            0,
            format!("has no section `## {SECTION}`; add one entry per crate"),
        )];
    };
    let entries: Vec<(usize, String)> = markdown::headings(text)
        .into_iter()
        .filter(|heading| heading.level == 3 && section.contains(&heading.line))
        .map(|heading| (heading.line, folder(heading.text)))
        .collect();
    let mut findings = Vec::new();
    for member in &tree.members {
        if !entries.iter().any(|(_, folder)| *folder == member.dir) {
            let text = format!(
                "the code map lacks `### {}`; say its purpose, entry point, invariants and what is absent",
                member.dir
            );
            findings.push(Finding::new(DOCUMENT, section.start - 1, text));
        }
    }
    for (line, folder) in &entries {
        if !tree.members.iter().any(|member| member.dir == *folder) {
            let text = format!(
                "`{folder}` is no crate of the workspace; remove the entry or mend its name"
            );
            findings.push(Finding::new(DOCUMENT, *line, text));
        }
    }
    for (number, line) in markdown::prose(text).filter(|(number, _)| section.contains(number)) {
        let entry = entries
            .iter()
            .rev()
            .find(|(line, _)| *line <= number)
            .map(|(_, folder)| folder.as_str());
        for path in markdown::inline_code(line).filter(|word| is_path(word)) {
            let inside = [
                Some(path.to_owned()),
                entry.map(|folder| format!("{folder}/{path}")),
            ];
            if !inside.iter().flatten().any(|path| tree.has(path)) {
                let text = format!("`{path}` does not exist; mend the map");
                findings.push(Finding::new(DOCUMENT, number, text));
            }
        }
    }
    findings
}

/// `crates/wire` of "crates/wire", "`crates/wire`" and "crates/wire: levada-wire".
fn folder(heading: &str) -> String {
    let first = heading.split_whitespace().next().unwrap_or_default();
    first
        .trim_matches('`')
        .trim_end_matches([':', '/', '`'])
        .to_owned()
}

/// Whether a backticked word names a file or folder of the repository.
fn is_path(word: &str) -> bool {
    let plain = word
        .chars()
        .all(|letter| letter.is_ascii_alphanumeric() || "/._-".contains(letter));
    let file = word.contains('/') && FILE_ENDINGS.iter().any(|ending| word.ends_with(ending));
    plain && !has_placeholder(word) && (file || is_rooted(word))
}

/// Whether a word begins with a folder of the repository.
fn is_rooted(word: &str) -> bool {
    ROOT_FOLDERS.iter().any(|root| word.starts_with(root))
}

/// Whether a part of a folder's name stands for whatever is chosen: `gateway-NAME`.
fn has_placeholder(word: &str) -> bool {
    let is_capital =
        |part: &str| part.len() > 1 && part.chars().all(|letter| letter.is_ascii_uppercase());
    word.split(['/', '-']).any(is_capital)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::TextFile;
    use crate::tree::fixture::{member, shown, tree};

    fn with_map(map: &str) -> Tree {
        let mut tree = tree(&[
            (DOCUMENT, map),
            ("crates/wire/src/header.rs", ""),
            ("crates/core/src/lib.rs", ""),
        ]);
        tree.members = vec![
            member("levada-core", "crates/core", &[]),
            member("levada-wire", "crates/wire", &[]),
        ];
        tree
    }

    #[test]
    fn a_complete_map_passes() {
        let map = "# A\n## Code map\n### `crates/wire`\nsee `src/header.rs`, `crates/wire/src/header.rs`, \
                   `levada_core::flow::Flows`, `a/b`\n### crates/core: decisions\n## Life\n`crates/gateway-NAME`\n";

        assert_eq!(check(&with_map(map)), []);
    }

    #[test]
    fn missing_and_stale_entries_are_found() {
        let findings = shown(&check(&with_map(
            "## Code map\n### crates/wire\n### crates/old\n",
        )));

        assert!(
            findings[0].starts_with("ARCHITECTURE.md:1: the code map lacks `### crates/core`"),
            "{findings:?}"
        );
        assert!(
            findings[1].starts_with("ARCHITECTURE.md:3: `crates/old` is no crate"),
            "{findings:?}"
        );
    }

    #[test]
    fn files_that_do_not_exist_are_found() {
        let map = "## Code map\n### crates/wire\n`src/gone.rs`\n### crates/core\n`crates/core/src/gone`\n";

        let lines: Vec<usize> = check(&with_map(map))
            .iter()
            .map(|found| found.line)
            .collect();

        assert_eq!(lines, [3, 5]);
    }

    #[test]
    fn files_that_do_not_exist_are_found_in_every_section_and_document() {
        let map = "# A\n`crates/none.rs`\n## Code map\n### crates/wire\n### crates/core\n## Life\n`xtask/gone`\n";
        let words = "`docs/gone.md`\n```text\n`docs/fenced.md`\n```\n`crates/core/src/lib.rs`\n";
        let mut tree = with_map(map);
        for document in &DOCUMENTS[1..] {
            tree.paths.push((*document).to_owned());
            tree.texts.push(TextFile {
                path: (*document).to_owned(),
                text: words.to_owned(),
            });
        }

        let found: Vec<(String, usize)> = check(&tree)
            .iter()
            .map(|found| (found.path.clone(), found.line))
            .collect();

        let map = [2, 7].map(|line| (DOCUMENT.to_owned(), line));
        let others = DOCUMENTS[1..]
            .iter()
            .map(|document| ((*document).to_owned(), 1));
        assert_eq!(found, map.into_iter().chain(others).collect::<Vec<_>>());
    }

    #[test]
    fn a_missing_document_or_section_is_found() {
        assert_eq!(check(&tree(&[])).len(), 1);
        assert_eq!(check(&with_map("# A\n")).len(), 1);
    }
}
