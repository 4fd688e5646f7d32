//! What a lane does for each command of the node.
//!
//! Not whether it is right: the core decided. A command that names what is not here, or one more than a limit
//! allows, is counted and changes nothing, since commands and packets race. Called by the lane. Invariant: after
//! each command both ledgers still sum to zero and no egress or upstream names a link that is gone.

use levada_wire::lane::FlowEvent;
use levada_wire::packet::seal::Opener;
use levada_wire::{FlowId, Frame, Instant, LinkIndex, Number, WallTime};

use crate::api::{Command, FlowCommand, FrameRefusal, LinkCommand, Originate, PublisherCommand};
use crate::child::join;
use crate::flow::Flow;
use crate::ledger::DropReason;
use crate::limits::PEAK_UNTOLD;
use crate::link::Link;
use crate::origin::Origin;
use crate::reassembly::Reassembly;
use crate::state::{Io, State};

/// Applies a command. See [`Command`] for what each means.
pub(super) fn apply(state: &mut State, command: Command, now: Instant) {
    let is_done = match command {
        Command::Link(link, command) => apply_to_link(state, link, command, now),
        Command::Flow(flow, command) => apply_to_flow(state, flow, command, now),
        Command::Publisher(flow, command) => apply_to_origin(state, flow, command, now),
    };
    if !is_done {
        state.io.commands_refused += 1;
    }
}

fn apply_to_link(state: &mut State, link: LinkIndex, command: LinkCommand, now: Instant) -> bool {
    let io = &mut state.io;
    match command {
        LinkCommand::Add {
            remote_index,
            remote,
            source,
            path,
            send,
            receive,
        } => {
            if io.links.contains(link) {
                io.links.move_to(link, remote, (source, path));
                join::move_link(state, link, path, now);
                return true;
            }
            if io.links.len() >= io.settings.links_max {
                return false;
            }
            let counts = io.totals.counts(link, usize::from(io.outbox.lane));
            let new =
                Link::new(link, remote, remote_index, &send, &receive).sent_from(source, path);
            io.links.insert(new.counted(counts, io.overflow));
            true
        }
        LinkCommand::Remove => join::remove_link(state, link, now),
        LinkCommand::Send(message) => {
            let Some(link) = io.links.get_mut(link) else {
                return false;
            };
            link.say(message, &mut io.outbox);
            true
        }
    }
}

fn apply_to_flow(state: &mut State, id: FlowId, command: FlowCommand, now: Instant) -> bool {
    match command {
        FlowCommand::Open => open(state, id).is_some(),
        FlowCommand::SetCarryKey { epoch, key } => with_flow(state, id, |flow, _| {
            flow.keys.set(epoch, key);
            true
        }),
        FlowCommand::AddUpstream(link) => with_flow(state, id, |flow, io| {
            if !flow.upstreams.is_delivering() {
                flow.missing.join();
            }
            io.links.contains(link) && flow.upstreams.add(link)
        }),
        FlowCommand::RemoveUpstream(link) => with_flow(state, id, |flow, _| {
            flow.line.retire(link);
            flow.upstreams.retire(link)
        }),
        FlowCommand::Join(channel) => with_flow(state, id, |flow, io| {
            flow.hearing.clear();
            io.joined.join(id, channel, &mut io.outbox)
        }),
        FlowCommand::Leave(channel) => with_flow(state, id, |_, io| {
            io.joined.leave(id, channel, &mut io.outbox)
        }),
        FlowCommand::Reach(_)
        | FlowCommand::Compare(_)
        | FlowCommand::Begin(_)
        | FlowCommand::AddEgress(..)
        | FlowCommand::MoveEgress(..)
        | FlowCommand::RemoveEgress(_) => apply_to_hop(state, id, &command, now),
        FlowCommand::AddChannel { channel, lifetime } => with_flow(state, id, |flow, _| {
            flow.multicast.renew(channel, now + lifetime)
        }),
        FlowCommand::RemoveChannel(channel) => with_flow(state, id, |flow, _| {
            join::end_channel(flow, channel, now);
            flow.multicast.remove(&channel)
        }),
        FlowCommand::AddMember { channel, link } => with_flow(state, id, |flow, io| {
            join::add_member(flow, io, channel, link)
        }),
        FlowCommand::RemoveMember { channel, link } => with_flow(state, id, |flow, _| {
            join::remove_member(flow, channel, link, now)
        }),
        FlowCommand::SetPeak(peak) => state
            .flow(id)
            .map(|(flow, io)| flow.set_peak(peak, &mut io.room))
            .is_some(),
        FlowCommand::SetBudget(budget) => with_flow(state, id, |flow, _| {
            flow.set_budget(budget.time());
            true
        }),
        FlowCommand::Consume {
            instance,
            suite,
            epoch,
            secret,
        } => consume(state, id, epoch, Opener::new(secret, id, instance, suite)),
        FlowCommand::StopConsuming => {
            with_flow(state, id, |flow, _| flow.consumer.take().is_some())
        }
        FlowCommand::Originate(originate) => originate_flow(state, id, &originate),
        FlowCommand::Close => close(state, id, now),
    }
}

