//! A connection that plays: its stream's description, where it begins, and its packets.
//!
//! Not the writing, which is `sender`'s. Called by `client`. Invariant: a DESCRIBE is answered within
//! [`DESCRIBE_PATIENCE`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use levada::StreamName;
use levada_gateway::streams::SourceError;
use levada_gateway::{Cursor, EncodedStream, Join, Next, Role, Session, Transport};
use tokio::sync::oneshot;

use super::client::Client;
use crate::burst::Tracks;
use crate::channel::{self, Address, Hearing};
use crate::connection::Answer;
use crate::format::{Outline, Rtp};
use crate::header::RtpInfo;
use crate::header::transport::Lower;
use crate::message::Status;
use crate::pull::{self, AskError, Failure, Wish};
use crate::sender::{Command, Counted, Play, Way};

/// How long a DESCRIBE may take: players give up after a few seconds.
const DESCRIBE_PATIENCE: Duration = Duration::from_secs(2);

/// A player's stream.
#[derive(Debug)]
pub(super) struct Playing {
    name: StreamName,
    source: EncodedStream<Rtp>,
    outline: Arc<Outline>,
    cursor: Option<Cursor>,
    /// Has it pulled, if the player named the server.
    _wish: Option<Wish>,
}

impl Playing {
    /// The channel of a track.
    pub(super) fn address(&self, track: usize) -> Address {
        Address::of(&self.name, track)
    }
}

impl Client {
    pub(super) async fn describe(
        &mut self,
        name: &StreamName,
        from: Option<&pull::Address>,
    ) -> Answer {
        let is_here = self.remote.ip().to_canonical().is_loopback();
        let pulls = &self.shared.pulls;
        let wish = from.map(|from| pulls.ask_for(name, from, is_here));
        let wish = match wish.transpose() {
            Ok(wish) => wish,
            Err(error) => {
                let status = match error {
                    AskError::NotAllowed { .. } => Status::FORBIDDEN,
                    _ => Status::NOT_ENOUGH_BANDWIDTH,
                };
                return Answer::Refused(status, error.to_string());
            }
        };
        let ready = async {
            let source = self.shared.streams.source(name).await?;
            let outline = source.ready(DESCRIBE_PATIENCE).await?;
            Ok::<_, SourceError>((source, outline))
        };
        let (source, outline) = match ready.await {
            Ok(ready) => ready,
            Err(error) => return self.cannot_play(name, &error),
        };
        let answer = Answer::Described {
            sdp: outline.sdp.clone(),
            controls: outline.controls.clone(),
        };
        self.player = Some(Playing {
            name: name.clone(),
            source,
            outline,
            cursor: None,
            _wish: wish,
        });
        answer
    }

    /// Why a stream is not described.
    fn cannot_play(&self, name: &StreamName, error: &SourceError) -> Answer {
        let comes_not = matches!(error, SourceError::Unknown | SourceError::NotYet(_));
        let trouble = self.shared.pulls.trouble(name).filter(|_| comes_not);
        let status = match (&trouble, error) {
            (Some(Failure::NotFound), _) | (None, SourceError::Unknown) => Status::NOT_FOUND,
            (_, SourceError::Unsuitable(_)) => Status::UNSUPPORTED_MEDIA,
            (_, SourceError::Full { .. }) => Status::NOT_ENOUGH_BANDWIDTH,
            _ => Status::UNAVAILABLE,
        };
        let why = match trouble {
            Some(trouble) => trouble.to_string(),
            None => error.to_string(),
        };
        Answer::Refused(status, format!("`{name}`: {why}"))
    }

