//! Streams through nodes on real sockets: what goes in comes out, once, whoever is in between.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use kit::*;
use levada::view::{FlowRow, FlowState};
use levada::{Delivery, Event, GapReason, Node, PublishError, State, SubscribeOptions, Subscriber};

#[tokio::test]
async fn frames_arrive_equal_and_in_order_through_a_relay() {
    let net = Net::start().await;
    let mut publisher = publish(&net.origin, "cam").await;
    let mut subscriber = subscribe(&net.consumer, "cam").await;

    push(&mut publisher, 0..5).await;
    expect(&mut subscriber, 0..5).await;
    push(&mut publisher, 5..200).await;
    expect(&mut subscriber, 5..200).await;
    publisher.finish().await.unwrap();

    let end = next_media(&mut subscriber).await;
    assert!(matches!(end, Delivery::End), "{end:?}");
}

#[tokio::test]
async fn a_frame_carries_its_group_and_its_description_comes_first() {
    let node = start(node("alone")).await;
    let mut publisher = publish(&node, "cam").await;
    let mut subscriber = subscribe(&node, "cam").await;

    push(&mut publisher, 0..1).await;
    let first = next_media(&mut subscriber).await;
    let second = next_media(&mut subscriber).await;

    assert!(
        matches!(&first, Delivery::Description(got) if **got == description()),
        "{first:?}"
    );
    let Delivery::Frame { group, wall, .. } = second else {
        panic!("{second:?}");
    };
    assert_eq!(group.0, 0);
    assert!(
        wall.is_some(),
        "the origin's wall clock came with the group"
    );
}

#[tokio::test]
async fn a_second_consumer_costs_the_origin_nothing() {
    let net = Net::start().await;
    let second = start_linked(node("second"), &net.relay).await;
    let mut publisher = publish(&net.origin, "cam").await;
    let mut first = subscribe(&net.consumer, "cam").await;
    push(&mut publisher, 0..10).await;
    expect(&mut first, 0..10).await;

    let mut late = subscribe(&second, "cam").await;
    expect(&mut late, 0..10).await;
    push(&mut publisher, 10..60).await;
    expect(&mut first, 10..60).await;
    expect(&mut late, 10..60).await;

    let at_origin = flow_row(&net.origin).await;
    let at_relay = flow_row(&net.relay).await;
    assert_eq!(
        at_origin.counters.packets_out, at_origin.counters.packets_in,
        "one copy of each packet leaves"
    );
    assert_eq!(at_relay.counters.packets_in, at_origin.counters.packets_out);
    assert_eq!(
        at_relay.counters.packets_out,
        2 * at_relay.counters.packets_in,
        "one copy for each consumer"
    );
}

#[tokio::test]
async fn a_second_subscriber_of_one_node_starts_at_the_same_place_and_costs_nothing() {
    let net = Net::start().await;
    let mut publisher = publish(&net.origin, "cam").await;
    let mut first = subscribe(&net.consumer, "cam").await;
    push(&mut publisher, 0..10).await;
    expect(&mut first, 0..10).await;

    let mut second = subscribe(&net.consumer, "cam").await;
    expect(&mut second, 0..10).await;
    push(&mut publisher, 10..20).await;
    expect(&mut first, 10..20).await;
    expect(&mut second, 10..20).await;

    let at_relay = flow_row(&net.relay).await;
    assert_eq!(at_relay.counters.packets_out, at_relay.counters.packets_in);
    assert_eq!(flow_row(&net.consumer).await.control.subscriptions, 2);
}

#[tokio::test]
async fn without_a_consumer_no_packet_leaves_the_origin() {
    let net = Net::start().await;
    let mut publisher = publish(&net.origin, "cam").await;

    push(&mut publisher, 0..50).await;

    let row = flow_row(&net.origin).await;
    assert!(
        row.counters.packets_in >= 50,
        "the origin made them: {row:?}"
    );
    assert_eq!(
        (row.counters.packets_out, row.control.state),
        (0, FlowState::Hold)
    );
}

#[tokio::test]
async fn a_late_consumer_starts_at_the_start_of_the_newest_group() {
    let net = Net::start().await;
    let mut publisher = publish(&net.origin, "cam").await;
    push(&mut publisher, 0..60).await;

    let mut subscriber = subscribe(&net.consumer, "cam").await;

    expect(&mut subscriber, 50..60).await;
}

#[tokio::test]
async fn two_streams_between_the_same_nodes_never_mix() {
    let net = Net::start().await;
    let mut one = publish(&net.origin, "one").await;
    let mut two = publish(&net.origin, "two").await;
    let mut from_one = subscribe(&net.consumer, "one").await;
    let mut from_two = subscribe(&net.consumer, "two").await;

    push(&mut one, 0..1).await;
    push(&mut two, 1_000..1_001).await;
    expect(&mut from_one, 0..1).await;
    expect(&mut from_two, 1_000..1_001).await;
    for number in 1..50 {
        push(&mut one, number..number + 1).await;
        push(&mut two, 1_000 + number..1_001 + number).await;
    }

    expect(&mut from_one, 1..50).await;
    expect(&mut from_two, 1_001..1_050).await;
}

