//! The group that is coming: cut into parts as its frames come, and written as a segment at its end.
//!
//! ```text
//!   frames ─▶ part 0 ─▶ part 1 ─▶ ... ─▶ segment: all parts end to end
//!              └ the init segment follows from the frames of the first part
//! ```
//!
//! Not the groups around it, which `maker` knows. Called by `maker`. Invariant: where a part ends and what is in it
//! follows from the times of the frames alone; behind a gap there is no part any more, and no segment.

use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use levada::{Description, Frame, Group, TrackId, WallTime};
use levada_media::mp4::Writer;
use levada_media::ticks::rescale;
use sha2::{Digest as _, Sha256};

use super::maker::{HASH_BYTES, Init, Open, Part, Segment, Start, name_of};

/// The most bytes of a segment. A group that is longer is listed as a gap.
pub(crate) const SEGMENT_BYTES_MAX: usize = 32 << 20;
/// How long a part is at least, but for the last of a segment: with it, a part of 12 or more pictures a second has at
/// most [`PART_TARGET`], and at least the 85% of it that RFC 8216bis wants.
const PART_MILLIS: i64 = 360;
/// What players are told of the length of parts.
pub(super) const PART_TARGET: f64 = 0.42;
/// The most parts of a segment. What follows in a group that is longer is one part.
pub(super) const PARTS_MAX: usize = 256;

/// Units of `group_base` in a second.
const BASE_PER_SECOND: NonZeroU32 = NonZeroU32::new(20).expect("it is not zero");

/// The group that is coming.
#[derive(Debug)]
pub(super) struct Making {
    start: Start,
    description: Arc<Description>,
    leading: Option<(TrackId, NonZeroU32)>,
    group: Group,
    /// What the next part is made of.
    pending: Vec<Frame>,
    parts: Vec<Part>,
    /// Knows the tracks from the first part on.
    writer: Option<(Writer, Init)>,
    bytes: usize,
    /// When the group begins, and the part, in ticks of the leading track.
    begin: i64,
    part_begin: i64,
    wall: Option<WallTime>,
    /// Nothing of it is missing so far.
    is_whole: bool,
}

impl Making {
    /// A group that begins with that frame.
    pub(super) fn new(
        start: Start,
        description: Arc<Description>,
        group: Group,
        first: &Frame,
        wall: Option<WallTime>,
    ) -> Self {
        let leading = description.leading();
        let leading = leading.map(|track| (track.id, track.timescale));
        Self {
            start,
            group,
            pending: Vec::new(),
            parts: Vec::new(),
            writer: None,
            bytes: 0,
            begin: first.dts,
            part_begin: first.dts,
            wall,
            is_whole: first.sync && leading.is_some_and(|(id, _)| id == first.track),
            leading,
            description,
        }
    }

    pub(super) const fn group(&self) -> Group {
        self.group
    }

    /// Frames are missing.
    pub(super) fn gap(&mut self) {
        self.is_whole = false;
        self.pending.clear();
    }

    /// Takes a frame; says whether there is one more part.
    pub(super) fn push(&mut self, frame: Frame) -> bool {
        self.bytes += frame.data.len();
        if self.bytes > SEGMENT_BYTES_MAX {
            self.gap();
            self.parts.clear();
        }
        if !self.is_whole {
            return false;
        }
        let before = self.parts.len();
        if let Some((id, timescale)) = self.leading
            && id == frame.track
            && before + 1 < PARTS_MAX
        {
            let ticks = frame.dts.saturating_sub(self.part_begin);
            if ticks.saturating_mul(1_000) >= PART_MILLIS * i64::from(timescale.get()) {
                self.cut(frame.dts);
            }
        }
        self.pending.push(frame);
        self.parts.len() > before
    }

    /// What there is, if the segment may become one.
    pub(super) fn open(&self) -> Option<Open> {
        let (_, init) = self.writer.as_ref().filter(|_| self.is_whole)?;
        let number = self.number();
        Some(Open {
            number,
            name: name_of(self.start, number),
            init: init.clone(),
            parts: self.parts.clone(),
            wall: self.wall,
        })
    }

