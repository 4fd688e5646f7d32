//! The UDP socket of a lane: bound alone (several together: `set.rs`), with large buffers, for both IP versions where
//! the system allows.
//!
//! Not a loop: it never waits. Called by [`crate::worker`], and by the node's QUIC shim, which sends on the same
//! port from another thread. Invariant: addresses that come out of it are canonical (IPv4 is IPv4, also on a
//! dual-stack socket), and no datagram it sends is ever fragmented.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

use bytes::{Buf as _, Bytes};
use socket2::{Domain, Protocol, SockAddr, Type};

use super::errors;
use super::gro::{self, Overflows, RECEIVE_BYTES_MAX};
use super::gso::{Gso, SendFrom};
use super::{Feature, multicast, reuseport};
use levada_lane::api::{Datagrams, Train};

/// What a socket is made like.
#[derive(Clone, Copy, Debug)]
pub struct SocketSettings {
    /// Buffers to ask for. The kernel may give less: see [`Socket::buffers`].
    pub buffers: BufferBytes,
    /// Use GSO where the system has it.
    pub gso: bool,
    /// Use GRO where the system has it.
    pub gro: bool,
    /// Of several lanes' sockets, let the kernel choose by flow where it can. See [`super::SocketSet`].
    pub steering: bool,
}

impl Default for SocketSettings {
    fn default() -> Self {
        // 4 MiB: 32 ms at 1 Gb/s, longer than a lane is ever kept from its socket.
        Self {
            buffers: BufferBytes {
                send: 4 << 20,
                receive: 4 << 20,
            },
            gso: true,
            gro: true,
            steering: true,
        }
    }
}

/// What was given when the system tells this size: Linux tells twice as much, for its own bookkeeping (socket(7)).
const fn given(told: usize) -> usize {
    if cfg!(target_os = "linux") {
        told / 2
    } else {
        told
    }
}

/// Sizes of a socket's two buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferBytes {
    /// What waits to be sent.
    pub send: usize,
    /// What waits to be received.
    pub receive: usize,
}

/// A socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot bind UDP {address}: {source}")]
pub struct BindError {
    /// The address and port that were asked for.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

impl BindError {
    /// Whether another socket has that port.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

/// See the module's head.
#[derive(Debug)]
pub struct Socket {
    io: UdpSocket,
    local: SocketAddr,
    buffers: BufferBytes,
    gso: Gso,
    gro: Feature,
    /// Whether others may be opened beside it to send by.
    is_shared: bool,
    /// Whether the kernel tells by it when an interface is full.
    tells_full: bool,
    /// Datagrams that found its receive buffer full.
    overflows: Overflows,
}

impl Socket {
    /// Binds a socket that nobody shares: without `SO_REUSEPORT` a busy port is an error, not a second reader.
    ///
    /// `[::]` takes IPv4 too where the system allows.
    ///
    /// # Errors
    ///
    /// When the system refuses; [`BindError::is_in_use`] tells the most common reason.
    pub fn bind(address: SocketAddr, settings: &SocketSettings) -> Result<Self, BindError> {
        Self::try_bind(address, settings, false).map_err(|source| BindError { address, source })
    }

    /// Binds another socket to the port of one that shares it.
    pub(super) fn bind_beside(address: SocketAddr, settings: &SocketSettings) -> io::Result<Self> {
        Self::try_bind(address, settings, true)
    }

    fn try_bind(
        address: SocketAddr,
        settings: &SocketSettings,
        is_beside: bool,
    ) -> io::Result<Self> {
        let domain = Domain::for_address(address);
        let socket = socket2::Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            let is_any = address.ip().is_unspecified();
            // Where there is no dual stack the socket is IPv6 alone, which `can_reach` then says.
            let _ = socket.set_only_v6(!is_any);
        }
        socket.set_nonblocking(true)?;
        let wanted = settings.buffers;
        // Less than wanted is not an error: the kernel's limit shows in `buffers`.
        let _ = socket.set_send_buffer_size(wanted.send);
        let _ = socket.set_recv_buffer_size(wanted.receive);
        if is_beside {
            reuseport::share_before_bind(&socket)?;
        }
        socket.bind(&SockAddr::from(address))?;
        let bound = Self::of(socket, settings)?;
        Ok(Self {
            is_shared: is_beside,
            ..bound
        })
    }

