//! JPEG in RTP (RFC 2435), both ways.
//!
//! ```text
//! 0:8 offset:24 | type:8 q:8 width/8:8 height/8:8                                                    3.1
//! [restart interval:16 first:1 last:1 count:14]              types 64 to 127                        3.1.7
//! [0:8 precision:8 length:16 tables]                         q of 128 and more, first packet         3.1.8
//! scan
//! ```
//!
//! Only the scan travels: the receiver writes the headers anew. So an image comes back with the same picture and
//! other headers, and only baseline images of three components, 4:2:2 or 4:2:0, with the usual Huffman tables and up
//! to 2,040 pixels can go. Quantization tables are sent with each image (q 255). Called by packer and unpacker.
//! Invariant: what comes out packs to the same packets again.

use bytes::{BufMut as _, BytesMut};

use super::packer::{PAYLOAD_BYTES_MAX, PackError, Sink};
use super::pictures::Video;
use super::unpacker::Fault;
use crate::jpeg::{DHT, DQT, DRI, EOI, HUFFMAN, SOF0, SOI, SOS, put_segment, segments};
use crate::nal::Picture;

const HEADER_BYTES: usize = 8;
const TABLE_BYTES: usize = 64;
/// Tables are sent, and may differ in each image.
const Q_DYNAMIC: u8 = 255;
/// Packets of an image that is not cut at restart intervals say this (3.1.7).
const RESTART_WHOLE: u16 = 0xFFFF;

/// What the headers of an image say.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Image<'a> {
    /// 0 for 4:2:2, 1 for 4:2:0.
    kind: u8,
    /// In blocks of eight pixels.
    width: u8,
    height: u8,
    restart: u16,
    /// For luminance and chrominance.
    tables: [[u8; TABLE_BYTES]; 2],
    scan: &'a [u8],
}

impl<'a> Image<'a> {
    fn parse(image: &'a [u8]) -> Option<Self> {
        let mut tables = [None; 4];
        let (mut frame, mut restart, mut scan) = (None, 0, None);
        for (marker, content) in segments(image) {
            match marker {
                DQT => read_tables(content, &mut tables)?,
                DHT => check_huffman(content)?,
                DRI => restart = u16::from_be_bytes(*content.first_chunk()?),
                SOF0 => frame = Some(read_frame(content)?),
                // Progressive and the like.
                0xC1..=0xCF => return None,
                SOS => scan = content.get(10..),
                _ => {}
            }
        }
        let (kind, [width, height], [luminance, chrominance]) = frame?;
        let scan = scan?;
        let end = scan.windows(2).rposition(|pair| pair == [0xFF, EOI]);
        Some(Self {
            kind,
            width,
            height,
            restart,
            tables: [
                (*tables.get(usize::from(luminance))?)?,
                (*tables.get(usize::from(chrominance))?)?,
            ],
            scan: &scan[..end.unwrap_or(scan.len())],
        })
    }
}

fn read_tables(mut content: &[u8], tables: &mut [Option<[u8; TABLE_BYTES]>; 4]) -> Option<()> {
    while let Some((&head, rest)) = content.split_first() {
        let (table, rest) = rest.split_first_chunk()?;
        // Of 8 bits, that is below 16.
        *tables.get_mut(usize::from(head))? = Some(*table);
        content = rest;
    }
    Some(())
}

/// Passes over tables that are the usual ones.
fn check_huffman(mut content: &[u8]) -> Option<()> {
    while !content.is_empty() {
        let usual = HUFFMAN.iter().find_map(|(head, lengths, values)| {
            content
                .strip_prefix(&[*head])?
                .strip_prefix(lengths)?
                .strip_prefix(*values)
        });
        content = usual?;
    }
    Some(())
}

