//! Waiting: until it is so, or the time is up.
//!
//! Not a pause of a fixed length, which would be hope. Called by tests and by `process`. Invariant: the only sleep of
//! this crate is here, between two looks at something that cannot wake us.

use std::thread;
use std::time::{Duration, Instant};

/// Between two looks. A look may start a program, which costs some milliseconds.
const LOOK: Duration = Duration::from_millis(40);

/// Looks until `check` finds what it looks for, and returns it.
///
/// # Panics
///
/// If it is not found `within` this time; it says `what` was looked for.
#[track_caller]
pub fn eventually<T>(within: Duration, what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        // The time is read first, so that a slow machine still looks once after it.
        let is_late = Instant::now() >= deadline;
        if let Some(found) = check() {
            return found;
        }
        assert!(!is_late, "not within {within:?}: {what}");
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a file, a counter or another process wakes nobody: it has to be looked at again"
)]
fn pause() {
    thread::sleep(LOOK);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_late_is_returned() {
        let mut looks = 0;

        let found = eventually(Duration::from_secs(10), "the third look", || {
            looks += 1;
            (looks == 3).then_some("here")
        });

        assert_eq!(found, "here");
    }

    #[test]
    #[should_panic(expected = "not within 50ms: a miracle")]
    fn what_never_comes_is_named() {
        eventually(Duration::from_millis(50), "a miracle", || None::<()>);
    }
}
