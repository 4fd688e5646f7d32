//! Generic segmentation offload: one system call sends a run of datagrams, which the kernel or the card cuts.
//!
//! ```text
//! sendmsg(run, UDP_SEGMENT = segment size)      Linux 4.18, option 103 (include/uapi/linux/udp.h)
//!   │ EINVAL or EIO: this kernel, card or tunnel cannot        ─▶ the same run, one datagram at a time; if that
//!   │                                                             works, GSO is off for this destination, and for
//!   │                                                             the socket once [`REFUSED_MAX`] of them refuse
//!   └ EINVAL or EMSGSIZE because a datagram is over the MTU    ─▶ the single send fails too: GSO stays on
//! ```
//!
//! Not a queue: what does not fit in the socket's buffer is left to the caller. Called by `socket.rs`. Invariant:
//! bytes are done with when the kernel took them or refused them for good, never otherwise.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use socket2::SockAddr;

#[cfg(target_os = "linux")]
use super::pktinfo;
use super::{Feature, NOT_WANTED};
use levada_lane::RUN_PACKETS_MAX;
use levada_lane::api::Datagrams;

const ON: u8 = 0;
const UNWANTED: u8 = 1;
const UNKNOWN: u8 = 2;
const FAILED: u8 = 3;

const REFUSED: &str = "a send with UDP_SEGMENT failed that worked without";

/// So many destinations of a socket may refuse runs, each for itself: when one more does, it is the system that
/// refuses.
pub(super) const REFUSED_MAX: usize = 64;

/// The address of this host that a send must come from, and whether the socket is one of IPv6.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendFrom {
    pub(super) address: IpAddr,
    pub(super) is_ipv6: bool,
}

/// Whether a socket uses GSO. Shared by all threads that send on it.
#[derive(Clone, Debug)]
pub(super) struct Gso(Arc<State>);

#[derive(Debug)]
struct State {
    socket: AtomicU8,
    /// How many destinations refuse, so that the lock is taken only where some do.
    refusing: AtomicUsize,
    refused: Mutex<BTreeSet<SocketAddr>>,
}

impl Gso {
    /// Asks the kernel whether it knows the option.
    pub(super) fn detect(io: &UdpSocket, is_wanted: bool) -> Self {
        let state = match (is_wanted, probe(io)) {
            (false, _) => UNWANTED,
            (true, true) => ON,
            (true, false) => UNKNOWN,
        };
        Self(Arc::new(State {
            socket: AtomicU8::new(state),
            refusing: AtomicUsize::new(0),
            refused: Mutex::default(),
        }))
    }

    pub(super) fn state(&self) -> Feature {
        match self.0.socket.load(Ordering::Relaxed) {
            ON => Feature::On,
            UNWANTED => Feature::Off(NOT_WANTED),
            FAILED => Feature::Off(REFUSED),
            _ => Feature::Off("the system has no UDP_SEGMENT"),
        }
    }

    /// Whether it is to be used where it can be.
    pub(super) fn is_wanted(&self) -> bool {
        self.0.socket.load(Ordering::Relaxed) != UNWANTED
    }

    /// How many destinations have refused a run that they took one by one.
    pub(super) fn refusing(&self) -> usize {
        self.0.refusing.load(Ordering::Relaxed)
    }

    /// Whether runs to a destination leave in one system call, and if not, why.
    pub(super) fn towards(&self, to: &SockAddr) -> Feature {
        match self.state() {
            Feature::On if !self.joins_for(to) => Feature::Off(REFUSED),
            state => state,
        }
    }

    #[inline]
    fn joins_for(&self, to: &SockAddr) -> bool {
        if self.0.socket.load(Ordering::Relaxed) != ON {
            return false;
        }
        let refuses = |to| self.refused().contains(&to);
        self.refusing() == 0 || !to.as_socket().is_some_and(refuses)
    }

