//! A stream as an MPEG transport stream: for televisions, VLC, and whatever else takes a URL.
//!
//! Tables stand in front of each picture where decoding can start, so that every group can be a client's first. A
//! change of tracks is a new version of the table and no end. Not the packets, which are `levada_media::ts`'s.
//! Invariant: all clients of a stream on one node are sent the same bytes.

use levada::{Description, Frame, Instance, StreamName, WallTime};
use levada_gateway::{Encode, Unsuitable};
use levada_media::ts::Muxer;

use super::{Chunk, Outline};

const CONTENT_TYPE: &str = "video/mp2t";

/// Makes a transport stream of one stream.
#[derive(Debug)]
pub(crate) struct Ts {
    name: StreamName,
    muxer: Option<Muxer>,
    left_out: Vec<String>,
    out: Vec<u8>,
    /// What is being made begins with a group.
    begins: bool,
    has_begun: bool,
}

impl Ts {
    pub(crate) fn new(name: &StreamName) -> Self {
        Self {
            name: name.clone(),
            muxer: None,
            left_out: Vec::new(),
            out: Vec::new(),
            begins: false,
            has_begun: false,
        }
    }
}

impl Encode for Ts {
    type Body = Chunk;
    type Outline = Outline;

    fn begin(&mut self, _: &Instance) {}

    fn describe(&mut self, description: &Description) -> Result<(), Unsuitable> {
        let muxer = match self.muxer.take() {
            Some(mut muxer) => {
                muxer.set_description(description);
                muxer
            }
            None => Muxer::for_players(description),
        };
        let omitted = muxer.omitted().iter();
        self.left_out = super::codecs_of(omitted.filter_map(|(id, _)| description.track(*id)));
        let is_empty = muxer.omitted().len() == description.tracks.len();
        self.muxer = Some(muxer);
        if is_empty {
            let codecs = super::codecs(description);
            return Err(Unsuitable(format!(
                "`{}` has nothing that a transport stream can carry ({codecs}): play it by `levada play {}`",
                self.name, self.name
            )));
        }
        Ok(())
    }

    fn push(&mut self, frame: &Frame, _: Option<WallTime>, starts_group: bool) {
        let Some(muxer) = &mut self.muxer else { return };
        self.begins |= starts_group;
        self.has_begun |= starts_group;
        // A frame that cannot be said in the format is passed over: the next is another matter.
        if let Err(error) = muxer.push(frame, &mut self.out) {
            tracing::debug!(stream = %self.name, "a frame is not in the transport stream: {error}");
        }
    }

    fn pending_bytes(&self) -> usize {
        self.out.len()
    }

    fn take(&mut self) -> Option<Chunk> {
        let data = std::mem::take(&mut self.out);
        (!data.is_empty()).then(|| Chunk {
            begins: std::mem::take(&mut self.begins),
            head: None,
            data: data.into(),
        })
    }

    fn outline(&self) -> Option<Outline> {
        self.has_begun.then(|| Outline {
            content_type: CONTENT_TYPE.to_owned(),
            left_out: self.left_out.clone(),
        })
    }
}
