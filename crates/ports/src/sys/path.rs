//! The networks that this host is attached to, and whether a peer is on a wire with it.
//!
//! ```text
//!  addresses of this host, and which        ┬─ the peer's address is in none of their subnets ─▶ Path::Unknown
//!  of its interfaces are Ethernet for       ├─ it is in the subnet of a wire, or our own      ─▶ Path::Wire
//!  certain (`interfaces.rs`)                └─ it is in that of a radio, a tunnel, a modem    ─▶ Path::Unknown
//! ```
//!
//! What is not certainly a wire is none: where it is taken for one a burst may be lost, where it is not a burst is
//! spread a little. Not routes: a peer behind a router is on no network of this host, whatever the way there
//! (`route.rs` asks for that). Called by the node for each link that comes up. Where the system tells nothing, only the
//! host itself is near. Invariant: nothing is kept: networks come and go.

use std::net::{IpAddr, SocketAddr};

use levada_lane::api::Path;

use super::interfaces::{HostInterface, interfaces};

/// What lies between this host and a peer.
#[must_use]
pub fn path_to(peer: SocketAddr) -> Path {
    path_among(&interfaces().unwrap_or_default(), peer)
}

fn path_among(host: &[HostInterface], peer: SocketAddr) -> Path {
    let scope = match peer {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => Some(v6.scope_id()),
        _ => None,
    };
    let peer = peer.ip().to_canonical();
    let reaches = |interface: &HostInterface| {
        // A network of link-local addresses is on every interface.
        let is_wire = interface.is_wire && scope.is_none_or(|scope| scope == interface.index);
        let mut own = interface.addresses.iter();
        own.any(|own| own.ip == peer || is_wire && is_within(peer, own.ip, own.prefix))
    };
    if peer.is_loopback() || host.iter().any(reaches) {
        Path::Wire
    } else {
        Path::Unknown
    }
}

/// Whether two addresses have so many bits in common.
fn is_within(one: IpAddr, other: IpAddr, prefix: u32) -> bool {
    let differ = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (one.to_bits() ^ other.to_bits()).leading_zeros().min(32)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        _ => return false,
    };
    prefix > 0 && differ >= prefix
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    use super::super::interfaces::{HostAddress, InterfaceKind};

    fn own(address: &str, prefix: u32, is_wire: bool) -> HostInterface {
        let ip = address.parse().unwrap();
        HostInterface {
            index: 7,
            name: "eth0".to_owned(),
            kind: InterfaceKind::Wired,
            is_up: true,
            is_wire,
            addresses: vec![HostAddress { ip, prefix }],
        }
    }

    #[test]
    fn a_peer_in_the_subnet_of_a_wire_is_near_and_every_other_is_not() {
        let host = [
            own("192.168.1.7", 24, true),
            own("10.8.0.2", 16, false), // a tunnel
            own("2001:db8::7", 64, true),
            own("fe80::7", 64, true),
        ];
        let cases = [
            ("192.168.1.200:7800", Path::Wire),
            ("192.168.2.200:7800", Path::Unknown),
            ("[::ffff:192.168.1.9]:7800", Path::Wire),
            ("10.8.0.9:7800", Path::Unknown),
            ("10.8.0.2:7800", Path::Wire), // this host itself
            ("127.0.0.1:7800", Path::Wire),
            ("[2001:db8::9]:7800", Path::Wire),
            ("[2001:db8:0:1::9]:7800", Path::Unknown),
            ("[fe80::9%7]:7800", Path::Wire),
            ("[fe80::9%8]:7800", Path::Unknown),
            ("8.8.8.8:7800", Path::Unknown),
        ];

        for (peer, path) in cases {
            assert_eq!(path_among(&host, peer.parse().unwrap()), path, "{peer}");
        }
        let everywhere = [own("0.0.0.0", 0, true)];
        let far = "8.8.8.8:1".parse().unwrap();
        assert_eq!(path_among(&everywhere, far), Path::Unknown);
    }

    #[test]
    fn this_host_is_near_itself() {
        assert_eq!(path_to("127.0.0.1:9".parse().unwrap()), Path::Wire);
        assert_eq!(path_to("[::1]:9".parse().unwrap()), Path::Wire);
    }
}
