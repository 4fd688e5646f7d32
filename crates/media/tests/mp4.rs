//! MP4 files of ffmpeg, read frame by frame. Needs ffmpeg; `cargo xtask test` installs it.
//!
//! Invariants under test: frames have the times that ffprobe says, are whole, and come in the order of decoding;
//! a file that is cut short or broken just ends.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::Cursor;
use std::path::Path;

use common::files::{encode, of, probe, read, run};
use levada_media::mp4::{Mp4Error, OmissionReason, Reader};
use levada_media::ticks::Span;
use levada_media::ts::Muxer;
use levada_wire::{Frame, TrackId};

/// Words of the tracks, the file's name, how ffmpeg makes it.
const FILES: [(&[&str], &str, &[&str]); 10] = [
    (
        &["h264", "aac"],
        "b.mp4",
        &["-c:v", "libx264", "-bf", "3", "-g", "12", "-c:a", "aac"],
    ),
    (
        &["h264", "aac"],
        "fast.mp4",
        &[
            "-c:v",
            "libx264",
            "-bf",
            "2",
            "-g",
            "12",
            "-movflags",
            "faststart",
            "-c:a",
            "aac",
        ],
    ),
    (
        &["h264", "aac"],
        "frag.mp4",
        &[
            "-c:v",
            "libx264",
            "-bf",
            "2",
            "-g",
            "12",
            "-movflags",
            "frag_keyframe+empty_moov",
            "-c:a",
            "aac",
        ],
    ),
    (
        &["h264", "aac"],
        "moof.mp4",
        &[
            "-c:v",
            "libx264",
            "-g",
            "12",
            "-bf",
            "0",
            "-movflags",
            "frag_every_frame+default_base_moof",
            "-c:a",
            "aac",
        ],
    ),
    (
        &["h265", "opus"],
        "hevc.mp4",
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
        &["vp9", "opus"],
        "vp9.mp4",
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
        &["av1", "mp3"],
        "av1.mp4",
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
        &["mjpeg", "ac3"],
        "jpeg.mp4",
        &["-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-c:a", "ac3"],
    ),
    (
        &["mjpeg", "pcmu"],
        "jpeg.mov",
        &[
            "-c:v",
            "mjpeg",
            "-pix_fmt",
            "yuvj420p",
            "-c:a",
            "pcm_mulaw",
            "-ar",
            "8000",
        ],
    ),
    (
        &["h264", "aac"],
        "old.mov",
        &["-c:v", "libx264", "-bf", "2", "-g", "12", "-c:a", "aac"],
    ),
];

#[test]
fn frames_have_the_times_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    for (words, name, codecs) in FILES {
        let path = folder.path().join(name);
        let bytes = encode(&path, codecs);

        let (mut reader, frames) = read(&bytes);

        let description = reader.description().clone();
        let codecs: Vec<_> = description
            .tracks
            .iter()
            .map(|track| track.codec.as_str())
            .collect();
        assert_eq!(codecs, words, "{name}");
        assert_eq!((description.check(), reader.left_out()), (Ok(()), 0));
        let probed = probe(&path);
        assert_eq!(of(&frames, 1), probed[&0], "{name}");
        // ffmpeg makes pieces of its own of PCM.
        if words[1] != "pcmu" {
            assert_eq!(of(&frames, 2), probed[&1], "{name}");
        }
        let spans: Vec<_> = frames
            .iter()
            .map(|frame| Span {
                ticks: frame.dts,
                timescale: description.track(frame.track).unwrap().timescale,
            })
            .collect();
        assert!(spans.is_sorted(), "{name}");
        assert!(frames[0].track != TrackId(1) || frames[0].sync, "{name}");
        let keys = frames
            .iter()
            .filter(|frame| frame.track == TrackId(1) && frame.sync);
        assert!(keys.count() >= 3, "{name}");

        reader.rewind();
        let again: Vec<_> = std::iter::from_fn(|| reader.next_frame().unwrap()).collect();
        assert_eq!(again, frames, "{name}");
        if words == ["h264", "aac"] {
            decode(&description, &frames, folder.path());
        }
    }
}

/// What was read plays: as a transport stream, without a complaint.
fn decode(description: &levada_wire::Description, frames: &[Frame], folder: &Path) {
    let (mut muxer, mut bytes) = (Muxer::new(description), Vec::new());
    for frame in frames {
        muxer.push(frame, &mut bytes).unwrap();
    }
    let path = folder.join("read.ts");
    std::fs::write(&path, bytes).unwrap();
    let decoded = run(
        "ffmpeg",
        &["-i", path.to_str().unwrap(), "-f", "framecrc", "-"],
    );
    let pictures = decoded
        .lines()
        .filter(|line| line.starts_with("0,"))
        .count();
    assert_eq!(pictures, of(frames, 1).len());
}

#[test]
fn a_file_that_is_cut_short_ends_early_and_a_broken_one_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = encode(&folder.path().join("a.mp4"), FILES[1].2);
    let fragments = encode(&folder.path().join("b.mp4"), FILES[2].2);
    let whole = read(&bytes).1.len();

    for cut in [bytes.len() - 1, bytes.len() * 2 / 3] {
        let (reader, frames) = read(&bytes[..cut]);
        assert!(!frames.is_empty() && frames.len() < whole);
        assert_eq!(
            frames.len() + usize::try_from(reader.left_out()).unwrap(),
            whole
        );
    }
    let (_, frames) = read(&fragments[..fragments.len() * 2 / 3]);
    assert!(!frames.is_empty());

    // Each byte of the tables turned over.
    for file in [&bytes, &fragments] {
        let end = file.windows(4).position(|kind| kind == b"mdat").unwrap();
        for at in 0..end {
            let mut broken = file.to_vec();
            broken[at] ^= 0xFF;
            if let Ok(mut reader) = Reader::open(Cursor::new(&broken[..])) {
                let frames = std::iter::from_fn(|| reader.next_frame().unwrap());
                assert!(frames.take(3_000).count() < 3_000, "at {at}");
            }
        }
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = encode(
        &folder.path().join("a.mp4"),
        &["-c:v", "mpeg4", "-c:a", "flac", "-strict", "-2"],
    );

    let error = Reader::open(Cursor::new(&bytes)).unwrap_err();

    let Mp4Error::NoTracks(omitted) = &error else {
        panic!("{error}");
    };
    let reasons: Vec<_> = omitted
        .iter()
        .map(|omission| (omission.codec.as_str(), omission.reason))
        .collect();
    assert_eq!(
        reasons,
        [
            ("mp4v", OmissionReason::Codec),
            ("fLaC", OmissionReason::Codec)
        ]
    );
    assert!(
        error
            .to_string()
            .contains("track 1 (mp4v): its codec is not supported")
    );
    for bytes in [&b""[..], b"\0\0\0\x01", &[7; 100], &bytes[..40]] {
        assert!(matches!(
            Reader::open(Cursor::new(bytes)),
            Err(Mp4Error::NoTables)
        ));
    }
    let huge = [&[0, 0, 0, 1][..], b"moov", &[0, 0, 0, 9, 0, 0, 0, 0]].concat();
    assert!(matches!(
        Reader::open(Cursor::new(&huge)),
        Err(Mp4Error::TablesTooLarge { .. })
    ));
}
