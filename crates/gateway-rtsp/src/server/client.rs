//! One connection: reads, drives the machine, and does what it says.
//!
//! Not the writing to players, which is `sender`'s from the first PLAY on, and not the answers to the machine's
//! questions about streams, which are `play` and `record`. Started by the parent. Invariant: what a connection holds
//! while it is idle is a task and no buffer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use levada_gateway::users::{Decision, Proof};
use levada_gateway::{EndReason, Permit, Role, Session, users};
use levada_wire::machine::Machine as _;
use levada_wire::time::Instant;
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::play::Playing;
use super::record::Recording;
use crate::auth::{self, Authorization};
use crate::channel::{self, Hearing};
use crate::connection::{self, Admission, Answer, Connection, Input, Output, Question, Settings};
use crate::decode::{Decoder, Item};
use crate::header::transport::{Lower, Transport};
use crate::message::Status;
use crate::sender::{self, Command};
use crate::socket::Socket;
use crate::udp::{DATAGRAMS_MAX, Datagram};

/// How long a response may take to leave, before anything plays.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// What is read at once.
const READ_BYTES: usize = 16 << 10;

/// Serves a connection until it ends.
pub(super) async fn run(stream: Socket, remote: SocketAddr, shared: Arc<Shared>, permit: Permit) {
    let Some((session, nonce)) = crate::random().zip(crate::random()) else {
        tracing::error!("the system gives no random bytes: a client was turned away");
        return;
    };
    let (number, sender) = shared.number();
    let address = stream.local_addr().ok();
    let settings = Settings {
        session,
        // Who asks by TLS does not want its media in the clear.
        udp: shared.udp.is_some() && !stream.is_secure(),
        multicast: !stream.is_secure() && address.and_then(channel::source_of).is_some(),
        node: shared.node_id.clone(),
    };
    let mut client = Client {
        stream: Arc::new(stream),
        remote,
        shared,
        permit,
        began: std::time::Instant::now(),
        machine: Connection::new(settings),
        decoder: Decoder::default(),
        buffer: BytesMut::new(),
        nonce,
        user: None,
        agent: String::new(),
        number,
        sender,
        is_added: false,
        ended: None,
        is_shared: false,
        inbox: None,
        hearing: None,
        to: Vec::new(),
        session: None,
        player: None,
        recording: None,
    };
    client.serve().await;
    client.leave().await;
}

/// A connection and what is known of its client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: Arc<Socket>,
    pub(super) remote: SocketAddr,
    pub(super) shared: Arc<Shared>,
    permit: Permit,
    began: std::time::Instant,
    pub(super) machine: Connection,
    decoder: Decoder,
    buffer: BytesMut,
    nonce: String,
    user: Option<String>,
    agent: String,
    pub(super) number: u64,
    pub(super) sender: sender::Handle,
    /// Whether the sender has this client.
    pub(super) is_added: bool,
    /// Told by the sender, once the stream is over for the client.
    pub(super) ended: Option<oneshot::Receiver<EndReason>>,
    /// Whether the sender writes to this connection.
    pub(super) is_shared: bool,
    /// What comes by UDP, once a track is set up so.
    pub(super) inbox: Option<Inbox>,
    /// The channel that the client hears.
    pub(super) hearing: Option<Hearing>,
    /// Where each track's packets go by UDP.
    pub(super) to: Vec<Option<[SocketAddr; 2]>>,
    pub(super) session: Option<Arc<Session>>,
    pub(super) player: Option<Playing>,
    pub(super) recording: Option<Recording>,
}

/// Datagrams of this connection.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) sender: mpsc::Sender<Datagram>,
    receiver: mpsc::Receiver<Datagram>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(DATAGRAMS_MAX);
        Self { sender, receiver }
    }
}

/// What a connection waits for.
enum Event {
    Datagram(Datagram),
    Readable(io::Result<()>),
    Ended(EndReason),
    Timer,
}

impl Client {
    fn now(&self) -> Instant {
        Instant::ZERO + self.began.elapsed()
    }

    async fn serve(&mut self) {
        self.machine.handle_timeout(self.now());
        loop {
            match self.event().await {
                Event::Readable(readable) => {
                    if readable.is_err() || !self.read().await {
                        return;
                    }
                }
                Event::Datagram(datagram) => {
                    self.input(Input::Heard);
                    if !self.on_datagram(datagram).await {
                        return;
                    }
                }
                Event::Ended(reason) => self.input(Input::End(of(reason))),
                Event::Timer => self.machine.handle_timeout(self.now()),
            }
            if !self.obey().await {
                return;
            }
        }
    }

