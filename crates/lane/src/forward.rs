//! The hot path: from a received train to one send per egress, top to bottom in this file.
//!
//! ```text
//! train ─▶ segment ─▶ header ─▶ flow ─▶ carry tag ─▶ upstream ─▶ window ─▶ run ─▶ cache, egresses, consumer
//!             │          │        │          │                      │
//!             └ link     └────────┴──────────┴──────────────────────┴─▶ dropped, for one reason, in the ledger
//!               datagram, QUIC
//! ```
//!
//! Packets go on at once, in the order in which they came; only a consumer waits for what is missing. Packets of one burst
//! that arrived together leave together: at most one send per egress and burst, as one slice of the received bytes, or
//! gathered by one copy where others' datagrams lie in between. No allocation per packet (counted: `counting.rs`), no lock,
//! no log, and `now` is read once per receive, by the caller. Not policy: who is an egress was commanded. Called by [`crate::Lane`].
//! Invariant: before its carry tag is checked a packet changes counters only, and may wait unproven for its flow's
//! key, within a bound (decision 0004); a packet never goes back to the address that it came from.
//!
//! Budget, in cycles per packet, fan-out not counted: header and flow lookup 100, carry tag 560 (it reads all of the
//! packet: `docs/decisions/0009-the-carry-tag-covers-the-body.md`), upstream and window 80, cache and ledger 60 by the
//! run: 800 in all, 0.27 us at 3 GHz, beside 0.42 us that the kernel takes. Per egress and run 100, of which the link
//! lookup is most.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use levada_wire::datagram::link::{LinkDatagram, LinkHeader};
use levada_wire::key::CarryKey;
use levada_wire::packet::{Kind, carry};
use levada_wire::{FlowId, Header, Instant};

use crate::api::{Event, Train};
use crate::flow::egress::Onward;
use crate::flow::run::{Growing, Run};
use crate::flow::window::Verdict;
use crate::flow::{Early, Flow};
use crate::lane::State;
use crate::ledger::{DropReason, Fate};
use crate::limits::TRAIN_SEGMENTS_MAX;
use crate::link;
use crate::outbox::Outbox;
use crate::repair::parity::Made;
use crate::repair::{self, parity};

/// How packets came to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Came {
    /// Who sent them.
    pub(crate) from: SocketAddr,
    /// They were heard on a multicast group: others have them too, and the link did not count them.
    pub(crate) is_heard: bool,
}

/// Why a segment does not go on as a media packet.
enum Stop {
    Drop(DropReason),
    /// It waits for its flow's key.
    Hold,
}

/// Takes one receive: sends each packet of it to every egress of its flow, and everything else where it belongs.
pub(crate) fn forward(state: &mut State, train: &Train, is_heard: bool, now: Instant) {
    let came = Came {
        from: train.from,
        is_heard,
    };
    let mut runs = std::mem::take(&mut state.runs);
    let mut has_parity = false;
    for (place, range) in segments(train).enumerate() {
        state.ledger.arrived += 1;
        let packet = &train.bytes[range.clone()];
        if place >= TRAIN_SEGMENTS_MAX {
            state.ledger.drop_packets(DropReason::LongTrain, 1);
        } else if Kind::of(packet) == Kind::Parity && !is_heard {
            has_parity = true; // its turn comes below
        } else if Kind::of(packet) != Kind::Media {
            other_kind(state, train, &range, is_heard, now);
        } else {
            match admit(state, packet, came, now) {
                Ok(header) => lay(&mut runs, header, place, range.len()),
                // Copied: it may wait for long, and must not hold the whole train meanwhile.
                Err(Stop::Hold) => hold(state, Bytes::copy_from_slice(packet), came),
                Err(Stop::Drop(reason)) => state.ledger.drop_packets(reason, 1),
            }
        }
    }
    let gathered = gather(&runs, train);
    let mut at = 0;
    for run in runs.drain(..) {
        let (bytes, buffer) = if run.places().is_together() {
            (train.bytes.slice(run.places().range(train)), &train.bytes)
        } else {
            at += run.bytes();
            (gathered.slice(at - run.bytes()..at), &gathered)
        };
        let (id, run) = (run.flow(), run.finish(bytes, buffer.len()));
        hand_on(state, id, &run, Some(came), now);
    }
    state.runs = runs;
    if has_parity {
        take_parity(state, train, now);
    }
}

