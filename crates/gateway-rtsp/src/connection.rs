//! What a server does with the requests of one RTSP connection (RFC 2326 section 10 and appendix A).
//!
//! ```text
//!              DESCRIBE, SETUP            PLAY
//!   ┌──────┐ ──────────────────▶ ┌───────┐ ────▶ ┌─────────┐
//!   │ Idle │                     │ Ready │ ◀──── │ Flowing │      play
//!   └──────┘ ◀────────────────── └───────┘ PAUSE └─────────┘
//!      │       TEARDOWN, silence     ▲
//!      │ ANNOUNCE                    │ SETUP              RECORD: Flowing, record
//!      └─────────────────────────────┘
//! ```
//!
//! The machine knows the protocol. What it cannot know (may this user do that, what does the stream hold, which ports
//! are free) it asks: [`Output::Ask`], one question at a time, and goes on with the request when the answer has come;
//! requests that come meanwhile wait. A connection has one session, and the session ends with it. Not the sockets,
//! which are the server's. Called by `server`. Invariant: each request gets exactly one response, in order.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use levada_wire::StreamName;
use levada_wire::machine::{Machine, Wakeup};
use levada_wire::time::Instant;

use crate::decode::DecodeError;
use crate::header::Session;
use crate::header::transport::{Lower, Transport};
use crate::message::{Method, Request, Response, Status};
use crate::pull::Address;
use crate::url::Target;

mod methods;
mod offer;

pub(crate) use offer::channels_of;

/// How long a session lives without a sign of the client.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a publisher may send nothing, before its name is free for the next.
pub const RECORD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a new connection may take to its first request.
pub const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// Requests that may wait for an answer. More end the connection.
pub const WAITING_MAX: usize = 16;
/// Tracks that a session may have.
pub const TRACKS_MAX: usize = 32;

/// What the client is to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It plays.
    Play,
    /// It records: it is the stream's source.
    Record,
}

/// Inputs of the connection's machine.
#[derive(Clone, Debug)]
pub enum Input {
    /// A request came.
    Request(Request),
    /// The bytes that came are not RTSP.
    Malformed(DecodeError),
    /// The answer to the question that was asked. One that was not asked for is ignored.
    Answer(Answer),
    /// A sign of life beside the requests: a receiver report, a packet.
    Heard,
    /// The server ends the session.
    End(EndReason),
}

/// What the server is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// Whether the client may do that.
    Admit(Admission),
    /// What the stream holds; and where it is to be fetched from, if the player says so.
    Describe(StreamName, Option<Address>),
    /// Whether a stream can be published with that description (SDP).
    Announce(StreamName, Bytes),
    /// Ports or channels for one more track.
    Open {
        /// Its place, from 0.
        track: usize,
        /// Whether the client plays or records.
        role: Role,
        /// What the client asked for. Interleaved channels are set already.
        transport: Transport,
    },
    /// The moment has come: where does the stream begin?
    Start(Role),
}

