//! What other programs say of our transport streams. Needs ffmpeg; `cargo xtask test` installs it.
//!
//! Invariant under test: ffprobe reads every frame with its times, and has nothing to complain about.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::Write;
use std::process::{Command, Stdio};

use common::{demux, frames, mux, of_track};
use levada_media::ts::{MUX_OFFSET, Muxer};
use levada_media::{Rebase, TestCard};
use levada_wire::{Description, Frame, WallTime};

/// Runs an ffmpeg program on `input`; gives what it wrote, and fails on any warning.
fn run(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    run_saying(program, arguments, input, "")
}

/// The same, where the program is to say exactly this.
fn run_saying(program: &str, arguments: &[&str], input: &[u8], said: &str) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(["-hide_banner", "-loglevel", "warning"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!(
                "{program} does not start ({error}): install ffmpeg (Debian: apt install ffmpeg), or run cargo \
                 xtask test as root"
            )
        });
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program that has seen enough closes its end; that is not our failure.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} failed: {complaints}");
    assert_eq!(complaints, said, "{program} complains");
    output.stdout
}

/// The times of every packet of a track as ffprobe sees them: pts, dts, key.
fn probe(input: &[u8], stream: &str) -> Vec<(i64, i64, bool)> {
    probe_saying(input, stream, "")
}

fn probe_saying(input: &[u8], stream: &str, said: &str) -> Vec<(i64, i64, bool)> {
    let entries = "packet=pts,dts,flags";
    let arguments = [
        "-select_streams",
        stream,
        "-show_entries",
        entries,
        "-of",
        "compact=p=0:nk=1",
        "-",
    ];
    let text = String::from_utf8(run_saying("ffprobe", &arguments, input, said)).unwrap();
    let line = |line: &str| {
        let mut fields = line.split('|');
        let mut next = || {
            fields
                .next()
                .unwrap_or_else(|| panic!("ffprobe wrote {line}"))
        };
        (
            next().parse().unwrap(),
            next().parse().unwrap(),
            next().starts_with('K'),
        )
    };
    text.lines()
        .filter(|text| !text.is_empty())
        .map(line)
        .collect()
}

/// The transport stream of some frames, without what players do not know.
fn mux_for_players(description: &Description, frames: &[Frame]) -> Vec<u8> {
    let (mut muxer, mut bytes) = (Muxer::for_players(description), Vec::new());
    for frame in frames {
        muxer.push(frame, &mut bytes).unwrap();
    }
    bytes
}

fn card(rounds: usize) -> (TestCard, Vec<Frame>) {
    let mut card = TestCard::new();
    let frames = (0..rounds * 855)
        .map(|n| card.next_frame(WallTime(n as u64)))
        .collect();
    (card, frames)
}

#[test]
fn ffprobe_reads_the_looped_test_card_as_it_was_written() {
    let (card, frames) = card(3);

    let bytes = mux_for_players(card.description(), &frames);

    for (track, stream) in [(1, "v:0"), (2, "a:0")] {
        let ours = of_track(&frames, track);
        let times = |frame: &Frame| (frame.pts + MUX_OFFSET, frame.dts + MUX_OFFSET, frame.sync);
        let ours: Vec<_> = ours.iter().map(times).collect();
        assert_eq!(probe(&bytes, stream), ours, "{stream}");
    }
}

#[test]
fn the_clock_is_there_for_whoever_asks_for_it() {
    let (card, frames) = card(1);

    let bytes = mux(card.description(), &frames);

    // The one thing ffprobe says of a track it has no decoder for.
    let said = "Unsupported codec with id 98314 for input stream 2\n";
    let clocks = probe_saying(&bytes, "d:0", said);
    assert_eq!(clocks.len(), 240);
    assert!(
        clocks
            .iter()
            .zip(0..)
            .all(|(times, n)| times.1 == n * 3_000 + MUX_OFFSET)
    );
}

