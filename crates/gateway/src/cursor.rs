//! Where one client is in a ring: where it joins, when it is skipped to the next group, when it is dropped.
//!
//! ```text
//!            join              piece is there            more than LATE_MAX behind,
//!   Waiting ──────▶ Following ───────────────▶ Following  and a newer group is there ──▶ skip to it
//!                                                         behind for BEHIND_MAX without a pause ──▶ dropped
//! ```
//!
//! Not the writing, which is the gateway's. Called by the senders of gateways. Invariant: the first piece that a client
//! gets starts a group, and so does the first one after a skip.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ring::{At, Piece, Ring};
use crate::session::EndReason;

/// A client that is later than this goes on at the newest group, if that is ahead of it.
pub const LATE_MAX: Duration = Duration::from_secs(2);
/// A client that has not once caught up for this long is dropped.
pub const BEHIND_MAX: Duration = Duration::from_secs(30);

/// Where a client joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Join {
    /// At the start of the newest group, at once. The client stays as late as that group was old. A protocol whose
    /// player can be told to catch up joins like this too.
    Burst,
    /// At the next group: many clients share one copy, and some of them are not there yet.
    Next,
    /// At the next group if that is likely to start within this time; otherwise like [`Join::Burst`].
    NextIfWithin(Duration),
}

/// What a client gets next.
#[derive(Debug)]
pub enum Next<B> {
    /// This piece.
    Piece(Arc<Piece<B>>),
    /// Nothing yet.
    Wait,
    /// Nothing any more.
    Ended(EndReason),
}

/// The read position of one client in a ring.
#[derive(Clone, Debug)]
pub struct Cursor {
    position: Position,
    /// Since when there was always something more to send.
    behind: Option<Instant>,
    skips: u64,
}

#[derive(Clone, Copy, Debug)]
enum Position {
    /// For a group that starts at this number or later.
    Waiting(u64),
    /// The next number.
    Following(u64),
}

impl Cursor {
    /// The position of a client that joins now.
    #[must_use]
    pub fn join<B>(ring: &Ring<B>, join: Join, now: Instant) -> Self {
        let position = match (ring.newest_group(), join) {
            (Some((_, Some(next))), Join::NextIfWithin(near)) if is_near(next, near, now) => {
                Position::Waiting(ring.head())
            }
            (Some((group, _)), Join::Burst | Join::NextIfWithin(_)) => Position::Following(group),
            _ => Position::Waiting(ring.head()),
        };
        Self {
            position,
            behind: None,
            skips: 0,
        }
    }

    /// What comes next, and moves on to what follows.
    pub fn next<B>(&mut self, ring: &Ring<B>, now: Instant) -> Next<B> {
        let number = match self.position {
            Position::Following(number) => number,
            Position::Waiting(from) => match ring.newest_group() {
                Some((group, _)) if group >= from => group,
                _ => {
                    return match ring.at(ring.head()) {
                        At::Ended(reason) => Next::Ended(reason),
                        _ => Next::Wait,
                    };
                }
            },
        };
        self.position = Position::Following(number);
        match ring.at(number) {
            At::Ended(reason) => Next::Ended(reason),
            At::Ahead => {
                self.behind = None;
                Next::Wait
            }
            At::Gone => self.skip(ring, number, now),
            At::Piece(piece) => {
                let late = now.saturating_duration_since(piece.made);
                let group = ring.newest_group().filter(|(group, _)| *group > number);
                if late > LATE_MAX && group.is_some() {
                    return self.skip(ring, number, now);
                }
                self.position = Position::Following(number + 1);
                self.follow(piece, now)
            }
        }
    }

    /// How many times the client was skipped to a later group.
    #[must_use]
    pub const fn skips(&self) -> u64 {
        self.skips
    }

    fn follow<B>(&mut self, piece: Arc<Piece<B>>, now: Instant) -> Next<B> {
        let behind = *self.behind.get_or_insert(now);
        if now.saturating_duration_since(behind) > BEHIND_MAX {
            return Next::Ended(EndReason::Slow);
        }
        Next::Piece(piece)
    }

    fn skip<B>(&mut self, ring: &Ring<B>, number: u64, now: Instant) -> Next<B> {
        self.skips += 1;
        let group = ring.newest_group().map(|(group, _)| group);
        let Some(group) = group.filter(|group| *group > number) else {
            self.position = Position::Waiting(ring.head());
            return Next::Wait;
        };
        self.position = Position::Following(group + 1);
        match ring.at(group) {
            At::Piece(piece) => self.follow(piece, now),
            // It was evicted since: by an encoder that is far ahead.
            _ => {
                self.position = Position::Waiting(ring.head());
                Next::Wait
            }
        }
    }
}

