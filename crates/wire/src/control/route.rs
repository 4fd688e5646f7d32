//! What linked nodes say about routes: per origin node, how far it is and through whom.
//!
//! Babel's mechanism (RFC 8966): a sequence number only the origin raises, a distance, and beside them the list
//! of nodes the route passes. Called by `core::route`. Invariant: a hop list that decodes has at most
//! [`HOPS_MAX`] entries.
//!
//! Wire definition: docs/wire.md section 7.2

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

use super::messages;
use crate::id::{NodeId, NodePrefix};
use crate::units::Distance;

/// The most nodes a route may pass.
pub const HOPS_MAX: usize = 32;

messages! {
    /// Messages about routes.
    RouteMessage {
        /// The sender's route to an origin, for this neighbour.
        0x01 => Update,
        /// A route with a newer sequence is wanted.
        0x02 => SequenceRequest,
    }
}

impl RouteMessage {
    /// What it holds beside itself.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::Update(update) => size_of_val(&*update.hops.0),
            Self::SequenceRequest(_) => 0,
        }
    }
}

/// The sender's route to an origin. An infinite distance takes the route back.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Update {
    /// Where the route leads.
    #[n(0)]
    pub origin: NodeId,
    /// The origin's sequence number; compares modulo 2^16.
    #[n(1)]
    pub sequence: Sequence,
    /// How far the origin is from the sender.
    #[n(2)]
    pub distance: Distance,
    /// The nodes the route passes, the origin first, the sender last.
    #[n(3)]
    pub hops: Hops,
}

/// A route to `origin` with at least `sequence` is wanted: passed on toward the origin, which then raises its own.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SequenceRequest {
    /// Where the route should lead.
    #[n(0)]
    pub origin: NodeId,
    /// The least sequence that helps.
    #[n(1)]
    pub sequence: Sequence,
    /// How many more nodes may pass it on.
    #[n(2)]
    pub hops_left: u8,
}

/// An origin's sequence number, compared modulo 2^16 (RFC 1982).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Sequence(#[n(0)] pub u16);

impl Sequence {
    /// Whether `self` was issued after `other`.
    #[must_use]
    pub const fn is_newer_than(self, other: Self) -> bool {
        let ahead = self.0.wrapping_sub(other.0);
        ahead != 0 && ahead < 0x8000
    }

    /// The next one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// The nodes a route passes, by prefix, the origin first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hops(Vec<NodePrefix>);

impl Hops {
    /// The hop list of an origin's own route.
    #[must_use]
    pub fn origin(prefix: NodePrefix) -> Self {
        Self(vec![prefix])
    }

    /// Whether the route passes that node.
    #[must_use]
    pub fn contains(&self, prefix: NodePrefix) -> bool {
        self.0.contains(&prefix)
    }

    /// The list with one more node at its end, or `None` if it is full.
    #[must_use]
    pub fn through(&self, prefix: NodePrefix) -> Option<Self> {
        if self.0.len() >= HOPS_MAX {
            return None;
        }
        let mut hops = self.0.clone();
        hops.push(prefix);
        Some(Self(hops))
    }

    /// The nodes, the origin first.
    #[must_use]
    pub fn as_slice(&self) -> &[NodePrefix] {
        &self.0
    }
}

impl<C> Encode<C> for Hops {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        e.array(self.0.len() as u64)?;
        for hop in &self.0 {
            e.encode(hop)?;
        }
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for Hops {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, decode::Error> {
        let mut hops = Vec::new();
        for hop in d.array_iter_with(ctx)? {
            // spec: WIRE 7.2 a list of more than 32 hops MUST NOT decode
            if hops.len() == HOPS_MAX {
                return Err(decode::Error::message("a route passes at most 32 nodes"));
            }
            hops.push(hop?);
        }
        Ok(Self(hops))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use minicbor::decode as decode_whole;

    use super::*;

    #[test]
    fn sequences_compare_across_their_wrap() {
        assert!(Sequence(1).is_newer_than(Sequence(u16::MAX)));
        assert!(!Sequence(u16::MAX).is_newer_than(Sequence(1)));
        assert!(!Sequence(7).is_newer_than(Sequence(7)));
    }

    // spec: WIRE 7.2
    #[test]
    fn a_hop_list_beyond_the_limit_is_neither_made_nor_decoded() {
        let mut hops = Hops::default();
        while let Some(longer) = hops.through(NodePrefix([1; 8])) {
            hops = longer;
        }
        assert_eq!(hops.as_slice().len(), HOPS_MAX);

        let too_long = minicbor::to_vec(vec![NodePrefix([1; 8]); HOPS_MAX + 1]).unwrap();

        assert!(decode_hops(&too_long).is_none());
    }

    fn decode_hops(bytes: &[u8]) -> Option<Hops> {
        decode_whole(bytes).ok()
    }
}
