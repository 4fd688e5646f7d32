//! A datagram as a stranger handles it: heard with its addresses, sent with any.
//!
//! Not what is in it. Called by `stranger` and `way`. Invariant: what was heard and is sent again is equal but for the
//! headers of IP and UDP, which say the same.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Context as _;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// IPv4 as a packet socket names it, linux/if_ether.h; packet(7) wants it in network order.
const ETH_P_IP: u16 = 0x0800;
/// Bytes below are ours to write; netinet/in.h.
const IPPROTO_RAW: i32 = 255;
const IPPROTO_UDP: u8 = 17;
const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
/// Longer than any datagram of a cable, whose MTU is 1,500.
const BUFFER: usize = 2_048;

/// A UDP datagram.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddrV4,
    pub(crate) to: SocketAddrV4,
    pub(crate) payload: Vec<u8>,
}

/// Receives everything that comes to this host's interfaces, whomever it is for.
#[derive(Debug)]
pub(crate) struct Capture {
    socket: Socket,
    buffer: Vec<u8>,
}

/// Sends with any address.
#[derive(Debug)]
pub(crate) struct RawSender {
    socket: Socket,
}

impl Capture {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let protocol = Protocol::from(i32::from(ETH_P_IP.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))
            .context("cannot listen to all packets")?;
        Ok(Self {
            socket,
            buffer: vec![0; BUFFER],
        })
    }

    /// What the kernel keeps of what was not received yet.
    pub(crate) fn set_buffer_bytes(&self, bytes: usize) -> anyhow::Result<()> {
        Ok(self.socket.set_recv_buffer_size(bytes)?)
    }

    /// Waits for the next datagram.
    pub(crate) fn receive(&mut self) -> anyhow::Result<Datagram> {
        loop {
            let length = self.socket.read(&mut self.buffer)?;
            if let Some(datagram) = Datagram::from_ip(&self.buffer[..length]) {
                return Ok(datagram);
            }
        }
    }
}

impl RawSender {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(IPPROTO_RAW)))
            .context("cannot send with addresses of others")?;
        Ok(Self { socket })
    }

    pub(crate) fn send(&self, datagram: &Datagram) -> anyhow::Result<()> {
        let to = SockAddr::from(SocketAddrV4::new(*datagram.to.ip(), 0));
        self.socket.send_to(&datagram.to_ip()?, &to)?;
        Ok(())
    }
}

impl Datagram {
    /// Reads an IPv4 packet; none if it is not a whole UDP datagram.
    fn from_ip(packet: &[u8]) -> Option<Self> {
        let header = usize::from(packet.first()? & 0x0f) * 4;
        if *packet.get(9)? != IPPROTO_UDP {
            return None;
        }
        let udp = packet.get(header..)?;
        let payload = udp.get(UDP_HEADER..usize::from(be(udp, 4)?))?;
        Some(Self {
            from: SocketAddrV4::new(address(packet, 12)?, be(udp, 0)?),
            to: SocketAddrV4::new(address(packet, 16)?, be(udp, 2)?),
            payload: payload.to_vec(),
        })
    }

    /// An IPv4 packet (RFC 791) with a UDP datagram (RFC 768) whose checksum is 0: none. The kernel fills in the IP
    /// header's checksum, length and identification, raw(7).
    fn to_ip(&self) -> anyhow::Result<Vec<u8>> {
        let length = u16::try_from(UDP_HEADER + self.payload.len())?;
        let mut packet = vec![0; IP_HEADER];
        packet[0] = 0x45;
        packet[8] = 64;
        packet[9] = IPPROTO_UDP;
        packet[12..16].copy_from_slice(&self.from.ip().octets());
        packet[16..20].copy_from_slice(&self.to.ip().octets());
        for field in [self.from.port(), self.to.port(), length, 0] {
            packet.extend(field.to_be_bytes());
        }
        packet.extend(&self.payload);
        Ok(packet)
    }
}

fn be(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(octets.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let datagram = Datagram {
            from: "10.1.0.1:7800".parse().unwrap(),
            to: "10.1.0.2:7801".parse().unwrap(),
            payload: vec![4, 5, 6],
        };

        let read = Datagram::from_ip(&datagram.to_ip().unwrap()).unwrap();

        assert_eq!((read.from, read.to), (datagram.from, datagram.to));
        assert_eq!(read.payload, datagram.payload);
    }

    #[test]
    fn half_a_packet_is_none() {
        let datagram = Datagram {
            from: "10.1.0.1:7800".parse().unwrap(),
            to: "10.1.0.2:7801".parse().unwrap(),
            payload: vec![4; 100],
        };
        let packet = datagram.to_ip().unwrap();

        for length in 0..packet.len() {
            assert!(Datagram::from_ip(&packet[..length]).is_none(), "{length}");
        }
    }
}
