//! What lanes pass to each other: datagrams that arrived at the wrong lane, and sends that another lane shares.
//!
//! ```text
//!  lane 0 ── datagrams of lane 1's flows ──▶ ┌─────────┐
//!         ── part of a long egress list ───▶ │  inbox  │──▶ lane 1, once per turn
//!  lane 2 ── ... ──────────────────────────▶ └─────────┘
//! ```
//!
//! An inbox is a short lock around two lists, taken once per batch by the giver and once per turn by the taker, and not
//! at all while it is empty. Not the rule who gets what: `steer.rs` for datagrams, `spread.rs` for sends. Called by the
//! worker's turn. Invariant: an inbox holds at most [`HANDED_BYTES_MAX`] of datagrams and [`HANDED_SENDS_MAX`] sends;
//! what does not fit is given back, to be counted where it came from.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::queue::Shared;
use levada_lane::api::{Late, Train, Transmit};

/// The most bytes of datagrams that wait for another lane: as much as its socket's buffer would hold.
pub const HANDED_BYTES_MAX: usize = 8 << 20;
/// The most sends that wait for another lane. At 5 us each it is 20 ms' work; their bytes are shared with the giver.
pub const HANDED_SENDS_MAX: usize = 4_096;

/// The most ranges of late packets that wait for another lane to be told; who misses more asks for it.
const HANDED_LATE_MAX: usize = 256;

#[derive(Debug, Default)]
struct Waiting {
    trains: Vec<Train>,
    train_bytes: usize,
    sends: Vec<Transmit>,
    late: Vec<Late>,
}

/// What one lane takes of what others gave it.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Datagrams of its flows.
    pub(super) trains: Vec<Train>,
    /// Its share of their sends.
    pub(super) sends: Vec<Transmit>,
    /// Packets of its flows that others did not send for it since they were late.
    pub(super) late: Vec<Late>,
}

/// What waits for one lane. See the module's head.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    /// Whether there is something: read before the lock is taken.
    has_some: AtomicBool,
}

impl Inbox {
    /// Takes a train; gives it back if there is no room. Says whether the taker may be asleep.
    fn give_train(&self, train: Train) -> Result<bool, Train> {
        let mut waiting = lock(&self.waiting);
        if waiting.train_bytes + train.bytes.len() > HANDED_BYTES_MAX {
            return Err(train);
        }
        waiting.train_bytes += train.bytes.len();
        waiting.trains.push(train);
        Ok(!self.has_some.swap(true, Ordering::AcqRel))
    }

    /// Takes sends as far as there is room and leaves the rest. Says whether the taker may be asleep.
    fn give_sends(&self, sends: &mut Vec<Transmit>) -> bool {
        let mut waiting = lock(&self.waiting);
        let room = HANDED_SENDS_MAX.saturating_sub(waiting.sends.len());
        waiting.sends.extend(sends.drain(..room.min(sends.len())));
        !self.has_some.swap(true, Ordering::AcqRel)
    }

    /// Takes note of late packets, if there is room. Says whether the taker may be asleep.
    fn give_late(&self, late: Late) -> bool {
        let mut waiting = lock(&self.waiting);
        if waiting.late.len() < HANDED_LATE_MAX {
            waiting.late.push(late);
        }
        !self.has_some.swap(true, Ordering::AcqRel)
    }

