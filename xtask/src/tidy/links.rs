//! Relative links in Markdown lead to files and headings that exist.
//!
//! It follows nothing over the network. Links in fenced or inline code are examples and are left alone.
//! Called by `tidy`.
//! Invariant: a link may not leave the repository, or a fresh clone would break it.

use super::markdown;
use crate::tree::{Finding, TextFile, Tree};

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let pages = tree.texts.iter().filter(|file| is_page(&file.path));
    pages.flat_map(|file| check_page(tree, file)).collect()
}

fn is_page(path: &str) -> bool {
    path.rsplit_once('.')
        .is_some_and(|(_, ending)| ending == "md")
}

fn check_page(tree: &Tree, file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in markdown::prose(&file.text) {
        for target in targets(&markdown::without_code(line)) {
            if let Some(text) = broken(tree, file, &target) {
                findings.push(Finding::new(&file.path, number, text));
            }
        }
    }
    findings
}

/// The targets of `[text](target)`, `[text](target "title")` and `[name]: target`.
fn targets(line: &str) -> Vec<String> {
    let mut targets = Vec::new();
    for (at, _) in line.match_indices("](") {
        let rest = &line[at + 2..];
        let end = rest.find([')', ' ']).unwrap_or(rest.len());
        targets.push(rest[..end].trim_matches(['<', '>']).to_owned());
    }
    if line.starts_with('[')
        && let Some((name, target)) = line.split_once("]: ")
        && !name.starts_with("[^")
    {
        targets.extend(
            target
                .split_whitespace()
                .next()
                .map(|target| target.trim_matches(['<', '>']).to_owned()),
        );
    }
    targets
}

/// What is wrong with a link, if something is.
fn broken(tree: &Tree, from: &TextFile, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() {
        Some(from.path.clone())
    } else {
        resolve(&from.path, file)
    };
    let Some(path) = path else {
        return Some(format!(
            "the link `{target}` leaves the repository; link to a file in it"
        ));
    };
    if !tree.has(&path) {
        return Some(format!(
            "the link `{target}` leads to no file; mend or remove it"
        ));
    }
    if anchor.is_empty() || !is_page(&path) {
        return None;
    }
    let text = tree.text(&path).unwrap_or_default();
    let named =
        text.contains(&format!("id=\"{anchor}\"")) || text.contains(&format!("name=\"{anchor}\""));
    let known = named || markdown::anchors(text).iter().any(|known| known == anchor);
    (!known).then(|| format!("`{path}` has no heading for `#{anchor}`; mend the link"))
}

/// The path that `target` means when written in the file `from`.
fn resolve(from: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::fixture::{shown, tree};

    #[test]
    fn links_to_missing_files_and_headings_are_found() {
        let page = "# A\n[x](missing.md)\n[x](b.md#nothing)\n[x](#no)\n[x](../../out.md)\n[x](/a.md)\n\n[r]: gone.md\n";
        let tree = tree(&[("docs/a.md", page), ("docs/b.md", "# B\n")]);

        let lines: Vec<usize> = check(&tree).iter().map(|found| found.line).collect();

        assert_eq!(lines, [2, 3, 4, 5, 6, 8], "{:?}", shown(&check(&tree)));
    }

    #[test]
    fn links_that_lead_somewhere_pass() {
        let page = "# A page\n[x](../README.md) ![x](b.md#life-of-a-packet \"t\") [x](#a-page)\n\
                    [x](https://example.org/none.md) [x](../crates/wire/) [x](../crates/wire/lib.rs#L3)\n";
        let tree = tree(&[
            ("docs/a.md", page),
            ("docs/b.md", "## Life of a packet\n"),
            ("README.md", ""),
            ("crates/wire/lib.rs", ""),
        ]);

        assert_eq!(check(&tree), []);
    }

    #[test]
    fn code_is_no_link() {
        let page = "`[x](missing.md)`\n```text\n[x](missing.md)\n```\n";

        assert_eq!(check(&tree(&[("a.md", page)])), []);
    }
}
