//! When each of many things is to be looked at: which are due costs what is due, however many there are.
//!
//! Not what is done with what is due. Used by [`crate::link`], [`crate::route`] and [`crate::flow`]. Invariant: each
//! thing has one time at most.

use std::collections::{BTreeMap, BTreeSet};

use levada_wire::Instant;
use levada_wire::machine::Wakeup;

/// The times of things, and the things by their times.
#[derive(Debug)]
pub struct Wakeups<K> {
    times: BTreeMap<K, Instant>,
    due: BTreeMap<(Instant, K), &'static str>,
}

impl<K> Default for Wakeups<K> {
    fn default() -> Self {
        Self {
            times: BTreeMap::new(),
            due: BTreeMap::new(),
        }
    }
}

impl<K: Clone + Ord> Wakeups<K> {
    /// The thing is to be looked at then and at no other time; `None`: never.
    pub fn note(&mut self, key: K, wakeup: Option<Wakeup>) {
        let at = wakeup.as_ref().map(|wakeup| wakeup.at);
        let before = match at {
            Some(at) => self.times.insert(key.clone(), at),
            None => self.times.remove(&key),
        };
        if let Some(before) = before.filter(|before| at != Some(*before)) {
            self.due.remove(&(before, key.clone()));
        }
        if let Some(Wakeup { at, why }) = wakeup {
            self.due.insert((at, key), why);
        }
    }

    /// The first of all times.
    #[must_use]
    pub fn first(&self) -> Option<Wakeup> {
        let ((at, _), why) = self.due.first_key_value()?;
        Some(Wakeup { at: *at, why })
    }

    /// Which thing has the first of all times.
    #[must_use]
    pub fn first_key(&self) -> Option<&K> {
        let ((_, key), _) = self.due.first_key_value()?;
        Some(key)
    }

    /// The things whose time has come, in their own order. They stay due until they are noted anew.
    #[must_use]
    pub fn due(&self, now: Instant) -> Vec<K> {
        let due = self.due.keys().take_while(|(at, _)| *at <= now);
        let due: BTreeSet<&K> = due.map(|(_, key)| key).collect();
        due.into_iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Option<Wakeup> {
        Some(Wakeup {
            at: Instant::from_nanos(nanos),
            why: "test",
        })
    }

    #[test]
    fn each_thing_is_due_at_the_time_that_was_noted_last() {
        let mut wakeups = Wakeups::default();
        wakeups.note("b", at(1));
        wakeups.note("a", at(2));
        wakeups.note("c", at(3));

        wakeups.note("b", at(5));
        wakeups.note("c", None);

        assert_eq!(wakeups.first(), at(2));
        assert_eq!(wakeups.due(Instant::from_nanos(1)), Vec::<&str>::new());
        assert_eq!(wakeups.due(Instant::from_nanos(5)), ["a", "b"]);
        wakeups.note("a", None);
        assert_eq!(wakeups.first(), at(5));
    }
}
