//! Neighbours that refuse, that lost their own way, or that accept and deliver nothing: another is found.

use levada_wire::control::FlowMessage;
use levada_wire::control::flow::{Refuse, RefuseReason};

use super::*;
use crate::limits::{ANSWER_DEADLINE, STALLED_AFTER};

/// Origin 0, relays 1 and 2, player 3 at both; relay 1 is taken first.
fn two_ways() -> Net {
    let mut net = Net::new(4, &[(0, 1), (0, 2), (1, 3), (2, 3)]);
    net.publish(0, "cam");
    net
}

impl Net {
    /// A node hears a refusal from a neighbour.
    fn hear_refusal(&mut self, node: usize, from: usize, reason: RefuseReason) {
        let flow = self.flow(node, "cam").unwrap().flow;
        let message = Message::Flow(FlowMessage::Refuse(Refuse { flow, reason }));
        let link = index(from);
        self.input(node, Input::Link(LinkInput::Message { link, message }));
        self.settle();
    }
}

#[test]
fn a_node_that_does_not_relay_attracts_nothing() {
    // Over node 1 the way to the player is shorter.
    let unwilling = Settings {
        relay: false,
        ..settings(1)
    };
    let nodes = [0, 1, 2, 3, 4].map(|node| match node {
        1 => unwilling.clone(),
        _ => settings(node),
    });
    let mut net = Net::of(nodes.map(Control::new).into());
    for (a, b) in [(0, 1), (1, 4), (0, 2), (2, 3), (3, 4)] {
        net.link(a, b);
    }
    net.publish(0, "cam");
    net.publish(1, "own");

    net.subscribe(4, 1, "cam");
    net.subscribe(4, 2, "own");

    let states = net.states(4);
    assert_eq!(active(&states).len(), 2, "{states:?}");
    assert_eq!(net.egresses(3, "cam"), [4]);
    let refused = |state: &SubscriptionState| matches!(state, SubscriptionState::Refused { .. });
    assert!(!states.iter().any(refused), "{states:?}");
}

#[test]
fn whatever_the_reason_of_a_refusal_another_way_is_taken_at_once() {
    for reason in RefuseReason::all() {
        let mut net = two_ways();
        net.deaf = Some((3, 1));
        net.subscribe(3, 1, "cam");

        net.hear_refusal(3, 1, reason);

        assert_eq!(net.egresses(2, "cam"), [3], "{reason}");
    }
}

#[test]
fn who_does_not_answer_is_not_asked_again_while_another_may_be() {
    let mut net = two_ways();
    net.deaf = Some((3, 1));
    net.subscribe(3, 1, "cam");

    net.pass(Duration::from_secs(4));

    assert_eq!(net.egresses(2, "cam"), [3]);
}

#[test]
fn a_parent_that_lost_its_own_way_refuses_whom_it_fed() {
    let mut net = two_ways();
    net.subscribe(3, 1, "cam");
    net.deliver(3, "cam", 1);
    assert_eq!(net.egresses(1, "cam"), [3]);

    // Its own parent forgets it and hears it no more, and nobody else can serve it.
    net.deaf = Some((1, 0));
    net.hear_refusal(1, 0, RefuseReason::Other);
    net.pass(ANSWER_DEADLINE - Duration::from_millis(1));
    assert_eq!(net.egresses(1, "cam"), [3], "it may get it back");
    net.pass(Duration::from_millis(100));

    assert_eq!(net.egresses(1, "cam"), []);
    assert_eq!(net.egresses(2, "cam"), [3]);
}

#[test]
fn who_accepts_and_delivers_nothing_has_a_challenger_and_the_consumer_is_told() {
    let mut net = two_ways();
    net.subscribe(3, 1, "cam");
    net.states(3);

    net.pass(STALLED_AFTER + Duration::from_millis(1));

    let flow = net.flow(3, "cam").unwrap().flow;
    assert_eq!(net.states(3), [SubscriptionState::Stalled { flow }]);
    assert_eq!(
        (net.egresses(1, "cam"), net.egresses(2, "cam")),
        (vec![3], vec![3]),
        "the old one is kept until the other delivers"
    );
    net.deliver(3, "cam", 2);
    assert_eq!(net.egresses(1, "cam"), []);
    assert_eq!(active(&net.states(3)), [flow]);
}

#[test]
fn who_delivers_has_no_challenger() {
    let mut net = two_ways();
    net.subscribe(3, 1, "cam");
    net.deliver(3, "cam", 1);
    net.states(3);

    net.pass(Duration::from_secs(20));

    assert_eq!(net.egresses(2, "cam"), []);
    assert_eq!(net.states(3), []);
}
