//! Which word was meant by one that does not exist.
//!
//! Called by `config::raw`. Invariant: nothing is suggested that is not close: a wrong suggestion is worse than
//! none.

/// The known word closest to `word`, if at most a third of its letters are wrong.
pub(super) fn closest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = word.chars().count() / 3;
    known
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed.max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The fewest letters that must be added, taken away, changed or swapped with their neighbour to get from one word to
/// the other, whatever their case (Damerau-Levenshtein, restricted).
fn distance(a: &str, b: &str) -> usize {
    let letters = |word: &str| word.to_lowercase().chars().collect::<Vec<_>>();
    let (a, b) = (letters(a), letters(b));
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_word_finds_the_one_that_was_meant() {
        let known = ["name", "listen", "join", "relay", "client", "state"];
        let meant = |word| closest(word, known.into_iter());

        assert_eq!(meant("relais"), Some("relay"));
        assert_eq!(meant("lisetn"), Some("listen"));
        assert_eq!(meant("Name"), Some("name"));
        assert_eq!(meant("joins"), Some("join"));
        assert_eq!(meant("bandwidth"), None);
        assert_eq!(meant(""), None);
    }

    #[test]
    fn a_swap_counts_as_one_mistake() {
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
