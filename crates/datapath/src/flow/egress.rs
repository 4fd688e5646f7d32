//! The egresses of a flow: the links a node sends it to.
//!
//! Not who may be one: the core decides that and commands it. Called by `forward::hand_on` for live packets and by
//! the lane for what a newcomer is sent from the cache. Invariant: each egress is a link of the lane's link table;
//! removing a link removes its egresses first.

use std::net::SocketAddr;

use levada_wire::{Bitrate, LinkIndex};

use super::multicast::MULTICAST_EGRESSES_MAX;
use super::run::{RUN_PACKETS_MAX, Run};
use crate::api::EgressTerms;
use crate::ledger::{DropReason, Ledger};
use crate::link;
use crate::outbox::Outbox;

/// The most egresses of one flow. With [`RUN_PACKETS_MAX`] it bounds what one received train causes. An egress is a link: in
/// a node the limit of links binds first.
pub(crate) const EGRESSES_MAX: usize = 896;

const _: () = assert!(
    (EGRESSES_MAX + MULTICAST_EGRESSES_MAX) * RUN_PACKETS_MAX
        + crate::reassembly::FRAMES_PER_BURST_MAX
        < levada_wire::machine::OUTPUTS_PER_CALL_MAX,
    "one train with a burst per packet fits in the outputs of one call"
);

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Egresses {
    /// In the order of their links, so that a replay sends in the same order.
    all: Vec<Egress>,
}

/// One egress.
#[derive(Debug)]
struct Egress {
    link: LinkIndex,
    terms: EgressTerms,
}

impl Egresses {
    pub(crate) const fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn contains(&self, link: LinkIndex) -> bool {
        self.place_of(link).is_ok()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = LinkIndex> + '_ {
        self.all.iter().map(|egress| egress.link)
    }

    /// Adds an egress; one that is there already stays as it is.
    pub(crate) fn add(&mut self, link: LinkIndex, terms: EgressTerms) {
        if let Err(place) = self.place_of(link) {
            self.all.insert(place, Egress { link, terms });
        }
    }

    /// Gives an egress other terms; `false` if there is none.
    pub(crate) fn set_terms(&mut self, link: LinkIndex, terms: EgressTerms) -> bool {
        let place = self.place_of(link);
        if let Ok(place) = place {
            self.all[place].terms = terms;
        }
        place.is_ok()
    }

    /// The peaks of all egresses together.
    pub(crate) fn admitted(&self) -> Bitrate {
        let peaks = self.all.iter().map(|egress| egress.terms.peak.0);
        Bitrate(peaks.fold(0, u64::saturating_add))
    }

    /// Removes an egress; `false` if there is none.
    pub(crate) fn remove(&mut self, link: LinkIndex) -> bool {
        let place = self.place_of(link);
        if let Ok(place) = place {
            self.all.remove(place);
        }
        place.is_ok()
    }

    /// Sends a run to all egresses but those at `came_from`; gives the number of copies that were sent.
    pub(crate) fn send(
        &self,
        run: &Run,
        came_from: Option<SocketAddr>,
        links: &mut link::Table,
        outbox: &mut Outbox,
        ledger: &mut Ledger,
    ) -> u64 {
        let packets = run.packets() as u64;
        let mut sent = 0;
        for egress in &self.all {
            let link = links
                .get_mut(egress.link)
                .expect("removing a link removes its egresses");
            ledger.due += packets;
            if came_from == Some(link.remote) {
                ledger.drop_copies(DropReason::BackToSender, packets);
                continue;
            }
            transmit(run, link, outbox, ledger);
            sent += packets;
        }
        sent
    }

    fn place_of(&self, link: LinkIndex) -> Result<usize, usize> {
        self.all.binary_search_by_key(&link, |egress| egress.link)
    }
}

/// Sends a run, already counted as due, over one link.
pub(crate) fn transmit(run: &Run, link: &mut link::Link, outbox: &mut Outbox, ledger: &mut Ledger) {
    let packets = run.packets() as u64;
    link.counts.sent += packets;
    ledger.sent += packets;
    outbox.transmit(link.remote, run.bytes.clone(), run.segment_bytes);
}
