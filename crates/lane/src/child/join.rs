//! How a child comes and goes.
//!
//! ```text
//!   AddEgress ─▶ is there a group that can be joined?
//!                  ├─ yes: Queued at its interface ─ its turn ─▶ CatchingUp: the group, run by run, in turn with
//!                  │       others ─▶ Live
//!                  └─ no:  Live: it gets what comes, hears GONE of the group's start, and is queued if the group can
//!                          be joined after all while it is live still
//!   MoveEgress ─▶ what follows on what it has goes out within 200 ms?
//!                  ├─ yes: Throttled from there on, beside the row of newcomers ─▶ Live
//!                  └─ no:  Queued, to begin there
//! ```
//!
//! A newcomer is sent the newest group that is cached before it is live. Whoever comes no nearer to the end of the flow
//! goes on at its own expense, throttled. Not whom to take: the core decides. Not whose turn it is: `queue.rs`. Called
//! for commands, and by the lane when a turn or a judgement is due. Invariant: whoever is `Queued` or `CatchingUp`
//! stands in the queue of one interface, once; what a link's peer is sent ends with the link.

use std::time::Duration;

use levada_wire::datagram::link::{LinkDatagram, Numbers};
use levada_wire::lane::Path;
use levada_wire::{FlowId, Instant, LinkIndex, Number};

use super::Child;
use super::moved::Moved;
use super::pace::{self, Step};
use super::progress::{Progress, Round};
use super::queue::{Newcomer, Queue, Turn};
use crate::api::{Channel, EgressTerms};
use crate::flow::Flow;
use crate::ledger::DropReason;
use crate::limits::{BACKLOG_MAX, CONTINUE_AFTER, EGRESSES_MAX, GO_ALONG_MAX, PACE_ROOM_MIN};
use crate::link::SourceAddress;
use crate::state::{Io, State};

/// Sends the flow over a link, on from what its peer has if it has something; only the terms count if it is sent
/// already. `false` if there is no such link, or too many.
pub(crate) fn add(
    flow: &mut Flow,
    io: &mut Io,
    (link, terms): (LinkIndex, EgressTerms),
    has: Option<Number>,
    now: Instant,
) -> bool {
    if flow.children.set_terms(link, terms) {
        return true;
    }
    if !io.links.contains(link) || flow.children.egresses() >= EGRESSES_MAX {
        return false;
    }
    let place = flow.children.add(link, terms);
    let path = io.links.get(link).map_or(Path::Unknown, |link| link.path);
    flow.children.all[place].set_path(path, now);
    match has {
        Some(has) => go_on(flow, io, place, has, now),
        None => queue(flow, io, place, now),
    }
    true
}

/// A child that moved here goes on behind what it has.
fn go_on(flow: &mut Flow, io: &mut Io, place: usize, has: Number, now: Instant) {
    let child = &mut flow.children.all[place];
    child.moved = Some(Moved::new(has, now));
    let cursor = has.max(flow.cache.dropped());
    if has < cursor {
        child.withhold((has, cursor), now, Duration::ZERO);
    }
    let bytes = flow.cache.from(cursor).map(|run| run.bytes.len()).sum();
    if let Some(pacer) = &mut child.pacer {
        pacer.hasten(bytes);
    }
    if child.buckets.live.time_for(bytes, now) > BACKLOG_MAX {
        queue(flow, io, place, now);
    } else {
        child.progress = Progress::Throttled { start: has, cursor };
    }
    flow.children.wake = Some(now);
}

/// Where a child begins that waits for its turn.
fn beginning(flow: &Flow, place: usize) -> Option<Number> {
    let moved = flow.children.all[place].moved;
    let goes_on = moved.map(|moved| moved.has().max(flow.cache.dropped()));
    goes_on.or_else(|| flow.cache.join_point())
}

/// A link's peer has moved: another path lies between.
pub(crate) fn move_link(state: &mut State, link: LinkIndex, path: Path, now: Instant) {
    for flow in state.flows.values_mut() {
        if let Some(child) = flow.children.get_mut(link) {
            child.set_path(path, now);
        }
    }
}

/// Sends it no more; `false` if it was not sent.
pub(crate) fn remove(flow: &mut Flow, io: &mut Io, link: LinkIndex, now: Instant) -> bool {
    let id = flow.id;
    io.queue
        .remove(now, |flow, other| (flow, other) == (id, link));
    flow.children.remove(link, flow.counters.packets_in, now)
}

