//! The hot path: from a received train to one send per egress, top to bottom in this file.
//!
//! ```text
//! train ─▶ segment ─▶ header ─▶ flow ─▶ carry tag ─▶ upstream ─▶ window ─▶ run ─▶ cache, egresses, consumer
//!             │          │        │          │                      │
//!             └ link     └────────┴──────────┴──────────────────────┴─▶ dropped, for one reason, in the ledger
//!               datagram, QUIC
//! ```
//!
//! Packets go on at once, in the order in which they came; only a consumer waits for what is missing. Packets of one
//! burst that arrived together leave together: at most one send per egress and burst, as one slice of the received
//! bytes, or gathered by one copy where others' datagrams lie in between. No allocation per packet (counted:
//! `counting.rs`), no lock, no log, and `now` is read once per receive, by the caller. Not policy: who is an egress was
//! commanded. Called by [`crate::Lane`]. Invariant: before its carry tag is checked a packet changes counters only, and
//! may wait unproven for its flow's key, within a bound (decision 0004); a packet never goes back to the address that
//! it came from.
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

use crate::api::{Egress, FlowEvent, LinkEvent, Train};
use crate::child::behind::Disposition;
use crate::child::{earliest, join};
use crate::flow::ingress::Ingress;
use crate::flow::run::{Growing, Run};
use crate::flow::upstream::Arrival;
use crate::flow::window::Novelty;
use crate::flow::{Early, Flow, stray};
use crate::ledger::{DropReason, Fate};
use crate::limits::{EARLY_IN_ALL_MAX, TRAIN_SEGMENTS_MAX};
use crate::link;
use crate::repair::parity::decode::Recovered;
use crate::repair::{self, parity};
use crate::state::{Io, State};

/// Why a segment does not go on as a media packet.
enum Stop {
    Drop(DropReason),
    /// It waits for its flow's key.
    Hold,
}

