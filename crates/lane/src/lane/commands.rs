//! What a lane does for each command of the node.
//!
//! Not whether it is right: the core decided. A command that names what is not here, or one more than a limit
//! allows, is counted and changes nothing, since commands and packets race. Called by the lane. Invariant: after
//! each command both ledgers still sum to zero and no egress or upstream names a link that is gone.

use std::sync::Arc;

use levada_wire::packet::seal::Opener;
use levada_wire::{Bitrate, FlowId, Frame, Instant, LinkIndex, WallTime};

use super::State;
use crate::api::{Command, EgressTerms, Originate};
use crate::flow::Flow;
use crate::ledger::DropReason;
use crate::limits::{EGRESSES_MAX, PEAK_UNTOLD};
use crate::link::Link;
use crate::origin::{FrameRefusal, Origin};
use crate::pace;
use crate::reassembly::Reassembly;

/// Applies a command. See [`Command`] for what each means.
pub(super) fn apply(state: &mut State, command: Command, now: Instant) {
    let is_done = match command {
        Command::AddLink { .. } | Command::RemoveLink { .. } | Command::SendDatagram { .. } => {
            apply_to_link(state, command, now)
        }
        Command::Originate(originate) => originate_flow(state, &originate),
        Command::Push { flow, frame, wall } => {
            push(state, flow, &frame, wall, now);
            true
        }
        Command::Consume { .. } => consume(state, command),
        Command::Hear { .. }
        | Command::StopHearing { .. }
        | Command::AddMulticastEgress { .. }
        | Command::RemoveMulticastEgress { .. }
        | Command::AddMember { .. }
        | Command::RemoveMember { .. } => apply_to_multicast(state, command, now),
        _ => apply_to_flow(state, command, now),
    };
    if !is_done {
        state.commands_refused += 1;
    }
}

fn apply_to_link(state: &mut State, command: Command, now: Instant) -> bool {
    match command {
        Command::AddLink {
            link,
            remote_index,
            remote,
            source,
            send,
            receive,
        } => {
            if state.links.contains(link) {
                state.links.move_to(link, remote, source);
                return true;
            }
            if state.links.len() >= state.settings.links_max {
                return false;
            }
            let counts = state.totals.counts(link, usize::from(state.number));
            let new = Link::new(remote, remote_index, &send, &receive).sent_from(source);
            state.links.insert(link, new.counted(counts));
            true
        }
        Command::RemoveLink { link } => {
            for flow in state.flows.values_mut() {
                flow.egresses.forget(link);
                flow.multicast.forget(link);
                flow.forget_child(link);
                flow.server.forget(link);
                flow.upstreams.remove(link);
            }
            state.newcomers.remove(now, |_, other| other == link);
            state.closed.remove_link(link);
            state.links.remove(link)
        }
        Command::SendDatagram { link, message } => {
            let Some(link) = state.links.get_mut(link) else {
                return false;
            };
            link.say(state.number, message, &mut state.outbox);
            true
        }
        _ => false,
    }
}

fn apply_to_flow(state: &mut State, command: Command, now: Instant) -> bool {
    match command {
        Command::OpenFlow { flow } => open(state, flow).is_some(),
        Command::SetCarryKey { flow, epoch, key } => with_flow(state, flow, |flow| {
            flow.keys.set(epoch, key);
            true
        }),
        Command::AddUpstream { flow, link } => {
            let is_link = state.links.contains(link);
            with_flow(state, flow, |flow| {
                if !flow.upstreams.is_delivering() {
                    flow.missing.join();
                }
                is_link && flow.upstreams.add(link)
            })
        }
        Command::RemoveUpstream { flow, link } => {
            with_flow(state, flow, |flow| flow.upstreams.retire(link))
        }
        Command::AddEgress { flow, link, terms } => add_egress(state, flow, link, terms, now),
        Command::SetPeak { flow, peak } => set_peak(state, flow, peak),
        Command::SetBudget { flow, budget } => with_flow(state, flow, |flow| {
            flow.set_budget(budget);
            true
        }),
        Command::RemoveEgress { flow: id, link } => {
            let leaves = |flow, other| (flow, other) == (id, link);
            state.newcomers.remove(now, leaves);
            with_flow(state, id, |flow| {
                flow.forget_child(link);
                flow.egresses.remove(link, now)
            })
        }
        Command::StopConsuming { flow } => {
            with_flow(state, flow, |flow| flow.consumer.take().is_some())
        }
        Command::Describe { flow, description } => with_flow(state, flow, |flow| {
            let origin = flow.origin.as_mut();
            origin.is_some_and(|origin| origin.describe(Arc::clone(&description)))
        }),
        Command::Finish { flow } => with_flow(state, flow, |flow| {
            flow.tail.finish();
            let origin = flow.origin.as_mut();
            origin.map(|origin| origin.finish(now)).is_some()
        }),
        Command::CloseFlow { flow } => close(state, flow, now),
        _ => false,
    }
}

