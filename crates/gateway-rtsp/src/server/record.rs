//! A connection that publishes: what it announces, and its packets as frames of a stream.
//!
//! Not the unpacking of packets, which is `intake`'s. Called by `client`. Invariant: a publisher that sends
//! faster than the node takes is held up by its own connection, and by nothing else.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use levada::{Description, PublishOptions, Publisher, StreamName};
use levada_gateway::Role;
use levada_media::sdp;

use super::client::Client;
use crate::connection::Answer;
use crate::header::transport::{Pair, Transport};
use crate::intake::Intake;
use crate::message::Status;
use crate::udp::Datagram;

/// A publisher's stream.
#[derive(Debug)]
pub(super) struct Recording {
    name: StreamName,
    session: sdp::Session,
    /// What was set up, one for each track of the session: the channels of its packets, if they are interleaved.
    opened: Vec<Option<Option<Pair<u8>>>>,
    live: Option<Live>,
}

/// A stream that is being sent.
#[derive(Debug)]
struct Live {
    publisher: Publisher,
    tracks: Vec<Sent>,
    intake: Intake,
}

/// A track that was set up.
#[derive(Debug)]
struct Sent {
    /// Its place among all tracks of the session.
    place: usize,
    channels: Option<Pair<u8>>,
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
            opened: vec![None; session.media.len()],
            session,
            live: None,
        });
        Answer::Announced(controls)
    }

    pub(super) fn open_record(&mut self, track: usize, transport: &Transport) {
        let recording = self.recording.as_mut();
        let slot = recording.and_then(|recording| recording.opened.get_mut(track));
        if let Some(slot) = slot {
            *slot = Some(transport.interleaved);
        }
    }

    pub(super) async fn start_record(&mut self) -> Answer {
        let Some(recording) = &mut self.recording else {
            return Answer::Refused(Status::NOT_VALID_IN_STATE, String::new());
        };
        if recording.live.is_some() {
            return Answer::Started(None);
        }
        let all = recording.session.media.iter().zip(&recording.opened);
        let opened: Vec<_> = all
            .enumerate()
            .filter_map(|(place, (media, channels))| Some((place, media, (*channels)?)))
            .collect();
        let is_opened = |track: &levada::Track| {
            opened
                .iter()
                .any(|(_, media, _)| media.track.id == track.id)
        };
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
        let intake = Intake::new(opened.iter().map(|(_, media, _)| *media));
        let sent = |(place, _, channels): &(usize, &sdp::Media, Option<Pair<u8>>)| Sent {
            place: *place,
            channels: *channels,
        };
        recording.live = Some(Live {
            publisher,
            tracks: opened.iter().map(sent).collect(),
            intake,
        });
        let about = self.about(Role::Publish, name, self.transport());
        self.session = Some(Arc::new(self.shared.kit.registry().begin(about)));
        Answer::Started(None)
    }

    /// Takes a packet that came between the messages. `false`: the node is gone.
    pub(super) async fn on_interleaved(&mut self, channel: u8, packet: Bytes) -> bool {
        let is_it = |sent: &Sent, rtp: bool| {
            let pair = sent.channels;
            pair.is_some_and(|pair| channel == if rtp { pair.rtp } else { pair.rtcp })
        };
        let rtp = self.track(|sent| is_it(sent, true));
        let Some(track) = rtp.or_else(|| self.track(|sent| is_it(sent, false))) else {
            return true;
        };
        self.on_media(track, rtp.is_none(), packet).await
    }

    /// Takes a packet that came by UDP. `false`: the node is gone.
    pub(super) async fn on_datagram(&mut self, datagram: Datagram) -> bool {
        let Some(track) = self.track(|sent| sent.place == datagram.track) else {
            return true;
        };
        self.on_media(track, datagram.is_report, datagram.bytes)
            .await
    }

    fn track(&self, is_it: impl Fn(&Sent) -> bool) -> Option<usize> {
        let live = self.recording.as_ref()?.live.as_ref()?;
        live.tracks.iter().position(is_it)
    }

    async fn on_media(&mut self, track: usize, is_report: bool, packet: Bytes) -> bool {
        let live = self.recording.as_mut().and_then(|r| r.live.as_mut());
        let Some(live) = live else { return true };
        if let Some(session) = &self.session {
            session.counts().add_bytes(packet.len());
        }
        if is_report {
            live.intake.on_report(track, &packet);
            return true;
        }
        live.on_packet(track, packet).await
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
    async fn on_packet(&mut self, track: usize, packet: Bytes) -> bool {
        self.intake.on_packet(track, packet, Instant::now());
        self.send().await
    }

    /// Hands in the frames that are whole. `false`: the node is gone.
    async fn send(&mut self) -> bool {
        for frame in self.intake.drain() {
            match self.publisher.send(frame).await {
                Ok(()) => {}
                Err(levada::SendError::Stopped(_)) => return false,
                Err(error) => tracing::debug!("a publisher's frame was left out: {error}"),
            }
        }
        true
    }

    async fn finish(mut self) {
        self.intake.finish();
        self.send().await;
        // A node that is gone has taken the stream back.
        let _ = self.publisher.finish().await;
    }
}