/// Takes one receive: sends each packet of it to every egress of its flow, and everything else where it belongs.
pub(crate) fn forward(state: &mut State, train: &Train, is_heard: bool, now: Instant) {
    let came = Ingress {
        from: train.from,
        is_heard,
    };
    let mut runs = std::mem::take(&mut state.io.runs);
    let mut has_parity = false;
    for (place, range) in segments(train).enumerate() {
        state.io.ledger.arrived += 1;
        let packet = &train.bytes[range.clone()];
        if place >= TRAIN_SEGMENTS_MAX {
            state.io.ledger.drop_packets(DropReason::LongTrain, 1);
        } else if Kind::of(packet) == Kind::Parity && !is_heard {
            has_parity = true; // its turn comes below
        } else if Kind::of(packet) != Kind::Media {
            other_kind(state, train, &range, is_heard, now);
        } else if let Some(header) = take_packet(state, packet, came, now) {
            lay(&mut runs, header, place, range.len());
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
    state.io.runs = runs;
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
                Ok(()) => state.io.ledger.settle(Fate::Control, 1),
                Err(reason) => state.io.ledger.drop_packets(reason, 1),
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

/// Takes one packet: it goes on if it has a header now, else it is accounted for.
fn take_packet(state: &mut State, packet: &[u8], came: Ingress, now: Instant) -> Option<Header> {
    let State { flows, io } = state;
    let Some(header) = Header::peek(packet) else {
        io.ledger.drop_packets(DropReason::BadHeader, 1);
        return None;
    };
    let Some(flow) = flows.get_mut(header.flow) else {
        let reason = without_flow(io, &header, packet, came, now);
        io.ledger.drop_packets(reason, 1);
        return None;
    };
    match admit(flow, io, header, packet, came, now) {
        Ok(header) => return Some(header),
        // Copied: it may wait for long, and must not hold the whole train meanwhile.
        Err(Stop::Hold) => hold(flow, io, Bytes::copy_from_slice(packet), came),
        Err(Stop::Drop(reason)) => io.ledger.drop_packets(reason, 1),
    }
    None
}

/// Judges one packet. The order is the point: the tag comes before whatever remembers.
fn admit(
    flow: &mut Flow,
    io: &mut Io,
    header: Header,
    packet: &[u8],
    came: Ingress,
    now: Instant,
) -> Result<Header, Stop> {
    let Some(key) = flow.keys.get(header.key) else {
        return Err(stop_without_key(flow, came.from, &io.links));
    };
    prove(key, &header, packet).map_err(Stop::Drop)?;
    let Some(arrival) = note_arrival(flow, io, &header, came, now) else {
        // A genuine packet from elsewhere is a replay: it must not make a newcomer start in the past.
        return Err(Stop::Drop(DropReason::NotUpstream));
    };
    let link = arrival.expected.then_some(arrival.link);
    if !flow.window.explains(header.number) && !stray::takes(flow, io, (&header, packet), link, now)
    {
        return Err(Stop::Drop(stray::refusal(flow, header.number)));
    }
    let taken = take_number(flow, header);
    if matches!(taken, Err(DropReason::Duplicate)) && !came.is_heard {
        flow.missing.came_again(header.number, arrival.link, now);
    }
    let header = taken.map_err(Stop::Drop)?;
    if let Some(link) = link {
        flow.line.took(link, now);
    }
    Ok(header)
}

/// Judges a packet that was recovered from parity: as one that came, but that it came over no link.
fn admit_recovered(flow: &mut Flow, packet: &[u8]) -> Result<Header, DropReason> {
    let header = Header::peek(packet).ok_or(DropReason::BadHeader)?;
    if header.flow != flow.id {
        return Err(DropReason::UnknownFlow);
    }
    let key = flow.keys.get(header.key).ok_or(DropReason::NoKey)?;
    prove(key, &header, packet)?;
    if !flow.window.explains(header.number) {
        return Err(stray::refusal(flow, header.number));
    }
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
        Novelty::New => Ok(header),
        Novelty::Duplicate => Err(DropReason::Duplicate),
        Novelty::TooOld => Err(DropReason::TooOld),
    }
}

/// Hands packets on that were admitted or made here. Other flows give back room for them that is not theirs.
pub(crate) fn hand_on(
    state: &mut State,
    id: FlowId,
    run: &Run,
    came: Option<Ingress>,
    now: Instant,
) {
    let State { flows, io } = state;
    if io.room.may_be_short(run) {
        flows.make_room(id, run, &mut io.room, now);
        if io.room.take_has_asked() {
            io.outbox.wake_others();
        }
    }
    if let Some(flow) = flows.get_mut(id) {
        pass_on(flow, io, run, came, now);
    }
}

/// To the cache, to every egress, to the consumer.
fn pass_on(flow: &mut Flow, io: &mut Io, run: &Run, came: Option<Ingress>, now: Instant) {
    let (packets, bytes) = (run.packets() as u64, run.bytes.len() as u64);
    flow.rate.count(run);
    let kept = flow.cache.insert(run, now, &mut io.room);
    flow.haste.came(run.sent, now);
    let mut has_more = came.is_some_and(|came| repair::on_run(flow, io, run, came, now));
    has_more |= flow.parity_decoder.on_run(run);
    let woken = flow.children.wake;
    let copies = fan_out(flow, io, run, came, kept, now);
    if copies.sent || copies.paced {
        parity::on_sent(flow, io, run, now);
    }
    if copies.sent {
        has_more |= flow.tail.sent(run.end(), now);
    }
    if let Some(consumer) = &mut flow.consumer {
        if consumer.is_seeking() && run.first == run.group_start {
            // What came before the start of its group, and before there was a consumer, is in the cache alone.
            flow.cache.join().for_each(|run| consumer.push(run));
        }
        consumer.push(run);
        has_more = true;
    }
    if has_more || flow.children.wake != woken {
        io.touched.push(flow.id);
    }
    flow.counters.packets_in += packets;
    flow.counters.bytes_in += bytes;
    let goes_on = copies.sent || copies.waits && kept;
    match (goes_on, flow.consumer.is_some(), kept) {
        (true, _, _) => io.ledger.settle(Fate::Forwarded, packets),
        (false, true, _) => io.ledger.settle(Fate::Consumed, packets),
        (false, false, true) => io.ledger.settle(Fate::Kept, packets),
        (false, false, false) => io.ledger.drop_packets(DropReason::Unwanted, packets),
    }
}

/// What became of a run.
#[derive(Clone, Copy, Debug, Default)]
struct Copies {
    /// Some child was sent it now.
    sent: bool,
    /// Some child's cursor will come to it.
    waits: bool,
    /// Some child is sent it as its pace allows.
    paced: bool,
}

/// Sends a run to all children that are live, but not back; the others' cursors will come to it if it is `kept` in the
/// cache.
fn fan_out(
    flow: &mut Flow,
    io: &mut Io,
    run: &Run,
    came: Option<Ingress>,
    kept: bool,
    now: Instant,
) -> Copies {
    let came_from = came.map(|came| came.from);
    let (id, is_fast) = (flow.id, flow.haste.is_fast(now));
    flow.rhythm.note(run);
    let is_near = flow.rhythm.is_near(run.sent);
    let (children, counters) = (&mut flow.children, &mut flow.counters);
    let (packets, mut needs) = (run.packets() as u64, None);
    let is_late = run.first < children.next;
    children.next = children.next.max(run.end());
    let mut copies = Copies::default();
    for child in &mut children.all {
        if !child.is_egress() {
            continue;
        }
        let link = io.links.get_mut(child.link);
        let link = link.expect("removing a link removes its children");
        if came_from == Some(link.remote) {
            if child.is_live() {
                io.ledger.drop_copies(DropReason::BackToSender, packets);
            }
            continue;
        }
        if let Some(pacer) = &mut child.pacer {
            let needs = *needs.get_or_insert_with(|| flow.rate.most());
            pacer.attend(needs, link.known(), now);
        }
        let disposition = if child.is_free(run, is_late, now) {
            Disposition::Send
        } else {
            let verdict = child.judge(run, kept, is_late, is_near, now);
            if is_fast {
                join::go_along(child, &mut io.queue, (id, link.source), now);
            }
            children.wake = earliest(children.wake, child.wake());
            verdict
        };
        match disposition {
            Disposition::Send => {
                child.sent(run, is_late && is_fast, now);
                copies.sent = true;
                link.send(run, &mut io.outbox, &mut io.ledger, counters);
            }
            Disposition::Wait => {
                copies.waits = true;
                copies.paced |= child.is_current();
                children.wake = Some(now); // has it become too much?
            }
            Disposition::Withhold(reason) => counters.withhold(reason, packets, &mut io.ledger),
            Disposition::Ignore => {}
        }
    }
    for channel in flow.multicast.channels() {
        if came.is_some_and(|came| came.is_heard) {
            io.ledger.drop_copies(DropReason::BackToSender, packets); // what was heard is not said again
        } else {
            copies.sent = true;
            let channel = Egress::to_channel(*channel);
            io.outbox
                .send((run, packets), channel, &mut io.ledger, counters);
        }
    }
    copies
}

/// Takes a packet that waited for its key.
pub(crate) fn release(state: &mut State, id: FlowId, early: Early, now: Instant) {
    let Some((flow, io)) = state.flow(id) else {
        return;
    };
    let Early { came, packet } = early;
    io.ledger.held -= 1;
    let header = Header::peek(&packet).ok_or(Stop::Drop(DropReason::BadHeader));
    match header.and_then(|header| admit(flow, io, header, &packet, came, now)) {
        Ok(header) => {
            let bytes = packet.len();
            let run = Growing::new(header, 0, bytes).finish(packet, bytes);
            hand_on(state, id, &run, Some(came), now);
        }
        Err(Stop::Hold) => hold(flow, io, packet, came),
        Err(Stop::Drop(reason)) => io.ledger.drop_packets(reason, 1),
    }
}

/// A packet of a flow that was closed a moment ago was under way meanwhile: it is no loss of the link.
#[cold]
fn without_flow(
    io: &mut Io,
    header: &Header,
    packet: &[u8],
    came: Ingress,
    now: Instant,
) -> DropReason {
    let Some(counts) = io.closed.judge(header, packet, came.from, &io.links, now) else {
        return DropReason::UnknownFlow;
    };
    let link = counts.filter(|_| !came.is_heard);
    if let Some(link) = link.and_then(|link| io.links.get_mut(link)) {
        link.received(&mut io.overflow);
    }
    DropReason::FlowClosed
}

/// Takes packets that were recovered from parity: what lies together goes on together, as if it had come in a train.
pub(crate) fn take_recovered(state: &mut State, id: FlowId, made: Recovered, now: Instant) {
    let Some((flow, io)) = state.flow(id) else {
        return;
    };
    let mut runs: Vec<(usize, Growing)> = Vec::new(); // each with where it begins
    for (place, range) in made.ranges.into_iter().enumerate() {
        io.ledger.made += 1;
        match admit_recovered(flow, &made.bytes[range.clone()]) {
            Ok(header) => {
                io.ledger.repair.recovered += 1;
                flow.counters.repaired += 1;
                let latest = runs.last_mut();
                if !latest.is_some_and(|(_, run)| run.extend(&header, place, range.len())) {
                    runs.push((range.start, Growing::new(header, place, range.len())));
                }
            }
            Err(reason) => io.ledger.drop_packets(reason, 1),
        }
    }
    let bytes = Bytes::from(made.bytes);
    let came = Ingress {
        from: made.from,
        is_heard: false,
    };
    for (start, run) in runs {
        let packets = bytes.slice(start..start + run.bytes());
        let run = run.finish(packets, bytes.len());
        hand_on(state, id, &run, Some(came), now);
    }
}

/// Between `OpenFlow` and `SetCarryKey` packets of an upstream wait; those of anyone else do not.
fn stop_without_key(flow: &Flow, from: SocketAddr, links: &link::Table) -> Stop {
    if flow.keys.is_empty() && flow.upstreams.expects(from, links) {
        Stop::Hold
    } else {
        Stop::Drop(DropReason::NoKey)
    }
}

fn hold(flow: &mut Flow, io: &mut Io, packet: Bytes, came: Ingress) {
    let most = io.settings.early_packets_max.max(flow.early_max());
    if flow.early.len() < most && io.ledger.held < EARLY_IN_ALL_MAX {
        flow.early.push_back(Early { came, packet });
        io.ledger.held += 1;
    } else {
        io.ledger.drop_packets(DropReason::EarlyFull, 1);
    }
}

/// Counts a proven packet on the link it came over, and reports an upstream's first; `None` if it came over none.
fn note_arrival(
    flow: &mut Flow,
    io: &mut Io,
    header: &Header,
    came: Ingress,
    now: Instant,
) -> Option<Arrival> {
    let number = header.number;
    let arrived = flow.upstreams.arrived(number, came.from, &io.links, now);
    let arrival = arrived?;
    if arrival.first {
        io.outbox
            .tell_flow(flow.id, FlowEvent::Delivering(arrival.link));
    }
    let missing = &flow.missing;
    let lacks = |goal| missing.lacks_below(goal);
    if arrival.expected && flow.upstreams.catches_up(arrival.link, number, lacks) {
        io.outbox
            .tell_flow(flow.id, FlowEvent::CaughtUp(arrival.link));
    }
    if came.is_heard
        && arrival.expected
        && let Some(heard) = flow.hearing.note(arrival.link, number, now, lacks)
    {
        io.outbox.tell_flow(flow.id, FlowEvent::Heard(heard));
    }
    let counts = arrival.counts && !came.is_heard;
    if let Some(link) = io.links.get_mut(arrival.link).filter(|_| counts) {
        link.received(&mut io.overflow);
    }
    Some(arrival)
}

/// Takes a segment that is neither a media packet nor parity.
fn other_kind(
    state: &mut State,
    train: &Train,
    range: &Range<usize>,
    is_heard: bool,
    now: Instant,
) {
    let kind = Kind::of(&train.bytes[range.clone()]);
    let fate = match kind {
        Kind::Site if is_heard => {
            let datagram = train.bytes[range.clone()].to_vec();
            state.io.outbox.site(train.from, datagram);
            Ok(Fate::Control)
        }
        _ if is_heard => Err(DropReason::UnknownKind),
        Kind::Link => {
            link_datagram(state, &train.bytes[range.clone()], now).map(|()| Fate::Control)
        }
        Kind::Quic => Ok(Fate::Foreign),
        _ => Err(DropReason::UnknownKind),
    };
    match fate {
        Ok(fate) => state.io.ledger.settle(fate, 1),
        Err(reason) => state.io.ledger.drop_packets(reason, 1),
    }
    if fate == Ok(Fate::Foreign) {
        state.io.outbox.foreign(Train {
            to: train.to,
            from: train.from,
            bytes: train.bytes.slice(range.clone()),
            segment_bytes: range.len(),
        });
    }
}

/// Opens a link datagram: what is about a flow is repair's, what is about the link is the core's.
fn link_datagram(state: &mut State, datagram: &[u8], now: Instant) -> Result<(), DropReason> {
    let header = LinkHeader::peek(datagram).ok_or(DropReason::BadHeader)?;
    let link = state.io.links.get_mut(header.index);
    let link = link.ok_or(DropReason::UnknownLink)?;
    let (message, received) = link.open(header, datagram, &mut state.io.overflow)?;
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
    let event = LinkEvent::Datagram { message, received };
    state.io.outbox.tell_link(link, event);
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
