//! Every RTP format gives back what it was given, over a network that mixes packets.
//!
//! Not the handling of losses (`rtp.rs`). Invariant under test: `unpack(pack(frames)) == frames`, in the form that
//! each format states, and packets are as small as they must be.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::rtp::{canonical, jpeg, pack, pictures, unpack};
use common::{frame, track};
use levada_media::rtp::{PACKET_BYTES_MAX, Packet};
use levada_wire::{Frame, Track};
use proptest::collection::vec;
use proptest::prelude::*;

/// Bodies of what a picture consists of, small and large.
fn bodies() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(
        prop_oneof![
            vec(1_u8.., 1..60),
            vec(1_u8.., 1_100..1_300),
            vec(1_u8.., 2_000..5_000)
        ],
        1..5,
    )
}

fn leb128(size: usize) -> Vec<u8> {
    let low = (size & 0x7F) as u8;
    if size < 128 {
        vec![low]
    } else {
        vec![low | 0x80, (size >> 7) as u8]
    }
}

fn sounds(codec: &'static str) -> impl Strategy<Value = (Track, Vec<Frame>)> {
    let sizes = prop_oneof![1_usize..400, 1_000_usize..3_000];
    vec((any::<u8>(), sizes), 1..20).prop_map(move |sizes| {
        let track = Track {
            timescale: 48_000.try_into().unwrap(),
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
    #![proptest_config(ProptestConfig::with_cases(96))]

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
    fn av1_comes_back(pictures in vec((any::<bool>(), bodies()), 1..12), keys in vec(0_usize..9, 1..9)) {
        let unit = |(n, (key, bodies)): (i64, (bool, Vec<Vec<u8>>))| {
            let sync = key || n == 0;
            let mut data = if sync { vec![0x0A, 2, 7, 7] } else { vec![] };
            for (n, body) in bodies.iter().enumerate() {
                // A frame, then tile groups.
                let first = if sync { 0x10 } else { 0x30 };
                let body = [&[if n == 0 { first } else { 9 }][..], body].concat();
                data.push(if n == 0 { 0x32 } else { 0x22 });
                data.extend(leb128(body.len()));
                data.extend(body);
            }
            Frame { sync, ..frame(1, n * 3_000, data) }
        };
        let frames: Vec<_> = (0..).zip(pictures).map(unit).collect();
        check_whole("av1", &frames, &keys)?;
    }

    #[test]
    fn vp8_and_vp9_come_back(pictures in vec((any::<bool>(), bodies()), 1..12), keys in vec(0_usize..9, 1..9)) {
        for (codec, key_byte, inter_byte) in [("vp8", 0x10, 0x11), ("vp9", 0x82, 0x86)] {
            let picture = |(n, (key, bodies)): (i64, &(bool, Vec<Vec<u8>>))| {
                let sync = *key || n == 0;
                let data = [&[if sync { key_byte } else { inter_byte }][..], &bodies.concat()].concat();
                Frame { sync, ..frame(1, n * 3_000, data) }
            };
            let frames: Vec<_> = (0..).zip(&pictures).map(picture).collect();
            check_whole(codec, &frames, &keys)?;
        }
    }

    #[test]
    fn a_jpeg_comes_back_as_the_same_picture(
        scans in vec(vec(0_u8..255, 1..4_000), 1..8), restart: bool, sampling: bool, keys in vec(0_usize..9, 1..9),
    ) {
        let track = track(1, "mjpeg");
        let pictures = scans.iter().map(|scan| jpeg(scan, restart, sampling));
        let frames: Vec<_> = (0..).zip(pictures).map(|(n, data)| frame(1, n * 3_000, data)).collect();
        let packets = pack(&track, &frames);

        let (back, _) = unpack(&track, &mix(&packets, &keys));

        prop_assert_eq!(back.len(), frames.len());
        for (back, scan) in back.iter().zip(&scans) {
            let end = [&scan[..], &[0xFF, 0xD9]].concat();
            prop_assert!(back.data.ends_with(&end));
        }
        prop_assert_eq!(pack(&track, &back), packets);
    }

    #[test]
    fn g711_comes_back_sample_by_sample(sizes in vec(1_usize..3_000, 1..20), keys in vec(0_usize..9, 1..9)) {
        let track = Track { timescale: 8_000.try_into().unwrap(), ..track(1, "pcmu") };
        let mut now = 0;
        let frames: Vec<_> = sizes.iter().zip(0..).map(|(size, fill)| {
            now += *size as i64;
            frame(1, now - *size as i64, vec![fill; *size])
        }).collect();

        let (back, _) = unpack(&track, &mix(&pack(&track, &frames), &keys));

        let samples = |frames: &[Frame]| frames.iter().flat_map(|frame| frame.data.to_vec()).collect::<Vec<_>>();
        prop_assert_eq!(samples(&back), samples(&frames));
        // Each piece begins where the samples before it end.
        prop_assert!(back.windows(2).all(|pair| pair[0].dts + pair[0].data.len() as i64 == pair[1].dts));
    }

    #[test]
    fn mp3_comes_back(fills in vec(any::<u8>(), 1..12), keys in vec(0_usize..9, 1..9)) {
        // MPEG-1 layer II at 384 kb/s and 32 kHz: a frame of 1,728 bytes, in two packets.
        let sound = |(n, fill): (i64, u8)| {
            let mut data = vec![fill; 1_728];
            data[..4].copy_from_slice(&[0xFF, 0xFD, 0xE8, 0]);
            frame(1, n * 3_240, data)
        };
        let frames: Vec<_> = (0..).zip(fills).map(sound).collect();
        check_whole("mp3", &frames, &keys)?;
    }

    #[test]
    fn what_is_not_understood_comes_back(sounds in sounds("rtp-x"), marker: bool, packets in 1_usize..8) {
        let (track, mut frames) = sounds;
        for frame in &mut frames {
            let mut data = frame.data.to_vec();
            data[0] = u8::from(marker);
            data.push(0);
            frame.data = data.into();
        }
        let ts: Vec<_> = frames.iter().map(|f| Frame { data: vec![0x47; packets * 188].into(), ..f.clone() }).collect();

        let (back, _) = unpack(&track, &pack(&track, &frames));
        let mpegts = common::track(1, "mpegts");
        let (ts_back, _) = unpack(&mpegts, &pack(&mpegts, &ts));

        prop_assert_eq!(back, frames);
        let bytes: usize = ts_back.iter().map(|frame| frame.data.len()).sum();
        prop_assert_eq!(bytes, ts.len() * packets * 188);
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

/// Checks a codec whose frames come back byte for byte.
fn check_whole(codec: &str, frames: &[Frame], keys: &[usize]) -> Result<(), TestCaseError> {
    let track = track(1, codec);
    let packets = pack(&track, frames);
    for packet in &packets {
        prop_assert!(packet.len() <= PACKET_BYTES_MAX);
    }
    let markers = packets
        .iter()
        .filter(|packet| Packet::parse(packet).unwrap().marker());
    prop_assert_eq!(markers.count(), frames.len());
    check_sounds(&track, frames, keys)
}

fn check_sounds(track: &Track, frames: &[Frame], keys: &[usize]) -> Result<(), TestCaseError> {
    let packets = pack(track, frames);

    let (back, unpacker) = unpack(track, &mix(&packets, keys));

    prop_assert_eq!(back, frames);
    prop_assert_eq!(unpacker.counts().lost, 0);
    Ok(())
}
