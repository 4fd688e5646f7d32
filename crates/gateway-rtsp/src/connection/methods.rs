//! What each method leads to: a question, or a response and what follows from it.
//!
//! Not the order of requests and answers, which is the parent's. Called by the parent alone. Invariant: packets flow or
//! stop only by `follow`, after the response that says so.

use crate::header::Range;
use crate::header::transport::Transport;
use crate::message::{METHODS, Method, Request, Response, Status};
use crate::url::{Target, find_track};

use super::{
    Admission, Connection, Current, EndReason, Output, Question, Role, Setup, State, Step,
    TRACKS_MAX, offer, refusal,
};

impl Connection {
    /// The next step of a request.
    pub(super) fn step(&mut self, current: &mut Current) -> Step {
        let request = &current.request;
        if request.version != 1 {
            return Step::Reply(Response::new(Status::VERSION));
        }
        if let Some(option) = request.headers.value("Require") {
            let response = Response::new(Status::OPTION_NOT_SUPPORTED);
            return Step::Reply(response.with("Unsupported", option));
        }
        if let Some(session) = request.headers.value("Session") {
            let id = session.split(';').next().unwrap_or_default().trim();
            let is_set_up = matches!(self.state, State::Ready(_) | State::Flowing(_));
            if !is_set_up || id != self.settings.session {
                return Step::Reply(Response::new(Status::SESSION_NOT_FOUND));
            }
        }
        match request.method {
            Method::Options => Step::Reply(Response::new(Status::OK).with("Public", METHODS)),
            Method::Describe => self.describe(current),
            Method::Announce => self.announce(current),
            Method::Setup => self.set_up(current),
            Method::Play => self.start(current, Role::Play),
            Method::Record => self.start(current, Role::Record),
            Method::Pause => self.pause(),
            Method::GetParameter | Method::SetParameter => self.parameters(&current.request),
            Method::Teardown => self.tear_down(&current.request),
            Method::Unknown => {
                Step::Reply(Response::new(Status::NOT_IMPLEMENTED).with("Allow", METHODS))
            }
        }
    }

    /// Which right the request needs, and for which stream.
    pub(super) fn wanted(&self, request: &Request) -> Option<(Role, levada_wire::StreamName)> {
        let (target, _) = Target::parse(&request.uri).split_control();
        match request.method {
            Method::Announce => Some((Role::Record, target.name()?)),
            Method::Setup => match self.setup() {
                Some(setup) => Some((setup.role, setup.name.clone())),
                None => Some((Role::Play, self.name_of(&target)?)),
            },
            _ => Some((Role::Play, self.name_of(&target)?)),
        }
    }

    /// The question that must come first: may it?
    fn admission(&self, request: &Request) -> Option<Step> {
        let Some((role, name)) = self.wanted(request) else {
            return Some(Step::Reply(not_a_name()));
        };
        if self.admitted.as_ref() == Some(&(role, name.clone())) {
            return None;
        }
        let token = Target::parse(&request.uri).parameter("token");
        Some(Step::Ask(Question::Admit(Admission {
            role,
            name,
            authorization: request.headers.value("Authorization").map(str::to_owned),
            token: token.map(str::to_owned),
            method: request.method,
        })))
    }

    fn describe(&self, current: &mut Current) -> Step {
        if let Some(step) = self.admission(&current.request) {
            return step;
        }
        let Some((sdp, _)) = current.described.take() else {
            return self.ask_description(&current.request);
        };
        let response =
            Response::new(Status::OK).with("Content-Base", base_of(&current.request.uri));
        Step::Reply(response.with_body("application/sdp", sdp))
    }

    fn ask_description(&self, request: &Request) -> Step {
        match self.wanted(request) {
            Some((_, name)) => {
                let (target, _) = Target::parse(&request.uri).split_control();
                Step::Ask(Question::Describe(name, target.at_server()))
            }
            None => Step::Reply(not_a_name()),
        }
    }

