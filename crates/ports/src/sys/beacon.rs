//! Sockets for the beacons of a site: one that hears a channel on an interface, one that speaks on it.
//!
//! ```text
//! hears   port 7801, SO_REUSEADDR, one channel of one interface each: so it tells by which way a datagram came
//! speaks  a free port of its own: answers to this node alone come back there, however many share the host
//! ```
//!
//! Not a loop: whoever has them waits. Not media, whose sockets are the worker's. Called by the node. Invariant: what
//! is spoken stays on the interface's own LAN, by a hop limit of 1.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::multicast;
use super::socket::{BufferBytes, Socket, SocketSettings};
use levada_lane::api::{Channel, Interface};

/// Room for a thousand beacons.
const BUFFER_BYTES: usize = 256 << 10;

const fn settings() -> SocketSettings {
    SocketSettings {
        buffers: BufferBytes {
            send: BUFFER_BYTES,
            receive: BUFFER_BYTES,
        },
        gso: false,
        gro: false,
        steering: false,
    }
}

/// A socket that hears what comes to that channel by that interface, and nothing else.
///
/// # Errors
///
/// When the system refuses the port or the channel.
pub fn hear_channel(channel: SocketAddr, interface: Interface) -> io::Result<UdpSocket> {
    let socket = multicast::bind_to_hear(channel, &settings())?;
    let channel = Channel {
        address: channel,
        interface,
    };
    multicast::join(&socket, &channel)?;
    socket.try_clone_io()
}

/// A socket that speaks to channels of one IP version by that interface.
///
/// # Errors
///
/// When the system refuses.
pub fn speak_to_channels(interface: Interface, is_ipv6: bool) -> io::Result<UdpSocket> {
    let any: IpAddr = match interface.address {
        _ if is_ipv6 => Ipv6Addr::UNSPECIFIED.into(),
        Some(address) => address.into(),
        None => Ipv4Addr::UNSPECIFIED.into(),
    };
    let bound = Socket::bind((any, 0).into(), &settings());
    let socket = bound.map_err(|error| error.source)?;
    multicast::speak_by(&socket, &interface)?;
    socket.try_clone_io()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::time::Duration;

    use super::*;

    const LOOPBACK: Interface = Interface {
        index: 1,
        address: Some(Ipv4Addr::LOCALHOST),
    };
    /// Two channels that nobody else uses, on a port of this test's.
    const CHANNELS: [[u8; 4]; 2] = [[239, 9, 1, 7], [239, 9, 1, 8]];

    fn heard(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
        socket.set_nonblocking(false).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let mut buffer = [0; 64];
        let (bytes, from) = socket.recv_from(&mut buffer).ok()?;
        Some((buffer[..bytes].to_vec(), from))
    }

    #[test]
    fn each_socket_hears_its_own_channel_and_an_answer_reaches_the_speaker() {
        let free = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let channels = CHANNELS.map(|ip| SocketAddr::from((ip, free)));
        let ears = channels.map(|channel| hear_channel(channel, LOOPBACK).unwrap());
        let beside = hear_channel(channels[0], LOOPBACK).unwrap();
        let mouth = speak_to_channels(LOOPBACK, false).unwrap();

        mouth.send_to(b"first", channels[0]).unwrap();

        let (bytes, from) = heard(&ears[0]).unwrap();
        assert_eq!(bytes, b"first");
        assert_eq!(
            heard(&beside).unwrap().0,
            b"first",
            "nodes of one host share the port"
        );
        assert_eq!(heard(&ears[1]), None);
        ears[1].send_to(b"answer", from).unwrap();
        assert_eq!(heard(&mouth).unwrap().0, b"answer");
    }
}
