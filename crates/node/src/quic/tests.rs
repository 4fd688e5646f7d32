//! Tests of connections and of their limits, between two endpoints on loopback.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use levada_wire::Identity;
use levada_wire::control::link::{Hello, Leave};
use levada_wire::control::route::{Sequence, SequenceRequest};
use levada_wire::control::{Concern, LinkMessage, Message, RouteMessage};
use levada_wire::{LinkIndex, NetworkId};
use quinn::Runtime as _;
use tokio::sync::mpsc;

use super::allowance::Allowances;
use super::close::Code;
use super::connection::{
    BYTES_WAITING_MAX, ConnectionHandle, LinkKeys, MESSAGES_WAITING_MAX, Surroundings, Waiting,
    serve,
};
use super::endpoint::{Endpoint, Limits};
use super::tls::Credentials;
use super::*;
use crate::driver::QUIC_EVENTS_MAX;

/// Far longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// One side: an endpoint on a plain socket, and what happens at it.
struct Side {
    endpoint: Endpoint,
    address: SocketAddr,
    happened: mpsc::Receiver<QuicEvent>,
    around: Surroundings,
    identity: Identity,
}

impl Side {
    fn new(seed: u8, limits: Limits) -> Self {
        let identity = Identity::from_secret(&[seed; 32]);
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let socket = quinn::TokioRuntime.wrap_udp_socket(socket).unwrap();
        let credentials = Credentials::new(&identity);
        let endpoint = Endpoint::new(socket, credentials, true, limits).unwrap();
        let (quic_events, happened) = mpsc::channel(QUIC_EVENTS_MAX);
        tokio::spawn(endpoint.clone().accept(quic_events.clone()));
        Self {
            endpoint,
            address,
            happened,
            around: Surroundings::new(quic_events, None),
            identity,
        }
    }

    async fn next(&mut self) -> QuicEvent {
        let next = tokio::time::timeout(DEADLINE, self.happened.recv()).await;
        next.expect("something happens")
            .expect("the sender is held")
    }

    async fn established(&mut self) -> Established {
        match self.next().await {
            QuicEvent::Established(established) => established,
            other => panic!("{other:?}"),
        }
    }

    async fn dial(&mut self, to: SocketAddr, expected: Option<NodeId>) -> QuicEvent {
        let quic_events = self.around.quic_events.clone();
        self.endpoint
            .clone()
            .dial(DialId(1), to, expected, quic_events)
            .await;
        self.next().await
    }
}

/// Two sides and the connection between them, not served yet; the first one dialled.
async fn pair() -> (Side, Side, Established, Established) {
    let mut dialler = Side::new(1, Limits::default());
    let mut listener = Side::new(2, Limits::default());
    let expected = Some(listener.identity.id());
    let QuicEvent::Established(dialled) = dialler.dial(listener.address, expected).await else {
        panic!("the dial ends well");
    };
    let accepted = listener.established().await;
    (dialler, listener, dialled, accepted)
}

fn hello(name: &str) -> Message {
    Message::Link(LinkMessage::Hello(Hello {
        network: NetworkId::OPEN,
        boot: 1,
        index: LinkIndex(2),
        name: name.to_owned(),
        relay: true,
    }))
}

fn leave() -> Message {
    let reason = "x".repeat(40_000);
    Message::Link(LinkMessage::Leave(Leave { reason }))
}

const fn says(message: Message) -> Waiting {
    Waiting::Message(message)
}

const LINK: LinkIndex = LinkIndex(5);

#[tokio::test]
async fn both_sides_prove_who_they_are_and_make_the_same_keys() {
    let (dialler, listener, dialled, accepted) = pair().await;

    assert_eq!(dialled.peer, listener.identity.id());
    assert_eq!(accepted.peer, dialler.identity.id());
    let client = LinkKeys::export(&dialled.connection, true).unwrap();
    let server = LinkKeys::export(&accepted.connection, false).unwrap();
    assert_eq!(client.send, server.receive);
    assert_eq!(client.receive, server.send);
    assert_ne!(client.send, client.receive);
}

