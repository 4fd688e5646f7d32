//! How configured neighbours are dialled, and dialled again.

use super::*;

#[test]
fn addresses_are_dialled_apart_and_a_failure_frees_the_next() {
    let mut links = links();
    let addresses = vec![remote(1), remote(2), remote(3)];
    links.handle_input(
        at(0),
        Input::Add(Neighbour {
            addresses,
            node: None,
        }),
    );
    let dials = |outputs: &[Output]| -> Vec<u16> {
        let dial = |output: &Output| match output {
            Output::Dial { remote, .. } => Some(remote.port()),
            _ => None,
        };
        outputs.iter().filter_map(dial).collect()
    };

    assert_eq!(dials(&drain(&mut links)), [1]);
    assert_eq!(dials(&sleep_until(&mut links, at(0) + DIAL_STAGGER)), [2]);
    let failed = Input::DialFailed {
        dial: DialId(0),
        reason: "refused".into(),
    };
    links.handle_input(at(260), failed);
    assert_eq!(dials(&drain(&mut links)), [3]);
}

#[test]
fn a_neighbour_is_tried_for_ever_with_growing_pauses() {
    let mut links = links();
    links.handle_input(
        at(0),
        Input::Add(Neighbour {
            addresses: vec![remote(1)],
            node: None,
        }),
    );
    let mut now = at(0);
    let mut pauses = Vec::new();

    for dial in 0..12 {
        assert!(
            matches!(drain(&mut links)[0], Output::Dial { .. }),
            "attempt {dial}"
        );
        let failed = Input::DialFailed {
            dial: DialId(dial),
            reason: "refused".into(),
        };
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
    let many = |count: usize| (0..count).map(|port| remote(u16::try_from(port).unwrap() + 1));
    let addresses = many(ADDRESSES_MAX + 1).collect();
    links.handle_input(
        at(0),
        Input::Add(Neighbour {
            addresses,
            node: None,
        }),
    );
    for address in many(NEIGHBOURS_MAX) {
        let addresses = vec![address, remote(9_999)];
        links.handle_input(
            at(0),
            Input::Add(Neighbour {
                addresses,
                node: None,
            }),
        );
    }

    let outputs = sleep_until(&mut links, at(0) + DIAL_STAGGER * 20);

    let dials = outputs
        .iter()
        .filter(|output| matches!(output, Output::Dial { .. }))
        .count();
    assert_eq!(dials, ADDRESSES_MAX + (NEIGHBOURS_MAX - 1) * 2);
}
