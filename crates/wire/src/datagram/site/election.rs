//! The messages by which a site chooses its hub.
//!
//! ```text
//! signed: claim (2), resignation (4), hand-over (5)      objection (3), by unicast to the claimer
//! off len field                                          off len field
//! 40  64  signature  over bytes 0-39 and all after it    40   8  claimer   whose claim, by prefix
//! 104 24  node       bytes 8-31 of the node id           48   4  claimed   the epoch it claims
//! 128  4  epoch      claim: the new one; else: the old   52   8  hub       the hub that is still heard
//! 132  1  priority   claim only: 0 to 15                 60   4  epoch     that hub's epoch
//! 132  8  to         hand-over only: the next hub        64   2  age       ms since it was heard
//! ```
//!
//! The signature covers the header, so a claim cannot be sent again under another counter, network or site. Bytes from
//! the future stand at the end, under the signature. Not who wins: that is the site machine of the core.
//! Invariant: a claim, resignation or hand-over that came from bytes was signed by the node it names.
//!
//! Wire definition: docs/wire.md section 9.3

use super::beacon::{Epoch, Priority, take_priority};
use super::layout::{SITE_HEADER_BYTES, rest_of, take, take_node};
use crate::id::{NodeId, NodePrefix};
use crate::identity::{self, Identity, Purpose, SIGNATURE_BYTES};

/// I am hub from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The sender, which signs the datagram.
    pub node: NodeId,
    /// The new epoch.
    pub epoch: Epoch,
    /// How well it would serve.
    pub priority: Priority,
}

/// I am hub no longer; the deputy claims at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resignation {
    /// The sender, which signs the datagram.
    pub node: NodeId,
    /// The epoch that ends.
    pub epoch: Epoch,
}

/// This node is hub after me, as soon as it has the flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The hub until now, which signs the datagram.
    pub node: NodeId,
    /// The epoch that ends.
    pub epoch: Epoch,
    /// The prefix of the hub to come.
    pub to: NodePrefix,
}

/// You are not hub: I still hear the one we have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Objection {
    /// The prefix of the node that claimed to be hub.
    pub claimer: NodePrefix,
    /// The epoch it claims.
    pub claimed: Epoch,
    /// The hub that is still heard.
    pub hub: NodePrefix,
    /// That hub's epoch.
    pub epoch: Epoch,
    /// Milliseconds since it was heard.
    pub age_millis: u16,
}

impl Claim {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(rest_of(&self.node));
        out.extend_from_slice(&self.epoch.0.to_be_bytes());
        out.push(self.priority.step());
    }

    pub(super) fn decode(node: NodeId, rest: &mut &[u8]) -> Option<Self> {
        Some(Self {
            node,
            epoch: take_epoch(rest)?,
            priority: take_priority(rest)?,
        })
    }
}

impl Resignation {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(rest_of(&self.node));
        out.extend_from_slice(&self.epoch.0.to_be_bytes());
    }

    pub(super) fn decode(node: NodeId, rest: &mut &[u8]) -> Option<Self> {
        let epoch = take_epoch(rest)?;
        Some(Self { node, epoch })
    }
}

impl Handover {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(rest_of(&self.node));
        out.extend_from_slice(&self.epoch.0.to_be_bytes());
        out.extend_from_slice(&self.to.0);
    }

    pub(super) fn decode(node: NodeId, rest: &mut &[u8]) -> Option<Self> {
        Some(Self {
            node,
            epoch: take_epoch(rest)?,
            to: NodePrefix(take(rest)?),
        })
    }
}

impl Objection {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.claimer.0);
        out.extend_from_slice(&self.claimed.0.to_be_bytes());
        out.extend_from_slice(&self.hub.0);
        out.extend_from_slice(&self.epoch.0.to_be_bytes());
        out.extend_from_slice(&self.age_millis.to_be_bytes());
    }

    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let rest = &mut &*body;
        Some(Self {
            claimer: NodePrefix(take(rest)?),
            claimed: take_epoch(rest)?,
            hub: NodePrefix(take(rest)?),
            epoch: take_epoch(rest)?,
            age_millis: u16::from_be_bytes(take(rest)?),
        })
    }
}

/// Appends a signed body to the datagram that starts at `start` and has its header: the signature first, then what
/// `encode` writes.
pub(super) fn sign(
    identity: &Identity,
    start: usize,
    out: &mut Vec<u8>,
    encode: impl FnOnce(&mut Vec<u8>),
) {
    let at = start + SITE_HEADER_BYTES;
    encode(out);
    let signature = identity.sign(Purpose::Claim, &out[start..]);
    out.splice(at..at, signature);
}

/// Decodes a signed body, once its signature is found to be the sender's.
pub(super) fn verified<T>(
    sender: NodePrefix,
    unmarked: &[u8],
    decode: impl FnOnce(NodeId, &mut &[u8]) -> Option<T>,
) -> Option<T> {
    let (header, body) = unmarked.split_at_checked(SITE_HEADER_BYTES)?;
    let (signature, mut rest) = body.split_at_checked(SIGNATURE_BYTES)?;
    let signed = [header, rest].concat();
    let node = take_node(sender, &mut rest)?;
    let message = decode(node, &mut rest)?;
    // spec: WIRE 9.3 a claim, resignation or hand-over that its sender did not sign MUST be dropped
    identity::verify(&node, Purpose::Claim, &signed, signature).then_some(message)
}

fn take_epoch(rest: &mut &[u8]) -> Option<Epoch> {
    take(rest).map(|bytes| Epoch(u32::from_be_bytes(bytes)))
}