    async fn event(&mut self) -> Event {
        let wakeup = self.machine.poll_timeout();
        let wait = wakeup.map(|wakeup| wakeup.at.since(self.now()));
        let timer = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        let ended = async {
            match &mut self.ended {
                Some(ended) => ended.await.unwrap_or(EndReason::Stopped),
                None => std::future::pending().await,
            }
        };
        let silenced = async {
            match &self.hearing {
                Some(hearing) => hearing.ended().await,
                None => std::future::pending().await,
            }
        };
        let kicked = async {
            match &self.session {
                Some(session) => session.kicked().await,
                None => std::future::pending().await,
            }
        };
        let datagram = async {
            match &mut self.inbox {
                Some(inbox) => inbox.receiver.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(datagram) = datagram => Event::Datagram(datagram),
            readable = self.stream.readable() => Event::Readable(readable),
            reason = ended => {
                self.ended = None;
                Event::Ended(reason)
            }
            reason = silenced => Event::Ended(reason),
            () = kicked => Event::Ended(EndReason::Kicked),
            () = timer => Event::Timer,
        }
    }

    fn input(&mut self, input: Input) {
        let now = self.now();
        self.machine.handle_input(now, input);
    }

    /// Takes what has come. `false`: the connection is over.
    async fn read(&mut self) -> bool {
        self.buffer.reserve(READ_BYTES);
        match self.stream.try_read_buf(&mut self.buffer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        loop {
            match self.decoder.next(&mut self.buffer) {
                Ok(Some(Item::Request(request))) => {
                    if let Some(agent) = request.headers.value("User-Agent") {
                        self.agent = agent.chars().take(128).collect();
                    }
                    tracing::debug!(method = request.method.name(), "a request");
                    self.input(Input::Request(request));
                    if !self.obey().await {
                        return false;
                    }
                }
                Ok(Some(Item::Interleaved { channel, payload })) => {
                    self.input(Input::Heard);
                    if !self.on_interleaved(channel, payload).await {
                        return false;
                    }
                }
                // Nothing was asked.
                Ok(Some(Item::Response(_))) => {}
                Ok(None) => break,
                Err(error) => {
                    self.input(Input::Malformed(error));
                    break;
                }
            }
        }
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        true
    }

    /// Does what the machine says. `false`: the connection is over.
    async fn obey(&mut self) -> bool {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send(bytes) => {
                    if !self.say(bytes).await {
                        return false;
                    }
                }
                Output::Ask(question) => {
                    let answer = self.answer(question).await;
                    self.input(Input::Answer(answer));
                }
                Output::Flow(connection::Role::Play) => self.flow().await,
                Output::Flow(connection::Role::Record) => {}
                Output::Pause => self.pause().await,
                Output::Teardown(reason) => self.end_session(from(reason)).await,
                Output::Close => return false,
            }
        }
        true
    }

