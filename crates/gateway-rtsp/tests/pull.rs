//! Streams that are pulled from RTSP servers: by whom, how often, and what players get when something ends.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;

use common::{House, PATIENCE, errors, run, until};
use levada::{Delivery, Node, StreamName, SubscribeOptions, Subscriber};
use levada_gateway::session::Row;
use levada_gateway::users::{Right, User};
use levada_gateway::{Registry, Role, Transport, Users};
use levada_gateway_rtsp::header::transport::Lower;
use levada_gateway_rtsp::pull::{AskError, Failure, Pulls, Spec};
use std::collections::BTreeMap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn name() -> StreamName {
    "pull/media/film".parse().unwrap()
}

/// A node of its own, linked to another if there is one.
async fn node(join: Option<&Node>) -> Node {
    let builder = Node::builder().temporary_state().lanes(1);
    let builder = builder.listen(([127, 0, 0, 1], 0).into());
    let builder = match join {
        Some(neighbour) => builder.join(neighbour.local_addr().to_string()),
        None => builder,
    };
    builder.start().await.unwrap()
}

async fn subscribe(node: &Node) -> Subscriber {
    let options = SubscribeOptions::default();
    node.subscribe(name(), options).await.unwrap()
}

/// Waits for so many frames from now on.
async fn frames(subscriber: &mut Subscriber, count: usize) {
    let mut left = count;
    let counting = async {
        while left > 0 {
            match subscriber.next().await {
                Some(Delivery::Frame { .. }) => left -= 1,
                Some(_) => {}
                None => panic!("the node is gone"),
            }
        }
    };
    let counted = tokio::time::timeout(PATIENCE, counting).await;
    assert!(counted.is_ok(), "{left} of {count} frames did not come");
}

/// The players of a server that go on.
fn live(server: &House) -> Vec<Row> {
    server.server.registry().live()
}

fn spec(server: &House, user: &str) -> Spec {
    let url = server
        .url("film")
        .replace("rtsp://", &format!("rtsp://{user}"));
    Spec::new(url.parse().unwrap())
}

