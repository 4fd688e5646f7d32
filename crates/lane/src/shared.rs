//! What the lanes of a node have together: counts of links, room for caches, and what interfaces carry for newcomers.
//!
//! ```text
//!             lane 0    lane 1    lane 2
//!  cached     12 MB     0         48 MB      each lane writes its own place and adds up the others' once a call, so
//!  peaks      8 Mb/s    0         20 Mb/s    that the room is one: a flow has its share of all, in whichever lane
//!
//!  10.0.0.1   full at .......   3 served     one bucket and one row of slots for each interface, taken by whoever is
//!                                            first: a lane alone has what eight have together
//! ```
//!
//! No lock but where an interface is looked up for the first newcomer of a while. Sums may be a call old, so all lanes
//! together may hold more than the limit by what each takes in one call. Not the use of it: `flow/cache.rs` and
//! `child/queue.rs`. Made by whoever makes lanes. Invariant: no count of a lane is written by another; a lane
//! may always serve one newcomer of an interface, so no lane keeps another from all of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use levada_wire::{Bitrate, Instant};

use crate::child::bucket::Bucket;
use crate::limits::{CATCH_UP_AT_ONCE, CATCH_UP_SHARE, INTERFACES_MAX, SLOT_LOOK_EVERY};
use crate::link::SourceAddress;
use crate::link::totals::Totals;

/// Peaks are added up in kilobits a second, so that the greatest that all flows can declare fit.
const PEAK_UNIT: u64 = 1_000;
/// The greatest peak that counts, in that unit: 4 Tb/s.
const PEAK_UNITS_MAX: u64 = 1 << 32;

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Shared {
    pub(crate) totals: Arc<Totals>,
    pub(crate) room: Arc<SharedRoom>,
    pub(crate) interfaces: Arc<InterfaceShares>,
}

impl Shared {
    /// Of that many lanes, whose interfaces carry that much where nobody says otherwise.
    #[must_use]
    pub fn new(lanes: usize, interface_rate: Bitrate) -> Self {
        Self {
            totals: Arc::new(Totals::new(lanes)),
            room: Arc::new(SharedRoom::new(lanes)),
            interfaces: Arc::new(InterfaceShares::new(interface_rate)),
        }
    }

    /// From now on the interface with that address carries so much. Beyond `INTERFACES_MAX` it is not remembered.
    pub fn set_interface_rate(&self, source: IpAddr, rate: Bitrate) {
        self.interfaces.set_rate(source, rate);
    }
}

/// What one lane holds, in a cache line of the processor's of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct OfLane {
    used: AtomicUsize,
    peak_units: AtomicU64,
}

/// What the caches of each lane hold.
#[derive(Debug)]
pub(crate) struct SharedRoom {
    lanes: Box<[OfLane]>,
    /// How often a flow had a right to room that flows of other lanes held.
    asked: AtomicU64,
}

impl SharedRoom {
    pub(crate) fn new(lanes: usize) -> Self {
        Self {
            lanes: (0..lanes.max(1)).map(|_| OfLane::default()).collect(),
            asked: AtomicU64::new(0),
        }
    }

    /// Whether there is another lane.
    pub(crate) const fn has_others(&self) -> bool {
        self.lanes.len() > 1
    }

    /// A lane says what it holds.
    pub(crate) fn say(&self, lane: usize, used: usize, peaks: u128) {
        let here = lane % self.lanes.len();
        self.lanes[here].used.store(used, Ordering::Relaxed);
        let units = u64::try_from(peaks / u128::from(PEAK_UNIT)).unwrap_or(u64::MAX);
        let units = units.min(PEAK_UNITS_MAX);
        self.lanes[here].peak_units.store(units, Ordering::Relaxed);
    }

    /// What all other lanes hold, in bytes, and the peaks of their flows together.
    pub(crate) fn others(&self, lane: usize) -> (usize, u128) {
        let here = lane % self.lanes.len();
        let others = self.lanes.iter().enumerate().filter(|&(at, _)| at != here);
        others.fold((0, 0), |(used, peaks), (_, lane)| {
            let of_lane = u128::from(lane.peak_units.load(Ordering::Relaxed));
            let peaks = peaks + of_lane * u128::from(PEAK_UNIT);
            (used + lane.used.load(Ordering::Relaxed), peaks)
        })
    }

    /// Other lanes are to give back what their flows hold beyond their shares.
    pub(crate) fn ask(&self) {
        self.asked.fetch_add(1, Ordering::AcqRel);
    }

    /// How often that was asked.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Acquire)
    }
}

/// What interfaces carry, and what newcomers take of it.
#[derive(Debug)]
pub(crate) struct InterfaceShares {
    rate: Bitrate,
    rates: Mutex<BTreeMap<IpAddr, Bitrate>>,
    used: Mutex<BTreeMap<SourceAddress, Weak<InterfaceShare>>>,
}

/// One interface, as newcomers of all lanes share it.
#[derive(Debug)]
pub(crate) struct InterfaceShare {
    /// Of the rate that newcomers may have together.
    bucket: Bucket,
    full_at: AtomicU64,
    served: AtomicUsize,
    /// The lane that took last, and a bit for each that found nothing to take since it did.
    last: AtomicUsize,
    waiting: AtomicU64,
}

impl InterfaceShares {
    pub(crate) fn new(rate: Bitrate) -> Self {
        Self {
            rate,
            rates: Mutex::default(),
            used: Mutex::default(),
        }
    }

    fn set_rate(&self, source: IpAddr, rate: Bitrate) {
        let mut rates = lock(&self.rates);
        if rates.len() < INTERFACES_MAX || rates.contains_key(&source) {
            rates.insert(source, rate);
        }
    }

