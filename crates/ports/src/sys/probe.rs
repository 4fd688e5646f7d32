//! A UDP socket with nothing around it: what a measurement puts beside a lane, and at its far ends.
//!
//! Not the lane's socket (`socket.rs`), and on purpose no code of it: a floor that shared its system calls would share
//! its mistakes. It waits where it is told to, copies nothing, keeps nothing. Called by `levada bench` and
//! `levada check`, never by a node. Invariant: [`ProbeSocket::receive`] says how long a datagram or train was, even
//! when the buffer was shorter.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Protocol, Type};

/// What a probe socket is made like.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProbeSettings {
    /// The receive buffer to ask for; zero leaves what the system gives.
    pub receive_buffer: usize,
    /// Take trains where the system has GRO.
    pub gro: bool,
    /// Have the kernel say when each datagram reached the socket's host.
    pub timestamps: bool,
    /// How long a receive waits; without it a receive does not wait at all.
    pub patience: Option<Duration>,
}

/// One receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeArrival {
    /// How long it was, which may be more than the buffer holds.
    pub bytes: usize,
    /// Size of each datagram but the last.
    pub segment_bytes: usize,
    /// When it reached this host, in nanoseconds of the system's wall clock, if asked for and known.
    pub at_nanos: Option<u64>,
}

/// See the module's head.
#[derive(Debug)]
pub struct ProbeSocket {
    io: UdpSocket,
    local: SocketAddr,
    receive_buffer: usize,
    has_gro: bool,
}

impl ProbeSocket {
    /// Binds it.
    ///
    /// # Errors
    ///
    /// When the system refuses the socket or the address.
    pub fn bind(address: SocketAddr, settings: &ProbeSettings) -> io::Result<Self> {
        let domain = Domain::for_address(address);
        let socket = socket2::Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        if settings.receive_buffer > 0 {
            // Less than wanted is not an error: whoever measures asks what there is.
            let _ = socket.set_recv_buffer_size(settings.receive_buffer);
        }
        socket.set_nonblocking(settings.patience.is_none())?;
        socket.set_read_timeout(settings.patience)?;
        socket.bind(&address.into())?;
        let receive_buffer = socket.recv_buffer_size()?;
        let io = UdpSocket::from(socket);
        let has_gro = settings.gro && system::join(&io);
        if settings.timestamps {
            system::stamp(&io)?;
        }
        Ok(Self {
            local: io.local_addr()?,
            receive_buffer,
            has_gro,
            io,
        })
    }

    #[cfg(test)]
    pub(super) const fn io(&self) -> &UdpSocket {
        &self.io
    }

    /// Where it is bound.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The receive buffer that the kernel really gave, as it counts: with its own bookkeeping.
    #[must_use]
    pub const fn receive_buffer(&self) -> usize {
        self.receive_buffer
    }

    /// Whether it takes trains.
    #[must_use]
    pub const fn has_gro(&self) -> bool {
        self.has_gro
    }

    /// Sends `bytes` as datagrams of `segment_bytes`, the last of which may be shorter: in one system call where the
    /// system has GSO.
    ///
    /// # Errors
    ///
    /// What the kernel says. Nothing is tried again, and nothing falls back.
    pub fn send(&self, to: SocketAddr, bytes: &[u8], segment_bytes: usize) -> io::Result<()> {
        system::send(&self.io, to, bytes, segment_bytes)
    }

    /// Receives a datagram, or a train if it takes trains. What does not fit in `buffer` is gone, and counted.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when nothing came in time.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<ProbeArrival> {
        system::receive(&self.io, buffer)
    }
}

#[cfg(target_os = "linux")]
mod system {
    //! System calls of Linux.

    use std::io;
    use std::net::{SocketAddr, UdpSocket};
    use std::os::fd::AsRawFd as _;

    use socket2::SockAddr;

    use super::ProbeArrival;
    use crate::sys::option;

    /// Room for the control messages of one call: a size, or a size and a time; aligned as the kernel's structure is.
    #[repr(C, align(8))]
    struct Control([u8; 128]);

