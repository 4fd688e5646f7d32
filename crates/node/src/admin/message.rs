//! What goes over the local socket: kind, length, body.
//!
//! ```text
//! off len field
//!  0   1  kind
//!  1   4  length   bytes that follow, at most what the kind allows
//!  5   n  body     frames in binary, all else in JSON
//! ```
//!
//! Not the order of messages (`client`, `server`). Invariant: a reader allocates no more than a kind's limit.

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use levada_wire::control::flow::RefuseReason;
use levada_wire::frame::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FrameHeader};
use levada_wire::{
    Description, Frame, Group, InstanceId, NodeId, Track, TrackId, TrackKind, WallTime,
};
use serde::{Deserialize, Serialize};

use crate::subscriber::{Delivery, Gap, GapReason, Instance, State};
use crate::view::Table;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The longest body in JSON: a view of a large network is the longest.
const JSON_BYTES_MAX: usize = 16 << 20;
/// Group and wall clock before a frame's own header.
const FRAME_PREFIX_BYTES: usize = 12;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What the client wants.
    Request,
    /// The node's answer.
    Ok,
    /// The node's answer when it cannot; in text.
    Error,
    /// One frame.
    Frame,
    /// The tracks.
    Description,
    /// Something else that a subscriber gets.
    Notice,
    /// The publisher ends the stream on purpose.
    Finish,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Request,
        Self::Ok,
        Self::Error,
        Self::Frame,
        Self::Description,
        Self::Notice,
        Self::Finish,
    ];

    const fn code(self) -> u8 {
        match self {
            Self::Request => 1,
            Self::Ok => 2,
            Self::Error => 3,
            Self::Frame => 4,
            Self::Description => 5,
            Self::Notice => 6,
            Self::Finish => 7,
        }
    }

    const fn bytes_max(self) -> usize {
        match self {
            Self::Frame => FRAME_PREFIX_BYTES + FRAME_HEADER_BYTES + FRAME_BYTES_MAX,
            Self::Error => 64 << 10,
            _ => JSON_BYTES_MAX,
        }
    }
}

/// One message.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) body: Bytes,
}

impl Message {
    /// A message whose body is JSON.
    pub(super) fn json(kind: Kind, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).expect("rows and requests have text keys only");
        Self {
            kind,
            body: body.into(),
        }
    }

    /// A message whose body is text.
    pub(super) fn error(text: impl std::fmt::Display) -> Self {
        Self {
            kind: Kind::Error,
            body: text.to_string().into(),
        }
    }

    /// The body as JSON.
    pub(super) fn parse<'a, T: Deserialize<'a>>(&'a self) -> io::Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| malformed(error.to_string()))
    }

    /// Reads the next message; `None` at an end between two messages.
    pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let Ok(code) = from.read_u8().await else {
            return Ok(None);
        };
        let length = usize::try_from(from.read_u32().await?).unwrap_or(usize::MAX);
        let kind = Kind::ALL.into_iter().find(|kind| kind.code() == code);
        let kind = kind.ok_or_else(|| malformed(format!("message kind {code}")))?;
        if length > kind.bytes_max() {
            return Err(malformed(format!("a {kind:?} of {length} bytes")));
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body).await?;
        Ok(Some(Self {
            kind,
            body: body.into(),
        }))
    }

    /// Writes the message.
    pub(super) async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        if self.body.len() > self.kind.bytes_max() {
            return Err(malformed(format!(
                "a {:?} of {} bytes",
                self.kind,
                self.body.len()
            )));
        }
        let length = u32::try_from(self.body.len()).expect("within the kind's limit");
        to.write_u8(self.kind.code()).await?;
        to.write_u32(length).await?;
        to.write_all(&self.body).await
    }
}

pub(super) fn malformed(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// What a client may want.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    /// All rows.
    View,
    /// The rows of one table.
    Rows(Table),
    /// The way of the stream of that name.
    Trace(String),
    /// That the node leaves.
    Leave,
    /// To publish a stream.
    Publish(PublishRequest),
    /// To get a stream.
    Play(PlayRequest),
    /// What the program around the node answers.
    Program(ProgramRequest),
}

