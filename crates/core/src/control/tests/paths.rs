//! A flow that comes over two ways at the same time, and who is asked when one of them fails.

use levada_wire::control::flow::RefuseReason;

use super::*;
use crate::view::FlowCause;

/// 0 is reached from 4 through 1, 2 or 3.
const THREE: [(usize, usize); 6] = [(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4)];

/// 4 plays over as many ways, and the first packets have come.
fn playing(paths: Paths, links: &[(usize, usize)]) -> Net {
    let mut net = Net::new(5, links);
    net.paths = paths;
    net.publish(0, "cam");
    net.subscribe(4, 1, "cam");
    net.hear(4, "cam", 1, FlowEvent::Delivering);
    if let Some(second) = ways(&net).1 {
        net.hear(4, "cam", second, FlowEvent::Delivering);
    }
    net
}

/// From whom 4 has the flow, and from whom besides.
fn ways(net: &Net) -> (Option<usize>, Option<usize>) {
    let row = net.flow(4, "cam").unwrap();
    let number = |link: Option<LinkIndex>| link.map(|link| link.0 as usize);
    (number(row.upstream), number(row.second_upstream))
}

/// What 4 was told of its subscription since the last call, in short.
fn told_of(net: &mut Net) -> Vec<&'static str> {
    let short = |state: SubscriptionState| match state {
        SubscriptionState::Active { .. } => Some("active"),
        SubscriptionState::OnePath { .. } => Some("one path"),
        _ => None,
    };
    net.states(4).into_iter().filter_map(short).collect()
}

#[test]
fn who_wants_two_ways_is_fed_by_two_neighbours_and_who_wants_one_by_one() {
    let mut two = playing(Paths::Two, &THREE);
    let mut one = playing(Paths::One, &THREE);

    assert_eq!(ways(&two), (Some(1), Some(2)));
    assert_eq!(
        (two.egresses(1, "cam"), two.egresses(2, "cam")),
        (vec![4], vec![4])
    );
    assert_eq!(told_of(&mut two), ["active"]);
    assert_eq!(ways(&one), (Some(1), None));
    assert_eq!(
        (one.egresses(2, "cam"), told_of(&mut one)),
        (vec![], vec!["active"])
    );
}

#[test]
fn when_one_of_two_dies_the_other_goes_on_and_a_third_is_asked() {
    for dead in [1, 2] {
        let mut net = playing(Paths::Two, &THREE);
        let left = 3 - dead;
        net.told(4);
        told_of(&mut net);

        net.unlink(4, dead);

        assert_eq!(ways(&net), (Some(left), Some(3)), "without {dead}");
        assert_eq!(net.egresses(3, "cam"), [4]);
        let told = net.told(4);
        let other = FlowCommand::RemoveUpstream(index(left));
        assert!(
            told.iter().all(|(_, command)| *command != other),
            "{told:?}"
        );
        assert_eq!(told_of(&mut net), [""; 0], "nothing is noticed");
    }
}

#[test]
fn a_suspect_gives_its_place_to_the_other_and_a_third_is_asked() {
    for suspect in [1, 2] {
        let mut net = playing(Paths::Two, &THREE);
        let left = 3 - suspect;
        told_of(&mut net);

        net.hear(4, "cam", suspect, FlowEvent::Suspect);

        assert_eq!(ways(&net), (Some(left), Some(3)), "beside {suspect}");
        net.hear(4, "cam", 3, FlowEvent::Delivering);
        assert_eq!(told_of(&mut net), [""; 0]);
    }
}

#[test]
fn a_suspect_that_nobody_can_replace_is_kept() {
    let mut net = playing(Paths::Two, &[(0, 1), (0, 2), (1, 4), (2, 4)]);

    net.hear(4, "cam", 1, FlowEvent::Suspect);

    assert_eq!(ways(&net), (Some(2), Some(1)));
    assert_eq!(
        (net.egresses(1, "cam"), net.egresses(2, "cam")),
        (vec![4], vec![4])
    );
}

#[test]
fn where_there_is_one_way_it_is_said_until_there_are_two() {
    let mut net = playing(Paths::Two, &[(0, 1), (0, 2), (1, 4)]);
    let cause = |net: &Net| net.flow(4, "cam").unwrap().cause;
    assert_eq!(told_of(&mut net), ["active", "one path"]);
    assert_eq!(cause(&net), Some(FlowCause::OnePath { refused: None }));

    net.link(2, 4);
    net.settle();
    assert_eq!(ways(&net), (Some(1), Some(2)));
    net.hear(4, "cam", 2, FlowEvent::Delivering);

    assert_eq!((told_of(&mut net), cause(&net)), (vec!["active"], None));
}

