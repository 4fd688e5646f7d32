//! RTSP by TLS, as real players speak it.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod common;

use common::{House, errors, left, run};
use levada_gateway::{Tls, Transport};

/// A server with a certificate of its own, and the test card as `card`.
async fn house() -> House {
    let dir = tempfile::tempdir().unwrap();
    let tls = Tls::own(dir.path(), vec!["localhost".to_owned()]).unwrap();
    let mut house = House::new().await;
    let listening = house.server.listen_secure(([127, 0, 0, 1], 0).into(), tls);
    listening.await.unwrap();
    house.show_card("card").await;
    house
}

/// Decodes two seconds; what ffmpeg complains about.
async fn play(url: &str) -> (bool, String) {
    let arguments = "-hide_banner -nostdin -loglevel warning -rtsp_transport tcp -i";
    let mut arguments: Vec<_> = arguments.split_whitespace().collect();
    arguments.extend([url, "-t", "2", "-f", "null", "-"]);
    let output = run("ffmpeg", &arguments).await;
    (output.status.success(), errors(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_plays_by_tls_and_by_nothing_else_at_that_port() {
    let house = house().await;
    let secure = house.server.secure_addr().unwrap();

    let (plays, complaints) = play(&format!("rtsps://{secure}/card")).await;

    assert!(plays, "{complaints}");
    assert_eq!(complaints, "");
    let row = house.ended().await;
    assert!(left(&row), "{row:?}");
    assert_eq!(row.transport, Transport::Tcp);
    assert!(row.bytes > 10_000, "{row:?}");
    let plain_at_secure = play(&format!("rtsp://{secure}/card")).await;
    let secure_at_plain = play(&format!("rtsps://{}/card", house.server.local_addr())).await;
    assert!(!plain_at_secure.0 && !secure_at_plain.0);
}
