//! The pieces of a stream in one format, made once and shared by all clients of that format.
//!
//! ```text
//!   first                       newest group           head
//!     ├─ piece ─ piece ─ piece ─┼─ piece ─ piece ─ ... ─┤   <- the encoder appends
//!     numbers grow by one, for ever
//! ```
//!
//! Not the place of a client in it, which is [`crate::cursor`]. Filled by [`crate::encode`]; read by the senders of
//! gateways. Invariant: the newest group is in the ring from its beginning, unless it alone is beyond [`BYTES_MAX`];
//! then nobody can join before the next.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::session::EndReason;

/// The most bytes that a ring holds. A group that is longer cannot be joined.
pub const BYTES_MAX: usize = 32 << 20;
/// The most pieces that a ring holds, with the same effect.
pub const PIECES_MAX: usize = 8_192;
/// What is older is dropped, down to the newest group: nobody who is that late is served any more.
pub const AGE_MAX: Duration = Duration::from_secs(10);

/// What the encoder made of one burst.
#[derive(Debug)]
pub struct Piece<B> {
    /// Whether a client can begin here.
    pub starts_group: bool,
    /// When it was made.
    pub made: Instant,
    /// How many bytes it holds.
    pub bytes: usize,
    /// The bytes, in the format's own form.
    pub body: B,
}

/// The pieces of a stream. See the module's head.
#[derive(Debug)]
pub struct Ring<B> {
    state: Mutex<State<B>>,
}

#[derive(Debug)]
struct State<B> {
    pieces: VecDeque<Arc<Piece<B>>>,
    bytes: usize,
    /// The number of the first piece that is here.
    first: u64,
    /// The number of the piece that starts the newest group, if that is here.
    newest_group: Option<u64>,
    /// How long the group before it lasted.
    interval: Option<Duration>,
    ended: Option<EndReason>,
    /// Who is told about a new piece.
    readers: Vec<Weak<Notify>>,
}

/// What is at a number.
#[derive(Debug)]
pub enum At<B> {
    /// This piece.
    Piece(Arc<Piece<B>>),
    /// It was there, and is not any more.
    Gone,
    /// It is not there yet.
    Ahead,
    /// It will never be there.
    Ended(EndReason),
}

impl<B> Default for Ring<B> {
    fn default() -> Self {
        let state = Mutex::new(State {
            pieces: VecDeque::new(),
            bytes: 0,
            first: 0,
            newest_group: None,
            interval: None,
            ended: None,
            readers: Vec::new(),
        });
        Self { state }
    }
}

impl<B> Ring<B> {
    fn state(&self) -> MutexGuard<'_, State<B>> {
        self.state
            .lock()
            .expect("no code that can panic runs under this lock")
    }

    /// Appends a piece and tells the readers.
    pub fn push(&self, piece: Piece<B>) {
        let mut state = self.state();
        let number = state.head();
        if piece.starts_group {
            let before = state.newest_group.and_then(|number| state.piece(number));
            state.interval = before
                .map(|before| piece.made.saturating_duration_since(before.made))
                .or(state.interval);
            state.newest_group = Some(number);
        }
        state.bytes += piece.bytes;
        let now = piece.made;
        state.pieces.push_back(Arc::new(piece));
        state.evict(now);
        state.tell();
    }

    /// Nothing follows any more.
    pub fn end(&self, reason: EndReason) {
        let mut state = self.state();
        state.ended.get_or_insert(reason);
        state.tell();
    }

    /// What is at that number.
    #[must_use]
    pub fn at(&self, number: u64) -> At<B> {
        let state = self.state();
        match state.piece(number) {
            Some(piece) => At::Piece(Arc::clone(piece)),
            None if number < state.first => At::Gone,
            None => state.ended.map_or(At::Ahead, At::Ended),
        }
    }

    /// The number of the piece that comes next.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.state().head()
    }

    /// Where the newest group starts, and when the next one is likely to.
    #[must_use]
    pub fn newest_group(&self) -> Option<(u64, Option<Instant>)> {
        let state = self.state();
        let number = state.newest_group?;
        let made = state.piece(number)?.made;
        Some((number, state.interval.map(|interval| made + interval)))
    }

    /// Has `reader` notified of every new piece, for as long as it is held elsewhere. Once is enough.
    pub fn notify(&self, reader: &Arc<Notify>) {
        let mut state = self.state();
        state.readers.retain(|known| known.strong_count() > 0);
        let is_known = state
            .readers
            .iter()
            .any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(reader)));
        if !is_known {
            state.readers.push(Arc::downgrade(reader));
        }
        reader.notify_one();
    }
}

