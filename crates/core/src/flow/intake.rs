//! What this node takes from strangers at most, and what it did not take.
//!
//! Not the shares of the catalogue and of pending keys, which lie beside what they are of, and not what follows from a
//! limit (`greed`). Kept by [`super::Flows`]. Invariant: there is at most one bucket for each address that has, or had,
//! a link.

use std::collections::BTreeMap;

use levada_wire::{Instant, LinkIndex};

use super::catalogue::Teller;
use crate::credit::Bucket;
use crate::limits::{
    FULL_WARNING, KEY_REQUESTERS_MAX, KEY_REQUESTS_BURST, KEY_REQUESTS_PER_SECOND, REFUSALS_BURST,
    REFUSALS_PER_SECOND,
};
use crate::subnet::Subnet;

#[derive(Debug)]
pub(super) struct Intake {
    /// The links that strangers opened.
    strangers: BTreeMap<LinkIndex, Subnet>,
    key_requests: BTreeMap<Subnet, Bucket>,
    /// For announce refusals, said and passed on.
    refusals: Bucket,
    /// Announces that were not taken for want of room.
    pub(super) refused: u64,
    /// How many of them the user was not told of.
    unsaid: u64,
    said_at: Option<Instant>,
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            strangers: BTreeMap::new(),
            key_requests: BTreeMap::new(),
            refusals: Bucket::new(REFUSALS_BURST, REFUSALS_PER_SECOND),
            refused: 0,
            unsaid: 0,
            said_at: None,
        }
    }
}

impl Intake {
    pub(super) fn on_stranger(&mut self, link: LinkIndex, subnet: Subnet) {
        self.strangers.insert(link, subnet);
    }

    pub(super) fn on_link_down(&mut self, link: LinkIndex) {
        self.strangers.remove(&link);
    }

    pub(super) fn subnet(&self, link: LinkIndex) -> Option<Subnet> {
        self.strangers.get(&link).copied()
    }

    /// All links from the address that this one comes from, if a stranger opened it.
    pub(super) fn beside(&self, link: LinkIndex) -> impl Iterator<Item = LinkIndex> {
        let subnet = self.subnet(link);
        let links = self.strangers.iter();
        let beside = links.filter(move |(_, other)| subnet == Some(**other));
        beside.map(|(link, _)| *link)
    }

    pub(super) fn teller(&self, link: Option<LinkIndex>) -> Teller {
        let subnet = link.and_then(|link| self.subnet(link));
        Teller { link, subnet }
    }

    /// Whether one more key request over that link is answered now; counts it if so.
    pub(super) fn takes_key_request(&mut self, now: Instant, link: LinkIndex) -> bool {
        let Some(subnet) = self.subnet(link) else {
            return true;
        };
        if self.key_requests.len() >= KEY_REQUESTERS_MAX {
            // Those that are full again tell no more than none.
            self.key_requests.retain(|_, bucket| !bucket.is_full(now));
        }
        let bucket = self.key_requests.entry(subnet);
        let bucket =
            bucket.or_insert_with(|| Bucket::new(KEY_REQUESTS_BURST, KEY_REQUESTS_PER_SECOND));
        let is_taken = bucket.ready_at(now).is_none();
        if is_taken {
            bucket.take(now, 1);
        }
        is_taken
    }

    /// Whether one more announce refusal is said now; counts it if so.
    pub(super) fn may_refuse(&mut self, now: Instant) -> bool {
        let may = self.refusals.ready_at(now).is_none();
        if may {
            self.refusals.take(now, 1);
        }
        may
    }

    /// An announce was not taken; how many the user is to be told of, if it is time.
    pub(super) fn on_refused(&mut self, now: Instant) -> Option<u64> {
        self.refused += 1;
        self.unsaid += 1;
        if self.said_at.is_some_and(|at| now.since(at) < FULL_WARNING) {
            return None;
        }
        self.said_at = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::time::Duration;

    use super::*;

    #[test]
    fn addresses_that_sent_few_key_requests_are_forgotten_when_there_are_many() {
        let mut intake = Intake::default();
        let mut ask = |number: usize, now: Instant| {
            let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
            let link = LinkIndex(u32::try_from(number).unwrap());
            let remote = ([10, 0, high, low], 7800).into();
            intake.on_stranger(link, Subnet::of(remote).unwrap());
            assert!(intake.takes_key_request(now, link));
            intake.key_requests.len()
        };

        let most = (0..KEY_REQUESTERS_MAX).map(|number| ask(number, Instant::ZERO));
        assert_eq!(most.last(), Some(KEY_REQUESTERS_MAX));

        let later = Instant::ZERO + Duration::from_secs(1);
        assert_eq!(ask(KEY_REQUESTERS_MAX, later), 1);
    }
}
