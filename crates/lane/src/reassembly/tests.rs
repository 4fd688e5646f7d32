//! Tests of the consumer: any order, any loss, any falsehood.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use levada_wire::frame::{FRAME_HEADER_BYTES, FrameHeader};
use levada_wire::{Frame, TrackId};
use proptest::prelude::*;

use super::*;
use crate::api::{Command, Event, PublisherCommand};
use crate::ledger::DropReason;
use crate::limits::{BURST_BYTES_MAX, EPOCHS_MAX, FRAMES_PER_BURST_MAX, WAITING_PACKETS_MAX};
use crate::testkit::{self, FLOW, Net, frame};

const BUDGET: Duration = Duration::from_millis(500);

/// An origin, a consumer, and the packets of a stream that the test delivers as it likes.
struct Rig {
    net: Net,
    frames: Vec<Frame>,
    packets: Vec<Bytes>,
    /// How many packets each frame's burst has.
    bursts: Vec<usize>,
}

impl Rig {
    /// One burst per frame; groups of ten frames.
    fn new(sizes: &[usize]) -> Self {
        let mut net = Net::chain(2);
        net.command(1, testkit::consume());
        net.cut = Some(0); // what is lost stays lost
        let (mut frames, mut packets, mut bursts) = (vec![], vec![], vec![]);
        for (at, &bytes) in sizes.iter().enumerate() {
            let frame = frame(1, at % 10 == 0, i64::try_from(at).unwrap() * 9_000, bytes);
            net.push(frame.clone());
            let burst = net.intercept();
            bursts.push(burst.len());
            packets.extend(burst);
            frames.push(frame);
        }
        Self {
            net,
            frames,
            packets,
            bursts,
        }
    }

    fn arrive(&mut self, number: usize) {
        self.arrive_as(self.packets[number].clone());
    }

    fn arrive_as(&mut self, packet: Bytes) {
        self.net.arrive_alone(0, 1, packet);
    }

    fn arrive_all(&mut self, numbers: impl IntoIterator<Item = usize>) {
        for number in numbers {
            self.arrive(number);
        }
    }

    fn deliveries(&mut self) -> Vec<Delivery> {
        self.net.deliveries(1)
    }

    /// Numbers of the packets of a frame's burst.
    fn burst(&self, frame: usize) -> std::ops::Range<usize> {
        let start = self.bursts[..frame].iter().sum();
        start..start + self.bursts[frame]
    }
}

fn gaps(deliveries: &[Delivery]) -> Vec<Gap> {
    let gaps = deliveries.iter().filter_map(|delivery| match delivery {
        Delivery::Gap(gap) => Some(*gap),
        _ => None,
    });
    gaps.collect()
}

