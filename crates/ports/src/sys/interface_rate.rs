//! What the interface with an address of this host carries, as far as the system says.
//!
//! A wire says the rate that was agreed on, a virtual cable 10 Gb/s; a radio, a tunnel and loopback say nothing. Not a
//! measurement, and not what the way beyond the interface carries. Called by the node for each link that comes up.
//! Invariant: nothing is kept, and whatever the system says there is no panic.

use std::net::IpAddr;
use std::path::Path;

use levada_wire::Bitrate;

use super::interfaces;

/// What the interface with that address carries; `None` where the system does not say.
#[must_use]
pub fn interface_rate(source: IpAddr) -> Option<Bitrate> {
    let mut all = interfaces().ok()?.into_iter();
    let interface = all.find(|one| one.addresses.iter().any(|own| own.ip == source))?;
    rate_within(Path::new("/sys/class/net"), &interface.name)
}

/// The speed that an interface says, in Mb/s; -1 where it is not known (Documentation/ABI/testing/sysfs-class-net).
fn rate_within(root: &Path, name: &str) -> Option<Bitrate> {
    let speed = std::fs::read_to_string(root.join(name).join("speed")).ok()?;
    let megabits: u64 = speed.trim().parse().ok()?;
    (megabits > 0).then(|| Bitrate(megabits.saturating_mul(1_000_000)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_wire_says_what_it_carries_and_others_nothing() {
        let root = tempfile::tempdir().unwrap();
        for (name, speed) in [
            ("eth0", "2500\n"),
            ("wlan0", "-1\n"),
            ("eth1", "0\n"),
            ("odd", "fast"),
        ] {
            let interface = root.path().join(name);
            std::fs::create_dir(&interface).unwrap();
            std::fs::write(interface.join("speed"), speed).unwrap();
        }
        let rate = |name| rate_within(root.path(), name);

        assert_eq!(rate("eth0"), Some(Bitrate(2_500_000_000)));
        for silent in ["wlan0", "eth1", "odd", "lo"] {
            assert_eq!(rate(silent), None, "{silent}");
        }
    }

    #[test]
    fn an_address_that_no_interface_has_says_nothing() {
        assert_eq!(interface_rate([192, 0, 2, 77].into()), None);
    }
}
