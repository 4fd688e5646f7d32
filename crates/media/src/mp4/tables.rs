//! Where the samples of a track are, and when: the tables of `stbl` (ISO 14496-12 8.6, 8.7).
//!
//! ```text
//! stts  (samples, step), ...           decoding times
//! ctts  (samples, offset), ...         presentation less decoding time
//! stsz  one size for all, or one each  stz2 the same with 4, 8 or 16 bits
//! stsc  (first chunk, samples in each, description), ...
//! stco  where each chunk begins        co64 with 64 bits
//! ```
//!
//! The tables stay as they are in the file; a [`Cursor`] walks all of them at once. `stss` is not read: frames show
//! themselves what they are. Called by the reader. Invariant: a cursor ends, as each step takes something of a table
//! that is finite or of a sample that has bytes.

use bytes::Bytes;

use super::boxes::{child, full, u32_at, u64_at};

/// Samples of a few bytes, as of G.711, are read together up to this many.
const TOGETHER_MAX: u32 = 1_024;
/// A sample of at most this many bytes is part of a run.
const TINY_BYTES_MAX: u32 = 8;

/// The tables of one track.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    /// Pairs of words.
    steps: Bytes,
    offsets: Bytes,
    sizes: Sizes,
    /// Triples of words.
    chunks: Bytes,
    places: Places,
}

#[derive(Clone, Debug)]
enum Sizes {
    All { bytes: u32, count: u32 },
    Each { bits: u8, count: u32, table: Bytes },
}

impl Default for Sizes {
    fn default() -> Self {
        Self::All { bytes: 0, count: 0 }
    }
}

#[derive(Clone, Debug, Default)]
struct Places {
    table: Bytes,
    is_long: bool,
}

/// One sample, or a run of tiny ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// Where in the file.
    pub(super) place: u64,
    pub(super) bytes: u64,
    pub(super) dts: i64,
    /// Presentation less decoding time.
    pub(super) offset: i32,
    /// Ticks to the next sample.
    pub(super) step: i64,
}

impl Tables {
    /// Reads a `stbl`; `None` if it lacks what it must have.
    pub(super) fn parse(stbl: &Bytes) -> Option<Self> {
        let table = |kind| full(&child(stbl, kind)?).map(|(_, _, body)| body);
        let counted = |body: Bytes| body.slice(4.min(body.len())..);
        let sizes = match (table(b"stsz"), table(b"stz2")) {
            (Some(body), _) => {
                let (bytes, count) = (u32_at(&body, 0)?, u32_at(&body, 4)?);
                let table = body.slice(8..);
                match bytes {
                    0 => Sizes::Each {
                        bits: 32,
                        count,
                        table,
                    },
                    bytes => Sizes::All { bytes, count },
                }
            }
            (None, Some(body)) => Sizes::Each {
                bits: *body.get(3).filter(|bits| matches!(bits, 4 | 8 | 16))?,
                count: u32_at(&body, 4)?,
                table: body.slice(8..),
            },
            (None, None) => return None,
        };
        let places = match (table(b"stco"), table(b"co64")) {
            (Some(body), _) => (counted(body), false),
            (None, Some(body)) => (counted(body), true),
            (None, None) => return None,
        };
        Some(Self {
            steps: counted(table(b"stts")?),
            offsets: table(b"ctts").map(counted).unwrap_or_default(),
            sizes,
            chunks: counted(table(b"stsc")?),
            places: Places {
                table: places.0,
                is_long: places.1,
            },
        })
    }

    fn size(&self, sample: u32) -> Option<u64> {
        match &self.sizes {
            Sizes::All { bytes, count } => (sample < *count).then_some((*bytes).into()),
            Sizes::Each { bits, count, table } => {
                let at = usize::try_from(sample).ok().filter(|_| sample < *count)?;
                Some(match bits {
                    4 => {
                        let pair = *table.get(at / 2)?;
                        u64::from(if at % 2 == 0 { pair >> 4 } else { pair & 0x0F })
                    }
                    8 => u64::from(*table.get(at)?),
                    16 => u64::from(u16::from_be_bytes(*table.get(2 * at..)?.first_chunk()?)),
                    _ => u64::from(u32_at(table, at.checked_mul(4)?)?),
                })
            }
        }
    }

    fn place(&self, chunk: u32) -> Option<u64> {
        let at = usize::try_from(chunk).ok()?;
        if self.places.is_long {
            u64_at(&self.places.table, at.checked_mul(8)?)
        } else {
            u32_at(&self.places.table, at.checked_mul(4)?).map(u64::from)
        }
    }
}

/// A place in a table of runs: (samples, value), ...
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    entry: usize,
    /// Samples of the entry that are done.
    done: u32,
}

impl Run {
    /// The value for the next sample, and how many have it.
    fn peek(&mut self, table: &[u8]) -> Option<(u32, u32)> {
        loop {
            let (count, value) = (
                u32_at(table, 8 * self.entry)?,
                u32_at(table, 8 * self.entry + 4)?,
            );
            if self.done < count {
                return Some((value, count - self.done));
            }
            *self = Self {
                entry: self.entry + 1,
                done: 0,
            };
        }
    }
}

/// Walks through the samples of a track.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    sample: u32,
    step: Run,
    offset: Run,
    /// The chunk, the entry that speaks of it, and the samples and bytes of it that are done.
    chunk: u32,
    entry: usize,
    in_chunk: u32,
    bytes_in_chunk: u64,
    dts: i64,
}

