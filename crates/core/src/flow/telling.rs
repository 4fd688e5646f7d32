//! What neighbours are told of the catalogue: each as far as its cursor, and as fast as it reads.
//!
//! The catalogue keeps the order in which things changed. A neighbour is told what is behind its cursor, as it is now;
//! one that does not read costs its cursor and [`crate::limits::TELLING_BYTES_MAX`], however much changes meanwhile.
//! Not the order (`catalogue`) and not what is said to one neighbour alone (`offers`). Called by [`Flows`]. Invariant:
//! who is told all there is has been told the newest of it.

use levada_wire::control::flow::{Collection, Doubts};
use levada_wire::control::{Concern, FlowMessage};
use levada_wire::{LinkIndex, SignedAnnounce};

use super::Flows;
use super::listener::Listener;
use crate::api;
use crate::credit::Blocked;

impl Flows {
    /// Begins to tell a neighbour.
    pub(super) fn listen(&mut self, link: LinkIndex) {
        let listener = Listener::new(self.catalogue.cursor());
        self.listeners.insert(link, listener);
        self.tell(link);
    }

    /// What a neighbour was told is on its way.
    pub(super) fn on_written(&mut self, link: LinkIndex) {
        if let Some(listener) = self.listeners.get_mut(&link) {
            listener.credit.on_written();
            self.tell(link);
        }
    }

    /// Tells all neighbours what changed.
    pub(super) fn tell_all(&mut self) {
        let links: Vec<LinkIndex> = self.listeners.keys().copied().collect();
        for link in links {
            self.tell(link);
        }
    }

    /// Tells those who were told much before.
    pub(super) fn tell_more(&mut self) {
        if self.tell_at.is_some_and(|at| at <= self.now) {
            self.tell_at = None;
            self.tell_all();
        }
    }

    /// Tells one neighbour what it was not told, as much as may be.
    fn tell(&mut self, link: LinkIndex) {
        while let Some(listener) = self.listeners.get_mut(&link) {
            if !self.catalogue.has_more(listener.cursor) {
                return;
            }
            match listener.credit.check(self.now) {
                Ok(()) => {}
                Err(Blocked::Unwritten { mark }) => {
                    if mark {
                        let concern = Concern::Flow;
                        self.put(api::Output::Mark { link, concern });
                    }
                    return;
                }
                Err(Blocked::Until(at)) => {
                    self.tell_at = Some(self.tell_at.map_or(at, |known| known.min(at)));
                    return;
                }
            }
            let Some(message) = self.catalogue.next_for(link, &mut listener.cursor) else {
                return;
            };
            let (pieces, bytes) = size_of(&message);
            listener.credit.spend(self.now, bytes, pieces);
            self.send(link, message);
        }
    }
}

/// How many statements a message has, and their bytes.
fn size_of(message: &FlowMessage) -> (u32, usize) {
    match message {
        FlowMessage::Announce(announce) => (1, announce.statement.bytes()),
        FlowMessage::Withdraw(withdraw) => (1, withdraw.statement.bytes()),
        FlowMessage::Collection(Collection { statements })
        | FlowMessage::Doubts(Doubts { statements }) => {
            let bytes = statements.iter().map(SignedAnnounce::bytes);
            let pieces = u32::try_from(statements.len()).unwrap_or(u32::MAX);
            (pieces, bytes.sum())
        }
        _ => (0, 0),
    }
}
