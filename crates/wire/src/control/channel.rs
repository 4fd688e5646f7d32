//! What linked nodes of one LAN say about a flow that goes, or may go, to a multicast channel.
//!
//! ```text
//!  parent                                           child
//!    │ offer: slot A ────────────────────────────────▶ │ joins; its own copy comes as before
//!    │ probes ═══════════════════════════▶ (channel)   │
//!    │ ◀──────────────────────────── report: probes    │ when some do, media go there too
//!    │ media  ═══════════════════════════▶ (channel)   │
//!    │ ◀───────────────────────────── report: media    │ and the child's own copy ends
//!    │ ◀────────── report: silent or lossy, and what the child has: its own copy goes on behind that
//!    │ end ──────────────────────────────────────────▶ │ leaves
//! ```
//!
//! The channel follows from network, site, flow and slot (`datagram/site/channel.rs`): nobody can have a node join
//! another. Said as messages of flows. Called by `core::channels`. Invariant: no list, so no bound.
//!
//! Wire definition: docs/wire.md section 7.3

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

use crate::datagram::site::probe::Slot;
use crate::id::FlowId;
use crate::units::Number;

/// The flow goes to a channel of the LAN, or will when it is heard.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ChannelOffer {
    /// The flow's id, as in its packets.
    #[n(0)]
    pub flow: FlowId,
    /// 0 or 1.
    #[n(1)]
    pub slot: Slot,
}

/// The flow does not go there any more.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ChannelEnd {
    /// The flow's id, as in its packets.
    #[n(0)]
    pub flow: FlowId,
    /// 0 or 1.
    #[n(1)]
    pub slot: Slot,
}

/// How a child hears a channel that it was offered.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ChannelReport {
    /// The flow's id, as in its packets.
    #[n(0)]
    pub flow: FlowId,
    /// 0 or 1.
    #[n(1)]
    pub slot: Slot,
    /// Whether it needs a copy of its own, and why.
    #[n(2)]
    pub hearing: Hearing,
    /// Where its own copy is to go on, if it needs one again: all that is of use below is there.
    #[n(3)]
    pub have: Option<Number>,
}

/// What a child hears on a channel. One from the future reads as [`Hearing::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Hearing {
    /// Probes, of the size of the flow's packets.
    Probes,
    /// All that it needs: its own copy is not wanted any more.
    Media,
    /// Nothing.
    Silent,
    /// Less than is worth repairing, for what the network loses.
    Lossy,
    /// It cannot join.
    Unjoined,
    /// It does not listen: multicast does not suit its interface.
    Unfit,
    /// Something this version has no word for: it wants a copy of its own.
    Other,
}

impl Hearing {
    const TABLE: [(u8, Self); 6] = [
        (1, Self::Probes),
        (2, Self::Media),
        (3, Self::Silent),
        (4, Self::Lossy),
        (5, Self::Unjoined),
        (6, Self::Unfit),
    ];

    /// All that this version knows, and [`Hearing::Other`].
    pub fn all() -> impl Iterator<Item = Self> {
        let known = Self::TABLE.iter().map(|(_, hearing)| *hearing);
        known.chain([Self::Other])
    }
}

impl<C> Encode<C> for Hearing {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        let code = Self::TABLE
            .iter()
            .find(|(_, hearing)| hearing == self)
            .map_or(0, |(code, _)| *code);
        e.u8(code)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Hearing {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        let code = d.u8()?;
        let known = Self::TABLE.iter().find(|(number, _)| *number == code);
        Ok(known.map_or(Self::Other, |(_, hearing)| *hearing))
    }
}

impl<C> Encode<C> for Slot {
    fn encode<W: encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        e.u8(self.code())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Slot {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        Self::of_code(d.u8()?).ok_or_else(|| decode::Error::message("a flow has two channels"))
    }
}
