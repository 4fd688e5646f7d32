//! Tests of parity over chains of lanes in virtual time, and of what a lane makes of parity datagrams.
//!
//! What was measured is printed by `cargo test -p levada-lane parity:: -- --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::print_stdout, reason = "what was measured is worth reading")]

use std::time::Duration;

use levada_wire::datagram::link::{LinkDatagram, Pong};
use levada_wire::packet::Kind;

use super::*;
use crate::api::{Command, EgressTerms, FlowCommand, LinkCommand, Path};
use crate::child::join;
use crate::limits::RUN_PACKETS_MAX;
use crate::link::Link;
use crate::repair::counts::RepairCounts;
use crate::repair::tests::chain::{Chain, Hop, Loss, Report};
use crate::settings::LaneSettings;
use crate::shared::Shared;
use crate::testkit::{self, Net, carry, frame, link_to};

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A hop that takes so long there and back.
fn hop(there_and_back: u64, loss: Loss) -> Hop {
    Hop {
        delay: millis(there_and_back) / 2,
        jitter: Duration::ZERO,
        loss,
        duplicated: 0,
    }
}

const NONE: Loss = Loss::Even(0);
const EVEN: Loss = Loss::Even(100);
/// One datagram in ten as well: bursts in which two of three get lost.
const BURSTS: Loss = Loss::Bursts {
    begin: 18,
    end: 100,
    inside: 650,
};

/// Plays for ten seconds; what is lost counts from the fourth on, when the loss of the link is known.
fn played(hop: Hop, budget: u64, with_parity: bool) -> Report {
    let mut chain = Chain::new(&[hop], millis(budget), 1);
    if !with_parity {
        chain.quieten();
    }
    chain.play(Duration::from_secs(3));
    chain.settle();
    chain.play(Duration::from_secs(7));
    let report = chain.report();
    println!("{hop:?}, {budget} ms, parity {with_parity}: {report}");
    report
}

/// Parity sent, of the packets made.
fn overhead_percent(report: &Report) -> u64 {
    report.parity_sent.iter().sum::<u64>() * 100 / report.made
}

#[test]
fn on_a_long_link_parity_saves_nearly_all_frames_that_one_try_cannot() {
    let (without, with) = (
        played(hop(100, EVEN), 150, false),
        played(hop(100, EVEN), 150, true),
    );

    assert!(without.lost_settled > 25, "{without}");
    assert!(with.lost_settled <= 2, "{with}");
    assert!(overhead_percent(&with) <= 26, "{with}");
    assert!(with.nacks[0] * 5 < without.nacks[0], "{with}");
    assert!(with.latest <= millis(150), "{with}");
}

#[test]
fn on_a_long_link_parity_makes_two_tries_unnecessary() {
    let (without, with) = (
        played(hop(100, EVEN), 200, false),
        played(hop(100, EVEN), 200, true),
    );

    assert!(without.lost_settled > 5, "{without}");
    assert!(with.lost_settled <= 1, "{with}");
    // Copies that were asked for twice in a round trip, for lack of time, cost as much as parity does.
    assert!(
        overhead_percent(&with) as f64 + with.extra_percent() <= 27.0,
        "{with}"
    );
}

#[test]
fn bursts_of_loss_are_made_good_for_the_most_part() {
    let (without, with) = (
        played(hop(100, BURSTS), 150, false),
        played(hop(100, BURSTS), 150, true),
    );

    assert!(with.lost_settled * 2 < without.lost_settled, "{with}");
    assert!(overhead_percent(&with) <= 30, "{with}");
}

#[test]
fn a_short_or_lossless_link_is_sent_no_parity() {
    let quiet = [
        (hop(40, EVEN), 200),
        (hop(100, NONE), 150),
        (hop(100, EVEN), 400),
    ];
    for (hop, budget) in quiet {
        let report = played(hop, budget, true);

        assert_eq!(report.parity_sent, [0], "{report}");
    }
}

#[test]
fn parity_ends_when_the_link_gets_better() {
    let mut chain = Chain::new(&[hop(100, EVEN)], millis(150), 1);
    chain.play(Duration::from_secs(4));
    chain.set_loss(NONE);
    chain.play(Duration::from_secs(6));
    let before = chain.parity_sent();

    chain.play(Duration::from_secs(2));

    assert!(before > 200);
    assert_eq!(chain.parity_sent(), before);
}

/// Tells a lane that its link to `peer` takes 100 ms and loses a tenth.
fn make_lossy(net: &mut Net, lane: usize, peer: usize) {
    for pong in 0..30_u64 {
        let time = (net.now - millis(100)).as_micros();
        let (sent, received) = (pong * 1_000, pong * 900);
        let message = LinkDatagram::Pong(Pong {
            time,
            sent,
            received,
            size: 0,
        });
        let link = link_to(lane);
        net.command(peer, Command::Link(link, LinkCommand::Send(message)));
    }
    net.deliver();
}

