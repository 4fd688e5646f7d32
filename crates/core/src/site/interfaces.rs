//! Which interfaces a node takes part in its site on, and why not on the others.
//!
//! ```text
//!  named ──────────────▶ chosen, unless it is down or has no address
//!  not named: loopback, tunnel, container, no private network ──▶ not chosen
//! ```
//!
//! Not the sockets. Called by [`super::Site`], and by rows. Invariant: loopback is chosen only by its name, so nodes
//! that listen on loopback alone never form a site by accident.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::border::{Choice, Interface, Kind};

/// What becomes of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The node takes part in its site there.
    Chosen,
    /// It is down.
    Down,
    /// It has no address.
    NoAddress,
    /// Another one was named, or the node listens on another one's address.
    NotNamed,
    /// It leads to this host alone.
    Loopback,
    /// It is a VPN or another tunnel.
    Tunnel,
    /// It leads to containers or virtual machines of this host.
    Container,
    /// All its addresses are public.
    Public,
    /// So many were chosen already.
    TooMany,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chosen => "chosen",
            Self::Down => "it is down",
            Self::NoAddress => "it has no address",
            Self::NotNamed => "another one was named",
            Self::Loopback => "it leads to this host alone",
            Self::Tunnel => "it is a tunnel; name it with --interface to use it",
            Self::Container => "it leads to containers; name it with --interface to use it",
            Self::Public => "its network is public; name it with --interface to use it",
            Self::TooMany => "too many are chosen already; name those to use with --interface",
        })
    }
}

/// Judges one interface by itself.
pub(super) fn judge(interface: &Interface, choice: &Choice) -> Verdict {
    if !interface.is_up {
        return Verdict::Down;
    }
    if interface.addresses.is_empty() {
        return Verdict::NoAddress;
    }
    match choice {
        Choice::Named(names) if names.contains(&interface.name) => return Verdict::Chosen,
        Choice::Named(_) => return Verdict::NotNamed,
        Choice::Address(address) if !interface.addresses.contains(address) => {
            return Verdict::NotNamed;
        }
        Choice::Address(_) | Choice::Auto => {}
    }
    match interface.kind {
        Kind::Loopback => Verdict::Loopback,
        Kind::Tunnel => Verdict::Tunnel,
        Kind::Container => Verdict::Container,
        Kind::Wired | Kind::Wireless => {
            if interface.addresses.iter().any(is_private) {
                Verdict::Chosen
            } else {
                Verdict::Public
            }
        }
    }
}

/// Of a network that is not part of the Internet: private, shared by a carrier's customers, link-local, unique local.
fn is_private(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private() || ip.is_link_local() || (a == 100 && b & 0xc0 == 64) // RFC 6598
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, kind: Kind, address: &str) -> Interface {
        Interface {
            index: 2,
            name: name.to_owned(),
            kind,
            is_up: true,
            addresses: address.parse().into_iter().collect(),
        }
    }

    #[test]
    fn wired_and_wireless_interfaces_of_private_networks_are_chosen_and_no_others() {
        let cases = [
            ("eth0", Kind::Wired, "192.168.1.5", Verdict::Chosen),
            ("eth0", Kind::Wired, "fe80::1", Verdict::Chosen),
            ("wlan0", Kind::Wireless, "10.0.0.9", Verdict::Chosen),
            ("eth1", Kind::Wired, "100.64.0.9", Verdict::Chosen),
            ("eth1", Kind::Wired, "8.8.8.8", Verdict::Public),
            ("eth1", Kind::Wired, "2001:db8::1", Verdict::Public),
            ("lo", Kind::Loopback, "127.0.0.1", Verdict::Loopback),
            ("wg0", Kind::Tunnel, "10.9.0.1", Verdict::Tunnel),
            ("docker0", Kind::Container, "172.17.0.1", Verdict::Container),
            ("eth2", Kind::Wired, "", Verdict::NoAddress),
        ];

        for (name, kind, address, verdict) in cases {
            let found = judge(&interface(name, kind, address), &Choice::Auto);
            assert_eq!(found, verdict, "{name} {address}");
        }
    }

    #[test]
    fn a_named_interface_is_chosen_whatever_it_is_and_the_others_are_not() {
        let named = Choice::Named(vec!["wg0".to_owned(), "lo".to_owned()]);
        let down = Interface {
            is_up: false,
            ..interface("wg0", Kind::Tunnel, "10.9.0.1")
        };

        let chosen = interface("wg0", Kind::Tunnel, "10.9.0.1");
        assert_eq!(judge(&chosen, &named), Verdict::Chosen);
        let loopback = interface("lo", Kind::Loopback, "127.0.0.1");
        assert_eq!(judge(&loopback, &named), Verdict::Chosen);
        let other = interface("eth0", Kind::Wired, "192.168.1.5");
        assert_eq!(judge(&other, &named), Verdict::NotNamed);
        assert_eq!(judge(&down, &named), Verdict::Down);
    }

    #[test]
    fn a_node_that_listens_on_one_address_takes_part_there_alone_and_never_on_loopback() {
        let at = |address: &str| match address.parse() {
            Ok(address) => Choice::Address(address),
            Err(_) => Choice::Auto,
        };
        let eth0 = interface("eth0", Kind::Wired, "192.168.1.5");
        let loopback = interface("lo", Kind::Loopback, "127.0.0.1");

        assert_eq!(judge(&eth0, &at("192.168.1.5")), Verdict::Chosen);
        assert_eq!(judge(&eth0, &at("127.0.0.1")), Verdict::NotNamed);
        assert_eq!(judge(&loopback, &at("127.0.0.1")), Verdict::Loopback);
    }
}
