//! Fragmented MP4 that we write, as ffmpeg and our own reader see it. Needs ffmpeg; `cargo xtask test` installs it.
//!
//! Invariants under test: each frame has its times, later by the offset; everything decodes without a complaint; the
//! bytes follow from the frames alone.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::Path;

use common::files::{encode, of, probe, read, run};
use common::{description, frame};
use levada_media::mp4::{FRAME_STEP, TIME_OFFSET, TrackOmission, Writer};
use levada_media::{TestCard, ticks::rescale};
use levada_wire::{Description, Frame, TrackId, WallTime};

/// Init segment, then fragments of so many frames.
fn write(description: &Description, frames: &[Frame], at_once: usize) -> (String, Vec<u8>) {
    let mut writer = Writer::new(description);
    frames.iter().take(10).for_each(|frame| writer.learn(frame));
    let mut bytes = writer.init().unwrap();
    for (sequence, frames) in (1..).zip(frames.chunks(at_once)) {
        writer.fragment(sequence, frames, &mut bytes);
    }
    (writer.mime().unwrap(), bytes)
}

fn offset(description: &Description, track: u8) -> i64 {
    let track = description.track(TrackId(track)).unwrap();
    rescale(TIME_OFFSET.ticks, TIME_OFFSET.timescale, track.timescale)
}

fn later(times: Vec<(i64, i64)>, offset: i64) -> Vec<(i64, i64)> {
    let later = |(pts, dts)| (pts + offset, dts + offset);
    times.into_iter().map(later).collect()
}

/// Decodes a file; gives how many pictures there were.
fn decode(path: &Path) -> usize {
    let decoded = run(
        "ffmpeg",
        &[
            "-i",
            path.to_str().unwrap(),
            "-map",
            "0",
            "-f",
            "framecrc",
            "-",
        ],
    );
    decoded
        .lines()
        .filter(|line| line.starts_with("0,"))
        .count()
}

/// The MIME type, and how ffmpeg makes the file that is copied.
const FILES: [(&str, &[&str]); 5] = [
    (
        "video/mp4; codecs=\"avc1.64000B,mp4a.40.2\"",
        &["-c:v", "libx264", "-bf", "2", "-g", "12", "-c:a", "aac"],
    ),
    (
        "video/mp4; codecs=\"hvc1.1.6.L30.90,opus\"",
        &[
            "-c:v",
            "libx265",
            "-x265-params",
            "log-level=none:keyint=12",
            "-bf",
            "2",
            "-c:a",
            "libopus",
        ],
    ),
    (
        "video/mp4; codecs=\"vp09.00.10.08,opus\"",
        &[
            "-c:v",
            "libvpx-vp9",
            "-g",
            "12",
            "-deadline",
            "realtime",
            "-c:a",
            "libopus",
        ],
    ),
    (
        "video/mp4; codecs=\"av01.0.00M.08,mp4a.6B\"",
        &[
            "-c:v",
            "libaom-av1",
            "-cpu-used",
            "8",
            "-usage",
            "realtime",
            "-g",
            "12",
            "-c:a",
            "libmp3lame",
        ],
    ),
    (
        "video/mp4; codecs=\"avc1.F4000B,mp4a.40.2\"",
        &[
            "-c:v", "libx264", "-pix_fmt", "yuv444p", "-g", "12", "-c:a", "aac",
        ],
    ),
];

#[test]
fn ffprobe_reads_every_frame_and_ffmpeg_decodes_it() {
    let folder = tempfile::tempdir().unwrap();
    for (mime, codecs) in FILES {
        let source = encode(&folder.path().join("from.mp4"), codecs);
        let (reader, frames) = read(&source);
        let description = reader.description();
        for at_once in [1, 7, frames.len()] {
            let (said, bytes) = write(description, &frames, at_once);
            let path = folder.path().join("to.mp4");
            std::fs::write(&path, &bytes).unwrap();

            assert_eq!(said, mime);
            let probed = probe(&path);
            for track in [1, 2] {
                let expected = later(of(&frames, track), offset(description, track));
                assert_eq!(
                    probed[&usize::from(track - 1)],
                    expected,
                    "{codecs:?}, {at_once} at once"
                );
            }
            assert_eq!(decode(&path), of(&frames, 1).len(), "{codecs:?}");
            let (again, back) = read(&bytes);
            assert_eq!(again.description(), description, "{codecs:?}");
            let same = |a: &Frame, b: &Frame| {
                (a.sync, a.discardable, a.track) == (b.sync, b.discardable, b.track)
            };
            let mut sorted = frames.clone();
            sorted.sort_by_key(|frame| frame.track);
            let mut back = back;
            back.sort_by_key(|frame| frame.track);
            assert_eq!(back.len(), sorted.len());
            assert!(
                back.iter().zip(&sorted).all(|(a, b)| same(a, b)),
                "{codecs:?}"
            );
        }
    }
}

#[test]
fn the_test_card_plays_and_its_clock_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut card = TestCard::new();
    let frames: Vec<_> = (0..855).map(|n| card.next_frame(WallTime(n))).collect();
    let writer = Writer::new(card.description());
    let path = folder.path().join("card.mp4");

    let (_, bytes) = write(card.description(), &frames, 20);
    std::fs::write(&path, bytes).unwrap();

    assert_eq!(writer.omitted(), [(TrackId(3), TrackOmission::Codec)]);
    assert_eq!(decode(&path), of(&frames, 1).len());
}

#[test]
fn what_is_not_known_yet_is_not_written() {
    let mut writer = Writer::new(&description(&["h264", "aac"]));
    let mut out = Vec::new();

    assert_eq!((writer.init(), writer.mime()), (None, None));
    writer.learn(&frame(1, 0, common::h264(false, true, &[vec![7; 9]])));
    assert_eq!(writer.init(), None);
    writer.fragment(1, &[frame(7, 0, vec![1])], &mut out);
    assert!(out.is_empty());
    assert_eq!(Writer::new(&Description::default()).init(), None);
    let mut bare = description(&["aac", "opus"]);
    bare.tracks
        .iter_mut()
        .for_each(|track| track.config.clear());
    let omitted = [1, 2].map(|id| (TrackId(id), TrackOmission::Config));
    assert_eq!(Writer::new(&bare).omitted(), omitted);
}

#[test]
fn a_fragment_is_a_function_of_its_frames() {
    let description = description(&["h264", "opus"]);
    let picture = |n: i64| frame(1, n * 3_000, common::h264(true, true, &[vec![7; 50]]));
    let sound = |n: i64| frame(2, n * 1_800, vec![31 << 3, 5]);
    let burst = [picture(0), sound(0), sound(1), picture(1)];
    let writer = Writer::new(&description);
    let mut other = Writer::new(&description);
    let fragment = |writer: &Writer, frames: &[Frame]| {
        let mut out = Vec::new();
        writer.fragment(9, frames, &mut out);
        out
    };

    // Another node has written other things before.
    other.learn(&sound(5));
    fragment(&other, &[picture(100), sound(100)]);

    assert_eq!(fragment(&writer, &burst), fragment(&other, &burst));
    // A picture alone lasts what nobody knows better, a sound what it says.
    let alone = |frame: Frame| fragment(&writer, &[frame]);
    let has = |bytes: &[u8], ticks: i64| {
        let wanted = u32::try_from(ticks).unwrap().to_be_bytes();
        bytes.windows(4).any(|word| word == wanted)
    };
    assert!(has(&alone(picture(0)), FRAME_STEP.ticks));
    assert!(has(&alone(sound(0)), 1_800));
}