/// Something that the library knows nothing of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ProgramRequest {
    /// Which answer of the program's.
    pub(super) word: String,
    /// What it is asked.
    pub(super) question: String,
}

/// Opens a publisher: its stream's name, options and tracks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PublishRequest {
    pub(super) name: String,
    pub(super) peak_bps: Option<u64>,
    pub(super) packet_size: u16,
    pub(super) flush_us: u64,
    pub(super) description: DescriptionRow,
}

/// Opens a subscriber: the stream's name and options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PlayRequest {
    pub(super) name: String,
    pub(super) layer: u8,
    pub(super) queue_frames_max: usize,
    pub(super) queue_bytes_max: usize,
    pub(super) repair_budget_ms: u64,
    #[serde(default)]
    pub(super) two_paths: bool,
}

/// What a subscriber gets beside frames and descriptions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Notice {
    Unknown,
    Unreachable {
        origin: String,
    },
    Requested,
    /// The reason in words: its number is the wire's, not this socket's.
    Refused {
        reason: String,
    },
    Stalled,
    Active {
        instance: InstanceRow,
    },
    OnePath {
        instance: InstanceRow,
    },
    NewInstance {
        instance: InstanceRow,
    },
    Gap {
        reason: String,
        packets: u64,
        frames: u64,
    },
    End,
}

/// One start of a stream at one origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InstanceRow {
    origin: String,
    id: [u8; 16],
    group_base: u64,
}

impl From<Instance> for InstanceRow {
    fn from(instance: Instance) -> Self {
        Self {
            origin: instance.origin.to_string(),
            id: instance.id.0,
            group_base: instance.group_base,
        }
    }
}

impl InstanceRow {
    fn parse(self) -> io::Result<Instance> {
        let origin = parse_node(&self.origin)?;
        Ok(Instance::new(origin, InstanceId(self.id), self.group_base))
    }
}

fn parse_node(text: &str) -> io::Result<NodeId> {
    text.parse()
        .map_err(|error: levada_wire::id::IdError| malformed(error.to_string()))
}

/// All that a subscriber gets, as a message. `None` for what a later version may add.
pub(super) fn delivery(delivery: Delivery) -> Option<Message> {
    let notice = match delivery {
        Delivery::Frame { group, frame, wall } => {
            return FrameBody { group, wall, frame }.encode();
        }
        Delivery::Description(tracks) => return Some(description(&tracks)),
        Delivery::State(State::Unknown) => Notice::Unknown,
        Delivery::State(State::Unreachable { origin }) => Notice::Unreachable {
            origin: origin.to_string(),
        },
        Delivery::State(State::Requested) => Notice::Requested,
        Delivery::State(State::Refused { reason }) => Notice::Refused {
            reason: reason.to_string(),
        },
        Delivery::State(State::Stalled) => Notice::Stalled,
        Delivery::State(State::Active { instance }) => Notice::Active {
            instance: instance.into(),
        },
        Delivery::State(State::OnePath { instance }) => Notice::OnePath {
            instance: instance.into(),
        },
        Delivery::NewInstance(instance) => Notice::NewInstance {
            instance: instance.into(),
        },
        Delivery::Gap(gap) => Notice::Gap {
            reason: gap.reason.to_string(),
            packets: gap.packets,
            frames: gap.frames,
        },
        Delivery::End => Notice::End,
    };
    Some(Message::json(Kind::Notice, &notice))
}

