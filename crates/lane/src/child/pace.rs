//! What is sent later than it came: from the cache, by the cursor of a child that is behind, as time passes.
//!
//! ```text
//!                     ┌──────────── the flow's cache ────────────┐
//!                     │ group ▮▮▮ ▮▮▮ ▮▮▮ ▮▮▮ ▮▮▮ ▮▮▮ ▮▮▮ newest │
//!   CatchingUp ───────┴─▲─ cursor: in turn with others, a quarter of the interface's rate (`queue.rs`)
//!   Throttled ─────────────────▲─ cursor: as its bucket fills (`bucket.rs`), 200 ms at most (`behind.rs`)
//!   Paced ─────────────────────────────────────────▲─ cursor: as its path is known to take (`pacer.rs`)
//!   Live ──────────────────────────────────────────────────────▲  sent as it comes: `forward`, not here
//! ```
//!
//! What waits, waits in the cache, once for all. What is given up is said to the child as GONE (`withheld.rs`). Where
//! the cache has let go of what a cursor would have come to, it goes on with the next group; where the flow has a hole,
//! it passes it, and the repair follows when it comes. Whoever keeps to what was admitted is never throttled. Not what
//! was lost: `repair`. Called by the lane, and by `join.rs` for newcomers. Invariant: nothing goes back to where it
//! came from.

use levada_wire::Instant;
use levada_wire::datagram::link::{Head, LinkDatagram};
use levada_wire::lane::FlowEvent;

use super::pacer::asked;
use crate::api::{Egress, Late};
use crate::flow::Flow;
use crate::ledger::DropReason;
use crate::limits::{GONE_INTERVAL, GONES_MAX, PACE_ROOM_MIN};
use crate::repair::numbers::pack;
use crate::state::{Io, State};

/// What became of the next run of a cursor.
pub(crate) enum Step {
    /// It was sent: that many bytes.
    Sent(usize),
    /// It was not due, or is not sent on purpose.
    Passed,
    /// There is none: the child is live.
    CaughtUp,
}

/// Packets did not go out, since the way there was full for too long: whoever was to have them hears GONE.
pub(crate) fn on_late(state: &mut State, late: &Late, now: Instant) {
    let Some((flow, io)) = state.flow(late.flow) else {
        return;
    };
    let missed = (late.first, late.end);
    match late.egress {
        Egress::Link(link) => {
            let is_on_its_way = flow.cache.newest_group().is_some_and(|it| it >= late.end);
            let following = (flow.children.next, &flow.rhythm);
            let child = flow.children.get_mut(link);
            let Some(child) = child.filter(|child| child.is_egress()) else {
                return;
            };
            let skipped = child.miss(missed, is_on_its_way, &flow.cache, following, now);
            let ledger = &mut io.ledger;
            flow.counters.withhold(DropReason::Skipped, skipped, ledger);
            flow.children.wake = Some(now);
        }
        Egress::Channel(group) => {
            if !flow.multicast.withhold(&group, missed, now) {
                return;
            }
        }
    }
    flow.counters.withheld += late.end.since(late.first);
    io.touched.push(flow.id);
}

/// Does what is due for the children that are behind. Says whether there was no room to do all.
pub(crate) fn drive(flow: &mut Flow, io: &mut Io, now: Instant) -> bool {
    if flow.children.wake.is_none_or(|at| at > now) {
        return false;
    }
    flow.children.wake = None;
    let mut has_more = false;
    for place in 0..flow.children.all.len() {
        if flow.children.all[place].wake().is_some() {
            has_more |= pump(flow, io, place, now);
            flow.children.wake_for(place);
        }
    }
    has_more
}

/// Sends what a child may be sent by now, gives up what is too much, and says what is gone.
fn pump(flow: &mut Flow, io: &mut Io, place: usize, now: Instant) -> bool {
    let following = (flow.children.next, &flow.rhythm);
    let child = &mut flow.children.all[place];
    if let Some(pacer) = &mut child.pacer {
        pacer.attend(flow.rate.most(), io.links.known(child.link), now);
    }
    child.heed_bucket(now);
    let given_up = child.relieve(&flow.cache, following, now);
    let (counters, ledger) = (&mut flow.counters, &mut io.ledger);
    counters.withhold(DropReason::Shed, given_up.shed, ledger);
    counters.withhold(DropReason::Skipped, given_up.skipped, ledger);
    if io.outbox.room() < PACE_ROOM_MIN {
        return true;
    }
    say_slow(flow, io, place, now);
    say_gone(flow, io, place, now);
    say_head(flow, io, place, now);
    if asked::drive(flow, io, place, now) {
        return true;
    }
    while flow.children.all[place].may_go_on(now) {
        if io.outbox.room() < PACE_ROOM_MIN {
            return true;
        }
        step(flow, io, place, now);
    }
    false
}

