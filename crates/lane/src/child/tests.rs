//! Tests of newcomers: a crowd, one that comes again and again, holes and caches that forget. Of who is held:
//! `held.rs`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use levada_wire::{Bitrate, FlowId, Frame};

use crate::api::{Command, Delivery, EgressTerms, FlowCommand, LinkCommand, Path};
use crate::ledger::DropReason;
use crate::settings::LaneSettings;
use crate::testkit::{self, FLOW, Net, frame, link_to};

mod held;
mod moved;
mod narrow;
mod patience;

const MS: Duration = Duration::from_millis(1);

/// The terms of a peak.
fn terms(peak: u64) -> EgressTerms {
    EgressTerms {
        peak: Bitrate(peak),
        ..EgressTerms::UNLIMITED
    }
}

fn row(net: &Net, lane: usize) -> crate::api::FlowCounters {
    net.lanes[lane].counters().flows[0]
}

/// A lane that is the origin, and that many children of it that are not egresses yet.
fn crowd(children: usize, settings: &LaneSettings) -> Net {
    let mut net = Net::with_settings(children + 1, settings);
    net.command(
        0,
        Command::Flow(FLOW, FlowCommand::Originate(Box::new(testkit::originate()))),
    );
    for child in 1..=children {
        receive(&mut net, child);
    }
    net
}

/// Makes a child ready for what the origin sends.
fn receive(net: &mut Net, child: usize) {
    let (flow, link) = (FLOW, link_to(0));
    net.command(child, Command::Flow(flow, FlowCommand::Open));
    net.command(child, testkit::set_carry_key());
    net.command(child, Command::Flow(flow, FlowCommand::AddUpstream(link)));
    net.command(child, testkit::consume());
}

fn add_egress(net: &mut Net, child: usize, peak: u64) {
    let (flow, link) = (FLOW, link_to(child));
    let terms = terms(peak);
    net.command(0, Command::Flow(flow, FlowCommand::AddEgress(link, terms)));
}

fn remove_egress(net: &mut Net, child: usize) {
    let (flow, link) = (FLOW, link_to(child));
    net.command(0, Command::Flow(flow, FlowCommand::RemoveEgress(link)));
}

/// A group of ten pictures of that many bytes each.
fn group(from: i64, bytes: usize) -> Vec<Frame> {
    let pictures = (0..10).map(|at| frame(1, at == 0, from * 90_000 + at * 3_600, bytes));
    pictures.collect()
}

fn push_all(net: &mut Net, frames: &[Frame]) {
    for frame in frames {
        net.push(frame.clone());
    }
}

/// A lane whose interface carries 8 Mb/s, so that newcomers are sent 250 bytes in a millisecond.
fn slow_interface() -> LaneSettings {
    LaneSettings {
        interface_rate: Bitrate(8_000_000),
        ..LaneSettings::default()
    }
}

#[test]
fn a_newcomer_is_sent_the_group_at_a_quarter_of_the_interface_and_then_what_comes() {
    let mut net = crowd(1, &slow_interface());
    let sent = [group(0, 2_000), group(1, 2_000)].concat();
    push_all(&mut net, &sent[..10]);

    add_egress(&mut net, 1, u64::MAX);
    net.sleep(40 * MS);
    let early = net.frames(1).len();
    assert!((4..=8).contains(&early), "{early}");
    assert_eq!(row(&net, 0).newcomers, 1);
    net.sleep(60 * MS);
    assert_eq!(net.frames(1).len() + early, 10);
    push_all(&mut net, &sent[10..]);
    net.deliver();

    assert_eq!(net.frames(1), sent[10..]);
    assert_eq!((row(&net, 0).newcomers, row(&net, 0).withheld), (0, 0));
    assert_eq!(net.lanes[1].ledger().dropped(DropReason::Duplicate), 0);
}

#[test]
fn a_newcomer_is_sent_the_group_at_eight_times_the_peak_though_the_interface_is_fast() {
    let mut net = crowd(1, &LaneSettings::default());
    push_all(&mut net, &group(0, 4_000));

    add_egress(&mut net, 1, 1_000_000); // 40 kB take 40 ms
    net.sleep(20 * MS);
    let early = net.frames(1).len();
    net.sleep(30 * MS);

    assert!((4..=8).contains(&early), "{early}");
    assert_eq!(net.frames(1).len() + early, 10);
    assert_eq!(row(&net, 0).newcomers, 0);
}

#[test]
fn of_a_crowd_four_are_sent_the_group_and_the_others_wait_for_their_turn() {
    let mut net = crowd(6, &slow_interface());
    push_all(&mut net, &group(0, 2_000));
    for child in 1..=6 {
        add_egress(&mut net, child, u64::MAX);
    }

    net.sleep(100 * MS);

    let begun = |net: &mut Net| {
        (1..=6)
            .map(|child| net.frames(child).len())
            .collect::<Vec<_>>()
    };
    let first = begun(&mut net);
    assert!(first[..4].iter().all(|&frames| frames > 0), "{first:?}");
    assert_eq!(first[4..], [0, 0]);
    assert_eq!(row(&net, 0).newcomers, 6);
    let late = frame(1, false, 80_000, 100);
    net.push(late); // live packets keep their place behind the group
    net.sleep(900 * MS);
    assert_eq!(begun(&mut net)[4..], [11, 11]);
    assert_eq!(row(&net, 0).newcomers, 0);
}

