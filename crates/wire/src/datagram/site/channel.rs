//! The multicast channels of a site: one that every switch floods, one that switches with snooping send to members.
//!
//! ```text
//! link scope    224.0.0.178        ff12::4c56:7801     all networks and sites: who hears it is on this LAN
//! admin scope   239.255.A.B        ff14::4c56:A:B      A, B: of network and site
//! ```
//!
//! A and B are the first two bytes of `SHA-256("levada/1 site channel" ‖ network ‖ site)`. An A of 0 or 128 is 1
//! instead, so that no switch takes the channel for one of 224.0.0.x, whose MAC addresses it would share (RFC 4541
//! section 2.1.2). Not the channels of media. Invariant: nodes of one network and site have the same channels.
//!
//! Wire definition: docs/wire.md section 9.5

use std::net::{Ipv4Addr, Ipv6Addr};

use super::SiteTag;
use crate::id::NetworkId;

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
}
