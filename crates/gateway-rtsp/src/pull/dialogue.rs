//! The client's end of a connection that pulls a stream, as a machine without I/O (RFC 2326).
//!
//! ```text
//!   OPTIONS ──▶ DESCRIBE ──▶ SETUP, one for each track ──▶ PLAY ──▶ flowing: a sign of life every half time-out
//!      │ 401: once more with an answer │ 461: UDP instead of TCP           │
//!      ▼                               ▼                                   ▼
//!   Failed, Redirect                Failed                     End: TEARDOWN ──▶ Close
//! ```
//!
//! Not the sockets, which are the parent's, and not what packets hold. Called by the parent. Invariant: one request is
//! out at a time, and each is answered within [`PATIENCE`] or the dialogue has failed.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use levada_media::sdp;
use levada_wire::machine::{Machine, Wakeup};
use levada_wire::time::Instant;

use super::address::Address;
use super::challenge::Challenge;
use crate::header::Session;
use crate::header::transport::{Lower, Pair, Transport};
use crate::message::{Method, Request, Response, Status};

/// How long a server may take for an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a session lives that says nothing of it (RFC 2326 section 12.37).
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// The shortest time between two signs of life.
const SIGN_MIN: Duration = Duration::from_secs(1);
/// What servers see of us.
const AGENT: &str = "Levada";
/// Tracks that are set up, as for players.
const TRACKS_MAX: usize = crate::connection::TRACKS_MAX;
/// Of a server's own words, how many characters are repeated.
const WORDS_MAX: usize = 200;

/// What the machine is told.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// A response came.
    Response(Response),
    /// The ports that were asked for are open.
    Bound(Pair<u16>),
    /// The stream is wanted no longer.
    End,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Output {
    Send(Bytes),
    /// Open two ports for the track at that place.
    Bind(usize),
    /// Packets come from now on.
    Flow(Box<Flow>),
    /// It failed; the connection is of no use any more.
    Failed(Failure),
    /// The stream is at another address.
    Redirect(String),
    /// Close the connection.
    Close,
}

/// What comes, and how.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Flow {
    pub(super) session: sdp::Session,
    /// Of each track that was set up: its place, and how it comes.
    pub(super) tracks: Vec<(usize, Transport)>,
    /// What the server calls itself.
    pub(super) agent: String,
}

/// Why a stream cannot be pulled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The connection cannot be made.
    #[error("cannot connect to {server}: {why}")]
    Connect {
        /// Host and port.
        server: String,
        /// What the system says.
        why: String,
    },
    /// It wants to know who asks.
    #[error(
        "the server wants a user and a password: write them into the URL, rtsp://USER:PASSWORD@HOST/PATH"
    )]
    NoCredentials,
    /// It knows who asks, or thinks so.
    #[error("the server does not accept the user or the password of the URL")]
    WrongCredentials,
    /// It has no such stream.
    #[error("the server has no such stream (404): is the path right?")]
    NotFound,
    /// It refused.
    #[error("the server refused {method}: {status}{words}")]
    Refused {
        /// The request.
        method: &'static str,
        /// Its answer.
        status: Status,
        /// What it said with it.
        words: String,
    },
    /// Its description cannot be used.
    #[error("what the server describes cannot be carried: {0}")]
    Description(String),
    /// It does not answer.
    #[error("the server does not answer {0}")]
    Silent(&'static str),
    /// It sends no packets.
    #[error("the server sends nothing")]
    Nothing,
    /// It closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// It speaks something else.
    #[error("what the server sends is not RTSP: {0}")]
    Malformed(String),
    /// It sends to others.
    #[error("the server sends to other servers without an end")]
    Redirects,
}

/// Which request is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Options,
    Describe,
    /// The track at that place among those of the description.
    SetUp(usize),
    Play,
    /// Packets come; a sign of life may be out.
    Flowing,
    TearDown,
    Over,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Dialogue {
    address: Address,
    lower: Lower,
    /// Whether UDP may be used where TCP is refused.
    may_change: bool,
    /// Makes the nonces of answers.
    own_nonce: String,
    now: Instant,
    step: Step,
    number: u32,
    /// The request that is out, since when, and whether it has been said with an answer to a challenge.
    out: Option<(Request, Instant, bool)>,
    challenge: Option<Challenge>,
    session: Option<Session>,
    /// What relative controls are appended to.
    base: String,
    described: Option<sdp::Session>,
    opened: Vec<(usize, Transport)>,
    agent: String,
    has_parameters: bool,
    sign_at: Option<Instant>,
    outputs: VecDeque<Output>,
}

impl Dialogue {
    /// A connection that was just made. `own_nonce` is random.
    pub(super) fn new(address: Address, lower: Option<Lower>, own_nonce: String) -> Self {
        Self {
            address,
            lower: lower.unwrap_or(Lower::Tcp),
            may_change: lower.is_none(),
            own_nonce,
            now: Instant::ZERO,
            step: Step::Over,
            number: 0,
            out: None,
            challenge: None,
            session: None,
            base: String::new(),
            described: None,
            opened: Vec::new(),
            agent: String::new(),
            has_parameters: false,
            sign_at: None,
            outputs: VecDeque::new(),
        }
    }

