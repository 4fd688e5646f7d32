//! Parity: where asking again would take too long, packets are covered beforehand, link by link.
//!
//! ```text
//!   parent                                              child
//!     │ 9 10 [11 lost] 12 ... [30 lost] ... 34 ────────▶ │  two are missing; they are not asked for yet
//!     │ shards 0, [1 lost], 2, 3 over 9..35 ───────────▶ │  three shards: 11 and 30 are recovered
//! ```
//!
//! `demand` says which child needs parity and how much, `encode` makes it of what goes out live, `decode` makes packets
//! of what came; this file joins them to links and flows. NACK works beside it, and parity puts it off only while it
//! may still come ([`Flow::shown`]). Wire definition: docs/wire.md sections 4.5 and 8.4; why like that:
//! docs/decisions/0022-parity-has-a-code-of-our-own.md. Not a promise: what parity cannot make good is asked for, if
//! there is time. Called by `forward` (what is sent, what comes) and by `repair` (timers). Invariant: only a shard with
//! a true carry tag over an upstream's link is kept, and a packet made of shards goes through the same door as one that
//! came.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use levada_wire::Instant;
use levada_wire::packet::parity::ParityHeader;

use crate::child::pacer::Parity;
use crate::flow::Flow;
use crate::flow::run::Run;
use crate::ledger::DropReason;
use crate::limits::RUN_PACKETS_MAX;
use crate::link;
use crate::state::{Io, State};

pub(crate) mod decode;
pub(crate) mod demand;
pub(crate) mod encode;
#[cfg(test)]
mod tests;

use demand::{Demand, Reach};
use encode::Block;

/// Takes note of packets that went to the children; sends the parity of a block that they end.
pub(crate) fn on_sent(flow: &mut Flow, io: &mut Io, run: &Run, now: Instant) {
    if flow.parity_encoder.is_idle(now) {
        return;
    }
    if flow.parity_encoder.must_review(now) {
        review(flow, &io.links, now);
    }
    let mut rest = Some(run.clone());
    while let Some(run) = rest {
        let ended;
        (ended, rest) = flow.parity_encoder.take(run, now);
        if let Some(block) = ended {
            send(flow, io, &block);
        }
    }
}

/// Ends the block that is too old.
pub(crate) fn drive(flow: &mut Flow, io: &mut Io, now: Instant) {
    if let Some(block) = flow.parity_encoder.due(now) {
        send(flow, io, &block);
    }
}

/// Takes a parity datagram.
pub(crate) fn on_datagram(
    state: &mut State,
    datagram: &[u8],
    from: SocketAddr,
    now: Instant,
) -> Result<(), DropReason> {
    let header = ParityHeader::peek(datagram).ok_or(DropReason::BadHeader)?;
    let (flow, io) = state.flow(header.flow).ok_or(DropReason::UnknownFlow)?;
    let key = flow.keys.get(header.key).ok_or(DropReason::NoKey)?;
    // spec: WIRE 4.5 the carry tag MUST be checked before the datagram changes anything but counters
    if !ParityHeader::check(key, datagram) {
        return Err(DropReason::BadTag);
    }
    // spec: WIRE 4.5 one that did not come over a link that is or was an upstream of the flow MUST be dropped
    let link = flow.upstreams.link_of(from, &io.links);
    let link = link.ok_or(DropReason::NotUpstream)?;
    let first = header.first_near(flow.window.next());
    let shard = ParityHeader::shard_of(datagram);
    flow.parity_decoder.take(&header, first, shard, from, now)?;
    let counts = &mut io.ledger.repair;
    counts.parity_received += 1;
    if let Some(link) = io.links.get_mut(link) {
        link.received(&mut io.overflow);
    }
    flow.upstreams.heard(link);
    let shown = flow.shown(link, &io.links, now);
    // It shows what was sent as a head does; and what is missing before its end has no more parity to wait for than is
    // under way now.
    let last = first.plus(u64::from(header.packets) - 1);
    flow.missing.head(last, shown, now);
    flow.missing.release(last, &shown, now);
    io.touched.push(flow.id);
    Ok(())
}

/// Finds out what parity each child needs now. What comes from there does not go back.
fn review(flow: &mut Flow, links: &link::Table, now: Instant) {
    let mut least: Option<Duration> = None;
    for child in &mut flow.children.all {
        let is_sent = child.is_current() && !flow.upstreams.is_expected(child.link);
        let link = links.get(child.link).filter(|_| is_sent);
        child.demand = link.and_then(|link| {
            let reach = Reach {
                trip: link.trip(),
                loss: link.loss(),
                budget: child.terms().budget.time(),
            };
            Demand::review(child.demand, reach)
        });
        if let Some(pacer) = &mut child.pacer {
            pacer.hurry(child.demand.is_some());
        }
        let budget = child.demand.map(|demand| demand.budget);
        least = [least, budget].into_iter().flatten().min();
    }
    flow.parity_encoder.reviewed(least, now);
}

/// Encodes a block once and sends each child that needs parity as many of its shards as it needs. Like repairs they are
/// not held against what a child was admitted with.
fn send(flow: &mut Flow, io: &mut Io, block: &Block) {
    let wants = |demand: Demand| demand.shards(block.packets());
    let demands = flow.children.all.iter().filter_map(|child| child.demand);
    let most = demands.map(wants).max().unwrap_or(0);
    // Packets go first: there is no parity without room for all that the rest of a train may be.
    if most == 0 || io.outbox.room() <= RUN_PACKETS_MAX * flow.outputs_of_repair() {
        return;
    }
    let Some(shards) = block.encode(flow.id, |epoch| flow.keys.get(epoch), most) else {
        return;
    };
    let bytes = Bytes::from(shards.bytes);
    let datagram_bytes = shards.datagram_bytes;
    for place in 0..flow.children.all.len() {
        let child = &mut flow.children.all[place];
        if !child.is_current() {
            continue;
        }
        let count = child.demand.map_or(0, wants);
        let Some(link) = io.links.get_mut(child.link).filter(|_| count > 0) else {
            continue;
        };
        let bytes = bytes.slice(..count * datagram_bytes);
        if let Some(pacer) = &mut child.pacer {
            pacer.cover(Parity {
                end: block.end(),
                bytes,
                datagram_bytes,
            });
            flow.children.wake_for(place);
            io.touched.push(flow.id);
        } else {
            link.send_parity(bytes, datagram_bytes, &mut io.outbox);
            io.ledger.repair.parity_sent += count as u64;
        }
    }
}
