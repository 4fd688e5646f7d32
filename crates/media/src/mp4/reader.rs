//! Frames of an MP4 file, of all tracks in the order of their decoding times.
//!
//! Finds the tables, wherever in the file they stand, and then reads sample after sample; fragments are listed when
//! they are reached. The first edit of each track's edit list is applied: empty time in front shifts the track, a
//! start within the media puts that moment at zero, so that with B pictures decoding begins below zero. Sound that
//! ends before zero is left out; later edits are not applied. Not pacing and not looping. Called by sources.
//! Invariant: of the file at most [`TABLES_BYTES_MAX`], one fragment's list and one sample are held.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom};
use std::num::NonZeroU32;

use bytes::Bytes;
use levada_wire::frame::{FRAME_BYTES_MAX, TRACKS_MAX};
use levada_wire::{Description, Frame, Track, TrackId, TrackKind};

use super::boxes::{boxes, child, descend, full, header, u32_at, u64_at};
use super::entry::{self, Conversion, OmissionReason};
use super::fragment::{self, Defaults, SAMPLES_MAX};
use super::tables::{Cursor, Sample, Tables};
use crate::ticks::{Span, rescale};

/// The largest `moov` or `moof`: a day of video and sound has tables of 40 MB.
pub const TABLES_BYTES_MAX: u64 = 64 << 20;
/// A header with its long size.
const HEADER_BYTES: usize = 16;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Mp4Error {
    /// The file itself.
    #[error("the file cannot be read")]
    Io(#[from] io::Error),
    /// It has no `moov`.
    #[error("this is no MP4 file, or its end is missing: it has no table of contents (moov)")]
    NoTables,
    /// Its tables are above [`TABLES_BYTES_MAX`].
    #[error("its tables have {bytes} bytes, more than {TABLES_BYTES_MAX}")]
    TablesTooLarge {
        /// The bytes of all tables together.
        bytes: u64,
    },
    /// No track can be carried.
    #[error("it has no track that can be carried{}", Listed(.0))]
    NoTracks(Vec<Omission>),
}

/// A track that is left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("track {number} ({codec}): {reason}")]
pub struct Omission {
    /// As the file counts it.
    pub number: u32,
    /// The type of its sample entry.
    pub codec: String,
    /// Why.
    pub reason: OmissionReason,
}

/// Lists what was left out.
struct Listed<'a>(&'a [Omission]);

impl std::fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0
            .iter()
            .try_for_each(|omission| write!(f, "; {omission}"))
    }
}

/// Reads the frames of a file.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    tracks: Vec<TrackSamples>,
    description: Description,
    omitted: Vec<Omission>,
    /// Where the search for fragments goes on; `None` in a file without, or at its end.
    fragments: Option<u64>,
    first_fragment: Option<u64>,
    left_out: u64,
}

/// One track that is read.
#[derive(Debug)]
struct TrackSamples {
    id: TrackId,
    is_sound: bool,
    timescale: NonZeroU32,
    conversion: Conversion,
    tables: Tables,
    cursor: Cursor,
    /// Samples of fragments.
    listed: VecDeque<Sample>,
    defaults: Defaults,
    /// The decoding time behind what was listed.
    behind: i64,
    /// The sample that comes next.
    next: Option<Sample>,
    /// The newest decoding time, below which none falls whatever a broken fragment says.
    newest: i64,
    /// Added to times: the edit list.
    shift: i64,
    duration: u64,
}

