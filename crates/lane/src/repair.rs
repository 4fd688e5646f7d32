//! Repair: what was lost on a hop is asked for again from the node before it, as long as that can help.
//!
//! ```text
//!   parent                                   child
//!     │ 7, 8, [9 lost], 10 ─────────────────▶ │  a gap: 9 is missing (`missing`)
//!     │ ◀───────────────────────── NACK 9     │  after the reordering time, at most one in 5 ms
//!     │ 9 again ────────────────────────────▶ │  from the cache, as far as `serve` allows
//!     │ or PENDING 9 ───────────────────────▶ │  I lack it too and have asked: it comes when it comes
//!     │ or GONE 9 ──────────────────────────▶ │  it will not come: the consumer counts the gap at once
//!     │ HEAD 10 ────────────────────────────▶ │  after the last packet: so that a lost tail shows (`tail`)
//! ```
//!
//! Packets go on at once, out of order; a repaired packet runs through `forward` like any other. A deadline is the
//! packet's own time (`arrival_baseline`) plus the budget, the same for all hops, so that the hop that lost a packet
//! may use all the time that is left. Where it is too short for two tries, packets are covered beforehand (`parity`).
//! Wire definition: docs/wire.md section 8.3. Not a choice of parent: `core`. Not the sending to channels:
//! `flow/multicast.rs`. Called by `forward` (runs, link datagrams) and by the lane (timers, joins). Invariant: only
//! upstreams are asked and believed, only children are served, and one datagram causes at most twice
//! [`NUMBERS_PER_DATAGRAM`] copies and `ANSWERS_MAX` answers.

use levada_wire::datagram::link::{Head, LinkDatagram, Numbers};
use levada_wire::lane::FlowEvent;
use levada_wire::{FlowId, Instant, LinkIndex, Number};

use crate::api::Egress;
use crate::child::Child;
use crate::child::behind::Reply;
use crate::child::pacer::asked;
use crate::child::repairs::Request;
use crate::flow::Flow;
use crate::flow::cache::Cache;
use crate::flow::ingress::Ingress;
use crate::flow::multicast::Answer;
use crate::flow::reach::repair_credit;
use crate::flow::run::Run;
use crate::flow::suspicion;
use crate::ledger::DropReason;
use crate::limits::NUMBERS_PER_DATAGRAM;
use crate::link::Link;
use crate::outbox::Outbox;
use crate::state::{Io, State};

pub(crate) mod arrival_baseline;
pub(crate) mod backoff;
pub(crate) mod counts;
pub(crate) mod missing;
pub(crate) mod numbers;
pub(crate) mod parity;
pub(crate) mod reordering;
pub(crate) mod tail;
#[cfg(test)]
mod tests;
pub(crate) mod trip;

use counts::RepairCounts;
use missing::RepairPeer;
use numbers::pack;

/// Takes note of packets that came over an upstream; says whether the flow must be driven.
pub(crate) fn on_run(flow: &mut Flow, io: &mut Io, run: &Run, came: Ingress, now: Instant) -> bool {
    let Some(link) = flow.upstreams.sample(came, &io.links, run.sent, now) else {
        return false;
    };
    let next = flow.missing.next();
    if next.is_none_or(|next| run.first >= next) {
        flow.pauses.sample(run.sent, next == Some(run.first));
    }
    let is_expecting = suspicion::expect(flow, &io.links, link, now);
    let shown = flow.shown(link, &io.links, now);
    let upstreams = &flow.upstreams;
    let time_of = |sent| upstreams.time_of(sent, now).unwrap_or(now);
    let counts = &mut io.ledger.repair;
    let before = counts.repairs_received;
    let filled = flow.missing.arrived(run, shown, now, time_of, counts);
    flow.counters.repaired += counts.repairs_received - before;
    let Some(filled) = filled else {
        return is_expecting;
    };
    for number in filled {
        if !flow.children.all.is_empty() {
            io.repaired.forwarded(flow.id, number, now);
        }
        flow.multicast.forwarded(number, now);
    }
    true
}

