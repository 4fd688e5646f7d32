//! What is packed as RTP is unpacked frame by frame, whatever the network did to the packets in between.
//!
//! Not a test against other programs. Invariants under test: a frame comes back whole or not at all, the same
//! frame makes the same packets everywhere, and nothing that comes ends an unpacker.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use bytes::Bytes;
use common::{frame, track};
use levada_media::rtp::{
    Batch, Mapping, Numbering, PACKET_BYTES_MAX, PackError, Packer, Packet, Unpacker,
};
use levada_wire::{FlowId, Frame, Track};
use proptest::collection::vec;
use proptest::prelude::*;

const FLOW: FlowId = FlowId(0x1234_5678_9ABC_DEF0);

fn packer(track: &Track) -> Packer {
    Packer::new(FLOW, track, 96).unwrap()
}

/// The packets of some frames.
fn pack(track: &Track, frames: &[Frame]) -> Vec<Vec<u8>> {
    let (mut packer, mut batch) = (packer(track), Batch::new());
    for frame in frames {
        let before = packer.packets();
        packer.pack(frame, &mut batch).unwrap();
        assert_eq!(packer.packets(), before + packer.count(frame));
    }
    batch.packets().map(<[u8]>::to_vec).collect()
}

fn unpacker(track: &Track) -> Unpacker {
    let packer = packer(track);
    let mut unpacker = Unpacker::new(track, packer.mapping());
    unpacker.align(packer.numbering().time_offset, 0);
    unpacker
}

/// The frames of some packets.
fn unpack(track: &Track, packets: &[Vec<u8>]) -> (Vec<Frame>, Unpacker) {
    let (mut unpacker, mut frames) = (unpacker(track), Vec::new());
    for packet in packets {
        unpacker.push(packet, &mut frames);
    }
    unpacker.finish(&mut frames);
    (frames, unpacker)
}

/// Access units of a codec: sync and referred as said, each slice of these sizes.
fn pictures(codec: &'static str) -> impl Strategy<Value = Vec<Frame>> {
    let slices = vec(
        prop_oneof![
            vec(1_u8.., 1..60),
            vec(1_u8.., 1_100..1_300),
            vec(1_u8.., 2_000..5_000)
        ],
        1..4,
    );
    let picture = (any::<bool>(), any::<bool>(), slices);
    vec(picture, 1..12).prop_map(move |pictures| {
        let make = |(n, (sync, referred, slices)): (i64, (bool, bool, Vec<Vec<u8>>))| {
            // An encoder begins with a picture that can be decoded.
            let sync = sync || n == 0;
            let data = match codec {
                "h264" => common::h264(sync, referred, &slices),
                _ => common::h265(sync, referred, &slices),
            };
            let discardable = !sync && !referred;
            Frame {
                sync,
                discardable,
                ..frame(1, n * 3_000, data)
            }
        };
        (0..).zip(pictures).map(make).collect()
    })
}

/// An access unit as it comes back: no delimiter, start codes of four bytes.
fn canonical(frame: &Frame) -> Frame {
    let nals = levada_media::nal::units(&frame.data).skip(1);
    let data = nals.flat_map(|nal| {
        // A fourth byte of the next start code stays with the NAL unit before it.
        let end = nal.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        [&[0, 0, 0, 1], &nal[..end]].concat()
    });
    Frame {
        data: data.collect::<Vec<u8>>().into(),
        ..frame.clone()
    }
}

fn sounds(codec: &'static str) -> impl Strategy<Value = (Track, Vec<Frame>)> {
    let sizes = prop_oneof![1_usize..400, 1_000_usize..3_000];
    vec((any::<u8>(), sizes), 1..20).prop_map(move |sizes| {
        let timescale = if codec == "g711" { 8_000 } else { 48_000 };
        let track = Track {
            timescale: timescale.try_into().unwrap(),
            ..track(1, codec)
        };
        let make = |(n, (fill, size)): (i64, (u8, usize))| frame(1, n * 1_024, vec![fill; size]);
        let frames = (0..).zip(sizes).map(make).collect();
        (track, frames)
    })
}

/// Moves each packet back by at most as many places as `keys` says.
fn mix(packets: &[Vec<u8>], keys: &[usize]) -> Vec<Vec<u8>> {
    let mut order: Vec<_> = (0..packets.len()).collect();
    // The first one says where the stream begins.
    order[1..].sort_by_key(|n| n + keys[n % keys.len()]);
    order.iter().map(|n| packets[*n].clone()).collect()
}

