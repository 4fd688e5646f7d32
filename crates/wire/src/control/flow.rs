//! What linked nodes say about streams and flows: who offers what, who wants what, and the keys for it.
//!
//! | message | spreads | meaning |
//! |---|---|---|
//! | announce, collection, withdraw | epidemically | a stream is offered; all that the sender can reach; taken back |
//! | doubts | one hop | streams the sender knows and cannot reach: were they withdrawn? |
//! | announce refusal | along the route to the origin | a stream found no room |
//! | request, accept, refuse, cancel | one hop | a flow is wanted; granted; not; not wanted any more |
//! | channel offer, channel end, channel report | one hop, on one LAN | a flow goes to a multicast channel; who hears it (`channel.rs`) |
//! | key request, key grant, key refusal | along the route to the origin and back | the content secret, sealed to the consumer |
//!
//! No secret is in the clear in any of them. Called by `core::flow`. Invariant: lists have named bounds.
//!
//! Wire definition: docs/wire.md section 7.3

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

pub use super::channel::{ChannelEnd, ChannelOffer, ChannelReport, Hearing};
use super::messages;
use crate::announce::{SignedAnnounce, SignedWithdraw};
use crate::id::{FlowId, InstanceId, NodeId, StreamName};
use crate::identity::{self, Identity, Purpose, SealedSecret};
use crate::units::{Layer, Number, RepairBudget};
use crate::unknown::{Unknown, passed_on};

/// The most announces in one collection; a node that knows more sends several.
pub const COLLECTION_MAX: usize = 12;

messages! {
    /// Messages about streams and flows.
    FlowMessage {
        /// A stream is offered.
        0x01 => Announce,
        /// All streams that the sender knows, in one or more parts.
        0x02 => Collection,
        /// A stream is taken back.
        0x03 => Withdraw,
        /// Streams that the sender knows and cannot reach.
        0x04 => Doubts,
        /// An announce was not taken.
        0x05 => AnnounceRefusal,
        /// A flow is wanted.
        0x10 => Request,
        /// It comes.
        0x11 => Accept,
        /// It does not come.
        0x12 => Refuse,
        /// It is not wanted any more.
        0x13 => Cancel,
        /// It goes to a multicast channel, or may.
        0x18 => ChannelOffer,
        /// It does not any more.
        0x19 => ChannelEnd,
        /// How a channel is heard.
        0x1a => ChannelReport,
        /// A consumer asks the origin for a content secret.
        0x20 => KeyRequest,
        /// The origin gives it.
        0x21 => KeyGrant,
        /// The origin does not.
        0x22 => KeyRefusal,
    }
}

impl FlowMessage {
    /// What it holds beside itself.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::Collection(Collection { statements }) | Self::Doubts(Doubts { statements }) => {
                size_of_val(&**statements)
            }
            Self::Accept(accept) => {
                let sealed = |key: &CarryGrant| key.sealed.as_ref().len();
                accept.key.as_ref().map_or(0, sealed)
            }
            Self::AnnounceRefusal(refusal) => of_instance(&refusal.of, &refusal.unknown),
            Self::KeyRequest(request) => of_instance(&request.of, &request.unknown),
            Self::KeyGrant(grant) => {
                let keys = grant.sealed.as_ref().len() + grant.signature.len();
                of_instance(&grant.of, &grant.unknown) + keys
            }
            Self::KeyRefusal(refusal) => of_instance(&refusal.of, &refusal.unknown),
            Self::Announce(_)
            | Self::Withdraw(_)
            | Self::Request(_)
            | Self::Refuse(_)
            | Self::Cancel(_)
            | Self::ChannelOffer(_)
            | Self::ChannelEnd(_)
            | Self::ChannelReport(_) => 0,
        }
    }
}

fn of_instance(of: &InstanceRef, unknown: &Unknown) -> usize {
    of.name.as_str().len() + unknown.bytes().len()
}

/// A stream is offered. Passed on to every other neighbour the first time it is seen.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Announce {
    /// The origin's statement.
    #[n(0)]
    pub statement: SignedAnnounce,
}

/// What the sender knows, sent when a link comes up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Collection {
    /// The statements, at most [`COLLECTION_MAX`].
    #[cbor(n(0), with = "bounded")]
    pub statements: Vec<SignedAnnounce>,
}

/// Streams that the sender knows and cannot reach, sent when a link comes up. They are no news to anybody and are not
/// taken; but who knows that one was withdrawn answers with the withdraw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Doubts {
    /// The statements, at most [`COLLECTION_MAX`].
    #[cbor(n(0), with = "bounded")]
    pub statements: Vec<SignedAnnounce>,
}

/// A stream is taken back on purpose. Passed on like an announce.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Withdraw {
    /// The origin's statement.
    #[n(0)]
    pub statement: SignedWithdraw,
}

