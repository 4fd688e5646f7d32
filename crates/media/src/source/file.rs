//! An MPEG-TS file as a source, played as fast as it was recorded, again and again if wanted.
//!
//! ```text
//! bytes ─▶ demuxer ─▶ order of times ─▶ loop ─▶ timeline from zero ─▶ wait until due
//! ```
//!
//! Called by `source.rs` and `folder.rs`. Invariant: a file that holds no stream is refused by name when it is opened.

use std::collections::VecDeque;
use std::io::SeekFrom;
use std::path::{Path, PathBuf};

use crate::ticks::TS_TIMESCALE;
use crate::{Interleaver, Looper, Pacer, ts};
use levada_wire::{Description, Frame, MediaTime};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::demux::{Part, Reader};
use super::timeline::Timeline;
use super::{Error, Item, Options};
use crate::clock::Clock;

/// What is read at once.
pub(super) const CHUNK_BYTES: usize = 64 << 10;

/// A file that is being played.
#[derive(Debug)]
pub(super) struct Feed {
    path: PathBuf,
    file: File,
    chunk: Vec<u8>,
    reader: Reader,
    stage: Stage,
    repeats: bool,
    is_at_end: bool,
    pacer: Pacer,
    clock: Clock,
}

/// What is between the demuxer and the moment a frame is due.
#[derive(Debug)]
struct Stage {
    description: Description,
    /// The tracks changed within the file, so that its rounds do not join without a seam.
    has_changed: bool,
    interleaver: Interleaver,
    looper: Looper,
    timeline: Timeline,
    items: VecDeque<Item>,
}

impl Feed {
    /// Opens a file and reads until its tracks are known.
    pub(super) async fn open(path: &Path, options: Options) -> Result<Self, Error> {
        let file = File::open(path).await;
        let file = file.map_err(Error::unreadable(path.display().to_string()))?;
        let mut feed = Self {
            path: path.to_owned(),
            file,
            chunk: vec![0; CHUNK_BYTES],
            reader: Reader::new(),
            stage: Stage::new(),
            repeats: options.repeats,
            is_at_end: false,
            pacer: Pacer::new(),
            clock: Clock::start(),
        };
        let bytes = feed.read().await?;
        if bytes == 0 {
            return Err(Error::Empty(feed.path));
        }
        if !ts::looks_like(&feed.chunk[..bytes]) {
            return Err(Error::NoTransportStream(feed.path));
        }
        feed.take(bytes);
        while feed.stage.items.is_empty() && feed.advance().await? {}
        if feed.stage.items.is_empty() {
            return Err(Error::NoTracks(feed.path));
        }
        Ok(feed)
    }

    /// Waits for the next item; `None` at the end of the file.
    pub(super) async fn next(&mut self) -> Result<Option<Item>, Error> {
        loop {
            match self.stage.items.pop_front() {
                Some(Item::Frame(frame)) => {
                    let dts = MediaTime {
                        ticks: frame.dts,
                        timescale: TS_TIMESCALE,
                    };
                    self.clock.wait(self.pacer.due(dts, self.clock.now())).await;
                    return Ok(Some(Item::Frame(frame)));
                }
                Some(description) => return Ok(Some(description)),
                None if !self.advance().await? => return Ok(None),
                None => {}
            }
        }
    }

    /// Reads on; false at the end.
    async fn advance(&mut self) -> Result<bool, Error> {
        if self.is_at_end {
            return Ok(false);
        }
        match self.read().await? {
            0 => self.end_round().await?,
            bytes => self.take(bytes),
        }
        Ok(true)
    }

    async fn read(&mut self) -> Result<usize, Error> {
        let bytes = self.file.read(&mut self.chunk).await;
        bytes.map_err(|error| Error::unreadable(format!("on in {}", self.path.display()))(error))
    }

    fn take(&mut self, bytes: usize) {
        let (stage, now) = (&mut self.stage, self.clock.now());
        self.reader
            .push(&self.chunk[..bytes], now, |part| stage.take(part));
    }

    /// The file is at its end: of this round, or of all.
    async fn end_round(&mut self) -> Result<(), Error> {
        let (stage, now) = (&mut self.stage, self.clock.now());
        self.reader.finish(now, |part| stage.take(part));
        self.stage.flush();
        // A file without frames would go round and round without ever waiting.
        if !self.repeats || self.reader.frames() == 0 {
            self.is_at_end = true;
            return Ok(());
        }
        let start = self.file.seek(SeekFrom::Start(0)).await;
        start.map_err(|error| {
            Error::unreadable(format!("{} again from its start", self.path.display()))(error)
        })?;
        self.reader.restart();
        self.stage.rewind();
        Ok(())
    }
}

impl Stage {
    fn new() -> Self {
        let none = Description::default();
        Self {
            interleaver: Interleaver::new(&none),
            looper: Looper::new(&none),
            timeline: Timeline::new(),
            description: none,
            has_changed: false,
            items: VecDeque::new(),
        }
    }

    fn take(&mut self, part: Part) {
        match part {
            Part::Frame(frame) => {
                let mut frames = Vec::new();
                self.interleaver.push(frame, &mut frames);
                self.place(frames);
            }
            Part::Description(description) if description == self.description => {}
            Part::Description(description) => {
                self.flush();
                self.interleaver = Interleaver::new(&description);
                if self.description.tracks.is_empty() {
                    self.looper = Looper::new(&description);
                } else {
                    self.has_changed = true;
                }
                self.timeline.describe(&description);
                self.items.push_back(Item::Description(description.clone()));
                self.description = description;
            }
        }
    }

    /// Lets go of what waits for its place in the order of times.
    fn flush(&mut self) {
        let mut frames = Vec::new();
        self.interleaver.finish(&mut frames);
        self.place(frames);
    }

    fn place(&mut self, frames: Vec<Frame>) {
        for frame in frames {
            let placed = self.timeline.place(self.looper.shift(frame));
            self.items.extend(placed.map(Item::Frame));
        }
    }

    /// The file begins anew. Where its tracks changed, the timeline sees times that fall and joins the rounds.
    fn rewind(&mut self) {
        if !self.has_changed {
            self.looper.rewind();
        }
    }
}

#[cfg(test)]
mod tests;
