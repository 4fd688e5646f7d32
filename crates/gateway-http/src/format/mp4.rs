//! A stream as fragmented MP4 for Media Source Extensions: one fragment for each burst, the origin's clock before it.
//!
//! The init segment is known from the first group on. Where a later group says another (another size of the picture),
//! it is sent again in front of it, which Media Source Extensions allow; other tracks or codecs end the clients, which
//! ask anew. Not the boxes, which are `levada_media::mp4`'s. Invariant: no fragment is sent to a client without the
//! init segment that it needs.

use bytes::Bytes;
use levada::{Description, Frame, Instance, StreamName, Track, TrackKind, WallTime};
use levada_gateway::{Encode, Unsuitable};
use levada_media::mp4::Writer;

use super::{Chunk, Outline};

/// Which tracks a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tracks {
    All,
    /// Pictures alone.
    Video,
    /// Sound alone.
    Audio,
}

impl Tracks {
    const fn has(self, kind: TrackKind) -> bool {
        match self {
            Self::All => true,
            Self::Video => matches!(kind, TrackKind::Video),
            Self::Audio => matches!(kind, TrackKind::Audio),
        }
    }
}

/// Makes fragments of one stream.
#[derive(Debug)]
pub(crate) struct Mp4 {
    name: StreamName,
    wanted: Tracks,
    /// What is carried of the stream.
    carried: Description,
    left_out: Vec<String>,
    writer: Writer,
    init: Option<Bytes>,
    /// The type that clients were told.
    mime: Option<String>,
    frames: Vec<Frame>,
    bytes: usize,
    /// When the origin handed over the first frame of the fragment that is being made.
    wall: Option<WallTime>,
    begins: bool,
    sequence: u32,
}

impl Mp4 {
    pub(crate) fn new(name: &StreamName, wanted: Tracks) -> Self {
        let carried = Description::default();
        Self {
            name: name.clone(),
            wanted,
            writer: Writer::new(&carried),
            carried,
            left_out: Vec::new(),
            init: None,
            mime: None,
            frames: Vec::new(),
            bytes: 0,
            wall: None,
            begins: false,
            sequence: 0,
        }
    }

    /// Takes over what a frame says of its codec.
    fn learn(&mut self, frame: &Frame) {
        let mut writer = self.writer.clone();
        writer.learn(frame);
        let init = writer.init().map(Bytes::from);
        if init.is_some() && init != self.init {
            self.init = init;
            self.mime = self.mime.take().or_else(|| writer.mime());
            self.writer = writer;
        } else if init.is_none() {
            self.writer = writer;
        }
    }

    fn unsuitable(&self, description: &Description) -> Unsuitable {
        let (name, codecs) = (&self.name, super::codecs(description));
        Unsuitable(match self.wanted {
            Tracks::All => format!(
                "`{name}` has nothing that browsers play ({codecs}): for other players it is /live/{name}.ts"
            ),
            Tracks::Video => format!("`{name}` has no pictures that browsers play ({codecs})"),
            Tracks::Audio => format!("`{name}` has no sound that browsers play ({codecs})"),
        })
    }
}

impl Encode for Mp4 {
    type Body = Chunk;
    type Outline = Outline;

    fn begin(&mut self, _: &Instance) {}

    fn describe(&mut self, description: &Description) -> Result<(), Unsuitable> {
        let mut wanted = description.clone();
        wanted.tracks.retain(|track| self.wanted.has(track.kind));
        let writer = Writer::new(&wanted);
        let is_carried = |track: &Track| writer.omitted().iter().all(|(id, _)| *id != track.id);
        let left_out = super::codecs_of(wanted.tracks.iter().filter(|track| !is_carried(track)));
        let mut carried = wanted;
        carried.tracks.retain(is_carried);
        if carried.tracks.is_empty() {
            return Err(self.unsuitable(description));
        }
        if self.carried.tracks.is_empty() {
            (self.carried, self.writer, self.left_out) = (carried, writer, left_out);
            return Ok(());
        }
        let is_same = self.carried == carried;
        let why = || Unsuitable("the tracks of the stream became others".to_owned());
        is_same.then_some(()).ok_or_else(why)
    }

    fn push(&mut self, frame: &Frame, wall: Option<WallTime>, starts_group: bool) {
        // A group may start with a track that is not wanted: what is wanted of it begins behind that.
        self.begins |= starts_group;
        if self.carried.track(frame.track).is_none() {
            return;
        }
        if frame.sync && (starts_group || self.init.is_none()) {
            self.learn(frame);
        }
        if self.frames.is_empty() {
            self.wall = wall;
        }
        self.bytes += frame.data.len();
        self.frames.push(frame.clone());
    }

