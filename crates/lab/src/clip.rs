//! A clip that weighs what a story needs: the test card with pictures as large as wanted.
//!
//! ```text
//!   an access unit of the test card   ▮▮▮▮            its slices, as they are
//!   the same in a heavy clip          ▮▮▮▮░░░░░░░░░   and filler (ITU-T H.264 7.3.2.7), which every decoder skips
//! ```
//!
//! Not an encoder: what is shown is the test card. Called by tests. Invariant: pictures, times and sound are those of
//! the test card, and each picture has at least the size that was asked for.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::BytesMut;
use levada_media::ts::{Demuxer, Event, Muxer};
use levada_wire::{Frame, TrackKind};

use crate::recording::clip_file;

/// `nal_unit_type` 12, with its start code; what ends it is a stop bit.
const FILLER: [u8; 5] = [0, 0, 0, 1, 12];
const FILLED: u8 = 0xFF;
const FILLER_END: u8 = 0x80;

/// How large pictures are, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Weight {
    /// Pictures where decoding can start: one a second.
    pub key: usize,
    /// The others.
    pub other: usize,
}

/// Writes the test card with pictures of that size into a folder.
///
/// # Errors
///
/// When it cannot be written.
pub fn heavy_clip(folder: &Path, weight: Weight) -> anyhow::Result<PathBuf> {
    let source = std::fs::read(clip_file()).context("there is no test card")?;
    let (mut demuxer, mut events) = (Demuxer::new(), Vec::new());
    demuxer.push(&source, &mut events);
    demuxer.finish(&mut events);
    let (mut muxer, mut pictures, mut written) = (None, None, Vec::new());
    for event in events {
        match (event, &mut muxer) {
            (Event::Description(description), none @ None) => {
                let track = description
                    .tracks
                    .iter()
                    .find(|track| track.kind == TrackKind::Video);
                pictures = track.map(|track| track.id);
                *none = Some(Muxer::for_players(&description));
            }
            (Event::Frame(frame), Some(muxer)) => {
                let bytes = if frame.sync { weight.key } else { weight.other };
                let is_picture = Some(frame.track) == pictures;
                let frame = if is_picture {
                    filled(frame, bytes)
                } else {
                    frame
                };
                muxer.push(&frame, &mut written)?;
            }
            (event, _) => anyhow::bail!("the test card has {event:?}"),
        }
    }
    let path = folder.join("heavy.ts");
    std::fs::write(&path, written).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The frame with so much filler that it has that many bytes.
fn filled(frame: Frame, bytes: usize) -> Frame {
    let Some(filler) = bytes.checked_sub(frame.data.len() + FILLER.len() + 1) else {
        return frame;
    };
    let mut data = BytesMut::with_capacity(bytes);
    data.extend_from_slice(&frame.data);
    data.extend_from_slice(&FILLER);
    data.resize(data.len() + filler, FILLED);
    data.extend_from_slice(&[FILLER_END]);
    Frame {
        data: data.freeze(),
        ..frame
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::Recording;

    #[test]
    fn a_heavy_clip_has_the_pictures_of_the_test_card_and_the_size_that_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let weight = Weight {
            key: 227_000,
            other: 20_000,
        };

        let path = heavy_clip(folder.path(), weight).unwrap();

        let [heavy, card] = [&path, &clip_file()].map(|path| Recording::read(path).unwrap());
        assert_eq!(heavy.pictures(), card.pictures());
        let bytes = std::fs::metadata(&path).unwrap().len();
        let least = 8 * 227_000 + 100 * 20_000;
        assert!(bytes > least, "{bytes}");
    }
}
