//! The segments of a stream that there are, and the playlists of them (RFC 8216).
//!
//! Not their making, which is `maker`'s. Filled and asked by the parent. Invariant: numbers in a playlist follow each
//! other by one, what is listed can be had for as long again, and all bytes together stay below [`BYTES_MAX`].

use std::collections::VecDeque;
use std::fmt::Write as _;

use bytes::Bytes;
use levada::WallTime;

use super::Wanted;
use super::maker::{Init, Made, Open, Part, Segment, name_of, part_name};
use super::making::PART_TARGET;

/// How much is listed.
pub(super) const LISTED_SECONDS: f64 = 30.0;
/// How much is kept: who got the playlist just before may still ask.
const KEPT_SECONDS: f64 = 60.0;
/// The most bytes of one stream's segments. What is beyond goes first.
pub(super) const BYTES_MAX: usize = 64 << 20;
/// The most segments that are kept, however short.
pub(super) const SEGMENTS_MAX: usize = 240;

/// What there is of a stream.
#[derive(Debug, Default)]
pub(super) struct Window {
    segments: VecDeque<Segment>,
    bytes: usize,
    /// The longest segment so far, in whole seconds: what players are told, and it never falls.
    target_seconds: u64,
    /// The segment that is coming.
    open: Option<Open>,
    /// Codecs of tracks that no player takes.
    pub(super) left_out: Vec<String>,
    /// Why there is nothing.
    pub(super) unsuitable: Option<String>,
}

impl Window {
    /// Adds what was made.
    pub(super) fn add(&mut self, made: Made) {
        self.open = made.open.or_else(|| self.open.take());
        for segment in made.segments {
            if self
                .open
                .as_ref()
                .is_some_and(|open| open.number <= segment.number)
            {
                self.open = None;
            }
            if self
                .segments
                .back()
                .is_some_and(|last| last.number >= segment.number)
            {
                continue;
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "seconds of a group"
            )]
            let whole = segment.seconds.round() as u64;
            self.target_seconds = self.target_seconds.max(whole).max(1);
            self.bytes += segment.bytes.len();
            self.segments.push_back(segment);
        }
        let mut seconds: f64 = self.segments.iter().map(|segment| segment.seconds).sum();
        while self.bytes > BYTES_MAX || self.segments.len() > SEGMENTS_MAX || seconds > KEPT_SECONDS
        {
            // The newest stays, whatever it has.
            if self.segments.len() < 2 {
                return;
            }
            if let Some(gone) = self.segments.pop_front() {
                self.bytes -= gone.bytes.len();
                seconds -= gone.seconds;
            }
        }
    }

    /// What is listed: the newest segments whose numbers follow each other, from the first that is no gap.
    fn listed(&self) -> impl Iterator<Item = &Segment> {
        let (mut from, mut seconds) = (self.segments.len(), 0.0);
        let mut next = None;
        for (at, segment) in self.segments.iter().enumerate().rev() {
            seconds += segment.seconds;
            let follows = next.is_none_or(|next| segment.number + 1 == next);
            if !follows || (seconds > LISTED_SECONDS && from < self.segments.len()) {
                break;
            }
            next = Some(segment.number);
            if segment.init.is_some() {
                from = at;
            }
        }
        self.segments.range(from..)
    }

    /// The playlist of playlists, once there is a segment.
    pub(super) fn master(&self, media: &str, peak_bps: u64, query: &str) -> Option<String> {
        let init = self.listed().find_map(|segment| segment.init.as_ref())?;
        let left_out = match &self.left_out[..] {
            [] => String::new(),
            // Codecs are words of whoever published: none ends the line.
            codecs => format!(
                "# left out, since no player of HLS takes it: {}\n",
                codecs.join(", ").replace(char::is_control, " ")
            ),
        };
        Some(format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n{left_out}\
             #EXT-X-STREAM-INF:BANDWIDTH={},CODECS=\"{}\"\n{media}{query}\n",
            peak_bps.max(1),
            init.codecs
        ))
    }

    /// The playlist of segments, once there is one.
    pub(super) fn media(&self, query: &str) -> Option<String> {
        let first = self.listed().next()?;
        let mut list = List::new(self.target_seconds, first.number, "", query);
        self.listed()
            .for_each(|segment| list.segment(segment, false));
        Some(list.out)
    }

    /// The playlist of segments and parts, once there is a segment.
    pub(super) fn low(&self, query: &str) -> Option<String> {
        let first = self.listed().next()?;
        let control = format!(
            "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={:.3}\n\
             #EXT-X-PART-INF:PART-TARGET={PART_TARGET:.3}\n",
            PART_TARGET * 3.0
        );
        let mut list = List::new(self.target_seconds, first.number, &control, query);
        let count = self.listed().count();
        for (at, segment) in self.listed().enumerate() {
            // Parts of what is older than three targets are of no use to anybody (section 4.4.4.9).
            list.segment(segment, at + 3 >= count);
        }
        let last = self.listed().last()?;
        let open = self
            .open
            .as_ref()
            .filter(|open| open.number == last.number + 1);
        match open {
            Some(open) => {
                list.init(&open.init);
                list.parts(&open.name, &open.parts);
                list.hint(&open.name, open.parts.len());
            }
            None => list.hint(&name_of(last.start, last.number + 1), 0),
        }
        Some(list.out)
    }

    /// Whether the playlist has that much.
    pub(super) fn has(&self, wanted: Wanted) -> bool {
        let last = self.segments.back().map(|segment| segment.number);
        let is_whole = last.is_some_and(|last| last >= wanted.segment);
        let open = self.open.as_ref();
        let is_open = |part| {
            open.is_some_and(|open| open.number == wanted.segment && open.parts.len() > part)
        };
        is_whole || wanted.part.is_some_and(is_open)
    }

    /// Whether it will not have that much soon.
    pub(super) fn is_far(&self, wanted: Wanted) -> bool {
        let last = self.segments.back().map(|segment| segment.number);
        last.is_some_and(|last| wanted.segment > last.saturating_add(2))
    }

    /// The bytes of a name.
    pub(super) fn file(&self, name: &str) -> Option<Bytes> {
        if let Some(open) = &self.open {
            let part = part_of(&open.name, name).and_then(|part| open.parts.get(part));
            if let Some(part) = part {
                return Some(part.bytes.clone());
            }
            if open.init.name == name {
                return Some(open.init.bytes.clone());
            }
        }
        self.segments
            .iter()
            .rev()
            .find_map(|segment| match &segment.init {
                Some(_) if segment.name == name => Some(segment.bytes.clone()),
                Some(init) if init.name == name => Some(init.bytes.clone()),
                Some(_) => {
                    let part = segment.parts.get(part_of(&segment.name, name)?)?;
                    Some(part.bytes.clone())
                }
                None => None,
            })
    }
}

