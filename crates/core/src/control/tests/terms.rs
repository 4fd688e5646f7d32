//! What an egress is admitted with: the peak that the origin declares, and the budget that the child wants.

use levada_wire::lane::EgressTerms;

use super::flows::star;
use super::*;

/// The terms of each egress that a datapath was told of, in order.
fn terms(told: &[(FlowId, FlowCommand)]) -> Vec<(LinkIndex, Bitrate, RepairBudget)> {
    let terms = |(_, command): &(FlowId, FlowCommand)| match *command {
        FlowCommand::AddEgress(link, EgressTerms { peak, budget }) => Some((link, peak, budget)),
        _ => None,
    };
    told.iter().filter_map(terms).collect()
}

fn budgets(told: &[(FlowId, FlowCommand)]) -> Vec<RepairBudget> {
    let budget = |(_, command): &(FlowId, FlowCommand)| match *command {
        FlowCommand::SetBudget(budget) => Some(budget),
        _ => None,
    };
    told.iter().filter_map(budget).collect()
}

fn millis(millis: u64) -> RepairBudget {
    RepairBudget::new(Duration::from_millis(millis))
}

#[test]
fn each_egress_has_the_peak_of_its_flow_and_the_budget_of_its_child() {
    let mut net = star();

    net.subscribe_with(2, 1, "cam", millis(800));
    net.subscribe_with(3, 1, "cam", millis(200));

    let peak = Bitrate(4_000_000);
    assert_eq!(
        terms(&net.told(1)),
        [(index(2), peak, millis(800)), (index(3), peak, millis(200))]
    );
    let origin = net.told(0);
    assert_eq!(terms(&origin), [(index(1), peak, millis(800))]);
    assert_eq!(budgets(&origin), [millis(800)]);
}

#[test]
fn a_budget_that_grows_is_said_again_up_to_the_origin_and_shrinks_with_who_leaves() {
    let mut net = star();
    net.subscribe(2, 1, "cam");
    net.pass(Duration::from_secs(1));
    net.told(0);

    net.subscribe_with(3, 1, "cam", millis(3_000));
    let grown = net.told(0);
    net.unsubscribe(3, 1);
    net.pass(2 * LINGER);
    let shrunk = net.told(0);

    let peak = Bitrate(4_000_000);
    for (told, budget) in [(grown, millis(3_000)), (shrunk, RepairBudget::DEFAULT)] {
        assert_eq!(terms(&told), [(index(1), peak, budget)]);
        assert_eq!(budgets(&told), [budget]);
    }
}

#[test]
fn two_subscriptions_at_one_node_share_the_larger_budget() {
    let mut net = star();

    net.subscribe_with(2, 1, "cam", millis(100));
    net.subscribe_with(2, 2, "cam", millis(900));
    net.subscribe_with(2, 3, "cam", millis(300));

    assert_eq!(budgets(&net.told(2)), [millis(100), millis(900)]);
}

#[test]
fn a_peak_that_changes_is_that_of_every_egress_there_is() {
    let mut net = star();
    net.subscribe(2, 1, "cam");
    net.told(0);
    net.told(1);

    net.revise(0, "cam", Bitrate(9_000_000));

    for (node, child) in [(0, 1), (1, 2)] {
        let expected = (index(child), Bitrate(9_000_000), RepairBudget::DEFAULT);
        assert_eq!(terms(&net.told(node)), [expected], "of node {node}");
    }
}

fn peaks(net: &Net) -> Vec<Bitrate> {
    let peak = |node: &Control| node.view().streams[0].peak_bps;
    net.nodes.iter().map(peak).collect()
}

/// The datapath of node 0 measures that rate of its stream once a second.
fn measure(net: &mut Net, seconds: u64, rate: u64) {
    for _ in 0..seconds {
        net.pass(Duration::from_secs(1));
        let flow = net.nodes[0].view().streams[0].flow;
        let rate = Bitrate(rate);
        net.input(
            0,
            Input::Lane(lane::Event::Flow(flow, FlowEvent::Measured(rate))),
        );
    }
    net.settle();
}

#[test]
fn what_is_measured_is_declared_to_everybody_and_a_new_description_leaves_it() {
    let mut net = Net::new(3, &[(0, 1), (1, 2)]);
    let measured = Offer {
        is_measured: true,
        ..offer("cam", net.wall)
    };
    net.command(0, FlowInput::Publish(measured));
    net.settle();

    measure(&mut net, 2, 1_000_000);
    let before = peaks(&net);
    measure(&mut net, 2, 1_000_000);
    let after = peaks(&net);
    net.revise(0, "cam", Bitrate(9_000_000));

    assert_eq!(
        before,
        [Bitrate(4_000_000); 3],
        "what it was published with"
    );
    assert_eq!(after, [Bitrate(1_300_000); 3]);
    assert_eq!(peaks(&net), after);
}

#[test]
fn a_declared_peak_stays_whatever_is_measured_and_its_publisher_is_told_once_a_minute() {
    let mut net = star();

    measure(&mut net, 119, 50_000_000);

    assert_eq!(peaks(&net), [Bitrate(4_000_000); 4]);
    let told = net.events[0].iter();
    let told = told.filter(|event| matches!(event, Event::PeakExceeded { .. }));
    assert_eq!(told.count(), 2);
}

#[test]
fn whoever_waits_shorter_than_a_picture_takes_is_named_if_it_is_a_child() {
    let mut net = star();
    net.subscribe_with(2, 1, "cam", millis(100));
    let flow = net.nodes[1].view().streams[0].flow;
    let (takes, budget) = (Duration::from_millis(170), Duration::from_millis(100));

    for link in [index(2), index(3), index(77)] {
        let slow = FlowEvent::Slow {
            link,
            takes,
            budget,
        };
        net.input(1, Input::Lane(lane::Event::Flow(flow, slow)));
    }

    let told = net.events[1].iter();
    let told: Vec<_> = told
        .filter(|event| matches!(event, Event::PathTooSlow { .. }))
        .collect();
    let [Event::PathTooSlow { name, peer, .. }] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!((name.as_str(), *peer), ("cam", net.nodes[2].id()));
}
