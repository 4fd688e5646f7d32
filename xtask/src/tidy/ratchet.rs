//! The list of files and functions that are longer than allowed and may only shrink.
//!
//! `xtask/ratchet.txt` has one `path lines` or `path::fn lines` per line; `#` starts a comment. It is not a place to
//! park new code: `--bless` lowers and removes entries, and never adds or raises one.
//! Called by `lengths` and by `tidy --bless`.
//! Invariant: each entry says exactly what is, so the file is true after every commit.

use crate::tree::{Finding, Tree};

pub(crate) const FILE: &str = "xtask/ratchet.txt";

/// A file or function over its limit.
#[derive(Debug)]
pub(crate) struct Over {
    /// As the ratchet names it.
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) length: usize,
    pub(crate) limit: usize,
}

struct Entry<'a> {
    line: usize,
    name: &'a str,
    length: Option<usize>,
}

/// Compares what is over the limit with what the ratchet allows.
pub(crate) fn check(tree: &Tree, over: &[Over]) -> Vec<Finding> {
    let entries = entries(tree.text(FILE).unwrap_or_default());
    let mut findings = Vec::new();
    for Over {
        name,
        path,
        line,
        length,
        limit,
    } in over
    {
        let allowed = entries
            .iter()
            .find(|entry| entry.name == name)
            .and_then(|entry| entry.length);
        if allowed.is_none_or(|allowed| *length > allowed) {
            let short = name
                .strip_prefix(path.as_str())
                .map_or("", |rest| rest.trim_start_matches(':'));
            let what = if short.is_empty() {
                "the file".to_owned()
            } else {
                format!("`{short}`")
            };
            let most = allowed.unwrap_or(*limit);
            let text = format!(
                "{what} has {length} lines of code, {most} are allowed; split it where its concerns part"
            );
            findings.push(Finding::new(path, *line, text));
        }
    }
    for Entry { line, name, length } in &entries {
        let now = longest(over, name);
        let text = match (length, now) {
            (None, _) => "not `path lines` or `path::fn lines`; mend the line".to_owned(),
            (Some(_), None) => {
                format!("`{name}` is within its limit; run `cargo xtask tidy --bless`")
            }
            (Some(length), Some(now)) if now < *length => {
                format!("`{name}` fell to {now} lines; run `cargo xtask tidy --bless`")
            }
            _ => continue,
        };
        findings.push(Finding::new(FILE, *line, text));
    }
    findings
}

/// The ratchet with fallen counts, or none if there is no such file.
pub(crate) fn bless(tree: &Tree, over: &[Over]) -> Option<String> {
    let text = tree.text(FILE)?;
    let stale =
        |line: &str| entry(1, line).is_some_and(|entry| longest(over, entry.name).is_none());
    let lower = |line: &str| {
        let entry = entry(1, line)?;
        let now = longest(over, entry.name)?;
        (now < entry.length?).then(|| format!("{} {now}", entry.name))
    };
    let kept = text.lines().filter(|line| !stale(line));
    Some(
        kept.map(|line| lower(line).unwrap_or_else(|| line.to_owned()) + "\n")
            .collect(),
    )
}

/// Functions of one name in one file share an entry; the longest decides.
fn longest(over: &[Over], name: &str) -> Option<usize> {
    over.iter()
        .filter(|over| over.name == name)
        .map(|over| over.length)
        .max()
}

fn entries(text: &str) -> Vec<Entry<'_>> {
    text.lines()
        .enumerate()
        .filter_map(|(index, line)| entry(index + 1, line))
        .collect()
}

fn entry(number: usize, line: &str) -> Option<Entry<'_>> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (name, length) = line.rsplit_once(' ').unwrap_or((line, ""));
    Some(Entry {
        line: number,
        name: name.trim(),
        length: length.parse().ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::fixture::{shown, tree};

    fn over(length: usize) -> Vec<Over> {
        vec![Over {
            name: "a.rs::f".to_owned(),
            path: "a.rs".to_owned(),
            line: 3,
            length,
            limit: 70,
        }]
    }

    fn with(ratchet: &str) -> Tree {
        tree(&[(FILE, ratchet)])
    }

    #[test]
    fn an_entry_that_says_what_is_silences_the_finding() {
        assert_eq!(check(&with("# why\na.rs::f 90\n"), &over(90)), []);
    }

    #[test]
    fn a_count_that_rose_fails_at_the_function() {
        let findings = check(&with("a.rs::f 90\n"), &over(91));

        assert!(
            shown(&findings)[0].starts_with("a.rs:3: `f` has 91 lines of code, 90 are allowed"),
            "{findings:?}"
        );
    }

    #[test]
    fn a_count_that_fell_fails_at_the_entry() {
        let findings = check(&with("a.rs::f 90\n"), &over(80));

        assert!(
            shown(&findings)[0].starts_with("xtask/ratchet.txt:1: `a.rs::f` fell to 80"),
            "{findings:?}"
        );
    }

    #[test]
    fn an_entry_for_what_is_short_or_gone_fails() {
        let findings = check(&with("a.rs::f 90\n"), &[]);

        assert!(
            findings[0].text.contains("within its limit"),
            "{findings:?}"
        );
    }

    #[test]
    fn an_entry_without_a_count_fails() {
        assert!(
            check(&with("a.rs::f\n"), &over(60))
                .iter()
                .any(|found| found.path == FILE)
        );
    }

    #[test]
    fn blessing_lowers_and_removes_but_never_raises_or_adds() {
        let lowered = bless(&with("# why\na.rs::f 90\n"), &over(80));
        let removed = bless(&with("# why\na.rs::g 90\n"), &over(80));
        let not_raised = bless(&with("a.rs::f 75\n"), &over(80));

        assert_eq!(lowered.as_deref(), Some("# why\na.rs::f 80\n"));
        assert_eq!(removed.as_deref(), Some("# why\n"));
        assert_eq!(not_raised.as_deref(), Some("a.rs::f 75\n"));
    }
}
