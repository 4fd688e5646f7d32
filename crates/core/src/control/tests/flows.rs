//! Flows through whole nodes: who is asked, who is fed, who holds which key.

use levada_wire::control::flow::{
    Accept, Cancel, InstanceRef, KeyRequest, Refuse, RefuseReason, Request,
};
use levada_wire::control::{FlowMessage, LinkMessage, link as link_message};
use levada_wire::{Description, InstanceId, Number};
use rand_chacha::ChaCha8Rng;

use super::*;

/// Any message about flows, from peers that know two flows and two streams.
pub(super) fn any_message(rng: &mut ChaCha8Rng, peers: &[NodeId]) -> Message {
    let of = InstanceRef {
        origin: peers[rng.next_u32() as usize % peers.len()],
        name: name("a"),
        instance: InstanceId([rng.next_u32() as u8 % 2; 16]),
    };
    let flow = of.flow(Layer(0));
    let consumer = peers[rng.next_u32() as usize % peers.len()];
    Message::Flow(match rng.next_u32() % 7 {
        0 => FlowMessage::Request(Request {
            flow,
            needs_key: rng.next_u32().is_multiple_of(2),
            budget: RepairBudget::DEFAULT,
            have: Number::new(rng.next_u64() >> rng.next_u32().clamp(1, 40)),
        }),
        1 => FlowMessage::Accept(Accept { flow, key: None }),
        2 => FlowMessage::Refuse(Refuse {
            flow,
            reason: RefuseReason::Full,
        }),
        3 => FlowMessage::Cancel(Cancel { flow }),
        4 => FlowMessage::KeyRequest(KeyRequest {
            of,
            consumer,
            hops_left: 3,
            unknown: Default::default(),
        }),
        _ => {
            let hello = link_message::Hello {
                network: NetworkId::OPEN,
                boot: 1,
                index: LinkIndex(1),
                name: String::new(),
                relay: true,
            };
            return Message::Link(LinkMessage::Hello(hello));
        }
    })
}

/// Origin 0, relay 1, players 2 and 3.
pub(super) fn star() -> Net {
    let mut net = Net::new(4, &[(0, 1), (1, 2), (1, 3)]);
    net.publish(0, "cam");
    net
}

#[test]
fn a_flow_is_requested_hop_by_hop_and_opened_only_where_it_is_consumed() {
    let mut net = star();

    net.subscribe(2, 1, "cam");

    let flow = net.flow(2, "cam").unwrap().flow;
    assert_eq!(active(&net.states(2)), [flow]);
    assert_eq!(
        (net.egresses(0, "cam"), net.egresses(1, "cam")),
        (vec![1], vec![2])
    );
    let states: Vec<_> = (0..3)
        .map(|node| net.flow(node, "cam").unwrap().state)
        .collect();
    assert_eq!(
        states,
        [
            FlowState::Streaming,
            FlowState::Streaming,
            FlowState::Active
        ]
    );
    let relay = net.told(1);
    assert!(
        relay
            .iter()
            .any(|(_, told)| matches!(told, FlowCommand::SetCarryKey { .. }))
    );
    assert_eq!(secrets(&relay), [], "a relay holds the carry key only");
    let (origin, player) = (net.told(0), net.told(2));
    assert_eq!(secrets(&origin), secrets(&player));
}

#[test]
fn a_second_player_adds_nothing_between_origin_and_relay() {
    let mut net = star();
    net.subscribe(2, 1, "cam");
    net.told(0);

    net.subscribe(3, 1, "cam");

    assert_eq!(net.told(0), [], "the origin's datapath is told nothing");
    assert_eq!(net.egresses(1, "cam"), [2, 3]);
    assert_eq!(active(&net.states(3)).len(), 1);
}

#[test]
fn when_the_last_player_leaves_the_flow_ends_after_its_linger_everywhere() {
    let mut net = star();
    net.subscribe(2, 1, "cam");
    net.pass(Duration::from_secs(1));

    net.unsubscribe(2, 1);
    net.pass(LINGER - Duration::from_millis(1));
    let during = net.egresses(0, "cam");
    net.pass(Duration::from_millis(2));

    assert_eq!(during, [1]);
    assert_eq!(net.egresses(0, "cam"), []);
    assert!(net.flow(1, "cam").is_none() && net.flow(2, "cam").is_none());
    assert!(
        net.told(1)
            .iter()
            .any(|(_, told)| matches!(told, FlowCommand::Close))
    );
}

#[test]
fn a_player_that_returns_within_the_linger_costs_no_request() {
    let mut net = star();
    net.subscribe(2, 1, "cam");
    net.pass(Duration::from_secs(1));
    net.unsubscribe(2, 1);
    net.pass(LINGER / 2);
    net.told(1);

    net.subscribe(2, 2, "cam");
    net.pass(2 * LINGER);

    assert_eq!(net.told(1), []);
    assert_eq!(active(&net.states(2)).len(), 2);
}

