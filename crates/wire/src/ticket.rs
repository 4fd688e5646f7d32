//! Tickets: signed statements of what a node may do in its network.
//!
//! ```text
//! root key ──signs──▶ ticket of A: issue, play, relay on "" ──A signs──▶ ticket of B: play on "sports"
//!    (depth 0)                    (depth 1)                                    (depth 2, the end)
//! ```
//!
//! A ticket is bound to the node id of its subject, so it is no secret: whoever copies one cannot use it. A chain is a
//! node's own ticket and, if the root did not sign that, the ticket of who did. Nobody hands on more than they hold.
//! Not how a ticket is asked for or renewed, and not the list of the revoked. Called by `core::link`, which holds a peer
//! to its rights, and by `cli` (`net`, `ticket`).
//! Invariant: a [`Rights`] is only ever made by [`Chain::verify`].
//!
//! Wire definition: docs/wire.md section 10

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

use crate::id::{IdError, NetworkId, NodeId, StreamName};
use crate::identity::{self, Identity, Purpose, SIGNATURE_BYTES};
use crate::time::WallTime;

pub mod invite;

pub use invite::{Invite, InviteError};

/// The longest signed ticket, in bytes.
pub const TICKET_BYTES_MAX: usize = 4_096;
/// The most grants of one ticket.
pub const GRANTS_MAX: usize = 32;
/// The most tickets of a chain: the subject's own and its issuer's.
pub const CHAIN_MAX: usize = 2;
/// How long a ticket is issued for unless someone says otherwise.
pub const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How long an expired ticket works while no issuer answers.
pub const GRACE: Duration = Duration::from_secs(14 * 24 * 3_600);
/// How far the clocks of issuer and verifier may differ before a new ticket seems to come from the future.
pub const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// What a node may be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Offer streams.
    Publish,
    /// Open streams.
    Play,
    /// Forward flows for others.
    Relay,
    /// Be hub of a site.
    Hub,
    /// Issue tickets.
    Issue,
    /// Administer nodes.
    Admin,
    /// Something this version has no word for: allows nothing here.
    Other,
}

impl Action {
    const TABLE: [(u8, Self); 6] = [
        (1, Self::Publish),
        (2, Self::Play),
        (3, Self::Relay),
        (4, Self::Hub),
        (5, Self::Issue),
        (6, Self::Admin),
    ];
}

impl<C> Encode<C> for Action {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        let known = Self::TABLE.iter().find(|(_, action)| action == self);
        e.u8(known.map_or(0, |(code, _)| *code))?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Action {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        let code = d.u32()?;
        let known = Self::TABLE
            .iter()
            .find(|(known, _)| u32::from(*known) == code);
        Ok(known.map_or(Self::Other, |(_, action)| *action))
    }
}

/// The beginning of stream names: none for all of them, `sports` for `sports` and `sports/final`, not for `sportsbar`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamePrefix(Option<StreamName>);

impl NamePrefix {
    /// All names.
    pub const ALL: Self = Self(None);

    /// Whether it is the beginning of `name`, in whole parts.
    #[must_use]
    pub fn covers(&self, name: &StreamName) -> bool {
        let Some(prefix) = &self.0 else { return true };
        let rest = name.as_str().strip_prefix(prefix.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether it covers every name that `other` covers.
    #[must_use]
    pub fn covers_all_of(&self, other: &Self) -> bool {
        match &other.0 {
            Some(name) => self.covers(name),
            None => self.0.is_none(),
        }
    }
}

impl FromStr for NamePrefix {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.is_empty() {
            return Ok(Self::ALL);
        }
        text.parse().map(|name| Self(Some(name)))
    }
}

impl fmt::Display for NamePrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_ref().map_or("", StreamName::as_str))
    }
}

impl<C> Encode<C> for NamePrefix {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        e.str(self.0.as_ref().map_or("", StreamName::as_str))?.ok()
    }
}

impl<'b, C> Decode<'b, C> for NamePrefix {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        d.str()?
            .parse()
            .map_err(|_| decode::Error::message("not the beginning of a stream name"))
    }
}

