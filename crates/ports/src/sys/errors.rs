//! What the kernel keeps to itself unless it is asked: that an interface's queue is full.
//!
//! ```text
//!  send ─▶ ENOBUFS, the queue of the interface is full ─┬─ IP_RECVERR is set: the sender hears of it
//!                                                       └─ it is not: "sent", and the datagram is gone
//! ```
//!
//! (`udp_send_skb`, net/ipv4/udp.c.) With it come the errors of others: what a router or a host said of an earlier
//! datagram is the result of the next send, whoever that goes to. So such an error is no answer before it came twice in
//! a row, and what the kernel keeps of them is taken and forgotten. For sockets that only send: what comes to one that
//! receives is told as a receive error already. Called by `socket.rs`. Invariant: a destination is refused only for an
//! error of its own.

use std::io;
use std::net::UdpSocket;

/// The most that are taken at a time: a socket that receives nothing holds fewer.
#[cfg(target_os = "linux")]
const TAKEN_AT_ONCE: usize = 256;

/// Has the kernel tell when an interface is full; says whether it does.
#[cfg(target_os = "linux")]
pub(super) fn tell(io: &UdpSocket, is_ipv6: bool) -> bool {
    use super::option::set;
    let v6 = !is_ipv6 || set(io, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1).is_ok();
    // For the IPv4 half of a dual-stack socket too; one of IPv6 alone may refuse.
    let v4 = set(io, libc::IPPROTO_IP, libc::IP_RECVERR, 1).is_ok();
    v6 && (v4 || is_ipv6)
}

/// Elsewhere systems tell by themselves, or never.
#[cfg(not(target_os = "linux"))]
pub(super) const fn tell(_: &UdpSocket, _: bool) -> bool {
    false
}

/// Whether an error may be of an earlier datagram.
#[cfg(target_os = "linux")]
pub(super) fn may_be_old(error: &io::Error) -> bool {
    let codes = [
        libc::ECONNREFUSED,
        libc::EHOSTUNREACH,
        libc::ENETUNREACH,
        libc::EHOSTDOWN,
        libc::EPROTO,
        libc::EACCES,
        libc::EMSGSIZE,
        libc::ENOPROTOOPT,
        libc::EOPNOTSUPP,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}

#[cfg(not(target_os = "linux"))]
pub(super) const fn may_be_old(_: &io::Error) -> bool {
    false
}

/// Takes what the kernel keeps of errors, and forgets it.
#[cfg(target_os = "linux")]
pub(super) fn forget(io: &UdpSocket) {
    use std::os::fd::AsRawFd as _;

    for _ in 0..TAKEN_AT_ONCE {
        let mut byte = [0_u8; 1];
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: the descriptor is open for the life of `io`, and the pointer and length describe `byte`, which lives
        // across the call.
        let taken = unsafe { libc::recv(io.as_raw_fd(), byte.as_mut_ptr().cast(), 1, flags) };
        if taken < 0 {
            return;
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) const fn forget(_: &UdpSocket) {}
