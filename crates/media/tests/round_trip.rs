//! What is written as a transport stream is read back frame by frame, whatever the frames.
//!
//! Not a test against other programs (`players.rs`). Invariant under test: `demux(mux(frames)) == frames`, with
//! every time later by `MUX_OFFSET`, modulo 2^33.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{demux, description, descriptions, frame, frames, mux, of_track, shifted};
use levada_media::ts::{Event, MUX_OFFSET, MuxError, Muxer, Omission, PACKET_BYTES, Packet};
use levada_wire::{Frame, TrackId};
use proptest::collection::vec;
use proptest::prelude::*;

const PERIOD: i64 = 1 << 33;

/// Frames of tracks `h264`, `aac`, `levada-clock`, their times growing from `start`.
fn stream() -> impl Strategy<Value = Vec<Frame>> {
    let picture = (
        any::<bool>(),
        any::<bool>(),
        vec(vec(any::<u8>(), 1..900), 1..4),
        0_i64..4,
    )
        .prop_map(|(sync, referred, slices, delay)| {
            let data = common::h264(sync, referred, &slices).into();
            let discardable = !sync && !referred;
            let pts = delay * 3_000;
            Frame {
                track: TrackId(1),
                sync,
                discardable,
                dts: 0,
                pts,
                data,
            }
        });
    let sound = vec(any::<u8>(), 1..900).prop_map(|data| frame(2, 0, data));
    let clock = vec(any::<u8>(), 1..90).prop_map(|data| frame(3, 0, data));
    let frame = (prop_oneof![picture, sound, clock], 0_i64..9_000);
    (-PERIOD..2 * PERIOD, vec(frame, 1..60)).prop_map(|(start, frames)| {
        let mut now = start;
        let place = |(frame, step): (Frame, i64)| {
            now += step;
            Frame {
                dts: now,
                pts: now + frame.pts,
                ..frame
            }
        };
        frames.into_iter().map(place).collect()
    })
}

/// The frames as they come back: times from the first one's on, which is read as 33 bits.
fn expected(frames: &[Frame]) -> Vec<Frame> {
    let first = frames[0].dts + MUX_OFFSET;
    shifted(frames, MUX_OFFSET + first.rem_euclid(PERIOD) - first)
}

proptest! {
    #[test]
    fn frames_come_back_as_they_were(frames in stream(), cut in 1_usize..2_000) {
        let description = description(&["h264", "aac", "levada-clock"]);

        let bytes = mux(&description, &frames);
        let (events, errors) = demux(bytes.chunks(cut));

        let back = common::frames(&events);
        let expected = expected(&frames);
        for track in 1..=3 {
            prop_assert_eq!(of_track(&back, track), of_track(&expected, track));
        }
        prop_assert_eq!(errors, 0);
        // Without sound its configuration does not show, as the stream has no other place for it.
        if !of_track(&frames, 2).is_empty() {
            prop_assert_eq!(descriptions(&events), vec![description]);
            prop_assert_eq!(back, expected);
        }
    }

    #[test]
    fn chunks_do_not_matter(frames in stream(), cut in 1_usize..1_000) {
        let bytes = mux(&description(&["h264", "aac", "levada-clock"]), &frames);

        prop_assert_eq!(demux(bytes.chunks(cut)), demux([&bytes[..]]));
    }

    #[test]
    fn clock_tables_and_counters_keep_their_distances(
        steps in vec((1_u8..4, 0_i64..12_000, any::<bool>()), 1..80), start in 0_i64..PERIOD,
    ) {
        let (mut now, mut frames) = (start, Vec::new());
        for (track, step, sync) in steps {
            now += step;
            let data = if track == 1 { common::h264(sync, true, &[vec![7; 300]]) } else { vec![7; 200] };
            frames.push(Frame { sync: sync || track > 1, ..frame(track, now, data) });
        }

        let bytes = mux(&description(&["h264", "aac", "levada-clock"]), &frames);

        check_packets(&bytes);
    }
}

