//! Flows that were closed a moment ago: packets of theirs that were still under way count as received on their links.
//!
//! A link's loss is what the peer sent less what came. Whoever closes a flow is sent some more of it, for a round trip
//! at least, and if nobody here could prove those packets they would look lost: each flow that is let go would be a
//! blip of loss on a link that loses nothing, and routes are chosen by loss. So the keys of a closed flow, and what
//! came of it over which link, are remembered for a while, only to count. Not the flow: nothing is cached, sent or
//! delivered. Called by `forward` for packets of unknown flows, and by the lane when a flow is closed. Invariant: at
//! most [`CLOSED_MAX`] are remembered, and nothing counts that is not proven, or counted before.

use std::collections::VecDeque;
use std::net::SocketAddr;

use levada_wire::packet::carry;
use levada_wire::{FlowId, Header, Instant, LinkIndex};

use super::keys::Keys;
use super::upstream::Upstreams;
use crate::limits::{CLOSED_FOR, CLOSED_MAX};
use crate::link;

#[derive(Debug)]
struct Closed {
    id: FlowId,
    keys: Keys,
    upstreams: Upstreams,
    until: Instant,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct ClosedFlows {
    /// In the order of their closing.
    all: VecDeque<Closed>,
}

impl ClosedFlows {
    /// Remembers a flow that is closed now; the oldest is forgotten if there are too many.
    pub(crate) fn insert(&mut self, id: FlowId, keys: Keys, upstreams: Upstreams, now: Instant) {
        self.forget(id);
        self.all.retain(|closed| closed.until > now);
        if keys.is_empty() || upstreams.is_empty() {
            return;
        }
        if self.all.len() == CLOSED_MAX {
            self.all.pop_front();
        }
        self.all.push_back(Closed {
            id,
            keys,
            upstreams,
            until: now + CLOSED_FOR,
        });
    }

    /// The flow is open again.
    pub(crate) fn forget(&mut self, id: FlowId) {
        self.all.retain(|closed| closed.id != id);
    }

    /// A link is no more.
    pub(crate) fn remove_link(&mut self, link: LinkIndex) {
        for closed in &mut self.all {
            closed.upstreams.remove(link);
        }
    }

    /// Whether the packet is a genuine one of a flow that was closed a moment ago, and over which link it counts as
    /// received, if it does.
    pub(crate) fn judge(
        &mut self,
        header: &Header,
        packet: &[u8],
        from: SocketAddr,
        links: &link::Table,
        now: Instant,
    ) -> Option<Option<LinkIndex>> {
        let mut all = self.all.iter_mut();
        let closed = all.find(|closed| closed.id == header.flow && closed.until > now)?;
        let key = closed.keys.get(header.key)?;
        if !carry::check(key, packet) {
            return None;
        }
        let arrival = closed.upstreams.arrived(header.number, from, links, now)?;
        Some(arrival.counts.then_some(arrival.link))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use bytes::Bytes;

    use super::*;
    use crate::api::{Command, FlowCommand, LinkCommand};
    use crate::ledger::DropReason;
    use crate::testkit::{self, FLOW, Net, frame, link_to};

    /// Lane 0 sends to lane 1, which closes the flow while these packets are under way.
    fn closing() -> (Net, Vec<Bytes>) {
        let mut net = Net::chain(2);
        net.push(frame(1, true, 0, 10));
        net.deliver();
        for dts in 1..4 {
            net.push(frame(1, false, dts, 10));
        }
        let packets = net.intercept();
        net.command(1, Command::Flow(FLOW, FlowCommand::Close));
        (net, packets)
    }

    /// Datagrams that lane 1 counts as received from lane 0.
    fn received(net: &Net) -> u64 {
        let links = net.lanes[1].counters().links;
        let link = links.iter().find(|row| row.link == link_to(0));
        link.unwrap().datagrams_in
    }

    fn dropped(net: &Net, reason: DropReason) -> u64 {
        net.lanes[1].ledger().dropped(reason)
    }

    #[test]
    fn what_was_under_way_when_a_flow_was_closed_is_no_loss() {
        let (mut net, packets) = closing();

        for packet in &packets {
            net.arrive_alone(0, 1, packet.clone());
            net.arrive_alone(0, 1, packet.clone()); // a copy counts once
        }

        let sent = net.lanes[0].counters().links[0].datagrams_out;
        assert_eq!((received(&net), sent), (4, 4));
        assert_eq!(dropped(&net, DropReason::FlowClosed), 6);
        assert!(net.lanes[1].counters().flows.is_empty());
    }

    #[test]
    fn what_is_not_proven_or_comes_from_elsewhere_or_too_late_does_not_count() {
        let (mut net, packets) = closing();
        let mut forged = packets[0].to_vec();
        forged[40] ^= 1;

        net.arrive_alone(0, 1, forged.into());
        net.arrive_alone(7, 1, packets[0].clone());
        assert_eq!(received(&net), 1);
        net.sleep(CLOSED_FOR);
        let heads = received(&net);
        net.arrive_alone(0, 1, packets[0].clone());

        assert_eq!(received(&net), heads);
        assert_eq!(dropped(&net, DropReason::UnknownFlow), 3);
    }

    #[test]
    fn a_flow_that_is_open_again_is_no_closed_one() {
        let (mut net, packets) = closing();

        net.join(0, 1);
        net.arrive_alone(0, 1, packets[0].clone());

        assert_eq!(dropped(&net, DropReason::FlowClosed), 0);
        assert_eq!(net.lanes[1].counters().flows[0].packets_in, 1);
    }

    #[test]
    fn a_link_that_is_gone_is_counted_no_more() {
        let (mut net, packets) = closing();

        net.command(1, Command::Link(link_to(0), LinkCommand::Remove));
        net.arrive_alone(0, 1, packets[0].clone());

        assert_eq!(dropped(&net, DropReason::UnknownFlow), 1);
    }

    #[test]
    fn the_oldest_is_forgotten_beyond_the_limit() {
        let mut closed = ClosedFlows::default();
        for id in 0..=CLOSED_MAX as u64 {
            let (mut keys, mut upstreams) = (Keys::default(), Upstreams::default());
            keys.set(1, testkit::carry());
            upstreams.add(link_to(0));
            closed.insert(FlowId(id), keys, upstreams, Instant::ZERO);
        }

        assert_eq!(closed.all.len(), CLOSED_MAX);
        assert!(closed.all.iter().all(|closed| closed.id != FlowId(0)));

        let (keys, upstreams) = (Keys::default(), Upstreams::default());
        closed.insert(FlowId(1_000), keys, upstreams, Instant::ZERO + CLOSED_FOR);
        assert!(closed.all.is_empty());
    }
}
