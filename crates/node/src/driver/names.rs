//! Neighbours configured by name: the addresses each name resolved to, and when to resolve it again.
//!
//! A name may come to stand for another machine: when none of its addresses answers, it is resolved again, at most
//! every [`AGAIN_EVERY`]. A neighbour that answers is left alone. Sans-IO: `resolve` looks up, the core dials. Called
//! by `task` and `outputs`. Invariant: at most one look-up of a name is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use levada_core::Neighbour;
use levada_wire::Instant;

use crate::resolve::Address;

/// Between two look-ups of a name that was found.
pub(super) const AGAIN_EVERY: Duration = Duration::from_secs(30);

/// The names that were found. As many as the node was given.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<String, Name>);

#[derive(Debug)]
struct Name {
    address: Address,
    neighbour: Neighbour,
    /// Its addresses that did not answer since one last did.
    failed: BTreeSet<SocketAddr>,
    found_at: Instant,
    is_asked: bool,
}

/// What a look-up changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The name stands for what it stood for.
    None,
    /// It was not known before.
    New,
    /// It stood for this, which no other name stands for.
    Replaces(Neighbour),
}

impl Names {
    /// A look-up has found something.
    pub(super) fn found(
        &mut self,
        now: Instant,
        address: Address,
        neighbour: &Neighbour,
    ) -> Change {
        let key = address.to_string();
        let name = Name {
            neighbour: neighbour.clone(),
            failed: BTreeSet::new(),
            found_at: now,
            is_asked: false,
            address,
        };
        let Some(before) = self.0.insert(key.clone(), name) else {
            return Change::New;
        };
        let before = before.neighbour;
        let set = |of: &Neighbour| of.addresses.iter().copied().collect::<BTreeSet<_>>();
        if set(&before) == set(neighbour) {
            // The order in which the core has them is kept: it knows a neighbour by that.
            if let Some(name) = self.0.get_mut(&key) {
                name.neighbour = before;
            }
            return Change::None;
        }
        let is_shared = self.0.values().any(|other| other.neighbour == before);
        if is_shared {
            Change::New
        } else {
            Change::Replaces(before)
        }
    }

    /// An address did not answer; returns the names that are to be looked up again.
    pub(super) fn dial_failed(&mut self, now: Instant, remote: SocketAddr) -> Vec<Address> {
        let mut again = Vec::new();
        for name in self.with(remote) {
            name.failed.insert(remote);
            let tried = &name.failed;
            let is_lost = name
                .neighbour
                .addresses
                .iter()
                .all(|one| tried.contains(one));
            if is_lost && !name.is_asked && now.since(name.found_at) >= AGAIN_EVERY {
                name.is_asked = true;
                again.push(name.address.clone());
            }
        }
        again
    }

    /// An address answered.
    pub(super) fn link_up(&mut self, remote: SocketAddr) {
        self.with(remote).for_each(|name| name.failed.clear());
    }

    fn with(&mut self, remote: SocketAddr) -> impl Iterator<Item = &mut Name> {
        self.0
            .values_mut()
            .filter(move |name| name.neighbour.addresses.contains(&remote))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn relay() -> Address {
        "relay.example".parse().unwrap()
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn socket(host: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], 7800))
    }

    fn neighbour(hosts: &[u8]) -> Neighbour {
        Neighbour {
            addresses: hosts.iter().map(|host| socket(*host)).collect(),
            node: None,
        }
    }

    #[test]
    fn a_name_is_looked_up_again_when_all_its_addresses_failed_and_not_before() {
        let mut names = Names::default();
        assert_eq!(
            names.found(at(0), relay(), &neighbour(&[1, 2])),
            Change::New
        );

        assert_eq!(names.dial_failed(at(40), socket(1)), []);
        assert_eq!(names.dial_failed(at(40), socket(3)), []);
        names.link_up(socket(2));
        assert_eq!(names.dial_failed(at(41), socket(2)), []);

        assert_eq!(names.dial_failed(at(41), socket(1)), [relay()]);
        assert_eq!(
            names.dial_failed(at(42), socket(1)),
            [],
            "one look-up at a time"
        );
    }

    #[test]
    fn a_name_is_looked_up_at_most_every_thirty_seconds() {
        let mut names = Names::default();
        names.found(at(0), relay(), &neighbour(&[1]));

        assert_eq!(names.dial_failed(at(29), socket(1)), []);
        assert_eq!(names.dial_failed(at(30), socket(1)), [relay()]);
        assert_eq!(names.found(at(31), relay(), &neighbour(&[1])), Change::None);

        assert_eq!(names.dial_failed(at(60), socket(1)), []);
        assert_eq!(names.dial_failed(at(61), socket(1)), [relay()]);
    }

    #[test]
    fn other_addresses_replace_what_the_name_stood_for_unless_another_name_does() {
        let mut names = Names::default();
        names.found(at(0), relay(), &neighbour(&[1, 2]));

        let same = names.found(at(40), relay(), &neighbour(&[2, 1]));
        let other = names.found(at(80), relay(), &neighbour(&[3]));
        names.found(at(80), "second.example".parse().unwrap(), &neighbour(&[3]));
        let shared = names.found(at(120), relay(), &neighbour(&[4]));

        assert_eq!(same, Change::None);
        assert_eq!(other, Change::Replaces(neighbour(&[1, 2])));
        assert_eq!(shared, Change::New);
    }
}
