//! Tests of the site datagrams: their bytes, their proofs, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::beacon::{Epoch, Flags, Interval, Priority, RosterDigest};
use super::probe::Slot;
use super::*;
use crate::id::FlowId;
use crate::key::NetworkSecret;

const NETWORK: NetworkId = NetworkId([3; 16]);

fn identity() -> Identity {
    Identity::from_secret(&[1; 32])
}

fn seal() -> SiteSeal {
    SiteSeal::new(&NetworkSecret::from_bytes([9; 32]).site_key(&NETWORK))
}

fn scope() -> Scope {
    Scope {
        key: 2,
        site: SiteTag::of_label("hall"),
        network: NETWORK,
    }
}

fn sealed(message: &SiteDatagram) -> Vec<u8> {
    let mut out = Vec::new();
    seal().seal(&identity(), scope(), 77, message, &mut out);
    out
}

fn any_hub() -> impl Strategy<Value = Option<(NodePrefix, Epoch)>> {
    prop::option::of((1_u64.., any::<u32>()))
        .prop_map(|hub| hub.map(|(hub, epoch)| (NodePrefix(hub.to_be_bytes()), Epoch(epoch))))
}

fn any_message() -> impl Strategy<Value = SiteDatagram> {
    let node = identity().id();
    let beacon = (any::<(u64, u16, u16, [u8; 8], u16)>(), 0..=15_u8, any_hub());
    let objection = any::<([u8; 8], u32, [u8; 8], u32, u16)>();
    let probe = (any::<(u64, u32, u16, u16, bool)>(), 576..=1_440_u16);
    prop_oneof![
        beacon.prop_map(move |((boot, port, flags, roster, interval), step, hub)| {
            let (flags, priority) = (Flags(flags), Priority::new(step).unwrap());
            let member = Member {
                boot,
                port,
                flags,
                priority,
            };
            let roster = RosterDigest(roster);
            SiteDatagram::Beacon(Beacon {
                node,
                member,
                roster,
                hub,
                interval: Interval(interval),
            })
        }),
        (any::<u32>(), 0..=15_u8).prop_map(move |(epoch, step)| {
            let priority = Priority::new(step).unwrap();
            SiteDatagram::Claim(Claim {
                node,
                epoch: Epoch(epoch),
                priority,
            })
        }),
        objection.prop_map(|(claimer, claimed, hub, epoch, age_millis)| {
            SiteDatagram::Objection(Objection {
                claimer: NodePrefix(claimer),
                claimed: Epoch(claimed),
                hub: NodePrefix(hub),
                epoch: Epoch(epoch),
                age_millis,
            })
        }),
        any::<u32>().prop_map(move |epoch| {
            SiteDatagram::Resignation(Resignation {
                node,
                epoch: Epoch(epoch),
            })
        }),
        any::<(u32, [u8; 8])>().prop_map(move |(epoch, to)| {
            SiteDatagram::Handover(Handover {
                node,
                epoch: Epoch(epoch),
                to: NodePrefix(to),
            })
        }),
        probe.prop_map(|((flow, train, sequence, count, second), bytes)| {
            SiteDatagram::Probe(Probe {
                flow: FlowId(flow),
                train,
                sequence,
                count,
                slot: if second { Slot::B } else { Slot::A },
                size: PacketSize::new(bytes).unwrap(),
            })
        }),
    ]
}

/// A beacon, and its datagram.
fn beacon() -> (Beacon, Vec<u8>) {
    let beacon = Beacon {
        node: identity().id(),
        member: Member {
            boot: 5,
            port: 7_800,
            flags: Flags::RELAY.with(Flags::SENDER),
            priority: Priority::new(7).unwrap(),
        },
        roster: RosterDigest([8; 8]),
        hub: None,
        interval: Interval(100),
    };
    (beacon, sealed(&SiteDatagram::Beacon(beacon)))
}

/// A signed message whose body `change` may alter, with a MAC that is right.
fn forged(message: &SiteDatagram, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut datagram = sealed(message);
    datagram.truncate(datagram.len() - MAC_BYTES);
    change(&mut datagram);
    let mac = seal().mac(&datagram);
    datagram.extend_from_slice(&mac.to_be_bytes());
    datagram
}

fn claim() -> SiteDatagram {
    SiteDatagram::Claim(Claim {
        node: identity().id(),
        epoch: Epoch(4),
        priority: Priority::PINNED,
    })
}

proptest! {
    #[test]
    fn a_message_survives_its_datagram(message in any_message(), counter: u64) {
        let mut out = b"kept".to_vec();
        seal().seal(&identity(), scope(), counter, &message, &mut out);
        let (header, opened) = seal().open(&out[4..]).unwrap();

        prop_assert_eq!((header.scope, header.counter), (scope(), counter));
        prop_assert_eq!(header.sender, identity().id().prefix());
        prop_assert_eq!(header.is_signed(), matches!(
            message,
            SiteDatagram::Claim(_) | SiteDatagram::Resignation(_) | SiteDatagram::Handover(_)
        ));
        prop_assert_eq!(opened, message);
    }

    // spec: WIRE 9.1 a changed datagram MUST NOT open; only a probe exceeds 250 bytes
    #[test]
    fn a_changed_bit_does_not_open(message in any_message(), at: prop::sample::Index, bit in 0..8) {
        let mut datagram = sealed(&message);
        let is_probe = matches!(message, SiteDatagram::Probe(_));
        prop_assert!(is_probe || datagram.len() <= SITE_DATAGRAM_BYTES_MAX);

        let at = at.index(datagram.len());
        datagram[at] ^= 1_u8 << bit;

        prop_assert_eq!(seal().open(&datagram), None);
    }

    #[test]
    fn any_body_behind_a_true_mac_decodes_or_not(
        code: u8,
        body in prop::collection::vec(any::<u8>(), 0..1_500),
    ) {
        let datagram = forged(&claim(), |bytes| {
            bytes[1] = code;
            bytes.truncate(SITE_HEADER_BYTES);
            bytes.extend_from_slice(&body);
        });

        let opened = seal().open(&datagram);

        prop_assert!(opened.is_none_or(|(header, _)| !header.is_signed()));
    }

    #[test]
    fn any_bytes_are_a_header_or_none(bytes in prop::collection::vec(any::<u8>(), 0..1_600)) {
        if let Some(header) = SiteHeader::peek(&bytes) {
            let mut again = Vec::new();
            header.encode(&mut again);
            prop_assert_eq!(&again, &bytes[..SITE_HEADER_BYTES]);
        }
    }
}