/// What is needed to decide whether a client may do something.
#[derive(Clone, Debug, PartialEq)]
pub struct Admission {
    /// Whether it wants to play or to record.
    pub role: Role,
    /// With which stream.
    pub name: StreamName,
    /// Its `Authorization` header.
    pub authorization: Option<String>,
    /// The token of the URL.
    pub token: Option<String>,
    /// The request's method, which digests sign.
    pub method: Method,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It may.
    Admitted,
    /// It has to say who it is: the values of `WWW-Authenticate`.
    Challenge(Vec<String>),
    /// The stream's description for players, and the controls of its tracks.
    Described {
        /// The SDP.
        sdp: String,
        /// As the SDP has them.
        controls: Vec<String>,
    },
    /// The description is taken; the controls of its tracks.
    Announced(Vec<String>),
    /// The track's transport, as the client is told.
    Opened(Transport),
    /// It starts. For players: `RTP-Info`, if it is known.
    Started(Option<String>),
    /// Not so: a status, and why, for people.
    Refused(Status, String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send these bytes, whole, before anything that follows.
    Send(Bytes),
    /// Find out, and say it by [`Input::Answer`].
    Ask(Question),
    /// Packets may flow from now on.
    Flow(Role),
    /// No packets for now.
    Pause,
    /// The session is over; its ports and channels are free.
    Teardown(EndReason),
    /// Close the connection.
    Close,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// The client said so.
    Teardown,
    /// The connection closed.
    Closed,
    /// The client gave no sign for [`SESSION_TIMEOUT`].
    Silent,
    /// What came is not RTSP, or beyond a limit.
    Malformed,
    /// More than [`WAITING_MAX`] requests waited.
    Overrun,
    /// The stream ended.
    StreamEnded,
    /// The client did not read fast enough.
    Slow,
    /// The server, or somebody in charge of it, ended it.
    Dismissed,
}

/// What is set up.
#[derive(Debug)]
enum State {
    Idle,
    /// A publisher has said what it will send.
    Announced(Setup),
    Ready(Setup),
    Flowing(Setup),
}

/// The session's stream and tracks.
#[derive(Clone, Debug)]
struct Setup {
    role: Role,
    name: StreamName,
    /// The controls of all tracks of the stream.
    controls: Vec<String>,
    /// The places of those that were set up, in order.
    tracks: Vec<usize>,
    /// The URL that the controls are relative to.
    base: String,
    /// How packets travel, the same for all tracks.
    lower: Option<Lower>,
}

/// A request that is being answered.
#[derive(Debug)]
struct Current {
    request: Request,
    /// Whether a question is out.
    asked: bool,
    described: Option<(String, Vec<String>)>,
    announced: Option<Vec<String>>,
    opened: Option<Transport>,
    started: Option<Option<String>>,
}

/// What a request leads to next.
#[derive(Debug)]
enum Step {
    Ask(Question),
    Reply(Response),
}

/// What a connection may be asked for, and what it is called.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The id of its session: nobody else can guess it.
    pub session: String,
    /// Whether packets can go by UDP.
    pub udp: bool,
    /// Whether packets can go by multicast.
    pub multicast: bool,
    /// The short id of this node, for the names of what is pulled from servers on its machine.
    pub node: String,
}

/// The server's end of one connection.
#[derive(Debug)]
pub struct Connection {
    settings: Settings,
    now: Instant,
    /// When the client last gave a sign.
    heard: Option<Instant>,
    /// When the connection was made: at the first call.
    since: Option<Instant>,
    state: State,
    /// What it may do, as far as was asked.
    admitted: Option<(Role, StreamName)>,
    current: Option<Box<Current>>,
    waiting: VecDeque<Request>,
    outputs: VecDeque<Output>,
    closed: bool,
}