/// A link's peer hears a channel to which the flow is sent.
pub(crate) fn add_member(flow: &mut Flow, io: &Io, channel: Channel, link: LinkIndex) -> bool {
    let is_sent = flow.multicast.has(&channel) && io.links.contains(link);
    is_sent && flow.children.add_member(channel, link)
}

/// It hears the channel no more.
pub(crate) fn remove_member(
    flow: &mut Flow,
    channel: Channel,
    link: LinkIndex,
    now: Instant,
) -> bool {
    let packets = flow.counters.packets_in;
    flow.children.remove_member(channel, link, packets, now)
}

/// The flow is not sent to a channel any more.
pub(crate) fn end_channel(flow: &mut Flow, channel: Channel, now: Instant) {
    let packets = flow.counters.packets_in;
    flow.children.end_channel(channel, packets, now);
}

/// A link is no more: its peer is nobody's child and nobody's upstream. `false` if there was none.
pub(crate) fn remove_link(state: &mut State, link: LinkIndex, now: Instant) -> bool {
    let State { flows, io } = state;
    for flow in flows.values_mut() {
        flow.children.forget(link);
        flow.upstreams.remove(link);
        flow.line.retire(link);
    }
    io.queue.remove(now, |_, other| other == link);
    io.closed.remove_link(link);
    io.links.remove(link)
}

/// A new child, or one whose group can be joined after all: first it is sent the newest group that is cached.
fn queue(flow: &mut Flow, io: &mut Io, place: usize, now: Instant) {
    let Some(start) = beginning(flow, place) else {
        return turn_away(flow, io, place);
    };
    let child = &mut flow.children.all[place];
    let source = io.links.get(child.link).and_then(|link| link.source);
    let not_before = child.buckets.catch_up.ready_at();
    let newcomer = newcomer(child, flow.id, not_before);
    if !io.queue.add(source, newcomer, now) {
        return turn_away(flow, io, place);
    }
    child.progress = Progress::Queued { start };
}

fn newcomer(child: &Child, flow: FlowId, not_before: Instant) -> Newcomer {
    match child.pacer {
        Some(_) => Newcomer::paced(flow, child.link, not_before),
        None => Newcomer::new(flow, child.link, child.terms().peak, not_before),
    }
}

/// A live child has been sent more than it was admitted with, since the flow comes faster than it was sent: this node
/// is a newcomer itself, and the child is served as one from here on, as far as it may be.
pub(crate) fn go_along(
    child: &mut Child,
    queue: &mut Queue,
    (flow, source): (FlowId, SourceAddress),
    now: Instant,
) {
    let Progress::Throttled { start, cursor } = child.progress else {
        return;
    };
    let newcomer = newcomer(child, flow, now);
    let may_go = child.buckets.catch_up.ready_at() < now + GO_ALONG_MAX;
    if may_go && queue.add(source, newcomer, now) {
        let round = Round::default();
        child.progress = Progress::CatchingUp {
            start,
            cursor,
            round,
        };
    }
}

/// A newcomer that cannot be sent the newest group gets what comes. If there is one, it is told that it cannot join it.
fn turn_away(flow: &mut Flow, io: &mut Io, place: usize) {
    let child = &mut flow.children.all[place];
    let link = child.link;
    child.progress = Progress::Live;
    let unjoinable = flow.unjoinable_group();
    let Some(group) = unjoinable.or_else(|| flow.cache.join_point()) else {
        return;
    };
    flow.children
        .await_group(place, group, unjoinable.is_some());
    if let Some(link) = io.links.get_mut(link) {
        let gone = Numbers {
            flow: flow.id,
            first: group,
            bitmap: Vec::new(),
        };
        io.ledger.repair.gones_pushed += 1;
        link.say(LinkDatagram::Gone(gone), &mut io.outbox);
    }
}

/// Lets the join point follow what was given up and what came late; those that waited for its group are sent that.
pub(crate) fn judge_join_point(flow: &mut Flow, io: &mut Io, now: Instant) {
    flow.judge_join_point();
    let Some(joined) = flow.cache.join_point() else {
        return;
    };
    for place in flow.children.take_awaiting(joined) {
        queue(flow, io, place, now);
    }
}