    fn refused(&self) -> MutexGuard<'_, BTreeSet<SocketAddr>> {
        let refused = self.0.refused.lock();
        refused.unwrap_or_else(PoisonError::into_inner)
    }

    /// Is off for a destination from now on, and says so once, however many threads find out at the same time.
    fn fail(&self, to: &SockAddr, error: &io::Error) {
        let mut refused = self.refused();
        if !to.as_socket().is_some_and(|to| refused.insert(to)) {
            return;
        }
        self.0.refusing.store(refused.len(), Ordering::Relaxed);
        if refused.len() == 1 {
            tracing::warn!(
                %error,
                "the system refuses to send several packets at once (GSO) to a destination and takes them one by one: \
                 to it they leave alone from now on, which costs several times as much"
            );
        } else if refused.len() > REFUSED_MAX && self.0.socket.swap(FAILED, Ordering::Relaxed) == ON
        {
            tracing::warn!(
                %error,
                "the system refuses to send several packets at once (GSO) to more than {REFUSED_MAX} destinations: by \
                 this socket all packets leave alone from now on, which costs several times as much"
            );
        }
    }

    /// Sends as much of `datagrams` as one system call takes; says how many bytes are done with.
    ///
    /// All of those have one fate: sent, or refused with the error. After `WouldBlock` there are none.
    pub(super) fn send(
        &self,
        io: &UdpSocket,
        (to, source): (&SockAddr, Option<SendFrom>),
        datagrams: &Datagrams,
    ) -> (usize, io::Result<()>) {
        let is_joined = datagrams.bytes.len() > datagrams.segment_bytes;
        if !is_joined || !self.joins_for(to) {
            return send_first(io, (to, source), datagrams);
        }
        let whole = [IoSlice::new(&datagrams.bytes)];
        match retry(|| send_joined(io, (to, source), &whole, Some(datagrams.segment_bytes))) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (0, Err(error)),
            Err(error) if may_be_gso(&error) => {
                // The single send tells whether the run or the destination is to blame.
                let alone = send_first(io, (to, source), datagrams);
                if alone.1.is_ok() {
                    self.fail(to, &error);
                }
                alone
            }
            result => (datagrams.bytes.len(), result),
        }
    }
}

/// What lies in several buffers.
impl Gso {
    /// Sends as many datagrams as one system call takes, which are of that size but the last; says how many it took.
    ///
    /// After an error nothing was sent.
    pub(super) fn send_gathered(
        &self,
        io: &UdpSocket,
        to: &SockAddr,
        datagrams: &[Bytes],
        segment_bytes: usize,
    ) -> io::Result<usize> {
        if let [_, _, ..] = datagrams
            && self.joins_for(to)
        {
            let mut parts = [IoSlice::new(&[]); RUN_PACKETS_MAX];
            let parts = &mut parts[..datagrams.len().min(RUN_PACKETS_MAX)];
            for (part, datagram) in parts.iter_mut().zip(datagrams) {
                *part = IoSlice::new(datagram);
            }
            match retry(|| send_joined(io, (to, None), parts, Some(segment_bytes))) {
                Err(error) if may_be_gso(&error) => {
                    // The single send tells whether the run or the destination is to blame.
                    send_alone(io, (to, None), &datagrams[0])?;
                    self.fail(to, &error);
                    return Ok(1);
                }
                result => return result.map(|()| parts.len()),
            }
        }
        let Some(first) = datagrams.first() else {
            return Ok(0);
        };
        send_alone(io, (to, None), first).map(|()| 1)
    }
}

/// Sends the first datagram alone. It is not done with if the socket is full.
fn send_first(
    io: &UdpSocket,
    way: (&SockAddr, Option<SendFrom>),
    datagrams: &Datagrams,
) -> (usize, io::Result<()>) {
    let length = datagrams.segment_bytes.max(1).min(datagrams.bytes.len());
    match send_alone(io, way, &datagrams.bytes[..length]) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => (0, Err(error)),
        result => (length, result),
    }
}

fn send_alone(
    io: &UdpSocket,
    (to, source): (&SockAddr, Option<SendFrom>),
    datagram: &[u8],
) -> io::Result<()> {
    if source.is_some() {
        let whole = [IoSlice::new(datagram)];
        match retry(|| send_joined(io, (to, source), &whole, None)) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            result => return result,
        }
    }
    let to = to.as_socket().expect("made from a socket address");
    retry(|| io.send_to(datagram, to).map(|_| ()))
}

/// Repeats a call that a signal broke off. An interface whose queue is full is to the caller what a full socket is.
fn retry(mut call: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_interface_full(&error) => {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            result => return result,
        }
    }
}

