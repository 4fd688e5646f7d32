//! Files that are played in a time of their own: tokio's clock jumps to the next timer.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32};

use crate::mp4;
use crate::ts::{self, Demuxer, Event, Muxer};
use levada_wire::TrackId;

use super::*;

static CLIP: &[u8] = include_bytes!("../../../assets/testcard.ts");

/// The first second of the clip, and its description.
fn second() -> (Description, Vec<Frame>) {
    let (mut demuxer, mut events) = (Demuxer::new(), Vec::new());
    demuxer.push(CLIP, &mut events);
    demuxer.finish(&mut events);
    let (mut description, mut frames) = (Description::default(), Vec::new());
    for event in events {
        match event {
            Event::Description(tracks) => description = tracks,
            Event::Frame(frame) => frames.push(frame),
            other => panic!("{other:?}"),
        }
    }
    let end = frames[0].dts + 90_000;
    frames.retain(|frame| frame.dts < end);
    (description, frames)
}

async fn open(bytes: &[u8], repeats: bool) -> Result<Box<dyn Source>, Error> {
    let options = Options {
        repeats,
        ..Options::default()
    };
    open_with(bytes, options).await
}

async fn open_with(bytes: &[u8], options: Options) -> Result<Box<dyn Source>, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip");
    std::fs::write(&path, bytes).unwrap();
    super::open(&path, options).await
}

/// Takes frames, whose times must never fall in any track, and says how often the tracks were described.
async fn take(feed: &mut Box<dyn Source>, count: usize) -> (Vec<Frame>, usize) {
    let (mut frames, mut descriptions) = (Vec::new(), 0);
    let mut last: BTreeMap<TrackId, i64> = BTreeMap::new();
    while frames.len() < count {
        match feed.next().await.unwrap() {
            Some(Item::Frame(frame)) => {
                let before = last.insert(frame.track, frame.dts);
                assert!(before.is_none_or(|before| before < frame.dts));
                frames.push(frame);
            }
            Some(Item::Description(_)) => descriptions += 1,
            None => break,
        }
    }
    (frames, descriptions)
}

