//! How packets came to a node.
//!
//! Not what they are: their headers say it. Made by `forward`. Invariant: none.

use std::net::SocketAddr;

/// See the module's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ingress {
    /// The source address of the packets.
    pub(crate) from: SocketAddr,
    /// They were heard on a multicast channel: others have them too, and the link did not count them.
    pub(crate) is_heard: bool,
}