/// One right: an action, on some names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(map)]
pub struct Grant {
    /// What.
    #[n(0)]
    pub action: Action,
    /// On which names.
    #[n(1)]
    pub names: NamePrefix,
}

/// What a node may do in its network, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Ticket {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// Who says so: the root key, or a node with the issue right.
    #[n(1)]
    pub issuer: NodeId,
    /// Of whom.
    #[n(2)]
    pub subject: NodeId,
    /// Drawn by the issuer: names the ticket where it is revoked.
    #[n(3)]
    pub serial: u64,
    /// Not valid before, in seconds since the Unix epoch.
    #[n(4)]
    pub not_before: u64,
    /// Not valid from then on.
    #[n(5)]
    pub not_after: u64,
    /// What is allowed; at most [`GRANTS_MAX`].
    #[n(6)]
    pub grants: Vec<Grant>,
}

/// A [`Ticket`] with its issuer's signature, verified. Whether the issuer may issue is for [`Chain::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedTicket {
    content: Ticket,
    body: Vec<u8>,
    signature: [u8; SIGNATURE_BYTES],
}

impl SignedTicket {
    /// Signs `content` as its issuer.
    ///
    /// # Panics
    ///
    /// If `identity` is not the issuer it names, or if it has more than [`GRANTS_MAX`] grants.
    #[must_use]
    pub fn sign(content: Ticket, identity: &Identity) -> Self {
        assert_eq!(content.issuer, identity.id(), "an issuer signs as itself");
        assert!(content.grants.len() <= GRANTS_MAX, "too many grants");
        let body = minicbor::to_vec(&content).expect("writing to memory does not fail");
        let signature = identity.sign(Purpose::Ticket, &body);
        Self {
            content,
            body,
            signature,
        }
    }

    /// What was signed.
    #[must_use]
    pub const fn content(&self) -> &Ticket {
        &self.content
    }
}

impl<C> Encode<C> for SignedTicket {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        e.map(2)?.u8(0)?.bytes(&self.body)?;
        e.u8(1)?.bytes(&self.signature)?.ok()
    }
}

/// The outer form: the signed bytes as they are, then the signature.
#[derive(Decode)]
#[cbor(map)]
struct Envelope<'b> {
    #[cbor(n(0), with = "minicbor::bytes")]
    body: &'b [u8],
    #[cbor(n(1), with = "minicbor::bytes")]
    signature: &'b [u8],
}

impl<'b, C> Decode<'b, C> for SignedTicket {
    /// Fails for anything but a ticket within its limits, signed by the issuer it names.
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, decode::Error> {
        let refuse = decode::Error::message;
        let Envelope { body, signature } = Envelope::decode(d, ctx)?;
        if body.len() > TICKET_BYTES_MAX {
            return Err(refuse("a ticket is at most 4096 bytes"));
        }
        let content: Ticket = decode(body)?;
        if content.grants.len() > GRANTS_MAX {
            return Err(refuse("a ticket has at most 32 grants"));
        }
        // spec: WIRE 10.1 a ticket that its issuer did not sign MUST NOT be used
        if !identity::verify(&content.issuer, Purpose::Ticket, body, signature) {
            return Err(refuse("not signed by its issuer"));
        }
        let signature = signature
            .try_into()
            .map_err(|_| refuse("a signature has 64 bytes"))?;
        Ok(Self {
            content,
            body: body.to_vec(),
            signature,
        })
    }
}

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
        /// Whose it is.
        subject: NodeId,
    },
    /// Of another network.
    #[error("the ticket is of network {network}, not of this one")]
    WrongNetwork {
        /// Whose it is.
        network: NetworkId,
    },
    /// Signed by no one who may.
    #[error(
        "the ticket was issued by {issuer}, which is neither the root key nor shown to be an issuer"
    )]
    UnknownIssuer {
        /// Who signed.
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
        /// Which.
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

#[cfg(test)]
mod tests;
