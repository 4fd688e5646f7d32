//! The examples of the book's library chapter do what they say.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a test may panic; examples are programs, whose `main` is not called"
)]

mod kit;

#[path = "../examples/gateway.rs"]
mod gateway;
#[path = "../examples/publish.rs"]
mod publishing;
#[path = "../examples/subscribe.rs"]
mod subscribing;
#[path = "../examples/telemetry.rs"]
mod telemetry;

use std::time::Duration;

use kit::*;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn lines_that_one_node_publishes_another_reads() {
    let origin = start(node("origin")).await;
    let reader = start_linked(node("reader"), &origin).await;
    let mut read = Vec::new();

    let (said, heard) = tokio::join!(
        publishing::run(&origin, "notes", 200, Duration::from_millis(10)),
        within("lines", subscribing::run(&reader, "notes", 5, &mut read)),
    );

    said.unwrap();
    heard.unwrap();
    let read = String::from_utf8(read).unwrap();
    assert!(read.contains("tracks: text"), "{read}");
    assert_eq!(
        read.lines().filter(|line| line.contains(" line ")).count(),
        5,
        "{read}"
    );
}

#[tokio::test]
async fn a_sensor_is_read_and_those_that_nobody_reads_send_nothing() {
    let field = start(node("field")).await;
    let desk = start_linked(node("desk"), &field).await;
    let measuring = tokio::spawn(telemetry::measure(field.clone(), Duration::from_millis(20)));

    let values = within("values", telemetry::read(&desk, 7, 3))
        .await
        .unwrap();

    assert!(
        values.iter().all(|value| (26.0..=28.0).contains(value)),
        "{values:?}"
    );
    let flows = field.rows::<levada::view::FlowRow>().await.unwrap();
    let sent = flows
        .iter()
        .filter(|row| row.counters.packets_out > 0)
        .count();
    assert_eq!((flows.len(), sent), (telemetry::SENSORS, 1));
    measuring.abort();
}

#[tokio::test]
async fn a_gateway_gives_frames_as_lines_and_refuses_what_is_no_name() {
    let origin = start(node("origin")).await;
    let mut publisher = publish(&origin, "cam").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(gateway::serve(origin.clone(), listener));
    let ask = async |text: &str| {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(text.as_bytes()).await.unwrap();
        BufReader::new(client).lines()
    };

    let mut lines = ask("cam\n").await;
    push(&mut publisher, 0..5).await;
    let first = within("a frame", async {
        loop {
            let line = lines.next_line().await.unwrap().unwrap();
            if !line.starts_with('#') {
                return line;
            }
        }
    });
    let first = first.await;
    let mut refused = ask("no such//name\n").await;
    let refused = within("a refusal", refused.next_line())
        .await
        .unwrap()
        .unwrap();

    let bytes = frame(0).data.len();
    assert!(first.ends_with(&format!(" 1 {bytes}")), "{first}");
    assert!(refused.starts_with("error: "), "{refused}");
}
