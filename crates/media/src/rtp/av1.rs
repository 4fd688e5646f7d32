//! AV1 in RTP (AV1 RTP specification 1.0), both ways.
//!
//! ```text
//! continues before:1 continues behind:1 elements:2 new sequence:1 0:3 | element, ...              4.4
//! element   [size: leb128, unless it is the last of the 1 to 3 that are counted] OBU without size, or a piece
//! ```
//!
//! Small OBUs that follow each other share a packet, up to three; delimiters, tile lists and padding are left out
//! (5). Scalability is carried and not understood. Called by packer and unpacker. Invariant: what comes out is the
//! OBUs that went in, each with its size.

use bytes::BytesMut;
use levada_wire::frame::FRAME_BYTES_MAX;

use super::packer::{PAYLOAD_BYTES_MAX, PackError, Sink, pieces};
use super::pictures::Video;
use super::unpacker::Fault;
use crate::av1::{self, Obu, obus, put_leb128, take_leb128};
use crate::nal::Picture;

const BEFORE: u8 = 0x80;
const BEHIND: u8 = 0x40;
const NEW_SEQUENCE: u8 = 0x08;
/// OBUs in one packet: as many as the header can count.
const ELEMENTS_MAX: u8 = 3;

/// Packs a temporal unit.
pub(super) fn pack(temporal_unit: &[u8], sink: &mut Sink<'_>) -> Result<(), PackError> {
    if obus(temporal_unit).any(|obu| obu.is_err()) {
        return Err(PackError::Form);
    }
    let carried = obus(temporal_unit)
        .map_while(Result::ok)
        .filter(Obu::is_carried);
    let mut carried = carried.peekable();
    if carried.peek().is_none() {
        return Err(PackError::Form);
    }
    let is_new = av1::inspect(temporal_unit).sync;
    let mut mark = if is_new { NEW_SEQUENCE } else { 0 };
    let mut elements = Vec::new();
    while let Some(obu) = carried.next() {
        if bare_bytes(&obu) > PAYLOAD_BYTES_MAX - 1 {
            fragment(&obu, mark, carried.peek().is_none(), sink);
            mark = 0;
            continue;
        }
        elements.clear();
        put_bare(&obu, &mut elements);
        let (mut count, mut last) = (1, obu);
        // A size goes in front of each but the last: two bytes at most.
        while count < ELEMENTS_MAX
            && let Some(next) = carried
                .next_if(|next| 1 + elements.len() + 2 + bare_bytes(next) <= PAYLOAD_BYTES_MAX)
        {
            elements.truncate(elements.len() - bare_bytes(&last));
            put_leb128(bare_bytes(&last), &mut elements);
            put_bare(&last, &mut elements);
            put_bare(&next, &mut elements);
            (count, last) = (count + 1, next);
        }
        let header = [count << 4 | mark];
        sink.packet(carried.peek().is_none(), 0, &[&header, &elements]);
        mark = 0;
    }
    Ok(())
}

fn bare_bytes(obu: &Obu<'_>) -> usize {
    obu.bare_header().1 + obu.payload.len()
}

fn put_bare(obu: &Obu<'_>, out: &mut Vec<u8>) {
    let (header, bytes) = obu.bare_header();
    out.extend_from_slice(&header[..bytes]);
    out.extend_from_slice(obu.payload);
}

fn fragment(obu: &Obu<'_>, new: u8, is_last: bool, sink: &mut Sink<'_>) {
    let mut bare = Vec::with_capacity(bare_bytes(obu));
    put_bare(obu, &mut bare);
    let mut pieces = pieces(&bare, PAYLOAD_BYTES_MAX - 1);
    let mut mark = new;
    while let Some(piece) = pieces.next() {
        let is_end = pieces.len() == 0;
        mark |= if is_end { 0 } else { BEHIND };
        sink.packet(is_end && is_last, 0, &[&[1 << 4 | mark], piece]);
        mark = BEFORE;
    }
}

/// Reads what [`pack`] and others write.
#[derive(Debug, Default)]
pub(super) struct Unpack {
    /// An OBU of which more is to come.
    part: Option<Vec<u8>>,
}

impl Unpack {
    fn element(
        &mut self,
        bytes: &[u8],
        goes_on: bool,
        picture: &mut BytesMut,
    ) -> Result<(), Fault> {
        if let Some(part) = &mut self.part {
            part.extend_from_slice(bytes);
            if part.len() > FRAME_BYTES_MAX {
                return Err(Fault::TooLarge);
            }
        } else if goes_on {
            self.part = Some(bytes.to_vec());
        }
        if goes_on {
            return Ok(());
        }
        let part = self.part.take();
        let mut rest = part.as_deref().unwrap_or(bytes);
        let obu = Obu::take(&mut rest).map_err(|av1::NotObus| Fault::Form)?;
        if obu.is_carried() {
            obu.write(picture);
        }
        Ok(())
    }
}

impl Video for Unpack {
    fn begins(&self, payload: &[u8]) -> bool {
        payload
            .first()
            .is_some_and(|mark| mark & (NEW_SEQUENCE | BEFORE) == NEW_SEQUENCE)
    }

    fn add(&mut self, payload: &[u8], picture: &mut BytesMut) -> Result<(), Fault> {
        let (&mark, mut rest) = payload.split_first().ok_or(Fault::Short)?;
        if (mark & BEFORE != 0) != self.part.is_some() {
            return Err(Fault::Form);
        }
        let count = mark >> 4 & 3;
        let mut taken = 0;
        while !rest.is_empty() {
            taken += 1;
            let size = if taken == count {
                rest.len()
            } else {
                take_leb128(&mut rest).ok_or(Fault::Short)?
            };
            let (element, behind) = rest.split_at_checked(size).ok_or(Fault::Short)?;
            rest = behind;
            let goes_on = rest.is_empty() && mark & BEHIND != 0;
            if !element.is_empty() {
                self.element(element, goes_on, picture)?;
            }
        }
        if taken < count {
            Err(Fault::Short)
        } else {
            Ok(())
        }
    }

    fn finish(&mut self, picture: &mut BytesMut) -> Result<Option<Picture>, Fault> {
        if self.part.is_some() {
            return Err(Fault::Damaged);
        }
        Ok((!picture.is_empty()).then(|| av1::inspect(picture)))
    }

    fn reset(&mut self) {
        self.part = None;
    }
}