proptest! {
    #[test]
    fn h264_comes_back(frames in pictures("h264"), keys in vec(0_usize..9, 1..9)) {
        check_pictures("h264", &frames, &keys)?;
    }

    #[test]
    fn h265_comes_back(frames in pictures("h265"), keys in vec(0_usize..9, 1..9)) {
        check_pictures("h265", &frames, &keys)?;
    }

    #[test]
    fn aac_comes_back((track, frames) in sounds("aac"), keys in vec(0_usize..9, 1..9)) {
        check_sounds(&track, &frames, &keys)?;
    }

    #[test]
    fn opus_comes_back((track, frames) in sounds("opus"), keys in vec(0_usize..9, 1..9)) {
        check_sounds(&track, &frames, &keys)?;
    }

    #[test]
    fn a_loss_costs_the_frames_it_touched_and_no_others(frames in pictures("h264"), lost in vec(any::<prop::sample::Index>(), 1..4)) {
        let track = track(1, "h264");
        let mut packets = pack(&track, &frames);
        // Nothing follows the last packet that would show its loss.
        prop_assume!(packets.len() > 1);
        let lost: Vec<usize> = lost.iter().map(|lost| lost.index(packets.len() - 1)).collect();
        let touched = |wanted: fn(&[u8]) -> bool| {
            let packets = lost.iter().map(|lost| Packet::parse(&packets[*lost]).unwrap());
            packets.filter(|packet| wanted(packet.payload())).map(|packet| packet.timestamp()).collect::<Vec<_>>()
        };
        let (any, slices) = (touched(|_| true), touched(has_slice));
        let mut at = 0..;
        packets.retain(|_| at.next().is_some_and(|at| !lost.contains(&at)));

        let (back, _) = unpack(&track, &packets);

        let offset = Numbering::of(FLOW, track.id).time_offset;
        let whole: Vec<_> = frames.iter().map(canonical).collect();
        for frame in &whole {
            let time = u32::try_from(frame.pts).unwrap().wrapping_add(offset);
            let came = back.iter().find(|back| back.pts == frame.pts);
            prop_assert!(!slices.contains(&time) || came.is_none(), "a damaged frame came");
            prop_assert!(any.contains(&time) || came.is_some_and(|came| came == frame), "a whole frame is missing");
            // Parameter sets alone may be missing, or be those of the picture before.
            let slices = |frame: &Frame| levada_media::nal::units(&frame.data).filter(|nal| nal[0] & 0x1F < 6).map(<[u8]>::to_vec).collect::<Vec<_>>();
            prop_assert!(came.is_none_or(|came| slices(came) == slices(frame)));
        }
    }

    #[test]
    fn anything_that_comes_is_survived(
        codec in prop_oneof![Just("h264"), Just("h265"), Just("aac"), Just("opus")],
        packets in vec((0_u16..40, 0_u32..3, any::<bool>(), vec(any::<u8>(), 0..40)), 0..60),
    ) {
        let track = track(1, codec);
        let packets: Vec<_> = packets.into_iter().map(|(sequence, time, marker, payload)| {
            let head = levada_media::rtp::Head { marker, payload_type: 96, sequence, timestamp: time * 3_000, ssrc: 7 };
            [&head.encode()[..], &payload].concat()
        }).collect();

        let (back, unpacker) = unpack(&track, &packets);

        prop_assert!(back.is_sorted_by_key(|frame| frame.dts));
        prop_assert_eq!(unpacker.counts().frames, back.len() as u64);
        prop_assert_eq!(unpacker.counts().packets, packets.len() as u64);
        // And goes on with the next good frame.
        let good = frame(1, 900_000, if codec == "h265" { common::h265(true, true, &[vec![3; 40]]) } else { common::h264(true, true, &[vec![3; 40]]) });
        let mut unpacker = unpacker;
        let mut after = Vec::new();
        for (sequence, packet) in (30_000_u16..).zip(pack(&track, &[good.clone(), good])) {
            let mut packet = packet;
            packet[2..4].copy_from_slice(&sequence.to_be_bytes());
            packet[8..12].copy_from_slice(&7_u32.to_be_bytes());
            unpacker.push(&packet, &mut after);
            packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        }
        unpacker.finish(&mut after);
        prop_assert!(!after.is_empty());
    }
}