proptest! {
    #[test]
    fn frames_come_out_once_and_in_order_whatever_the_order_of_packets(
        sizes in prop::collection::vec(0..4_000_usize, 1..40),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..300),
    ) {
        let mut rig = Rig::new(&sizes);
        let count = rig.packets.len();
        let mut shuffled: Vec<usize> = (1..count).collect();
        for (at, index) in order.iter().enumerate().take(shuffled.len()) {
            let other = index.index(shuffled.len());
            shuffled.swap(at, other);
        }

        rig.arrive(0); // a consumer starts with the first group's start that it sees
        rig.arrive_all(shuffled.iter().copied());
        let duplicates = order.iter().map(|index| index.index(count));
        rig.arrive_all(duplicates.collect::<Vec<_>>());

        let deliveries = rig.deliveries();
        prop_assert!(matches!(deliveries[0], Delivery::Description(_)));
        prop_assert_eq!(testkit::only_frames(deliveries), rig.frames);
    }

    #[test]
    fn with_loss_the_whole_bursts_come_out_and_each_lost_packet_is_in_one_gap(
        sizes in prop::collection::vec(0..3_000_usize, 2..30),
        losses in prop::collection::vec(any::<prop::sample::Index>(), 1..30),
        reverse in any::<bool>(),
    ) {
        let mut rig = Rig::new(&sizes);
        let (first, last) = (rig.burst(0), rig.burst(sizes.len() - 1));
        let mut lost: Vec<usize> = losses.iter().map(|index| index.index(rig.packets.len())).collect();
        // The start must come, else nothing does, and the end, else nothing shows that more is missing.
        lost.retain(|number| !first.contains(number) && !last.contains(number));
        lost.sort_unstable();
        lost.dedup();
        let mut arriving: Vec<usize> = (1..rig.packets.len()).filter(|n| !lost.contains(n)).collect();
        if reverse {
            arriving.reverse();
        }

        rig.arrive(0);
        rig.arrive_all(arriving);
        rig.net.sleep(Duration::from_secs(10));

        let deliveries = rig.deliveries();
        let missing: u64 = gaps(&deliveries).iter().map(|gap| gap.packets).sum();
        prop_assert_eq!(missing, lost.len() as u64);
        let is_whole = |at: &usize| !rig.burst(*at).any(|number| lost.contains(&number));
        let whole: Vec<Frame> = (0..sizes.len()).filter(is_whole).map(|at| rig.frames[at].clone()).collect();
        prop_assert_eq!(testkit::only_frames(deliveries), whole);
    }

    #[test]
    fn bodies_that_make_no_sense_do_no_harm(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 1..20),
        flags in prop::collection::vec((any::<bool>(), 0..4_u16, 0..4_u32), 20),
    ) {
        let mut rig = Rig::new(&[10]);
        rig.arrive(0);

        for (at, (body, (last, index, offset))) in bodies.iter().zip(flags).enumerate() {
            let header = Header { last, index, offset, ..testkit::header(at as u64 + 1) };
            rig.arrive_as(testkit::seal(&header, body));
        }
        rig.net.sleep(Duration::from_secs(10));

        prop_assert_eq!(testkit::only_frames(rig.deliveries())[0].clone(), rig.frames[0].clone());
    }
}

#[test]
fn a_hole_waits_for_the_budget_and_no_longer() {
    let mut rig = Rig::new(&[10, 10, 10, 10]);
    rig.arrive_all([0, 2]);
    assert_eq!(rig.deliveries().len(), 2); // the description and frame 0

    rig.net.sleep(BUDGET / 2);
    rig.arrive(3); // later packets do not make the hole wait longer
    rig.net.sleep(BUDGET / 2 - Duration::from_nanos(1));
    assert!(rig.deliveries().is_empty());
    rig.net.sleep(Duration::from_nanos(1));

    let deliveries = rig.deliveries();
    let gap = Gap {
        first: testkit::header(1).number,
        packets: 1,
        reason: GapReason::Lost,
    };
    assert_eq!(gaps(&deliveries), [gap]);
    assert!(matches!(deliveries[0], Delivery::Gap(_)));
    assert_eq!(testkit::only_frames(deliveries), rig.frames[2..]);
}

#[test]
fn a_late_packet_fills_the_hole_within_the_budget_and_is_ignored_after_it() {
    let mut rig = Rig::new(&[10, 10, 10, 10, 10]);
    rig.arrive_all([0, 2]);
    rig.net.sleep(BUDGET - Duration::from_nanos(1));
    rig.arrive(1);
    assert_eq!(testkit::only_frames(rig.deliveries()), rig.frames[..3]);

    rig.arrive(4);
    rig.net.sleep(BUDGET);
    rig.arrive(3);

    let deliveries = rig.deliveries();
    assert_eq!(gaps(&deliveries).len(), 1);
    assert_eq!(testkit::only_frames(deliveries), rig.frames[4..]);
}

#[test]
fn a_consumer_starts_at_a_group_and_with_the_description() {
    let mut rig = Rig::new(&[600; 15]);
    let second_group = rig.burst(10).start;

    rig.arrive_all(3..rig.packets.len());

    assert!(second_group > 3);
    let deliveries = rig.deliveries();
    assert!(matches!(deliveries[0], Delivery::Description(_)));
    assert_eq!(testkit::only_frames(deliveries), rig.frames[10..]);
}

