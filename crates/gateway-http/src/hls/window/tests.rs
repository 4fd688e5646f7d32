//! Segments by hand, and the test card through the maker.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::sync::Arc;

use levada::{Group, Track, TrackId, TrackKind};
use levada_media::TestCard;

use super::super::Ask;
use super::super::maker::{GAPS_MAX, Maker, Start, is_name};
use super::super::making::{PARTS_MAX, SEGMENT_BYTES_MAX};
use super::*;

fn segment(number: u64, seconds: f64) -> Segment {
    Segment {
        start: start(0),
        parts: Vec::new(),
        number,
        name: format!("s{number}"),
        init: Some(Init {
            name: "init".to_owned(),
            bytes: Bytes::from_static(b"head"),
            codecs: "avc1".to_owned(),
        }),
        seconds,
        bytes: Bytes::from_static(b"data"),
        wall: None,
    }
}

fn gap(number: u64) -> Segment {
    Segment {
        init: None,
        bytes: Bytes::new(),
        ..segment(number, 2.0)
    }
}

fn made(segments: impl IntoIterator<Item = Segment>) -> Made {
    Made {
        segments: segments.into_iter().collect(),
        open: None,
    }
}

fn with(segments: impl IntoIterator<Item = Segment>) -> Window {
    let mut window = Window::default();
    window.add(made(segments));
    window
}

#[test]
fn half_a_minute_is_listed_and_a_minute_is_kept() {
    let window = with((0..100).map(|number| segment(number, 2.0)));

    let playlist = window.media("").unwrap();

    assert_eq!(playlist.matches("#EXTINF").count(), 15);
    assert!(
        playlist.contains("#EXT-X-MEDIA-SEQUENCE:85\n"),
        "{playlist}"
    );
    assert!(playlist.contains("#EXT-X-TARGETDURATION:2\n"), "{playlist}");
    assert_eq!(playlist.matches("#EXT-X-MAP").count(), 1);
    assert!(window.file("s70").is_some());
    assert!(window.file("s69").is_none());
    assert_eq!(window.file("init").as_deref(), Some(&b"head"[..]));
}

#[test]
fn a_lost_segment_is_listed_as_a_gap_and_the_first_is_none() {
    let window = with([gap(4), segment(5, 2.0), gap(6), segment(7, 2.0)]);

    let playlist = window.media("?token=abc").unwrap();

    assert!(playlist.contains("#EXT-X-MEDIA-SEQUENCE:5\n"), "{playlist}");
    assert!(
        playlist.contains("#EXT-X-GAP\n#EXTINF:2.000,\ns6?token=abc\n"),
        "{playlist}"
    );
    assert!(
        playlist.contains("#EXT-X-MAP:URI=\"init?token=abc\""),
        "{playlist}"
    );
    assert!(window.file("s6").is_none());
}

#[test]
fn after_a_hole_in_the_numbers_only_what_is_behind_it_is_listed() {
    let window = with([
        segment(5, 2.0),
        segment(6, 2.0),
        segment(900, 2.0),
        segment(3, 2.0),
    ]);

    let playlist = window.media("").unwrap();

    assert!(
        playlist.contains("#EXT-X-MEDIA-SEQUENCE:900\n"),
        "{playlist}"
    );
    assert_eq!(playlist.matches("#EXTINF").count(), 1);
    assert!(
        window.file("s6").is_some(),
        "who got the list before may still ask"
    );
}

#[test]
fn bytes_and_segments_are_bounded_and_the_newest_stays() {
    let large = Bytes::from(vec![0; BYTES_MAX / 2]);
    let many = (0..4).map(|number| Segment {
        bytes: large.clone(),
        ..segment(number, 1.0)
    });

    let by_bytes = with(many);
    let by_count = with((0..SEGMENTS_MAX as u64 + 9).map(|number| segment(number, 0.1)));

    assert!(by_bytes.file("s1").is_none());
    assert!(by_bytes.file("s3").is_some());
    assert!(by_count.file("s8").is_none());
    assert!(by_count.file("s9").is_some());
}

#[test]
fn a_date_is_what_the_standard_says() {
    assert_eq!(date(WallTime(0)), "1970-01-01T00:00:00.000Z");
    assert_eq!(
        date(WallTime(951_827_696_789_000)),
        "2000-02-29T12:34:56.789Z"
    );
    assert_eq!(
        date(WallTime(1_795_737_599_999_999)),
        "2026-11-26T23:59:59.999Z"
    );
}

fn start(group_base: u64) -> Start {
    Start {
        id: format!("{group_base:032x}").parse().unwrap(),
        group_base,
    }
}