/// An origin and its child on a long and lossy link, with a budget of 150 ms.
fn lossy_pair() -> Net {
    let settings = LaneSettings {
        repair_budget: millis(150),
        ..LaneSettings::default()
    };
    let mut net = Net::with_settings(2, &settings);
    net.command(
        0,
        Command::Flow(
            testkit::FLOW,
            FlowCommand::Originate(Box::new(testkit::originate())),
        ),
    );
    net.join(0, 1);
    net.command(1, testkit::consume());
    make_lossy(&mut net, 0, 1);
    net
}

/// The packets and the parity of a frame that makes a block of its own.
fn block(net: &mut Net, dts: i64) -> (Vec<Bytes>, Vec<Bytes>) {
    net.push(frame(1, dts == 0, dts, 10_000));
    let sent = net.intercept();
    sent.into_iter()
        .partition(|datagram| Kind::of(datagram) == Kind::Media)
}

fn counts(net: &Net, lane: usize) -> RepairCounts {
    net.lanes[lane].ledger().repair
}

#[test]
fn what_is_lost_is_made_anew_without_a_request() {
    let mut net = lossy_pair();
    let (packets, parity) = block(&mut net, 0);
    let link = net.lanes[1].counters().links[0];

    for datagram in packets[2..].iter().chain(&parity) {
        net.arrive_alone(0, 1, datagram.clone());
    }

    assert_eq!(net.frames(1).len(), 1);
    let counts = counts(&net, 1);
    assert_eq!(
        (counts.recovered, counts.parity_received),
        (2, parity.len() as u64)
    );
    // What was recovered did not come over the link: its loss is what it is.
    let came = packets.len() - 2 + parity.len();
    let now = net.lanes[1].counters().links[0];
    assert_eq!(now.datagrams_in - link.datagrams_in, came as u64);
    net.sleep(millis(140));
    assert_eq!(self::counts(&net, 1).nacks_sent, 0);
}

#[test]
fn what_parity_cannot_make_good_is_asked_for() {
    let mut net = lossy_pair();
    let (packets, parity) = block(&mut net, 0);
    assert!(parity.len() >= 2);

    for datagram in packets[parity.len() + 1..].iter().chain(&parity) {
        net.arrive_alone(0, 1, datagram.clone());
    }
    net.sleep(millis(20));

    assert_eq!(counts(&net, 1).recovered, 0);
    assert_eq!(net.frames(1).len(), 1, "asked for, and here");
    assert!(counts(&net, 0).repairs_sent > parity.len() as u64);
}

#[test]
fn a_lost_packet_is_waited_for_only_while_its_parity_may_come() {
    let mut net = lossy_pair();
    let (packets, parity) = block(&mut net, 0);
    for datagram in packets.iter().chain(&parity) {
        net.arrive_alone(0, 1, datagram.clone());
    }
    let (packets, _) = block(&mut net, 1);

    for datagram in &packets[1..] {
        net.arrive_alone(0, 1, datagram.clone());
    }

    net.sleep(millis(14));
    assert_eq!(counts(&net, 1).nacks_sent, 0);
    net.sleep(millis(7));
    assert!(counts(&net, 1).nacks_sent > 0);
}

// spec: WIRE 4.5
#[test]
fn parity_that_was_changed_or_came_from_elsewhere_changes_a_count() {
    let mut net = lossy_pair();
    let (packets, parity) = block(&mut net, 0);
    for packet in &packets[1..] {
        net.arrive_alone(0, 1, packet.clone());
    }
    net.intercept();
    let before = net.lanes[1].counters();

    for at in 0..parity[0].len() {
        let mut changed = parity[0].to_vec();
        changed[at] ^= 0x20;
        net.arrive_alone(0, 1, changed.into());
    }
    net.arrive_alone(7, 1, parity[0].clone());

    let mut after = net.lanes[1].counters();
    let dropped = after.ledger.dropped_in_all() - before.ledger.dropped_in_all();
    assert_eq!(dropped, parity[0].len() as u64 + 1);
    assert_eq!(after.ledger.dropped(DropReason::NotUpstream), 1);
    after.ledger = before.ledger.clone();
    assert_eq!(after, before);
    assert!(net.intercept().is_empty());
    assert_eq!(net.frames(1).len(), 0);
}

