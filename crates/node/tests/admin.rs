//! The local socket: other programs of this user publish, play and look through a running node.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use kit::*;
use levada::admin::{Client, ClientError, RemoteSubscriber};
use levada::view::FlowRow;
use levada::{Delivery, Node, PublishOptions, State, SubscribeOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

#[tokio::test]
async fn a_stream_goes_in_at_one_socket_and_out_at_another() {
    let relay = start(node("relay").admin(true)).await;
    let other = start_linked(node("other").admin(true), &relay).await;
    let mut publisher = publish_through(&relay, "cam").await;
    let mut player = play_through(&other, "cam").await;

    publisher.send(frame(0)).await.unwrap();
    expect_frames(&mut player, 0..1).await;
    for number in 1..60 {
        within("a frame to be taken", publisher.send(frame(number)))
            .await
            .unwrap();
    }
    expect_frames(&mut player, 1..60).await;
    within("the end to be taken", publisher.finish())
        .await
        .unwrap();

    let end = next_remote(&mut player).await;
    assert!(matches!(end, Delivery::End), "{end:?}");
}

#[tokio::test]
async fn the_program_around_a_node_answers_for_itself() {
    let node = start(node("alone").admin(true)).await;
    node.answer("echo", |question| match question {
        "" => Err("say something".to_owned()),
        text => Ok(text.to_owned()),
    });
    let client = || async { Client::connect(node.state_dir()).await.unwrap() };

    assert_eq!(
        client().await.ask_program("echo", "a\nb").await.unwrap(),
        "a\nb"
    );
    let refused = client().await.ask_program("echo", "").await.unwrap_err();
    let unknown = client()
        .await
        .ask_program("sessions", "")
        .await
        .unwrap_err();

    assert_eq!(refused.to_string(), "say something");
    assert!(unknown.to_string().contains("`sessions`"), "{unknown}");
}

#[tokio::test]
async fn a_publisher_that_dies_ends_its_stream() {
    let node = start(node("alone").admin(true)).await;
    let mut publisher = publish_through(&node, "cam").await;
    let mut subscriber = subscribe(&node, "cam").await;
    publisher.send(frame(0)).await.unwrap();
    expect(&mut subscriber, 0..1).await;

    drop(publisher);

    let end = next_media(&mut subscriber).await;
    assert!(matches!(end, Delivery::End), "{end:?}");
}

#[tokio::test]
async fn a_player_that_dies_ends_its_subscription() {
    let node = start(node("alone").admin(true)).await;
    let mut publisher = publish(&node, "cam").await;
    let mut player = play_through(&node, "cam").await;
    push(&mut publisher, 0..1).await;
    expect_frames(&mut player, 0..1).await;

    drop(player);

    within("the subscription to end", async {
        loop {
            let flows = node.rows::<FlowRow>().await.unwrap();
            if flows.iter().all(|flow| flow.control.subscriptions == 0) {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_player_is_told_that_nobody_offers_the_stream() {
    let node = start(node("alone").admin(true)).await;

    let mut player = play_through(&node, "cam").await;

    let state = within("a state", player.next()).await.unwrap().unwrap();
    assert!(
        matches!(state, Delivery::State(State::Unknown)),
        "{state:?}"
    );
}

#[tokio::test]
async fn what_the_node_refuses_reaches_the_user_in_its_words() {
    let node = start(node("alone").admin(true)).await;
    let _taken = publish(&node, "cam").await;
    let client = client(&node).await;

    let (name, description) = (stream("cam"), description());
    let published = client.publish(&name, &description, PublishOptions::default());
    let error = within("an answer", published).await.unwrap_err();

    assert!(
        matches!(&error, ClientError::Refused(text) if text.contains("already")),
        "{error}"
    );
}

#[tokio::test]
async fn a_frame_the_node_refuses_is_told_at_the_next_call() {
    let node = start(node("alone").admin(true)).await;
    let mut publisher = publish_through(&node, "cam").await;
    let mut stray = frame(0);
    stray.track = levada::TrackId(9);

    let refused = within("the refusal", async {
        loop {
            if let Err(error) = publisher.send(stray.clone()).await {
                return error;
            }
        }
    })
    .await;

    assert!(refused.to_string().contains("track 9"), "{refused}");
}

#[tokio::test]
async fn the_view_through_the_socket_is_the_nodes_own() {
    let node = start(node("alone").admin(true)).await;
    let _publisher = publish(&node, "cam").await;

    let view = within("a view", client(&node).await.view()).await.unwrap();

    assert_eq!(view.node.id, node.id());
    assert_eq!(view.node.name, "alone");
    assert_eq!(view.streams[0].name.as_str(), "cam");
    assert_eq!(view.streams[0].tracks[0].codec, "h264");
    assert_eq!(view.streams, node.view().await.unwrap().streams);
}

#[tokio::test]
async fn a_leave_through_the_socket_ends_the_node() {
    let state = tempfile::tempdir().unwrap();
    let node = start(node("alone").state(state.path()).admin(true)).await;

    within("the node to leave", client(&node).await.leave())
        .await
        .unwrap();

    within("the node to end", node.stopped()).await.unwrap();
    assert!(!state.path().join("levada.sock").exists());
    let error = Client::connect(state.path()).await.unwrap_err();
    assert!(matches!(error, ClientError::NotRunning { .. }), "{error}");
    assert!(error.to_string().contains("levada run"), "{error}");
}

#[tokio::test]
async fn a_socket_file_of_a_dead_node_is_replaced() {
    let state = tempfile::tempdir().unwrap();
    let stale = std::os::unix::net::UnixListener::bind(state.path().join("levada.sock"));
    drop(stale.unwrap());
    let error = Client::connect(state.path()).await.unwrap_err();
    assert!(matches!(error, ClientError::NotRunning { .. }), "{error}");

    let node = start(node("alone").state(state.path()).admin(true)).await;

    within("a view", client(&node).await.view()).await.unwrap();
}

#[tokio::test]
async fn a_state_directory_too_deep_for_a_socket_is_refused_with_the_cure() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(120));

    let error = node("deep")
        .state(&deep)
        .admin(true)
        .start()
        .await
        .unwrap_err();

    assert!(error.to_string().contains("shorter path"), "{error}");
    start(node("deep").state(&deep)).await;
}

#[tokio::test]
async fn garbage_on_the_socket_disturbs_nobody() {
    let node = start(node("alone").admin(true)).await;
    for garbage in [
        b"GET / HTTP/1.1\r\n\r\n".as_slice(),
        b"levada-admin 1\n\xff\xff\xff\xff\xff",
        b"levada-admin 1\n\x01\x00\x00\x00\x02{]",
        b"levada-admin 1\n\x01\x00\x00\x00\x06\"what\"",
    ] {
        let mut socket = UnixStream::connect(node.state_dir().join("levada.sock"))
            .await
            .unwrap();
        // The node may close before all is written.
        let _ = socket.write_all(garbage).await;
        let mut answer = Vec::new();
        let ended = within("the end", socket.read_to_end(&mut answer)).await;
        assert!(ended.is_err() || answer.starts_with(b"levada-admin 1\n"));
    }

    within("a view", client(&node).await.view()).await.unwrap();
}

#[tokio::test]
async fn one_client_more_than_the_limit_is_told_so() {
    let node = start(node("alone").admin(true)).await;
    let mut players = Vec::new();
    for _ in 0..64 {
        players.push(play_through(&node, "cam").await);
    }

    let error = within("an answer", client(&node).await.view())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("64 local commands"), "{error}");
    players.pop();

    within("room for one", async {
        while client(&node).await.view().await.is_err() {}
    })
    .await;
}

async fn client(node: &Node) -> Client {
    let client = Client::connect(node.state_dir());
    within("the socket", client).await.unwrap()
}

async fn publish_through(node: &Node, name: &str) -> levada::admin::RemotePublisher {
    let options = PublishOptions::default().with_flush_interval(std::time::Duration::ZERO);
    let client = client(node).await;
    let (name, description) = (stream(name), description());
    let publisher = client.publish(&name, &description, options);
    within("a publisher", publisher).await.unwrap()
}

async fn play_through(node: &Node, name: &str) -> RemoteSubscriber {
    let client = client(node).await;
    let name = stream(name);
    let player = client.play(&name, SubscribeOptions::default());
    within("a player", player).await.unwrap()
}

/// The next delivery that is no state.
async fn next_remote(player: &mut RemoteSubscriber) -> Delivery {
    loop {
        let delivery = within("a delivery", player.next()).await.unwrap();
        match delivery.expect("the node runs") {
            Delivery::State(_) => {}
            other => return other,
        }
    }
}

async fn expect_frames(player: &mut RemoteSubscriber, numbers: std::ops::Range<i64>) {
    for expected in numbers {
        let got = loop {
            match next_remote(player).await {
                Delivery::Frame { frame, .. } => break frame,
                Delivery::Description(_) => {}
                other => panic!("{other:?} instead of a frame"),
            }
        };
        assert_eq!(got, frame(expected));
    }
}
