//! Golden samples of frames, announces, tickets, invites and derived keys.
//!
//! Not the vectors. Used by `main.rs`. Invariant: a sample, once committed, is made in the same way for ever.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::num::NonZeroU32;

use levada_wire::announce::{self, LayerOffer, TrackOffer};
use levada_wire::datagram::site::SiteTag;
use levada_wire::frame::{ControlFrame, FrameHeader};
use levada_wire::identity::Purpose;
use levada_wire::key::{JoinSecret, NetworkSecret, Suite};
use levada_wire::ticket::{Action, Chain, Grant, Invite, SignedTicket, Ticket};
use levada_wire::{
    Bitrate, Description, Identity, Layer, NetworkId, NodeId, PacketSize, SignedAnnounce,
    SignedWithdraw, Track, TrackId, TrackKind,
};

use crate::common::*;
use crate::datagrams::roster;

pub(crate) fn statement() -> SignedAnnounce {
    SignedAnnounce::sign(content(), &origin())
}

/// The same with layer 0 alone, of an origin that commits to its carry keys.
fn with_carry_end() -> SignedAnnounce {
    let content = content();
    let layers = content.layers[..1].to_vec();
    let carry = Some(vec![carry_secret().carry_end(content.flow(Layer(0)))]);
    let content = announce::Announce {
        layers,
        carry,
        ..content
    };
    SignedAnnounce::sign(content, &origin())
}

fn content() -> announce::Announce {
    let track = |kind, codec: &str| TrackOffer {
        kind,
        codec: codec.into(),
    };
    announce::Announce {
        origin: origin().id(),
        name: name(),
        instance: INSTANCE,
        group_base: 36_000_000_000,
        version: 1,
        suite: Suite::ChaCha20Poly1305,
        packet_size: PacketSize::DEFAULT,
        layers: vec![
            LayerOffer {
                layer: Layer(0),
                peak: Bitrate(5_000_000),
                tracks: vec![
                    track(TrackKind::Video, "h264"),
                    track(TrackKind::Audio, "aac"),
                ],
            },
            LayerOffer {
                layer: Layer(1),
                peak: Bitrate(96_000),
                tracks: vec![
                    track(TrackKind::Audio, "aac"),
                    track(TrackKind::Data, "text"),
                ],
            },
        ],
        carry: None,
    }
}

pub(crate) fn withdrawal() -> SignedWithdraw {
    let content = announce::Withdraw {
        origin: origin().id(),
        name: name(),
        instance: INSTANCE,
    };
    SignedWithdraw::sign(content, &origin())
}

pub(crate) fn description() -> Description {
    let track = |id, kind, codec: &str, config: &[u8], language: Option<&str>| Track {
        id: TrackId(id),
        kind,
        codec: codec.into(),
        timescale: NonZeroU32::new(90_000).unwrap(),
        config: config.to_vec(),
        language: language.map(Into::into),
    };
    Description {
        tracks: vec![
            track(1, TrackKind::Video, "h264", &[], None),
            track(2, TrackKind::Audio, "aac", &[0x11, 0x90], Some("por")),
        ],
    }
}

pub(crate) fn control_frame() -> ControlFrame {
    ControlFrame {
        description: Some(description()),
        wall: Some(1_800_000_000_000_000),
        end: Some(number(42)),
    }
}

pub(crate) fn frames() -> Vec<Sample> {
    let header = FrameHeader {
        track: TrackId(1),
        sync: true,
        discardable: false,
        length: 5,
        sequence: 6,
        dts: -3_003,
        pts_offset: 6_006,
    };
    vec![
        ("frame/header".into(), header.encode().to_vec()),
        (
            "frame/description".into(),
            minicbor::to_vec(description()).unwrap(),
        ),
        (
            "frame/control".into(),
            minicbor::to_vec(control_frame()).unwrap(),
        ),
        (
            "frame/control-empty".into(),
            minicbor::to_vec(ControlFrame::default()).unwrap(),
        ),
    ]
}

pub(crate) fn statements() -> Vec<Sample> {
    vec![
        (
            "announce/announce".into(),
            minicbor::to_vec(statement()).unwrap(),
        ),
        (
            "announce/announce-carry".into(),
            minicbor::to_vec(with_carry_end()).unwrap(),
        ),
        (
            "announce/withdraw".into(),
            minicbor::to_vec(withdrawal()).unwrap(),
        ),
    ]
}

pub(crate) fn chains() -> (Chain, Chain) {
    let grant = |action, names: &str| Grant {
        action,
        names: names.parse().unwrap(),
    };
    let ticket = |by: &Identity, subject: NodeId, grants| {
        let content = Ticket {
            network: network(),
            issuer: by.id(),
            subject,
            serial: 0x5E41_A100_0000_0001,
            not_before: 1_800_000_000,
            not_after: 1_802_592_000,
            grants,
        };
        SignedTicket::sign(content, by)
    };
    let all = [
        Action::Publish,
        Action::Play,
        Action::Relay,
        Action::Hub,
        Action::Issue,
        Action::Admin,
    ];
    let top = ticket(
        &root(),
        origin().id(),
        all.map(|action| grant(action, "")).to_vec(),
    );
    let own = ticket(
        &origin(),
        consumer().id(),
        vec![grant(Action::Play, "sports")],
    );
    (Chain::of_root(top.clone()), Chain::of_issuer(own, top))
}

pub(crate) fn invite() -> Invite {
    let addresses = ["relay.example.org:7800", "[2001:db8::1]:7800"];
    let addresses = addresses.map(|text| text.parse().unwrap()).to_vec();
    Invite::new(root().id(), addresses, JoinSecret::from_bytes([0x70; 16])).unwrap()
}

pub(crate) fn tickets() -> Vec<Sample> {
    let (of_root, of_issuer) = chains();
    vec![
        ("ticket/of-root".into(), minicbor::to_vec(of_root).unwrap()),
        (
            "ticket/of-issuer".into(),
            minicbor::to_vec(of_issuer).unwrap(),
        ),
        ("ticket/invite".into(), invite().to_text().into_bytes()),
    ]
}

/// Ids and keys that are derived: another label or order would split the network without a sound.
pub(crate) fn derived() -> Vec<Sample> {
    let signature = origin().sign(Purpose::Manifest, b"manifest");
    vec![
        ("derived/node-id".into(), origin().id().0.to_vec()),
        ("derived/network-id".into(), network().0.to_vec()),
        ("derived/flow-id".into(), flow().0.to_be_bytes().to_vec()),
        (
            "derived/carry-key".into(),
            carry_secret().carry_key(flow()).bytes().to_vec(),
        ),
        (
            "derived/carry-key-before".into(),
            carry_secret().carry_key_in(flow(), 254).bytes().to_vec(),
        ),
        (
            "derived/carry-end".into(),
            carry_secret().carry_end(flow()).0.to_vec(),
        ),
        (
            "derived/site-key".into(),
            NetworkSecret::open()
                .site_key(&NetworkId::OPEN)
                .bytes()
                .to_vec(),
        ),
        (
            "derived/site-tag".into(),
            SiteTag::of_label("hall").0.to_vec(),
        ),
        ("derived/roster-digest".into(), roster().0.to_vec()),
        ("derived/signature".into(), signature.to_vec()),
    ]
}
