//! The last seconds of a withdrawn stream: who is fed until its last packets have come, or were repaired.

use levada_wire::control::FlowMessage;
use levada_wire::control::flow::Request;

use super::flows::star;
use super::*;

fn withdraw(net: &mut Net) {
    net.command(0, FlowInput::Unpublish { name: name("cam") });
    net.settle();
}

fn seconds(seconds: u64) -> RepairBudget {
    RepairBudget::new(Duration::from_secs(seconds))
}

#[test]
fn a_child_whose_request_crosses_the_withdraw_is_fed_to_the_end() {
    let mut net = star();
    net.subscribe(2, 1, "cam");
    net.settle();
    let flow = active(&net.states(2))[0];
    withdraw(&mut net);
    (0..3).for_each(|node| drop(net.told(node)));

    let request = Request {
        flow,
        needs_key: false,
        budget: RepairBudget::DEFAULT,
        have: None,
    };
    let message = Message::Flow(FlowMessage::Request(request));
    net.input(
        1,
        Input::Link(LinkInput::Message {
            link: index(2),
            message,
        }),
    );
    net.pass(ENDING - Duration::from_millis(1));

    assert_eq!((net.told(1), net.told(2)), (vec![], vec![]));
}

#[test]
fn a_flow_with_a_long_budget_ends_when_its_last_packets_cannot_be_repaired_any_more() {
    let mut net = star();
    net.subscribe_with(2, 1, "cam", seconds(10));
    net.settle();
    net.pass(Duration::from_secs(1));
    withdraw(&mut net);
    (0..3).for_each(|node| drop(net.told(node)));

    net.pass(Duration::from_secs(10));
    let told: Vec<_> = (0..3).flat_map(|node| net.told(node)).collect();
    net.pass(2 * ENDING);

    assert_eq!(told, []);
    assert!((0..3).all(|node| net.flow(node, "cam").is_none()));
}

#[test]
fn the_budget_of_a_subscription_that_ends_is_that_of_the_flow_to_the_last() {
    let mut net = star();
    net.subscribe_with(1, 1, "cam", seconds(1));
    net.subscribe_with(2, 1, "cam", RepairBudget::DEFAULT);
    net.settle();
    net.told(1);

    withdraw(&mut net);

    assert_eq!(net.told(1), []);
}