#[tokio::test(start_paused = true)]
async fn a_file_is_played_as_fast_as_it_was_recorded_and_ends() {
    let mut feed = open(CLIP, false).await.unwrap();
    let clock = Clock::start();

    let (frames, descriptions) = take(&mut feed, usize::MAX).await;

    assert_eq!((frames.len(), descriptions), (240 + 375, 1));
    let took = i64::try_from(clock.now().as_nanos() / 1_000_000).unwrap();
    let last = frames.last().unwrap().dts / 90;
    assert!((last..=last + 2).contains(&took), "{took} ms for {last}");
    assert_eq!(feed.next().await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_repeats_has_no_seam() {
    let mut feed = open(CLIP, true).await.unwrap();

    let (frames, descriptions) = take(&mut feed, 3 * (240 + 375)).await;

    assert_eq!(descriptions, 1);
    for (track, step) in [(1, 3_000), (2, 1_920)] {
        let frames = frames.iter().filter(|frame| frame.track == TrackId(track));
        let times: Vec<_> = frames.map(|frame| frame.dts).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == step));
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_whose_tracks_change_repeats_too() {
    let (description, frames) = second();
    let (mut muxer, mut bytes) = (Muxer::new(&description), Vec::new());
    for frame in &frames {
        muxer.push(frame, &mut bytes).unwrap();
    }
    let mut pictures_only = description.clone();
    pictures_only.tracks.truncate(1);
    muxer.set_description(&pictures_only);
    let pictures = frames.iter().filter(|frame| frame.track == TrackId(1));
    for frame in pictures {
        let (dts, pts) = (frame.dts + 90_000, frame.pts + 90_000);
        muxer
            .push(
                &Frame {
                    dts,
                    pts,
                    ..frame.clone()
                },
                &mut bytes,
            )
            .unwrap();
    }
    let mut feed = open(&bytes, true).await.unwrap();

    let (played, descriptions) = take(&mut feed, 3 * (frames.len() + 30)).await;

    assert_eq!(played.len(), 3 * (frames.len() + 30));
    assert_eq!(descriptions, 6);
}

#[tokio::test]
async fn a_file_without_a_stream_is_refused_and_not_played_for_ever() {
    // Packets of no program: null packets.
    let null = [&[0x47, 0x1F, 0xFF, 0x10][..], &[0; 184]].concat();

    let error = open(&null.repeat(100), true).await.unwrap_err().to_string();

    assert!(error.contains("no pictures, sound or data"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_mp4_file_repeats_without_a_seam_in_the_times_of_its_tracks() {
    let (description, frames) = second();
    let mut writer = mp4::Writer::new(&description);
    frames.iter().for_each(|frame| writer.learn(frame));
    let mut bytes = writer.init().unwrap();
    writer.fragment(1, &frames, &mut bytes);
    let mut source = open(&bytes, true).await.unwrap();

    let Some(Item::Description(tracks)) = source.next().await.unwrap() else {
        panic!("a source begins with its tracks");
    };
    let (played, _) = take(&mut source, 3 * frames.len()).await;

    assert_eq!(tracks.tracks.len(), 2);
    let pictures: Vec<_> = played
        .iter()
        .filter(|frame| frame.track == tracks.tracks[0].id)
        .map(|frame| frame.dts)
        .collect();
    assert_eq!(pictures.len(), 90);
    assert!(
        pictures.windows(2).all(|pair| pair[1] - pair[0] == 3_000),
        "{pictures:?}"
    );
}

/// An image that nobody could look at, but that begins and ends as one must.
const IMAGE: [u8; 11] = [0xFF, 0xD8, 0xFF, 0xDA, 0, 3, 9, 1, 2, 0xFF, 0xD9];

#[tokio::test(start_paused = true)]
async fn motion_jpeg_is_played_at_the_rate_that_is_asked_for() {
    let lab = [b"00011", &IMAGE[..]].concat();
    for bytes in [IMAGE.repeat(3), lab.repeat(3)] {
        let options = Options {
            repeats: true,
            rate: NonZeroU32::new(10),
            ..Options::default()
        };
        let mut source = open_with(&bytes, options).await.unwrap();
        let clock = Clock::start();

        let (frames, _) = take(&mut source, 6).await;

        let times: Vec<_> = frames.iter().map(|frame| frame.dts).collect();
        assert_eq!(times, [0, 9_000, 18_000, 27_000, 36_000, 45_000]);
        assert!(frames.iter().all(|frame| *frame.data == IMAGE));
        let took = clock.now().as_nanos() / 1_000_000;
        assert!((500..=502).contains(&took), "{took} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_image_that_repeats_is_a_picture_at_its_rate_and_no_flood() {
    let mut source = open(&IMAGE, true).await.unwrap();

    let (frames, _) = take(&mut source, 3).await;

    assert_eq!(frames[2].dts - frames[1].dts, 3_600);
}

/// The clip, whose tables name a second program.
fn two_programs() -> Vec<u8> {
    let mut bytes = Vec::new();
    for packet in CLIP.as_chunks::<188>().0 {
        let pid = u16::from_be_bytes([packet[1] & 0x1F, packet[2]]);
        bytes.extend(if pid == 0 { pat(packet) } else { *packet });
    }
    bytes
}

/// A PAT that names the program of `packet`'s, and a second one that never comes.
fn pat(packet: &[u8; 188]) -> [u8; 188] {
    let entry = &packet[13..17];
    let mut section = vec![0, 0xB0, 17, 0, 1, 0xC1, 0, 0];
    section.extend_from_slice(entry);
    section.extend([0, 7, 0xF0, 0]);
    let crc = ts::crc32(&section);
    section.extend(crc.to_be_bytes());
    let mut changed = [0xFF; 188];
    changed[..5].copy_from_slice(&packet[..5]);
    changed[5..5 + section.len()].copy_from_slice(&section);
    changed
}

#[tokio::test(start_paused = true)]
async fn a_program_that_is_not_there_is_refused_with_those_that_are() {
    let bytes = two_programs();
    let with = |number| Options {
        program: NonZeroU16::new(number),
        ..Options::default()
    };

    let missing = open_with(&bytes, with(5)).await.unwrap_err().to_string();
    let mut first = open_with(&bytes, with(1)).await.unwrap();

    assert!(missing.contains("no program 5: it has 1, 7"), "{missing}");
    assert!(missing.contains("--program"), "{missing}");
    assert_eq!(take(&mut first, 10).await.0.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn what_only_ffmpeg_reads_is_read_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let (ts, mkv) = (folder.path().join("a.ts"), folder.path().join("a.mkv"));
    std::fs::write(&ts, CLIP).unwrap();
    let made = std::process::Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-i"])
        .arg(&ts)
        .args(["-c", "copy"])
        .arg(&mkv)
        .status();
    assert!(made.expect("ffmpeg is needed for this test").success());
    let options = Options {
        repeats: true,
        ..Options::default()
    };

    let mut source = super::open(&mkv, options).await.unwrap();

    // Two rounds and a half: it is started anew at its end.
    let (frames, descriptions) = take(&mut source, 1_500).await;
    assert_eq!((frames.len(), descriptions), (1_500, 1));
}

#[tokio::test]
async fn what_nobody_can_read_is_refused_with_what_ffmpeg_says() {
    let error = open(&[0x55; 5_000], false).await.unwrap_err().to_string();

    assert!(error.contains("ffmpeg cannot read"), "{error}");
    assert!(error.contains("Invalid data"), "{error}");
}
