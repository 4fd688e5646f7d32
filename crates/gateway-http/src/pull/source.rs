//! A stream of another server by HLS, as a source: playlists and segments are fetched ahead, frames leave when they are
//! due.
//!
//! ```text
//!   fetching (a task): playlist ─▶ segment ─▶ segment ... ─▶ parts, bounded ─▶ Hls::next: each when it is due
//! ```
//!
//! A live playlist is begun three targets before its end (RFC 8216 section 6.3.3); where we fell out of it, we begin
//! there anew. Frames are due by their own times from the first one on; what is held of them decides whether they leave
//! a little faster or slower, so that a server whose clock differs neither fills nor empties it. Not the connection
//! (`client`). Opened by `levada publish` and by the parent. Invariant: at most [`SEGMENTS_AHEAD`] segments wait, each
//! of at most [`SEGMENT_BYTES_MAX`].

use std::io::Cursor;
use std::time::Duration;

use bytes::Bytes;
use levada::{Description, Frame};
use levada_media::clock::Clock;
use levada_media::mp4::Reader;
use levada_media::source::{Error, Item, Opened, Pending, Request, Source, Timeline};
use levada_media::ticks::{TS_TIMESCALE, rescale};
use levada_media::ts::{self, Demuxer, Event};
use levada_wire::Instant;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::client::{Client, FetchError};
use super::playlist::{Map, Media, PLAYLIST_BYTES_MAX, Playlist, PlaylistError, Segment, Variant};
use super::url::{Url, UrlError};

/// The most bytes of a segment.
pub(crate) const SEGMENT_BYTES_MAX: usize = 64 << 20;
/// Segments that are fetched before they are due.
pub(crate) const SEGMENTS_AHEAD: usize = 2;
/// A live playlist is begun so many segments before its end.
const BEGIN_BEFORE_END: usize = 3;
/// How often in a row something may fail until the source is given up.
const TRIES: u32 = 5;
/// The pause after a failure, which grows with each.
const PAUSE: Duration = Duration::from_millis(500);
/// A playlist that says nothing new for so many targets is dead.
const STALE_TARGETS: f64 = 10.0;
/// Frames leave faster or slower by one part in this many while more or less is held than at the start.
const SLEW: i64 = 200;
/// A frame that is later than this begins anew: what was held is used up.
const LATE_MAX: Duration = Duration::from_secs(2);

/// Why a stream is not pulled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HlsError {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{url}: {why}")]
    Playlist { url: String, why: PlaylistError },
    #[error(
        "{url} is encrypted (EXT-X-KEY), which is not read: pull it from a server that does not encrypt"
    )]
    Encrypted { url: String },
    #[error("{url} has no variant {wanted}: it has {known}")]
    Variant {
        url: String,
        wanted: String,
        known: String,
    },
    #[error("{url} is neither MPEG-TS nor fragmented MP4")]
    Format { url: String },
    #[error("the playlist of {url} says nothing new any more")]
    Stale { url: String },
}

/// Which of several variants is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Choice {
    /// The one with the highest rate.
    #[default]
    Best,
    /// The one of that place, counted from 1 as the playlist has them.
    Place(usize),
    /// The best one that is no higher, in lines.
    Height(u32),
}

impl std::str::FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no variant: write `best`, its height (`720p`), or its place (`1` is the first)"
            )
        };
        if text == "best" {
            return Ok(Self::Best);
        }
        if let Some(height) = text.strip_suffix('p') {
            return height.parse().map(Self::Height).map_err(|_| wrong());
        }
        let place = text.parse().ok().filter(|place| *place > 0);
        place.map(Self::Place).ok_or_else(wrong)
    }
}

/// Opens a playlist as a source, the variant of `choice` if it has several.
pub async fn open(request: Request, choice: Choice) -> Result<Opened, Error> {
    let source = Hls::open(&request.text, choice, request.options.repeats).await;
    let source = source.map_err(|error| Error::Other(error.to_string()))?;
    Ok(Opened::One(Box::new(source)))
}

/// What a segment holds.
#[derive(Debug)]
enum Part {
    Description(Description),
    Frame(Frame),
}

type Parts = Result<Vec<Part>, HlsError>;

/// A stream that is pulled.
#[derive(Debug)]
pub(crate) struct Hls {
    parts: mpsc::Receiver<Parts>,
    fetching: AbortHandle,
    waiting: std::collections::VecDeque<Part>,
    timeline: Timeline,
    description: Option<Description>,
    pacing: Pacing,
    clock: Clock,
}

