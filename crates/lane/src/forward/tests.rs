//! Tests of the hot path: what goes on and how, and that nothing unproven moves more than a count.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use levada_wire::datagram::link::{LinkDatagram, Ping};
use levada_wire::lane;
use levada_wire::packet::HEADER_BYTES;
use levada_wire::{Group, Number};

use super::*;
use crate::api::{
    Command, Datagrams, Event, FlowCommand, FlowEvent, Input, LaneCounters, LinkCommand,
};
use crate::limits::{
    LINE_QUIET, RUN_BYTES_MAX, RUN_PACKETS_MAX, STRAYS_CONFIRM, TRAIN_SEGMENTS_MAX,
};
use crate::testkit::{self, FLOW, Net, address, frame, header, link_to, seal};

/// A number that no lane has: somebody who hears everything and may send from anywhere else.
const STRANGER: usize = 77;
/// What a relay is in a chain of three.
const RELAY: usize = 1;

/// A chain of three through which a group has flowed, and the datagrams that the relay received.
fn flowing() -> (Net, Vec<Bytes>) {
    let mut net = Net::chain(3);
    net.command(2, testkit::consume());
    let mut heard = Vec::new();
    for dts in 0..20 {
        net.push(frame(1, dts == 0, dts, 1_500));
        heard.extend(
            net.wires
                .iter()
                .flat_map(|(_, run)| testkit::datagrams(run)),
        );
        net.deliver();
    }
    (net, heard)
}

/// Whether nothing but packets in and packets dropped for `reason` has changed, by `count` each.
fn only_dropped(
    before: &LaneCounters,
    after: &LaneCounters,
    reason: DropReason,
    count: u64,
) -> bool {
    let mut expected = before.clone();
    expected.ledger.arrived += count;
    expected.ledger.drop_packets(reason, count);
    expected == *after
}

fn train(from: usize, packets: &[Bytes]) -> Input {
    Input::Train(Train {
        to: None,
        from: address(from),
        bytes: packets.concat().into(),
        segment_bytes: packets[0].len(),
    })
}

fn sends_to(net: &mut Net, lane: usize) -> Vec<Datagrams> {
    let sends = net.wires.drain(..).map(|(_, transmit)| transmit);
    sends
        .filter(|transmit| transmit.to == address(lane))
        .collect()
}

#[test]
fn a_forged_packet_changes_one_count() {
    let (mut net, heard) = flowing();
    let (before, events) = (net.lanes[RELAY].counters(), net.events[RELAY].len());

    for (at, packet) in heard.iter().enumerate() {
        let mut forged = packet.to_vec();
        // Any bit of the header but those that say which flow and key, and any of the tags.
        let place = [
            1,
            3,
            12,
            15,
            18,
            21,
            25,
            30,
            packet.len() - 1,
            packet.len() - 20,
        ][at % 10];
        forged[place] ^= 1;
        let from = if at % 2 == 0 { STRANGER } else { 0 };
        net.arrive_alone(from, RELAY, forged.into());
    }

    let after = net.lanes[RELAY].counters();
    assert!(only_dropped(
        &before,
        &after,
        DropReason::BadTag,
        heard.len() as u64
    ));
    assert_eq!(net.events[RELAY].len(), events);
    assert!(net.wires.is_empty());
}

#[test]
fn a_replayed_packet_changes_one_count() {
    let (mut net, heard) = flowing();

    for (from, reason) in [
        (STRANGER, DropReason::NotUpstream),
        (0, DropReason::Duplicate), // with the address of the upstream itself
        (2, DropReason::NotUpstream), // back from the child
    ] {
        let before = net.lanes[RELAY].counters();
        for packet in &heard {
            net.arrive_alone(from, RELAY, packet.clone());
        }
        let after = net.lanes[RELAY].counters();
        assert!(only_dropped(&before, &after, reason, heard.len() as u64));
    }
    assert!(net.wires.is_empty());
}

#[test]
fn a_stranger_who_is_faster_than_the_upstream_changes_one_count() {
    let (mut net, _) = flowing();
    net.push(frame(1, false, 20, 10));
    let packet = net.intercept().remove(0);
    let before = net.lanes[RELAY].counters();

    // One who may carry the flow elsewhere, so that the tag is right.
    net.arrive_alone(STRANGER, RELAY, testkit::falsify(&packet));

    let after = net.lanes[RELAY].counters();
    assert!(only_dropped(&before, &after, DropReason::NotUpstream, 1));
    net.arrive_alone(0, RELAY, packet);
    net.deliver();
    assert_eq!(net.frames(2).len(), 21);
}

