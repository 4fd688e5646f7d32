//! The second way of a flow, for who wants it over two at the same time (1+1).
//!
//! ```text
//!   upstream ── all packets ──▶ ┐                          the upstream fails: the second takes its place at once,
//!                               ├─ whichever comes first   and a third is asked to be the second
//!   second ──── all packets ──▶ ┘
//! ```
//!
//! The second is a neighbour whose way is feasible, so that no loop can come of it, and of those the one whose way
//! shares the fewest nodes with the selected one. It is asked once something has come, and so goes on where the flow
//! is; its parent admits it like any child. Each node keeps its upstream by its route whatever its second does, so
//! seconds starve nobody. Not the merging, which the lane does by number, nor the choice of the upstream (`settle`).
//! Called by `settle` and `requests`. Invariant: the second is never the upstream, and there is none while nobody here
//! wants two.

use levada_wire::control::flow::RefuseReason;
use levada_wire::{FlowId, LinkIndex};

use super::Flows;
use super::carried::{Carried, Second, Upstream};
use super::subscriptions::Subscription;
use crate::api::Paths;
use crate::chance::jittered;
use crate::limits::{ANSWER_WAIT, REQUEST_AGAIN};

impl Flows {
    /// The most ways that a subscription of this node wants of a flow.
    pub(super) fn paths_of(&self, flow: FlowId) -> Paths {
        let wanted = self.wanted.get(&flow);
        wanted.map_or(Paths::One, |wanted| wanted.paths)
    }

    /// Whether a flow comes to a subscription over one way alone though it wants two. While another is asked, what was
    /// told last is kept.
    pub(super) fn is_on_one_path(&self, subscription: &Subscription, flow: FlowId) -> bool {
        if subscription.paths() == Paths::One {
            return false;
        }
        let Some(carried) = self.carried.get(flow) else {
            return false;
        };
        match carried.second {
            None => carried.is_without_second(),
            Some(Second::Asking { .. }) => subscription.is_told_of_one_path(),
            Some(Second::Accepted { link, .. }) => {
                subscription.is_told_of_one_path() && !carried.delivering.contains(&link)
            }
        }
    }

    /// Where there is no upstream the second becomes one.
    pub(super) fn settle_lone_second(&mut self, flow: FlowId) {
        let now = self.now;
        let Some(carried) = self.carried.get(flow) else {
            return;
        };
        let Some(second) = carried.second else {
            return;
        };
        let asked = match carried.upstream {
            Upstream::Flowing { .. } | Upstream::Origin => return,
            Upstream::Asking { link, .. } => Some(link),
            Upstream::Idle { .. } => None,
        };
        let Some(carried) = self.carried.get_mut(flow) else {
            return;
        };
        let upstream = match second {
            Second::Accepted { link, .. } => Upstream::Flowing {
                link,
                reassert_at: now,
                challenger: None,
            },
            Second::Asking { .. } if asked.is_some() => return, // both may answer
            Second::Asking { link, until } => Upstream::Asking { link, until },
        };
        (carried.upstream, carried.second) = (upstream, None);
        if let Some(asked) = asked {
            self.cancel(flow, asked);
        }
    }

    /// The way that the upstream is to follow. Where that is the second, the two change places if it delivers; until
    /// then the flow stays where it is.
    pub(super) fn without_second(
        &mut self,
        flow: FlowId,
        toward: Option<LinkIndex>,
    ) -> Option<LinkIndex> {
        let now = self.now;
        let Some(carried) = self.carried.get(flow) else {
            return toward;
        };
        let second = carried.second.map(Second::link);
        if second.is_none() || second != toward {
            return toward;
        }
        let delivers = toward.is_some_and(|link| carried.delivering.contains(&link));
        if delivers && let Some(carried) = self.carried.get_mut(flow) {
            carried.swap_second(now);
        }
        self.carried.get(flow).and_then(|one| one.upstream.link())
    }

