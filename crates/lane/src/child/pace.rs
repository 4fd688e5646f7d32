//! What is sent later than it came: from the cache, by the cursor of an egress that is behind.
//!
//! ```text
//!                  ┌──────────── the flow's cache ────────────┐
//!                  │ group ▮▮▮ ▮▮▮ ▮▮▮ ▮▮▮ ▮▮▮ ▮▮▮ ▮▮▮ newest │
//!   newcomer ──────┴─▲─ cursor: in turn with others, a quarter of the interface's rate (`newcomers`)
//!   held ───────────────────▲─ cursor: as its bucket fills (`bucket`), 200 ms at most (`backlog`)
//!   live ───────────────────────────────────────────────────▲  sent as it comes: `flow::egress`, not here
//! ```
//!
//! What waits, waits in the cache, once for all. What is given up is said to the child as GONE (`withheld`). Where the cache
//! has let go of what a cursor would have come to, it goes on with the next group; where the flow has a hole, it passes it, and
//! the repair follows when it comes. Relays do not re-pace: whoever keeps to what was admitted is never held. Not who is an
//! egress, and not what was lost: `repair`. Called by the lane (joins, timers) and by `forward::hand_on` through it. Invariant:
//! whoever is a newcomer stands in the row of one interface, once, and nothing goes back to where it came from.

use std::time::Duration;

use levada_wire::datagram::link::{Head, LinkDatagram, Numbers};
use levada_wire::{Instant, LinkIndex, Number};

use crate::api::{Egress, Late};
use crate::child::{Behind, Why, earliest};
use crate::flow::Flow;
use crate::ledger::DropReason;
use crate::limits::{CONTINUE_AFTER, GONE_INTERVAL, GONES_MAX, PACE_ROOM_MIN};
use crate::repair::numbers::pack;
use crate::state::{Io, State};

use super::behind;
use super::queue::{Newcomer, Turn};

/// What became of the next run of a cursor.
enum Step {
    /// It was sent: that many bytes.
    Sent(usize),
    /// It was not due, or is not sent on purpose.
    Passed,
    /// There is none: the egress is live.
    CaughtUp,
}

/// A new egress, or one whose group can be joined after all: first it is sent the newest group that is cached.
pub(crate) fn join(flow: &mut Flow, io: &mut Io, link: LinkIndex, now: Instant) {
    let source = io.links.get(link).and_then(|link| link.source);
    let join_point = flow.cache.join_point();
    let Some((egress, start)) = flow.egresses.get_mut(link).zip(join_point) else {
        return turn_away(flow, io, link);
    };
    let not_before = egress.sums.joins.ready_at();
    let newcomer = Newcomer::new(flow.id, link, egress.peak(), not_before);
    if !io.newcomers.add(source, newcomer, now) {
        return turn_away(flow, io, link);
    }
    egress.behind = Some(Behind::at(start, Why::Waits));
}

