//! Site datagrams: what the nodes of a LAN tell each other before, and beside, their links.
//!
//! ```text
//! off len field
//!  0   1  kind     0x07
//!  1   1  type     1 beacon, 2 claim, 3 objection, 4 resignation, 5 hand-over, 6 probe
//!  2   1  key      epoch of the network secret; zero in the open network
//!  3   1  reserved zero
//!  4   4  site     the site's label, hashed; zero without one
//!  8  16  network  network id; zero for the open network
//! 24   8  sender   first 8 bytes of the sender's node id
//! 32   8  counter  the sender's, from its wall clock at start in microseconds, never twice the same
//! 40   n  body     by type: `beacon.rs`, `election.rs`, `probe.rs`
//! +n  16  mac      HMAC-SHA-256 under the site key over all before it, cut to 16 bytes
//! ```
//!
//! At most 250 bytes, so that the constant traffic of a site stays small; only a probe is as large as the media packets
//! it stands for. Election messages are signed besides: the MAC alone would let any member act as any other. **In the
//! open network the site key is public: there the MAC keeps out noise and mistakes, not attackers.** Not what follows
//! from a message: that is the site machine of the core. Invariant: no bytes make a decoder panic, and nothing is
//! decoded from a datagram whose MAC is false.
//!
//! Wire definition: docs/wire.md section 9

use std::fmt;

use ring::hmac;

use crate::id::{NetworkId, NodeId, NodePrefix};
use crate::identity::Identity;
use crate::key::SiteKey;
use crate::units::PacketSize;

pub mod beacon;
pub mod channel;
pub mod election;
mod layout;
pub mod probe;

pub use beacon::{Beacon, Member};
pub use election::{Claim, Handover, Objection, Resignation};
pub use layout::{MAC_BYTES, SITE_HEADER_BYTES};
pub use probe::Probe;

use layout::take;

/// The largest site datagram that is not a probe.
pub const SITE_DATAGRAM_BYTES_MAX: usize = 250;

const PROBE: u8 = 6;

/// What one site datagram says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SiteDatagram {
    /// I am here.
    Beacon(Beacon),
    /// I am hub from now on. Signed.
    Claim(Claim),
    /// You are not: I still hear the hub.
    Objection(Objection),
    /// I am hub no longer. Signed.
    Resignation(Resignation),
    /// This node is hub after me. Signed.
    Handover(Handover),
    /// Do you hear packets of this size on this channel?
    Probe(Probe),
}

impl SiteDatagram {
    const fn code(&self) -> u8 {
        match self {
            Self::Beacon(_) => 1,
            Self::Claim(_) => 2,
            Self::Objection(_) => 3,
            Self::Resignation(_) => 4,
            Self::Handover(_) => 5,
            Self::Probe(_) => PROBE,
        }
    }

    /// The whole node id of the sender, where the message brings it.
    #[must_use]
    pub const fn node(&self) -> Option<NodeId> {
        match self {
            Self::Beacon(beacon) => Some(beacon.node),
            Self::Claim(claim) => Some(claim.node),
            Self::Resignation(resignation) => Some(resignation.node),
            Self::Handover(handover) => Some(handover.node),
            Self::Objection(_) | Self::Probe(_) => None,
        }
    }

    /// Appends the body to a datagram that has its header.
    fn encode(&self, identity: &Identity, start: usize, out: &mut Vec<u8>) {
        match self {
            Self::Beacon(beacon) => beacon.encode(out),
            Self::Claim(claim) => election::sign(identity, start, out, |out| claim.encode(out)),
            Self::Objection(objection) => objection.encode(out),
            Self::Resignation(resignation) => {
                election::sign(identity, start, out, |out| resignation.encode(out));
            }
            Self::Handover(handover) => {
                election::sign(identity, start, out, |out| handover.encode(out));
            }
            Self::Probe(probe) => probe.encode(start, out),
        }
    }

    /// Decodes a datagram without its MAC; `None` for a type that this version does not know.
    fn decode(header: &SiteHeader, unmarked: &[u8]) -> Option<Self> {
        let body = unmarked.get(SITE_HEADER_BYTES..)?;
        let sender = header.sender;
        Some(match header.code {
            1 => Self::Beacon(Beacon::decode(sender, body)?),
            2 => Self::Claim(election::verified(sender, unmarked, Claim::decode)?),
            3 => Self::Objection(Objection::decode(body)?),
            4 => Self::Resignation(election::verified(sender, unmarked, Resignation::decode)?),
            5 => Self::Handover(election::verified(sender, unmarked, Handover::decode)?),
            PROBE => Self::Probe(Probe::decode(unmarked)?),
            _ => return None,
        })
    }
}

/// The label of a site, hashed: nodes with different labels are different sites, even on one LAN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteTag(pub [u8; 4]);

impl SiteTag {
    /// The site of nodes that were given no label.
    pub const NONE: Self = Self([0; 4]);