/// An announce was not taken, for want of room: whoever is behind that node does not know the stream. Goes the way to
/// the origin, whose user is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceRefusal {
    /// The start of the stream whose announce it was.
    pub of: InstanceRef,
    /// Who did not take it, as it says itself.
    pub node: NodeId,
    /// How many more nodes may pass it on.
    pub hops_left: u8,
    /// Why.
    pub reason: RefuseReason,
    /// Fields of a later version, for whoever it goes on to.
    pub unknown: Unknown,
}
passed_on!(AnnounceRefusal {
    0 => of: value,
    1 => node: value,
    2 => hops_left: value,
    3 => reason: value,
});

/// A flow is wanted here. Said again every few seconds while it is: a request nobody repeats runs out.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Request {
    /// The flow's id, as in its packets.
    #[n(0)]
    pub flow: FlowId,
    /// Whether the accept must bring the carry key: the sender does not have it yet.
    #[n(1)]
    pub needs_key: bool,
    /// How late its packets may be here: the most that the sender's own consumers and children want.
    #[n(2)]
    pub budget: RepairBudget,
    /// All that is of use below this number is there or under way: the flow is to go on here. `None` from a newcomer,
    /// who is sent the newest group, and where nothing moves.
    #[n(3)]
    pub have: Option<Number>,
}

/// The flow comes: on from what the request says is there, else from the start of the newest group, which is still
/// growing; then live.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Accept {
    /// The flow's id, as in its packets.
    #[n(0)]
    pub flow: FlowId,
    /// The carry key, when it was asked for.
    #[n(1)]
    pub key: Option<CarryGrant>,
}

/// A carry key, sealed to the neighbour that will forward.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CarryGrant {
    /// The key epoch it is for.
    #[n(0)]
    pub epoch: u8,
    /// The key, sealed for [`carry_context`].
    #[n(1)]
    pub sealed: SealedSecret,
}

/// The flow does not come.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Refuse {
    /// The flow's id, as in its packets.
    #[n(0)]
    pub flow: FlowId,
    /// Why.
    #[n(1)]
    pub reason: RefuseReason,
}

/// Why a flow or a key is refused. A reason from the future reads as [`RefuseReason::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RefuseReason {
    /// No such flow is known here.
    Unknown,
    /// No way from here to the origin.
    NoRoute,
    /// The way from here leads through the asking node.
    Loop,
    /// This node does not forward for others.
    NotWilling,
    /// A limit is reached.
    Full,
    /// The next node did not answer in time.
    Timeout,
    /// The asking node may not have it.
    Forbidden,
    /// The stream's packets are larger than what is proven to get over the link.
    TooLarge,
    /// The link loses too much of what it is given: it carries less for a while.
    Congested,
    /// The flow's peak does not fit beside what is admitted already.
    Capacity,
    /// The neighbour that was asked gives a carry key that is not the origin's.
    FalseKey,
    /// Something this version has no word for.
    Other,
}

impl RefuseReason {
    const TABLE: [(u8, Self); 11] = [
        (1, Self::Unknown),
        (2, Self::NoRoute),
        (3, Self::Loop),
        (4, Self::NotWilling),
        (5, Self::Full),
        (6, Self::Timeout),
        (7, Self::Forbidden),
        (8, Self::TooLarge),
        (9, Self::Congested),
        (10, Self::Capacity),
        (11, Self::FalseKey),
    ];

    /// All reasons that this version knows, and [`RefuseReason::Other`].
    pub fn all() -> impl Iterator<Item = Self> {
        let known = Self::TABLE.iter().map(|(_, reason)| *reason);
        known.chain([Self::Other])
    }
}

impl std::fmt::Display for RefuseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unknown => "the neighbour does not know the flow",
            Self::NoRoute => "the neighbour has no route to the origin",
            Self::Loop => "the neighbour's route to the origin passes through this node",
            Self::NotWilling => "the neighbour does not relay",
            Self::Full => "the neighbour is at its limit",
            Self::Timeout => "the neighbour's own request was not answered in time",
            Self::Forbidden => "this node is not allowed to have it",
            Self::TooLarge => "the stream's packets are larger than the link is proven to carry",
            Self::Congested => "the link to the neighbour is congested",
            Self::Capacity => "the neighbour's uplink has no room for the flow's peak",
            Self::FalseKey => "the neighbour gave a carry key that is not the origin's",
            Self::Other => "the neighbour gives a reason this version does not know",
        })
    }
}

impl<C> Encode<C> for RefuseReason {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        let code = Self::TABLE
            .iter()
            .find(|(_, reason)| reason == self)
            .map_or(0, |(code, _)| *code);
        e.u8(code)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for RefuseReason {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        let code = d.u8()?;
        let known = Self::TABLE.iter().find(|(number, _)| *number == code);
        Ok(known.map_or(Self::Other, |(_, reason)| *reason))
    }
}

/// The flow is not wanted any more.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Cancel {
    /// The flow's id, as in its packets.
    #[n(0)]
    pub flow: FlowId,
}

/// Names a stream instance to which keys belong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(map)]
pub struct InstanceRef {
    /// The origin's node id.
    #[n(0)]
    pub origin: NodeId,
    /// Its name.
    #[n(1)]
    pub name: StreamName,
    /// Which start of it.
    #[n(2)]
    pub instance: InstanceId,
}

