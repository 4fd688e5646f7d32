//! How much of what everybody is told one neighbour may be told now.
//!
//! Routes and announces go to all neighbours, and a neighbour that does not read, or reads slowly, must not make them
//! pile up here. What is not told yet is not put into a message: it stays where it is kept anyway, so that the
//! neighbour is told the newest of it when there is room, and what changed ten times meanwhile is told once.
//!
//! ```text
//!   told ──▶ under way ──▶ all of it written: LinkInput::Written ──▶ room again
//!              │ most: a mark is asked for (Output::Mark), nothing more is told until it was written
//!   tokens ────┘ none: nothing more is told until there are some
//! ```
//!
//! Not what is told (`flow::catalogue`, `route`). Used by [`crate::flow`] and [`crate::route`], the bucket by whoever
//! limits a rate. Invariant: what is under way exceeds its most by less than one message.

use std::time::Duration;

use levada_wire::Instant;

/// A token bucket, as the moment at which it is full again: a cell rate algorithm.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// Between two tokens that come in.
    interval: Duration,
    /// What an empty bucket takes to fill.
    fills_in: Duration,
    full_at: Instant,
}

impl Bucket {
    /// A full bucket of `burst` tokens, into which `per_second` come.
    #[must_use]
    pub const fn new(burst: u32, per_second: u32) -> Self {
        let interval = Duration::from_nanos(1_000_000_000 / per_second as u64);
        Self {
            interval,
            fills_in: interval.saturating_mul(burst),
            full_at: Instant::ZERO,
        }
    }

    /// Takes `tokens`, which may leave it in debt; asked before whether it has any.
    pub fn take(&mut self, now: Instant, tokens: u32) {
        self.full_at = self.full_at.max(now) + self.interval.saturating_mul(tokens);
    }

    /// Whether it is full.
    #[must_use]
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }

    /// When it has a token; `None` if it has one now.
    #[must_use]
    pub fn ready_at(&self, now: Instant) -> Option<Instant> {
        let ahead = self.full_at.since(now);
        let lacks = (ahead + self.interval).checked_sub(self.fills_in)?;
        (!lacks.is_zero()).then(|| now + lacks)
    }
}

/// What one neighbour may be told of one concern.
#[derive(Clone, Copy, Debug)]
pub struct Credit {
    bucket: Bucket,
    /// The most that is under way, in whatever unit.
    most: usize,
    under_way: usize,
    is_marked: bool,
}

/// Why nothing more is told now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// Too much is under way; with `mark`, nobody was asked yet to say when it is written.
    Unwritten {
        /// Whether a mark is to be sent.
        mark: bool,
    },
    /// Too much was told; again from this moment on.
    Until(Instant),
}

impl Credit {
    /// Nothing was told yet.
    #[must_use]
    pub const fn new(most: usize, bucket: Bucket) -> Self {
        Self {
            bucket,
            most,
            under_way: 0,
            is_marked: false,
        }
    }

    /// Whether something may be told now.
    pub fn check(&mut self, now: Instant) -> Result<(), Blocked> {
        if self.under_way >= self.most {
            let mark = !std::mem::replace(&mut self.is_marked, true);
            return Err(Blocked::Unwritten { mark });
        }
        match self.bucket.ready_at(now) {
            Some(at) => Err(Blocked::Until(at)),
            None => Ok(()),
        }
    }

    /// Something of that size, made of so many pieces, was told.
    pub fn spend(&mut self, now: Instant, size: usize, pieces: u32) {
        self.under_way += size;
        self.bucket.take(now, pieces);
    }

    /// All that was told before the mark was written.
    pub fn on_written(&mut self) {
        self.under_way = 0;
        self.is_marked = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(3, 10);

        for _ in 0..3 {
            assert_eq!(bucket.ready_at(at(0)), None);
            bucket.take(at(0), 1);
        }

        assert_eq!(bucket.ready_at(at(0)), Some(at(100)));
        assert_eq!(bucket.ready_at(at(40)), Some(at(100)));
        assert_eq!(bucket.ready_at(at(100)), None);
        bucket.take(at(100), 1);
        assert_eq!(bucket.ready_at(at(100)), Some(at(200)));
        assert_eq!(bucket.ready_at(at(1_000)), None);
    }

    #[test]
    fn what_is_taken_beyond_it_is_a_debt() {
        let mut bucket = Bucket::new(3, 10);

        bucket.take(at(0), 5);

        assert_eq!(bucket.ready_at(at(0)), Some(at(300)));
    }

    #[test]
    fn a_mark_is_asked_for_once_until_it_was_written() {
        let mut credit = Credit::new(10, Bucket::new(100, 1));
        credit.spend(at(0), 9, 1);
        assert_eq!(credit.check(at(0)), Ok(()));

        credit.spend(at(0), 9, 1);

        let blocked = |mark| Err(Blocked::Unwritten { mark });
        assert_eq!(credit.check(at(0)), blocked(true));
        assert_eq!(credit.check(at(0)), blocked(false));
        credit.on_written();
        assert_eq!(credit.check(at(0)), Ok(()));
    }
}
