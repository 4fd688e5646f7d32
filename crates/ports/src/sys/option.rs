//! Integer socket options that neither std nor socket2 offers.
//!
//! Not a decision which to set: `socket.rs`, `gso.rs` and `gro.rs` do. Invariant: an option is an `int`, which is
//! what all callers here set.

/// Sets an option whose value is an `int`.
#[cfg(target_os = "linux")]
pub(super) fn set(
    io: &std::net::UdpSocket,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> std::io::Result<()> {
    use std::os::fd::AsRawFd as _;

    let length = libc::socklen_t::try_from(size_of_val(&value)).expect("an int is small");
    // SAFETY: the descriptor is open for the life of `io`, and the pointer and length describe `value`, which
    // lives across the call; the kernel reads it only.
    let result = unsafe {
        let value: *const libc::c_int = &raw const value;
        libc::setsockopt(io.as_raw_fd(), level, name, value.cast(), length)
    };
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn an_option_is_set_or_names_its_error() {
        let io = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();

        set(&io, libc::SOL_SOCKET, libc::SO_BROADCAST, 1).unwrap();
        let error = set(&io, libc::SOL_SOCKET, 60_000, 1).unwrap_err();

        assert!(io.broadcast().unwrap());
        assert_eq!(error.raw_os_error(), Some(libc::ENOPROTOOPT));
    }
}