impl InstanceRef {
    /// The flow of one layer.
    #[must_use]
    pub fn flow(&self, layer: Layer) -> FlowId {
        FlowId::derive(&self.origin, &self.name, &self.instance, layer)
    }
}

/// A consumer asks the origin for the content secret. Each node on the way remembers whom to give the answer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRequest {
    /// Of what.
    pub of: InstanceRef,
    /// For whom the secret is to be sealed.
    pub consumer: NodeId,
    /// How many more nodes may pass it on.
    pub hops_left: u8,
    /// Fields of a later version, for whoever it goes on to.
    pub unknown: Unknown,
}
passed_on!(KeyRequest { 0 => of: value, 1 => consumer: value, 2 => hops_left: value, });

/// The content secret, sealed to the consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyGrant {
    /// Of what.
    pub of: InstanceRef,
    /// For whom.
    pub consumer: NodeId,
    /// The key epoch it is for.
    pub epoch: u8,
    /// The secret, sealed for [`content_context`].
    pub sealed: SealedSecret,
    /// The origin's signature over all the rest: a node on the way cannot pass off a secret of its own.
    pub signature: Vec<u8>,
    /// Fields of a later version, under the signature too.
    pub unknown: Unknown,
}
passed_on!(KeyGrant {
    0 => of: value,
    1 => consumer: value,
    2 => epoch: value,
    3 => sealed: value,
    4 => signature: bytes,
});

impl KeyGrant {
    /// A grant signed by its origin.
    ///
    /// # Panics
    ///
    /// If `identity` is not the origin that `of` names.
    #[must_use]
    pub fn sign(
        of: InstanceRef,
        consumer: NodeId,
        epoch: u8,
        sealed: SealedSecret,
        identity: &Identity,
    ) -> Self {
        assert_eq!(
            of.origin,
            identity.id(),
            "only the origin gives keys to its streams"
        );
        let mut grant = Self {
            of,
            consumer,
            epoch,
            sealed,
            signature: Vec::new(),
            unknown: Unknown::default(),
        };
        grant.signature = identity
            .sign(Purpose::KeyGrant, &grant.signed_bytes())
            .to_vec();
        grant
    }

    /// Whether the origin signed it.
    #[must_use]
    // spec: WIRE 7.3 a grant that the origin did not sign MUST NOT be used
    pub fn is_signed_by_origin(&self) -> bool {
        identity::verify(
            &self.of.origin,
            Purpose::KeyGrant,
            &self.signed_bytes(),
            &self.signature,
        )
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let context = content_context(&self.of, self.epoch);
        [
            context.as_slice(),
            b"\0",
            &self.consumer.0,
            self.sealed.as_ref(),
            self.unknown.bytes(),
        ]
        .concat()
    }
}

/// The origin, or a node on the way, does not give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRefusal {
    /// Of what.
    pub of: InstanceRef,
    /// For whom.
    pub consumer: NodeId,
    /// Why.
    pub reason: RefuseReason,
    /// Fields of a later version, for whoever it goes on to.
    pub unknown: Unknown,
}
passed_on!(KeyRefusal { 0 => of: value, 1 => consumer: value, 2 => reason: value, });

/// What a sealed carry key is bound to.
#[must_use]
pub fn carry_context(flow: FlowId, epoch: u8) -> Vec<u8> {
    [
        b"levada/1 carry key".as_slice(),
        &flow.0.to_be_bytes(),
        &[epoch],
    ]
    .concat()
}

/// What a sealed content secret is bound to.
#[must_use]
pub fn content_context(of: &InstanceRef, epoch: u8) -> Vec<u8> {
    let label: &[u8] = b"levada/1 content secret";
    [
        label,
        &of.origin.0,
        &of.instance.0,
        &[epoch],
        of.name.as_str().as_bytes(),
    ]
    .concat()
}

/// The list of a collection: refuses to grow beyond [`COLLECTION_MAX`].
mod bounded {
    use minicbor::encode::Write;
    use minicbor::{Decoder, Encode as _, Encoder};

    use super::{COLLECTION_MAX, SignedAnnounce};

    pub(super) fn encode<C, W: Write>(
        statements: &Vec<SignedAnnounce>,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(statements.len() as u64)?;
        for statement in statements {
            statement.encode(e, ctx)?;
        }
        Ok(())
    }

    pub(super) fn decode<C>(
        d: &mut Decoder<'_>,
        ctx: &mut C,
    ) -> Result<Vec<SignedAnnounce>, minicbor::decode::Error> {
        let mut statements = Vec::new();
        for statement in d.array_iter_with(ctx)? {
            // spec: WIRE 7.3 a collection of more than 12 announces MUST NOT decode
            if statements.len() == COLLECTION_MAX {
                return Err(minicbor::decode::Error::message(
                    "a collection has at most 12 announces",
                ));
            }
            statements.push(statement?);
        }
        Ok(statements)
    }
}