/// What a node makes of the test card that it has from that group on.
fn card(from: u32, lost: Option<u32>) -> Vec<Segment> {
    let (mut maker, mut card) = (Maker::default(), TestCard::new());
    maker.begin(start(1_000));
    maker
        .describe(&Arc::new(card.description().clone()))
        .unwrap();
    let leading = card.description().leading().unwrap().id;
    let (mut group, mut made) = (None, Vec::new());
    for at in 0..1_000 {
        let frame = card.next_frame(WallTime(at));
        if frame.track == leading && frame.sync {
            group = Some(group.map_or(0, |group| group + 1));
        }
        let now = group.unwrap();
        if now < from {
            continue;
        }
        // A frame in the middle of the group.
        if lost == Some(now) && at % 50 == 49 {
            maker.gap();
            continue;
        }
        made.extend(maker.push(Group(now), frame, Some(WallTime(at))).segments);
    }
    made
}

#[test]
fn nodes_that_came_at_different_times_make_the_same_segments() {
    let early = card(0, None);
    let late = card(2, None);

    assert!(late.len() > 3, "{}", late.len());
    assert_eq!(early[2..], late);
    for (at, segment) in early.iter().enumerate() {
        assert_eq!(segment.number, 1_000 + at as u64);
        assert!(is_name(&segment.name), "{}", segment.name);
        assert!(is_name(&segment.init.as_ref().unwrap().name));
        assert!((0.4..2.1).contains(&segment.seconds), "{}", segment.seconds);
    }
}

#[test]
fn a_group_with_a_hole_is_a_gap_and_the_next_is_not() {
    let made = card(0, Some(2));

    assert!(made[1].init.is_some());
    assert_eq!((made[2].number, &made[2].init), (1_002, &None));
    assert!(made[3].init.is_some());
    assert_eq!(made[3], card(0, None)[3]);
}

/// A frame of a stream that is told by hand: two seconds a group.
fn frame(group: u32, bytes: usize) -> levada::Frame {
    let card = TestCard::new();
    levada::Frame {
        track: card.description().leading().unwrap().id,
        sync: true,
        discardable: false,
        dts: i64::from(group) * 180_000,
        pts: i64::from(group) * 180_000,
        data: Bytes::from(vec![0; bytes]),
    }
}

#[test]
fn groups_that_never_came_are_gaps_up_to_a_limit() {
    let far = u32::try_from(GAPS_MAX).unwrap() + 1;
    for (next, expected) in [(1, 1), (4, 4), (far - 1, 60), (far, 0)] {
        let mut maker = Maker::default();
        maker.begin(start(0));
        maker
            .describe(&Arc::new(TestCard::new().description().clone()))
            .unwrap();
        maker.push(Group(0), frame(0, 10), None);

        let made = maker.push(Group(next), frame(next, 10), None).segments;

        assert_eq!(made.len(), expected, "{next}");
        assert!(
            made.iter().all(|made| (made.seconds - 2.0).abs() < 0.01),
            "{made:?}"
        );
    }
}

#[test]
fn a_group_that_is_too_long_is_a_gap() {
    let mut maker = Maker::default();
    maker.begin(start(0));
    maker
        .describe(&Arc::new(TestCard::new().description().clone()))
        .unwrap();
    for _ in 0..=SEGMENT_BYTES_MAX / (8 << 20) {
        maker.push(Group(0), frame(0, 8 << 20), None);
    }

    let made = maker.push(Group(1), frame(1, 10), None).segments;

    assert_eq!(made.len(), 1);
    assert!(made[0].bytes.is_empty());
}

#[test]
fn paths_of_hls_are_told_from_names() {
    let instance = "0123456789abcdef0123456789abcdef";
    let file = |file: &str| Some(("a/b", Ask::File(file.to_owned())));
    for (name, expected) in [
        ("index.m3u8".to_owned(), Some(("a/b", Ask::Master))),
        ("media.m3u8".to_owned(), Some(("a/b", Ask::Media))),
        (
            format!("{instance}-12.m4s"),
            file(&format!("{instance}-12.m4s")),
        ),
        (
            format!("{instance}-0123456789abcdef.mp4"),
            file(&format!("{instance}-0123456789abcdef.mp4")),
        ),
        (format!("{instance}-012.m4s"), None),
        (format!("{instance}-+1.m4s"), None),
        (format!("{instance}-12.mp4"), None),
        (format!("{}-12.m4s", &instance[1..]), None),
        (
            format!("{instance}-12.3.m4s"),
            file(&format!("{instance}-12.3.m4s")),
        ),
        (format!("{instance}-12.03.m4s"), None),
        (format!("{instance}-12.3.mp4"), None),
        ("ll.m3u8".to_owned(), Some(("a/b", Ask::LowMaster))),
        ("low.m3u8".to_owned(), Some(("a/b", Ask::Low))),
        ("cam".to_owned(), None),
    ] {
        assert_eq!(Ask::split(&format!("a/b/{name}")), expected, "{name}");
    }
}