/// Takes a message about a flow.
pub(crate) fn on_datagram(
    state: &mut State,
    link: LinkIndex,
    message: &LinkDatagram,
    now: Instant,
) {
    let State { flows, io } = state;
    let Some(flow) = message.flow().and_then(|id| flows.get_mut(id)) else {
        io.ledger.repair.uncalled += 1;
        return;
    };
    // spec: WIRE 8.3 nack, bad nack and pull of a link that is no child, and pending, gone and head of a link that is
    // no upstream, MUST be ignored
    match message {
        LinkDatagram::Nack(_) | LinkDatagram::NackBad(_) | LinkDatagram::Pull(_)
            if flow.children.place_of(link).is_some() =>
        {
            io.ledger.repair.nacks_received += 1;
            match message {
                LinkDatagram::Nack(numbers) => serve(flow, io, link, numbers, now),
                LinkDatagram::NackBad(numbers) => {
                    distrust(flow, io, numbers, now);
                    serve(flow, io, link, numbers, now);
                }
                LinkDatagram::Pull(pull) => {
                    let count = u64::from(pull.count).min(NUMBERS_PER_DATAGRAM);
                    let wanted: Vec<Number> = (0..count).map(|at| pull.first.plus(at)).collect();
                    for numbers in pack(flow.id, &wanted) {
                        serve(flow, io, link, &numbers, now);
                    }
                }
                _ => {}
            }
        }
        LinkDatagram::Head(_) | LinkDatagram::Pending(_) | LinkDatagram::Gone(_)
            if flow.upstreams.is_expected(link) =>
        {
            learn(flow, io, link, message, now);
            io.touched.push(flow.id);
        }
        _ => io.ledger.repair.uncalled += 1,
    }
}

/// Takes what an upstream says of its packets.
fn learn(flow: &mut Flow, io: &mut Io, link: LinkIndex, message: &LinkDatagram, now: Instant) {
    let counts = &mut io.ledger.repair;
    match message {
        LinkDatagram::Head(head) => {
            flow.upstreams.heard(link);
            let shown = flow.shown(link, &io.links, now);
            flow.missing.head(head.highest, shown, now);
            learn_end(flow, io, link, head.highest.next(), now);
        }
        LinkDatagram::Pending(numbers) => {
            flow.upstreams.is_well(link, false, now);
            let source = RepairPeer {
                link,
                trip: io.links.trip(link),
                ready_at: now,
                is_quiet: false,
            };
            for number in numbers.iter() {
                flow.missing.pending(number, &source, now);
            }
        }
        LinkDatagram::Gone(numbers) => {
            flow.upstreams.is_well(link, false, now);
            // Said before they were missed: they are, and others may have them.
            let before = flow.missing.next();
            if let Some(highest) = numbers.iter().last().filter(|_| before.is_some()) {
                let shown = flow.shown(link, &io.links, now);
                flow.missing.head(highest, shown, now);
            }
            let sources = flow.upstreams.sources(|link| io.links.trip(link));
            for number in numbers.iter() {
                flow.missing.gone(number, link, &sources, now, counts);
            }
        }
        _ => {}
    }
}

/// An upstream has sent all before `end`, and rests.
fn learn_end(flow: &mut Flow, io: &mut Io, link: LinkIndex, end: Number, now: Instant) {
    let (missing, upstreams) = (&flow.missing, &mut flow.upstreams);
    if missing.next().is_none_or(|next| end < next) {
        return; // it is behind
    }
    upstreams.is_well(link, missing.next() == Some(end), now);
    if upstreams.report(link) {
        io.outbox.tell_flow(flow.id, FlowEvent::Delivering(link));
    }
    if upstreams.catches_up(link, end, |goal| missing.lacks_below(goal)) {
        io.outbox.tell_flow(flow.id, FlowEvent::CaughtUp(link));
    }
}

/// Sends a child what it asked for, from the cache, and says what is pending and what is gone.
fn serve(flow: &mut Flow, io: &mut Io, child: LinkIndex, asked: &Numbers, now: Instant) {
    let (place, link) = (flow.children.place_of(child), io.links.get_mut(child));
    let Some((place, link)) = place.zip(link) else {
        return;
    };
    let child = &flow.children.all[place];
    let replies: Vec<Reply> = asked.iter().map(|it| reply(flow, child, it)).collect();
    let credit = repair_credit(flow.peak(), child.terms().budget.time());
    let child = &mut flow.children.all[place];
    let (trip, packets) = (link.trip().time(), flow.counters.packets_in);
    let that_are = |wanted| -> Vec<Number> {
        let all = asked.iter().zip(&replies);
        all.filter_map(|(number, &reply)| (reply == wanted).then_some(number))
            .collect()
    };
    let mut channel = flow.multicast.first_of(child.channels());
    let (mut due, mut twice, mut for_all) = (Vec::new(), Vec::new(), Vec::new());
    for number in that_are(Reply::FromCache) {
        let request = Request {
            flow: flow.id,
            child: child.link,
            number,
            trip,
            packets,
            credit,
        };
        asked::note_lost(child, &io.repaired, &request, now);
        let answer = channel
            .as_ref()
            .map(|channel| channel.answer(number, trip, now));
        let copies = match answer {
            Some(Answer::TooSoon) => Err(DropReason::RepairTooSoon),
            _ => child.repairs.admit(&mut io.repaired, &request, now),
        };
        match (copies, &mut channel) {
            (Ok(_), Some(channel)) if answer == Some(Answer::ToAll) => {
                channel.remember(number, now);
                for_all.push(number);
            }
            (Ok(copies), _) if child.pacer.is_some() => {
                asked::ask(child, number, copies, &mut io.ledger);
            }
            (Ok(1), _) => due.push(number),
            (Ok(_), _) => twice.push(number),
            (Err(reason), _) => io.ledger.drop_copies(reason, 1),
        }
    }
    if child.pacer.is_some() {
        flow.children.wake_for(place);
        io.touched.push(flow.id);
    }
    let to_channel = channel.map(|channel| Egress::to_channel(channel.channel));
    let (counters, cache) = (&mut flow.counters, &flow.cache);
    for run in runs(cache, &for_all) {
        let packets = run.packets() as u64;
        io.ledger.repair.repairs_sent += packets;
        let to = to_channel.expect("only what a channel's member asks for is for all");
        io.outbox
            .send((&run, packets), to, &mut io.ledger, counters);
    }
    for run in [&due, &twice, &twice]
        .into_iter()
        .flat_map(|numbers| runs(cache, numbers))
    {
        io.ledger.repair.repairs_sent += run.packets() as u64;
        link.send(&run, &mut io.outbox, &mut io.ledger, counters);
    }
    let rest = [that_are(Reply::Pending), that_are(Reply::Gone)];
    say_rest(link, &mut io.outbox, flow.id, rest, &mut io.ledger.repair);
}

