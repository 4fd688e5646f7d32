//! Synthetic streams: frames whose every byte follows from who made them, so that whoever gets one can check it.
//!
//! ```text
//! off len field      of a frame's data
//!  0   2  stream     place of the stream in the scenario
//!  2   4  start      which start of a publisher it was, counted over the run
//!  6   1  track
//!  7   4  sequence   counts the track's frames of this start
//! 11   8  slot       the frame's place in time: slot x 1/rate after the start
//! 19   n  filling    follows from the fields above
//! ```
//!
//! Not a codec: nothing here could be played. The publishers of `world` make frames, the checker `check::consumer`
//! makes them again and compares. Invariant: equal stamps make equal frames.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use levada_core::Offer;
use levada_core::api::PEAK_DEFAULT;
use levada_wire::announce::{LayerOffer, TrackOffer};
use levada_wire::key::Suite;
use levada_wire::{Description, Frame, Layer, Track, TrackId, TrackKind, WallTime};

use crate::chance::Fnv64;
use crate::scenario::{StreamPlan, TrackPlan};

/// The smallest frame: its stamp.
const STAMP_BYTES: usize = 19;
/// The sizes a frame may have; the planned size, give or take half of it, must stay within what the wire allows.
pub(crate) const FRAME_BYTES: RangeInclusive<u32> = 40..=1_000_000;
/// Ticks per second of every track: the usual one of video.
const TIMESCALE: NonZeroU32 = NonZeroU32::new(90_000).expect("it is not zero");

/// Who made a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The stream's place in the scenario.
    pub(crate) stream: u16,
    /// Which start of a publisher.
    pub(crate) start: u32,
    /// The track's number in its stream.
    pub(crate) track: TrackId,
    /// Frames of this track before it.
    pub(crate) sequence: u32,
    /// When: this many frame intervals after the start.
    pub(crate) slot: u64,
}

impl Stamp {
    fn encode(&self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        bytes[..2].copy_from_slice(&self.stream.to_be_bytes());
        bytes[2..6].copy_from_slice(&self.start.to_be_bytes());
        bytes[6] = self.track.0;
        bytes[7..11].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[11..].copy_from_slice(&self.slot.to_be_bytes());
        bytes
    }

    fn decode(data: &[u8]) -> Option<Self> {
        let bytes: &[u8; STAMP_BYTES] = data.first_chunk()?;
        let [s0, s1, t0, t1, t2, t3, track, q0, q1, q2, q3, slot @ ..] = *bytes;
        Some(Self {
            stream: u16::from_be_bytes([s0, s1]),
            start: u32::from_be_bytes([t0, t1, t2, t3]),
            track: TrackId(track),
            sequence: u32::from_be_bytes([q0, q1, q2, q3]),
            slot: u64::from_be_bytes(slot),
        })
    }
}

/// Makes the frame of a stamp.
pub(crate) fn frame(plan: &StreamPlan, stamp: Stamp) -> Option<Frame> {
    let index = usize::from(stamp.track.0).checked_sub(1)?;
    let track = plan.tracks.get(index)?;
    let sync = stamp.sequence.is_multiple_of(track.sync_every);
    let dts =
        i64::try_from(stamp.slot * u64::from(TIMESCALE.get()) / u64::from(track.frames_per_second))
            .ok()?;
    let reordering = if index == 0 {
        i64::from(TIMESCALE.get() / track.frames_per_second)
    } else {
        0
    };
    Some(Frame {
        track: stamp.track,
        sync,
        discardable: !sync && stamp.sequence % 3 == 2,
        dts,
        pts: dts + reordering,
        data: filled(stamp, track, sync),
    })
}

/// The stamp of a frame that arrived, if the frame is, to the last bit, what that stamp makes.
pub(crate) fn verify(plans: &[StreamPlan], arrived: &Frame) -> Result<Stamp, String> {
    let stamp = Stamp::decode(&arrived.data).ok_or("a frame too short for its stamp")?;
    let plan = plans
        .get(usize::from(stamp.stream))
        .ok_or("a frame of a stream that is not there")?;
    let expected = frame(plan, stamp).ok_or("a frame of a track that is not there")?;
    if *arrived == expected {
        return Ok(stamp);
    }
    let same_data = arrived.data == expected.data;
    let what = if same_data {
        "track, times or flags"
    } else {
        "data"
    };
    Err(format!(
        "a frame whose {what} differ from what was sent: {stamp:?}"
    ))
}