impl Connection {
    /// A connection that was just accepted.
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self {
            settings,
            now: Instant::ZERO,
            heard: None,
            since: None,
            state: State::Idle,
            admitted: None,
            current: None,
            waiting: VecDeque::new(),
            outputs: VecDeque::new(),
            closed: false,
        }
    }

    /// What is set up: the places of its tracks, and the URL that their controls are relative to.
    #[must_use]
    pub fn tracks(&self) -> Option<(&[usize], &str)> {
        let setup = self.setup()?;
        Some((&setup.tracks, &setup.base))
    }

    /// How packets travel, once a track is set up.
    #[must_use]
    pub const fn lower(&self) -> Option<Lower> {
        match self.setup() {
            Some(setup) => setup.lower,
            None => None,
        }
    }

    /// The stream that a URL means.
    fn name_of(&self, target: &Target<'_>) -> Option<StreamName> {
        match target.at_server() {
            Some(address) => address.stream_name(&self.settings.node),
            None => target.name(),
        }
    }

    fn on_request(&mut self, request: Request) {
        self.heard = Some(self.now);
        if self.current.is_some() {
            if self.waiting.len() == WAITING_MAX {
                self.end(EndReason::Overrun);
            } else {
                self.waiting.push_back(request);
            }
            return;
        }
        self.begin(request);
        self.drain_waiting();
    }

    fn drain_waiting(&mut self) {
        while self.current.is_none() && !self.closed {
            let Some(request) = self.waiting.pop_front() else {
                return;
            };
            self.begin(request);
        }
    }

    fn begin(&mut self, request: Request) {
        self.current = Some(Box::new(Current {
            request,
            asked: false,
            described: None,
            announced: None,
            opened: None,
            started: None,
        }));
        self.advance();
    }

    /// Goes on with the current request as far as it can.
    fn advance(&mut self) {
        let Some(mut current) = self.current.take() else {
            return;
        };
        match self.step(&mut current) {
            Step::Ask(question) => {
                current.asked = true;
                self.current = Some(current);
                self.outputs.push_back(Output::Ask(question));
            }
            Step::Reply(response) => self.reply(&current.request, response),
        }
    }

    fn on_answer(&mut self, answer: Answer) {
        let Some(mut current) = self.current.take_if(|current| current.asked) else {
            return;
        };
        current.asked = false;
        match answer {
            Answer::Admitted => self.admitted = self.wanted(&current.request),
            Answer::Described { sdp, controls } => current.described = Some((sdp, controls)),
            Answer::Announced(controls) => current.announced = Some(controls),
            Answer::Opened(transport) => current.opened = Some(transport),
            Answer::Started(info) => current.started = Some(info),
            Answer::Challenge(values) => {
                let mut response = Response::new(Status::UNAUTHORIZED);
                for value in values {
                    response = response.with("WWW-Authenticate", value);
                }
                self.reply(&current.request, response);
                return self.drain_waiting();
            }
            Answer::Refused(status, why) => {
                self.reply(&current.request, refusal(status, &why));
                return self.drain_waiting();
            }
        }
        self.current = Some(current);
        self.advance();
        self.drain_waiting();
    }

    /// Sends a response, with the headers that every one has. What follows from the request is done after it is sent.
    fn reply(&mut self, request: &Request, mut response: Response) {
        if let Some(number) = request.headers.value("CSeq") {
            response.headers.push("CSeq", number);
        }
        response.headers.push("Server", "Levada");
        let has_session = matches!(self.state, State::Ready(_) | State::Flowing(_));
        if has_session && response.status == Status::OK {
            let session = Session {
                id: self.settings.session.clone(),
                timeout: Some(SESSION_TIMEOUT),
            };
            response.headers.push("Session", session.write());
        }
        let is_ok = response.status == Status::OK;
        self.outputs.push_back(Output::Send(response.encode()));
        if is_ok {
            self.follow(request.method);
        }
    }

    /// Ends the session, if there is one, and the connection.
    fn end(&mut self, reason: EndReason) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        self.teardown(reason);
        self.current = None;
        self.waiting.clear();
        self.outputs.push_back(Output::Close);
    }

    fn teardown(&mut self, reason: EndReason) {
        if !matches!(std::mem::replace(&mut self.state, State::Idle), State::Idle) {
            self.outputs.push_back(Output::Teardown(reason));
        }
    }

    const fn setup(&self) -> Option<&Setup> {
        match &self.state {
            State::Idle => None,
            State::Announced(setup) | State::Ready(setup) | State::Flowing(setup) => Some(setup),
        }
    }

    /// When the connection ends for want of a sign.
    fn deadline(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        // A question is the server's to answer: the client waits rightly.
        if self.current.is_some() {
            return None;
        }
        let is_recording =
            matches!(&self.state, State::Flowing(setup) if setup.role == Role::Record);
        let timeout = if is_recording {
            RECORD_TIMEOUT
        } else {
            SESSION_TIMEOUT
        };
        match self.heard {
            Some(heard) => Some(heard + timeout),
            None => self.since.map(|since| since + FIRST_REQUEST),
        }
    }

    fn set_now(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.since.get_or_insert(self.now);
        if self.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.end(EndReason::Silent);
        }
    }
}

impl Machine for Connection {
    type Input = Input;
    type Output = Output;

    fn handle_input(&mut self, now: Instant, input: Input) {
        self.set_now(now);
        if self.closed {
            return;
        }
        match input {
            Input::Request(request) => self.on_request(request),
            Input::Malformed(error) => {
                let response = refusal(error.status(), &error.to_string());
                self.outputs.push_back(Output::Send(response.encode()));
                self.end(EndReason::Malformed);
            }
            Input::Answer(answer) => {
                // The client has waited for the server, not the other way round.
                self.heard = Some(self.now);
                self.on_answer(answer);
            }
            Input::Heard => {
                if self.setup().is_some() {
                    self.heard = Some(self.now);
                }
            }
            Input::End(reason) => self.end(reason),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.set_now(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Wakeup> {
        let why = "silence";
        self.deadline().map(|at| Wakeup { at, why })
    }
}

/// A response that says why in its body.
fn refusal(status: Status, why: &str) -> Response {
    let response = Response::new(status);
    if why.is_empty() {
        return response;
    }
    response.with_body("text/plain", format!("{why}\r\n"))
}

#[cfg(test)]
mod tests;
