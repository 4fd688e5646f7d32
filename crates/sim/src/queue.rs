//! What will happen, in the order in which it happens.
//!
//! Events of one moment happen in the order in which they were planned: time first, then a running number. So a replay
//! is exact, and nothing depends on how a heap breaks ties. Not a clock: the world's time is the time of the event it
//! took last. Called by `world`. Invariant: no event is taken before an earlier one.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use levada_wire::Instant;

/// The most events that may be planned at once; a run that needs more has gone mad and ends.
pub(crate) const PENDING_MAX: usize = 1 << 20;

/// Planned events of type `E`.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Planned<E>>,
    planned: u64,
}

#[derive(Debug)]
struct Planned<E> {
    at: Instant,
    order: u64,
    event: E,
}

impl<E> Queue<E> {
    pub(crate) const fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            planned: 0,
        }
    }

    /// Plans an event.
    pub(crate) fn push(&mut self, at: Instant, event: E) {
        let order = self.planned;
        self.planned += 1;
        self.heap.push(Planned { at, order, event });
    }

    /// Takes the next event and its time.
    pub(crate) fn pop(&mut self) -> Option<(Instant, E)> {
        self.heap.pop().map(|planned| (planned.at, planned.event))
    }

    /// Takes the next event and its time, if it happens by then.
    pub(crate) fn pop_until(&mut self, until: Instant) -> Option<(Instant, E)> {
        let is_due = self.heap.peek().is_some_and(|next| next.at <= until);
        is_due.then(|| self.pop()).flatten()
    }

    /// Takes the next event if it happens at `now` and `wanted` says so.
    pub(crate) fn pop_if(&mut self, now: Instant, wanted: impl FnOnce(&E) -> bool) -> Option<E> {
        let next = self.heap.peek()?;
        if next.at != now || !wanted(&next.event) {
            return None;
        }
        self.heap.pop().map(|planned| planned.event)
    }

    /// Whether more is planned than any sane run needs.
    pub(crate) fn is_overfull(&self) -> bool {
        self.heap.len() > PENDING_MAX
    }
}

impl<E> Ord for Planned<E> {
    /// The reverse of time, because the heap gives out its greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl<E> Eq for Planned<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_moment_come_in_the_order_they_were_planned() {
        let mut queue = Queue::new();
        let [early, late] = [5, 9].map(Instant::from_nanos);
        queue.push(late, "c");
        queue.push(early, "a");
        queue.push(early, "b");

        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();

        assert_eq!(order, [(early, "a"), (early, "b"), (late, "c")]);
    }

    #[test]
    fn an_event_is_taken_early_only_if_it_is_due_and_wanted() {
        let mut queue = Queue::new();
        let now = Instant::from_nanos(5);
        queue.push(now, "a");

        assert_eq!(queue.pop_if(Instant::ZERO, |_| true), None);
        assert_eq!(queue.pop_if(now, |event| *event == "b"), None);
        assert_eq!(queue.pop_if(now, |event| *event == "a"), Some("a"));
    }

    #[test]
    fn a_queue_gone_mad_says_so() {
        let mut queue = Queue::new();
        for _ in 0..PENDING_MAX {
            queue.push(Instant::ZERO, ());
        }
        assert!(!queue.is_overfull());

        queue.push(Instant::ZERO, ());

        assert!(queue.is_overfull());
    }
}
