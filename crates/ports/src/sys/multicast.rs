//! Multicast: sockets that receive channels, and the interface by which a socket sends to them.
//!
//! ```text
//! 7800   the lanes' sockets: receive no channel at all
//!        a socket to send by, set to one interface, sends to channels
//! 7801   sockets of their own, at most 16 channels each,   shared by all nodes of the machine (SO_REUSEADDR)
//!        each hears only what it joined itself
//! ```
//!
//! By default Linux gives a socket what *any* program of the host has joined (`IP_MULTICAST_ALL`, ip(7)), and asks no
//! steering program for multicast: hence `IP_MULTICAST_ALL` off everywhere and sockets apart. Not which channels there
//! are, and not a loop: `worker/channel_sockets.rs`. Called by it, by `socket.rs` and by `worker/send_sockets.rs`.
//! Invariant: a datagram comes out of such a socket only if it was sent to the socket's port, by way of a channel that
//! it joined or to this host alone.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, SockRef, Type};

use super::socket::{Socket, SocketSettings};
use levada_lane::api::{Channel, Interface};

/// Channels do not leave the LAN: no router passes a hop limit of 1 on.
const HOPS: u32 = 1;

/// Opens a socket that hears channels on that port, of the IP version of `address`; it has joined none.
pub(crate) fn bind_to_hear(address: SocketAddr, settings: &SocketSettings) -> io::Result<Socket> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = socket2::Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    // Less than wanted is not an error: see `Socket::buffers`.
    let _ = socket.set_recv_buffer_size(settings.buffers.receive);
    socket.bind(&SockAddr::from(SocketAddr::new(any, address.port())))?;
    Socket::of(socket, settings)
}

/// Hears nothing that others of this host have joined. A kernel that does not know the option (IPv6: before 4.20) may
/// bring more, which then fails its tags like any other datagram.
#[cfg(target_os = "linux")]
pub(super) fn hear_only_own(socket: &socket2::Socket, is_ipv6: bool) {
    if is_ipv6 {
        let _ = socket.set_multicast_all_v6(false);
    }
    let _ = socket.set_multicast_all_v4(false); // a dual-stack socket has a setting for each half
}

/// Elsewhere a socket never hears what it did not join.
#[cfg(not(target_os = "linux"))]
pub(super) const fn hear_only_own(_: &socket2::Socket, _: bool) {}

/// Joins a channel.
pub(crate) fn join(socket: &Socket, channel: &Channel) -> io::Result<()> {
    let socket = SockRef::from(socket.io());
    match channel.address.ip() {
        IpAddr::V4(address) => {
            let interface = InterfaceIndexOrAddress::Index(channel.interface.index);
            socket.join_multicast_v4_n(&address, &interface)
        }
        IpAddr::V6(address) => socket.join_multicast_v6(&address, channel.interface.index),
    }
}

/// Leaves a channel.
pub(crate) fn leave(socket: &Socket, channel: &Channel) -> io::Result<()> {
    let socket = SockRef::from(socket.io());
    match channel.address.ip() {
        IpAddr::V4(address) => {
            let interface = InterfaceIndexOrAddress::Index(channel.interface.index);
            socket.leave_multicast_v4_n(&address, &interface)
        }
        IpAddr::V6(address) => socket.leave_multicast_v6(&address, channel.interface.index),
    }
}

/// Has what a socket sends to channels leave by that interface, and reach other nodes of this host too.
pub(crate) fn speak_by(socket: &Socket, interface: &Interface) -> io::Result<()> {
    let is_ipv6 = socket.local_addr().is_ipv6();
    let socket = SockRef::from(socket.io());
    if is_ipv6 {
        socket.set_multicast_if_v6(interface.index)?;
        socket.set_multicast_hops_v6(HOPS)?;
        socket.set_multicast_loop_v6(true)?;
    }
    let Some(address) = interface.address else {
        return Ok(()); // no IPv4 there: no channel of IPv4 is reached by it either
    };
    // On a dual-stack socket these are for its IPv4 half.
    socket.set_multicast_if_v4(&address)?;
    socket.set_multicast_ttl_v4(HOPS)?;
    socket.set_multicast_loop_v4(true)
}

#[cfg(test)]
mod tests;