/// Checks the order of packets: counters without a break, 40 ms between clock values, 100 ms between tables.
fn check_packets(bytes: &[u8]) {
    let (mut counters, mut clock, mut tables) = (std::collections::BTreeMap::new(), None, None);
    assert_eq!(bytes.len() % PACKET_BYTES, 0);
    for bytes in bytes.as_chunks::<PACKET_BYTES>().0 {
        let packet = Packet::parse(bytes).unwrap();
        let last = counters.insert(packet.pid, packet.continuity);
        let step = u8::from(packet.payload.is_some());
        assert!(
            last.is_none_or(|last| (last + step) & 0x0F == packet.continuity),
            "{packet:?}"
        );
        let since = |earlier: u64, later: u64| (later + PERIOD as u64 - earlier) % PERIOD as u64;
        if packet.pid.value() == 0 {
            tables = clock;
        }
        if let Some(pcr) = packet.adaptation.pcr {
            let now = pcr / 300;
            assert!(
                clock.is_none_or(|clock| since(clock, now) <= 3_600),
                "clock at {now}"
            );
            assert!(
                tables.is_none_or(|tables| since(tables, now) <= 9_000),
                "tables at {now}"
            );
            clock = Some(now);
        }
    }
}

#[test]
fn every_codec_comes_back() {
    let h265 = |sync, referred| common::h265(sync, referred, &[vec![9; 400], vec![8; 90]]);
    let opus = |n: u8| vec![31 << 3, n, n, n];
    let streams = [
        (
            "h265",
            [h265(true, true), h265(false, true), h265(false, false)],
            [true, false, false],
        ),
        ("mp2", [1, 2, 3].map(common::mp2), [true; 3]),
        ("ac3", [1, 2, 3].map(common::ac3), [true; 3]),
        ("opus", [1, 2, 3].map(opus), [true; 3]),
        ("ts-15", [vec![1], vec![2; 300], vec![3; 70_000]], [true; 3]),
        ("levada-clock", [vec![1], vec![2], vec![3]], [true; 3]),
    ];
    for (codec, data, sync) in streams {
        let description = description(&[codec]);
        let make = |((n, data), sync): ((i64, Vec<u8>), bool)| Frame {
            sync,
            discardable: codec == "h265" && n == 2,
            ..frame(1, n * 2_161, data)
        };
        let frames: Vec<_> = (0..).zip(data).zip(sync).map(make).collect();

        let (events, errors) = demux([&mux(&description, &frames)[..]]);

        assert_eq!(
            common::frames(&events),
            shifted(&frames, MUX_OFFSET),
            "{codec}"
        );
        assert_eq!(descriptions(&events), [description], "{codec}");
        assert_eq!(errors, 0, "{codec}");
    }
}

#[test]
fn a_description_that_changes_comes_back_changed_and_breaks_no_counter() {
    let (before, after) = (
        description(&["h264", "aac"]),
        description(&["h264", "ts-06", "mp2"]),
    );
    let picture = |n: i64| frame(1, n * 3_000, common::h264(true, true, &[vec![5; 200]]));
    let (mut muxer, mut bytes) = (Muxer::new(&before), Vec::new());

    for n in 0..20 {
        muxer.push(&picture(n), &mut bytes).unwrap();
        muxer
            .push(&frame(2, n * 3_000, vec![4; 100]), &mut bytes)
            .unwrap();
    }
    muxer.set_description(&after);
    for n in 20..40 {
        muxer.push(&picture(n), &mut bytes).unwrap();
        muxer
            .push(&frame(3, n * 3_000, common::mp2(3)), &mut bytes)
            .unwrap();
    }

    check_packets(&bytes);
    let (events, errors) = demux([&bytes[..]]);
    assert_eq!(errors, 0);
    assert_eq!(of_track(&frames(&events), 1).len(), 40);
    let described = descriptions(&events);
    assert_eq!(described[0], before);
    // The leading track first, then the audio's number is new, as the old one's track is gone.
    let codecs: Vec<_> = described[1]
        .tracks
        .iter()
        .map(|track| &*track.codec)
        .collect();
    assert_eq!(codecs, ["h264", "ts-06", "mp2"]);
    assert_eq!(described.len(), 2);
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, Event::Discontinuity(_)))
    );
}

#[test]
fn a_new_audio_configuration_is_described_before_its_first_frame() {
    let before = description(&["aac"]);
    let mut after = before.clone();
    // 44.1 kHz.
    after.tracks[0].config = vec![0x12, 0x10];
    let (mut muxer, mut bytes) = (Muxer::new(&before), Vec::new());

    muxer.push(&frame(1, 0, vec![1; 9]), &mut bytes).unwrap();
    muxer.set_description(&after);
    muxer
        .push(&frame(1, 1_920, vec![2; 9]), &mut bytes)
        .unwrap();

    let (events, _) = demux([&bytes[..]]);
    let heard = |n: i64| frame(1, n * 1_920, vec![n as u8 + 1; 9]);
    let heard = |n: i64| Event::Frame(shifted(&[heard(n)], MUX_OFFSET).remove(0));
    let expected = [
        Event::Description(before),
        heard(0),
        Event::Description(after),
        heard(1),
    ];
    assert_eq!(events, expected);
}