/// Says of what a child asked for what is pending, and what is gone.
fn say_rest(
    link: &mut Link,
    outbox: &mut Outbox,
    flow: FlowId,
    [pending, gone]: [Vec<Number>; 2],
    counts: &mut RepairCounts,
) {
    for numbers in pack(flow, &pending) {
        counts.pendings_sent += 1;
        link.say(LinkDatagram::Pending(numbers), outbox);
    }
    for numbers in pack(flow, &gone) {
        counts.gones_sent += 1;
        link.say(LinkDatagram::Gone(numbers), outbox);
    }
}

/// What a child is told that asks for a number: first what is known of it, then what is here.
fn reply(flow: &Flow, child: &Child, number: Number) -> Reply {
    let channels = child.channels();
    match child.reply(number) {
        // A member of a channel hears all that goes there, whatever it is sent over its link.
        reply @ (Reply::Pending | Reply::Gone) if channels.is_empty() => reply,
        _ if flow.multicast.has_withheld(channels, number) => Reply::Gone,
        _ if flow.cache.part(number, 1).is_some() => Reply::FromCache,
        _ if flow.origin.is_none() && flow.missing.expects(number) => Reply::Pending,
        _ => Reply::Gone,
    }
}

/// The cached packets of those numbers, which are in order; what lies together goes together.
fn runs(cache: &Cache, numbers: &[Number]) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut rest = numbers;
    while let Some(&first) = rest.first() {
        let in_a_row = rest
            .iter()
            .enumerate()
            .take_while(|&(at, &number)| number == first.plus(at as u64));
        let part = cache.part(first, in_a_row.count());
        rest = &rest[part.as_ref().map_or(1, Run::packets)..];
        runs.extend(part);
    }
    runs
}

/// A child holds false copies of these. What came from elsewhere may be false here as well, which this node cannot see
/// while it only carries: it lets go of its own copies and asks for them again, as false ones.
fn distrust(flow: &mut Flow, io: &mut Io, numbers: &Numbers, now: Instant) {
    if flow.upstreams.is_empty() {
        return; // the origin's own copies are true
    }
    for number in numbers.iter() {
        if flow.cache.part(number, 1).is_some() && flow.consumer.is_none() {
            flow.cache.forget(number, &mut io.room);
            flow.window.forget(number);
            let counts = &mut io.ledger.repair;
            flow.missing.bad(number, now, now, counts);
        }
    }
    io.touched.push(flow.id);
}

/// Does what is due: asks again, gives up, says the head. Says whether there was no room to do all.
pub(crate) fn drive(flow: &mut Flow, io: &mut Io, now: Instant) -> bool {
    if io.outbox.room() <= flow.outputs_of_repair() {
        return flow.repair_wakeup().is_some_and(|wakeup| wakeup.at <= now);
    }
    let counts = &mut io.ledger.repair;
    if flow.missing.wake().is_some_and(|at| at <= now) {
        let mut sources = flow.upstreams.sources(|link| io.links.trip(link));
        for ask in flow.missing.ask(flow.id, &mut sources, now, counts) {
            let link = io.links.get_mut(ask.link);
            let link = link.expect("removing a link removes its upstreams");
            link.say(ask.message, &mut io.outbox);
        }
        flow.upstreams.keep_pace(&sources);
    }
    if flow.sends() == 0 {
        flow.tail.rest();
    } else if let Some(highest) = flow.tail.head(now) {
        let head = Head {
            flow: flow.id,
            highest,
        };
        for child in flow.children.told() {
            let link = io.links.get_mut(child);
            let link = link.expect("removing a link removes its children");
            link.say(LinkDatagram::Head(head), &mut io.outbox);
            counts.heads_sent += 1;
        }
    }
    false
}