    /// Makes a socket that is bound one of ours.
    pub(super) fn of(socket: socket2::Socket, settings: &SocketSettings) -> io::Result<Self> {
        let buffers = BufferBytes {
            send: given(socket.send_buffer_size()?),
            receive: given(socket.recv_buffer_size()?),
        };
        let is_ipv6 = socket.local_addr()?.is_ipv6();
        multicast::hear_only_own(&socket, is_ipv6);
        let io = UdpSocket::from(socket);
        never_fragment(&io, is_ipv6)?;
        #[cfg(target_os = "linux")]
        super::pktinfo::enable(&io, is_ipv6);
        Ok(Self {
            local: io.local_addr()?,
            buffers,
            gso: Gso::detect(&io, settings.gso),
            gro: gro::enable(&io, settings.gro),
            is_shared: false,
            tells_full: false,
            overflows: Overflows::count(&io),
            io,
        })
    }

    /// Sends all datagrams, or says why not; `WouldBlock` when the socket's buffer is full.
    ///
    /// # Errors
    ///
    /// What the kernel says of the destination or of the size. Without GSO the datagrams before the one that
    /// failed have gone.
    pub fn try_send(&self, datagrams: &Datagrams) -> io::Result<()> {
        let mut rest = datagrams.clone();
        while !rest.bytes.is_empty() {
            self.send_part(&mut rest)?;
        }
        Ok(())
    }

    /// Sends as much as one system call takes; what it takes from `datagrams` has one fate. See [`Gso::send`].
    pub(crate) fn send_part(&self, datagrams: &mut Datagrams) -> io::Result<()> {
        let to = self.address_of(datagrams.to);
        let source = datagrams.source.map(|address| SendFrom {
            address,
            is_ipv6: self.local.is_ipv6(),
        });
        let send = || self.gso.send(&self.io, (&to, source), datagrams);
        let (mut done, mut result) = send();
        if self.tells_full && matches!(&result, Err(error) if errors::may_be_old(error)) {
            errors::forget(&self.io);
            (done, result) = send();
        }
        datagrams.bytes.advance(done);
        result
    }

    /// Sends as many datagrams as one system call takes, which are of that size but the last, from where they lie; says
    /// how many it took.
    pub(crate) fn send_gathered(
        &self,
        to: SocketAddr,
        datagrams: &[Bytes],
        segment_bytes: usize,
    ) -> io::Result<usize> {
        let to = self.address_of(to);
        self.gso
            .send_gathered(&self.io, &to, datagrams, segment_bytes)
    }

    /// How this socket writes an address: one of IPv6 knows IPv4 as a part of that.
    fn address_of(&self, to: SocketAddr) -> SockAddr {
        match (to, self.local) {
            (SocketAddr::V4(v4), SocketAddr::V6(_)) => {
                let mapped: Ipv6Addr = v4.ip().to_ipv6_mapped();
                SocketAddrV6::new(mapped, v4.port(), 0, 0).into()
            }
            (to, _) => to.into(),
        }
    }

    /// Receives a train; `WouldBlock` when there is none.
    pub(crate) fn receive(&self, buffer: &mut ReceiveBuffer) -> io::Result<Train> {
        gro::receive(&self.io, &mut buffer.0, &self.overflows)
    }

    /// Datagrams that were brought to this socket and found its buffer full, as far as is known: the network did not
    /// lose them.
    pub(crate) fn overflows(&self) -> u64 {
        self.overflows.known()
    }

    /// Where it is bound, with the port that the system chose for port 0.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The buffers that the kernel really gave.
    #[must_use]
    pub const fn buffers(&self) -> BufferBytes {
        self.buffers
    }

