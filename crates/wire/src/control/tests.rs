//! Tests of the control messages and of their stream: round trips, versions, limits and garbage.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use super::flow::{
    Accept, Announce, AnnounceRefusal, COLLECTION_MAX, Cancel, CarryGrant, ChannelEnd,
    ChannelOffer, ChannelReport, Collection, Doubts, Hearing, InstanceRef, KeyGrant, KeyRefusal,
    KeyRequest, Refuse, RefuseReason, Request, Withdraw,
};
use super::link::{Hello, Leave, Outside};
use super::route::{HOPS_MAX, Hops, Sequence, SequenceRequest, Update};
use super::survey::{Answer, Overview, OverviewFlow, OverviewLink, Question};
use super::*;
use crate::announce::{self, LayerOffer, SignedAnnounce, SignedWithdraw, TrackOffer};
use crate::datagram::site::probe::Slot;
use crate::frame::TrackKind;
use crate::id::{
    CarryEnd, FlowId, InstanceId, LinkIndex, NetworkId, NodeId, NodePrefix, StreamName,
};
use crate::identity::{Identity, SealedSecret};
use crate::key::Suite;
use crate::units::{Bitrate, Distance, Layer, Number, PacketSize, RepairBudget};
use crate::unknown::{UNKNOWN_BYTES_MAX, Unknown};

/// Signatures are slow without optimisation, and a message has few corners: fewer cases than usual find them.
const CASES: u32 = 64;

fn origin() -> Identity {
    Identity::from_secret(&[1; 32])
}

fn any_name() -> impl Strategy<Value = StreamName> {
    "[a-z]{1,20}(/[A-Z0-9_-]{1,8}){0,3}".prop_map(|text| text.parse().unwrap())
}

fn any_statement() -> impl Strategy<Value = SignedAnnounce> {
    let kind = prop::sample::select(vec![TrackKind::Video, TrackKind::Audio, TrackKind::Data]);
    let track = (kind, "[a-z0-9]{0,32}").prop_map(|(kind, codec)| TrackOffer { kind, codec });
    let tracks = prop::collection::vec(track, 0..4);
    let layer = (any::<(u8, u64)>(), tracks).prop_map(|((layer, peak), tracks)| LayerOffer {
        layer: Layer(layer),
        peak: Bitrate(peak),
        tracks,
    });
    let layers = prop::collection::vec(layer, 1..3);
    let numbers = (any::<([u8; 16], u64, u32, bool)>(), 576..=1_440_u16);
    (any_name(), numbers, layers).prop_map(|(name, (numbers, size), layers)| {
        let (instance, group_base, version, chacha) = numbers;
        let content = announce::Announce {
            origin: origin().id(),
            name,
            instance: InstanceId(instance),
            group_base,
            version,
            suite: if chacha {
                Suite::ChaCha20Poly1305
            } else {
                Suite::Aes128Gcm
            },
            packet_size: PacketSize::new(size).unwrap(),
            carry: chacha.then(|| vec![CarryEnd([7; 32]); layers.len()]),
            layers,
        };
        SignedAnnounce::sign(content, &origin())
    })
}

fn any_withdraw() -> impl Strategy<Value = SignedWithdraw> {
    (any_name(), any::<[u8; 16]>()).prop_map(|(name, instance)| {
        let instance = InstanceId(instance);
        let content = announce::Withdraw {
            origin: origin().id(),
            name,
            instance,
        };
        SignedWithdraw::sign(content, &origin())
    })
}

fn any_instance() -> impl Strategy<Value = InstanceRef> {
    (any::<[u8; 32]>(), any_name(), any::<[u8; 16]>()).prop_map(|(origin, name, instance)| {
        InstanceRef {
            origin: NodeId(origin),
            name,
            instance: InstanceId(instance),
        }
    })
}

fn any_sealed() -> impl Strategy<Value = SealedSecret> {
    any::<u64>().prop_map(|seed| {
        let rng = &mut ChaCha20Rng::seed_from_u64(seed);
        SealedSecret::seal(&origin().id(), b"", &[7; 32], rng).unwrap()
    })
}

