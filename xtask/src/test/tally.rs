//! Counts tests from what libtest prints.
//!
//! It reads two kinds of lines, `test NAME ... FAILED` and `test result: ..`; all others are for people.
//! Used by `test` and `ci`.
//! Invariant: a tally is good only if something passed and nothing failed.

use std::fmt;

/// How many tests passed, failed and were skipped, and which failed.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    failures: Vec<String>,
}

impl Tally {
    pub(crate) fn is_good(&self) -> bool {
        self.passed > 0 && self.failed == 0
    }

    /// Counts something that failed and is no libtest test.
    pub(crate) fn fail(&mut self, what: String) {
        self.failed += 1;
        self.failures.push(what);
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.failures.extend(other.failures);
    }

    /// Takes one line of output; true if it was a result.
    pub(crate) fn read_line(&mut self, binary: &str, line: &str) -> bool {
        if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failures.push(format!("{binary}: {name}"));
            return false;
        }
        let Some((_, counts)) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        else {
            return false;
        };
        for part in counts.split(';') {
            let mut words = part.split_whitespace();
            let count = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            match words.next() {
                Some("passed") => self.passed += count,
                Some("failed") => self.failed += count,
                Some("ignored") => self.skipped += count,
                _ => {}
            }
        }
        true
    }

    /// Names what failed, at the end, where one looks.
    pub(crate) fn show_failures(&self) {
        if !self.failures.is_empty() {
            println!("\nFailed:");
        }
        for failure in &self.failures {
            println!("  {failure}");
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_binaries_add_up() {
        let mut tally = Tally::default();

        tally.read_line(
            "a",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.0s",
        );
        tally.read_line(
            "b",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured",
        );

        assert_eq!(tally.to_string(), "5 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn other_lines_count_nothing_but_failures_are_named() {
        let mut tally = Tally::default();

        assert!(!tally.read_line("a", "the test result: ok. 3 passed"));
        assert!(!tally.read_line("a", "test link::late ... ok"));
        assert!(!tally.read_line("a", "test link::late ... FAILED"));

        assert_eq!(tally.to_string(), "0 passed, 0 failed");
        assert_eq!(tally.failures, ["a: link::late"]);
    }

    #[test]
    fn nothing_run_is_not_good() {
        assert!(!Tally::default().is_good());
        assert!(
            !Tally {
                passed: 1,
                failed: 1,
                ..Tally::default()
            }
            .is_good()
        );
        assert!(
            Tally {
                passed: 1,
                ..Tally::default()
            }
            .is_good()
        );
    }
}
