//! Tests of repair over chains of lanes: loss of every kind, in both directions, in virtual time.
//!
//! What was measured is printed by `cargo test -p levada-lane repair:: -- --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::print_stdout, reason = "what was measured is worth reading")]

use std::time::Duration;

use levada_wire::Number;
use levada_wire::datagram::link::{Head, LinkDatagram, Numbers, Pull};
use proptest::prelude::*;

use crate::api::{Command, Delivery, FlowCommand, GapReason, LinkCommand, PublisherCommand};
use crate::ledger::DropReason;
use crate::limits::REPAIR_CREDIT;
use crate::repair::counts::RepairCounts;
use crate::settings::LaneSettings;
use crate::testkit::{self, FLOW, Net, frame, link_to};

pub(super) mod chain;
mod uneven;

use chain::{Chain, Hop, Loss, Report};

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A hop of 40 ms there and back that loses one datagram in ten, in each direction.
const BAD: Hop = Hop {
    delay: millis(20),
    jitter: Duration::ZERO,
    loss: Loss::Even(100),
    duplicated: 0,
};

fn played(hops: &[Hop], budget: u64, seed: u64) -> Report {
    let mut chain = Chain::new(hops, millis(budget), seed);
    chain.play(Duration::from_secs(20));
    chain.report()
}

#[test]
fn one_bad_hop_loses_nothing_in_400_ms_and_sends_little_more() {
    for seed in 0..2 {
        let report = played(&[BAD], 400, seed);
        println!("one hop, 10% each way, 40 ms, 400 ms: {report}");

        assert_eq!(report.lost_packets, 0, "seed {seed}");
        assert!(report.extra_percent() <= 13.0, "seed {seed}: {report}");
        assert!(report.latest <= millis(400), "seed {seed}: {report}");
    }
}

#[test]
fn one_bad_hop_loses_nothing_in_200_ms() {
    for seed in 0..2 {
        let report = played(&[BAD], 200, seed);
        println!("one hop, 10% each way, 40 ms, 200 ms: {report}");

        assert_eq!(report.lost_packets, 0, "seed {seed}");
        assert!(report.extra_percent() <= 13.0, "seed {seed}: {report}");
    }
}

#[test]
fn three_bad_hops_lose_nothing_in_400_ms_over_all() {
    for seed in 0..2 {
        let report = played(&[BAD; 3], 400, seed);
        println!("three hops, each 10% each way, 40 ms, 400 ms in all: {report}");

        assert_eq!(report.lost_frames, 0, "seed {seed}");
        assert!(report.extra_percent() <= 15.0, "seed {seed}: {report}");
    }
}

#[test]
fn bursts_of_loss_are_repaired() {
    let bursty = Hop {
        loss: Loss::Bursts {
            begin: 10,
            end: 200,
            inside: 700,
        },
        ..BAD
    };
    for seed in 0..2 {
        let report = played(&[bursty], 500, seed);
        println!("one hop, bursts, 40 ms, 500 ms: {report}");

        assert_eq!(report.lost_packets, 0, "seed {seed}");
    }
}

#[test]
fn reordering_and_duplication_lose_nothing_and_ask_for_little() {
    let unruly = Hop {
        delay: millis(20),
        jitter: millis(4),
        loss: Loss::Even(0),
        duplicated: 50,
    };
    let report = played(&[unruly], 400, 1);
    println!("one hop, no loss, 4 ms jitter, 5% duplicated: {report}");

    assert_eq!(report.lost_packets, 0);
    assert!(report.extra_percent() <= 1.0, "{report}");
}

#[test]
fn an_outage_of_100_ms_is_survived_with_a_budget_of_500_ms() {
    let quiet = Hop {
        loss: Loss::Even(0),
        ..BAD
    };
    let mut chain = Chain::new(&[quiet; 2], millis(500), 1);
    chain.play(Duration::from_secs(3));
    chain.outage(1, millis(100));
    chain.play(Duration::from_secs(3));

    let report = chain.report();
    println!("100 ms of silence on the second of two hops, 500 ms: {report}");
    assert_eq!(report.lost_frames, 0);
    assert!(report.repaired > 50, "{report}");
    assert!(report.latest <= millis(500), "{report}");
}

