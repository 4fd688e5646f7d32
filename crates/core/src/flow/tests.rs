//! The contract and the limits of flows. How flows behave between nodes is tested in `control/tests`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Duration;

use levada_wire::announce::{Announce, LayerOffer, SignedAnnounce, SignedWithdraw, Withdraw};
use levada_wire::control::flow as message;
use levada_wire::control::flow::{KeyRequest, Request};
use levada_wire::control::route::Hops;
use levada_wire::key::Suite;
use levada_wire::machine::harness::check_contract;
use levada_wire::unknown::Unknown;
use levada_wire::{
    Bitrate, Distance, Identity, InstanceId, Layer, NetworkId, Number, PacketSize, RepairBudget,
    StreamName,
};
use rand_core::Rng as _;

use super::carried::{Carried, Upstream};
use super::*;
use crate::api::{Offer, Paths, SubscriptionId, SubscriptionState};
use crate::limits::{
    CARRIED_MAX, CHILDREN_MAX, KEY_PENDING, KEYS_PENDING_MAX, STREAMS_MAX, STREAMS_PER_ORIGIN_MAX,
    SUBSCRIPTIONS_MAX, UNREACHABLE_KEPT, WITHDRAWN_MAX,
};

mod greed;
mod keys;
mod rows;
mod telling;
mod touched;
mod watched;

const UP: LinkIndex = LinkIndex(1);

fn identity(key: u64) -> Identity {
    let mut secret = [9; 32];
    secret[..8].copy_from_slice(&key.to_le_bytes());
    Identity::from_secret(&secret)
}

fn flows() -> Flows {
    Flows::new(&Settings {
        identity: identity(0),
        network: NetworkId::OPEN,
        name: String::new(),
        relay: true,
        accept: true,
        uplink: None,
        seed: [1; 32],
    })
}

fn stream(number: usize) -> StreamName {
    format!("stream/{number}").parse().unwrap()
}

fn announce(origin: &Identity, number: usize, instance: u8) -> Announce {
    Announce {
        origin: origin.id(),
        name: stream(number),
        instance: InstanceId([instance; 16]),
        group_base: 1,
        version: 1,
        suite: Suite::Aes128Gcm,
        packet_size: PacketSize::DEFAULT,
        layers: vec![LayerOffer {
            layer: Layer(0),
            peak: Bitrate(1),
            tracks: vec![],
        }],
        carry: None,
    }
}

fn offer(number: usize) -> Offer {
    Offer {
        name: stream(number),
        wall: levada_wire::WallTime(1_700_000_000_000_000),
        packet_size: PacketSize::DEFAULT,
        suite: Suite::Aes128Gcm,
        layers: announce(&identity(0), number, 1).layers,
        description: Arc::default(),
        flush_interval: Duration::ZERO,
        is_measured: false,
    }
}

fn announced(origin: &Identity, number: usize) -> Input {
    let statement = SignedAnnounce::sign(announce(origin, number, 1), origin);
    Input::Message {
        link: UP,
        message: FlowMessage::Announce(message::Announce { statement }),
    }
}

fn withdrawn(origin: &Identity, number: usize) -> Input {
    let withdraw = Withdraw {
        origin: origin.id(),
        name: stream(number),
        instance: InstanceId([1; 16]),
    };
    let statement = SignedWithdraw::sign(withdraw, origin);
    Input::Message {
        link: UP,
        message: FlowMessage::Withdraw(message::Withdraw { statement }),
    }
}

fn request(link: LinkIndex, flow: FlowId) -> Input {
    Input::Message {
        link,
        message: FlowMessage::Request(Request {
            flow,
            needs_key: true,
            budget: RepairBudget::DEFAULT,
            have: None,
        }),
    }
}

fn link_up(link: LinkIndex) -> Input {
    Input::LinkUp {
        link,
        peer: identity(1_000 + u64::from(link.0)).id(),
    }
}