#[test]
fn a_subscription_for_an_unknown_stream_waits_for_it() {
    let mut net = Net::new(2, &[(0, 1)]);

    net.subscribe(1, 1, "cam");
    let before = net.states(1);
    net.publish(0, "cam");
    let after = net.states(1);

    assert_eq!(before, [SubscriptionState::Unknown]);
    assert_eq!(active(&after).len(), 1);
}

#[test]
fn a_flow_is_kept_while_players_want_it_however_long() {
    let mut net = star();
    net.subscribe(2, 1, "cam");
    net.told(0);
    net.told(1);

    net.pass(Duration::from_secs(120));

    assert_eq!((net.told(0), net.told(1)), (vec![], vec![]));
    assert_eq!(net.egresses(0, "cam"), [1]);
}

#[test]
fn a_request_that_is_not_said_again_runs_out() {
    let mut net = star();
    net.subscribe(2, 1, "cam");

    // The player's words do not reach the relay any more, though the link lives.
    net.deaf = Some((2, 1));
    net.pass(REQUEST_EXPIRY + Duration::from_secs(4));

    assert_eq!(net.egresses(1, "cam"), []);
    assert_eq!(net.egresses(0, "cam"), [], "and the relay let go upstream");
}

#[test]
fn a_node_whose_clock_leaps_keeps_its_children() {
    let mut net = star();
    net.subscribe(2, 1, "cam");

    // The relay sleeps for a minute; its neighbours do not count that against it, and neither does it.
    net.now += Duration::from_secs(60);
    net.nodes[1].handle_timeout(net.now);
    net.collect(1);

    assert_eq!(net.egresses(1, "cam"), [2]);
}

#[test]
fn a_child_whose_request_ran_out_is_told_and_asks_anew() {
    let mut net = star();
    net.subscribe(2, 1, "cam");
    net.deaf = Some((2, 1));
    net.pass(REQUEST_EXPIRY);
    net.deaf = None;

    net.pass(Duration::from_secs(4));

    assert_eq!(net.egresses(1, "cam"), [2]);
    assert_eq!(net.egresses(0, "cam"), [1]);
}

#[test]
fn a_node_that_was_away_learns_of_a_restart_under_a_clock_set_back() {
    // 2 is away while 0 restarts and publishes an instance that looks older.
    let mut net = star();
    net.subscribe(2, 1, "cam");
    let wall = net.wall;
    net.unlink(1, 2);
    net.restart(0);
    net.command(0, FlowInput::Publish(offer("cam", wall - 60_000_000)));
    net.settle();
    net.states(2);

    net.link(1, 2);
    net.pass(Duration::from_secs(2));

    let present = net.nodes[0].view().streams[0].flow;
    assert_eq!(active(&net.states(2)).pop(), Some(present));
}

#[test]
fn a_newcomer_learns_of_a_stream_that_was_out_of_reach_when_it_came() {
    // 2 comes to 1 while there is no way from 1 to the origin.
    let mut net = Net::new(3, &[(0, 1)]);
    net.publish(0, "cam");
    net.unlink(0, 1);
    net.link(1, 2);
    net.settle();
    let before = net.nodes[2].view().streams.len();

    net.link(0, 1);
    net.settle();

    assert_eq!((before, net.nodes[2].view().streams.len()), (0, 1));
}

#[test]
fn a_request_nobody_can_serve_is_refused_within_the_deadline() {
    let mut net = star();
    // The origin does not hear the relay: the relay's request stays unanswered.
    net.deaf = Some((1, 0));
    net.states(2);

    net.subscribe(2, 1, "cam");
    net.pass(ANSWER_DEADLINE);

    let refused = net.states(2).into_iter().any(|state| {
        matches!(
            state,
            SubscriptionState::Refused {
                reason: RefuseReason::Timeout,
                ..
            }
        )
    });
    assert!(refused);
}

#[test]
fn a_node_that_does_not_relay_leads_nowhere_and_carries_nothing_for_others() {
    let unwilling = Control::new(Settings {
        relay: false,
        ..settings(1)
    });
    let mut net = Net::of(vec![
        Control::new(settings(0)),
        unwilling,
        Control::new(settings(2)),
    ]);
    net.link(0, 1);
    net.link(1, 2);
    net.publish(0, "cam");

    net.subscribe(2, 1, "cam");

    let origin = net.nodes[0].id();
    assert_eq!(net.states(2), [SubscriptionState::Unreachable { origin }]);
    // Nor does it for who asks all the same.
    let request = Request {
        flow: net.nodes[0].view().streams[0].flow,
        needs_key: true,
        budget: RepairBudget::DEFAULT,
        have: None,
    };
    let message = Message::Flow(FlowMessage::Request(request));
    let link = index(2);
    net.input(1, Input::Link(LinkInput::Message { link, message }));
    net.settle();
    assert!(net.flow(1, "cam").is_none());
}

