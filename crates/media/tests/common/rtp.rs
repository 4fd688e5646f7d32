//! Frames as packets and back, for the tests of RTP.

use levada_media::rtp::{Batch, Packer, Unpacker};
use levada_wire::{FlowId, Frame, Track};
use proptest::collection::vec;
use proptest::prelude::*;

use super::frame;

pub(crate) const FLOW: FlowId = FlowId(0x1234_5678_9ABC_DEF0);

pub(crate) fn packer(track: &Track) -> Packer {
    Packer::new(FLOW, track, 96).unwrap()
}

/// The packets of some frames.
pub(crate) fn pack(track: &Track, frames: &[Frame]) -> Vec<Vec<u8>> {
    let (mut packer, mut batch) = (packer(track), Batch::new());
    for frame in frames {
        let before = packer.packets();
        packer.pack(frame, &mut batch).unwrap();
        assert_eq!(packer.packets(), before + packer.count(frame));
    }
    batch.packets().map(<[u8]>::to_vec).collect()
}

pub(crate) fn unpacker(track: &Track) -> Unpacker {
    let packer = packer(track);
    let mut unpacker = Unpacker::new(track, packer.mapping());
    unpacker.align(packer.numbering().time_offset, 0);
    unpacker
}

/// The frames of some packets.
pub(crate) fn unpack(track: &Track, packets: &[Vec<u8>]) -> (Vec<Frame>, Unpacker) {
    let (mut unpacker, mut frames) = (unpacker(track), Vec::new());
    for packet in packets {
        unpacker.push(packet, &mut frames);
    }
    unpacker.finish(&mut frames);
    (frames, unpacker)
}

/// A baseline image of 160 by 120 pixels, with a comment and without Huffman tables, as cameras send them.
pub(crate) fn jpeg(scan: &[u8], restart: bool, sampling: bool) -> Vec<u8> {
    let mut image = vec![0xFF, 0xD8, 0xFF, 0xFE, 0, 4, b'h', b'i'];
    for number in 0..2 {
        image.extend([0xFF, 0xDB, 0, 67, number]);
        image.extend([number + 5; 64]);
    }
    if restart {
        image.extend([0xFF, 0xDD, 0, 4, 0, 20]);
    }
    let luminance = if sampling { 0x22 } else { 0x21 };
    image.extend([
        0xFF, 0xC0, 0, 17, 8, 0, 120, 0, 160, 3, 1, luminance, 0, 2, 0x11, 1, 3, 0x11, 1,
    ]);
    image.extend([0xFF, 0xDA, 0, 12, 3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0]);
    image.extend(scan);
    image.extend([0xFF, 0xD9]);
    image
}

/// Access units of a codec: sync and referred as said, each slice of these sizes.
pub(crate) fn pictures(codec: &'static str) -> impl Strategy<Value = Vec<Frame>> {
    let slices = vec(
        prop_oneof![
            vec(1_u8.., 1..60),
            vec(1_u8.., 1_100..1_300),
            vec(1_u8.., 2_000..5_000)
        ],
        1..4,
    );
    let picture = (any::<bool>(), any::<bool>(), slices);
    vec(picture, 1..12).prop_map(move |pictures| {
        let make = |(n, (sync, referred, slices)): (i64, (bool, bool, Vec<Vec<u8>>))| {
            // An encoder begins with a picture that can be decoded.
            let sync = sync || n == 0;
            let data = match codec {
                "h264" => super::h264(sync, referred, &slices),
                _ => super::h265(sync, referred, &slices),
            };
            let discardable = !sync && !referred;
            Frame {
                sync,
                discardable,
                ..frame(1, n * 3_000, data)
            }
        };
        (0..).zip(pictures).map(make).collect()
    })
}

/// An access unit as it comes back: no delimiter, start codes of four bytes.
pub(crate) fn canonical(frame: &Frame) -> Frame {
    let nals = levada_media::nal::units(&frame.data).skip(1);
    let data = nals.flat_map(|nal| {
        // A fourth byte of the next start code stays with the NAL unit before it.
        let end = nal.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        [&[0, 0, 0, 1], &nal[..end]].concat()
    });
    Frame {
        data: data.collect::<Vec<u8>>().into(),
        ..frame.clone()
    }
}
