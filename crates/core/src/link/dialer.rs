//! Dialling: each configured neighbour is dialled until a link to it is up, and again once that link has closed.
//!
//! A neighbour's addresses are dialled 250 ms apart, without waiting for earlier attempts to fail; the first
//! connection wins (happy eyeballs, RFC 8305). Not the links themselves. Called by [`super::Links`]. Invariant: an
//! attempt is either under way (and known by its id), or over.
//!
//! ```text
//!  Waiting { until } ──due──▶ Dialling { attempts } ──connected──▶ Linked { peer }
//!        ▲                        │ all failed                        │ lost
//!        └────────────────────────┴───────────────────────────────────┘
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use levada_wire::machine::Wakeup;
use levada_wire::{Instant, NodeId};
use rand_chacha::ChaCha20Rng;

use crate::api::{DialId, Neighbour, Output};
use crate::chance::jittered;
use crate::limits::{
    ADDRESSES_MAX, DIAL_STAGGER, DIAL_WAIT, NEIGHBOURS_MAX, REDIAL_MAX, REDIAL_MIN,
};
use crate::view::{LinkRow, LinkState, Remote};

#[derive(Debug)]
pub(super) struct Dialer {
    configured: Vec<Configured>,
    next: u64,
    rng: ChaCha20Rng,
}

#[derive(Debug)]
struct Configured {
    neighbour: Neighbour,
    state: State,
    /// The pause before the next retry.
    retry: Duration,
    cause: String,
}

#[derive(Debug)]
enum State {
    Waiting {
        until: Instant,
    },
    Dialling {
        attempts: Vec<Attempt>,
        next: usize,
        next_at: Instant,
    },
    Linked {
        peer: NodeId,
    },
}

/// One address being dialled.
#[derive(Debug)]
struct Attempt {
    dial: DialId,
    remote: SocketAddr,
    /// When it is given up.
    until: Instant,
}

impl Dialer {
    pub(super) const fn new(rng: ChaCha20Rng) -> Self {
        Self {
            configured: Vec::new(),
            next: 0,
            rng,
        }
    }

    pub(super) fn add(&mut self, now: Instant, mut neighbour: Neighbour) {
        neighbour.addresses.truncate(ADDRESSES_MAX);
        let known = self
            .configured
            .iter()
            .any(|known| known.neighbour == neighbour);
        if known || neighbour.addresses.is_empty() || self.configured.len() >= NEIGHBOURS_MAX {
            return;
        }
        let state = State::Waiting { until: now };
        let cause = String::new();
        self.configured.push(Configured {
            neighbour,
            state,
            retry: REDIAL_MIN,
            cause,
        });
    }

    /// Forgets a neighbour; returns the attempts to reach it that are under way.
    pub(super) fn remove(&mut self, mut neighbour: Neighbour) -> Vec<DialId> {
        // As it was added.
        neighbour.addresses.truncate(ADDRESSES_MAX);
        let mut under_way = Vec::new();
        self.configured.retain(|known| {
            let goes = known.neighbour == neighbour;
            if goes {
                under_way.extend(known.attempts().iter().map(|attempt| attempt.dial));
            }
            !goes
        });
        under_way
    }

    /// Forgets all neighbours; returns the attempts that are under way.
    pub(super) fn stop(&mut self) -> Vec<DialId> {
        let configured = std::mem::take(&mut self.configured);
        let attempts = configured.iter().flat_map(Configured::attempts);
        attempts.map(|attempt| attempt.dial).collect()
    }

    /// Starts the attempts that are due.
    pub(super) fn dial_due(&mut self, now: Instant) -> Vec<Output> {
        let mut dials = Vec::new();
        for configured in &mut self.configured {
            if let State::Waiting { until } = configured.state
                && until <= now
            {
                configured.state = State::Dialling {
                    attempts: Vec::new(),
                    next: 0,
                    next_at: now,
                };
            }
            let State::Dialling {
                attempts,
                next,
                next_at,
            } = &mut configured.state
            else {
                continue;
            };
            while *next_at <= now
                && let Some(remote) = configured.neighbour.addresses.get(*next)
            {
                let dial = DialId(self.next);
                self.next += 1;
                let until = now + DIAL_WAIT;
                attempts.push(Attempt {
                    dial,
                    remote: *remote,
                    until,
                });
                *next += 1;
                *next_at = now + DIAL_STAGGER;
                let peer = configured.neighbour.node;
                dials.push(Output::Dial {
                    dial,
                    remote: *remote,
                    peer,
                });
            }
        }
        dials
    }

    /// The attempts that have taken too long.
    pub(super) fn late(&self, now: Instant) -> Vec<DialId> {
        let attempts = self.configured.iter().flat_map(Configured::attempts);
        let late = attempts.filter(|attempt| attempt.until <= now);
        late.map(|attempt| attempt.dial).collect()
    }

