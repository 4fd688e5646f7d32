//! Rate limit of log lines: one that repeats is written once a minute, with its count.
//!
//! Called by `driver`. Invariant: the first one is always written.

use std::time::Duration;

use levada_wire::Instant;

/// How long the line stays silent after it was written.
const SILENCE: Duration = Duration::from_secs(60);

/// One kind of line.
#[derive(Debug, Default)]
pub(crate) struct Rarely {
    written: Option<Instant>,
    times: u64,
}

impl Rarely {
    /// Counts one occurrence; says how many there were since the last line if it is time for the next.
    pub(crate) fn times(&mut self, now: Instant) -> Option<u64> {
        self.times += 1;
        if self
            .written
            .is_some_and(|written| now.since(written) < SILENCE)
        {
            return None;
        }
        self.written = Some(now);
        Some(std::mem::take(&mut self.times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_told_once_a_minute_with_its_count() {
        let mut rarely = Rarely::default();
        let at = |secs| Instant::ZERO + Duration::from_secs(secs);

        assert_eq!(rarely.times(at(0)), Some(1));
        assert_eq!(rarely.times(at(1)), None);
        assert_eq!(rarely.times(at(59)), None);
        assert_eq!(rarely.times(at(60)), Some(3));
    }
}
