//! A file as a source, played as fast as it was recorded, again and again if wanted.
//!
//! ```text
//! clip ─▶ order of times ─▶ loop ─▶ timeline from zero ─▶ wait until due
//! ```
//!
//! Not the formats (`clip.rs`). Called by `source.rs` and `folder.rs`. Invariant: a file that holds no stream is
//! refused by name when it is opened.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::ticks::TS_TIMESCALE;
use crate::{Interleaver, Looper, Pacer};
use levada_wire::{Description, Frame, MediaTime};

use super::clip::{self, Clip};
use super::demux::Part;
use super::timeline::Timeline;
use super::{Error, Item, Options, Pending, Source, sdp};
use crate::clock::Clock;

/// Opens a file, whatever it holds.
pub(super) async fn open(path: &Path, options: Options) -> Result<Box<dyn Source>, Error> {
    let owned = path.to_owned();
    let kind = blocking(move || clip::open(&owned, options)).await?;
    Ok(match kind {
        clip::Kind::Clip(clip) => Box::new(Recording::open(path, clip, options).await?),
        clip::Kind::Session(text) => Box::new(sdp::open(path, &text).await?),
    })
}

/// A recording that is being played.
#[derive(Debug)]
pub(super) struct Recording {
    path: PathBuf,
    /// Away while it is read.
    clip: Option<Box<dyn Clip>>,
    stage: Stage,
    repeats: bool,
    is_at_end: bool,
    pacer: Pacer,
    clock: Clock,
}

/// What is between the recording and the moment a frame is due.
#[derive(Debug)]
struct Stage {
    description: Description,
    /// The tracks changed within the file, so that its rounds do not join without a seam.
    has_changed: bool,
    interleaver: Interleaver,
    looper: Looper,
    timeline: Timeline,
    items: VecDeque<(Item, MediaTime)>,
    /// Frames of this round.
    frames: u64,
}

impl Recording {
    /// Reads until the tracks are known.
    async fn open(path: &Path, clip: Box<dyn Clip>, options: Options) -> Result<Self, Error> {
        let mut recording = Self {
            path: path.to_owned(),
            clip: Some(clip),
            stage: Stage::new(),
            repeats: options.repeats,
            is_at_end: false,
            pacer: Pacer::new(),
            clock: Clock::start(),
        };
        while recording.stage.items.is_empty() && recording.advance().await? {}
        if recording.stage.items.is_empty() {
            return Err(Error::NoTracks(recording.path));
        }
        Ok(recording)
    }

    /// Waits for the next item; `None` at the end of the file.
    async fn due(&mut self) -> Result<Option<Item>, Error> {
        loop {
            match self.stage.items.pop_front() {
                Some((item @ Item::Frame(_), dts)) => {
                    self.clock.wait(self.pacer.due(dts, self.clock.now())).await;
                    return Ok(Some(item));
                }
                Some((description, _)) => return Ok(Some(description)),
                None if !self.advance().await? => return Ok(None),
                None => {}
            }
        }
    }

    /// Reads on; false at the end.
    async fn advance(&mut self) -> Result<bool, Error> {
        let Some(mut clip) = self.clip.take().filter(|_| !self.is_at_end) else {
            return Ok(false);
        };
        let (clip, parts, is_more) = blocking(move || {
            let mut parts = Vec::new();
            let is_more = clip.read(&mut parts);
            (clip, parts, is_more)
        })
        .await;
        for part in parts {
            self.stage.take(part);
        }
        let is_more = is_more?;
        self.clip = Some(clip);
        if !is_more {
            self.end_round().await?;
        }
        Ok(true)
    }

    /// The file is at its end: of this round, or of all.
    async fn end_round(&mut self) -> Result<(), Error> {
        self.stage.flush();
        // A file without frames would go round and round without ever waiting.
        if !self.repeats || self.stage.frames == 0 {
            self.is_at_end = true;
            return Ok(());
        }
        let Some(mut clip) = self.clip.take() else {
            return Ok(());
        };
        let (clip, rewound) = blocking(move || {
            let rewound = clip.rewind();
            (clip, rewound)
        })
        .await;
        rewound?;
        self.clip = Some(clip);
        self.stage.rewind();
        Ok(())
    }
}

impl Source for Recording {
    fn next(&mut self) -> Pending<'_, Result<Option<Item>, Error>> {
        Box::pin(self.due())
    }
}

/// Does what may wait for a disk on a thread that may wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and whoever waits with it.
            Err(_) => std::future::pending().await,
        },
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
            frames: 0,
        }
    }

    fn take(&mut self, part: Part) {
        match part {
            Part::Frame(frame) => {
                self.frames += 1;
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
                let at_once = MediaTime {
                    ticks: 0,
                    timescale: TS_TIMESCALE,
                };
                self.items
                    .push_back((Item::Description(description.clone()), at_once));
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
            let mut tracks = self.description.tracks.iter();
            let track = tracks.find(|track| track.id == frame.track);
            let timescale = track.map_or(TS_TIMESCALE, |track| track.timescale);
            if let Some(frame) = self.timeline.place(self.looper.shift(frame)) {
                let ticks = frame.dts;
                let dts = MediaTime { ticks, timescale };
                self.items.push_back((Item::Frame(frame), dts));
            }
        }
    }

    /// The file begins anew. Where its tracks changed, the timeline sees times that fall and joins the rounds.
    fn rewind(&mut self) {
        self.frames = 0;
        if !self.has_changed {
            self.looper.rewind();
        }
    }
}

#[cfg(test)]
mod tests;