#[tokio::test]
async fn messages_come_in_order_and_what_was_said_before_a_close_arrives() {
    let (dialler, mut listener, dialled, accepted) = pair().await;
    let here = serve(dialled, LINK, &dialler.around);
    let _there = serve(accepted, LINK, &listener.around);

    for number in 0..200 {
        assert!(here.send(says(hello(&number.to_string()))));
    }
    here.close(Code::Done, "enough".to_owned());

    for number in 0..200 {
        let QuicEvent::Message { message, link } = listener.next().await else {
            panic!("a message is missing");
        };
        assert_eq!((link, message), (LINK, hello(&number.to_string())));
    }
    let QuicEvent::Lost { reason, .. } = listener.next().await else {
        panic!("the end is missing");
    };
    assert_eq!(reason, ConnectionLost::ClosedByPeer("enough".to_owned()));
}

/// The stream of a concern, written by hand.
async fn stream(of: &Established, concern: Concern, messages: &[Message]) -> quinn::SendStream {
    let mut bytes = vec![concern.code()];
    for message in messages {
        message.encode(&mut bytes);
    }
    let mut stream = of.connection.open_uni().await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    stream
}

fn update(number: u8) -> Message {
    Message::Route(RouteMessage::SequenceRequest(SequenceRequest {
        origin: NodeId([number; 32]),
        sequence: Sequence(1),
        hops_left: 1,
    }))
}

// spec: WIRE 7.1 a receiver SHOULD NOT read the other streams before the first message of the link's
#[tokio::test]
async fn a_hello_that_is_overtaken_by_hundreds_of_messages_comes_first() {
    let (_dialler, mut listener, dialled, accepted) = pair().await;
    let _there = serve(accepted, LINK, &listener.around);
    let updates: Vec<Message> = (0..200).map(update).collect();

    let mut routes = stream(&dialled, Concern::Route, &updates).await;
    routes.finish().unwrap();
    // The listener's QUIC has all of them.
    routes.stopped().await.unwrap();
    let _link = stream(&dialled, Concern::Link, &[hello("late")]).await;

    for expected in [hello("late")].into_iter().chain(updates) {
        let QuicEvent::Message { message, .. } = listener.next().await else {
            panic!("a message is missing");
        };
        assert_eq!(message, expected);
    }
}

#[tokio::test]
async fn a_connection_that_ends_without_a_hello_hands_on_nothing_and_ends() {
    let (_dialler, mut listener, dialled, accepted) = pair().await;
    let _there = serve(accepted, LINK, &listener.around);

    let mut routes = stream(&dialled, Concern::Route, &[update(1)]).await;
    routes.finish().unwrap();
    routes.stopped().await.unwrap();
    dialled.connection.close(Code::Done.number(), b"enough");

    let event = listener.next().await;
    assert!(matches!(event, QuicEvent::Lost { .. }), "{event:?}");
}

#[tokio::test]
async fn a_close_is_told_here_as_well() {
    let (mut dialler, listener, dialled, accepted) = pair().await;
    let here = serve(dialled, LINK, &dialler.around);
    let _there = serve(accepted, LINK, &listener.around);

    here.close(Code::Done, String::new());

    let QuicEvent::Lost { reason, link } = dialler.next().await else {
        panic!("the end is missing");
    };
    assert_eq!((link, reason), (LINK, ConnectionLost::ClosedHere));
}