fn slot() -> impl Strategy<Value = Slot> {
    any::<bool>().prop_map(|second| if second { Slot::B } else { Slot::A })
}

fn any_hearing() -> impl Strategy<Value = Hearing> {
    let all: Vec<_> = Hearing::all().collect();
    (0..all.len()).prop_map(move |at| all[at])
}

fn any_reason() -> impl Strategy<Value = RefuseReason> {
    prop::sample::select(RefuseReason::all().collect::<Vec<_>>())
}

fn any_link_message() -> impl Strategy<Value = LinkMessage> {
    let hello = (any::<([u8; 16], u64, u32, bool)>(), ".{0,20}");
    prop_oneof![
        hello.prop_map(|((network, boot, index, relay), name)| {
            LinkMessage::Hello(Hello {
                network: NetworkId(network),
                boot,
                index: LinkIndex(index),
                name,
                relay,
            })
        }),
        ".{0,200}".prop_map(|reason| LinkMessage::Leave(Leave { reason })),
        (
            prop::collection::vec(".{0,30}", 0..4),
            prop::collection::vec(any::<[u8; 32]>(), 0..4)
        )
            .prop_map(|(addresses, linked)| LinkMessage::Outside(Outside {
                addresses,
                linked: linked.into_iter().map(NodeId).collect(),
            })),
        (
            any::<u32>(),
            prop::collection::vec(any::<[u8; 8]>(), 0..4),
            any::<Option<u64>>()
        )
            .prop_map(|(id, path, flow)| LinkMessage::Question(Question {
                id,
                path: path.into_iter().map(NodePrefix).collect(),
                flow: flow.map(FlowId),
            })),
        (any::<u32>(), prop::option::of(any_overview()))
            .prop_map(|(id, overview)| LinkMessage::Answer(Answer { id, overview })),
    ]
}

fn any_overview() -> impl Strategy<Value = Overview> {
    let link = (
        any::<([u8; 32], Option<u32>, u16, u16, u64, u64)>(),
        ".{0,20}",
    );
    let link =
        link.prop_map(
            |((peer, rtt_us, lost_in, lost_out, came, went), name)| OverviewLink {
                peer: NodeId(peer),
                name,
                rtt_us,
                loss_in_permille: lost_in,
                loss_out_permille: lost_out,
                datagrams_in: came,
                datagrams_out: went,
            },
        );
    let flow = (
        any::<(u64, [u8; 32], Option<[u8; 32]>, u32, u32, [u64; 5])>(),
        any_name(),
    );
    let flow = flow.prop_map(
        |((flow, origin, upstream, subscriptions, egresses, counts), name)| {
            let [packets_in, bytes_in, packets_out, repaired, withheld] = counts;
            OverviewFlow {
                flow: FlowId(flow),
                name,
                origin: NodeId(origin),
                upstream: upstream.map(NodeId),
                subscriptions,
                egresses,
                packets_in,
                bytes_in,
                packets_out,
                repaired,
                withheld,
            }
        },
    );
    let rows = (
        prop::collection::vec(link, 0..3),
        prop::collection::vec(flow, 0..3),
    );
    (any::<(bool, bool, u64, u32, u32)>(), ".{0,20}", rows).prop_map(
        |((relay, hub, uptime_ms, links_total, streams_total), name, (links, flows))| Overview {
            name,
            relay,
            hub,
            uptime_ms,
            links,
            flows,
            links_total,
            streams_total,
        },
    )
}

fn any_route_message() -> impl Strategy<Value = RouteMessage> {
    let hops = prop::collection::vec(any::<[u8; 8]>(), 0..=HOPS_MAX).prop_map(|prefixes| {
        let through = |hops: Hops, prefix| hops.through(NodePrefix(prefix)).unwrap();
        prefixes.into_iter().fold(Hops::default(), through)
    });
    prop_oneof![
        (any::<([u8; 32], u16, u32)>(), hops).prop_map(|((origin, sequence, distance), hops)| {
            RouteMessage::Update(Update {
                origin: NodeId(origin),
                sequence: Sequence(sequence),
                distance: Distance::from_tenth_millis(distance),
                hops,
            })
        }),
        any::<([u8; 32], u16, u8)>().prop_map(|(origin, sequence, hops_left)| {
            RouteMessage::SequenceRequest(SequenceRequest {
                origin: NodeId(origin),
                sequence: Sequence(sequence),
                hops_left,
            })
        }),
    ]
}

