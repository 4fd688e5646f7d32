//! Real players read a stream from the server: what they decode, what they say, and what the records say of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;

use common::{House, PATIENCE, errors, run, status, until};
use levada_gateway::{EndReason, Role, Transport};
use tokio::io::AsyncReadExt as _;

/// What comes within the time that anything may take.
async fn within<T>(coming: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, coming)
        .await
        .unwrap_or_else(|_| panic!("nothing comes"))
}

/// Decodes so many seconds and complains about everything that is not right.
async fn decode(url: &str, seconds: &str) -> (u64, String) {
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
    let mut frames = progress
        .lines()
        .filter_map(|line| line.strip_prefix("frame="));
    let frames = frames.next_back().unwrap_or_else(|| panic!("{progress}"));
    (frames.trim().parse().unwrap(), errors(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_decodes_a_transport_stream_without_a_complaint() {
    let house = House::new().await;
    house.show_card("lobby/card").await;

    let (pictures, complaints) = decode(&house.url("/live/lobby/card.ts"), "3").await;

    assert_eq!(complaints, "");
    assert!((85..=95).contains(&pictures), "{pictures}");
    let row = house.ended().await;
    assert_eq!((row.role, row.transport), (Role::Play, Transport::Tcp));
    assert_eq!(
        (row.stream.as_str(), row.protocol.as_str()),
        ("lobby/card", "http-ts")
    );
    assert_eq!(row.ended, Some(EndReason::Closed));
    assert!(row.agent.starts_with("Lavf"), "{row:?}");
    assert!(row.bytes > 10_000, "{row:?}");
    assert_eq!(row.skips, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_decodes_fragmented_mp4_without_a_complaint() {
    let house = House::new().await;
    house.show_card("card").await;

    let (pictures, complaints) = decode(&house.url("/live/card.mp4"), "3").await;

    assert_eq!(complaints, "");
    assert!((85..=95).contains(&pictures), "{pictures}");
    assert_eq!(house.ended().await.protocol, "http-mp4");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_is_told_the_codecs_of_what_it_gets() {
    let house = House::new().await;
    house.show_card("card").await;

    for (path, kind) in [
        (
            "/live/card.mp4",
            "video/mp4; codecs=\"avc1.64001F,mp4a.40.2\"",
        ),
        (
            "/live/card.mp4?only=video",
            "video/mp4; codecs=\"avc1.64001F\"",
        ),
        (
            "/live/card.mp4?only=audio",
            "audio/mp4; codecs=\"mp4a.40.2\"",
        ),
        ("/live/card.ts", "video/mp2t"),
    ] {
        let (mut stream, head) = house.open(path).await;
        let mut first = [0; 8];
        within(stream.read_exact(&mut first)).await.unwrap();

        assert!(
            head.contains(&format!("content-type: {kind}\r\n")),
            "{path}: {head}"
        );
        assert!(head.contains("cache-control: no-store\r\n"), "{head}");
        assert!(
            head.contains("access-control-allow-origin: *\r\n"),
            "{head}"
        );
        let expected: &[u8] = if path.contains("mp4") {
            b"ftyp"
        } else {
            &first[4..]
        };
        assert_eq!(&first[4..], expected, "{path}");
    }
    assert_eq!(status(&house.get("/live/card.mp4?only=smell").await), "400");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_are_sent_the_same_bytes() {
    const BYTES: usize = 300_000;
    let house = House::new().await;
    house.show_card("card").await;
    let (mut first, _) = house.open("/live/card.mp4").await;
    let (mut second, _) = house.open("/live/card.mp4").await;

    let mut bodies = [vec![0; BYTES], vec![0; BYTES]];
    for (stream, body) in [&mut first, &mut second].into_iter().zip(&mut bodies) {
        tokio::time::timeout(PATIENCE, stream.read_exact(body))
            .await
            .unwrap()
            .unwrap();
    }

    // The second begins with a later group, perhaps: it is found in the first's, behind the same head.
    let [first, second] = bodies;
    let head = first.windows(4).position(|kind| kind == b"prft").unwrap() - 4;
    assert_eq!(first[..head], second[..head]);
    let part = &second[head..head + 60_000];
    assert!(first.windows(part.len()).any(|window| window == part));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_nobody_offers_is_404_and_says_where_to_look() {
    let house = House::new().await;

    let answer = house.get("/live/nobody.ts").await;

    assert_eq!(status(&answer), "404", "{answer}");
    assert!(answer.contains("listed at /live/"), "{answer}");
    assert!(house.rows().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn motion_jpeg_comes_image_by_image() {
    let house = House::new().await;
    house
        .show_images("door", b"\xFF\xD8 a picture \xFF\xD9")
        .await;

    let (mut stream, head) = house.open("/live/door.mjpeg").await;
    let part = b"--levada-frame\r\nContent-Type: image/jpeg\r\nContent-Length: 15\r\n\r\n\
                \xFF\xD8 a picture \xFF\xD9\r\n";
    let mut body = vec![0; part.len() * 3];
    within(stream.read_exact(&mut body)).await.unwrap();

    assert!(
        head.contains("multipart/x-mixed-replace; boundary=levada-frame"),
        "{head}"
    );
    assert_eq!(body, part.repeat(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_form_cannot_carry_is_said_with_another_way() {
    let house = House::new().await;
    house.show_images("door", b"\xFF\xD8\xFF\xD9").await;
    house.show_card("card").await;

    let as_mp4 = house.get("/live/door.mp4").await;
    let as_images = house.get("/live/card.mjpeg").await;

    assert_eq!(status(&as_mp4), "406", "{as_mp4}");
    assert!(
        as_mp4.contains("mjpeg") && as_mp4.contains("/live/door.ts"),
        "{as_mp4}"
    );
    assert_eq!(status(&as_images), "406", "{as_images}");
    assert!(
        as_images.contains("h264") && as_images.contains("/live/card.ts"),
        "{as_images}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_kicked_is_cut_off() {
    let house = House::new().await;
    house.show_card("card").await;
    let (mut stream, _) = house.open("/live/card.ts").await;
    within(stream.read_u8()).await.unwrap();

    let session = until("a session", || house.rows().pop()).await;
    assert!(house.server.registry().kick(session.id));

    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest))
        .await
        .unwrap();
    assert_eq!(house.ended().await.ended, Some(EndReason::Kicked));
}
