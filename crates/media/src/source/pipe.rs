//! MPEG-TS that comes by itself as a source: standard input (`-`), ffmpeg's output, datagrams.
//!
//! A pipe may be live (a camera behind ffmpeg) or fast (a file behind cat), and it does not say which. So frames
//! leave as they come until they run ahead of the clock: see [`Governor`]. Called by `source.rs`, `ffmpeg.rs` and
//! `udp.rs`. Invariant: a live pipe is never held up, and a fast one does not flood the network.

use std::collections::VecDeque;
use std::io::{IsTerminal as _, Read as _};
use std::time::Duration;

use crate::ts;
use bytes::Bytes;
use levada_wire::{Frame, Instant, NetworkId};
use tokio::sync::mpsc;

use super::clip::CHUNK_BYTES;
use super::demux::{Part, Reader};
use super::timeline::Timeline;
use super::{Error, Item, Options, Pending, Source, ffmpeg};
use crate::clock::Clock;

/// Chunks between who reads and the pipe. When they are full the pipe's writer waits.
pub(super) const CHUNKS_MAX: usize = 16;
/// Bytes in which a stream's tracks must have been named: tables come ten times a second.
const PROBE_BYTES_MAX: usize = 8 << 20;
/// Bytes that are enough to see that something is no transport stream.
const LOOK_BYTES: usize = 16 << 10;

/// A transport stream that comes in chunks and is being played.
#[derive(Debug)]
pub(super) struct Pipe {
    chunks: Chunks,
    origin: Origin,
    /// The network that is published to.
    network: Option<NetworkId>,
    reader: Reader,
    timeline: Timeline,
    items: VecDeque<Item>,
    /// The chunk that the items came from had to be waited for.
    waited: bool,
    governor: Governor,
    clock: Clock,
    is_at_end: bool,
}

/// What comes, until there is no more.
type Chunks = mpsc::Receiver<Result<Bytes, Error>>;

/// Where a transport stream comes from.
#[derive(Debug)]
pub(super) enum Origin {
    /// Standard input.
    Stdin,
    /// ffmpeg, which ends with this.
    Ffmpeg {
        shown: String,
        #[expect(dead_code, reason = "it is held for what its drop does")]
        end: ffmpeg::End,
    },
    /// Datagrams, which somebody sends when they are due.
    Datagrams(String),
}

impl Origin {
    /// It ended before anything came.
    fn nothing(&self) -> Error {
        match self {
            Self::Stdin => Error::NothingPiped,
            Self::Ffmpeg { shown, .. } => Error::NoTracks(shown.into()),
            Self::Datagrams(url) => Error::NoTransportStreamFrom(url.clone()),
        }
    }

    /// What comes is something else.
    fn no_stream(&self) -> Error {
        match self {
            Self::Stdin => Error::NoTransportStreamPiped,
            _ => self.nothing(),
        }
    }
}

/// Opens standard input.
pub(super) async fn open_stdin(options: Options) -> Result<Pipe, Error> {
    if std::io::stdin().is_terminal() {
        return Err(Error::Terminal);
    }
    Pipe::open(read_in_background()?, Origin::Stdin, options).await
}

impl Pipe {
    /// Reads until the stream's tracks are known.
    pub(super) async fn open(
        chunks: Chunks,
        origin: Origin,
        options: Options,
    ) -> Result<Self, Error> {
        let mut pipe = Self {
            chunks,
            origin,
            network: options.network,
            reader: Reader::new(options.program),
            timeline: Timeline::new(),
            items: VecDeque::new(),
            waited: false,
            governor: Governor::default(),
            clock: Clock::start(),
            is_at_end: false,
        };
        let mut beginning = Vec::new();
        let mut bytes = 0;
        while pipe.items.is_empty() {
            let Some(chunk) = pipe.read().await? else {
                pipe.end();
                break;
            };
            bytes += chunk.len();
            if beginning.len() < LOOK_BYTES {
                beginning.extend_from_slice(&chunk);
                if beginning.len() >= LOOK_BYTES && !ts::looks_like(&beginning) {
                    return Err(pipe.origin.no_stream());
                }
            }
            pipe.take(&chunk)?;
            pipe.reader.check()?;
            if bytes >= PROBE_BYTES_MAX {
                break;
            }
        }
        match pipe.items.front() {
            None if bytes == 0 => Err(pipe.origin.nothing()),
            Some(Item::Description(description)) => {
                if let Origin::Ffmpeg { shown, .. } = &pipe.origin {
                    ffmpeg::check(description, shown)?;
                }
                Ok(pipe)
            }
            _ => Err(pipe.origin.no_stream()),
        }
    }