fn is_near(next: Instant, near: Duration, now: Instant) -> bool {
    next > now && next.duration_since(now) <= near
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "a test may panic")]

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn push(ring: &Ring<u32>, body: u32, starts_group: bool, made: Instant) {
        ring.push(Piece {
            starts_group,
            made,
            bytes: 1,
            body,
        });
    }

    fn next(cursor: &mut Cursor, ring: &Ring<u32>, now: Instant) -> Option<u32> {
        match cursor.next(ring, now) {
            Next::Piece(piece) => Some(piece.body),
            Next::Wait => None,
            Next::Ended(reason) => panic!("{reason:?}"),
        }
    }

    #[test]
    fn a_newcomer_begins_with_the_newest_group() {
        let (ring, now) = (Ring::default(), Instant::now());
        for (body, starts_group) in [(0, true), (1, false), (2, true), (3, false)] {
            push(&ring, body, starts_group, now);
        }

        let mut cursor = Cursor::join(&ring, Join::Burst, now);

        let got: Vec<_> = std::iter::from_fn(|| next(&mut cursor, &ring, now)).collect();
        assert_eq!(got, [2, 3]);
        push(&ring, 4, false, now);
        assert_eq!(next(&mut cursor, &ring, now), Some(4));
        assert_eq!(cursor.skips(), 0);
    }

    #[test]
    fn a_newcomer_waits_for_the_first_group() {
        let (ring, now) = (Ring::default(), Instant::now());
        push(&ring, 0, false, now);
        let mut cursor = Cursor::join(&ring, Join::Burst, now);

        assert_eq!(next(&mut cursor, &ring, now), None);
        push(&ring, 1, false, now);
        assert_eq!(next(&mut cursor, &ring, now), None);
        push(&ring, 2, true, now);
        assert_eq!(next(&mut cursor, &ring, now), Some(2));
    }

    #[test]
    fn a_newcomer_waits_for_the_next_group_only_if_that_is_near() {
        let (ring, start) = (Ring::default(), Instant::now());
        push(&ring, 0, true, start);
        push(&ring, 1, true, start + SECOND);
        let join = Join::NextIfWithin(SECOND / 5);

        let mut early = Cursor::join(&ring, join, start + SECOND * 3 / 2);
        let mut late = Cursor::join(&ring, join, start + SECOND * 19 / 10);

        let now = start + SECOND * 2;
        let mut shared = Cursor::join(&ring, Join::Next, start + SECOND);
        assert_eq!(next(&mut shared, &ring, now), None);
        assert_eq!(next(&mut early, &ring, now), Some(1));
        assert_eq!(next(&mut late, &ring, now), None);
        push(&ring, 2, true, now);
        assert_eq!(next(&mut late, &ring, now), Some(2));
    }

    #[test]
    fn a_late_client_is_skipped_to_the_newest_group() {
        let (ring, start) = (Ring::default(), Instant::now());
        push(&ring, 0, true, start);
        push(&ring, 1, false, start);
        let mut cursor = Cursor::join(&ring, Join::Burst, start);
        assert_eq!(next(&mut cursor, &ring, start), Some(0));

        push(&ring, 2, true, start + SECOND);
        push(&ring, 3, true, start + SECOND * 2);
        let now = start + SECOND * 3;

        assert_eq!(next(&mut cursor, &ring, now), Some(3));
        assert_eq!(cursor.skips(), 1);
        assert_eq!(next(&mut cursor, &ring, now), None);
    }

    #[test]
    fn a_long_group_is_sent_whole_however_old_it_is() {
        let (ring, start) = (Ring::default(), Instant::now());
        push(&ring, 0, true, start);
        push(&ring, 1, false, start);
        let now = start + SECOND * 9;

        let mut cursor = Cursor::join(&ring, Join::Burst, now);

        assert_eq!(next(&mut cursor, &ring, now), Some(0));
        assert_eq!(next(&mut cursor, &ring, now), Some(1));
        assert_eq!(cursor.skips(), 0);
    }

    #[test]
    fn a_client_whose_pieces_are_gone_waits_for_a_group() {
        let (ring, start) = (Ring::default(), Instant::now());
        push(&ring, 0, true, start);
        let mut cursor = Cursor::join(&ring, Join::Burst, start);
        for body in 1..=u32::try_from(crate::ring::PIECES_MAX).unwrap_or(0) {
            push(&ring, body, false, start);
        }

        assert_eq!(next(&mut cursor, &ring, start), None);
        assert_eq!(cursor.skips(), 1);
        push(&ring, 7, true, start);
        assert_eq!(next(&mut cursor, &ring, start), Some(7));
    }

    #[test]
    fn a_client_that_never_catches_up_is_dropped() {
        let (ring, start) = (Ring::default(), Instant::now());
        for second in 0..40 {
            push(&ring, second, true, start + SECOND * second);
        }
        let mut cursor = Cursor::join(&ring, Join::Burst, start);
        cursor.position = Position::Following(ring.head() - 5);

        let first = cursor.next(&ring, start + SECOND * 36);
        let dropped = cursor.next(&ring, start + SECOND * 36 + BEHIND_MAX + SECOND);

        assert!(matches!(first, Next::Piece(_)));
        assert!(matches!(dropped, Next::Ended(EndReason::Slow)));
    }

    #[test]
    fn the_end_comes_after_the_last_piece_and_to_whoever_waits() {
        let (ring, now) = (Ring::default(), Instant::now());
        let mut waiting = Cursor::join(&ring, Join::Burst, now);
        push(&ring, 0, false, now);
        ring.end(EndReason::StreamEnded);

        assert!(matches!(
            waiting.next(&ring, now),
            Next::Ended(EndReason::StreamEnded)
        ));
    }
}