impl Drop for Hls {
    fn drop(&mut self) {
        self.fetching.abort();
    }
}

impl Hls {
    pub(crate) async fn open(text: &str, choice: Choice, repeats: bool) -> Result<Self, HlsError> {
        let mut fetcher = Fetcher::open(text.parse()?, choice).await?;
        fetcher.repeats = repeats;
        let (sender, parts) = mpsc::channel(SEGMENTS_AHEAD);
        let fetching = tokio::spawn(fetcher.run(sender)).abort_handle();
        let mut source = Self {
            parts,
            fetching,
            waiting: std::collections::VecDeque::new(),
            timeline: Timeline::new(),
            description: None,
            pacing: Pacing::default(),
            clock: Clock::start(),
        };
        // The tracks are what a source begins with.
        while source.waiting.is_empty() {
            match source.parts.recv().await {
                Some(parts) => source.waiting.extend(parts?),
                None => {
                    return Err(HlsError::Format {
                        url: super::shown(text),
                    });
                }
            }
        }
        Ok(source)
    }

    /// Waits for the next item; `None` at the end of a recording.
    pub(crate) async fn due(&mut self) -> Result<Option<Item>, HlsError> {
        loop {
            match self.waiting.pop_front() {
                Some(Part::Description(description)) => {
                    self.timeline.describe(&description);
                    if self.description.as_ref() != Some(&description) {
                        self.description = Some(description.clone());
                        return Ok(Some(Item::Description(description)));
                    }
                }
                Some(Part::Frame(frame)) => {
                    let Some(frame) = self.timeline.place(frame) else {
                        continue;
                    };
                    let track = self.description.as_ref();
                    let track = track.and_then(|description| description.track(frame.track));
                    let Some(track) = track else { continue };
                    let ticks = rescale(frame.dts, track.timescale, TS_TIMESCALE);
                    let held = self.waiting.len() + self.parts.len() * self.pacing.per_segment;
                    let due = self.pacing.due(ticks, held, self.clock.now());
                    self.clock.wait(due).await;
                    return Ok(Some(Item::Frame(frame)));
                }
                None => match self.parts.recv().await {
                    Some(parts) => {
                        let parts = parts?;
                        self.pacing.per_segment = parts.len();
                        self.waiting.extend(parts);
                    }
                    None => return Ok(None),
                },
            }
        }
    }
}

impl Source for Hls {
    fn next(&mut self) -> Pending<'_, Result<Option<Item>, Error>> {
        Box::pin(async {
            let item = self.due().await;
            item.map_err(|error| Error::Other(error.to_string()))
        })
    }
}

/// When frames are due.
#[derive(Debug, Default)]
struct Pacing {
    /// A time of the stream, and when it was due.
    anchor: Option<(i64, Instant)>,
    /// How many frames of a segment there are, and how many were held at the start.
    per_segment: usize,
    held: usize,
}

impl Pacing {
    /// When the frame of that time leaves, of which so many wait behind it.
    fn due(&mut self, ticks: i64, held: usize, now: Instant) -> Instant {
        let Some((from, at)) = self.anchor else {
            self.held = held;
            self.anchor = Some((ticks, now));
            return now;
        };
        let ahead = ticks.saturating_sub(from).max(0);
        // Twice as much as at the start: a little faster; less than half: slower.
        let faster = if held > self.held.max(1) * 2 {
            ahead / SLEW
        } else if held * 2 < self.held {
            -(ahead / SLEW)
        } else {
            0
        };
        let wait = u64::try_from(ahead - faster).unwrap_or(0);
        let due = at + Duration::from_nanos(wait.saturating_mul(100_000) / 9);
        if now.since(due) > LATE_MAX {
            self.anchor = Some((ticks, now));
            return now;
        }
        // Anew each second, so that the speed counts from now on.
        if ahead > i64::from(TS_TIMESCALE.get()) {
            self.anchor = Some((ticks, due));
        }
        due
    }
}

/// Knows where the playlist is and what of it comes next.
#[derive(Debug)]
struct Fetcher {
    client: Client,
    /// Where the playlist of segments is.
    url: Url,
    media: Media,
    repeats: bool,
    init: Option<(Map, Bytes)>,
    demuxer: Demuxer,
}

