//! Tickets: signed statements of what a node may do in its network.
//!
//! ```text
//! root key ──signs──▶ ticket of A: issue, play, relay on "" ──A signs──▶ ticket of B: play on "sports"
//!    (depth 0)                    (depth 1)                                    (depth 2, the end)
//! ```
//!
//! A ticket is bound to the node id of its subject, so it is no secret: whoever copies one cannot use it. A chain is a
//! node's own ticket and, if the root did not sign that, the ticket of who did. Nobody hands on more than they hold.
//! This file has the tickets, `chain.rs` what a chain of them allows, `invite.rs` how a newcomer gets the first one.
//! Not how a ticket is renewed, and not the list of the revoked. Called by `core::link`, which holds a peer to its
//! rights, and by `cli` (`net`, `ticket`). Invariant: a [`SignedTicket`] that came from bytes was signed by the issuer
//! it names.
//!
//! Wire definition: docs/wire.md section 10

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

use crate::id::{IdError, NetworkId, NodeId, StreamName};
use crate::identity::{self, Identity, Purpose, SIGNATURE_BYTES};

pub mod chain;
pub mod invite;

pub use chain::{Chain, Rights, Standing, TicketError, Trust};
pub use invite::{Invite, InviteError};

/// The longest signed ticket, in bytes.
pub const TICKET_BYTES_MAX: usize = 4_096;
/// The most grants of one ticket.
pub const GRANTS_MAX: usize = 32;
/// How long a ticket is issued for unless someone says otherwise.
pub const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3_600);

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
    /// What the holder may do with the names.
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

    /// The content, which the signature covers.
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

#[cfg(test)]
mod tests;
