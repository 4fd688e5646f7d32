//! Conversations of players and publishers with the machine, and the contract of all machines.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use bytes::BytesMut;
use levada_wire::machine::harness::check_contract;
use rand_core::Rng as _;

use super::*;
use crate::decode::{Decoder, Item};
use crate::header::transport::Lower;

const SECOND: Duration = Duration::from_secs(1);
const URL: &str = "rtsp://h:8554/cam";

/// A connection with somebody who answers all questions.
struct Talk {
    connection: Connection,
    now: Instant,
    sequence: u32,
    /// What came out beside responses.
    rest: Vec<Output>,
    answers: Box<dyn Fn(&Question) -> Answer>,
}

fn settings() -> Settings {
    Settings {
        session: "4f3a".into(),
        udp: true,
        multicast: false,
        node: "0a0b0c0d".into(),
    }
}

/// Says yes to everything; a stream has two tracks.
fn agree(question: &Question) -> Answer {
    let controls = vec!["trackID=1".to_owned(), "trackID=2".to_owned()];
    match question {
        Question::Admit(_) => Answer::Admitted,
        Question::Describe(name, _) if name.as_str() == "cam" => Answer::Described {
            sdp: "v=0\r\n".into(),
            controls,
        },
        Question::Describe(..) => Answer::Refused(Status::NOT_FOUND, "no such stream".into()),
        Question::Announce(..) => Answer::Announced(vec!["streamid=0".into(), "streamid=1".into()]),
        Question::Open { transport, .. } => Answer::Opened(transport.clone()),
        Question::Start(_) => Answer::Started(Some("url=x;seq=1;rtptime=2".into())),
    }
}

impl Talk {
    fn new() -> Self {
        Self::with(agree)
    }

    fn with(answers: impl Fn(&Question) -> Answer + 'static) -> Self {
        Self {
            connection: Connection::new(settings()),
            now: Instant::ZERO + SECOND,
            sequence: 0,
            rest: vec![],
            answers: Box::new(answers),
        }
    }

    fn input(&mut self, input: Input) -> Vec<Response> {
        self.connection.handle_input(self.now, input);
        self.take()
    }

    fn later(&mut self, time: Duration) -> Vec<Response> {
        self.now += time;
        self.connection.handle_timeout(self.now);
        self.take()
    }

    fn take(&mut self) -> Vec<Response> {
        let mut responses = Vec::new();
        while let Some(output) = self.connection.poll_output() {
            match output {
                Output::Send(bytes) => {
                    let mut buffer = BytesMut::from(&bytes[..]);
                    match Decoder::default().next(&mut buffer) {
                        Ok(Some(Item::Response(response))) => responses.push(response),
                        other => panic!("{other:?}"),
                    }
                }
                Output::Ask(question) => {
                    let answer = (self.answers)(&question);
                    self.connection
                        .handle_input(self.now, Input::Answer(answer));
                }
                other => self.rest.push(other),
            }
        }
        responses
    }

    fn ask(&mut self, request: Request) -> Response {
        self.sequence += 1;
        let number = self.sequence.to_string();
        let mut responses = self.input(Input::Request(request.with("CSeq", number.as_str())));
        assert_eq!(responses.len(), 1, "{responses:?}");
        let response = responses.remove(0);
        assert_eq!(response.headers.value("CSeq"), Some(number.as_str()));
        response
    }

    fn request(&mut self, method: Method, uri: &str) -> Response {
        self.ask(Request::new(method, uri))
    }

    fn set_up(&mut self, uri: &str, transport: &str) -> Response {
        self.ask(Request::new(Method::Setup, uri).with("Transport", transport))
    }

    /// A player that plays two tracks over TCP.
    fn playing() -> Self {
        let mut talk = Self::new();
        assert_eq!(talk.request(Method::Describe, URL).status, Status::OK);
        for track in ["trackID=1", "trackID=2"] {
            let uri = format!("{URL}/{track}");
            let response = talk.set_up(&uri, "RTP/AVP/TCP;unicast;interleaved=0-1");
            assert_eq!(response.status, Status::OK);
        }
        assert_eq!(
            talk.request(Method::Play, &format!("{URL}/")).status,
            Status::OK
        );
        assert_eq!(talk.rest, [Output::Flow(Role::Play)]);
        talk.rest.clear();
        talk
    }
}