impl Fetcher {
    async fn open(url: Url, choice: Choice) -> Result<Self, HlsError> {
        let mut client = Client::default();
        let (at, list) = playlist(&mut client, &url).await?;
        let (url, media) = match list {
            Playlist::Media(media) => (at, media),
            Playlist::Variants(variants) => {
                let variant = choose(&variants, &choice, &at)?;
                if variant.has_sound_elsewhere {
                    tracing::warn!(
                        "the sound of {at} is in a playlist of its own, which is left out: the stream may be silent"
                    );
                }
                let url = at.join(&variant.uri)?;
                match playlist(&mut client, &url).await? {
                    (at, Playlist::Media(media)) => (at, media),
                    (at, Playlist::Variants(_)) => {
                        let (url, why) = (at.to_string(), PlaylistError::Empty);
                        return Err(HlsError::Playlist { url, why });
                    }
                }
            }
        };
        Ok(Self {
            client,
            url,
            media,
            repeats: false,
            init: None,
            demuxer: Demuxer::new(),
        })
    }

    async fn run(mut self, sender: mpsc::Sender<Parts>) {
        if let Err(error) = self.fetch(&sender).await {
            // Whoever waited may be gone.
            let _ = sender.send(Err(error)).await;
        }
    }

    async fn fetch(&mut self, sender: &mpsc::Sender<Parts>) -> Result<(), HlsError> {
        let mut next = self.begin();
        let mut news = tokio::time::Instant::now();
        loop {
            let (from, count) = (self.media.sequence, self.media.segments.len());
            let end = from.saturating_add(u64::try_from(count).unwrap_or(0));
            if next < from || next > end {
                tracing::warn!(
                    "{} went on without us, or began anew: we begin there",
                    self.url
                );
                next = self.begin();
                self.restart();
            }
            let place = usize::try_from(next.saturating_sub(from)).unwrap_or(usize::MAX);
            if let Some(segment) = self.media.segments.get(place).cloned() {
                next += 1;
                news = tokio::time::Instant::now();
                if segment.is_discontinuous {
                    self.restart();
                }
                if segment.is_gap {
                    continue;
                }
                let parts = self.segment(&segment).await;
                if sender.send(parts).await.is_err() {
                    return Ok(());
                }
                continue;
            }
            if self.media.is_ended {
                if !self.repeats {
                    return Ok(());
                }
                next = from;
                self.restart();
                continue;
            }
            let stale = Duration::from_secs_f64(self.media.target_seconds * STALE_TARGETS);
            if news.elapsed() > stale {
                let url = self.url.to_string();
                return Err(HlsError::Stale { url });
            }
            // Half a target after one that brought nothing new (RFC 8216 section 6.3.4).
            tokio::time::sleep(Duration::from_secs_f64(self.media.target_seconds / 2.0)).await;
            self.reload().await?;
        }
    }

    /// The number of the segment to begin with.
    fn begin(&self) -> u64 {
        let before = if self.media.is_ended {
            0
        } else {
            self.media.segments.len().saturating_sub(BEGIN_BEFORE_END)
        };
        let before = u64::try_from(before).unwrap_or(0);
        self.media.sequence.saturating_add(before)
    }

    fn restart(&mut self) {
        self.demuxer = Demuxer::new();
    }

    async fn reload(&mut self) -> Result<(), HlsError> {
        let mut tries = 0;
        loop {
            match playlist(&mut self.client, &self.url).await {
                Ok((_, Playlist::Media(media))) => {
                    self.media = media;
                    return Ok(());
                }
                Ok((_, Playlist::Variants(_))) => {
                    let (url, why) = (self.url.to_string(), PlaylistError::Empty);
                    return Err(HlsError::Playlist { url, why });
                }
                Err(error) => {
                    tries += 1;
                    if tries >= TRIES {
                        return Err(error);
                    }
                    tokio::time::sleep(PAUSE * tries).await;
                }
            }
        }
    }

