//! Conversations with servers of all kinds, and the contract of all machines.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use bytes::BytesMut;
use levada_wire::machine::harness::check_contract;
use rand_core::Rng as _;

use super::*;
use crate::auth;
use crate::decode::{Decoder, Item};

const SDP: &str = "v=0\r\no=- 7 1 IN IP4 10.0.0.1\r\ns=cam\r\nt=0 0\r\na=control:*\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:trackID=1\r\n\
    m=audio 0 RTP/AVP 0\r\na=control:rtsp://h/cam/sound\r\n";

/// A dialogue with a server, as its requests are answered one by one.
struct Talk {
    dialogue: Dialogue,
    now: Instant,
    number: String,
    rest: Vec<Output>,
}

impl Talk {
    fn new(url: &str, lower: Option<Lower>) -> Self {
        let dialogue = Dialogue::new(url.parse().unwrap(), lower, "c".into());
        let mut talk = Self {
            dialogue,
            now: Instant::ZERO,
            number: String::new(),
            rest: Vec::new(),
        };
        talk.dialogue.start(talk.now);
        talk
    }

    /// The request that is out.
    fn request(&mut self) -> Option<Request> {
        let mut request = None;
        while let Some(output) = self.dialogue.poll_output() {
            match output {
                Output::Send(bytes) => {
                    let mut bytes = BytesMut::from(&bytes[..]);
                    match Decoder::default().next(&mut bytes) {
                        Ok(Some(Item::Request(sent))) => request = Some(sent),
                        other => panic!("{other:?}"),
                    }
                }
                output => self.rest.push(output),
            }
        }
        if let Some(request) = &request {
            self.number = request.headers.value("CSeq").unwrap().to_owned();
        }
        request
    }

    fn expect(&mut self, method: Method, uri: &str) -> Request {
        let request = self.request().unwrap();
        assert_eq!((request.method, &*request.uri), (method, uri));
        request
    }

    fn answer(&mut self, response: Response) {
        let response = response.with("CSeq", self.number.clone());
        self.dialogue
            .handle_input(self.now, Input::Response(response));
    }

    fn ok(&mut self, headers: &[(&str, &str)]) {
        let ok = Response::new(Status::OK);
        let with = |response: Response, header: &(&str, &str)| response.with(header.0, header.1);
        self.answer(headers.iter().fold(ok, with));
    }

    fn later(&mut self, time: Duration) {
        self.now += time;
        self.dialogue.handle_timeout(self.now);
    }

    fn described(&mut self) {
        self.expect(Method::Options, "rtsp://h/cam");
        self.ok(&[("Public", "OPTIONS, DESCRIBE, GET_PARAMETER")]);
        self.expect(Method::Describe, "rtsp://h/cam");
        let response = Response::new(Status::OK).with("Content-Base", "rtsp://h/cam/");
        self.answer(response.with_body("application/sdp", SDP));
    }

    /// By TCP, up to the moment when packets flow.
    fn flowing() -> Self {
        let mut talk = Self::new("rtsp://h/cam", None);
        talk.described();
        for (url, channels) in [
            ("rtsp://h/cam/trackID=1", "0-1"),
            ("rtsp://h/cam/sound", "2-3"),
        ] {
            let request = talk.expect(Method::Setup, url);
            let transport = format!("RTP/AVP/TCP;unicast;interleaved={channels}");
            assert_eq!(request.headers.value("Transport"), Some(&*transport));
            talk.ok(&[("Transport", &transport), ("Session", "4f;timeout=20")]);
        }
        let request = talk.expect(Method::Play, "rtsp://h/cam/");
        assert_eq!(request.headers.value("Session"), Some("4f"));
        talk.ok(&[]);
        talk
    }