    /// Whether runs leave in one system call.
    #[must_use]
    pub fn gso(&self) -> Feature {
        self.gso.state()
    }

    /// The same of runs to a destination, which may be refused though others are not.
    #[must_use]
    pub fn gso_towards(&self, to: SocketAddr) -> Feature {
        self.gso.towards(&self.address_of(to))
    }

    /// How many destinations there are to which packets leave alone, since the kernel refused a run.
    pub(crate) fn refusing_runs(&self) -> usize {
        self.gso.refusing()
    }

    /// Whether trains arrive in one system call.
    #[must_use]
    pub const fn gro(&self) -> Feature {
        self.gro
    }

    /// The same socket once more: for a lane that sends by it and receives nothing.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            io: self.io.try_clone()?,
            local: self.local,
            buffers: self.buffers,
            gso: self.gso.clone(),
            gro: self.gro,
            is_shared: self.is_shared,
            tells_full: self.tells_full,
            overflows: Overflows::default(), // it receives nothing
        })
    }

    /// Notes that the port is shared by sockets that the kernel steers between.
    pub(super) const fn set_shared(&mut self) {
        self.is_shared = true;
    }

    /// Opens a socket on the same port to send by, where lanes share the port: the kernel's program names none but the
    /// lanes' places, so this one receives nothing.
    pub(crate) fn open_to_send(&self) -> io::Result<Self> {
        if !self.is_shared {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let settings = SocketSettings {
            buffers: BufferBytes {
                send: self.buffers.send,
                receive: 0,
            },
            gso: self.gso.is_wanted(), // another interface may do what this one refuses
            gro: false,
            steering: false,
        };
        let socket = Self::bind_beside(self.local, &settings)?;
        let tells_full = errors::tell(&socket.io, self.local.is_ipv6());
        Ok(Self {
            tells_full,
            ..socket
        })
    }

    pub(super) const fn io(&self) -> &UdpSocket {
        &self.io
    }

    /// A second handle of the same socket, for a poller.
    pub(crate) fn try_clone_io(&self) -> io::Result<UdpSocket> {
        self.io.try_clone()
    }
}

/// Whether a send failed because the datagram is larger than the first hop takes.
#[must_use]
pub(crate) fn is_too_large(error: &io::Error) -> bool {
    #[cfg(target_os = "linux")]
    let codes = [libc::EMSGSIZE];
    #[cfg(not(target_os = "linux"))]
    let codes = [40, 10_040]; // EMSGSIZE of the BSDs and macOS, WSAEMSGSIZE
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}

/// For waiting until it is writable; its bytes are the lane's.
#[cfg(unix)]
impl std::os::fd::AsFd for Socket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.io.as_fd()
    }
}

/// What a receive is written into, once per thread.
#[derive(Debug)]
pub(crate) struct ReceiveBuffer(Box<[u8]>);

impl ReceiveBuffer {
    pub(crate) fn new() -> Self {
        Self(vec![0; RECEIVE_BYTES_MAX].into())
    }
}

/// Sets "do not fragment" and takes no path MTU from the kernel's cache: a datagram that is too large for its path
/// is an error or is lost, both of which are seen, where fragments would be lost unseen.
#[cfg(target_os = "linux")]
fn never_fragment(io: &UdpSocket, is_ipv6: bool) -> io::Result<()> {
    use super::option::set;
    if is_ipv6 {
        let probe = libc::IPV6_PMTUDISC_PROBE;
        set(io, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, probe)?;
        // For the IPv4 half of a dual-stack socket; an IPv6-only one takes it too.
    }
    set(
        io,
        libc::IPPROTO_IP,
        libc::IP_MTU_DISCOVER,
        libc::IP_PMTUDISC_PROBE,
    )
}

#[cfg(not(target_os = "linux"))]
#[allow(clippy::unnecessary_wraps, reason = "one signature on all systems")]
fn never_fragment(_: &UdpSocket, _: bool) -> io::Result<()> {
    Ok(()) // datagrams fit any IPv6 path by default, and QUIC finds its own size
}

#[cfg(test)]
mod tests;
