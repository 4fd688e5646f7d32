//! From bytes of a transport stream to the items of a source, and what was wrong with them, said rarely.
//!
//! Not the reading (`clip.rs`, `pipe.rs`) and not the waiting. Invariant: a stream that goes wrong once a packet is a
//! line in the log once a minute.

use std::num::NonZeroU16;
use std::time::Duration;

use crate::clock::Clock;
use crate::ts::{Demuxer, Event};
use levada_wire::{Description, Frame, Instant, NetworkId};

use super::Error;

/// How often at most the log says that a source is damaged.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// A demuxer that keeps count of what it passed over.
#[derive(Debug)]
pub(super) struct Reader {
    demuxer: Demuxer,
    wanted: Option<NonZeroU16>,
    events: Vec<Event>,
    /// Errors that the log does not know of.
    unsaid: u64,
    said: Option<Instant>,
    /// What is left out was said.
    is_introduced: bool,
    clock: Clock,
}

impl Reader {
    /// A reader of that program, or of the first.
    pub(super) fn new(wanted: Option<NonZeroU16>) -> Self {
        Self {
            demuxer: demuxer(wanted),
            wanted,
            events: Vec::new(),
            unsaid: 0,
            said: None,
            is_introduced: false,
            clock: Clock::start(),
        }
    }

    /// Forgets the stream and expects its beginning.
    pub(super) fn restart(&mut self) {
        self.demuxer = demuxer(self.wanted);
    }

    /// Whether the stream has the program that is wanted, as far as that is known yet.
    pub(super) fn check(&self) -> Result<(), Error> {
        let Some(wanted) = self.wanted else {
            return Ok(());
        };
        let programs: Vec<u16> = self.demuxer.programs().collect();
        if programs.is_empty() || programs.contains(&wanted.get()) {
            return Ok(());
        }
        Err(Error::NoProgram { wanted, programs })
    }

    /// The network whose node writes the stream, if one does.
    pub(super) fn network(&self) -> Option<NetworkId> {
        self.demuxer.network()
    }

    /// Takes bytes and gives what they complete to `take`.
    pub(super) fn push(&mut self, bytes: &[u8], take: impl FnMut(Part)) {
        self.demuxer.push(bytes, &mut self.events);
        self.hand_out(take);
    }

    /// The stream is at its end.
    pub(super) fn finish(&mut self, take: impl FnMut(Part)) {
        self.demuxer.finish(&mut self.events);
        self.hand_out(take);
    }

    fn hand_out(&mut self, mut take: impl FnMut(Part)) {
        if !self.events.is_empty() && !std::mem::replace(&mut self.is_introduced, true) {
            self.introduce();
        }
        for event in self.events.drain(..) {
            match event {
                Event::Description(description) => take(Part::Description(description)),
                Event::Frame(frame) => take(Part::Frame(frame)),
                // Jumps of time are seen where times are set (`timeline.rs`), losses are among the errors.
                _ => {}
            }
        }
        self.report();
    }

    /// Says which programs are left out.
    fn introduce(&self) {
        let Some(program) = self.demuxer.program() else {
            return;
        };
        let others: Vec<u16> = self
            .demuxer
            .programs()
            .filter(|other| *other != program)
            .collect();
        if !others.is_empty() {
            tracing::warn!(
                "of the transport stream's programs {program} is published; left out: {}; \
                 choose with `--program NUMBER`",
                listed(&others)
            );
        }
    }

    fn report(&mut self) {
        let errors = self.demuxer.take_errors();
        let Some(first) = errors.first() else {
            return;
        };
        let now = self.clock.now();
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

fn demuxer(wanted: Option<NonZeroU16>) -> Demuxer {
    wanted.map_or_else(Demuxer::new, |number| Demuxer::with_program(number.get()))
}

/// Numbers as people read them.
pub(super) fn listed(numbers: &[u16]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u16::to_string).collect();
    numbers.join(", ")
}
