//! Interests: subscribers that want the same share one subscription of the core.
//!
//! So the core's work for a stream does not grow with the subscribers that it has here. Not the flows that interests
//! hang on (the core's), nor what subscribers are told (`fanout`). Called by `requests` and `outputs`. Invariant: an
//! interest has a subscriber, and each subscriber one interest.

use std::collections::{BTreeMap, BTreeSet};

use levada_core::limits::SUBSCRIPTIONS_MAX;
use levada_core::{Paths, SubscriptionId};
use levada_wire::{FlowId, Layer, RepairBudget, StreamName};

use super::SlotId;
use crate::fanout::Fanout;
use crate::subscriber::{Instance, State};

/// What subscribers must have in common to share one interest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Want {
    pub(super) name: StreamName,
    pub(super) layer: Layer,
    pub(super) budget: RepairBudget,
    pub(super) paths: Paths,
}

/// How far an interest has come, as all its subscribers are told.
#[derive(Clone, Debug)]
pub(super) enum Told {
    State(State),
    Flows {
        flow: FlowId,
        instance: Instance,
        /// Two ways are wanted, and there is one.
        is_on_one_path: bool,
    },
    Ended,
}

#[derive(Debug)]
struct Interest {
    want: Want,
    subscribers: BTreeSet<SlotId>,
    told: Option<Told>,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Interests {
    interests: BTreeMap<SubscriptionId, Interest>,
    of_want: BTreeMap<Want, SubscriptionId>,
    of_subscriber: BTreeMap<SlotId, SubscriptionId>,
}

/// What comes of one more subscriber.
#[derive(Debug)]
pub(super) enum Added {
    /// Nobody wanted that: the core is to be told.
    New(SubscriptionId),
    /// Others want it, and this is how far it has come.
    Shared(Option<Told>),
    /// There are [`SUBSCRIPTIONS_MAX`].
    Full,
}

impl Interests {
    pub(super) fn add(&mut self, slot: SlotId, want: Want) -> Added {
        let shared = self.of_want.get(&want).copied();
        if shared.is_none() && self.interests.len() >= SUBSCRIPTIONS_MAX {
            return Added::Full;
        }
        // The number of the first who wants it: no other has it.
        let id = shared.unwrap_or(SubscriptionId(slot.0));
        self.of_subscriber.insert(slot, id);
        let interest = self.interests.entry(id).or_insert_with(|| Interest {
            want: want.clone(),
            subscribers: BTreeSet::new(),
            told: None,
        });
        interest.subscribers.insert(slot);
        if shared.is_some() {
            return Added::Shared(interest.told.clone());
        }
        self.of_want.insert(want, id);
        Added::New(id)
    }

    /// What a subscriber wants.
    pub(super) fn name(&self, slot: SlotId) -> Option<&StreamName> {
        let id = self.of_subscriber.get(&slot)?;
        self.interests.get(id).map(|interest| &interest.want.name)
    }

    /// Forgets a subscriber; gives its interest if nobody has it any more.
    pub(super) fn remove(&mut self, slot: SlotId) -> Option<SubscriptionId> {
        let id = self.of_subscriber.remove(&slot)?;
        let interest = self.interests.get_mut(&id)?;
        interest.subscribers.remove(&slot);
        if !interest.subscribers.is_empty() {
            return None;
        }
        let interest = self.interests.remove(&id)?;
        self.of_want.remove(&interest.want);
        Some(id)
    }

    /// Tells all who have an interest.
    pub(super) fn tell(&mut self, id: SubscriptionId, told: Told, fanout: &Fanout) {
        let Some(interest) = self.interests.get_mut(&id) else {
            return;
        };
        for slot in &interest.subscribers {
            match &told {
                Told::State(state) => fanout.state(*slot, state.clone()),
                Told::Flows { .. } => told.attach(*slot, fanout),
                Told::Ended => fanout.end(*slot),
            }
        }
        interest.told = Some(told);
    }
}

impl Told {
    /// Attaches a subscriber to the flow that comes.
    fn attach(&self, slot: SlotId, fanout: &Fanout) {
        if let Self::Flows {
            flow,
            instance,
            is_on_one_path,
        } = *self
        {
            fanout.attach(slot, flow, instance);
            if is_on_one_path {
                fanout.state(slot, State::OnePath { instance });
            }
        }
    }

    /// Tells a subscriber that came later.
    pub(super) fn tell(self, slot: SlotId, fanout: &Fanout) {
        match self {
            Self::State(state) => fanout.state(slot, state),
            Self::Flows { .. } => self.attach(slot, fanout),
            // It had no part in what ended.
            Self::Ended => fanout.state(slot, State::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn want(name: &str) -> Want {
        Want {
            name: name.parse().unwrap(),
            layer: Layer(0),
            budget: RepairBudget::DEFAULT,
            paths: Paths::One,
        }
    }

    fn is_new(added: &Added) -> bool {
        matches!(added, Added::New(_))
    }

    #[test]
    fn who_wants_the_same_shares_a_wish_that_ends_with_the_last() {
        let mut interests = Interests::default();

        let first = interests.add(SlotId(1), want("cam"));
        let second = interests.add(SlotId(2), want("cam"));
        let patient = Want {
            budget: RepairBudget::MAX,
            ..want("cam")
        };

        assert!(matches!(first, Added::New(SubscriptionId(1))), "{first:?}");
        assert!(matches!(second, Added::Shared(None)), "{second:?}");
        assert!(is_new(&interests.add(SlotId(3), patient)));
        let careful = Want {
            paths: Paths::Two,
            ..want("cam")
        };
        assert!(is_new(&interests.add(SlotId(5), careful)));
        assert_eq!(interests.remove(SlotId(1)), None);
        assert_eq!(interests.remove(SlotId(1)), None, "it is gone already");
        assert_eq!(interests.remove(SlotId(2)), Some(SubscriptionId(1)));
        assert!(is_new(&interests.add(SlotId(4), want("cam"))));
    }

    #[test]
    fn one_wish_too_many_is_refused_and_one_more_of_the_same_is_not() {
        let mut interests = Interests::default();
        let one = |at: usize| (SlotId(at as u64), want(&format!("cam-{at}")));
        for at in 0..SUBSCRIPTIONS_MAX {
            let (slot, want) = one(at);
            assert!(is_new(&interests.add(slot, want)));
        }
        let (slot, other) = one(SUBSCRIPTIONS_MAX);

        let refused = interests.add(slot, other.clone());
        let shared = interests.add(slot, want("cam-0"));

        assert!(matches!(refused, Added::Full), "{refused:?}");
        assert!(matches!(shared, Added::Shared(None)), "{shared:?}");
        assert_eq!(interests.remove(SlotId(1)), Some(SubscriptionId(1)));
        assert!(is_new(&interests.add(SlotId(u64::MAX), other)));
    }
}
