//! Links between one machine and a scripted peer.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use levada_wire::Identity;
use levada_wire::control::RouteMessage;
use levada_wire::control::route::SequenceRequest;
use levada_wire::datagram::link::Ping;
use levada_wire::machine::harness::check_contract;

use super::*;
use crate::api::{ConnectionLost, Neighbour};
use crate::limits::{
    ADDRESSES_MAX, DEAD_ACTIVE, DEAD_IDLE, DEAD_LATE, DIAL_STAGGER, NEIGHBOURS_MAX, PING_ACTIVE,
    REDIAL_MAX, REDIAL_MIN, TRIP_UNKNOWN,
};

mod dialling;
mod loss;
mod size;

const LINK: LinkIndex = LinkIndex(7);
const OTHER: LinkIndex = LinkIndex(8);

fn identity(byte: u8) -> Identity {
    Identity::from_secret(&[byte; 32])
}

/// The node of that key; node 1 is the machine under test.
fn node(key: u8) -> NodeId {
    identity(key).id()
}

fn links() -> Links {
    Links::new(&settings(1, 1))
}

fn settings(key: u8, seed: u8) -> Settings {
    Settings {
        identity: identity(key),
        network: NetworkId::OPEN,
        name: format!("node {key}"),
        relay: true,
        accept: true,
        uplink: None,
        seed: [seed; 32],
    }
}

