//! One connection to a camera or a server: its packets become frames of a stream, until something ends it.
//!
//! Not the protocol, which is `dialogue`'s, and not when to connect, which is `keep`'s. Called by `keep`. Invariant:
//! what a connection holds goes with it, and nothing of what the server sends makes it wait for anything but itself.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use levada_gateway::session::About;
use levada_gateway::{OnDemand, Registry, Role, Session, Transport};
use levada_media::rtp::rtcp::Rtcp;
use levada_wire::machine::Machine as _;
use levada_wire::time;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Spec;
use super::dialogue::{Dialogue, Failure, Flow, Input, Output, PATIENCE};
use crate::decode::{Decoder, Item};
use crate::header::transport::{Lower, Pair};
use crate::intake::Intake;
use crate::udp::{DATAGRAMS_MAX, Datagram, Udp};

/// How long a server may take to accept a connection, or to take what is written to it.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How long a stream that flows may bring nothing.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How often servers hear that we are there.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// How long a stream goes on that nobody wants: whoever comes back soon waits for nothing.
pub(super) const LINGER: Duration = Duration::from_secs(10);
/// How long a stream that is handed over waits for a frame with which the other can begin.
const YIELD_MAX: Duration = Duration::from_secs(5);
/// Redirections that are followed.
const REDIRECTS_MAX: usize = 3;
/// What is read at once.
const READ_BYTES: usize = 64 << 10;

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The server said that there is no more.
    Ended,
    /// Nobody wants it.
    Unwanted,
    /// Another node brings it.
    Yielded,
    /// This went wrong.
    Failed(Failure),
    /// The node is gone.
    Stopped,
}

/// What a connection is for.
#[derive(Debug)]
pub(super) struct Purpose<'a> {
    pub(super) spec: &'a Spec,
    pub(super) registry: &'a Registry,
    /// Whether another node brings the stream.
    pub(super) yields: watch::Receiver<bool>,
}

/// Connects, plays, and hands frames in until it is over.
pub(super) async fn run(purpose: &Purpose<'_>, publisher: &mut OnDemand) -> Outcome {
    let mut address = purpose.spec.address.clone();
    for _ in 0..=REDIRECTS_MAX {
        let connected =
            tokio::time::timeout(CONNECT_PATIENCE, TcpStream::connect(address.endpoint()));
        let failed = |why: String| {
            let server = address.server();
            Outcome::Failed(Failure::Connect { server, why })
        };
        let stream = match connected.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return failed(error.to_string()),
            Err(_) => return failed("no answer".to_owned()),
        };
        let (Ok(remote), Some(nonce)) = (stream.peer_addr(), crate::random()) else {
            return failed("the system does not give what is needed".to_owned());
        };
        let lower = purpose.spec.transport;
        let mut connection = Connection {
            purpose,
            stream,
            remote,
            began: Instant::now(),
            dialogue: Dialogue::new(address.clone(), lower, nonce),
            decoder: Decoder::default(),
            buffer: BytesMut::new(),
            udp: Vec::new(),
            receivers: JoinSet::new(),
            inbox: mpsc::channel(DATAGRAMS_MAX),
            flowing: None,
            ending: None,
        };
        match connection.serve(publisher).await {
            End::Outcome(outcome) => return outcome,
            End::Redirect(url) => match address.redirected(&url) {
                Some(to) => address = to,
                None => return Outcome::Failed(Failure::Redirects),
            },
        }
    }
    Outcome::Failed(Failure::Redirects)
}

enum End {
    Outcome(Outcome),
    Redirect(String),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Outcome(Outcome::Failed(failure))
    }
}

struct Connection<'a> {
    purpose: &'a Purpose<'a>,
    stream: TcpStream,
    remote: SocketAddr,
    began: Instant,
    dialogue: Dialogue,
    decoder: Decoder,
    buffer: BytesMut,
    /// The ports of each track by UDP, by its place.
    udp: Vec<(usize, Arc<Udp>)>,
    receivers: JoinSet<()>,
    inbox: (mpsc::Sender<Datagram>, mpsc::Receiver<Datagram>),
    flowing: Option<Flowing>,
    /// Why it said goodbye, if it has.
    ending: Option<Outcome>,
}