/// Whether an H.264 payload carries something of a picture itself.
fn has_slice(payload: &[u8]) -> bool {
    match payload[0] & 0x1F {
        24 => {
            let mut rest = &payload[1..];
            std::iter::from_fn(|| {
                let (size, behind) = rest.split_first_chunk()?;
                let (nal, behind) = behind.split_at(usize::from(u16::from_be_bytes(*size)));
                rest = behind;
                Some(nal[0] & 0x1F)
            })
            .any(|kind| kind < 6)
        }
        kind => kind < 6 || kind == 28,
    }
}

fn check_pictures(codec: &str, frames: &[Frame], keys: &[usize]) -> Result<(), TestCaseError> {
    let track = track(1, codec);
    let packets = pack(&track, frames);
    for packet in &packets {
        prop_assert!(packet.len() <= PACKET_BYTES_MAX);
    }
    let markers = packets
        .iter()
        .filter(|packet| Packet::parse(packet).unwrap().marker());
    prop_assert_eq!(markers.count(), frames.len());

    let (back, unpacker) = unpack(&track, &mix(&packets, keys));

    let expected: Vec<_> = frames.iter().map(canonical).collect();
    prop_assert_eq!(back, expected);
    prop_assert_eq!(unpacker.counts().lost, 0);
    Ok(())
}

fn check_sounds(track: &Track, frames: &[Frame], keys: &[usize]) -> Result<(), TestCaseError> {
    let packets = pack(track, frames);

    let (back, unpacker) = unpack(track, &mix(&packets, keys));

    prop_assert_eq!(back, frames);
    prop_assert_eq!(unpacker.counts().lost, 0);
    Ok(())
}

#[test]
fn every_node_makes_the_same_packets_wherever_it_joins() {
    let track = track(1, "h264");
    let picture = |n: i64| {
        let sync = n % 4 == 0;
        frame(
            1,
            n * 3_000,
            common::h264(sync, true, &[vec![7; 900 + 700 * (n as usize % 5)]]),
        )
    };
    let frames: Vec<_> = (0..12).map(picture).collect();
    let all = pack(&track, &frames);

    let mut counting = packer(&track);
    let before: u64 = frames[..8].iter().map(|frame| counting.count(frame)).sum();
    counting.resume(before);
    let mut batch = Batch::new();
    for frame in &frames[8..] {
        counting.pack(frame, &mut batch).unwrap();
    }

    let late: Vec<_> = batch.packets().map(<[u8]>::to_vec).collect();
    assert_eq!(late, all[usize::try_from(before).unwrap()..]);
}

#[test]
fn a_frame_that_is_missing_here_shows_as_a_loss() {
    let track = track(1, "opus");
    let (mut packer, mut batch) = (packer(&track), Batch::new());
    let sound = |n: i64| frame(1, n * 960, vec![31 << 3, 5]);
    packer.pack(&sound(0), &mut batch).unwrap();
    packer.skip(1);
    packer.pack(&sound(2), &mut batch).unwrap();
    let packets: Vec<_> = batch.packets().map(<[u8]>::to_vec).collect();

    let (back, unpacker) = unpack(&track, &packets);

    assert_eq!((back.len(), unpacker.counts().lost), (2, 1));
}

#[test]
fn what_cannot_be_packed_says_why_and_takes_no_number() {
    let (h264, aac, opus) = (track(1, "h264"), track(1, "aac"), track(1, "opus"));
    let try_pack = |track: &Track, data: Vec<u8>| {
        let (mut packer, mut batch) = (packer(track), Batch::new());
        let result = packer.pack(&frame(1, 0, data), &mut batch);
        assert_eq!((packer.packets(), batch.bytes().len()), (0, 0));
        result.unwrap_err()
    };

    assert_eq!(try_pack(&h264, vec![]), PackError::Empty);
    assert_eq!(try_pack(&h264, vec![5; 9]), PackError::Form);
    assert_eq!(try_pack(&h264, vec![0, 0, 1, 9, 0xF0]), PackError::Form);
    assert_eq!(try_pack(&aac, vec![5; 8_192]), PackError::TooLarge);
    assert_eq!(try_pack(&opus, vec![5; 65_496]), PackError::TooLarge);
    assert!(Packer::new(FLOW, &track(1, "ac3"), 96).is_err());
    let bare = Track {
        config: vec![],
        ..aac
    };
    assert!(Mapping::of(&bare, 96).is_err());
}

