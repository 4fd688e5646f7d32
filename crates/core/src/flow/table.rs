//! The table of carried flows, and the set of those that changed since `settle` ran.
//!
//! Mutable access to a flow marks it as touched; `settle` visits touched flows alone, so a message costs the same
//! with four thousand flows as with one. The table also indexes each flow's timer, the flows and their peaks per link,
//! and the flows of each origin. Not what is done with a flow (`settle`). Called by the parts of [`super::Flows`].
//! Invariant: for a flow that is not touched, the indexes agree with the flow.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use levada_wire::control::flow::InstanceRef;
use levada_wire::machine::Wakeup;
use levada_wire::{Bitrate, FlowId, Instant, LinkIndex, NodeId};

use super::carried::Carried;
use crate::view::{FlowState, note_look};

#[derive(Debug, Default)]
pub(super) struct Table {
    flows: BTreeMap<FlowId, Noted>,
    touched: BTreeSet<FlowId>,
    wakeups: BTreeMap<(Instant, FlowId), &'static str>,
    users: BTreeMap<LinkIndex, Users>,
    origins: BTreeMap<NodeId, BTreeSet<FlowId>>,
    /// The peaks of all flows, once for each child. Wide enough that no announced peak overflows it.
    reserved: u128,
    /// Links whose first user came, or whose last one went.
    turned: BTreeSet<LinkIndex>,
}

#[derive(Debug)]
struct Noted {
    carried: Carried,
    wakes_at: Option<Instant>,
    links: Vec<(LinkIndex, Bitrate)>,
    reserved: u128,
    /// Its state and the links it goes out over, as people see them.
    shown: (FlowState, usize),
}

/// What uses a link.
#[derive(Debug, Default)]
struct Users {
    flows: BTreeSet<FlowId>,
    /// The peaks of the flows that go out over it, wide enough for all.
    admitted: u128,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    /// What all children are promised.
    pub(super) fn reserved(&self) -> Bitrate {
        narrow(self.reserved)
    }

    /// The peaks of the flows that go out over a link.
    pub(super) fn admitted_over(&self, link: LinkIndex) -> Bitrate {
        let users = self.users.get(&link);
        users.map_or(Bitrate(0), |users| narrow(users.admitted))
    }

    /// How many flows use a link.
    pub(super) fn flows_over(&self, link: LinkIndex) -> usize {
        self.users.get(&link).map_or(0, |users| users.flows.len())
    }

    pub(super) fn contains(&self, flow: FlowId) -> bool {
        self.flows.contains_key(&flow)
    }

    pub(super) fn get(&self, flow: FlowId) -> Option<&Carried> {
        note_look();
        self.flows.get(&flow).map(|noted| &noted.carried)
    }

    /// The state of a flow and the number of links it goes out over.
    pub(super) fn shown(&self, flow: FlowId) -> Option<(FlowState, usize)> {
        note_look();
        self.flows.get(&flow).map(|noted| noted.shown)
    }

    /// A flow to change: it will be looked at again.
    pub(super) fn get_mut(&mut self, flow: FlowId) -> Option<&mut Carried> {
        let noted = self.flows.get_mut(&flow)?;
        self.touched.insert(flow);
        Some(&mut noted.carried)
    }

    pub(super) fn insert(&mut self, carried: Carried) {
        let flow = carried.flow();
        self.remove(flow);
        self.touched.insert(flow);
        let of_origin = self.origins.entry(carried.of.origin);
        of_origin.or_default().insert(flow);
        let noted = Noted {
            carried,
            wakes_at: None,
            links: Vec::new(),
            reserved: 0,
            shown: (FlowState::Hold, 0),
        };
        self.flows.insert(flow, noted);
    }

    pub(super) fn remove(&mut self, flow: FlowId) -> Option<Carried> {
        self.forget(flow);
        let carried = self.flows.remove(&flow)?.carried;
        if let Some(flows) = self.origins.get_mut(&carried.of.origin) {
            flows.remove(&flow);
            if flows.is_empty() {
                self.origins.remove(&carried.of.origin);
            }
        }
        Some(carried)
    }

    /// The flows of an origin.
    pub(super) fn of_origin(&self, origin: &NodeId) -> Vec<FlowId> {
        let flows = self.origins.get(origin);
        flows.into_iter().flatten().copied().collect()
    }

    /// The flows that use a link, but for what changed of those that are touched.
    pub(super) fn over(&self, link: LinkIndex) -> Vec<FlowId> {
        let users = self.users.get(&link);
        let flows = users.into_iter().flat_map(|users| &users.flows);
        flows.copied().collect()
    }

    /// Changes those of the flows that `matters` says yes to.
    pub(super) fn change(
        &mut self,
        flows: Vec<FlowId>,
        matters: impl Fn(&Carried) -> bool,
        mut change: impl FnMut(&mut Carried),
    ) {
        for flow in flows {
            if self.get(flow).is_some_and(&matters)
                && let Some(carried) = self.get_mut(flow)
            {
                change(carried);
            }
        }
    }

