//! Real publishers bring a stream: what players get of it, and what publishers are told when it cannot be.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;

use common::{House, PATIENCE, errors, run, start, until};
use levada_gateway::{EndReason, Role, Transport};

/// ffmpeg's pattern and tone by H.264 and AAC, in real time, to a URL.
fn publisher<'a>(url: &'a str, transport: &'a str, seconds: &'a str) -> Vec<&'a str> {
    let arguments = "-hide_banner -nostdin -loglevel warning -re -f lavfi -i testsrc=size=320x240:rate=25 \
                     -f lavfi -i sine=frequency=440:sample_rate=48000 -c:v libx264 -preset ultrafast -bf 2 \
                     -threads 1 -g 25 -pix_fmt yuv420p -c:a aac -b:a 64k";
    let mut arguments: Vec<_> = arguments.split_whitespace().collect();
    arguments.extend([
        "-t",
        seconds,
        "-f",
        "rtsp",
        "-rtsp_transport",
        transport,
        url,
    ]);
    arguments
}

/// Decodes two seconds, and says how far sound and picture begin apart.
async fn play(house: &House, name: &str, transport: &str) -> String {
    let url = house.url(name);
    let arguments = [
        "-hide_banner",
        "-nostdin",
        "-loglevel",
        "warning",
        "-rtsp_transport",
        transport,
        "-i",
        &url,
        "-t",
        "2",
        "-f",
        "null",
        "-",
    ];
    let output = run("ffmpeg", &arguments).await;
    assert!(output.status.success(), "{}", errors(&output));
    errors(&output)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ffmpeg_publishes_ffmpeg_plays_by_every_way_without_a_complaint() {
    for (published, way) in [("tcp", Transport::Tcp), ("udp", Transport::Udp)] {
        let house = House::new().await;
        let url = house.url("studio/a");
        let mut process = start("ffmpeg", &publisher(&url, published, "60"));
        let publisher = until("the publisher's session", || house.rows().pop()).await;
        assert_eq!((publisher.role, publisher.transport), (Role::Publish, way));
        assert_eq!(publisher.stream, "studio/a");

        for (played, way) in [("tcp", Transport::Tcp), ("udp", Transport::Udp)] {
            let complaints = play(&house, "studio/a", played).await;

            assert_eq!(
                complaints, "",
                "published by {published}, played by {played}"
            );
            let player = until("the player's end", || {
                let mut rows = house.rows().into_iter();
                rows.find(|row| {
                    row.role == Role::Play && row.transport == way && row.ended.is_some()
                })
            })
            .await;
            assert_eq!(player.ended, Some(EndReason::Left));
        }
        process.kill().await.unwrap();
        let ended = until("the publisher's end", || {
            let mut rows = house.rows().into_iter();
            rows.find(|row| row.role == Role::Publish)?.ended
        })
        .await;
        assert_eq!(ended, EndReason::Closed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_and_picture_of_a_publisher_stay_together() {
    let house = House::new().await;
    let url = house.url("studio/sync");
    let _process = start("ffmpeg", &publisher(&url, "tcp", "30"));
    until("the publisher's session", || {
        (!house.rows().is_empty()).then_some(())
    })
    .await;

    let url = house.url("studio/sync");
    let entries = "stream=codec_type,start_time";
    let arguments = [
        "-hide_banner",
        "-loglevel",
        "error",
        "-rtsp_transport",
        "tcp",
        "-show_entries",
        entries,
        "-of",
        "csv=p=0",
        &url,
    ];
    let output = run("ffprobe", &arguments).await;

    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let starts = |kind: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(kind));
        let line = line.unwrap_or_else(|| panic!("{kind} in {text} {}", errors(&output)));
        line.split(',').nth(1).unwrap().parse().unwrap()
    };
    let apart = (starts("video") - starts("audio")).abs();
    assert!(apart < 0.15, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_is_refused() {
    let house = House::new().await;
    house.show_card("studio/a").await;
    let url = house.url("studio/a");

    let output = run("ffmpeg", &publisher(&url, "tcp", "1")).await;

    assert!(!output.status.success());
    assert!(errors(&output).contains("403"), "{}", errors(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_comes_back_goes_on_for_its_players() {
    let house = House::new().await;
    let url = house.url("studio/again");
    let mut first = start("ffmpeg", &publisher(&url, "tcp", "30"));
    until("the publisher's session", || {
        (!house.rows().is_empty()).then_some(())
    })
    .await;
    let player_url = house.url("studio/again");
    let arguments = [
        "-hide_banner",
        "-nostdin",
        "-loglevel",
        "error",
        "-rtsp_transport",
        "tcp",
        "-i",
        &player_url,
        "-t",
        "8",
        "-f",
        "null",
        "-",
    ];
    let player = start("ffmpeg", &arguments);
    until("the player's session", || {
        house
            .rows()
            .into_iter()
            .find(|row| row.role == Role::Play && row.bytes > 0)
    })
    .await;

    first.kill().await.unwrap();
    until("the first publisher's end", || {
        house
            .rows()
            .into_iter()
            .find(|row| row.role == Role::Publish && row.ended.is_some())
    })
    .await;
    let _second = start("ffmpeg", &publisher(&url, "tcp", "30"));
    let played = tokio::time::timeout(PATIENCE, player.wait_with_output())
        .await
        .unwrap()
        .unwrap();

    assert!(played.status.success(), "{}", errors(&played));
    let row = house
        .rows()
        .into_iter()
        .find(|row| row.role == Role::Play)
        .unwrap();
    assert_eq!(
        row.ended,
        Some(EndReason::Left),
        "it had its eight seconds: {row:?}"
    );
}