/// When the frame of a slot is handed over, after its publisher's start.
pub(crate) fn time_of(track: &TrackPlan, slot: u64) -> Duration {
    let nanos = u128::from(slot) * 1_000_000_000 / u128::from(track.frames_per_second);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The tracks of a stream.
pub(crate) fn description(plan: &StreamPlan) -> Arc<Description> {
    let track = |index: usize| Track {
        id: track_id(index),
        kind: kind(index),
        codec: codec(index).to_owned(),
        timescale: TIMESCALE,
        config: plan.name.as_str().as_bytes().to_vec(),
        language: None,
    };
    Arc::new(Description {
        tracks: (0..plan.tracks.len()).map(track).collect(),
    })
}

/// What a publisher says when it starts.
pub(crate) fn offer(plan: &StreamPlan, wall: WallTime) -> Offer {
    let tracks = (0..plan.tracks.len()).map(|index| TrackOffer {
        kind: kind(index),
        codec: codec(index).to_owned(),
    });
    Offer {
        name: plan.name.clone(),
        wall,
        packet_size: plan.packet_size,
        suite: Suite::Aes128Gcm,
        layers: vec![LayerOffer {
            layer: Layer(0),
            peak: plan.peak.unwrap_or(PEAK_DEFAULT),
            tracks: tracks.collect(),
        }],
        description: description(plan),
        flush_interval: plan.flush,
        is_measured: plan.peak.is_none(),
    }
}

/// The number of the track at a place of the plan: the control track has zero.
pub(crate) fn track_id(index: usize) -> TrackId {
    TrackId(u8::try_from(index + 1).expect("a plan has two tracks at most"))
}

const fn kind(index: usize) -> TrackKind {
    if index == 0 {
        TrackKind::Video
    } else {
        TrackKind::Audio
    }
}

const fn codec(index: usize) -> &'static str {
    if index == 0 { "h264" } else { "aac" }
}

/// The data of a frame: its stamp, then bytes that follow from it. Sync frames have their planned size; the others half
/// of it to one and a half.
fn filled(stamp: Stamp, track: &TrackPlan, sync: bool) -> Bytes {
    let head = stamp.encode();
    let mut hash = Fnv64::default();
    hash.write(&head);
    let mut state = hash.0 | 1;
    let size = if sync {
        track.sync_bytes
    } else {
        track.bytes / 2 + next(&mut state) % track.bytes
    };
    let size = usize::try_from(size)
        .unwrap_or(STAMP_BYTES)
        .max(STAMP_BYTES);
    let mut data = Vec::with_capacity(size);
    data.extend_from_slice(&head);
    while data.len() < size {
        let word = next(&mut state).to_be_bytes();
        data.extend_from_slice(&word[..word.len().min(size - data.len())]);
    }
    Bytes::from(data)
}

/// Marsaglia's xorshift64: fast, and that is all it must be.
fn next(state: &mut u64) -> u32 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    u32::try_from(*state >> 32).expect("32 bits are left")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use levada_wire::PacketSize;

    use super::*;
    use crate::scenario::Span;

    fn plan() -> StreamPlan {
        let video = TrackPlan {
            frames_per_second: 25,
            bytes: 500,
            sync_every: 10,
            sync_bytes: 2_000,
        };
        let audio = TrackPlan {
            frames_per_second: 50,
            bytes: 100,
            sync_every: 1,
            sync_bytes: 100,
        };
        StreamPlan {
            name: "cam".parse().unwrap(),
            origin: 0,
            from: Span::default(),
            until: None,
            packet_size: PacketSize::DEFAULT,
            flush: Duration::ZERO,
            peak: None,
            tracks: vec![video, audio],
        }
    }

    fn stamp(sequence: u32) -> Stamp {
        Stamp {
            stream: 0,
            start: 3,
            track: TrackId(1),
            sequence,
            slot: u64::from(sequence) + 7,
        }
    }

    #[test]
    fn a_frame_that_is_as_sent_tells_its_stamp() {
        let sync = frame(&plan(), stamp(20)).unwrap();
        let other = frame(&plan(), stamp(21)).unwrap();

        assert_eq!(verify(&[plan()], &sync), Ok(stamp(20)));
        assert_eq!(verify(&[plan()], &other), Ok(stamp(21)));
        assert!(sync.sync && sync.data.len() == 2_000);
        assert!(!other.sync && (250..750).contains(&other.data.len()));
    }

    #[test]
    fn a_frame_with_one_wrong_bit_is_found() {
        let sent = frame(&plan(), stamp(20)).unwrap();
        let mut data = sent.data.to_vec();
        data[1_500] ^= 1;
        let mut changed = sent.clone();
        changed.data = data.into();
        let moved = Frame {
            dts: sent.dts + 1,
            ..sent.clone()
        };
        let foreign = Frame {
            track: TrackId(2),
            ..sent
        };

        assert!(verify(&[plan()], &changed).unwrap_err().contains("data"));
        assert!(verify(&[plan()], &moved).unwrap_err().contains("times"));
        assert!(verify(&[plan()], &foreign).unwrap_err().contains("track"));
        assert!(verify(&[], &changed).is_err());
    }

    #[test]
    fn what_is_offered_is_well_formed() {
        assert_eq!(description(&plan()).check(), Ok(()));
        assert_eq!(offer(&plan(), WallTime(0)).layers[0].tracks.len(), 2);
        assert_eq!(time_of(&plan().tracks[0], 50), Duration::from_secs(2));
    }
}