/// A newcomer that cannot be sent the newest group gets what comes. If there is one, it is told that it cannot join it.
fn turn_away(flow: &mut Flow, io: &mut Io, link: LinkIndex) {
    let Some(egress) = flow.egresses.get_mut(link) else {
        return; // it left
    };
    egress.behind = None;
    let unjoinable = flow.unjoinable_group();
    let Some(group) = unjoinable.or_else(|| flow.cache.join_point()) else {
        return;
    };
    flow.waiting
        .retain(|&(other, of)| other != link && of == group);
    if unjoinable.is_some() {
        flow.waiting.push((link, group));
    }
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

/// Lets the join point follow what was given up and what came late; newcomers that waited for it are sent the group.
pub(crate) fn judge_join_point(flow: &mut Flow, io: &mut Io, now: Instant) {
    flow.judge_join_point();
    let Some(joined) = flow.cache.join_point().filter(|_| !flow.waiting.is_empty()) else {
        return;
    };
    for (newcomer, group) in std::mem::take(&mut flow.waiting) {
        if group == joined {
            join(flow, io, newcomer, now);
        }
    }
}

/// Sends newcomers what they are due by now, each in turn.
pub(crate) fn serve_newcomers(state: &mut State, now: Instant) {
    loop {
        if state.io.outbox.room() < PACE_ROOM_MIN {
            return state.io.newcomers.put_off(now + CONTINUE_AFTER);
        }
        let Some(turn) = state.io.newcomers.turn(now) else {
            return;
        };
        let flow = state.flow(turn.newcomer.flow);
        match flow.and_then(|(flow, io)| serve(flow, io, turn, now)) {
            Some(bytes) => state.io.newcomers.sent(turn, bytes, now),
            None => state.io.newcomers.done(turn),
        }
    }
}

/// Sends the newcomer whose turn it is one run; `None` if it is no newcomer any more.
fn serve(flow: &mut Flow, io: &mut Io, turn: Turn, now: Instant) -> Option<usize> {
    let link = turn.newcomer.link;
    if !begin(flow, link) {
        turn_away(flow, io, link);
        return None;
    }
    let next = flow.egresses.next;
    let egress = flow.egresses.get_mut(link)?;
    let lost = behind::skip_what_is_lost(egress, &flow.cache, next, now);
    let skipped = DropReason::Skipped;
    flow.counters.withhold(skipped, lost, &mut io.ledger);
    if let Some(behind) = egress.behind.as_mut().filter(|it| it.why == Why::Joins)
        && behind.is_far_as_ever(next)
    {
        behind.why = Why::Held; // from now on at its own expense
    }
    flow.egresses.wake = earliest(egress.wake(), flow.egresses.wake);
    io.touched.push(flow.id); // it is live now, or has GONE to be said
    while flow.egresses.is_behind(link, Why::Joins) {
        match step(flow, io, link, now) {
            Step::Sent(bytes) => return Some(bytes),
            Step::Passed | Step::CaughtUp => {}
        }
    }
    let wake = flow.egresses.get_mut(link)?.wake();
    flow.egresses.wake = earliest(wake, flow.egresses.wake);
    None
}

/// A newcomer that waited begins with what is the newest group now; `false` if there is none.
fn begin(flow: &mut Flow, link: LinkIndex) -> bool {
    let join_point = flow.cache.join_point();
    let egress = flow.egresses.get_mut(link);
    let behind = egress.and_then(|egress| egress.behind.as_mut());
    let Some(behind) = behind.filter(|behind| behind.why == Why::Waits) else {
        return true; // it has begun
    };
    if let Some(start) = join_point {
        *behind = Behind::at(start, Why::Joins);
    }
    join_point.is_some()
}

/// Packets did not go out, since the way there was full for too long: whoever was to have them hears GONE.
pub(crate) fn on_late(state: &mut State, late: &Late, now: Instant) {
    let Some((flow, io)) = state.flow(late.flow) else {
        return;
    };
    let missed = (late.first, late.end);
    let is_known = match late.egress {
        Egress::Link(link) => miss(flow, io, link, missed, now),
        Egress::Channel(group) => flow.multicast.withhold(&group, missed, now),
    };
    if is_known {
        flow.counters.withheld += late.end.since(late.first);
        io.touched.push(flow.id);
    }
}

/// An egress is sent nothing more up to the next group, unless that is on its way already; `false` if there is none.
fn miss(
    flow: &mut Flow,
    io: &mut Io,
    link: LinkIndex,
    missed: (Number, Number),
    now: Instant,
) -> bool {
    let is_on_its_way = flow.cache.newest_group().is_some_and(|it| it >= missed.1);
    let next = flow.egresses.next;
    let Some(egress) = flow.egresses.get_mut(link) else {
        return false;
    };
    egress.withhold(missed, now, Duration::ZERO);
    match egress.behind.map(|behind| behind.why) {
        _ if is_on_its_way => {}
        None => {
            let (start, behind) = (Number::ZERO, Behind::at(next, Why::Skips));
            egress.behind = Some(Behind { start, ..behind });
        }
        Some(Why::Held) => {
            let skipped = behind::skip(egress, &flow.cache, next, now);
            let ledger = &mut io.ledger;
            flow.counters.withhold(DropReason::Skipped, skipped, ledger);
        }
        Some(Why::Waits | Why::Joins | Why::Skips) => {}
    }
    flow.egresses.wake = Some(now);
    true
}

/// Tells the members of groups what did not go there, if it is time to; says whether there was no room to do so.
pub(crate) fn tell_members(flow: &mut Flow, io: &mut Io, now: Instant) -> bool {
    while let Some((gone, members)) = flow.multicast.unsaid(now) {
        if io.outbox.room() <= members.len() * GONES_MAX as usize {
            return true;
        }
        let gone = pack(flow.id, &gone.take_unsaid(now));
        for &member in members {
            let link = io.links.get_mut(member);
            let link = link.expect("removing a link removes its memberships");
            for numbers in &gone {
                io.ledger.repair.gones_pushed += 1;
                link.say(LinkDatagram::Gone(numbers.clone()), &mut io.outbox);
            }
        }
    }
    false
}

/// Does what is due for the egresses of a flow that are behind. Says whether there was no room to do all.
pub(crate) fn drive(flow: &mut Flow, io: &mut Io, now: Instant) -> bool {
    if flow.egresses.wake.is_none_or(|at| at > now) {
        return false;
    }
    flow.egresses.wake = None;
    let mut has_more = false;
    for place in 0..flow.egresses.len() {
        let link = flow.egresses.all[place].link;
        if flow.egresses.all[place].wake().is_some() {
            has_more |= pump(flow, io, link, now);
        }
        let wake = flow.egresses.all[place].wake();
        flow.egresses.wake = earliest(flow.egresses.wake, wake);
    }
    has_more
}

/// Sends what an egress that is held may be sent by now, gives up what is too much, and says what is gone.
fn pump(flow: &mut Flow, io: &mut Io, link: LinkIndex, now: Instant) -> bool {
    let next = flow.egresses.next;
    if let Some(egress) = flow.egresses.get_mut(link) {
        let given_up = behind::relieve(egress, &flow.cache, next, now);
        let (shed, skipped) = (given_up.shed, given_up.skipped);
        let (counters, ledger) = (&mut flow.counters, &mut io.ledger);
        counters.withhold(DropReason::Shed, shed, ledger);
        counters.withhold(DropReason::Skipped, skipped, ledger);
    }
    if io.outbox.room() < PACE_ROOM_MIN {
        return true;
    }
    say_gone(flow, io, link, now);
    say_head(flow, io, link, now);
    while flow.egresses.may_go_on(link, now) {
        if io.outbox.room() < PACE_ROOM_MIN {
            return true;
        }
        step(flow, io, link, now);
    }
    false
}

/// Tells a child what it is not sent on purpose, if it is time to.
fn say_gone(flow: &mut Flow, io: &mut Io, link: LinkIndex, now: Instant) {
    let egress = flow.egresses.get_mut(link);
    let withheld = egress.and_then(|egress| egress.withheld.as_mut());
    let gone = withheld.map(|withheld| withheld.take_unsaid(now));
    let link = io.links.get_mut(link);
    let link = link.expect("removing a link removes its egresses");
    for numbers in pack(flow.id, &gone.unwrap_or_default()) {
        io.ledger.repair.gones_pushed += 1;
        link.say(LinkDatagram::Gone(numbers), &mut io.outbox);
    }
}

/// Tells a child the highest number, if it is time to and nobody else is told.
fn say_head(flow: &mut Flow, io: &mut Io, link: LinkIndex, now: Instant) {
    let is_said = flow.tail.says(flow.egresses.next);
    let Some(egress) = flow.egresses.get_mut(link) else {
        return;
    };
    let highest = egress.tail.as_mut().and_then(|tail| tail.head(now));
    egress
        .tail
        .take_if(|tail| is_said || tail.timer().is_none());
    if let Some((highest, link)) = highest.zip(io.links.get_mut(link)) {
        io.ledger.repair.heads_sent += 1;
        let head = LinkDatagram::Head(Head {
            flow: flow.id,
            highest,
        });
        link.say(head, &mut io.outbox);
    }
}

/// Takes a cursor past the next run, which is sent if it is due.
fn step(flow: &mut Flow, io: &mut Io, link: LinkIndex, now: Instant) -> Step {
    let next = flow.egresses.next;
    let Some(egress) = flow.egresses.get_mut(link) else {
        return Step::CaughtUp;
    };
    let cursor = egress.behind.map_or(Number::ZERO, |behind| behind.cursor);
    let Some(run) = flow.cache.next_from(cursor) else {
        egress.behind = None;
        if !flow.tail.says(next) {
            // What it was sent last may have been lost, long after the others were told the highest number.
            egress.tail.get_or_insert_default().sent(next, now);
        }
        return Step::CaughtUp;
    };
    if let Some(behind) = &mut egress.behind {
        behind.cursor = run.end();
    }
    let (packets, bytes) = (run.packets() as u64, run.bytes.len());
    if egress.has_withheld(run.first) {
        return Step::Passed; // counted when that was decided
    }
    if egress.has_withheld(run.burst) {
        // The rest of a burst that was shed.
        let shed = DropReason::Shed;
        flow.counters.withhold(shed, packets, &mut io.ledger);
        egress.withhold((run.first, run.end()), now, GONE_INTERVAL);
        return Step::Passed;
    }
    if flow.upstreams.has_brought(link, run.first) {
        io.ledger.drop_copies(DropReason::BackToSender, packets);
        return Step::Passed;
    }
    match egress.behind.map(|behind| behind.why) {
        Some(Why::Joins) => egress.sums.joins.take(bytes, now),
        _ => egress.sums.live.take(bytes, now),
    }
    let link = io.links.get_mut(link);
    let link = link.expect("removing a link removes its egresses");
    let (counters, ledger) = (&mut flow.counters, &mut io.ledger);
    link.send(&run, &mut io.outbox, ledger, counters);
    Step::Sent(bytes)
}
