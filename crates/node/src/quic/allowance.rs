//! How much peers may say in a second. What one says beyond that waits with QUIC, whose windows make the peer wait;
//! nothing is lost.
//!
//! All that neighbours say goes through one task, and each announce and each key costs it, or a reader, a signature.
//! Whoever talks without end takes turns with everybody else there; this bounds how many. By link, and by address for
//! those who are strangers, since links cost nothing. Not what the core does with it. Used by the readers of
//! [`super::connection`]. Invariant: who has said little never waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use levada_core::credit::Bucket;
use levada_core::subnet::Subnet;
use levada_wire::Instant;
use levada_wire::control::{FlowMessage, Message};

/// What a link may say at once: twice all that can be known of routes and streams.
const LINK_BURST: u32 = 2 * (4_096 + 4 * 8_192);
/// And in a second besides: a thousand announces, or an update of each of 4,096 origins.
const LINK_PER_SECOND: u32 = 4_096;
/// Those of one address have as much as so many links.
const LINKS_WORTH: u32 = 2;
/// The most addresses that are remembered: as many as there can be connections, and more.
const ADDRESSES_MAX: usize = 1_024;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Allowances {
    began: tokio::time::Instant,
    burst: u32,
    per_second: u32,
    addresses: Mutex<BTreeMap<Subnet, Bucket>>,
}

impl Default for Allowances {
    fn default() -> Self {
        Self::new(LINK_BURST, LINK_PER_SECOND)
    }
}

impl Allowances {
    pub(crate) fn new(burst: u32, per_second: u32) -> Self {
        Self {
            began: tokio::time::Instant::now(),
            burst,
            per_second,
            addresses: Mutex::default(),
        }
    }

    /// Of one connection.
    pub(crate) fn of(self: &Arc<Self>, subnet: Option<Subnet>) -> Allowance {
        Allowance {
            link: Mutex::new(Bucket::new(self.burst, self.per_second)),
            subnet,
            all: Arc::clone(self),
        }
    }

    fn now(&self) -> Instant {
        let nanos = self.began.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Does something with the bucket of an address.
    fn with<T>(&self, now: Instant, subnet: Subnet, act: impl FnOnce(&mut Bucket) -> T) -> T {
        let addresses = self.addresses.lock();
        let mut addresses = addresses.expect("no code that can panic runs under this lock");
        if addresses.len() >= ADDRESSES_MAX {
            // Those that are full again tell no more than none.
            addresses.retain(|known, bucket| *known == subnet || !bucket.is_full(now));
        }
        let (burst, per_second) = (LINKS_WORTH * self.burst, LINKS_WORTH * self.per_second);
        let bucket = addresses.entry(subnet);
        act(bucket.or_insert_with(|| Bucket::new(burst, per_second)))
    }
}

/// What one connection may say.
#[derive(Debug)]
pub(crate) struct Allowance {
    link: Mutex<Bucket>,
    subnet: Option<Subnet>,
    all: Arc<Allowances>,
}

impl Allowance {
    /// Waits until a message may be handed on, and counts it. One about the link itself never waits: there is one of
    /// each kind, and a newcomer must not pay for others at its address.
    pub(crate) async fn wait_for(&self, message: &Message) {
        if matches!(message, Message::Link(_)) {
            return;
        }
        while let Some(pause) = self.take(self.all.now(), cost_of(message)) {
            tokio::time::sleep(pause).await;
        }
    }

    /// Counts something that is said now; or how long it must wait.
    fn take(&self, now: Instant, cost: u32) -> Option<Duration> {
        let link = self.link.lock();
        let mut link = link.expect("no code that can panic runs under this lock");
        let of_address = |subnet| self.all.with(now, subnet, |bucket| bucket.ready_at(now));
        let ready_at = link.ready_at(now).max(self.subnet.and_then(of_address));
        if let Some(at) = ready_at {
            return Some(at.since(now));
        }
        link.take(now, cost);
        if let Some(subnet) = self.subnet {
            self.all.with(now, subnet, |bucket| bucket.take(now, cost));
        }
        None
    }
}

/// What a message costs, in updates.
fn cost_of(message: &Message) -> u32 {
    match message {
        Message::Flow(FlowMessage::Announce(_) | FlowMessage::Withdraw(_)) => 4,
        Message::Flow(FlowMessage::Collection(all)) => cost_of_many(all.statements.len()),
        Message::Flow(FlowMessage::Doubts(all)) => cost_of_many(all.statements.len()),
        Message::Flow(FlowMessage::KeyRequest(_) | FlowMessage::KeyGrant(_)) => 8,
        _ => 1,
    }
}

fn cost_of_many(statements: usize) -> u32 {
    u32::try_from(statements)
        .unwrap_or(u32::MAX)
        .saturating_mul(4)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use levada_core::limits::{ORIGINS_MAX, STREAMS_MAX};

    use super::*;

    fn subnet(host: u8) -> Option<Subnet> {
        Subnet::of(([192, 0, 2, host], 7800).into())
    }

    const NOW: Instant = Instant::from_nanos(1_000_000_000);

    #[test]
    fn a_link_says_its_burst_and_then_waits_for_its_rate() {
        let all = Arc::new(Allowances::new(10, 100));
        let link = all.of(None);

        for _ in 0..10 {
            assert_eq!(link.take(NOW, 1), None);
        }

        let pause = Duration::from_millis(10);
        assert_eq!(link.take(NOW, 1), Some(pause));
        assert_eq!(link.take(NOW + pause, 1), None);
        assert_eq!(link.take(NOW + pause, 1), Some(pause));
    }

    #[test]
    fn many_links_of_one_address_say_no_more_than_two_and_others_do_not_wait() {
        let all = Arc::new(Allowances::new(10, 100));
        let links: Vec<Allowance> = (0..256).map(|_| all.of(subnet(1))).collect();

        let said = links.iter().map(|link| {
            let taken = (0..20).take_while(|_| link.take(NOW, 1).is_none());
            taken.count()
        });

        assert_eq!(said.sum::<usize>(), 20);
        assert_eq!(all.of(subnet(2)).take(NOW, 1), None);
        assert_eq!(all.of(None).take(NOW, 1), None);
    }

    #[test]
    fn beyond_the_most_addresses_those_that_owe_nothing_are_forgotten() {
        let all = Arc::new(Allowances::new(10, 100));
        let of = |number: usize| {
            let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
            Subnet::of(([10, 0, high, low], 7800).into()).unwrap()
        };
        for number in 0..ADDRESSES_MAX {
            all.with(NOW, of(number), |bucket| bucket.take(NOW, 1));
        }

        let later = NOW + Duration::from_secs(1);
        all.with(later, of(ADDRESSES_MAX), |bucket| bucket.take(later, 1));

        assert_eq!(all.addresses.lock().unwrap().len(), 1);
    }

    #[test]
    fn all_that_can_be_known_is_said_at_once_twice() {
        let known = ORIGINS_MAX + 4 * STREAMS_MAX;

        assert_eq!(LINK_BURST as usize, 2 * known);
    }
}