    /// The share of newcomers in an interface.
    pub(crate) fn interface(&self, source: SourceAddress) -> Arc<InterfaceShare> {
        let mut used = lock(&self.used);
        used.retain(|_, interface| interface.strong_count() > 0);
        if let Some(interface) = used.get(&source).and_then(Weak::upgrade) {
            return interface;
        }
        let rate = source.and_then(|source| lock(&self.rates).get(&source).copied());
        let rate = rate.unwrap_or(self.rate);
        let interface = Arc::new(InterfaceShare::new(Bitrate(rate.0 / CATCH_UP_SHARE)));
        used.insert(source, Arc::downgrade(&interface));
        interface
    }
}

/// A lane's bit; those beyond 64, which no node has, share.
const fn bit(lane: usize) -> u64 {
    1 << (lane % 64)
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // The maps are whole between any two statements, whoever panicked.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl InterfaceShare {
    fn new(rate: Bitrate) -> Self {
        Self {
            bucket: Bucket::new(rate, CATCH_UP_AT_ONCE),
            full_at: AtomicU64::new(0),
            served: AtomicUsize::new(0),
            last: AtomicUsize::new(0),
            waiting: AtomicU64::new(0),
        }
    }

    /// From when on a lane may take something: who took last lets others that wait go first, but not for long.
    pub(crate) fn ready_at(&self, lane: usize) -> Instant {
        let others = self.waiting.load(Ordering::Relaxed) & !bit(lane);
        let is_last = self.last.load(Ordering::Relaxed) == lane;
        let ready_at = self.bucket().ready_at();
        if is_last && others > 0 {
            ready_at + SLOT_LOOK_EVERY
        } else {
            ready_at
        }
    }

    /// A lane would take something and may not yet.
    pub(crate) fn wait(&self, lane: usize) {
        self.waiting.fetch_or(bit(lane), Ordering::Relaxed);
    }

    /// The bucket as it is at this moment.
    pub(crate) fn bucket(&self) -> Bucket {
        self.bucket.filled_at(self.full_at.load(Ordering::Relaxed))
    }

    /// A lane takes that many bytes, ready or not.
    pub(crate) fn take(&self, lane: usize, bytes: usize, now: Instant) {
        self.waiting.fetch_and(!bit(lane), Ordering::Relaxed);
        self.last.store(lane, Ordering::Relaxed);
        let after = |full_at| {
            let mut bucket = self.bucket.filled_at(full_at);
            bucket.take(bytes, now);
            Some(bucket.full_at())
        };
        let relaxed = Ordering::Relaxed;
        // It never gives up: `after` never says `None`.
        let _ = self.full_at.fetch_update(relaxed, relaxed, after);
    }

    /// A lane that serves so many newcomers here serves one more, if fewer than `most` are served by all lanes or it
    /// serves none.
    pub(crate) fn let_in(&self, served_here: usize, most: usize) -> bool {
        let relaxed = Ordering::Relaxed;
        let one_more = |served: usize| (served < most || served_here == 0).then_some(served + 1);
        self.served.fetch_update(relaxed, relaxed, one_more).is_ok()
    }

    /// So many are served no more.
    pub(crate) fn let_out(&self, count: usize) {
        self.served.fetch_sub(count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::time::Duration;

    use super::*;

    const NOW: Instant = Instant::from_nanos(1_000_000_000);

    #[test]
    fn each_lane_hears_what_all_others_hold() {
        let room = SharedRoom::new(3);

        room.say(0, 10, 8_000_000);
        room.say(1, 20, 4_000_000);
        assert_eq!(room.others(0), (20, 4_000_000));
        assert_eq!(room.others(2), (30, 12_000_000));

        room.say(2, 0, u128::MAX);
        let most = u128::from(PEAK_UNITS_MAX * PEAK_UNIT);
        assert_eq!(room.others(0), (20, 4_000_000 + most));
    }

    #[test]
    fn two_lanes_take_from_one_bucket_and_share_its_slots() {
        let interfaces = InterfaceShares::new(Bitrate(32_000_000));
        let (one, other) = (interfaces.interface(None), interfaces.interface(None));

        one.take(0, 20_000, NOW);
        other.take(1, 20_000, NOW);

        // A quarter of 32 Mb/s is 1 kB in a millisecond, and 5 ms of it may leave at once.
        let ready_at = NOW + Duration::from_millis(35);
        assert_eq!([0, 1].map(|lane| one.ready_at(lane)), [ready_at; 2]);
        one.wait(0);
        assert_eq!(one.ready_at(0), ready_at);
        assert_eq!(one.ready_at(1), ready_at + SLOT_LOOK_EVERY, "it took last");
        assert!(one.let_in(0, 2) && other.let_in(0, 2));
        assert!(!one.let_in(1, 2), "two are served");
        other.let_out(1);
        assert!(one.let_in(1, 2));
        assert!(other.let_in(0, 2), "a lane serves one in any case");
    }

    #[test]
    fn an_interface_has_the_rate_that_was_said_of_it_up_to_the_limit() {
        let shared = Shared::new(1, Bitrate(1_000_000_000));
        let address = |at: usize| IpAddr::from([10, 0, 0, u8::try_from(at).unwrap()]);
        for at in 0..=INTERFACES_MAX {
            shared.set_interface_rate(address(at), Bitrate(8_000_000));
        }
        let millis = |source| {
            let interface = shared.interfaces.interface(source);
            interface.take(0, 10_000, NOW);
            interface.bucket().ready_at().since(NOW).as_millis()
        };

        assert_eq!(millis(Some(address(1))), 35);
        assert_eq!(
            millis(Some(address(INTERFACES_MAX))),
            0,
            "it is beyond the limit"
        );
        assert_eq!(millis(None), 0);
    }
}