/// The reverse of [`delivery`].
pub(super) fn parse_delivery(message: &Message) -> io::Result<Delivery> {
    match message.kind {
        Kind::Frame => {
            let FrameBody { group, wall, frame } = FrameBody::decode(message)?;
            return Ok(Delivery::Frame { group, frame, wall });
        }
        Kind::Description => return Ok(Delivery::Description(parse_description(message)?)),
        Kind::Notice => {}
        kind => return Err(malformed(format!("a {kind:?} where a delivery belongs"))),
    }
    let notice: Notice = message.parse()?;
    Ok(match notice {
        Notice::Unknown => Delivery::State(State::Unknown),
        Notice::Unreachable { origin } => Delivery::State(State::Unreachable {
            origin: parse_node(&origin)?,
        }),
        Notice::Requested => Delivery::State(State::Requested),
        Notice::Refused { reason } => Delivery::State(State::Refused {
            reason: by_words(RefuseReason::all(), &reason).unwrap_or(RefuseReason::Other),
        }),
        Notice::Stalled => Delivery::State(State::Stalled),
        Notice::Active { instance } => Delivery::State(State::Active {
            instance: instance.parse()?,
        }),
        Notice::OnePath { instance } => Delivery::State(State::OnePath {
            instance: instance.parse()?,
        }),
        Notice::NewInstance { instance } => Delivery::NewInstance(instance.parse()?),
        Notice::Gap {
            reason,
            packets,
            frames,
        } => Delivery::Gap(Gap {
            reason: by_words(GAPS, &reason).unwrap_or(GapReason::Lost),
            packets,
            frames,
        }),
        Notice::End => Delivery::End,
    })
}

const GAPS: [GapReason; 5] = [
    GapReason::Lost,
    GapReason::Bad,
    GapReason::Overrun,
    GapReason::Interrupted,
    GapReason::Slow,
];

/// The one of `known` that is said in these words: both ends are of one release, so the words are equal.
fn by_words<T: std::fmt::Display>(known: impl IntoIterator<Item = T>, words: &str) -> Option<T> {
    known.into_iter().find(|one| one.to_string() == words)
}

/// The tracks of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DescriptionRow {
    tracks: Vec<TrackRow>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct TrackRow {
    id: u8,
    kind: KindRow,
    codec: String,
    timescale: NonZeroU32,
    config: Vec<u8>,
    language: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindRow {
    Video,
    Audio,
    Data,
}

impl From<&Description> for DescriptionRow {
    fn from(description: &Description) -> Self {
        let tracks = description.tracks.iter().map(|track| TrackRow {
            id: track.id.0,
            kind: match track.kind {
                TrackKind::Video => KindRow::Video,
                TrackKind::Audio => KindRow::Audio,
                _ => KindRow::Data,
            },
            codec: track.codec.clone(),
            timescale: track.timescale,
            config: track.config.clone(),
            language: track.language.clone(),
        });
        Self {
            tracks: tracks.collect(),
        }
    }
}

impl From<DescriptionRow> for Description {
    fn from(row: DescriptionRow) -> Self {
        let tracks = row.tracks.into_iter().map(|track| Track {
            id: TrackId(track.id),
            kind: match track.kind {
                KindRow::Video => TrackKind::Video,
                KindRow::Audio => TrackKind::Audio,
                KindRow::Data => TrackKind::Data,
            },
            codec: track.codec,
            timescale: track.timescale,
            config: track.config,
            language: track.language,
        });
        Self {
            tracks: tracks.collect(),
        }
    }
}

/// A description as a message.
pub(super) fn description(description: &Description) -> Message {
    Message::json(Kind::Description, &DescriptionRow::from(description))
}

/// A description from a message.
pub(super) fn parse_description(message: &Message) -> io::Result<Arc<Description>> {
    let row: DescriptionRow = message.parse()?;
    Ok(Arc::new(row.into()))
}

/// A frame with its group and wall clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FrameBody {
    pub(super) group: Group,
    pub(super) wall: Option<WallTime>,
    pub(super) frame: Frame,
}

impl FrameBody {
    /// As a message: group, wall clock (zero if unknown), the wire's frame header, data. `None` if dts and pts are
    /// further apart than a header can say.
    pub(super) fn encode(&self) -> Option<Message> {
        let frame = &self.frame;
        let header = FrameHeader {
            track: frame.track,
            sync: frame.sync,
            discardable: frame.discardable,
            length: u32::try_from(frame.data.len()).ok()?,
            sequence: 0,
            dts: frame.dts,
            pts_offset: i32::try_from(frame.pts.checked_sub(frame.dts)?).ok()?,
        };
        let wall = self.wall.unwrap_or_default().0;
        let prefix = FRAME_PREFIX_BYTES + FRAME_HEADER_BYTES;
        let mut body = Vec::with_capacity(prefix + frame.data.len());
        body.extend_from_slice(&self.group.0.to_be_bytes());
        body.extend_from_slice(&wall.to_be_bytes());
        body.extend_from_slice(&header.encode());
        body.extend_from_slice(&frame.data);
        Some(Message {
            kind: Kind::Frame,
            body: body.into(),
        })
    }

