//! Frames of all tracks in the order of their decoding times.
//!
//! Files keep audio in chunks: a PES packet of many frames comes before the pictures it plays with. Sent in file
//! order and paced, each chunk would hold up the picture behind it. So a source of files holds frames until
//! every track has shown a later one. Not for live sources, which must not wait. Called by sources. Invariant:
//! frames of one track keep their order, and nothing is held beyond [`HELD_FRAMES_MAX`] or two seconds.

use std::collections::VecDeque;

use levada_wire::{Description, Frame, Track, TrackKind};

use crate::ticks::TS_TIMESCALE;
use crate::ticks::rescale;

/// Frames held at most; at the limit the earliest leaves.
pub const HELD_FRAMES_MAX: usize = 2_048;
/// How far the tracks of a file may be apart: two seconds, in ticks of 90 kHz.
const SPAN_TICKS_MAX: i64 = 180_000;

/// Puts frames in the order of their decoding times.
#[derive(Debug)]
pub struct Interleaver {
    queues: Vec<Queue>,
    held: usize,
}

#[derive(Debug)]
struct Queue {
    track: Track,
    /// Frames with their decoding time at 90 kHz.
    frames: VecDeque<(i64, Frame)>,
}

impl Interleaver {
    /// An interleaver for the tracks of `description`. Frames of others are passed on at once.
    #[must_use]
    pub fn new(description: &Description) -> Self {
        let queue = |track: &Track| Queue {
            track: track.clone(),
            frames: VecDeque::new(),
        };
        Self {
            queues: description.tracks.iter().map(queue).collect(),
            held: 0,
        }
    }

    /// Takes a frame in and appends to `out` those that are due now.
    pub fn push(&mut self, frame: Frame, out: &mut Vec<Frame>) {
        let Some(at) = self
            .queues
            .iter()
            .position(|queue| queue.track.id == frame.track)
        else {
            return out.push(frame);
        };
        let dts = rescale(frame.dts, self.queues[at].track.timescale, TS_TIMESCALE);
        if self.queues[at]
            .frames
            .back()
            .is_some_and(|(last, _)| dts < *last)
        {
            // Times fell: what is held belongs before it, whatever its times say.
            self.finish(out);
        }
        self.queues[at].frames.push_back((dts, frame));
        self.held += 1;
        while self.held > HELD_FRAMES_MAX || self.is_complete() || self.is_wide() {
            out.extend(self.pop());
        }
    }

    /// Appends all that is held.
    pub fn finish(&mut self, out: &mut Vec<Frame>) {
        out.extend(std::iter::from_fn(|| self.pop()));
    }

    /// Whether every track that flows steadily has a frame here, so that the earliest is known.
    fn is_complete(&self) -> bool {
        let steady = |queue: &&Queue| queue.track.kind != TrackKind::Data;
        self.held > 0
            && self
                .queues
                .iter()
                .filter(steady)
                .all(|queue| !queue.frames.is_empty())
    }

    fn is_wide(&self) -> bool {
        let fronts = self.queues.iter().filter_map(|queue| queue.frames.front());
        let backs = self.queues.iter().filter_map(|queue| queue.frames.back());
        let earliest = fronts.map(|(dts, _)| *dts).min();
        let latest = backs.map(|(dts, _)| *dts).max();
        earliest
            .zip(latest)
            .is_some_and(|(first, last)| last.saturating_sub(first) > SPAN_TICKS_MAX)
    }

    /// Takes the earliest frame; of several the one of the first track.
    fn pop(&mut self) -> Option<Frame> {
        let fronts = self.queues.iter().enumerate();
        let (_, at) = fronts
            .filter_map(|(at, queue)| Some((queue.frames.front()?.0, at)))
            .min()?;
        self.held -= 1;
        self.queues[at].frames.pop_front().map(|(_, frame)| frame)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use bytes::Bytes;
    use levada_wire::TrackId;

    use super::*;

    fn description() -> Description {
        let track = |id, kind, scale| Track {
            id: TrackId(id),
            kind,
            codec: "x".into(),
            timescale: NonZeroU32::new(scale).unwrap_or(TS_TIMESCALE),
            config: Vec::new(),
            language: None,
        };
        let tracks = vec![
            track(1, TrackKind::Video, 90_000),
            track(2, TrackKind::Audio, 48_000),
            track(3, TrackKind::Data, 90_000),
        ];
        Description { tracks }
    }

    fn frame(track: u8, dts: i64) -> Frame {
        let track = TrackId(track);
        Frame {
            track,
            sync: true,
            discardable: false,
            dts,
            pts: dts,
            data: Bytes::new(),
        }
    }

    fn order(frames: &[(u8, i64)]) -> Vec<(u8, i64)> {
        let (mut interleaver, mut out) = (Interleaver::new(&description()), Vec::new());
        for (track, dts) in frames {
            interleaver.push(frame(*track, *dts), &mut out);
        }
        interleaver.finish(&mut out);
        out.iter().map(|frame| (frame.track.0, frame.dts)).collect()
    }

    #[test]
    fn a_chunk_of_audio_is_spread_between_pictures() {
        // 1,024 samples are 1,920 ticks.
        let file = [
            (2, 0),
            (2, 1_024),
            (2, 2_048),
            (2, 3_072),
            (1, 0),
            (1, 3_000),
            (3, 3_000),
            (1, 6_000),
        ];

        let expected = [
            (1, 0),
            (2, 0),
            (2, 1_024),
            (1, 3_000),
            (3, 3_000),
            (2, 2_048),
            (2, 3_072),
            (1, 6_000),
        ];
        assert_eq!(order(&file), expected);
    }

    #[test]
    fn a_track_that_is_silent_holds_the_others_two_seconds() {
        let (mut interleaver, mut out) = (Interleaver::new(&description()), Vec::new());

        for n in 0..=60 {
            interleaver.push(frame(1, n * 3_000), &mut out);
        }
        assert!(out.is_empty());
        interleaver.push(frame(1, 61 * 3_000), &mut out);

        assert_eq!(out, [frame(1, 0)]);
    }

    #[test]
    fn at_the_limit_the_earliest_leaves() {
        let (mut interleaver, mut out) = (Interleaver::new(&description()), Vec::new());

        for dts in (0..).take(HELD_FRAMES_MAX) {
            interleaver.push(frame(1, dts), &mut out);
        }
        assert!(out.is_empty());
        interleaver.push(frame(1, 90_000), &mut out);

        assert_eq!(out, [frame(1, 0)]);
    }

    #[test]
    fn times_that_fall_let_go_of_what_is_held() {
        assert_eq!(
            order(&[(1, 9_000), (1, 0), (2, 0)]),
            [(1, 9_000), (1, 0), (2, 0)]
        );
    }
}
