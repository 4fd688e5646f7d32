//! Golden samples of control messages.
//!
//! Not the vectors. Used by `main.rs`. Invariant: `control_name` has no wildcard, so the tests do not compile before
//! a new message has its name there; its sample stands beside it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use levada_wire::control::Message;
use levada_wire::control::flow::{
    Accept, Announce, AnnounceRefusal, Cancel, CarryGrant, ChannelEnd, ChannelOffer, ChannelReport,
    Collection, Doubts, FlowMessage, Hearing, InstanceRef, KeyGrant, KeyRefusal, KeyRequest,
    Refuse, RefuseReason, Request, Withdraw, carry_context, content_context,
};
use levada_wire::control::link::{Hello, Leave, LinkMessage, Outside};
use levada_wire::control::route::{Hops, RouteMessage, Sequence, SequenceRequest, Update};
use levada_wire::control::survey::{Answer, Overview, OverviewFlow, OverviewLink, Question};
use levada_wire::datagram::site::probe::Slot;
use levada_wire::identity::SealedSecret;
use levada_wire::unknown::Unknown;
use levada_wire::{Distance, FlowId, LinkIndex, NodeId, Number, RepairBudget};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use crate::common::*;
use crate::statements::{statement, withdrawal};

pub(crate) fn messages() -> Vec<Message> {
    let link = link_messages().into_iter().map(Message::Link);
    let route = route_messages().into_iter().map(Message::Route);
    let flow = [stream_messages(), flow_messages(), key_messages()].concat();
    let flow = flow.into_iter().map(Message::Flow);
    link.chain(route).chain(flow).collect()
}

fn link_messages() -> Vec<LinkMessage> {
    let hello = Hello {
        network: network(),
        boot: 0x0B00_7000_0000_0001,
        index: LinkIndex(77),
        name: "terraço".into(),
        relay: true,
    };
    let leave = Leave {
        reason: "maintenance".into(),
    };
    let outside = Outside {
        addresses: vec!["192.0.2.7:7800".into(), "[2001:db8::7]:7800".into()],
        linked: vec![consumer().id()],
    };
    vec![
        LinkMessage::Hello(hello),
        LinkMessage::Leave(leave),
        LinkMessage::Outside(outside),
        LinkMessage::Question(Question {
            id: 5,
            path: vec![origin().id().prefix()],
            flow: Some(FlowId(0x0102_0304_0506_0708)),
        }),
        LinkMessage::Answer(Answer {
            id: 5,
            overview: Some(overview()),
        }),
    ]
}

fn overview() -> Overview {
    let link = OverviewLink {
        peer: consumer().id(),
        name: "porto".into(),
        rtt_us: Some(12_345),
        loss_in_permille: 3,
        loss_out_permille: 4,
        datagrams_in: 500,
        datagrams_out: 600,
    };
    let flow = OverviewFlow {
        flow: FlowId(0x0102_0304_0506_0708),
        name: "sports/final".parse().unwrap(),
        origin: origin().id(),
        upstream: Some(consumer().id()),
        subscriptions: 1,
        egresses: 2,
        packets_in: 700,
        bytes_in: 800,
        packets_out: 900,
        repaired: 10,
        withheld: 11,
    };
    Overview {
        name: "terraço".into(),
        relay: true,
        hub: false,
        uptime_ms: 60_000,
        links: vec![link],
        flows: vec![flow],
        links_total: 1,
        streams_total: 1,
    }
}

fn route_messages() -> Vec<RouteMessage> {
    let (origin, sequence) = (origin().id(), Sequence(8));
    let distance = Distance::from_tenth_millis(123);
    let hops = Hops::origin(origin.prefix())
        .through(consumer().id().prefix())
        .unwrap();
    let request = SequenceRequest {
        origin,
        sequence,
        hops_left: 32,
    };
    vec![
        RouteMessage::Update(Update {
            origin,
            sequence,
            distance,
            hops,
        }),
        RouteMessage::SequenceRequest(request),
    ]
}

fn stream_messages() -> Vec<FlowMessage> {
    vec![
        FlowMessage::Announce(Announce {
            statement: statement(),
        }),
        FlowMessage::Collection(Collection {
            statements: vec![statement(); 2],
        }),
        FlowMessage::Doubts(Doubts {
            statements: vec![statement(); 2],
        }),
        FlowMessage::Withdraw(Withdraw {
            statement: withdrawal(),
        }),
        FlowMessage::AnnounceRefusal(AnnounceRefusal {
            of: InstanceRef {
                origin: origin().id(),
                name: name(),
                instance: INSTANCE,
            },
            node: consumer().id(),
            hops_left: 31,
            reason: RefuseReason::Full,
            unknown: Unknown::default(),
        }),
    ]
}

