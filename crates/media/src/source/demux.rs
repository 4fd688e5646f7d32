//! From bytes of a transport stream to the items of a feed, and what was wrong with them, said rarely.
//!
//! Not the reading (`file.rs`, `pipe.rs`) and not the waiting. Invariant: a stream that goes wrong once a packet is a
//! line in the log once a minute.

use std::time::Duration;

use crate::ts::{Demuxer, Event};
use levada_wire::{Description, Frame, Instant};

/// How often at most the log says that a source is damaged.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// A demuxer that keeps count of what it passed over.
#[derive(Debug)]
pub(super) struct Reader {
    demuxer: Demuxer,
    events: Vec<Event>,
    /// Errors that the log does not know of.
    unsaid: u64,
    said: Option<Instant>,
    /// Frames that came out.
    frames: u64,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            demuxer: Demuxer::new(),
            events: Vec::new(),
            unsaid: 0,
            said: None,
            frames: 0,
        }
    }

    /// Forgets the stream and expects its beginning.
    pub(super) fn restart(&mut self) {
        self.demuxer = Demuxer::new();
        self.frames = 0;
    }

    /// Frames since the beginning of the stream.
    pub(super) const fn frames(&self) -> u64 {
        self.frames
    }

    /// Takes bytes and gives what they complete to `take`.
    pub(super) fn push(&mut self, bytes: &[u8], now: Instant, take: impl FnMut(Part)) {
        self.demuxer.push(bytes, &mut self.events);
        self.hand_out(now, take);
    }

    /// The stream is at its end.
    pub(super) fn finish(&mut self, now: Instant, take: impl FnMut(Part)) {
        self.demuxer.finish(&mut self.events);
        self.hand_out(now, take);
    }

    fn hand_out(&mut self, now: Instant, mut take: impl FnMut(Part)) {
        for event in self.events.drain(..) {
            match event {
                Event::Description(description) => take(Part::Description(description)),
                Event::Frame(frame) => {
                    self.frames += 1;
                    take(Part::Frame(frame));
                }
                // Jumps of time are seen where times are set (`timeline.rs`), losses are among the errors.
                _ => {}
            }
        }
        self.report(now);
    }

    fn report(&mut self, now: Instant) {
        let errors = self.demuxer.take_errors();
        let Some(first) = errors.first() else {
            return;
        };
        self.unsaid += u64::try_from(errors.len()).unwrap_or(u64::MAX);
        if self.said.is_some_and(|said| now.since(said) < SAY_EVERY) {
            return;
        }
        tracing::warn!(errors = self.unsaid, first = %first, "the source is damaged; what can be read is published");
        self.unsaid = 0;
        self.said = Some(now);
    }
}

/// What a demuxer gives: tracks, or a frame of one.
#[derive(Debug)]
pub(super) enum Part {
    Description(Description),
    Frame(Frame),
}
