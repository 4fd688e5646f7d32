//! How much a client by UDP may be sent at once.
//!
//! Not a measure of its path, which shows by reports and silence. Called by `client` beside it. Invariant: a client
//! that was sent nothing for long has no more credit than a newcomer.

use std::time::{Duration, Instant};

/// What a client by UDP may be sent at once, as much as a usual receive buffer holds with ease...
const CREDIT_BYTES_MAX: i64 = 96 << 10;
/// ...and what it is granted in a millisecond: 80 Mb/s.
const CREDIT_BYTES_PER_MILLI: i64 = 10_000;

/// How many bytes a client may be sent by UDP at once. A newcomer gets a group of seconds, and its socket holds a few
/// hundred kilobytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Credit {
    bytes: i64,
    at: Instant,
}

impl Credit {
    pub(super) const fn new(at: Instant) -> Self {
        Self {
            bytes: CREDIT_BYTES_MAX,
            at,
        }
    }

    /// When there is credit again, if there is none.
    pub(super) fn wait(&mut self, now: Instant) -> Option<Instant> {
        let since = now.saturating_duration_since(self.at).as_micros();
        let earned = i64::try_from(since)
            .unwrap_or(i64::MAX)
            .saturating_mul(CREDIT_BYTES_PER_MILLI)
            / 1_000;
        if earned > 0 {
            self.bytes = self.bytes.saturating_add(earned).min(CREDIT_BYTES_MAX);
            self.at = now;
        }
        if self.bytes > 0 {
            return None;
        }
        let missing = u64::try_from(CREDIT_BYTES_PER_MILLI - self.bytes).unwrap_or(0);
        Some(now + Duration::from_micros(missing * 1_000 / CREDIT_BYTES_PER_MILLI.cast_unsigned()))
    }

    pub(super) fn take(&mut self, bytes: usize) {
        self.bytes -= i64::try_from(bytes).unwrap_or(i64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_lets_a_burst_through_and_spreads_what_is_more() {
        let start = Instant::now();
        let mut credit = Credit::new(start);
        let burst = usize::try_from(CREDIT_BYTES_MAX).unwrap_or(0);

        assert_eq!(credit.wait(start), None);
        credit.take(burst + 10_000);
        let later = credit.wait(start);

        assert_eq!(later, Some(start + Duration::from_millis(2)));
        assert_eq!(credit.wait(start + Duration::from_millis(2)), None);
        credit.wait(start + Duration::from_secs(3_600));
        credit.take(burst);
        assert!(
            credit.wait(start + Duration::from_secs(3_600)).is_some(),
            "no more is saved up"
        );
    }
}