    /// The first 4 bytes of SHA-256 over a prefix and the label.
    #[must_use]
    pub fn of_label(label: &str) -> Self {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        hash.update(b"levada/1 site label");
        hash.update(label.as_bytes());
        Self(
            hash.finish()
                .as_ref()
                .first_chunk()
                .copied()
                .unwrap_or([0; 4]),
        )
    }
}

/// Where a datagram belongs: written by the sender, and read before anything is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Epoch of the network secret.
    pub key: u8,
    /// The site.
    pub site: SiteTag,
    /// The network.
    pub network: NetworkId,
}

/// The header of a site datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteHeader {
    /// What the body is.
    code: u8,
    /// The site and network it is meant for: read before anything is proven.
    pub scope: Scope,
    /// The sender, by prefix.
    pub sender: NodePrefix,
    /// The sender's count: tells a replay.
    pub counter: u64,
}

impl SiteHeader {
    /// Reads the header; `None` if `datagram` is of another kind or of a length that none of its type has.
    ///
    /// Nothing read here is proven. It is enough to tell a foreign network or site, and to count a sender's claims
    /// before their signatures cost anything.
    #[must_use]
    pub fn peek(datagram: &[u8]) -> Option<Self> {
        let mut rest = datagram;
        let [kind, code, key, reserved] = take(&mut rest)?;
        if kind != 0x07 || reserved != 0 {
            return None;
        }
        // spec: WIRE 9.1 a site datagram of more than 250 bytes that is not a probe MUST be dropped
        let most = if code == PROBE {
            PacketSize::MAX.bytes()
        } else {
            SITE_DATAGRAM_BYTES_MAX
        };
        if !(SITE_HEADER_BYTES + MAC_BYTES..=most).contains(&datagram.len()) {
            return None;
        }
        Some(Self {
            code,
            scope: Scope {
                key,
                site: SiteTag(take(&mut rest)?),
                network: NetworkId(take(&mut rest)?),
            },
            sender: NodePrefix(take(&mut rest)?),
            counter: u64::from_be_bytes(take(&mut rest)?),
        })
    }

    /// Whether opening it costs the check of a signature.
    #[must_use]
    pub const fn is_signed(&self) -> bool {
        matches!(self.code, 2 | 4 | 5)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0x07, self.code, self.scope.key, 0]);
        out.extend_from_slice(&self.scope.site.0);
        out.extend_from_slice(&self.scope.network.0);
        out.extend_from_slice(&self.sender.0);
        out.extend_from_slice(&self.counter.to_be_bytes());
    }
}

/// Marks the site datagrams of one network during one key epoch, and proves them.
#[derive(Clone)]
pub struct SiteSeal {
    key: hmac::Key,
}

impl fmt::Debug for SiteSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SiteSeal(..)")
    }
}

impl SiteSeal {
    /// The seal under `key`.
    #[must_use]
    pub fn new(key: &SiteKey) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key.bytes()),
        }
    }

    /// Appends a whole datagram from `identity` to `out`. No counter may be used twice.
    ///
    /// # Panics
    ///
    /// If the message names another node as its sender.
    pub fn seal(
        &self,
        identity: &Identity,
        scope: Scope,
        counter: u64,
        message: &SiteDatagram,
        out: &mut Vec<u8>,
    ) {
        let own = identity.id();
        assert!(
            message.node().is_none_or(|node| node == own),
            "a node speaks for itself only"
        );
        let start = out.len();
        let header = SiteHeader {
            code: message.code(),
            scope,
            sender: own.prefix(),
            counter,
        };
        header.encode(out);
        message.encode(identity, start, out);
        let mac = self.mac(&out[start..]);
        out.extend_from_slice(&mac.to_be_bytes());
    }

    /// Whether the MAC of a datagram is true: what is signed besides costs more to open.
    #[must_use]
    pub fn is_marked(&self, datagram: &[u8]) -> bool {
        let split = datagram.split_last_chunk::<MAC_BYTES>();
        split.is_some_and(|(unmarked, claimed)| self.mac(unmarked) == u128::from_be_bytes(*claimed))
    }

    /// Opens a datagram; `None` if its MAC or its signature is false, or if it says nothing this version knows.
    #[must_use]
    pub fn open(&self, datagram: &[u8]) -> Option<(SiteHeader, SiteDatagram)> {
        let header = SiteHeader::peek(datagram)?;
        let (unmarked, claimed) = datagram.split_last_chunk::<MAC_BYTES>()?;
        // spec: WIRE 9.1 a site datagram whose MAC is false MUST be dropped before anything else of it is used
        // One 128-bit comparison: no early exit that would tell how many bytes were right.
        if self.mac(unmarked) != u128::from_be_bytes(*claimed) {
            return None;
        }
        Some((header, SiteDatagram::decode(&header, unmarked)?))
    }

    fn mac(&self, unmarked: &[u8]) -> u128 {
        let whole = hmac::sign(&self.key, unmarked);
        let first = whole.as_ref().first_chunk();
        u128::from_be_bytes(*first.expect("HMAC-SHA-256 has 32 bytes"))
    }
}

#[cfg(test)]
mod tests;
