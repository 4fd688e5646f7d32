//! The multicast channels of a site: one that every switch floods, one that switches with snooping send to members, and
//! two for each flow.
//!
//! ```text
//! link scope    224.0.0.178        ff12::4c56:7801     all networks and sites: who hears it is on this LAN
//! admin scope   239.255.A.B        ff14::4c56:A:B      A, B: of network and site
//! media         239.192-195.B.C    ff14::4c56:D:E      all bits: of network, site, flow and slot
//!                                  ff12::4c56:D:E      between link-local addresses
//! ```
//!
//! A and B are the first two bytes of `SHA-256("levada/1 site channel" ‖ network ‖ site)`. An A of 0 or 128 is 1
//! instead, so that no switch takes the channel for one of 224.0.0.x, whose MAC addresses it would share (RFC 4541
//! section 2.1.2); the second byte of a media channel keeps those apart from 224.0.0.x. Two flows may have one channel:
//! packets say of which flow they are. Invariant: nodes of one network and site have the same channels.
//!
//! Wire definition: docs/wire.md section 9.5

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::SiteTag;
use super::probe::Slot;
use crate::id::{FlowId, NetworkId};

/// The UDP port of all channels.
pub const SITE_PORT: u16 = 7801;

/// The channel of link scope by IPv4.
pub const LINK_SCOPE_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 178);

/// The channel of link scope by IPv6: transient, link-local (RFC 4291 section 2.7).
pub const LINK_SCOPE_V6: Ipv6Addr = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0x4c56, 0x7801);

/// The channels of admin scope of a site.
#[must_use]
pub fn admin_scope(network: NetworkId, site: SiteTag) -> (Ipv4Addr, Ipv6Addr) {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    hash.update(b"levada/1 site channel");
    hash.update(&network.0);
    hash.update(&site.0);
    let whole = hash.finish();
    let (a, b) = match whole.as_ref() {
        [0 | 128, b, ..] => (1, *b),
        [a, b, ..] => (*a, *b),
        _ => (1, 1),
    };
    let v4 = Ipv4Addr::new(239, 255, a, b);
    let v6 = Ipv6Addr::new(0xff14, 0, 0, 0, 0, 0x4c56, a.into(), b.into());
    (v4, v6)
}

/// The channel of a flow, for a sender that its members know by such an address.
#[must_use]
pub fn media(
    network: NetworkId,
    site: SiteTag,
    flow: FlowId,
    slot: Slot,
    sender: IpAddr,
) -> SocketAddr {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    hash.update(b"levada/1 media channel");
    hash.update(&network.0);
    hash.update(&site.0);
    hash.update(&flow.0.to_be_bytes());
    hash.update(&[slot.code()]);
    let whole = hash.finish();
    let [a, b, c, d] = whole.as_ref().first_chunk().copied().unwrap_or_default();
    let ip = match sender {
        IpAddr::V4(_) => Ipv4Addr::new(239, 192 | a & 3, b, c).into(),
        IpAddr::V6(sender) => {
            let scope = if sender.is_unicast_link_local() {
                0xff12
            } else {
                0xff14
            };
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            Ipv6Addr::new(scope, 0, 0, 0, 0, 0x4c56, high, low).into()
        }
    };
    SocketAddr::new(ip, SITE_PORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec: WIRE 9.5 no channel has an address that a switch takes for one of 224.0.0.x
    #[test]
    fn sites_have_channels_of_their_own_and_none_that_every_switch_floods() {
        let of = |label: u16| {
            let site = SiteTag::of_label(&label.to_string());
            admin_scope(NetworkId::OPEN, site)
        };

        for label in 0..2_000 {
            let [_, _, a, _] = of(label).0.octets();
            assert_ne!(a & 0x7f, 0);
        }
        assert_ne!(of(1), of(2));
        assert_ne!(
            of(1),
            admin_scope(NetworkId([3; 16]), SiteTag::of_label("1"))
        );
        assert_eq!(of(1), of(1));
    }

    // spec: WIRE 9.5 a flow has two channels, and none has the MAC address of one of 224.0.0.x
    #[test]
    fn a_flow_has_two_channels_of_its_own_of_the_senders_ip_version() {
        let of = |flow, slot, sender: &str| {
            let sender = sender.parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
            media(NetworkId::OPEN, SiteTag::NONE, FlowId(flow), slot, sender).ip()
        };

        let mut seen = std::collections::BTreeSet::new();
        for flow in 0..500 {
            for slot in [Slot::A, Slot::B] {
                let IpAddr::V4(channel) = of(flow, slot, "10.0.0.1") else {
                    panic!("a channel of IPv4 for a sender of IPv4");
                };
                let [first, second, third, _] = channel.octets();
                assert_eq!((first, second & 0xfc), (239, 192));
                assert!(
                    (second & 0x7f, third) != (0, 0),
                    "its MAC address is that of 224.0.0.x"
                );
                seen.insert(channel);
            }
        }
        assert!(seen.len() > 990, "{} channels for 500 flows", seen.len());
        let [local, wide] = ["fe80::1", "fd07::1"].map(|sender| of(1, Slot::A, sender).to_string());
        assert!(
            local.starts_with("ff12::4c56:") && wide.starts_with("ff14::4c56:"),
            "{local} {wide}"
        );
        let other = SiteTag::of_label("hall");
        let elsewhere = media(
            NetworkId::OPEN,
            other,
            FlowId(1),
            Slot::A,
            Ipv4Addr::LOCALHOST.into(),
        );
        assert_ne!(elsewhere.ip(), of(1, Slot::A, "10.0.0.1"));
    }
}