fn any_stream_message() -> impl Strategy<Value = FlowMessage> {
    prop_oneof![
        any_statement().prop_map(|statement| FlowMessage::Announce(Announce { statement })),
        prop::collection::vec(any_statement(), 0..4)
            .prop_map(|statements| FlowMessage::Collection(Collection { statements })),
        prop::collection::vec(any_statement(), 0..4)
            .prop_map(|statements| FlowMessage::Doubts(Doubts { statements })),
        any_withdraw().prop_map(|statement| FlowMessage::Withdraw(Withdraw { statement })),
    ]
}

fn any_budget() -> impl Strategy<Value = RepairBudget> {
    let any =
        any::<u16>().prop_map(|millis| RepairBudget::new(Duration::from_millis(millis.into())));
    prop_oneof![Just(RepairBudget::DEFAULT), any]
}

fn any_have() -> impl Strategy<Value = Option<Number>> {
    prop::option::of(any::<u64>().prop_map(Number::from_low_bits))
}

fn any_channel_message() -> impl Strategy<Value = FlowMessage> {
    let flow = || any::<u64>().prop_map(FlowId);
    prop_oneof![
        (flow(), slot())
            .prop_map(|(flow, slot)| FlowMessage::ChannelOffer(ChannelOffer { flow, slot })),
        (flow(), slot())
            .prop_map(|(flow, slot)| FlowMessage::ChannelEnd(ChannelEnd { flow, slot })),
        (flow(), slot(), any_hearing(), any_have()).prop_map(|(flow, slot, hearing, have)| {
            FlowMessage::ChannelReport(ChannelReport {
                flow,
                slot,
                hearing,
                have,
            })
        }),
    ]
}

fn any_flow_message() -> impl Strategy<Value = FlowMessage> {
    let flow = || any::<u64>().prop_map(FlowId);
    let key = (any::<u8>(), any_sealed()).prop_map(|(epoch, sealed)| CarryGrant { epoch, sealed });
    let consumer = || any::<[u8; 32]>().prop_map(NodeId);
    prop_oneof![
        (flow(), any::<bool>(), any_budget(), any_have()).prop_map(
            |(flow, needs_key, budget, have)| {
                FlowMessage::Request(Request {
                    flow,
                    needs_key,
                    budget,
                    have,
                })
            }
        ),
        (flow(), prop::option::of(key))
            .prop_map(|(flow, key)| FlowMessage::Accept(Accept { flow, key })),
        (flow(), any_reason())
            .prop_map(|(flow, reason)| FlowMessage::Refuse(Refuse { flow, reason })),
        flow().prop_map(|flow| FlowMessage::Cancel(Cancel { flow })),
        any_channel_message(),
        (any_instance(), consumer(), any::<u8>(), any_reason()).prop_map(
            |(of, node, hops_left, reason)| {
                FlowMessage::AnnounceRefusal(AnnounceRefusal {
                    of,
                    node,
                    hops_left,
                    reason,
                    unknown: Unknown::default(),
                })
            }
        ),
        (any_instance(), consumer(), any::<u8>()).prop_map(|(of, consumer, hops_left)| {
            FlowMessage::KeyRequest(KeyRequest {
                of,
                consumer,
                hops_left,
                unknown: Unknown::default(),
            })
        }),
        (any_instance(), consumer(), any::<u8>(), any_sealed()).prop_map(
            |(of, consumer, epoch, sealed)| {
                let of = InstanceRef {
                    origin: origin().id(),
                    ..of
                };
                FlowMessage::KeyGrant(KeyGrant::sign(of, consumer, epoch, sealed, &origin()))
            }
        ),
        (any_instance(), consumer(), any_reason()).prop_map(|(of, consumer, reason)| {
            FlowMessage::KeyRefusal(KeyRefusal {
                of,
                consumer,
                reason,
                unknown: Unknown::default(),
            })
        }),
    ]
}

fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        2 => any_link_message().prop_map(Message::Link),
        2 => any_route_message().prop_map(Message::Route),
        3 => any_stream_message().prop_map(Message::Flow),
        7 => any_flow_message().prop_map(Message::Flow),
    ]
}

/// A frame that may or may not make sense.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    (
        0..5_u8,
        0..0x30_u8,
        prop::collection::vec(any::<u8>(), 0..40),
    )
        .prop_map(|(concern, code, body)| frame(concern, code, &body))
}

fn frame(concern: u8, code: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&length, [concern, code].as_slice(), body].concat()
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}

fn decoded(bytes: &[u8]) -> Result<Vec<Message>, ControlError> {
    let mut messages = Vec::new();
    Decoder::default().push(bytes, &mut messages)?;
    Ok(messages)
}

/// The same message as a later version would write it: with one more field, which may be anything.
fn with_a_field_from_the_future(message: &Message) -> Vec<u8> {
    let bytes = encoded(message);
    let mut body = bytes[MESSAGE_HEADER_BYTES..].to_vec();
    let fields = body[0] - 0xA0;
    assert!(fields < 23, "a body is a map of few fields");
    body[0] += 1;
    // Field 200: [1, {"x": h'00', _ ...}].
    body.extend_from_slice(&[0x18, 200, 0x82, 0x01, 0xBF, 0x61, b'x', 0x41, 0x00, 0xFF]);
    frame(bytes[4], bytes[5], &body)
}

/// The message as it would be had its sender not known more than this version.
fn without_unknown(mut message: Message) -> Message {
    match &mut message {
        Message::Flow(FlowMessage::KeyRequest(request)) => request.unknown = Unknown::default(),
        Message::Flow(FlowMessage::KeyGrant(grant)) => grant.unknown = Unknown::default(),
        Message::Flow(FlowMessage::KeyRefusal(refusal)) => refusal.unknown = Unknown::default(),
        Message::Flow(FlowMessage::AnnounceRefusal(refusal)) => {
            refusal.unknown = Unknown::default();
        }
        _ => {}
    }
    message
}

