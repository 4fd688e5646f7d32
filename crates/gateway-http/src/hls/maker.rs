//! Frames into segments: one for each group.
//!
//! ```text
//!   name    INSTANCE-NUMBER.m4s, init INSTANCE-HASH.mp4        instance: 32 digits, hash of the init segment: 16
//!   part    INSTANCE-NUMBER.PART.m4s, cut every 360 ms         a segment is its parts, end to end
//!   number  group_base + group                                 a media sequence number that grows over restarts
//!   times   group_base x 50 ms + the frame's own               so that a restart goes on later, never earlier
//! ```
//!
//! All of it follows from the instance and the frames of the group: each segment is written by a writer of its own,
//! which knows nothing of the segment before. Not what is listed, which is `window`'s. Called by the parent.
//! Invariant: a segment that has bytes has all frames of its group.

use std::sync::Arc;

use bytes::Bytes;
use levada::{Description, Frame, Group, Instance, InstanceId, Track, TrackKind, WallTime};
use levada_media::mp4::Writer;

use super::making::Making;

/// The most groups in a row that are listed as gaps; more of them are a hole in the numbers.
pub(crate) const GAPS_MAX: u64 = 60;

const INSTANCE_DIGITS: usize = 32;
/// Of the hash of an init segment, in its name.
pub(super) const HASH_BYTES: usize = 8;

/// A piece of a segment that players may have before the whole.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    pub(super) seconds: f64,
    pub(super) bytes: Bytes,
}

/// What there is of the segment that is coming.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Open {
    pub(super) number: u64,
    pub(super) name: String,
    pub(super) init: Init,
    pub(super) parts: Vec<Part>,
    pub(super) wall: Option<WallTime>,
}

/// The name of a part of the segment of that name.
pub(super) fn part_name(segment: &str, part: usize) -> String {
    let stem = segment.strip_suffix("m4s").unwrap_or(segment);
    format!("{stem}{part}.m4s")
}

/// A segment, or the place of one that is lost.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Segment {
    pub(super) start: Start,
    pub(super) number: u64,
    pub(super) name: String,
    /// The init segment's name and bytes, and the codecs; none of a gap.
    pub(super) init: Option<Init>,
    pub(super) seconds: f64,
    pub(super) bytes: Bytes,
    /// The same bytes part by part.
    pub(super) parts: Vec<Part>,
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
    let is_number = |text: &str| {
        text.parse::<u64>()
            .is_ok_and(|parsed| parsed.to_string() == text)
    };
    let is_rest = match rest.split_once('.') {
        Some((number, "m4s")) => is_number(number),
        Some((number, rest)) if is_number(number) => {
            rest.strip_suffix(".m4s").is_some_and(is_number)
        }
        Some((hash, "mp4")) => hash.len() == HASH_BYTES * 2 && is_hex(hash),
        _ => false,
    };
    instance.len() == INSTANCE_DIGITS && is_hex(instance) && is_rest
}

/// Makes segments.
#[derive(Debug, Default)]
pub(super) struct Maker {
    start: Option<Start>,
    description: Option<Arc<Description>>,
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

/// What a frame ended.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// A segment, and the gaps behind it.
    pub(super) segments: Vec<Segment>,
    /// The segment that is coming, if it has one more part.
    pub(super) open: Option<Open>,
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

    /// The tracks are these; those that no player takes are left out: their codecs are what is returned.
    ///
    /// # Errors
    ///
    /// The codecs, if none is left.
    pub(super) fn describe(
        &mut self,
        description: &Arc<Description>,
    ) -> Result<Vec<String>, String> {
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
        let is_left_out =
            |track: &&Track| track.kind != TrackKind::Data && carried.track(track.id).is_none();
        let left_out = description.tracks.iter().filter(is_left_out);
        let left_out = left_out.map(|track| track.codec.clone()).collect();
        self.description = Some(Arc::new(carried));
        Ok(left_out)
    }

    /// Frames are missing.
    pub(super) fn gap(&mut self) {
        if let Some(making) = &mut self.group {
            making.gap();
        }
    }

    /// Takes a frame; gives what it ends.
    pub(super) fn push(&mut self, group: Group, frame: Frame, wall: Option<WallTime>) -> Made {
        let (Some(start), Some(description)) = (self.start, &self.description) else {
            return Made::default();
        };
        let mut made = Made::default();
        if self
            .group
            .as_ref()
            .is_none_or(|making| making.group() != group)
        {
            if let Some(before) = self.group.take() {
                made.segments = finish(before, group, &frame, description);
            }
            let description = Arc::clone(description);
            self.group = Some(Making::new(start, description, group, &frame, wall));
        }
        if let Some(making) = &mut self.group
            && making.push(frame)
        {
            made.open = making.open();
        }
        made
    }
}

/// The segment of a group, and gaps, up to the first frame of a later group.
fn finish(making: Making, next: Group, first: &Frame, description: &Description) -> Vec<Segment> {
    let leads = description
        .leading()
        .is_some_and(|leading| leading.id == first.track);
    let group = making.group();
    let groups = u64::from(next.0.saturating_sub(group.0));
    // How long it lasted is known only where both begin with the track that leads.
    if !leads || groups == 0 || groups > GAPS_MAX {
        return Vec::new();
    }
    let own = making.finish(first.dts, groups);
    let gap = |further: u64| Segment {
        number: own.number + further,
        name: name_of(own.start, own.number + further),
        init: None,
        bytes: Bytes::new(),
        parts: Vec::new(),
        wall: None,
        ..own.clone()
    };
    let gaps: Vec<_> = (1..groups).map(gap).collect();
    std::iter::once(own).chain(gaps).collect()
}

/// The name of the segment of that number.
pub(super) fn name_of(start: Start, number: u64) -> String {
    format!("{}-{number}.m4s", start.id)
}