    /// Says the first request.
    pub(super) fn start(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.step = Step::Options;
        self.send(Request::new(Method::Options, self.address.url()), false);
    }

    fn send(&mut self, request: Request, is_answer: bool) {
        self.number += 1;
        let mut whole = request.clone();
        whole = whole
            .with("CSeq", self.number.to_string())
            .with("User-Agent", AGENT);
        if let Some(session) = &self.session {
            whole = whole.with("Session", session.id.clone());
        }
        if let (Some(challenge), Some(credentials)) = (&self.challenge, self.address.credentials())
        {
            let signed = (whole.method, &*whole.uri.clone());
            let own = (self.number, &*self.own_nonce);
            whole = whole.with("Authorization", challenge.answer(credentials, signed, own));
        }
        self.outputs.push_back(Output::Send(whole.encode()));
        self.out = Some((request, self.now, is_answer));
    }

    fn on_response(&mut self, response: &Response) {
        let number = response.headers.value("CSeq");
        let is_old = number.is_some_and(|number| number.trim().parse() != Ok(self.number));
        let Some((request, _, is_answer)) = self.out.take_if(|_| !is_old) else {
            return;
        };
        if let Some(agent) = response.headers.value("Server") {
            self.agent = agent.chars().take(WORDS_MAX).collect();
        }
        match response.status {
            Status::OK => self.on_ok(&request, response),
            Status::UNAUTHORIZED => self.on_challenge(request, response, is_answer),
            Status(300..=399) => match response.headers.value("Location") {
                Some(url) if self.step == Step::Describe => {
                    self.outputs.push_back(Output::Redirect(url.to_owned()));
                    self.step = Step::Over;
                }
                _ => self.refused(&request, response),
            },
            // Some servers have no OPTIONS, and none needs a sign of life that it does not know.
            _ if self.step == Step::Options => self.describe(),
            _ if matches!(self.step, Step::Flowing) => {}
            _ if self.step == Step::TearDown => self.over(),
            Status::UNSUPPORTED_TRANSPORT if self.may_change && self.opened.is_empty() => {
                self.may_change = false;
                self.lower = Lower::Udp;
                self.set_up_next();
            }
            Status::NOT_FOUND if self.step == Step::Describe => self.fail(Failure::NotFound),
            _ => self.refused(&request, response),
        }
    }

    fn on_challenge(&mut self, request: Request, response: &Response, is_answer: bool) {
        if self.address.credentials().is_none() {
            return self.fail(Failure::NoCredentials);
        }
        let challenge = Challenge::choose(response.headers.values("WWW-Authenticate"));
        // A nonce that has run out is no wrong password: it may be answered once more.
        let is_news = challenge.is_some() && challenge != self.challenge;
        if is_answer || !is_news {
            return self.fail(Failure::WrongCredentials);
        }
        self.challenge = challenge;
        self.send(request, true);
    }

    fn on_ok(&mut self, request: &Request, response: &Response) {
        match self.step {
            Step::Options => {
                let methods = response.headers.value("Public").unwrap_or_default();
                self.has_parameters = methods.to_ascii_uppercase().contains("GET_PARAMETER");
                self.describe();
            }
            Step::Describe => self.on_description(request, response),
            Step::SetUp(place) => self.on_set_up(place, response),
            Step::Play => {
                self.step = Step::Flowing;
                self.keep_alive();
                if let Some(session) = self.described.take() {
                    let flow = Flow {
                        session,
                        tracks: self.opened.clone(),
                        agent: self.agent.clone(),
                    };
                    self.outputs.push_back(Output::Flow(Box::new(flow)));
                }
            }
            Step::Flowing => self.keep_alive(),
            Step::TearDown => self.over(),
            Step::Over => {}
        }
    }

    fn describe(&mut self) {
        self.step = Step::Describe;
        let request = Request::new(Method::Describe, self.address.url());
        self.send(request.with("Accept", "application/sdp"), false);
    }

    fn on_description(&mut self, request: &Request, response: &Response) {
        let described = match sdp::Session::parse(&response.body) {
            Ok(described) => described,
            Err(error) => return self.fail(Failure::Description(error.to_string())),
        };
        // RFC 2326 section C.1.1.
        let base = response.headers.value("Content-Base");
        let base = base.or_else(|| response.headers.value("Content-Location"));
        self.base = base.unwrap_or(&request.uri).trim().to_owned();
        self.described = Some(described);
        self.set_up_next();
    }

    /// Sets up the next track, or plays if there is none left.
    fn set_up_next(&mut self) {
        let tracks = self
            .described
            .as_ref()
            .map_or(0, |session| session.media.len());
        let place = self.opened.last().map_or(0, |(place, _)| place + 1);
        if place >= tracks.min(TRACKS_MAX) {
            self.step = Step::Play;
            let request = Request::new(Method::Play, self.aggregate());
            return self.send(request.with("Range", "npt=0.000-"), false);
        }
        self.step = Step::SetUp(place);
        match self.lower {
            Lower::Tcp => {
                let mut transport = Transport::new(Lower::Tcp);
                transport.interleaved = Some(crate::connection::channels_of(place));
                self.set_up(place, &transport);
            }
            _ => self.outputs.push_back(Output::Bind(place)),
        }
    }