    fn announce(&mut self, current: &mut Current) -> Step {
        if !matches!(self.state, State::Idle) {
            return Step::Reply(Response::new(Status::NOT_VALID_IN_STATE));
        }
        if let Some(step) = self.admission(&current.request) {
            return step;
        }
        let request = &current.request;
        let Some((role, name)) = self.wanted(request) else {
            return Step::Reply(not_a_name());
        };
        let Some(controls) = current.announced.take() else {
            let kind = request
                .headers
                .value("Content-Type")
                .unwrap_or("application/sdp");
            if !kind.to_ascii_lowercase().starts_with("application/sdp") {
                let why = "a stream is announced by a description in SDP (application/sdp)";
                return Step::Reply(refusal(Status::UNSUPPORTED_MEDIA, why));
            }
            return Step::Ask(Question::Announce(name, request.body.clone()));
        };
        self.state = State::Announced(Setup {
            role,
            name,
            controls,
            tracks: Vec::new(),
            base: base_of(&request.uri),
            lower: None,
        });
        Step::Reply(Response::new(Status::OK))
    }

    fn set_up(&mut self, current: &mut Current) -> Step {
        if matches!(self.state, State::Flowing(_)) {
            return Step::Reply(Response::new(Status::NOT_VALID_IN_STATE));
        }
        if let Some(step) = self.admission(&current.request) {
            return step;
        }
        if self.setup().is_none() {
            let Some((_, controls)) = current.described.take() else {
                return self.ask_description(&current.request);
            };
            let Some((role, name)) = self.wanted(&current.request) else {
                return Step::Reply(not_a_name());
            };
            let (base, tracks) = (base_of(&current.request.uri), Vec::new());
            let setup = Setup {
                role,
                name,
                controls,
                tracks,
                base,
                lower: None,
            };
            return self.set_up_track(current, setup, true);
        }
        let Some(setup) = self.setup().cloned() else {
            return Step::Reply(Response::new(Status::INTERNAL));
        };
        self.set_up_track(current, setup, false)
    }

    fn set_up_track(&mut self, current: &mut Current, mut setup: Setup, is_first: bool) -> Step {
        let request = &current.request;
        if self.is_of_another(request, &setup) {
            let why = format!(
                "this session is of `{}`: open another connection",
                setup.name
            );
            return Step::Reply(refusal(Status(459), &why));
        }
        let Some(track) = find_track(&request.uri, &setup.controls) else {
            let controls = setup.controls.join(", ");
            let why = format!(
                "no such track; the tracks of `{}` are {controls}",
                setup.name
            );
            return Step::Reply(refusal(Status::NOT_FOUND, &why));
        };
        if track >= TRACKS_MAX {
            return Step::Reply(Response::new(Status::NOT_ENOUGH_BANDWIDTH));
        }
        if let Some(opened) = current.opened.take() {
            return self.opened(setup, track, opened);
        }
        let value = request.headers.value("Transport").unwrap_or_default();
        let offered = Transport::parse(value);
        match offer::choose(&offered, track, setup.role, setup.lower, &self.settings) {
            Ok(transport) => {
                if is_first {
                    // The description must not be asked for again when the ports are there.
                    current.described = Some((String::new(), std::mem::take(&mut setup.controls)));
                }
                let role = setup.role;
                Step::Ask(Question::Open {
                    track,
                    role,
                    transport,
                })
            }
            Err(why) => Step::Reply(refusal(Status::UNSUPPORTED_TRANSPORT, why)),
        }
    }

    fn opened(&mut self, mut setup: Setup, track: usize, transport: Transport) -> Step {
        if !setup.tracks.contains(&track) {
            setup.tracks.push(track);
        }
        setup.lower = Some(transport.lower);
        self.state = State::Ready(setup);
        Step::Reply(Response::new(Status::OK).with("Transport", transport.write()))
    }