#[test]
fn a_longer_outage_than_the_budget_becomes_a_gap_and_the_stream_goes_on() {
    let quiet = Hop {
        loss: Loss::Even(0),
        ..BAD
    };
    let mut chain = Chain::new(&[quiet], millis(300), 1);
    chain.play(Duration::from_secs(2));
    chain.outage(0, millis(600));
    chain.play(Duration::from_secs(3));

    let report = chain.report();
    assert!(
        report.lost_frames > 5 && report.lost_frames < 20,
        "{report}"
    );
    assert!(report.latest <= millis(301), "{report}");
}

/// Plays 3 s over such hops; frames count from the half of that time on.
fn settled(hop: Hop, hops: usize, seed: u64) -> Report {
    let mut chain = Chain::new(&vec![hop; hops], millis(500), seed);
    chain.play(Duration::from_millis(1_500));
    chain.settle();
    chain.play(Duration::from_millis(1_500));
    chain.stop_counting();
    chain.play(millis(200));
    chain.report()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn whatever_a_hop_does_frames_come_in_order_once_and_within_the_budget(
        loss in 0..150_u32, jitter in 0..15_u64, duplicated in 0..100_u32, hops in 1..4_usize, seed: u64,
    ) {
        let hop = Hop { delay: millis(10), jitter: millis(jitter), loss: Loss::Even(loss), duplicated };
        let report = settled(hop, hops, seed);

        prop_assert_eq!(report.disorder, 0);
        // The zero is the fastest packet's, so a packet may be later by all that the others' ways vary. And a lost
        // one's own time is not known, only when the gap showed: at three bursts lost in a row, 100 ms after it. Worse
        // hops make longer rows: at 29.5% on each of three a frame came 0.9 s late (seed 5075004926468635463).
        let slack = millis(101) + 2 * millis(jitter) * u32::try_from(hops).unwrap();
        prop_assert!(report.latest <= millis(500) + slack, "{}", report);
    }
}

/// What looked like a stream 1.43 s late were its last packets, which only the fourth head had shown.
#[test]
fn a_stream_over_three_bad_and_uneven_hops_is_never_later_than_the_budget() {
    let hop = Hop {
        delay: millis(10),
        jitter: millis(8),
        loss: Loss::Even(133),
        duplicated: 42,
    };
    let report = settled(hop, 3, 1_020_511_325_733_294_089);
    println!("three hops, 13% lost, 8 ms jitter: {report}");

    assert!(report.latest <= millis(500 + 101 + 48), "{report}");
}

#[test]
fn the_last_packets_of_a_stream_come_however_late_a_head_shows_them() {
    let quiet = Hop {
        loss: Loss::Even(0),
        ..BAD
    };
    let mut chain = Chain::new(&[quiet], millis(200), 1);
    chain.play(millis(3_010));
    chain.outage(0, millis(700));

    let report = chain.report_after(millis(30));

    assert_eq!(report.lost_frames, 0, "{report}");
    assert!(report.latest > millis(600), "{report}");
}

/// A chain in which packets were pushed, and the datagrams of each lane's last send, not yet delivered.
fn pushed(lanes: usize, frames: i64) -> (Net, Vec<bytes::Bytes>) {
    let mut net = Net::chain(lanes);
    net.command(lanes - 1, testkit::consume());
    for dts in 0..frames {
        net.push(frame(1, dts == 0, dts, 10));
    }
    let packets = net.intercept();
    (net, packets)
}

fn counts(net: &Net, lane: usize) -> RepairCounts {
    net.lanes[lane].ledger().repair
}

fn say(net: &mut Net, from: usize, to: usize, message: LinkDatagram) {
    let link = link_to(to);
    net.command(from, Command::Link(link, LinkCommand::Send(message)));
    net.deliver();
}

fn numbers(first: u64) -> Numbers {
    let first = Number::new(first).unwrap();
    Numbers {
        flow: FLOW,
        first,
        bitmap: Vec::new(),
    }
}

#[test]
fn a_lost_tail_is_found_by_the_head() {
    let (mut net, packets) = pushed(2, 5);
    for packet in &packets[..3] {
        net.arrive_alone(0, 1, packet.clone());
    }

    net.sleep(millis(400));

    assert_eq!(net.frames(1).len(), 5);
    assert!(counts(&net, 0).heads_sent > 0 && counts(&net, 0).repairs_sent >= 2);
}

