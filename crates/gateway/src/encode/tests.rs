//! Encoders on a node without a network: what clients of a stream see when its source begins, pauses, comes back and
//! goes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::num::NonZeroU32;

use bytes::Bytes;
use levada::{Node, PublishOptions, Publisher, Track, TrackId};

use super::*;
use crate::cursor::{Cursor, Join, Next};
use crate::streams::{EncodedStream, SourceError, Streams};

const PATIENCE: Duration = Duration::from_secs(20);

/// Writes each frame down: its track and time.
#[derive(Debug, Default)]
struct Notes {
    pending: Vec<(u8, i64)>,
    codecs: Vec<String>,
}

impl Encode for Notes {
    type Body = Vec<(u8, i64)>;
    type Outline = Vec<String>;

    fn begin(&mut self, _: &Instance) {}

    fn describe(&mut self, description: &Description) -> Result<(), Unsuitable> {
        let codecs: Vec<_> = description
            .tracks
            .iter()
            .map(|track| track.codec.clone())
            .collect();
        if codecs.iter().any(|codec| codec == "smell") {
            return Err(Unsuitable("no screen can smell".into()));
        }
        if !self.codecs.is_empty() && self.codecs != codecs {
            return Err(Unsuitable("other tracks".into()));
        }
        self.codecs = codecs;
        Ok(())
    }

    fn push(&mut self, frame: &Frame, _: Option<WallTime>, _: bool) {
        self.pending.push((frame.track.0, frame.dts));
    }

    fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    fn take(&mut self) -> Option<Self::Body> {
        let pending = std::mem::take(&mut self.pending);
        (!pending.is_empty()).then_some(pending)
    }

    fn outline(&self) -> Option<Self::Outline> {
        Some(self.codecs.clone())
    }
}

async fn node() -> Node {
    let builder = Node::builder().temporary_state();
    let listening = builder.listen(([127, 0, 0, 1], 0).into()).lanes(1);
    listening.start().await.unwrap()
}

fn description(codecs: &[&str]) -> Description {
    let track = |(at, codec): (usize, &&str)| Track {
        id: TrackId(u8::try_from(at + 1).unwrap()),
        kind: if at == 0 {
            TrackKind::Video
        } else {
            TrackKind::Audio
        },
        codec: (*codec).to_owned(),
        timescale: NonZeroU32::new(1_000).unwrap(),
        config: vec![],
        language: None,
    };
    let tracks = codecs.iter().enumerate().map(track).collect();
    Description { tracks }
}

async fn publish(node: &Node, codecs: &[&str]) -> Publisher {
    let name = "cam".parse().unwrap();
    node.publish(name, description(codecs), PublishOptions::default())
        .await
        .unwrap()
}

async fn send(publisher: &mut Publisher, track: u8, dts: i64, sync: bool) {
    let frame = Frame {
        track: TrackId(track),
        sync,
        discardable: false,
        dts,
        pts: dts,
        data: Bytes::from_static(b"frame"),
    };
    publisher.send(frame).await.unwrap();
}

fn streams(node: &Node) -> Streams<Notes> {
    Streams::new(node.clone(), |_| Notes::default())
}

struct Client {
    source: EncodedStream<Notes>,
    cursor: Cursor,
    reader: Arc<Notify>,
}

impl Client {
    async fn new(streams: &Streams<Notes>) -> Self {
        let source = streams.source(&"cam".parse().unwrap()).await.unwrap();
        let reader = Arc::new(Notify::new());
        source.ring().notify(&reader);
        let cursor = Cursor::join(source.ring(), Join::Burst, Instant::now());
        Self {
            source,
            cursor,
            reader,
        }
    }

    /// The next piece, or why there is none.
    async fn next(&mut self) -> Result<Arc<Piece<Vec<(u8, i64)>>>, EndReason> {
        loop {
            match self.cursor.next(self.source.ring(), Instant::now()) {
                Next::Piece(piece) => return Ok(piece),
                Next::Ended(reason) => return Err(reason),
                Next::Wait => tokio::time::timeout(PATIENCE, self.reader.notified())
                    .await
                    .expect("a piece or an end comes in time"),
            }
        }
    }

    /// So many frames, whichever pieces they are in.
    async fn frames(&mut self, count: usize) -> Vec<(u8, i64)> {
        let mut frames = Vec::new();
        while frames.len() < count {
            frames.extend(self.next().await.unwrap().body.iter().copied());
        }
        frames
    }
}