    fn failure(&mut self) -> Failure {
        assert_eq!(self.request(), None);
        match self.rest.pop() {
            Some(Output::Failed(failure)) => failure,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_stream_is_described_set_up_and_played_by_tcp() {
    let mut talk = Talk::flowing();

    assert_eq!(talk.request(), None);
    let Some(Output::Flow(flow)) = talk.rest.pop() else {
        panic!("{:?}", talk.rest);
    };
    assert_eq!(flow.session.media.len(), 2);
    let places: Vec<_> = flow.tracks.iter().map(|(place, _)| *place).collect();
    assert_eq!(places, [0, 1]);
}

#[test]
fn a_sign_of_life_is_said_each_half_timeout_and_its_refusal_ends_nothing() {
    let mut talk = Talk::flowing();
    talk.request();

    for _ in 0..3 {
        talk.later(Duration::from_secs(9));
        assert_eq!(talk.request(), None);
        talk.later(Duration::from_secs(1));
        talk.expect(Method::GetParameter, "rtsp://h/cam/");
        talk.ok(&[]);
    }
    talk.later(Duration::from_secs(10));
    talk.expect(Method::GetParameter, "rtsp://h/cam/");
    talk.answer(Response::new(Status(451)));

    assert_eq!(talk.request(), None);
    assert_eq!(talk.rest.len(), 1, "only the flow: {:?}", talk.rest);
}

#[test]
fn the_end_is_said_and_not_waited_for_longer_than_patience() {
    let mut talk = Talk::flowing();
    talk.request();
    talk.rest.clear();

    talk.dialogue.handle_input(talk.now, Input::End);
    talk.expect(Method::Teardown, "rtsp://h/cam/");
    talk.later(PATIENCE);

    assert_eq!(talk.request(), None);
    assert_eq!(talk.rest, [Output::Close]);
}

#[test]
fn udp_is_tried_where_tcp_is_refused() {
    let mut talk = Talk::new("rtsp://h/cam", None);
    talk.described();
    talk.request();
    talk.answer(Response::new(Status::UNSUPPORTED_TRANSPORT));
    assert_eq!(talk.request(), None);
    assert_eq!(talk.rest.pop(), Some(Output::Bind(0)));

    let ports = Pair {
        rtp: 5_000,
        rtcp: 5_001,
    };
    talk.dialogue.handle_input(talk.now, Input::Bound(ports));

    let request = talk.expect(Method::Setup, "rtsp://h/cam/trackID=1");
    let transport = request.headers.value("Transport").unwrap();
    assert!(transport.contains("client_port=5000-5001"), "{transport}");
    talk.answer(Response::new(Status::UNSUPPORTED_TRANSPORT));
    assert!(matches!(talk.failure(), Failure::Refused { .. }));
}

#[test]
fn a_challenge_is_answered_once_and_a_new_nonce_once_more() {
    let challenge = |nonce: &str| {
        let all = auth::challenges("r", nonce, true);
        all.into_iter()
            .fold(Response::new(Status::UNAUTHORIZED), |response, value| {
                response.with("WWW-Authenticate", value)
            })
    };
    let mut talk = Talk::new("rtsp://anna:p@h/cam", None);
    talk.request();
    talk.ok(&[]);
    assert_eq!(talk.request().unwrap().headers.value("Authorization"), None);

    talk.answer(challenge("n1"));
    let answer = talk.expect(Method::Describe, "rtsp://h/cam");
    assert!(
        answer
            .headers
            .value("Authorization")
            .unwrap()
            .contains("SHA-256")
    );
    let described = Response::new(Status::OK).with_body("application/sdp", SDP);
    talk.answer(described);
    let set_up = talk.request().unwrap();
    assert!(
        set_up
            .headers
            .value("Authorization")
            .unwrap()
            .contains("nonce=\"n1\"")
    );
    talk.answer(challenge("n2"));
    let again = talk.request().unwrap();
    assert!(
        again
            .headers
            .value("Authorization")
            .unwrap()
            .contains("nonce=\"n2\"")
    );
    talk.answer(challenge("n2"));

    assert_eq!(talk.failure(), Failure::WrongCredentials);
}

#[test]
fn what_goes_wrong_is_said_with_its_cure() {
    let refuse = |response: Response| {
        let mut talk = Talk::new("rtsp://h/cam", None);
        talk.request();
        talk.ok(&[]);
        talk.request();
        talk.answer(response);
        talk.failure().to_string()
    };

    for (response, part) in [
        (Response::new(Status::UNAUTHORIZED), "USER:PASSWORD@HOST"),
        (Response::new(Status::NOT_FOUND), "is the path right?"),
        (
            Response::new(Status(503)).with_body("text/plain", "busy\r\n"),
            "DESCRIBE: 503 Service Unavailable: busy",
        ),
        (Response::new(Status::OK), "cannot be carried"),
        (Response::new(Status(302)), "refused DESCRIBE"),
    ] {
        let said = refuse(response);
        assert!(said.contains(part), "{said}");
    }
    let mut silent = Talk::new("rtsp://h/cam", None);
    silent.request();
    silent.later(PATIENCE);
    assert_eq!(silent.failure(), Failure::Silent("OPTIONS"));
}

#[test]
fn a_redirection_is_passed_on() {
    let mut talk = Talk::new("rtsp://h/cam", None);
    talk.request();
    // A server without OPTIONS.
    talk.answer(Response::new(Status::NOT_IMPLEMENTED));
    talk.expect(Method::Describe, "rtsp://h/cam");

    talk.answer(Response::new(Status(302)).with("Location", "rtsp://other/cam"));

    assert_eq!(talk.request(), None);
    assert_eq!(talk.rest, [Output::Redirect("rtsp://other/cam".into())]);
}

#[test]
fn answers_to_other_requests_are_passed_over() {
    let mut talk = Talk::new("rtsp://h/cam", None);
    talk.request();

    talk.number = "77".to_owned();
    talk.ok(&[]);

    assert_eq!(talk.request(), None);
}

#[test]
fn controls_are_appended_to_the_base() {
    for (base, control, url) in [
        ("rtsp://h/a/", "trackID=1", "rtsp://h/a/trackID=1"),
        ("rtsp://h/a", "trackID=1", "rtsp://h/a/trackID=1"),
        ("rtsp://h/a?x=1", "trackID=1", "rtsp://h/a?x=1/trackID=1"),
        ("rtsp://h/a/", "rtsp://h/b", "rtsp://h/b"),
        ("rtsp://h/a/", "*", "rtsp://h/a/"),
        ("rtsp://h/a/", "", "rtsp://h/a/"),
    ] {
        assert_eq!(resolve(base, control), url);
    }
}

#[test]
fn any_order_of_calls_is_legal() {
    check_contract(
        0..40,
        |seed| {
            let lower = (seed % 2 == 0).then_some(Lower::Udp);
            let mut dialogue =
                Dialogue::new("rtsp://a:b@h/cam".parse().unwrap(), lower, "c".into());
            dialogue.start(Instant::ZERO);
            dialogue
        },
        |rng| match rng.next_u32() % 8 {
            0 => Input::End,
            1 => Input::Bound(Pair { rtp: 1, rtcp: 2 }),
            kind => {
                let statuses = [200, 200, 200, 401, 461, 404, 302, 500];
                let status = Status(statuses[usize::try_from(rng.next_u32() % 8).unwrap()]);
                let number = (rng.next_u32() % 6).to_string();
                let response = Response::new(status).with("Session", "s;timeout=2");
                let response = response.with("Transport", "RTP/AVP/TCP;interleaved=0-1");
                let response = response.with("WWW-Authenticate", "Basic realm=\"x\"");
                let response = match kind {
                    2 => response,
                    _ => response.with("CSeq", number),
                };
                Input::Response(response.with_body("application/sdp", SDP))
            }
        },
    );
}