/// Which part of a segment that name is.
fn part_of(segment: &str, name: &str) -> Option<usize> {
    let rest = name.strip_prefix(segment.strip_suffix("m4s")?)?;
    rest.strip_suffix(".m4s")?.parse().ok()
}

/// A playlist that is being written.
struct List<'a> {
    out: String,
    query: &'a str,
    init: Option<String>,
}

impl<'a> List<'a> {
    fn new(target_seconds: u64, first: u64, control: &str, query: &'a str) -> Self {
        let version = if control.is_empty() { 7 } else { 9 };
        let out = format!(
            "#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{target_seconds}\n{control}\
             #EXT-X-MEDIA-SEQUENCE:{first}\n#EXT-X-INDEPENDENT-SEGMENTS\n"
        );
        Self {
            out,
            query,
            init: None,
        }
    }

    /// Times go on where the init segment is another, so that is no discontinuity.
    fn init(&mut self, init: &Init) {
        if self.init.as_ref() != Some(&init.name) {
            let _ = writeln!(self.out, "#EXT-X-MAP:URI=\"{}{}\"", init.name, self.query);
            self.init = Some(init.name.clone());
        }
    }

    fn segment(&mut self, segment: &Segment, with_parts: bool) {
        match &segment.init {
            Some(init) => self.init(init),
            None => self.out.push_str("#EXT-X-GAP\n"),
        }
        if let Some(wall) = segment.wall {
            let _ = writeln!(self.out, "#EXT-X-PROGRAM-DATE-TIME:{}", date(wall));
        }
        if with_parts {
            self.parts(&segment.name, &segment.parts);
        }
        let (seconds, name, query) = (segment.seconds, &segment.name, self.query);
        let _ = write!(self.out, "#EXTINF:{seconds:.3},\n{name}{query}\n");
    }

    fn parts(&mut self, segment: &str, parts: &[Part]) {
        for (at, part) in parts.iter().enumerate() {
            let (name, seconds, query) = (part_name(segment, at), part.seconds, self.query);
            // A group begins where decoding can start; within it nobody knows.
            let independent = if at == 0 { ",INDEPENDENT=YES" } else { "" };
            let _ = writeln!(
                self.out,
                "#EXT-X-PART:DURATION={seconds:.3},URI=\"{name}{query}\"{independent}"
            );
        }
    }

    fn hint(&mut self, segment: &str, part: usize) {
        let (name, query) = (part_name(segment, part), self.query);
        let _ = writeln!(
            self.out,
            "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{name}{query}\""
        );
    }
}

/// A time as ISO 8601 says it, to the millisecond. Days by the algorithm of Hinnant, `civil_from_days`.
fn date(wall: WallTime) -> String {
    let (seconds, millis) = (wall.0 / 1_000_000, wall.0 / 1_000 % 1_000);
    let (days, of_day) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests;
