//! AAC in RTP: RFC 3640 in both directions, `MP4A-LATM` (RFC 6416) as it comes.
//!
//! ```text
//! bits of AU headers:16 | AU header, ... | access unit, ...              RFC 3640 3.2.1
//! AU header   size:13 index:3, of those behind the first index step:3    mode AAC-hbr, 3.3.6
//! ```
//!
//! An access unit too large for a packet is cut, each piece behind a header that says the whole size; the marker
//! stands on the last (3.2.3.1). Interleaving (index steps other than zero) is not understood. Called by packer
//! and unpacker. Invariant: an access unit comes out whole or not at all.

use bytes::{Bytes, BytesMut};

use super::mapping::AacSizes;
use super::packer::{PAYLOAD_BYTES_MAX, PackError, Sink, pieces};
use super::unpacker::{Fault, Sound, Sounds};
use crate::bits::Bits;

/// Bits of a size in mode AAC-hbr.
const SIZE_MAX: usize = (1 << 13) - 1;
const HEADERS_BYTES: usize = 4;

/// Packs one access unit.
pub(super) fn pack(frame: &[u8], sink: &mut Sink<'_>) -> Result<(), PackError> {
    let size = u16::try_from(frame.len())
        .ok()
        .filter(|size| usize::from(*size) <= SIZE_MAX);
    let [high, low] = (size.ok_or(PackError::TooLarge)? << 3).to_be_bytes();
    let mut pieces = pieces(frame, PAYLOAD_BYTES_MAX - HEADERS_BYTES);
    while let Some(piece) = pieces.next() {
        sink.packet(pieces.len() == 0, 0, &[&[0, 16, high, low], piece]);
    }
    Ok(())
}

/// Reads RFC 3640.
#[derive(Debug)]
pub(super) struct Unpack {
    sizes: AacSizes,
    /// RTP ticks of an access unit.
    ticks: u32,
    /// An access unit that came in part: its time, its whole size, what is there.
    part: Option<(u32, usize)>,
    buffer: BytesMut,
}

impl Unpack {
    pub(super) fn new(sizes: AacSizes, ticks: u32) -> Self {
        Self {
            sizes,
            ticks,
            part: None,
            buffer: BytesMut::new(),
        }
    }

    /// The access unit that these bytes belong to, if `size` is more than they are.
    fn add(
        &mut self,
        timestamp: u32,
        size: usize,
        bytes: &[u8],
        out: &mut Sounds<'_>,
    ) -> Result<(), Fault> {
        let mut result = Ok(());
        if self.part != Some((timestamp, size)) {
            if self.part.replace((timestamp, size)).is_some() {
                result = Err(Fault::Damaged);
            }
            self.buffer.clear();
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < size {
            return result;
        }
        self.part = None;
        let whole = self.buffer.split();
        if whole.len() > size {
            return Err(Fault::Form);
        }
        out.push(timestamp, whole.freeze());
        result
    }
}

impl Sound for Unpack {
    fn push(
        &mut self,
        timestamp: u32,
        _marker: bool,
        payload: &[u8],
        out: &mut Sounds<'_>,
    ) -> Result<(), Fault> {
        let (&[high, low], rest) = payload.split_first_chunk().ok_or(Fault::Short)?;
        let header_bits = usize::from(u16::from_be_bytes([high, low]));
        let (headers, mut data) = rest
            .split_at_checked(header_bits.div_ceil(8))
            .ok_or(Fault::Short)?;
        let mut bits = Bits::new(headers);
        let (mut read, mut time, mut is_first) = (0, timestamp, true);
        loop {
            let index = if is_first {
                self.sizes.index
            } else {
                self.sizes.index_delta
            };
            read += usize::from(self.sizes.size) + usize::from(index);
            if read > header_bits {
                return Ok(());
            }
            let size = bits.take(self.sizes.size).ok_or(Fault::Short)?;
            let step = bits.take(index).ok_or(Fault::Short)?;
            if step != 0 && !is_first {
                return Err(Fault::Unsupported);
            }
            let size = usize::try_from(size).map_err(|_| Fault::TooLarge)?;
            let Some((unit, behind)) = data.split_at_checked(size) else {
                // Only the sole access unit of a packet may be cut.
                let is_sole = is_first && read == header_bits;
                return if is_sole {
                    self.add(time, size, data, out)
                } else {
                    Err(Fault::Short)
                };
            };
            out.push(time, Bytes::copy_from_slice(unit));
            data = behind;
            time = time.wrapping_add(self.ticks);
            is_first = false;
        }
    }

    fn lose(&mut self) -> bool {
        self.buffer.clear();
        self.part.take().is_some()
    }
}

/// Reads `MP4A-LATM` whose configuration is in the SDP: lengths, then raw data blocks (ISO 14496-3 1.7.3).
#[derive(Debug, Default)]
pub(super) struct UnpackLatm {
    part: Option<u32>,
    buffer: BytesMut,
}

impl Sound for UnpackLatm {
    fn push(
        &mut self,
        timestamp: u32,
        _marker: bool,
        payload: &[u8],
        out: &mut Sounds<'_>,
    ) -> Result<(), Fault> {
        if self.part != Some(timestamp) {
            self.lose();
            self.part = Some(timestamp);
        }
        self.buffer.extend_from_slice(payload);
        let last = self.buffer.iter().position(|byte| *byte != 0xFF);
        let last = last.ok_or(Fault::Short)?;
        let size = 255 * last + usize::from(self.buffer[last]);
        let Some(end) = (last + 1)
            .checked_add(size)
            .filter(|end| *end <= self.buffer.len())
        else {
            // The rest comes in the next packet of the same time.
            return if self.buffer.len() > SIZE_MAX {
                Err(Fault::TooLarge)
            } else {
                Ok(())
            };
        };
        self.part = None;
        let unit = self.buffer.split().freeze().slice(last + 1..end);
        out.push(timestamp, unit);
        Ok(())
    }

    fn lose(&mut self) -> bool {
        self.buffer.clear();
        self.part.take().is_some()
    }
}
