//! A flow that moves to another neighbour: it says what it has, and the old way is let go when nothing can be lost.

use levada_wire::control::flow::Request;
use levada_wire::lane::EgressTerms;

use super::*;

/// 0 is reached from 3 through 1 or 2; 3 plays by way of 1, and its packets come.
fn two_ways() -> Net {
    let mut net = Net::new(4, &[(0, 1), (0, 2), (1, 3), (2, 3)]);
    net.publish(0, "cam");
    net.subscribe(3, 1, "cam");
    net.hear(3, "cam", 1, FlowEvent::Delivering);
    assert_eq!(net.egresses(1, "cam"), [3]);
    net
}

/// How a node's datapath was told to feed the others, since the last call.
fn fed(net: &mut Net, node: usize) -> Vec<FlowCommand> {
    let told = net.told(node).into_iter().map(|(_, command)| command);
    told.filter(|command| {
        matches!(
            command,
            FlowCommand::AddEgress(..) | FlowCommand::MoveEgress(..)
        )
    })
    .collect()
}

const TERMS: EgressTerms = EgressTerms {
    peak: Bitrate(4_000_000),
    budget: RepairBudget::DEFAULT,
};

#[test]
fn who_moves_says_what_it_has_and_a_node_that_never_had_the_flow_begins_there() {
    let mut net = two_ways();
    net.told(0);

    net.unlink(3, 1);

    let have = HAVE.unwrap();
    let moved = |node| FlowCommand::MoveEgress(index(node), TERMS, have);
    assert_eq!(fed(&mut net, 0), [moved(2)]);
    let told = net.told(2);
    let begin = |(_, command): &(FlowId, FlowCommand)| *command == FlowCommand::Begin(have);
    assert!(told.iter().any(begin), "{told:?}");
    assert!(
        told.iter().any(|(_, command)| *command == moved(3)),
        "{told:?}"
    );
}

#[test]
fn a_node_whose_own_user_wants_the_flow_begins_with_a_whole_group() {
    let mut net = two_ways();
    net.told(0);
    net.deaf = Some((2, 0));
    net.unlink(3, 1);
    net.subscribe(2, 1, "cam");
    net.deaf = None;
    net.pass(Duration::from_secs(6));

    assert_eq!(fed(&mut net, 0), [FlowCommand::AddEgress(index(2), TERMS)]);
}

#[test]
fn a_newcomer_and_a_neighbour_that_knows_no_moves_are_sent_the_newest_group() {
    let mut net = two_ways();
    let newcomer = FlowCommand::AddEgress(index(3), TERMS);
    assert_eq!(fed(&mut net, 1), std::slice::from_ref(&newcomer));
    let flow = net.flow(3, "cam").unwrap().flow;
    let request = Request {
        flow,
        needs_key: true,
        budget: RepairBudget::DEFAULT,
        have: None,
    };

    let message = Message::Flow(FlowMessage::Request(request));
    let link = index(3);
    net.input(2, Input::Link(LinkInput::Message { link, message }));
    net.settle();

    assert_eq!(fed(&mut net, 2), [newcomer]);
}

#[test]
fn the_old_way_is_kept_until_the_new_one_has_caught_up() {
    let mut net = Net::new(4, &[(0, 1), (1, 2), (2, 3)]);
    net.publish(0, "cam");
    net.subscribe(3, 1, "cam");
    net.deliver(3, "cam", 2);
    net.link(0, 3);
    net.settle();
    let compare = |(_, command): &(FlowId, FlowCommand)| *command == FlowCommand::Compare(index(0));
    assert!(net.told(3).iter().any(compare));

    net.hear(3, "cam", 0, FlowEvent::Delivering);
    assert_eq!(net.egresses(2, "cam"), [3], "a packet is not the flow");
    net.hear(3, "cam", 0, FlowEvent::CaughtUp);

    assert_eq!(net.egresses(2, "cam"), []);
    assert_eq!(net.flow(3, "cam").unwrap().upstream, Some(index(0)));
}

#[test]
fn beside_a_suspect_another_is_asked_which_is_let_go_when_the_suspect_delivers() {
    let mut net = two_ways();
    net.told(2);

    net.hear(3, "cam", 1, FlowEvent::Suspect);
    let moved = FlowCommand::MoveEgress(index(3), TERMS, HAVE.unwrap());
    assert_eq!(fed(&mut net, 2), [moved]);
    assert_eq!(net.egresses(1, "cam"), [3], "it is suspect, not gone");
    net.hear(3, "cam", 1, FlowEvent::Delivering);

    assert_eq!(net.egresses(1, "cam"), [3]);
    assert_eq!(net.egresses(2, "cam"), []);
    assert_eq!(net.flow(3, "cam").unwrap().upstream, Some(index(1)));
}

#[test]
fn a_suspect_whose_place_was_taken_is_not_asked_for_a_while() {
    let mut net = two_ways();

    net.hear(3, "cam", 1, FlowEvent::Suspect);
    net.hear(3, "cam", 2, FlowEvent::CaughtUp);
    assert_eq!(net.flow(3, "cam").unwrap().upstream, Some(index(2)));
    assert_eq!(net.egresses(1, "cam"), []);
    net.pass(Duration::from_secs(5));

    assert_eq!(net.egresses(1, "cam"), []);
    assert_eq!(net.egresses(2, "cam"), [3]);
}

#[test]
fn without_another_way_a_suspect_changes_nothing() {
    let mut net = Net::new(3, &[(0, 1), (1, 2)]);
    net.publish(0, "cam");
    net.subscribe(2, 1, "cam");
    net.deliver(2, "cam", 1);
    net.states(2);

    net.hear(2, "cam", 1, FlowEvent::Suspect);
    net.pass(Duration::from_secs(20));

    assert_eq!(net.egresses(1, "cam"), [2]);
    assert_eq!(net.states(2), [], "it went on all the time");
}