fn apply_to_multicast(state: &mut State, command: Command, now: Instant) -> bool {
    match command {
        Command::AddMulticastEgress {
            flow,
            group,
            lifetime,
        } => with_flow(state, flow, |flow| {
            flow.multicast.renew(group, now + lifetime)
        }),
        Command::RemoveMulticastEgress { flow, group } => {
            with_flow(state, flow, |flow| flow.multicast.remove(&group))
        }
        Command::AddMember { flow, group, link } => {
            let is_link = state.links.contains(link);
            with_flow(state, flow, |flow| {
                is_link && flow.multicast.add_member(&group, link)
            })
        }
        Command::RemoveMember { flow, group, link } => with_flow(state, flow, |flow| {
            flow.multicast.remove_member(&group, link)
        }),
        // The worker does these: a lane knows no socket.
        Command::Hear { flow, .. } | Command::StopHearing { flow, .. } => {
            state.flows.get_mut(flow).is_some()
        }
        _ => false,
    }
}

/// Does something to a flow that must be driven afterwards; `false` if it is not here.
fn with_flow(state: &mut State, id: FlowId, act: impl FnOnce(&mut Flow) -> bool) -> bool {
    state.touched.push(id);
    state.flows.get_mut(id).is_some_and(act)
}

/// The flow, opened now if it was not before; `None` at the limit.
fn open(state: &mut State, id: FlowId) -> Option<&mut Flow> {
    if state.flows.get_mut(id).is_none() {
        if state.flows.len() >= state.settings.flows_max {
            return None;
        }
        let mut flow = Flow::new(id, &state.settings);
        state.closed.forget(id);
        flow.cache.set_peak(PEAK_UNTOLD, &mut state.cache_room);
        state.flows.insert(id, flow);
    }
    state.flows.get_mut(id)
}

fn close(state: &mut State, id: FlowId, now: Instant) -> bool {
    let Some(mut flow) = state.flows.remove(id) else {
        return false;
    };
    let early = flow.early.len() as u64;
    state.ledger.held -= early;
    state.ledger.drop_packets(DropReason::FlowClosed, early);
    flow.cache.clear(&mut state.cache_room);
    state.newcomers.remove(now, |flow, _| flow == id);
    state.closed.insert(id, &mut flow, now);
    true
}

fn set_peak(state: &mut State, id: FlowId, peak: Bitrate) -> bool {
    let Some(flow) = state.flows.get_mut(id) else {
        return false;
    };
    flow.cache.set_peak(peak, &mut state.cache_room);
    true
}

fn add_egress(
    state: &mut State,
    id: FlowId,
    link: LinkIndex,
    terms: EgressTerms,
    now: Instant,
) -> bool {
    let is_link = state.links.contains(link);
    let mut is_new = false;
    let is_done = with_flow(state, id, |flow| {
        if flow.egresses.set_terms(link, terms) {
            return true;
        }
        is_new = is_link && flow.egresses.len() < EGRESSES_MAX;
        if is_new {
            flow.egresses.add(link, terms);
        }
        is_new
    });
    if is_new {
        pace::join(state, id, link, now);
    }
    is_done
}

fn originate_flow(state: &mut State, originate: &Originate) -> bool {
    let id = originate.flow;
    // A second start under one flow would seal its numbers twice: an instance starts once.
    if state
        .flows
        .get_mut(id)
        .is_some_and(|flow| flow.origin.is_some())
    {
        return false;
    }
    let Some(origin) = Origin::new(originate) else {
        return false;
    };
    let Some(flow) = open(state, id) else {
        return false;
    };
    flow.keys.set(originate.epoch, originate.carry.clone());
    flow.origin = Some(Box::new(origin));
    state.touched.push(id);
    true
}

fn push(state: &mut State, id: FlowId, frame: &Frame, wall: WallTime, now: Instant) {
    let flow = state.flows.get_mut(id);
    let result = match flow.and_then(|flow| flow.origin.as_mut()) {
        Some(origin) => origin.push(frame, wall, now),
        None => Err(FrameRefusal::NotOriginated),
    };
    if let Err(reason) = result {
        *state.frames_refused.entry(reason).or_insert(0) += 1;
    }
    state.touched.push(id);
}

/// Starts a consumer at the join point, or gives a running one another epoch's key.
fn consume(state: &mut State, command: Command) -> bool {
    let Command::Consume {
        flow: id,
        instance,
        suite,
        epoch,
        secret,
    } = command
    else {
        return false;
    };
    with_flow(state, id, |flow| {
        let opener = Opener::new(secret, id, instance, suite);
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
