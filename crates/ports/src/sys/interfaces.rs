//! The network interfaces of this host: name, number, addresses, and what each leads to.
//!
//! `getifaddrs` (getifaddrs(3)) tells the first three, sysfs what an interface is (Linux,
//! `Documentation/ABI/testing/sysfs-class-net`). Where sysfs says nothing, as in a network namespace that has none, an
//! interface counts as a cable, but not as one that is certain. Not which of them to use: the core's site. Called by
//! the node, and by `path.rs` and `interface_rate.rs`. Invariant: nothing is changed, sent or kept, and at most
//! `ADDRESSES_MAX` entries of the system's list are looked at.

use std::io;
use std::net::IpAddr;

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostInterface {
    /// The system's number for it.
    pub index: u32,
    /// The system's name for it.
    pub name: String,
    /// What it leads to.
    pub kind: InterfaceKind,
    /// Whether it is up and has a carrier.
    pub is_up: bool,
    /// Whether it is Ethernet for certain, and neither radio nor tunnel: a cable, a bridge, or a virtual cable.
    pub is_wire: bool,
    /// Its own addresses.
    pub addresses: Vec<HostAddress>,
}

/// An address of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAddress {
    /// The address.
    pub ip: IpAddr,
    /// How many bits of it are those of its network: 0 where the system does not say.
    pub prefix: u32,
}

/// What an interface leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterfaceKind {
    /// A cable.
    Wired,
    /// Radio.
    Wireless,
    /// A VPN or another tunnel.
    Tunnel,
    /// A bridge without a cable: containers or virtual machines of this host.
    Container,
    /// The host itself.
    Loopback,
}

/// All interfaces, by their numbers.
///
/// # Errors
///
/// When the system does not tell, or cannot be asked here.
#[cfg(not(target_os = "linux"))]
pub fn interfaces() -> io::Result<Vec<HostInterface>> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "the interfaces of this system cannot be listed yet",
    ))
}

