//! The decision point of flows: compares demand (subscriptions, children) with what is requested, and requests, keeps
//! or cancels.
//!
//! [`Flows::settle`] runs after every input and every timer, on the flows that were touched. It is idempotent, so no
//! other code has to remember a consequence of an event.
//!
//! ```text
//!  subscriptions ──resolve─▶ targets ─┐
//!  children ──────────────────────────┼─▶ wanted flows ──drive──▶ requests, cancels
//!  lingering, ending ─────────────────┘         │
//!                                               └──consume──▶ secrets ──▶ Consume, Active
//! ```
//!
//! Called by [`Flows`] alone. Invariant: after it ran, running it again changes nothing.

use std::collections::BTreeSet;

use levada_wire::control::flow::{InstanceRef, RefuseReason};
use levada_wire::lane::FlowCommand;
use levada_wire::{Announce, FlowId, LinkIndex, RepairBudget};

use super::carried::{Carried, Challenger, Second, Upstream};
use super::subscriptions::{Target, Wanted};
use super::{Flows, Output};
use crate::api::{Event, SubscriptionId, SubscriptionState};
use crate::chance::jittered;
use crate::channels::Shape;
use crate::limits::{
    ANSWER_WAIT, CARRIED_MAX, FLOWS_PER_CALL_MAX, LINGER, PART_PAUSE, REQUEST_AGAIN, REQUEST_PAUSE,
};

impl Flows {
    /// Makes what is follow what is wanted, for all that was touched.
    pub(super) fn settle(&mut self) {
        let mut left = FLOWS_PER_CALL_MAX;
        loop {
            if self.subscriptions.is_touched() {
                self.want();
            }
            let touched = self.carried.touched(left);
            if touched.is_empty() {
                break;
            }
            left -= touched.len();
            self.settle_flows(&touched);
        }
        let is_rest = self.carried.is_touched();
        self.settle_at = is_rest.then(|| self.now + PART_PAUSE);
        self.note_active();
        self.tell_sizes();
    }

    /// Looks again at the subscriptions that were touched, and touches the flows whose being wanted changed.
    fn want(&mut self) {
        let touched = self.subscriptions.take_touched();
        for id in &touched {
            self.resolve(*id);
        }
        for flow in self.subscriptions.take_moved() {
            self.note_wanted(flow);
        }
        self.carry_wanted();
        for (of, is_needed) in self.subscriptions.take_moved_instances(&self.me) {
            self.note_origin(&of, is_needed);
            self.keys.want(self.now, of, is_needed);
        }
        self.ask_for_secrets();
        self.promote_and_report(touched);
    }

    /// An instance of another node is wanted here, or not any more: says whether anything of that node is.
    fn note_origin(&mut self, of: &InstanceRef, is_wanted: bool) {
        let origin = of.origin;
        let had_any = self.origins.contains_key(&origin);
        let instances = self.origins.entry(origin).or_default();
        if is_wanted {
            instances.insert(of.clone());
        } else {
            instances.remove(of);
        }
        let has_any = !instances.is_empty();
        if !has_any {
            self.origins.remove(&origin);
        }
        if has_any != had_any {
            self.outputs.push_back(Output::Wants(origin, has_any));
        }
    }

    /// Other subscriptions point at a flow than before.
    fn note_wanted(&mut self, flow: FlowId) {
        let wanted = self.subscriptions.wanted(flow);
        let before = match wanted {
            Some(wanted) => self.wanted.insert(flow, wanted),
            None => self.wanted.remove(&flow),
        };
        let terms = |of: Option<Wanted>| of.map(|one| (one.budget, one.paths));
        if terms(before) != terms(wanted) {
            self.carried.touch(flow);
        }
        if before != wanted
            && let Some(offer) = self.catalogue.find(flow)
        {
            self.watched.mark(&offer.of.name, offer.of.origin);
        }
        if before.is_none() && wanted.is_some() {
            self.uncarried.insert(flow);
        }
    }