#[test]
fn a_player_gets_description_transport_and_media() {
    let mut talk = Talk::new();

    let options = talk.request(Method::Options, URL);
    let describe = talk.request(Method::Describe, URL);
    let first = talk.set_up(
        &format!("{URL}/trackID=1"),
        "RTP/AVP/TCP;unicast;interleaved=0-1",
    );
    let second = talk.ask(
        Request::new(Method::Setup, format!("{URL}/trackID=2"))
            .with("Transport", "RTP/AVP/TCP;unicast;interleaved=6-7")
            .with("Session", "4f3a"),
    );
    let play = talk.request(Method::Play, URL);

    assert!(
        options
            .headers
            .value("Public")
            .unwrap()
            .contains("ANNOUNCE")
    );
    assert_eq!(
        describe.headers.value("Content-Base"),
        Some("rtsp://h:8554/cam/")
    );
    assert_eq!(describe.body, "v=0\r\n");
    assert_eq!(first.headers.value("Session"), Some("4f3a;timeout=60"));
    let transport = second.headers.value("Transport").unwrap();
    assert!(
        transport.contains("interleaved=2-3"),
        "channels are the same for all: {transport}"
    );
    assert_eq!(
        play.headers.value("RTP-Info"),
        Some("url=x;seq=1;rtptime=2")
    );
    assert_eq!(talk.rest, [Output::Flow(Role::Play)]);
}

#[test]
fn a_publisher_keeps_the_channels_it_chose() {
    let mut talk = Talk::new();
    let announce = Request::new(Method::Announce, URL).with("Content-Type", "application/sdp");

    assert_eq!(talk.ask(announce).status, Status::OK);
    let setup = talk.set_up(
        &format!("{URL}/streamid=1"),
        "RTP/AVP/TCP;unicast;interleaved=4-5;mode=record",
    );
    let record = talk.request(Method::Record, URL);

    assert!(
        setup
            .headers
            .value("Transport")
            .unwrap()
            .contains("interleaved=4-5")
    );
    assert_eq!(record.status, Status::OK);
    assert_eq!(talk.rest, [Output::Flow(Role::Record)]);
    assert_eq!(
        talk.request(Method::Play, URL).status,
        Status::NOT_VALID_IN_STATE
    );
}

#[test]
fn a_stream_is_announced_in_sdp_only() {
    let mut talk = Talk::new();

    let response = talk.ask(Request::new(Method::Announce, URL).with("Content-Type", "text/html"));

    assert_eq!(response.status, Status::UNSUPPORTED_MEDIA);
}

#[test]
fn pause_and_play_stop_and_start_the_media() {
    let mut talk = Talk::playing();

    talk.request(Method::Pause, URL);
    talk.request(Method::Pause, URL);
    talk.request(Method::Play, URL);
    talk.request(Method::Play, URL);
    talk.request(Method::Teardown, URL);

    assert_eq!(
        talk.rest,
        [
            Output::Pause,
            Output::Flow(Role::Play),
            Output::Teardown(EndReason::Teardown)
        ]
    );
    assert_eq!(
        talk.request(Method::Play, URL).status,
        Status::NOT_VALID_IN_STATE
    );
}

#[test]
fn tearing_down_one_track_keeps_the_other() {
    let mut talk = Talk::playing();

    talk.request(Method::Teardown, &format!("{URL}/trackID=1"));
    assert_eq!(talk.rest, []);
    talk.request(Method::Teardown, &format!("{URL}/trackID=2"));

    assert_eq!(talk.rest, [Output::Teardown(EndReason::Teardown)]);
}

#[test]
fn a_stream_that_is_not_there_is_404() {
    let mut talk = Talk::new();

    let describe = talk.request(Method::Describe, "rtsp://h/other");
    let setup = talk.set_up("rtsp://h/other/trackID=1", "RTP/AVP/TCP;interleaved=0-1");
    let no_name = talk.request(Method::Describe, "rtsp://h/");
    talk.request(Method::Describe, URL);
    let no_track = talk.set_up(&format!("{URL}/trackID=9"), "RTP/AVP/TCP;interleaved=0-1");

    for response in [describe, setup, no_name, no_track] {
        assert_eq!(response.status, Status::NOT_FOUND);
        assert!(!response.body.is_empty(), "it says why");
    }
}

#[test]
fn who_must_say_who_it_is_is_challenged_and_then_let_in() {
    let mut talk = Talk::with(|question| match question {
        Question::Admit(admission) if admission.authorization.is_none() => Answer::Challenge(vec![
            "Basic realm=\"x\"".into(),
            "Digest realm=\"x\"".into(),
        ]),
        question => agree(question),
    });

    let challenged = talk.request(Method::Describe, URL);
    let admitted = talk.ask(Request::new(Method::Describe, URL).with("Authorization", "Basic x"));
    let later = talk.request(Method::Describe, URL);
    let other = talk.request(Method::Describe, "rtsp://h/cam2");

    assert_eq!(challenged.status, Status::UNAUTHORIZED);
    assert_eq!(challenged.headers.values("WWW-Authenticate").count(), 2);
    assert_eq!(admitted.status, Status::OK);
    assert_eq!(later.status, Status::OK, "it was let in already");
    assert_eq!(other.status, Status::UNAUTHORIZED, "to another stream not");
}

