//! Playlists of other servers (RFC 8216): out of text, whatever that is.
//!
//! ```text
//!   #EXTM3U
//!   #EXT-X-STREAM-INF:BANDWIDTH=2000000,RESOLUTION=1280x720      a playlist of variants
//!   720p.m3u8
//! or
//!   #EXT-X-TARGETDURATION:6                                      a playlist of segments
//!   #EXT-X-MEDIA-SEQUENCE:17
//!   #EXTINF:6.0,
//!   seg17.ts
//! ```
//!
//! Not the fetching, and not which segment is next. Called by `source` and by the fuzzer. Invariant: no text makes it
//! panic, and what it gives has at most [`SEGMENTS_MAX`] segments and [`VARIANTS_MAX`] variants.

/// Bytes of a playlist: a day of segments of 6 s has 2 MB.
pub(crate) const PLAYLIST_BYTES_MAX: usize = 4 << 20;
/// Segments that are taken of a playlist; of more, the last ones.
pub(crate) const SEGMENTS_MAX: usize = 20_000;
/// Variants that are taken of a playlist, the first ones.
pub(crate) const VARIANTS_MAX: usize = 64;
/// The longest segment that is believed: an hour.
const SECONDS_MAX: f64 = 3_600.0;

/// What a playlist is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Playlist {
    Variants(Vec<Variant>),
    Media(Media),
}

/// The same in another quality.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Variant {
    pub(crate) uri: String,
    pub(crate) bandwidth_bps: u64,
    pub(crate) resolution: Option<(u32, u32)>,
    /// Its sound is in a playlist of its own.
    pub(crate) has_sound_elsewhere: bool,
}

/// Segments.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Media {
    /// The longest that a segment is.
    pub(crate) target_seconds: f64,
    /// The number of the first segment.
    pub(crate) sequence: u64,
    pub(crate) segments: Vec<Segment>,
    /// No segment will follow.
    pub(crate) is_ended: bool,
}

/// One segment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Segment {
    pub(crate) uri: String,
    pub(crate) seconds: f64,
    /// Times and tracks begin anew.
    pub(crate) is_discontinuous: bool,
    /// There is no such file.
    pub(crate) is_gap: bool,
    pub(crate) range: Option<Range>,
    /// What comes before it: the init segment of fragmented MP4.
    pub(crate) map: Option<Map>,
    /// It is encrypted.
    pub(crate) is_encrypted: bool,
}

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) bytes: u64,
    pub(crate) from: u64,
}

/// An init segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Map {
    pub(crate) uri: String,
    pub(crate) range: Option<Range>,
}

/// Why a text is no playlist that can be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlaylistError {
    #[error("what it answers is no HLS playlist: that begins with #EXTM3U")]
    NoPlaylist,
    #[error("its playlist lists neither segments nor variants")]
    Empty,
}

impl Playlist {
    /// Reads a playlist.
    pub(crate) fn parse(text: &str) -> Result<Self, PlaylistError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut lines = text.lines().map(str::trim);
        if lines.next() != Some("#EXTM3U") {
            return Err(PlaylistError::NoPlaylist);
        }
        let mut reading = Reading::default();
        for line in lines.filter(|line| !line.is_empty()) {
            match line.strip_prefix('#') {
                Some(tag) => reading.tag(tag),
                None => reading.uri(line),
            }
        }
        reading.finish()
    }
}

/// What was read so far.
#[derive(Debug, Default)]
struct Reading {
    variants: Vec<Variant>,
    variant: Option<Variant>,
    media: Media,
    is_media: bool,
    next: Segment,
    has_duration: bool,
    /// Where the next range without a beginning begins, and in which file.
    behind: Option<(String, u64)>,
}