impl<B> State<B> {
    fn head(&self) -> u64 {
        self.first + self.pieces.len() as u64
    }

    fn piece(&self, number: u64) -> Option<&Arc<Piece<B>>> {
        let at = number.checked_sub(self.first)?;
        self.pieces.get(usize::try_from(at).ok()?)
    }

    fn tell(&self) {
        for reader in self.readers.iter().filter_map(Weak::upgrade) {
            reader.notify_one();
        }
    }

    fn evict(&mut self, now: Instant) {
        while let Some(oldest) = self.pieces.front() {
            let is_beyond = self.bytes > BYTES_MAX || self.pieces.len() > PIECES_MAX;
            let is_old = now.saturating_duration_since(oldest.made) > AGE_MAX
                && self.newest_group.is_some_and(|group| self.first < group);
            if !(is_beyond || is_old) {
                return;
            }
            self.bytes -= oldest.bytes;
            self.pieces.pop_front();
            if self.newest_group == Some(self.first) {
                self.newest_group = None;
            }
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(starts_group: bool, bytes: usize, made: Instant) -> Piece<u8> {
        Piece {
            starts_group,
            made,
            bytes,
            body: 0,
        }
    }

    #[test]
    fn pieces_are_found_by_number_until_they_are_too_old() {
        let (ring, start) = (Ring::default(), Instant::now());
        ring.push(piece(true, 1, start));
        ring.push(piece(false, 1, start));
        assert_eq!(ring.newest_group().map(|(number, _)| number), Some(0));

        ring.push(piece(true, 1, start + AGE_MAX * 2));

        assert!(matches!(ring.at(1), At::Gone));
        assert!(matches!(ring.at(2), At::Piece(_)));
        assert!(matches!(ring.at(3), At::Ahead));
        let next = start + AGE_MAX * 4;
        assert_eq!(ring.newest_group(), Some((2, Some(next))));
    }

    #[test]
    fn a_group_stays_however_old_it_is() {
        let (ring, start) = (Ring::default(), Instant::now());

        ring.push(piece(true, 1, start));
        ring.push(piece(false, 1, start + AGE_MAX * 3));

        assert!(matches!(ring.at(0), At::Piece(_)));
    }

    #[test]
    fn a_group_beyond_the_limit_of_bytes_cannot_be_joined() {
        let (ring, start) = (Ring::default(), Instant::now());

        ring.push(piece(true, 1, start));
        ring.push(piece(false, BYTES_MAX, start));

        assert_eq!(ring.newest_group(), None);
        assert!(matches!(ring.at(0), At::Gone));
        assert!(matches!(ring.at(1), At::Piece(_)));
    }

    #[test]
    fn a_group_beyond_the_limit_of_pieces_cannot_be_joined() {
        let (ring, start) = (Ring::default(), Instant::now());

        ring.push(piece(true, 0, start));
        for _ in 0..PIECES_MAX {
            ring.push(piece(false, 0, start));
        }

        assert_eq!(ring.newest_group(), None);
        assert_eq!(ring.head(), PIECES_MAX as u64 + 1);
    }

    #[test]
    fn what_was_pushed_can_be_read_after_the_end() {
        let ring = Ring::default();
        ring.push(piece(true, 1, Instant::now()));

        ring.end(EndReason::StreamEnded);
        ring.end(EndReason::Closed);

        assert!(matches!(ring.at(0), At::Piece(_)));
        assert!(matches!(ring.at(1), At::Ended(EndReason::StreamEnded)));
    }

    #[tokio::test]
    async fn readers_are_told_of_new_pieces() {
        let (ring, reader) = (Ring::default(), Arc::new(Notify::new()));
        ring.notify(&reader);
        ring.notify(&reader);
        reader.notified().await;

        ring.push(piece(true, 1, Instant::now()));

        reader.notified().await;
    }
}