// spec: WIRE 4.3 a node MUST check the carry tag before the packet changes anything but counters
#[test]
fn a_changed_body_under_the_address_of_the_upstream_changes_one_count() {
    let (mut net, _) = flowing();
    net.push(frame(1, false, 20, 10));
    let packet = net.intercept().remove(0);
    let mut changed = packet.to_vec();
    changed[HEADER_BYTES] ^= 1;
    let before = net.lanes[RELAY].counters();

    net.arrive_alone(0, RELAY, changed.into());

    let after = net.lanes[RELAY].counters();
    assert!(only_dropped(&before, &after, DropReason::BadTag, 1));
    net.arrive_alone(0, RELAY, packet);
    net.deliver();
    assert_eq!(net.frames(2).len(), 21, "the true packet is taken after it");
}

#[test]
fn a_stranger_cannot_make_a_newcomer_start_in_the_past() {
    let (_, heard) = flowing();
    let mut net = Net::chain(2);
    let before = net.lanes[1].counters();

    net.arrive_alone(STRANGER, 1, heard[0].clone());

    let after = net.lanes[1].counters();
    assert!(only_dropped(&before, &after, DropReason::NotUpstream, 1));
}

#[test]
fn a_packet_older_than_the_window_is_dropped_for_that_reason() {
    let (mut net, heard) = flowing();
    net.sleep(LINE_QUIET);
    for number in 0..u64::from(STRAYS_CONFIRM) {
        net.arrive_alone(0, RELAY, seal(&header(1_000_000 + number), b""));
    }
    let before = net.lanes[RELAY].counters();

    net.arrive_alone(0, RELAY, heard[0].clone());

    let after = net.lanes[RELAY].counters();
    assert!(only_dropped(&before, &after, DropReason::TooOld, 1));
}

/// Parity over packets of that key epoch.
fn parity_of_epoch(key: u8) -> Bytes {
    let mut datagram = vec![0x05, 0, key, 2];
    datagram.extend_from_slice(&FLOW.0.to_be_bytes());
    datagram.resize(80, 0);
    datagram.into()
}

#[test]
fn each_packet_that_cannot_go_on_has_its_reason() {
    let (mut net, heard) = flowing();
    let unknown = Header {
        flow: FlowId(5),
        ..header(1)
    };
    let mut foreign_flow = heard[0].to_vec();
    foreign_flow[..32].copy_from_slice(&unknown.encode());
    let other_epoch = seal(
        &Header {
            key: 9,
            ..header(1)
        },
        b"",
    );
    let index_too_large = seal(
        &Header {
            index: 6,
            ..header(5)
        },
        b"",
    );
    let offset_too_large = seal(
        &Header {
            offset: 6,
            ..header(5)
        },
        b"",
    );

    for (packet, reason) in [
        (Bytes::from(foreign_flow), DropReason::UnknownFlow),
        (other_epoch, DropReason::NoKey),
        (index_too_large, DropReason::Contradiction),
        (offset_too_large, DropReason::Contradiction),
        (heard[0].slice(..50), DropReason::BadHeader),
        (Bytes::from_static(&[0x05; 80]), DropReason::UnknownFlow),
        (Bytes::from_static(&[0x05; 50]), DropReason::BadHeader),
        (parity_of_epoch(9), DropReason::NoKey),
        (Bytes::from_static(&[0x07; 80]), DropReason::UnknownKind),
        (Bytes::from_static(&[0x80; 80]), DropReason::UnknownKind),
        (Bytes::from_static(&[0x06; 80]), DropReason::BadHeader),
    ] {
        let before = net.lanes[RELAY].counters();
        net.arrive_alone(0, RELAY, packet);
        let after = net.lanes[RELAY].counters();
        assert!(only_dropped(&before, &after, reason, 1), "{reason:?}");
    }
}