impl Reading {
    fn tag(&mut self, tag: &str) {
        let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
        match name {
            "EXT-X-STREAM-INF" => self.variant = Some(variant(value)),
            "EXT-X-TARGETDURATION" => {
                self.media.target_seconds = seconds(value);
                self.is_media = true;
            }
            "EXT-X-MEDIA-SEQUENCE" => self.media.sequence = value.trim().parse().unwrap_or(0),
            "EXTINF" => {
                self.next.seconds = seconds(value.split(',').next().unwrap_or(""));
                self.has_duration = true;
            }
            "EXT-X-DISCONTINUITY" => self.next.is_discontinuous = true,
            "EXT-X-GAP" => self.next.is_gap = true,
            "EXT-X-BYTERANGE" => {
                let behind = self.behind.as_ref().map_or(0, |(_, at)| *at);
                self.next.range = range(value, behind);
            }
            "EXT-X-MAP" => {
                self.next.map = attribute(value, "URI").map(|uri| Map {
                    uri: uri.to_owned(),
                    range: attribute(value, "BYTERANGE").and_then(|text| range(text, 0)),
                });
            }
            "EXT-X-KEY" => {
                let method = attribute(value, "METHOD");
                self.next.is_encrypted = method.is_some_and(|method| method != "NONE");
            }
            "EXT-X-ENDLIST" => self.media.is_ended = true,
            // Parts, dates, hints: nothing of them is needed to play.
            _ => {}
        }
    }

    fn uri(&mut self, uri: &str) {
        if let Some(variant) = self.variant.take() {
            if self.variants.len() < VARIANTS_MAX {
                let uri = uri.to_owned();
                self.variants.push(Variant { uri, ..variant });
            }
            return;
        }
        if !std::mem::take(&mut self.has_duration) {
            return;
        }
        let mut segment = self.next.clone();
        segment.uri = uri.to_owned();
        self.behind = segment.range.map(|range| {
            let end = range.from.saturating_add(range.bytes);
            (segment.uri.clone(), end)
        });
        // Keys and init segments go on; the rest is of one segment.
        self.next = Segment {
            map: self.next.map.take(),
            is_encrypted: self.next.is_encrypted,
            ..Segment::default()
        };
        self.media.segments.push(segment);
        self.is_media = true;
    }

    fn finish(mut self) -> Result<Playlist, PlaylistError> {
        if !self.variants.is_empty() {
            return Ok(Playlist::Variants(self.variants));
        }
        if !self.is_media {
            return Err(PlaylistError::Empty);
        }
        let too_many = self.media.segments.len().saturating_sub(SEGMENTS_MAX);
        self.media.segments.drain(..too_many);
        let too_many = u64::try_from(too_many).unwrap_or(u64::MAX);
        self.media.sequence = self.media.sequence.saturating_add(too_many);
        let longest = self.media.segments.iter().map(|segment| segment.seconds);
        let longest = longest.fold(1.0, f64::max);
        self.media.target_seconds = self.media.target_seconds.max(longest);
        Ok(Playlist::Media(self.media))
    }
}

fn variant(list: &str) -> Variant {
    let resolution = attribute(list, "RESOLUTION").and_then(|text| {
        let (width, height) = text.split_once('x')?;
        Some((width.parse().ok()?, height.parse().ok()?))
    });
    Variant {
        uri: String::new(),
        bandwidth_bps: attribute(list, "BANDWIDTH")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0),
        resolution,
        has_sound_elsewhere: attribute(list, "AUDIO").is_some(),
    }
}

/// A time that is believed: not negative, at most an hour.
fn seconds(text: &str) -> f64 {
    let seconds = text.trim().parse::<f64>().ok();
    let seconds = seconds.filter(|seconds| seconds.is_finite());
    seconds.unwrap_or(0.0).clamp(0.0, SECONDS_MAX)
}

/// `BYTES[@FROM]`.
fn range(text: &str, behind: u64) -> Option<Range> {
    let (bytes, from) = match text.split_once('@') {
        Some((bytes, from)) => (bytes, from.trim().parse().ok()?),
        None => (text, behind),
    };
    let bytes = bytes.trim().parse().ok().filter(|bytes| *bytes > 0)?;
    Some(Range { bytes, from })
}

