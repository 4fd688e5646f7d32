//! The content secrets that this node holds, those it has asked for, and the requests that wait for an answer here.
//!
//! Not the messages (`keys`). Kept by [`super::Flows`], changed by `keys`. Invariant: a secret is kept only while a
//! local subscription wants it.

use std::collections::BTreeMap;
use std::time::Duration;

use levada_wire::control::flow::InstanceRef;
use levada_wire::key::ContentSecret;
use levada_wire::machine::Wakeup;
use levada_wire::{Instant, LinkIndex, NodeId};

use crate::limits::{KEY_ASKERS_MAX, KEY_RETRY_MAX, KEY_RETRY_MIN, KEYS_PENDING_PER_ADDRESS_MAX};
use crate::subnet::Shares;
use crate::wakeups::Wakeups;

/// What is known of secrets.
#[derive(Debug)]
pub(super) struct Keys {
    secrets: BTreeMap<InstanceRef, Secret>,
    /// When each that is not here is asked for.
    asks: Wakeups<InstanceRef>,
    pub(super) pending: BTreeMap<Question, Pending>,
    /// When each of them is over.
    overs: Wakeups<Question>,
    /// Who asked first for what is pending.
    pub(super) shares: Shares<Question>,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            secrets: BTreeMap::new(),
            asks: Wakeups::default(),
            pending: BTreeMap::new(),
            overs: Wakeups::default(),
            shares: Shares::new(KEYS_PENDING_PER_ADDRESS_MAX),
        }
    }
}

#[derive(Debug)]
enum Secret {
    Asking {
        pause: Duration,
        /// How often it was asked for.
        tries: usize,
    },
    Held {
        epoch: u8,
        secret: ContentSecret,
    },
}

/// An answer that others wait for.
#[derive(Debug)]
pub(super) struct Pending {
    /// Who waits, at most `KEY_ASKERS_MAX`.
    pub(super) askers: Vec<LinkIndex>,
    /// Who was asked: nobody else's refusal counts.
    pub(super) asked: LinkIndex,
}

/// Which secret, and for whom.
pub(super) type Question = (InstanceRef, NodeId);

impl Keys {
    /// The secret of an instance and its epoch.
    pub(super) fn secret(&self, of: &InstanceRef) -> Option<(u8, ContentSecret)> {
        match self.secrets.get(of)? {
            Secret::Held { epoch, secret } => Some((*epoch, secret.clone())),
            Secret::Asking { .. } => None,
        }
    }

    /// Wants the secret of an instance from now on, or does not any more.
    pub(super) fn want(&mut self, now: Instant, of: InstanceRef, is_wanted: bool) {
        if !is_wanted {
            self.secrets.remove(&of);
            self.asks.note(of, None);
        } else if !self.secrets.contains_key(&of) {
            let asking = Secret::Asking {
                pause: KEY_RETRY_MIN,
                tries: 0,
            };
            self.secrets.insert(of.clone(), asking);
            self.asks.note(of, ask(now));
        }
    }

    /// Whether the secret of an instance is wanted and not here.
    pub(super) fn is_asked_for(&self, of: &InstanceRef) -> bool {
        matches!(self.secrets.get(of), Some(Secret::Asking { .. }))
    }

    /// The secret of an instance is here.
    pub(super) fn hold(&mut self, of: InstanceRef, epoch: u8, secret: ContentSecret) {
        self.asks.note(of.clone(), None);
        self.secrets.insert(of, Secret::Held { epoch, secret });
    }

    /// The instances whose secret is to be asked for now, each with how often it was; each is asked for again later.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(InstanceRef, usize)> {
        let mut due = Vec::new();
        for of in self.asks.due(now) {
            let Some(Secret::Asking { pause, tries }) = self.secrets.get_mut(&of) else {
                continue;
            };
            self.asks.note(of.clone(), ask(now + *pause));
            *pause = (*pause * 2).min(KEY_RETRY_MAX);
            due.push((of, *tries));
            *tries += 1;
        }
        due
    }

    /// `asker` waits for an answer that `asked` is to give.
    pub(super) fn wait(
        &mut self,
        key: Question,
        asker: LinkIndex,
        asked: LinkIndex,
        until: Instant,
    ) {
        let at = Wakeup {
            at: until,
            why: "pending key",
        };
        self.overs.note(key.clone(), Some(at));
        let pending = self.pending.entry(key).or_insert(Pending {
            askers: Vec::new(),
            asked,
        });
        pending.asked = asked;
        if !pending.askers.contains(&asker) && pending.askers.len() < KEY_ASKERS_MAX {
            pending.askers.push(asker);
        }
    }

    /// It was answered, or nobody waits for it.
    pub(super) fn wait_no_more(&mut self, key: &Question) -> Option<Pending> {
        self.shares.remove(key);
        self.overs.note(key.clone(), None);
        self.pending.remove(key)
    }

    pub(super) fn on_link_down(&mut self, link: LinkIndex) {
        let mut over = Vec::new();
        for (key, pending) in &mut self.pending {
            pending.askers.retain(|asker| *asker != link);
            if pending.askers.is_empty() {
                over.push(key.clone());
            }
        }
        for key in over {
            self.wait_no_more(&key);
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        for key in self.overs.due(now) {
            self.wait_no_more(&key);
        }
    }

    pub(super) fn wakeup(&self) -> Option<Wakeup> {
        Wakeup::earlier(self.asks.first(), self.overs.first())
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as it is noted")]
const fn ask(at: Instant) -> Option<Wakeup> {
    Some(Wakeup {
        at,
        why: "ask for secret",
    })
}
