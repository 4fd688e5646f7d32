//! Frames into segments: one for each group.
//!
//! ```text
//!   name    INSTANCE-NUMBER.m4s, init INSTANCE-HASH.mp4        instance: 32 digits, hash of the init segment: 16
//!   number  group_base + group                                 a media sequence number that grows over restarts
//!   times   group_base x 50 ms + the frame's own               so that a restart goes on later, never earlier
//! ```
//!
//! All of it follows from the instance and the frames of the group: each segment is written by a writer of its own,
//! which knows nothing of the segment before. Not what is listed, which is `window`'s. Called by the parent.
//! Invariant: a segment that has bytes has all frames of its group.

use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use levada::{Description, Frame, Group, Instance, InstanceId, Track, WallTime};
use levada_media::mp4::Writer;
use levada_media::ticks::rescale;
use sha2::{Digest as _, Sha256};

/// The most bytes of a segment. A group that is longer is listed as a gap.
pub(crate) const SEGMENT_BYTES_MAX: usize = 32 << 20;
/// The most groups in a row that are listed as gaps; more of them are a hole in the numbers.
pub(crate) const GAPS_MAX: u64 = 60;
/// Units of `group_base` in a second.
const BASE_PER_SECOND: NonZeroU32 = NonZeroU32::new(20).expect("it is not zero");

const INSTANCE_DIGITS: usize = 32;
const HASH_BYTES: usize = 8;

/// A segment, or the place of one that is lost.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) name: String,
    /// The init segment's name and bytes, and the codecs; none of a gap.
    pub(super) init: Option<Init>,
    pub(super) seconds: f64,
    pub(super) bytes: Bytes,
    /// When the origin handed over its first frame.
    pub(super) wall: Option<WallTime>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Init {
    pub(super) name: String,
    pub(super) bytes: Bytes,
    pub(super) codecs: String,
}

/// Whether a file's name is one that is made here.
pub(super) fn is_name(file: &str) -> bool {
    let Some((instance, rest)) = file.split_once('-') else {
        return false;
    };
    let is_hex = |text: &str| {
        text.bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_rest = match rest.split_once('.') {
        Some((number, "m4s")) => number
            .parse::<u64>()
            .is_ok_and(|parsed| parsed.to_string() == number),
        Some((hash, "mp4")) => hash.len() == HASH_BYTES * 2 && is_hex(hash),
        _ => false,
    };
    instance.len() == INSTANCE_DIGITS && is_hex(instance) && is_rest
}

/// Makes segments.
#[derive(Debug, Default)]
pub(super) struct Maker {
    start: Option<Start>,
    description: Option<Description>,
    group: Option<Making>,
}

/// A start of the stream: what its segments are named and numbered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) id: InstanceId,
    pub(super) group_base: u64,
}

impl From<Instance> for Start {
    fn from(instance: Instance) -> Self {
        Self {
            id: instance.id,
            group_base: instance.group_base,
        }
    }
}

/// The group that is coming.
#[derive(Debug)]
struct Making {
    group: Group,
    frames: Vec<Frame>,
    bytes: usize,
    wall: Option<WallTime>,
    /// Nothing of it is missing so far.
    is_whole: bool,
}

impl Maker {
    /// What follows is of this start of the stream.
    pub(super) fn begin(&mut self, start: Start) {
        if self.start != Some(start) {
            self.start = Some(start);
            self.description = None;
            self.group = None;
        }
    }

    /// The tracks are these; those that no player takes are left out.
    ///
    /// # Errors
    ///
    /// The codecs, if none is left.
    pub(super) fn describe(&mut self, description: &Arc<Description>) -> Result<(), String> {
        let writer = Writer::new(description);
        let mut carried = Description::clone(description);
        carried
            .tracks
            .retain(|track: &Track| writer.omitted().iter().all(|(id, _)| *id != track.id));
        if carried.tracks.is_empty() {
            let codecs: Vec<_> = description
                .tracks
                .iter()
                .map(|track| track.codec.as_str())
                .collect();
            return Err(codecs.join(", "));
        }
        self.description = Some(carried);
        Ok(())
    }