#[test]
fn transports_that_cannot_work_are_461_with_the_cure() {
    let mut talk = Talk::new();
    talk.connection.settings.udp = false;

    let udp = talk.set_up(
        &format!("{URL}/trackID=1"),
        "RTP/AVP;unicast;client_port=5000-5001",
    );
    let secure = talk.set_up(
        &format!("{URL}/trackID=1"),
        "RTP/SAVP/TCP;unicast;interleaved=0-1",
    );
    let none = talk.set_up(&format!("{URL}/trackID=1"), "");
    let both = talk.set_up(
        &format!("{URL}/trackID=1"),
        "RTP/AVP;unicast;client_port=5000-5001,RTP/AVP/TCP;unicast",
    );

    for response in [&udp, &secure, &none] {
        assert_eq!(response.status, Status::UNSUPPORTED_TRANSPORT);
    }
    let body = String::from_utf8(udp.body.to_vec()).unwrap();
    assert!(body.contains("-rtsp_transport tcp"), "{body}");
    let taken = Transport::parse(both.headers.value("Transport").unwrap());
    assert_eq!(taken[0].lower, Lower::Tcp);
}

#[test]
fn a_setup_of_another_stream_is_459() {
    let mut talk = Talk::playing();
    talk.request(Method::Pause, URL);

    let other = talk.set_up("rtsp://h/cam2/trackID=1", "RTP/AVP/TCP;interleaved=0-1");

    assert_eq!(other.status, Status(459));
}

#[test]
fn strange_requests_get_the_status_that_says_so() {
    let mut talk = Talk::playing();
    let status = |talk: &mut Talk, request| talk.ask(request).status;

    let with = |name, value: &str| Request::new(Method::Options, "*").with(name, value);
    assert_eq!(
        status(&mut talk, with("Session", "other")),
        Status::SESSION_NOT_FOUND
    );
    assert_eq!(
        status(&mut talk, with("Session", "4f3a;timeout=60")),
        Status::OK
    );
    assert_eq!(
        status(&mut talk, with("Require", "onvif-replay")),
        Status::OPTION_NOT_SUPPORTED
    );
    assert_eq!(
        status(&mut talk, Request::new(Method::Unknown, "*")),
        Status::NOT_IMPLEMENTED
    );
    let mut newer = Request::new(Method::Options, "*");
    newer.version = 2;
    assert_eq!(status(&mut talk, newer), Status::VERSION);
    let mut parameter = Request::new(Method::GetParameter, URL);
    parameter.body = "position\r\n".into();
    assert_eq!(status(&mut talk, parameter), Status(451));
}

#[test]
fn a_request_without_a_number_is_answered_without_one() {
    let mut talk = Talk::new();

    let responses = talk.input(Input::Request(Request::new(Method::Options, "*")));

    assert_eq!(responses[0].status, Status::OK);
    assert_eq!(responses[0].headers.value("CSeq"), None);
}

#[test]
fn any_request_and_any_packet_keep_a_session_alive() {
    let mut talk = Talk::playing();

    talk.later(SESSION_TIMEOUT - SECOND);
    talk.request(Method::GetParameter, URL);
    talk.later(SESSION_TIMEOUT - SECOND);
    talk.input(Input::Heard);
    talk.later(SESSION_TIMEOUT - SECOND);
    assert_eq!(talk.rest, []);
    talk.later(SECOND);

    assert_eq!(
        talk.rest,
        [Output::Teardown(EndReason::Silent), Output::Close]
    );
}

#[test]
fn a_publisher_that_sends_nothing_gives_its_name_up() {
    let mut talk = Talk::new();
    talk.ask(Request::new(Method::Announce, URL).with("Content-Type", "application/sdp"));
    talk.set_up(&format!("{URL}/streamid=0"), "RTP/AVP/TCP;interleaved=0-1");
    talk.request(Method::Record, URL);
    talk.rest.clear();

    talk.later(RECORD_TIMEOUT - SECOND);
    talk.input(Input::Heard);
    talk.later(RECORD_TIMEOUT - SECOND);
    assert_eq!(talk.rest, []);
    talk.later(SECOND);

    assert_eq!(
        talk.rest,
        [Output::Teardown(EndReason::Silent), Output::Close]
    );
}

