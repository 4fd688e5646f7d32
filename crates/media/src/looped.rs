//! A clip played again and again, its times going on without a seam.
//!
//! The clip's frames come as often as the caller reads it; each time around, the times of all tracks are shifted
//! by the same period: the length of the longest track, from its first frame to the end of its last. Tracks of
//! equal length go on without any gap; a shorter one is silent until the others have ended. Not a reader of files
//! and not for changes of instance (`rebase.rs`). Called by file sources.
//! Invariant: no rounding adds up; the nth shift is n periods, rounded once.

use std::num::NonZeroU32;

use levada_wire::frame::TRACKS_MAX;
use levada_wire::{Description, Frame, Track, TrackId, TrackKind};

use crate::ticks::{Span, TS_TIMESCALE};

/// Shifts the times of a clip that is played in a loop.
#[derive(Clone, Debug)]
pub struct Looper {
    tracks: Vec<Extent>,
    /// How often the clip has been played.
    rounds: i64,
    period: Span,
}

/// Where a track of the clip begins and ends.
#[derive(Clone, Debug)]
struct Extent {
    id: TrackId,
    kind: TrackKind,
    timescale: NonZeroU32,
    first: Option<i64>,
    last: i64,
    /// Ticks between the last two frames, which the last one is taken to last; a guess before the second.
    step: i64,
}

impl Looper {
    /// A looper for a clip with these tracks, at its beginning.
    #[must_use]
    pub fn new(description: &Description) -> Self {
        let extent = |track: &Track| Extent {
            id: track.id,
            kind: track.kind,
            timescale: track.timescale,
            first: None,
            last: 0,
            // Of a single frame nobody knows; a picture then lasts a 25th of a second.
            step: i64::from(track.timescale.get() / 25).max(1),
        };
        let tracks = description
            .tracks
            .iter()
            .take(TRACKS_MAX)
            .map(extent)
            .collect();
        Self {
            tracks,
            rounds: 0,
            period: Span {
                ticks: 0,
                timescale: TS_TIMESCALE,
            },
        }
    }

    /// Shifts a frame to its place in the endless stream.
    #[must_use]
    pub fn shift(&mut self, frame: Frame) -> Frame {
        let Some(extent) = self
            .tracks
            .iter_mut()
            .find(|extent| extent.id == frame.track)
        else {
            return frame;
        };
        if self.rounds == 0 {
            extent.note(frame.dts);
        }
        let shift = self
            .period
            .times(self.rounds)
            .in_timescale(extent.timescale);
        let (dts, pts) = (
            frame.dts.saturating_add(shift),
            frame.pts.saturating_add(shift),
        );
        Frame { dts, pts, ..frame }
    }

    /// The clip has ended and begins again.
    pub fn rewind(&mut self) {
        if self.rounds == 0 {
            self.period = self.measure();
        }
        self.rounds += 1;
    }

    /// The time the clip takes; zero until it has been played once.
    #[must_use]
    pub const fn period(&self) -> Span {
        self.period
    }

    /// The longest track's length. Data comes when it likes and does not count beside pictures and sound.
    fn measure(&self) -> Span {
        let lasting = |extent: &Extent| extent.kind != TrackKind::Data && extent.first.is_some();
        let any = self.tracks.iter().any(lasting);
        let counted = self.tracks.iter().filter(|extent| !any || lasting(extent));
        counted.map(Extent::length).max().unwrap_or(self.period)
    }
}

impl Extent {
    fn note(&mut self, dts: i64) {
        if self.first.is_none() {
            self.first = Some(dts);
        } else {
            self.step = dts.saturating_sub(self.last).max(1);
        }
        self.last = dts;
    }

    fn length(&self) -> Span {
        let first = self.first.unwrap_or(self.last);
        let ticks = self.last.saturating_sub(first).saturating_add(self.step);
        Span {
            ticks,
            timescale: self.timescale,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use bytes::Bytes;

    use super::*;

    fn description(scales: [u32; 2]) -> Description {
        let track = |id, kind, scale| Track {
            id: TrackId(id),
            kind,
            codec: "x".into(),
            timescale: NonZeroU32::new(scale).unwrap(),
            config: Vec::new(),
            language: None,
        };
        let tracks = vec![
            track(1, TrackKind::Video, scales[0]),
            track(2, TrackKind::Audio, scales[1]),
        ];
        Description { tracks }
    }

    fn play(looper: &mut Looper, clip: &[(u8, i64)]) -> Vec<i64> {
        let frame = |(track, dts): &(u8, i64)| {
            let track = TrackId(*track);
            let data = Bytes::new();
            Frame {
                track,
                sync: true,
                discardable: false,
                dts: *dts,
                pts: dts + 7,
                data,
            }
        };
        let frames = clip.iter().map(|times| looper.shift(frame(times)));
        let dts = frames.map(|frame| {
            assert_eq!(frame.pts, frame.dts + 7);
            frame.dts
        });
        let dts = dts.collect();
        looper.rewind();
        dts
    }

    #[test]
    fn tracks_of_one_length_go_on_without_a_gap() {
        let mut looper = Looper::new(&description([30, 30]));
        // Sound begins a tick later and ends a tick later.
        let clip = [(1, 0), (2, 1), (1, 1), (2, 2), (1, 2), (2, 3)];

        let rounds: Vec<_> = (0..3).flat_map(|_| play(&mut looper, &clip)).collect();

        assert_eq!(
            rounds,
            [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9]
        );
    }

    #[test]
    fn a_shorter_track_waits_for_the_longer() {
        let mut looper = Looper::new(&description([10, 10]));
        let clip = [(1, 0), (2, 0), (1, 1), (1, 2)];

        play(&mut looper, &clip);

        assert_eq!(play(&mut looper, &clip), [3, 3, 4, 5]);
    }

    #[test]
    fn rounding_does_not_add_up() {
        // The longest track lasts 3 of 7 ticks; the other counts tens.
        let mut looper = Looper::new(&description([7, 10]));
        let clip = [(1, 0), (2, 0), (1, 1), (1, 2)];

        let starts: Vec<_> = (0..=700).map(|_| play(&mut looper, &clip)[1]).collect();

        assert_eq!(starts[1], 4);
        assert_eq!(starts[700], 3_000);
    }
}
