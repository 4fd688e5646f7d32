//! Frames into RTP packets.
//!
//! A pure function of the flow, the frame's bytes and the count of packets before it: see `numbering.rs`. Packets
//! have at most [`PACKET_BYTES_MAX`], and the pieces of one frame are of equal size but for the last, so that GSO
//! can send them at once. Not pacing and not a choice of clients. Called by gateways, once a frame.
//! Invariant: a frame is packed whole or not at all, and the last packet of a picture alone has the marker.

use std::num::NonZeroU32;

use levada_wire::{FlowId, Frame, Track};

use super::batch::Batch;
use super::mapping::{Encoding, Mapping, MappingError};
use super::numbering::Numbering;
use super::packet::{HEADER_BYTES, Head};
use super::time::rtp_time;
use super::{aac, av1, g711, jpeg, mpeg_audio, nal, single, vp8, vp9};

/// The largest packet that is made, but for what cannot be cut (`single.rs`): fits any IPv6 path (1,280 less 48 for
/// IPv6 and UDP).
pub const PACKET_BYTES_MAX: usize = 1_232;
/// What a packet can carry.
pub(super) const PAYLOAD_BYTES_MAX: usize = PACKET_BYTES_MAX - HEADER_BYTES;

/// Why a frame was not packed. Nothing of it is in the batch, and the next frame can be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// It has nothing that the format could carry.
    #[error("the frame is empty")]
    Empty,
    /// Its bytes are not what the codec's word says.
    #[error("the frame is not what its track says")]
    Form,
    /// The format cannot say its size.
    #[error("the frame is too large for its RTP format")]
    TooLarge,
}

/// Packs the frames of one track.
#[derive(Clone, Debug)]
pub struct Packer {
    numbering: Numbering,
    mapping: Mapping,
    timescale: NonZeroU32,
    /// Packets since the instance's start.
    packets: u64,
}

impl Packer {
    /// A packer for a track of a flow, at the instance's start.
    ///
    /// # Errors
    ///
    /// The track cannot be carried in RTP.
    pub fn new(flow: FlowId, track: &Track, payload_type: u8) -> Result<Self, MappingError> {
        Ok(Self {
            numbering: Numbering::of(flow, track.id),
            mapping: Mapping::of(track, payload_type)?,
            timescale: track.timescale,
            packets: 0,
        })
    }

    /// Joins at a frame before which the track had this many packets (see the head of `numbering.rs`).
    pub const fn resume(&mut self, packets: u64) {
        self.packets = packets;
    }

    /// This many packets are missing here: players are to see it.
    pub const fn skip(&mut self, packets: u64) {
        self.packets = self.packets.saturating_add(packets);
    }

    /// Packets since the instance's start.
    #[must_use]
    pub const fn packets(&self) -> u64 {
        self.packets
    }

    /// How the track is carried.
    #[must_use]
    pub const fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// SSRC, first sequence number and time offset.
    #[must_use]
    pub const fn numbering(&self) -> Numbering {
        self.numbering
    }

    /// The sequence number of the next packet.
    #[must_use]
    pub const fn sequence(&self) -> u16 {
        // The low 16 bits are what sequence numbers are.
        self.numbering
            .first_sequence
            .wrapping_add(self.packets as u16)
    }

    /// The RTP time of `pts` ticks of the track.
    #[must_use]
    pub fn time(&self, pts: i64) -> u32 {
        let offset = self.numbering.time_offset;
        rtp_time(pts, self.timescale, self.mapping.clock, offset)
    }

    /// Appends the packets of a frame.
    ///
    /// # Errors
    ///
    /// The frame cannot be packed; it is left out.
    pub fn pack(&mut self, frame: &Frame, batch: &mut Batch) -> Result<(), PackError> {
        let head = Head {
            marker: false,
            payload_type: self.mapping.payload_type,
            sequence: self.sequence(),
            timestamp: self.time(frame.pts),
            ssrc: self.numbering.ssrc,
        };
        let mut sink = Sink {
            head,
            batch: Some(batch),
            packets: 0,
        };
        cut(&self.mapping.encoding, frame, &mut sink)?;
        self.packets += sink.packets;
        Ok(())
    }

    /// How many packets a frame makes; none if it cannot be packed. Allocates nothing.
    #[must_use]
    pub fn count(&self, frame: &Frame) -> u64 {
        let head = Head {
            marker: false,
            payload_type: 0,
            sequence: 0,
            timestamp: 0,
            ssrc: 0,
        };
        let mut sink = Sink {
            head,
            batch: None,
            packets: 0,
        };
        cut(&self.mapping.encoding, frame, &mut sink).map_or(0, |()| sink.packets)
    }
}

/// Cuts a frame. A format gives an error before its first packet or never.
fn cut(encoding: &Encoding, frame: &Frame, sink: &mut Sink<'_>) -> Result<(), PackError> {
    if frame.data.is_empty() {
        return Err(PackError::Empty);
    }
    match encoding {
        Encoding::Nal { codec, .. } => nal::pack(*codec, &frame.data, sink),
        Encoding::Aac(_) => aac::pack(&frame.data, sink),
        Encoding::Latm => Err(PackError::Form),
        Encoding::Av1 => av1::pack(&frame.data, sink),
        Encoding::Vp8 => vp8::pack(&frame.data, sink),
        Encoding::Vp9 => vp9::pack(&frame.data, sink),
        Encoding::Jpeg => jpeg::pack(&frame.data, sink),
        Encoding::Opus => single::pack(&frame.data, sink),
        Encoding::G711 { channels } => g711::pack(&frame.data, *channels, sink),
        Encoding::MpegAudio => mpeg_audio::pack(&frame.data, sink),
        Encoding::MpegTs => single::pack_ts(&frame.data, sink),
        Encoding::Opaque => single::pack_opaque(&frame.data, sink),
    }
}

/// Where packets go, or where they are only counted.
#[derive(Debug)]
pub(super) struct Sink<'a> {
    head: Head,
    batch: Option<&'a mut Batch>,
    packets: u64,
}

impl Sink<'_> {
    /// Writes a packet of these pieces, `later` ticks of the RTP clock behind the frame's time.
    pub(super) fn packet(&mut self, marker: bool, later: u32, pieces: &[&[u8]]) {
        self.packets += 1;
        if let Some(batch) = &mut self.batch {
            let head = Head {
                marker,
                timestamp: self.head.timestamp.wrapping_add(later),
                ..self.head
            };
            let head = head.encode();
            let [a, b, c] = match pieces {
                [] => [&[][..]; 3],
                [a] => [*a, &[], &[]],
                [a, b] => [*a, *b, &[]],
                [a, b, c, ..] => [*a, *b, *c],
            };
            batch.push(&[&head, a, b, c]);
        }
        self.head.sequence = self.head.sequence.wrapping_add(1);
    }
}

/// The pieces of `bytes` of at most `most` each: equal but for a shorter last one, and never none.
pub(super) fn pieces(bytes: &[u8], most: usize) -> std::slice::Chunks<'_, u8> {
    let count = bytes.len().div_ceil(most).max(1);
    bytes.chunks(bytes.len().div_ceil(count).max(1))
}
