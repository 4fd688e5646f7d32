//! The socket of an output: by which interface, how far.
//!
//! Not what is sent. Called by `output` and `announce`. Invariant: a group is sent by the interface that is named, or
//! not at all.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use levada_ports::sys::{HostInterface, interfaces};
use socket2::{Domain, Protocol, Socket, Type};

use crate::spec::{Spec, is_of_family};

/// What the kernel may hold: a tenth of a second of 40 Mb/s.
const BUFFER_BYTES: usize = 512 << 10;

/// A socket that sends to one place.
#[derive(Debug)]
pub(crate) struct Sender {
    socket: UdpSocket,
    /// The address of ours that it is sent from; none if that is not known.
    pub(crate) from: Option<IpAddr>,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(
        "no interface here is called `{0}` or has that address: `ip address` lists what there is"
    )]
    NoInterface(String),
    #[error(
        "`{0}` has no address of the family of the group: write an interface that has one, or another group"
    )]
    NoAddress(String),
    #[error("the system does not let it be sent: {0}")]
    System(#[from] io::Error),
}

impl Sender {
    /// Opens a socket for an output.
    pub(crate) fn open(spec: &Spec) -> Result<Self, OpenError> {
        Self::towards(spec, spec.to)
    }

    /// Opens a socket that sends to another group by the same way.
    pub(crate) fn towards(spec: &Spec, to: SocketAddr) -> Result<Self, OpenError> {
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
        // Less than wanted is no error.
        let _ = socket.set_send_buffer_size(BUFFER_BYTES);
        let by = spec.interface.as_deref().map(|name| find(name, to.ip()));
        let by = by.transpose()?;
        let ttl = u32::from(spec.ttl);
        match (to, by) {
            (SocketAddr::V4(group), by) if group.ip().is_multicast() => {
                socket.set_multicast_ttl_v4(ttl)?;
                if let Some((_, IpAddr::V4(address))) = by {
                    socket.set_multicast_if_v4(&address)?;
                    socket.bind(&SocketAddr::from((address, 0)).into())?;
                }
            }
            (SocketAddr::V6(group), by) if group.ip().is_multicast() => {
                socket.set_multicast_hops_v6(ttl)?;
                if let Some((index, _)) = by {
                    socket.set_multicast_if_v6(index)?;
                }
            }
            (SocketAddr::V4(_), _) => socket.set_ttl_v4(ttl)?,
            (SocketAddr::V6(_), _) => socket.set_unicast_hops_v6(ttl)?,
        }
        // Connected, it says what comes back of what was sent.
        socket.connect(&to.into())?;
        let socket = UdpSocket::from(socket);
        let from = socket.local_addr().ok().map(|local| local.ip());
        let from = from.filter(|ip| !ip.is_unspecified());
        Ok(Self { socket, from })
    }

    /// Sends one datagram.
    pub(crate) fn send(&self, datagram: &[u8]) -> io::Result<()> {
        self.socket.send(datagram).map(|_| ())
    }
}

/// The interface of that name or address: its number, and an address of it of the family of `to`.
fn find(name: &str, to: IpAddr) -> Result<(u32, IpAddr), OpenError> {
    let address: Option<IpAddr> = name.parse().ok();
    let all = interfaces()?;
    let is_it = |interface: &&HostInterface| {
        let has = |ip| interface.addresses.iter().any(|own| own.ip == ip);
        interface.name == name || address.is_some_and(has)
    };
    let interface = all.iter().find(is_it);
    let interface = interface.ok_or_else(|| OpenError::NoInterface(name.to_owned()))?;
    let own = address
        .into_iter()
        .chain(interface.addresses.iter().map(|own| own.ip));
    let mut own = own.filter(|ip| is_of_family(*ip, to));
    let ip = own.next();
    let ip = ip.ok_or_else(|| OpenError::NoAddress(name.to_owned()))?;
    Ok((interface.index, ip))
}

/// The address of SAP for a group (RFC 2974 section 3): the highest of its scope; none outside of IPv4.
pub(crate) fn announcement_group(to: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V4(group) = to else { return None };
    Some(match group.octets() {
        [224, 0, 0, _] => Ipv4Addr::new(224, 0, 0, 255),
        [239, 255, ..] => Ipv4Addr::new(239, 255, 255, 255),
        [239, 192..=195, ..] => Ipv4Addr::new(239, 195, 255, 255),
        _ => Ipv4Addr::new(224, 2, 127, 254),
    })
}