    fn settle_flows(&mut self, touched: &[FlowId]) {
        for flow in touched {
            if self.settle_at.is_some() {
                // It may have waited for so long that its timers, which were not noted yet, are due.
                self.expire_children(*flow);
            }
            let wanted = self.wanted.get(flow).map(|wanted| wanted.budget);
            self.settle_budget(*flow, wanted);
            self.drive(*flow, wanted.is_some());
            if let Some(carried) = self.carried.get_mut(*flow) {
                carried.note_absence(self.now);
            }
            self.grant_waiting(*flow);
            self.consume(*flow, wanted.is_some());
        }
        let served = self.subscriptions.served_by(touched);
        self.promote_and_report(served);
        for flow in touched {
            self.tell_shape(*flow);
            if let Some(of) = self.carried.note(*flow) {
                self.watched.mark(&of.name, of.origin);
            }
            debug_assert_eq!(self.contradiction_of(*flow), None, "of flow {flow}");
        }
    }

    /// Says where a flow comes from and goes to, if that is news.
    fn tell_shape(&mut self, flow: FlowId) {
        let Some(now) = self.carried.get(flow).map(Carried::shape_now) else {
            return;
        };
        let Some(carried) = self.carried.get_mut(flow).filter(|one| one.shape != now) else {
            return;
        };
        carried.shape = now.clone();
        let shape = Shape {
            flow,
            name: carried.of.name.clone(),
            packet_size: carried.packet_size,
            from: now.0,
            to: now.1,
            is_here: true,
        };
        self.outputs.push_back(Output::Shape(shape));
    }

