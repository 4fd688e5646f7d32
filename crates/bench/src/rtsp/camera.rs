//! Frames of a camera for the RTSP bench, each picture with the moment of its hand-over in front, and where that is
//! found in packets.
//!
//! Not who reads them (`reader`). Called by the parent and by whoever reads. Invariant: a stamp stands in the first
//! packet of its picture, in the clear.

use std::time::Instant;

use bytes::Bytes;
use levada::{Description, Node, PublishOptions, Publisher, StreamName};
use levada_wire::{Frame, TrackKind};

use super::{Case, nanos};
use crate::traffic::{self, Traffic};

/// A stamp: nanoseconds since the bench began, in hex.
pub(super) const STAMP_DIGITS: usize = 16;

/// Frames of a camera, each picture with the moment of its hand-over in front.
pub(super) struct Camera {
    publisher: Publisher,
    traffic: Traffic,
}

impl Camera {
    pub(super) async fn open(node: &Node, name: &StreamName, case: Case) -> anyhow::Result<Self> {
        let mut description: Description = (*traffic::description()).clone();
        for track in &mut description.tracks {
            let is_sound = track.kind == TrackKind::Audio;
            // AAC-LC, 48 kHz, stereo (ISO 14496-3 1.6.2.1).
            track.config = if is_sound {
                vec![0x11, 0x90]
            } else {
                Vec::new()
            };
        }
        let options = PublishOptions::default().with_flush_interval(case.flush_interval);
        let publisher = node.publish(name.clone(), description, options);
        Ok(Self {
            publisher: publisher.await?,
            traffic: Traffic::new(case.rate, 1),
        })
    }

    pub(super) async fn run(mut self, began: Instant) {
        let from = Instant::now();
        loop {
            let timed = self.traffic.next();
            tokio::time::sleep_until((from + timed.at).into()).await;
            let stamp = nanos(began.elapsed());
            let data = picture(&timed.frame.data, timed.frame.sync, stamp);
            let frame = Frame {
                data,
                ..timed.frame
            };
            if self.publisher.send(frame).await.is_err() {
                return;
            }
        }
    }
}

/// One unit in Annex B that begins with a stamp and holds no start code.
fn picture(bytes: &[u8], is_sync: bool, stamp: u64) -> Bytes {
    let kind = if is_sync { 0x65 } else { 0x41 };
    let mut data = vec![0, 0, 0, 1, kind];
    data.extend_from_slice(format!("{stamp:0STAMP_DIGITS$x}").as_bytes());
    let rest = bytes.get(data.len()..).unwrap_or_default();
    data.extend(rest.iter().map(|byte| byte | 1));
    data.into()
}

/// Where the stamp of a picture is that begins in this packet: a unit by itself, or the first of several parts (RFC
/// 6184 5.6, 5.8).
pub(super) fn place(packet: &[u8]) -> Option<usize> {
    let at = match packet.get(12)? & 0x1F {
        28 if packet.get(13)? & 0x80 != 0 => 14,
        1 | 5 => 13,
        _ => return None,
    };
    stamp(packet, at).map(|_| at)
}

/// The stamp at that place.
pub(super) fn stamp(bytes: &[u8], at: usize) -> Option<u64> {
    let digits = bytes.get(at..at + STAMP_DIGITS)?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The places of the stamps in whole packets between the messages of a connection; and how many bytes these have.
pub(super) fn places(bytes: &[u8]) -> (Vec<usize>, usize) {
    let (mut places, mut at) = (Vec::new(), 0);
    while let Some(&[b'$', channel, high, low]) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some(packet) = bytes.get(at + 4..at + 4 + length) else {
            break;
        };
        if channel == 0
            && let Some(place) = place(packet)
        {
            places.push(at + 4 + place);
        }
        at += 4 + length;
    }
    (places, at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn stamps_are_found_in_pictures_of_one_part_and_of_several() {
        let unit = picture(&[0; 100], true, 0xABC)[4..].to_vec();
        let packet = |payload: &[u8]| {
            let length = u16::try_from(12 + payload.len()).unwrap();
            let mut bytes = vec![b'$', 0];
            bytes.extend(length.to_be_bytes());
            bytes.extend([0; 12]);
            bytes.extend_from_slice(payload);
            bytes
        };
        let whole = packet(&unit);
        let first = packet(&[&[0x7C, 0x85], &unit[1..]].concat());
        let second = packet(&[&[0x7C, 0x05], &unit[1..]].concat());
        let mut bytes = [whole, first, second].concat();
        let whole_bytes = bytes.len();
        bytes.extend([b'$', 0, 0, 50, 1]);

        let (places, taken) = places(&bytes);

        let stamps: Vec<_> = places
            .iter()
            .map(|at| stamp(&bytes, *at).unwrap())
            .collect();
        assert_eq!((taken, stamps), (whole_bytes, vec![0xABC, 0xABC]));
        assert_eq!(place(&bytes[4..]), Some(13));
    }
}
