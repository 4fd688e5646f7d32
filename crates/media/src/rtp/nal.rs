//! H.264 (RFC 6184, packetization mode 1) and H.265 (RFC 7798) in RTP, both ways: the second is the first with
//! wider headers.
//!
//! ```text
//! H.264 header     forbidden:1 importance:2 type:5                    RFC 6184 1.3
//! H.265 header     forbidden:1 type:6 layer:6 temporal id + 1:3       RFC 7798 1.1.4
//! one NAL unit     as it is
//! several          header of type 24 (STAP-A) or 48 (AP) | size:16 NAL unit, ...               5.7.1; 4.4.2
//! a piece of one   header of type 28 (FU-A) or 49 (FU) | start:1 end:1 type:6 | its bytes      5.8; 4.4.3
//! ```
//!
//! Small NAL units that follow each other share a packet. Delimiters are left out: the marker does their work, and
//! a packet for each would be one in ten of a usual stream. Interleaved mode and decoding order numbers are not
//! read. Called by packer and unpacker. Invariant: what comes out is what went in, with start codes of four bytes
//! and without delimiters.

use bytes::{BufMut as _, BytesMut};

use super::packer::{PAYLOAD_BYTES_MAX, PackError, Sink, pieces};
use super::pictures::Video;
use super::unpacker::Fault;
use crate::nal::{Codec, Inspector, ParameterSets, Picture, Role, trim, units};

const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;
const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// What differs between the two.
trait Shape {
    fn header_bytes(self) -> usize;
    /// The type of a packet of several NAL units, and that of a piece of one.
    fn several(self) -> u8;
    fn piece(self) -> u8;
    /// A header with another type.
    fn retype(self, header: &[u8], kind: u8) -> [u8; 2];
    /// The header of a packet of several, of which `header` is the next one's.
    fn merge(self, before: Option<[u8; 2]>, header: &[u8]) -> [u8; 2];
}

impl Shape for Codec {
    fn header_bytes(self) -> usize {
        match self {
            Self::H264 => 1,
            Self::H265 => 2,
        }
    }

    fn several(self) -> u8 {
        match self {
            Self::H264 => 24,
            Self::H265 => 48,
        }
    }

    fn piece(self) -> u8 {
        match self {
            Self::H264 => 28,
            Self::H265 => 49,
        }
    }

    fn retype(self, header: &[u8], kind: u8) -> [u8; 2] {
        match (self, header) {
            (Self::H264, [first, ..]) => [first & 0xE0 | kind & 0x1F, 0],
            (Self::H265, [first, second, ..]) => [first & 0x81 | (kind & 0x3F) << 1, *second],
            _ => [0; 2],
        }
    }

    /// The highest importance (RFC 6184 5.7), the lowest layer and temporal id (RFC 7798 4.4.2).
    fn merge(self, before: Option<[u8; 2]>, header: &[u8]) -> [u8; 2] {
        let new = self.retype(header, self.several());
        let Some(old) = before else {
            return new;
        };
        let forbidden = (old[0] | new[0]) & 0x80;
        match self {
            Self::H264 => [forbidden | (old[0] & 0x7F).max(new[0] & 0x7F), 0],
            Self::H265 => {
                let layer = |bytes: [u8; 2]| u16::from_be_bytes(bytes) & 0x01F8;
                let temporal = (old[1] & 7).min(new[1] & 7);
                let [high, low] = layer(old).min(layer(new)).to_be_bytes();
                [forbidden | self.several() << 1 | high, low | temporal]
            }
        }
    }
}

/// Packs an access unit in Annex B.
pub(super) fn pack(codec: Codec, access_unit: &[u8], sink: &mut Sink<'_>) -> Result<(), PackError> {
    let is_carried = |nal: &&[u8]| {
        nal.len() > codec.header_bytes() && codec.kind(nal) != Some(codec.delimiter_kind())
    };
    let mut nals = units(access_unit).map(trim).filter(is_carried).peekable();
    if nals.peek().is_none() {
        return Err(PackError::Form);
    }
    let mut several = Vec::new();
    while let Some(nal) = nals.next() {
        if nal.len() > PAYLOAD_BYTES_MAX {
            fragment(codec, nal, nals.peek().is_none(), sink);
            continue;
        }
        several.clear();
        aggregate(codec, nal, &mut several);
        let alone = several.len();
        while let Some(next) =
            nals.next_if(|next| several.len() + 2 + next.len() <= PAYLOAD_BYTES_MAX)
        {
            aggregate(codec, next, &mut several);
        }
        let payload = if several.len() == alone {
            nal
        } else {
            &several
        };
        sink.packet(nals.peek().is_none(), 0, &[payload]);
    }
    Ok(())
}

fn aggregate(codec: Codec, nal: &[u8], several: &mut Vec<u8>) {
    let bytes = codec.header_bytes();
    let mut before = [0; 2];
    let is_first = several.is_empty();
    if is_first {
        several.resize(bytes, 0);
    } else {
        before[..bytes].copy_from_slice(&several[..bytes]);
    }
    let header = codec.merge((!is_first).then_some(before), nal);
    several[..bytes].copy_from_slice(&header[..bytes]);
    let size = u16::try_from(nal.len()).expect("it fits a packet");
    several.extend_from_slice(&size.to_be_bytes());
    several.extend_from_slice(nal);
}

