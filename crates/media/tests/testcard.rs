//! The built-in test card: its clip has exactly the frames it should, and goes round without a seam.
//!
//! Not a look at the picture, nor at what other programs say of it (`players.rs`).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{demux, frames, mux, of_track, shifted};
use levada_media::TestCard;
use levada_media::testcard::Clock;
use levada_media::ts::MUX_OFFSET;
use levada_wire::{Frame, TrackId, WallTime};

static CLIP: &[u8] = include_bytes!("../assets/testcard.ts");

const PICTURES: usize = 240;
const SOUNDS: usize = 375;
/// A round of the clip: pictures, as many clocks, and sounds.
const ROUND: usize = 2 * PICTURES + SOUNDS;

fn wall(n: usize) -> WallTime {
    WallTime(1_700_000_000_000_000 + n as u64)
}

fn take(card: &mut TestCard, count: usize) -> Vec<Frame> {
    (0..count).map(|n| card.next_frame(wall(n))).collect()
}

#[test]
fn the_clip_has_eight_seconds_of_pictures_and_sound() {
    let (events, errors) = demux([CLIP]);
    let clip = frames(&events);
    let (pictures, sounds) = (of_track(&clip, 1), of_track(&clip, 2));

    assert_eq!(
        (pictures.len(), sounds.len(), errors),
        (PICTURES, SOUNDS, 0)
    );
    assert_eq!(
        pictures.iter().map(|picture| picture.pts).min(),
        Some(sounds[0].pts)
    );
    // A group a second, pictures in between that nothing refers to, and pts that differ from dts.
    let syncs: Vec<_> = (0..PICTURES).filter(|n| pictures[*n].sync).collect();
    assert_eq!(syncs, [0, 30, 60, 90, 120, 150, 180, 210]);
    assert!(
        pictures
            .iter()
            .filter(|picture| picture.discardable)
            .count()
            > PICTURES / 2
    );
    assert!(pictures.iter().any(|picture| picture.pts != picture.dts));
    assert!((200_000..500_000).contains(&CLIP.len()));
}

#[test]
fn three_rounds_have_no_seam_in_any_track() {
    let mut card = TestCard::new();
    let frames = take(&mut card, 3 * ROUND);

    for (track, step, count) in [
        (1, 3_000, PICTURES),
        (2, 1_920, SOUNDS),
        (3, 3_000, PICTURES),
    ] {
        let dts: Vec<_> = of_track(&frames, track)
            .iter()
            .map(|frame| frame.dts)
            .collect();
        // Sound is a picture behind, so that the end of its round comes with the next one's first picture.
        assert!(dts.len().abs_diff(3 * count) <= 2, "track {track}");
        assert!(
            dts.windows(2).all(|pair| pair[1] - pair[0] == step),
            "track {track}"
        );
        let mut pts: Vec<_> = of_track(&frames, track)
            .iter()
            .map(|frame| frame.pts)
            .collect();
        pts.sort_unstable();
        assert!(
            pts.windows(2).all(|pair| pair[1] - pair[0] == step),
            "track {track}"
        );
    }
    assert!(frames.windows(2).all(|pair| pair[0].dts <= pair[1].dts));
    assert_eq!(frames[0].dts, 0);
}

#[test]
fn three_rounds_come_back_from_a_transport_stream() {
    let mut card = TestCard::new();
    let frames = take(&mut card, 3 * ROUND);

    let (events, errors) = demux([&mux(card.description(), &frames)[..]]);

    assert_eq!(common::frames(&events), shifted(&frames, MUX_OFFSET));
    assert_eq!(common::descriptions(&events), [card.description().clone()]);
    assert_eq!(errors, 0);
}

#[test]
fn a_clock_goes_with_each_picture() {
    let mut card = TestCard::new();

    let picture = card.next_frame(wall(5));
    let due = card.next_due();
    let clock = card.next_frame(wall(9));

    assert_eq!((picture.track, clock.track), (TrackId(1), TrackId(3)));
    assert_eq!((clock.dts, clock.pts), (picture.dts, picture.pts));
    assert_eq!(due.ticks, picture.dts);
    assert_eq!(
        Clock::decode(&clock.data),
        Some(Clock {
            wall: wall(5),
            picture: 0
        })
    );
    assert_eq!(Clock::decode(&clock.data[1..]), None);
    let later = take(&mut card, ROUND);
    let last = of_track(&later, 3).pop().unwrap();
    assert_eq!(Clock::decode(&last.data).unwrap().picture, 240);
}

#[test]
fn a_frame_says_beforehand_when_it_is_due() {
    let mut card = TestCard::new();

    for n in 0..2 * ROUND {
        let due = card.next_due();

        assert_eq!(card.next_frame(wall(n)).dts, due.ticks);
    }
}