fn goes_along_the_route(message: &FlowMessage) -> bool {
    matches!(
        message,
        FlowMessage::KeyRequest(_)
            | FlowMessage::KeyGrant(_)
            | FlowMessage::KeyRefusal(_)
            | FlowMessage::AnnounceRefusal(_)
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn a_message_survives_its_bytes(message in any_message()) {
        prop_assert_eq!(decoded(&encoded(&message)).unwrap(), vec![message]);
    }

    // spec: WIRE 11 unknown fields MUST be ignored: what N writes, N-1 reads
    #[test]
    fn a_message_with_a_field_from_the_future_decodes_as_without(message in any_message()) {
        let bytes = with_a_field_from_the_future(&message);

        let without = decoded(&bytes).unwrap().into_iter().map(without_unknown);
        prop_assert_eq!(without.collect::<Vec<_>>(), vec![message]);
    }

    // spec: WIRE 7.3 fields of a key request and of its answer that a node does not know MUST be passed on
    #[test]
    fn a_message_that_goes_along_the_route_keeps_a_field_from_the_future(
        message in any_flow_message().prop_filter("goes on", goes_along_the_route),
    ) {
        let bytes = with_a_field_from_the_future(&Message::Flow(message));

        let again: Vec<u8> = decoded(&bytes).unwrap().iter().flat_map(encoded).collect();
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn any_chunking_of_a_stream_gives_the_same_messages(
        messages in prop::collection::vec(any_message(), 1..4),
        sizes in prop::collection::vec(1..50_usize, 1..20),
    ) {
        let bytes: Vec<u8> = messages.iter().flat_map(encoded).collect();
        let mut sizes = sizes.into_iter().cycle();
        let (mut rest, mut decoder, mut taken) = (&bytes[..], Decoder::default(), Vec::new());

        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(sizes.next().unwrap().min(rest.len()));
            decoder.push(chunk, &mut taken).unwrap();
            rest = after;
        }

        prop_assert_eq!(taken, messages);
        prop_assert!(decoder.buffer.is_empty());
    }
}

proptest! {
    // spec: WIRE 7 a receiver MUST NOT hold more than one message's bytes
    #[test]
    fn garbage_neither_panics_nor_is_hoarded(
        frames in prop::collection::vec(any_frame(), 0..8),
        tail in prop::collection::vec(any::<u8>(), 0..200),
        chunk in 1..100_usize,
    ) {
        let bytes = [frames.concat(), tail].concat();
        let (mut decoder, mut failed) = (Decoder::default(), false);

        for chunk in bytes.chunks(chunk) {
            let result = decoder.push(chunk, &mut Vec::new());
            prop_assert!(result.is_err() || !failed, "what is broken stays broken");
            failed = result.is_err();
            prop_assert!(decoder.buffer.len() < MESSAGE_HEADER_BYTES + MESSAGE_BYTES_MAX);
            prop_assert!(!failed || decoder.buffer.is_empty());
        }
    }
}

// spec: WIRE 7 a stream that brings a frame beyond the limit MUST be closed
#[test]
fn an_oversized_frame_is_refused_by_its_header_alone() {
    let most = u32::try_from(MESSAGE_BYTES_MAX).unwrap();
    let header = |length: u32| [length.to_be_bytes().as_slice(), &[1, 1]].concat();
    let mut decoder = Decoder::default();

    assert!(decoded(&header(most)).unwrap().is_empty());
    let refused = decoder.push(&header(most + 1), &mut Vec::new());

    assert!(matches!(refused, Err(ControlError::TooLong { bytes }) if bytes == 65_537));
    let after = decoder.push(b"more", &mut Vec::new());
    assert!(matches!(after, Err(ControlError::Broken)));
}

#[test]
fn a_message_that_waits_for_its_last_byte_is_held_once() {
    let body = vec![0; MESSAGE_BYTES_MAX];
    let unknown = frame(200, 1, &body);
    let (mut decoder, mut messages) = (Decoder::default(), Vec::new());

    for _ in 0..3 {
        decoder
            .push(&unknown[..unknown.len() - 1], &mut messages)
            .unwrap();
        assert_eq!(decoder.buffer.len(), unknown.len() - 1);
        decoder
            .push(&unknown[unknown.len() - 1..], &mut messages)
            .unwrap();
        assert!(decoder.buffer.is_empty());
    }

    assert!(messages.is_empty());
}

// spec: WIRE 11 unknown types MUST be skipped
#[test]
fn an_unknown_type_is_skipped_and_what_follows_is_read() {
    let cancel = Message::Flow(FlowMessage::Cancel(Cancel { flow: FlowId(9) }));
    let bytes = [
        frame(3, 0xEE, b"not even CBOR"),
        frame(0xEE, 1, &[]),
        encoded(&cancel),
    ];

    assert_eq!(decoded(&bytes.concat()).unwrap(), [cancel]);
}

// spec: WIRE 11
#[test]
fn a_reason_from_the_future_reads_as_other() {
    let refuse = Message::Flow(FlowMessage::Refuse(Refuse {
        flow: FlowId(9),
        reason: RefuseReason::Other,
    }));
    let mut bytes = encoded(&refuse);
    assert_eq!(bytes.pop(), Some(0));
    bytes.push(19);

    assert_eq!(decoded(&bytes).unwrap(), [refuse]);
}

#[test]
fn a_known_type_whose_body_is_no_map_breaks_the_stream() {
    assert!(matches!(
        decoded(&frame(3, 0x13, &[0x01])),
        Err(ControlError::Malformed(_))
    ));
}

// spec: WIRE 7.3 a grant that the origin did not sign MUST NOT be used
#[test]
fn a_key_grant_changed_anywhere_is_not_the_origins() {
    let of = |name: &str, instance| InstanceRef {
        origin: origin().id(),
        name: name.parse().unwrap(),
        instance: InstanceId([instance; 16]),
    };
    let sealed = |secret: &[u8]| {
        let rng = &mut ChaCha20Rng::seed_from_u64(1);
        SealedSecret::seal(&origin().id(), b"", secret, rng).unwrap()
    };
    let (consumer, other) = (NodeId([5; 32]), Identity::from_secret(&[2; 32]));
    let grant = KeyGrant::sign(of("cam", 1), consumer, 1, sealed(&[7; 32]), &origin());

    assert!(grant.is_signed_by_origin());
    let of_other = InstanceRef {
        origin: other.id(),
        ..of("cam", 1)
    };
    let signature = vec![0; grant.signature.len()];
    let of_grant = Message::Flow(FlowMessage::KeyGrant(grant.clone()));
    let later = with_a_field_from_the_future(&of_grant);
    let unknown = match decoded(&later).unwrap().pop() {
        Some(Message::Flow(FlowMessage::KeyGrant(grant))) => grant.unknown,
        other => panic!("{other:?}"),
    };
    for changed in [
        KeyGrant {
            of: of("cam2", 1),
            ..grant.clone()
        },
        KeyGrant {
            of: of("cam", 2),
            ..grant.clone()
        },
        KeyGrant {
            of: of_other,
            ..grant.clone()
        },
        KeyGrant {
            consumer: other.id(),
            ..grant.clone()
        },
        KeyGrant {
            epoch: 2,
            ..grant.clone()
        },
        KeyGrant {
            sealed: sealed(&[8; 32]),
            ..grant.clone()
        },
        KeyGrant {
            unknown,
            ..grant.clone()
        },
        KeyGrant { signature, ..grant },
    ] {
        assert!(!changed.is_signed_by_origin(), "{changed:?}");
    }
}

// spec: WIRE 7.3 a collection of more than 12 announces MUST NOT decode
#[test]
fn a_collection_beyond_its_limit_does_not_decode() {
    let content = announce::Announce {
        origin: origin().id(),
        name: "cam".parse().unwrap(),
        instance: InstanceId([4; 16]),
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
    };
    let collection = |count| {
        let statements = vec![SignedAnnounce::sign(content.clone(), &origin()); count];
        encoded(&Message::Flow(FlowMessage::Collection(Collection {
            statements,
        })))
    };

    assert_eq!(decoded(&collection(COLLECTION_MAX)).unwrap().len(), 1);
    assert!(decoded(&collection(COLLECTION_MAX + 1)).is_err());
}

#[test]
fn a_full_collection_of_the_largest_announces_fits_into_a_message() {
    // Beside the bytes that are signed: a map header, two keys, two byte string headers, 64 bytes of signature, and
    // what a later version adds.
    let envelope = announce::SIGNED_BYTES_MAX + 80 + UNKNOWN_BYTES_MAX;

    assert!(COLLECTION_MAX * envelope < MESSAGE_BYTES_MAX);
}

#[test]
fn every_concern_is_found_by_its_number() {
    for concern in Concern::ALL {
        assert_eq!(Concern::from_code(concern.code()), Some(concern));
    }
    assert_eq!(Concern::from_code(0), None);
}

// spec: WIRE 7.3 a request that names no budget means 500 ms
#[test]
fn a_request_without_a_budget_has_the_default_and_an_endless_one_is_cut() {
    let budget_of = |body: &[u8]| minicbor::decode::<Request>(body).unwrap().budget;
    let [none, endless] = [
        &b"\xa2\x00\x07\x01\xf5"[..],
        b"\xa3\x00\x07\x01\xf5\x02\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
    ];

    assert_eq!(budget_of(none), RepairBudget::DEFAULT);
    assert_eq!(budget_of(none).time(), Duration::from_millis(500));
    assert_eq!(budget_of(endless), RepairBudget::MAX);
}
