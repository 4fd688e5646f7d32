//! Limits of a node, reached, and what happens there.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use kit::*;
use levada::{Event, PublishError, SubscribeError, SubscribeOptions};

#[tokio::test]
async fn one_subscriber_more_than_the_limit_is_refused_and_the_end_of_one_makes_room() {
    let node = start(node("alone")).await;
    let mut subscribers = Vec::new();
    for _ in 0..16_384 {
        subscribers.push(subscribe(&node, "cam").await);
    }

    let refused = node
        .subscribe(stream("cam"), SubscribeOptions::default())
        .await;
    let error = refused.unwrap_err();
    assert!(
        matches!(error, SubscribeError::Full { max: 16_384 }),
        "{error}"
    );
    let options = levada::PublishOptions::default();
    let refused = node.publish(stream("cam"), description(), options).await;
    assert!(matches!(refused, Err(PublishError::Full { .. })));

    subscribers.pop();
    within("room for one", async {
        while node
            .subscribe(stream("cam"), SubscribeOptions::default())
            .await
            .is_err()
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_listener_that_is_too_slow_is_told_how_many_events_it_missed() {
    let node = start(node("alone")).await;
    let mut events = node.events();

    for _ in 0..200 {
        publish(&node, "cam").await.finish().await.unwrap();
    }

    let first = within("an event", events.next()).await.unwrap();
    let Event::Missed { events: missed } = first else {
        panic!("{first:?}");
    };
    assert_eq!(missed, 400 - 256);
}

#[tokio::test]
async fn one_neighbour_more_than_the_limit_is_refused_at_the_start() {
    let joins = |count: u16| {
        (1..=count).fold(node("eager"), |builder, port| {
            builder.join(format!("127.0.0.1:{port}"))
        })
    };

    let error = joins(65).start().await.unwrap_err().to_string();

    assert!(
        error.contains("65 neighbours") && error.contains("64"),
        "{error}"
    );
    start(joins(64)).await;
}

#[tokio::test]
async fn a_publisher_faster_than_the_datapath_waits_and_loses_nothing() {
    const FRAMES: i64 = 40;
    let node = start(node("alone")).await;
    let mut publisher = publish(&node, "cam").await;
    let data = bytes::Bytes::from(vec![7; 4 << 20]);

    for number in 0..FRAMES {
        let large = levada::Frame {
            data: data.clone(),
            ..frame(number)
        };
        within("a frame to be taken", publisher.send(large))
            .await
            .unwrap();
    }

    let view = within("a view", node.view()).await.unwrap();
    let bytes = u64::try_from(FRAMES).unwrap() * (4 << 20);
    assert!(
        view.flows[0].counters.bytes_in > bytes,
        "{} of {bytes} bytes",
        view.flows[0].counters.bytes_in
    );
    assert_eq!(view.counter("frames_refused"), 0, "{:?}", view.counters);
}