    /// Whether the connection that this attempt made is wanted.
    pub(super) fn on_connected(&self, dial: DialId) -> bool {
        self.configured
            .iter()
            .any(|configured| configured.attempt(dial).is_some())
    }

    /// The attempt led to a link to `peer`. Its siblings are left to connect and be closed as duplicates.
    pub(super) fn on_linked(&mut self, dial: DialId, peer: NodeId) {
        let found = self
            .configured
            .iter_mut()
            .find(|known| known.attempt(dial).is_some());
        if let Some(configured) = found {
            configured.state = State::Linked { peer };
            configured.cause.clear();
        }
    }

    /// The attempt failed; returns where it went.
    pub(super) fn on_failed(
        &mut self,
        now: Instant,
        dial: DialId,
        reason: &str,
    ) -> Option<SocketAddr> {
        let configured = self
            .configured
            .iter_mut()
            .find(|known| known.attempt(dial).is_some())?;
        let remote = configured.attempt(dial)?;
        configured.cause = reason.to_owned();
        let more = configured.neighbour.addresses.len();
        if let State::Dialling {
            attempts,
            next,
            next_at,
        } = &mut configured.state
        {
            attempts.retain(|attempt| attempt.dial != dial);
            // A failure frees the next address at once.
            *next_at = now;
            if attempts.is_empty() && *next >= more {
                let pause = jittered(configured.retry, &mut self.rng);
                configured.state = State::Waiting { until: now + pause };
                configured.retry = (configured.retry * 2).min(REDIAL_MAX);
            }
        }
        Some(remote)
    }

    /// A link to `peer` was up: what kept it from being so is over.
    pub(super) fn on_lived(&mut self, peer: NodeId) {
        for configured in self
            .configured
            .iter_mut()
            .filter(|one| one.is_linked_to(peer))
        {
            configured.retry = REDIAL_MIN;
        }
    }

    /// No link to `peer` is left. One that never came up is dialled with growing pauses, like one that never answered.
    pub(super) fn on_lost(&mut self, now: Instant, peer: NodeId, reason: &str) {
        for configured in self
            .configured
            .iter_mut()
            .filter(|one| one.is_linked_to(peer))
        {
            configured.cause = reason.to_owned();
            let pause = jittered(configured.retry, &mut self.rng);
            configured.retry = (configured.retry * 2).min(REDIAL_MAX);
            configured.state = State::Waiting { until: now + pause };
        }
    }

    pub(super) fn wakeup(&self) -> Option<Wakeup> {
        let due = self.configured.iter().map(Configured::wakeup);
        due.fold(None, Wakeup::earlier)
    }

    /// Rows of the neighbours to which there is no link.
    pub(super) fn rows(&self) -> impl Iterator<Item = LinkRow> {
        self.configured.iter().filter_map(|configured| {
            let state = match configured.state {
                State::Waiting { .. } => LinkState::Waiting,
                State::Dialling { .. } => LinkState::Dialing,
                State::Linked { .. } => return None,
            };
            let remote = Remote::Address(*configured.neighbour.addresses.first()?);
            let cause = &configured.cause;
            Some(LinkRow {
                peer: configured.neighbour.node,
                cause: (!cause.is_empty()).then(|| cause.clone()),
                ..LinkRow::to(remote, state)
            })
        })
    }
}

impl Configured {
    fn is_linked_to(&self, peer: NodeId) -> bool {
        matches!(self.state, State::Linked { peer: linked } if linked == peer)
    }

    fn attempts(&self) -> &[Attempt] {
        match &self.state {
            State::Dialling { attempts, .. } => attempts,
            State::Waiting { .. } | State::Linked { .. } => &[],
        }
    }

    fn attempt(&self, dial: DialId) -> Option<SocketAddr> {
        let attempt = self
            .attempts()
            .iter()
            .find(|attempt| attempt.dial == dial)?;
        Some(attempt.remote)
    }

    fn wakeup(&self) -> Option<Wakeup> {
        match &self.state {
            State::Waiting { until } => Some(Wakeup {
                at: *until,
                why: "redial",
            }),
            State::Dialling {
                attempts,
                next,
                next_at,
            } => {
                let more = *next < self.neighbour.addresses.len();
                let next = more.then_some(Wakeup {
                    at: *next_at,
                    why: "next address",
                });
                let late = attempts.iter().map(|attempt| attempt.until).min();
                Wakeup::earlier(
                    next,
                    late.map(|at| Wakeup {
                        at,
                        why: "no answer",
                    }),
                )
            }
            State::Linked { .. } => None,
        }
    }
}
