//! The sockets of sources that others send to: where they listen, unicast and multicast, and why they cannot.
//!
//! Not what comes on them (`udp.rs`, `sdp.rs`). Called by these. Invariant: a socket for a multicast group hears that
//! group alone.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::Error;

/// What the kernel is asked to hold while the publisher is busy: a second of 32 Mb/s. It gives what the system allows.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// A place that datagrams are sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listen {
    /// An address of this machine, all of them, or a multicast group.
    pub(super) address: SocketAddr,
    /// The address of this machine by whose interface the group is heard; the system's choice if none.
    pub(super) interface: Option<Ipv4Addr>,
}

/// Opens a socket. `what` is what the user named.
pub(super) fn open(listen: Listen, what: &str) -> Result<UdpSocket, Error> {
    let opened = match listen.address {
        // All addresses are those of IPv6 too, where the machine has that.
        SocketAddr::V4(address) if address.ip().is_unspecified() => {
            let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port()));
            let both = Listen {
                address: both,
                ..listen
            };
            try_open(both).or_else(|error| match error.kind() {
                io::ErrorKind::AddrInUse => Err(error),
                _ => try_open(listen),
            })
        }
        _ => try_open(listen),
    };
    opened.map_err(|source| {
        let cure = cure(&source, listen);
        Error::Socket {
            what: what.to_owned(),
            cure,
            source,
        }
    })
}

fn try_open(listen: Listen) -> io::Result<UdpSocket> {
    let address = listen.address;
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    let is_group = address.ip().is_multicast();
    if is_group {
        // Several programs of a machine may listen to one group.
        socket.set_reuse_address(true)?;
    }
    // Where the system allows less, less it is.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    // Bound to the group, it does not hear other groups that other programs joined. Windows cannot do that.
    let is_bound_to_group = is_group && cfg!(unix);
    let bound = match address {
        SocketAddr::V4(_) if is_group && !is_bound_to_group => {
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()))
        }
        SocketAddr::V6(_) if is_group && !is_bound_to_group => {
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port()))
        }
        address => address,
    };
    socket.bind(&bound.into())?;
    match address {
        SocketAddr::V4(group) if is_group => {
            let interface = listen.interface.unwrap_or(Ipv4Addr::UNSPECIFIED);
            socket.join_multicast_v4(group.ip(), &interface)?;
        }
        SocketAddr::V6(group) if is_group => {
            socket.join_multicast_v6(group.ip(), group.scope_id())?;
        }
        _ => {}
    }
    UdpSocket::from_std(socket.into())
}

/// What to do about it.
fn cure(error: &io::Error, listen: Listen) -> String {
    let (ip, port) = (listen.address.ip(), listen.address.port());
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another program has UDP port {port} already: stop it, or have the stream sent to another port"
        ),
        io::ErrorKind::AddrNotAvailable if !ip.is_multicast() => format!(
            "{ip} is no address of this machine: write the address that the stream is sent to, \
             or leave it out (`udp://:{port}`) to listen on all"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "only root may listen on port {port}: have the stream sent to a port of 1024 or more"
        ),
        _ if ip.is_multicast() => format!(
            "cannot join the multicast group {ip}: name the address of the interface that it comes by, \
             `udp://{}:{port}?localaddr=IP`",
            bracketed(ip)
        ),
        _ => "choose another address or port".to_owned(),
    }
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}
