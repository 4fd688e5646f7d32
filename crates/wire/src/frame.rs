//! Frames and the description of their tracks: what a publisher hands in and a subscriber gets back.
//!
//! A burst's body is frames laid end to end, each behind this 22-byte header; both are sealed, so relays
//! see neither. Not a codec: `codec` is a word, `config` and `data` are bytes, and only gateways and sources
//! know what they mean. Called by `lane` (cutting and rebuilding) and by everyone above it.
//! Invariant: a header that decodes says how many bytes follow, at most [`FRAME_BYTES_MAX`].
//!
//! Wire definition: docs/wire.md section 5
//!
//! ```text
//! off len field
//!  0   1  track      0 is the control track
//!  1   1  flags      80 SYNC: decoding can start here; 40 DISCARDABLE: no other frame needs it
//!  2   4  length     bytes of data that follow the header
//!  6   4  sequence   counts the track's frames, wrapping: a frame that is missing shows
//! 10   8  dts        ticks of the track's timescale since the instance's start, signed
//! 18   4  pts - dts  ticks, signed
//! ```

use std::num::NonZeroU32;

use bytes::Bytes;
use minicbor::{Decode, Encode};

use crate::units::Number;

/// Bytes of a frame header.
pub const FRAME_HEADER_BYTES: usize = 22;
/// The largest frame: an 8K intra picture has about 4 MB.
pub const FRAME_BYTES_MAX: usize = 8 << 20;
/// The most tracks a stream may have, the control track not counted.
pub const TRACKS_MAX: usize = 32;
/// The largest decoder configuration of a track, in bytes.
pub const CONFIG_BYTES_MAX: usize = 4_096;

const SYNC: u8 = 0x80;
const DISCARDABLE: u8 = 0x40;

/// The number of a track in its stream, from 1; 0 is the control track, which users never see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct TrackId(#[n(0)] pub u8);

impl TrackId {
    /// Carries the description, the clock and END.
    pub const CONTROL: Self = Self(0);
}

/// One access unit of one track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The track it belongs to.
    pub track: TrackId,
    /// Decoding can start here.
    pub sync: bool,
    /// No other frame needs this one: first to go when there is not room for all.
    pub discardable: bool,
    /// Decoding time in ticks of the track's timescale since the instance's start.
    pub dts: i64,
    /// Presentation time, same unit; differs from `dts` by at most 2^31 ticks.
    pub pts: i64,
    /// The access unit.
    pub data: Bytes,
}

/// The clear form of a frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The track it belongs to.
    pub track: TrackId,
    /// Decoding can start here.
    pub sync: bool,
    /// No other frame needs this one.
    pub discardable: bool,
    /// Bytes of data that follow.
    pub length: u32,
    /// Counts the track's frames, wrapping.
    pub sequence: u32,
    /// Decoding time in ticks.
    pub dts: i64,
    /// `pts - dts` in ticks.
    pub pts_offset: i32,
}

impl FrameHeader {
    /// Writes the header.
    #[must_use]
    pub fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[0] = self.track.0;
        bytes[1] =
            if self.sync { SYNC } else { 0 } | if self.discardable { DISCARDABLE } else { 0 };
        bytes[2..6].copy_from_slice(&self.length.to_be_bytes());
        bytes[6..10].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[10..18].copy_from_slice(&self.dts.to_be_bytes());
        bytes[18..22].copy_from_slice(&self.pts_offset.to_be_bytes());
        bytes
    }

    /// Reads a header from the front of `bytes`; `None` if there are too few or the length is out of bounds.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; FRAME_HEADER_BYTES] = bytes.first_chunk()?;
        let [track, flags, l0, l1, l2, l3, s0, s1, s2, s3, rest @ ..] = *bytes;
        let [d0, d1, d2, d3, d4, d5, d6, d7, p0, p1, p2, p3] = rest;
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        // spec: WIRE 5.1 a length above 8 MiB MUST NOT decode
        if usize::try_from(length).ok()? > FRAME_BYTES_MAX {
            return None;
        }
        Some(Self {
            track: TrackId(track),
            sync: flags & SYNC != 0,
            discardable: flags & DISCARDABLE != 0,
            length,
            sequence: u32::from_be_bytes([s0, s1, s2, s3]),
            dts: i64::from_be_bytes([d0, d1, d2, d3, d4, d5, d6, d7]),
            pts_offset: i32::from_be_bytes([p0, p1, p2, p3]),
        })
    }
}