/// The stream that comes, once PLAY was answered.
struct Flowing {
    intake: Intake,
    tracks: Vec<Way>,
    session: Arc<Session>,
    heard: Instant,
    reported: Instant,
}

/// How a track comes.
struct Way {
    /// Its place in the description.
    place: usize,
    /// Its SSRC is nobody's: ours.
    reports: ReportTo,
    channels: Option<Pair<u8>>,
}

enum ReportTo {
    Channel(u8),
    Udp(Arc<Udp>, SocketAddr),
}

/// What a connection waits for.
enum Event {
    Readable(io::Result<()>),
    Datagram(Datagram),
    Timer,
    End(Outcome),
}

impl Connection<'_> {
    fn now(&self) -> time::Instant {
        time::Instant::ZERO + self.began.elapsed()
    }

    async fn serve(&mut self, publisher: &mut OnDemand) -> End {
        let now = self.now();
        self.dialogue.start(now);
        let (mut demand, is_always) = (publisher.demand(), self.purpose.spec.always);
        // Made once: a packet must not begin the time anew.
        let mut unwanted = std::pin::pin!(async move {
            if is_always {
                std::future::pending::<()>().await;
            }
            demand.unwanted_for(LINGER).await;
        });
        let mut yields = self.purpose.yields.clone();
        let mut yields_until: Option<Instant> = None;
        loop {
            if let Some(end) = self.obey(publisher).await {
                return end;
            }
            let another = async {
                if yields.wait_for(|yields| *yields).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            let is_ending = self.ending.is_some();
            let due = sleep_until(self.due(yields_until));
            let event = tokio::select! {
                readable = self.stream.readable() => Event::Readable(readable),
                Some(datagram) = self.inbox.1.recv() => Event::Datagram(datagram),
                () = &mut unwanted, if !is_ending => Event::End(Outcome::Unwanted),
                () = another, if !is_ending && yields_until.is_none() => {
                    yields_until = Some(Instant::now() + YIELD_MAX);
                    Event::Timer
                }
                () = due => Event::Timer,
                () = kicked(self.flowing.as_ref()), if !is_ending => Event::End(Outcome::Failed(Failure::Closed)),
            };
            let ended = match event {
                Event::Readable(Ok(())) => self.read(publisher, yields_until).await,
                Event::Readable(Err(_)) => Some(self.closed()),
                Event::Datagram(datagram) => {
                    let is_it = |way: &Way| way.place == datagram.track;
                    self.on_media(
                        publisher,
                        is_it,
                        datagram.is_report,
                        datagram.bytes,
                        yields_until,
                    )
                    .await
                }
                Event::End(outcome) => {
                    self.bid_farewell(outcome);
                    None
                }
                Event::Timer => self.on_time(yields_until).await,
            };
            if let Some(end) = ended {
                return end;
            }
        }
    }

    /// When something is due next.
    fn due(&self, yields_until: Option<Instant>) -> Option<Instant> {
        let machine = self.dialogue.poll_timeout().map(|wakeup| {
            let left = wakeup.at.since(self.now());
            Instant::now() + left
        });
        let flowing = self.flowing.as_ref();
        let silence = flowing.map(|flowing| flowing.heard + SILENCE_MAX);
        let report = flowing.map(|flowing| flowing.reported + REPORT_EVERY);
        let all = [machine, silence, report, yields_until];
        all.into_iter().flatten().min()
    }

    async fn on_time(&mut self, yields_until: Option<Instant>) -> Option<End> {
        let now = self.now();
        self.dialogue.handle_timeout(now);
        if yields_until.is_some_and(|until| until <= Instant::now()) {
            self.bid_farewell(Outcome::Yielded);
        }
        let flowing = self.flowing.as_mut()?;
        if flowing.heard.elapsed() >= SILENCE_MAX && self.ending.is_none() {
            return Some(Failure::Nothing.into());
        }
        if flowing.reported.elapsed() >= REPORT_EVERY {
            flowing.reported = Instant::now();
            self.report().await;
        }
        None
    }

    /// Says goodbye; what follows ends with that outcome.
    fn bid_farewell(&mut self, outcome: Outcome) {
        if self.ending.is_none() {
            self.ending = Some(outcome);
            let now = self.now();
            self.dialogue.handle_input(now, Input::End);
        }
    }

    /// The connection is closed: as it was meant, or by the server.
    fn closed(&mut self) -> End {
        match self.ending.take() {
            Some(outcome) => End::Outcome(outcome),
            None => Failure::Closed.into(),
        }
    }

    async fn obey(&mut self, publisher: &mut OnDemand) -> Option<End> {
        while let Some(output) = self.dialogue.poll_output() {
            match output {
                Output::Send(bytes) => {
                    if !self.write(&bytes).await {
                        return Some(self.closed());
                    }
                }
                Output::Bind(place) => match self.bind(place).await {
                    Ok(ports) => {
                        let now = self.now();
                        self.dialogue.handle_input(now, Input::Bound(ports));
                    }
                    Err(error) => {
                        let (server, why) = (self.remote.to_string(), error.to_string());
                        return Some(Failure::Connect { server, why }.into());
                    }
                },
                Output::Flow(flow) => {
                    if let Err(end) = self.flow(*flow, publisher).await {
                        return Some(end);
                    }
                }
                Output::Failed(failure) => return Some(failure.into()),
                Output::Redirect(url) => return Some(End::Redirect(url)),
                Output::Close => return Some(self.closed()),
            }
        }
        None
    }

    async fn write(&self, bytes: &[u8]) -> bool {
        let write = async {
            let mut rest = bytes;
            while !rest.is_empty() {
                self.stream.writable().await?;
                match self.stream.try_write(rest) {
                    Ok(written) => rest = &rest[written..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            io::Result::Ok(())
        };
        matches!(
            tokio::time::timeout(CONNECT_PATIENCE, write).await,
            Ok(Ok(()))
        )
    }

    async fn bind(&mut self, place: usize) -> io::Result<Pair<u16>> {
        let local = self.stream.local_addr()?;
        let udp = Arc::new(Udp::bind(local.ip(), 0).await?);
        let ports = udp.ports();
        self.udp.push((place, udp));
        Ok(ports)
    }

    /// Packets come from now on.
    async fn flow(&mut self, flow: Flow, publisher: &mut OnDemand) -> Result<(), End> {
        let mut description = flow.session.description();
        let media = flow
            .tracks
            .iter()
            .filter_map(|(place, _)| flow.session.media.get(*place));
        let is_set_up = |id| media.clone().any(|media| media.track.id == id);
        description.tracks.retain(|track| is_set_up(track.id));
        let mut tracks = Vec::new();
        for (place, transport) in &flow.tracks {
            let udp = self.udp.iter().find(|(known, _)| known == place);
            let reports = match (transport.lower, udp, transport.server_port) {
                (Lower::Udp, Some((_, udp)), Some(ports)) => {
                    let at = |port| SocketAddr::new(self.remote.ip(), port);
                    let from = [at(ports.rtp), at(ports.rtcp)];
                    udp.join(0, *place, from, &self.inbox.0);
                    self.receivers.spawn(Arc::clone(udp).receive());
                    ReportTo::Udp(Arc::clone(udp), from[1])
                }
                (Lower::Udp, ..) => {
                    let why = "it names no ports for UDP".to_owned();
                    return Err(Failure::Description(why).into());
                }
                _ => ReportTo::Channel(transport.interleaved.map_or(1, |pair| pair.rtcp)),
            };
            tracks.push(Way {
                place: *place,
                reports,
                channels: transport.interleaved,
            });
        }
        let transport = match flow.tracks.first().map(|(_, transport)| transport.lower) {
            Some(Lower::Udp) => Transport::Udp,
            _ => Transport::Tcp,
        };
        let session = self.purpose.registry.begin(About {
            role: Role::Publish,
            stream: publisher.name().clone(),
            protocol: "rtsp pull",
            transport,
            user: None,
            remote: self.remote,
            agent: flow.agent,
        });
        let now = Instant::now();
        self.flowing = Some(Flowing {
            intake: Intake::new(media),
            tracks,
            session: Arc::new(session),
            heard: now,
            reported: now,
        });
        match publisher.begin(description).await {
            Ok(()) => Ok(()),
            Err(levada::SendError::Stopped(_)) => Err(End::Outcome(Outcome::Stopped)),
            Err(error) => Err(Failure::Description(error.to_string()).into()),
        }
    }

    /// Takes what has come.
    async fn read(&mut self, publisher: &mut OnDemand, yields: Option<Instant>) -> Option<End> {
        self.buffer.reserve(READ_BYTES);
        match self.stream.try_read_buf(&mut self.buffer) {
            Ok(0) => return Some(self.closed()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(_) => return Some(self.closed()),
        }
        loop {
            let ended = match self.decoder.next(&mut self.buffer) {
                Ok(Some(Item::Response(response))) => {
                    let now = self.now();
                    self.dialogue.handle_input(now, Input::Response(response));
                    self.obey(publisher).await
                }
                Ok(Some(Item::Interleaved { channel, payload })) => {
                    let of = |way: &Way, rtp: bool| {
                        let pair = way.channels;
                        pair.is_some_and(|pair| channel == if rtp { pair.rtp } else { pair.rtcp })
                    };
                    let flowing = self.flowing.as_ref();
                    let is_report = flowing
                        .is_some_and(|flowing| !flowing.tracks.iter().any(|way| of(way, true)));
                    self.on_media(
                        publisher,
                        |way| of(way, !is_report),
                        is_report,
                        payload,
                        yields,
                    )
                    .await
                }
                // A server may ask as well; none waits for an answer.
                Ok(Some(Item::Request(_))) => None,
                Ok(None) => return None,
                Err(error) => Some(Failure::Malformed(error.to_string()).into()),
            };
            if ended.is_some() {
                return ended;
            }
        }
    }

    /// Takes a packet of a track, and hands in the frames that are whole by it.
    async fn on_media(
        &mut self,
        publisher: &mut OnDemand,
        is_it: impl Fn(&Way) -> bool,
        is_report: bool,
        packet: Bytes,
        yields: Option<Instant>,
    ) -> Option<End> {
        let flowing = self.flowing.as_mut()?;
        let track = flowing.tracks.iter().position(is_it)?;
        flowing.session.counts().add_bytes(packet.len());
        if is_report {
            flowing.intake.on_report(track, &packet);
        } else {
            flowing.heard = Instant::now();
            flowing.intake.on_packet(track, packet, Instant::now());
        }
        let is_over = flowing.intake.is_over();
        if is_over {
            flowing.intake.finish();
        }
        let frames: Vec<_> = flowing.intake.drain().collect();
        for frame in frames {
            if yields.is_some() && publisher.starts(&frame) {
                self.bid_farewell(Outcome::Yielded);
                return None;
            }
            if self.ending.is_some() {
                continue;
            }
            match publisher.send(frame).await {
                Ok(()) => {}
                Err(levada::SendError::Stopped(_)) => return Some(End::Outcome(Outcome::Stopped)),
                Err(error) => tracing::debug!("a frame that was pulled is left out: {error}"),
            }
        }
        if is_over {
            self.bid_farewell(Outcome::Ended);
        }
        None
    }

    /// Says that we are there, for servers that want to hear it so.
    async fn report(&self) {
        let Some(flowing) = &self.flowing else { return };
        // Nobody else sends here, so any number will do.
        let ssrc = u32::from(self.remote.port()) << 16 | 0x1E7A;
        let mut report = Vec::new();
        let reports = Vec::new();
        Rtcp::Receiver { ssrc, reports }.write(&mut report);
        Rtcp::Names(vec![(ssrc, "levada".to_owned())]).write(&mut report);
        for way in &flowing.tracks {
            match &way.reports {
                ReportTo::Channel(channel) => {
                    let [high, low] = u16::try_from(report.len()).unwrap_or(0).to_be_bytes();
                    let framed = [&[b'$', *channel, high, low], &report[..]].concat();
                    self.write(&framed).await;
                }
                // One that is lost is followed by the next.
                ReportTo::Udp(udp, to) => drop(udp.try_send(true, *to, &report, report.len())),
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Waits until an operator ends it.
async fn kicked(flowing: Option<&Flowing>) {
    match flowing {
        Some(flowing) => flowing.session.kicked().await,
        None => std::future::pending().await,
    }
}

// A server that never answers is given up by the dialogue before its connection would be.
const _: () = assert!(SILENCE_MAX.as_secs() >= PATIENCE.as_secs());
