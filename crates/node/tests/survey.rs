//! The map of a small network and the way of a stream through it, asked over real sockets.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use kit::*;
use levada::admin::Client;
use levada::view::{HopRow, MapRow};
use levada::{Relay, TraceError};

#[tokio::test]
async fn a_node_shows_the_network_around_it_and_the_way_of_a_stream() {
    let first = start(node("first").relay(Relay::Always)).await;
    let second = start_linked(node("second").relay(Relay::Always), &first).await;
    let origin = start_linked(node("origin"), &first).await;
    let consumer = start_linked(node("consumer").admin(true), &second).await;
    let mut publisher = publish(&origin, "cam").await;
    let mut subscriber = subscribe(&consumer, "cam").await;
    push(&mut publisher, 0..20).await;
    expect(&mut subscriber, 0..20).await;

    let map = within("a map", consumer.rows::<MapRow>()).await.unwrap();
    let way = within("a trace", consumer.trace(&stream("cam")))
        .await
        .unwrap();

    let seen: Vec<_> = map
        .iter()
        .map(|row| (&*row.name, row.hops, row.cause.as_deref()))
        .collect();
    assert_eq!(
        seen,
        [
            ("consumer", 0, None),
            ("second", 1, None),
            ("first", 2, None),
            ("origin", 3, None)
        ]
    );
    assert_eq!(map[3].via, Some(first.id()));
    assert!(map[1].is_relay && map[2].links.len() == 2);
    let upstreams: Vec<_> = map.iter().map(|row| row.flows[0].upstream).collect();
    let ids = [second.id(), first.id(), origin.id()];
    assert_eq!(upstreams, [Some(ids[0]), Some(ids[1]), Some(ids[2]), None]);
    let hops: Vec<_> = way
        .iter()
        .map(|row| (&*row.name, row.is_origin, row.cause.as_deref()))
        .collect();
    assert_eq!(
        hops,
        [
            ("consumer", false, None),
            ("second", false, None),
            ("first", false, None),
            ("origin", true, None)
        ]
    );
    assert!(way[..3].iter().all(|row| row.rtt_seconds.is_some()));
    assert!(way.iter().all(|row| row.packets_in > 0));

    // The same by the local socket, read back as it was.
    let client = Client::connect(consumer.state_dir()).await.unwrap();
    let told = within("a trace", client.trace(&stream("cam")))
        .await
        .unwrap();
    let names = |rows: &[HopRow]| rows.iter().map(|row| row.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&told.rows), names(&way));
}

#[tokio::test]
async fn what_does_not_flow_here_has_no_way() {
    let node = start(node("hall")).await;

    let error = within("a trace", node.trace(&stream("cam"))).await;

    let name = stream("cam");
    assert_eq!(error, Err(TraceError::NotHere { name }));
}