    /// The place where the client will begin, and the numbers of its first packets.
    pub(super) fn start_play(&mut self) -> Answer {
        let (Some((tracks, base)), Some(player)) = (self.machine.tracks(), &mut self.player) else {
            return Answer::Refused(Status::NOT_VALID_IN_STATE, String::new());
        };
        let ring = player.source.ring();
        let cursor = Cursor::join(ring, Join::Burst, Instant::now());
        let first = match cursor.clone().next(ring, Instant::now()) {
            Next::Piece(piece) => Some(piece),
            _ => None,
        };
        player.cursor = Some(cursor);
        if self.machine.lower() == Some(Lower::Multicast) {
            // Where the channel is at that moment is not known before the client hears it.
            return Answer::Started(None);
        }
        let info = first.map(|piece| {
            let tracks = tracks.iter().filter_map(|track| {
                let first = piece.body.first(*track)?;
                let control = player.outline.controls.get(*track)?;
                Some(RtpInfo {
                    url: format!("{}{control}", base),
                    sequence: first.sequence,
                    time: first.time,
                })
            });
            RtpInfo::write(&tracks.collect::<Vec<_>>())
        });
        Answer::Started(info)
    }

    /// Packets flow from now on.
    pub(super) async fn flow(&mut self) {
        let Some((places, _)) = self.machine.tracks() else {
            return;
        };
        let tracks = Tracks::of(places.iter().copied());
        let (name, ring, cursor) = match &mut self.player {
            Some(Playing {
                name,
                source,
                cursor,
                ..
            }) => {
                let ring = Arc::clone(source.ring());
                let join = || Cursor::join(&ring, Join::Burst, Instant::now());
                let cursor = cursor.take().unwrap_or_else(join);
                (name.clone(), ring, cursor)
            }
            None => return,
        };
        let session = match &self.session {
            Some(session) => Arc::clone(session),
            None => {
                let about = self.about(Role::Play, name, self.transport());
                let session = Arc::new(self.shared.kit.registry().begin(about));
                self.session = Some(Arc::clone(&session));
                session
            }
        };
        if self.transport() == Transport::Multicast {
            return self.hear(session, tracks).await;
        }
        if !self.is_added {
            let (ended, heard) = oneshot::channel();
            let (client, way) = (self.number, self.way());
            self.is_shared = matches!(way, Way::Tcp(_));
            self.sender.tell(Command::Add { client, way, ended }).await;
            self.ended = Some(heard);
            self.is_added = true;
        }
        let bytes_max = self.shared.kit.gate().limits().client_bytes_max;
        let play = Box::new(Play {
            ring,
            cursor,
            tracks,
            counted: Counted::Client(session),
            bytes_max,
        });
        let client = self.number;
        self.sender.tell(Command::Play { client, play }).await;
    }

    /// The client hears the stream's channel from now on.
    async fn hear(&mut self, session: Arc<Session>, tracks: Tracks) {
        let from = self.stream.local_addr().ok().and_then(channel::source_of);
        let (Some(playing), Some(from)) = (&self.player, from) else {
            return;
        };
        let (name, source) = (playing.name.clone(), playing.source.clone());
        let all = playing.outline.controls.len();
        let channels = &self.shared.channels;
        let started = channels.channel(&name, from, &source, all, self.shared.number());
        match started.await {
            Ok(channel) => self.hearing = Some(Hearing::new(channel, session, tracks)),
            Err(error) => {
                tracing::warn!(stream = %name, "cannot be sent by multicast from {from}: {error}")
            }
        }
    }

    /// How packets really travel.
    pub(super) fn transport(&self) -> Transport {
        match self.machine.lower() {
            Some(Lower::Udp) => Transport::Udp,
            Some(Lower::Multicast) => Transport::Multicast,
            _ => Transport::Tcp,
        }
    }

    fn way(&self) -> Way {
        match (&self.shared.udp, self.transport()) {
            (Some(udp), Transport::Udp) => Way::Udp(Arc::clone(udp), self.to.clone()),
            _ => Way::Tcp(Arc::clone(&self.stream)),
        }
    }

    pub(super) async fn pause(&mut self) {
        self.hearing = None;
        if self.is_added {
            let client = self.number;
            self.sender.tell(Command::Pause { client }).await;
        }
    }
}
