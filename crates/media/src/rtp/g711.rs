//! G.711, µ-law and A-law, in RTP (RFC 3551 4.5.14), both ways: a byte is a sample.
//!
//! A frame too large for a packet is cut between samples, each piece with its own time. Called by packer and
//! unpacker. Invariant: samples come out as they went in; where one frame ends and the next begins may differ.

use std::num::NonZeroU8;

use super::packer::{PAYLOAD_BYTES_MAX, PackError, Sink};

/// Packs samples.
pub(super) fn pack(
    samples: &[u8],
    channels: NonZeroU8,
    sink: &mut Sink<'_>,
) -> Result<(), PackError> {
    let width = usize::from(channels.get());
    if !samples.len().is_multiple_of(width) {
        return Err(PackError::Form);
    }
    let most = PAYLOAD_BYTES_MAX / width;
    let moments = samples.len() / width;
    let moments = moments.div_ceil(moments.div_ceil(most).max(1)).max(1);
    let step = u32::try_from(moments).map_err(|_| PackError::TooLarge)?;
    let mut later = 0_u32;
    for piece in samples.chunks(moments * width) {
        sink.packet(false, later, &[piece]);
        later = later.wrapping_add(step);
    }
    Ok(())
}
