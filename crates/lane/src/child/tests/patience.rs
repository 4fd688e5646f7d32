//! Tests that nobody is behind for ever, and that nobody's being behind is felt by others.

use levada_wire::datagram::link::LinkDatagram;
use levada_wire::packet::Kind;

use super::held::{Relay, play};
use super::*;
use crate::limits::REPAIR_CREDIT;

/// The heads that went to a child since the last time, with when they went.
fn heads(net: &mut Net, child: usize) -> usize {
    let sent = std::mem::take(&mut net.wires);
    let to_child = sent
        .iter()
        .filter(|(_, it)| it.to == testkit::address(child));
    let datagrams = to_child.flat_map(|(_, transmit)| testkit::datagrams(transmit));
    let links = datagrams.filter(|datagram| Kind::of(datagram) == Kind::Link);
    let said = links.map(|datagram| testkit::open(0, child, &datagram));
    said.filter(|message| matches!(message, LinkDatagram::Head(_)))
        .count()
}

/// Lets only the parent's time pass, and leaves on the wires what it says.
fn sleep_alone(net: &mut Net, time: Duration) {
    use levada_wire::Machine as _;
    let end = net.now + time;
    while let Some(wakeup) = net.lanes[0].poll_timeout().filter(|it| it.at <= end) {
        net.now = wakeup.at;
        net.timeout(0);
    }
    net.now = end;
}

#[test]
fn a_newcomer_whose_flow_is_larger_than_the_share_of_newcomers_gets_live_all_the_same() {
    let mut net = crowd(1, &slow_interface());
    play(&mut net, 0, 25, 25, 20_000); // 4 Mb/s, where newcomers have 2
    add_egress(&mut net, 1, 4_500_000);

    play(&mut net, 25, 100, 25, 20_000);
    net.frames(1);
    let sent = play(&mut net, 125, 50, 25, 20_000);

    assert_eq!((row(&net, 0).newcomers, row(&net, 0).behind), (0, 0));
    assert_eq!(net.frames(1), sent);
}

#[test]
fn whoever_still_waits_for_its_turn_begins_with_the_next_group_as_it_comes() {
    let mut net = crowd(40, &slow_interface());
    push_all(&mut net, &group(0, 2_000));
    for child in 1..=40 {
        add_egress(&mut net, child, 1_000_000);
    }
    net.sleep(20 * MS);

    let next = group(1, 1_000);
    push_all(&mut net, &next);
    net.deliver();

    for child in 5..=40 {
        assert_eq!(net.frames(child), next, "{child}");
    }
    net.sleep(200 * MS);
    assert_eq!(row(&net, 0).newcomers, 0);
    assert_eq!(net.frames(5), []);
}

#[test]
fn packets_out_of_order_do_not_get_an_egress_more_than_it_was_admitted_with() {
    let mut relay = Relay::new(800_000);
    let mut sent = 0;
    for _ in 0..20 {
        // The last of a hundred comes first, so that all others are late.
        let (first, offset) = (relay.next, relay.offset);
        (relay.next, relay.offset) = (first + 99, offset + 99);
        relay.burst(1, false, 0);
        (relay.next, relay.offset) = (first, offset);
        for _ in 0..99 {
            relay.burst(1, false, 0);
        }
        (relay.next, relay.offset) = (first + 100, offset + 100);
        relay.sleep(50 * MS);
        sent += relay.take().0.len();
    }

    // 16 Mb/s for a second: it may have the second that is at once, what is late besides, and what fills meanwhile.
    assert!(sent <= 101 + 101 + 130, "{sent}");
    assert!(sent >= 101, "{sent}");
}

#[test]
fn a_newcomer_on_a_quiet_flow_is_told_its_head_and_nobody_else_is() {
    let mut net = crowd(2, &LaneSettings::default());
    push_all(&mut net, &group(0, 2_000));
    add_egress(&mut net, 1, u64::MAX);
    net.sleep(Duration::from_secs(30));

    add_egress(&mut net, 2, u64::MAX);
    let sent = net.wires.clone();
    sleep_alone(&mut net, Duration::from_secs(30));

    assert!(!sent.is_empty());
    let sent = net.wires.clone();
    assert_eq!(heads(&mut net, 1), 0);
    net.wires = sent;
    assert!(heads(&mut net, 2) >= 3);
}

#[test]
fn newcomers_do_not_put_off_the_head_of_others() {
    let mut net = crowd(60, &LaneSettings::default());
    push_all(&mut net, &group(0, 2_000));
    add_egress(&mut net, 1, u64::MAX);
    for _ in 0..10 {
        net.push(frame(1, false, 80_000, 100));
        net.sleep(5 * MS);
    }
    net.wires.clear();

    // One comes each 5 ms, and the flow has just fallen quiet.
    for child in 2..=60 {
        add_egress(&mut net, child, u64::MAX);
        sleep_alone(&mut net, 5 * MS);
    }

    assert!(heads(&mut net, 1) > 0);
}