    fn pending_bytes(&self) -> usize {
        self.bytes
    }

    fn take(&mut self) -> Option<Chunk> {
        let frames = std::mem::take(&mut self.frames);
        let bytes = std::mem::take(&mut self.bytes);
        let first = frames.first()?;
        let begins = std::mem::take(&mut self.begins);
        let head = self.init.clone()?;
        let mut data = Vec::with_capacity(bytes + 256);
        if let Some(wall) = self.wall {
            self.writer.clock(first, wall, &mut data);
        }
        self.sequence = self.sequence.wrapping_add(1);
        self.writer.fragment(self.sequence, &frames, &mut data);
        Some(Chunk {
            begins,
            head: Some(head),
            data: data.into(),
        })
    }

    fn outline(&self) -> Option<Outline> {
        let content_type = self.mime.clone()?;
        Some(Outline {
            content_type,
            left_out: self.left_out.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use levada_media::TestCard;
    use levada_media::mp4::Reader;

    use super::*;

    fn named() -> StreamName {
        "cam".parse().unwrap()
    }

    /// A second of the test card as chunks, cut at each picture.
    fn chunks(encoder: &mut Mp4) -> Vec<Chunk> {
        let mut card = TestCard::new();
        encoder.describe(card.description()).unwrap();
        let leading = card.description().leading().unwrap().id;
        let mut chunks = Vec::new();
        for at in 0..130_u64 {
            let wall = WallTime(1_700_000_000_000_000 + at);
            let frame = card.next_frame(wall);
            let starts_group = frame.track == leading && frame.sync;
            if frame.track == leading {
                chunks.extend(encoder.take());
            }
            encoder.push(&frame, Some(wall), starts_group);
        }
        chunks.extend(encoder.take());
        chunks
    }

    #[test]
    fn what_a_client_gets_is_a_file_that_our_reader_reads() {
        let mut encoder = Mp4::new(&named(), Tracks::All);

        let chunks = chunks(&mut encoder);

        let outline = encoder.outline().unwrap();
        assert!(
            outline
                .content_type
                .starts_with("video/mp4; codecs=\"avc1."),
            "{outline:?}"
        );
        assert!(
            outline.content_type.ends_with(",mp4a.40.2\""),
            "{outline:?}"
        );
        assert!(
            outline.left_out.is_empty(),
            "data is nobody's loss: {outline:?}"
        );
        assert!(chunks[0].begins);
        let head = chunks[0].head.clone().unwrap();
        let file: Vec<u8> = std::iter::once(&head)
            .chain(chunks.iter().map(|chunk| &chunk.data))
            .flatten()
            .copied()
            .collect();
        let mut reader = Reader::open(std::io::Cursor::new(file)).unwrap();
        let mut frames = 0;
        while let Some(_frame) = reader.next_frame().unwrap() {
            frames += 1;
        }
        assert!(frames > 80, "{frames}");
        assert!(
            chunks
                .iter()
                .all(|chunk| chunk.head.as_ref() == Some(&head))
        );
    }

    #[test]
    fn the_origins_clock_stands_before_each_fragment() {
        let mut encoder = Mp4::new(&named(), Tracks::Video);

        let chunks = chunks(&mut encoder);

        for chunk in &chunks {
            assert_eq!(chunk.data.get(4..8), Some(&b"prft"[..]));
        }
        // 1,700,000,000 s of Unix time are 3,908,988,800 s of NTP.
        assert_eq!(
            chunks[0].data.get(16..20),
            Some(&3_908_988_800_u32.to_be_bytes()[..])
        );
    }

    #[test]
    fn other_tracks_end_clients_and_sound_alone_is_audio() {
        let mut encoder = Mp4::new(&named(), Tracks::Audio);
        let mut description = TestCard::new().description().clone();
        encoder.describe(&description).unwrap();
        assert!(
            encoder.describe(&description).is_ok(),
            "the same again is no change"
        );
        for track in &mut description.tracks {
            if track.kind == TrackKind::Audio {
                track.codec = "opus".to_owned();
            }
        }

        assert!(encoder.describe(&description).is_err());
        description
            .tracks
            .retain(|track| track.kind == TrackKind::Video);
        let refused = Mp4::new(&named(), Tracks::Audio)
            .describe(&description)
            .unwrap_err();
        assert!(refused.to_string().contains("no sound"), "{refused}");
    }
}
