//! Steering in the kernel: which of several sockets of one port gets a datagram.
//!
//! ```text
//! first byte 0x04..=0x06 (media, parity, link)  ─▶ socket (bytes 4-7) mod sockets: the lane that owns the flow
//! anything else, or shorter than 8 bytes        ─▶ socket 0: QUIC, site datagrams, garbage
//! ```
//!
//! Linux 4.5 (`SO_ATTACH_REUSEPORT_CBPF`, option 51 of include/uapi/asm-generic/socket.h): a classic BPF program of the
//! group of sockets sees the datagram without its UDP header (`run_bpf_filter`, net/core/sock_reuseport.c) and gives a
//! place in the group, which is the order of binding. It is asked once per **train**, with the train's first datagram:
//! `steer.rs` has the same rule in user space for the rest. Not the sockets: `set.rs`. Called by it.
//!
//! Invariant: a program that cannot be attached changes nothing.

use std::io;
use std::net::UdpSocket;

/// Whether several sockets may share a port and be steered here.
pub(super) const IS_POSSIBLE: bool = cfg!(target_os = "linux");

/// Lets `io` share its port with others of this user that say the same, or no longer.
#[cfg(target_os = "linux")]
pub(super) fn share(io: &UdpSocket, is_shared: bool) -> io::Result<()> {
    socket2::SockRef::from(io).set_reuse_port(is_shared)
}

/// The same, of a socket that is not bound yet: only such a one may join.
#[cfg(target_os = "linux")]
pub(super) fn share_before_bind(socket: &socket2::Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

/// One instruction of classic BPF (include/uapi/linux/filter.h).
#[cfg(target_os = "linux")]
const fn instruction(code: u32, k: u32, if_true: u8, if_false: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: if_true,
        jf: if_false,
        k,
    }
}

/// The rule of the module's head. A load behind the end of the datagram ends the program with 0 (net/core/filter.c).
#[cfg(target_os = "linux")]
fn program(sockets: u32) -> [libc::sock_filter; 7] {
    use libc::{BPF_A, BPF_ABS, BPF_ALU, BPF_B, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_MOD};
    use libc::{BPF_RET, BPF_W};
    [
        instruction(BPF_LD | BPF_B | BPF_ABS, 0, 0, 0),
        instruction(BPF_JMP | BPF_JGE | BPF_K, FIRST_STEERED, 0, 4),
        instruction(BPF_JMP | BPF_JGT | BPF_K, LAST_STEERED, 3, 0),
        instruction(BPF_LD | BPF_W | BPF_ABS, 4, 0, 0), // in network order, as `u32::from_be_bytes` reads it
        instruction(BPF_ALU | BPF_MOD | BPF_K, sockets, 0, 0),
        instruction(BPF_RET | BPF_A, 0, 0, 0),
        instruction(BPF_RET | BPF_K, 0, 0, 0),
    ]
}

/// The kinds that are steered lie side by side: media, parity, link.
#[cfg(target_os = "linux")]
const FIRST_STEERED: u32 = 0x04;
#[cfg(target_os = "linux")]
const LAST_STEERED: u32 = 0x06;

/// Gives the group of `sockets` sockets that `io` is in the rule of the module's head.
#[cfg(target_os = "linux")]
pub(super) fn steer(io: &UdpSocket, sockets: usize) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;

    let sockets = u32::try_from(sockets).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut instructions = program(sockets);
    let program = libc::sock_fprog {
        len: u16::try_from(instructions.len()).expect("seven is small"),
        filter: instructions.as_mut_ptr(),
    };
    let length = libc::socklen_t::try_from(size_of_val(&program)).expect("a structure is small");
    // SAFETY: the descriptor is open for the life of `io`; the pointer and length describe `program`, which points to
    // `len` instructions; both live across the call, and the kernel copies them (`__get_filter`, net/core/filter.c).
    let result = unsafe {
        let program: *const libc::sock_fprog = &raw const program;
        let option = libc::SO_ATTACH_REUSEPORT_CBPF;
        libc::setsockopt(
            io.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            program.cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn share_before_bind(_: &socket2::Socket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn share(_: &UdpSocket, _: bool) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn steer(_: &UdpSocket, _: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_socket_that_shares_nothing_takes_no_program() {
        let io = UdpSocket::bind("127.0.0.1:0").unwrap();

        let error = steer(&io, 2).unwrap_err();

        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn a_program_that_divides_by_zero_is_refused() {
        let io = UdpSocket::bind("127.0.0.1:0").unwrap();
        share(&io, true).unwrap();

        assert!(steer(&io, 0).is_err());
    }
}