    /// The segment, if the group ended there; `groups` is how many such would have had room.
    pub(super) fn finish(mut self, end: i64, groups: u64) -> Segment {
        if !self.pending.is_empty() {
            self.cut(end);
        }
        #[expect(clippy::cast_precision_loss, reason = "a group lasts seconds")]
        let seconds = self.seconds(end.saturating_sub(self.begin)) / groups as f64;
        let number = self.number();
        let mut segment = Segment {
            start: self.start,
            number,
            name: name_of(self.start, number),
            init: None,
            seconds,
            bytes: Bytes::new(),
            parts: Vec::new(),
            wall: self.wall,
        };
        if let Some((_, init)) = self.writer.filter(|_| self.is_whole) {
            let all: Vec<u8> = self
                .parts
                .iter()
                .flat_map(|part| &part.bytes)
                .copied()
                .collect();
            let bytes = Bytes::from(all);
            // The parts are slices of the whole from now on, so that both are there once.
            let mut at = 0;
            for part in &mut self.parts {
                let end = at + part.bytes.len();
                part.bytes = bytes.slice(at..end);
                at = end;
            }
            segment.init = Some(init);
            segment.bytes = bytes;
            segment.parts = self.parts;
        }
        segment
    }

    const fn number(&self) -> u64 {
        self.start.group_base.saturating_add(self.group.0 as u64)
    }

    fn seconds(&self, ticks: i64) -> f64 {
        let timescale = self.leading.map_or(1, |(_, timescale)| timescale.get());
        #[expect(clippy::cast_precision_loss, reason = "a group lasts seconds")]
        let ticks = ticks.max(0) as f64;
        ticks / f64::from(timescale)
    }

    /// Ends a part where the next frame begins.
    fn cut(&mut self, end: i64) {
        let frames = std::mem::take(&mut self.pending);
        if self.writer.is_none() {
            self.writer = learn(self.start, &self.description, &frames);
        }
        let Some((writer, _)) = &self.writer else {
            self.is_whole = false;
            return;
        };
        let frames: Vec<_> = frames
            .into_iter()
            .filter_map(|frame| self.shift(frame))
            .collect();
        let at = u32::try_from(self.parts.len()).unwrap_or(u32::MAX);
        let most = u32::try_from(PARTS_MAX).unwrap_or(u32::MAX);
        let sequence = self.group.0.wrapping_mul(most).wrapping_add(at);
        let mut bytes = Vec::new();
        writer.fragment(sequence, &frames, &mut bytes);
        self.parts.push(Part {
            seconds: self.seconds(end.saturating_sub(self.part_begin)),
            bytes: bytes.into(),
        });
        self.part_begin = end;
    }

    /// The frame in the times of all starts of the stream.
    fn shift(&self, frame: Frame) -> Option<Frame> {
        let track = self.description.track(frame.track)?;
        let base = i64::try_from(self.start.group_base).ok()?;
        let shift = rescale(base, BASE_PER_SECOND, track.timescale);
        Some(Frame {
            dts: frame.dts.saturating_add(shift),
            pts: frame.pts.saturating_add(shift),
            ..frame
        })
    }
}

/// What the frames of the first part say of the tracks.
fn learn(start: Start, description: &Description, frames: &[Frame]) -> Option<(Writer, Init)> {
    let mut writer = Writer::new(description);
    for frame in frames.iter().filter(|frame| frame.sync) {
        writer.learn(frame);
    }
    let bytes = writer.init()?;
    let mime = writer.mime()?;
    let codecs = mime.split('"').nth(1)?.to_owned();
    let hash = Sha256::digest(&bytes);
    let hash = hash[..HASH_BYTES].iter().map(|byte| format!("{byte:02x}"));
    let init = Init {
        name: format!("{}-{}.mp4", start.id, hash.collect::<String>()),
        bytes: bytes.into(),
        codecs,
    };
    Some((writer, init))
}
