//! Tests of a lane: streams through chains of lanes, limits, commands that make no sense. The contract: `chaos.rs`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddr;
use std::time::Duration;

use levada_wire::datagram::link::{LinkDatagram, Ping};
use levada_wire::lane;
use levada_wire::machine::OUTPUTS_PER_CALL_MAX;
use levada_wire::{Bitrate, Frame, LinkIndex};

use super::*;
use crate::api::{
    Command, Delivery, EgressTerms, FlowCommand, FlowEvent, FrameRefusal, Input, LinkCommand,
    LinkEvent, Path, PublisherCommand,
};
use crate::ledger::DropReason;
use crate::limits::{EARLY_IN_ALL_MAX, EARLY_PACKETS_MAX, EARLY_REACH_MAX, EGRESSES_MAX};
use crate::testkit::{self, FLOW, Net, frame, link_to};

/// A second of pictures: a large one that can start decoding, and small ones after it.
fn second(from: i64) -> Vec<Frame> {
    let pictures = (0..25).map(|i| {
        frame(
            1,
            i == 0,
            (from * 25 + i) * 3_600,
            200 + 4_000 * usize::from(i == 0),
        )
    });
    pictures.collect()
}

#[test]
fn a_stream_crosses_a_chain_frame_by_frame() {
    let mut net = Net::chain(4);
    net.command(3, testkit::consume());
    let sent: Vec<Frame> = (0..3).flat_map(second).collect();

    for frame in &sent {
        net.push(frame.clone());
        net.sleep(Duration::from_millis(40));
    }

    let got = net.deliveries(3);
    assert!(matches!(&got[0], Delivery::Description(d) if **d == *testkit::description()));
    assert_eq!(testkit::only_frames(got), sent);
    let relay = net.lanes[1].counters();
    assert_eq!(relay.ledger.forwarded, relay.flows[0].packets_in);
    assert_eq!(relay.flows[0].packets_in, relay.flows[0].packets_out);
}

#[test]
fn a_newcomer_starts_with_the_newest_group() {
    let mut net = Net::chain(2);
    for frame in (0..2).flat_map(second).chain(second(2).into_iter().take(5)) {
        net.push(frame);
    }
    net.deliver();

    net.command(1, testkit::consume());

    assert_eq!(net.frames(1), second(2)[..5]);
}

#[test]
fn an_origin_that_nobody_watches_caches_and_sends_nothing() {
    let mut net = Net::chain(1);

    for frame in second(0) {
        net.push(frame);
    }

    let counters = net.lanes[0].counters();
    assert!(net.wires.is_empty());
    assert_eq!(counters.ledger.kept, counters.ledger.made);
    assert_eq!(counters.flows[0].cached_packets, counters.ledger.made);
    assert!(counters.flows[0].is_joinable);
}

#[test]
fn a_local_subscriber_of_the_origin_gets_its_frames() {
    let mut net = Net::chain(1);
    net.command(0, testkit::consume());

    for frame in second(0) {
        net.push(frame);
    }

    assert_eq!(net.frames(0), second(0));
}

#[test]
fn a_burst_goes_on_as_one_send_per_egress() {
    let mut net = Net::chain(1);
    net.push(frame(1, true, 0, 20_000));

    net.command(0, stray_link(7));
    net.command(
        0,
        Command::Flow(
            FLOW,
            FlowCommand::AddEgress(LinkIndex(7), EgressTerms::UNLIMITED),
        ),
    );

    let (_, transmit) = net.wires.pop_front().unwrap();
    assert!(transmit.bytes.len() > 20_000);
    assert!(net.wires.is_empty());
}

/// A link to nobody.
fn stray_link(index: u16) -> Command {
    let key = levada_wire::key::LinkKey::from_bytes([1; 32]);
    Command::Link(
        LinkIndex(u32::from(index)),
        LinkCommand::Add {
            remote_index: LinkIndex(0),
            remote: SocketAddr::from(([10, 9, 9, 9], index)),
            source: None,
            path: Path::Wire,
            send: key.clone(),
            receive: key,
        },
    )
}