    /// Waits for the next item; `None` when the pipe is closed.
    async fn due(&mut self) -> Result<Option<Item>, Error> {
        loop {
            match self.items.pop_front() {
                Some(Item::Frame(frame)) => {
                    // Whoever sends datagrams sends them when they are due.
                    if !matches!(self.origin, Origin::Datagrams(_)) {
                        let (media, now) = (micros(&frame), self.clock.now());
                        let due = self.governor.due(media, self.waited, now);
                        self.clock.wait(due).await;
                    }
                    return Ok(Some(Item::Frame(frame)));
                }
                Some(description) => return Ok(Some(description)),
                None if self.is_at_end => return Ok(None),
                None => match self.read().await? {
                    Some(chunk) => self.take(&chunk)?,
                    None => self.end(),
                },
            }
        }
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Error> {
        let ready = self.chunks.try_recv().ok();
        self.waited = ready.is_none();
        let chunk = match ready {
            Some(chunk) => Some(chunk),
            None => self.chunks.recv().await,
        };
        chunk.transpose()
    }

    /// Takes in bytes. Another sender may follow at any time, so each time it is asked whose they are.
    fn take(&mut self, chunk: &[u8]) -> Result<(), Error> {
        let Self {
            reader,
            timeline,
            items,
            ..
        } = self;
        reader.push(chunk, |part| put(part, timeline, items));
        match &self.origin {
            Origin::Datagrams(url)
                if self.network.is_some() && self.reader.network() == self.network =>
            {
                Err(Error::OwnOutput(url.clone()))
            }
            _ => Ok(()),
        }
    }

    fn end(&mut self) {
        let Self {
            reader,
            timeline,
            items,
            ..
        } = self;
        reader.finish(|part| put(part, timeline, items));
        self.is_at_end = true;
    }
}

impl Source for Pipe {
    fn next(&mut self) -> Pending<'_, Result<Option<Item>, Error>> {
        Box::pin(self.due())
    }
}

fn put(part: Part, timeline: &mut Timeline, items: &mut VecDeque<Item>) {
    match part {
        Part::Description(description) => {
            timeline.describe(&description);
            items.push_back(Item::Description(description));
        }
        Part::Frame(frame) => items.extend(timeline.place(frame).map(Item::Frame)),
    }
}

/// A frame's decoding time: from a transport stream, 90 ticks a millisecond.
const fn micros(frame: &Frame) -> i64 {
    frame.dts.saturating_mul(100) / 9
}

/// Reads standard input on a thread of its own: a read that waits cannot be called off, and must not hold up the end
/// of the process.
fn read_in_background() -> Result<Chunks, Error> {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let read = move || {
        let mut input = std::io::stdin().lock();
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let chunk = match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(bytes) => Ok(Bytes::copy_from_slice(&buffer[..bytes])),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => Err(Error::unreadable("standard input")(error)),
            };
            let is_end = chunk.is_err();
            if sender.blocking_send(chunk).is_err() || is_end {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(read)
        .map_err(Error::unreadable("standard input in a thread of its own"))?;
    Ok(receiver)
}

/// Says when a frame of a pipe may leave.
///
/// A frame's *lead* is how much more media than time has passed since the anchor. A live pipe's lead stays about
/// zero, whatever its jitter; a fast pipe's grows. A frame leaves at once while its lead is within what is allowed:
///
/// - a second, if the pipe had to be waited for: whoever lets us wait is live, or only a little faster;
/// - else a quarter of the time since the anchor, at most that second, so that a fast pipe does not begin with a
///   flood, and a live one that begins with a backlog gets rid of it.
///
/// Clocks drift: while the pipe has to be waited for, its lead fades by a thousandth of the time that passes.
#[derive(Clone, Copy, Debug, Default)]
struct Governor {
    anchor: Option<Anchor>,
}

#[derive(Clone, Copy, Debug)]
struct Anchor {
    /// This moment of media was due at that time.
    media: i64,
    at: Instant,
    newest: i64,
    /// When the lead faded last.
    faded: Instant,
}

/// The most that a pipe may run ahead of the clock.
const LEAD_MAX: Duration = Duration::from_secs(1);
/// A pipe that is later than this was stopped, and starts afresh.
const LATE_MAX: Duration = Duration::from_secs(10);
/// Of the time since the anchor, the part that a fast pipe may gain: one in this many.
const GAIN: u32 = 4;
/// Of the time that passes, the part by which a lead fades: one in this many. Ten times what clocks drift.
const FADE: u32 = 1_000;

impl Governor {
    /// When the next frame, at `media` microseconds, may leave. It may lie behind `now`: then at once.
    fn due(&mut self, media: i64, waited: bool, now: Instant) -> Instant {
        let anchor = match self.anchor {
            Some(anchor) if anchor.is_sane(media, now) => anchor,
            _ => Anchor {
                media,
                at: now,
                newest: media,
                faded: now,
            },
        };
        let mut anchor = Anchor {
            newest: anchor.newest.max(media),
            ..anchor
        };
        if waited {
            anchor.fade(now);
        }
        self.anchor = Some(anchor);
        let on_time = anchor.time_of(anchor.newest);
        let since = on_time.since(anchor.at);
        if waited {
            return on_time - LEAD_MAX;
        }
        // `now + lead = on_time` where lead is a quarter of `now - anchor.at`.
        let ramp = since * GAIN / (GAIN + 1);
        anchor.at + ramp.max(since.saturating_sub(LEAD_MAX))
    }
}

impl Anchor {
    /// Whether times go on: no step of media beyond ten seconds, and not stopped for that long.
    fn is_sane(&self, media: i64, now: Instant) -> bool {
        let step = Duration::from_micros(media.abs_diff(self.newest));
        step <= LATE_MAX && now.since(self.time_of(media)) <= LATE_MAX
    }

    fn time_of(&self, media: i64) -> Instant {
        let since = u64::try_from(media.saturating_sub(self.media)).unwrap_or(0);
        self.at + Duration::from_micros(since)
    }

    fn fade(&mut self, now: Instant) {
        let lead = self.time_of(self.newest).since(now);
        let fading = (now.since(self.faded) / FADE).min(lead);
        // Moments closer than a microsecond's worth of fading add up.
        if let Ok(micros @ 1..) = i64::try_from(fading.as_micros()) {
            self.media = self.media.saturating_add(micros);
            self.faded = now;
        } else if lead.is_zero() {
            self.faded = now;
        }
    }
}

#[cfg(test)]
mod tests;