#[test]
fn a_second_way_is_admitted_like_any_and_its_refusal_is_said() {
    let mut nodes: Vec<Control> = (0..5).map(|node| Control::new(settings(node))).collect();
    nodes[2] = Control::new(Settings {
        uplink: Some(Bitrate(1_000_000)),
        ..settings(2)
    });
    let mut net = Net::of(nodes);
    for (a, b) in [(0, 1), (0, 2), (1, 4), (2, 4)] {
        net.link(a, b);
    }
    net.settle();
    net.paths = Paths::Two;
    net.publish(0, "cam");
    net.subscribe(4, 1, "cam");
    net.hear(4, "cam", 1, FlowEvent::Delivering);
    net.pass(Duration::from_secs(1));

    let refused = Some(RefuseReason::Capacity);
    assert_eq!(ways(&net), (Some(1), None));
    let cause = net.flow(4, "cam").unwrap().cause;
    assert_eq!(cause, Some(FlowCause::OnePath { refused }));
    assert!(told_of(&mut net).ends_with(&["one path"]));
}

#[test]
fn of_two_as_near_the_one_that_shares_no_node_is_the_second() {
    // 1 and 3 lie behind 5, 2 behind 6.
    let links = [
        (0, 5),
        (0, 6),
        (5, 1),
        (5, 3),
        (6, 2),
        (1, 4),
        (3, 4),
        (2, 4),
    ];
    let mut net = Net::new(7, &links);
    net.paths = Paths::Two;
    net.publish(0, "cam");
    net.subscribe(4, 1, "cam");
    let first = ways(&net).0.unwrap();
    net.hear(4, "cam", first, FlowEvent::Delivering);

    assert_eq!(first, 1, "the oldest of three as near");
    assert_eq!(ways(&net).1, Some(2), "3 shares node 5 with it");
}

#[test]
fn a_second_that_accepts_and_brings_nothing_is_replaced() {
    let mut net = Net::new(5, &THREE);
    net.paths = Paths::Two;
    net.publish(0, "cam");
    net.subscribe(4, 1, "cam");
    net.hear(4, "cam", 1, FlowEvent::Delivering);
    assert_eq!(ways(&net), (Some(1), Some(2)));

    net.pass(Duration::from_secs(5));

    assert_eq!(ways(&net), (Some(1), Some(3)));
    assert_eq!(net.egresses(2, "cam"), []);
}

#[test]
fn the_second_goes_with_who_wanted_it_and_both_with_the_last() {
    let mut net = playing(Paths::Two, &THREE);
    net.paths = Paths::One;
    net.subscribe(4, 2, "cam");
    assert_eq!(ways(&net), (Some(1), Some(2)));

    net.unsubscribe(4, 1);
    assert_eq!(ways(&net), (Some(1), None));
    assert_eq!(
        (net.egresses(1, "cam"), net.egresses(2, "cam")),
        (vec![4], vec![])
    );

    net.paths = Paths::Two;
    net.subscribe(4, 3, "cam");
    assert_eq!(ways(&net), (Some(1), Some(2)));
    net.unsubscribe(4, 2);
    net.unsubscribe(4, 3);
    net.pass(LINGER + Duration::from_secs(1));
    assert!(net.flow(4, "cam").is_none());
    assert_eq!(
        (net.egresses(1, "cam"), net.egresses(2, "cam")),
        (vec![], vec![])
    );
}

#[test]
fn of_two_ways_none_makes_a_loop_and_no_node_feeds_its_own_parent() {
    // A ring: everybody plays over two ways, as far as two are feasible.
    let mut net = Net::new(5, &[(0, 1), (1, 2), (2, 3), (3, 4), (4, 0), (1, 4), (2, 4)]);
    net.paths = Paths::Two;
    net.publish(0, "cam");
    for node in 1..5 {
        net.subscribe(node, 1, "cam");
    }
    for _ in 0..4 {
        for node in 1..5 {
            let row = net.flow(node, "cam").unwrap();
            for from in [row.upstream, row.second_upstream].into_iter().flatten() {
                net.hear(node, "cam", from.0 as usize, FlowEvent::Delivering);
            }
        }
        net.pass(Duration::from_secs(4));
    }

    let mut has_two = 0;
    for node in 1..5 {
        let row = net.flow(node, "cam").unwrap();
        let from = [row.upstream, row.second_upstream];
        assert_ne!(row.upstream, None, "node {node}");
        assert_ne!(row.upstream, row.second_upstream, "node {node}");
        has_two += usize::from(row.second_upstream.is_some());
        for from in from.into_iter().flatten() {
            assert!(
                !row.egresses.contains(&from),
                "node {node} feeds its parent"
            );
        }
    }
    assert!(has_two > 0, "somebody has two ways");
}