/// Takes the parity of a train, after its packets: it says which of them are missing.
fn take_parity(state: &mut State, train: &Train, now: Instant) {
    let datagrams = segments(train).take(TRAIN_SEGMENTS_MAX);
    for datagram in datagrams.map(|range| &train.bytes[range]) {
        if Kind::of(datagram) == Kind::Parity {
            match parity::on_datagram(state, datagram, train.from, now) {
                Ok(()) => state.ledger.settle(Fate::Control, 1),
                Err(reason) => state.ledger.drop_packets(reason, 1),
            }
        }
    }
}

/// Adds a packet to the latest run of its flow, or begins another.
fn lay(runs: &mut Vec<Growing>, header: Header, place: usize, bytes: usize) {
    let of_flow = |run: &&mut Growing| run.flow() == header.flow;
    let latest = runs.iter_mut().rev().find(of_flow);
    if !latest.is_some_and(|run| run.extend(&header, place, bytes)) {
        runs.push(Growing::new(header, place, bytes)); // at most one for each datagram of a train
    }
}

/// Where others' datagrams lie among a run's packets, those are copied together, all runs into one buffer: a copy costs
/// less than a second send, of which there would be one for each egress.
fn gather(runs: &[Growing], train: &Train) -> Bytes {
    let scattered = || runs.iter().filter(|run| !run.places().is_together());
    let mut bytes = Vec::with_capacity(scattered().map(Growing::bytes).sum());
    for run in scattered() {
        run.places().copy(train, &mut bytes);
    }
    bytes.into()
}

/// Judges one packet. The order is the point: the tag comes before whatever remembers.
fn admit(state: &mut State, packet: &[u8], came: Came, now: Instant) -> Result<Header, Stop> {
    let header = Header::peek(packet).ok_or(Stop::Drop(DropReason::BadHeader))?;
    let Some(flow) = state.flows.get_mut(header.flow) else {
        return Err(Stop::Drop(without_flow(state, &header, packet, came, now)));
    };
    let Some(key) = flow.keys.get(header.key) else {
        return Err(stop_without_key(flow, came.from, &state.links));
    };
    prove(key, &header, packet).map_err(Stop::Drop)?;
    if !note_arrival(flow, &header, came, &mut state.links, &mut state.outbox) {
        // A genuine packet from elsewhere is a replay: it must not make a newcomer start in the past.
        return Err(Stop::Drop(DropReason::NotUpstream));
    }
    take_number(flow, header).map_err(Stop::Drop)
}

/// Judges a packet that was made anew from parity: as one that came, but that it came over no link.
fn admit_made(state: &mut State, packet: &[u8]) -> Result<Header, DropReason> {
    let header = Header::peek(packet).ok_or(DropReason::BadHeader)?;
    let flow = state.flows.get_mut(header.flow);
    let flow = flow.ok_or(DropReason::UnknownFlow)?;
    let key = flow.keys.get(header.key).ok_or(DropReason::NoKey)?;
    prove(key, &header, packet)?;
    take_number(flow, header)
}

fn prove(key: &CarryKey, header: &Header, packet: &[u8]) -> Result<(), DropReason> {
    // spec: WIRE 4.3 a node MUST check the carry tag before the packet changes anything but counters
    if !carry::check(key, packet) {
        return Err(DropReason::BadTag);
    }
    if header.burst().is_none() || header.group_start().is_none() {
        return Err(DropReason::Contradiction);
    }
    Ok(())
}

fn take_number(flow: &mut Flow, header: Header) -> Result<Header, DropReason> {
    match flow.window.take(header.number) {
        Verdict::New => Ok(header),
        Verdict::Duplicate => Err(DropReason::Duplicate),
        Verdict::TooOld => Err(DropReason::TooOld),
    }
}