/// Sends until no more may wait; how much was taken.
async fn overrun(here: &ConnectionHandle, message: impl Fn() -> Message) -> usize {
    let mut taken = 0;
    while here.send(says(message())) {
        taken += 1;
        assert!(taken < 10 * MESSAGES_WAITING_MAX, "the queue is bounded");
        tokio::task::yield_now().await;
    }
    taken
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_closed_when_too_many_messages_wait() {
    let (mut dialler, _listener, dialled, accepted) = pair().await;
    let here = serve(dialled, LINK, &dialler.around);

    let taken = overrun(&here, || update(1)).await;

    assert!(taken >= MESSAGES_WAITING_MAX);
    let QuicEvent::Lost { .. } = dialler.next().await else {
        panic!("the end is missing");
    };
    let end = accepted.connection.closed().await.to_string();
    assert!(end.contains("wait than the limit allows"), "{end}");
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_closed_when_too_many_bytes_wait() {
    let (mut dialler, _listener, dialled, accepted) = pair().await;
    let here = serve(dialled, LINK, &dialler.around);

    let taken = overrun(&here, leave).await;

    assert!(taken < MESSAGES_WAITING_MAX, "{taken}");
    assert!(taken >= BYTES_WAITING_MAX / leave().held_bytes(), "{taken}");
    let QuicEvent::Lost { .. } = dialler.next().await else {
        panic!("the end is missing");
    };
    let end = accepted.connection.closed().await.to_string();
    assert!(end.contains("wait than the limit allows"), "{end}");
}

#[tokio::test]
async fn a_mark_comes_back_when_all_before_it_was_written_and_not_before() {
    let (mut dialler, mut listener, dialled, accepted) = pair().await;
    let here = serve(dialled, LINK, &dialler.around);
    // More than QUIC takes unread, and less than may wait.
    for _ in 0..60 {
        assert!(here.send(says(leave())));
    }
    assert!(here.send(Waiting::Mark(Concern::Link)));
    assert!(here.send(says(update(1))));
    assert!(here.send(Waiting::Mark(Concern::Route)));

    let first = dialler.next().await;
    let _there = serve(accepted, LINK, &listener.around);
    let second = dialler.next().await;

    let concern = |event: &QuicEvent| match event {
        QuicEvent::Written { concern, .. } => Some(*concern),
        _ => None,
    };
    assert_eq!(concern(&first), Some(Concern::Route));
    assert_eq!(concern(&second), Some(Concern::Link));
    assert!(matches!(listener.next().await, QuicEvent::Message { .. }));
}

#[tokio::test]
async fn a_node_other_than_the_expected_one_is_named() {
    let mut dialler = Side::new(1, Limits::default());
    let listener = Side::new(2, Limits::default());
    let expected = Identity::from_secret(&[3; 32]).id();

    let event = dialler.dial(listener.address, Some(expected)).await;

    let QuicEvent::DialFailed { reason, .. } = event else {
        panic!("{event:?}");
    };
    assert!(reason.contains(&expected.to_string()), "{reason}");
    assert!(
        reason.contains(&listener.identity.id().to_string()),
        "{reason}"
    );
}

#[tokio::test]
async fn one_connection_more_than_the_limit_is_refused_on_both_sides() {
    let few = Limits {
        connections: 2,
        ..Limits::default()
    };
    let mut dialler = Side::new(1, Limits::default());
    let mut listener = Side::new(2, few);
    let mut kept = Vec::new();
    for _ in 0..2 {
        kept.push(dialler.dial(listener.address, None).await);
        kept.push(QuicEvent::Established(listener.established().await));
    }

    let refused = dialler.dial(listener.address, None).await;
    let own = listener.dial(dialler.address, None).await;

    assert!(
        matches!(refused, QuicEvent::DialFailed { .. }),
        "{refused:?}"
    );
    let QuicEvent::DialFailed { reason, .. } = own else {
        panic!("{own:?}");
    };
    assert!(reason.contains("2 connections"), "{reason}");
    kept.clear();
    let again = dialler.dial(listener.address, None).await;
    assert!(matches!(again, QuicEvent::Established(_)), "{again:?}");
}

#[tokio::test]
async fn a_crowd_must_prove_its_addresses_and_is_let_in_then() {
    let suspicious = Limits {
        handshakes_trusted: 0,
        ..Limits::default()
    };
    let mut dialler = Side::new(1, Limits::default());
    let listener = Side::new(2, suspicious);
    let (wire, answers) = wiretap(listener.address).await;

    let event = dialler.dial(wire, None).await;

    assert!(matches!(event, QuicEvent::Established(_)), "{event:?}");
    // RFC 9000 section 17.2.5: a long header of type 3.
    let is_retry = |first: &u8| first & 0xF0 == 0xF0;
    let answers = answers.lock().unwrap();
    assert!(answers.first().is_some_and(is_retry), "{answers:x?}");
}

#[tokio::test]
async fn more_handshakes_than_the_limit_are_refused() {
    let none = Limits {
        handshakes: 0,
        handshakes_trusted: 1,
        ..Limits::default()
    };
    let mut dialler = Side::new(1, Limits::default());
    let listener = Side::new(2, none);

    let event = dialler.dial(listener.address, None).await;

    assert!(matches!(event, QuicEvent::DialFailed { .. }), "{event:?}");
}

#[tokio::test]
async fn what_a_busy_driver_does_not_take_waits_with_the_connection_and_none_is_lost() {
    let (dialler, mut listener, dialled, accepted) = pair().await;
    let here = serve(dialled, LINK, &dialler.around);
    let _there = serve(accepted, LINK, &listener.around);
    let count = QUIC_EVENTS_MAX + 500;

    for number in 0..count {
        assert!(here.send(says(hello(&number.to_string()))));
    }
    until(|| listener.happened.len() == QUIC_EVENTS_MAX).await;

    for number in 0..count {
        let QuicEvent::Message { message, .. } = listener.next().await else {
            panic!("message {number} is missing");
        };
        assert_eq!(message, hello(&number.to_string()));
    }
}

/// Waits until something is so.
async fn until(is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap();
}

#[tokio::test]
async fn what_a_peer_says_too_fast_waits_and_none_is_lost() {
    let (dialler, mut listener, dialled, accepted) = pair().await;
    listener.around.allowances = Arc::new(Allowances::new(10, 1_000));
    let here = serve(dialled, LINK, &dialler.around);
    let _there = serve(accepted, LINK, &listener.around);

    assert!(here.send(says(hello("talker"))));
    for number in 0..100 {
        assert!(here.send(says(update(number))));
    }

    for expected in [hello("talker")].into_iter().chain((0..100).map(update)) {
        let QuicEvent::Message { message, .. } = listener.next().await else {
            panic!("a message is missing");
        };
        assert_eq!(message, expected);
    }
}

#[tokio::test]
async fn where_nobody_listens_the_dial_says_so() {
    let mut dialler = Side::new(1, Limits::default());
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();

    let event = dialler.dial(nobody.local_addr().unwrap(), None).await;

    let QuicEvent::DialFailed { reason, .. } = event else {
        panic!("{event:?}");
    };
    assert!(reason.contains("no answer"), "{reason}");
}

/// A forwarder in front of `to` that remembers the first byte of each datagram that comes back.
async fn wiretap(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let front = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let back = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = front.local_addr().unwrap();
    let answers = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&answers);
    tokio::spawn(async move {
        let (mut there, mut here) = ([0; 2_048], [0; 2_048]);
        let mut caller = address;
        loop {
            tokio::select! {
                got = front.recv_from(&mut there) => {
                    let (length, from) = got.unwrap();
                    caller = from;
                    back.send_to(&there[..length], to).await.unwrap();
                }
                got = back.recv_from(&mut here) => {
                    let (length, _) = got.unwrap();
                    heard.lock().unwrap().push(here[0]);
                    front.send_to(&here[..length], caller).await.unwrap();
                }
            }
        }
    });
    (address, answers)
}

#[allow(dead_code, reason = "says that a handle may move between tasks")]
fn a_handle_may_be_sent(handle: ConnectionHandle) -> impl Send {
    handle
}
