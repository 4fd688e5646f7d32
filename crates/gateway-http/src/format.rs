//! A stream as bytes of an HTTP response: the three forms that go on for as long as the stream does.
//!
//! | file | what |
//! |---|---|
//! | `mp4` | fragments, with the origin's clock in front of each |
//! | `ts` | a transport stream |
//! | `mjpeg` | parts of a multipart body |
//!
//! Not who is sent them, which is `playback`. Run by `levada_gateway::encode`. Invariant: a piece that begins can be
//! the first that a client gets, its head in front.

use bytes::Bytes;
use levada::{Description, Track, TrackKind};

mod mjpeg;
mod mp4;
mod ts;

pub(crate) use mjpeg::Mjpeg;
pub(crate) use mp4::{Mp4, Tracks};
pub(crate) use ts::Ts;

/// What was made of one burst.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    /// A client can begin here.
    pub(crate) begins: bool,
    /// What a client must have had before the data: sent to each that has not, and never twice.
    pub(crate) head: Option<Bytes>,
    pub(crate) data: Bytes,
}

/// What a client is told before the first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outline {
    pub(crate) content_type: String,
    /// Tracks that the format leaves out, by codec.
    pub(crate) left_out: Vec<String>,
}

/// The codecs of tracks, for people; data tracks are nobody's loss.
fn codecs_of<'a>(tracks: impl Iterator<Item = &'a Track>) -> Vec<String> {
    let tracks = tracks.filter(|track| track.kind != TrackKind::Data);
    tracks.map(|track| track.codec.clone()).collect()
}

fn codecs(description: &Description) -> String {
    let codecs: Vec<_> = description
        .tracks
        .iter()
        .map(|track| track.codec.as_str())
        .collect();
    codecs.join(", ")
}
