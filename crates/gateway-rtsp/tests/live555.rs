//! live555, with which VLC plays RTSP elsewhere: built from its source (`live555/build.sh`), for Debian's VLC has none.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{House, errors, left, run};
use levada_gateway::users::User;
use levada_gateway::{Role, Transport, Users};

/// The player, built if it is not there yet, which takes a minute.
fn player() -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("live555-player");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live555/build.sh");
    let built = Command::new("sh")
        .arg(script)
        .arg(&program)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "live555 cannot be built: {said}");
    program
}

/// Plays for three seconds: what came of each track, by medium, and what it complains about.
async fn play(url: &str, transport: &str, user: &[&str]) -> (Vec<String>, String) {
    let player = player();
    let arguments = [&[url, transport, "3"], user].concat();
    let output = run(player.to_str().unwrap(), &arguments).await;
    let lines = String::from_utf8_lossy(&output.stdout);
    (lines.lines().map(str::to_owned).collect(), errors(&output))
}

/// A number that the player says of a track.
fn number(line: &str, key: &str) -> u64 {
    let mut words = line.split_whitespace();
    let word = words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    word.unwrap_or_else(|| panic!("{key} in {line}"))
        .parse()
        .unwrap()
}

/// Both tracks of the test card came, whole and in step.
fn assert_plays((lines, complaints): &(Vec<String>, String)) {
    let [video, audio, end] = &lines[..] else {
        panic!("{lines:?} {complaints}");
    };
    assert!(
        video.starts_with("video H264") && audio.starts_with("audio MPEG4-GENERIC"),
        "{lines:?}"
    );
    for track in [video, audio] {
        assert!(number(track, "frames") >= 75, "{lines:?}");
        assert_eq!(
            (number(track, "cut"), number(track, "synchronised")),
            (0, 1),
            "{lines:?}"
        );
    }
    assert_eq!(end, "ended=time");
}

#[tokio::test(flavor = "multi_thread")]
async fn live555_plays_by_tcp_and_by_udp_and_says_goodbye() {
    for (transport, way) in [("tcp", Transport::Tcp), ("udp", Transport::Udp)] {
        let house = House::new().await;
        house.show_card("lobby/card").await;

        let played = play(&house.url("lobby/card"), transport, &[]).await;

        assert_plays(&played);
        let row = house.ended().await;
        assert!(left(&row), "{row:?}");
        assert_eq!((row.role, row.transport), (Role::Play, way));
        assert!(row.agent.contains("live555"), "{row:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn live555_plays_what_a_server_has_that_its_url_names() {
    let server = House::new().await;
    server.show_card("film").await;
    let house = House::new().await;
    let url = house.url(&format!("film?{}", server.server.local_addr()));

    for transport in ["tcp", "udp"] {
        assert_plays(&play(&url, transport, &[]).await);
    }

    assert_eq!(server.rows().len(), 1, "one connection for both");
}

#[tokio::test(flavor = "multi_thread")]
async fn live555_proves_a_password_by_digest_and_is_refused_with_a_wrong_one_and_a_wrong_stream() {
    let user = User::new("anna", "p", true, vec!["play".parse().unwrap()]).unwrap();
    let users = Users::new(vec![user], vec![]).unwrap();
    let house = House::with(|builder| builder.users(users)).await;
    house.show_card("lobby/card").await;
    let url = house.url("lobby/card");

    assert_plays(&play(&url, "tcp", &["anna", "p"]).await);
    for (url, user, status) in [
        (url.clone(), &["anna", "x"][..], "401"),
        (url, &[], "401"),
        (house.url("nobody"), &["anna", "p"], "404"),
    ] {
        let (lines, complaints) = play(&url, "tcp", user).await;
        assert!(
            lines.is_empty() && complaints.contains(status),
            "{lines:?} {complaints}"
        );
    }
}
