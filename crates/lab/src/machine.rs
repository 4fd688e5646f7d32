//! Whether the machine is to blame: how long it kept a process waiting that wanted to run.
//!
//! A machine that stands still for a while costs links and packets by itself, whatever is tested on it. So a story that
//! went wrong is told once more if the machine stood still meanwhile, and only then: a machine that did not is no
//! excuse. Called by tests. Invariant: what went wrong on a machine that ran is what the story ends with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often a story is told on a machine that stands still.
const RUNS_MAX: usize = 5;
/// A third of what makes a link suspect.
pub const STILL_MAX: Duration = Duration::from_millis(50);
/// How often it is looked whether the machine runs.
const LOOK: Duration = Duration::from_millis(5);

/// Looks how long this process is kept from running.
#[derive(Debug)]
pub struct Watch {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Watch {
    /// Looks from now on.
    #[must_use]
    pub fn begin() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !watched.load(Ordering::Relaxed) {
                let began = Instant::now();
                thread::park_timeout(LOOK);
                longest = longest.max(began.elapsed());
            }
            longest
        });
        Self { is_over, thread }
    }

    /// The longest time between two looks.
    ///
    /// # Panics
    ///
    /// When the thread that looks did.
    #[must_use]
    pub fn longest(self) -> Duration {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("looking does not panic")
    }
}

/// Tells a story until it `is_usual`, or ends otherwise on a machine that never stood still for `still_max`.
///
/// # Panics
///
/// When the machine stands still each time.
#[expect(clippy::print_stdout, reason = "a test says why it began again")]
pub fn undisturbed<T>(
    still_max: Duration,
    is_usual: impl Fn(&T) -> bool,
    mut story: impl FnMut() -> T,
) -> T {
    for _ in 0..RUNS_MAX {
        let watch = Watch::begin();
        let end = story();
        let still = watch.longest();
        if is_usual(&end) || still < still_max {
            return end;
        }
        println!("the machine stood still for {still:?}: once more");
    }
    panic!("this machine stands still too often to be a network");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_wrong_on_a_machine_that_runs_is_told_once() {
        let mut told = 0;

        let end = undisturbed(
            Duration::MAX,
            |_| false,
            || {
                told += 1;
                told
            },
        );

        assert_eq!(end, 1);
    }

    #[test]
    #[should_panic(expected = "stands still too often")]
    fn a_machine_that_always_stands_still_is_no_network() {
        undisturbed(Duration::ZERO, |()| false, || ());
    }

    #[test]
    fn what_went_wrong_while_the_machine_stood_still_is_told_until_it_goes_well() {
        let mut told = 0;

        let end = undisturbed(
            Duration::ZERO,
            |told| *told == 3,
            || {
                told += 1;
                told
            },
        );

        assert_eq!(end, 3);
    }
}
