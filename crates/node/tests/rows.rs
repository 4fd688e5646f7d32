//! The rows of a running node: complete, however many; the same through the local socket; read back as they were.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::collections::BTreeSet;

use kit::*;
use levada::admin::Client;
use levada::view::{
    CounterRow, FlowRow, FlowState, LinkRow, LinkState, NodeRole, NodeRow, Row, StreamRow, VERSION,
};
use levada::{Node, View};
use levada_core::limits::ROWS_AT_ONCE;

async fn rows<R: Row>(node: &Node) -> Vec<R> {
    within("rows", node.rows::<R>()).await.unwrap()
}

#[tokio::test]
async fn rows_of_more_than_two_slices_are_all_there_once_and_in_order() {
    let node = start(node("hall").admin(true)).await;
    let names: Vec<String> = (0..=2 * ROWS_AT_ONCE)
        .map(|at| format!("cam-{at:03}"))
        .collect();
    let mut publishers = Vec::new();
    for name in &names {
        publishers.push(publish(&node, name).await);
    }

    let streams = rows::<StreamRow>(&node).await;
    let mut flows = rows::<FlowRow>(&node).await;
    let client = within("the socket", Client::connect(node.state_dir()))
        .await
        .unwrap();
    let through_socket = within("rows", client.rows::<StreamRow>()).await.unwrap();

    let shown: Vec<_> = streams.iter().map(|row| row.name.to_string()).collect();
    assert_eq!(shown, names);
    assert!(flows.is_sorted_by_key(|row| row.control.flow));
    flows.sort_by_key(|row| row.control.name.clone());
    let of_flows: Vec<_> = flows
        .iter()
        .map(|row| row.control.name.to_string())
        .collect();
    assert_eq!(of_flows, names);
    assert_eq!(
        (through_socket.version, through_socket.rows),
        (VERSION, streams)
    );
}

#[tokio::test]
async fn each_row_of_a_network_that_streams_is_read_back_from_its_json() {
    let relay = start(node("relay")).await;
    let origin = start_linked(node("origin"), &relay).await;
    let consumer = start_linked(node("consumer").join("no-such-host.invalid"), &relay).await;
    let mut publisher = publish(&origin, "cam").await;
    let mut subscriber = subscribe(&consumer, "cam").await;
    push(&mut publisher, 0..20).await;
    expect(&mut subscriber, 0..20).await;

    for node in [&origin, &relay, &consumer] {
        let view = within("a view", node.view()).await.unwrap();
        let json = serde_json::to_string(&view).unwrap();
        assert_eq!(serde_json::from_str::<View>(&json).unwrap(), view, "{json}");
        for row in rows::<NodeRow>(node).await {
            let json = serde_json::to_string(&row).unwrap();
            assert_eq!(
                serde_json::from_str::<NodeRow>(&json).unwrap(),
                row,
                "{json}"
            );
        }
    }

    let flow = rows::<FlowRow>(&relay).await.remove(0);
    assert_eq!(flow.control.state, FlowState::Streaming);
    assert!(flow.counters.packets_in >= 20, "{flow:?}");
    let links = rows::<LinkRow>(&relay).await;
    assert_eq!(links.len(), 2);
    for link in &links {
        assert_eq!(link.control.state, LinkState::Up);
        assert!(link.counters.datagrams_in > 0, "{link:?}");
    }
    let admitted: u64 = links.iter().map(|link| link.control.admitted_bps.0).sum();
    assert_eq!(
        admitted, flow.control.peak_bps.0,
        "to the one that consumes"
    );
    let roles: Vec<_> = rows::<NodeRow>(&consumer)
        .await
        .into_iter()
        .map(|row| row.role)
        .collect();
    assert_eq!(
        roles,
        [NodeRole::This, NodeRole::Neighbour, NodeRole::Origin]
    );
    assert!(
        rows::<CounterRow>(&relay)
            .await
            .iter()
            .any(|row| row.value > 0)
    );
}

#[tokio::test]
async fn each_counter_has_a_name_of_its_own_a_unit_and_a_meaning() {
    let node = start(node("alone")).await;

    let rows = rows::<CounterRow>(&node).await;

    let names: BTreeSet<_> = rows
        .iter()
        .map(|row| (row.name.clone(), row.reason.clone()))
        .collect();
    assert_eq!(names.len(), rows.len());
    for row in &rows {
        assert!(!row.unit.is_empty() && row.help.ends_with('.'), "{row:?}");
        assert!(!row.help.contains(['[', '`']), "{row:?}");
    }
}
