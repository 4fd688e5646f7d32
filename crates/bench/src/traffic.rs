//! Traffic as a camera makes it: H.264 at 30 frames a second with a large sync frame each second, and AAC beside it.
//!
//! Not packets: `origin.rs` makes those. Called by it. Invariant: the same seed gives the same frames, and over whole
//! seconds the bytes are the rate's.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use levada_wire::{Bitrate, Description, Frame, Track, TrackId, TrackKind};

const VIDEO: TrackId = TrackId(1);
const AUDIO: TrackId = TrackId(2);
/// Ticks per second of the video's times, as H.264 over RTP counts (RFC 6184).
const VIDEO_TICKS: u32 = 90_000;
/// Samples per second, and those of one AAC frame (ISO 14496-3): 46.9 frames a second.
const AUDIO_TICKS: u32 = 48_000;
const AUDIO_FRAME_TICKS: u64 = 1_024;
/// Frames per second, and per group: a sync frame each second.
const VIDEO_FRAMES: u64 = 30;
/// A sync frame is that many times as large as the mean of the others.
pub const SYNC_FACTOR: u64 = 5;
/// The largest that is made, at rates of which a frame may be as long.
pub const SYNC_FACTOR_MAX: u64 = 30;
/// Of all bytes, what is audio, in per cent.
const AUDIO_PER_CENT: u64 = 4;
/// Other frames are up to this much larger or smaller than their mean, in per cent.
const SWING_PER_CENT: u64 = 25;

/// The rates that can be made: below, an audio frame is empty; above, a sync frame is longer than a frame may be.
pub const RATE_MIN: Bitrate = Bitrate(64_000);
pub const RATE_MAX: Bitrate = Bitrate(400_000_000);

/// A frame and when it is there.
#[derive(Clone, Debug)]
pub(crate) struct Timed {
    /// Since the traffic's start.
    pub(crate) at: Duration,
    pub(crate) frame: Frame,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Traffic {
    rate: Bitrate,
    sync_factor: u64,
    videos: u64,
    audios: u64,
    chance: u64,
    /// What frames are cut from: bytes that no offload could compress or compare.
    data: Bytes,
}

impl Traffic {
    /// Traffic of `rate`, which is between [`RATE_MIN`] and [`RATE_MAX`].
    pub(crate) fn new(rate: Bitrate, seed: u64) -> Self {
        Self::with_sync_factor(rate, seed, SYNC_FACTOR)
    }

    /// The same of which a sync frame is so many times as large as the mean of the others.
    pub(crate) fn with_sync_factor(rate: Bitrate, seed: u64, sync_factor: u64) -> Self {
        let mut chance = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let longest = sync_bytes(rate, sync_factor);
        let words = (0..=longest / 8).flat_map(|_| next(&mut chance).to_le_bytes());
        let data = words.collect::<Vec<u8>>().into();
        Self {
            rate,
            sync_factor,
            videos: 0,
            audios: 0,
            chance,
            data,
        }
    }

    /// The next frame, in the order of their times.
    pub(crate) fn next(&mut self) -> Timed {
        let video_at = Duration::from_nanos(self.videos * 1_000_000_000 / VIDEO_FRAMES);
        let audio_ticks = self.audios * AUDIO_FRAME_TICKS;
        let audio_at = Duration::from_nanos(audio_ticks * 1_000_000_000 / u64::from(AUDIO_TICKS));
        if audio_at < video_at {
            self.audios += 1;
            let bytes = audio_bytes(self.rate);
            return self.frame(AUDIO, true, audio_ticks, bytes, audio_at);
        }
        let sync = self.videos.is_multiple_of(VIDEO_FRAMES);
        let dts = self.videos * u64::from(VIDEO_TICKS) / VIDEO_FRAMES;
        self.videos += 1;
        let bytes = if sync {
            sync_bytes(self.rate, self.sync_factor)
        } else {
            let mean = mean_bytes(self.rate, self.sync_factor);
            let swing = mean * SWING_PER_CENT / 100;
            mean - swing + next(&mut self.chance) % (2 * swing + 1)
        };
        self.frame(VIDEO, sync, dts, bytes, video_at)
    }