impl<R: Read + Seek> Reader<R> {
    /// Opens a file: reads its tables.
    ///
    /// # Errors
    ///
    /// It cannot be read, is no MP4, or has no track that can be carried.
    pub fn open(mut source: R) -> Result<Self, Mp4Error> {
        let (moov, behind) = find_moov(&mut source)?;
        let movie_scale = child(&moov, b"mvhd").and_then(|mvhd| timescale(&mvhd));
        let defaults = child(&moov, b"mvex").map(|mvex| fragment::read_defaults(&mvex));
        let (mut tracks, mut described, mut omitted) = (Vec::new(), Vec::new(), Vec::new());
        for (_, trak) in boxes(moov).filter(|(kind, _)| kind == b"trak") {
            let number = track_number(&trak).unwrap_or(0);
            match read_track(&trak, tracks.len(), movie_scale) {
                Ok((track, mut source)) => {
                    let own = defaults.iter().flatten().find(|own| own.track == number);
                    source.defaults = own.copied().unwrap_or_default();
                    described.push(track);
                    tracks.push(source);
                }
                Err(reason) => omitted.push(Omission {
                    number,
                    codec: entry_name(&trak),
                    reason,
                }),
            }
        }
        if tracks.is_empty() {
            return Err(Mp4Error::NoTracks(omitted));
        }
        let first = |kind| {
            described
                .iter()
                .position(|track: &Track| track.kind == kind)
        };
        if let Some(at) = first(TrackKind::Video) {
            described[..=at].rotate_right(1);
        }
        let first_fragment = defaults.map(|_| behind);
        let mut reader = Self {
            source,
            tracks,
            description: Description { tracks: described },
            omitted,
            fragments: first_fragment,
            first_fragment,
            left_out: 0,
        };
        reader.rewind();
        Ok(reader)
    }

    /// The tracks, the leading one first.
    pub const fn description(&self) -> &Description {
        &self.description
    }

    /// The tracks that are left out.
    pub fn omitted(&self) -> &[Omission] {
        &self.omitted
    }

    /// Frames that were left out: too large, damaged, or behind the end of a file that was cut short.
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// How long the longest track is, if the file says so.
    pub fn duration(&self) -> Option<Span> {
        let of = |track: &TrackSamples| Span {
            ticks: i64::try_from(track.duration).unwrap_or(i64::MAX),
            timescale: track.timescale,
        };
        self.tracks
            .iter()
            .map(of)
            .max()
            .filter(|span| span.ticks > 0)
    }