/// What goes from hop to hop: where the flow begins and goes on here and at others.
fn apply_to_hop(state: &mut State, id: FlowId, command: &FlowCommand, now: Instant) -> bool {
    match *command {
        FlowCommand::Reach(link) => {
            let flow = state.flows.get_mut(id);
            let have = flow.and_then(|flow| has_up_to(flow, link));
            let reached = FlowEvent::Reached { link, have };
            state.io.outbox.tell_flow(id, reached);
            true
        }
        FlowCommand::Compare(link) => with_flow(state, id, |flow, _| {
            let goal = flow.missing.next().unwrap_or(Number::ZERO);
            flow.upstreams.compare(link, goal)
        }),
        FlowCommand::Begin(number) => with_flow(state, id, |flow, _| {
            flow.missing.begin_at(number);
            true
        }),
        FlowCommand::AddEgress(link, terms) => with_flow(state, id, |flow, io| {
            join::add(flow, io, (link, terms), None, now)
        }),
        FlowCommand::MoveEgress(link, terms, has) => with_flow(state, id, |flow, io| {
            join::add(flow, io, (link, terms), Some(has), now)
        }),
        FlowCommand::RemoveEgress(link) => {
            with_flow(state, id, |flow, io| join::remove(flow, io, link, now))
        }
        _ => false,
    }
}

fn apply_to_origin(state: &mut State, id: FlowId, command: PublisherCommand, now: Instant) -> bool {
    match command {
        PublisherCommand::Push { frame, wall } => {
            push(state, id, &frame, wall, now);
            true
        }
        PublisherCommand::Describe(description) => with_flow(state, id, |flow, _| {
            let origin = flow.origin.as_mut();
            origin.is_some_and(|origin| origin.describe(description))
        }),
        PublisherCommand::Finish => with_flow(state, id, |flow, _| {
            flow.tail.finish();
            let origin = flow.origin.as_mut();
            origin.map(|origin| origin.finish(now)).is_some()
        }),
    }
}

/// What the peer of a link is told that a flow has here: all that came, if somebody else delivers, who is asked for
/// what is missing; else what is missing is to come over that link too.
fn has_up_to(flow: &Flow, link: LinkIndex) -> Option<Number> {
    let next = flow.missing.next();
    let is_other = |(live, _): (LinkIndex, Instant)| live != link;
    if flow.upstreams.live().any(is_other) {
        return next;
    }
    flow.missing.first().or(next).min(next)
}

/// Does something to a flow that must be driven afterwards; `false` if it is not here.
fn with_flow(state: &mut State, id: FlowId, act: impl FnOnce(&mut Flow, &mut Io) -> bool) -> bool {
    state.io.touched.push(id);
    let flow = state.flow(id);
    flow.is_some_and(|(flow, io)| act(flow, io))
}

/// The flow, opened now if it was not before; `None` at the limit.
fn open(state: &mut State, id: FlowId) -> Option<&mut Flow> {
    let State { flows, io } = state;
    if flows.get_mut(id).is_none() {
        if flows.len() >= io.settings.flows_max {
            return None;
        }
        let mut flow = Flow::new(id, &io.settings);
        io.closed.forget(id);
        flow.set_peak(PEAK_UNTOLD, &mut io.room);
        flows.insert(id, flow);
    }
    flows.get_mut(id)
}

fn close(state: &mut State, id: FlowId, now: Instant) -> bool {
    let State { flows, io } = state;
    let Some(mut flow) = flows.remove(id) else {
        return false;
    };
    let early = flow.early.len() as u64;
    io.ledger.held -= early;
    io.ledger.drop_packets(DropReason::FlowClosed, early);
    flow.cache.clear(&mut io.room);
    io.queue.remove(now, |flow, _| flow == id);
    io.joined.forget(id, &mut io.outbox);
    io.closed.insert(id, flow.keys, flow.upstreams, now);
    true
}

fn originate_flow(state: &mut State, id: FlowId, originate: &Originate) -> bool {
    // A second start under one flow would seal its numbers twice: an instance starts once.
    let is_origin = |flow: &mut Flow| flow.origin.is_some();
    if state.flows.get_mut(id).is_some_and(is_origin) {
        return false;
    }
    let Some(origin) = Origin::new(id, originate) else {
        return false;
    };
    let Some(flow) = open(state, id) else {
        return false;
    };
    flow.keys.set(originate.epoch, originate.carry.clone());
    flow.origin = Some(Box::new(origin));
    state.io.touched.push(id);
    true
}

fn push(state: &mut State, id: FlowId, frame: &Frame, wall: WallTime, now: Instant) {
    let flow = state.flows.get_mut(id);
    let result = match flow.and_then(|flow| flow.origin.as_mut()) {
        Some(origin) => origin.push(frame, wall, now),
        None => Err(FrameRefusal::NotOriginated),
    };
    if let Err(reason) = result {
        *state.io.frames_refused.entry(reason).or_insert(0) += 1;
    }
    state.io.touched.push(id);
}

/// Starts a consumer at the join point, or gives a running one another epoch's key.
fn consume(state: &mut State, id: FlowId, epoch: u8, opener: Opener) -> bool {
    with_flow(state, id, |flow, _| {
        if let Some(consumer) = &mut flow.consumer {
            consumer.add_opener(epoch, opener);
            return true;
        }
        let mut consumer = Reassembly::new();
        consumer.add_opener(epoch, opener);
        for run in flow.cache.join() {
            consumer.push(run);
        }
        flow.consumer = Some(Box::new(consumer));
        true
    })
}