#[tokio::test]
async fn a_stream_published_anew_goes_on_as_a_new_instance() {
    let net = Net::start().await;
    let mut publisher = publish(&net.origin, "cam").await;
    let mut subscriber = subscribe(&net.consumer, "cam").await;
    push(&mut publisher, 0..10).await;
    expect(&mut subscriber, 0..10).await;
    publisher.finish().await.unwrap();
    let end = next_media(&mut subscriber).await;
    assert!(matches!(end, Delivery::End), "{end:?}");

    let mut publisher = publish(&net.origin, "cam").await;
    push(&mut publisher, 0..10).await;

    let instance = next_media(&mut subscriber).await;
    assert!(matches!(instance, Delivery::NewInstance(_)), "{instance:?}");
    expect(&mut subscriber, 0..10).await;
}

#[test]
fn an_origin_that_was_killed_and_started_again_goes_on_as_a_new_instance() {
    let state = tempfile::tempdir().unwrap();
    let here = tokio::runtime::Runtime::new().unwrap();
    let there = tokio::runtime::Runtime::new().unwrap();
    let (relay, consumer) = here.block_on(async {
        let relay = start(node("relay")).await;
        let consumer = start_linked(node("consumer"), &relay).await;
        (relay, consumer)
    });
    let origin = || node("origin").state(state.path());
    let mut subscriber = here.block_on(subscribe(&consumer, "cam"));
    let killed = there.block_on(async {
        let origin = start_linked(origin(), &relay).await;
        let mut publisher = publish(&origin, "cam").await;
        push(&mut publisher, 0..10).await;
        (origin, publisher)
    });
    here.block_on(expect(&mut subscriber, 0..10));

    // As kill -9 would: every task of it is gone between two instructions, and nobody is told.
    let mut events = relay.events();
    drop(there);
    drop(killed);
    here.block_on(async {
        event(&mut events, |event| matches!(event, Event::LinkDown { .. })).await;
        let origin = start_linked(origin(), &relay).await;
        let mut publisher = publish(&origin, "cam").await;
        push(&mut publisher, 0..10).await;

        let instance = next_media(&mut subscriber).await;
        assert!(matches!(instance, Delivery::NewInstance(_)), "{instance:?}");
        expect(&mut subscriber, 0..10).await;
    });
}

#[tokio::test]
async fn a_slow_subscriber_is_skipped_to_a_group_start_and_told() {
    let node = start(node("alone")).await;
    let mut publisher = publish(&node, "cam").await;
    let options = SubscribeOptions::default().with_queue(10, usize::MAX);
    let mut slow = node.subscribe(stream("cam"), options).await.unwrap();
    let mut fast = subscribe(&node, "cam").await;
    push(&mut publisher, 0..30).await;
    expect(&mut fast, 0..30).await;
    expect(&mut slow, 0..10).await;

    push(&mut publisher, 30..51).await;
    let gap = next_media(&mut slow).await;

    let Delivery::Gap(gap) = gap else {
        panic!("{gap:?}");
    };
    assert_eq!((gap.reason, gap.frames), (GapReason::Slow, 40));
    expect(&mut slow, 50..51).await;
    expect(&mut fast, 30..51).await;
}

#[tokio::test]
async fn a_changed_description_arrives_with_the_group_it_is_for() {
    let net = Net::start().await;
    let mut publisher = publish(&net.origin, "cam").await;
    let mut subscriber = subscribe(&net.consumer, "cam").await;
    push(&mut publisher, 0..10).await;
    expect(&mut subscriber, 0..10).await;
    let mut changed = description();
    changed.tracks[0].config = vec![9];

    publisher.describe(changed.clone()).await.unwrap();
    push(&mut publisher, 10..26).await;

    expect(&mut subscriber, 10..25).await;
    let told = next_media(&mut subscriber).await;
    assert!(
        matches!(&told, Delivery::Description(got) if **got == changed),
        "{told:?}"
    );
    expect(&mut subscriber, 25..26).await;
}

#[tokio::test]
async fn a_stream_nobody_offers_is_waited_for_visibly() {
    let net = Net::start().await;
    let mut subscriber = subscribe(&net.consumer, "cam").await;
    state(&mut subscriber, |state| *state == State::Unknown).await;

    let mut publisher = publish(&net.origin, "cam").await;
    push(&mut publisher, 0..1).await;

    state(&mut subscriber, |state| {
        matches!(state, State::Active { .. })
    })
    .await;
    expect(&mut subscriber, 0..1).await;
}