/// Hands packets on that were admitted or made here: to the cache, to every egress, to the consumer.
pub(crate) fn hand_on(state: &mut State, id: FlowId, run: &Run, came: Option<Came>, now: Instant) {
    if state.cache_room.may_be_short(run) {
        state.flows.make_room(id, run, &mut state.cache_room);
    }
    let Some(flow) = state.flows.get_mut(id) else {
        return;
    };
    let (packets, bytes) = (run.packets() as u64, run.bytes.len() as u64);
    let kept = flow.cache.insert(run, now, &mut state.cache_room);
    let (links, counts) = (&state.links, &mut state.ledger.repair);
    if came.is_some_and(|came| repair::on_run(flow, run, came, links, now, counts)) {
        state.touched.push(id);
    }
    if flow.keeper.on_run(run) {
        state.touched.push(id);
    }
    let woken = flow.egresses.wake;
    let onward = Onward {
        run,
        came_from: came.map(|came| came.from),
        kept,
        now,
    };
    let mut copies = flow.egresses.send(
        &onward,
        &mut state.links,
        &mut state.outbox,
        &mut state.ledger,
    );
    copies.sent += flow.multicast.send(
        run,
        came.is_some_and(|came| came.is_heard),
        &mut state.outbox,
        &mut state.ledger,
    );
    if copies.sent > 0 {
        let (links, counts) = (&mut state.links, &mut state.ledger.repair);
        parity::on_sent(flow, run, links, &mut state.outbox, counts, now);
    }
    if let Some(consumer) = &mut flow.consumer {
        consumer.push(run);
        state.touched.push(id);
    }
    if flow.egresses.wake != woken {
        state.touched.push(id);
    }
    if copies.sent > 0 && flow.tail.sent(run.end(), now) {
        state.touched.push(id);
    }
    flow.counters.packets_in += packets;
    flow.counters.bytes_in += bytes;
    flow.counters.packets_out += copies.sent;
    flow.counters.bytes_out += bytes * (copies.sent / packets);
    flow.counters.withheld += copies.withheld;
    match (
        copies.sent > 0 || copies.waits && kept,
        flow.consumer.is_some(),
        kept,
    ) {
        (true, _, _) => state.ledger.settle(Fate::Forwarded, packets),
        (false, true, _) => state.ledger.settle(Fate::Consumed, packets),
        (false, false, true) => state.ledger.settle(Fate::Kept, packets),
        (false, false, false) => state.ledger.drop_packets(DropReason::Unwanted, packets),
    }
}

/// Takes a packet that waited for its key.
pub(crate) fn release(state: &mut State, early: Early, now: Instant) {
    state.ledger.held -= 1;
    match admit(state, &early.packet, early.came, now) {
        Ok(header) => {
            let bytes = early.packet.len();
            let run = Growing::new(header, 0, bytes).finish(early.packet, bytes);
            hand_on(state, header.flow, &run, Some(early.came), now);
        }
        Err(Stop::Hold) => hold(state, early.packet, early.came),
        Err(Stop::Drop(reason)) => state.ledger.drop_packets(reason, 1),
    }
}

/// A packet of a flow that was closed a moment ago was under way meanwhile: it is no loss of the link.
#[cold]
fn without_flow(
    state: &mut State,
    header: &Header,
    packet: &[u8],
    came: Came,
    now: Instant,
) -> DropReason {
    let (closed, links) = (&mut state.closed, &mut state.links);
    let Some(counts) = closed.judge(header, packet, came.from, links, now) else {
        return DropReason::UnknownFlow;
    };
    let link = counts.filter(|_| !came.is_heard);
    if let Some(link) = link.and_then(|link| links.get_mut(link)) {
        link.counts.received += 1;
    }
    DropReason::FlowClosed
}

/// Takes packets that were made anew from parity: what lies together goes on together, as if it had come in a train.
pub(crate) fn take_made(state: &mut State, made: Made, now: Instant) {
    let bytes = Bytes::from(made.bytes);
    let came = Came {
        from: made.from,
        is_heard: false,
    };
    let hand_on_made = |state: &mut State, run: Option<(usize, Growing)>| {
        if let Some((start, run)) = run {
            let packets = bytes.slice(start..start + run.bytes());
            let (id, run) = (run.flow(), run.finish(packets, bytes.len()));
            hand_on(state, id, &run, Some(came), now);
        }
    };
    // The latest run, and where it begins.
    let mut run: Option<(usize, Growing)> = None;
    for (place, range) in made.ranges.into_iter().enumerate() {
        state.ledger.made += 1;
        match admit_made(state, &bytes[range.clone()]) {
            Ok(header) => {
                state.ledger.repair.recovered += 1;
                let latest = run.as_mut();
                if !latest.is_some_and(|(_, run)| run.extend(&header, place, range.len())) {
                    let next = Growing::new(header, place, range.len());
                    hand_on_made(state, run.replace((range.start, next)));
                }
            }
            Err(reason) => state.ledger.drop_packets(reason, 1),
        }
    }
    hand_on_made(state, run);
}