#[test]
fn the_end_is_repaired_too() {
    let (mut net, _) = pushed(2, 3);
    net.command(0, Command::Publisher(FLOW, PublisherCommand::Finish));
    net.intercept();

    net.sleep(millis(400));

    assert!(matches!(net.deliveries(1).last(), Some(Delivery::End)));
}

#[test]
fn what_the_parent_lacks_too_is_pending_and_comes_once() {
    let (mut net, packets) = pushed(3, 3);
    net.cut = Some(0);
    net.arrive_alone(0, 1, packets[0].clone());
    net.arrive_alone(0, 1, packets[2].clone());
    net.sleep(millis(200));
    assert!(counts(&net, 1).pendings_sent > 0);
    assert!(
        net.deliveries(2)
            .iter()
            .all(|delivery| !matches!(delivery, Delivery::Gap(_)))
    );

    net.arrive_alone(0, 1, packets[1].clone());
    net.sleep(millis(600));

    assert_eq!(net.frames(2).len(), 2);
    assert_eq!(counts(&net, 1).repairs_sent, 0, "it was only passed on");
}

#[test]
fn what_will_not_come_is_a_gap_at_once_at_every_node_below() {
    let settings = LaneSettings {
        flow_cache_bytes_max: 0,
        ..LaneSettings::default()
    };
    let mut net = Net::with_settings(3, &settings);
    net.command(
        0,
        Command::Flow(FLOW, FlowCommand::Originate(Box::new(testkit::originate()))),
    );
    net.join(0, 1);
    net.join(1, 2);
    net.command(2, testkit::consume());
    for dts in 0..3 {
        net.push(frame(1, dts == 0, dts, 10));
    }
    let packets = net.intercept();

    net.arrive_alone(0, 1, packets[0].clone());
    net.arrive_alone(0, 1, packets[2].clone());
    net.sleep(millis(300));

    let gap = |delivery: &Delivery| match delivery {
        Delivery::Gap(gap) => gap.reason == GapReason::Lost && gap.packets == 1,
        _ => false,
    };
    assert!(net.deliveries(2).iter().any(gap));
    assert!(counts(&net, 0).gones_sent > 0 && counts(&net, 1).gones_sent > 0);
}

#[test]
fn a_false_packet_is_replaced_through_a_relay_that_cannot_see_that_it_is_false() {
    let (mut net, packets) = pushed(3, 3);

    net.arrive_alone(0, 1, packets[0].clone());
    net.arrive_alone(0, 1, testkit::falsify(&packets[1]));
    net.arrive_alone(0, 1, packets[2].clone());
    net.sleep(millis(300));

    let deliveries = net.deliveries(2);
    assert_eq!(testkit::only_frames(deliveries).len(), 3);
    assert_eq!(
        (counts(&net, 0).repairs_sent, net.lanes[2].ledger().unopened),
        (1, 1)
    );
}

// spec: WIRE 8.3
#[test]
fn only_children_are_served_and_only_upstreams_are_believed() {
    let mut net = Net::new(3);
    net.command(
        0,
        Command::Flow(FLOW, FlowCommand::Originate(Box::new(testkit::originate()))),
    );
    net.join(0, 1);
    net.push(frame(1, true, 0, 10));
    net.deliver();
    let before = (net.lanes[0].ledger().due, net.lanes[1].ledger().due);

    // Lane 2 has links to both and no part in the flow.
    let pull = Pull {
        flow: FLOW,
        first: Number::ZERO,
        count: 9,
    };
    let highest = Number::new(50).unwrap();
    let messages = [
        LinkDatagram::Nack(numbers(0)),
        LinkDatagram::NackBad(numbers(0)),
        LinkDatagram::Pull(pull),
        LinkDatagram::Head(Head {
            flow: FLOW,
            highest,
        }),
        LinkDatagram::Gone(numbers(0)),
        LinkDatagram::Pending(numbers(0)),
    ];
    for message in messages {
        say(&mut net, 2, 0, message.clone());
        say(&mut net, 2, 1, message);
    }
    net.sleep(millis(900));

    assert_eq!(
        (net.lanes[0].ledger().due, net.lanes[1].ledger().due),
        before
    );
    assert_eq!([0, 1].map(|lane| counts(&net, lane).uncalled), [6, 6]);
    assert_eq!(counts(&net, 1).nacks_sent, 0);
    assert_eq!(net.lanes[1].counters().flows[0].cached_packets, 1);
}