/// Tells the core of a child for whom the largest picture takes too long, if that is news.
fn say_slow(flow: &mut Flow, io: &mut Io, place: usize, now: Instant) {
    let (picture, child) = (flow.rate.largest_burst(), &mut flow.children.all[place]);
    let (link, budget) = (child.link, child.terms().budget.time());
    let pacer = child.pacer.as_mut();
    if let Some(takes) = pacer.and_then(|pacer| pacer.slow_news(picture, budget, now)) {
        let slow = FlowEvent::Slow {
            link,
            takes,
            budget,
        };
        io.outbox.tell_flow(flow.id, slow);
    }
}

/// Tells a child what it is not sent on purpose, if it is time to.
fn say_gone(flow: &mut Flow, io: &mut Io, place: usize, now: Instant) {
    let child = &mut flow.children.all[place];
    let Some(withheld) = &mut child.withheld else {
        return;
    };
    let link = io.links.get_mut(child.link);
    let link = link.expect("removing a link removes its children");
    for numbers in pack(flow.id, &withheld.take_unsaid(now)) {
        io.ledger.repair.gones_pushed += 1;
        link.say(LinkDatagram::Gone(numbers), &mut io.outbox);
    }
}

/// Tells the members of groups what did not go there, if it is time to; says whether there was no room to do so.
pub(crate) fn tell_members(flow: &mut Flow, io: &mut Io, now: Instant) -> bool {
    while let Some((group, withheld)) = flow.multicast.unsaid(now) {
        if io.outbox.room() <= flow.children.memberships() * GONES_MAX as usize {
            return true;
        }
        let gone = pack(flow.id, &withheld.take_unsaid(now));
        for member in flow.children.members(group) {
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

/// Tells a child the highest number, if it is time to and nobody else is told.
fn say_head(flow: &mut Flow, io: &mut Io, place: usize, now: Instant) {
    let is_said = flow.tail.says(flow.children.next);
    let child = &mut flow.children.all[place];
    let highest = child.tail.as_mut().and_then(|tail| tail.head(now));
    child.tail.take_if(|tail| is_said || tail.timer().is_none());
    if let Some((highest, link)) = highest.zip(io.links.get_mut(child.link)) {
        io.ledger.repair.heads_sent += 1;
        let head = LinkDatagram::Head(Head {
            flow: flow.id,
            highest,
        });
        link.say(head, &mut io.outbox);
    }
}

/// Takes a cursor past the next run, which is sent if it is due.
pub(crate) fn step(flow: &mut Flow, io: &mut Io, place: usize, now: Instant) -> Step {
    let next = flow.children.next;
    let child = &mut flow.children.all[place];
    let cursor = child.progress.cursor();
    let run = cursor.and_then(|cursor| flow.cache.next_from(cursor));
    let run = match &child.pacer {
        Some(pacer) => run.map(|run| pacer.first_of(run)),
        None => run,
    };
    let Some(run) = run else {
        child.catch_up();
        if !flow.tail.says(next) {
            // What it was sent last may have been lost, long after the others were told the highest number.
            child.tail.get_or_insert_default().sent(next, now);
        }
        return Step::CaughtUp;
    };
    child.progress = child.progress.at(run.end());
    let (packets, bytes) = (run.packets() as u64, run.bytes.len());
    let (counters, ledger) = (&mut flow.counters, &mut io.ledger);
    if child.has_withheld(run.first) {
        return Step::Passed; // counted when that was decided
    }
    if child.has_withheld(run.burst) {
        // The rest of a burst that was shed.
        counters.withhold(DropReason::Shed, packets, ledger);
        child.withhold((run.first, run.end()), now, GONE_INTERVAL);
        return Step::Passed;
    }
    if flow.upstreams.has_brought(child.link, run.first) {
        ledger.drop_copies(DropReason::BackToSender, packets);
        return Step::Passed;
    }
    child.sent(&run, false, now);
    let link = io.links.get_mut(child.link);
    let link = link.expect("removing a link removes its children");
    link.send(&run, &mut io.outbox, ledger, counters);
    Step::Sent(bytes)
}