    /// Makes the second what is wanted: asks one, keeps it, replaces one that brings nothing, or lets it go.
    pub(super) fn settle_second(&mut self, flow: FlowId) {
        let now = self.now;
        let Some(carried) = self.carried.get(flow) else {
            return;
        };
        let is_wanted = self.paths_of(flow) == Paths::Two;
        let Some(second) = carried.second else {
            if is_wanted && carried.is_without_second() {
                self.ask_second(flow);
            }
            return;
        };
        let link = second.link();
        // Only when it is to be said again: while the selected way changes, the new one is told of nowhere.
        let (is_silent, is_lost) = match second {
            Second::Asking { until, .. } => (until <= now, false),
            Second::Accepted {
                until, reassert_at, ..
            } => (
                until <= now && !carried.delivering.contains(&link),
                reassert_at <= now && !self.tells_of_way(carried, link),
            ),
        };
        let is_avoided = carried.avoided.contains_key(&link);
        let is_bad = is_avoided && self.best_second(carried).is_some();
        if !is_wanted || is_silent || is_lost || is_bad {
            if is_silent {
                self.avoid(flow, link, RefuseReason::Timeout);
            }
            if let Some(carried) = self.carried.get_mut(flow) {
                carried.second = None;
            }
            self.cancel(flow, link);
            if is_wanted {
                self.ask_second(flow);
            }
            return;
        }
        let again = now + jittered(REQUEST_AGAIN, &mut self.rng);
        if let Some(carried) = self.carried.get_mut(flow)
            && let Some(Second::Accepted { reassert_at, .. }) = &mut carried.second
            && *reassert_at <= now
        {
            *reassert_at = again;
            self.reassert(flow, link);
        }
    }

    fn ask_second(&mut self, flow: FlowId) {
        let until = self.now + ANSWER_WAIT;
        let Some(link) = self
            .carried
            .get(flow)
            .filter(|carried| carried.is_without_second())
            .and_then(|carried| self.best_second(carried))
        else {
            return;
        };
        if let Some(carried) = self.carried.get_mut(flow) {
            carried.second = Some(Second::Asking { link, until });
        }
        self.ask(flow, link);
    }

    /// The neighbour that may be asked besides whose way shares the fewest nodes with the selected one; of equals the
    /// nearest.
    fn best_second(&self, carried: &Carried) -> Option<LinkIndex> {
        let is_free = |link: LinkIndex| {
            self.neighbours.contains_key(&link)
                && carried.asked().all(|asked| asked != link)
                && !carried.avoided.contains_key(&link)
                && !carried.children.contains_key(&link)
                && self.vanished.is_steady(self.now, carried.of.origin, link)
        };
        let others = self.alternatives.get(&carried.of.origin);
        let others = others.map_or(&[][..], Vec::as_slice);
        let feasible = others.iter().filter(|other| other.is_feasible);
        let ways = feasible.map(|other| (other.shared, other.link));
        // The selected way is itself one where the flow comes another way.
        let route = self.toward(&carried.of).map(|link| (0, link));
        let ways = route.into_iter().chain(ways);
        let free = ways.filter(|(_, link)| is_free(*link));
        free.min_by_key(|(shared, _)| *shared).map(|(_, link)| link)
    }

    /// Whether a neighbour tells of a way that does not lead through here.
    fn tells_of_way(&self, carried: &Carried, link: LinkIndex) -> bool {
        self.toward(&carried.of) == Some(link) || self.is_other_way(&carried.of.origin, link)
    }

    /// Whether an upstream that another took the place of goes on as the second.
    pub(super) fn keeps_as_second(&mut self, flow: FlowId, old: LinkIndex) -> bool {
        if self.paths_of(flow) == Paths::One {
            return false;
        }
        let (now, again) = (self.now, jittered(REQUEST_AGAIN, &mut self.rng));
        let Some(carried) = self.carried.get(flow) else {
            return false;
        };
        if carried.second.is_some()
            || carried.avoided.contains_key(&old)
            || !self.tells_of_way(carried, old)
        {
            return false;
        }
        if let Some(carried) = self.carried.get_mut(flow) {
            carried.second = Some(Second::Accepted {
                link: old,
                reassert_at: now + again,
                until: now + ANSWER_WAIT,
            });
        }
        true
    }
}
