//! What all site datagrams are made of: where header and MAC lie, and the parts that several bodies share.
//!
//! Not what a header says (`site.rs`). Called by it and by the bodies beside it. Invariant: nothing here needs a body,
//! so each body stands alone.
//!
//! Wire definition: docs/wire.md section 9.1

use crate::id::{NodeId, NodePrefix};

/// Bytes before the body.
pub const SITE_HEADER_BYTES: usize = 40;
/// Bytes of the MAC.
pub const MAC_BYTES: usize = 16;

/// Takes the next `N` bytes.
pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}

/// The bytes of a node id that are not in the header already.
pub(super) fn rest_of(node: &NodeId) -> &[u8] {
    &node.0[8..]
}

/// Joins the sender of the header with the rest of its node id, as [`rest_of`] wrote it.
pub(super) fn take_node(sender: NodePrefix, rest: &mut &[u8]) -> Option<NodeId> {
    let tail: [u8; 24] = take(rest)?;
    let mut node = [0; 32];
    node[..8].copy_from_slice(&sender.0);
    node[8..].copy_from_slice(&tail);
    Some(NodeId(node))
}

/// Eight zero bytes stand for no node.
pub(super) fn optional(prefix: [u8; 8]) -> Option<NodePrefix> {
    (prefix != [0; 8]).then_some(NodePrefix(prefix))
}
