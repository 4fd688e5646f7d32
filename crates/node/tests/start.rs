//! How a node starts, and what it says when it cannot.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use kit::*;
use levada::{Node, StartError};

#[tokio::test]
async fn a_locked_state_directory_is_named_with_its_holder() {
    let state = tempfile::tempdir().unwrap();
    let _holder = start(node("first").state(state.path())).await;

    let error = node("second")
        .state(state.path())
        .start()
        .await
        .unwrap_err();

    let text = error.to_string();
    assert!(matches!(error, StartError::State(_)), "{text}");
    assert!(text.contains(&state.path().display().to_string()), "{text}");
    assert!(
        text.contains(&format!("process {}", std::process::id())),
        "{text}"
    );
    assert!(text.contains("--state"), "{text}");
}

#[tokio::test]
async fn a_busy_port_is_named_and_nothing_is_left_behind() {
    let state = tempfile::tempdir().unwrap();
    let first = start(node("first")).await;
    let busy = node("second")
        .state(state.path())
        .listen(first.local_addr());

    let error = busy.start().await.unwrap_err();

    let text = error.to_string();
    assert!(matches!(error, StartError::PortInUse { .. }), "{text}");
    assert!(
        text.contains(&first.local_addr().port().to_string()),
        "{text}"
    );
    assert!(text.contains("listen on another"), "{text}");
    start(node("second").state(state.path())).await;
}

#[tokio::test]
async fn an_address_this_machine_does_not_have_is_named() {
    let foreign = ([192, 0, 2, 1], 0).into();

    let error = node("lost").listen(foreign).start().await.unwrap_err();

    let text = error.to_string();
    assert!(matches!(error, StartError::Listen { .. }), "{text}");
    assert!(text.contains("192.0.2.1"), "{text}");
}

#[tokio::test]
async fn a_malformed_neighbour_is_refused_before_anything_is_taken() {
    let state = tempfile::tempdir().unwrap();
    let place = state.path().join("never");

    let error = node("lost")
        .state(&place)
        .join("a b")
        .start()
        .await
        .unwrap_err();

    assert!(matches!(error, StartError::Address(_)), "{error}");
    assert!(error.to_string().contains("HOST[:PORT]"), "{error}");
    assert!(!place.exists());
}

#[tokio::test]
async fn a_name_beyond_its_limit_is_refused() {
    let error = node(&"x".repeat(65)).start().await.unwrap_err();

    assert!(
        error.to_string().contains("65 bytes and may have 64"),
        "{error}"
    );
}

#[tokio::test]
async fn a_state_directory_that_is_a_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();

    let error = node("lost").state(&file).start().await.unwrap_err();

    assert!(
        error.to_string().contains(&file.display().to_string()),
        "{error}"
    );
}

#[tokio::test]
async fn a_node_keeps_its_id_over_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let first = start(node("same").state(state.path())).await;
    let id = first.id();
    within("the node to leave", first.leave()).await;

    let second = start(node("same").state(state.path())).await;

    assert_eq!(second.id(), id);
    assert_eq!(second.state_dir(), state.path());
}

#[tokio::test]
async fn a_node_that_nobody_holds_ends_and_frees_its_directory() {
    let state = tempfile::tempdir().unwrap();
    let node_ = start(node("short").state(state.path())).await;
    let mut events = node_.events();

    drop(node_);
    within("the node to end", async {
        while events.next().await.is_some() {}
    })
    .await;

    assert_eq!(events.next().await, None);
    start(node("short").state(state.path())).await;
}

#[tokio::test]
async fn a_temporary_state_directory_goes_with_its_node() {
    let short = start(node("short")).await;
    let place = short.state_dir().to_owned();
    assert!(place.join("node.key").exists());

    within("the node to leave", short.leave()).await;

    assert!(!place.exists());
}

#[tokio::test]
async fn both_ip_versions_reach_a_node_that_listens_on_all_addresses() {
    let all = start(node("all").listen("[::]:0".parse().unwrap())).await;
    let port = all.local_addr().port();
    let mut events = all.events();

    let by_v4 = start(node("v4").join(format!("127.0.0.1:{port}"))).await;
    link_up(&mut events, &by_v4).await;
    let by_v6 = node("v6").listen("[::1]:0".parse().unwrap());
    let by_v6 = start(by_v6.join(format!("[::1]:{port}"))).await;
    link_up(&mut events, &by_v6).await;

    let view = within("a view", all.view()).await.unwrap();
    let links = view.links.iter();
    let mut remotes: Vec<_> = links.map(|link| link.control.remote.to_string()).collect();
    remotes.sort_unstable();
    assert!(
        remotes[0].starts_with("127.0.0.1:"),
        "IPv4 is shown as IPv4: {remotes:?}"
    );
    assert!(remotes[1].starts_with("[::1]:"), "{remotes:?}");
}

#[tokio::test]
async fn the_builder_alone_starts_nothing() {
    let state = tempfile::tempdir().unwrap();
    let place = state.path().join("never");

    drop(Node::builder().state(&place));

    assert!(!place.exists());
}

#[tokio::test]
async fn a_number_of_lanes_that_no_node_has_does_not_start() {
    for count in [0, levada::LANES_MAX + 1] {
        let builder = Node::builder()
            .temporary_state()
            .listen(([127, 0, 0, 1], 0).into())
            .lanes(count);

        let error = builder.start().await.unwrap_err();

        assert!(error.to_string().contains("1 to 8 are possible"), "{error}");
    }
}
