//! Real players read a stream from the server: what they decode, what they say, and what the records say of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;

use common::{House, errors, left, run};
use levada_gateway::{Role, Transport};

/// Decodes so many seconds and complains about everything that is not right.
async fn decode(url: &str, transport: &str, seconds: &str) -> (String, String) {
    let output = run(
        "ffmpeg",
        &[
            "-hide_banner",
            "-nostdin",
            "-loglevel",
            "warning",
            "-stats_period",
            "100",
            "-progress",
            "-",
            "-rtsp_transport",
            transport,
            "-i",
            url,
            "-t",
            seconds,
            "-f",
            "null",
            "-",
        ],
    )
    .await;
    assert!(output.status.success(), "{}", errors(&output));
    let progress = String::from_utf8_lossy(&output.stdout).into_owned();
    (progress, errors(&output))
}

/// The last value of a key that ffmpeg reports.
fn last(progress: &str, key: &str) -> u64 {
    let mut values = progress.lines().filter_map(|line| line.strip_prefix(key));
    let value = values
        .next_back()
        .unwrap_or_else(|| panic!("{key} in {progress}"));
    value.trim_start_matches('=').trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_decodes_a_stream_over_tcp_without_a_complaint() {
    let house = House::new().await;
    house.show_card("lobby/card").await;

    let (progress, complaints) = decode(&house.url("lobby/card"), "tcp", "3").await;

    assert_eq!(complaints, "");
    let pictures = last(&progress, "frame");
    assert!((85..=95).contains(&pictures), "{progress}");
    let row = house.ended().await;
    assert!(left(&row), "{row:?}");
    assert_eq!((row.role, row.transport), (Role::Play, Transport::Tcp));
    assert_eq!(row.stream, "lobby/card");
    assert!(row.agent.starts_with("Lavf"), "{row:?}");
    assert!(row.bytes > 10_000, "{row:?}");
    assert_eq!(row.skips, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_decodes_a_stream_over_udp_without_a_complaint() {
    let house = House::new().await;
    house.show_card("lobby/card").await;

    let (progress, complaints) = decode(&house.url("lobby/card"), "udp", "3").await;

    assert_eq!(complaints, "");
    let pictures = last(&progress, "frame");
    assert!((85..=95).contains(&pictures), "{progress}");
    let row = house.ended().await;
    assert!(left(&row), "{row:?}");
    assert_eq!((row.role, row.transport), (Role::Play, Transport::Udp));
}