/// What a track carries. A kind from the future reads as [`TrackKind::Data`]: carried, and played by who knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum TrackKind {
    /// Pictures.
    #[n(0)]
    Video,
    /// Sound.
    #[n(1)]
    Audio,
    /// Anything else: captions, telemetry, chat.
    #[n(2)]
    Data,
}

impl<'b, C> Decode<'b, C> for TrackKind {
    // spec: WIRE 11 a kind of track from the future MUST NOT make an announce undecodable
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Ok(match d.u32()? {
            0 => Self::Video,
            1 => Self::Audio,
            _ => Self::Data,
        })
    }
}

/// One track of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Track {
    /// Its number, from 1.
    #[n(0)]
    pub id: TrackId,
    /// Video, audio or data.
    #[n(1)]
    pub kind: TrackKind,
    /// The codec in one word: `h264`, `aac`; a word for gateways, opaque to the overlay.
    #[n(2)]
    pub codec: String,
    /// Ticks per second of its times.
    #[cbor(n(3), with = "timescale")]
    pub timescale: NonZeroU32,
    /// What a decoder needs before the first frame, in the codec's own form; may be empty.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub config: Vec<u8>,
    /// ISO 639 language, when known.
    #[n(5)]
    pub language: Option<String>,
}

/// The tracks of a stream. The first one leads: groups start where it can start decoding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Description {
    /// All tracks, in the publisher's order; at most [`TRACKS_MAX`].
    #[cbor(n(0), with = "bounded")]
    pub tracks: Vec<Track>,
}

impl Description {
    /// Checks what a decoder must not take on trust: bounds, and ids that are unique and not the control track's.
    ///
    /// # Errors
    ///
    /// Names the first thing that is wrong.
    pub fn check(&self) -> Result<(), DescriptionError> {
        // spec: WIRE 5.2 a description that breaks a rule MUST NOT be used
        if self.tracks.is_empty() || self.tracks.len() > TRACKS_MAX {
            return Err(DescriptionError::TrackCount {
                tracks: self.tracks.len(),
            });
        }
        for (at, track) in self.tracks.iter().enumerate() {
            let id = track.id.0;
            if track.id == TrackId::CONTROL || self.tracks[..at].iter().any(|t| t.id == track.id) {
                return Err(DescriptionError::TrackNumber { id });
            }
            if track.config.len() > CONFIG_BYTES_MAX {
                return Err(DescriptionError::ConfigLength { id });
            }
            if track.codec.is_empty() || track.codec.len() > 32 {
                return Err(DescriptionError::Codec { id });
            }
        }
        Ok(())
    }

    /// The track whose sync frames start groups.
    #[must_use]
    pub fn leading(&self) -> Option<&Track> {
        self.tracks.first()
    }

    /// The track of that number.
    #[must_use]
    pub fn track(&self, id: TrackId) -> Option<&Track> {
        self.tracks.iter().find(|track| track.id == id)
    }
}

/// What is wrong with a description.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptionError {
    /// None, or more than [`TRACKS_MAX`].
    #[error("a stream has 1 to {TRACKS_MAX} tracks, this one has {tracks}")]
    TrackCount {
        /// How many there are.
        tracks: usize,
    },
    /// Zero, or used twice.
    #[error("track number {id} is taken: numbers start at 1 and are used once")]
    TrackNumber {
        /// The number.
        id: u8,
    },
    /// The decoder configuration is too long.
    #[error("the configuration of track {id} is longer than {CONFIG_BYTES_MAX} bytes")]
    ConfigLength {
        /// The track's number.
        id: u8,
    },
    /// The codec's word is empty or longer than 32 bytes.
    #[error("the codec of track {id} is not a word of 1 to 32 bytes")]
    Codec {
        /// The track's number.
        id: u8,
    },
}

/// What the control track of a group's first burst, and of the last burst of all, says. In CBOR.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ControlFrame {
    /// The tracks. In the first burst of every group, so that whoever joins needs nothing else.
    #[n(0)]
    pub description: Option<Description>,
    /// The origin's wall clock, in microseconds since the Unix epoch, at hand-over of this frame.
    #[n(1)]
    pub wall: Option<u64>,
    /// The stream ends on purpose: the last number of the flow.
    #[n(2)]
    pub end: Option<Number>,
}

/// The list of a description: refuses to grow beyond [`TRACKS_MAX`], since an 8 MiB frame has room for a million.
mod bounded {
    use minicbor::encode::Write;
    use minicbor::{Decoder, Encode as _, Encoder};

    use super::{TRACKS_MAX, Track};

