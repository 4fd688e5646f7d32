//! Children that move: where they are sent on, what they are not sent, and when they have caught up.

use levada_wire::Number;
use levada_wire::lane::{self, FlowEvent};

use super::*;
use crate::api::Event;
use crate::limits::MOVED_FOR;

fn move_egress(net: &mut Net, parent: usize, child: usize, peak: u64, has: u64) {
    let (link, has) = (link_to(child), Number::new(has).unwrap());
    let command = FlowCommand::MoveEgress(link, terms(peak), has);
    net.command(parent, Command::Flow(FLOW, command));
}

/// Packets that a lane has taken and has sent.
fn packets(net: &Net, lane: usize) -> (u64, u64) {
    let row = row(net, lane);
    (row.packets_in, row.packets_out)
}

/// What a lane told the core of its flow, since the last call.
fn told(net: &mut Net, lane: usize) -> Vec<FlowEvent> {
    let events = std::mem::take(&mut net.events[lane]);
    let told = |event| match event {
        Event::Core(lane::Event::Flow(FLOW, event)) => Some(event),
        _ => None,
    };
    events.into_iter().filter_map(told).collect()
}

#[test]
fn a_child_that_moved_is_sent_at_once_what_follows_on_what_it_has() {
    let mut net = crowd(1, &slow_interface());
    push_all(&mut net, &group(0, 2_000));
    let (made, _) = packets(&net, 0);

    move_egress(&mut net, 0, 1, 40_000_000, 7);
    assert_eq!(packets(&net, 0).1, made - 7, "beside the row of newcomers");
    net.push(group(1, 2_000)[0].clone());

    let (made, sent) = packets(&net, 0);
    assert_eq!(sent, made - 7);
    assert_eq!((row(&net, 0).newcomers, row(&net, 0).behind), (0, 0));
}

#[test]
fn a_child_that_is_ahead_is_not_sent_what_it_has() {
    let mut net = crowd(1, &LaneSettings::default());
    push_all(&mut net, &group(0, 2_000));
    let (made, _) = packets(&net, 0);
    let (has, picture) = (made + 6, made.div_ceil(10));

    move_egress(&mut net, 0, 1, u64::MAX, has);
    push_all(&mut net, &group(1, 2_000)[..5]);

    // What is sent at once is not cut: the first send may begin with something that it has.
    let (after, sent) = packets(&net, 0);
    let due = after - has..after - has + picture;
    assert!(after > has + picture);
    assert!(due.contains(&sent), "{sent} of {after}");
}

#[test]
fn who_says_that_it_has_what_nobody_has_is_sent_nothing_for_a_second() {
    let mut net = crowd(1, &LaneSettings::default());
    push_all(&mut net, &group(0, 2_000));
    let pictures = group(1, 2_000);

    move_egress(&mut net, 0, 1, u64::MAX, 1 << 47);
    net.push(pictures[0].clone());
    assert_eq!(packets(&net, 0).1, 0);
    net.sleep(MOVED_FOR);
    let before = packets(&net, 0); // with what it asked for again
    net.push(pictures[1].clone());

    let after = packets(&net, 0);
    assert_eq!(after.1 - before.1, after.0 - before.0);
}

#[test]
fn more_than_a_child_may_be_sent_at_once_goes_out_in_turn_with_newcomers_but_from_there_on() {
    let mut net = crowd(1, &slow_interface());
    push_all(&mut net, &group(0, 4_000));
    let begin = FlowCommand::Begin(Number::new(7).unwrap());
    net.command(1, Command::Flow(FLOW, begin));

    move_egress(&mut net, 0, 1, 100_000, 7);
    assert_eq!(row(&net, 0).newcomers, 1);
    net.push(group(1, 4_000)[0].clone());
    net.sleep(4_000 * MS);

    let (made, sent) = packets(&net, 0);
    assert_eq!(
        sent,
        made - 7,
        "a group that begins meanwhile changes nothing"
    );
    assert_eq!((row(&net, 0).newcomers, row(&net, 0).behind), (0, 0));
}

#[test]
fn what_the_cache_has_let_go_of_is_said_to_be_gone_and_the_rest_is_sent() {
    let settings = LaneSettings {
        flow_cache_bytes_max: 20_000,
        ..LaneSettings::default()
    };
    let mut net = crowd(1, &settings);
    push_all(&mut net, &group(0, 8_000));
    let (made, _) = packets(&net, 0);

    move_egress(&mut net, 0, 1, u64::MAX, 2);
    net.deliver();

    let (_, sent) = packets(&net, 0);
    assert!((1..made / 2).contains(&sent), "{sent} of {made}");
    assert!(net.lanes[0].ledger().repair.gones_pushed > 0);
}

/// Lane 1 is fed by 0, and 2 has the flow too; 2 is to take the place of 0.
fn two_parents() -> Net {
    let mut net = crowd(2, &LaneSettings::default());
    for child in [1, 2] {
        add_egress(&mut net, child, u64::MAX);
    }
    push_all(&mut net, &group(0, 2_000));
    net.deliver();
    told(&mut net, 1);
    for command in [FlowCommand::AddUpstream, FlowCommand::Reach] {
        net.command(1, Command::Flow(FLOW, command(link_to(2))));
    }
    net
}

#[test]
fn a_lane_says_how_far_a_flow_has_come_and_when_another_parent_has_come_beyond_that() {
    let mut net = two_parents();
    let (came, _) = packets(&net, 1);
    let (link, have) = (link_to(2), Number::new(came));
    assert_eq!(told(&mut net, 1), [FlowEvent::Reached { link, have }]);

    net.command(1, Command::Flow(FLOW, FlowCommand::Compare(link)));
    move_egress(&mut net, 2, 1, u64::MAX, came - 4);
    net.deliver();
    assert_eq!(told(&mut net, 1), [FlowEvent::Delivering(link)]);
    assert_eq!(net.lanes[1].ledger().dropped(DropReason::Duplicate), 4);
    net.push(group(1, 2_000)[0].clone());
    net.deliver();

    assert_eq!(told(&mut net, 1), [FlowEvent::CaughtUp(link)]);
}

#[test]
fn a_parent_that_has_nothing_new_says_so_and_has_caught_up() {
    let mut net = two_parents();
    let (came, _) = packets(&net, 1);
    let link = link_to(2);
    told(&mut net, 1);

    net.command(1, Command::Flow(FLOW, FlowCommand::Compare(link)));
    move_egress(&mut net, 2, 1, u64::MAX, came);
    net.sleep(500 * MS);

    let expected = [FlowEvent::Delivering(link), FlowEvent::CaughtUp(link)];
    assert_eq!(told(&mut net, 1), expected);
    assert_eq!(net.lanes[1].ledger().dropped(DropReason::Duplicate), 0);
}

#[test]
fn a_relay_begins_in_the_middle_of_a_group_and_asks_for_nothing_before() {
    let mut net = crowd(1, &LaneSettings::default());
    push_all(&mut net, &group(0, 2_000));
    let (made, _) = packets(&net, 0);
    let begin = Number::new(made - 6).unwrap();

    net.command(1, Command::Flow(FLOW, FlowCommand::StopConsuming));
    net.command(1, Command::Flow(FLOW, FlowCommand::Begin(begin)));
    move_egress(&mut net, 0, 1, u64::MAX, made - 6);
    net.sleep(100 * MS);

    assert_eq!(packets(&net, 1).0, 6);
    assert_eq!(net.lanes[1].ledger().repair.nacks_sent, 0);
    push_all(&mut net, &group(1, 2_000));
    net.deliver();
    assert!(row(&net, 1).is_joinable, "from the next group on");
}
