//! MPEG audio, MP3 among it, in RTP (RFC 2250 3.5), both ways.
//!
//! ```text
//! 0:16 offset of the piece in its frame:16 | frames, or a piece of one
//! ```
//!
//! One frame a packet is written; several are read, each with its own time. Called by packer and unpacker.
//! Invariant: a frame comes out whole or not at all.

use bytes::{Bytes, BytesMut};

use super::packer::{PAYLOAD_BYTES_MAX, PackError, Sink, pieces};
use super::unpacker::{Fault, Sound, Sounds};
use crate::audio::Parsed;
use crate::mpeg_audio::parse;
use crate::ticks::{TS_TIMESCALE, rescale};

const HEADER_BYTES: usize = 4;

/// Packs a frame with its header.
pub(super) fn pack(frame: &[u8], sink: &mut Sink<'_>) -> Result<(), PackError> {
    if u16::try_from(frame.len()).is_err() {
        return Err(PackError::TooLarge);
    }
    let mut pieces = pieces(frame, PAYLOAD_BYTES_MAX - HEADER_BYTES);
    let mut offset = 0_u16;
    while let Some(piece) = pieces.next() {
        let [high, low] = offset.to_be_bytes();
        sink.packet(pieces.len() == 0, 0, &[&[0, 0, high, low], piece]);
        // The last sum may leave 16 bits and is not used.
        offset = offset.wrapping_add(piece.len() as u16);
    }
    Ok(())
}

/// Reads what [`pack`] and others write.
#[derive(Debug, Default)]
pub(super) struct Unpack {
    /// The whole size of a frame of which there is a part.
    part: Option<usize>,
    buffer: BytesMut,
}

impl Sound for Unpack {
    fn push(
        &mut self,
        time: u32,
        _marker: bool,
        payload: &[u8],
        out: &mut Sounds<'_>,
    ) -> Result<(), Fault> {
        let (&[_, _, high, low], mut data) = payload.split_first_chunk().ok_or(Fault::Short)?;
        let offset = usize::from(u16::from_be_bytes([high, low]));
        if offset > 0 {
            let size = self.part.filter(|_| offset == self.buffer.len());
            let size = size.ok_or(Fault::Damaged)?;
            self.buffer.extend_from_slice(data);
            if self.buffer.len() >= size {
                self.part = None;
                let mut whole = self.buffer.split();
                whole.truncate(size);
                out.push(time, whole.freeze());
            }
            return Ok(());
        }
        let lost = self.lose();
        let mut samples = 0_i64;
        while !data.is_empty() {
            let Parsed::Header(header) = parse(data) else {
                return Err(Fault::Form);
            };
            let later = rescale(samples, header.rate, TS_TIMESCALE);
            // A packet lasts seconds at most.
            let now = time.wrapping_add(u32::try_from(later).unwrap_or(0));
            let Some((frame, behind)) = data.split_at_checked(header.bytes) else {
                self.part = Some(header.bytes);
                self.buffer.extend_from_slice(data);
                break;
            };
            out.push(now, Bytes::copy_from_slice(frame));
            samples += i64::from(header.samples);
            data = behind;
        }
        if lost { Err(Fault::Damaged) } else { Ok(()) }
    }

    fn lose(&mut self) -> bool {
        self.buffer.clear();
        self.part.take().is_some()
    }
}