#[test]
fn a_next_group_whose_first_two_packets_changed_places_is_not_skipped() {
    let mut relay = Relay::new(800_000);
    relay.drain();
    for _ in 0..40 {
        relay.burst(5, false, 0);
        relay.sleep(10 * MS);
    }
    relay.take();
    relay.sleep(Duration::from_secs(2));
    let first = relay.next;

    (relay.next, relay.offset) = (first + 1, 1);
    relay.burst(1, false, 0);
    (relay.next, relay.offset) = (first, 0);
    relay.burst(1, false, 0);
    (relay.next, relay.offset) = (first + 2, 2);
    relay.burst(1, false, 0);
    relay.sleep(100 * MS);

    let (mut sent, gone) = relay.take();
    sent.sort_unstable();
    assert_eq!(sent, [first, first + 1, first + 2]);
    assert!(gone.iter().all(|&number| number < first));
}

#[test]
fn whoever_skips_is_not_told_that_what_may_still_come_is_gone() {
    let mut relay = Relay::new(800_000);
    relay.drain();
    for _ in 0..40 {
        relay.burst(5, false, 0);
        relay.sleep(10 * MS);
    }
    relay.sleep(Duration::from_secs(2));
    relay.take();
    let next = relay.next;

    relay.ask(&[next]); // it heard of it elsewhere
    let (_, gone) = relay.take();
    relay.begin_group();
    relay.burst(1, false, 0);

    assert_eq!(gone, [0; 0]);
    assert_eq!(relay.take().0, [next]);
}

#[test]
fn children_that_wait_for_a_group_and_go_are_forgotten() {
    let mut relay = Relay::new(u64::MAX);
    (relay.next, relay.offset) = (5, 5); // the start of the group never comes
    relay.burst(3, false, 0);
    relay.sleep(Duration::from_secs(2));
    let (flow, link, terms) = (FLOW, link_to(0), terms(u64::MAX));
    let waiting = |relay: &mut Relay| {
        let flow = relay.net.lanes[1].state_mut().flows.get_mut(FLOW);
        flow.unwrap().children.awaiting
    };
    relay
        .net
        .command(1, Command::Flow(flow, FlowCommand::AddEgress(link, terms)));
    assert_eq!(waiting(&mut relay), 1);

    relay
        .net
        .command(1, Command::Flow(flow, FlowCommand::RemoveEgress(link)));
    assert_eq!(waiting(&mut relay), 0);

    relay
        .net
        .command(1, Command::Flow(flow, FlowCommand::AddEgress(link, terms)));
    relay
        .net
        .command(1, Command::Link(link, LinkCommand::Remove));
    assert_eq!(waiting(&mut relay), 0);
}

#[test]
fn whoever_falls_behind_while_it_waits_for_a_group_is_not_sent_that_from_its_start() {
    let mut relay = Relay::new(800_000);
    let (flow, link, terms) = (FLOW, link_to(2), terms(800_000));
    relay
        .net
        .command(1, Command::Flow(flow, FlowCommand::RemoveEgress(link)));
    relay.burst(1, false, 0);
    (relay.next, relay.offset) = (2, 2); // one is late
    relay.burst(3, false, 0);
    relay.sleep(Duration::from_secs(2));
    relay
        .net
        .command(1, Command::Flow(flow, FlowCommand::AddEgress(link, terms)));
    let flow = relay.net.lanes[1].state_mut().flows.get_mut(FLOW);
    assert_eq!(flow.unwrap().children.awaiting, 1);
    relay.take();
    relay.drain();
    let waiting = relay.burst(1, false, 0);

    (relay.next, relay.offset) = (1, 1);
    let late = relay.burst(1, false, 0);
    relay.sleep(Duration::from_secs(1));

    assert!(relay.net.lanes[1].counters().flows[0].is_joinable);
    let mut sent = relay.take().0;
    sent.sort_unstable();
    assert_eq!(sent, [late, waiting].concat());
}

#[test]
fn leaving_and_joining_in_turns_does_not_renew_the_credit_of_repairs() {
    let mut relay = Relay::new(u64::MAX);
    let numbers = relay.burst(60, false, 0);
    relay.take();
    let (flow, link, terms) = (FLOW, link_to(2), terms(u64::MAX));
    for _ in 0..100 {
        relay
            .net
            .command(1, Command::Flow(flow, FlowCommand::RemoveEgress(link)));
        relay
            .net
            .command(1, Command::Flow(flow, FlowCommand::AddEgress(link, terms)));
        relay.sleep(50 * MS);
        relay.net.wires.clear();
        relay.ask(&numbers);
    }

    let repaired = relay.net.lanes[1].ledger().repair.repairs_sent;
    assert!(repaired >= REPAIR_CREDIT / 2, "{repaired}");
    assert!(
        repaired <= REPAIR_CREDIT + numbers.len() as u64,
        "{repaired}"
    );
}