fn route_to(origin: &Identity, link: LinkIndex) -> Input {
    let hops = Hops::origin(origin.id().prefix());
    let route = Route {
        link,
        distance: Distance::from_tenth_millis(30),
        hops,
    };
    Input::Route {
        origin: origin.id(),
        route: Some(route),
    }
}

fn feed(flows: &mut Flows, inputs: impl IntoIterator<Item = Input>) {
    for input in inputs {
        flows.handle_input(Instant::ZERO, input);
    }
}

fn refusals(flows: &mut Flows) -> Vec<(LinkIndex, RefuseReason)> {
    let refusal = |output| match output {
        Output::Outside(api::Output::Send {
            link,
            message: Message::Flow(FlowMessage::Refuse(refuse)),
        }) => Some((link, refuse.reason)),
        Output::Outside(api::Output::Send {
            link,
            message: Message::Flow(FlowMessage::KeyRefusal(refusal)),
        }) => Some((link, refusal.reason)),
        _ => None,
    };
    std::iter::from_fn(|| flows.poll_output())
        .filter_map(refusal)
        .collect()
}

#[test]
fn the_contract_holds() {
    let origin = identity(5);
    check_contract(0..100, |_| flows(), |rng| any_input(rng, &origin));
}

/// Something that may happen to a stream, its flow or its links, in whatever order.
fn any_input(rng: &mut impl rand_core::Rng, origin: &Identity) -> Input {
    let flow = announce(origin, 1, 1).flow(Layer(0));
    let link = LinkIndex(rng.next_u32() % 3);
    match rng.next_u32() % 14 {
        0 => link_up(link),
        1 => Input::LinkDown { link },
        2 => announced(origin, 1),
        3 => withdrawn(origin, 1),
        4 => route_to(origin, link),
        5 => Input::Route {
            origin: origin.id(),
            route: None,
        },
        6 => Input::Outside(FlowInput::Subscribe {
            id: SubscriptionId(1),
            name: stream(1),
            layer: Layer(0),
            budget: RepairBudget::DEFAULT,
            paths: Paths::Two,
        }),
        7 => Input::Outside(FlowInput::Unsubscribe {
            id: SubscriptionId(1),
        }),
        8 => Input::Lane(flow, FlowEvent::Delivering(link)),
        9 => {
            let have = Number::new(u64::from(rng.next_u32()));
            Input::Lane(flow, FlowEvent::Reached { link, have })
        }
        10 => Input::Lane(flow, FlowEvent::CaughtUp(link)),
        11 => Input::Lane(flow, FlowEvent::Suspect(link)),
        12 => {
            let takes = Duration::from_millis(u64::from(rng.next_u32()));
            let budget = Duration::ZERO;
            let slow = FlowEvent::Slow {
                link,
                takes,
                budget,
            };
            Input::Lane(flow, slow)
        }
        _ => request(link, flow),
    }
}

#[test]
fn one_stream_too_many_of_one_origin_is_not_taken() {
    let (mut flows, origin) = (flows(), identity(5));
    feed(&mut flows, [link_up(UP)]);

    feed(
        &mut flows,
        (0..=STREAMS_PER_ORIGIN_MAX).map(|number| announced(&origin, number)),
    );
    let full = flows.stream_rows(None).count();
    feed(
        &mut flows,
        [
            withdrawn(&origin, 0),
            announced(&origin, STREAMS_PER_ORIGIN_MAX),
        ],
    );

    assert_eq!(full, STREAMS_PER_ORIGIN_MAX);
    assert_eq!(
        flows.stream_rows(None).count(),
        full,
        "a place that is freed can be taken"
    );
}

#[test]
fn one_stream_too_many_of_all_is_not_taken() {
    let mut flows = flows();
    feed(&mut flows, [link_up(UP)]);

    for number in 0..=STREAMS_MAX {
        let origin = identity(5 + (number / STREAMS_PER_ORIGIN_MAX) as u64);
        feed(&mut flows, [announced(&origin, number)]);
        while flows.poll_output().is_some() {}
    }

    assert_eq!(flows.stream_rows(None).count(), STREAMS_MAX);
}