#[test]
fn a_request_that_was_changed_on_its_way_causes_nothing() {
    let (mut net, packets) = pushed(2, 3);
    net.arrive_alone(0, 1, packets[0].clone());
    let link = link_to(0);
    net.command(
        1,
        Command::Link(link, LinkCommand::Send(LinkDatagram::Nack(numbers(1)))),
    );
    let mut changed = net.intercept().remove(0).to_vec();
    *changed.last_mut().unwrap() ^= 1;
    let before = net.lanes[0].ledger().due;

    net.arrive_alone(1, 0, changed.into());

    let ledger = net.lanes[0].ledger();
    assert_eq!(
        (ledger.due, ledger.dropped(DropReason::BadSeal)),
        (before, 1)
    );
    assert_eq!(ledger.repair, RepairCounts::default());
}

#[test]
fn a_range_can_be_pulled_and_what_is_not_there_is_gone() {
    let (mut net, packets) = pushed(2, 5);
    net.arrive_alone(0, 1, packets[0].clone());
    let first = Number::new(1).unwrap();

    say(
        &mut net,
        1,
        0,
        LinkDatagram::Pull(Pull {
            flow: FLOW,
            first,
            count: 10,
        }),
    );

    assert_eq!(net.frames(1).len(), 5);
    assert_eq!(
        (counts(&net, 0).repairs_sent, counts(&net, 0).gones_sent),
        (4, 1)
    );
}

#[test]
fn packets_that_lie_together_are_sent_again_in_one_send() {
    let mut net = Net::chain(2);
    net.push(frame(1, true, 0, 20_000));
    let packets = net.intercept();
    net.arrive_alone(0, 1, packets[0].clone());
    let count = u16::try_from(packets.len() - 1).unwrap();
    let first = Number::new(1).unwrap();

    let link = link_to(0);
    net.command(
        1,
        Command::Link(
            link,
            LinkCommand::Send(LinkDatagram::Pull(Pull {
                flow: FLOW,
                first,
                count,
            })),
        ),
    );
    let (from, request) = net.wires.pop_front().unwrap();
    net.arrive(from, &request);

    assert_eq!(
        (net.wires.len(), counts(&net, 0).repairs_sent),
        (1, u64::from(count))
    );
}

#[test]
fn a_child_that_asks_without_end_gets_its_stock_and_no_more() {
    let (mut net, _) = pushed(2, 1_500);
    let ask = |net: &mut Net, first| {
        let bitmap = vec![0xFF; 32];
        say(
            net,
            1,
            0,
            LinkDatagram::Nack(Numbers {
                bitmap,
                ..numbers(first)
            }),
        );
    };

    for first in (0..1_500).step_by(257) {
        ask(&mut net, first);
        ask(&mut net, first);
    }

    let ledger = net.lanes[0].ledger();
    assert_eq!(ledger.repair.repairs_sent, REPAIR_CREDIT);
    assert!(ledger.unsent(DropReason::RepairLimit) > 0);
    assert!(ledger.unsent(DropReason::RepairTooSoon) > 0);
}

#[test]
fn two_upstreams_are_both_asked() {
    let mut net = Net::new(3);
    net.command(
        0,
        Command::Flow(FLOW, FlowCommand::Originate(Box::new(testkit::originate()))),
    );
    net.join(0, 1);
    net.join(0, 2);
    net.join(1, 2);
    net.command(2, testkit::consume());
    net.push(frame(1, true, 0, 10));
    net.deliver();
    net.push(frame(1, false, 1, 10));
    net.intercept(); // lost on every link
    net.push(frame(1, false, 2, 10));
    net.deliver();

    net.cut = Some(0);
    net.sleep(millis(250)); // the origin cannot be asked, the other upstream lacks it too
    let asked_alone = counts(&net, 1).nacks_received;
    net.cut = None;
    net.sleep(millis(250));

    assert!(asked_alone > 0);
    assert_eq!(net.frames(2).len(), 3);
}
