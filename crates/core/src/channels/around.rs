//! What both halves of the channels look at: who is linked, who is on the LAN; and where they put what they want done.
//!
//! Not a decision. Used by [`super::Channels`] and its halves. Invariant: none beyond that of its parts.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use levada_wire::datagram::site::probe::Slot;
use levada_wire::datagram::site::{SiteTag, channel};
use levada_wire::lane::Channel;
use levada_wire::{FlowId, Instant, LinkIndex, NetworkId, NodeId};

use super::border::{Local, Output};

/// The peer of a link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) node: NodeId,
    pub(super) remote: SocketAddr,
}

/// What both halves look at, and where they put what they want done.
#[derive(Debug)]
pub(super) struct Around {
    pub(super) site: Option<(NetworkId, SiteTag)>,
    pub(super) now: Instant,
    pub(super) peers: BTreeMap<LinkIndex, Peer>,
    pub(super) local: BTreeMap<NodeId, Local>,
    pub(super) outputs: VecDeque<Output>,
}

impl Around {
    pub(super) const fn new() -> Self {
        Self {
            site: None,
            now: Instant::ZERO,
            peers: BTreeMap::new(),
            local: BTreeMap::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Where the peer of a link is on the LAN, if it is.
    pub(super) fn local(&self, link: LinkIndex) -> Option<(Peer, Local)> {
        let peer = self.peers.get(&link)?;
        let local = self.local.get(&peer.node)?;
        Some((*peer, *local))
    }

    /// A channel of a flow between this node and the peer of a link.
    pub(super) fn channel(
        &self,
        flow: FlowId,
        slot: Slot,
        peer: Peer,
        local: Local,
    ) -> Option<Channel> {
        let (network, site) = self.site?;
        let address = channel::media(network, site, flow, slot, canonical(peer.remote));
        Some(Channel {
            address,
            interface: local.interface,
        })
    }

    pub(super) fn put(&mut self, output: Output) {
        self.outputs.push_back(output);
    }
}

/// An address as both ends see it: a socket for both versions writes IPv4 as IPv6.
fn canonical(remote: SocketAddr) -> IpAddr {
    remote.ip().to_canonical()
}
