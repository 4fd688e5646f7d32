//! Clients that are slow, half open, or up to no good: each is answered or closed, and nobody else notices.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{House, PATIENCE, status, until};
use levada_gateway::{EndReason, Limits};
use levada_gateway_http::serve::{HEAD_BYTES_MAX, HEAD_PATIENCE, REQUESTS_MAX};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_climb_or_hide_something_are_refused() {
    let house = House::new().await;
    let long = "a".repeat(10_000);
    let paths = [
        "/live/../live/cam",
        "/live/..%2f..%2fetc/passwd",
        "/live/%2e%2e/cam.ts",
        "/live/cam%00.ts",
        "/live//cam",
        "/live/cam%2",
        "/live/cam%zz.ts",
        "/live/./cam",
        "/live/cam/../../x",
        "/live/cam%0d%0aX-Y:%20z",
        "/live/%ff",
        &format!("/live/{long}"),
        "/assets/../Cargo.toml",
        "/assets/%2e%2e%2fCargo.toml",
    ];

    for path in paths {
        let answer = house.get(path).await;
        assert!(matches!(status(&answer), "400" | "404"), "{path}: {answer}");
        assert!(
            !answer.contains("passwd") && !answer.contains("X-Y: z"),
            "{answer}"
        );
    }
    assert_eq!(
        status(
            &house
                .say(b"GET /live/cam\0 HTTP/1.1\r\nHost: a\r\n\r\n")
                .await
        ),
        "400"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_two_programs_could_read_differently_is_refused() {
    let house = House::new().await;
    let smuggled = "0\r\n\r\nGET /live/ HTTP/1.1\r\nHost: b\r\n\r\n";
    for lines in [
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: +4\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        " folded\r\n",
    ] {
        let request = format!("GET /live/ HTTP/1.1\r\nHost: a\r\n{lines}\r\n{smuggled}");

        let answer = house.say(request.as_bytes()).await;

        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{lines}: {answer}");
        assert_eq!(status(&answer), "400", "{lines}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_long_is_refused() {
    let house = House::new().await;
    let line = format!("X-Long: {}\r\n", "a".repeat(HEAD_BYTES_MAX));

    let answer = house.ask("GET", "/live/", &line).await;

    assert_eq!(status(&answer), "431", "{answer}");
}

/// Waits until the other side closes, and returns what it said before.
async fn closed(mut stream: TcpStream) -> String {
    let mut said = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await;
    let _ = read.unwrap_or_else(|_| panic!("the connection stays open"));
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_without_a_whole_request_are_closed() {
    let house = House::new().await;
    let mut connections = Vec::new();
    for said in [
        "",
        "G",
        "PRI",
        "GET /live/ HTTP/1.1\r\nHost:",
        "GET /live/?json HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut stream = house.connect().await;
        stream.write_all(said.as_bytes()).await.unwrap();
        connections.push((said, stream));
    }
    let asked = std::time::Instant::now();

    for (said, stream) in connections {
        let answer = closed(stream).await;
        assert_eq!(
            said.ends_with("\r\n\r\n"),
            answer.contains("200 OK"),
            "{said}: {answer}"
        );
    }

    assert!(
        asked.elapsed() >= HEAD_PATIENCE / 2,
        "they were given time: {:?}",
        asked.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_is_dropped_and_others_play_on() {
    let limits = Limits::default().with_stall(Duration::from_secs(2));
    let house = House::with(|builder| builder.limits(limits)).await;
    // Sockets on one machine hold megabytes: 12 MB a second fill them soon.
    house.show_images("door", &vec![0xFF; 500_000]).await;
    let (idle, _) = house.open("/live/door.mjpeg").await;
    let id = until("the idle one's session", || house.rows().pop())
        .await
        .id;
    let (mut reader, _) = house.open("/live/door.mjpeg").await;

    let ended = async {
        let mut taken = vec![0; 1 << 20];
        loop {
            let read = tokio::time::timeout(PATIENCE, reader.read(&mut taken)).await;
            assert!(read.unwrap().unwrap() > 0, "who reads plays on");
            let rows = house.rows();
            if let Some(row) = rows
                .into_iter()
                .find(|row| row.id == id && row.ended.is_some())
            {
                return row;
            }
        }
    };
    let row = ended.await;

    assert_eq!(row.ended, Some(EndReason::Slow));
    drop(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_the_limit_are_told_so() {
    let house = House::with(|builder| builder.limits(Limits::default().with_clients(2))).await;
    let _held = [house.connect().await, house.connect().await];

    let answer = house.get("/live/").await;

    assert_eq!(status(&answer), "503", "{answer}");
    assert!(answer.contains("2 clients"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asked_for_something_does_not_count_as_a_handshake_any_more() {
    let limits = Limits::default().with_handshakes_per_address(1);
    let house = House::with(|builder| builder.limits(limits)).await;
    let mut first = house.connect().await;
    first
        .write_all(b"GET /live/ HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    tokio::time::timeout(PATIENCE, first.read_u8())
        .await
        .unwrap()
        .unwrap();

    let second = house.get("/live/").await;
    let _silent = house.connect().await;
    let fourth = house.get("/live/").await;

    assert_eq!(status(&second), "200");
    assert_eq!(status(&fourth), "503", "{fourth}");
}

/// A frame of HTTP/2 (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// Reads frames until one is of that kind and stream: its payload.
async fn read_frame(stream: &mut TcpStream, kind: u8, number: u32) -> Vec<u8> {
    let reading = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            stream.read_exact(&mut payload).await.unwrap();
            let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            if (head[3], of) == (kind, number) {
                return payload;
            }
        }
    };
    let read = tokio::time::timeout(PATIENCE, reading).await;
    read.unwrap_or_else(|_| panic!("no frame of kind {kind} on {number}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_too_many_on_a_connection_is_refused_alone() {
    const HEADERS: u8 = 1;
    const RESET: u8 = 3;
    const REFUSED: [u8; 4] = [0, 0, 0, 7];
    let house = House::new().await;
    let mut stream = house.connect().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    stream.write_all(preface).await.unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    // GET, http, a path that is waited for, and the authority `a` (RFC 7541 appendix A), not to be indexed.
    let path = b"/live/nobody.ts";
    let length = u8::try_from(path.len()).unwrap();
    let request = [&[0x82, 0x86, 0x04, length][..], path, &[0x01, 1, b'a']].concat();
    let last = 2 * REQUESTS_MAX + 1;
    for number in (1..=last).step_by(2) {
        stream
            .write_all(&frame(HEADERS, 0x5, number, &request))
            .await
            .unwrap();
    }

    assert_eq!(read_frame(&mut stream, RESET, last).await, REFUSED);
    let answer = read_frame(&mut stream, HEADERS, 1).await;

    assert_eq!(answer[0], 0x8D, "404, which the table has at 13");
}