#[test]
fn an_access_unit_gets_the_delimiter_it_lacks_and_no_second_one() {
    let (h264, h265) = (
        common::h264(true, true, &[vec![5; 50]]),
        common::h265(true, true, &[vec![5; 50]]),
    );
    for (codec, whole, delimiter) in [("h264", h264, 6), ("h265", h265, 7)] {
        // As from an MP4 file: no delimiter.
        let bare = whole[delimiter..].to_vec();
        let sent = [bare, whole.clone(), vec![]];
        let sent: Vec<_> = (0..)
            .zip(sent)
            .map(|(n, data)| frame(1, n * 3_000, data))
            .collect();

        let (events, errors) = demux([&mux(&description(&[codec]), &sent)[..]]);

        let back: Vec<_> = frames(&events).into_iter().map(|f| f.data).collect();
        assert_eq!(back, [&whole[..], &whole, &whole[..delimiter]], "{codec}");
        assert_eq!(errors, 0, "{codec}");
    }
}

#[test]
fn sound_beyond_the_length_field_is_split_and_put_together() {
    // What the first packet holds beside a time, and what a following one does.
    let (first, more) = (65_535 - 8, 65_535 - 3);
    let sizes = [
        first - 1,
        first,
        first + 1,
        first + more,
        first + more + 1,
        9,
    ];
    for codec in ["pcmu", "opus", "ts-06"] {
        let description = description(&[codec]);
        let sent = (0..).zip(sizes).map(|(n, bytes)| {
            let data = [vec![31 << 3], vec![7; bytes - 1]].concat();
            frame(1, n * 1_800, data)
        });
        let sent: Vec<_> = sent.collect();

        let bytes = mux(&description, &sent);
        let (events, errors) = demux([&bytes[..]]);

        assert_eq!(frames(&events), shifted(&sent, MUX_OFFSET), "{codec}");
        assert_eq!(errors, 0, "{codec}");
        let starts = bytes
            .as_chunks::<PACKET_BYTES>()
            .0
            .iter()
            .filter_map(|bytes| {
                let packet = Packet::parse(bytes).unwrap();
                let payload = packet.payload.filter(|_| packet.starts_unit)?;
                (packet.pid.value() == 0x101).then_some(&payload[..6])
            });
        for start in starts {
            assert_eq!(start[..3], [0, 0, 1], "{codec}");
            assert_ne!(start[4..], [0, 0], "{codec}: no length");
        }
    }
}

#[test]
fn a_track_that_cannot_be_written_is_named_and_left_out() {
    let mut description = description(&["h264", "aac"]);
    description.tracks[1].config.clear();
    let (mut muxer, mut bytes) = (Muxer::new(&description), Vec::new());

    assert_eq!(muxer.omitted(), [(TrackId(2), Omission::AudioConfig)]);
    assert_eq!(muxer.push(&frame(2, 0, vec![1]), &mut bytes), Ok(()));
    let unknown = muxer.push(&frame(7, 0, vec![1]), &mut bytes);
    assert_eq!(unknown, Err(MuxError::UnknownTrack(TrackId(7))));
    assert!(bytes.is_empty());
}

#[test]
fn a_stream_for_players_has_no_track_that_they_do_not_know() {
    let muxer = Muxer::for_players(&description(&["h264", "levada-clock", "ts-06"]));

    assert_eq!(muxer.omitted(), [(TrackId(2), Omission::Private)]);
}

#[test]
fn a_frame_too_large_for_adts_is_refused_and_the_next_is_written() {
    let description = description(&["aac"]);
    let (mut muxer, mut bytes) = (Muxer::new(&description), Vec::new());

    let refused = muxer.push(&frame(1, 0, vec![1; 8_185]), &mut bytes);
    muxer
        .push(&frame(1, 1_920, vec![1; 8_184]), &mut bytes)
        .unwrap();

    assert_eq!(
        refused,
        Err(MuxError::TooLarge {
            track: TrackId(1),
            bytes: 8_185
        })
    );
    let (events, errors) = demux([&bytes[..]]);
    assert_eq!((frames(&events).len(), errors), (1, 0));
}

#[test]
fn more_tracks_than_the_table_holds_are_left_out() {
    let mut description = description(&["ts-06"; 6]);
    for track in &mut description.tracks {
        track.config = [vec![0xFE, 250], vec![0; 250]].concat();
    }

    let muxer = Muxer::new(&description);

    let full = [4, 5, 6].map(|id| (TrackId(id), Omission::TableFull));
    assert_eq!(muxer.omitted(), full);
}
