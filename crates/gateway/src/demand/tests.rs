//! On one node and on two: a source starts when somebody wants its stream, and stops when nobody does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use bytes::Bytes;
use levada::{Delivery, SubscribeOptions, Subscriber};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
const LINGER: Duration = Duration::from_millis(50);

async fn node(join: Option<&Node>) -> Node {
    let builder = Node::builder().temporary_state();
    let builder = builder.listen(([127, 0, 0, 1], 0).into()).lanes(1);
    let builder = match join {
        Some(neighbour) => builder.join(neighbour.local_addr().to_string()),
        None => builder,
    };
    builder.start().await.unwrap()
}

async fn on_demand(node: &Node) -> OnDemand {
    let name = "cam".parse().unwrap();
    let options = PublishOptions::default();
    OnDemand::publish(node, &Offers::new(node), name, options)
        .await
        .unwrap()
}

fn description() -> Description {
    let track = |id, kind, codec: &str| Track {
        id: TrackId(id),
        kind,
        codec: codec.to_owned(),
        ..pending().tracks.remove(0)
    };
    Description {
        tracks: vec![
            track(1, TrackKind::Video, "h264"),
            track(2, TrackKind::Audio, "aac"),
        ],
    }
}

fn frame(track: u8, dts: i64, sync: bool) -> Frame {
    Frame {
        track: TrackId(track),
        dts,
        pts: dts,
        sync,
        discardable: false,
        data: Bytes::from_static(b"x"),
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

/// The next description or frame: codecs, or track and time.
async fn next(subscriber: &mut Subscriber) -> (Vec<String>, u8, i64) {
    loop {
        match within("a delivery", subscriber.next()).await.unwrap() {
            Delivery::Description(description) => {
                let codecs = description.tracks.iter().map(|track| track.codec.clone());
                return (codecs.collect(), 0, 0);
            }
            Delivery::Frame { frame, .. } => return (Vec::new(), frame.track.0, frame.dts),
            _ => {}
        }
    }
}

#[tokio::test]
async fn demand_comes_and_goes_with_a_subscriber_here_and_two_nodes_away() {
    let origin = node(None).await;
    let other = node(Some(&origin)).await;
    let publisher = on_demand(&origin).await;
    let mut demand = publisher.demand();
    assert!(!demand.is_any());

    for node in [&origin, &other] {
        let name = publisher.name().clone();
        let subscriber = node
            .subscribe(name, SubscribeOptions::default())
            .await
            .unwrap();
        within("demand", demand.wanted()).await;
        drop(subscriber);
        within("no demand", demand.unwanted_for(LINGER)).await;
        assert!(!demand.is_any());
    }
}

#[tokio::test]
async fn tracks_are_learned_late_and_the_first_frame_starts_decoding() {
    let origin = node(None).await;
    let mut publisher = on_demand(&origin).await;
    let name = publisher.name().clone();
    let options = SubscribeOptions::default();
    let mut subscriber = origin.subscribe(name, options).await.unwrap();
    within("demand", publisher.demand().wanted()).await;

    publisher.begin(description()).await.unwrap();
    for frame in [
        frame(1, 0, false),
        frame(2, 0, true),
        frame(1, 40, true),
        frame(2, 40, true),
    ] {
        publisher.send(frame).await.unwrap();
    }

    let codecs = vec!["h264".to_owned(), "aac".to_owned()];
    assert_eq!(next(&mut subscriber).await, (codecs, 0, 0));
    assert_eq!(next(&mut subscriber).await, (Vec::new(), 1, 0));
    assert_eq!(next(&mut subscriber).await, (Vec::new(), 2, 0));
}

#[tokio::test]
async fn a_source_that_starts_again_goes_on_where_it_was() {
    let origin = node(None).await;
    let mut publisher = on_demand(&origin).await;
    let name = publisher.name().clone();
    let options = SubscribeOptions::default();
    let mut subscriber = origin.subscribe(name, options).await.unwrap();

    for _ in 0..2 {
        publisher.begin(description()).await.unwrap();
        for (dts, sync) in [(7_000, false), (7_100, true), (7_200, false)] {
            publisher.send(frame(1, dts, sync)).await.unwrap();
        }
    }

    let (codecs, ..) = next(&mut subscriber).await;
    assert_eq!(codecs.len(), 2);
    for expected in [0, 100, 200, 300] {
        assert_eq!(next(&mut subscriber).await, (Vec::new(), 1, expected));
    }
}

#[tokio::test]
async fn several_origins_of_a_name_are_seen_until_they_withdraw() {
    let origin = node(None).await;
    let other = node(Some(&origin)).await;
    let first = on_demand(&origin).await;
    let mut origins = first.origins();

    let second = on_demand(&other).await;
    within("both", origins.wait_for(|origins| origins.len() == 2))
        .await
        .unwrap();
    second.finish().await.unwrap();

    let left = within("one", origins.wait_for(|origins| origins.len() == 1)).await;
    assert!(left.unwrap().contains_key(&origin.id()));
}