    /// Frames are missing.
    pub(super) fn gap(&mut self) {
        if let Some(making) = &mut self.group {
            making.is_whole = false;
        }
    }

    /// Takes a frame; gives the segment that it ends, behind the gaps before it.
    pub(super) fn push(
        &mut self,
        group: Group,
        frame: Frame,
        wall: Option<WallTime>,
    ) -> Vec<Segment> {
        let Some(description) = &self.description else {
            return Vec::new();
        };
        let leads = description
            .leading()
            .is_some_and(|leading| leading.id == frame.track);
        let mut made = Vec::new();
        if self
            .group
            .as_ref()
            .is_none_or(|making| making.group != group)
        {
            let before = self.group.take();
            made = before.map_or_else(Vec::new, |before| self.finish(before, group, &frame, leads));
            self.group = Some(Making {
                group,
                frames: Vec::new(),
                bytes: 0,
                wall,
                is_whole: leads && frame.sync,
            });
        }
        if let Some(making) = &mut self.group {
            making.bytes += frame.data.len();
            if making.bytes > SEGMENT_BYTES_MAX {
                making.is_whole = false;
                making.frames.truncate(1);
            } else {
                making.frames.push(frame);
            }
        }
        made
    }

    /// The segment of a group, up to the first frame of a later one.
    fn finish(&self, making: Making, next: Group, first: &Frame, leads: bool) -> Vec<Segment> {
        let (Some(start), Some(description)) = (&self.start, &self.description) else {
            return Vec::new();
        };
        let (Some(leading), Some(begin)) = (description.leading(), making.frames.first()) else {
            return Vec::new();
        };
        // How long it lasted is known only where both begin with the track that leads.
        let groups = u64::from(next.0.saturating_sub(making.group.0));
        if !leads || begin.track != leading.id || groups == 0 || groups > GAPS_MAX {
            return Vec::new();
        }
        let ticks = first.dts.saturating_sub(begin.dts).max(0);
        #[expect(clippy::cast_precision_loss, reason = "a group lasts seconds")]
        let seconds = ticks as f64 / f64::from(leading.timescale.get()) / groups as f64;
        let number = |group: u64| start.group_base.saturating_add(group);
        let segment = |group: u64| Segment {
            number: number(group),
            name: format!("{}-{}.m4s", start.id, number(group)),
            init: None,
            seconds,
            bytes: Bytes::new(),
            wall: None,
        };
        let group = u64::from(making.group.0);
        let mut own = segment(group);
        own.wall = making.wall;
        if making.is_whole
            && let Some((init, bytes)) = write(start, description, making)
        {
            own.init = Some(init);
            own.bytes = bytes;
        }
        let gaps = (group + 1..u64::from(next.0)).map(segment);
        std::iter::once(own).chain(gaps).collect()
    }
}

/// The bytes of a group, and of its init segment.
fn write(start: &Start, description: &Description, making: Making) -> Option<(Init, Bytes)> {
    let mut writer = Writer::new(description);
    for frame in making.frames.iter().filter(|frame| frame.sync) {
        writer.learn(frame);
    }
    let init = writer.init()?;
    let mime = writer.mime()?;
    let codecs = mime.split('"').nth(1)?.to_owned();
    let base = i64::try_from(start.group_base).ok()?;
    let shift = |track: &Track| rescale(base, BASE_PER_SECOND, track.timescale);
    let frames = making.frames.into_iter().filter_map(|frame| {
        let shift = shift(description.track(frame.track)?);
        Some(Frame {
            dts: frame.dts.saturating_add(shift),
            pts: frame.pts.saturating_add(shift),
            ..frame
        })
    });
    let frames: Vec<_> = frames.collect();
    let mut bytes = Vec::with_capacity(making.bytes + 4_096);
    writer.fragment(making.group.0, &frames, &mut bytes);
    let hash = Sha256::digest(&init);
    let hash: String = hash[..HASH_BYTES]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let init = Init {
        name: format!("{}-{hash}.mp4", start.id),
        bytes: init.into(),
        codecs,
    };
    Some((init, bytes.into()))
}
