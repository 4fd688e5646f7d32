//! One timeline for a stream whose instance changes.
//!
//! An origin that starts again counts from zero; players do not like to be told. So the first frame of a new
//! instance is put where the old one ended: behind the last frame of its latest track, one frame's duration on.
//! All tracks are shifted by the same time, so they stay in step with each other. Within an instance nothing
//! changes: a gap where frames were lost stays a gap. Not for loops (`looped.rs`), whose length is known.
//! Called by sources, which start at zero, and by gateways and `play`, which go on. Invariant: the decoding times
//! of a track never fall from one instance to the next.

use std::num::NonZeroU32;

use levada_wire::{Description, Frame, Track, TrackId, TrackKind};

use crate::ticks::Span;

/// The longest a last frame is taken to last: a second.
const STEP_SECONDS_MAX: i64 = 1;

/// Keeps times growing when the instance of a stream changes.
#[derive(Clone, Debug)]
pub struct Rebase {
    from_zero: bool,
    /// What is added to the instance's times; `None` until its first frame.
    shift: Option<Span>,
    /// Where the newest instance before this one ended.
    end: Option<Span>,
    tracks: Vec<Timeline>,
}

/// A track's output so far.
#[derive(Clone, Copy, Debug)]
struct Timeline {
    id: TrackId,
    kind: TrackKind,
    timescale: NonZeroU32,
    last: Option<Span>,
    /// Ticks from one frame to the next.
    step: i64,
    /// A frame of this instance has left.
    begun: bool,
}

impl Rebase {
    /// The first instance keeps its times.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            from_zero: false,
            shift: None,
            end: None,
            tracks: Vec::new(),
        }
    }

    /// The first instance is shifted so that its first frame is decoded at zero.
    #[must_use]
    pub const fn from_zero() -> Self {
        Self {
            from_zero: true,
            shift: None,
            end: None,
            tracks: Vec::new(),
        }
    }

    /// Frames are of a new instance from now on, the first one included.
    pub fn start_instance(&mut self, description: &Description) {
        self.end = self
            .tracks
            .iter()
            .filter_map(Timeline::end)
            .max()
            .or(self.end);
        self.shift = None;
        self.set_description(description);
        for timeline in &mut self.tracks {
            timeline.begun = false;
        }
    }

    /// The tracks change within an instance.
    pub fn set_description(&mut self, description: &Description) {
        let timeline = |track: &Track| {
            let old = self.tracks.iter().find(|timeline| timeline.id == track.id);
            Timeline {
                id: track.id,
                kind: track.kind,
                timescale: track.timescale,
                last: old.and_then(|old| old.last),
                step: 1,
                begun: old.is_some_and(|old| old.begun),
            }
        };
        self.tracks = description.tracks.iter().map(timeline).collect();
    }

    /// Shifts a frame to its place on the one timeline.
    ///
    /// `None`: it begins before what its track already gave out. That can only be the first frames of a new
    /// instance's track that runs a little behind its others, or of a track that is not in the description.
    #[must_use]
    pub fn shift(&mut self, frame: Frame) -> Option<Frame> {
        let timeline = self
            .tracks
            .iter_mut()
            .find(|timeline| timeline.id == frame.track)?;
        let timescale = timeline.timescale;
        let (end, from_zero) = (self.end, self.from_zero);
        let shift = *self.shift.get_or_insert_with(|| {
            let start = match end {
                Some(end) => end.in_timescale(timescale),
                None if from_zero => 0,
                None => frame.dts,
            };
            Span {
                ticks: start.saturating_sub(frame.dts),
                timescale,
            }
        });
        let shift = shift.in_timescale(timescale);
        let (dts, pts) = (
            frame.dts.saturating_add(shift),
            frame.pts.saturating_add(shift),
        );
        timeline.take(dts).then_some(Frame { dts, pts, ..frame })
    }
}

impl Default for Rebase {
    fn default() -> Self {
        Self::new()
    }
}

impl Timeline {
    /// Notes a frame that leaves at `dts`; refuses one that would fall behind an instance before.
    fn take(&mut self, dts: i64) -> bool {
        let now = Span {
            ticks: dts,
            timescale: self.timescale,
        };
        if !self.begun && self.last.is_some_and(|last| now <= last) {
            return false;
        }
        if self.begun
            && let Some(last) = self.last
        {
            let step = dts.saturating_sub(last.ticks);
            let longest = i64::from(self.timescale.get()) * STEP_SECONDS_MAX;
            self.step = step.clamp(1, longest);
        }
        self.begun = true;
        self.last = Some(now);
        true
    }

