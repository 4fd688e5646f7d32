//! The end of what was sent so far: when a flow falls quiet, its highest number is said again, so that a lost tail
//! shows.
//!
//! ```text
//!  packets ▮▮▮ ▮▮▮ ▮▮▮ ▮▮▮                  HEAD       HEAD                  HEAD
//!                         └── unusually quiet ┴─ twice ──┴───── four times ────┴─ ...
//! ```
//!
//! The next packet shows a loss as well and costs nothing, so HEAD is not said between the frames of a stream that goes
//! on: quiet is twice the longest pause of late. Not the sending: `repair` does that. Called by `forward` for each run
//! that goes on and by the lane when the time has come. Invariant: at most [`HEADS_MAX`] in a row; one timer, moved
//! only when it fires.

use std::time::Duration;

use levada_wire::{Instant, Number};

use crate::limits::{HEAD_FADING, HEAD_QUIET_MAX, HEAD_QUIET_MIN, HEADS_MAX};

/// See the module's head.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tail {
    highest: Option<Number>,
    /// When the last packet was sent.
    sent_at: Instant,
    /// When the last packet was sent or HEAD was said.
    said_at: Instant,
    /// The longest pause of late.
    pause: Duration,
    heads: u8,
    is_ending: bool,
    timer: Option<Instant>,
}

impl Tail {
    /// Packets below `end` were sent; says whether the timer was set now.
    pub(crate) fn sent(&mut self, end: Number, now: Instant) -> bool {
        if self.highest.is_some() {
            let pause = now.since(self.sent_at).min(HEAD_QUIET_MAX);
            self.pause = pause.max(self.pause - self.pause / HEAD_FADING);
        }
        let highest = end.minus(1).unwrap_or(Number::ZERO);
        self.highest = self.highest.max(Some(highest));
        (self.sent_at, self.said_at, self.heads) = (now, now, 0);
        if self.is_ending {
            self.pause = Duration::ZERO;
        }
        // A timer that comes too early is moved when it fires; one that waits for a later HEAD would come too late.
        let due = self.next_at();
        if self.timer.is_some_and(|timer| timer <= due) {
            return false;
        }
        self.timer = Some(due);
        true
    }

    /// Whether HEAD will be said again, of all packets below `end` or more.
    pub(crate) fn says(&self, end: Number) -> bool {
        self.timer.is_some() && self.highest >= end.minus(1)
    }

    /// What is sent from now on is the last: quiet begins right after it.
    pub(crate) const fn finish(&mut self) {
        self.is_ending = true;
    }

    /// The highest number, if it is time to say it.
    pub(crate) fn head(&mut self, now: Instant) -> Option<Number> {
        if self.timer? > now {
            return None;
        }
        let due = self.next_at();
        if due > now {
            self.timer = Some(due);
            return None;
        }
        (self.said_at, self.heads) = (now, self.heads + 1);
        self.timer = (self.heads < HEADS_MAX).then(|| self.next_at());
        self.highest
    }

    /// The flow goes on before the highest number that was sent.
    pub(crate) const fn go_back(&mut self) {
        self.highest = None;
    }

    /// Nobody is told any more.
    pub(crate) const fn rest(&mut self) {
        self.timer = None;
    }

    pub(crate) const fn timer(&self) -> Option<Instant> {
        self.timer
    }

    fn next_at(&self) -> Instant {
        let quiet = (self.pause * 2).clamp(HEAD_QUIET_MIN, HEAD_QUIET_MAX);
        self.said_at + quiet * (1 << self.heads)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    const fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn number(value: u64) -> Number {
        Number::new(value).unwrap()
    }

    /// When HEAD is said until the timer rests, after `now`.
    fn heads(tail: &mut Tail) -> Vec<Instant> {
        let mut said = Vec::new();
        while let Some(at) = tail.timer() {
            said.extend(tail.head(at).map(|_| at));
        }
        said
    }

    #[test]
    fn the_head_is_said_a_few_times_at_growing_distances() {
        let mut tail = Tail::default();
        assert!(tail.sent(number(7), at(0)));

        assert_eq!(tail.head(at(10)), Some(number(6)));
        assert_eq!(
            heads(&mut tail),
            [at(30), at(70), at(150), at(310), at(630)]
        );
    }

    #[test]
    fn a_stream_at_its_usual_pace_is_not_quiet() {
        let mut tail = Tail::default();
        for frame in 0..100 {
            for packet in 0..10 {
                tail.sent(number(frame * 10 + packet + 1), at(frame * 33 + packet));
            }
            // The first pause is the first it learns of.
            while let Some(timer) = tail.timer().filter(|&timer| timer < at(frame * 33 + 33)) {
                let said = tail.head(timer);
                assert!(said.is_none() || frame == 0, "frame {frame}");
            }
        }

        let said = heads(&mut tail);
        assert_eq!(said.len(), usize::from(HEADS_MAX));
        assert!(said[0] > at(99 * 33 + 40) && said[0] < at(99 * 33 + 100));
    }

    #[test]
    fn however_rare_packets_are_the_head_is_said_within_the_longest_quiet() {
        let mut tail = Tail::default();
        for packet in 0..9 {
            tail.sent(number(packet + 1), at(packet * 10_000));
        }

        assert_eq!(heads(&mut tail)[0], at(80_000) + HEAD_QUIET_MAX);
    }

    #[test]
    fn the_end_is_said_soon() {
        let mut tail = Tail::default();
        tail.sent(number(1), at(0));
        tail.sent(number(2), at(100));

        tail.finish();
        tail.sent(number(3), at(120));

        assert_eq!(heads(&mut tail)[0], at(130));
        assert_eq!(tail.head(at(9_000)), None);
    }

    #[test]
    fn a_packet_between_two_heads_brings_the_next_one_forward() {
        let mut tail = Tail::default();
        tail.sent(number(1), at(0));
        tail.sent(number(2), at(200));
        tail.head(at(10));
        assert_eq!(tail.head(at(350)), Some(number(1)));
        assert_eq!(tail.timer(), Some(at(650)));

        assert!(tail.sent(number(3), at(400)));

        assert_eq!(tail.timer(), Some(at(550)));
    }

    #[test]
    fn a_late_packet_does_not_lower_the_head() {
        let mut tail = Tail::default();
        tail.sent(number(9), at(0));
        tail.sent(number(3), at(1));

        assert_eq!(tail.head(at(100)), Some(number(8)));
        tail.rest();
        assert_eq!(tail.timer(), None);
    }
}