#[test]
fn nothing_is_missing_before_the_first_description() {
    let mut rig = Rig::new(&[2_000; 12]);
    let second = rig.burst(10).start;

    // Of the group's first burst one packet is missing, so nothing of that group can be used.
    rig.arrive_all((0..second).filter(|&number| number != 1));
    rig.net.sleep(BUDGET * 2);
    assert!(rig.deliveries().is_empty());
    rig.arrive_all(second..rig.packets.len());

    let deliveries = rig.deliveries();
    assert!(gaps(&deliveries).is_empty());
    assert_eq!(testkit::only_frames(deliveries), rig.frames[10..]);
}

#[test]
fn a_packet_that_does_not_open_makes_way_for_a_good_copy() {
    let mut rig = Rig::new(&[10, 10, 10]);
    rig.arrive(0);

    rig.arrive_as(testkit::falsify(&rig.packets[1]));
    rig.arrive(2);
    assert_eq!(rig.net.lanes[1].ledger().unopened, 1);
    rig.arrive(1);

    let deliveries = rig.deliveries();
    assert!(gaps(&deliveries).is_empty());
    assert_eq!(testkit::only_frames(deliveries), rig.frames);
    let cached = rig.net.lanes[1].counters().flows[0].cached_packets;
    assert_eq!(cached, 3, "the good copy has taken its place in the cache");
}

#[test]
fn a_packet_that_does_not_open_becomes_a_bad_gap_if_no_copy_comes() {
    let mut rig = Rig::new(&[10, 10, 10]);
    rig.arrive(0);
    rig.arrive_as(testkit::falsify(&rig.packets[1]));

    rig.net.sleep(BUDGET);
    rig.arrive(2);

    let deliveries = rig.deliveries();
    assert_eq!(gaps(&deliveries)[0].reason, GapReason::Bad);
    assert_eq!(
        testkit::only_frames(deliveries),
        [rig.frames[0].clone(), rig.frames[2].clone()]
    );
}

#[test]
fn more_waiting_packets_than_the_limit_make_an_overrun() {
    let mut rig = Rig::new(&[10]);
    rig.arrive(0);

    let body = [0; 1];
    let count = WAITING_PACKETS_MAX as u64 + 10;
    for number in (0..count).map(|i| i + 2) {
        let offset = u32::try_from(number).unwrap();
        let header = Header {
            offset,
            ..testkit::header(number)
        };
        rig.arrive_as(testkit::seal(&header, &body));
    }

    let gaps = gaps(&rig.deliveries());
    assert_eq!((gaps[0].packets, gaps[0].reason), (1, GapReason::Overrun));
}

#[test]
fn a_burst_that_does_not_end_is_given_up_at_the_limit() {
    let mut rig = Rig::new(&[10]);
    rig.arrive(0);
    let body = [0; 1_384];

    let count = BURST_BYTES_MAX / body.len() + 2;
    for index in 0..u16::try_from(count).unwrap() {
        let number = u64::from(index) + 1;
        let (last, offset) = (false, u32::from(index) + 1);
        let header = Header {
            last,
            index,
            offset,
            ..testkit::header(number)
        };
        rig.arrive_as(testkit::seal(&header, &body));
    }

    let gaps = gaps(&rig.deliveries());
    assert_eq!(gaps.last().unwrap().reason, GapReason::Overrun);
}

#[test]
fn frames_that_say_more_than_there_is_are_a_bad_gap() {
    let mut rig = Rig::new(&[10]);
    rig.arrive(0);
    let frame = FrameHeader {
        track: TrackId(1),
        sync: false,
        discardable: false,
        length: 9,
        sequence: 0,
        dts: i64::MAX,
        pts_offset: 1,
    };
    let short = [&frame.encode()[..], &[0; 8]].concat();
    let beyond_time = [&frame.encode()[..], &[0; 9]].concat();
    let many = FrameHeader { length: 0, ..frame }
        .encode()
        .repeat(FRAMES_PER_BURST_MAX + 1);

    let mut number = 1;
    for body in [&short[..], &beyond_time, &[1, 2, 3], &many] {
        let parts: Vec<_> = body.chunks(1_300).collect();
        for (index, part) in parts.iter().enumerate() {
            let last = index + 1 == parts.len();
            let (index, offset) = (
                u16::try_from(index).unwrap(),
                u32::try_from(number).unwrap(),
            );
            let header = Header {
                last,
                index,
                offset,
                ..testkit::header(number)
            };
            rig.arrive_as(testkit::seal(&header, part));
            number += 1;
        }
    }

    assert_eq!(many.len() / FRAME_HEADER_BYTES, FRAMES_PER_BURST_MAX + 1);
    let gaps = gaps(&rig.deliveries());
    assert_eq!(gaps.len(), 4);
    assert!(gaps.iter().all(|gap| gap.reason == GapReason::Bad));
}