#[test]
fn the_oldest_withdraw_is_forgotten_beyond_the_limit() {
    let (mut flows, origin) = (flows(), identity(5));
    feed(&mut flows, [link_up(UP)]);
    // Backwards by name, so that the oldest is not the first of them.
    let name = |number: usize| 10_000 + WITHDRAWN_MAX - number;

    for number in 0..=WITHDRAWN_MAX {
        let now = Instant::from_nanos(number as u64);
        flows.handle_input(now, announced(&origin, name(number)));
        flows.handle_input(now, withdrawn(&origin, name(number)));
        while flows.poll_output().is_some() {}
    }

    feed(
        &mut flows,
        [0, 1, WITHDRAWN_MAX].map(|number| announced(&origin, name(number))),
    );
    let known: Vec<_> = flows.stream_rows(None).map(|row| row.name).collect();
    assert_eq!(known, [stream(name(0))]);
}

#[test]
fn a_withdraw_of_a_stream_nobody_announced_goes_nowhere() {
    let (mut flows, origin) = (flows(), identity(5));
    feed(&mut flows, [link_up(UP), link_up(LinkIndex(2))]);

    feed(&mut flows, [withdrawn(&origin, 1)]);

    let sends = std::iter::from_fn(|| flows.poll_output())
        .filter(|output| matches!(output, Output::Outside(api::Output::Send { .. })));
    assert_eq!(sends.count(), 0);
}

#[test]
fn a_stream_that_cannot_be_reached_is_not_told_to_a_newcomer() {
    let (mut flows, origin) = (flows(), identity(5));
    feed(
        &mut flows,
        [link_up(UP), announced(&origin, 1), route_to(&origin, UP)],
    );
    let collections = |flows: &mut Flows, link| {
        while flows.poll_output().is_some() {}
        flows.handle_input(Instant::ZERO, link_up(link));
        std::iter::from_fn(|| flows.poll_output())
            .filter(|output| {
                matches!(
                    output,
                    Output::Outside(api::Output::Send {
                        message: Message::Flow(FlowMessage::Collection(_)),
                        ..
                    })
                )
            })
            .count()
    };

    let reachable = collections(&mut flows, LinkIndex(2));
    feed(
        &mut flows,
        [Input::Route {
            origin: origin.id(),
            route: None,
        }],
    );
    let unreachable = collections(&mut flows, LinkIndex(3));

    assert_eq!((reachable, unreachable), (1, 0));
}

#[test]
fn a_stream_whose_origin_stays_away_is_forgotten() {
    let (mut flows, origin) = (flows(), identity(5));
    feed(&mut flows, [link_up(UP), announced(&origin, 1)]);

    flows.handle_timeout(Instant::ZERO + UNREACHABLE_KEPT - Duration::from_millis(1));
    let before = flows.stream_rows(None).count();
    flows.handle_timeout(Instant::ZERO + UNREACHABLE_KEPT);

    assert_eq!((before, flows.stream_rows(None).count()), (1, 0));
}

#[test]
fn one_child_too_many_is_refused_as_full() {
    let (mut flows, origin) = (flows(), identity(5));
    let flow = announce(&origin, 1, 1).flow(Layer(0));
    feed(
        &mut flows,
        [link_up(UP), announced(&origin, 1), route_to(&origin, UP)],
    );

    for child in 0..=CHILDREN_MAX {
        let link = LinkIndex(100 + u32::try_from(child).unwrap());
        feed(&mut flows, [link_up(link), request(link, flow)]);
    }

    let last = LinkIndex(100 + u32::try_from(CHILDREN_MAX).unwrap());
    assert_eq!(refusals(&mut flows), [(last, RefuseReason::Full)]);
}

