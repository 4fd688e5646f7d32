//! Files that are played in a time of their own: tokio's clock jumps to the next timer.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use crate::ts::{Demuxer, Event, Muxer};
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

async fn open(bytes: &[u8], repeats: bool) -> Result<Feed, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.ts");
    std::fs::write(&path, bytes).unwrap();
    Feed::open(&path, Options { repeats }).await
}

/// Takes frames, whose times must never fall in any track, and says how often the tracks were described.
async fn take(feed: &mut Feed, count: usize) -> (Vec<Frame>, usize) {
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
