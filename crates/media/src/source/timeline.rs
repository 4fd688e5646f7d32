//! One timeline for a source whose own may jump: from zero, never back, without holes that nobody recorded.
//!
//! A file that was cut together, an encoder that was started anew behind the same pipe: their times jump, and what
//! is after the jump is put behind what was before it ([`crate::Rebase`]). Where bytes were lost nothing
//! jumps, and the hole stays. Also lets nothing of the leading track pass before its first sync frame, because
//! nobody could decode it. Called by `file.rs`, `pipe.rs` and `sdp.rs`. Invariant: the times of a track never fall.

use std::collections::BTreeMap;

use crate::Rebase;
use crate::ticks::{TS_TIMESCALE, rescale};
use levada_wire::{Description, Frame, TrackId};

/// A step of a track beyond this is a jump: ten seconds, like the demuxer's. In ticks of 90 kHz.
const JUMP_TICKS: i64 = 900_000;

/// Puts frames on one timeline.
#[derive(Debug)]
pub struct Timeline {
    rebase: Rebase,
    description: Description,
    /// The newest time of each track since the last jump, in ticks of 90 kHz; at most as many as a description has
    /// tracks.
    last: BTreeMap<TrackId, i64>,
    /// The newest of them.
    newest: Option<i64>,
    /// A sync frame of the leading track has come.
    has_begun: bool,
}

impl Default for Timeline {
    fn default() -> Self {
        Self::new()
    }
}

impl Timeline {
    /// A timeline without a frame.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            rebase: Rebase::from_zero(),
            description: Description { tracks: Vec::new() },
            last: BTreeMap::new(),
            newest: None,
            has_begun: false,
        }
    }

    /// The tracks are these, from the next frame on.
    pub fn describe(&mut self, description: &Description) {
        if self.description.tracks.is_empty() {
            self.rebase.start_instance(description);
        } else {
            self.rebase.set_description(description);
        }
        let leading = |all: &Description| all.leading().map(|track| track.id);
        self.has_begun &= leading(description) == leading(&self.description);
        self.description = description.clone();
    }

    /// Puts a frame in its place; `None` if it has none.
    pub fn place(&mut self, frame: Frame) -> Option<Frame> {
        let leads = self.description.leading().map(|track| track.id) == Some(frame.track);
        if leads && !self.has_begun && !frame.sync {
            return None;
        }
        let mut tracks = self.description.tracks.iter();
        let track = tracks.find(|track| track.id == frame.track)?;
        let ticks = rescale(frame.dts, track.timescale, TS_TIMESCALE);
        match self.last.get(&frame.track) {
            Some(last) if is_jump(ticks.saturating_sub(*last)) => self.jump(),
            Some(_) => {}
            // A track that has not come since the jump: what is far away is from before it.
            None => {
                let newest = self.newest.unwrap_or(ticks);
                if ticks.abs_diff(newest) > JUMP_TICKS.unsigned_abs() {
                    return None;
                }
            }
        }
        self.has_begun |= leads;
        self.last.insert(frame.track, ticks);
        self.newest = Some(self.newest.map_or(ticks, |newest| newest.max(ticks)));
        self.rebase.shift(frame)
    }

    fn jump(&mut self) {
        self.rebase.start_instance(&self.description);
        self.last.clear();
        self.newest = None;
    }
}

const fn is_jump(step: i64) -> bool {
    step < 0 || step > JUMP_TICKS
}

#[cfg(test)]
mod tests {
    use crate::ticks::TS_TIMESCALE;
    use bytes::Bytes;
    use levada_wire::{Track, TrackKind};

    use super::*;

    fn timeline() -> Timeline {
        let track = |id, kind| Track {
            id: TrackId(id),
            kind,
            codec: "x".into(),
            timescale: TS_TIMESCALE,
            config: Vec::new(),
            language: None,
        };
        let tracks = vec![track(1, TrackKind::Video), track(2, TrackKind::Audio)];
        let mut timeline = Timeline::new();
        timeline.describe(&Description { tracks });
        timeline
    }

    fn place(timeline: &mut Timeline, track: u8, dts: i64) -> Option<i64> {
        let frame = Frame {
            track: TrackId(track),
            sync: true,
            discardable: false,
            dts,
            pts: dts,
            data: Bytes::new(),
        };
        timeline.place(frame).map(|frame| frame.dts)
    }

    #[test]
    fn a_source_starts_at_zero_and_keeps_its_steps() {
        let mut timeline = timeline();

        assert_eq!(place(&mut timeline, 1, 126_000), Some(0));
        assert_eq!(place(&mut timeline, 2, 126_500), Some(500));
        assert_eq!(place(&mut timeline, 1, 129_000), Some(3_000));
        // Two seconds were lost: the hole stays.
        assert_eq!(place(&mut timeline, 1, 309_000), Some(183_000));
    }

    #[test]
    fn times_that_fall_go_on_behind_what_was_there() {
        let mut timeline = timeline();
        for dts in (0..10).map(|n| n * 90_000) {
            place(&mut timeline, 1, dts);
            place(&mut timeline, 2, dts);
        }

        assert_eq!(place(&mut timeline, 1, 5_000), Some(900_000));
        assert_eq!(place(&mut timeline, 2, 6_000), Some(901_000));
        assert_eq!(place(&mut timeline, 1, 8_000), Some(903_000));
    }

    #[test]
    fn what_comes_late_from_before_a_jump_is_left_out() {
        let mut timeline = timeline();
        place(&mut timeline, 1, 0);
        place(&mut timeline, 2, 0);
        place(&mut timeline, 1, 3_000);

        assert_eq!(place(&mut timeline, 1, 90_000_000), Some(6_000));
        assert_eq!(place(&mut timeline, 2, 3_000), None);
        assert_eq!(place(&mut timeline, 2, 90_001_920), Some(7_920));
    }

    #[test]
    fn nothing_of_the_leading_track_passes_before_its_first_sync_frame() {
        let mut timeline = timeline();
        let frame = |sync, dts| Frame {
            track: TrackId(1),
            sync,
            discardable: false,
            dts,
            pts: dts,
            data: Bytes::new(),
        };

        assert_eq!(timeline.place(frame(false, 0)), None);
        assert!(timeline.place(frame(true, 3_000)).is_some());
        assert!(timeline.place(frame(false, 6_000)).is_some());
    }
}
