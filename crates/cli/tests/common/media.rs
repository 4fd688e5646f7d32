//! What was carried, compared with what it came from.
//!
//! A recording is read with the project's own demuxer, which the media crate proves against other programs. Invariant:
//! two recordings are equal only access unit by access unit and timestamp by timestamp.

use std::path::Path;

use levada_media::TestCard;
use levada_media::testcard::CLOCK_CODEC;
use levada_media::ts::{Demuxer, Event, Muxer};
use levada_wire::{Description, Frame, TrackKind, WallTime};

/// The test card's clip.
pub(crate) static CLIP: &[u8] = include_bytes!("../../../media/assets/testcard.ts");

/// Pictures and sound, each in order.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    pub(crate) pictures: Vec<Frame>,
    pub(crate) sounds: Vec<Frame>,
}

impl Recording {
    /// Reads a transport stream, in which nothing may be wrong.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let (description, frames) = demux(bytes);
        Self::of(&description, frames)
    }

    pub(crate) fn read_file(path: &Path) -> Self {
        Self::read(&std::fs::read(path).unwrap())
    }

    /// As many seconds of the test card.
    pub(crate) fn of_card(seconds: i64) -> Self {
        let mut card = TestCard::new();
        let description = card.description().clone();
        let frames = std::iter::from_fn(|| {
            let is_within = card.next_due().ticks < seconds * 90_000;
            is_within.then(|| card.next_frame(WallTime(0)))
        });
        let frames = frames.collect();
        Self::of(&description, frames)
    }

    fn of(description: &Description, frames: Vec<Frame>) -> Self {
        let mut recording = Self::default();
        for frame in frames {
            let track = description.track(frame.track).unwrap();
            match track.kind {
                TrackKind::Video => recording.pictures.push(frame),
                TrackKind::Audio => recording.sounds.push(frame),
                _ => assert_eq!(track.codec, CLOCK_CODEC),
            }
        }
        recording
    }

    /// Every frame of `self` is a frame of `source`, none between its first and its last is missing, and one offset
    /// explains all times.
    pub(crate) fn assert_is_part_of(&self, source: &Self) {
        let offset = assert_run(&self.pictures, &source.pictures, None);
        assert_run(&self.sounds, &source.sounds, Some(offset));
    }

    /// Times of a track never fall.
    pub(crate) fn assert_times_grow(&self) {
        for frames in [&self.pictures, &self.sounds] {
            assert!(frames.windows(2).all(|pair| pair[0].dts < pair[1].dts));
        }
    }
}

/// `frames` are a run of `source`, moved by one offset, which is returned.
pub(crate) fn assert_run(frames: &[Frame], source: &[Frame], offset: Option<i64>) -> i64 {
    let first = frames.first().expect("it holds frames");
    let is_first = |frame: &Frame| {
        frame.data == first.data && offset.is_none_or(|offset| frame.dts + offset == first.dts)
    };
    let start = source
        .iter()
        .position(is_first)
        .expect("its first frame is the source's");
    let offset = first.dts - source[start].dts;
    let run = &source[start..];
    assert!(run.len() >= frames.len(), "longer than the source");
    for (at, (frame, original)) in frames.iter().zip(run).enumerate() {
        let moved = (original.dts + offset, original.pts + offset);
        assert_eq!((frame.dts, frame.pts), moved, "times of frame {at}");
        assert_eq!(frame.data, original.data, "bytes of frame {at}");
        assert_eq!(frame.sync, original.sync, "frame {at}");
    }
    offset
}

/// The tracks and frames of a transport stream in which nothing is wrong.
pub(crate) fn demux(bytes: &[u8]) -> (Description, Vec<Frame>) {
    let (mut demuxer, mut events) = (Demuxer::new(), Vec::new());
    demuxer.push(bytes, &mut events);
    demuxer.finish(&mut events);
    assert_eq!(demuxer.errors_total(), 0, "{:?}", demuxer.take_errors());
    let (mut description, mut frames) = (Description::default(), Vec::new());
    for event in events {
        match event {
            Event::Description(tracks) => description = tracks,
            Event::Frame(frame) => frames.push(frame),
            other => panic!("{other:?}"),
        }
    }
    (description, frames)
}

/// A transport stream of these frames.
pub(crate) fn mux(description: &Description, frames: &[Frame]) -> Vec<u8> {
    let (mut muxer, mut bytes) = (Muxer::new(description), Vec::new());
    for frame in frames {
        muxer.push(frame, &mut bytes).unwrap();
    }
    bytes
}
