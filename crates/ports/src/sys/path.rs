//! The networks that this host is attached to, and whether a peer is on a wire with it.
//!
//! ```text
//!  getifaddrs(3) ─▶ name, address, netmask ─┬─ the peer's address is in none of them         ─▶ Path::Unknown
//!  /sys/class/net ─▶ Ethernet, and neither  ├─ it is in the subnet of a wire, or our own     ─▶ Path::Wire
//!                    radio nor tunnel       └─ it is in that of a radio, a tunnel, a modem   ─▶ Path::Unknown
//! ```
//!
//! What is not certainly a wire is none: where it is taken for one a burst may be lost, where it is not a burst is
//! spread a little. Not routes: a peer behind a router is on no network of this host, whatever the way there
//! (`route.rs` asks for that). Called by the node for each link that comes up. Where the system tells nothing, only the
//! host itself is near. Invariant: nothing is kept: networks come and go.

use std::net::{IpAddr, SocketAddr};

use levada_lane::api::Path;

/// An address of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostAddress {
    /// The number of its interface.
    pub(crate) interface: u32,
    pub(crate) address: IpAddr,
    /// How many bits of it are those of its network.
    pub(crate) prefix: u32,
    pub(crate) is_wire: bool,
}

/// What lies between this host and a peer.
#[must_use]
pub fn path_to(peer: SocketAddr) -> Path {
    path_among(&system::addresses(), peer)
}

fn path_among(addresses: &[HostAddress], peer: SocketAddr) -> Path {
    let scope = match peer {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => Some(v6.scope_id()),
        _ => None,
    };
    let peer = peer.ip().to_canonical();
    let reaches = |own: &HostAddress| {
        let is_near = own.is_wire && is_within(peer, own.address, own.prefix);
        // A network of link-local addresses is on every interface.
        own.address == peer || is_near && scope.is_none_or(|scope| scope == own.interface)
    };
    if peer.is_loopback() || addresses.iter().any(reaches) {
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

#[cfg(target_os = "linux")]
mod system {
    use std::ffi::CStr;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use std::path::PathBuf;
    use std::ptr;

    use super::HostAddress;

    /// Ethernet (`ARPHRD_ETHER`, include/uapi/linux/if_arp.h), as bridges and virtual cables are too.
    const ETHERNET: &str = "1";
    /// What looks like Ethernet and goes through something else (`DEVTYPE` in a device's uevent).
    const NO_WIRES: [&str; 6] = ["wlan", "wwan", "vxlan", "geneve", "gretap", "wireguard"];
    /// The most addresses that are looked at.
    const ADDRESSES_MAX: usize = 1_024;

    pub(super) fn addresses() -> Vec<HostAddress> {
        let mut first: *mut libc::ifaddrs = ptr::null_mut();
        // SAFETY: the pointer is to a variable of ours that the call sets; it is given back below, once.
        if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
            return Vec::new();
        }
        let mut found = Vec::new();
        let mut next = first;
        while !next.is_null() && found.len() < ADDRESSES_MAX {
            // SAFETY: it is a node of the list, which lives until `freeifaddrs`.
            let node = unsafe { &*next };
            next = node.ifa_next;
            found.extend(address_of(node));
        }
        // SAFETY: `first` is what `getifaddrs` gave, and nothing of the list is kept.
        unsafe { libc::freeifaddrs(first) };
        found
    }

    fn address_of(node: &libc::ifaddrs) -> Option<HostAddress> {
        let address = ip_of(node.ifa_addr)?;
        let prefix = match ip_of(node.ifa_netmask)? {
            IpAddr::V4(mask) => mask.to_bits().leading_ones(),
            IpAddr::V6(mask) => mask.to_bits().leading_ones(),
        };
        // SAFETY: the name of a node is a string of C that lives as long as the node.
        let name = unsafe { CStr::from_ptr(node.ifa_name) };
        // SAFETY: the same string; the call reads it only.
        let interface = unsafe { libc::if_nametoindex(name.as_ptr()) };
        Some(HostAddress {
            interface,
            address,
            prefix,
            is_wire: is_wire(name.to_str().ok()?),
        })
    }

    /// The address in what the system gives; `None` for other families.
    fn ip_of(address: *const libc::sockaddr) -> Option<IpAddr> {
        if address.is_null() {
            return None;
        }
        // SAFETY: it is not null, and every address of the list begins with its family.
        let family = unsafe { (*address).sa_family };
        match i32::from(family) {
            libc::AF_INET => {
                // SAFETY: of this family the system gives the whole structure; it need not be aligned for it.
                let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
                Some(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
                Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
            }
            _ => None,
        }
    }

    fn is_wire(name: &str) -> bool {
        let device = PathBuf::from("/sys/class/net").join(name);
        let says = |file: &str| std::fs::read_to_string(device.join(file)).unwrap_or_default();
        let is_tunnel = || device.join("tun_flags").exists();
        let is_radio = || device.join("phy80211").exists() || device.join("wireless").exists();
        let uevent = says("uevent");
        let kind = uevent
            .lines()
            .find_map(|line| line.strip_prefix("DEVTYPE="));
        says("type").trim() == ETHERNET
            && !kind.is_some_and(|kind| NO_WIRES.contains(&kind))
            && !is_tunnel()
            && !is_radio()
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::HostAddress;

    pub(super) const fn addresses() -> Vec<HostAddress> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn own(address: &str, prefix: u32, is_wire: bool) -> HostAddress {
        HostAddress {
            interface: 7,
            address: address.parse().unwrap(),
            prefix,
            is_wire,
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

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_tells_the_addresses_of_this_host() {
        let addresses = system::addresses();

        let loopback = addresses.iter().find(|own| own.address.is_loopback());
        let loopback = loopback.expect("every host has loopback");
        assert!(loopback.interface > 0 && loopback.prefix > 0 && !loopback.is_wire);
    }
}