/// The value of an attribute of a list, without its quotes.
fn attribute<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = list;
    loop {
        let (key, behind) = rest.split_once('=')?;
        let (value, tail) = match behind.strip_prefix('"') {
            Some(quoted) => {
                let (value, tail) = quoted.split_once('"')?;
                (value, tail.strip_prefix(',').unwrap_or(tail))
            }
            None => behind.split_once(',').unwrap_or((behind, "")),
        };
        if key.trim() == name {
            return Some(value.trim());
        }
        rest = tail;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn media(text: &str) -> Media {
        match Playlist::parse(text).unwrap() {
            Playlist::Media(media) => media,
            Playlist::Variants(variants) => panic!("{variants:?}"),
        }
    }

    #[test]
    fn a_live_playlist_has_numbers_jumps_gaps_and_init_segments() {
        let media = media(
            "\u{feff}#EXTM3U\r\n#EXT-X-TARGETDURATION:4\r\n#EXT-X-MEDIA-SEQUENCE:17\r\n#EXT-X-MAP:URI=\"a,b.mp4\"\r\n\
             #EXTINF:4.0,\r\n1.m4s\r\n#EXT-X-GAP\n#EXTINF:4,\n2.m4s\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"c.mp4\"\n\
             #EXTINF:3.5,title\n3.m4s?x=1\n",
        );

        assert_eq!(
            (media.sequence, media.target_seconds, media.is_ended),
            (17, 4.0, false)
        );
        let all: Vec<_> = media
            .segments
            .iter()
            .map(|s| {
                (
                    s.uri.as_str(),
                    s.seconds,
                    s.is_gap,
                    s.is_discontinuous,
                    s.map.as_ref().unwrap().uri.as_str(),
                )
            })
            .collect();
        assert_eq!(
            all,
            [
                ("1.m4s", 4.0, false, false, "a,b.mp4"),
                ("2.m4s", 4.0, true, false, "a,b.mp4"),
                ("3.m4s?x=1", 3.5, false, true, "c.mp4"),
            ]
        );
    }

    #[test]
    fn ranges_follow_each_other_and_a_recording_ends() {
        let media = media(
            "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:2,\n\
             #EXT-X-BYTERANGE:100@5\nall.ts\n#EXTINF:2,\n#EXT-X-BYTERANGE:50\nall.ts\n#EXT-X-ENDLIST\n",
        );

        let ranges: Vec<_> = media
            .segments
            .iter()
            .map(|segment| segment.range.unwrap())
            .collect();
        assert_eq!(
            ranges,
            [
                Range {
                    bytes: 100,
                    from: 5
                },
                Range {
                    bytes: 50,
                    from: 105
                }
            ]
        );
        assert!(media.is_ended);
        assert!(media.segments.iter().all(|segment| segment.is_encrypted));
    }

    #[test]
    fn variants_have_their_rates() {
        let text = "#EXTM3U\n#EXT-X-STREAM-INF:CODECS=\"avc1,mp4a\",BANDWIDTH=900,RESOLUTION=640x360\nlow.m3u8\n\
                    #EXT-X-STREAM-INF:BANDWIDTH=2000,AUDIO=\"a\"\nhigh.m3u8\n";

        let Playlist::Variants(variants) = Playlist::parse(text).unwrap() else {
            panic!("they are variants");
        };

        assert_eq!(variants[0].resolution, Some((640, 360)));
        assert_eq!(
            (variants[0].bandwidth_bps, variants[1].bandwidth_bps),
            (900, 2_000)
        );
        assert!(variants[1].has_sound_elsewhere && !variants[0].has_sound_elsewhere);
    }

    #[test]
    fn what_is_none_is_said_and_more_than_the_limits_is_cut() {
        assert_eq!(Playlist::parse("<html>"), Err(PlaylistError::NoPlaylist));
        assert_eq!(
            Playlist::parse("#EXTM3U\nx.ts\n"),
            Err(PlaylistError::Empty)
        );
        let segments = "#EXTINF:1,\nx.ts\n".repeat(SEGMENTS_MAX + 5);
        let long = media(&format!("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:3\n{segments}"));
        assert_eq!((long.segments.len(), long.sequence), (SEGMENTS_MAX, 8));
        let many = "#EXT-X-STREAM-INF:BANDWIDTH=1\nx\n".repeat(VARIANTS_MAX + 1);
        let many = Playlist::parse(&format!("#EXTM3U\n{many}")).unwrap();
        assert!(matches!(many, Playlist::Variants(all) if all.len() == VARIANTS_MAX));
        let wild =
            media("#EXTM3U\n#EXT-X-TARGETDURATION:NaN\n#EXTINF:-1e99,\nx\n#EXTINF:inf,\ny\n");
        assert!(wild.segments.iter().all(|segment| segment.seconds == 0.0));
    }
}
