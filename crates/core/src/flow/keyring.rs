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

use crate::limits::{KEY_RETRY_MAX, KEY_RETRY_MIN, KEYS_PENDING_PER_ADDRESS_MAX};
use crate::subnet::Shares;

/// What is known of secrets.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) secrets: BTreeMap<InstanceRef, Secret>,
    pub(super) pending: BTreeMap<(InstanceRef, NodeId), Pending>,
    /// Who asked first for what is pending.
    pub(super) shares: Shares<(InstanceRef, NodeId)>,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            secrets: BTreeMap::new(),
            pending: BTreeMap::new(),
            shares: Shares::new(KEYS_PENDING_PER_ADDRESS_MAX),
        }
    }
}

#[derive(Debug)]
pub(super) enum Secret {
    Asking {
        ask_at: Instant,
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
    pub(super) until: Instant,
}

impl Keys {
    /// The secret of an instance and its epoch.
    pub(super) fn secret(&self, of: &InstanceRef) -> Option<(u8, ContentSecret)> {
        match self.secrets.get(of)? {
            Secret::Held { epoch, secret } => Some((*epoch, secret.clone())),
            Secret::Asking { .. } => None,
        }
    }

    /// Wants the secrets of exactly these instances from now on.
    pub(super) fn want(&mut self, now: Instant, wanted: &[InstanceRef]) {
        self.secrets.retain(|of, _| wanted.contains(of));
        for of in wanted {
            if !self.secrets.contains_key(of) {
                let asking = Secret::Asking {
                    ask_at: now,
                    pause: KEY_RETRY_MIN,
                    tries: 0,
                };
                self.secrets.insert(of.clone(), asking);
            }
        }
    }

    /// The instances whose secret is to be asked for now, each with how often it was; each is asked for again later.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(InstanceRef, usize)> {
        let mut due = Vec::new();
        for (of, secret) in &mut self.secrets {
            let Secret::Asking {
                ask_at,
                pause,
                tries,
            } = secret
            else {
                continue;
            };
            if *ask_at <= now {
                *ask_at = now + *pause;
                *pause = (*pause * 2).min(KEY_RETRY_MAX);
                due.push((of.clone(), *tries));
                *tries += 1;
            }
        }
        due
    }

    pub(super) fn on_link_down(&mut self, link: LinkIndex) {
        for pending in self.pending.values_mut() {
            pending.askers.retain(|asker| *asker != link);
        }
        self.keep_pending(|pending| !pending.askers.is_empty());
    }

    fn keep_pending(&mut self, is_kept: impl Fn(&Pending) -> bool) {
        let shares = &mut self.shares;
        self.pending.retain(|of, pending| {
            let is_kept = is_kept(pending);
            if !is_kept {
                shares.remove(of);
            }
            is_kept
        });
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.keep_pending(|pending| pending.until > now);
    }

    pub(super) fn wakeup(&self) -> Option<Wakeup> {
        let asks = self.secrets.values().filter_map(|secret| match secret {
            Secret::Asking { ask_at, .. } => Some(Wakeup {
                at: *ask_at,
                why: "ask for secret",
            }),
            Secret::Held { .. } => None,
        });
        let pending = self.pending.values().map(|p| Wakeup {
            at: p.until,
            why: "pending key",
        });
        asks.chain(pending).map(Some).fold(None, Wakeup::earlier)
    }
}
