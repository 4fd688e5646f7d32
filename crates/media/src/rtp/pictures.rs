//! Pictures out of packets: where one begins and ends, and when it is damaged.
//!
//! Packets of one picture have one time, and the marker stands on the last. Where a packet is missing, the picture
//! it may have belonged to is left out: the one in the making, or the next, unless that provably begins with the
//! packet that follows. Not the formats: each of them is a [`Video`]. Called by the unpacker. Invariant: a frame
//! comes out whole or not at all, and holds at most [`FRAME_BYTES_MAX`].

use std::fmt::Debug;

use bytes::BytesMut;
use levada_wire::frame::FRAME_BYTES_MAX;

use super::packet::Packet;
use super::unpacker::{Fault, Unit};
use crate::nal::Picture;

/// A payload format for video.
pub(super) trait Video: Debug + Send + Sync {
    /// Whether a picture begins with this payload, whatever was lost before it.
    fn begins(&self, payload: &[u8]) -> bool;
    /// Adds a payload to the picture in the making.
    fn add(&mut self, payload: &[u8], picture: &mut BytesMut) -> Result<(), Fault>;
    /// The picture has ended: its bytes are brought into their form. `None`: it was none, only parameters.
    fn finish(&mut self, picture: &mut BytesMut) -> Result<Option<Picture>, Fault>;
    /// The picture in the making is given up.
    fn reset(&mut self);
    /// By how many pictures decoding and showing may differ, as far as is known.
    fn reorder(&self) -> usize {
        0
    }
}

/// Gathers the pictures of a track.
#[derive(Debug)]
pub(super) struct Pictures {
    video: Box<dyn Video>,
    picture: BytesMut,
    /// The time of the picture in the making, and whether it is still whole.
    open: Option<(u32, bool)>,
    /// Packets that are missing since the last one, as they may be before the first.
    lost: u32,
    /// The sender sets markers.
    marks: bool,
}

impl Pictures {
    pub(super) fn new(video: Box<dyn Video>) -> Self {
        Self {
            video,
            picture: BytesMut::new(),
            open: None,
            lost: u32::MAX,
            marks: false,
        }
    }

    pub(super) fn reorder(&self) -> usize {
        self.video.reorder()
    }

    /// A packet is missing.
    pub(super) const fn lose(&mut self) {
        self.lost = self.lost.saturating_add(1);
    }

    /// Takes the next packet; says what is wrong with it, or with the picture that it ends.
    pub(super) fn push(&mut self, packet: &Packet<'_>, out: &mut Vec<Unit>) -> Result<(), Fault> {
        let (time, payload) = (packet.timestamp(), packet.payload());
        let mut result = Ok(());
        if self.open.is_some_and(|(open, _)| open != time) {
            // The marker was lost, or the sender sets none.
            if self.lost > 0 {
                self.damage();
            }
            result = self.end(out);
            if self.lost == 1 && self.marks {
                // The one that is missing had the marker of that picture: this one is whole so far.
                self.lost = 0;
            }
        }
        let lost = std::mem::take(&mut self.lost) > 0;
        let is_new = self.open.is_none();
        let (_, is_whole) = self.open.get_or_insert((time, true));
        *is_whole &= !lost || is_new && self.video.begins(payload);
        if *is_whole {
            let added = self.video.add(payload, &mut self.picture);
            let is_large = self.picture.len() > FRAME_BYTES_MAX;
            let added = added.and(if is_large {
                Err(Fault::TooLarge)
            } else {
                Ok(())
            });
            if added.is_err() {
                self.damage();
                result = result.and(added);
            }
        }
        if packet.marker() {
            self.marks = true;
            let ended = self.end(out);
            result = result.and(ended);
        }
        result
    }

    /// Nothing more will come.
    pub(super) fn finish(&mut self, out: &mut Vec<Unit>) -> Result<(), Fault> {
        // The packets that came last may be lost without a trace.
        if std::mem::take(&mut self.lost) > 0 || self.marks {
            self.damage();
        }
        self.end(out)
    }

    fn damage(&mut self) {
        self.picture.clear();
        self.video.reset();
        if let Some((_, is_whole)) = &mut self.open {
            *is_whole = false;
        }
    }

    fn end(&mut self, out: &mut Vec<Unit>) -> Result<(), Fault> {
        let Some((time, is_whole)) = self.open.take() else {
            return Ok(());
        };
        if !is_whole {
            self.damage();
            return Err(Fault::Damaged);
        }
        let finished = self.video.finish(&mut self.picture);
        self.video.reset();
        let data = self.picture.split().freeze();
        if let Some(picture) = finished? {
            out.push(Unit {
                time,
                data,
                picture,
            });
        }
        Ok(())
    }
}
