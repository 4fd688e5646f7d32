//! What lanes know of a link together: a ping says what all of them have sent, a pong what all have received, and how
//! long a question takes to be answered and how much gets lost, which all need for repair, only the lane that pings
//! finds out.
//!
//! ```text
//!               lane 0   lane 1   lane 2
//! link 7 sent      41      902        0    each lane writes its own place only, so no two ever wait for each other;
//!   received       12        3      555    whoever needs the total adds the row up
//! ```
//!
//! A sum may be a moment old for other lanes: a packet that another lane is just handing to its socket. Counts only
//! grow, so what one ping misses the next one has. Not the verdict: `core::link`. Called by `link.rs`, and by `lane`
//! when a link is added, which is the only time that a lock is taken. Invariant: no count of a lane is written by
//! another.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use levada_wire::LinkIndex;

use super::loss::Loss;
use crate::repair::trip::RoundTrip;

/// A place of its own in the processor's cache: lanes that write do not disturb each other.
#[derive(Debug, Default)]
#[repr(align(64))]
struct PaddedCounter(AtomicU64);

/// No lane has told what gets lost: far more than all.
const LOSS_UNTOLD: u32 = u32::MAX;

/// Both rows of one link.
#[derive(Debug)]
struct Rows {
    sent: Arc<[PaddedCounter]>,
    received: Arc<[PaddedCounter]>,
    /// How long a question over the link takes to be answered ([`RoundTrip::to_bits`]): written by the lane that pings.
    trip: AtomicU64,
    /// What gets lost of what is sent ([`Loss`]): written by the same lane.
    loss: AtomicU32,
}

impl Rows {
    fn new(lanes: usize) -> Self {
        let row = || (0..lanes).map(|_| PaddedCounter::default()).collect();
        Self {
            sent: row(),
            received: row(),
            trip: AtomicU64::new(0),
            loss: AtomicU32::new(LOSS_UNTOLD),
        }
    }
}

/// The rows of all links, shared by the lanes of a node.
#[derive(Debug)]
pub(crate) struct Totals {
    lanes: usize,
    links: Mutex<BTreeMap<LinkIndex, Weak<Rows>>>,
}

impl Totals {
    /// Those of that many lanes.
    #[must_use]
    pub(crate) fn new(lanes: usize) -> Self {
        Self {
            lanes: lanes.max(1),
            links: Mutex::default(),
        }
    }

    /// What one lane counts of a link.
    pub(crate) fn counts(&self, link: LinkIndex, lane: usize) -> Counts {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|_, rows| rows.strong_count() > 0);
        let rows = links.get(&link).and_then(Weak::upgrade);
        let rows = rows.unwrap_or_else(|| Arc::new(Rows::new(self.lanes)));
        links.insert(link, Arc::downgrade(&rows));
        Counts::new(rows, lane % self.lanes)
    }
}

/// Both counts of one lane for one link.
#[derive(Debug)]
pub(crate) struct Counts {
    /// Datagrams handed to the socket for this link: all but QUIC.
    pub(crate) sent: Count,
    /// Datagrams that came over it and were proven.
    pub(crate) received: Count,
    /// Also keeps the rows where the other lanes find them.
    rows: Arc<Rows>,
}

impl Counts {
    fn new(rows: Arc<Rows>, lane: usize) -> Self {
        Self {
            sent: Count::new(Arc::clone(&rows.sent), lane),
            received: Count::new(Arc::clone(&rows.received), lane),
            rows,
        }
    }

    /// Tells all lanes how long a question over the link takes to be answered.
    pub(crate) fn show_trip(&self, trip: RoundTrip) {
        self.rows.trip.store(trip.to_bits(), Ordering::Relaxed);
    }

    /// What some lane told.
    pub(crate) fn trip(&self) -> RoundTrip {
        RoundTrip::from_bits(self.rows.trip.load(Ordering::Relaxed))
    }

    /// Tells all lanes what gets lost of what is sent.
    pub(crate) fn show_loss(&self, loss: Loss) {
        self.rows.loss.store(loss.0, Ordering::Relaxed);
    }

    /// What some lane told, if one did.
    pub(crate) fn loss(&self) -> Option<Loss> {
        let told = self.rows.loss.load(Ordering::Relaxed);
        (told != LOSS_UNTOLD).then_some(Loss(told))
    }

    /// Those of a lane that is the only one.
    pub(crate) fn alone() -> Self {
        Self::new(Arc::new(Rows::new(1)), 0)
    }
}

/// One count of one lane.
#[derive(Debug)]
pub(crate) struct Count {
    own: u64,
    row: Arc<[PaddedCounter]>,
    lane: usize,
}

impl Count {
    fn new(row: Arc<[PaddedCounter]>, lane: usize) -> Self {
        row[lane].0.store(0, Ordering::Relaxed);
        Self { own: 0, row, lane }
    }

    /// What this lane has counted.
    pub(crate) const fn own(&self) -> u64 {
        self.own
    }

    /// What all lanes have counted.
    pub(crate) fn total(&self) -> u64 {
        let places = self.row.iter().map(|place| place.0.load(Ordering::Relaxed));
        places.sum()
    }
}

impl AddAssign<u64> for Count {
    fn add_assign(&mut self, more: u64) {
        self.own += more;
        self.row[self.lane].0.store(self.own, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_count_alone_and_see_the_sum_and_the_round_trip() {
        let totals = Totals::new(2);
        let mut first = totals.counts(LinkIndex(7), 0);
        let mut second = totals.counts(LinkIndex(7), 1);
        let other = totals.counts(LinkIndex(8), 1);

        first.sent += 40;
        second.sent += 2;
        second.received += 5;

        assert_eq!((first.sent.own(), second.sent.own()), (40, 2));
        assert_eq!((first.sent.total(), second.sent.total()), (42, 42));
        assert_eq!((first.received.total(), other.sent.total()), (5, 0));
        let mut trip = RoundTrip::default();
        trip.sample(std::time::Duration::from_millis(7));
        first.show_trip(trip);
        assert_eq!(second.trip().time(), trip.time());
    }

    #[test]
    fn a_link_that_all_lanes_have_forgotten_starts_from_zero_and_is_kept_nowhere() {
        let totals = Totals::new(2);
        for link in 0..10 {
            let mut counts = totals.counts(LinkIndex(link), 0);
            counts.sent += 1;
        }

        assert_eq!(totals.counts(LinkIndex(3), 1).sent.total(), 0);
        let links = totals.links.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(links.len(), 1);
    }
}
