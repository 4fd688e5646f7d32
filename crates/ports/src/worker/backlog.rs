//! Runs that wait for a full socket: in turns, one run of each egress, so that nobody is last every time.
//!
//! ```text
//!   link 7   ▮▮▮ ▮▮▮ ▮▮▮ ◀─ newest           turns: 7, 9, 3, 7, 9, ...
//!   link 9   ▮▮▮ ▮▮▮
//!   link 3   ▮▮▮                             too much waits: the newest run of whoever has most
//! ```
//!
//! A list of egresses is sent to in the same order each time. First come, first served, the end of that list would find
//! the room taken every time. Not how long anything may wait, and not the socket: `send.rs`. Called by it. Invariant:
//! runs of one egress leave in the order in which they came, and an egress has a turn if and only if it has a run.

use std::collections::{BTreeMap, VecDeque};

use levada_lane::api::{Egress, Transmit};
use levada_wire::Instant;

/// A run, and since when it waits.
pub(super) type Waiting = (Instant, Transmit);

#[derive(Debug, Default)]
struct Row {
    runs: VecDeque<Waiting>,
    bytes: usize,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    rows: BTreeMap<Egress, Row>,
    turns: VecDeque<Egress>,
    bytes: usize,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// The bytes that wait.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a run, the newest of its egress.
    pub(super) fn push(&mut self, waiting: Waiting) {
        let egress = waiting.1.egress;
        let row = self.rows.entry(egress).or_default();
        if row.runs.is_empty() {
            self.turns.push_back(egress);
        }
        self.bytes += bytes_of(&waiting);
        row.bytes += bytes_of(&waiting);
        row.runs.push_back(waiting);
    }

    /// Gives the run whose turn it is; the next turn is another egress's.
    pub(super) fn pop(&mut self) -> Option<Waiting> {
        let egress = self.turns.pop_front()?;
        let row = self.rows.get_mut(&egress)?;
        let waiting = row.runs.pop_front()?;
        self.bytes -= bytes_of(&waiting);
        row.bytes -= bytes_of(&waiting);
        if row.runs.is_empty() {
            self.rows.remove(&egress);
        } else {
            self.turns.push_back(egress);
        }
        Some(waiting)
    }

    /// Puts back what is left of the run that was just given: it is its turn again.
    pub(super) fn put_back(&mut self, waiting: Waiting) {
        let egress = waiting.1.egress;
        let row = self.rows.entry(egress).or_default();
        if !row.runs.is_empty() {
            self.turns.pop_back(); // where it had its next turn
        }
        self.turns.push_front(egress);
        self.bytes += bytes_of(&waiting);
        row.bytes += bytes_of(&waiting);
        row.runs.push_front(waiting);
    }

    /// Takes out the newest run of the egress that has most waiting.
    pub(super) fn give_up(&mut self) -> Option<Transmit> {
        let most = self.rows.iter().max_by_key(|(_, row)| row.bytes);
        let egress = *most?.0;
        let row = self.rows.get_mut(&egress)?;
        let waiting = row.runs.pop_back()?;
        self.bytes -= bytes_of(&waiting);
        row.bytes -= bytes_of(&waiting);
        if row.runs.is_empty() {
            self.rows.remove(&egress);
            self.turns.retain(|turn| *turn != egress);
        }
        Some(waiting.1)
    }

    /// The bytes that wait for an egress.
    pub(super) fn bytes_for(&self, egress: Egress) -> usize {
        self.rows.get(&egress).map_or(0, |row| row.bytes)
    }

    /// How many egresses wait.
    pub(super) fn egresses(&self) -> usize {
        self.turns.len()
    }
}

fn bytes_of((_, run): &Waiting) -> usize {
    run.datagrams.bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{address, sent_over};
    use levada_wire::LinkIndex;

    fn waiting(link: u32, mark: u8, bytes: usize) -> Waiting {
        let run = sent_over(LinkIndex(link), address(0), vec![mark; bytes], 100);
        (Instant::ZERO, run)
    }

    fn marks(backlog: &mut Backlog) -> Vec<u8> {
        let runs = std::iter::from_fn(|| backlog.pop());
        runs.map(|(_, run)| run.datagrams.bytes[0]).collect()
    }

    #[test]
    fn each_egress_has_its_turn_and_its_runs_stay_in_order() {
        let mut backlog = Backlog::default();
        for (link, mark) in [(1, 10), (1, 11), (1, 12), (2, 20), (3, 30), (3, 31)] {
            backlog.push(waiting(link, mark, 100));
        }

        assert_eq!((backlog.bytes(), backlog.egresses()), (600, 3));
        assert_eq!(marks(&mut backlog), [10, 20, 30, 11, 31, 12]);
        assert!(backlog.is_empty() && backlog.rows.is_empty() && backlog.bytes() == 0);
    }

    #[test]
    fn what_did_not_go_is_next_again() {
        let mut backlog = Backlog::default();
        for (link, mark) in [(1, 10), (1, 11), (2, 20)] {
            backlog.push(waiting(link, mark, 100));
        }

        let first = backlog.pop();
        first.into_iter().for_each(|first| backlog.put_back(first));
        assert_eq!(marks(&mut backlog), [10, 20, 11]);
        backlog.push(waiting(1, 12, 100));
        let only = backlog.pop();
        only.into_iter().for_each(|only| backlog.put_back(only));

        assert_eq!(backlog.egresses(), 1);
        assert_eq!(marks(&mut backlog), [12]);
    }

    #[test]
    fn the_newest_of_whoever_has_most_is_given_up() {
        let mut backlog = Backlog::default();
        for (link, mark, bytes) in [(1, 10, 300), (2, 20, 200), (2, 21, 200), (1, 11, 50)] {
            backlog.push(waiting(link, mark, bytes));
        }
        assert_eq!(backlog.bytes_for(Egress::Link(LinkIndex(2))), 400);

        let given_up = [backlog.give_up(), backlog.give_up(), backlog.give_up()];

        let given_up = given_up.map(|run| run.map(|run| run.datagrams.bytes[0]));
        assert_eq!(given_up, [Some(21), Some(11), Some(10)]);
        assert_eq!(backlog.egresses(), 1);
        assert_eq!(marks(&mut backlog), [20]);
        assert!(backlog.give_up().is_none());
    }
}