/// All interfaces, by their numbers.
///
/// # Errors
///
/// When the system does not tell.
#[cfg(target_os = "linux")]
pub fn interfaces() -> io::Result<Vec<HostInterface>> {
    linux::interfaces()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;
    use std::ffi::CStr;
    use std::io;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use std::path::Path;

    use super::{HostAddress, HostInterface, InterfaceKind};

    /// Of Ethernet and what looks like it, as bridges and virtual cables do (`linux/if_arp.h`).
    const ARPHRD_ETHER: &str = "1";
    /// What looks like Ethernet and goes through something else (`DEVTYPE` in a device's uevent).
    const NO_WIRES: [&str; 6] = ["wlan", "wwan", "vxlan", "geneve", "gretap", "wireguard"];
    const SYSFS: &str = "/sys/class/net";
    /// The most entries of the system's list that are looked at: one for each interface and address.
    const ADDRESSES_MAX: usize = 4_096;

    pub(super) fn interfaces() -> io::Result<Vec<HostInterface>> {
        let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
        // SAFETY: the kernel's list is written to `first`, which lives across the call.
        if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let mut found: BTreeMap<u32, HostInterface> = BTreeMap::new();
        let mut entry = first;
        for _ in 0..ADDRESSES_MAX {
            if entry.is_null() {
                break;
            }
            // SAFETY: `entry` is an element of the list, which is whole until `freeifaddrs` below.
            let one = unsafe { &*entry };
            entry = one.ifa_next;
            // SAFETY: the name is a string of the list.
            let name = unsafe { CStr::from_ptr(one.ifa_name) };
            // SAFETY: the name is a string that ends with zero.
            let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
            if index == 0 {
                continue; // it went just now
            }
            let name = name.to_string_lossy().into_owned();
            let interface = found.entry(index).or_insert_with(|| HostInterface {
                index,
                kind: kind(&name, one.ifa_flags, Path::new(SYSFS)),
                is_wire: is_wire(&name, Path::new(SYSFS)),
                name,
                is_up: is_up(one.ifa_flags),
                addresses: Vec::new(),
            });
            // SAFETY: both are null or addresses of the list.
            let (ip, mask) = unsafe { (address(one.ifa_addr), address(one.ifa_netmask)) };
            let prefix = mask.map_or(0, prefix);
            let own = ip.map(|ip| HostAddress { ip, prefix });
            interface.addresses.extend(own);
        }
        // SAFETY: the list came from `getifaddrs`, and nothing of it is used after this.
        unsafe { libc::freeifaddrs(first) };
        Ok(found.into_values().collect())
    }

    fn has(flags: libc::c_uint, flag: libc::c_int) -> bool {
        libc::c_uint::try_from(flag).is_ok_and(|flag| flags & flag != 0)
    }

    fn is_up(flags: libc::c_uint) -> bool {
        has(flags, libc::IFF_UP) && has(flags, libc::IFF_RUNNING)
    }

    /// An IP address; none if it is of another family.
    ///
    /// # Safety
    ///
    /// `address` is null, or points to a whole socket address of the family that it says.
    unsafe fn address(address: *const libc::sockaddr) -> Option<IpAddr> {
        if address.is_null() {
            return None;
        }
        // SAFETY: by this function's contract; a family is read from any socket address.
        let family = unsafe { (*address).sa_family };
        match i32::from(family) {
            libc::AF_INET => {
                // SAFETY: an address of this family is a whole `sockaddr_in`; it may lie anywhere.
                let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
                Some(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: an address of this family is a whole `sockaddr_in6`; it may lie anywhere.
                let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
                Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
            }
            _ => None,
        }
    }

    fn prefix(mask: IpAddr) -> u32 {
        match mask {
            IpAddr::V4(mask) => mask.to_bits().leading_ones(),
            IpAddr::V6(mask) => mask.to_bits().leading_ones(),
        }
    }

    /// Whether sysfs says that an interface is Ethernet, and nothing else that looks like it.
    fn is_wire(name: &str, sysfs: &Path) -> bool {
        let at = sysfs.join(name);
        let says = |file: &str| std::fs::read_to_string(at.join(file)).unwrap_or_default();
        let is_there = |file: &str| at.join(file).exists();
        let uevent = says("uevent");
        let mut lines = uevent.lines();
        let kind = lines.find_map(|line| line.strip_prefix("DEVTYPE="));
        says("type").trim() == ARPHRD_ETHER
            && !kind.is_some_and(|kind| NO_WIRES.contains(&kind))
            && !["tun_flags", "phy80211", "wireless"]
                .into_iter()
                .any(is_there)
    }

    /// What sysfs says of an interface.
    fn kind(name: &str, flags: libc::c_uint, sysfs: &Path) -> InterfaceKind {
        let at = sysfs.join(name);
        if has(flags, libc::IFF_LOOPBACK) {
            return InterfaceKind::Loopback;
        }
        if has(flags, libc::IFF_POINTOPOINT) || at.join("tun_flags").exists() {
            return InterfaceKind::Tunnel;
        }
        if at.join("wireless").exists() || at.join("phy80211").exists() {
            return InterfaceKind::Wireless;
        }
        if at.join("bridge").exists() {
            let ports = std::fs::read_dir(at.join("brif"))
                .into_iter()
                .flatten()
                .flatten();
            let is_cable =
                |port: std::fs::DirEntry| sysfs.join(port.file_name()).join("device").exists();
            let has_cable = ports.into_iter().any(is_cable);
            return if has_cable {
                InterfaceKind::Wired
            } else {
                InterfaceKind::Container
            };
        }
        match std::fs::read_to_string(at.join("type")) {
            Ok(number) if number.trim() != ARPHRD_ETHER => InterfaceKind::Tunnel,
            _ => InterfaceKind::Wired,
        }
    }

    #[cfg(test)]
    mod tests {
        #![allow(clippy::unwrap_used, reason = "a test may panic")]
        use super::*;

        #[test]
        fn loopback_is_among_the_interfaces_with_its_address() {
            let interfaces = interfaces().unwrap();

            let lo = interfaces
                .iter()
                .find(|one| one.kind == InterfaceKind::Loopback)
                .unwrap();
            let own = HostAddress {
                ip: Ipv4Addr::LOCALHOST.into(),
                prefix: 8,
            };
            assert!(lo.addresses.contains(&own), "{lo:?}");
            assert!(lo.is_up && lo.index > 0 && !lo.is_wire);
            let mut indexes: Vec<u32> = interfaces.iter().map(|one| one.index).collect();
            indexes.dedup();
            assert_eq!(indexes.len(), interfaces.len());
        }

        #[test]
        fn sysfs_tells_radio_tunnels_and_bridges_with_and_without_a_cable() {
            let dir = std::env::temp_dir().join(format!("levada-sysfs-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&dir);
            let make = |path: &str| std::fs::create_dir_all(dir.join(path)).unwrap();
            let write = |path: &str, text: &str| std::fs::write(dir.join(path), text).unwrap();
            [
                "eth0/device",
                "wlan0/wireless",
                "wg0",
                "tap0",
                "docker0/bridge",
                "docker0/brif/veth1",
            ]
            .iter()
            .for_each(|path| make(path));
            ["br0/bridge", "br0/brif/eth0", "veth1"]
                .iter()
                .for_each(|path| make(path));
            write("eth0/type", "1\n");
            write("wg0/type", "65534\n");
            write("tap0/tun_flags", "0x1002\n");
            make("vxlan0");
            write("vxlan0/uevent", "DEVTYPE=vxlan\nIFINDEX=9\n");
            ["wlan0", "tap0", "vxlan0", "br0"]
                .iter()
                .for_each(|name| write(&format!("{name}/type"), "1\n"));

            let found = ["eth0", "wlan0", "wg0", "tap0", "docker0", "br0", "unknown"]
                .map(|name| kind(name, 0, &dir));
            let wires = ["eth0", "br0", "wlan0", "tap0", "vxlan0", "wg0", "unknown"]
                .map(|name| is_wire(name, &dir));

            std::fs::remove_dir_all(&dir).unwrap();
            let expected = [
                InterfaceKind::Wired,
                InterfaceKind::Wireless,
                InterfaceKind::Tunnel,
                InterfaceKind::Tunnel,
                InterfaceKind::Container,
                InterfaceKind::Wired,
                InterfaceKind::Wired,
            ];
            assert_eq!(found, expected);
            assert_eq!(wires, [true, true, false, false, false, false, false]);
        }
    }
}
