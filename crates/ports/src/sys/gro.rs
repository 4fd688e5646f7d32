//! Generic receive offload: one system call returns a train of datagrams of one sender.
//!
//! Linux 5.0, option 104 (include/uapi/linux/udp.h): the kernel joins datagrams of equal size (but the last) from
//! one address, whatever is in them, and says the size in a control message. Elsewhere, or switched off, a train
//! is one datagram. Called by `socket.rs`. Invariant: a train has the size of the bytes that were received, in a
//! buffer of its own, so its length is what whoever keeps a slice of it keeps in memory.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytes::Bytes;

#[cfg(target_os = "linux")]
use super::pktinfo;
use super::{Feature, NOT_WANTED};
use levada_lane::api::Train;
use levada_lane::canonical;

/// The most that one receive returns: the largest UDP payload, which also bounds what GRO joins.
pub(super) const RECEIVE_BYTES_MAX: usize = 65_535;

/// Asks the kernel to join datagrams.
pub(super) fn enable(io: &UdpSocket, is_wanted: bool) -> Feature {
    if !is_wanted {
        return Feature::Off(NOT_WANTED);
    }
    if switch_on(io) {
        Feature::On
    } else {
        Feature::Off("the system has no UDP_GRO")
    }
}

/// How many datagrams found a socket's receive buffer full: the kernel counts them and tells with each receive after.
///
/// Linux 2.6.33 (`SO_RXQ_OVFL`, socket(7)); elsewhere nobody knows. A train that it joined counts as one there, so it
/// is taken to have had as many datagrams as those that came.
#[derive(Debug, Default)]
pub(super) struct Overflows {
    /// What the kernel told last, which counts modulo 2^32.
    told: AtomicU32,
    known: AtomicU64,
    /// Trains that came of late, and their datagrams.
    trains: AtomicU64,
    datagrams: AtomicU64,
}

/// Of so many trains each counts half.
const TRAINS_KEPT: u64 = 1_024;

impl Overflows {
    /// Has the kernel tell of a socket.
    pub(super) fn count(io: &UdpSocket) -> Self {
        #[cfg(target_os = "linux")]
        let _ = super::option::set(io, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1); // not to be told is no failure
        #[cfg(not(target_os = "linux"))]
        let _ = io;
        Self::default()
    }

    pub(super) fn known(&self) -> u64 {
        self.known.load(Ordering::Relaxed)
    }

    /// A train of so many datagrams came. One thread receives by a socket.
    fn came(&self, datagrams: u64) {
        let (trains, all) = (
            self.trains.load(Ordering::Relaxed),
            self.datagrams.load(Ordering::Relaxed),
        );
        let kept = u64::from(trains >= TRAINS_KEPT);
        self.trains.store((trains >> kept) + 1, Ordering::Relaxed);
        self.datagrams
            .store((all >> kept) + datagrams, Ordering::Relaxed);
    }

    /// The kernel tells how many trains there were since the socket was made.
    fn note(&self, told: u32) {
        let before = self.told.swap(told, Ordering::Relaxed);
        let more = u64::from(told.wrapping_sub(before));
        if more > 0 {
            let trains = self.trains.load(Ordering::Relaxed).max(1);
            let all = self.datagrams.load(Ordering::Relaxed).max(trains);
            let more = (more * all + trains / 2) / trains;
            self.known.fetch_add(more, Ordering::Relaxed);
        }
    }
}

/// What was received, before it has a buffer of its own.
pub(super) struct Received {
    from: SocketAddr,
    to: Option<IpAddr>,
    bytes: usize,
    segment_bytes: usize,
    overflows: Option<u32>,
}

/// Receives a train into `buffer` and copies it out.
pub(super) fn receive(
    io: &UdpSocket,
    buffer: &mut [u8],
    overflows: &Overflows,
) -> io::Result<Train> {
    let received = loop {
        match receive_joined(io, buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => break result?,
        }
    };
    let segment_bytes = received.segment_bytes.max(1); // an empty datagram is a train of none
    overflows.came(received.bytes.div_ceil(segment_bytes) as u64);
    if let Some(told) = received.overflows {
        overflows.note(told);
    }
    Ok(Train {
        to: received.to,
        from: canonical(received.from),
        bytes: Bytes::copy_from_slice(&buffer[..received.bytes]),
        segment_bytes,
    })
}

#[cfg(target_os = "linux")]
fn switch_on(io: &UdpSocket) -> bool {
    super::option::set(io, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok()
}

/// Room for two control messages with an `int` each and one with an address, and then some: aligned as the kernel's
/// structure is.
#[cfg(target_os = "linux")]
#[repr(C, align(8))]
struct Control([u8; 128]);

#[cfg(target_os = "linux")]
fn receive_joined(io: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    use std::os::fd::AsRawFd as _;

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
    // SAFETY: `try_init` gives a storage of the length it says, which the kernel fills and whose length it
    // corrects; the descriptor is open for the life of `io`; the buffers live across the call, with their lengths.
    let (bytes, from) = unsafe {
        socket2::SockAddr::try_init(|storage, length| {
            message.msg_name = storage.cast();
            message.msg_namelen = *length;
            let bytes = libc::recvmsg(io.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT);
            let bytes = usize::try_from(bytes).map_err(|_| io::Error::last_os_error())?;
            *length = message.msg_namelen;
            Ok(bytes)
        })?
    };
    let from = from.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    let joined = told(&message, (libc::SOL_UDP, libc::UDP_GRO));
    let overflows = told(&message, (libc::SOL_SOCKET, libc::SO_RXQ_OVFL));
    Ok(Received {
        from,
        to: pktinfo::told(&message),
        bytes,
        segment_bytes: joined.map_or(bytes, |size| size as usize),
        overflows,
    })
}

/// What the kernel tells in a control message of that level and type, if it does.
#[cfg(target_os = "linux")]
fn told(message: &libc::msghdr, kind: (libc::c_int, libc::c_int)) -> Option<u32> {
    // SAFETY: `msg_control` and `msg_controllen` describe the buffer that the kernel has just filled, which the
    // caller still holds; `CMSG_FIRSTHDR` and `CMSG_NXTHDR` stay within it, and the kernel writes 32 bits behind the
    // header of each kind that is asked for here.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if ((*header).cmsg_level, (*header).cmsg_type) == kind {
                return Some(libc::CMSG_DATA(header).cast::<u32>().read_unaligned());
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    None
}

#[cfg(not(target_os = "linux"))]
fn switch_on(_: &UdpSocket) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn receive_joined(io: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    let (bytes, from) = io.recv_from(buffer)?;
    Ok(Received {
        from,
        to: None,
        bytes,
        segment_bytes: bytes,
        overflows: None,
    })
}
