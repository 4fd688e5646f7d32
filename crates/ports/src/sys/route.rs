//! Which of this host's addresses a destination is reached from: another address means another interface.
//!
//! Asked by connecting a socket that sends nothing and reading what it was given; every system can. Not the routing
//! of streams, which is the core's. Called by the worker's send_sockets, once per destination. Invariant: no datagram
//! is sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The address from which this host would send; `None` if there is no way.
#[must_use]
pub fn source_towards(to: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let asking = UdpSocket::bind((any, 0)).ok()?;
    asking.connect(to).ok()?;
    let source = asking.local_addr().ok()?.ip();
    (!source.is_unspecified()).then_some(source)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn loopback_is_reached_from_loopback() {
        for address in ["127.0.0.1:9", "[::1]:9"] {
            let to: SocketAddr = address.parse().unwrap();

            assert_eq!(source_towards(to), Some(to.ip()));
        }
    }
}