/// Type, size in blocks, numbers of the tables.
fn read_frame(content: &[u8]) -> Option<(u8, [u8; 2], [u8; 2])> {
    let &[8, h0, h1, w0, w1, 3, _, y, ty, _, cb, tcb, _, cr, tcr] = content else {
        return None;
    };
    let kind = match (y, cb, cr) {
        (0x21, 0x11, 0x11) => 0,
        (0x22, 0x11, 0x11) => 1,
        _ => return None,
    };
    let blocks = |high, low| {
        let pixels = u16::from_be_bytes([high, low]);
        u8::try_from(pixels.div_ceil(8))
            .ok()
            .filter(|blocks| *blocks > 0)
    };
    let size = [blocks(w0, w1)?, blocks(h0, h1)?];
    (tcb == tcr).then_some((kind, size, [ty, tcb]))
}

/// Packs an image.
pub(super) fn pack(image: &[u8], sink: &mut Sink<'_>) -> Result<(), PackError> {
    let image = Image::parse(image).ok_or(PackError::Form)?;
    if image.scan.is_empty() {
        return Err(PackError::Form);
    }
    if image.scan.len() >= 1 << 24 {
        return Err(PackError::TooLarge);
    }
    let has_restart = image.restart > 0;
    let mut front = Vec::with_capacity(HEADER_BYTES + 4 + 4 + 2 * TABLE_BYTES);
    let (mut offset, mut rest) = (0_u32, image.scan);
    while !rest.is_empty() {
        front.clear();
        front.put_u32(offset);
        let kind = image.kind | if has_restart { 0x40 } else { 0 };
        front.put_slice(&[kind, Q_DYNAMIC, image.width, image.height]);
        if has_restart {
            front.put_u16(image.restart);
            front.put_u16(RESTART_WHOLE);
        }
        if offset == 0 {
            front.put_slice(&[0, 0, 0, 128]);
            front.put_slice(image.tables.as_flattened());
        }
        let room = PAYLOAD_BYTES_MAX - front.len();
        let (piece, behind) = rest.split_at(rest.len().min(room));
        sink.packet(behind.is_empty(), 0, &[&front, piece]);
        offset += u32::try_from(piece.len()).expect("a packet is small");
        rest = behind;
    }
    Ok(())
}

/// Reads what [`pack`] and others write.
#[derive(Debug, Default)]
pub(super) struct Unpack {
    /// Tables of q 128 to 254, which need not be sent again.
    kept: Option<(u8, Vec<u8>)>,
    /// Scan bytes of the image in the making.
    have: usize,
}

impl Unpack {
    fn begin(&mut self, head: &Head, tables: &[u8], picture: &mut BytesMut) -> Result<(), Fault> {
        let tables = match head.q {
            1..=99 => standard_tables(head.q),
            128..=254 if tables.is_empty() => {
                let kept = self.kept.as_ref().filter(|(q, _)| *q == head.q);
                kept.ok_or(Fault::Unsupported)?.1.clone()
            }
            128..=255 => tables.to_vec(),
            _ => return Err(Fault::Unsupported),
        };
        if !matches!(tables.len(), 64 | 128) {
            return Err(Fault::Unsupported);
        }
        if (128..=254).contains(&head.q) {
            self.kept = Some((head.q, tables.clone()));
        }
        let mut headers = vec![0xFF, SOI];
        let number_of = |at: usize| {
            if tables.len() > TABLE_BYTES {
                at as u8
            } else {
                0
            }
        };
        for (table, number) in tables.chunks(TABLE_BYTES).zip(0_u8..) {
            put_segment(&mut headers, DQT, &[&[number], table]);
        }
        if head.restart > 0 {
            put_segment(&mut headers, DRI, &[&head.restart.to_be_bytes()]);
        }
        let [w0, w1] = (u16::from(head.width) * 8).to_be_bytes();
        let [h0, h1] = (u16::from(head.height) * 8).to_be_bytes();
        let luminance = if head.kind & 1 == 0 { 0x21 } else { 0x22 };
        let chrominance = number_of(1);
        let frame = [8, h0, h1, w0, w1, 3, 1, luminance, 0];
        let others = [2, 0x11, chrominance, 3, 0x11, chrominance];
        put_segment(&mut headers, SOF0, &[&frame, &others]);
        for (number, lengths, values) in HUFFMAN {
            put_segment(&mut headers, DHT, &[&[number], &lengths, values]);
        }
        put_segment(&mut headers, SOS, &[&[3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0]]);
        picture.put_slice(&headers);
        Ok(())
    }
}