    /// Option 104 (include/uapi/linux/udp.h).
    pub(super) fn join(io: &UdpSocket) -> bool {
        option::set(io, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok()
    }

    /// Software receive stamps, taken where loopback and cards hand the datagram to the host (net/core/dev.c).
    pub(super) fn stamp(io: &UdpSocket) -> io::Result<()> {
        option::set(io, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)
    }

    pub(super) fn send(
        io: &UdpSocket,
        to: SocketAddr,
        bytes: &[u8],
        segment_bytes: usize,
    ) -> io::Result<()> {
        let size = u16::try_from(segment_bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
        let to = SockAddr::from(to);
        let mut control = Control([0; 128]);
        let mut part = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        // SAFETY: a message header of zeros is valid: no name, no parts, no control.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = to.as_ptr().cast_mut().cast();
        message.msg_namelen = to.len();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if bytes.len() > segment_bytes {
            message.msg_control = control.0.as_mut_ptr().cast();
            // SAFETY: it only computes. A message of two bytes takes 24 at most, and `control` has 128.
            message.msg_controllen = unsafe { libc::CMSG_SPACE(2) } as _;
            // SAFETY: `msg_control` points to an aligned buffer of at least `msg_controllen` bytes, so `CMSG_FIRSTHDR`
            // gives a pointer into it, not null, with room for the header and the two bytes of its data.
            unsafe {
                let header = libc::CMSG_FIRSTHDR(&raw const message);
                (*header).cmsg_level = libc::SOL_UDP;
                (*header).cmsg_type = libc::UDP_SEGMENT;
                (*header).cmsg_len = libc::CMSG_LEN(2) as _;
                libc::CMSG_DATA(header).cast::<u16>().write_unaligned(size);
            }
        }
        // SAFETY: the descriptor is open for the life of `io`; the header and all it points to (`to`, `part`, the
        // bytes, `control`) live across the call, and the kernel only reads them.
        let sent = unsafe { libc::sendmsg(io.as_raw_fd(), &raw const message, 0) };
        if sent >= 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    pub(super) fn receive(io: &UdpSocket, buffer: &mut [u8]) -> io::Result<ProbeArrival> {
        let mut control = Control([0; 128]);
        let mut part = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        // SAFETY: a message header of zeros is valid: no name, no parts, no control.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len() as _;
        // SAFETY: the descriptor is open for the life of `io`; the header, `part`, `buffer` and `control` live across
        // the call, with the lengths they say. MSG_TRUNC makes the result the real length (udp(7)); nothing more is
        // written.
        let bytes = unsafe { libc::recvmsg(io.as_raw_fd(), &raw mut message, libc::MSG_TRUNC) };
        let bytes = usize::try_from(bytes).map_err(|_| io::Error::last_os_error())?;
        let mut arrival = ProbeArrival {
            bytes,
            segment_bytes: bytes.max(1),
            at_nanos: None,
        };
        read_control(&message, &mut arrival);
        Ok(arrival)
    }

    fn read_control(message: &libc::msghdr, arrival: &mut ProbeArrival) {
        // SAFETY: `msg_control` and `msg_controllen` describe the buffer that the kernel has just filled, which the
        // caller still holds; `CMSG_FIRSTHDR` and `CMSG_NXTHDR` stay within it. Behind the header of a `UDP_GRO`
        // message the kernel writes an `int`, behind that of `SCM_TIMESTAMPNS` a `timespec`.
        unsafe {
            let mut header = libc::CMSG_FIRSTHDR(message);
            while !header.is_null() {
                let data = libc::CMSG_DATA(header);
                match ((*header).cmsg_level, (*header).cmsg_type) {
                    (libc::SOL_UDP, libc::UDP_GRO) => {
                        let size = data.cast::<libc::c_int>().read_unaligned();
                        arrival.segment_bytes = usize::try_from(size).unwrap_or(0).max(1);
                    }
                    (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                        let time = data.cast::<libc::timespec>().read_unaligned();
                        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
                        let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
                        arrival.at_nanos = Some(seconds * 1_000_000_000 + nanos);
                    }
                    _ => {}
                }
                header = libc::CMSG_NXTHDR(message, header);
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    //! What every system has: datagrams, one by one.

    use std::io;
    use std::net::{SocketAddr, UdpSocket};

    use super::ProbeArrival;

    pub(super) fn join(_: &UdpSocket) -> bool {
        false
    }

    pub(super) fn stamp(_: &UdpSocket) -> io::Result<()> {
        Ok(()) // an arrival without a time says so itself
    }

    pub(super) fn send(
        io: &UdpSocket,
        to: SocketAddr,
        bytes: &[u8],
        segment_bytes: usize,
    ) -> io::Result<()> {
        for datagram in bytes.chunks(segment_bytes.max(1)) {
            io.send_to(datagram, to)?;
        }
        Ok(())
    }

    pub(super) fn receive(io: &UdpSocket, buffer: &mut [u8]) -> io::Result<ProbeArrival> {
        let (bytes, _) = io.recv_from(buffer)?;
        Ok(ProbeArrival {
            bytes,
            segment_bytes: bytes.max(1),
            at_nanos: None,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    /// Longer than any machine takes to hand a datagram to itself.
    const PATIENCE: Duration = Duration::from_secs(20);
    const SEGMENT: usize = 1_000;
    const BYTES: usize = 4 * SEGMENT + 300;

    fn bind(gro: bool) -> ProbeSocket {
        let settings = ProbeSettings {
            receive_buffer: 1 << 20,
            gro,
            timestamps: true,
            patience: Some(PATIENCE),
        };
        ProbeSocket::bind("127.0.0.1:0".parse().unwrap(), &settings).unwrap()
    }

    #[test]
    fn a_run_arrives_whole_with_and_without_gro() {
        for gro in [true, false] {
            let (sender, receiver) = (bind(false), bind(gro));
            let sent: Vec<u8> = (0..BYTES)
                .map(|at| u8::try_from(at % 251).unwrap())
                .collect();

            sender.send(receiver.local_addr(), &sent, SEGMENT).unwrap();
            let mut got = Vec::new();
            while got.len() < BYTES {
                let mut buffer = vec![0; 65_535];
                let arrival = receiver.receive(&mut buffer).unwrap();
                assert!(arrival.segment_bytes <= SEGMENT);
                got.extend_from_slice(&buffer[..arrival.bytes]);
            }

            assert_eq!(got, sent);
        }
    }

    #[test]
    fn a_short_buffer_still_tells_the_whole_length() {
        let (sender, receiver) = (bind(false), bind(false));
        sender
            .send(receiver.local_addr(), &[7; SEGMENT], SEGMENT)
            .unwrap();

        let mut buffer = [0; 16];
        let arrival = receiver.receive(&mut buffer).unwrap();

        assert_eq!(buffer, [7; 16]);
        assert!(cfg!(not(target_os = "linux")) || arrival.bytes == SEGMENT);
        assert_eq!(arrival.at_nanos.is_some(), cfg!(target_os = "linux"));
    }

    #[test]
    fn without_patience_an_empty_socket_says_so_at_once() {
        let settings = ProbeSettings::default();
        let socket = ProbeSocket::bind("127.0.0.1:0".parse().unwrap(), &settings).unwrap();

        let error = socket.receive(&mut [0; 16]).unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(socket.receive_buffer() > 0 && !socket.has_gro());
    }
}