#[test]
fn a_link_datagram_that_is_false_replayed_or_for_nobody_changes_one_count() {
    let mut net = Net::new(2);
    let ping = LinkDatagram::Ping(Ping {
        time: 1,
        sent: 0,
        padding: 0,
    });
    net.command(0, Command::Link(link_to(1), LinkCommand::Send(ping)));
    let good = net.intercept().remove(0);
    let changed = |place: usize| {
        let mut bytes = good.to_vec();
        bytes[place] ^= 1;
        Bytes::from(bytes)
    };
    net.arrive_alone(0, 1, good.clone());

    for (datagram, reason) in [
        (good.clone(), DropReason::Replayed),
        (changed(18), DropReason::BadSeal), // a later count, which the seal covers
        (changed(25), DropReason::Replayed),
        (changed(11), DropReason::UnknownLink),
    ] {
        let before = net.lanes[1].counters();
        net.arrive_alone(STRANGER, 1, datagram);
        let after = net.lanes[1].counters();
        assert!(only_dropped(&before, &after, reason, 1), "{reason:?}");
    }
    assert_eq!(net.events[1].len(), 1);
}

#[test]
fn packets_of_one_burst_that_came_together_leave_together_and_without_a_copy() {
    let mut net = Net::chain(3);
    net.push(frame(1, true, 0, 9_000));
    let (_, burst) = net.wires.pop_front().unwrap();

    net.arrive(0, &burst);

    let sends = sends_to(&mut net, 2);
    assert_eq!(sends.len(), 1);
    assert_eq!(sends[0].bytes.as_ptr(), burst.bytes.as_ptr());
    assert_eq!(
        (sends[0].bytes.len(), sends[0].segment_bytes),
        (burst.bytes.len(), 576)
    );
}

#[test]
fn a_send_ends_with_its_burst_and_with_a_hole_and_gathers_what_lies_apart() {
    let mut net = Net::chain(3);
    let packet = |number, last, flow| {
        let header = Header {
            last,
            flow,
            ..header(number)
        };
        let index = u16::try_from(number % 3).unwrap();
        let offset = u32::try_from(number).unwrap();
        let header = Header {
            index,
            offset,
            ..header
        };
        let mut bytes = Vec::new();
        testkit::sealer().seal(&header, &[0; 10], &mut bytes);
        Bytes::from(bytes)
    };
    // Burst 0-2 whole, burst 3-5 with a packet of no flow in between, burst 6-8 out of order.
    let mut stranger = packet(99, true, FLOW).to_vec();
    stranger[4] ^= 1;
    let mut packets: Vec<Bytes> = (0..6).map(|n| packet(n, n % 3 == 2, FLOW)).collect();
    packets.insert(4, stranger.into());
    packets.extend([7, 6, 8].map(|n| packet(n, n == 8, FLOW)));

    net.input(1, train(0, &packets));

    let sends = sends_to(&mut net, 2);
    let sizes: Vec<usize> = sends.iter().map(|t| t.bytes.len() / 66).collect();
    assert_eq!(sizes, [3, 3, 1, 1, 1]);
    assert_eq!(
        sends[1].bytes,
        [&packets[3][..], &packets[5], &packets[6]].concat()
    );
    assert_eq!(net.lanes[1].ledger().dropped(DropReason::UnknownFlow), 1);
}

#[test]
fn the_last_packet_of_a_send_may_be_shorter_and_none_longer() {
    let packet = |number: u64, bytes: usize| {
        let offset = u32::try_from(number).unwrap();
        let index = u16::try_from(number).unwrap();
        let header = Header {
            last: false,
            offset,
            index,
            ..header(number)
        };
        (header, bytes)
    };
    let lay = |packets: &[(Header, usize)]| {
        let mut growing: Option<Growing> = None;
        let mut cuts = 0;
        for (place, &(header, bytes)) in packets.iter().enumerate() {
            let place = place % RUN_PACKETS_MAX;
            if !growing
                .as_mut()
                .is_some_and(|run| run.extend(&header, place, bytes))
            {
                growing = Some(Growing::new(header, place, bytes));
                cuts += 1;
            }
        }
        cuts
    };

    assert_eq!(lay(&[packet(0, 100), packet(1, 100), packet(2, 60)]), 1);
    assert_eq!(lay(&[packet(0, 100), packet(1, 60), packet(2, 60)]), 2);
    assert_eq!(lay(&[packet(0, 100), packet(1, 120)]), 2);
    let other_group = (
        Header {
            group: Group(1),
            ..packet(1, 100).0
        },
        100,
    );
    assert_eq!(lay(&[packet(0, 100), other_group]), 2);
    let many: Vec<_> = (0..100).map(|number| packet(number, 100)).collect();
    assert_eq!(lay(&many), 2); // 64 and 36 packets
    let large: Vec<_> = (0..50).map(|number| packet(number, 1_440)).collect();
    assert_eq!(lay(&large), 2);
    assert_eq!(RUN_BYTES_MAX / 1_440, 45);
}

