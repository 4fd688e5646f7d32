//! What the tests of the library share: nodes on loopback, frames that can be told apart, and waits with a deadline.
//!
//! Each test file uses a part of it. Invariant: nothing here sleeps; whatever is waited for is an event.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "a test may panic, and uses what it needs of the kit"
)]

use std::future::Future;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use levada::{
    Builder, Delivery, Description, Event, Events, Frame, Node, PublishOptions, Publisher, State,
    StreamName, SubscribeOptions, Subscriber, Tap, Tapped, Track, TrackId, TrackKind,
};

/// How long anything may take: far longer than it does, so that only a hang fails.
const DEADLINE: Duration = Duration::from_secs(20);
/// Frames of a group: half a second is the shortest group that the datapath makes.
pub(crate) const GROUP_FRAMES: i64 = 25;
const TIMESCALE: u32 = 90_000;
const FRAME_TICKS: i64 = 3_600;

/// Waits for `future`, and fails the test if that takes too long.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Shows the log of a test that is run with `RUST_LOG`.
fn show_log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_test_writer();
    // Only the first test of a process can be first.
    let _ = log.try_init();
}

/// A node on loopback with a state directory of its own, not yet started.
pub(crate) fn node(name: &str) -> Builder {
    show_log();
    Node::builder()
        .temporary_state()
        .listen(([127, 0, 0, 1], 0).into())
        .name(name)
}

pub(crate) async fn start(builder: Builder) -> Node {
    within("a node to start", builder.start()).await.unwrap()
}

/// Starts a node that links to `to`, and waits for the link.
pub(crate) async fn start_linked(builder: Builder, to: &Node) -> Node {
    let mut events = to.events();
    let node = start(builder.join(to.local_addr().to_string())).await;
    link_up(&mut events, &node).await;
    node
}

/// Waits until `events` tell of a link to `peer`.
pub(crate) async fn link_up(events: &mut Events, peer: &Node) {
    let id = peer.id();
    event(
        events,
        |event| matches!(event, Event::LinkUp { peer, .. } if *peer == id),
    )
    .await;
}

/// Waits for an event of a kind.
pub(crate) async fn event(events: &mut Events, wanted: impl Fn(&Event) -> bool) -> Event {
    within("an event", async {
        loop {
            let event = events.next().await.expect("the node runs");
            if wanted(&event) {
                return event;
            }
        }
    })
    .await
}

pub(crate) fn stream(name: &str) -> StreamName {
    name.parse().unwrap()
}

/// One video track.
pub(crate) fn description() -> Description {
    Description {
        tracks: vec![Track {
            id: TrackId(1),
            kind: TrackKind::Video,
            codec: "h264".into(),
            timescale: NonZeroU32::new(TIMESCALE).unwrap(),
            config: vec![1, 2, 3],
            language: None,
        }],
    }
}

/// The frame of that number: every [`GROUP_FRAMES`]th starts a group, and no two are equal.
pub(crate) fn frame(number: i64) -> Frame {
    let length = 400 + usize::try_from(number * 977 % 4_000).unwrap();
    let data: Vec<u8> = (0..length)
        .map(|at| u8::try_from((at * 31 + usize::try_from(number).unwrap() * 7) % 251).unwrap())
        .collect();
    Frame {
        track: TrackId(1),
        sync: number % GROUP_FRAMES == 0,
        discardable: false,
        dts: number * FRAME_TICKS,
        pts: number * FRAME_TICKS + FRAME_TICKS,
        data: Bytes::from(data),
    }
}

/// The number that [`frame`] made it from.
pub(crate) fn number(frame: &Frame) -> i64 {
    frame.dts / FRAME_TICKS
}

pub(crate) async fn publish(node: &Node, name: &str) -> Publisher {
    let options = PublishOptions::default().with_flush_interval(Duration::ZERO);
    let published = node.publish(stream(name), description(), options);
    within("a publisher", published).await.unwrap()
}

pub(crate) async fn push(publisher: &mut Publisher, numbers: std::ops::Range<i64>) {
    for number in numbers {
        within("a frame to be taken", publisher.send(frame(number)))
            .await
            .unwrap();
    }
}

pub(crate) async fn subscribe(node: &Node, name: &str) -> Subscriber {
    let subscribed = node.subscribe(stream(name), SubscribeOptions::default());
    within("a subscriber", subscribed).await.unwrap()
}

pub(crate) async fn next(subscriber: &mut Subscriber) -> Delivery {
    let next = within("a delivery", subscriber.next()).await;
    next.expect("the node runs")
}

/// The next delivery that is no state.
pub(crate) async fn next_media(subscriber: &mut Subscriber) -> Delivery {
    loop {
        match next(subscriber).await {
            Delivery::State(_) => {}
            other => return other,
        }
    }
}

/// The next frame; fails on anything but states and descriptions before it.
pub(crate) async fn next_frame(subscriber: &mut Subscriber) -> Frame {
    loop {
        match next_media(subscriber).await {
            Delivery::Frame { frame, .. } => return frame,
            Delivery::Description(_) => {}
            other => panic!("{other:?} instead of a frame"),
        }
    }
}

/// Waits for a state of a kind.
pub(crate) async fn state(subscriber: &mut Subscriber, wanted: impl Fn(&State) -> bool) {
    loop {
        if let Delivery::State(state) = next(subscriber).await
            && wanted(&state)
        {
            return;
        }
    }
}

/// Waits for these frames, one after the other, with nothing missing.
pub(crate) async fn expect(subscriber: &mut Subscriber, numbers: std::ops::Range<i64>) {
    for expected in numbers {
        let got = next_frame(subscriber).await;
        assert_eq!(number(&got), expected, "frames come in order");
        assert_eq!(
            got,
            frame(expected),
            "frame {expected} comes as it was sent"
        );
    }
}

/// Remembers all that passes.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    pub(crate) control: Mutex<Vec<u8>>,
    pub(crate) content_secrets: Mutex<Vec<Vec<u8>>>,
    pub(crate) carry_keys: Mutex<Vec<Vec<u8>>>,
    pub(crate) link_keys: Mutex<Vec<Vec<u8>>>,
}

impl Witness {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }
}

impl Tap for Witness {
    fn see(&self, what: Tapped<'_>) {
        match what {
            Tapped::Control(bytes) => self.control.lock().unwrap().extend_from_slice(bytes),
            Tapped::ContentSecret(secret) => {
                self.content_secrets.lock().unwrap().push(secret.to_vec());
            }
            Tapped::CarryKey(key) => self.carry_keys.lock().unwrap().push(key.to_vec()),
            Tapped::LinkKey(key) => self.link_keys.lock().unwrap().push(key.to_vec()),
            _ => {}
        }
    }
}
