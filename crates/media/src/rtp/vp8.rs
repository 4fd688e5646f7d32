//! VP8 in RTP (RFC 7741), both ways.
//!
//! ```text
//! extended:1 0:1 unreferred:1 start:1 0:1 partition:3 | [picture id:1 level:1 layer:1 key index:1 0:4]        4.2
//! [picture id: 7 or 15 bits] [level:8] [layer:2 sync:1 key index:5]
//! ```
//!
//! Written are the first byte alone; the rest serves scalability and is passed over. Called by packer and unpacker.
//! Invariant: what comes out is what went in.

use bytes::{BufMut as _, BytesMut};

use super::packer::{PAYLOAD_BYTES_MAX, PackError, Sink, pieces};
use super::pictures::Video;
use super::unpacker::Fault;
use crate::nal::Picture;

const EXTENDED: u8 = 0x80;
const START: u8 = 0x10;
const PARTITION: u8 = 0x07;

/// Packs a frame.
pub(super) fn pack(frame: &[u8], sink: &mut Sink<'_>) -> Result<(), PackError> {
    let mut pieces = pieces(frame, PAYLOAD_BYTES_MAX - 1);
    let mut mark = START;
    while let Some(piece) = pieces.next() {
        sink.packet(pieces.len() == 0, 0, &[&[mark], piece]);
        mark = 0;
    }
    Ok(())
}

/// What a frame is good for (RFC 6386 9.1). Whether others refer to it is not looked for.
pub(crate) fn inspect(frame: &[u8]) -> Picture {
    Picture {
        sync: frame.first().is_some_and(|byte| byte & 1 == 0),
        discardable: false,
    }
}

/// Reads what [`pack`] and others write.
#[derive(Debug)]
pub(super) struct Unpack;

/// The payload behind its descriptor.
fn behind_descriptor(payload: &[u8]) -> Option<&[u8]> {
    let (&first, mut rest) = payload.split_first()?;
    if first & EXTENDED == 0 {
        return Some(rest);
    }
    let (&more, behind) = rest.split_first()?;
    rest = behind;
    if more & 0x80 != 0 {
        let is_long = rest.first()? & 0x80 != 0;
        rest = rest.get(if is_long { 2 } else { 1 }..)?;
    }
    let level = usize::from(more & 0x40 != 0);
    let layer = usize::from(more & 0x30 != 0);
    rest.get(level + layer..)
}

impl Video for Unpack {
    fn begins(&self, payload: &[u8]) -> bool {
        payload
            .first()
            .is_some_and(|first| first & (START | PARTITION) == START)
    }

    fn add(&mut self, payload: &[u8], picture: &mut BytesMut) -> Result<(), Fault> {
        let data = behind_descriptor(payload).filter(|data| !data.is_empty());
        let data = data.ok_or(Fault::Short)?;
        if picture.is_empty() && !self.begins(payload) {
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

        assert_eq!(data(&[0x10, 7]), Some(&[7][..]));
        assert_eq!(data(&[0x90, 0x80, 0x12, 7]), Some(&[7][..]));
        assert_eq!(data(&[0x90, 0xF0, 0x92, 0x34, 1, 2, 7]), Some(&[7][..]));
        assert_eq!(data(&[0x90, 0x20, 2, 7]), Some(&[7][..]));
        assert_eq!(data(&[0x90, 0xC0, 0x92]), None);
        assert_eq!(data(&[0x90]), None);
    }
}
