//! A node with a limited uplink admits what fits, and who is refused goes another way.

use levada_wire::control::flow::RefuseReason;

use super::*;
use crate::limits::LINK_AVOIDED;
use crate::view::FlowCause;

const CAM: Bitrate = Bitrate(4_000_000);

/// Origin 0 behind relays 1 and 2, the first of which may promise so much; and as many players behind both.
fn two_relays(uplink: Bitrate, players: usize) -> Net {
    let limited = |node| Settings {
        uplink: (node == 1).then_some(uplink),
        ..settings(node)
    };
    let nodes = (0..3 + players).map(|node| Control::new(limited(node)));
    let mut net = Net::of(nodes.collect());
    for relay in [1, 2] {
        net.link(0, relay);
    }
    for player in 3..3 + players {
        net.link(1, player);
        net.link(2, player);
    }
    net.settle();
    net.publish(0, "cam");
    net
}

fn admitted(net: &Net, node: usize) -> Bitrate {
    net.nodes[node].admission().admitted_bps
}

fn is_refused(states: &[SubscriptionState]) -> bool {
    let refused = |state: &SubscriptionState| {
        let reason = RefuseReason::Capacity;
        matches!(state, SubscriptionState::Refused { reason: given, .. } if *given == reason)
    };
    states.iter().any(refused)
}

#[test]
fn a_child_that_does_not_fit_is_served_by_the_other_relay_and_shows_why() {
    let mut net = two_relays(Bitrate(2 * CAM.0), 3);

    for (player, relay) in [(3, 1), (4, 1), (5, 2)] {
        net.subscribe(player, 1, "cam");
        net.deliver(player, "cam", relay);
        net.pass(Duration::from_secs(1));
    }

    assert_eq!(net.egresses(1, "cam"), [3, 4]);
    assert_eq!(net.egresses(2, "cam"), [5]);
    assert_eq!(active(&net.states(5)).len(), 1);
    assert_eq!(admitted(&net, 1), Bitrate(2 * CAM.0));
    let row = net.flow(5, "cam").unwrap();
    assert_eq!((row.upstream, row.peak_bps), (Some(index(2)), CAM));
    let refused = FlowCause::Elsewhere {
        link: index(1),
        reason: RefuseReason::Capacity,
    };
    assert_eq!(row.cause, Some(refused));
}

#[test]
fn without_another_way_it_is_refused_for_want_of_capacity_until_there_is_room() {
    let mut net = two_relays(CAM, 2);
    net.unlink(2, 4);
    net.subscribe(3, 1, "cam");

    net.subscribe(4, 1, "cam");
    net.pass(Duration::from_secs(5));
    let refused = net.states(4);
    let cause = net.flow(4, "cam").unwrap().cause;
    net.unsubscribe(3, 1);
    net.pass(LINK_AVOIDED);

    assert!(
        is_refused(&refused) && active(&refused).is_empty(),
        "{refused:?}"
    );
    let reason = RefuseReason::Capacity;
    assert_eq!(cause, Some(FlowCause::Refused { reason }));
    assert_eq!(net.egresses(1, "cam"), [4]);
    assert_eq!(active(&net.states(4)).len(), 1);
}

#[test]
fn a_peak_that_grows_cuts_nobody_and_lets_nobody_in() {
    let mut net = two_relays(Bitrate(3 * CAM.0), 3);
    net.subscribe(3, 1, "cam");
    net.subscribe(4, 1, "cam");

    net.revise(0, "cam", Bitrate(2 * CAM.0));
    net.subscribe(5, 1, "cam");
    net.pass(Duration::from_secs(30));

    assert_eq!(net.egresses(1, "cam"), [3, 4], "nobody is cut");
    assert_eq!(net.egresses(2, "cam"), [5]);
    assert_eq!(admitted(&net, 1), Bitrate(4 * CAM.0), "beyond the uplink");
}

#[test]
fn what_is_admitted_is_given_back_by_whoever_goes_however_he_goes() {
    let mut net = two_relays(Bitrate(10 * CAM.0), 3);
    for player in [3, 4, 5] {
        net.subscribe(player, 1, "cam");
    }
    let all = admitted(&net, 1);

    net.unsubscribe(3, 1);
    net.pass(Duration::from_secs(2));
    let after_a_cancel = admitted(&net, 1);
    net.unlink(1, 4);
    let after_a_lost_link = admitted(&net, 1);
    net.command(0, FlowInput::Unpublish { name: name("cam") });
    net.settle();
    net.pass(Duration::from_secs(20));

    assert_eq!(all, Bitrate(3 * CAM.0));
    assert_eq!(after_a_cancel, Bitrate(2 * CAM.0));
    assert_eq!(after_a_lost_link, CAM);
    assert_eq!(admitted(&net, 1), Bitrate(0));
}

#[test]
fn no_announced_peak_overflows_what_is_admitted() {
    let mut net = two_relays(Bitrate(u64::MAX), 3);
    net.revise(0, "cam", Bitrate(u64::MAX));

    net.subscribe(3, 1, "cam");
    net.subscribe(4, 1, "cam");
    net.pass(Duration::from_secs(1));
    let one = admitted(&net, 1);
    net.revise(0, "cam", CAM);

    assert_eq!(one, Bitrate(u64::MAX));
    assert_eq!(
        net.egresses(1, "cam").len(),
        2,
        "who found it full asked again by now"
    );
    assert_eq!(admitted(&net, 1), Bitrate(2 * CAM.0));
}
