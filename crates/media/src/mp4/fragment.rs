//! Fragments: samples that a `moof` lists, each track's run by run (ISO 14496-12 8.8).
//!
//! ```text
//! trex   track, description, duration, size, flags                              defaults of the file
//! tfhd   track, [base:64] [description] [duration] [size] [flags]               of the fragment
//! tfdt   decoding time of the first sample
//! trun   samples, [where] [first flags] ([duration] [size] [flags] [offset]), ...
//! ```
//!
//! Called by the reader. Invariant: a fragment gives at most [`SAMPLES_MAX`] samples.

use std::collections::VecDeque;

use bytes::Bytes;

use super::boxes::{boxes, child, full, u32_at, u64_at};
use super::tables::Sample;

/// Samples of one fragment that are listed; fragments of files have hundreds.
pub(super) const SAMPLES_MAX: usize = 65_536;

const BASE: u32 = 0x01;
const DESCRIPTION: u32 = 0x02;
const DURATION: u32 = 0x08;
const SIZE: u32 = 0x10;
const FLAGS: u32 = 0x20;
const BASE_IS_MOOF: u32 = 0x02_0000;
const RUN_PLACE: u32 = 0x01;
const RUN_FIRST_FLAGS: u32 = 0x04;
const RUN_DURATION: u32 = 0x100;
const RUN_SIZE: u32 = 0x200;
const RUN_FLAGS: u32 = 0x400;
const RUN_OFFSET: u32 = 0x800;

/// What a fragmented file says once of a track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Defaults {
    pub(super) track: u32,
    duration: u32,
    size: u32,
}

/// Reads the `trex` boxes of a `mvex`.
pub(super) fn read_defaults(mvex: &Bytes) -> Vec<Defaults> {
    let trex = |(kind, content): ([u8; 4], Bytes)| {
        let (_, _, body) = full(&content).filter(|_| &kind == b"trex")?;
        Some(Defaults {
            track: u32_at(&body, 0)?,
            duration: u32_at(&body, 8)?,
            size: u32_at(&body, 12)?,
        })
    };
    boxes(mvex.clone()).filter_map(trex).collect()
}

/// The fields of a box that are there or not, one after the other.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn word(&mut self) -> Option<u32> {
        let word = u32_at(self.bytes, self.at)?;
        self.at += 4;
        Some(word)
    }

    fn word_if(&mut self, is_there: bool) -> Option<Option<u32>> {
        if is_there {
            self.word().map(Some)
        } else {
            Some(None)
        }
    }
}

/// Appends the samples of one track in the `moof` that begins at `start`. `next` is the decoding time of the first one
/// where the fragment says none, and becomes that of the one behind the last.
pub(super) fn read(
    moof: &Bytes,
    start: u64,
    defaults: Defaults,
    next: &mut i64,
    out: &mut VecDeque<Sample>,
) {
    // Without a base of its own, a track's data begin behind those of the track before it.
    let mut behind = start;
    for (kind, traf) in boxes(moof.clone()) {
        if &kind == b"traf" {
            let place = Place { start, behind };
            behind = read_track(&traf, place, defaults, next, out).unwrap_or(behind);
        }
    }
}

/// Where data may begin.
#[derive(Clone, Copy)]
struct Place {
    /// At the fragment.
    start: u64,
    /// Behind the data of the track before.
    behind: u64,
}

/// Reads a `traf`; gives where its data end.
fn read_track(
    traf: &Bytes,
    place: Place,
    defaults: Defaults,
    next: &mut i64,
    out: &mut VecDeque<Sample>,
) -> Option<u64> {
    let (_, flags, head) = full(&child(traf, b"tfhd")?)?;
    let mut fields = Fields {
        bytes: &head,
        at: 4,
    };
    let base = if flags & BASE != 0 {
        fields.at += 8;
        u64_at(&head, 4)?
    } else if flags & BASE_IS_MOOF != 0 {
        place.start
    } else {
        place.behind
    };
    fields.word_if(flags & DESCRIPTION != 0)?;
    let duration = fields.word_if(flags & DURATION != 0)?;
    let size = fields.word_if(flags & SIZE != 0)?;
    fields.word_if(flags & FLAGS != 0)?;
    let is_wanted = u32_at(&head, 0)? == defaults.track;
    let mut run = Run {
        duration: duration.unwrap_or(defaults.duration),
        size: size.unwrap_or(defaults.size),
        base,
        place: base,
        out: is_wanted.then_some(out),
    };
    if is_wanted && let Some((version, _, body)) = child(traf, b"tfdt").as_ref().and_then(full) {
        let time = match version {
            0 => u32_at(&body, 0).map(u64::from),
            _ => u64_at(&body, 0),
        };
        *next = i64::try_from(time?).ok()?;
    }
    let mut now = *next;
    for (kind, trun) in boxes(traf.clone()) {
        if &kind == b"trun" {
            run.read(&trun, &mut now)?;
        }
    }
    if is_wanted {
        *next = now;
    }
    Some(run.place)
}

