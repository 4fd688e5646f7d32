//! Path MTU discovery for all links: which packet sizes to try, and to whom results are reported.
//!
//! Not the search on one link (`size`). Called by [`Links`]. Invariant: each result of `size` is reported once.

use std::collections::BTreeSet;

use levada_wire::datagram::link::LinkDatagram;
use levada_wire::lane::LinkCommand;
use levada_wire::{LinkIndex, PacketSize};

use super::{Link, Links, Output, Path};
use crate::api;

impl Links {
    /// The packet sizes that known streams have changed.
    pub(super) fn on_sizes(&mut self, mut sizes: BTreeSet<PacketSize>) {
        // What is assumed of a link is what it is proven to carry before anything else.
        sizes.insert(PacketSize::DEFAULT);
        self.sizes = sizes;
        let links: Vec<LinkIndex> = self.links.keys().copied().collect();
        for up in self.links.values_mut().filter_map(Link::up_mut) {
            up.size.on_wanted(self.now, &self.sizes);
        }
        for link in links {
            self.try_size(link);
            self.note(link);
        }
    }

    /// The system did not send a datagram of that many bytes, because it is too large for the link's first hop.
    pub(super) fn on_too_large(&mut self, link: LinkIndex, bytes: usize) {
        let size = u16::try_from(bytes).ok().and_then(PacketSize::new);
        let up = self.links.get_mut(&link).and_then(Link::up_mut);
        if let (Some(up), Some(size)) = (up, size) {
            up.size.on_too_large(self.now, size, &self.sizes);
            self.try_size(link);
            self.note(link);
        }
    }

    /// Sends the padded pings of a link that are due, and tells what has become of sizes.
    pub(super) fn try_size(&mut self, link: LinkIndex) {
        let Some(up) = self.links.get_mut(&link).and_then(Link::up_mut) else {
            return;
        };
        for ping in up.size.pings_if_due(self.now).into_iter().flatten() {
            let message = LinkDatagram::Ping(ping);
            let ping = api::Output::Link(link, LinkCommand::Send(message));
            self.outputs.push_back(Output::Outside(ping));
        }
        if let Some(size) = up.size.news(&self.sizes) {
            let path = Path::Size(size);
            self.outputs.push_back(Output::Path(link, path));
        }
    }
}
