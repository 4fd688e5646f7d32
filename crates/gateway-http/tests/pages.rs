//! What a browser gets that is no stream: pages, the list, their files, and the headers of all.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;

use axum::Router;
use axum::extract::Extension;
use axum::routing::get;
use base64ct::{Base64, Encoding as _};
use common::{House, status, until};
use levada_gateway::Users;
use levada_gateway::users::Token;
use levada_gateway_http::serve::Peer;

#[tokio::test(flavor = "multi_thread")]
async fn the_list_has_what_is_on_as_a_page_and_as_json() {
    let house = House::new().await;
    house.show_card("lobby/card").await;
    house.show_card("films/clip.mp4").await;
    let mut listed = String::new();
    while !(listed.contains("lobby/card") && listed.contains("clip.mp4")) {
        listed = house.get("/live/?json").await;
    }

    let page = house.get("/live/").await;

    assert!(
        listed.contains("\"page\":\"/live/films/clip.mp4/\""),
        "{listed}"
    );
    assert!(listed.contains("\"tracks\":[\"h264\",\"aac\"]"), "{listed}");
    assert!(listed.contains("\"more\":0"), "{listed}");
    assert!(
        page.contains("<a href=\"/live/lobby/card\">lobby/card</a>"),
        "{page}"
    );
    assert!(page.contains("this node"), "{page}");
    assert!(
        page.contains("content-security-policy: default-src 'none'"),
        "{page}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_leads_to_the_list() {
    let house = House::new().await;

    for path in ["/", "/live"] {
        let answer = house.get(path).await;
        assert_eq!(status(&answer), "307", "{answer}");
        assert!(answer.contains("location: /live/\r\n"), "{answer}");
    }
    let nothing = house.get("/nothing").await;
    assert_eq!(status(&nothing), "404");
    assert!(nothing.contains("listed at /live/"), "{nothing}");
    assert_eq!(status(&house.ask("POST", "/live/cam", "").await), "405");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_has_all_it_needs_from_the_node() {
    let house = House::with(|builder| builder.rtsp_port(Some(8_554))).await;

    let page = house.get("/live/cam").await;

    assert_eq!(status(&page), "200");
    assert!(page.contains("data-rtsp=\"8554\""), "{page}");
    let mut files = 0;
    for (at, _) in page.match_indices("/assets/") {
        let end = page[at..].find('"').unwrap();
        let file = house.get(&page[at..at + end]).await;
        assert_eq!(status(&file), "200", "{file}");
        assert!(file.contains("x-content-type-options: nosniff"), "{file}");
        files += 1;
    }
    assert_eq!(files, 2, "{page}");
    assert_eq!(status(&house.get("/assets/other.js").await), "404");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_did_not_change_is_not_sent_again() {
    let house = House::new().await;
    let file = house.get("/assets/player.js").await;
    let tag = file
        .split("etag: ")
        .nth(1)
        .unwrap()
        .split("\r\n")
        .next()
        .unwrap();

    let again = house
        .ask(
            "GET",
            "/assets/player.js",
            &format!("If-None-Match: {tag}\r\n"),
        )
        .await;
    let other = house
        .ask("GET", "/assets/player.js", "If-None-Match: \"other\"\r\n")
        .await;

    assert_eq!(status(&again), "304");
    assert!(again.ends_with("\r\n\r\n"), "{again}");
    assert_eq!(status(&other), "200");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_may_play() {
    let house = House::new().await;

    let lines = "Origin: null\r\nAccess-Control-Request-Headers: authorization\r\n";
    let answer = house.ask("OPTIONS", "/live/cam.mp4", lines).await;

    assert_eq!(status(&answer), "204", "{answer}");
    assert!(
        answer.contains("access-control-allow-origin: *"),
        "{answer}"
    );
    assert!(
        answer.contains("access-control-allow-headers: Authorization, Range"),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_opens_a_player_at_the_name_that_the_node_was_reached_by() {
    let house = House::new().await;

    let answer = house.ask("GET", "/live/lobby/cam.m3u?token=abc", "").await;
    let strange = house
        .say(b"GET /live/cam.m3u HTTP/1.1\r\nHost: a\"b/c\r\nConnection: close\r\n\r\n")
        .await;

    assert!(answer.contains("content-type: audio/x-mpegurl"), "{answer}");
    assert!(answer.contains("filename=\"lobby-cam.m3u\""), "{answer}");
    assert!(
        answer
            .ends_with("#EXTM3U\n#EXTINF:-1,lobby/cam\nhttp://node/live/lobby/cam.ts?token=abc\n"),
        "{answer}"
    );
    assert_eq!(status(&strange), "400", "{strange}");
}

#[tokio::test(flavor = "multi_thread")]
async fn head_says_what_a_stream_is_and_plays_nothing() {
    let house = House::new().await;
    house.show_card("card").await;

    let answer = house.ask("HEAD", "/live/card.ts", "").await;

    assert_eq!(status(&answer), "200", "{answer}");
    assert!(answer.contains("content-type: video/mp2t"), "{answer}");
    assert!(answer.contains("accept-ranges: none"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(house.rows().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_are_users_nothing_is_said_to_strangers() {
    let rights = vec!["play lobby/".parse().unwrap()];
    let (token, secret) = Token::new("wall", rights).unwrap();
    let users = Users::new(vec![], vec![token]).unwrap();
    let house = House::with(|builder| builder.users(users)).await;
    house.show_card("lobby/card").await;
    house.show_card("vault").await;

    for path in [
        "/live/lobby/card.ts",
        "/live/lobby/card",
        "/live/nobody.ts",
        "/live/nobody.m3u",
    ] {
        let answer = house.get(path).await;
        assert_eq!(status(&answer), "401", "{answer}");
        assert!(
            answer.contains("www-authenticate: Basic realm=\"levada\""),
            "{answer}"
        );
    }
    for path in ["/live/", "/live/?json", "/live/?token=wrong"] {
        let answer = house.get(path).await;
        assert_eq!(status(&answer), "401", "a browser asks its user: {answer}");
        assert!(!answer.contains("card"), "{answer}");
    }
    house.learns_as("lobby/card", &secret).await;
    for path in ["/live/?token=", "/live/?json&token="] {
        let list = house.get(&format!("{path}{secret}")).await;
        let link = format!("/live/lobby/card?token={secret}");
        assert!(list.contains(&link), "links have the token: {list}");
        assert!(!list.contains("vault"), "what it may not play: {list}");
    }
    let basic = Base64::encode_string(format!("x:{secret}").as_bytes());
    let by_header = format!("Authorization: Basic {basic}\r\n");
    let list = house.ask("GET", "/live/", &by_header).await;
    assert!(list.contains("href=\"/live/lobby/card\""), "{list}");
    assert_eq!(
        status(&house.get("/live/lobby/card.ts?token=wrong").await),
        "401"
    );
    assert_eq!(
        status(&house.get(&format!("/live/vault.ts?token={secret}")).await),
        "403"
    );
    let (_stream, head) = house
        .open(&format!("/live/lobby/card.ts?token={secret}"))
        .await;
    assert_eq!(status(&head), "200");
    let row = until("a session", || house.rows().pop()).await;
    assert_eq!(row.user.as_deref(), Some("wall"));
}

async fn who(Extension(peer): Extension<Peer>) -> String {
    peer.remote().ip().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn others_have_pages_on_the_same_port() {
    let others = Router::new().route("/api/who", get(who));
    let house = House::with(|builder| builder.merge(others)).await;

    let answer = house.get("/api/who").await;

    assert!(answer.ends_with("\r\n\r\n127.0.0.1"), "{answer}");
    let shared = "access-control-allow-origin";
    assert!(
        !answer.contains(shared),
        "other sites may read it: {answer}"
    );
    assert!(house.get("/clock").await.contains(shared));
    assert_eq!(status(&house.get("/api/nothing").await), "404");
    assert_eq!(status(&house.get("/live/cam").await), "200");
}