#[tokio::test]
async fn all_clients_share_one_encoder_and_begin_with_the_newest_group() {
    let node = node().await;
    let (streams, mut publisher) = (streams(&node), publish(&node, &["h264", "aac"]).await);
    for (track, dts, sync) in [(1, 0, true), (2, 1, true), (1, 40, false)] {
        send(&mut publisher, track, dts, sync).await;
    }

    let mut first = Client::new(&streams).await;
    let outline = first.source.ready(PATIENCE).await.unwrap();
    let frames = first.frames(3).await;
    let mut second = Client::new(&streams).await;

    assert_eq!(*outline, ["h264", "aac"]);
    assert_eq!(frames, [(1, 0), (2, 1), (1, 40)]);
    assert!(Arc::ptr_eq(first.source.ring(), second.source.ring()));
    let piece = second.next().await.unwrap();
    assert!(piece.starts_group);
    assert_eq!(piece.body[0], (1, 0));
}

#[tokio::test]
async fn a_source_that_comes_back_goes_on_with_growing_times() {
    let node = node().await;
    let streams = streams(&node);
    let mut publisher = publish(&node, &["h264"]).await;
    send(&mut publisher, 1, 0, true).await;
    send(&mut publisher, 1, 40, false).await;
    let mut client = Client::new(&streams).await;
    let before = client.frames(2).await;

    publisher.finish().await.unwrap();
    let mut phases = client.source.phase();
    let held = phases.wait_for(|phase| matches!(phase, Phase::Held(_)));
    let held = tokio::time::timeout(PATIENCE, held).await;
    assert!(held.is_ok_and(|held| held.is_ok()));
    let mut publisher = publish(&node, &["h264"]).await;
    send(&mut publisher, 1, 0, true).await;
    let piece = client.next().await.unwrap();

    assert!(piece.starts_group);
    assert!(
        piece.body[0].1 > before[1].1,
        "{:?} after {before:?}",
        piece.body
    );
    assert!(matches!(*client.source.phase().borrow(), Phase::Running(_)));
}

#[tokio::test]
async fn a_source_that_stays_away_ends_the_stream_after_the_hold() {
    let node = node().await;
    let hold = Duration::from_millis(300);
    let streams = streams(&node).with_hold(hold);
    let mut publisher = publish(&node, &["h264"]).await;
    send(&mut publisher, 1, 0, true).await;
    let mut client = Client::new(&streams).await;
    client.frames(1).await;
    let since = Instant::now();

    publisher.finish().await.unwrap();
    let ended = client.next().await.unwrap_err();

    assert_eq!(ended, EndReason::StreamEnded);
    assert!(since.elapsed() >= hold);
}

#[tokio::test]
async fn other_tracks_end_the_clients_that_know_the_former_ones() {
    let node = node().await;
    let streams = streams(&node);
    let mut publisher = publish(&node, &["h264"]).await;
    send(&mut publisher, 1, 0, true).await;
    let mut client = Client::new(&streams).await;
    client.frames(1).await;

    publisher.finish().await.unwrap();
    let mut publisher = publish(&node, &["h265"]).await;
    send(&mut publisher, 1, 0, true).await;

    assert_eq!(client.next().await.unwrap_err(), EndReason::TracksChanged);
}

#[tokio::test]
async fn who_asks_for_what_cannot_be_had_is_told_why() {
    let node = node().await;
    let streams = streams(&node);
    let nobody = streams.source(&"nobody".parse().unwrap()).await.unwrap();
    let refused = nobody.ready(Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(refused, SourceError::Unknown), "{refused:?}");

    let mut publisher = publish(&node, &["smell"]).await;
    send(&mut publisher, 1, 0, true).await;
    let cam = streams.source(&"cam".parse().unwrap()).await.unwrap();
    let refused = cam.ready(PATIENCE).await.unwrap_err();

    assert_eq!(refused.to_string(), "no screen can smell");
}

#[tokio::test]
async fn a_stream_that_nobody_holds_is_not_subscribed_to() {
    let node = node().await;
    let streams = streams(&node);
    let mut publisher = publish(&node, &["h264"]).await;
    send(&mut publisher, 1, 0, true).await;
    let mut client = Client::new(&streams).await;
    client.frames(1).await;
    let before = client.source.ring().clone();

    drop(client);

    let again = Client::new(&streams).await;
    assert!(!Arc::ptr_eq(&before, again.source.ring()));
}