#[test]
fn a_segment_is_its_parts_and_each_has_nearly_the_length_that_is_told() {
    for segment in card(0, None) {
        let all: Vec<u8> = segment
            .parts
            .iter()
            .flat_map(|part| &part.bytes)
            .copied()
            .collect();
        let seconds: f64 = segment.parts.iter().map(|part| part.seconds).sum();

        assert_eq!(all, segment.bytes);
        assert!(
            (seconds - segment.seconds).abs() < 0.001,
            "{seconds} of {}",
            segment.seconds
        );
        let (_, all_but_last) = segment.parts.split_last().unwrap();
        for part in all_but_last {
            let share = part.seconds / PART_TARGET;
            assert!((0.85..=1.0).contains(&share), "{}", part.seconds);
        }
    }
}

#[test]
fn a_player_may_ask_for_what_comes_next_and_not_for_what_is_far() {
    let (mut maker, mut card, mut window) = (Maker::default(), TestCard::new(), Window::default());
    maker.begin(start(1_000));
    maker
        .describe(&Arc::new(card.description().clone()))
        .unwrap();
    let leading = card.description().leading().unwrap().id;
    let (mut group, mut had) = (None, false);
    let of = |segment, part| Wanted { segment, part };
    for at in 0..400 {
        let frame = card.next_frame(WallTime(at));
        if frame.track == leading && frame.sync {
            group = Some(group.map_or(0, |group| group + 1));
        }
        window.add(maker.push(Group(group.unwrap()), frame, None));
        if window.low("").is_some()
            && window.has(of(1_001, Some(1)))
            && !window.has(of(1_001, None))
        {
            had = true;
            let low = window.low("").unwrap();
            let hint = low.lines().last().unwrap();
            let parts = window.open.as_ref().unwrap().parts.len();
            assert!(
                hint.starts_with("#EXT-X-PRELOAD-HINT:TYPE=PART,URI="),
                "{low}"
            );
            assert!(hint.contains(&format!("-1001.{parts}.m4s")), "{low}");
            assert!(
                low.contains("-1001.1.m4s\"\n") && low.contains("-1000.0.m4s\",INDEPENDENT=YES\n"),
                "{low}"
            );
            let name = part_name(&window.open.as_ref().unwrap().name, 1);
            assert!(window.file(&name).is_some());
            assert!(!window.has(of(1_001, Some(parts))) && !window.is_far(of(1_002, None)));
            assert!(window.is_far(of(1_003, None)));
        }
    }
    assert!(had);
}

#[test]
fn a_group_has_no_more_parts_than_the_limit() {
    let mut maker = Maker::default();
    maker.begin(start(0));
    let mut card = TestCard::new();
    maker
        .describe(&Arc::new(card.description().clone()))
        .unwrap();
    let first = card.next_frame(WallTime(0));
    for at in 0..PARTS_MAX as i64 + 9 {
        let dts = at * 36_000;
        maker.push(
            Group(0),
            levada::Frame {
                dts,
                pts: dts,
                ..first.clone()
            },
            None,
        );
    }

    let made = maker
        .push(
            Group(1),
            levada::Frame {
                dts: 99_000_000,
                ..first
            },
            None,
        )
        .segments;

    assert_eq!(made[0].parts.len(), PARTS_MAX);
}

#[test]
fn the_master_playlist_says_what_is_left_out() {
    let mut description = TestCard::new().description().clone();
    let more = Track {
        id: TrackId(9),
        kind: TrackKind::Audio,
        codec: "ts-81\nx".to_owned(),
        ..description.tracks[0].clone()
    };
    description.tracks.push(more);
    let left_out = Maker::default().describe(&Arc::new(description)).unwrap();
    let mut window = Window::default();
    for segment in card(0, None) {
        window.add(Made {
            segments: vec![segment],
            open: None,
        });
    }

    let before = window.master("media.m3u8", 1, "").unwrap();
    window.left_out = left_out;
    let after = window.master("media.m3u8", 1, "").unwrap();

    assert!(
        !before.contains("left out"),
        "the clock is nobody's loss: {before}"
    );
    assert!(
        after.contains("\n# left out, since no player of HLS takes it: ts-81 x\n"),
        "{after}"
    );
}