    /// Writes a response: by the sender, if it writes to this connection.
    async fn say(&self, bytes: Bytes) -> bool {
        let client = self.number;
        if self.is_shared {
            return self.sender.tell(Command::Say { client, bytes }).await;
        }
        let write = async {
            let mut rest = &bytes[..];
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
        let written = tokio::time::timeout(WRITE_PATIENCE, write).await;
        matches!(written, Ok(Ok(())))
    }

    async fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Admit(admission) => self.admit(admission).await,
            Question::Describe(name, from) => self.describe(&name, from.as_ref()).await,
            Question::Announce(name, text) => self.announce(&name, &text),
            Question::Open {
                track,
                role,
                transport,
            } => {
                self.permit.settle();
                self.open(track, role, transport)
            }
            Question::Start(connection::Role::Play) => self.start_play(),
            Question::Start(connection::Role::Record) => self.start_record().await,
        }
    }

    /// Opens the way of a track, and says what the client is told of it.
    fn open(&mut self, track: usize, role: connection::Role, mut transport: Transport) -> Answer {
        if let (Lower::Udp, Some(ports), Some(udp)) =
            (transport.lower, transport.client_port, &self.shared.udp)
        {
            // To the address of the connection, whatever the header says: nobody is sent what somebody else asked for.
            let at = |port| {
                let mut address = self.remote;
                address.set_port(port);
                address
            };
            let to = [at(ports.rtp), at(ports.rtcp)];
            let inbox = self.inbox.get_or_insert_with(Inbox::new);
            udp.join(self.number, track, to, &inbox.sender);
            if self.to.len() <= track {
                self.to.resize(track + 1, None);
            }
            self.to[track] = Some(to);
            transport.destination = None;
            transport.server_port = Some(udp.ports());
        }
        if let (Lower::Multicast, Some(playing)) = (transport.lower, &self.player) {
            let address = playing.address(track);
            transport.destination = Some(address.ip.into());
            transport.port = Some(address.ports);
            transport.ttl = Some(channel::TTL);
        }
        if role == connection::Role::Record {
            self.open_record(track, &transport);
        }
        Answer::Opened(transport)
    }

    async fn admit(&mut self, admission: Admission) -> Answer {
        let role = match admission.role {
            connection::Role::Play => Role::Play,
            connection::Role::Record => Role::Publish,
        };
        let proof = self.proof(&admission);
        let users = self.shared.kit.users();
        match users.check(proof, role, &admission.name).await {
            Decision::Granted(user) => {
                self.user = user;
                Answer::Admitted
            }
            Decision::Unproven => {
                let with_digest = users.has_digest();
                Answer::Challenge(auth::challenges(users::REALM, &self.nonce, with_digest))
            }
            Decision::Forbidden => {
                let why = format!("this user may not {role} `{}`", admission.name);
                Answer::Refused(Status::FORBIDDEN, why)
            }
        }
    }

    fn proof(&self, admission: &Admission) -> Proof {
        let header = admission.authorization.as_deref();
        match header.and_then(Authorization::parse) {
            Some(Authorization::Basic { user, password }) => Proof::Password { user, password },
            Some(Authorization::Digest(digest)) if digest.nonce == self.nonce => {
                let method = admission.method;
                Proof::Digest {
                    user: digest.user.clone(),
                    hash: digest.hash,
                    response: digest.response.to_ascii_lowercase(),
                    expected: Arc::new(move |ha1| digest.expected(ha1, method)),
                }
            }
            _ => match &admission.token {
                Some(token) => Proof::Token(token.clone()),
                None => Proof::None,
            },
        }
    }

    /// What the records say of this client.
    pub(super) fn about(
        &self,
        role: Role,
        stream: levada::StreamName,
        transport: levada_gateway::Transport,
    ) -> levada_gateway::session::About {
        levada_gateway::session::About {
            role,
            stream,
            protocol: "rtsp",
            transport,
            user: self.user.clone(),
            remote: self.remote,
            agent: self.agent.clone(),
        }
    }

    async fn end_session(&mut self, reason: EndReason) {
        self.pause().await;
        if let Some(udp) = &self.shared.udp {
            udp.leave(self.number);
        }
        self.to.clear();
        if let Some(session) = self.session.take() {
            session.end_with(reason);
        }
        self.player = None;
        self.end_record().await;
    }

    /// The connection is over.
    async fn leave(mut self) {
        self.end_session(EndReason::Closed).await;
        if self.is_added {
            let client = self.number;
            self.sender.tell(Command::Remove { client }).await;
        }
    }
}

/// The machine's word for a reason.
const fn of(reason: EndReason) -> connection::EndReason {
    match reason {
        EndReason::Slow => connection::EndReason::Slow,
        EndReason::StreamEnded | EndReason::TracksChanged => connection::EndReason::StreamEnded,
        EndReason::Closed => connection::EndReason::Closed,
        _ => connection::EndReason::Dismissed,
    }
}

/// The records' word for a reason.
const fn from(reason: connection::EndReason) -> EndReason {
    match reason {
        connection::EndReason::Teardown => EndReason::Left,
        connection::EndReason::Closed => EndReason::Closed,
        connection::EndReason::Silent => EndReason::Silent,
        connection::EndReason::Malformed | connection::EndReason::Overrun => EndReason::Malformed,
        connection::EndReason::StreamEnded => EndReason::StreamEnded,
        connection::EndReason::Slow => EndReason::Slow,
        connection::EndReason::Dismissed => EndReason::Kicked,
    }
}