    /// Goes back to the beginning.
    pub fn rewind(&mut self) {
        self.fragments = self.first_fragment;
        for track in &mut self.tracks {
            track.cursor = Cursor::default();
            track.listed.clear();
            track.behind = 0;
            track.newest = i64::MIN;
            track.next = track.cursor.next(&track.tables);
        }
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    ///
    /// The file cannot be read. A file that is cut short just ends.
    pub fn next_frame(&mut self) -> io::Result<Option<Frame>> {
        loop {
            let Some(at) = self.earliest()? else {
                return Ok(None);
            };
            let track = &mut self.tracks[at];
            let sample = track.next.take().expect("the earliest has one");
            track.advance();
            let track = &mut self.tracks[at];
            let dts = sample.dts.saturating_add(track.shift);
            if track.is_sound && dts.saturating_add(sample.step) <= 0 && track.shift < 0 {
                // What an encoder needs to get going, in front of the edit.
                continue;
            }
            let Some(bytes) = read_sample(&mut self.source, sample)? else {
                self.left_out += 1;
                continue;
            };
            let Some((data, picture)) = track.conversion.convert(bytes) else {
                self.left_out += 1;
                continue;
            };
            let dts = dts.max(track.newest);
            track.newest = dts;
            let offset = if track.is_sound {
                0
            } else {
                sample.offset.into()
            };
            return Ok(Some(Frame {
                track: track.id,
                sync: picture.sync,
                discardable: picture.discardable,
                dts,
                pts: dts.saturating_add(offset),
                data,
            }));
        }
    }

    /// The track whose next sample is decoded first, once every track has one or there is none left.
    fn earliest(&mut self) -> io::Result<Option<usize>> {
        // A track that has ended must not make the others list the rest of the file.
        while self.tracks.iter().any(|track| track.next.is_none())
            && self
                .tracks
                .iter()
                .all(|track| track.listed.len() < SAMPLES_MAX / 2)
            && self.list_fragment()?
        {}
        let next = |(at, track): (usize, &TrackSamples)| {
            let ticks = track.next?.dts.saturating_add(track.shift);
            let timescale = track.timescale;
            Some((Span { ticks, timescale }, at))
        };
        let tracks = self.tracks.iter().enumerate();
        Ok(tracks.filter_map(next).min().map(|(_, at)| at))
    }

    /// Lists the samples of the next fragment; says whether there was one.
    fn list_fragment(&mut self) -> io::Result<bool> {
        while let Some(at) = self.fragments {
            let Some((head, size, kind)) = read_header(&mut self.source, at)? else {
                self.fragments = None;
                break;
            };
            self.fragments = at.checked_add(size).filter(|_| size > 0);
            if &kind != b"moof" || size == 0 || size > TABLES_BYTES_MAX {
                continue;
            }
            let place = at.saturating_add(head);
            let Some(moof) = read_bytes(&mut self.source, place, size - head)? else {
                self.fragments = None;
                break;
            };
            let moof = Bytes::from(moof);
            for track in &mut self.tracks {
                fragment::read(
                    &moof,
                    at,
                    track.defaults,
                    &mut track.behind,
                    &mut track.listed,
                );
                if track.next.is_none() {
                    track.advance();
                }
            }
            return Ok(true);
        }
        Ok(false)
    }
}

impl TrackSamples {
    fn advance(&mut self) {
        self.next = self.cursor.next(&self.tables).inspect(|sample| {
            self.behind = sample.dts.saturating_add(sample.step);
        });
        if self.next.is_none() {
            self.next = self.listed.pop_front();
        }
    }
}

/// Finds the `moov`; gives its content and where it ends.
fn find_moov(source: &mut (impl Read + Seek)) -> Result<(Bytes, u64), Mp4Error> {
    let mut at = 0_u64;
    loop {
        let (head, size, kind) = read_header(source, at)?.ok_or(Mp4Error::NoTables)?;
        if &kind == b"moov" {
            let end = match size {
                0 => source.seek(SeekFrom::End(0))?,
                size => at.saturating_add(size),
            };
            let bytes = end.saturating_sub(at);
            if bytes > TABLES_BYTES_MAX {
                return Err(Mp4Error::TablesTooLarge { bytes });
            }
            let length = bytes.checked_sub(head).ok_or(Mp4Error::NoTables)?;
            let moov = read_bytes(source, at + head, length)?;
            return Ok((moov.ok_or(Mp4Error::NoTables)?.into(), end));
        }
        at = at
            .checked_add(size)
            .filter(|_| size > 0)
            .ok_or(Mp4Error::NoTables)?;
    }
}

/// The header of the box at a place; `None` at the end.
fn read_header(
    source: &mut (impl Read + Seek),
    at: u64,
) -> io::Result<Option<(u64, u64, [u8; 4])>> {
    source.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    source.take(HEADER_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(header(&bytes))
}

/// Bytes of the file; `None` if they reach beyond its end.
fn read_bytes(source: &mut (impl Read + Seek), at: u64, bytes: u64) -> io::Result<Option<Vec<u8>>> {
    source.seek(SeekFrom::Start(at))?;
    // Grows as the file gives bytes, whatever it announces.
    let mut read = Vec::new();
    source.take(bytes).read_to_end(&mut read)?;
    Ok((read.len() as u64 == bytes).then_some(read))
}

fn read_sample(source: &mut (impl Read + Seek), sample: Sample) -> io::Result<Option<Vec<u8>>> {
    if sample.bytes == 0 || sample.bytes > FRAME_BYTES_MAX as u64 {
        return Ok(None);
    }
    // A place that no file has is refused by seek.
    if i64::try_from(sample.place).is_err() {
        return Ok(None);
    }
    read_bytes(source, sample.place, sample.bytes)
}

/// The timescale of a `mvhd` or `mdhd`.
fn timescale(content: &Bytes) -> Option<NonZeroU32> {
    let (version, _, body) = full(content)?;
    NonZeroU32::new(u32_at(&body, if version == 1 { 16 } else { 8 })?)
}

fn track_number(trak: &Bytes) -> Option<u32> {
    let (version, _, body) = full(&child(trak, b"tkhd")?)?;
    u32_at(&body, if version == 1 { 16 } else { 8 })
}

fn entry_name(trak: &Bytes) -> String {
    let stsd = descend(trak, &[b"mdia", b"minf", b"stbl", b"stsd"]);
    let name = stsd.and_then(|stsd| Some(*stsd.get(12..)?.first_chunk::<4>()?));
    name.map_or_else(|| "?".into(), |name| name.escape_ascii().to_string())
}

fn read_track(
    trak: &Bytes,
    before: usize,
    movie_scale: Option<NonZeroU32>,
) -> Result<(Track, TrackSamples), OmissionReason> {
    let form = OmissionReason::Form;
    let mdia = child(trak, b"mdia").ok_or(form)?;
    let mdhd = child(&mdia, b"mdhd").ok_or(form)?;
    let timescale = timescale(&mdhd).ok_or(form)?;
    let handler = child(&mdia, b"hdlr").ok_or(form)?;
    let handler = *handler.get(8..).and_then(<[u8]>::first_chunk).ok_or(form)?;
    let stbl = descend(&mdia, &[b"minf", b"stbl"]).ok_or(form)?;
    let entry = entry::read(&child(&stbl, b"stsd").ok_or(form)?, handler)?;
    if before >= TRACKS_MAX {
        return Err(OmissionReason::TooMany);
    }
    let id = TrackId(u8::try_from(before + 1).map_err(|_| OmissionReason::TooMany)?);
    let (duration, language) = duration_and_language(&mdhd).ok_or(form)?;
    let track = Track {
        id,
        kind: entry.kind,
        codec: entry.word.into(),
        timescale,
        config: entry.config,
        language,
    };
    let source = TrackSamples {
        id,
        is_sound: entry.kind == TrackKind::Audio,
        timescale,
        conversion: entry.conversion,
        tables: Tables::parse(&stbl).ok_or(form)?,
        cursor: Cursor::default(),
        listed: VecDeque::new(),
        defaults: Defaults::default(),
        behind: 0,
        next: None,
        newest: i64::MIN,
        shift: edit_shift(trak, timescale, movie_scale).unwrap_or(0),
        duration,
    };
    Ok((track, source))
}

/// Of a `mdhd`: the language is three letters of five bits (8.4.2.3).
fn duration_and_language(mdhd: &Bytes) -> Option<(u64, Option<String>)> {
    let (version, _, body) = full(mdhd)?;
    let (duration, at) = if version == 1 {
        (u64_at(&body, 20)?, 28)
    } else {
        (u64::from(u32_at(&body, 12)?), 16)
    };
    let code = u16::from_be_bytes(*body.get(at..)?.first_chunk()?);
    let letter = |shift: u16| char::from(0x60 + (code >> shift & 0x1F) as u8);
    let language: String = [letter(10), letter(5), letter(0)].iter().collect();
    let is_code = code < 0x8000 && language.bytes().all(|byte| byte.is_ascii_lowercase());
    Some((
        duration,
        Some(language).filter(|code| is_code && code != "und"),
    ))
}

/// What the edit list adds to times: empty time in front, less where the first edit begins (8.6.6).
fn edit_shift(trak: &Bytes, timescale: NonZeroU32, movie_scale: Option<NonZeroU32>) -> Option<i64> {
    let (version, _, body) = full(&descend(trak, &[b"edts", b"elst"])?)?;
    let count = usize::try_from(u32_at(&body, 0)?).ok()?;
    let width = if version == 1 { 20 } else { 12 };
    let mut empty = 0_i64;
    for at in (0..count).map_while(|entry| entry.checked_mul(width)?.checked_add(4)) {
        let (duration, start) = if version == 1 {
            (u64_at(&body, at)?, u64_at(&body, at + 8)?.cast_signed())
        } else {
            let start = u32_at(&body, at + 4)?.cast_signed();
            (u32_at(&body, at)?.into(), start.into())
        };
        if start >= 0 {
            return Some(empty.saturating_sub(start));
        }
        let duration = i64::try_from(duration).ok()?;
        empty = empty.saturating_add(rescale(duration, movie_scale?, timescale));
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::super::boxes::put;
    use super::*;

    fn scale(ticks: u32) -> NonZeroU32 {
        NonZeroU32::new(ticks).unwrap()
    }

    /// A `trak` with these edits: length in the movie's timescale, start in the track's.
    fn edits(version: u8, edits: &[(u32, i32)]) -> Bytes {
        let mut trak = Vec::new();
        put(&mut trak, b"edts", |out| {
            put(out, b"elst", |out| {
                out.extend([version, 0, 0, 0, 0, 0, 0, edits.len() as u8]);
                for (length, start) in edits {
                    if version == 1 {
                        out.extend(u64::from(*length).to_be_bytes());
                        out.extend(i64::from(*start).to_be_bytes());
                    } else {
                        out.extend(length.to_be_bytes());
                        out.extend(start.to_be_bytes());
                    }
                    out.extend([0, 1, 0, 0]);
                }
            });
        });
        trak.into()
    }

    #[test]
    fn the_first_edit_and_the_empty_time_before_it_count() {
        let shift = |version, list: &[_]| {
            edit_shift(&edits(version, list), scale(90_000), Some(scale(1_000)))
        };

        for version in [0, 1] {
            assert_eq!(shift(version, &[(500, 6_000)]), Some(-6_000));
            assert_eq!(
                shift(version, &[(200, -1), (500, 6_000), (1, 9)]),
                Some(12_000)
            );
            assert_eq!(shift(version, &[(200, -1)]), None);
        }
        assert_eq!(edit_shift(&Bytes::new(), scale(1), None), None);
    }

    #[test]
    fn a_sample_that_no_frame_can_be_is_left_out() {
        let mut source = io::Cursor::new(vec![7; FRAME_BYTES_MAX + 1]);
        let mut read = |place, bytes| {
            let sample = Sample {
                place,
                bytes,
                dts: 0,
                offset: 0,
                step: 0,
            };
            read_sample(&mut source, sample)
                .unwrap()
                .map(|sample| sample.len())
        };
        let most = FRAME_BYTES_MAX as u64;

        assert_eq!(read(0, most), Some(FRAME_BYTES_MAX));
        assert_eq!(
            (read(0, most + 1), read(2, most), read(0, 0)),
            (None, None, None)
        );
        assert_eq!((read(u64::MAX, 1), read(i64::MAX as u64, 1)), (None, None));
    }

    #[test]
    fn duration_and_language_are_read() {
        let deu = (4_u16 << 10 | 5 << 5 | 21).to_be_bytes();
        let long = [
            &[1, 0, 0, 0][..],
            &[0; 16],
            &[0, 0, 0, 9],
            &[0, 0, 0, 1, 0, 0, 0, 2],
            &deu,
            &[0; 2],
        ];
        let short = [
            &[0; 12][..],
            &[0, 0, 0, 9, 0, 0, 0, 7],
            &[0x55, 0xC4],
            &[0; 2],
        ];

        let (long, short) = (Bytes::from(long.concat()), Bytes::from(short.concat()));

        assert_eq!(
            duration_and_language(&long),
            Some((1 << 32 | 2, Some("deu".into())))
        );
        assert_eq!(duration_and_language(&short), Some((7, None)));
        assert_eq!(
            (timescale(&long), timescale(&short)),
            (Some(scale(9)), Some(scale(9)))
        );
    }
}
