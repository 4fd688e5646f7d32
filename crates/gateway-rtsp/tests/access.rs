//! Who is let in and who is not, as real programs see it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;

use std::time::{Duration, Instant};

use common::{House, errors, run};
use levada_gateway::users::{Right, Token, User};
use levada_gateway::{Limits, Role, Users};

fn rights() -> Vec<Right> {
    let prefix = "lobby/".to_owned();
    vec![Right {
        role: Role::Play,
        prefix,
    }]
}

/// A server with one user, `anna` with `pa:ss`, and one token, whose secret comes with it.
async fn house(digest: bool) -> (House, String) {
    let user = User::new("anna", "pa:ss", digest, rights()).unwrap();
    let (token, secret) = Token::new("wall", rights()).unwrap();
    let users = Users::new(vec![user], vec![token]).unwrap();
    let house = House::with(|builder| builder.users(users)).await;
    house.show_card("lobby/card").await;
    (house, secret)
}

fn with_user(house: &House, user: &str, name: &str) -> String {
    house
        .url(name)
        .replace("rtsp://", &format!("rtsp://{user}@"))
}

/// Whether ffprobe finds pictures there, and what it complains about.
async fn probe(url: &str) -> (bool, String) {
    let arguments = [
        "-hide_banner",
        "-loglevel",
        "error",
        "-rtsp_transport",
        "tcp",
        "-show_entries",
        "stream=codec_name",
        "-of",
        "csv=p=0",
        url,
    ];
    let output = run("ffprobe", &arguments).await;
    let found = String::from_utf8_lossy(&output.stdout).contains("h264");
    (found, errors(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_proven_by_basic_and_by_digest() {
    for digest in [false, true] {
        let (house, _) = house(digest).await;

        let (found, complaints) = probe(&with_user(&house, "anna:pa%3Ass", "lobby/card")).await;

        assert!(found, "digest {digest}: {complaints}");
        let row = house.ended().await;
        assert_eq!(row.user.as_deref(), Some("anna"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_none_are_401() {
    for digest in [false, true] {
        let (house, _) = house(digest).await;

        for user in ["anna:wrong", "berta:pa%3Ass"] {
            let (found, complaints) = probe(&with_user(&house, user, "lobby/card")).await;
            assert!(!found);
            assert!(complaints.contains("401"), "{complaints}");
        }
        let (found, complaints) = probe(&house.url("lobby/card")).await;

        assert!(!found);
        assert!(complaints.contains("401"), "{complaints}");
        assert_eq!(house.rows(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_play_a_stream_gets_403_and_not_whether_it_exists() {
    let (house, _) = house(true).await;
    house.show_card("office/card").await;

    for name in ["office/card", "office/nothing"] {
        let (found, complaints) = probe(&with_user(&house, "anna:pa%3Ass", name)).await;
        assert!(!found);
        assert!(complaints.contains("403"), "{complaints}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_the_url_lets_in() {
    let (house, secret) = house(true).await;

    let (found, complaints) = probe(&house.url(&format!("lobby/card?token={secret}"))).await;

    assert!(found, "{complaints}");
    assert_eq!(house.ended().await.user.as_deref(), Some("wall"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_there_is_404_in_time() {
    let house = House::new().await;
    let asked = Instant::now();

    let (found, complaints) = probe(&house.url("nobody")).await;

    assert!(!found);
    assert!(complaints.contains("404"), "{complaints}");
    assert!(
        asked.elapsed() < Duration::from_secs(4),
        "{:?}",
        asked.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn more_clients_than_the_limit_are_turned_away() {
    let limits = Limits::default().with_clients(0);
    let house = House::with(|builder| builder.limits(limits)).await;
    house.show_card("card").await;

    let (found, complaints) = probe(&house.url("card")).await;

    assert!(!found);
    assert!(!complaints.is_empty());
}
