//! A stream on its way to a client: from which ring, up to where, and whose records count it.
//!
//! Not the writing (`client` beside it). Made by the server's connections and by `channel`. Invariant: what was sent is
//! counted once, by each session that hears it.

use std::sync::{Arc, Mutex, MutexGuard};

use levada_gateway::{Cursor, Ring, Session};

use crate::burst::{Burst, Tracks};

/// A stream to a client.
#[derive(Debug)]
pub(crate) struct Play {
    pub(crate) ring: Arc<Ring<Burst>>,
    pub(crate) cursor: Cursor,
    pub(crate) tracks: Tracks,
    pub(crate) counted: Counted,
    /// Bytes after which the client is dropped.
    pub(crate) bytes_max: Option<u64>,
}

/// Whose records count what is sent.
#[derive(Debug)]
pub(crate) enum Counted {
    /// That of the only client.
    Client(Arc<Session>),
    /// Those of all who hear a channel.
    Listeners(Arc<Listeners>),
}

/// The records of those who hear a channel, and the tracks that each of them hears.
#[derive(Debug, Default)]
pub(crate) struct Listeners(Mutex<Vec<(Arc<Session>, Tracks)>>);

impl Listeners {
    fn sessions(&self) -> MutexGuard<'_, Vec<(Arc<Session>, Tracks)>> {
        self.0
            .lock()
            .expect("no code that can panic runs under this lock")
    }

    pub(crate) fn join(&self, session: Arc<Session>, tracks: Tracks) {
        self.sessions().push((session, tracks));
    }

    pub(crate) fn leave(&self, session: u64) {
        self.sessions().retain(|(known, _)| known.id() != session);
    }

    fn add_bytes(&self, track: usize, bytes: usize) {
        for (session, tracks) in self.sessions().iter() {
            if tracks.has(track) {
                session.counts().add_bytes(bytes);
            }
        }
    }

    fn set_skips(&self, skips: u64) {
        for (session, _) in self.sessions().iter() {
            session.counts().set_skips(skips);
        }
    }
}

impl Play {
    /// Counts bytes to the client, and says whether they are more than it may have.
    pub(super) fn count(&self, bytes: usize) -> bool {
        let Counted::Client(session) = &self.counted else {
            return false;
        };
        let total = session.counts().add_bytes(bytes);
        self.bytes_max.is_some_and(|max| total > max)
    }

    /// The same for bytes of one track, which a channel's listeners may not all hear.
    pub(super) fn count_track(&self, track: usize, bytes: usize) -> bool {
        if let Counted::Listeners(listeners) = &self.counted {
            listeners.add_bytes(track, bytes);
        }
        self.count(bytes)
    }

    pub(super) fn note_skips(&self) {
        match &self.counted {
            Counted::Client(session) => session.counts().set_skips(self.cursor.skips()),
            Counted::Listeners(listeners) => listeners.set_skips(self.cursor.skips()),
        }
    }
}
