//! Chains: what a node's tickets allow it, checked from the root key down.
//!
//! ```text
//! holder, proven by TLS == own.subject
//!                          own.issuer == root                                     depth 1
//!                          own.issuer == issuer.subject, issuer.issuer == root    depth 2
//!                          own.grants within issuer.grants and its issue right, issue itself excepted
//! each ticket: of the network of the root, not revoked, not from the future; in its time or in the 14 days after
//! ```
//!
//! Not the signatures: a [`SignedTicket`] has been verified against the issuer it names. Called by `core::link`.
//! Invariant: a [`Rights`] is only ever made by [`Chain::verify`].
//!
//! Wire definition: docs/wire.md section 10.2

use std::collections::BTreeSet;
use std::time::Duration;

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

use super::{Action, Grant, NamePrefix, SignedTicket, Ticket};
use crate::id::{NetworkId, NodeId, StreamName};
use crate::time::WallTime;

/// The most tickets of a chain: the subject's own and its issuer's.
pub const CHAIN_MAX: usize = 2;
/// How long an expired ticket works while no issuer answers.
pub const GRACE: Duration = Duration::from_secs(14 * 24 * 3_600);
/// How far the clocks of issuer and verifier may differ before a new ticket seems to come from the future.
pub const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// A node's ticket and, if the root did not sign it, its issuer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    own: SignedTicket,
    issuer: Option<SignedTicket>,
}

/// What a chain is held against.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// The network's root key.
    pub root: &'a NodeId,
    /// The node that shows the chain, proven by TLS.
    pub holder: &'a NodeId,
    /// The time.
    pub now: WallTime,
    /// Serials of tickets that were taken back.
    pub revoked: &'a BTreeSet<u64>,
}

impl Chain {
    /// The chain of a ticket that the root signed.
    #[must_use]
    pub const fn of_root(own: SignedTicket) -> Self {
        Self { own, issuer: None }
    }

    /// The chain of a ticket that the subject of `issuer` signed.
    #[must_use]
    pub const fn of_issuer(own: SignedTicket, issuer: SignedTicket) -> Self {
        Self {
            own,
            issuer: Some(issuer),
        }
    }

    /// The holder's own ticket.
    #[must_use]
    pub const fn own(&self) -> &Ticket {
        self.own.content()
    }

    /// What the chain allows its holder.
    ///
    /// # Errors
    ///
    /// Names the first thing that is wrong.
    pub fn verify(&self, trust: &Trust<'_>) -> Result<Rights, TicketError> {
        let own = self.own.content();
        // spec: WIRE 10.2 a ticket MUST be refused to any node but its subject
        if own.subject != *trust.holder {
            return Err(TicketError::NotYours {
                subject: own.subject,
            });
        }
        let mut standing = Standing::of(own, trust)?;
        if let Some(issuer) = self.issuer.as_ref().map(SignedTicket::content) {
            standing = standing.worse(Standing::of(issuer, trust)?);
            check_issuer(own, issuer)?;
        }
        let top = self.issuer.as_ref().map_or(own, SignedTicket::content);
        // spec: WIRE 10.2 a chain that does not end at the root key MUST be refused
        if top.issuer != *trust.root {
            return Err(TicketError::UnknownIssuer { issuer: top.issuer });
        }
        Ok(Rights {
            grants: own.grants.clone(),
            standing,
        })
    }
}

/// Whether `issuer` may hand out all that `own` grants.
fn check_issuer(own: &Ticket, issuer: &Ticket) -> Result<(), TicketError> {
    if own.issuer != issuer.subject {
        return Err(TicketError::UnknownIssuer { issuer: own.issuer });
    }
    let holds = |action: Action, names: &NamePrefix| {
        let mut held = issuer.grants.iter().filter(|held| held.action == action);
        held.any(|held| held.names.covers_all_of(names))
    };
    for grant in &own.grants {
        // spec: WIRE 10.2 a ticket that grants more than its issuer holds, or the issue right, MUST be refused
        let handed_on = grant.action != Action::Issue
            && holds(Action::Issue, &grant.names)
            && holds(grant.action, &grant.names);
        if !handed_on {
            return Err(TicketError::NotTheIssuers {
                grant: grant.clone(),
            });
        }
    }
    Ok(())
}

impl<C> Encode<C> for Chain {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        e.array(1 + u64::from(self.issuer.is_some()))?;
        self.own.encode(e, ctx)?;
        self.issuer
            .iter()
            .try_for_each(|issuer| issuer.encode(e, ctx))
    }
}

