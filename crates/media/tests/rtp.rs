//! What is packed as RTP is unpacked frame by frame, whatever the network did to the packets in between.
//!
//! Not a test against other programs. Invariants under test: a frame comes back whole or not at all, the same
//! frame makes the same packets everywhere, and nothing that comes ends an unpacker.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use bytes::Bytes;
use common::rtp::{FLOW, canonical, jpeg, pack, packer, pictures, unpack};
use common::{frame, track};
use levada_media::rtp::{Batch, Mapping, Numbering, PackError, Packer, Packet, Unpacker};
use levada_wire::frame::FRAME_BYTES_MAX;
use levada_wire::{Frame, Track};
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_loss_costs_the_frames_it_touched_and_no_others(
        frames in pictures("h264"),
        lost in vec(any::<prop::sample::Index>(), 1..4),
    ) {
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
            let slices = |frame: &Frame| {
                let slices = levada_media::nal::units(&frame.data).filter(|nal| nal[0] & 0x1F < 6);
                slices.map(<[u8]>::to_vec).collect::<Vec<_>>()
            };
            prop_assert!(came.is_none_or(|came| slices(came) == slices(frame)));
        }
    }

    #[test]
    fn anything_that_comes_is_survived(
        codec in prop::sample::select(vec![
            "h264", "h265", "av1", "vp8", "vp9", "mjpeg", "aac", "opus", "pcmu", "mp3", "mpegts", "rtp-x",
        ]),
        packets in vec((0_u16..40, 0_u32..3, any::<bool>(), vec(any::<u8>(), 0..40)), 0..60),
    ) {
        let track = track(1, codec);
        let payload_type = packer(&track).mapping().payload_type;
        let packets: Vec<_> = packets.into_iter().map(|(sequence, time, marker, payload)| {
            let head = levada_media::rtp::Head { marker, payload_type, sequence, timestamp: time * 3_000, ssrc: 7 };
            [&head.encode()[..], &payload].concat()
        }).collect();

        let (back, unpacker) = unpack(&track, &packets);

        prop_assert!(back.is_sorted_by_key(|frame| frame.dts));
        prop_assert_eq!(unpacker.counts().frames, back.len() as u64);
        prop_assert_eq!(unpacker.counts().packets, packets.len() as u64);
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
fn an_unpacker_goes_on_after_anything() {
    for codec in [
        "h264", "h265", "av1", "vp8", "vp9", "mjpeg", "aac", "opus", "mp3",
    ] {
        let track = track(1, codec);
        let good = |n: i64| {
            let data = match codec {
                "h264" => common::h264(true, true, &[vec![3; 2_000]]),
                "h265" => common::h265(true, true, &[vec![3; 2_000]]),
                "av1" => [&[0x0A, 1, 0, 0x32, 0xD1, 0x0F][..], &[0x10; 2_001]].concat(),
                "vp9" => vec![0x82; 2_000],
                "mjpeg" => jpeg(&[5; 2_000], false, true),
                "mp3" => common::mp2(7),
                _ => vec![0x10; 2_000],
            };
            frame(1, n * 3_000, data)
        };
        let mut packets = pack(&track, &(0..4).map(good).collect::<Vec<_>>());
        let count = packets.len() / 4;
        // The payloads of the second frame are anything.
        for packet in &mut packets[count..2 * count] {
            let end = packet.len();
            packet[12..end].fill(0xFF);
        }

        let (back, unpacker) = unpack(&track, &packets);

        let whole: Vec<_> = back.iter().map(|frame| frame.dts).collect();
        assert!(
            whole.starts_with(&[0]) && whole.ends_with(&[6_000, 9_000]),
            "{codec}: {whole:?}"
        );
        assert_eq!(unpacker.counts().packets, packets.len() as u64);
    }
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
fn a_picture_above_the_limit_is_left_out_and_the_next_is_whole() {
    // The beginning of a piece, one that goes on, and one that ends.
    let codecs: [(&str, [&[u8]; 3]); 2] = [
        ("h264", [&[0x7C, 0x85], &[0x7C, 0x05], &[0x7C, 0x45]]),
        ("av1", [&[0x58, 0x30], &[0xD0], &[0x90]]),
    ];
    for (codec, [begin, middle, end]) in codecs {
        let track = track(1, codec);
        let packet = |sequence: u16, time: u32, front: &[u8], bytes: usize| {
            let head = levada_media::rtp::Head {
                marker: front == end,
                payload_type: 96,
                sequence,
                timestamp: time,
                ssrc: 7,
            };
            [&head.encode()[..], front, &vec![0x90; bytes]].concat()
        };
        let pieces = u16::try_from(FRAME_BYTES_MAX / 60_000 + 2).unwrap();
        let large = (1..pieces).map(|n| packet(n, 0, middle, 60_000));
        let large = std::iter::once(packet(0, 0, begin, 60_000)).chain(large);
        let small = [
            packet(pieces + 1, 3_000, begin, 9),
            packet(pieces + 2, 3_000, end, 9),
        ];
        let large = large.chain([packet(pieces, 0, end, 9)]);
        let packets: Vec<_> = large.chain(small).collect();

        let (back, unpacker) = unpack(&track, &packets);

        let times: Vec<_> = back.iter().map(|frame| frame.data.len() < 40).collect();
        assert_eq!(times, [true], "{codec}");
        assert_eq!(unpacker.counts().damaged, 1, "{codec}");
    }
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