/// Sends newcomers what they are due by now, each in turn.
pub(crate) fn serve_queue(state: &mut State, now: Instant) {
    loop {
        if state.io.outbox.room() < PACE_ROOM_MIN {
            return state.io.queue.put_off(now + CONTINUE_AFTER);
        }
        let Some(turn) = state.io.queue.turn(now) else {
            return;
        };
        let flow = state.flow(turn.newcomer.flow);
        match flow.and_then(|(flow, io)| serve(flow, io, turn, now)) {
            Some((bytes, then)) => state.io.queue.sent(turn, bytes, then, now),
            None => state.io.queue.done(turn),
        }
    }
}

/// Sends the newcomer whose turn it is one run, and says how many bytes and when it may be sent more; `None` if it is
/// no newcomer any more.
fn serve(flow: &mut Flow, io: &mut Io, turn: Turn, now: Instant) -> Option<(usize, Instant)> {
    let place = flow.children.place_of(turn.newcomer.link)?;
    let (start, next) = (beginning(flow, place), flow.children.next);
    let newest = flow.cache.newest().map(|run| run.sent);
    let (needs, path) = (flow.rate.most(), io.links.known(turn.newcomer.link));
    let child = &mut flow.children.all[place];
    let is_paced = child.pacer.is_some();
    if let Some(pacer) = &mut child.pacer {
        pacer.attend(needs, path, now);
        if !pacer.is_ready(now) {
            return Some((0, pacer.ready_at())); // it was sent repairs since
        }
    }
    if let Progress::Queued { .. } = child.progress {
        let Some(start) = start else {
            turn_away(flow, io, place);
            return None;
        };
        child.progress = catching_up(start);
    }
    let lost = child.skip_what_is_lost(&flow.cache, (next, &flow.rhythm), now);
    flow.counters
        .withhold(DropReason::Skipped, lost, &mut io.ledger);
    if let Progress::CatchingUp {
        start,
        cursor,
        round,
    } = &mut child.progress
        && newest.is_some_and(|sent| round.is_far_as_ever(*cursor, (next, sent), is_paced, now))
    {
        let (start, cursor) = (*start, *cursor);
        child.progress = Progress::Throttled { start, cursor }; // from now on at its own expense
    }
    flow.children.wake_for(place);
    io.touched.push(flow.id); // it is live now, or has GONE to be said
    let is_catching_up = |flow: &Flow| {
        matches!(
            flow.children.all[place].progress,
            Progress::CatchingUp { .. }
        )
    };
    while is_catching_up(flow) {
        if let Step::Sent(bytes) = pace::step(flow, io, place, now) {
            let pacer = flow.children.all[place].pacer.as_ref();
            return Some((bytes, pacer.map_or(now, |pacer| pacer.ready_at())));
        }
    }
    flow.children.wake_for(place);
    None
}

fn catching_up(start: Number) -> Progress {
    Progress::CatchingUp {
        start,
        cursor: start,
        round: Round::default(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use levada_wire::Bitrate;

    use super::*;
    use crate::child::Children;
    use crate::settings::LaneSettings;
    use crate::shared::Shared;

    #[test]
    fn who_goes_along_with_a_flow_that_catches_up_may_owe_only_so_much() {
        let now = Instant::from_nanos(1_000_000_000);
        let settings = LaneSettings::default();
        let mut queue = Queue::new(
            &settings,
            0,
            Shared::new(1, settings.interface_rate).interfaces,
        );
        let mut children = Children::default();
        let terms = EgressTerms {
            peak: Bitrate(8_000_000),
            ..EgressTerms::UNLIMITED
        };
        let place = children.add(LinkIndex(1), terms);
        let child = &mut children.all[place];
        let mut goes = |bytes: usize| {
            let (start, cursor) = (Number::ZERO, Number::ZERO);
            child.progress = Progress::Throttled { start, cursor };
            child.buckets.catch_up.take(bytes, now);
            go_along(child, &mut queue, (FlowId(1), None), now);
            matches!(child.progress, Progress::CatchingUp { .. })
        };

        // Twice the peak is 2 kB a millisecond, of which two seconds are free.
        let free_and_owed = GO_ALONG_MAX.as_millis() + 2_000;
        let most = usize::try_from(free_and_owed).unwrap() * 2_000;
        assert!(goes(0));
        assert!(goes(most - 100_000));
        assert!(!goes(200_000));
    }
}
