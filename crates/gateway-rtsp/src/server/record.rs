//! A connection that publishes: what it announces, and its packets as frames of a stream.
//!
//! Not the placing of its tracks in time, which is `align`. Called by `client`. Invariant: a publisher that sends
//! faster than the node takes is held up by its own connection, and by nothing else.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use levada::{Description, Frame, PublishOptions, Publisher, StreamName};
use levada_gateway::{Role, Transport as Way};
use levada_media::rtp::Unpacker;
use levada_media::sdp;

use super::client::Client;
use crate::align::Align;
use crate::connection::Answer;
use crate::header::transport::{Pair, Transport};
use crate::message::Status;

/// A publisher's stream.
#[derive(Debug)]
pub(super) struct Recording {
    name: StreamName,
    session: sdp::Session,
    /// What was set up, one for each track of the session.
    channels: Vec<Option<Pair<u8>>>,
    live: Option<Live>,
}

/// A stream that is being sent.
#[derive(Debug)]
struct Live {
    publisher: Publisher,
    /// The unpackers of the tracks that were set up, with their channels.
    tracks: Vec<(Pair<u8>, Unpacker)>,
    align: Align,
    frames: Vec<Frame>,
}

impl Client {
    pub(super) fn announce(&mut self, name: &StreamName, text: &[u8]) -> Answer {
        let session = match sdp::Session::parse(text) {
            Ok(session) => session,
            Err(error) => {
                return Answer::Refused(Status::UNSUPPORTED_MEDIA, format!("`{name}`: {error}"));
            }
        };
        if let Some(omission) = session.omitted.first() {
            let why =
                format!("`{name}` cannot be published with this track: {omission}; leave it out");
            return Answer::Refused(Status::UNSUPPORTED_MEDIA, why);
        }
        let controls = session
            .media
            .iter()
            .map(|media| media.control.clone().unwrap_or_default());
        let controls = controls.collect();
        self.recording = Some(Recording {
            name: name.clone(),
            channels: vec![None; session.media.len()],
            session,
            live: None,
        });
        Answer::Announced(controls)
    }

    pub(super) fn open_record(&mut self, track: usize, transport: &Transport) {
        let recording = self.recording.as_mut();
        let slot = recording.and_then(|recording| recording.channels.get_mut(track));
        if let Some(slot) = slot {
            *slot = transport.interleaved;
        }
    }

    pub(super) async fn start_record(&mut self) -> Answer {
        let Some(recording) = &mut self.recording else {
            return Answer::Refused(Status::NOT_VALID_IN_STATE, String::new());
        };
        if recording.live.is_some() {
            return Answer::Started(None);
        }
        let all = recording.session.media.iter().zip(&recording.channels);
        let opened: Vec<_> = all
            .filter_map(|(media, channels)| Some((media, (*channels)?)))
            .collect();
        let is_opened =
            |track: &levada::Track| opened.iter().any(|(media, _)| media.track.id == track.id);
        let tracks = recording.session.description().tracks;
        let description = Description {
            tracks: tracks.into_iter().filter(is_opened).collect(),
        };
        let name = recording.name.clone();
        let publisher =
            self.shared
                .node
                .publish(name.clone(), description, PublishOptions::default());
        let publisher = match publisher.await {
            Ok(publisher) => publisher,
            Err(error) => return Answer::Refused(Status::FORBIDDEN, error.to_string()),
        };
        let clocks = opened.iter().map(|(media, _)| media.mapping.clock);
        let align = Align::new(clocks);
        let unpacker = |(media, channels): &(&sdp::Media, Pair<u8>)| {
            (*channels, Unpacker::new(&media.track, &media.mapping))
        };
        recording.live = Some(Live {
            publisher,
            tracks: opened.iter().map(unpacker).collect(),
            align,
            frames: Vec::new(),
        });
        let about = self.about(Role::Publish, name, Way::Tcp);
        self.session = Some(Arc::new(self.shared.registry.begin(about)));
        Answer::Started(None)
    }

    /// Takes a packet that came between the messages. `false`: the node is gone.
    pub(super) async fn on_interleaved(&mut self, channel: u8, payload: Bytes) -> bool {
        let live = self.recording.as_mut().and_then(|r| r.live.as_mut());
        let Some(live) = live else { return true };
        if let Some(session) = &self.session {
            session.counts().add_bytes(payload.len());
        }
        if let Some(track) = live.track(|pair| pair.rtp == channel) {
            return live.on_packet(track, payload).await;
        }
        if let Some(track) = live.track(|pair| pair.rtcp == channel) {
            live.align.on_report(track, &payload);
        }
        true
    }

    /// Ends the stream on purpose, or because the connection is over.
    pub(super) async fn end_record(&mut self) {
        let live = self.recording.take().and_then(|recording| recording.live);
        if let Some(live) = live {
            live.finish().await;
        }
    }
}

impl Live {
    fn track(&self, is_it: impl Fn(&Pair<u8>) -> bool) -> Option<usize> {
        self.tracks.iter().position(|(channels, _)| is_it(channels))
    }

    async fn on_packet(&mut self, track: usize, packet: Bytes) -> bool {
        let Self {
            tracks,
            align,
            frames,
            ..
        } = self;
        align.on_packet(track, packet, Instant::now(), |track, start, packet| {
            let unpacker = &mut tracks[track].1;
            if let Some(start) = start {
                unpacker.align(start.rtp_time, start.ticks);
            }
            unpacker.push(packet, frames);
        });
        self.send().await
    }

    /// Hands in the frames that are whole. `false`: the node is gone.
    async fn send(&mut self) -> bool {
        for frame in self.frames.drain(..) {
            match self.publisher.send(frame).await {
                Ok(()) => {}
                Err(levada::SendError::Stopped(_)) => return false,
                Err(error) => tracing::debug!("a publisher's frame was left out: {error}"),
            }
        }
        true
    }

    async fn finish(mut self) {
        for (_, unpacker) in &mut self.tracks {
            unpacker.finish(&mut self.frames);
        }
        self.send().await;
        // A node that is gone has taken the stream back.
        let _ = self.publisher.finish().await;
    }
}
