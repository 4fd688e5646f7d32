//! VP9 in RTP (RFC 9628), both ways.
//!
//! ```text
//! picture id:1 inter:1 layers:1 flexible:1 begins:1 ends:1 structure:1 unreferred:1                          4.2
//! [picture id: 7 or 15 bits] [layer:3 switch:1 spatial:3 inter-layer:1, level:8 unless flexible]
//! [reference:7 more:1, up to three, if flexible and inter] [structure]
//! ```
//!
//! Written are the first byte alone; the rest serves scalability and is passed over. Streams of several spatial
//! layers are not read: their frames would have to be put together for a decoder. Called by packer and unpacker.
//! Invariant: what comes out is what went in.

use bytes::{BufMut as _, BytesMut};

use super::packer::{PAYLOAD_BYTES_MAX, PackError, Sink, pieces};
use super::pictures::Video;
use super::unpacker::Fault;
use crate::bits::Bits;
use crate::nal::Picture;

const PICTURE_ID: u8 = 0x80;
const INTER: u8 = 0x40;
const LAYERS: u8 = 0x20;
const FLEXIBLE: u8 = 0x10;
const BEGINS: u8 = 0x08;
const ENDS: u8 = 0x04;
const STRUCTURE: u8 = 0x02;
const REFERENCES_MAX: usize = 3;

/// Packs a frame, or a superframe of a shown one and those that are not.
pub(super) fn pack(frame: &[u8], sink: &mut Sink<'_>) -> Result<(), PackError> {
    let inter = if inspect(frame).sync { 0 } else { INTER };
    let mut pieces = pieces(frame, PAYLOAD_BYTES_MAX - 1);
    let mut mark = BEGINS;
    while let Some(piece) = pieces.next() {
        let is_end = pieces.len() == 0;
        mark |= if is_end { ENDS } else { 0 };
        sink.packet(is_end, 0, &[&[mark | inter], piece]);
        mark = 0;
    }
    Ok(())
}

/// What a frame is good for (VP9 6.2). Whether others refer to it is not looked for.
pub(crate) fn inspect(frame: &[u8]) -> Picture {
    let is_key = || {
        let mut bits = Bits::new(frame);
        let marker = bits.take(2)?;
        // Profile 3 has a reserved bit more.
        let profile = bits.take(2)?;
        bits.skip(usize::from(profile == 3))?;
        let shows_existing = bits.flag()?;
        Some(marker == 2 && !shows_existing && !bits.flag()?)
    };
    Picture {
        sync: is_key() == Some(true),
        discardable: false,
    }
}

/// Reads what [`pack`] and others write.
#[derive(Debug)]
pub(super) struct Unpack;

/// The payload behind its descriptor.
fn behind_descriptor(payload: &[u8]) -> Result<&[u8], Fault> {
    let take = |bytes: &mut &[u8]| -> Result<u8, Fault> {
        let (&first, rest) = bytes.split_first().ok_or(Fault::Short)?;
        *bytes = rest;
        Ok(first)
    };
    let mut rest = payload;
    let first = take(&mut rest)?;
    if first & PICTURE_ID != 0 && take(&mut rest)? & 0x80 != 0 {
        take(&mut rest)?;
    }
    if first & LAYERS != 0 {
        if take(&mut rest)? >> 1 & 7 != 0 {
            return Err(Fault::Unsupported);
        }
        if first & FLEXIBLE == 0 {
            take(&mut rest)?;
        }
    }
    if first & FLEXIBLE != 0 && first & INTER != 0 {
        for _ in 0..REFERENCES_MAX {
            if take(&mut rest)? & 1 == 0 {
                break;
            }
        }
    }
    if first & STRUCTURE != 0 {
        // Layers, whether sizes and pictures follow (4.2.1).
        let head = take(&mut rest)?;
        let sizes = if head & 0x10 != 0 {
            usize::from(head >> 5) + 1
        } else {
            0
        };
        rest = rest.get(4 * sizes..).ok_or(Fault::Short)?;
        let pictures = if head & 0x08 != 0 {
            take(&mut rest)?
        } else {
            0
        };
        for _ in 0..pictures {
            let references = usize::from(take(&mut rest)? >> 2 & 3);
            rest = rest.get(references..).ok_or(Fault::Short)?;
        }
    }
    Ok(rest)
}

impl Video for Unpack {
    fn begins(&self, payload: &[u8]) -> bool {
        payload.first().is_some_and(|first| first & BEGINS != 0)
    }

    fn add(&mut self, payload: &[u8], picture: &mut BytesMut) -> Result<(), Fault> {
        let data = behind_descriptor(payload)?;
        if data.is_empty() {
            return Err(Fault::Short);
        }
        if picture.is_empty() != self.begins(payload) {
            return Err(Fault::Form);
        }
        picture.put_slice(data);
        Ok(())
    }

    fn finish(&mut self, picture: &mut BytesMut) -> Result<Option<Picture>, Fault> {
        Ok(Some(inspect(picture)))
    }

    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_a_descriptor_may_have_is_passed_over() {
        let data = |payload: &'static [u8]| behind_descriptor(payload);

        assert_eq!(data(&[0x08, 7]), Ok(&[7][..]));
        assert_eq!(data(&[0x88, 0x92, 0x34, 7]), Ok(&[7][..]));
        assert_eq!(data(&[0x28, 0x20, 5, 7]), Ok(&[7][..]));
        // Flexible, two references.
        assert_eq!(data(&[0x78, 0x20, 3, 2, 7]), Ok(&[7][..]));
        // A structure of one layer with its size, of two pictures with one and no reference.
        let structure = &[0x0A, 0x18, 0, 160, 0, 120, 2, 0x04, 1, 0x00, 7];
        assert_eq!(data(structure), Ok(&[7][..]));
        assert_eq!(data(&structure[..8]), Err(Fault::Short));
        assert_eq!(data(&[0x28, 0x22, 5, 7]), Err(Fault::Unsupported));
    }

    #[test]
    fn decoding_starts_at_key_frames() {
        assert!(inspect(&[0x82]).sync);
        assert!(!inspect(&[0x86]).sync);
        assert!(!inspect(&[0x88]).sync);
        // Profile 3: one bit further.
        assert!(inspect(&[0xB1]).sync);
        assert!(!inspect(&[0xB2]).sync);
        assert!(!inspect(&[]).sync);
    }
}
