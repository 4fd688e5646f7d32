//! How configured neighbours are dialled, and dialled again.

use super::*;

#[test]
fn addresses_are_dialled_apart_and_a_failure_frees_the_next() {
    let mut links = links();
    let addresses = vec![remote(1), remote(2), remote(3)];
    links.handle_input(
        at(0),
        Input::Outside(LinkInput::AddNeighbour(Neighbour {
            addresses,
            node: None,
        })),
    );
    let dials = |outputs: &[Output]| -> Vec<u16> {
        let dial = |output: &Output| match output {
            Output::Outside(api::Output::Dial { remote, .. }) => Some(remote.port()),
            _ => None,
        };
        outputs.iter().filter_map(dial).collect()
    };

    assert_eq!(dials(&drain(&mut links)), [1]);
    assert_eq!(dials(&sleep_until(&mut links, at(0) + DIAL_STAGGER)), [2]);
    let failed = Input::Outside(LinkInput::DialFailed {
        dial: DialId(0),
        reason: "refused".into(),
    });
    links.handle_input(at(260), failed);
    assert_eq!(dials(&drain(&mut links)), [3]);
}

#[test]
fn a_neighbour_is_tried_for_ever_with_growing_pauses() {
    let mut links = links();
    links.handle_input(
        at(0),
        Input::Outside(LinkInput::AddNeighbour(Neighbour {
            addresses: vec![remote(1)],
            node: None,
        })),
    );
    let mut now = at(0);
    let mut pauses = Vec::new();

    for dial in 0..12 {
        assert!(
            matches!(
                drain(&mut links)[0],
                Output::Outside(api::Output::Dial { .. })
            ),
            "attempt {dial}"
        );
        let failed = Input::Outside(LinkInput::DialFailed {
            dial: DialId(dial),
            reason: "refused".into(),
        });
        links.handle_input(now, failed);
        drain(&mut links);
        let wakeup = links.poll_timeout().unwrap();
        pauses.push(wakeup.at.since(now));
        now = wakeup.at;
        links.handle_timeout(now);
    }

    assert!(pauses[0] <= REDIAL_MIN && pauses[0] > Duration::ZERO);
    assert!(pauses.iter().all(|pause| *pause <= REDIAL_MAX));
    assert!(*pauses.last().unwrap() > REDIAL_MAX / 2);
}

#[test]
fn neighbours_and_addresses_beyond_their_limits_are_not_dialled() {
    let mut links = links();
    let ports = |from: u16, count: usize| (from..).take(count).map(remote).collect::<Vec<_>>();
    let addresses = ports(1_000, ADDRESSES_MAX + 1);
    links.handle_input(
        at(0),
        Input::Outside(LinkInput::AddNeighbour(Neighbour {
            addresses,
            node: None,
        })),
    );
    for address in ports(2_000, NEIGHBOURS_MAX) {
        let addresses = vec![address];
        links.handle_input(
            at(0),
            Input::Outside(LinkInput::AddNeighbour(Neighbour {
                addresses,
                node: None,
            })),
        );
    }

    let outputs = sleep_until(&mut links, at(0) + DIAL_STAGGER * 20);

    let dialled = outputs.iter().filter_map(|output| match output {
        Output::Outside(api::Output::Dial { remote, .. }) => Some(*remote),
        _ => None,
    });
    let dialled: BTreeSet<SocketAddr> = dialled.collect();
    let expected = [
        ports(1_000, ADDRESSES_MAX),
        ports(2_000, NEIGHBOURS_MAX - 1),
    ]
    .concat();
    assert_eq!(dialled, expected.into_iter().collect());
}

#[test]
fn an_address_that_does_not_answer_is_given_up_and_dialled_anew() {
    let mut links = links();
    links.handle_input(
        at(0),
        Input::Outside(LinkInput::AddNeighbour(Neighbour {
            addresses: vec![remote(1)],
            node: None,
        })),
    );
    drain(&mut links);

    let outputs = sleep_until(&mut links, at(0) + DIAL_WAIT + REDIAL_MIN);

    assert_eq!(
        outputs[0],
        Output::Outside(api::Output::CancelDial { dial: DialId(0) })
    );
    assert!(matches!(
        outputs[1],
        Output::Outside(api::Output::Event(Event::DialFailed { .. }))
    ));
    assert!(matches!(
        outputs[2],
        Output::Outside(api::Output::Dial {
            dial: DialId(1),
            ..
        })
    ));
}

#[test]
fn a_neighbour_that_refuses_every_link_is_dialled_with_growing_pauses() {
    let mut links = links();
    let neighbour = Neighbour {
        addresses: vec![remote(1)],
        node: None,
    };
    links.handle_input(at(0), Input::Outside(LinkInput::AddNeighbour(neighbour)));
    let mut now = at(0);
    let mut pauses = Vec::new();

    for dial in 0..10 {
        drain(&mut links);
        let link = LinkIndex(u32::try_from(dial).unwrap());
        links.handle_input(now, connected(link, 2, Some(DialId(dial))));
        let reason = ConnectionLost::ClosedByPeer("full".into());
        links.handle_input(
            now,
            Input::Outside(LinkInput::Disconnected { link, reason }),
        );
        let wakeup = links.poll_timeout().unwrap();
        pauses.push(wakeup.at.since(now));
        now = wakeup.at;
        links.handle_timeout(now);
    }

    assert!(pauses[0] <= REDIAL_MIN);
    assert!(*pauses.last().unwrap() > REDIAL_MAX / 2, "{pauses:?}");
}

#[test]
fn a_neighbour_that_is_removed_is_dialled_no_more_however_many_addresses_it_had() {
    let mut links = links();
    let addresses = (1..).take(ADDRESSES_MAX + 4).map(remote).collect();
    let neighbour = Neighbour {
        addresses,
        node: None,
    };
    links.handle_input(
        at(0),
        Input::Outside(LinkInput::AddNeighbour(neighbour.clone())),
    );
    drain(&mut links);

    links.handle_input(at(1), Input::Outside(LinkInput::RemoveNeighbour(neighbour)));

    assert_eq!(
        drain(&mut links),
        [Output::Outside(api::Output::CancelDial { dial: DialId(0) })]
    );
    assert_eq!(links.poll_timeout(), None);
}
