//! Three nodes, exhaustively: every way in which two datagrams of an election are lost or late, with each fault.
//!
//! The machine itself runs, not a model of it. A run is replayed from a site that has formed, with one fault and a list
//! of deviations: datagrams that are lost, or 60 ms late and so behind others. All runs with at most two deviations
//! are made. In the end there is one hub, which all follow.

use super::*;

/// Datagrams that are sent within this time after the fault may deviate.
const WINDOW: Duration = Duration::from_millis(900);
/// How long the site then has to agree.
const CALM: Duration = Duration::from_secs(8);

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The hub dies.
    HubDies,
    /// The hub dies, and whoever claims first dies as soon as it has.
    HubAndClaimerDie,
    /// The hub stands still for a second.
    HubPauses,
    /// The hub leaves in peace.
    HubLeaves,
    /// Two nodes claim at once though there is a hub.
    Duel,
    /// All begin at once.
    Start,
}

const FAULTS: [Fault; 6] = [
    Fault::HubDies,
    Fault::HubAndClaimerDie,
    Fault::HubPauses,
    Fault::HubLeaves,
    Fault::Duel,
    Fault::Start,
];

/// Deviations by the place of a datagram in the order of sending.
type Deviations = [Option<(usize, Fate)>; 2];

/// What a run came to.
struct Ran {
    /// How many datagrams might have deviated.
    places: usize,
    two_hubs: Duration,
}

/// Whether the loss of such a datagram can matter: the copies on the second channel are left out, as if they were lost.
fn is_second_copy(parcel: &Parcel) -> bool {
    parcel.way == Way::Admin
}

/// The site, just after the fault.
fn broken(formed: &Lan, fault: Fault) -> Lan {
    let mut lan = if matches!(fault, Fault::Start) {
        Lan::of(3)
    } else {
        formed.clone()
    };
    let hub = lan.hubs().first().copied().unwrap_or(0);
    match fault {
        Fault::HubDies | Fault::HubAndClaimerDie => lan.kill(hub),
        Fault::HubPauses => lan.pause(hub, Duration::from_secs(1)),
        Fault::HubLeaves => {
            lan.tell(hub, Input::Leave);
            lan.kill(hub);
        }
        Fault::Duel => {
            for at in (0..3).filter(|at| *at != hub) {
                let (from, epoch) = (3 - hub - at, 50);
                hand(
                    &mut lan,
                    at,
                    from,
                    sealed(from, u64::MAX - 9, &claim_of(from, epoch)),
                );
            }
        }
        Fault::Start => {}
    }
    lan
}

fn run(formed: &Lan, fault: Fault, deviations: Deviations) -> Ran {
    let mut lan = broken(formed, fault);
    let begin = lan.now;
    let mut places = 0;
    let mut fate = |now: Instant, parcel: &Parcel| {
        if is_second_copy(parcel) {
            return Fate::Lost;
        }
        if now.since(begin) > WINDOW {
            return Fate::Arrives;
        }
        places += 1;
        let chosen = deviations
            .iter()
            .flatten()
            .find(|(place, _)| *place + 1 == places);
        chosen.map_or(Fate::Arrives, |(_, fate)| *fate)
    };
    if matches!(fault, Fault::HubAndClaimerDie) {
        let mut dead = false;
        while lan.now.since(begin) < WINDOW {
            lan.run_with(Duration::from_millis(1), &mut fate);
            let claimer = (0..3).find(|at| {
                lan.alive[*at] && matches!(lan.nodes[*at].election.role(), Role::Claiming { .. })
            });
            if let Some(claimer) = claimer.filter(|_| !dead) {
                lan.kill(claimer);
                dead = true;
            }
        }
    }
    lan.run_with(WINDOW + CALM, &mut fate);
    let hubs = lan.hubs();
    assert_eq!(hubs.len(), 1, "{fault:?} {deviations:?}: hubs {hubs:?}");
    for at in (0..3).filter(|at| lan.alive[*at]) {
        assert_eq!(
            lan.hub_of(at),
            Some(hubs[0]),
            "{fault:?} {deviations:?}: node {at}"
        );
    }
    Ran {
        places,
        two_hubs: lan.two_hubs,
    }
}

#[test]
fn three_nodes_agree_whichever_two_datagrams_are_lost_or_late() {
    let mut formed = Lan::formed(3);
    for at in 0..3 {
        formed.tell(at, Input::Active(true));
    }
    formed.run(Duration::from_secs(1));
    let (mut runs, mut longest) = (0, Duration::ZERO);
    for fault in FAULTS {
        let mut note = |ran: Ran| {
            runs += 1;
            longest = longest.max(ran.two_hubs);
            ran.places
        };
        let places = note(run(&formed, fault, [None, None]));
        for first in 0..places {
            for one in [Fate::Lost, Fate::Late] {
                let deviation = Some((first, one));
                let places = note(run(&formed, fault, [deviation, None]));
                for second in first + 1..places {
                    for other in [Fate::Lost, Fate::Late] {
                        note(run(&formed, fault, [deviation, Some((second, other))]));
                    }
                }
            }
        }
    }
    assert!(runs > 2_000, "{runs} runs are not all");
    assert!(longest <= BEACON_ACTIVE * 4, "two hubs for {longest:?}");
}
