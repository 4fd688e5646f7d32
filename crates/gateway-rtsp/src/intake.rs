//! RTP packets of a stream's tracks as frames: what a publisher sends, and what is pulled.
//!
//! Not where packets come from, and not the placing of tracks in time, which is `Align`. Called by `server::record` and
//! `pull`. Invariant: what is wrong with a packet costs that packet's frame and nothing else.

use std::time::{Duration, Instant};

use bytes::Bytes;
use levada::Frame;
use levada_media::rtp::rtcp::{self, Rtcp};
use levada_media::rtp::{Align, Unpacker};
use levada_media::sdp;

/// How long packets wait for one that is missing.
const REORDER_WAIT: Duration = Duration::from_millis(100);

/// The tracks of one source.
#[derive(Debug)]
pub(crate) struct Intake {
    tracks: Vec<Unpacked>,
    align: Align,
    /// Frames that are whole.
    frames: Vec<Frame>,
}

#[derive(Debug)]
struct Unpacked {
    unpacker: Unpacker,
    /// Since when packets wait for one that is missing.
    waiting: Option<Instant>,
    /// Its sender has said goodbye.
    has_left: bool,
}

impl Intake {
    /// The tracks of these media; in what follows they are numbered from 0.
    pub(crate) fn new<'a>(media: impl Iterator<Item = &'a sdp::Media> + Clone) -> Self {
        let track = |media: &sdp::Media| Unpacked {
            unpacker: Unpacker::new(&media.track, &media.mapping),
            waiting: None,
            has_left: false,
        };
        Self {
            align: Align::new(media.clone().map(|media| media.mapping.clock)),
            tracks: media.map(track).collect(),
            frames: Vec::new(),
        }
    }

    /// Takes an RTCP packet.
    pub(crate) fn on_report(&mut self, track: usize, packet: &[u8]) {
        self.align.on_report(track, packet);
        if rtcp::parse(packet).any(|packet| matches!(packet, Rtcp::Bye(_)))
            && let Some(track) = self.tracks.get_mut(track)
        {
            track.has_left = true;
        }
    }

    /// Takes an RTP packet.
    pub(crate) fn on_packet(&mut self, track: usize, packet: Bytes, now: Instant) {
        let Self {
            tracks,
            align,
            frames,
        } = self;
        align.on_packet(track, packet, now, |track, start, packet| {
            let unpacker = &mut tracks[track].unpacker;
            if let Some(start) = start {
                unpacker.align(start.rtp_time, start.ticks);
            }
            unpacker.push(packet, frames);
        });
        for track in tracks {
            track.give_up(now, frames);
        }
    }

    /// Whether all tracks' senders have said goodbye.
    pub(crate) fn is_over(&self) -> bool {
        self.tracks.iter().all(|track| track.has_left)
    }

    /// Nothing more comes: what is left is given out.
    pub(crate) fn finish(&mut self) {
        for track in &mut self.tracks {
            track.unpacker.finish(&mut self.frames);
        }
    }

    /// The frames that are whole, in order; they are gone from here.
    pub(crate) fn drain(&mut self) -> std::vec::Drain<'_, Frame> {
        self.frames.drain(..)
    }
}

impl Unpacked {
    /// Waits no longer for packets that are missing since [`REORDER_WAIT`].
    fn give_up(&mut self, now: Instant, frames: &mut Vec<Frame>) {
        if !self.unpacker.is_waiting() {
            self.waiting = None;
            return;
        }
        let since = *self.waiting.get_or_insert(now);
        if now.saturating_duration_since(since) >= REORDER_WAIT {
            self.unpacker.give_up(frames);
            self.waiting = None;
        }
    }
}
