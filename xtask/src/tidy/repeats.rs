//! No documentation that only asks: `Which flow.`, `What it is.`, `To whom.` say no more than the name (STYLE S9).
//!
//! Such a line says the unit, the range, or what the name does not, or it is not there. Sentences that begin like this
//! and go on are free, and so is a line of a paragraph.
//! Called by `tidy`.
//! Invariant: only documentation of one line with at most two words behind its question word is a finding.

use crate::tree::{Finding, Tree};

const QUESTIONS: [&str; 8] = [
    "Which", "What", "Whose", "Whom", "Who", "To whom", "Where", "How",
];
/// Documentation with more words behind the question word is taken to say something.
const WORDS_MAX: usize = 2;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let files = tree.rust.iter();
    files
        .flat_map(|file| {
            let lines: Vec<&str> = file.source.lines().collect();
            let doc = |at: usize| {
                lines
                    .get(at)
                    .and_then(|line| line.trim_start().strip_prefix("/// "))
            };
            let found = (0..lines.len()).filter(|at| {
                let is_alone = at.checked_sub(1).and_then(doc).is_none() && doc(at + 1).is_none();
                is_alone && doc(*at).is_some_and(only_asks)
            });
            let found: Vec<usize> = found.collect();
            found.into_iter().map(|at| {
            let text =
                "repeats the name; say the unit, the range, or what the name does not, or nothing";
            Finding::new(&file.path, at + 1, text)
        })
        })
        .collect()
}

fn only_asks(doc: &str) -> bool {
    let Some(words) = doc.trim_end().strip_suffix('.') else {
        return false;
    };
    let mut rests = QUESTIONS
        .iter()
        .filter_map(|question| words.strip_prefix(question));
    rests.any(|rest| {
        let is_plain = |word: &str| word.chars().all(|letter| letter.is_ascii_lowercase());
        let begins_a_word = rest.is_empty() || rest.starts_with(' ');
        let words = rest.split_whitespace();
        begins_a_word && words.clone().count() <= WORDS_MAX && words.clone().all(is_plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::fixture::{shown, tree};

    #[test]
    fn a_line_that_only_asks_is_found() {
        let source =
            "/// Which.\nfn a() {}\n    /// To whom.\nfn b() {}\n/// What it is.\nfn c() {}\n";

        let found = shown(&check(&tree(&[("crates/core/src/a.rs", source)])));

        let lines = [1, 3, 5].map(|line| format!("crates/core/src/a.rs:{line}: repeats the name"));
        assert_eq!(found.len(), lines.len(), "{found:?}");
        for (found, line) in found.iter().zip(&lines) {
            assert!(found.starts_with(line.as_str()), "{found}");
        }
    }

    #[test]
    fn what_says_more_passes() {
        let sources = [
            "/// Which of the two channels.\nfn a() {}\n",
            "/// Which flow, by its id.\nfn a() {}\n",
            "/// Whether.\nfn a() {}\n",
            "/// Which one.\n/// There are two.\nfn a() {}\n",
            "/// There are two: whoever asks says\n/// which.\nfn a() {}\n",
            "// Which.\nfn a() {}\n",
        ];

        for source in sources {
            assert_eq!(
                check(&tree(&[("crates/core/src/a.rs", source)])),
                [],
                "{source}"
            );
        }
    }
}
