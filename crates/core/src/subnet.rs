//! Where strangers come from, and how much each such place has of what there is for all.
//!
//! A node id costs nothing in the open network, so whoever wants many has many. What costs something is an address: a
//! limit that all share is shared by address, not by link. Whom this node itself dialled, and whoever is on the same
//! machine, is no stranger. Tickets will say more than addresses can. Not the limits (`limits`) and not what they are
//! of. Used by [`crate::link`], [`crate::route`] and [`crate::flow`]. Invariant: a share counts what is in the table it
//! is of, and nothing else.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Where strangers are: one IPv4 address, or the IPv6 /64 that one customer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subnet(IpAddr);

impl Subnet {
    /// Of an address; `None` for this machine's own.
    #[must_use]
    pub fn of(remote: SocketAddr) -> Option<Self> {
        let address = remote.ip().to_canonical();
        if address.is_loopback() {
            return None;
        }
        Some(Self(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => {
                let network = v6.to_bits() & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
        }))
    }
}

/// Who brought what of a table, and how much each has of it.
#[derive(Debug)]
pub struct Shares<K> {
    brought: BTreeMap<K, Subnet>,
    counts: BTreeMap<Subnet, usize>,
    most: usize,
}

impl<K: Ord> Shares<K> {
    /// Of a table of which each address may have that much.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self {
            brought: BTreeMap::new(),
            counts: BTreeMap::new(),
            most,
        }
    }

    /// Whether whoever is there has as much as may be. Who is no stranger never has.
    #[must_use]
    pub fn is_full(&self, subnet: Option<Subnet>) -> bool {
        let count = subnet.and_then(|subnet| self.counts.get(&subnet));
        count.is_some_and(|count| *count >= self.most)
    }

    /// Something new came into the table.
    pub fn add(&mut self, key: K, subnet: Option<Subnet>) {
        let Some(subnet) = subnet else { return };
        if self.brought.insert(key, subnet).is_none() {
            *self.counts.entry(subnet).or_insert(0) += 1;
        }
    }

    /// Something left it; says who had brought it.
    pub fn remove(&mut self, key: &K) -> Option<Subnet> {
        let subnet = self.brought.remove(key)?;
        if let Some(count) = self.counts.get_mut(&subnet) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&subnet);
            }
        }
        Some(subnet)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn subnet(address: &str) -> Option<Subnet> {
        Subnet::of(SocketAddr::new(address.parse().unwrap(), 7800))
    }

    #[test]
    fn one_customers_addresses_are_one_subnet_and_this_machine_is_none() {
        assert_eq!(subnet("2001:db8:1:2::3"), subnet("2001:db8:1:2:ffff::9"));
        assert_ne!(subnet("2001:db8:1:2::3"), subnet("2001:db8:1:3::3"));
        assert_ne!(subnet("192.0.2.1"), subnet("192.0.2.2"));
        assert_eq!(subnet("::ffff:192.0.2.1"), subnet("192.0.2.1"));
        assert_eq!(subnet("127.0.0.1"), None);
        assert_eq!(subnet("::1"), None);
    }

    #[test]
    fn a_share_is_full_until_something_of_it_goes() {
        let mut shares = Shares::new(2);
        let (one, other) = (subnet("192.0.2.1"), subnet("192.0.2.2"));

        shares.add(1, one);
        shares.add(1, one);
        assert!(!shares.is_full(one), "one thing counts once");
        shares.add(2, one);
        assert!(shares.is_full(one) && !shares.is_full(other) && !shares.is_full(None));

        assert_eq!(shares.remove(&1), one);
        assert_eq!(shares.remove(&1), None);
        assert!(!shares.is_full(one));
    }
}
