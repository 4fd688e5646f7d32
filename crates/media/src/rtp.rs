//! RTP: frames into packets and back (RFC 3550 and a format for each codec).
//!
//! | file | what |
//! |---|---|
//! | `packet` | the header: a view, and the bytes that are written |
//! | `numbering` | SSRC, sequence, time: why every node makes the same packets |
//! | `mapping` | how a track is carried |
//! | [`rtcp`] | reports of senders and receivers |
//! | `packer`, `batch` | frames into packets that all clients share |
//! | `align` | where the tracks of a sender stand to each other |
//! | `unpacker`, `reorder`, `pictures`, `decoding`, `time` | packets into frames |
//! | `nal`, `av1`, `vp8`, `vp9`, `jpeg`, `aac`, `g711`, `mpeg_audio`, `single` | the formats |
//!
//! Without sockets and clocks: a gateway has those. What a frame of which codec looks like is in the crate's own
//! documentation. Invariant: what a [`Packer`] writes, an [`Unpacker`] gives back frame by frame, in the form that
//! the format's file states.

mod aac;
mod align;
mod av1;
mod batch;
mod decoding;
mod g711;
mod jpeg;
mod mapping;
mod mpeg_audio;
mod nal;
mod numbering;
mod packer;
mod packet;
mod pictures;
mod reorder;
pub mod rtcp;
mod single;
mod time;
mod unpacker;
pub(crate) mod vp8;
pub(crate) mod vp9;

pub use align::{Align, PACKETS_MAX, Start, WAIT};
pub use batch::{Batch, Run};
pub use mapping::{AacSizes, Encoding, Mapping, MappingError};
pub(crate) use mapping::{
    OPAQUE_PREFIX, TYPE_JPEG, TYPE_MPEG_AUDIO, TYPE_MPEG_TS, TYPE_PCMA, TYPE_PCMU,
};
pub use numbering::Numbering;
pub use packer::{PACKET_BYTES_MAX, PackError, Packer};
pub use packet::{HEADER_BYTES, Head, Packet, PacketError};
pub use reorder::WAITING_MAX;
pub use time::{Unwrapper, rtp_time};
pub use unpacker::{Counts, Unpacker};