    pub(super) fn encode<C, W: Write>(
        tracks: &Vec<Track>,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(tracks.len() as u64)?;
        for track in tracks {
            track.encode(e, ctx)?;
        }
        Ok(())
    }

    // spec: WIRE 5.2 a description of more than 32 tracks MUST NOT decode
    pub(super) fn decode<C>(
        d: &mut Decoder<'_>,
        ctx: &mut C,
    ) -> Result<Vec<Track>, minicbor::decode::Error> {
        let mut tracks = Vec::new();
        for track in d.array_iter_with(ctx)? {
            if tracks.len() == TRACKS_MAX {
                return Err(minicbor::decode::Error::message(
                    "a stream has at most 32 tracks",
                ));
            }
            tracks.push(track?);
        }
        Ok(tracks)
    }
}

/// A timescale in CBOR: an unsigned integer that is not zero.
mod timescale {
    use std::num::NonZeroU32;

    use minicbor::encode::Write;
    use minicbor::{Decoder, Encoder};

    pub(super) fn encode<C, W: Write>(
        value: &NonZeroU32,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u32(value.get())?.ok()
    }

    pub(super) fn decode<C>(
        d: &mut Decoder<'_>,
        _: &mut C,
    ) -> Result<NonZeroU32, minicbor::decode::Error> {
        NonZeroU32::new(d.u32()?)
            .ok_or_else(|| minicbor::decode::Error::message("timescale is zero"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn track(id: u8) -> Track {
        Track {
            id: TrackId(id),
            kind: TrackKind::Video,
            codec: "h264".into(),
            timescale: NonZeroU32::new(90_000).unwrap(),
            config: vec![1, 2, 3],
            language: None,
        }
    }

    // spec: WIRE 5.1
    #[test]
    fn a_length_beyond_the_limit_does_not_decode() {
        let mut header = FrameHeader {
            track: TrackId(1),
            sync: true,
            discardable: false,
            length: u32::try_from(FRAME_BYTES_MAX).unwrap(),
            sequence: 9,
            dts: -1,
            pts_offset: -3_000,
        };

        assert_eq!(FrameHeader::decode(&header.encode()), Some(header));
        header.length += 1;
        assert_eq!(FrameHeader::decode(&header.encode()), None);
        assert_eq!(FrameHeader::decode(&header.encode()[..21]), None);
    }

    // spec: WIRE 5.2
    #[test]
    fn a_description_names_what_is_wrong_with_it() {
        let check = |tracks| Description { tracks }.check();

        assert_eq!(check(vec![track(1), track(2)]), Ok(()));
        assert_eq!(
            check(vec![]),
            Err(DescriptionError::TrackCount { tracks: 0 })
        );
        assert_eq!(
            check(vec![track(0)]),
            Err(DescriptionError::TrackNumber { id: 0 })
        );
        assert_eq!(
            check(vec![track(1), track(1)]),
            Err(DescriptionError::TrackNumber { id: 1 })
        );
        let long = Track {
            config: vec![0; CONFIG_BYTES_MAX + 1],
            ..track(1)
        };
        assert_eq!(
            check(vec![long]),
            Err(DescriptionError::ConfigLength { id: 1 })
        );
    }

    #[test]
    fn a_description_survives_its_bytes() {
        let description = Description {
            tracks: vec![track(1), track(2)],
        };

        let bytes = minicbor::to_vec(&description).unwrap();

        assert_eq!(
            minicbor::decode::<Description>(&bytes).unwrap(),
            description
        );
    }

    // spec: WIRE 5.2
    #[test]
    fn a_description_of_too_many_tracks_is_not_even_held() {
        let count = u8::try_from(TRACKS_MAX).unwrap() + 1;
        let full = Description {
            tracks: (1..count).map(track).collect(),
        };
        let fuller = Description {
            tracks: (1..=count).map(track).collect(),
        };
        let decode =
            |description| minicbor::decode::<Description>(&minicbor::to_vec(description).unwrap());

        assert_eq!(decode(&full).unwrap(), full);
        assert!(decode(&fuller).is_err());
    }

    // spec: WIRE 11
    #[test]
    fn a_kind_of_track_from_the_future_reads_as_data() {
        let kinds = [TrackKind::Video, TrackKind::Audio, TrackKind::Data];

        for (code, kind) in (0_u8..).zip(kinds) {
            assert_eq!(minicbor::to_vec(kind).unwrap(), [code]);
            assert_eq!(minicbor::decode::<TrackKind>(&[code]).unwrap(), kind);
        }
        assert_eq!(
            minicbor::decode::<TrackKind>(&[9]).unwrap(),
            TrackKind::Data
        );
    }
}
