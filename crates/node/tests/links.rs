//! Links between nodes on real sockets: who is let in, who is not, and what is said about it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use kit::*;
use levada::view::{LinkState, Remote};
use levada::{Event, NodeId};

#[tokio::test]
async fn a_node_other_than_the_expected_one_is_refused_by_name() {
    let relay = start(node("relay")).await;
    let expected = NodeId([7; 32]);
    let address = format!("{expected}@{}", relay.local_addr());

    let picky = start(node("picky").join(address)).await;
    let failed = dial_failed(&mut picky.events()).await;

    assert!(failed.contains(&expected.to_string()), "{failed}");
    assert!(failed.contains(&relay.id().to_string()), "{failed}");
    let view = within("a view", relay.view()).await.unwrap();
    assert!(
        view.links.iter().all(|link| !link.control.state.is_up()),
        "{:?}",
        view.links
    );
}

#[tokio::test]
async fn the_expected_node_is_linked_to() {
    let relay = start(node("relay")).await;
    let mut events = relay.events();
    let address = format!("{}@{}", relay.id(), relay.local_addr());

    let picky = start(node("picky").join(address)).await;

    link_up(&mut events, &picky).await;
}

#[tokio::test]
async fn a_neighbour_that_comes_later_is_linked_to_when_it_comes() {
    let state = tempfile::tempdir().unwrap();
    let first = start(node("relay").state(state.path())).await;
    let address = first.local_addr();
    within("the node to leave", first.leave()).await;
    let early = start(node("early").join(address.to_string())).await;
    let mut events = early.events();

    let relay = start(node("relay").state(state.path()).listen(address)).await;

    link_up(&mut events, &relay).await;
}

#[tokio::test]
async fn a_name_that_is_not_found_is_shown_with_its_cause() {
    let lost = start(node("lost").join("no-such-host.invalid:7800")).await;
    let mut events = lost.events();

    let told = event(&mut events, |event| {
        matches!(event, Event::NotResolved { .. })
    })
    .await;

    let Event::NotResolved { address, .. } = told else {
        unreachable!("just matched");
    };
    assert_eq!(address, "no-such-host.invalid:7800");
    let view = within("a view", lost.view()).await.unwrap();
    let row = view
        .links
        .iter()
        .find(|link| link.control.remote == Remote::Name(address.clone()))
        .unwrap();
    assert_eq!(row.control.state, LinkState::Resolving);
    assert!(row.control.cause.is_some());
}

#[tokio::test]
async fn a_name_that_is_found_is_linked_to() {
    let relay = start(node("relay").listen("[::]:0".parse().unwrap())).await;
    let mut events = relay.events();
    let port = relay.local_addr().port();

    let other = start(
        node("other")
            .listen("[::]:0".parse().unwrap())
            .join(format!("localhost:{port}")),
    )
    .await;

    link_up(&mut events, &other).await;
}

#[tokio::test]
async fn a_client_tries_its_addresses_until_one_answers() {
    let relay = start(node("relay")).await;
    let mut events = relay.events();
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();

    let client = node("client")
        .client(true)
        .join(nobody.local_addr().unwrap().to_string())
        .join(relay.local_addr().to_string());
    let client = start(client).await;

    link_up(&mut events, &client).await;
}

#[tokio::test]
async fn a_client_accepts_nobody() {
    let relay = start(node("relay")).await;
    let client = start_linked(node("client").client(true), &relay).await;

    let intruder = start(node("intruder").join(client.local_addr().to_string())).await;
    let failed = dial_failed(&mut intruder.events()).await;

    assert!(failed.contains("no answer"), "{failed}");
}

#[tokio::test]
async fn a_client_still_passes_streams_over_the_links_it_made() {
    let left = start(node("left")).await;
    let right = start(node("right")).await;
    let mut events = right.events();
    let client = node("client").client(true);
    let middle = start_linked(
        client.join(format!("{}@{}", right.id(), right.local_addr())),
        &left,
    );
    let middle = middle.await;
    link_up(&mut events, &middle).await;
    let mut publisher = publish(&left, "cam").await;

    let mut subscriber = subscribe(&right, "cam").await;
    push(&mut publisher, 0..1).await;

    expect(&mut subscriber, 0..1).await;
}

/// Waits for a dial that failed, and says why.
async fn dial_failed(events: &mut levada::Events) -> String {
    let failed = event(events, |event| matches!(event, Event::DialFailed { .. })).await;
    let Event::DialFailed { reason, .. } = failed else {
        unreachable!("just matched");
    };
    reason
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_node_is_linked_to_and_served_by_whichever_of_its_addresses_was_asked() {
    // All of 127.0.0.0/8 is this host. A system that chooses answers from 127.0.0.1, as from a stranger.
    let relay = start(node("relay").listen("[::]:0".parse().unwrap())).await;
    let mut events = relay.events();
    let port = relay.local_addr().port();
    let mut publisher = publish(&relay, "cam").await;

    let guest = node("guest").join(format!("127.0.0.2:{port}"));
    let guest = start(guest).await;
    link_up(&mut events, &guest).await;
    let mut subscriber = subscribe(&guest, "cam").await;

    push(&mut publisher, 0..5).await;
    expect(&mut subscriber, 0..5).await;
    push(&mut publisher, 5..200).await;

    expect(&mut subscriber, 5..200).await;
}