#[test]
fn the_parts_of_a_picture_are_of_one_size() {
    let track = track(1, "h264");
    let unit = common::h264(false, true, &[vec![9; 20_000]]);
    let (mut packer, mut batch) = (packer(&track), Batch::new());

    packer.pack(&frame(1, 0, unit), &mut batch).unwrap();

    let runs: Vec<_> = batch.runs(65_000).collect();
    assert_eq!(runs.len(), 1);
    assert_eq!(batch.packets().len(), 17);
}

#[test]
fn parameter_sets_that_come_apart_go_in_front_of_the_next_picture() {
    let track = track(1, "h264");
    let nals: [&[u8]; 4] = [
        &[0x67, 1, 2],
        &[0x68, 3],
        &[0x65, 0x88, 1],
        &[0x41, 0x9A, 1],
    ];
    // Each with a marker of its own, as some cameras send them.
    let packet = |(sequence, nal): (u16, &&[u8])| {
        let head = levada_media::rtp::Head {
            marker: true,
            payload_type: 96,
            sequence,
            timestamp: if sequence < 3 { 0 } else { 3_000 },
            ssrc: 7,
        };
        [&head.encode()[..], nal].concat()
    };
    let packets: Vec<_> = (0..).zip(&nals).map(packet).collect();

    let (back, _) = unpack(&track, &packets);

    let data: Vec<_> = back.iter().map(|frame| frame.data.clone()).collect();
    let first = [
        &[0, 0, 0, 1][..],
        nals[0],
        &[0, 0, 0, 1],
        nals[1],
        &[0, 0, 0, 1],
        nals[2],
    ];
    assert_eq!(
        data,
        [
            Bytes::from(first.concat()),
            Bytes::from([&[0, 0, 0, 1], nals[3]].concat())
        ]
    );
}

#[test]
fn several_sounds_in_a_packet_follow_each_other() {
    let track = Track {
        timescale: 48_000.try_into().unwrap(),
        ..track(1, "aac")
    };
    let payload = [0, 48, 0, 2 << 3, 0, 1 << 3, 0, 3 << 3, 1, 1, 2, 3, 3, 3];
    let head = |sequence| levada_media::rtp::Head {
        marker: true,
        payload_type: 96,
        sequence,
        timestamp: 5,
        ssrc: 7,
    };
    // One access unit more than announced bytes, then a good one.
    let bad = [&head(0).encode()[..], &payload[..10]].concat();
    let good = [&head(1).encode()[..], &payload].concat();

    let (mut unpacker, mut back) = (Unpacker::new(&track, packer(&track).mapping()), Vec::new());
    unpacker.push(&bad, &mut back);
    assert_eq!((back.len(), unpacker.counts().bad), (1, 1));
    back.clear();
    unpacker.push(&good, &mut back);

    let seen: Vec<_> = back
        .iter()
        .map(|frame| (frame.dts, &frame.data[..]))
        .collect();
    assert_eq!(seen, [(0, &[1, 1][..]), (1_024, &[2]), (2_048, &[3, 3, 3])]);
}

#[test]
fn a_new_sender_and_a_clock_set_anew_go_on_without_a_jump() {
    let track = track(1, "opus");
    let packets = |ssrc: u32, start: u32| {
        let make = move |n: u16| {
            let head = levada_media::rtp::Head {
                marker: false,
                payload_type: 96,
                sequence: n,
                timestamp: start.wrapping_add(u32::from(n) * 960),
                ssrc,
            };
            [&head.encode()[..], &[31 << 3, 1]].concat()
        };
        (0..10).map(make)
    };
    let (mut unpacker, mut back) = (Unpacker::new(&track, packer(&track).mapping()), Vec::new());

    for packet in packets(1, 0).chain(packets(2, 3_000_000_000)) {
        unpacker.push(&packet, &mut back);
    }

    // Two packets of a stranger are left out before it is believed.
    assert_eq!(back.len(), 18);
    assert_eq!(unpacker.sender(), Some(2));
    assert_eq!(unpacker.counts().strange, 2);
    let steps: Vec<_> = back
        .windows(2)
        .map(|pair| pair[1].dts - pair[0].dts)
        .collect();
    // The track counts 90 kHz, RTP 48 kHz.
    assert_eq!(steps, [1_800; 17]);
}
