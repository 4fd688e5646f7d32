//! The segments of a stream that there are, and the playlists of them (RFC 8216).
//!
//! Not their making, which is `maker`'s. Filled and asked by the parent. Invariant: numbers in a playlist follow each
//! other by one, what is listed can be had for as long again, and all bytes together stay below [`BYTES_MAX`].

use std::collections::VecDeque;
use std::fmt::Write as _;

use bytes::Bytes;
use levada::WallTime;

use super::maker::Segment;

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
    /// Why there is nothing.
    pub(super) unsuitable: Option<String>,
}

impl Window {
    /// Adds segments.
    pub(super) fn add(&mut self, made: Vec<Segment>) {
        for segment in made {
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
    pub(super) fn master(&self, peak_bps: u64, query: &str) -> Option<String> {
        let init = self.listed().find_map(|segment| segment.init.as_ref())?;
        Some(format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXT-X-STREAM-INF:BANDWIDTH={},CODECS=\"{}\"\nmedia.m3u8{query}\n",
            peak_bps.max(1),
            init.codecs
        ))
    }

    /// The playlist of segments, once there is one.
    pub(super) fn media(&self, query: &str) -> Option<String> {
        let first = self.listed().next()?;
        let mut out = format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{}\n\
             #EXT-X-INDEPENDENT-SEGMENTS\n",
            self.target_seconds, first.number
        );
        let mut known = None;
        for segment in self.listed() {
            if let Some(init) = &segment.init
                && known != Some(&init.name)
            {
                // Times go on, so it is no discontinuity.
                let _ = writeln!(out, "#EXT-X-MAP:URI=\"{}{query}\"", init.name);
                known = Some(&init.name);
            }
            if segment.init.is_none() {
                out.push_str("#EXT-X-GAP\n");
            }
            if let Some(wall) = segment.wall {
                let _ = writeln!(out, "#EXT-X-PROGRAM-DATE-TIME:{}", date(wall));
            }
            let _ = write!(
                out,
                "#EXTINF:{:.3},\n{}{query}\n",
                segment.seconds, segment.name
            );
        }
        Some(out)
    }

    /// The bytes of a name.
    pub(super) fn file(&self, name: &str) -> Option<Bytes> {
        self.segments
            .iter()
            .rev()
            .find_map(|segment| match &segment.init {
                Some(_) if segment.name == name => Some(segment.bytes.clone()),
                Some(init) if init.name == name => Some(init.bytes.clone()),
                _ => None,
            })
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