#[test]
fn early_packets_wait_for_the_key_and_are_then_taken() {
    let mut net = Net::new(2);
    let flow = FLOW;
    net.command(
        0,
        Command::Flow(FLOW, FlowCommand::Originate(Box::new(testkit::originate()))),
    );
    net.command(
        0,
        Command::Flow(
            flow,
            FlowCommand::AddEgress(link_to(1), EgressTerms::UNLIMITED),
        ),
    );
    net.command(1, Command::Flow(flow, FlowCommand::Open));
    net.command(1, Command::Flow(flow, FlowCommand::AddUpstream(link_to(0))));
    net.command(1, testkit::consume());
    for frame in second(0) {
        net.push(frame);
    }
    net.deliver();
    let held = net.lanes[1].ledger().held;
    assert!(held > 25 && net.frames(1).is_empty());

    net.command(1, testkit::set_carry_key());

    assert_eq!(net.frames(1), second(0));
    assert_eq!(net.lanes[1].ledger().held, 0);
    assert_eq!(net.lanes[1].ledger().consumed, held);
}

#[test]
fn more_early_packets_than_the_limit_are_dropped_for_that_reason() {
    let mut net = Net::new(2);
    let flow = FLOW;
    net.command(
        0,
        Command::Flow(FLOW, FlowCommand::Originate(Box::new(testkit::originate()))),
    );
    net.command(
        0,
        Command::Flow(
            flow,
            FlowCommand::AddEgress(link_to(1), EgressTerms::UNLIMITED),
        ),
    );
    net.command(1, Command::Flow(flow, FlowCommand::Open));
    net.command(1, Command::Flow(flow, FlowCommand::AddUpstream(link_to(0))));

    for _ in 0..300 {
        net.push(frame(2, true, 0, 10));
    }
    net.deliver();

    let ledger = net.lanes[1].ledger();
    let dropped = ledger.dropped(DropReason::EarlyFull);
    assert_eq!(
        (ledger.held, dropped),
        (EARLY_PACKETS_MAX as u64, ledger.arrived - 256)
    );
    net.command(1, Command::Flow(flow, FlowCommand::Close));
    assert_eq!(net.lanes[1].ledger().dropped(DropReason::FlowClosed), 256);
}

#[test]
fn a_fast_flow_may_have_more_early_packets_and_all_flows_together_so_many() {
    let mut net = Net::new(2);
    let flows: Vec<FlowId> = (1..10).map(|at| FlowId(at << 32 | 7)).collect();
    for &flow in &flows {
        for command in [
            FlowCommand::Open,
            FlowCommand::SetPeak(Bitrate(1_000_000_000)),
            FlowCommand::AddUpstream(link_to(0)),
        ] {
            net.command(1, Command::Flow(flow, command));
        }
        for number in 0..2_100 {
            let mut packet = testkit::seal(&testkit::header(number), &[0]).to_vec();
            packet[4..12].copy_from_slice(&flow.0.to_be_bytes()); // who has no key cannot tell
            net.arrive_alone(0, 1, packet.into());
        }
        let held = net.lanes[1].ledger().held;
        let flows = flow.0 >> 32;
        assert_eq!(held, (flows * EARLY_REACH_MAX as u64).min(EARLY_IN_ALL_MAX));
    }

    for flow in flows {
        net.command(1, Command::Flow(flow, FlowCommand::Close));
    }
    assert_eq!(net.lanes[1].ledger().held, 0);
}

#[test]
fn the_first_packet_of_an_upstream_is_reported() {
    let mut net = Net::chain(2);
    net.push(frame(1, true, 0, 10));

    net.deliver();

    let delivering = |event: &Event| match event {
        Event::Core(lane::Event::Flow(FLOW, FlowEvent::Delivering(link))) => *link == link_to(0),
        _ => false,
    };
    assert_eq!(
        net.events[1]
            .iter()
            .filter(|event| delivering(event))
            .count(),
        1
    );
}

