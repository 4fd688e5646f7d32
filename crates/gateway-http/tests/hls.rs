//! HLS by real players, and by requests that go to another node each time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;

use common::{House, errors, run, status, until};
use levada::Node;
use levada_gateway::{EndReason, Registry};
use levada_gateway_http::Server;

/// The lines of a playlist that are no tags.
fn addresses(playlist: &str) -> Vec<String> {
    let body = playlist.split("\r\n\r\n").nth(1).unwrap_or_default();
    let lines = body
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(str::to_owned).collect()
}

/// The playlist of a stream, once it has so many segments.
async fn media(house: &House, name: &str, segments: usize) -> String {
    loop {
        let playlist = house.get(&format!("/live/{name}/media.m3u8")).await;
        assert_eq!(status(&playlist), "200", "{playlist}");
        if addresses(&playlist).len() >= segments {
            return playlist;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_plays_hls_without_a_complaint() {
    let house = House::new().await;
    house.show_card("lobby/card").await;
    house.learns("lobby/card").await;
    let url = house.url("/live/lobby/card/index.m3u8");

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
            &url,
            "-t",
            "6",
            "-f",
            "null",
            "-",
        ],
    )
    .await;

    assert!(output.status.success(), "{}", errors(&output));
    // ffmpeg reads the init segment again whenever it has read a playlist again, and wonders.
    let complaints = errors(&output);
    let is_news =
        |line: &&str| !line.contains("duplicated MOOV") && !line.contains("Last message repeated");
    assert_eq!(complaints.lines().find(is_news), None);
    let progress = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut frames = progress
        .lines()
        .filter_map(|line| line.strip_prefix("frame="));
    let frames: u64 = frames.next_back().unwrap().trim().parse().unwrap();
    assert!((170..=190).contains(&frames), "{frames}");
    let row = house.rows().pop().unwrap();
    assert_eq!(
        (row.protocol.as_str(), row.stream.as_str()),
        ("hls", "lobby/card")
    );
    assert!(row.bytes > 100_000, "{row:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_names_are_equal_bytes_on_nodes_that_came_at_different_times() {
    let house = House::new().await;
    house.show_card("card").await;
    house.learns("card").await;
    media(&house, "card", 3).await;
    let builder = Node::builder().temporary_state().lanes(1);
    let builder = builder.listen(([127, 0, 0, 1], 0).into());
    let far = builder.join(house.node.local_addr().to_string());
    let far = far.start().await.unwrap();
    let server = Server::builder(far.clone()).start(([127, 0, 0, 1], 0).into());
    let far = House {
        node: far,
        server: server.await.unwrap(),
    };
    far.learns("card").await;

    let late = addresses(&media(&far, "card", 3).await);
    let early = media(&house, "card", 4).await;

    let mut same = 0;
    for name in late {
        let path = format!("/live/card/{name}");
        let here = house.bytes(&path).await;
        let there = far.bytes(&path).await;
        if early.contains(&name) {
            assert!(here.len() > 1_000, "{name}");
            assert!(here == there, "{name} is not the same");
            same += 1;
        }
    }
    assert!(same >= 2, "{same} segments were at both");
    let init = |playlist: &str| {
        playlist
            .split("MAP:URI=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
            .to_owned()
    };
    let far_playlist = media(&far, "card", 1).await;
    assert_eq!(init(&early), init(&far_playlist));
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_are_told_what_they_may_keep() {
    let house = House::new().await;
    house.show_card("card").await;
    house.learns("card").await;
    let playlist = media(&house, "card", 1).await;
    let segment = format!("/live/card/{}", addresses(&playlist)[0]);

    let whole = house.bytes(&segment).await;
    let head = house.ask("HEAD", &segment, "").await;
    let part = house.ask("GET", &segment, "Range: bytes=4-7\r\n").await;
    let beyond = house
        .ask("GET", &segment, "Range: bytes=99999999-\r\n")
        .await;

    assert!(playlist.contains("cache-control: no-cache"), "{playlist}");
    assert!(
        playlist.contains("content-type: application/vnd.apple.mpegurl"),
        "{playlist}"
    );
    assert!(
        head.contains("cache-control: public, max-age=86400, immutable"),
        "{head}"
    );
    assert!(
        head.contains(&format!("content-length: {}", whole.len())),
        "{head}"
    );
    assert_eq!(status(&part), "206");
    assert!(part.ends_with("moof"), "{part}");
    assert!(
        part.contains(&format!("content-range: bytes 4-7/{}", whole.len())),
        "{part}"
    );
    assert_eq!(status(&beyond), "416");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_404_and_what_hls_cannot_carry_406() {
    let house = House::new().await;
    house.show_card("card").await;
    house.show_images("door", b"\xFF\xD8\xFF\xD9").await;
    house.learns("card").await;
    house.learns("door").await;
    let never = "0123456789abcdef0123456789abcdef-12.m4s";

    assert_eq!(status(&house.get("/live/nobody/index.m3u8").await), "404");
    assert_eq!(
        status(&house.get(&format!("/live/card/{never}")).await),
        "404"
    );
    let images = house.get("/live/door/index.m3u8").await;
    assert_eq!(status(&images), "406", "{images}");
    assert!(images.contains("mjpeg"), "{images}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_that_is_kicked_is_told_so() {
    let house = House::new().await;
    house.show_card("card").await;
    house.learns("card").await;
    media(&house, "card", 1).await;
    let registry: &Registry = house.server.registry();
    let id = until("a session", || registry.live().pop()).await.id;

    registry.kick(id);
    let answer = house.get("/live/card/media.m3u8").await;

    assert_eq!(status(&answer), "403", "{answer}");
    assert_eq!(house.rows()[0].ended, Some(EndReason::Kicked));
}

/// The value of a tag.
fn tag(playlist: &str, name: &str) -> u64 {
    let line = playlist.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("{name} in {playlist}"))
        .parse()
        .unwrap()
}

/// When the first sample of a segment is decoded: the first `tfdt`.
fn decoded(segment: &[u8]) -> u64 {
    let at = segment.windows(4).position(|kind| kind == b"tfdt").unwrap();
    u64::from_be_bytes(segment[at + 8..at + 16].try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_origin_numbers_and_times_grow() {
    const NUMBER: &str = "#EXT-X-MEDIA-SEQUENCE:";
    let house = House::new().await;
    let card = house.show_card("card").await;
    house.learns("card").await;
    let before = media(&house, "card", 2).await;
    let old = addresses(&before).pop().unwrap();
    let old_bytes = house.bytes(&format!("/live/card/{old}")).await;

    card.abort();
    // It was cancelled, so its publisher is gone.
    assert!(card.await.unwrap_err().is_cancelled());
    house.show_card("card").await;
    let after = loop {
        let playlist = media(&house, "card", 1).await;
        if !playlist.contains(&old[..32]) {
            break playlist;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };

    assert!(
        tag(&after, NUMBER) > tag(&before, NUMBER) + 1,
        "{before} {after}"
    );
    let new = house
        .bytes(&format!("/live/card/{}", addresses(&after)[0]))
        .await;
    assert!(decoded(&new) > decoded(&old_bytes));
    let still = house.bytes(&format!("/live/card/{old}")).await;
    assert!(
        still == old_bytes,
        "who has the list of before may still ask"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_of_ll_hls_asks_for_a_part_before_it_is_there() {
    let house = House::new().await;
    house.show_card("card").await;
    house.learns("card").await;
    media(&house, "card", 1).await;
    let master = house.get("/live/card/ll.m3u8").await;
    assert_eq!(addresses(&master), ["low.m3u8"]);

    for _ in 0..4 {
        let low = house.get("/live/card/low.m3u8").await;
        let hint = low.split("PRELOAD-HINT:TYPE=PART,URI=\"").nth(1).unwrap();
        let hint = hint.split('"').next().unwrap().to_owned();
        let mut place = hint.split('-').nth(1).unwrap().split('.');
        let (segment, part) = (place.next().unwrap(), place.next().unwrap());
        let query = format!("_HLS_msn={segment}&_HLS_part={part}");

        let asked = format!("/live/card/low.m3u8?{query}");
        let path = format!("/live/card/{hint}");
        let (reloaded, bytes) = tokio::join!(house.get(&asked), house.bytes(&path));

        assert_eq!(status(&reloaded), "200", "{reloaded}");
        assert!(
            reloaded.contains(&format!("URI=\"{hint}\"")),
            "{hint}: {reloaded}"
        );
        assert_eq!(bytes.get(4..8), Some(&b"moof"[..]), "{hint}");
    }
    let far = house.get("/live/card/low.m3u8?_HLS_msn=99999999999").await;
    assert_eq!(status(&far), "400", "{far}");
}
