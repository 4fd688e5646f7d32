//! Golden samples of media packets, link datagrams and site datagrams.
//!
//! Not the vectors. Used by `main.rs`. Invariant: a sample, once committed, is made in the same way for ever.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use levada_wire::datagram::link::{
    Counter, Head, LinkDatagram, LinkHeader, LinkSeal, Numbers, Ping, Pong, Pull,
};
use levada_wire::datagram::site::beacon::{Epoch, Flags, Interval, Priority, RosterDigest};
use levada_wire::datagram::site::probe::Slot;
use levada_wire::datagram::site::{
    Beacon, Claim, Handover, Member, Objection, Probe, Resignation, Scope, SiteDatagram, SiteSeal,
    SiteTag,
};
use levada_wire::key::{LinkKey, NetworkSecret, Suite};
use levada_wire::packet::Class;
use levada_wire::packet::parity::code::{self, Words};
use levada_wire::packet::parity::{ParityHeader, unit_bytes, unit_of};
use levada_wire::packet::seal::Sealer;
use levada_wire::{Group, Header, LinkIndex, NetworkId, OriginTime, PacketSize};

use crate::common::*;

pub(crate) fn header(value: u64) -> Header {
    Header {
        last: true,
        discardable: true,
        class: Class::new(2).unwrap(),
        key: 1,
        description: 3,
        flow: flow(),
        number: number(value),
        index: 4,
        group: Group(5),
        offset: 6,
        sent: OriginTime(7_000_000),
    }
}

pub(crate) fn packet(suite: Suite, value: u64) -> Vec<u8> {
    let carry = carry_secret().carry_key(flow());
    let mut out = Vec::new();
    Sealer::new(content_secret(), carry, flow(), INSTANCE, suite).seal(
        &header(value),
        b"a terrace below",
        &mut out,
    );
    out
}

pub(crate) fn packets() -> Vec<Sample> {
    vec![
        ("packet/aes-128-gcm".into(), packet(Suite::Aes128Gcm, 9)),
        (
            "packet/chacha20-poly1305".into(),
            packet(Suite::ChaCha20Poly1305, 9),
        ),
        (
            "packet/second-generation".into(),
            packet(Suite::Aes128Gcm, 1 << 22),
        ),
    ]
}

/// Three packets of one group, none as long as another.
pub(crate) fn block() -> Vec<Vec<u8>> {
    let carry = carry_secret().carry_key(flow());
    let mut sealer = Sealer::new(content_secret(), carry, flow(), INSTANCE, Suite::Aes128Gcm);
    let bodies = [&b"pools"[..], b"that the water crosses", b""];
    let places = (0..).zip(bodies);
    let packet = |(place, body): (u16, &[u8])| {
        let header = Header {
            index: 4 + place,
            offset: 6 + u32::from(place),
            ..header(9 + u64::from(place))
        };
        let mut out = Vec::new();
        sealer.seal(&header, body, &mut out);
        out
    };
    places.map(packet).collect()
}

/// Two shards over [`block`].
pub(crate) fn parity() -> Vec<Sample> {
    let (block, shards) = (block(), [0, 31]);
    let lengths = block.iter().map(|packet| unit_bytes(packet));
    let longest = lengths.max().unwrap();
    let mut sums = vec![Words::zero(longest); shards.len()];
    let mut unit = Words::default();
    for (place, packet) in block.iter().enumerate() {
        unit_of(packet, &mut unit);
        code::add(&unit, place, &mut sums, &shards);
    }
    let datagram = |(&shard, sum): (&usize, &Words)| {
        let header = ParityHeader {
            shard: u8::try_from(shard).unwrap(),
            key: 1,
            packets: 3,
            flow: flow(),
            first: 9,
        };
        let mut out = Vec::new();
        let carry = carry_secret().carry_key(flow());
        header.encode(&carry, sum, longest, &mut out);
        (format!("parity/shard-{shard}"), out)
    };
    shards.iter().zip(&sums).map(datagram).collect()
}