impl<'b, C> Decode<'b, C> for Chain {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, decode::Error> {
        let mut tickets = Vec::with_capacity(CHAIN_MAX);
        for ticket in d.array_iter_with(ctx)? {
            // spec: WIRE 10.2 a chain of more than two tickets MUST NOT decode
            if tickets.len() == CHAIN_MAX {
                return Err(decode::Error::message("a chain has at most 2 tickets"));
            }
            tickets.push(ticket?);
        }
        let mut tickets = tickets.into_iter();
        let own = tickets.next();
        let own = own.ok_or_else(|| decode::Error::message("a chain has a ticket"))?;
        Ok(Self {
            own,
            issuer: tickets.next(),
        })
    }
}

/// What a verified chain allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    grants: Vec<Grant>,
    standing: Standing,
}

impl Rights {
    /// Whether `action` is allowed on `name`.
    #[must_use]
    pub fn allows(&self, action: Action, name: &StreamName) -> bool {
        self.names(action).any(|names| names.covers(name))
    }

    /// Whether `action` is allowed on every name.
    #[must_use]
    pub fn allows_everywhere(&self, action: Action) -> bool {
        self.names(action).any(|names| *names == NamePrefix::ALL)
    }

    /// Whether the ticket is valid, or lives on grace: a state to be shown.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    fn names(&self, action: Action) -> impl Iterator<Item = &NamePrefix> {
        let of_action = move |grant: &&Grant| grant.action == action && action != Action::Other;
        self.grants
            .iter()
            .filter(of_action)
            .map(|grant| &grant.names)
    }
}

/// How good a chain is at the moment of its check: as good as the worst of its tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In its time.
    Valid {
        /// Until when, in seconds since the Unix epoch.
        until: u64,
    },
    /// Expired, and good only as long as no issuer answers.
    Grace {
        /// Until when, in seconds since the Unix epoch.
        until: u64,
    },
}

impl Standing {
    fn of(ticket: &Ticket, trust: &Trust<'_>) -> Result<Self, TicketError> {
        if ticket.network != NetworkId::of_root(trust.root) {
            return Err(TicketError::WrongNetwork {
                network: ticket.network,
            });
        }
        if trust.revoked.contains(&ticket.serial) {
            return Err(TicketError::Revoked {
                serial: ticket.serial,
            });
        }
        let now = trust.now.as_secs();
        let grace_ends = ticket.not_after.saturating_add(GRACE.as_secs());
        // spec: WIRE 10.3 an expired ticket MUST be taken for 14 days more, and be shown as such
        if now.saturating_add(CLOCK_SKEW.as_secs()) < ticket.not_before {
            Err(TicketError::NotYet {
                not_before: ticket.not_before,
            })
        } else if now < ticket.not_after {
            Ok(Self::Valid {
                until: ticket.not_after,
            })
        } else if now < grace_ends {
            Ok(Self::Grace { until: grace_ends })
        } else {
            Err(TicketError::Expired {
                not_after: ticket.not_after,
            })
        }
    }

    fn worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::Valid { until: a }, Self::Valid { until: b }) => Self::Valid { until: a.min(b) },
            (Self::Grace { until: a }, Self::Grace { until: b }) => Self::Grace { until: a.min(b) },
            (grace @ Self::Grace { .. }, _) | (_, grace) => grace,
        }
    }
}

/// Why a chain of tickets allows nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// Of another node.
    #[error("the ticket is of node {subject}, not of the node that shows it")]
    NotYours {
        /// The node that the ticket was issued to.
        subject: NodeId,
    },
    /// Of another network.
    #[error("the ticket is of network {network}, not of this one")]
    WrongNetwork {
        /// The network that the ticket was issued for.
        network: NetworkId,
    },
    /// Signed by no one who may.
    #[error(
        "the ticket was issued by {issuer}, which is neither the root key nor shown to be an issuer"
    )]
    UnknownIssuer {
        /// The node that signed the ticket.
        issuer: NodeId,
    },
    /// Grants what its issuer cannot grant.
    #[error("the issuer may not grant {:?} on {:?}", .grant.action, .grant.names.to_string())]
    NotTheIssuers {
        /// What it cannot grant.
        grant: Grant,
    },
    /// Taken back.
    #[error("ticket {serial:016x} was revoked")]
    Revoked {
        /// The serial number of the revoked ticket.
        serial: u64,
    },
    /// Valid in the future only.
    #[error(
        "the ticket is not valid before Unix time {not_before}; is the clock of this machine right?"
    )]
    NotYet {
        /// From when.
        not_before: u64,
    },
    /// Expired, grace included.
    #[error(
        "the ticket expired at Unix time {not_after}, more than 14 days ago; have it renewed by an issuer"
    )]
    Expired {
        /// When.
        not_after: u64,
    },
}