    /// Where the track's last frame ends. Data comes when it likes: its last frame takes no time.
    fn end(&self) -> Option<Span> {
        let step = if self.kind == TrackKind::Data {
            1
        } else {
            self.step
        };
        let last = self.last?;
        let ticks = last.in_timescale(self.timescale).saturating_add(step);
        Some(Span {
            ticks,
            timescale: self.timescale,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::ticks::TS_TIMESCALE;

    fn description(audio_scale: u32) -> Description {
        let track = |id, kind, timescale| Track {
            id: TrackId(id),
            kind,
            codec: "x".into(),
            timescale,
            config: Vec::new(),
            language: None,
        };
        let audio_scale = NonZeroU32::new(audio_scale).unwrap();
        let tracks = vec![
            track(1, TrackKind::Video, TS_TIMESCALE),
            track(2, TrackKind::Audio, audio_scale),
        ];
        Description { tracks }
    }

    fn frame(track: u8, dts: i64) -> Frame {
        let (track, data) = (TrackId(track), Bytes::new());
        Frame {
            track,
            sync: true,
            discardable: false,
            dts,
            pts: dts + 5,
            data,
        }
    }

    fn shift(rebase: &mut Rebase, track: u8, dts: i64) -> Option<i64> {
        let frame = rebase.shift(frame(track, dts))?;
        assert_eq!(frame.pts, frame.dts + 5);
        Some(frame.dts)
    }

    #[test]
    fn a_new_instance_goes_on_one_frame_behind_the_old() {
        let mut rebase = Rebase::new();
        rebase.start_instance(&description(48_000));
        assert_eq!(shift(&mut rebase, 1, 500_000), Some(500_000));
        assert_eq!(shift(&mut rebase, 1, 503_000), Some(503_000));

        rebase.start_instance(&description(48_000));

        assert_eq!(shift(&mut rebase, 1, 0), Some(506_000));
        // 90 kHz ticks in 48 kHz: the same shift.
        assert_eq!(shift(&mut rebase, 2, 1_600), Some(269_867 + 1_600));
    }

    #[test]
    fn the_latest_track_decides() {
        let mut rebase = Rebase::new();
        rebase.start_instance(&description(90_000));
        for (track, dts) in [
            (1, 0),
            (2, 0),
            (1, 3_000),
            (2, 1_920),
            (2, 3_840),
            (2, 5_760),
        ] {
            assert_eq!(shift(&mut rebase, track, dts), Some(dts));
        }

        rebase.start_instance(&description(90_000));

        assert_eq!(shift(&mut rebase, 1, 0), Some(7_680));
    }

    #[test]
    fn frames_before_the_splice_are_left_out_at_its_beginning() {
        let mut rebase = Rebase::new();
        rebase.start_instance(&description(90_000));
        shift(&mut rebase, 1, 10_000);
        shift(&mut rebase, 2, 10_000);

        rebase.start_instance(&description(90_000));

        assert_eq!(shift(&mut rebase, 1, 50_000), Some(10_001));
        assert_eq!(shift(&mut rebase, 2, 49_000), None);
        assert_eq!(shift(&mut rebase, 2, 50_920), Some(10_921));
        assert_eq!(shift(&mut rebase, 3, 50_000), None);
    }

    #[test]
    fn a_gap_within_an_instance_stays() {
        let mut rebase = Rebase::from_zero();
        rebase.start_instance(&description(90_000));

        assert_eq!(shift(&mut rebase, 1, 126_000), Some(0));
        assert_eq!(shift(&mut rebase, 2, 125_000), Some(-1_000));
        assert_eq!(shift(&mut rebase, 1, 1_126_000), Some(1_000_000));
    }

    proptest! {
        #[test]
        fn times_never_fall(
            audio_scale in prop_oneof![Just(90_000), Just(48_000), Just(44_100), Just(1_000)],
            instances in proptest::collection::vec(
                (-1_000_000_i64..1_000_000, proptest::collection::vec((1_u8..3, 1_i64..9_000), 0..20)), 1..6,
            ),
        ) {
            let mut rebase = Rebase::new();
            let mut last = [i64::MIN; 3];
            for (start, frames) in instances {
                rebase.start_instance(&description(audio_scale));
                let mut now = [start; 3];
                for (track, step) in frames {
                    now[usize::from(track)] += step;
                    if let Some(dts) = shift(&mut rebase, track, now[usize::from(track)]) {
                        prop_assert!(dts > last[usize::from(track)]);
                        last[usize::from(track)] = dts;
                    }
                }
            }
        }
    }
}
