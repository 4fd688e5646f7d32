//! One frame, one packet: Opus (RFC 7587 4.2).
//!
//! Called by packer and unpacker. Invariant: a payload is a frame.

use bytes::Bytes;

use super::packer::{PackError, Sink};
use super::unpacker::{Fault, Sound, Sounds};

/// The most that one packet may carry: what fits UDP over IPv4 (65,535 less 20 and 8, and RTP's 12).
const SINGLE_BYTES_MAX: usize = 65_495;

/// Opus cannot be cut (RFC 7587 4.2); a packet above the path's size is left to IP.
pub(super) fn pack(frame: &[u8], sink: &mut Sink<'_>) -> Result<(), PackError> {
    if frame.len() > SINGLE_BYTES_MAX {
        return Err(PackError::TooLarge);
    }
    sink.packet(false, 0, &[frame]);
    Ok(())
}

/// Reads what is one frame a packet.
#[derive(Debug)]
pub(super) struct Unpack;

impl Sound for Unpack {
    fn push(&mut self, time: u32, payload: &[u8], out: &mut Sounds<'_>) -> Result<(), Fault> {
        out.push(time, Bytes::copy_from_slice(payload));
        Ok(())
    }
}
