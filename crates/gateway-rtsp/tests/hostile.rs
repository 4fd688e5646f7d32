//! Clients that stop reading, that never end, that send what is no RTSP: nobody else notices;
//! and one that is in a hurry.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use common::{House, PATIENCE, until};
use levada::{Description, Frame, PublishOptions, Track, TrackId, TrackKind};
use levada_gateway::{EndReason, Limits};
use levada_gateway_rtsp::decode::{Decoder, Item};
use levada_gateway_rtsp::message::{Method, Request, Response, Status};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

const PICTURE_BYTES: usize = 40_000;
const PICTURES_PER_GROUP: i64 = 25;

/// A client that does what a test tells it.
struct Raw {
    stream: TcpStream,
    buffer: BytesMut,
    decoder: Decoder,
    base: String,
}

impl Raw {
    async fn new(house: &House, name: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // So that a client that does not read is soon seen not to.
        socket.set_recv_buffer_size(64 << 10).unwrap();
        let stream = socket.connect(house.server.local_addr()).await.unwrap();
        Self {
            stream,
            buffer: BytesMut::new(),
            decoder: Decoder::default(),
            base: house.url(name),
        }
    }

    async fn item(&mut self) -> Option<Item> {
        let next = async {
            loop {
                if let Some(item) = self.decoder.next(&mut self.buffer).unwrap() {
                    return Some(item);
                }
                if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                    return None;
                }
            }
        };
        tokio::time::timeout(PATIENCE, next)
            .await
            .expect("it answers or closes")
    }

    async fn ask(&mut self, request: Request) -> Response {
        self.stream.write_all(&request.encode()).await.unwrap();
        loop {
            match self.item().await.expect("it answers") {
                Item::Response(response) => return response,
                Item::Interleaved { .. } => {}
                Item::Request(request) => panic!("{request:?}"),
            }
        }
    }

    async fn play(&mut self) {
        let track = format!("{}/trackID=1", self.base);
        let transport = "RTP/AVP/TCP;unicast;interleaved=0-1";
        let setup = Request::new(Method::Setup, track).with("Transport", transport);
        for request in [setup, Request::new(Method::Play, self.base.clone())] {
            assert_eq!(self.ask(request).await.status, Status::OK);
        }
    }

    /// The sequence numbers of so many media packets.
    async fn packets(&mut self, count: usize) -> Vec<u16> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            if let Some(Item::Interleaved {
                channel: 0,
                payload,
            }) = self.item().await
            {
                numbers.push(u16::from_be_bytes([payload[2], payload[3]]));
            }
        }
        numbers
    }
}