fn flow_messages() -> Vec<FlowMessage> {
    let flow = flow();
    let carry = carry_secret().carry_key(flow);
    let key = CarryGrant {
        epoch: 1,
        sealed: sealed(&carry_context(flow, 1), carry.bytes()),
    };
    vec![
        FlowMessage::Request(Request {
            flow,
            needs_key: true,
            budget: RepairBudget::DEFAULT,
            have: None,
        }),
        FlowMessage::Request(Request {
            flow,
            needs_key: true,
            budget: RepairBudget::new(Duration::from_millis(800)),
            have: None,
        }),
        FlowMessage::Request(Request {
            flow,
            needs_key: false,
            budget: RepairBudget::DEFAULT,
            have: Number::new(70_000),
        }),
        FlowMessage::Accept(Accept {
            flow,
            key: Some(key),
        }),
        FlowMessage::Refuse(Refuse {
            flow,
            reason: RefuseReason::Loop,
        }),
        FlowMessage::Cancel(Cancel { flow }),
        FlowMessage::ChannelOffer(ChannelOffer {
            flow,
            slot: Slot::A,
        }),
        FlowMessage::ChannelEnd(ChannelEnd {
            flow,
            slot: Slot::B,
        }),
        FlowMessage::ChannelReport(ChannelReport {
            flow,
            slot: Slot::A,
            hearing: Hearing::Silent,
            have: Number::new(77),
        }),
    ]
}

fn key_messages() -> Vec<FlowMessage> {
    let of = || InstanceRef {
        origin: origin().id(),
        name: name(),
        instance: INSTANCE,
    };
    let (consumer, reason) = (consumer().id(), RefuseReason::Forbidden);
    let content = sealed(&content_context(&of(), 1), content_secret().bytes());
    vec![
        FlowMessage::KeyRequest(KeyRequest {
            of: of(),
            consumer,
            hops_left: 31,
            unknown: Unknown::default(),
        }),
        request_of_a_later_version(of(), consumer),
        FlowMessage::KeyGrant(KeyGrant::sign(of(), consumer, 1, content, &origin())),
        FlowMessage::KeyRefusal(KeyRefusal {
            of: of(),
            consumer,
            reason,
            unknown: Unknown::default(),
        }),
    ]
}

/// A key request with a field that no version knows yet, as a relay passes it on: 200, "x".
fn request_of_a_later_version(of: InstanceRef, consumer: NodeId) -> FlowMessage {
    let request = KeyRequest {
        of,
        consumer,
        hops_left: 31,
        unknown: Unknown::default(),
    };
    let mut bytes = minicbor::to_vec(request).unwrap();
    bytes[0] += 1;
    bytes.extend_from_slice(&[0x18, 200, 0x61, b'x']);
    FlowMessage::KeyRequest(minicbor::decode(&bytes).unwrap())
}

/// A secret sealed to the consumer, with a key pair that is the same in every run.
fn sealed(context: &[u8], secret: &[u8]) -> SealedSecret {
    let rng = &mut ChaCha20Rng::seed_from_u64(1);
    SealedSecret::seal(&consumer().id(), context, secret, rng).unwrap()
}

/// The name of a message's vector. Has no wildcard: without a name for a new message the tests do not compile.
pub(crate) const fn control_name(message: &Message) -> &'static str {
    match message {
        Message::Link(LinkMessage::Hello(_)) => "hello",
        Message::Link(LinkMessage::Leave(_)) => "leave",
        Message::Link(LinkMessage::Outside(_)) => "outside",
        Message::Link(LinkMessage::Question(_)) => "question",
        Message::Link(LinkMessage::Answer(_)) => "answer",
        Message::Route(RouteMessage::Update(_)) => "update",
        Message::Route(RouteMessage::SequenceRequest(_)) => "sequence-request",
        Message::Flow(FlowMessage::Announce(_)) => "announce",
        Message::Flow(FlowMessage::Collection(_)) => "collection",
        Message::Flow(FlowMessage::Doubts(_)) => "doubts",
        Message::Flow(FlowMessage::Withdraw(_)) => "withdraw",
        Message::Flow(FlowMessage::AnnounceRefusal(_)) => "announce-refusal",
        // The first is what a node sends that knows of no budgets.
        Message::Flow(FlowMessage::Request(request)) => match (request.budget, request.have) {
            (_, Some(_)) => "request-have",
            (RepairBudget::DEFAULT, None) => "request",
            (_, None) => "request-budget",
        },
        Message::Flow(FlowMessage::Accept(_)) => "accept",
        Message::Flow(FlowMessage::Refuse(_)) => "refuse",
        Message::Flow(FlowMessage::Cancel(_)) => "cancel",
        Message::Flow(FlowMessage::ChannelOffer(_)) => "channel-offer",
        Message::Flow(FlowMessage::ChannelEnd(_)) => "channel-end",
        Message::Flow(FlowMessage::ChannelReport(_)) => "channel-report",
        Message::Flow(FlowMessage::KeyRequest(request)) => {
            if request.unknown.is_empty() {
                "key-request"
            } else {
                "key-request-later"
            }
        }
        Message::Flow(FlowMessage::KeyGrant(_)) => "key-grant",
        Message::Flow(FlowMessage::KeyRefusal(_)) => "key-refusal",
    }
}

pub(crate) fn control_messages() -> Vec<Sample> {
    let sample = |message: Message| {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        (format!("control/{}", control_name(&message)), bytes)
    };
    messages().into_iter().map(sample).collect()
}
