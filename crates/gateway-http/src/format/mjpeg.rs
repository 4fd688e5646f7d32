//! A stream of JPEG images as a multipart body, which browsers show in an `<img>` and cameras' clients expect.
//!
//! The first track of that codec alone. Not other codecs made into JPEG: nothing here decodes. Invariant: a piece holds
//! whole images.

use bytes::{Bytes, BytesMut};
use levada::{Description, Frame, Instance, StreamName, TrackId, WallTime};
use levada_gateway::{Encode, Unsuitable};
use levada_media::mjpeg::{CONTENT_TYPE, part};

use super::{Chunk, Outline};

/// Makes parts of one stream.
#[derive(Debug)]
pub(crate) struct Mjpeg {
    name: StreamName,
    track: Option<TrackId>,
    left_out: Vec<String>,
    out: BytesMut,
    has_begun: bool,
}

impl Mjpeg {
    pub(crate) fn new(name: &StreamName) -> Self {
        Self {
            name: name.clone(),
            track: None,
            left_out: Vec::new(),
            out: BytesMut::new(),
            has_begun: false,
        }
    }
}

impl Encode for Mjpeg {
    type Body = Chunk;
    type Outline = Outline;

    fn begin(&mut self, _: &Instance) {}

    fn describe(&mut self, description: &Description) -> Result<(), Unsuitable> {
        let mut tracks = description.tracks.iter();
        let track = tracks.find(|track| track.codec == "mjpeg");
        self.track = track.map(|track| track.id);
        let others = description
            .tracks
            .iter()
            .filter(|track| Some(track.id) != self.track);
        self.left_out = super::codecs_of(others);
        if self.track.is_none() {
            let (name, codecs) = (&self.name, super::codecs(description));
            return Err(Unsuitable(format!(
                "`{name}` is no motion JPEG ({codecs}): its page is /live/{name}, for other players it is \
                 /live/{name}.ts"
            )));
        }
        Ok(())
    }

    fn push(&mut self, frame: &Frame, _: Option<WallTime>, _: bool) {
        if Some(frame.track) != self.track {
            return;
        }
        self.out
            .extend_from_slice(part(frame.data.len()).as_bytes());
        self.out.extend_from_slice(&frame.data);
        self.out.extend_from_slice(b"\r\n");
        self.has_begun = true;
    }

    fn pending_bytes(&self) -> usize {
        self.out.len()
    }

    fn take(&mut self) -> Option<Chunk> {
        let data: Bytes = self.out.split().freeze();
        (!data.is_empty()).then_some(Chunk {
            begins: true,
            head: None,
            data,
        })
    }

    fn outline(&self) -> Option<Outline> {
        self.has_begun.then(|| Outline {
            content_type: CONTENT_TYPE.to_owned(),
            left_out: self.left_out.clone(),
        })
    }
}