#[test]
fn an_origin_that_restarts_is_followed_to_its_new_instance() {
    let mut net = star();
    net.subscribe(2, 1, "cam");
    let before = active(&net.states(2));

    net.restart(0);
    net.publish(0, "cam");
    net.pass(Duration::from_secs(2));

    let after = active(&net.states(2)).pop();
    assert_eq!(before.len(), 1);
    assert_ne!(before.last().copied(), after);
    let rows: Vec<_> = net.nodes[1]
        .view()
        .flows
        .iter()
        .map(|row| row.flow)
        .collect();
    assert_eq!(rows.first().copied(), after, "the old flow was let go");
}

#[test]
fn an_origin_that_restarts_with_its_clock_set_back_is_followed_too() {
    for set_back in [0, 60_000_000] {
        let mut net = star();
        net.subscribe(2, 1, "cam");
        net.states(2);
        let wall = net.wall;

        // Links come up before it publishes, and what the relay remembers is newer by the clock.
        net.restart(0);
        net.command(0, FlowInput::Publish(offer("cam", wall - set_back)));
        net.settle();
        net.pass(Duration::from_secs(2));

        let present = net.nodes[0].view().streams[0].flow;
        let last = active(&net.states(2)).pop();
        assert_eq!(last, Some(present), "set back by {set_back} us");
    }
}

#[test]
fn an_origin_that_publishes_before_its_links_are_up_is_followed_too() {
    for set_back in [0, 60_000_000] {
        let mut net = star();
        net.subscribe(2, 1, "cam");
        net.states(2);
        let wall = net.wall;

        net.unlink(0, 1);
        net.nodes[0] = Control::new(Settings {
            seed: [77; 32],
            ..settings(0)
        });
        net.command(0, FlowInput::Publish(offer("cam", wall - set_back)));
        net.link(0, 1);
        net.pass(Duration::from_secs(2));

        let present = net.nodes[0].view().streams[0].flow;
        let last = active(&net.states(2)).pop();
        assert_eq!(last, Some(present), "set back by {set_back} us");
    }
}

#[test]
fn a_stream_withdrawn_while_its_flow_lingers_ends_once() {
    let mut net = star();
    net.subscribe(2, 1, "cam");
    net.pass(Duration::from_secs(1));
    net.unsubscribe(2, 1);

    net.pass(LINGER / 2);
    net.command(0, FlowInput::Unpublish { name: name("cam") });
    net.pass(2 * ENDING);

    assert!(net.flow(2, "cam").is_none());
}

#[test]
fn who_is_served_is_told_when_the_flow_is_lost_and_when_it_is_back() {
    let mut net = star();
    net.subscribe(2, 1, "cam");
    net.states(2);

    net.unlink(0, 1);
    net.pass(Duration::from_secs(5));
    let lost = net.states(2);
    net.link(0, 1);
    net.pass(Duration::from_secs(5));
    let back = net.states(2);

    let origin = net.nodes[0].id();
    assert!(
        lost.contains(&SubscriptionState::Unreachable { origin }),
        "{lost:?}"
    );
    assert_eq!(active(&lost), []);
    assert_eq!(active(&back).len(), 1, "{back:?}");
}

#[test]
fn a_withdrawn_stream_ends_after_its_last_packets_had_time_to_come() {
    let mut net = star();
    net.subscribe(2, 1, "cam");
    net.states(2);
    net.told(2);

    net.command(0, FlowInput::Unpublish { name: name("cam") });
    net.settle();
    let at_once = net.told(2);
    net.pass(ENDING);

    assert_eq!(net.states(2), [SubscriptionState::Ended]);
    assert_eq!(at_once, [], "the datapath goes on for now");
    let after = net.told(2);
    assert!(
        after
            .iter()
            .any(|(_, told)| matches!(told, FlowCommand::Close)),
        "{after:?}"
    );
    assert!(net.flow(0, "cam").is_none() && net.flow(1, "cam").is_none());
}

#[test]
fn a_lost_upstream_is_replaced_by_the_other_way() {
    // 0 is reached from 3 through 1 or 2.
    let mut net = Net::new(4, &[(0, 1), (0, 2), (1, 3), (2, 3)]);
    net.publish(0, "cam");
    net.subscribe(3, 1, "cam");
    let first = net.flow(3, "cam").unwrap().upstream.unwrap().0 as usize;

    net.unlink(3, first);

    let second = net.flow(3, "cam").unwrap().upstream.unwrap().0 as usize;
    assert_ne!(first, second);
    assert_eq!(net.egresses(second, "cam"), [3], "without a timer");
    assert_eq!(
        active(&net.states(3)).len(),
        1,
        "the consumer notices nothing"
    );
}