pub(crate) fn link_messages() -> Vec<(&'static str, LinkDatagram)> {
    let numbers = || Numbers {
        flow: flow(),
        first: number(10),
        bitmap: vec![0x81, 0x40],
    };
    vec![
        (
            "ping",
            LinkDatagram::Ping(Ping {
                time: 1,
                sent: 2,
                padding: 0,
            }),
        ),
        (
            "ping-padded",
            LinkDatagram::Ping(Ping::padded(1, 2, PacketSize::MIN)),
        ),
        (
            "pong",
            LinkDatagram::Pong(Pong {
                time: 1,
                sent: 2,
                received: 3,
                size: 0,
            }),
        ),
        (
            "pong-padded",
            LinkDatagram::Pong(Pong {
                time: 1,
                sent: 2,
                received: 3,
                size: 576,
            }),
        ),
        ("nack", LinkDatagram::Nack(numbers())),
        ("nack-bad", LinkDatagram::NackBad(numbers())),
        ("pending", LinkDatagram::Pending(numbers())),
        ("gone", LinkDatagram::Gone(numbers())),
        (
            "head",
            LinkDatagram::Head(Head {
                flow: flow(),
                highest: number(99),
            }),
        ),
        (
            "pull",
            LinkDatagram::Pull(Pull {
                flow: flow(),
                first: number(10),
                count: 20,
            }),
        ),
    ]
}

pub(crate) fn link_seal() -> LinkSeal {
    LinkSeal::new(&LinkKey::from_bytes([0x11; 32]))
}

pub(crate) fn link_datagrams() -> Vec<Sample> {
    let sealed = |message| {
        let header = LinkHeader {
            index: LinkIndex(77),
            counter: Counter::new(1, 5),
        };
        let mut out = Vec::new();
        link_seal().seal(header, message, &mut out);
        out
    };
    let messages = link_messages();
    messages
        .iter()
        .map(|(name, message)| (format!("link/{name}"), sealed(message)))
        .collect()
}

pub(crate) fn member() -> Member {
    Member {
        boot: 0x0B00_7000_0000_0001,
        port: 7_800,
        flags: Flags::RELAY.with(Flags::SENDER),
        priority: Priority::new(9).unwrap(),
    }
}

pub(crate) fn roster() -> RosterDigest {
    let other = Member {
        flags: Flags::WIRELESS,
        ..member()
    };
    RosterDigest::of(&BTreeMap::from([
        (origin().id().prefix(), member()),
        (consumer().id().prefix(), other),
    ]))
}

pub(crate) fn site_messages() -> Vec<(&'static str, SiteDatagram)> {
    let (node, epoch) = (origin().id(), Epoch(6));
    let hub = consumer().id().prefix();
    let beacon = |hub| Beacon {
        node,
        member: member(),
        roster: roster(),
        hub,
        interval: Interval::DEFAULT,
    };
    let objection = Objection {
        claimer: node.prefix(),
        claimed: Epoch(7),
        hub,
        epoch,
        age_millis: 80,
    };
    let probe = Probe {
        flow: flow(),
        train: 2,
        sequence: 3,
        count: 20,
        slot: Slot::B,
        size: PacketSize::new(600).unwrap(),
    };
    let priority = Priority::PINNED;
    vec![
        ("beacon", SiteDatagram::Beacon(beacon(Some((hub, epoch))))),
        ("beacon-alone", SiteDatagram::Beacon(beacon(None))),
        (
            "claim",
            SiteDatagram::Claim(Claim {
                node,
                epoch,
                priority,
            }),
        ),
        ("objection", SiteDatagram::Objection(objection)),
        (
            "resignation",
            SiteDatagram::Resignation(Resignation { node, epoch }),
        ),
        (
            "handover",
            SiteDatagram::Handover(Handover {
                node,
                epoch,
                to: hub,
            }),
        ),
        ("probe", SiteDatagram::Probe(probe)),
    ]
}

pub(crate) fn site_seal() -> SiteSeal {
    SiteSeal::new(&NetworkSecret::from_bytes([0x4E; 32]).site_key(&network()))
}

pub(crate) fn site_datagrams() -> Vec<Sample> {
    let open = Scope {
        key: 0,
        site: SiteTag::NONE,
        network: NetworkId::OPEN,
    };
    let named = Scope {
        key: 1,
        site: SiteTag::of_label("hall"),
        network: network(),
    };
    let sealed = |seal: &SiteSeal, scope, message| {
        let mut out = Vec::new();
        seal.seal(&origin(), scope, 1_800_000_000_000_000, message, &mut out);
        out
    };
    let messages = site_messages();
    let mut samples: Vec<Sample> = messages
        .iter()
        .map(|(name, message)| (format!("site/{name}"), sealed(&site_seal(), named, message)))
        .collect();
    let open_seal = SiteSeal::new(&NetworkSecret::open().site_key(&NetworkId::OPEN));
    samples.push((
        "site/beacon-open".into(),
        sealed(&open_seal, open, &messages[0].1),
    ));
    samples
}