/// Between `OpenFlow` and `SetCarryKey` packets of an upstream wait; those of anyone else do not.
fn stop_without_key(flow: &Flow, from: SocketAddr, links: &link::Table) -> Stop {
    if flow.keys.is_empty() && flow.upstreams.expects(from, links) {
        Stop::Hold
    } else {
        Stop::Drop(DropReason::NoKey)
    }
}

fn hold(state: &mut State, packet: Bytes, came: Came) {
    let id = Header::peek(&packet).map(|header| header.flow);
    let flow = id.and_then(|id| state.flows.get_mut(id));
    match flow.filter(|flow| flow.early.len() < state.settings.early_packets_max) {
        Some(flow) => {
            flow.early.push_back(Early { came, packet });
            state.ledger.held += 1;
        }
        None => state.ledger.drop_packets(DropReason::EarlyFull, 1),
    }
}

/// Counts a proven packet on the link it came over, and reports an upstream's first; `false` if it came over none.
fn note_arrival(
    flow: &mut Flow,
    header: &Header,
    came: Came,
    links: &mut link::Table,
    outbox: &mut Outbox,
) -> bool {
    let Some(arrival) = flow.upstreams.arrived(header.number, came.from, links) else {
        return false;
    };
    if arrival.first {
        outbox.event(Event::Delivering {
            flow: header.flow,
            link: arrival.link,
        });
    }
    let counts = arrival.counts && !came.is_heard;
    if let Some(link) = links.get_mut(arrival.link).filter(|_| counts) {
        link.counts.received += 1;
    }
    true
}

/// Takes a segment that is neither a media packet nor parity.
fn other_kind(
    state: &mut State,
    train: &Train,
    range: &Range<usize>,
    is_heard: bool,
    now: Instant,
) {
    match Kind::of(&train.bytes[range.clone()]) {
        _ if is_heard => state.ledger.drop_packets(DropReason::UnknownKind, 1),
        Kind::Link => match link_datagram(state, &train.bytes[range.clone()], now) {
            Ok(()) => state.ledger.settle(Fate::Control, 1),
            Err(reason) => state.ledger.drop_packets(reason, 1),
        },
        Kind::Quic => {
            state.ledger.settle(Fate::Foreign, 1);
            state.outbox.foreign(Train {
                from: train.from,
                bytes: train.bytes.slice(range.clone()),
                segment_bytes: range.len(),
            });
        }
        _ => state.ledger.drop_packets(DropReason::UnknownKind, 1),
    }
}

/// Opens a link datagram: what is about a flow is repair's, what is about the link is the core's.
fn link_datagram(state: &mut State, datagram: &[u8], now: Instant) -> Result<(), DropReason> {
    let header = LinkHeader::peek(datagram).ok_or(DropReason::BadHeader)?;
    let link = state.links.get_mut(header.index);
    let link = link.ok_or(DropReason::UnknownLink)?;
    let (message, received) = link.open(header, datagram)?;
    if message.flow().is_some() {
        repair::on_datagram(state, header.index, &message, now);
        return Ok(());
    }
    if let LinkDatagram::Pong(pong) = &message
        && let Some(micros) = now.as_micros().checked_sub(pong.time)
    {
        link.answered_after(Duration::from_micros(micros));
        link.delivered(pong.sent, pong.received);
    }
    let link = header.index;
    state.outbox.event(Event::Datagram {
        link,
        message,
        received,
    });
    Ok(())
}

/// Where the datagrams of a train lie.
fn segments(train: &Train) -> impl Iterator<Item = Range<usize>> {
    let bytes = train.bytes.len();
    // A step of zero would never end; the border says it does not happen, the loop does not rely on it.
    let step = train.segment_bytes.max(1);
    (0..bytes)
        .step_by(step)
        .map(move |start| start..bytes.min(start.saturating_add(step)))
}

#[cfg(test)]
mod tests;