    /// The flows behind `after`.
    pub(super) fn behind(&self, after: Option<FlowId>) -> impl Iterator<Item = (FlowId, &Carried)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let flows = self.flows.range((from, Bound::Unbounded));
        flows
            .inspect(|_| note_look())
            .map(|(flow, noted)| (*flow, &noted.carried))
    }

    /// All flows that `matters` says yes to, to be changed.
    pub(super) fn matching(
        &mut self,
        matters: impl Fn(&Carried) -> bool,
    ) -> impl Iterator<Item = &mut Carried> {
        let touched = &mut self.touched;
        self.flows.iter_mut().filter_map(move |(flow, noted)| {
            matters(&noted.carried).then(|| {
                touched.insert(*flow);
                &mut noted.carried
            })
        })
    }

    pub(super) fn touch(&mut self, flow: FlowId) {
        self.touched.insert(flow);
    }

    /// Touches the flows whose wake-up is due.
    pub(super) fn touch_due(&mut self, now: Instant) -> Vec<FlowId> {
        let due = self.wakeups.keys().take_while(|(at, _)| *at <= now);
        let due: Vec<FlowId> = due.map(|(_, flow)| *flow).collect();
        self.touched.extend(&due);
        due
    }

    /// The first of what was touched since the last time, to be settled and then noted.
    pub(super) fn touched(&self, most: usize) -> Vec<FlowId> {
        self.touched.iter().copied().take(most).collect()
    }

    pub(super) fn is_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// A flow was looked at: its wake-up and its links are noted as they are now. Says of what it is if people see
    /// another state of it.
    pub(super) fn note(&mut self, flow: FlowId) -> Option<&InstanceRef> {
        self.touched.remove(&flow);
        let noted = self.flows.get(&flow)?;
        let links: Vec<(LinkIndex, Bitrate)> = noted.carried.uses().collect();
        // Mostly they are the same: that one of many children asks again costs nothing for each of the others.
        if links != noted.links {
            self.forget_links(flow);
            self.note_links(flow, links);
        }
        let noted = self.flows.get_mut(&flow)?;
        if let Some(at) = noted.wakes_at.take() {
            self.wakeups.remove(&(at, flow));
        }
        if let Some(Wakeup { at, why }) = noted.carried.wakeup() {
            noted.wakes_at = Some(at);
            self.wakeups.insert((at, flow), why);
        }
        self.reserved -= noted.reserved;
        noted.reserved = noted.carried.reserved();
        self.reserved += noted.reserved;
        let carried = &noted.carried;
        let shown = (carried.state(), carried.granted().count());
        (std::mem::replace(&mut noted.shown, shown) != shown).then_some(&carried.of)
    }

    /// Undoes what was noted of a flow.
    fn forget(&mut self, flow: FlowId) {
        self.touched.remove(&flow);
        self.forget_links(flow);
        let Some(noted) = self.flows.get_mut(&flow) else {
            return;
        };
        if let Some(at) = noted.wakes_at.take() {
            self.wakeups.remove(&(at, flow));
        }
        self.reserved -= std::mem::take(&mut noted.reserved);
    }

    fn note_links(&mut self, flow: FlowId, links: Vec<(LinkIndex, Bitrate)>) {
        for (link, admitted) in &links {
            let users = self.users.entry(*link).or_default();
            if users.flows.is_empty() {
                self.turned.insert(*link);
            }
            users.flows.insert(flow);
            users.admitted += u128::from(admitted.0);
        }
        if let Some(noted) = self.flows.get_mut(&flow) {
            noted.links = links;
        }
    }

    fn forget_links(&mut self, flow: FlowId) {
        let noted = self.flows.get_mut(&flow);
        let links = noted.map(|noted| std::mem::take(&mut noted.links));
        let links = links.unwrap_or_default();
        // A link may be there twice: as one that was asked, and as a child's.
        for (link, admitted) in &links {
            let users = self.users.get_mut(link);
            let users = users.expect("each noted link was counted");
            users.flows.remove(&flow);
            users.admitted -= u128::from(admitted.0);
        }
        for (link, _) in links {
            let users = self.users.get(&link);
            if users.is_some_and(|users| users.flows.is_empty()) {
                self.users.remove(&link);
                self.turned.insert(link);
            }
        }
    }

    /// Links that may have begun or ceased to be used, and whether they are now.
    pub(super) fn take_turned(&mut self) -> Vec<(LinkIndex, bool)> {
        let turned = std::mem::take(&mut self.turned);
        let used = |link: &LinkIndex| self.users.contains_key(link);
        turned.iter().map(|link| (*link, used(link))).collect()
    }

    /// The first time at which a flow is to be looked at; of those that are not touched, which are looked at anyway.
    pub(super) fn wakeup(&self) -> Option<Wakeup> {
        let settled = |((_, flow), _): &(&(Instant, FlowId), _)| !self.touched.contains(flow);
        let ((at, _), why) = self.wakeups.iter().find(settled)?;
        Some(Wakeup { at: *at, why })
    }
}

fn narrow(sum: u128) -> Bitrate {
    Bitrate(u64::try_from(sum).unwrap_or(u64::MAX))
}