#[test]
fn ffmpeg_decodes_the_looped_test_card_without_a_complaint() {
    let (card, frames) = card(2);

    let bytes = mux_for_players(card.description(), &frames);
    let arguments = [
        "-i", "-", "-map", "0:v", "-map", "0:a", "-f", "framecrc", "-",
    ];
    let decoded = String::from_utf8(run("ffmpeg", &arguments, &bytes)).unwrap();

    let of = |stream: &str| {
        decoded
            .lines()
            .filter(|line| line.starts_with(stream))
            .count()
    };
    let handed = |track| of_track(&frames, track).len();
    assert_eq!((of("0,"), of("1,")), (handed(1), handed(2)));
}

#[test]
fn ffprobe_follows_a_new_instance_and_a_gap() {
    let (card, frames) = card(1);
    let (mut rebase, mut muxer) = (Rebase::new(), Muxer::for_players(card.description()));
    let mut bytes = Vec::new();

    for instance in 0..3 {
        rebase.start_instance(card.description());
        // Three seconds, of which the last instance has lost one.
        let lost = 90_000..if instance == 2 { 180_000 } else { 90_000 };
        let played = frames.iter().filter(|frame| frame.dts < 270_000);
        for frame in played.filter(|frame| !lost.contains(&frame.dts)) {
            if let Some(frame) = rebase.shift(frame.clone()) {
                muxer.push(&frame, &mut bytes).unwrap();
            }
        }
    }

    let times = probe(&bytes, "v:0");
    assert_eq!(times.len(), 90 + 90 + 60);
    assert!(times.windows(2).all(|pair| pair[0].1 < pair[1].1));
}

#[test]
fn what_ffmpeg_writes_is_read_packet_by_packet() {
    let codecs = [
        ("libx264", "mp2", "h264"),
        ("libx264", "libmp3lame", "h264"),
        ("mpeg2video", "ac3", "mpeg2video"),
        ("libx265", "libopus", "h265"),
    ];
    for (video, audio, word) in codecs {
        let arguments = [
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=160x120:rate=25:duration=2",
            "-f",
            "lavfi",
            "-i",
            "sine=duration=2:sample_rate=48000",
            "-c:v",
            video,
            "-x265-params",
            "log-level=none",
            "-g",
            "10",
            "-bf",
            "2",
            "-c:a",
            audio,
            "-b:a",
            "96k",
            "-f",
            "mpegts",
            "-",
        ];
        let arguments = if video == "libx265" {
            &arguments[..]
        } else {
            &without_x265(&arguments)
        };
        let bytes = run("ffmpeg", arguments, &[]);

        let (events, errors) = demux(bytes.chunks(1_000));

        assert_eq!(errors, 0, "{video}");
        let description = &common::descriptions(&events)[0];
        assert_eq!(description.tracks[0].codec, word);
        let frames = frames(&events);
        let pictures: Vec<_> = of_track(&frames, 1);
        let times = pictures
            .iter()
            .map(|picture| (picture.pts, picture.dts, picture.sync));
        assert_eq!(times.collect::<Vec<_>>(), probe(&bytes, "v:0"), "{video}");
        let sounds: Vec<_> = of_track(&frames, 2).iter().map(|sound| sound.dts).collect();
        let probed: Vec<_> = probe(&bytes, "a:0").iter().map(|times| times.1).collect();
        assert_eq!(sounds, probed, "{audio}");
    }
}

fn without_x265<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let is_x265 =
        |argument: &&&str| argument.contains("x265-params") || argument.contains("log-level");
    arguments
        .iter()
        .filter(|argument| !is_x265(argument))
        .copied()
        .collect()
}

#[test]
fn ffprobe_reads_a_slide_show_with_sound() {
    let (card, frames) = card(1);
    // A picture every two seconds.
    let shown = |frame: &Frame| frame.track.0 != 1 || frame.sync && frame.dts % 180_000 == 0;
    let frames: Vec<_> = frames.into_iter().filter(shown).collect();

    let bytes = mux_for_players(card.description(), &frames);

    assert_eq!(probe(&bytes, "v:0").len(), of_track(&frames, 1).len());
    assert_eq!(probe(&bytes, "a:0").len(), of_track(&frames, 2).len());
}
