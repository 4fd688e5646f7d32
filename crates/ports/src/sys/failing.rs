//! A kernel that refuses runs: what a card, a tunnel or IPsec may do to GSO at any time, made to happen in tests.
//!
//! Linux joins nothing that shall leave without a checksum (`udp_send_skb`, net/ipv4/udp.c and net/ipv6/udp.c: EINVAL),
//! and sends single datagrams all the same: so the refusal is the kernel's own, and it can begin in the middle of a
//! stream. On IPv6 a datagram without a checksum arrives only where that was agreed to. Called by tests. Invariant:
//! nothing of this is in what ships.

use std::net::UdpSocket;

use super::{ProbeSocket, Socket, option};

/// Options 101 and 102 (include/uapi/linux/udp.h).
const UDP_NO_CHECK6_TX: libc::c_int = 101;
const UDP_NO_CHECK6_RX: libc::c_int = 102;

impl Socket {
    /// From now on the kernel refuses runs by this socket, or takes them again.
    pub(crate) fn refuse_runs(&self, refuses: bool) {
        let refuses = libc::c_int::from(refuses);
        let io = self.io();
        if self.local_addr().is_ipv6() {
            set(io, libc::IPPROTO_UDP, UDP_NO_CHECK6_TX, refuses);
        }
        // For IPv4, and for the IPv4 half of a dual-stack socket.
        set(io, libc::SOL_SOCKET, libc::SO_NO_CHECK, refuses);
    }

    /// Agrees to IPv6 datagrams without a checksum.
    pub(crate) fn take_unsummed(&self) {
        if self.local_addr().is_ipv6() {
            set(self.io(), libc::IPPROTO_UDP, UDP_NO_CHECK6_RX, 1);
        }
    }
}

impl ProbeSocket {
    /// As [`Socket::take_unsummed`].
    pub(crate) fn take_unsummed(&self) {
        if self.local_addr().is_ipv6() {
            set(self.io(), libc::IPPROTO_UDP, UDP_NO_CHECK6_RX, 1);
        }
    }
}

fn set(io: &UdpSocket, level: libc::c_int, name: libc::c_int, value: libc::c_int) {
    option::set(io, level, name, value).expect("Linux has these options since 3.15");
}