#[test]
fn whoever_waits_begins_with_the_group_that_is_newest_at_its_turn() {
    let mut net = crowd(5, &slow_interface());
    push_all(&mut net, &group(0, 2_000));
    for child in 1..=5 {
        add_egress(&mut net, child, u64::MAX);
    }
    net.sleep(50 * MS);

    let newest = group(1, 2_000);
    push_all(&mut net, &newest);
    net.sleep(Duration::from_secs(2));

    assert_eq!(net.frames(5), newest);
    assert_eq!(net.frames(1).len(), 20);
}

#[test]
fn links_of_another_interface_do_not_wait() {
    let mut net = crowd(5, &slow_interface());
    push_all(&mut net, &group(0, 2_000));
    let Command::Link(
        link,
        LinkCommand::Add {
            remote_index,
            remote,
            send,
            receive,
            ..
        },
    ) = testkit::add_link(0, 5)
    else {
        unreachable!()
    };
    let source = Some("10.7.0.1".parse().unwrap());
    let moved = Command::Link(
        link,
        LinkCommand::Add {
            remote_index,
            remote,
            source,
            path: Path::Wire,
            send,
            receive,
        },
    );
    net.command(0, moved);

    for child in 1..=5 {
        add_egress(&mut net, child, u64::MAX);
    }
    net.sleep(30 * MS);

    assert!(!net.frames(5).is_empty());
}

#[test]
fn leaving_and_joining_in_turns_is_sent_twice_the_peak_and_no_more() {
    let mut net = crowd(1, &LaneSettings::default());
    push_all(&mut net, &group(0, 12_500)); // a second of 1 Mb/s
    let begin = row(&net, 0).bytes_out;

    for _ in 0..1_000 {
        add_egress(&mut net, 1, 1_000_000);
        net.sleep(5 * MS);
        remove_egress(&mut net, 1);
        net.sleep(5 * MS);
    }

    // 10 s at 2 Mb/s, the 2 s that may be ahead, and one group more.
    let sent = row(&net, 0).bytes_out - begin;
    assert!(sent <= 13 * 260_000 + 130_000, "{sent}");
    assert!(sent >= 2_000_000, "{sent}");
}

#[test]
fn more_newcomers_than_may_wait_are_sent_what_comes() {
    let mut net = crowd(1, &slow_interface());
    push_all(&mut net, &group(0, 2_000));
    let now = net.now;
    for flow in 0..crate::limits::QUEUED_MAX as u64 {
        let (peak, not_before) = (Bitrate(u64::MAX), now + Duration::from_secs(60));
        let newcomer =
            crate::child::queue::Newcomer::new(FlowId(flow), link_to(1), peak, not_before);
        assert!(net.lanes[0].state_mut().io.queue.add(None, newcomer, now));
    }

    add_egress(&mut net, 1, u64::MAX);
    assert_eq!(net.lanes[0].ledger().repair.gones_pushed, 1);
    let next = group(1, 100);
    push_all(&mut net, &next);
    net.deliver();

    assert_eq!(net.frames(1), next);
    assert_eq!(net.lanes[1].ledger().repair.nacks_sent, 0);
}

#[test]
fn a_cursor_passes_a_hole_and_the_repair_follows_when_it_comes() {
    let mut net = Net::with_settings(3, &slow_interface());
    net.command(
        0,
        Command::Flow(FLOW, FlowCommand::Originate(Box::new(testkit::originate()))),
    );
    net.join(0, 1);
    let sent = group(0, 1_000);
    push_all(&mut net, &sent);
    let mut packets = net.intercept();
    let lost = packets.remove(3);
    for packet in packets {
        net.arrive_alone(0, 1, packet);
    }

    net.join(1, 2);
    net.command(2, testkit::consume());
    net.wires.retain(|(from, _)| *from == 1);
    net.deliver();
    net.arrive_alone(0, 1, lost);
    net.sleep(200 * MS);

    assert_eq!(net.frames(2), sent);
    assert_eq!(net.lanes[2].ledger().dropped(DropReason::Duplicate), 0);
}

#[test]
fn a_newcomer_whose_group_the_cache_lets_go_of_goes_on_with_the_next_and_hears_gone() {
    let settings = LaneSettings {
        flow_cache_bytes_max: 40_000,
        ..slow_interface()
    };
    let mut net = crowd(1, &settings);
    push_all(&mut net, &group(0, 3_000));
    add_egress(&mut net, 1, u64::MAX);
    net.sleep(20 * MS);

    let next = group(1, 3_000);
    push_all(&mut net, &next);
    net.sleep(200 * MS);

    let deliveries = net.deliveries(1);
    let gaps = deliveries
        .iter()
        .filter(|it| matches!(it, Delivery::Gap(_)));
    assert_eq!(gaps.count(), 1);
    let got = testkit::only_frames(deliveries);
    assert_eq!(got[got.len() - 10..], next);
    assert!(net.lanes[0].ledger().unsent(DropReason::Skipped) > 0);
    assert_eq!(
        net.lanes[1].ledger().repair.nacks_sent,
        0,
        "it does not ask for what is gone"
    );
}