#[test]
fn a_ring_of_lanes_delivers_each_frame_once() {
    let mut net = Net::chain(4);
    net.join(3, 1); // 1 -> 2 -> 3 -> 1
    net.command(3, testkit::consume());

    for frame in second(0) {
        net.push(frame);
    }
    net.deliver();

    assert_eq!(net.frames(3), second(0));
    let ledger = net.lanes[1].ledger();
    assert_eq!(ledger.dropped(DropReason::Duplicate), ledger.forwarded);
}

#[test]
fn a_packet_never_goes_back_to_where_it_came_from() {
    let mut net = Net::chain(2);
    net.command(
        1,
        Command::Flow(
            FLOW,
            FlowCommand::AddEgress(link_to(0), EgressTerms::UNLIMITED),
        ),
    );

    net.push(frame(1, true, 0, 10));
    net.deliver();

    let ledger = net.lanes[1].ledger();
    assert_eq!(ledger.unsent(DropReason::BackToSender), ledger.due);
    assert_eq!(ledger.kept, ledger.arrived);
    assert_eq!(net.lanes[0].ledger().arrived, 0);
}

#[test]
fn counts_of_both_ends_of_a_link_agree() {
    let mut net = Net::chain(2);
    for frame in second(0) {
        net.push(frame);
    }
    let ping = LinkDatagram::Ping(Ping {
        time: 1,
        sent: 0,
        padding: 0,
    });

    net.command(0, Command::Link(link_to(1), LinkCommand::Send(ping)));
    net.deliver();

    let Some(Event::Core(lane::Event::Link(
        _,
        LinkEvent::Datagram {
            message: LinkDatagram::Ping(ping),
            received,
            ..
        },
    ))) = net.events[1].last()
    else {
        panic!("no ping came: {:?}", net.events[1].last());
    };
    assert!(ping.sent > 25);
    assert_eq!(ping.sent, *received);
}

#[test]
fn a_removed_link_takes_its_egresses_along() {
    let mut net = Net::chain(2);
    net.push(frame(1, true, 0, 10));
    net.deliver();

    net.command(0, Command::Link(link_to(1), LinkCommand::Remove));
    net.push(frame(1, false, 1, 10));

    assert!(net.wires.is_empty());
    assert_eq!(net.lanes[0].counters().flows[0].packets_out, 1);
}

#[test]
fn other_terms_for_an_egress_send_nothing_again() {
    let mut net = Net::chain(2);
    net.push(frame(1, true, 0, 10));
    net.deliver();
    let sent = net.lanes[0].counters().flows[0].packets_out;
    let terms = EgressTerms {
        peak: Bitrate(5_000_000),
        ..EgressTerms::UNLIMITED
    };

    let (flow, link) = (FLOW, link_to(1));
    net.command(0, Command::Flow(flow, FlowCommand::AddEgress(link, terms)));

    let row = net.lanes[0].counters().flows[0];
    assert_eq!((row.admitted, row.packets_out), (Bitrate(5_000_000), sent));
    assert_eq!(net.lanes[0].counters().commands_refused, 0);
}

#[test]
fn more_copies_than_one_call_may_leave_go_on_in_the_next() {
    let mut net = Net::new(2);
    let flow = FLOW;
    net.command(
        0,
        Command::Flow(FLOW, FlowCommand::Originate(Box::new(testkit::originate()))),
    );
    net.command(
        0,
        Command::Flow(
            flow,
            FlowCommand::AddEgress(link_to(1), EgressTerms::UNLIMITED),
        ),
    );
    net.command(1, Command::Flow(flow, FlowCommand::Open));
    net.command(1, Command::Flow(flow, FlowCommand::AddUpstream(link_to(0))));
    for index in 0..u16::try_from(EGRESSES_MAX).unwrap() {
        net.command(1, stray_link(1_000 + index));
        let link = LinkIndex(1_000 + u32::from(index));
        net.command(
            1,
            Command::Flow(flow, FlowCommand::AddEgress(link, EgressTerms::UNLIMITED)),
        );
    }
    let refused = net.lanes[1].counters().commands_refused;
    net.command(
        1,
        Command::Flow(
            flow,
            FlowCommand::AddEgress(link_to(0), EgressTerms::UNLIMITED),
        ),
    );
    assert_eq!(
        net.lanes[1].counters().commands_refused,
        refused + 1,
        "one egress too many"
    );
    for dts in 0..200 {
        net.push(frame(1, dts == 0, dts, 10));
    }
    net.deliver();

    let now = net.now;
    net.lanes[1].handle_input(now, Input::Command(testkit::set_carry_key()));

    let take = |lane: &mut Lane| std::iter::from_fn(|| lane.poll_output()).count();
    let first = take(&mut net.lanes[1]);
    assert!(first > 50_000 && first <= OUTPUTS_PER_CALL_MAX, "{first}");
    let mut all = first;
    // After all packets the head is said to each egress, which is another thing.
    let goes_on = |lane: &Lane| {
        lane.poll_timeout()
            .filter(|wakeup| wakeup.at < now + Duration::from_millis(1))
    };
    while let Some(wakeup) = goes_on(&net.lanes[1]) {
        net.lanes[1].handle_timeout(wakeup.at);
        let more = take(&mut net.lanes[1]);
        assert!(more > 0 && more <= OUTPUTS_PER_CALL_MAX);
        all += more;
    }
    assert_eq!(all, 200 * EGRESSES_MAX + 1); // and the report of the first packet
    assert!(net.lanes[1].ledger().check().is_zero());
}