#[test]
fn a_train_longer_than_any_kernel_joins_is_cut_off() {
    let mut net = Net::chain(2);
    let packets: Vec<Bytes> = (0..TRAIN_SEGMENTS_MAX as u64 + 6)
        .map(|number| {
            seal(
                &Header {
                    offset: u32::try_from(number).unwrap(),
                    ..header(number)
                },
                b"",
            )
        })
        .collect();

    net.input(1, train(0, &packets));

    let ledger = net.lanes[1].ledger();
    assert_eq!(
        (ledger.kept, ledger.dropped(DropReason::LongTrain)),
        (64, 6)
    );
}

#[test]
fn a_train_that_mixes_kinds_is_told_apart_segment_by_segment() {
    let mut net = Net::chain(3);
    net.push(frame(1, true, 0, 10));
    let media = net.intercept().remove(0);
    let size = media.len();
    let quic = Bytes::from(vec![0x43; size]);
    let junk = Bytes::from(vec![0x01; size]);

    net.input(
        1,
        train(0, &[quic.clone(), media.clone(), junk, quic.slice(..20)]),
    );

    assert_eq!(sends_to(&mut net, 2)[0].bytes, media);
    let foreign: Vec<_> = net
        .foreign
        .iter()
        .map(|train| (train.from, train.bytes.len()))
        .collect();
    assert_eq!(foreign, [(address(0), size), (address(0), 20)]);
    assert_eq!(net.lanes[1].ledger().dropped(DropReason::UnknownKind), 1);
}

#[test]
fn a_late_packet_of_a_former_upstream_is_taken_and_counted() {
    let (mut net, _) = flowing();
    net.push(frame(1, false, 20, 10));
    let late = net.intercept().remove(0);
    net.command(
        RELAY,
        Command::Flow(FLOW, FlowCommand::RemoveUpstream(link_to(0))),
    );
    let before = net.lanes[RELAY].counters();

    net.arrive_alone(0, RELAY, late);

    let after = net.lanes[RELAY].counters();
    assert_eq!(after.ledger.forwarded, before.ledger.forwarded + 1);
    assert_eq!(
        after.links[0].datagrams_in,
        before.links[0].datagrams_in + 1
    );
}

#[test]
fn the_better_of_two_paths_delivers_and_both_count_as_received() {
    let mut net = Net::new(3);
    net.command(
        0,
        Command::Flow(FLOW, FlowCommand::Originate(Box::new(testkit::originate()))),
    );
    net.join(0, 1);
    net.join(0, 2);
    net.join(2, 1); // lane 1 has two upstreams: the origin, and lane 2
    for dts in 0..10 {
        net.push(frame(1, dts == 0, dts, 10));
        net.deliver();
    }

    let counters = net.lanes[1].counters();

    assert_eq!(counters.ledger.kept, 10);
    assert_eq!(counters.ledger.dropped(DropReason::Duplicate), 10);
    assert!(counters.links.iter().all(|link| link.datagrams_in == 10));
    let delivering = net.events[1].iter().filter(|e| {
        matches!(
            e,
            Event::Core(lane::Event::Flow(_, FlowEvent::Delivering(_)))
        )
    });
    assert_eq!(delivering.count(), 2);
}

#[test]
fn numbers_that_jump_far_ahead_go_on_from_there_once_enough_confirm_it() {
    let (mut net, _) = flowing();
    net.sleep(LINE_QUIET);
    net.wires.clear();
    let far = Number::MAX.value() - u64::from(STRAYS_CONFIRM);

    for number in far..=Number::MAX.value() {
        net.arrive_alone(0, RELAY, seal(&header(number), b""));
    }

    assert_eq!(sends_to(&mut net, 2).len(), 2);
    let dropped = net.lanes[RELAY].ledger().dropped(DropReason::FarNumber);
    assert_eq!(dropped, u64::from(STRAYS_CONFIRM) - 1);
}
