//! Formats whose packets are frames: Opus (RFC 7587 4.2), transport streams (RFC 2250 2), and whatever is not known.
//!
//! Called by packer and unpacker. Invariant: a packet is a frame, but for a transport stream that came in larger
//! pieces than a packet holds.

use bytes::Bytes;

use super::packer::{PackError, Sink};
use super::unpacker::{Fault, Sound, Sounds};
use crate::ts::PACKET_BYTES;

/// The most that one packet may carry: what fits UDP over IPv4 (65,535 less 20 and 8, and RTP's 12).
const SINGLE_BYTES_MAX: usize = 65_495;
/// 188-byte packets in one of RTP: what everybody sends, and set-top boxes expect. With headers 1,356 bytes.
const TS_PACKETS_MAX: usize = 7;
const SYNC_BYTE: u8 = 0x47;

/// Opus cannot be cut (RFC 7587 4.2); a packet above the path's size is left to IP.
pub(super) fn pack(frame: &[u8], sink: &mut Sink<'_>) -> Result<(), PackError> {
    if frame.len() > SINGLE_BYTES_MAX {
        return Err(PackError::TooLarge);
    }
    sink.packet(false, 0, &[frame]);
    Ok(())
}

/// Packs what is not known: whether the marker was set, then the payload as it came.
pub(super) fn pack_opaque(frame: &[u8], sink: &mut Sink<'_>) -> Result<(), PackError> {
    let (marker, payload) = frame.split_first().ok_or(PackError::Empty)?;
    if payload.len() > SINGLE_BYTES_MAX {
        return Err(PackError::TooLarge);
    }
    sink.packet(*marker != 0, 0, &[payload]);
    Ok(())
}

/// Packs whole packets of a transport stream.
pub(super) fn pack_ts(frame: &[u8], sink: &mut Sink<'_>) -> Result<(), PackError> {
    if !is_ts(frame) {
        return Err(PackError::Form);
    }
    for piece in frame.chunks(TS_PACKETS_MAX * PACKET_BYTES) {
        sink.packet(false, 0, &[piece]);
    }
    Ok(())
}

fn is_ts(bytes: &[u8]) -> bool {
    let (packets, rest) = bytes.as_chunks::<PACKET_BYTES>();
    rest.is_empty() && packets.iter().all(|packet| packet[0] == SYNC_BYTE)
}

/// Reads them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unpack {
    Plain,
    Ts,
    Opaque,
}

impl Sound for Unpack {
    fn push(
        &mut self,
        time: u32,
        marker: bool,
        payload: &[u8],
        out: &mut Sounds<'_>,
    ) -> Result<(), Fault> {
        match self {
            Self::Plain => out.push(time, Bytes::copy_from_slice(payload)),
            Self::Ts if is_ts(payload) => out.push(time, Bytes::copy_from_slice(payload)),
            Self::Ts => return Err(Fault::Form),
            Self::Opaque => out.push(time, [&[u8::from(marker)], payload].concat().into()),
        }
        Ok(())
    }
}
