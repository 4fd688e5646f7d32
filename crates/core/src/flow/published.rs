//! What this node keeps of a stream of which it is the origin.
//!
//! Not what is done with it (`offers`, `keys`). Kept by [`super::Flows`]. Invariant: its secrets live as long as its
//! instance.

use std::collections::BTreeMap;

use levada_wire::announce::Announce;
use levada_wire::control::flow::{InstanceRef, KeyGrant};
use levada_wire::key::{CarrySecret, ContentSecret};
use levada_wire::{Instant, NodeId};

use super::peak::Peak;

/// A stream of which this node is the origin.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) of: InstanceRef,
    pub(super) epoch: u8,
    pub(super) secret: ContentSecret,
    /// Grants made, by consumer.
    pub(super) grants: BTreeMap<NodeId, KeyGrant>,
    pub(super) carry: CarrySecret,
    pub(super) announce: Announce,
    /// The peaks of its layers, in their order, if they are measured; else empty.
    pub(super) peaks: Vec<Peak>,
    /// When its user was told last that it sends more than it declares.
    pub(super) warned_at: Option<Instant>,
    /// When its user was told last that somebody did not take its announce.
    pub(super) not_listed_at: Option<Instant>,
}