    /// Moves all that waits into empty lists.
    pub(super) fn take(&self, taken: &mut Taken) {
        if self.has_some.load(Ordering::Acquire) {
            let mut waiting = lock(&self.waiting);
            self.has_some.store(false, Ordering::Release);
            waiting.train_bytes = 0;
            std::mem::swap(&mut waiting.trains, &mut taken.trains);
            std::mem::swap(&mut waiting.sends, &mut taken.sends);
            std::mem::swap(&mut waiting.late, &mut taken.late);
        }
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    // The lists are whole between any two statements, whoever panicked.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All lanes of a node, as their threads see each other.
#[derive(Debug)]
pub(crate) struct SiblingLanes {
    lanes: Vec<Arc<Shared>>,
    /// Lanes that may still give something to another.
    giving: AtomicUsize,
}

impl SiblingLanes {
    pub(crate) fn new(lanes: Vec<Arc<Shared>>) -> Self {
        Self {
            giving: AtomicUsize::new(lanes.len()),
            lanes,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Gives a lane a train; gives it back if its inbox is full.
    pub(super) fn give_train(&self, lane: usize, train: Train) -> Result<(), Train> {
        let taker = &self.lanes[lane];
        if taker.inbox.give_train(train)? {
            taker.wake();
        }
        Ok(())
    }

    /// Gives a lane sends as far as its inbox has room; the rest stays.
    pub(super) fn give_sends(&self, lane: usize, sends: &mut Vec<Transmit>) {
        let taker = &self.lanes[lane];
        if taker.inbox.give_sends(sends) {
            taker.wake();
        }
    }

    /// Tells a lane which of its packets were late.
    pub(super) fn give_late(&self, lane: usize, late: Late) {
        let taker = &self.lanes[lane];
        if taker.inbox.give_late(late) {
            taker.wake();
        }
    }

    /// Wakes all lanes: each looks what others want of it.
    pub(super) fn wake_all(&self) {
        for lane in &self.lanes {
            lane.wake();
        }
    }

    /// Asks all lanes to end.
    pub(super) fn stop(&self) {
        for lane in &self.lanes {
            lane.ask_to_stop();
        }
    }

    /// A lane gives nothing any more: those that wait for that to end look again.
    fn end_giving(&self) {
        self.giving.fetch_sub(1, Ordering::AcqRel);
        for lane in &self.lanes {
            lane.wake();
        }
    }

    /// Whether no lane gives anything any more: what is in the inboxes is all that there will be.
    pub(super) fn is_quiet(&self) -> bool {
        self.giving.load(Ordering::Acquire) == 0
    }
}

/// One lane's right to give to others. It ends with this, however the thread ends.
#[derive(Debug)]
pub(super) struct Giver {
    pub(super) siblings: Arc<SiblingLanes>,
    has_ended: bool,
}

impl Giver {
    pub(super) const fn new(siblings: Arc<SiblingLanes>) -> Self {
        Self {
            siblings,
            has_ended: false,
        }
    }

    /// This lane gives nothing any more.
    pub(super) fn end(&mut self) {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.siblings.end_giving();
        }
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use bytes::Bytes;

    use super::*;
    use levada_lane::Egress;
    use levada_wire::LinkIndex;

    use crate::testkit::{address, sent_over};

    fn train(bytes: usize) -> Train {
        Train {
            to: None,
            from: address(1),
            bytes: Bytes::from(vec![4; bytes]),
            segment_bytes: 1_000,
        }
    }

    fn sends(count: usize) -> Vec<Transmit> {
        let send = sent_over(LinkIndex(1), address(1), vec![1], 1);
        vec![send; count]
    }

    #[test]
    fn only_the_first_gift_wakes_and_all_come_out_in_order() {
        let inbox = Inbox::default();

        assert!(inbox.give_train(train(1)).unwrap());
        assert!(!inbox.give_train(train(2)).unwrap());
        let mut taken = Taken::default();
        inbox.take(&mut taken);

        let lengths: Vec<usize> = taken.trains.iter().map(|train| train.bytes.len()).collect();
        assert_eq!(lengths, [1, 2]);
        assert!(inbox.give_sends(&mut sends(1)), "it was emptied");
    }

    #[test]
    fn a_full_inbox_gives_datagrams_back_until_it_is_emptied() {
        let inbox = Inbox::default();
        let large = 60_000;
        for _ in 0..HANDED_BYTES_MAX / large {
            inbox.give_train(train(large)).unwrap();
        }

        let back = inbox.give_train(train(large)).unwrap_err();
        assert_eq!(back.bytes.len(), large);
        inbox.take(&mut Taken::default());
        assert!(inbox.give_train(train(large)).is_ok());
    }

    #[test]
    fn of_more_late_packets_than_the_limit_the_lane_is_not_told() {
        let inbox = Inbox::default();
        let late = Late {
            egress: Egress::Link(LinkIndex(1)),
            flow: levada_wire::FlowId(1),
            first: levada_wire::Number::ZERO,
            end: levada_wire::Number::ZERO.next(),
        };

        assert!(inbox.give_late(late));
        for _ in 0..HANDED_LATE_MAX {
            inbox.give_late(late);
        }

        let mut taken = Taken::default();
        inbox.take(&mut taken);
        assert_eq!(taken.late.len(), HANDED_LATE_MAX);
    }

    #[test]
    fn a_full_inbox_leaves_the_rest_of_the_sends() {
        let inbox = Inbox::default();
        let mut given = sends(HANDED_SENDS_MAX + 3);

        inbox.give_sends(&mut given);

        assert_eq!(given.len(), 3);
    }
}