#[test]
fn one_flow_too_many_is_refused_as_full() {
    let mut flows = flows();
    let child = LinkIndex(2);
    feed(&mut flows, [link_up(UP), link_up(child)]);
    for number in 0..=CARRIED_MAX {
        let origin = identity(5 + (number / STREAMS_PER_ORIGIN_MAX) as u64);
        feed(&mut flows, [announced(&origin, number)]);
    }
    for key in 0..=(CARRIED_MAX / STREAMS_PER_ORIGIN_MAX) as u64 {
        feed(&mut flows, [route_to(&identity(5 + key), UP)]);
    }

    // Without settling in between: what matters is the count.
    for number in 0..=CARRIED_MAX {
        let origin = identity(5 + (number / STREAMS_PER_ORIGIN_MAX) as u64);
        let flow = announce(&origin, number, 1).flow(Layer(0));
        flows.on_request(
            child,
            &Request {
                flow,
                needs_key: true,
                budget: RepairBudget::DEFAULT,
                have: None,
            },
        );
    }

    assert_eq!(refusals(&mut flows), [(child, RefuseReason::Full)]);
}

#[test]
fn one_subscription_too_many_is_told_that_it_is_not_served() {
    let mut flows = flows();
    for id in 0..SUBSCRIPTIONS_MAX as u64 {
        flows.subscriptions.add(
            SubscriptionId(id),
            stream(1),
            Layer(0),
            (RepairBudget::DEFAULT, Paths::One),
        );
    }
    let one_more = SubscriptionId(SUBSCRIPTIONS_MAX as u64);

    let told = flows.subscriptions.add(
        one_more,
        stream(1),
        Layer(0),
        (RepairBudget::DEFAULT, Paths::One),
    );

    let state = SubscriptionState::Unknown;
    assert_eq!(
        told,
        Some(Event::Subscription {
            id: one_more,
            state
        })
    );
    assert!(flows.subscriptions.get(one_more).is_none());
}

#[test]
fn one_key_request_too_many_is_refused_until_the_waiting_ones_run_out() {
    let (mut flows, origin) = (flows(), identity(5));
    let child = LinkIndex(2);
    feed(
        &mut flows,
        [link_up(UP), link_up(child), route_to(&origin, UP)],
    );
    let ask = |consumer: usize| {
        let of = InstanceRef {
            origin: origin.id(),
            name: stream(1),
            instance: InstanceId([1; 16]),
        };
        let mut id = [3; 32];
        id[..8].copy_from_slice(&(consumer as u64).to_le_bytes());
        let request = KeyRequest {
            of,
            consumer: NodeId(id),
            hops_left: 5,
            unknown: Unknown::default(),
        };
        Input::Message {
            link: child,
            message: FlowMessage::KeyRequest(request),
        }
    };

    feed(&mut flows, (0..=KEYS_PENDING_MAX).map(ask));
    let refused = refusals(&mut flows);
    flows.handle_timeout(Instant::ZERO + KEY_PENDING);
    flows.handle_input(Instant::ZERO + KEY_PENDING, ask(KEYS_PENDING_MAX));

    assert_eq!(refused, [(child, RefuseReason::Full)]);
    assert_eq!(refusals(&mut flows), []);
}

#[test]
fn a_flow_that_contradicts_itself_is_seen() {
    let mut flows = flows();
    let origin = identity(5);
    let flow = announce(&origin, 1, 1).flow(Layer(0));
    feed(
        &mut flows,
        [link_up(UP), announced(&origin, 1), route_to(&origin, UP)],
    );
    let offer = flows.catalogue.find(flow).unwrap();
    flows.carried.insert(Carried::new(offer));
    assert_eq!(flows.contradiction_of(flow), None);

    let asking = Upstream::Asking {
        link: UP,
        until: Instant::ZERO,
    };
    flows.carried.get_mut(flow).unwrap().upstream = asking;

    assert!(flows.contradiction_of(flow).is_some());
}
