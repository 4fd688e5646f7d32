//! Every Rust file opens with a `//!` head (STYLE S9).
//!
//! It checks that the head is there and says something; whether it says the right thing is for the reader.
//! Called by `tidy`.
//! Invariant: no file is exempt, tests and build scripts included.

use crate::tree::{Finding, Tree};

/// A head shorter than this many words cannot say what a file is, is not, who calls it, and its invariant.
const WORDS_MIN: usize = 6;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.rust
        .iter()
        .filter_map(|file| check_source(&file.path, &file.source))
        .collect()
}

fn check_source(path: &str, source: &str) -> Option<Finding> {
    let head = source.lines().map_while(|line| line.strip_prefix("//!"));
    let words: usize = head.map(|line| line.split_whitespace().count()).sum();
    if !source.starts_with("//!") {
        let text = "no `//!` head in line 1; say what the file is, is not, who calls it, and its one invariant";
        return Some(Finding::new(path, 1, text));
    }
    let text = "the `//!` head says too little; say what the file is, is not, who calls it, and its one invariant";
    (words < WORDS_MIN).then(|| Finding::new(path, 1, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::fixture::tree;

    #[test]
    fn a_file_without_a_head_is_found() {
        let findings = check(&tree(&[
            ("a.rs", "// A plain comment.\nfn f() {}\n"),
            ("b.rs", ""),
        ]));

        assert_eq!(findings.len(), 2, "{findings:?}");
    }

    #[test]
    fn a_head_of_a_few_words_is_found() {
        let findings = check(&tree(&[("a.rs", "//! To be written.\n")]));

        assert!(findings[0].text.contains("too little"), "{findings:?}");
    }

    #[test]
    fn a_head_that_speaks_passes() {
        let head = "//! Reads one packet.\n//!\n//! It does not decrypt it.\nfn f() {}\n";

        assert_eq!(check(&tree(&[("a.rs", head)])), []);
    }
}