    fn start(&self, current: &mut Current, role: Role) -> Step {
        match &self.state {
            State::Ready(setup) if setup.role == role => {}
            // A second PLAY is a way to keep the session alive.
            State::Flowing(setup) if setup.role == role => {
                return Step::Reply(Response::new(Status::OK));
            }
            _ => return Step::Reply(Response::new(Status::NOT_VALID_IN_STATE)),
        }
        let Some(info) = current.started.take() else {
            return Step::Ask(Question::Start(role));
        };
        let mut response = Response::new(Status::OK);
        if role == Role::Play {
            response = response.with("Range", Range::Now.write());
            if let Some(info) = info.filter(|info| !info.is_empty()) {
                response = response.with("RTP-Info", info);
            }
        }
        Step::Reply(response)
    }

    fn pause(&self) -> Step {
        Step::Reply(Response::new(match &self.state {
            State::Flowing(_) | State::Ready(_) => Status::OK,
            _ => Status::NOT_VALID_IN_STATE,
        }))
    }

    /// Without a body it is a sign of life; there are no parameters.
    fn parameters(&self, request: &Request) -> Step {
        if request.body.is_empty() {
            return Step::Reply(Response::new(Status::OK));
        }
        // RFC 2326 section 10.8: 451, parameter not understood.
        Step::Reply(Response::new(Status(451)))
    }

    fn tear_down(&mut self, request: &Request) -> Step {
        let setup = match &mut self.state {
            State::Ready(setup) | State::Flowing(setup) => setup,
            State::Announced(_) => return Step::Reply(Response::new(Status::OK)),
            State::Idle => return Step::Reply(Response::new(Status::SESSION_NOT_FOUND)),
        };
        // The session's URL ends all tracks, a track's URL that one; the last track ends the session.
        let is_whole = request.uri.trim_end_matches('/') == setup.base.trim_end_matches('/');
        if setup.controls.len() > 1 && !is_whole {
            if let Some(track) = find_track(&request.uri, &setup.controls) {
                setup.tracks.retain(|known| *known != track);
            } else {
                setup.tracks.clear();
            }
        } else {
            setup.tracks.clear();
        }
        Step::Reply(Response::new(Status::OK))
    }

    /// Whether a SETUP names a track of another stream (RFC 2326 section 11: 459, aggregate operation not allowed).
    fn is_of_another(&self, request: &Request, setup: &Setup) -> bool {
        let (target, control) = Target::parse(&request.uri).split_control();
        let is_named = setup.role == Role::Play && control.is_some();
        is_named && self.name_of(&target).is_some_and(|name| name != setup.name)
    }

    /// What follows once an OK is on its way.
    pub(super) fn follow(&mut self, method: Method) {
        match (method, &self.state) {
            (Method::Play | Method::Record, State::Ready(setup)) => {
                self.outputs.push_back(Output::Flow(setup.role));
                self.state = State::Flowing(setup.clone());
            }
            (Method::Pause, State::Flowing(setup)) => {
                self.outputs.push_back(Output::Pause);
                self.state = State::Ready(setup.clone());
            }
            (Method::Teardown, State::Announced(_)) => self.teardown(EndReason::Teardown),
            (Method::Teardown, State::Ready(setup) | State::Flowing(setup))
                if setup.tracks.is_empty() =>
            {
                self.teardown(EndReason::Teardown);
            }
            _ => {}
        }
    }
}

/// The URL that relative controls are appended to.
fn base_of(uri: &str) -> String {
    let (before, last) = uri.rsplit_once('/').unwrap_or(("", uri));
    if last.starts_with("trackID=") {
        return format!("{before}/");
    }
    format!("{}/", uri.trim_end_matches('/'))
}

fn not_a_name() -> Response {
    let why =
        "the URL names no stream: write rtsp://HOST/NAME, with letters, digits and -_./ in NAME";
    refusal(Status::NOT_FOUND, why)
}