    /// What is wrong with a flow that was settled: nothing, ever.
    pub(super) fn contradiction_of(&self, flow: FlowId) -> Option<&'static str> {
        let carried = self.carried.get(flow)?;
        let lingers = carried.linger_until.is_some_and(|until| until > self.now);
        let is_wanted = self.wanted.contains_key(&flow)
            || !carried.children.is_empty()
            || carried.consuming
            || lingers
            || carried.ending_at.is_some();
        if !is_wanted && carried.asked().next().is_some() {
            return Some("nobody wants it, and somebody is asked for it");
        }
        let is_gone = |link: &LinkIndex| !self.neighbours.contains_key(link);
        if carried.children.keys().any(is_gone) {
            return Some("it has a child on a link that is no more");
        }
        let second = carried.second.map(Second::link);
        if second.is_some() && second == carried.upstream.link() {
            return Some("it is asked of one neighbour twice");
        }
        let from = match carried.upstream {
            Upstream::Flowing { link, .. } => Some(link),
            _ => None,
        };
        let is_fed_back = carried
            .granted()
            .any(|link| Some(link) == from || Some(link) == second);
        is_fed_back.then_some("it goes out over the link that it comes over")
    }

    fn promote_and_report(&mut self, ids: BTreeSet<SubscriptionId>) {
        for id in ids {
            self.promote(id);
            self.report(id);
        }
    }

    /// Lets go of everything whose time is over.
    pub(super) fn expire(&mut self) {
        for flow in self.carried.touch_due(self.now) {
            self.expire_children(flow);
        }
        self.keys.expire(self.now);
        self.ask_for_secrets();
        for (name, origin) in self.catalogue.expire(self.now) {
            self.subscriptions.touch_name(&name);
            self.watched.mark(&name, origin);
            self.event(Event::StreamsChanged { name });
        }
    }

    pub(super) fn on_unsubscribe(&mut self, id: SubscriptionId) {
        self.subscriptions.remove(id);
    }

    /// Points a subscription at the flow that should serve it.
    fn resolve(&mut self, id: SubscriptionId) {
        let Some(subscription) = self.subscriptions.get(id) else {
            return;
        };
        let offers = |announce: &&Announce| announce.layer(subscription.layer).is_some();
        let known: Vec<&Announce> = self
            .catalogue
            .named(&subscription.name)
            .filter(offers)
            .collect();
        let reachable = known
            .iter()
            .filter(|a| self.distance_to(&a.origin).is_finite());
        let serving = subscription
            .serving
            .as_ref()
            .map(|target| target.announce.origin);
        // The origin that serves is left only when it cannot be reached; nearness decides once.
        let best = reachable.min_by_key(|announce| {
            let other = Some(announce.origin) != serving;
            (other, self.distance_to(&announce.origin), announce.origin)
        });
        let target = best.map(|announce| Target {
            flow: announce.flow(subscription.layer),
            announce: (*announce).clone(),
        });
        let serving = subscription.serving.as_ref().map(|target| target.flow);
        let next = target.filter(|target| Some(target.flow) != serving);
        self.subscriptions.set_next(id, next);
    }

    /// Tells a subscription how far it has come, if that is news.
    fn report(&mut self, id: SubscriptionId) {
        let Some(subscription) = self.subscriptions.get(id) else {
            return;
        };
        let comes = |target: &&Target| {
            let ready = self.carried.get(target.flow).is_some_and(Carried::is_ready);
            ready && self.distance_to(&target.announce.origin).is_finite()
        };
        let serving = subscription.serving.as_ref();
        let stalls = |target: &&Target| {
            let carried = self.carried.get(target.flow);
            carried.is_some_and(Carried::is_stalled)
        };
        let state = if let Some(target) = serving.filter(comes).filter(stalls) {
            Some(SubscriptionState::Stalled { flow: target.flow })
        } else if let Some(target) = serving.filter(comes) {
            let (flow, announce) = (target.flow, Box::new(target.announce.clone()));
            Some(if self.is_on_one_path(subscription, flow) {
                SubscriptionState::OnePath { flow, announce }
            } else {
                SubscriptionState::Active { flow, announce }
            })
        } else if let Some(target) = subscription.next.as_ref().or(serving) {
            Some(self.state_of(target))
        } else {
            let known = self.catalogue.named(&subscription.name).next();
            let stays_ended = subscription.is_ended() && known.is_none();
            (!stays_ended).then_some(match known {
                Some(announce) => SubscriptionState::Unreachable {
                    origin: announce.origin,
                },
                None => SubscriptionState::Unknown,
            })
        };
        // A flow that moves to another neighbour is asked for in between: no news to who is served.
        let state = state.filter(|state| {
            serving.is_none() || !matches!(state, SubscriptionState::Requested { .. })
        });
        let told = state.and_then(|state| self.subscriptions.tell(id, state));
        told.into_iter().for_each(|event| self.event(event));
    }

    fn state_of(&self, target: &Target) -> SubscriptionState {
        let (flow, origin) = (target.flow, target.announce.origin);
        if !self.distance_to(&origin).is_finite() {
            return SubscriptionState::Unreachable { origin };
        }
        match self.carried.get(flow).map(|carried| &carried.upstream) {
            Some(Upstream::Idle {
                cause: Some(reason),
                ..
            }) => SubscriptionState::Refused {
                flow,
                reason: *reason,
            },
            _ => SubscriptionState::Requested { flow },
        }
    }

    /// Begins to carry the flows that subscriptions point at.
    fn carry_wanted(&mut self) {
        for flow in std::mem::take(&mut self.uncarried) {
            if !self.wanted.contains_key(&flow) || self.carried.contains(flow) {
                continue;
            }
            match self.catalogue.find(flow) {
                Some(offer) if self.carried.len() < CARRIED_MAX => self.carry(Carried::new(offer)),
                _ => {
                    self.uncarried.insert(flow);
                }
            }
        }
    }

    /// Makes the flow's budget what consumers and children want at most, and tells the datapath and upstream. While
    /// nobody wants the flow, and while it ends, it stays what it was.
    fn settle_budget(&mut self, flow: FlowId, subscribed: Option<RepairBudget>) {
        let Some(carried) = self.carried.get(flow) else {
            return;
        };
        if carried.ending_at.is_some() {
            return;
        }
        let wanted = subscribed.max(carried.children_budget());
        let Some(budget) = wanted.filter(|wanted| *wanted != carried.budget) else {
            return;
        };
        let Some(carried) = self.carried.get_mut(flow) else {
            return;
        };
        carried.budget = budget;
        let asked: Vec<LinkIndex> = carried.asked().collect();
        self.command(flow, FlowCommand::SetBudget(budget));
        for link in asked {
            self.reassert(flow, link);
        }
    }

    /// Makes one flow's upstream follow the route, or lets the flow go.
    fn drive(&mut self, flow: FlowId, wanted: bool) {
        let now = self.now;
        let Some(carried) = self.carried.get_mut(flow) else {
            return;
        };
        if carried.ending_at.is_some_and(|at| at <= now) {
            self.release(flow);
            return;
        }
        if carried.is_origin() || carried.ending_at.is_some() {
            return;
        }
        carried.avoided.retain(|_, (_, until)| *until > now);
        if let Some(silent) = &mut carried.silent
            && silent.until.is_some_and(|at| at <= now)
        {
            silent.until = None;
            let link = silent.link;
            self.avoid(flow, link, RefuseReason::Timeout);
        }
        let Some(carried) = self.carried.get_mut(flow) else {
            return;
        };
        let used = wanted || !carried.children.is_empty();
        if used {
            carried.linger_until = None;
        } else if carried.linger_until.is_none_or(|until| until <= now) && !carried.consuming {
            self.release(flow);
            return;
        }
        self.settle_lone_second(flow);
        let toward = self.carried.get(flow).and_then(|carried| self.way(carried));
        let toward = self.without_second(flow, toward);
        self.follow(flow, toward);
        self.settle_second(flow);
    }

    /// Moves the upstream one step toward `toward`, the link that the route begins with.
    fn follow(&mut self, flow: FlowId, toward: Option<LinkIndex>) {
        let now = self.now;
        let Some(carried) = self.carried.get_mut(flow) else {
            return;
        };
        match &mut carried.upstream {
            Upstream::Origin => {}
            Upstream::Idle { retry_at, cause } => match toward {
                Some(link) if retry_at.is_none_or(|at| at <= now) => {
                    carried.upstream = Upstream::Asking {
                        link,
                        until: now + ANSWER_WAIT,
                    };
                    self.ask(flow, link);
                }
                Some(_) => {}
                None => (*retry_at, *cause) = (None, None),
            },
            Upstream::Asking { link, until } => {
                let (link, late) = (*link, *until <= now);
                if late || toward.is_some_and(|toward| toward != link) {
                    if late {
                        self.avoid(flow, link, RefuseReason::Timeout);
                    }
                    let Some(carried) = self.carried.get_mut(flow) else {
                        return;
                    };
                    let retry_at = if late { now + REQUEST_PAUSE } else { now };
                    let cause = late.then_some(RefuseReason::Timeout);
                    carried.upstream = Upstream::Idle {
                        retry_at: Some(retry_at),
                        cause,
                    };
                    self.cancel(flow, link);
                    self.follow(flow, toward);
                }
            }
            Upstream::Flowing { .. } => self.follow_flowing(flow, toward),
        }
    }

    /// A flow that comes: say the request again, and let a better neighbour prove itself.
    fn follow_flowing(&mut self, flow: FlowId, toward: Option<LinkIndex>) {
        let now = self.now;
        let again = now + jittered(REQUEST_AGAIN, &mut self.rng);
        let later = now + REQUEST_PAUSE;
        let Some(carried) = self.carried.get(flow) else {
            return;
        };
        let (origin, current) = (carried.of.origin, carried.upstream.link());
        // A way that vanished just now is waited for, unless the present one leads nowhere.
        let is_needed = |current| !self.is_other_way(&origin, current);
        let is_needed = current.is_none_or(is_needed);
        let is_steady = |link: &LinkIndex| self.vanished.is_steady(now, origin, *link);
        let toward = toward.filter(|link| is_needed || Some(*link) == current || is_steady(link));
        let Some(carried) = self.carried.get_mut(flow) else {
            return;
        };
        let Upstream::Flowing {
            link,
            reassert_at,
            challenger,
        } = &mut carried.upstream
        else {
            return;
        };
        let current = *link;
        let due = *reassert_at <= now;
        if due {
            *reassert_at = again;
        }
        let better = toward.filter(|toward| *toward != current);
        let known = challenger
            .as_ref()
            .map(|known| (known.link(), known.until() <= now));
        let asked = !matches!(challenger, Some(Challenger::Refused { .. }));
        let (drop, ask) = match (known, better) {
            (None, None) => (None, None),
            (None, Some(better)) => (None, Some(better)),
            (Some((known, false)), Some(better)) if known == better => (None, None),
            // Late: it had its chance, and gets another after a pause. Refused: the pause is over.
            (Some((known, true)), Some(better)) if known == better && asked => {
                *challenger = Some(Challenger::Refused {
                    link: known,
                    until: later,
                });
                (Some(known), None)
            }
            (Some((known, _)), better) => (asked.then_some(known), better),
        };
        if let Some(link) = ask {
            *challenger = Some(Challenger::Asking {
                link,
                until: now + ANSWER_WAIT,
            });
        } else if better.is_none() {
            *challenger = None;
        }
        if due {
            self.reassert(flow, current);
        }
        if let Some(link) = drop {
            self.cancel(flow, link);
        }
        if let Some(link) = ask {
            self.ask(flow, link);
        }
    }

    /// Lets a flow go, and whoever sends it.
    fn release(&mut self, flow: FlowId) {
        let Some(released) = self.carried.remove(flow) else {
            return;
        };
        // There is room for one that had none.
        if let Some(waiting) = self.uncarried.first() {
            self.subscriptions.touch_flow(*waiting);
        }
        if released.shape != (None, BTreeSet::new()) {
            self.outputs.push_back(Output::Shape(Shape {
                flow,
                name: released.of.name.clone(),
                packet_size: released.packet_size,
                from: None,
                to: BTreeSet::new(),
                is_here: false,
            }));
        }
        // Nobody is fed any more, which was not noted while the flow was here.
        self.watched.mark(&released.of.name, released.of.origin);
        if let Some(second) = released.second {
            self.cancel(flow, second.link());
        }
        match released.upstream {
            Upstream::Asking { link, .. } => self.cancel(flow, link),
            Upstream::Flowing {
                link, challenger, ..
            } => {
                self.cancel(flow, link);
                if let Some(Challenger::Asking { link, .. } | Challenger::Accepted { link, .. }) =
                    challenger
                {
                    self.cancel(flow, link);
                }
            }
            Upstream::Origin | Upstream::Idle { .. } => {}
        }
        if released.consuming {
            self.command(flow, FlowCommand::StopConsuming);
        }
        self.command(flow, FlowCommand::Close);
    }

    /// Opens a flow for local consumers once it comes and its secret is known; closes it to them when none is left.
    fn consume(&mut self, flow: FlowId, wanted: bool) {
        let Some(carried) = self.carried.get(flow) else {
            return;
        };
        if carried.consuming {
            if !wanted && carried.ending_at.is_none() {
                self.stop_consuming(flow);
            }
            return;
        }
        if !wanted || !carried.is_ready() {
            return;
        }
        let own = self
            .published
            .get(&carried.of.name)
            .filter(|own| own.of == carried.of);
        let secret = match own {
            Some(own) => Some((own.epoch, own.secret.clone())),
            None => self.keys.secret(&carried.of),
        };
        let Some((epoch, secret)) = secret else {
            return;
        };
        let (instance, suite) = (carried.of.instance, carried.suite);
        if let Some(carried) = self.carried.get_mut(flow) {
            carried.consuming = true;
        }
        self.command(
            flow,
            FlowCommand::Consume {
                instance,
                suite,
                epoch,
                secret,
            },
        );
    }

    fn stop_consuming(&mut self, flow: FlowId) {
        let until = self.now + LINGER;
        let Some(carried) = self.carried.get_mut(flow) else {
            return;
        };
        carried.consuming = false;
        if !carried.is_origin() {
            carried.linger_until = Some(until);
        }
        self.command(flow, FlowCommand::StopConsuming);
    }

    /// The flow that was to serve a subscription next serves it now.
    fn promote(&mut self, id: SubscriptionId) {
        let Some(subscription) = self.subscriptions.get(id) else {
            return;
        };
        let Some(next) = &subscription.next else {
            return;
        };
        if !self
            .carried
            .get(next.flow)
            .is_some_and(|carried| carried.consuming)
        {
            return;
        }
        if let Some(before) = self.subscriptions.promote(id)
            && self.subscriptions.count(before) == 0
        {
            self.stop_consuming(before);
        }
    }

    /// Says which links began or ceased to carry flows.
    fn note_active(&mut self) {
        for (link, active) in self.carried.take_turned() {
            let changed = if active {
                self.active.insert(link)
            } else {
                self.active.remove(&link)
            };
            if changed {
                self.outputs.push_back(Output::Active { link, active });
            }
        }
    }
}