#[test]
fn frames_whose_description_was_lost_are_a_gap_until_the_next_group() {
    let mut rig = Rig::new(&[10, 10]);
    rig.arrive_all([0, 1]);
    let mut new = (*testkit::description()).clone();
    new.tracks[1].codec = "opus".into();
    let description = std::sync::Arc::new(new);
    rig.net.command(
        0,
        Command::Publisher(FLOW, PublisherCommand::Describe(description)),
    );
    let frames: Vec<Frame> = (0..4)
        .map(|i| frame(1, i % 2 == 0, 900_000 + i * 90_000, 10))
        .collect();
    for frame in &frames {
        rig.net.push(frame.clone());
    }
    let packets = rig.net.intercept();
    rig.deliveries();

    for packet in &packets[1..] {
        rig.arrive_as(packet.clone());
    }
    rig.net.sleep(BUDGET);

    let deliveries = rig.deliveries();
    assert_eq!(gaps(&deliveries).len(), 1); // the lost start, and the frame that needs it
    assert_eq!(testkit::only_frames(deliveries), frames[2..]);
}

#[test]
fn the_end_comes_after_the_last_frame_and_once() {
    let mut rig = Rig::new(&[10, 10]);
    rig.net
        .command(0, Command::Publisher(FLOW, PublisherCommand::Finish));
    let end = rig.net.intercept().remove(0);
    rig.arrive_as(end);
    assert!(rig.deliveries().is_empty());

    rig.arrive_all([1, 0]);

    let deliveries = rig.deliveries();
    assert!(matches!(deliveries.last(), Some(Delivery::End)));
    assert_eq!(testkit::only_frames(deliveries), rig.frames);
    rig.arrive_as(testkit::seal(&testkit::header(9), b""));
    assert!(rig.deliveries().is_empty());
}

#[test]
fn a_frame_knows_the_wall_clock_at_its_hand_over() {
    let mut net = Net::chain(2);
    net.command(1, testkit::consume());

    net.push(frame(1, true, 0, 10));
    net.sleep(Duration::from_millis(30));
    net.push(frame(1, false, 3_600, 10));
    net.deliver();

    let walls = net.events[1].iter().filter_map(|event| match event {
        Event::Delivery {
            delivery: Delivery::Frame { wall, .. },
            ..
        } => *wall,
        _ => None,
    });
    let walls: Vec<u64> = walls.map(|wall| wall.0 - testkit::WALL.0).collect();
    assert_eq!(walls, [0, 30_000]);
}

#[test]
fn another_epoch_is_opened_once_its_key_is_there() {
    let mut reassembly = Reassembly::new();
    for epoch in [1, 2, 3] {
        reassembly.add_opener(epoch, testkit::opener());
    }

    let epochs: Vec<u8> = reassembly.openers.iter().map(|&(epoch, _)| epoch).collect();

    assert_eq!(epochs.len(), EPOCHS_MAX);
    assert_eq!(epochs, [2, 3]);
}

#[test]
fn a_duplicate_never_reaches_the_consumer() {
    let mut rig = Rig::new(&[10, 10]);

    rig.arrive_all([0, 1, 0, 1, 1]);

    assert_eq!(testkit::only_frames(rig.deliveries()), rig.frames);
    assert_eq!(rig.net.lanes[1].ledger().dropped(DropReason::Duplicate), 3);
}