    fn frame(&self, track: TrackId, sync: bool, dts: u64, bytes: u64, at: Duration) -> Timed {
        let bytes = usize::try_from(bytes).expect("rates are bounded").max(1);
        let dts = i64::try_from(dts).expect("a measurement ends within a million years");
        let frame = Frame {
            track,
            sync,
            discardable: false,
            dts,
            pts: dts,
            data: self.data.slice(..bytes),
        };
        Timed { at, frame }
    }
}

/// The mean of the video frames that are not sync frames.
const fn mean_bytes(rate: Bitrate, sync_factor: u64) -> u64 {
    let video = rate.0 / 8 * (100 - AUDIO_PER_CENT) / 100;
    video / (VIDEO_FRAMES - 1 + sync_factor)
}

const fn sync_bytes(rate: Bitrate, sync_factor: u64) -> u64 {
    mean_bytes(rate, sync_factor) * sync_factor
}

const fn audio_bytes(rate: Bitrate) -> u64 {
    let per_second = rate.0 / 8 * AUDIO_PER_CENT / 100;
    per_second * AUDIO_FRAME_TICKS / AUDIO_TICKS as u64
}

/// Xorshift (Marsaglia 2003): enough to make sizes swing, and the same everywhere.
const fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// The tracks of all traffic here.
pub(crate) fn description() -> Arc<Description> {
    let track = |id, kind, codec: &str, ticks| Track {
        id,
        kind,
        codec: codec.to_owned(),
        timescale: NonZeroU32::new(ticks).expect("both are constants above zero"),
        config: vec![0; 40],
        language: None,
    };
    Arc::new(Description {
        tracks: vec![
            track(VIDEO, TrackKind::Video, "h264", VIDEO_TICKS),
            track(AUDIO, TrackKind::Audio, "aac", AUDIO_TICKS),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(rate: Bitrate, seconds: u64) -> Vec<Timed> {
        let mut traffic = Traffic::new(rate, 7);
        let all = std::iter::repeat_with(|| traffic.next());
        all.take_while(|timed| timed.at < Duration::from_secs(seconds))
            .collect()
    }

    #[test]
    fn the_rate_is_the_rate_and_audio_is_a_twenty_fifth_of_it() {
        for rate in [Bitrate(1_000_000), Bitrate(4_000_000), Bitrate(20_000_000)] {
            let frames = seconds(rate, 10);
            let bytes = |track| {
                let of_track = frames.iter().filter(|timed| timed.frame.track == track);
                of_track.map(|timed| timed.frame.data.len()).sum::<usize>() as f64
            };

            let bits = (bytes(VIDEO) + bytes(AUDIO)) * 8.0 / 10.0;

            assert!(
                (bits / rate.0 as f64 - 1.0).abs() < 0.03,
                "{rate:?}: {bits}"
            );
            let share = bytes(AUDIO) / (bytes(VIDEO) + bytes(AUDIO));
            assert!((0.035..0.045).contains(&share), "{share}");
        }
    }

    #[test]
    fn frames_come_in_order_with_a_large_sync_frame_each_second() {
        let frames = seconds(Bitrate(4_000_000), 3);
        let videos: Vec<_> = frames.iter().filter(|t| t.frame.track == VIDEO).collect();
        let audios = frames.len() - videos.len();

        assert!(frames.is_sorted_by_key(|timed| timed.at));
        assert_eq!((videos.len(), audios), (90, 141));
        let syncs: Vec<_> = videos.iter().filter(|t| t.frame.sync).collect();
        assert_eq!(syncs.len(), 3);
        let largest = videos
            .iter()
            .filter(|t| !t.frame.sync)
            .map(|t| t.frame.data.len());
        assert!(largest.max() < Some(syncs[0].frame.data.len() / 3));
    }

    #[test]
    fn a_sync_frame_is_as_large_as_was_said_and_the_rate_stays() {
        let mut traffic = Traffic::with_sync_factor(Bitrate(7_000_000), 7, 11);
        let first = traffic.next();
        let all = std::iter::once(first).chain(std::iter::repeat_with(|| traffic.next()));
        let second: Vec<_> = all
            .take_while(|one| one.at < Duration::from_secs(1))
            .collect();

        let bytes: usize = second.iter().map(|timed| timed.frame.data.len()).sum();
        assert!((225_000..235_000).contains(&second[0].frame.data.len()));
        assert!((840_000..910_000).contains(&bytes), "{bytes}");
        let longest = sync_bytes(crate::loss::RATE_MAX, SYNC_FACTOR_MAX);
        assert!(longest <= levada_wire::frame::FRAME_BYTES_MAX as u64);
    }

    #[test]
    fn the_same_seed_gives_the_same_frames_at_the_ends_of_the_range() {
        for rate in [RATE_MIN, RATE_MAX] {
            let lengths = |frames: Vec<Timed>| -> Vec<usize> {
                frames.iter().map(|timed| timed.frame.data.len()).collect()
            };

            let first = lengths(seconds(rate, 1));

            assert_eq!(first, lengths(seconds(rate, 1)));
            assert!(first.iter().all(|&bytes| bytes > 0));
            assert!(
                first
                    .iter()
                    .all(|&bytes| bytes <= levada_wire::frame::FRAME_BYTES_MAX)
            );
        }
    }
}