#[test]
fn false_parity_of_an_insider_makes_no_packet_and_leaves_the_rest_to_requests() {
    let mut net = lossy_pair();
    let (packets, parity) = block(&mut net, 0);
    for packet in &packets[1..] {
        net.arrive_alone(0, 1, packet.clone());
    }
    let header = ParityHeader::peek(&parity[0]).unwrap();
    let (mut forged, mut shard) = (
        Vec::new(),
        levada_wire::packet::parity::code::Words::default(),
    );
    shard.set(&[&vec![0x55; ParityHeader::shard_of(&parity[0]).len()]]);
    let bytes = ParityHeader::shard_of(&parity[0]).len();
    header.encode(&carry(), &shard, bytes, &mut forged);

    net.arrive_alone(0, 1, forged.into());
    net.sleep(millis(140));

    assert_eq!(counts(&net, 1).recovered, 0);
    assert_eq!(net.frames(1).len(), 1, "asked for instead");
}

#[test]
fn parity_that_comes_twice_is_used_and_counted_once() {
    let mut net = lossy_pair();
    let (_, parity) = block(&mut net, 0);
    let received = |net: &Net| net.lanes[1].counters().links[0].datagrams_in;
    let before = received(&net);

    for _ in 0..5 {
        net.arrive_alone(0, 1, parity[0].clone());
    }

    assert_eq!(received(&net) - before, 1);
    assert_eq!(net.lanes[1].ledger().dropped(DropReason::Duplicate), 4);
}

#[test]
fn parity_leaves_room_for_the_packets_of_a_whole_train() {
    let settings = LaneSettings::default();
    let mut flow = Flow::new(testkit::FLOW, &settings);
    flow.keys.set(1, carry());
    let key = levada_wire::key::LinkKey::from_bytes([1; 32]);
    let mut link = Link::new(link_to(1), testkit::address(1), link_to(1), &key, &key)
        .sent_from(None, Path::Wire);
    for pong in 0..30 {
        link.answered_after(millis(400));
        link.delivered(pong * 1_000, pong * 900);
    }
    let shared = Shared::new(1, settings.interface_rate);
    let State { mut io, .. } = State::new(0, settings, shared);
    io.links.insert(link);
    assert!(join::add(
        &mut flow,
        &mut io,
        (link_to(1), EgressTerms::UNLIMITED),
        None,
        Instant::ZERO
    ));
    review(&mut flow, &io.links, Instant::ZERO);
    let header = levada_wire::Header {
        last: false,
        ..testkit::header(0)
    };
    let packet = |number: u64| {
        let number = levada_wire::Number::new(number).unwrap();
        let header = levada_wire::Header {
            number,
            offset: number.value() as u32,
            ..header
        };
        testkit::seal(&header, &[1; 40])
    };
    let packets: Vec<Bytes> = (0..4).map(packet).collect();
    let run = Run {
        first: header.number,
        group_start: header.number,
        burst: header.number,
        sent: header.sent,
        segment_bytes: packets[0].len(),
        buffer_bytes: 0,
        bytes: packets.concat().into(),
    };
    flow.parity_encoder.take(run, Instant::ZERO);
    let block = flow
        .parity_encoder
        .due(Instant::from_nanos(1_000_000_000))
        .unwrap();
    let full =
        levada_wire::machine::OUTPUTS_PER_CALL_MAX - RUN_PACKETS_MAX * flow.outputs_of_repair();
    let mut sent_after = |outputs: usize| {
        io.outbox.begin_call();
        for _ in 0..outputs {
            let empty = testkit::sent_over(link_to(1), testkit::address(1), Vec::new(), 1);
            io.outbox.send_other(link_to(1), empty.datagrams);
        }
        let before = io.ledger.repair.parity_sent;
        send(&mut flow, &mut io, &block);
        io.ledger.repair.parity_sent - before
    };

    assert!(sent_after(full - 1) > 0);
    assert_eq!(sent_after(full), 0);
}

#[test]
fn each_child_is_sent_what_its_own_link_needs_of_one_encoding() {
    let settings = LaneSettings {
        repair_budget: millis(150),
        ..LaneSettings::default()
    };
    let mut net = Net::with_settings(3, &settings);
    net.command(
        0,
        Command::Flow(
            testkit::FLOW,
            FlowCommand::Originate(Box::new(testkit::originate())),
        ),
    );
    net.join(0, 1);
    net.join(0, 2);
    make_lossy(&mut net, 0, 1);

    net.push(frame(1, true, 0, 10_000));

    let to = |lane| {
        let sends = net
            .wires
            .iter()
            .filter(|(_, send)| send.to == testkit::address(lane));
        let parity = sends.filter(|(_, send)| Kind::of(&send.bytes) == Kind::Parity);
        parity.count()
    };
    assert_eq!((to(1), to(2)), (1, 0));
    let link = net.lanes[0].counters().links;
    let sent = counts(&net, 0).parity_sent;
    assert_eq!(
        link[0].datagrams_out - link[1].datagrams_out,
        sent,
        "parity counts as sent"
    );
}
