//! Which upstream is suspect: nothing of the flow has come over it for far longer than the flow ever pauses.
//!
//! ```text
//!            packet, HEAD, GONE, PENDING              60 ms, 4 x its usual pause, 2 round trips and 4 variations:
//!   delivers ◀─────────────────────────┐              the longest of these
//!      └── nothing ────────────────────┴──▶ suspect: the core asks another besides; the next packet ends it
//! ```
//!
//! Whoever dies or is cut off is noticed long before its link counts as dead, and while there is time to get the same
//! packets elsewhere. A HEAD that names nothing new says that the upstream is well and has nothing to say: until the
//! next packet nothing is expected of it, and so the nodes below one that has lost its own way do not all ask
//! elsewhere. Not what is done about a suspect: the core. Called by `repair` and by the lane. Invariant: one timer,
//! moved only when it fires; what this node slept through makes nobody suspect.

use std::time::Duration;

use levada_wire::lane::FlowEvent;
use levada_wire::{Instant, LinkIndex};

use super::Flow;
use crate::limits::{CONTINUE_AFTER, OWN_LATENESS, SUSPECT_MIN, SUSPECT_PAUSES, UPSTREAMS_MAX};
use crate::link;
use crate::state::Io;

/// Packets came that are news: from now on silence means something. Says whether the timer was set.
pub(crate) fn expect(flow: &mut Flow, links: &link::Table, link: LinkIndex, now: Instant) -> bool {
    if flow.suspicion.is_some() {
        return false;
    }
    flow.suspicion = patience(flow, links, link).map(|patience| now + patience);
    flow.suspicion.is_some()
}

/// Tells the core of upstreams that have become suspect.
pub(crate) fn drive(flow: &mut Flow, io: &mut Io, now: Instant) {
    let Some(due) = flow.suspicion.filter(|at| *at <= now) else {
        return;
    };
    if io.outbox.room() <= UPSTREAMS_MAX {
        flow.suspicion = Some(now + CONTINUE_AFTER);
        return;
    }
    if now.since(due) > OWN_LATENESS {
        flow.upstreams.forgive(now);
    }
    let mut next: Option<Instant> = None;
    for (link, heard) in flow.upstreams.live() {
        let Some(patience) = patience(flow, &io.links, link) else {
            continue;
        };
        if heard + patience > now {
            next = Some(next.map_or(heard + patience, |next| next.min(heard + patience)));
        } else {
            flow.upstreams.suspect(link);
            io.outbox.tell_flow(flow.id, FlowEvent::Suspect(link));
        }
    }
    flow.suspicion = next;
}

/// How long nothing may come over an upstream; `None` while the flow's pauses are not known.
fn patience(flow: &Flow, links: &link::Table, link: LinkIndex) -> Option<Duration> {
    let pause = flow.pauses.usual()?;
    let trip = links.trip(link).twice();
    Some(SUSPECT_MIN.max(pause * SUSPECT_PAUSES).max(trip))
}

#[cfg(test)]
mod tests {
    use levada_wire::lane;

    use super::*;
    use crate::api::Event;
    use crate::testkit::{FLOW, Net, frame, link_to};

    const MS: Duration = Duration::from_millis(1);
    const PICTURE: Duration = Duration::from_millis(40);

    /// Lane 1 has been fed by lane 0 for a while, a picture every 40 ms.
    fn fed() -> Net {
        let mut net = Net::chain(2);
        for at in 0..100 {
            push(&mut net, at);
        }
        assert!(told(&mut net) == [FlowEvent::Delivering(link_to(0))]);
        net
    }

    fn push(net: &mut Net, at: i64) {
        net.push(frame(1, at % 25 == 0, at * 3_600, 2_000));
        net.sleep(PICTURE);
    }

    /// What lane 1 told the core, since the last call.
    fn told(net: &mut Net) -> Vec<FlowEvent> {
        let told = |event| match event {
            Event::Core(lane::Event::Flow(FLOW, event)) => Some(event),
            _ => None,
        };
        let events = std::mem::take(&mut net.events[1]);
        events.into_iter().filter_map(told).collect()
    }

    #[test]
    fn who_falls_silent_is_suspect_once_and_delivers_again_with_its_next_packet() {
        let mut net = fed();

        net.cut = Some(0);
        net.push(frame(1, false, 360_000, 2_000));
        net.sleep(4 * PICTURE - 45 * MS);
        assert_eq!(told(&mut net), []);
        net.sleep(800 * MS);
        assert_eq!(told(&mut net), [FlowEvent::Suspect(link_to(0))]);
        net.cut = None;
        push(&mut net, 101);

        assert_eq!(told(&mut net), [FlowEvent::Delivering(link_to(0))]);
    }

    #[test]
    fn who_says_that_there_is_nothing_more_is_not_suspect() {
        let mut net = fed();

        net.sleep(3_000 * MS);

        assert_eq!(told(&mut net), []);
    }

    #[test]
    fn what_this_node_slept_through_makes_nobody_suspect() {
        let mut net = fed();
        net.cut = Some(0);

        net.now += 3_000 * MS;
        net.timeout(1);
        assert_eq!(told(&mut net), []);
        net.sleep(300 * MS);

        assert_eq!(told(&mut net), [FlowEvent::Suspect(link_to(0))]);
    }

    #[test]
    fn of_a_flow_whose_pauses_are_not_known_nobody_is_suspect() {
        let mut net = Net::chain(2);
        for at in 0..20 {
            push(&mut net, at);
        }
        told(&mut net);
        net.cut = Some(0);

        net.sleep(2_000 * MS);

        assert_eq!(told(&mut net), []);
    }
}