struct Run<'a> {
    duration: u32,
    size: u32,
    base: u64,
    /// Where the next sample begins.
    place: u64,
    out: Option<&'a mut VecDeque<Sample>>,
}

impl Run<'_> {
    fn read(&mut self, trun: &Bytes, now: &mut i64) -> Option<()> {
        let (_, flags, body) = full(trun)?;
        let count = u32_at(&body, 0)?;
        let mut fields = Fields {
            bytes: &body,
            at: 4,
        };
        if let Some(place) = fields.word_if(flags & RUN_PLACE != 0)? {
            self.place = self.base.checked_add_signed(place.cast_signed().into())?;
        }
        fields.word_if(flags & RUN_FIRST_FLAGS != 0)?;
        for _ in 0..count.min(u32::try_from(SAMPLES_MAX).unwrap_or(u32::MAX)) {
            let duration = fields.word_if(flags & RUN_DURATION != 0)?;
            let size = fields.word_if(flags & RUN_SIZE != 0)?;
            fields.word_if(flags & RUN_FLAGS != 0)?;
            let offset = fields.word_if(flags & RUN_OFFSET != 0)?;
            let step = i64::from(duration.unwrap_or(self.duration));
            let bytes = u64::from(size.unwrap_or(self.size));
            let sample = Sample {
                place: self.place,
                bytes,
                dts: *now,
                offset: offset.unwrap_or(0).cast_signed(),
                step,
            };
            if let Some(out) = self
                .out
                .as_deref_mut()
                .filter(|out| out.len() < SAMPLES_MAX)
            {
                out.push_back(sample);
            }
            self.place = self.place.checked_add(bytes)?;
            *now = now.saturating_add(step);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::boxes::put;
    use super::*;

    fn full_box(out: &mut Vec<u8>, kind: [u8; 4], flags: u32, words: &[u32]) {
        put(out, &kind, |out| {
            out.extend(flags.to_be_bytes());
            words.iter().for_each(|word| out.extend(word.to_be_bytes()));
        });
    }

    type Content<'a> = &'a dyn Fn(&mut Vec<u8>);

    fn samples(trafs: &[Content<'_>], track: u32) -> Vec<(u64, u64, i64, i32)> {
        let mut moof = Vec::new();
        for traf in trafs {
            put(&mut moof, b"traf", traf);
        }
        let defaults = Defaults {
            track,
            duration: 10,
            size: 7,
        };
        let (mut next, mut out) = (500, VecDeque::new());
        read(&moof.into(), 1_000, defaults, &mut next, &mut out);
        out.iter()
            .map(|sample| (sample.place, sample.bytes, sample.dts, sample.offset))
            .collect()
    }

    #[test]
    fn runs_of_two_tracks_are_told_apart() {
        let first = |out: &mut Vec<u8>| {
            full_box(out, *b"tfhd", BASE_IS_MOOF | DURATION, &[1, 20]);
            full_box(out, *b"tfdt", 1 << 24, &[0, 90]);
            let flags = RUN_PLACE | RUN_SIZE | RUN_OFFSET;
            full_box(out, *b"trun", flags, &[2, 100, 30, 5, 40, u32::MAX]);
        };
        // No base: behind the first one's data; no time: where the one before ended; sizes and times of the file.
        let second = |out: &mut Vec<u8>| {
            full_box(out, *b"tfhd", 0, &[2]);
            full_box(out, *b"trun", 0, &[2]);
        };

        let expected = [(1_100, 30, 90, 5), (1_130, 40, 110, -1)];
        assert_eq!(samples(&[&first, &second], 1), expected);
        assert_eq!(
            samples(&[&first, &second], 2),
            [(1_170, 7, 500, 0), (1_177, 7, 510, 0)]
        );
    }

    #[test]
    fn no_more_samples_are_listed_than_the_limit() {
        let many = |out: &mut Vec<u8>| {
            full_box(out, *b"tfhd", 0, &[1]);
            full_box(out, *b"trun", 0, &[u32::MAX]);
            full_box(out, *b"trun", 0, &[u32::MAX]);
        };

        assert_eq!(samples(&[&many], 1).len(), SAMPLES_MAX);
    }

    proptest! {
        #[test]
        fn any_fragment_is_read_without_panic(
            head in prop::collection::vec(prop_oneof![0_u32..3, any::<u32>()], 0..8),
            run in prop::collection::vec(prop_oneof![0_u32..9, any::<u32>()], 0..20),
            flags: [u32; 2],
        ) {
            let traf = |out: &mut Vec<u8>| {
                full_box(out, *b"tfhd", flags[0] & 0x02_003F, &head);
                full_box(out, *b"tfdt", flags[1] & 1 << 24, &head);
                full_box(out, *b"trun", flags[1] & 0xF05, &run);
            };
            prop_assert!(samples(&[&traf], 1).len() <= SAMPLES_MAX);
        }
    }
}
