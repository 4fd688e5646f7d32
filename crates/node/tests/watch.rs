//! The watch of streams over real nodes: what a gateway knows of streams without asking again.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::collections::BTreeSet;
use std::sync::Arc;

use kit::*;
use levada::view::{Demand, FlowState, StreamRow};
use levada::{Node, StreamChange, Streams};
use levada_core::limits::ROWS_AT_ONCE;

async fn watch(node: &Node) -> Streams {
    within("a watch", node.streams()).await.unwrap()
}

async fn change(watch: &mut Streams) -> StreamChange {
    within("a change of streams", watch.next()).await.unwrap()
}

/// The next row that is what is wanted.
async fn row(watch: &mut Streams, wanted: impl Fn(&StreamRow) -> bool) -> Arc<StreamRow> {
    loop {
        if let StreamChange::Known(row) = change(watch).await
            && wanted(&row)
        {
            return row;
        }
    }
}

fn demand(subscriptions: usize, children: usize) -> Demand {
    Demand {
        subscriptions,
        children,
    }
}

#[tokio::test]
async fn a_watch_follows_a_stream_from_its_announce_to_its_end() {
    let relay = start(node("relay")).await;
    let origin = start_linked(node("origin"), &relay).await;
    let consumer = start_linked(node("consumer"), &relay).await;
    let (mut at_relay, mut at_origin) = (watch(&relay).await, watch(&origin).await);

    let publisher = publish(&origin, "cam").await;
    let news = row(&mut at_relay, |_| true).await;
    let here = row(&mut at_origin, |_| true).await;
    let subscriber = subscribe(&consumer, "cam").await;
    let streaming = row(&mut at_relay, |row| row.state == FlowState::Streaming).await;
    let wanted = row(&mut at_origin, |row| row.demand.is_any()).await;
    drop(subscriber);
    let unwanted = row(&mut at_origin, |row| !row.demand.is_any()).await;
    let hold = row(&mut at_relay, |row| row.state == FlowState::Hold).await;
    within("the end", publisher.finish()).await.unwrap();

    assert_eq!((news.name.as_str(), news.origin), ("cam", origin.id()));
    assert_eq!((news.state, news.demand), (FlowState::Hold, demand(0, 0)));
    assert_eq!(news.tracks[0].codec, "h264");
    assert!(here.is_local && !news.is_local);
    assert_eq!(streaming.demand, demand(0, 1));
    assert_eq!(
        (wanted.state, wanted.demand),
        (FlowState::Streaming, demand(0, 1))
    );
    assert_eq!(
        (unwanted.state, hold.demand),
        (FlowState::Hold, demand(0, 0))
    );
    for watch in [&mut at_relay, &mut at_origin] {
        let gone = loop {
            match change(watch).await {
                StreamChange::Known(_) => {}
                gone => break gone,
            }
        };
        let (name, origin) = (stream("cam"), origin.id());
        assert_eq!(gone, StreamChange::Gone { name, origin });
    }
}

#[tokio::test]
async fn demand_counts_each_subscriber_though_all_share_one_subscription() {
    let node = start(node("alone")).await;
    let mut watch = watch(&node).await;
    let mut publisher = publish(&node, "cam").await;
    row(&mut watch, |row| row.demand == demand(0, 0)).await;

    let first = subscribe(&node, "cam").await;
    let active = row(&mut watch, |row| row.state == FlowState::Active).await;
    let second = subscribe(&node, "cam").await;
    row(&mut watch, |row| row.demand == demand(2, 0)).await;
    push(&mut publisher, 0..20).await;
    drop(first);
    row(&mut watch, |row| row.demand == demand(1, 0)).await;
    drop(second);
    let hold = row(&mut watch, |row| row.state == FlowState::Hold).await;

    assert_eq!(active.demand, demand(1, 0));
    assert_eq!(hold.demand, demand(0, 0));
}

#[tokio::test]
async fn a_watch_that_comes_late_hears_of_all_streams_in_slices_and_of_those_that_come_meanwhile() {
    let node = start(node("hall")).await;
    let mut publishers = Vec::new();
    let count = 2 * ROWS_AT_ONCE + 1;
    for at in 0..count {
        publishers.push(publish(&node, &format!("cam-{at}")).await);
    }

    let mut late = watch(&node).await;
    publishers.push(publish(&node, "last").await);
    let mut names = BTreeSet::new();
    while names.len() <= count {
        names.insert(row(&mut late, |_| true).await.name.clone());
    }

    assert!(names.contains(&stream("last")) && names.contains(&stream("cam-0")));
    drop(late);
    let mut again = watch(&node).await;
    let mut names = BTreeSet::new();
    while names.len() <= count {
        names.insert(row(&mut again, |_| true).await.name.clone());
    }
}

#[tokio::test]
async fn a_watch_ends_with_its_node_and_does_not_keep_it() {
    let node = start(node("short")).await;
    let mut left = watch(&node).await;
    let mut dropped = watch(&node).await;

    within("the node to leave", node.leave()).await;

    assert_eq!(within("the end", left.next()).await, None);
    assert_eq!(within("the end", dropped.next()).await, None);

    let node = start(kit::node("shorter")).await;
    let mut dropped = watch(&node).await;
    drop(node);
    assert_eq!(within("the end", dropped.next()).await, None);
}

#[allow(dead_code, reason = "a watch is a stream, which the compiler proves")]
fn a_watch_is_a_stream(watch: Streams) -> impl futures_core::Stream<Item = StreamChange> {
    watch
}