    /// Fetches a segment and takes it apart.
    async fn segment(&mut self, segment: &Segment) -> Parts {
        if segment.is_encrypted {
            let url = self.url.to_string();
            return Err(HlsError::Encrypted { url });
        }
        let url = self.url.join(&segment.uri)?;
        if let Some(map) = &segment.map
            && self.init.as_ref().is_none_or(|(known, _)| known != map)
        {
            let at = self.url.join(&map.uri)?;
            let bytes = self.get(&at, map.range).await?;
            self.init = Some((map.clone(), bytes));
        }
        let bytes = match self.get(&url, segment.range).await {
            Ok(bytes) => bytes,
            // One that is not there is a hole; the next may be.
            Err(FetchError::Status { status: 404, .. }) => {
                tracing::warn!("{url} is listed and not there: it is left out");
                return Ok(Vec::new());
            }
            Err(error) => return Err(error.into()),
        };
        let init = self.init.as_ref().filter(|_| segment.map.is_some());
        match init {
            Some((_, init)) => fragment(init, &bytes),
            None if ts::looks_like(&bytes) => Some(self.transport_stream(&bytes)),
            None => fragment(&Bytes::new(), &bytes),
        }
        .ok_or_else(|| HlsError::Format {
            url: url.to_string(),
        })
    }

    async fn get(
        &mut self,
        url: &Url,
        range: Option<super::playlist::Range>,
    ) -> Result<Bytes, FetchError> {
        let mut tries = 0;
        loop {
            match self.client.get(url, range, SEGMENT_BYTES_MAX).await {
                Ok((_, bytes)) => return Ok(bytes),
                Err(
                    error @ (FetchError::Status { status: 404, .. } | FetchError::TooLarge { .. }),
                ) => {
                    return Err(error);
                }
                Err(error) => {
                    tries += 1;
                    if tries >= TRIES {
                        return Err(error);
                    }
                    tokio::time::sleep(PAUSE * tries).await;
                }
            }
        }
    }

    fn transport_stream(&mut self, bytes: &[u8]) -> Vec<Part> {
        let mut events = Vec::new();
        self.demuxer.push(bytes, &mut events);
        let errors = self.demuxer.take_errors();
        if let Some(first) = errors.first() {
            tracing::debug!(errors = errors.len(), %first, "a segment is damaged");
        }
        let part = |event| match event {
            Event::Description(description) => Some(Part::Description(description)),
            Event::Frame(frame) => Some(Part::Frame(frame)),
            _ => None,
        };
        events.into_iter().filter_map(part).collect()
    }
}

/// The frames of a fragment behind its init segment; none if it is no such thing.
fn fragment(init: &Bytes, segment: &Bytes) -> Option<Vec<Part>> {
    let file = [&init[..], segment].concat();
    let mut reader = Reader::open(Cursor::new(file)).ok()?;
    let mut parts = vec![Part::Description(reader.description().clone())];
    // One that breaks off is taken as far as it goes.
    while let Ok(Some(frame)) = reader.next_frame() {
        parts.push(Part::Frame(frame));
    }
    Some(parts)
}

async fn playlist(client: &mut Client, url: &Url) -> Result<(Url, Playlist), HlsError> {
    let (at, bytes) = client.get(url, None, PLAYLIST_BYTES_MAX).await?;
    let text = String::from_utf8_lossy(&bytes);
    match Playlist::parse(&text) {
        Ok(playlist) => Ok((at, playlist)),
        Err(why) => {
            let url = at.to_string();
            Err(HlsError::Playlist { url, why })
        }
    }
}

/// The variant that is wanted.
fn choose<'a>(
    variants: &'a [Variant],
    choice: &Choice,
    url: &Url,
) -> Result<&'a Variant, HlsError> {
    let rate = |variant: &&Variant| variant.bandwidth_bps;
    let found = match choice {
        Choice::Best => variants.iter().max_by_key(rate),
        Choice::Place(place) => variants.get(place - 1),
        Choice::Height(height) => {
            let fits = |variant: &&Variant| variant.resolution.is_some_and(|(_, h)| h <= *height);
            variants.iter().filter(fits).max_by_key(rate)
        }
    };
    found.ok_or_else(|| {
        let known = variants.iter().enumerate().map(|(at, variant)| {
            let height = variant
                .resolution
                .map_or_else(String::new, |(_, h)| format!(" ({h}p)"));
            format!("{}{height}", at + 1)
        });
        HlsError::Variant {
            url: url.to_string(),
            wanted: match choice {
                Choice::Best => "at all".to_owned(),
                Choice::Place(place) => place.to_string(),
                Choice::Height(height) => format!("{height}p or lower"),
            },
            known: known.collect::<Vec<_>>().join(", "),
        }
    })
}