/// Publishes pictures as fast as `rate` says, which no decoder would like.
async fn show_noise(house: &House, name: &str, every: Duration) {
    let track = Track {
        id: TrackId(1),
        kind: TrackKind::Video,
        codec: "h264".into(),
        timescale: NonZeroU32::new(90_000).unwrap(),
        config: vec![],
        language: None,
    };
    let description = Description {
        tracks: vec![track],
    };
    let name = name.parse().unwrap();
    let published = house
        .node
        .publish(name, description, PublishOptions::default());
    let mut publisher = published.await.unwrap();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(every);
        for picture in 0.. {
            ticks.tick().await;
            let sync = picture % PICTURES_PER_GROUP == 0;
            let mut data = if sync {
                b"\0\0\0\x01\x67\x42\xC0\x1E\xDA\0\0\0\x01\x68\xCE\x3C\x80\0\0\0\x01\x65".to_vec()
            } else {
                b"\0\0\0\x01\x41".to_vec()
            };
            data.resize(PICTURE_BYTES, 0xA5);
            let dts = picture * 3_600;
            let frame = Frame {
                track: TrackId(1),
                sync,
                discardable: false,
                dts,
                pts: dts,
                data: Bytes::from(data),
            };
            if publisher.send(frame).await.is_err() {
                return;
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_reading_is_dropped_and_others_get_every_packet() {
    let limits = Limits::default().with_stall(Duration::from_secs(1));
    let house = House::with(|builder| builder.limits(limits).senders(1)).await;
    show_noise(&house, "noise", Duration::from_millis(20)).await;
    let mut stopped = Raw::new(&house, "noise").await;
    stopped.play().await;
    stopped.packets(3).await;
    let mut reading = Raw::new(&house, "noise").await;
    reading.play().await;

    let numbers = tokio::spawn(async move { reading.packets(20_000).await });
    let dropped = until("the client to be dropped", || {
        let mut rows = house.rows().into_iter();
        rows.find(|row| row.ended.is_some())
    })
    .await;

    assert_eq!(dropped.ended, Some(EndReason::Slow));
    let numbers = numbers.await.unwrap();
    let follows = |pair: &[u16]| pair[1] == pair[0].wrapping_add(1);
    assert!(numbers.windows(2).all(follows), "no packet is missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_pauses_goes_on_with_a_group() {
    let house = House::new().await;
    show_noise(&house, "noise", Duration::from_millis(20)).await;
    let mut client = Raw::new(&house, "noise").await;
    client.play().await;
    client.packets(3).await;

    let id = house.rows()[0].id;
    let before = house.rows()[0].bytes;
    // It does not read until the socket has been full for longer than a client may be late.
    let mut bytes = (before, Instant::now());
    until("the socket to be full for a while", || {
        let now = house.rows()[0].bytes;
        if now != bytes.0 {
            bytes = (now, Instant::now());
        }
        (bytes.1.elapsed() > Duration::from_secs(3)).then_some(())
    })
    .await;
    let numbers = client.packets(20_000).await;

    let row = house.rows().into_iter().find(|row| row.id == id).unwrap();
    assert!(row.skips >= 1, "{row:?}");
    assert_eq!(row.ended, None);
    let gaps = numbers
        .windows(2)
        .filter(|pair| pair[1] != pair[0].wrapping_add(1))
        .count();
    assert!(gaps as u64 <= row.skips, "{gaps} gaps in {row:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_end_and_what_is_no_rtsp_close_the_connection() {
    let house = House::new().await;
    let line = format!("X: {}\r\n", "a".repeat(1_000));
    let endless = format!("OPTIONS * RTSP/1.0\r\n{}", line.repeat(100));
    let lines = format!("OPTIONS * RTSP/1.0\r\n{}", "a: b\r\n".repeat(1_000_000));
    let garbage = "GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned();
    let body = "ANNOUNCE rtsp://h/a RTSP/1.0\r\nContent-Length: 1073741824\r\n\r\n".to_owned();
    for (text, status) in [
        (endless, Status::TOO_LARGE),
        (lines, Status::TOO_LARGE),
        (garbage, Status::BAD_REQUEST),
        (body, Status::TOO_LARGE),
    ] {
        let mut raw = Raw::new(&house, "x").await;

        // The server may close before all is written.
        let _ = raw.stream.write_all(text.as_bytes()).await;

        // A reset may overtake the answer, when more was sent than the server read.
        if let Some(Item::Response(response)) = raw.item().await {
            assert_eq!(response.status, status);
            assert_eq!(raw.item().await, None);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_beyond_the_limit_of_a_client_end_its_session() {
    let limits = Limits::default().with_client_bytes(1_000_000);
    let house = House::with(|builder| builder.limits(limits)).await;
    show_noise(&house, "noise", Duration::from_millis(10)).await;
    let mut client = Raw::new(&house, "noise").await;
    client.play().await;

    while client.item().await.is_some() {}

    assert_eq!(house.ended().await.ended, Some(EndReason::Quota));
}

/// At a node that carries the stream already.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_picture_is_at_the_socket_within_300_ms() {
    let house = House::new().await;
    show_noise(&house, "noise", Duration::from_millis(40)).await;
    let mut first = Raw::new(&house, "noise").await;
    first.play().await;
    first.packets(100).await;
    let asked = Instant::now();

    let mut second = Raw::new(&house, "noise").await;
    let describe = Request::new(Method::Describe, second.base.clone());
    assert_eq!(second.ask(describe).await.status, Status::OK);
    second.play().await;
    second.packets(1).await;

    assert!(
        asked.elapsed() < Duration::from_millis(300),
        "{:?}",
        asked.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_kicked_ends_at_once() {
    let house = House::new().await;
    show_noise(&house, "noise", Duration::from_millis(20)).await;
    let mut client = Raw::new(&house, "noise").await;
    client.play().await;
    client.packets(1).await;

    assert!(house.server.registry().kick(house.rows()[0].id));

    while client.item().await.is_some() {}
    assert_eq!(house.ended().await.ended, Some(EndReason::Kicked));
}
