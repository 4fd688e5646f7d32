//! What the tests of this crate share: streams made up for the purpose, and the way through muxer and demuxer.
//!
//! Not a test itself. Invariant: every frame made here is one the crate's conventions allow.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test takes what it needs, and may panic"
)]

pub(crate) mod files;
pub(crate) mod rtp;

use bytes::Bytes;
use levada_media::ticks::TS_TIMESCALE;
use levada_media::ts::{Demuxer, Event, Muxer};
use levada_wire::{Description, Frame, Track, TrackId, TrackKind};

/// AudioSpecificConfig: AAC LC, 48 kHz, stereo.
pub(crate) const AAC_CONFIG: [u8; 2] = [0x11, 0x90];

/// A track at 90 kHz.
pub(crate) fn track(id: u8, codec: &str) -> Track {
    let (kind, config) = match codec {
        "h264" | "h265" | "av1" | "vp8" | "vp9" | "mjpeg" | "mpeg2video" => {
            (TrackKind::Video, Vec::new())
        }
        "aac" => (TrackKind::Audio, AAC_CONFIG.to_vec()),
        "opus" => (TrackKind::Audio, levada_media::opus::head(2)),
        "mp2" | "mp3" | "ac3" | "pcmu" | "pcma" => (TrackKind::Audio, Vec::new()),
        _ => (TrackKind::Data, Vec::new()),
    };
    let (id, codec) = (TrackId(id), codec.to_owned());
    Track {
        id,
        kind,
        codec,
        timescale: TS_TIMESCALE,
        config,
        language: None,
    }
}

/// Tracks of these codecs, numbered from 1.
pub(crate) fn description(codecs: &[&str]) -> Description {
    let tracks = codecs
        .iter()
        .zip(1..)
        .map(|(codec, id)| track(id, codec))
        .collect();
    Description { tracks }
}

/// A frame whose codec's rules `data` keeps.
pub(crate) fn frame(track: u8, dts: i64, data: Vec<u8>) -> Frame {
    let (track, data) = (TrackId(track), Bytes::from(data));
    Frame {
        track,
        sync: true,
        discardable: false,
        dts,
        pts: dts,
        data,
    }
}

/// An H.264 access unit around bytes that hold no zero: intra if `sync`, else referred to if `referred`.
pub(crate) fn h264(sync: bool, referred: bool, slices: &[Vec<u8>]) -> Vec<u8> {
    let mut unit = vec![0, 0, 0, 1, 0x09, 0xF0];
    if sync {
        unit.extend([0, 0, 0, 1, 0x67, 0x64, 0x1F, 0, 0, 0, 1, 0x68, 0xEE]);
    }
    for (n, slice) in slices.iter().enumerate() {
        let header = if sync {
            0x65
        } else if referred {
            0x41
        } else {
            0x01
        };
        // first_mb_in_slice 0, or not.
        unit.extend([0, 0, 1, header, if n == 0 { 0x9A } else { 0x4A }]);
        unit.extend(slice.iter().map(|byte| (*byte).max(1)));
    }
    unit
}

/// An H.265 access unit: IDR, TRAIL_R or TRAIL_N.
pub(crate) fn h265(sync: bool, referred: bool, slices: &[Vec<u8>]) -> Vec<u8> {
    let mut unit = vec![0, 0, 0, 1, 0x46, 0x01, 0x50];
    if sync {
        unit.extend([
            0, 0, 0, 1, 0x40, 1, 7, 0, 0, 0, 1, 0x42, 1, 1, 0, 0, 0, 1, 0x44, 1, 7,
        ]);
    }
    for (n, slice) in slices.iter().enumerate() {
        let kind = if sync { 19 } else { u8::from(referred) };
        unit.extend([0, 0, 1, kind << 1, 1, if n == 0 { 0x80 } else { 0x40 }]);
        unit.extend(slice.iter().map(|byte| (*byte).max(1)));
    }
    unit
}

/// An MPEG-1 layer II frame: 192 kb/s, 48 kHz, 576 bytes.
pub(crate) fn mp2(fill: u8) -> Vec<u8> {
    let mut frame = vec![fill; 576];
    frame[..4].copy_from_slice(&[0xFF, 0xFD, 0xA4, 0x00]);
    frame
}

/// An AC-3 frame: 192 kb/s, 48 kHz, 768 bytes.
pub(crate) fn ac3(fill: u8) -> Vec<u8> {
    let mut frame = vec![fill; 768];
    frame[..6].copy_from_slice(&[0x0B, 0x77, 0, 0, 20, 8 << 3]);
    frame
}

/// The transport stream of some frames.
pub(crate) fn mux(description: &Description, frames: &[Frame]) -> Vec<u8> {
    let (mut muxer, mut bytes) = (Muxer::new(description), Vec::new());
    for frame in frames {
        muxer.push(frame, &mut bytes).unwrap();
    }
    bytes
}

/// The events of a transport stream that comes in these chunks, and how many errors there were.
pub(crate) fn demux<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, u64) {
    let (mut demuxer, mut events) = (Demuxer::new(), Vec::new());
    for chunk in chunks {
        demuxer.push(chunk, &mut events);
    }
    demuxer.finish(&mut events);
    (events, demuxer.errors_total())
}

/// The frames among some events.
pub(crate) fn frames(events: &[Event]) -> Vec<Frame> {
    let frame = |event: &Event| match event {
        Event::Frame(frame) => Some(frame.clone()),
        _ => None,
    };
    events.iter().filter_map(frame).collect()
}

/// The descriptions among some events.
pub(crate) fn descriptions(events: &[Event]) -> Vec<Description> {
    let description = |event: &Event| match event {
        Event::Description(description) => Some(description.clone()),
        _ => None,
    };
    events.iter().filter_map(description).collect()
}

/// The frames of one track.
pub(crate) fn of_track(frames: &[Frame], track: u8) -> Vec<Frame> {
    frames
        .iter()
        .filter(|frame| frame.track == TrackId(track))
        .cloned()
        .collect()
}

/// The frames with `ticks` added to their times.
pub(crate) fn shifted(frames: &[Frame], ticks: i64) -> Vec<Frame> {
    let shift = |frame: &Frame| Frame {
        dts: frame.dts + ticks,
        pts: frame.pts + ticks,
        ..frame.clone()
    };
    frames.iter().map(shift).collect()
}