    pub(super) fn decode(message: &Message) -> io::Result<Self> {
        let short = || malformed("a frame shorter than its header");
        let body = &message.body;
        let (group, rest) = body.split_first_chunk::<4>().ok_or_else(short)?;
        let (wall, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let header = FrameHeader::decode(rest).ok_or_else(short)?;
        let data = body.slice(FRAME_PREFIX_BYTES + FRAME_HEADER_BYTES..);
        if u32::try_from(data.len()) != Ok(header.length) {
            return Err(malformed("a frame of another length than it says"));
        }
        let wall = u64::from_be_bytes(*wall);
        let pts = header.dts.checked_add(header.pts_offset.into());
        Ok(Self {
            group: Group(u32::from_be_bytes(*group)),
            wall: (wall != 0).then_some(WallTime(wall)),
            frame: Frame {
                track: header.track,
                sync: header.sync,
                discardable: header.discardable,
                dts: header.dts,
                pts: pts.ok_or_else(|| malformed("a presentation time beyond all time"))?,
                data,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn each_delivery_survives_its_message() {
        let instance = Instance::new(NodeId([3; 32]), InstanceId([4; 16]), 5);
        let mut deliveries = vec![
            Delivery::State(State::Unknown),
            Delivery::State(State::Unreachable {
                origin: NodeId([1; 32]),
            }),
            Delivery::State(State::Requested),
            Delivery::State(State::Stalled),
            Delivery::State(State::Active { instance }),
            Delivery::State(State::OnePath { instance }),
            Delivery::NewInstance(instance),
            Delivery::Description(Arc::new(Description { tracks: Vec::new() })),
            Delivery::End,
        ];
        deliveries
            .extend(RefuseReason::all().map(|reason| Delivery::State(State::Refused { reason })));
        deliveries.extend(GAPS.map(|reason| {
            Delivery::Gap(Gap {
                reason,
                packets: 1,
                frames: 2,
            })
        }));

        for sent in deliveries {
            let shown = format!("{sent:?}");

            let received = parse_delivery(&delivery(sent).unwrap()).unwrap();

            assert_eq!(format!("{received:?}"), shown);
        }
    }

    fn body() -> FrameBody {
        FrameBody {
            group: Group(7),
            wall: Some(WallTime(9)),
            frame: Frame {
                track: TrackId(3),
                sync: true,
                discardable: false,
                dts: -5,
                pts: 12,
                data: Bytes::from_static(b"data"),
            },
        }
    }

    #[test]
    fn a_frame_survives_its_message() {
        let message = body().encode().unwrap();

        assert_eq!(FrameBody::decode(&message).unwrap(), body());
    }

    #[test]
    fn a_frame_cut_anywhere_is_refused() {
        let message = body().encode().unwrap();

        for length in 0..message.body.len() {
            let cut = Message {
                kind: Kind::Frame,
                body: message.body.slice(..length),
            };
            assert!(FrameBody::decode(&cut).is_err(), "{length} bytes");
        }
    }

    #[tokio::test]
    async fn a_message_longer_than_its_kind_allows_is_refused_before_it_is_read() {
        let mut bytes = vec![Kind::Error.code()];
        bytes.extend_from_slice(&u32::MAX.to_be_bytes());

        let error = Message::read(&mut bytes.as_slice()).await.unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn a_message_survives_the_socket_and_the_end_is_an_end() {
        let mut bytes = Vec::new();
        body().encode().unwrap().write(&mut bytes).await.unwrap();

        let mut from = bytes.as_slice();
        let message = Message::read(&mut from).await.unwrap().unwrap();

        assert_eq!(FrameBody::decode(&message).unwrap(), body());
        assert!(Message::read(&mut from).await.unwrap().is_none());
    }
}