fn fragment(codec: Codec, nal: &[u8], is_last: bool, sink: &mut Sink<'_>) {
    let (header, body) = nal.split_at(codec.header_bytes());
    let kind = codec.kind(nal).unwrap_or(0);
    let front = codec.retype(header, codec.piece());
    let front = &front[..header.len()];
    let mut pieces = pieces(body, PAYLOAD_BYTES_MAX - header.len() - 1);
    let mut mark = FU_START;
    while let Some(piece) = pieces.next() {
        let is_end = pieces.len() == 0;
        mark |= if is_end { FU_END } else { 0 };
        sink.packet(is_end && is_last, 0, &[front, &[mark | kind], piece]);
        mark = 0;
    }
}

/// Reads what [`pack`] and others write.
#[derive(Debug)]
pub(super) struct Unpack {
    codec: Codec,
    sets: ParameterSets,
    inspector: Inspector,
    reorder: usize,
    /// A fragmented NAL unit is in the making.
    in_fragment: bool,
}

impl Unpack {
    pub(super) fn new(codec: Codec, sets: ParameterSets) -> Self {
        let mut unpack = Self {
            codec,
            sets,
            inspector: Inspector::new(codec),
            reorder: 0,
            in_fragment: false,
        };
        unpack.note_reorder();
        unpack
    }

    fn note_reorder(&mut self) {
        let reorder = self.sets.parse_sps().and_then(|sps| sps.reorder);
        self.reorder = reorder.map_or(self.reorder, usize::from);
    }

    /// Header, type and body of a payload.
    fn split<'a>(&self, payload: &'a [u8]) -> Option<(&'a [u8], u8, &'a [u8])> {
        let (header, body) = payload.split_at_checked(self.codec.header_bytes())?;
        Some((header, self.codec.kind(header)?, body))
    }

    fn add_piece(
        &mut self,
        header: &[u8],
        body: &[u8],
        picture: &mut BytesMut,
    ) -> Result<(), Fault> {
        let (&mark, piece) = body.split_first().ok_or(Fault::Short)?;
        if (mark & FU_START != 0) == self.in_fragment {
            return Err(Fault::Form);
        }
        if mark & FU_START != 0 {
            let whole = self.codec.retype(header, mark & 0x3F);
            append(&whole[..header.len()], picture);
        }
        picture.put_slice(piece);
        self.in_fragment = mark & FU_END == 0;
        Ok(())
    }
}

impl Video for Unpack {
    fn begins(&self, payload: &[u8]) -> bool {
        let Some((header, kind, body)) = self.split(payload) else {
            return false;
        };
        let role = if kind == self.codec.several() {
            self.codec.role(body.get(2..).unwrap_or_default())
        } else if kind == self.codec.piece() {
            let (mark, piece) = body.split_first().unwrap_or((&0, &[]));
            let whole = self.codec.retype(header, mark & 0x3F);
            let nal = [&whole[..header.len()], &piece[..piece.len().min(1)]].concat();
            self.codec.role(&nal).filter(|_| mark & FU_START != 0)
        } else {
            self.codec.role(payload)
        };
        matches!(role, Some(Role::Opens | Role::FirstSlice))
    }

    fn add(&mut self, payload: &[u8], picture: &mut BytesMut) -> Result<(), Fault> {
        let (header, kind, body) = self.split(payload).ok_or(Fault::Short)?;
        if kind == self.codec.piece() {
            return self.add_piece(header, body, picture);
        }
        if self.in_fragment || body.is_empty() {
            return Err(Fault::Form);
        }
        if kind == self.codec.several() {
            let mut rest = body;
            while !rest.is_empty() {
                let (&[high, low], behind) = rest.split_first_chunk().ok_or(Fault::Short)?;
                let size = usize::from(u16::from_be_bytes([high, low]));
                let (nal, behind) = behind.split_at_checked(size).ok_or(Fault::Short)?;
                append(nal, picture);
                rest = behind;
            }
        } else if kind < self.codec.several() {
            append(payload, picture);
        } else {
            return Err(Fault::Unsupported);
        }
        Ok(())
    }

    fn finish(&mut self, picture: &mut BytesMut) -> Result<Option<Picture>, Fault> {
        if self.in_fragment {
            return Err(Fault::Damaged);
        }
        self.sets.learn(picture);
        self.note_reorder();
        let has_picture = units(picture).any(|nal| {
            let role = self.codec.role(nal);
            matches!(role, Some(Role::FirstSlice | Role::Slice))
        });
        if !has_picture {
            // Parameter sets that came by themselves are kept for the next picture.
            return Ok(None);
        }
        let seen = self.inspector.inspect(picture);
        if seen.sync {
            self.sets.complete(picture);
        }
        Ok(Some(seen))
    }

    fn reset(&mut self) {
        self.in_fragment = false;
    }

    fn reorder(&self) -> usize {
        self.reorder
    }
}

fn append(nal: &[u8], picture: &mut BytesMut) {
    picture.put_slice(&START_CODE);
    picture.put_slice(nal);
}