/// What stands in front of a piece of scan.
struct Head {
    kind: u8,
    q: u8,
    width: u8,
    height: u8,
    restart: u16,
}

impl Video for Unpack {
    fn begins(&self, payload: &[u8]) -> bool {
        payload.starts_with(&[0, 0, 0, 0])
    }

    fn add(&mut self, payload: &[u8], picture: &mut BytesMut) -> Result<(), Fault> {
        let (&[_, o0, o1, o2, kind, q, width, height], mut rest) =
            payload.split_first_chunk().ok_or(Fault::Short)?;
        let offset = u32::from_be_bytes([0, o0, o1, o2]);
        let mut restart = 0;
        if kind & 0x40 != 0 {
            let (&[high, low, _, _], behind) = rest.split_first_chunk().ok_or(Fault::Short)?;
            restart = u16::from_be_bytes([high, low]);
            rest = behind;
        }
        // Types beyond those two, interlaced fields among them, are of none of our senders.
        if !matches!(kind, 0 | 1 | 64 | 65) || width == 0 || height == 0 {
            return Err(Fault::Unsupported);
        }
        if usize::try_from(offset) != Ok(self.have) {
            return Err(Fault::Form);
        }
        if offset == 0 {
            let mut tables: &[u8] = &[];
            if q >= 128 {
                let (&[_, precision, high, low], behind) =
                    rest.split_first_chunk().ok_or(Fault::Short)?;
                let length = usize::from(u16::from_be_bytes([high, low]));
                (tables, rest) = behind.split_at_checked(length).ok_or(Fault::Short)?;
                if precision != 0 {
                    return Err(Fault::Unsupported);
                }
            }
            let head = Head {
                kind,
                q,
                width,
                height,
                restart,
            };
            self.begin(&head, tables, picture)?;
        }
        if rest.is_empty() {
            return Err(Fault::Short);
        }
        picture.put_slice(rest);
        self.have += rest.len();
        Ok(())
    }

    fn finish(&mut self, picture: &mut BytesMut) -> Result<Option<Picture>, Fault> {
        if !picture.ends_with(&[0xFF, EOI]) {
            picture.put_slice(&[0xFF, EOI]);
        }
        Ok(Some(Picture {
            sync: true,
            discardable: false,
        }))
    }

    fn reset(&mut self) {
        self.have = 0;
    }
}

/// The tables of q 1 to 99: those of T.81 annex K.1, scaled (RFC 2435 appendix A).
fn standard_tables(q: u8) -> Vec<u8> {
    let q = u32::from(q);
    let factor = if q < 50 { 5_000 / q } else { 200 - 2 * q };
    let scaled = |value: &u8| (u32::from(*value) * factor + 50) / 100;
    let tables = LUMINANCE.iter().chain(&CHROMINANCE).map(scaled);
    tables
        .map(|value| u8::try_from(value.clamp(1, 255)).expect("it is below 256"))
        .collect()
}

/// In zigzag order, as in a DQT segment.
const LUMINANCE: [u8; TABLE_BYTES] = [
    16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40, 26, 24, 22, 22, 24, 49, 35, 37,
    29, 40, 58, 51, 61, 60, 57, 51, 56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81,
    87, 95, 98, 103, 104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99,
];
const CHROMINANCE: [u8; TABLE_BYTES] = [
    17, 18, 18, 24, 21, 24, 47, 26, 26, 47, 99, 66, 56, 66, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
];