/// A server with the test card as `film`.
async fn server() -> House {
    let server = House::new().await;
    server.show_card("film").await;
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_that_names_the_server_in_the_url_gets_its_stream() {
    let server = server().await;
    let house = House::new().await;
    let url = house.url(&format!("film?{}", server.server.local_addr()));

    for transport in ["tcp", "udp"] {
        let arguments = [
            "-hide_banner",
            "-nostdin",
            "-loglevel",
            "warning",
            "-rtsp_transport",
            transport,
            "-i",
            &url,
            "-t",
            "2",
            "-f",
            "null",
            "-",
        ];
        let output = run("ffmpeg", &arguments).await;
        assert!(output.status.success(), "{}", errors(&output));
        assert_eq!(errors(&output), "");
    }

    let pulled = until("the record of the connection", || {
        let mut rows = house.rows().into_iter();
        rows.rfind(|row| row.role == Role::Publish)
    })
    .await;
    assert_eq!(
        (&*pulled.protocol, pulled.transport),
        ("rtsp pull", Transport::Tcp)
    );
    assert_eq!(pulled.agent, "Levada");
    assert!(pulled.stream.starts_with("pull/127.0.0.1."), "{pulled:?}");
    assert_eq!(server.rows().len(), 1, "one connection for both players");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_pulled_while_somebody_wants_it_and_not_before_or_after() {
    let (server, node) = (server().await, node(None).await);
    let pulls = Pulls::new(node.clone(), Registry::default());
    pulls.set(BTreeMap::from([(name(), spec(&server, ""))]));
    for transport in [Lower::Tcp, Lower::Udp] {
        let spec = spec(&server, "").with_transport(transport);
        pulls.set(BTreeMap::from([(name(), spec)]));
        let mut subscriber = subscribe(&node).await;
        frames(&mut subscriber, 60).await;
        let by = until("a player", || live(&server).pop()).await.transport;
        let expected = match transport {
            Lower::Udp => Transport::Udp,
            _ => Transport::Tcp,
        };
        assert_eq!(by, expected);

        drop(subscriber);
        until("no player", || live(&server).is_empty().then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_to_be_connected_always_is_so_without_anybody() {
    let (server, node) = (server().await, node(None).await);
    let pulls = Pulls::new(node, Registry::default());

    pulls.set(BTreeMap::from([(name(), spec(&server, "").always())]));

    until("bytes", || {
        live(&server).pop().filter(|row| row.bytes > 100_000)
    })
    .await;
    pulls.set(BTreeMap::new());
    until("no player", || live(&server).is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_the_url_are_proven_and_wrong_ones_named() {
    for digest in [false, true] {
        let right: Right = "play".parse().unwrap();
        let user = User::new("anna", "pa:ss", digest, vec![right]).unwrap();
        let users = Users::new(vec![user], vec![]).unwrap();
        let server = House::with(|builder| builder.users(users)).await;
        server.show_card("film").await;
        let node = node(None).await;
        let pulls = Pulls::new(node.clone(), Registry::default());
        let mut subscriber = subscribe(&node).await;

        for (user, failure) in [
            ("", Failure::NoCredentials),
            ("anna:x@", Failure::WrongCredentials),
        ] {
            pulls.set(BTreeMap::from([(name(), spec(&server, user))]));
            let trouble = until("trouble", || pulls.trouble(&name())).await;
            assert_eq!(trouble, failure);
        }
        pulls.set(BTreeMap::from([(name(), spec(&server, "anna:pa%3Ass@"))]));

        frames(&mut subscriber, 30).await;
        assert_eq!(live(&server)[0].user.as_deref(), Some("anna"));
    }
}

/// What a server says to a DESCRIBE.
async fn describe(house: &House, asked: &str) -> String {
    let mut stream = TcpStream::connect(house.server.local_addr()).await.unwrap();
    let request = format!("DESCRIBE {} RTSP/1.0\r\nCSeq: 1\r\n\r\n", house.url(asked));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut said = String::new();
    while !said.contains("\r\n\r\n`") {
        let mut bytes = [0; 1_024];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut bytes)).await;
        let length = read.unwrap().unwrap();
        assert!(length > 0, "{said}");
        said.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_come_is_answered_with_the_reason() {
    let house = House::new().await;
    let user = User::new("anna", "p", false, vec!["play".parse().unwrap()]).unwrap();
    let users = Users::new(vec![user], vec![]).unwrap();
    let server = House::with(|builder| builder.users(users)).await;

    let no_password = describe(&house, &format!("x?{}", server.server.local_addr())).await;
    let nobody = describe(&house, "x?127.0.0.1:1").await;

    assert!(no_password.starts_with("RTSP/1.0 503"), "{no_password}");
    assert!(
        no_password.contains("wants a user and a password"),
        "{no_password}"
    );
    assert!(nobody.starts_with("RTSP/1.0 503"), "{nobody}");
    assert!(nobody.contains("cannot connect to 127.0.0.1:1"), "{nobody}");
}

#[tokio::test(flavor = "multi_thread")]
async fn players_of_other_machines_need_leave_to_have_a_server_asked() {
    let node = node(None).await;
    let pulls = Pulls::new(node, Registry::default());
    let address = "rtsp://media.example/film".parse().unwrap();

    let refused = pulls.ask_for(&name(), &address, false).unwrap_err();
    assert!(matches!(refused, AskError::NotAllowed { .. }));
    assert!(
        refused
            .to_string()
            .contains("pull_allow = [\"media.example\"]")
    );
    pulls.allow(vec!["*.example".to_owned()]);

    assert!(pulls.ask_for(&name(), &address, false).is_ok());
    let other = "rtsp://media.org/film".parse().unwrap();
    assert!(pulls.ask_for(&name(), &other, false).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_streams_than_may_be_asked_for_are_refused() {
    let node = node(None).await;
    let pulls = Pulls::new(node, Registry::default());
    let address = "rtsp://127.0.0.1:1/film".parse().unwrap();
    let mut held = Vec::new();
    for number in 0..levada_gateway_rtsp::pull::ASKED_MAX {
        let name = format!("pull/{number}").parse().unwrap();
        held.push(pulls.ask_for(&name, &address, true).unwrap());
    }

    let refused = pulls.ask_for(&name(), &address, true).unwrap_err();

    assert!(matches!(refused, AskError::Full { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_whose_players_ask_at_the_same_moment_end_with_one_connection() {
    let server = server().await;
    let first = node(None).await;
    let second = node(Some(&first)).await;
    let all = [&first, &second].map(|node| Pulls::new(node.clone(), Registry::default()));
    let address = spec(&server, "").address;

    let _held = all
        .each_ref()
        .map(|pulls| pulls.ask_for(&name(), &address, true).unwrap());
    let mut players = [subscribe(&first).await, subscribe(&second).await];
    for player in &mut players {
        frames(player, 30).await;
    }

    until("one connection", || {
        (live(&server).len() == 1).then_some(())
    })
    .await;
    for player in &mut players {
        frames(player, 100).await;
    }
    assert_eq!(live(&server).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_with_players_goes_on_when_the_one_that_pulls_is_gone() {
    let server = server().await;
    let first = node(None).await;
    let second = node(Some(&first)).await;
    let pulls = Pulls::new(first.clone(), Registry::default());
    let others = Pulls::new(second.clone(), Registry::default());
    let address = spec(&server, "").address;
    let _held = pulls.ask_for(&name(), &address, true).unwrap();
    let mut here = subscribe(&first).await;
    frames(&mut here, 10).await;
    let _held_too = others.ask_for(&name(), &address, true).unwrap();
    let mut there = subscribe(&second).await;
    frames(&mut there, 10).await;
    assert_eq!(live(&server).len(), 1);
    let before = live(&server)[0].id;

    first.leave().await;

    frames(&mut there, 60).await;
    until("the other's connection", || {
        let rows = live(&server);
        (rows.len() == 1 && rows[0].id != before).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_again_is_found_again() {
    let media = node(None).await;
    let house = House::of(media).await;
    house.show_card("film").await;
    let address = house.server.local_addr();
    let node = node(None).await;
    let pulls = Pulls::new(node.clone(), Registry::default());
    pulls.set(BTreeMap::from([(name(), spec(&house, ""))]));
    let mut subscriber = subscribe(&node).await;
    frames(&mut subscriber, 30).await;

    let house = house.restarted().await;

    assert_eq!(house.server.local_addr(), address);
    until("the connection", || live(&house).pop()).await;
    frames(&mut subscriber, 60).await;
}