/// Whether a send failed with ENOBUFS.
fn is_interface_full(error: &io::Error) -> bool {
    #[cfg(target_os = "linux")]
    let codes = [libc::ENOBUFS];
    #[cfg(not(target_os = "linux"))]
    let codes = [55, 10_055]; // ENOBUFS of the BSDs and macOS, WSAENOBUFS
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}

#[cfg(target_os = "linux")]
fn may_be_gso(error: &io::Error) -> bool {
    let codes = [libc::EINVAL, libc::EIO, libc::EMSGSIZE, libc::EOPNOTSUPP];
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}

/// Sets the option to a size and back, as a kernel without it could not.
#[cfg(target_os = "linux")]
fn probe(io: &UdpSocket) -> bool {
    let set = |size| super::option::set(io, libc::SOL_UDP, libc::UDP_SEGMENT, size);
    set(1_200).is_ok() && set(0).is_ok()
}

/// Room for a control message with a 16-bit size, which takes 24 bytes, and for one with an address; aligned as the
/// kernel's structure is.
#[cfg(target_os = "linux")]
#[repr(C, align(8))]
struct Control([u8; 24 + pktinfo::SOURCE_BYTES]);

/// Sends datagrams of that size as one, or one datagram, from the source if one is named.
#[cfg(target_os = "linux")]
fn send_joined(
    io: &UdpSocket,
    (to, source): (&SockAddr, Option<SendFrom>),
    parts: &[IoSlice<'_>],
    segment: Option<usize>,
) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;

    let size = segment.map(u16::try_from).transpose();
    let size = size.map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut control = Control([0; 24 + pktinfo::SOURCE_BYTES]);
    // SAFETY: a message header of zeros is valid: no name, no parts, no control.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = to.as_ptr().cast_mut().cast();
    message.msg_namelen = to.len();
    // An `IoSlice` is an `iovec` (std guarantees it on Unix); the kernel only reads those of a message that is sent.
    message.msg_iov = parts.as_ptr().cast_mut().cast();
    message.msg_iovlen = parts.len() as _;
    let mut used = 0;
    if let Some(size) = size {
        let header = control.0.as_mut_ptr().cast::<libc::cmsghdr>();
        // SAFETY: `control` is aligned, and one control message of two bytes takes 24 at most, which it has: room for
        // the header and for the two bytes that `CMSG_DATA` points to. `CMSG_SPACE` and `CMSG_LEN` only compute.
        unsafe {
            (*header).cmsg_level = libc::SOL_UDP;
            (*header).cmsg_type = libc::UDP_SEGMENT;
            (*header).cmsg_len = libc::CMSG_LEN(2) as _;
            libc::CMSG_DATA(header).cast::<u16>().write_unaligned(size);
            used = libc::CMSG_SPACE(2) as usize;
        }
    }
    if let Some(SendFrom { address, is_ipv6 }) = source {
        let header = control.0[used..].as_mut_ptr().cast::<libc::cmsghdr>();
        // SAFETY: `used` is zero or what `CMSG_SPACE` said, so `header` is aligned as `control` is, and the rest of
        // that has `SOURCE_BYTES` at least.
        used += unsafe { pktinfo::write(header, address, is_ipv6) };
    }
    if used > 0 {
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = used as _;
    }
    // SAFETY: the descriptor is open for the life of `io`; the header and all it points to (`to`, `parts`, their
    // bytes, `control`) live across the call, and the kernel only reads them.
    let sent = unsafe { libc::sendmsg(io.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT) };
    if sent >= 0 {
        Ok(()) // a datagram socket takes all or nothing
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(not(target_os = "linux"))]
fn may_be_gso(_: &io::Error) -> bool {
    true
}

#[cfg(not(target_os = "linux"))]
fn probe(_: &UdpSocket) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn send_joined(
    _: &UdpSocket,
    _: (&SockAddr, Option<SendFrom>),
    _: &[IoSlice<'_>],
    _: Option<usize>,
) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_full_interface_is_waited_for_like_a_full_socket_and_a_signal_is_not_seen() {
        let mut errors = vec![libc::ENOBUFS, libc::EINTR];
        let full = retry(|| Err(io::Error::from_raw_os_error(errors.pop().unwrap())));
        let refused = retry(|| Err(io::Error::from_raw_os_error(libc::EACCES)));

        assert_eq!(full.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EACCES));
    }
}