#[test]
fn who_asks_for_nothing_is_gone_soon() {
    let mut talk = Talk::new();

    talk.later(Duration::ZERO);
    talk.later(FIRST_REQUEST - SECOND);
    assert_eq!(talk.rest, []);
    talk.later(SECOND);

    assert_eq!(talk.rest, [Output::Close]);
}

#[test]
fn requests_wait_for_the_answer_before_them_and_too_many_end_the_connection() {
    let mut talk = Talk::new();
    let now = talk.now;
    let mut send = |request| talk.connection.handle_input(now, Input::Request(request));
    send(Request::new(Method::Describe, URL).with("CSeq", "1"));
    for number in 2..=1 + WAITING_MAX {
        send(Request::new(Method::Options, "*").with("CSeq", number.to_string()));
    }

    let responses = talk.take();

    let numbers: Vec<_> = responses
        .iter()
        .map(|response| response.headers.value("CSeq").unwrap().to_owned())
        .collect();
    let expected: Vec<_> = (1..=1 + WAITING_MAX).map(|n| n.to_string()).collect();
    assert_eq!(numbers, expected);

    let mut send = |request| talk.connection.handle_input(now, Input::Request(request));
    send(Request::new(Method::Describe, URL));
    for _ in 0..=WAITING_MAX {
        send(Request::new(Method::Options, "*"));
    }
    talk.take();
    assert_eq!(talk.rest, [Output::Close]);
}

#[test]
fn more_tracks_than_the_limit_are_refused() {
    let mut talk = Talk::with(|question| match question {
        Question::Describe(..) => Answer::Described {
            sdp: String::new(),
            controls: (0..=TRACKS_MAX).map(crate::url::control_of).collect(),
        },
        question => agree(question),
    });

    let uri = format!("{URL}/{}", crate::url::control_of(TRACKS_MAX));
    let response = talk.set_up(&uri, "RTP/AVP/TCP;interleaved=0-1");

    assert_eq!(response.status, Status::NOT_ENOUGH_BANDWIDTH);
}

#[test]
fn bytes_that_are_not_rtsp_are_answered_once_and_the_connection_closes() {
    let mut talk = Talk::playing();

    let responses = talk.input(Input::Malformed(DecodeError::Lines));
    let nothing = talk.input(Input::Request(Request::new(Method::Options, "*")));

    assert_eq!(responses[0].status, Status::TOO_LARGE);
    assert_eq!(nothing, []);
    assert_eq!(
        talk.rest,
        [Output::Teardown(EndReason::Malformed), Output::Close]
    );
}

#[test]
fn the_server_ends_a_session_with_its_reason() {
    let mut talk = Talk::playing();

    talk.input(Input::End(EndReason::StreamEnded));

    assert_eq!(
        talk.rest,
        [Output::Teardown(EndReason::StreamEnded), Output::Close]
    );
}

#[test]
fn the_contract_holds() {
    let methods = [
        Method::Options,
        Method::Describe,
        Method::Announce,
        Method::Setup,
        Method::Play,
        Method::Pause,
        Method::Record,
        Method::GetParameter,
        Method::Teardown,
        Method::Unknown,
    ];
    let transports = [
        "RTP/AVP/TCP;interleaved=0-1",
        "RTP/AVP;client_port=5000-5001",
        "RTP/AVP;multicast",
        "x",
    ];
    check_contract(
        0..40,
        |_| Connection::new(settings()),
        |rng| {
            let draw = rng.next_u32() as usize;
            let uri = ["rtsp://h/cam", "rtsp://h/cam/trackID=1", "*"][draw % 3];
            match draw >> 4 & 15 {
                0 => Input::Heard,
                1 => Input::Answer(Answer::Admitted),
                2 => Input::Answer(Answer::Described {
                    sdp: "v=0".into(),
                    controls: vec!["trackID=1".into()],
                }),
                3 => Input::Answer(Answer::Announced(vec!["trackID=1".into()])),
                4 => Input::Answer(Answer::Opened(Transport::new(Lower::Tcp))),
                5 => Input::Answer(Answer::Started(None)),
                6 => Input::Answer(Answer::Refused(Status::NOT_FOUND, "no".into())),
                7 if draw & 0xF000 == 0 => Input::End(EndReason::Dismissed),
                8 if draw & 0xF000 == 0 => Input::Malformed(DecodeError::Line),
                _ => Input::Request(
                    Request::new(methods[draw >> 8 & 7 | draw >> 16 & 1], uri)
                        .with("Transport", transports[draw >> 20 & 3]),
                ),
            }
        },
    );
}