impl Cursor {
    /// The next sample.
    pub(super) fn next(&mut self, tables: &Tables) -> Option<Sample> {
        let left = self.left_in_chunk(tables)?;
        let size = tables.size(self.sample)?;
        let (step, same) = self.step.peek(&tables.steps)?;
        let offset = self
            .offset
            .peek(&tables.offsets)
            .map_or(0, |(offset, _)| offset);
        // Runs of tiny samples are of one size: PCM.
        let count = match tables.sizes {
            Sizes::All { bytes, count } if bytes <= TINY_BYTES_MAX => {
                left.min(same).min(count - self.sample).min(TOGETHER_MAX)
            }
            _ => 1,
        };
        let place = tables.place(self.chunk)?.checked_add(self.bytes_in_chunk)?;
        let bytes = size * u64::from(count);
        let step = i64::from(step) * i64::from(count);
        let sample = Sample {
            place,
            bytes,
            dts: self.dts,
            offset: offset.cast_signed(),
            step,
        };
        self.sample = self.sample.checked_add(count)?;
        self.step.done += count;
        self.offset.done = self.offset.done.saturating_add(count);
        self.in_chunk += count;
        self.bytes_in_chunk = self.bytes_in_chunk.saturating_add(bytes);
        self.dts = self.dts.saturating_add(step);
        Some(sample)
    }

    /// Samples left in the chunk, which is the next one if this one is done.
    fn left_in_chunk(&mut self, tables: &Tables) -> Option<u32> {
        loop {
            // Chunks count from 1; an entry holds until the next one's first.
            let first = |entry: usize| u32_at(&tables.chunks, 12 * entry);
            while first(self.entry + 1).is_some_and(|first| first <= self.chunk.saturating_add(1)) {
                self.entry += 1;
            }
            let samples = u32_at(&tables.chunks, 12 * self.entry + 4)?;
            if self.in_chunk < samples {
                return Some(samples - self.in_chunk);
            }
            tables.place(self.chunk)?;
            self.chunk = self.chunk.checked_add(1)?;
            self.in_chunk = 0;
            self.bytes_in_chunk = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use proptest::prelude::*;

    use super::super::boxes::put;
    use super::*;

    fn table(kind: &[u8; 4], words: &[u32]) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, kind, |out| {
            out.extend([0; 4]);
            words.iter().for_each(|word| out.extend(word.to_be_bytes()));
        });
        out
    }

    fn walk(tables: &[Vec<u8>]) -> Vec<(u64, u64, i64, i32)> {
        let tables = Tables::parse(&tables.concat().into()).unwrap();
        let mut cursor = Cursor::default();
        std::iter::from_fn(|| cursor.next(&tables))
            .take(5_000)
            .map(|sample| (sample.place, sample.bytes, sample.dts, sample.offset))
            .collect()
    }

    #[test]
    fn all_tables_are_walked_together() {
        let samples = walk(&[
            table(b"stts", &[2, 3, 10, 2, 20]),
            table(b"ctts", &[2, 1, 5, 1, u32::MAX]),
            table(b"stsz", &[0, 5, 100, 200, 300, 400, 500]),
            // Two samples in the first chunk, one in each from the second on.
            table(b"stsc", &[2, 1, 2, 1, 2, 1, 1]),
            table(b"stco", &[3, 1_000, 5_000, 9_000]),
        ]);

        let expected = [
            (1_000, 100, 0, 5),
            (1_100, 200, 10, -1),
            (5_000, 300, 20, 0),
            (9_000, 400, 30, 0),
        ];
        // The fifth has no chunk.
        assert_eq!(samples, expected);
    }

    #[test]
    fn small_sizes_and_long_places_are_read() {
        let sizes = |bits, bytes: &[u8]| {
            let mut out = Vec::new();
            put(&mut out, b"stz2", |out| {
                out.extend([0, 0, 0, 0, 0, 0, 0, bits, 0, 0, 0, 3]);
                out.extend(bytes);
            });
            walk(&[
                table(b"stts", &[1, 3, 1]),
                out,
                table(b"stsc", &[1, 1, 9, 1]),
                table(b"co64", &[1, 1, 0]),
            ])
        };
        let expected = |sizes: [u64; 3]| {
            let start = 1 << 32;
            [
                (start, sizes[0], 0, 0),
                (start + sizes[0], sizes[1], 1, 0),
                (start + sizes[0] + sizes[1], sizes[2], 2, 0),
            ]
        };

        assert_eq!(sizes(4, &[0x12, 0x30]), expected([1, 2, 3]));
        assert_eq!(sizes(8, &[1, 2, 255]), expected([1, 2, 255]));
        assert_eq!(sizes(16, &[1, 0, 0, 2, 0, 3]), expected([256, 2, 3]));
    }

    #[test]
    fn tiny_samples_are_read_together() {
        let samples = walk(&[
            table(b"stts", &[1, 3_000, 1]),
            table(b"stsz", &[1, 3_000]),
            table(b"stsc", &[1, 1, 2_000, 1]),
            table(b"stco", &[2, 0, 9_000]),
        ]);

        let most = u64::from(TOGETHER_MAX);
        let expected = [
            (0, most, 0, 0),
            (most, 2_000 - most, 1_024, 0),
            (9_000, 1_000, 2_000, 0),
        ];
        assert_eq!(samples, expected);
    }

    proptest! {
        #[test]
        fn any_tables_are_walked_without_panic(
            words in proptest::collection::vec(
                proptest::collection::vec(prop_oneof![0_u32..4, any::<u32>()], 0..12), 5,
            ),
        ) {
            let kinds = [b"stts", b"ctts", b"stsz", b"stsc", b"stco"];
            let bytes: Vec<u8> = kinds.iter().zip(&words).flat_map(|(kind, words)| table(kind, words)).collect();
            if let Some(tables) = Tables::parse(&bytes.into()) {
                let mut cursor = Cursor::default();
                for _ in 0..5_000 {
                    if cursor.next(&tables).is_none() {
                        break;
                    }
                }
            }
        }
    }
}