// spec: WIRE 9.1
#[test]
fn another_network_site_key_or_reserved_byte_does_not_open() {
    let (_, datagram) = beacon();
    let other = SiteSeal::new(&NetworkSecret::from_bytes([9; 32]).site_key(&NetworkId([4; 16])));
    let reserved = forged(&claim(), |bytes| bytes[3] = 1);

    assert_eq!(other.open(&datagram), None);
    assert_eq!(SiteHeader::peek(&reserved), None);
    assert_ne!(SiteTag::of_label("hall"), SiteTag::of_label("yard"));
    assert_ne!(SiteTag::of_label(""), SiteTag::NONE);
}

// spec: WIRE 9.1
#[test]
fn a_datagram_over_250_bytes_opens_only_as_a_probe() {
    let (message, _) = beacon();
    let padded = |bytes: usize| {
        forged(&SiteDatagram::Beacon(message), |datagram| {
            datagram.resize(bytes - MAC_BYTES, 0);
        })
    };

    assert!(seal().open(&padded(SITE_DATAGRAM_BYTES_MAX)).is_some());
    assert_eq!(SiteHeader::peek(&padded(SITE_DATAGRAM_BYTES_MAX + 1)), None);
}

// spec: WIRE 9.3 a claim, resignation or hand-over that its sender did not sign MUST be dropped
#[test]
fn a_member_cannot_claim_for_another_nor_repeat_its_claim_elsewhere() {
    let mallory = Identity::from_secret(&[2; 32]);
    let counter_at = SITE_HEADER_BYTES - 1;
    let for_another = forged(&claim(), |bytes| {
        let unsigned = [
            &bytes[..SITE_HEADER_BYTES],
            &bytes[SITE_HEADER_BYTES + 64..],
        ]
        .concat();
        let signature = mallory.sign(crate::identity::Purpose::Claim, &unsigned);
        bytes[SITE_HEADER_BYTES..SITE_HEADER_BYTES + 64].copy_from_slice(&signature);
    });
    let repeated = forged(&claim(), |bytes| bytes[counter_at] += 1);
    let elsewhere = forged(&claim(), |bytes| bytes[4] ^= 1);
    let raised = forged(&claim(), |bytes| bytes[SITE_HEADER_BYTES + 64 + 27] += 1);

    assert!(seal().open(&forged(&claim(), |_| ())).is_some());
    for datagram in [for_another, repeated, elsewhere, raised] {
        assert_eq!(seal().open(&datagram), None);
    }
}

// spec: WIRE 11
#[test]
fn bytes_from_the_future_at_the_end_of_a_body_are_ignored_and_unknown_types_are_skipped() {
    let (message, _) = beacon();
    let longer = forged(&SiteDatagram::Beacon(message), |bytes| bytes.push(0xAB));
    let newer = forged(&SiteDatagram::Beacon(message), |bytes| bytes[1] = 200);

    let (_, opened) = seal().open(&longer).unwrap();

    assert_eq!(opened, SiteDatagram::Beacon(message));
    assert!(SiteHeader::peek(&newer).is_some());
    assert_eq!(seal().open(&newer), None);
}

// spec: WIRE 9.2 equal digests mean equal knowledge
#[test]
fn a_roster_digest_changes_with_all_that_a_beacon_says_of_its_sender() {
    let (beacon, _) = beacon();
    let digest =
        |member: Member| RosterDigest::of(&BTreeMap::from([(beacon.node.prefix(), member)]));
    let base = beacon.member;
    let flags = base.flags.with(Flags::WIRELESS);

    for changed in [
        Member { boot: 6, ..base },
        Member {
            port: 7_801,
            ..base
        },
        Member { flags, ..base },
        Member {
            priority: Priority::NEVER,
            ..base
        },
    ] {
        assert_ne!(digest(base), digest(changed));
    }
    assert_ne!(digest(base), RosterDigest::of(&BTreeMap::new()));
    assert!(flags.has(Flags::RELAY) && !flags.has(Flags::UPLINK));
}

// spec: WIRE 9.2
#[test]
fn a_priority_above_15_does_not_decode() {
    let (message, _) = beacon();
    let priority_at = SITE_HEADER_BYTES + 56;

    let datagram = forged(&SiteDatagram::Beacon(message), |bytes| {
        bytes[priority_at] = 16
    });

    assert_eq!(seal().open(&datagram), None);
}

#[test]
#[should_panic(expected = "a node speaks for itself only")]
fn a_node_cannot_even_write_a_beacon_of_another() {
    let (beacon, _) = beacon();
    let other = Identity::from_secret(&[2; 32]);

    seal().seal(
        &other,
        scope(),
        1,
        &SiteDatagram::Beacon(beacon),
        &mut Vec::new(),
    );
}
