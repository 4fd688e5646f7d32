//! What is played, as one transport stream without a seam.
//!
//! An origin that starts again starts its times again; here they go on ([`crate::Rebase`]), from the start of a group.
//! The test card's clock stays behind: it is for Levada's own measurements, and other programs only complain about a
//! track they do not know. Not the place it goes to (`target.rs`). Called by `play`. Invariant: the times of a track
//! never fall, and continuity counters never break.

use crate::Rebase;
use crate::testcard::CLOCK_CODEC;
use crate::ts::{MuxError, Muxer, Omission};
use levada_wire::{Description, Frame, TrackId};

/// Turns frames into a transport stream.
#[derive(Debug)]
pub struct Writer {
    muxer: Option<Muxer>,
    rebase: Rebase,
    /// The next description is of another instance.
    is_new_instance: bool,
    /// Tracks that the caller was told about.
    told: Vec<TrackId>,
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// A writer that waits for a description.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            muxer: None,
            rebase: Rebase::from_zero(),
            is_new_instance: true,
            told: Vec::new(),
        }
    }

    /// What follows is of another instance.
    pub const fn new_instance(&mut self) {
        self.is_new_instance = true;
    }

    /// The tracks are these. Returns those that are left out, each once in the life of a writer: its codec, and why.
    pub fn describe(&mut self, description: &Description) -> Vec<(TrackId, String, Omission)> {
        let mut description = description.clone();
        description
            .tracks
            .retain(|track| track.codec != CLOCK_CODEC);
        let description = &description;
        if std::mem::replace(&mut self.is_new_instance, false) {
            self.rebase.start_instance(description);
        } else {
            self.rebase.set_description(description);
        }
        match &mut self.muxer {
            Some(muxer) => muxer.set_description(description),
            none => *none = Some(Muxer::new(description)),
        }
        self.newly_omitted(description)
    }

    /// Appends a frame to `out`.
    ///
    /// # Errors
    ///
    /// When its track cannot carry it; the next frame is another matter.
    pub fn write(&mut self, frame: Frame, out: &mut Vec<u8>) -> Result<(), MuxError> {
        let (Some(muxer), Some(frame)) = (&mut self.muxer, self.rebase.shift(frame)) else {
            return Ok(());
        };
        muxer.push(&frame, out)
    }

    fn newly_omitted(&mut self, description: &Description) -> Vec<(TrackId, String, Omission)> {
        let mut omitted = Vec::new();
        for (id, why) in self.muxer.as_ref().map_or(&[][..], Muxer::omitted) {
            if !self.told.contains(id) {
                self.told.push(*id);
                let track = description.track(*id);
                let codec = track.map_or("unknown", |track| &track.codec).to_owned();
                omitted.push((*id, codec, *why));
            }
        }
        omitted
    }
}
