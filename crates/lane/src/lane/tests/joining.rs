//! Tests of joining a flow whose newest group has a hole: who waits, who is told, and what a late packet changes.

use bytes::Bytes;

use super::*;

const BUDGET: Duration = Duration::from_millis(500);

/// Lane 0 is the origin, lane 1 its child, which lacks packet 2 of 5 and has given it up. The others have no part yet.
/// Gives the lost packet.
fn relay_with_a_hole() -> (Net, Bytes) {
    let mut net = Net::new(4);
    net.command(
        0,
        Command::Flow(FLOW, FlowCommand::Originate(Box::new(testkit::originate()))),
    );
    net.join(0, 1);
    for dts in 0..5 {
        net.push(frame(1, dts == 0, dts, 10));
    }
    let mut packets = net.intercept();
    let lost = packets.remove(2);
    net.cut = Some(0);
    for packet in packets {
        net.arrive_alone(0, 1, packet);
    }
    net.sleep(2 * BUDGET);
    net.cut = None;
    (net, lost)
}

/// The next group begins, and goes on.
fn next_group(net: &mut Net) -> Vec<Frame> {
    let frames: Vec<Frame> = (0..3)
        .map(|at| frame(1, at == 0, (2 + at) * 90_000, 10))
        .collect();
    for frame in &frames {
        net.push(frame.clone());
    }
    net.deliver();
    frames
}

fn row(net: &Net, lane: usize) -> crate::api::FlowCounters {
    net.lanes[lane].counters().flows[0]
}

#[test]
fn a_hole_that_repair_has_given_up_moves_the_join_point_to_the_next_group() {
    let (mut net, _) = relay_with_a_hole();
    assert_eq!(
        (row(&net, 1).is_joinable, row(&net, 1).cache_holes),
        (false, 1)
    );

    net.join(1, 2);
    net.command(2, testkit::consume());
    net.push(frame(1, false, 5, 10));
    net.sleep(BUDGET);
    assert!(net.deliveries(2).is_empty());
    assert!(!row(&net, 2).is_joinable);
    let frames = next_group(&mut net);

    assert_eq!(net.frames(2), frames);
    assert!(row(&net, 1).is_joinable && row(&net, 2).is_joinable);
    assert_eq!(net.lanes[2].ledger().repair.nacks_sent, 0);
}

#[test]
fn while_the_hole_may_be_filled_a_newcomer_joins_and_the_repair_follows() {
    let mut net = Net::new(3);
    net.command(
        0,
        Command::Flow(FLOW, FlowCommand::Originate(Box::new(testkit::originate()))),
    );
    net.join(0, 1);
    let sent: Vec<Frame> = (0..5).map(|dts| frame(1, dts == 0, dts, 10)).collect();
    for frame in &sent {
        net.push(frame.clone());
    }
    let packets = net.intercept();
    for at in [0, 1, 3, 4] {
        net.arrive_alone(0, 1, packets[at].clone());
    }

    net.join(1, 2);
    net.command(2, testkit::consume());
    net.sleep(BUDGET);

    assert_eq!(net.frames(2), sent);
    assert_eq!(row(&net, 1).cache_holes, 0);
}

#[test]
fn a_late_repair_lets_those_who_wait_join_after_all() {
    let (mut net, lost) = relay_with_a_hole();
    net.join(1, 2);
    net.command(2, testkit::consume());
    net.deliver();

    net.arrive_alone(0, 1, lost);
    net.sleep(BUDGET);

    assert_eq!(net.frames(2).len(), 5);
    assert!(row(&net, 1).is_joinable && row(&net, 2).is_joinable);
    assert_eq!(row(&net, 1).cache_holes, 1);
}

#[test]
fn a_packet_of_the_late_group_that_is_lost_on_the_way_to_whom_waits_is_repaired_too() {
    let (mut net, lost) = relay_with_a_hole();
    net.join(1, 2);
    net.command(2, testkit::consume());
    net.deliver();
    net.push(frame(1, false, 5, 10)); // what comes first there
    net.deliver();

    net.arrive_alone(0, 1, lost);
    net.wires
        .retain(|(_, transmit)| transmit.to == testkit::address(2));
    let packets = net.intercept();
    let (once, group) = packets.split_at(1);
    assert_eq!((once.len(), group.len()), (1, 6));
    for at in [0, 1, 3, 5] {
        net.arrive_alone(1, 2, group[at].clone());
    }
    net.sleep(BUDGET);

    assert_eq!(net.frames(2).len(), 6);
}

#[test]
fn a_subscriber_that_waits_here_joins_when_the_hole_is_filled() {
    let (mut net, lost) = relay_with_a_hole();
    net.command(1, testkit::consume());
    assert!(net.deliveries(1).is_empty());

    net.arrive_alone(0, 1, lost);

    assert_eq!(net.frames(1).len(), 5);
}

#[test]
fn whoever_joins_below_one_that_waits_waits_as_well() {
    let (mut net, _) = relay_with_a_hole();
    net.join(1, 2);
    net.push(frame(1, false, 5, 10));
    net.deliver();

    net.join(2, 3);
    net.command(3, testkit::consume());
    net.push(frame(1, false, 6, 10));
    net.sleep(BUDGET);
    assert!(net.deliveries(3).is_empty());
    let frames = next_group(&mut net);

    assert_eq!(net.frames(3), frames);
    assert_eq!(net.lanes[3].ledger().repair.nacks_sent, 0);
}

#[test]
fn a_child_that_goes_away_while_it_waits_is_sent_nothing() {
    let (mut net, lost) = relay_with_a_hole();
    net.join(1, 2);
    let (flow, link) = (FLOW, link_to(2));
    net.command(1, Command::Flow(flow, FlowCommand::RemoveEgress(link)));
    net.deliver();

    net.arrive_alone(0, 1, lost);

    assert!(net.wires.is_empty());
}

#[test]
fn a_consumer_that_comes_between_the_middle_of_a_group_and_its_start_plays_all_of_it() {
    let mut net = Net::new(2);
    net.command(
        0,
        Command::Flow(FLOW, FlowCommand::Originate(Box::new(testkit::originate()))),
    );
    net.join(0, 1);
    let sent: Vec<Frame> = (0..5).map(|dts| frame(1, dts == 0, dts, 10)).collect();
    for frame in &sent {
        net.push(frame.clone());
    }
    let packets = net.intercept();
    for at in [1, 2, 4] {
        net.arrive_alone(0, 1, packets[at].clone());
    }

    net.command(1, testkit::consume());
    for at in [0, 3] {
        net.arrive_alone(0, 1, packets[at].clone());
    }

    assert_eq!(net.frames(1), sent);
}