#[test]
fn more_frames_than_one_call_may_leave_come_in_the_next() {
    let mut net = Net::new(1);
    let originate = crate::Originate {
        flush_interval: Duration::from_millis(10),
        ..testkit::originate()
    };
    net.command(
        0,
        Command::Flow(FLOW, FlowCommand::Originate(Box::new(originate))),
    );
    let count = OUTPUTS_PER_CALL_MAX + 1_000;
    for dts in 0..i64::try_from(count).unwrap() {
        net.push(frame(1, dts == 0, dts, 0));
    }
    net.sleep(Duration::from_millis(10));

    net.command(0, testkit::consume());

    let first = net.frames(0).len();
    assert!(first < OUTPUTS_PER_CALL_MAX);
    net.sleep(Duration::from_micros(10));
    assert_eq!(first + net.frames(0).len(), count);
}

#[test]
fn commands_beyond_a_limit_or_without_sense_change_one_count() {
    let settings = LaneSettings {
        flows_max: 1,
        links_max: 1,
        ..LaneSettings::default()
    };
    let mut net = Net::with_settings(2, &settings);
    let (flow, other, link) = (FLOW, FlowId(9), LinkIndex(55));
    net.command(0, Command::Flow(flow, FlowCommand::Open));
    let before = net.lanes[0].counters();

    net.command(0, Command::Flow(other, FlowCommand::Open));
    net.command(
        0,
        Command::Flow(flow, FlowCommand::AddEgress(link, EgressTerms::UNLIMITED)),
    );
    net.command(0, Command::Flow(flow, FlowCommand::AddUpstream(link)));
    net.command(
        0,
        Command::Flow(flow, FlowCommand::RemoveEgress(link_to(1))),
    );
    net.command(0, Command::Link(link, LinkCommand::Remove));
    net.command(0, Command::Flow(other, FlowCommand::Close));
    net.command(0, Command::Publisher(flow, PublisherCommand::Finish));
    net.push(frame(1, true, 0, 1));

    let after = net.lanes[0].counters();
    assert_eq!(after.commands_refused - before.commands_refused, 7);
    assert_eq!(after.frames_refused[&FrameRefusal::NotOriginated], 1);
    assert_eq!((after.flows, after.links), (before.flows, before.links));
}

#[test]
fn a_flow_starts_once_under_one_instance() {
    let mut net = Net::chain(1);
    net.push(frame(1, true, 0, 10));

    net.command(
        0,
        Command::Flow(FLOW, FlowCommand::Originate(Box::new(testkit::originate()))),
    );
    net.push(frame(1, false, 1, 10));

    assert_eq!(net.lanes[0].counters().commands_refused, 1);
    assert_eq!(net.lanes[0].ledger().dropped(DropReason::Duplicate), 0);
    assert_eq!(net.lanes[0].counters().flows[0].cached_packets, 2);
}

mod chaos;
mod joining;
mod memory;
mod sharing;
