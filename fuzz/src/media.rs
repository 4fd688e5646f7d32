//! The targets of media formats: what gateways and sources are given.
//!
//! Not the wire: `targets.rs`. Not the list of targets: `lib.rs`. Invariant: as there.

use std::collections::BTreeMap;
use std::io::Cursor;

use levada_media::mjpeg::Splitter;
use levada_media::mp4::Reader;
use levada_media::rtp::rtcp::{self, Rtcp};
use levada_media::rtp::{Batch, Mapping, Packer, Unpacker};
use levada_media::sdp::{Media, Session};
use levada_media::ts::{Demuxer, Event};
use levada_wire::{FlowId, Frame};

/// A transport stream, all at once and in chunks of the size that the first byte says.
pub fn ts(input: &[u8]) {
    let Some((&chunk, stream)) = input.split_first() else {
        return;
    };
    let at_once = demuxed(stream, stream.len().max(1));
    let in_parts = demuxed(stream, usize::from(chunk).max(1));
    assert_eq!(at_once, in_parts);
    let descriptions = at_once.iter().filter_map(|event| match event {
        Event::Description(description) => Some(description.check()),
        _ => None,
    });
    descriptions.for_each(|checked| assert_eq!(checked, Ok(())));
}

fn demuxed(stream: &[u8], chunk: usize) -> Vec<Event> {
    let (mut demuxer, mut events) = (Demuxer::new(), Vec::new());
    for chunk in stream.chunks(chunk) {
        demuxer.push(chunk, &mut events);
    }
    demuxer.finish(&mut events);
    events
}

/// What each format of RTP is called in an SDP; the first byte of an input chooses one.
const FORMATS: [&str; 15] = [
    "H264/90000",
    "H265/90000",
    "AV1/90000",
    "VP8/90000",
    "VP9/90000",
    "JPEG/90000",
    "MPEG4-GENERIC/48000/2\na=fmtp:96 mode=AAC-hbr;config=1190",
    "MPEG4-GENERIC/48000/1\na=fmtp:96 mode=AAC-lbr;config=1188",
    "MP4A-LATM/48000/2\na=fmtp:96 cpresent=0;config=400023203fc0",
    "opus/48000/2",
    "PCMU/8000",
    "L16/44100/2",
    "MPA/90000",
    "MP2T/90000",
    "PCMA/16000/2",
];

fn media_of(format: u8) -> Media {
    let map = FORMATS[usize::from(format) % FORMATS.len()];
    let text = format!("v=0\nm=audio 9 RTP/AVP 96\na=rtpmap:96 {map}\n");
    let session = Session::parse(text.as_bytes()).expect("each format is known");
    session.media.into_iter().next().expect("there is one")
}

/// Packets of RTP, each behind its length in two bytes, in the format that the first byte says.
pub fn rtp(input: &[u8]) {
    let Some((&format, packets)) = input.split_first() else {
        return;
    };
    let mut media = media_of(format);
    let frames = unpacked(&media, lengths(packets));
    assert!(frames.is_sorted_by_key(|frame| frame.dts));
    // A configuration that cannot be sent is that of the SDP alone.
    if let Ok(mapping) = Mapping::of(&media.track, media.mapping.payload_type) {
        media.mapping = mapping;
    }
    // What came out can be sent again, and then nothing of it changes any more.
    for frame in frames {
        let once = packed(&media, &frame);
        for again in unpacked(&media, once.packets()) {
            for third in unpacked(&media, packed(&media, &again).packets()) {
                assert_eq!(third.data, again.data);
            }
        }
    }
}

/// Pieces of `bytes`, each behind its length.
fn lengths(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk()?;
        let (piece, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        bytes = rest;
        Some(piece)
    })
}

fn unpacked<'a>(media: &Media, packets: impl Iterator<Item = &'a [u8]>) -> Vec<Frame> {
    let (mut unpacker, mut frames) = (Unpacker::new(&media.track, &media.mapping), Vec::new());
    packets.for_each(|packet| unpacker.push(packet, &mut frames));
    unpacker.finish(&mut frames);
    let counts = unpacker.counts();
    assert_eq!(counts.frames, frames.len() as u64);
    frames
}

fn packed(media: &Media, frame: &Frame) -> Batch {
    let mut batch = Batch::new();
    let packer = Packer::new(FlowId(1), &media.track, media.mapping.payload_type);
    if let Ok(mut packer) = packer {
        let count = packer.count(frame);
        let _ = packer.pack(frame, &mut batch);
        assert_eq!(batch.packets().len() as u64, count);
    }
    batch
}

/// Motion JPEG, all at once and in chunks of the size that the first byte says.
pub fn mjpeg(input: &[u8]) {
    let Some((&chunk, stream)) = input.split_first() else {
        return;
    };
    let split = |chunk: usize| {
        let (mut splitter, mut images) = (Splitter::new(), Vec::new());
        let chunks = stream.chunks(chunk.max(1));
        chunks.for_each(|chunk| splitter.push(chunk, |image| images.push(image)));
        (images, splitter.junk())
    };
    let at_once = split(stream.len());
    assert_eq!(split(chunk.into()), at_once);
    let bytes: usize = at_once.0.iter().map(|image| image.len()).sum();
    assert!(bytes as u64 + at_once.1 <= stream.len() as u64);
}

/// Frames of a file that are looked at: one of a kilobyte can announce millions.
const MP4_FRAMES_MAX: usize = 5_000;

/// An MP4 file.
pub fn mp4(input: &[u8]) {
    let Ok(mut reader) = Reader::open(Cursor::new(input)) else {
        return;
    };
    let description = reader.description().clone();
    assert_eq!(description.check(), Ok(()));
    let mut newest = BTreeMap::new();
    for _ in 0..MP4_FRAMES_MAX {
        let next = reader.next_frame().expect("memory can be read");
        let Some(frame) = next else { break };
        assert!(description.track(frame.track).is_some() && !frame.data.is_empty());
        let before = newest.insert(frame.track, frame.dts);
        assert!(before.is_none_or(|before| before <= frame.dts));
    }
}

/// A datagram of RTCP.
pub fn rtcp(input: &[u8]) {
    let read: Vec<Rtcp> = rtcp::parse(input).collect();
    let mut again = Vec::new();
    for packet in &read {
        packet.write(&mut again);
    }
    // Names are many to a sender, and are cut; all else stays what it is.
    let plain = |packets: Vec<Rtcp>| {
        let plain = packets
            .into_iter()
            .filter(|packet| !matches!(packet, Rtcp::Names(_)));
        plain.collect::<Vec<_>>()
    };
    assert_eq!(plain(rtcp::parse(&again).collect()), plain(read));
}

/// An SDP.
pub fn sdp(input: &[u8]) {
    let Ok(session) = Session::parse(input) else {
        return;
    };
    assert_eq!(session.description().check(), Ok(()));
    let again = Session::parse(session.write().as_bytes());
    let again = again.expect("what was read and written is read again");
    let third = Session::parse(again.write().as_bytes());
    assert_eq!(third.map(|third| third.write()), Ok(again.write()));
}