    fn set_up(&mut self, place: usize, transport: &Transport) {
        let media = self
            .described
            .as_ref()
            .and_then(|session| session.media.get(place));
        let control = media.and_then(|media| media.control.as_deref());
        let url = resolve(&self.base, control.unwrap_or_default());
        let request = Request::new(Method::Setup, url);
        self.send(request.with("Transport", transport.write()), false);
    }

    fn on_set_up(&mut self, place: usize, response: &Response) {
        let said = response.headers.value("Transport").unwrap_or_default();
        let Some(mut transport) = Transport::parse(said).into_iter().next() else {
            let words = ": its answer names no transport".to_owned();
            let (method, status) = (Method::Setup.name(), response.status);
            return self.fail(Failure::Refused {
                method,
                status,
                words,
            });
        };
        if transport.lower == Lower::Tcp {
            let asked = crate::connection::channels_of(place);
            transport.interleaved = Some(transport.interleaved.unwrap_or(asked));
        }
        if let Some(session) = response.headers.value("Session").and_then(Session::parse) {
            self.session.get_or_insert(session);
        }
        self.opened.push((place, transport));
        self.set_up_next();
    }

    /// The URL of all tracks together.
    fn aggregate(&self) -> String {
        let control = self
            .described
            .as_ref()
            .and_then(|session| session.control.as_deref());
        match control {
            Some("*") | None => self.base.clone(),
            Some(control) => resolve(&self.base, control),
        }
    }

    /// Says when the next sign of life is due.
    fn keep_alive(&mut self) {
        let timeout = self.session.as_ref().and_then(|session| session.timeout);
        let every = (timeout.unwrap_or(TIMEOUT_DEFAULT) / 2).max(SIGN_MIN);
        self.sign_at = Some(self.now + every);
    }

    fn refused(&mut self, request: &Request, response: &Response) {
        let words = String::from_utf8_lossy(&response.body);
        let words = words.trim().replace(char::is_control, " ");
        let words: String = words.chars().take(WORDS_MAX).collect();
        let words = if words.is_empty() {
            words
        } else {
            format!(": {words}")
        };
        self.fail(Failure::Refused {
            method: request.method.name(),
            status: response.status,
            words,
        });
    }

    fn fail(&mut self, failure: Failure) {
        self.step = Step::Over;
        self.out = None;
        self.outputs.push_back(Output::Failed(failure));
    }

    fn over(&mut self) {
        if self.step != Step::Over {
            self.step = Step::Over;
            self.outputs.push_back(Output::Close);
        }
    }

    fn end(&mut self) {
        if self.session.is_none() || matches!(self.step, Step::TearDown | Step::Over) {
            return self.over();
        }
        self.step = Step::TearDown;
        let request = Request::new(Method::Teardown, self.aggregate());
        self.send(request, false);
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        if self.step == Step::Over {
            return None;
        }
        if let Some((_, since, _)) = &self.out {
            return Some((*since + PATIENCE, "an answer"));
        }
        let sign = self.sign_at.filter(|_| self.step == Step::Flowing)?;
        Some((sign, "a sign of life"))
    }

    fn set_now(&mut self, now: Instant) {
        self.now = self.now.max(now);
        while self.deadline().is_some_and(|(at, _)| at <= self.now) {
            match self.out.take() {
                // It need not answer a farewell.
                Some(_) if self.step == Step::TearDown => self.over(),
                Some((request, ..)) => self.fail(Failure::Silent(request.method.name())),
                None => {
                    let method = match self.has_parameters {
                        true => Method::GetParameter,
                        false => Method::Options,
                    };
                    self.sign_at = None;
                    self.send(Request::new(method, self.aggregate()), false);
                }
            }
        }
    }
}

impl Machine for Dialogue {
    type Input = Input;
    type Output = Output;

    fn handle_input(&mut self, now: Instant, input: Input) {
        self.set_now(now);
        match (input, self.step) {
            (_, Step::Over) => {}
            (Input::Response(response), _) => self.on_response(&response),
            (Input::Bound(ports), Step::SetUp(place)) if self.out.is_none() => {
                let mut transport = Transport::new(Lower::Udp);
                transport.client_port = Some(ports);
                self.set_up(place, &transport);
            }
            (Input::Bound(_), _) => {}
            (Input::End, _) => self.end(),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.set_now(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Wakeup> {
        self.deadline().map(|(at, why)| Wakeup { at, why })
    }
}

/// A control as a URL (RFC 2326 section C.1.1): a relative one is appended, as all servers mean it.
fn resolve(base: &str, control: &str) -> String {
    if control.contains("://") {
        return control.to_owned();
    }
    if matches!(control, "" | "*") {
        return base.to_owned();
    }
    let slash = if base.ends_with('/') { "" } else { "/" };
    format!("{base}{slash}{}", control.trim_start_matches('/'))
}

#[cfg(test)]
mod tests;