#[test]
fn a_better_way_is_taken_only_when_it_has_delivered() {
    // First only the long way 0 - 1 - 2 - 3; then 0 - 3.
    let mut net = Net::new(4, &[(0, 1), (1, 2), (2, 3)]);
    net.publish(0, "cam");
    net.subscribe(3, 1, "cam");
    net.link(0, 3);
    net.settle();

    let before = net.flow(3, "cam").unwrap().upstream;
    net.deliver(3, "cam", 0);
    let after = net.flow(3, "cam").unwrap().upstream;

    assert_eq!((before, after), (Some(index(2)), Some(index(0))));
    assert_eq!(net.egresses(2, "cam"), [], "the old way was let go");
}

#[test]
fn a_better_way_that_never_delivers_changes_nothing() {
    let mut net = Net::new(4, &[(0, 1), (1, 2), (2, 3)]);
    net.publish(0, "cam");
    net.subscribe(3, 1, "cam");
    net.link(0, 3);
    net.settle();

    net.pass(Duration::from_secs(20));

    assert_eq!(net.flow(3, "cam").unwrap().upstream, Some(index(2)));
    assert_eq!(net.egresses(2, "cam"), [3]);
}

#[test]
fn of_two_origins_the_nearer_serves_and_the_other_takes_over() {
    // 0 - 1 - 2 - 3 - 4, origins at 0 and 3; the player at 2.
    let mut net = Net::new(5, &[(0, 1), (1, 2), (2, 3), (3, 4)]);
    net.publish(0, "cam");
    net.publish(3, "cam");
    net.subscribe(2, 1, "cam");
    let near = active(&net.states(2));

    net.unlink(2, 3);
    net.pass(Duration::from_secs(1));

    assert_eq!(
        net.flow(2, "cam").map(|row| row.origin),
        Some(net.nodes[0].id())
    );
    let far = active(&net.states(2));
    assert_eq!((near.len(), far.len()), (1, 1));
    assert_ne!(near, far);
}

#[test]
fn withdraws_of_many_streams_spread_once_each() {
    // A ring, in which everything comes round.
    let mut net = Net::new(3, &[(0, 1), (1, 2), (2, 0)]);
    for stream in 0..20 {
        net.publish(0, &format!("cam/{stream}"));
    }
    net.wire.clear();

    for stream in 0..20 {
        net.command(
            0,
            FlowInput::Unpublish {
                name: name(&format!("cam/{stream}")),
            },
        );
    }
    net.settle();

    assert!((0..3).all(|node| net.nodes[node].view().streams.is_empty()));
}

#[test]
fn two_nodes_that_ask_each_other_refuse_each_other() {
    // Both know the stream, neither has a way to its origin but the other.
    let mut net = Net::new(3, &[(0, 1), (1, 2)]);
    net.publish(0, "cam");
    let flow = net.nodes[1].view().streams[0].flow;

    // 2's own route leads through 1: it must not serve 1.
    let request = FlowMessage::Request(Request {
        flow,
        needs_key: true,
        budget: RepairBudget::DEFAULT,
        have: None,
    });
    net.input(
        2,
        Input::Link(LinkInput::Message {
            link: index(1),
            message: Message::Flow(request),
        }),
    );

    assert!(net.flow(2, "cam").is_none(), "nothing was requested back");
    let refusal = net.linked[&(2, 1)].back().unwrap();
    let mut messages = Vec::new();
    Decoder::default().push(refusal, &mut messages).unwrap();
    let expected = FlowMessage::Refuse(Refuse {
        flow,
        reason: RefuseReason::Loop,
    });
    assert_eq!(messages, [Message::Flow(expected)]);
}

#[test]
fn a_stream_is_originated_with_what_its_publisher_offered() {
    let mut net = Net::new(1, &[]);
    let offer = Offer {
        description: Arc::new(Description { tracks: Vec::new() }),
        flush_interval: Duration::from_millis(7),
        ..offer("cam", 1)
    };

    net.command(0, FlowInput::Publish(offer.clone()));

    let told = net.told(0);
    let originate = told.iter().find_map(|(flow, command)| match command {
        FlowCommand::Originate(originate) => Some((*flow, originate)),
        _ => None,
    });
    let (flow, originate) = originate.unwrap();
    assert_eq!(originate.description, offer.description);
    assert_eq!(originate.flush_interval, offer.flush_interval);
    let published = Event::Published {
        name: name("cam"),
        layer: Layer(0),
        flow,
    };
    assert!(net.events[0].contains(&published), "{:?}", net.events[0]);
}