fn remote(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

fn drain(links: &mut Links) -> Vec<Output> {
    std::iter::from_fn(|| links.poll_output()).collect()
}

fn connected(link: LinkIndex, peer: u8, dial: Option<DialId>) -> Input {
    Input::Outside(LinkInput::Connected {
        link,
        peer: node(peer),
        remote: remote(1),
        dial,
    })
}

fn hello(link: LinkIndex, boot: u64) -> Input {
    let hello = Hello {
        network: NetworkId::OPEN,
        boot,
        index: LinkIndex(99),
        name: "peer".into(),
        relay: true,
    };
    Input::Outside(LinkInput::Message {
        link,
        message: Message::Link(LinkMessage::Hello(hello)),
    })
}

fn ping(link: LinkIndex) -> Input {
    let message = LinkDatagram::Ping(Ping {
        time: 5,
        sent: 10,
        padding: 0,
    });
    Input::Lane(
        link,
        LinkEvent::Datagram {
            message,
            received: 9,
        },
    )
}

fn some_route_message() -> Message {
    Message::Route(RouteMessage::SequenceRequest(SequenceRequest {
        origin: node(9),
        sequence: levada_wire::control::route::Sequence(1),
        hops_left: 3,
    }))
}

/// Links with one that is up, its first outputs taken.
fn up_at(millis: u64) -> Links {
    let mut links = links();
    links.handle_input(at(millis), connected(LINK, 2, None));
    links.handle_input(at(millis), hello(LINK, 1));
    drain(&mut links);
    links
}

/// Runs the machine's own timers up to `until`; returns what came out.
fn sleep_until(links: &mut Links, until: Instant) -> Vec<Output> {
    let mut outputs = drain(links);
    while let Some(wakeup) = links.poll_timeout().filter(|wakeup| wakeup.at <= until) {
        links.handle_timeout(wakeup.at);
        outputs.extend(drain(links));
    }
    outputs
}

fn downs(outputs: &[Output]) -> Vec<LinkDown> {
    let down = |output: &Output| match output {
        Output::Outside(api::Output::Event(Event::LinkDown { reason, .. })) => Some(reason.clone()),
        _ => None,
    };
    outputs.iter().filter_map(down).collect()
}

fn closes(outputs: &[Output]) -> Vec<(LinkIndex, LinkDown)> {
    let close = |output: &Output| match output {
        Output::Outside(api::Output::Close { link, reason }) => Some((*link, reason.clone())),
        _ => None,
    };
    outputs.iter().filter_map(close).collect()
}

#[test]
fn the_contract_holds() {
    let peers = [node(1), node(2), node(3)];

    check_contract(
        0..200,
        |seed| Links::new(&settings(1, seed.to_le_bytes()[0])),
        |rng| {
            let link = LinkIndex(rng.next_u32() % 4);
            let peer = peers[rng.next_u32() as usize % 3];
            match rng.next_u32() % 10 {
                0 => Input::Outside(LinkInput::AddNeighbour(Neighbour {
                    addresses: (0..rng.next_u32() % 3).map(|i| remote(i as u16)).collect(),
                    node: None,
                })),
                1 | 2 => Input::Outside(LinkInput::Connected {
                    link,
                    peer,
                    remote: remote(1),
                    dial: (rng.next_u32().is_multiple_of(2)).then_some(DialId(0)),
                }),
                3 | 4 => hello(link, u64::from(rng.next_u32() % 2)),
                5 => ping(link),
                6 => Input::Outside(LinkInput::DialFailed {
                    dial: DialId(0),
                    reason: "no".into(),
                }),
                7 => Input::Outside(LinkInput::Disconnected {
                    link,
                    reason: ConnectionLost::ClosedHere,
                }),
                8 => Input::Active {
                    link,
                    active: rng.next_u32().is_multiple_of(2),
                },
                _ => Input::Outside(LinkInput::Message {
                    link,
                    message: some_route_message(),
                }),
            }
        },
    );
}

#[test]
fn a_link_is_up_once_the_peer_has_said_hello_and_pings_at_once() {
    let mut links = links();

    links.handle_input(at(0), connected(LINK, 2, None));
    let greeting = drain(&mut links);
    links.handle_input(at(5), hello(LINK, 1));
    let after = drain(&mut links);

    assert!(matches!(
        greeting[..],
        [Output::Outside(api::Output::Send {
            message: Message::Link(LinkMessage::Hello(_)),
            ..
        })]
    ));
    assert!(matches!(
        &after[0],
        Output::Outside(api::Output::LinkUp {
            remote_index: LinkIndex(99),
            ..
        })
    ));
    assert!(matches!(
        after[3],
        Output::Outside(api::Output::Link(
            _,
            LinkCommand::Send(LinkDatagram::Ping(_))
        ))
    ));
}

#[test]
fn what_overtakes_the_hello_waits_for_it() {
    let mut links = links();
    links.handle_input(at(0), connected(LINK, 2, None));
    links.handle_input(
        at(1),
        Input::Outside(LinkInput::Message {
            link: LINK,
            message: some_route_message(),
        }),
    );
    let before: Vec<_> = drain(&mut links);

    links.handle_input(at(2), hello(LINK, 1));
    let after = drain(&mut links);

    let passes = |outputs: &[Output]| {
        outputs
            .iter()
            .filter(|output| matches!(output, Output::Pass { .. }))
            .count()
    };
    assert_eq!((passes(&before), passes(&after)), (0, 1));
}

#[test]
fn too_much_before_the_hello_closes_the_link() {
    let mut links = links();
    links.handle_input(at(0), connected(LINK, 2, None));

    for _ in 0..=HELD_MESSAGES_MAX {
        links.handle_input(
            at(1),
            Input::Outside(LinkInput::Message {
                link: LINK,
                message: some_route_message(),
            }),
        );
    }

    let closed = closes(&drain(&mut links));
    assert_eq!(
        closed,
        [(LINK, LinkDown::Protocol("too much before the hello"))]
    );
}

#[test]
fn a_peer_that_never_greets_is_closed() {
    let mut links = links();
    links.handle_input(at(0), connected(LINK, 2, None));

    let outputs = sleep_until(&mut links, at(0) + GREETING_MAX);

    assert_eq!(
        closes(&outputs),
        [(LINK, LinkDown::Protocol("no hello in time"))]
    );
    assert_eq!(downs(&outputs), [], "it was never up");
}

#[test]
fn a_silent_peer_is_dead_after_its_threshold_and_not_before() {
    for (active, dead_after) in [(false, DEAD_IDLE), (true, DEAD_ACTIVE)] {
        let mut links = measured(Duration::ZERO);
        links.handle_input(at(0), Input::Active { link: LINK, active });

        let before = sleep_until(&mut links, at(0) + dead_after - Duration::from_millis(1));
        let after = sleep_until(&mut links, at(0) + dead_after);

        assert_eq!(downs(&before), []);
        assert_eq!(downs(&after), [LinkDown::Silent]);
    }
}

/// Links with one that is up since time zero, whose round trip is known to take so long: its first pong came then.
fn measured(trip: Duration) -> Links {
    let mut links = links();
    links.handle_input(at(0), connected(LINK, 2, None));
    links.handle_input(at(0), hello(LINK, 1));
    let first = pings(&drain(&mut links))[0];
    sleep_until(&mut links, at(0) + trip);
    links.handle_input(at(0) + trip, pong(&first));
    drain(&mut links);
    links
}

#[test]
fn a_peer_that_is_far_away_is_dead_when_what_it_said_last_must_have_come() {
    let trip = Duration::from_millis(600);
    let mut links = measured(trip);
    let active = Input::Active {
        link: LINK,
        active: true,
    };
    links.handle_input(at(600), active);

    // One round trip was measured: it may deviate by an eighth.
    let dead_after = trip + trip / 2 + DEAD_LATE;
    let before = sleep_until(&mut links, at(600) + dead_after - Duration::from_millis(1));
    let after = sleep_until(&mut links, at(600) + dead_after);

    assert_eq!(downs(&before), []);
    assert_eq!(downs(&after), [LinkDown::Silent]);
}

#[test]
fn a_peer_whose_distance_is_not_known_yet_is_not_dead_for_that() {
    let mut links = up_at(0);
    let active = Input::Active {
        link: LINK,
        active: true,
    };
    links.handle_input(at(0), active);

    let dead_after = TRIP_UNKNOWN + DEAD_LATE;
    let before = sleep_until(&mut links, at(0) + dead_after - Duration::from_millis(1));
    let after = sleep_until(&mut links, at(0) + dead_after);

    assert_eq!(downs(&before), []);
    assert_eq!(downs(&after), [LinkDown::Silent]);
}

#[test]
fn a_peer_that_speaks_is_never_dead() {
    let mut links = up_at(0);
    links.handle_input(
        at(0),
        Input::Active {
            link: LINK,
            active: true,
        },
    );

    for step in 1..200 {
        let outputs = sleep_until(&mut links, at(step * 100));
        assert_eq!(downs(&outputs), []);
        links.handle_input(at(step * 100), ping(LINK));
    }
}

#[test]
fn time_in_which_this_node_did_not_run_counts_against_nobody() {
    let mut links = measured(Duration::ZERO);
    links.handle_input(
        at(0),
        Input::Active {
            link: LINK,
            active: true,
        },
    );
    drain(&mut links);

    // Stopped for five seconds; what the peer said meanwhile is read right after.
    links.handle_timeout(at(5_000));
    let woken = drain(&mut links);
    links.handle_input(at(5_001), ping(LINK));

    assert_eq!(downs(&woken), []);
    let outputs = sleep_until(&mut links, at(5_001) + DEAD_ACTIVE);
    assert_eq!(
        downs(&outputs),
        [LinkDown::Silent],
        "silence after that does count"
    );
}

#[test]
fn a_used_link_is_pinged_ten_times_as_often() {
    let count = |active| {
        let mut links = up_at(0);
        links.handle_input(at(0), Input::Active { link: LINK, active });
        pings_of_40_steps(&mut links, |_| true)
    };

    assert!(
        count(true) >= 40 && count(true) <= 60,
        "{} in 4 s of {PING_ACTIVE:?}",
        count(true)
    );
    assert!(count(false) >= 4 && count(false) <= 7, "{}", count(false));
}

#[test]
fn an_idle_link_is_pinged_quickly_from_a_missing_pong_to_the_next_one() {
    let pings = |answered: fn(u64) -> bool| {
        let mut links = up_at(0);
        pings_of_40_steps(&mut links, answered)
    };

    let missing_for_two_seconds = pings(|step| !(10..30).contains(&step));

    let quick = 15..=25;
    assert!(
        quick.contains(&missing_for_two_seconds),
        "{missing_for_two_seconds}"
    );
    assert!(pings(|_| true) <= 7);
}

#[test]
fn a_suspect_of_a_used_link_is_pinged_quickly_until_something_is_heard_of_it() {
    // What is sent in 140 ms, if the peer is heard so many milliseconds after they began, or not at all.
    let pings_if = |heard: Option<u64>| {
        let mut links = up_at(0);
        let active = true;
        links.handle_input(at(0), Input::Active { link: LINK, active });
        pings_of_40_steps(&mut links, |_| true);
        sleep_until(&mut links, at(4_140));
        let mut count = 0;
        if let Some(after) = heard {
            count += pings(&sleep_until(&mut links, at(4_140 + after))).len();
            links.handle_input(at(4_140 + after), ping(LINK));
        }
        count + pings(&sleep_until(&mut links, at(4_280))).len()
    };

    let (silent, heard, heard_late) = (pings_if(None), pings_if(Some(1)), pings_if(Some(60)));

    let counts = [heard, heard_late, silent];
    assert!(
        heard + 2 <= heard_late && heard_late + 2 <= silent,
        "{counts:?}"
    );
}

/// Counts what is sent in four seconds; the peer speaks every 100 ms, and answers the pings of the steps that `answers`
/// says yes to.
fn pings_of_40_steps(links: &mut Links, answers: impl Fn(u64) -> bool) -> usize {
    let mut count = 0;
    for step in 1..=40 {
        for ping in pings(&sleep_until(links, at(step * 100))) {
            count += usize::from(ping.size() == 0);
            if answers(step) {
                links.handle_input(at(step * 100), pong(&ping));
            }
        }
        links.handle_input(at(step * 100), ping(LINK));
    }
    count
}

fn pings(outputs: &[Output]) -> Vec<Ping> {
    let ping = |output: &Output| match output {
        Output::Outside(api::Output::Link(_, LinkCommand::Send(LinkDatagram::Ping(ping)))) => {
            Some(*ping)
        }
        _ => None,
    };
    outputs.iter().filter_map(ping).collect()
}

/// The answer to a ping.
fn pong(ping: &Ping) -> Input {
    let pong = Pong {
        time: ping.time,
        sent: ping.sent,
        received: ping.sent,
        size: ping.size(),
    };
    Input::Lane(
        LINK,
        LinkEvent::Datagram {
            message: LinkDatagram::Pong(pong),
            received: 0,
        },
    )
}

#[test]
fn of_two_links_to_one_node_both_ends_keep_the_one_the_smaller_id_opened() {
    // The same two connections, seen from both ends: each end opened LINK and was opened OTHER.
    let (small, large) = if node(1) < node(2) { (1, 2) } else { (2, 1) };
    let survivor = |me: u8, peer: u8| {
        let mut links = Links::new(&settings(me, 1));
        links.handle_input(
            at(0),
            Input::Outside(LinkInput::AddNeighbour(Neighbour {
                addresses: vec![remote(1)],
                node: None,
            })),
        );
        drain(&mut links);
        links.handle_input(at(1), connected(LINK, peer, Some(DialId(0))));
        links.handle_input(at(1), connected(OTHER, peer, None));
        links.handle_input(at(2), hello(LINK, 5));
        links.handle_input(at(3), hello(OTHER, 5));
        let closed = closes(&drain(&mut links));
        assert_eq!(closed.len(), 1);
        assert_eq!(closed[0].1, LinkDown::Duplicate);
        closed[0].0
    };

    // The one with the smaller id closes the link that the other opened, and the other way round.
    assert_eq!(survivor(small, large), OTHER);
    assert_eq!(survivor(large, small), LINK);
}

#[test]
fn a_restarted_peer_takes_the_place_of_its_former_self() {
    let mut links = up_at(0);

    links.handle_input(at(50), connected(OTHER, 2, None));
    links.handle_input(at(50), hello(OTHER, 2));

    let outputs = drain(&mut links);
    assert_eq!(closes(&outputs), [(LINK, LinkDown::Superseded)]);
    assert!(
        outputs
            .iter()
            .any(|output| matches!(output, Output::Up { link: OTHER, .. }))
    );
}

#[test]
fn a_late_dial_of_this_node_leaves_a_link_that_lives_alone() {
    // Whichever id is the smaller.
    for (me, peer) in [(1, 2), (2, 1)] {
        let mut links = Links::new(&settings(me, 1));
        let neighbour = Neighbour {
            addresses: vec![remote(1)],
            node: None,
        };
        links.handle_input(at(0), Input::Outside(LinkInput::AddNeighbour(neighbour)));
        links.handle_input(at(1), connected(LINK, peer, None));
        links.handle_input(at(2), hello(LINK, 5));
        drain(&mut links);

        links.handle_input(at(900), connected(OTHER, peer, Some(DialId(0))));

        let outputs = drain(&mut links);
        assert_eq!(closes(&outputs), [(OTHER, LinkDown::Duplicate)]);
        let is_said = |output: &Output| matches!(output, Output::Outside(api::Output::Send { .. }));
        assert!(!outputs.iter().any(is_said), "the peer hears no hello");
        let later = sleep_until(&mut links, at(2_000));
        let dials = |output: &Output| matches!(output, Output::Outside(api::Output::Dial { .. }));
        assert!(!later.iter().any(dials), "the neighbour is linked");
    }
}

#[test]
fn of_two_copies_of_one_key_one_stays_linked_and_the_user_is_told() {
    let mut links = links();
    let mut events = Vec::new();
    let mut closed = Vec::new();

    // Both try again whenever they are closed.
    for round in 0..40_u32 {
        let link = LinkIndex(round);
        let now = at(u64::from(round) * 250);
        links.handle_input(now, connected(link, 2, None));
        links.handle_input(now, hello(link, u64::from(round % 2)));
        links.handle_input(now, ping(LinkIndex(1)));
        let outputs = drain(&mut links);
        closed.extend(closes(&outputs));
        events.extend(outputs.into_iter().filter_map(|output| match output {
            Output::Outside(api::Output::Event(event @ Event::KeyCopied { .. })) => Some(event),
            _ => None,
        }));
    }

    // The second is taken for a restart of the first; who of the two comes then is known.
    let superseded = closed
        .iter()
        .filter(|(_, why)| *why == LinkDown::Superseded);
    assert_eq!(superseded.map(|(link, _)| link.0).collect::<Vec<_>>(), [0]);
    let copies = closed.iter().filter(|(_, why)| *why == LinkDown::Copied);
    assert!(copies.count() >= 19, "{closed:?}");
    assert_eq!(events.len(), 1, "not for each of them");
}

#[test]
fn so_many_former_lives_of_a_peer_are_known_and_the_oldest_is_forgotten() {
    let mut links = links();
    let lives = FORMER_BOOTS_MAX as u64 + 2;
    let mut come = |link: u64, boot| {
        let index = LinkIndex(u32::try_from(link).unwrap());
        links.handle_input(at(link), connected(index, 2, None));
        links.handle_input(at(link), hello(index, boot));
        closes(&drain(&mut links))
    };
    for boot in 0..lives {
        come(boot, boot);
    }

    let known = come(lives, 1);
    let forgotten = come(lives + 1, 0);

    let copied = (LinkIndex(u32::try_from(lives).unwrap()), LinkDown::Copied);
    assert!(known.contains(&copied), "{known:?}");
    assert!(
        forgotten
            .iter()
            .all(|(_, why)| *why == LinkDown::Superseded),
        "taken for a new life: {forgotten:?}"
    );
}

#[test]
fn a_neighbour_that_closes_each_link_as_soon_as_it_is_up_is_dialled_less_and_less_often() {
    let mut links = links();
    let neighbour = Neighbour {
        addresses: vec![remote(1)],
        node: None,
    };
    links.handle_input(at(0), Input::Outside(LinkInput::AddNeighbour(neighbour)));
    let mut dials = 0;
    let mut link = 0;

    for millis in (0..60_000).step_by(10) {
        for output in sleep_until(&mut links, at(millis)) {
            let Output::Outside(api::Output::Dial { dial, .. }) = output else {
                continue;
            };
            dials += 1;
            link += 1;
            let link = LinkIndex(link);
            links.handle_input(at(millis), connected(link, 2, Some(dial)));
            links.handle_input(at(millis), hello(link, 1));
            let reason = ConnectionLost::ClosedByPeer("another has this key".into());
            links.handle_input(
                at(millis),
                Input::Outside(LinkInput::Disconnected { link, reason }),
            );
        }
    }

    assert!((12..=20).contains(&dials), "{dials} dials in a minute");
}

#[test]
fn a_node_never_links_to_itself_and_never_across_networks() {
    let mut links = links();
    links.handle_input(at(0), connected(LINK, 1, None));
    let to_self = closes(&drain(&mut links));

    links.handle_input(at(0), connected(OTHER, 2, None));
    let foreign = Hello {
        network: NetworkId([1; 16]),
        boot: 1,
        index: LINK,
        name: String::new(),
        relay: true,
    };
    let message = Message::Link(LinkMessage::Hello(foreign));
    links.handle_input(
        at(1),
        Input::Outside(LinkInput::Message {
            link: OTHER,
            message,
        }),
    );

    assert_eq!(to_self, [(LINK, LinkDown::Self_)]);
    assert_eq!(
        closes(&drain(&mut links)),
        [(OTHER, LinkDown::WrongNetwork)]
    );
}

#[test]
fn a_client_takes_no_link_that_others_open() {
    let mut links = Links::new(&Settings {
        accept: false,
        ..settings(1, 1)
    });

    links.handle_input(at(0), connected(LINK, 2, None));

    assert_eq!(closes(&drain(&mut links)), [(LINK, LinkDown::Unwanted)]);
}

#[test]
fn one_link_too_many_is_closed_as_full() {
    let mut links = links();
    for index in 0..=LINKS_MAX {
        let link = LinkIndex(u32::try_from(index).unwrap());
        let peer = Identity::from_secret(&{
            let mut secret = [7; 32];
            secret[..8].copy_from_slice(&(index as u64).to_le_bytes());
            secret
        });
        let input = Input::Outside(LinkInput::Connected {
            link,
            peer: peer.id(),
            remote: remote(1),
            dial: None,
        });
        links.handle_input(at(0), input);
    }

    let last = LinkIndex(u32::try_from(LINKS_MAX).unwrap());
    assert_eq!(closes(&drain(&mut links)), [(last, LinkDown::Full)]);
}

#[test]
fn one_link_too_many_of_one_address_is_closed_as_crowded() {
    let mut links = links();
    let connected = |index: usize, host: u8| {
        let mut secret = [7; 32];
        secret[..8].copy_from_slice(&(index as u64).to_le_bytes());
        Input::Outside(LinkInput::Connected {
            link: LinkIndex(u32::try_from(index).unwrap()),
            peer: Identity::from_secret(&secret).id(),
            remote: SocketAddr::from(([192, 0, 2, host], u16::try_from(index).unwrap())),
            dial: None,
        })
    };

    for index in 0..=LINKS_PER_ADDRESS_MAX {
        links.handle_input(at(0), connected(index, 1));
    }
    links.handle_input(at(0), connected(LINKS_PER_ADDRESS_MAX + 1, 2));

    let last = LinkIndex(u32::try_from(LINKS_PER_ADDRESS_MAX).unwrap());
    assert_eq!(closes(&drain(&mut links)), [(last, LinkDown::Crowded)]);
}

#[test]
fn a_leaving_node_says_so_and_dials_no_more() {
    let mut links = up_at(0);
    links.handle_input(
        at(1),
        Input::Outside(LinkInput::AddNeighbour(Neighbour {
            addresses: vec![remote(1)],
            node: None,
        })),
    );
    drain(&mut links);

    links.handle_input(at(2), Input::Leave);

    let outputs = drain(&mut links);
    assert!(matches!(
        outputs[0],
        Output::Outside(api::Output::CancelDial { .. })
    ));
    assert!(matches!(
        outputs[1],
        Output::Outside(api::Output::Send {
            message: Message::Link(LinkMessage::Leave(_)),
            ..
        })
    ));
    assert_eq!(closes(&outputs), [(LINK, LinkDown::Leaving)]);
    assert_eq!(links.poll_timeout(), None);
}

#[test]
fn a_peer_that_greets_none_of_its_connections_holds_one_place() {
    let mut links = links();

    for index in 0..10 {
        links.handle_input(at(0), connected(LinkIndex(index), 2, None));
    }

    assert_eq!(links.rows(None).count(), 1);
    assert_eq!(closes(&drain(&mut links)).len(), 9);
}