#[tokio::test]
async fn one_name_is_published_once_at_a_time() {
    let node = start(node("alone")).await;
    let first = publish(&node, "cam").await;

    let options = levada::PublishOptions::default();
    let refused = node.publish(stream("cam"), description(), options).await;
    let error = refused.unwrap_err();

    assert!(
        matches!(error, PublishError::AlreadyPublished { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("choose another name"), "{error}");
    drop(first);
    publish(&node, "cam").await;
}

#[tokio::test]
async fn a_description_that_is_not_sound_is_refused_with_its_reason() {
    let node = start(node("alone")).await;
    let options = levada::PublishOptions::default();

    let error = node
        .publish(stream("cam"), levada::Description::default(), options)
        .await;

    let error = error.unwrap_err().to_string();
    assert!(error.contains("1 to 32 tracks"), "{error}");
}

#[tokio::test]
async fn a_frame_of_no_track_is_refused_and_the_next_is_taken() {
    let node = start(node("alone")).await;
    let mut publisher = publish(&node, "cam").await;
    let mut subscriber = subscribe(&node, "cam").await;
    let mut stray = frame(0);
    stray.track = levada::TrackId(7);

    let error = publisher.send(stray).await.unwrap_err().to_string();
    push(&mut publisher, 0..2).await;

    assert!(error.contains("track 7"), "{error}");
    expect(&mut subscriber, 0..2).await;
}

#[tokio::test]
async fn the_flow_ends_when_its_last_subscriber_is_dropped() {
    let net = Net::start().await;
    let mut publisher = publish(&net.origin, "cam").await;
    let mut subscriber = subscribe(&net.consumer, "cam").await;
    push(&mut publisher, 0..5).await;
    expect(&mut subscriber, 0..5).await;

    drop(subscriber);
    let idle = within("the origin to stop sending", async {
        loop {
            let row = flow_row(&net.origin).await;
            if row.control.state == FlowState::Hold {
                return row;
            }
        }
    });
    let idle = idle.await;

    // What is published now is made, and sent to nobody.
    push(&mut publisher, 5..10).await;
    let later = within("packets to be made", async {
        loop {
            let row = flow_row(&net.origin).await;
            if row.counters.packets_in > idle.counters.packets_in {
                return row;
            }
        }
    });
    assert_eq!(later.await.counters.packets_out, idle.counters.packets_out);
}

#[tokio::test]
async fn a_node_that_leaves_ends_its_streams_and_frees_all_it_had() {
    let relay = start(node("relay")).await;
    let state = tempfile::tempdir().unwrap();
    let builder = || node("origin").state(state.path());
    let origin = start_linked(builder(), &relay).await;
    let address = origin.local_addr();
    let mut events = relay.events();
    let mut publisher = publish(&origin, "cam").await;
    let mut subscriber = subscribe(&relay, "cam").await;
    push(&mut publisher, 0..3).await;
    expect(&mut subscriber, 0..3).await;

    within("the node to leave", origin.clone().leave()).await;

    let end = next_media(&mut subscriber).await;
    assert!(matches!(end, Delivery::End), "{end:?}");
    let down = event(&mut events, |event| matches!(event, Event::LinkDown { .. })).await;
    let Event::LinkDown { reason, .. } = down else {
        unreachable!("just matched");
    };
    assert!(reason.contains("left"), "{reason}");
    assert!(publisher.send(frame(3)).await.is_err());
    assert!(origin.view().await.is_err());
    let again = start(builder().listen(address)).await;
    assert_eq!(
        again.local_addr(),
        address,
        "port and directory are free at once"
    );
}

#[tokio::test]
async fn subscribers_of_a_node_that_is_gone_end() {
    let node = start(node("alone")).await;
    let mut subscriber = subscribe(&node, "cam").await;

    within("the node to leave", node.leave()).await;

    let after = within("the end", async {
        while let Some(delivery) = subscriber.next().await {
            assert!(matches!(delivery, Delivery::State(_)), "{delivery:?}");
        }
    });
    after.await;
}

/// Three nodes in a row.
struct Net {
    origin: Node,
    relay: Node,
    consumer: Node,
}

impl Net {
    async fn start() -> Self {
        let relay = start(node("relay")).await;
        let origin = start_linked(node("origin"), &relay).await;
        let consumer = start_linked(node("consumer"), &relay).await;
        Self {
            origin,
            relay,
            consumer,
        }
    }
}

/// The row of the only flow that a node knows.
async fn flow_row(node: &Node) -> FlowRow {
    let rows = within("a view", node.rows::<FlowRow>()).await.unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.into_iter().next().unwrap()
}

#[allow(
    dead_code,
    reason = "a subscriber is a stream, which the compiler proves"
)]
fn a_subscriber_is_a_stream(subscriber: Subscriber) -> impl futures_core::Stream<Item = Delivery> {
    subscriber
}
