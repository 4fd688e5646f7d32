//! Which of this host's addresses a datagram was sent to, and from which one is sent.
//!
//! A socket that is bound to all addresses answers from the one that the system would choose, which need not be the one
//! that was asked: whoever has two addresses, an alias, or IPv6 addresses that change, seems to be somebody else then.
//! Linux: `IP_PKTINFO` (ip(7)) and `IPV6_PKTINFO` (ipv6(7)); of a socket of both families the second tells both.
//! Elsewhere nothing is told, and the system chooses. Not the choice: the node pins a link to the address that its
//! handshake was sent to. Called by `socket.rs`, `gro.rs` and `gso.rs`. Invariant: what is written into a control
//! message fits in the room that [`SOURCE_BYTES`] says.

#[cfg(target_os = "linux")]
pub(super) use linux::{SOURCE_BYTES, enable, told, write};

#[cfg(target_os = "linux")]
mod linux {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

    use super::super::option::set;

    /// Room for the larger of the two control messages: a header of 16 bytes, and 20 that are filled up to 24.
    pub(in super::super) const SOURCE_BYTES: usize = 40;

    /// Asks the kernel to tell where each datagram was sent to. Where it cannot, nothing is told.
    pub(in super::super) fn enable(io: &UdpSocket, is_ipv6: bool) {
        let (level, option) = if is_ipv6 {
            (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
        } else {
            (libc::IPPROTO_IP, libc::IP_PKTINFO)
        };
        let _ = set(io, level, option, 1);
    }

    /// What the kernel told.
    pub(in super::super) fn told(message: &libc::msghdr) -> Option<IpAddr> {
        // SAFETY: `msg_control` and `msg_controllen` describe the buffer that the kernel has just filled, which the
        // caller still holds; `CMSG_FIRSTHDR` and `CMSG_NXTHDR` stay within it, and behind a header of these types the
        // kernel writes these structures.
        unsafe {
            let mut header = libc::CMSG_FIRSTHDR(message);
            while !header.is_null() {
                match ((*header).cmsg_level, (*header).cmsg_type) {
                    (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                        let info = libc::CMSG_DATA(header).cast::<libc::in_pktinfo>();
                        let address = info.read_unaligned().ipi_addr.s_addr;
                        return Some(Ipv4Addr::from(u32::from_be(address)).into());
                    }
                    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                        let info = libc::CMSG_DATA(header).cast::<libc::in6_pktinfo>();
                        let address = info.read_unaligned().ipi6_addr.s6_addr;
                        return Some(IpAddr::from(address).to_canonical());
                    }
                    _ => header = libc::CMSG_NXTHDR(message, header),
                }
            }
        }
        None
    }

    /// Writes at `header` that the datagrams are to come from that address. The socket knows IPv4 as a part of IPv6 if
    /// `is_ipv6`. Gives the room that it takes.
    ///
    /// # Safety
    ///
    /// `header` is aligned for a control message, and [`SOURCE_BYTES`] from it on may be written.
    pub(in super::super) unsafe fn write(
        header: *mut libc::cmsghdr,
        source: IpAddr,
        is_ipv6: bool,
    ) -> usize {
        let mapped = match source {
            IpAddr::V4(v4) if is_ipv6 => v4.to_ipv6_mapped().into(),
            source => source,
        };
        match mapped {
            IpAddr::V4(v4) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0, // as the route says
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from(v4).to_be(),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                // SAFETY: the caller's promise; the structure has 12 bytes.
                unsafe { put(header, libc::IPPROTO_IP, libc::IP_PKTINFO, info) }
            }
            IpAddr::V6(v6) => {
                let info = in6_pktinfo(v6);
                // SAFETY: the caller's promise; the structure has 20 bytes.
                unsafe { put(header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info) }
            }
        }
    }

    const fn in6_pktinfo(address: Ipv6Addr) -> libc::in6_pktinfo {
        libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr {
                s6_addr: address.octets(),
            },
            ipi6_ifindex: 0, // as the destination's scope or the route says
        }
    }

    /// # Safety
    ///
    /// `header` is aligned for a control message, and what one with a `T` takes may be written from there on.
    unsafe fn put<T>(
        header: *mut libc::cmsghdr,
        level: libc::c_int,
        kind: libc::c_int,
        value: T,
    ) -> usize {
        let bytes = u32::try_from(size_of::<T>()).expect("it is small");
        // SAFETY: `CMSG_SPACE` and `CMSG_LEN` only compute; the rest is the caller's promise.
        unsafe {
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = libc::CMSG_LEN(bytes) as _;
            libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
            libc::CMSG_SPACE(bytes) as usize
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn both_control_messages_fit_in_the_room() {
            let space = |bytes: usize| {
                let bytes = u32::try_from(bytes).expect("it is small");
                // SAFETY: it only computes.
                unsafe { libc::CMSG_SPACE(bytes) as usize }
            };

            assert!(space(size_of::<libc::in_pktinfo>()) <= SOURCE_BYTES);
            assert_eq!(space(size_of::<libc::in6_pktinfo>()), SOURCE_BYTES);
        }
    }
}
