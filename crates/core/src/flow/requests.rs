//! Requests of neighbours, and their answers to ours.
//!
//! Not the decision to request (`settle`). Called by [`Flows`]. Invariant: each request that was taken is accepted
//! or refused within [`ANSWER_DEADLINE`], whatever happens upstream.

use levada_wire::control::FlowMessage;
use levada_wire::control::flow::{
    Accept, Cancel, CarryGrant, Refuse, RefuseReason, Request, carry_context,
};
use levada_wire::identity::SealedSecret;
use levada_wire::key::CarryKey;
use levada_wire::lane::{EgressTerms, FlowCommand};
use levada_wire::machine::Machine as _;
use levada_wire::{Bitrate, FlowId, Instant, LinkIndex, Number};

use super::Flows;
use super::carried::{Carried, Challenger, Child, ChildState, Second, Upstream};
use super::eligible::Fit;
use crate::chance::jittered;
use crate::limits::{
    ANSWER_DEADLINE, ANSWER_WAIT, CARRIED_MAX, CHILDREN_MAX, OWN_LATENESS, REQUEST_AGAIN,
    REQUEST_EXPIRY, REQUEST_PAUSE,
};

impl Flows {
    pub(super) fn on_request(&mut self, link: LinkIndex, request: &Request) {
        let flow = request.flow;
        if let Err(reason) = self.take_request(link, request) {
            self.remove_child(flow, link);
            self.refuse(flow, link, reason);
        }
    }

    fn take_request(&mut self, link: LinkIndex, request: &Request) -> Result<(), RefuseReason> {
        let flow = request.flow;
        if !self.carried.contains(flow) {
            self.carry_for(link, flow)?;
        }
        let carried = self.carried.get(flow).ok_or(RefuseReason::Unknown)?;
        if let Some(reason) = self.refusal_for(link, &carried.of.origin) {
            return Err(reason);
        }
        let known = carried.children.get(&link).map(|child| child.state);
        let fits = self.is_eligible(link, carried)?;
        if carried.ending_at.is_some() {
            // Its request crossed the withdraw. It is fed to the end: what was sent last may have to be repaired.
            if known == Some(ChildState::Granted) {
                self.accept(flow, link, request.needs_key);
                return Ok(());
            }
            return Err(RefuseReason::Unknown);
        }
        if known.is_none() {
            if carried.children.len() >= CHILDREN_MAX {
                return Err(RefuseReason::Full);
            }
            if self.is_greedy(link) {
                return Err(RefuseReason::Full);
            }
            self.admit(carried.peak)?;
        }
        let expires = self.now + REQUEST_EXPIRY;
        let until = self.now + ANSWER_DEADLINE;
        let ready = carried.is_ready() && fits;
        let carried = self.carried.get_mut(flow).ok_or(RefuseReason::Unknown)?;
        let state = known.unwrap_or(ChildState::Waiting {
            until,
            needs_key: request.needs_key,
        });
        let before = carried.children.remove(&link);
        let budget = request.budget;
        let is_same = before.as_ref().is_none_or(|child| child.budget == budget);
        let child = Child {
            expires,
            state,
            since: before.as_ref().map_or(self.now, |child| child.since),
            budget,
            have: request.have.filter(|_| known != Some(ChildState::Granted)),
            by_channel: before.as_ref().is_some_and(|child| child.by_channel),
            grant: before.and_then(|child| child.grant),
        };
        carried.children.insert(link, child);
        if known == Some(ChildState::Granted) {
            if !is_same {
                self.add_egress(flow, link, None);
            }
            self.accept(flow, link, request.needs_key);
        } else if ready {
            self.grant(flow, link, request.needs_key);
        }
        Ok(())
    }

    /// Begins to carry a flow that a neighbour asks for.
    fn carry_for(&mut self, link: LinkIndex, flow: FlowId) -> Result<(), RefuseReason> {
        let offer = self.catalogue.find(flow).ok_or(RefuseReason::Unknown)?;
        if self.toward(&offer.of).is_none() {
            return Err(RefuseReason::NoRoute);
        }
        if self.carried.len() >= CARRIED_MAX || self.is_greedy(link) {
            return Err(RefuseReason::Full);
        }
        if let Some(reason) = self.refusal_for(link, &offer.of.origin) {
            return Err(reason);
        }
        if self.fit(link, offer.packet_size) == Fit::No {
            return Err(RefuseReason::TooLarge);
        }
        self.admit(offer.peak)?;
        self.carry(Carried::new(offer));
        Ok(())
    }

    /// Begins to carry a flow: the datapath is to be ready for it.
    pub(super) fn carry(&mut self, carried: Carried) {
        let (flow, peak) = (carried.flow(), carried.peak);
        self.carried.insert(carried);
        self.command(flow, FlowCommand::Open);
        self.command(flow, FlowCommand::SetPeak(peak));
    }

    /// Accepts a child's request and feeds it.
    fn grant(&mut self, flow: FlowId, link: LinkIndex, needs_key: bool) {
        let Some(carried) = self.carried.get_mut(flow) else {
            return;
        };
        let Some(child) = carried.children.get_mut(&link) else {
            return;
        };
        child.state = ChildState::Granted;
        let have = child.have.take();
        self.note_let_in(link);
        self.accept(flow, link, needs_key);
        self.add_egress(flow, link, have);
    }

    /// Feeds a granted child, which may have something, or says the new terms of one that is fed.
    fn add_egress(&mut self, flow: FlowId, link: LinkIndex, have: Option<Number>) {
        let Some(carried) = self.carried.get(flow) else {
            return;
        };
        // Who gets the flow by a channel has no egress of its own, whose terms could change.
        if let Some(child) = carried
            .children
            .get(&link)
            .filter(|child| !child.by_channel)
        {
            let (peak, budget) = (carried.peak, child.budget);
            let terms = EgressTerms { peak, budget };
            let command = match have {
                Some(have) => FlowCommand::MoveEgress(link, terms, have),
                None => FlowCommand::AddEgress(link, terms),
            };
            self.command(flow, command);
        }
    }

    /// The origin of a flow declares another rate: that of all its egresses.
    pub(super) fn on_peak(&mut self, flow: FlowId, peak: Bitrate) {
        let differs = |carried: &&Carried| carried.peak != peak;
        if self.carried.get(flow).filter(differs).is_none() {
            return;
        }
        let Some(carried) = self.carried.get_mut(flow) else {
            return;
        };
        carried.peak = peak;
        let granted: Vec<LinkIndex> = carried.granted().collect();
        self.command(flow, FlowCommand::SetPeak(peak));
        for link in granted {
            self.add_egress(flow, link, None);
        }
    }

    fn accept(&mut self, flow: FlowId, link: LinkIndex, needs_key: bool) {
        let key = if needs_key {
            self.carry_grant(flow, link)
        } else {
            None
        };
        self.send(link, FlowMessage::Accept(Accept { flow, key }));
    }

    fn carry_grant(&mut self, flow: FlowId, link: LinkIndex) -> Option<CarryGrant> {
        let node = self.neighbours.get(&link)?;
        let carried = self.carried.get_mut(flow)?;
        let (epoch, key) = carried.key.as_ref()?;
        let child = carried.children.get_mut(&link)?;
        if let Some(grant) = child.grant.as_ref().filter(|grant| grant.epoch == *epoch) {
            return Some(grant.clone());
        }
        let context = carry_context(flow, *epoch);
        let sealed = SealedSecret::seal(node, &context, key.bytes(), &mut self.rng)?;
        let grant = CarryGrant {
            epoch: *epoch,
            sealed,
        };
        child.grant = Some(grant.clone());
        Some(grant)
    }

    pub(super) fn refuse(&mut self, flow: FlowId, link: LinkIndex, reason: RefuseReason) {
        self.send(link, FlowMessage::Refuse(Refuse { flow, reason }));
    }

    /// Feeds the children that have waited for the flow.
    pub(super) fn grant_waiting(&mut self, flow: FlowId) {
        let Some(carried) = self.carried.get(flow).filter(|carried| carried.is_ready()) else {
            return;
        };
        let waiting = carried
            .children
            .iter()
            .filter_map(|(link, child)| match child.state {
                ChildState::Waiting { needs_key, .. } => Some((*link, needs_key)),
                ChildState::Granted => None,
            });
        for (link, needs_key) in waiting.collect::<Vec<_>>() {
            // Asked for each: letting one in may close the link to the next.
            let carried = self.carried.get(flow);
            if carried.is_some_and(|carried| self.obstacle(link, carried).is_none()) {
                self.grant(flow, link, needs_key);
            }
        }
    }

    pub(super) fn on_cancel(&mut self, link: LinkIndex, flow: FlowId) {
        self.remove_child(flow, link);
    }

    pub(super) fn remove_child(&mut self, flow: FlowId, link: LinkIndex) {
        let Some(carried) = self.carried.get_mut(flow) else {
            return;
        };
        let Some(child) = carried.children.remove(&link) else {
            return;
        };
        if child.state == ChildState::Granted && !child.by_channel {
            self.command(flow, FlowCommand::RemoveEgress(link));
        }
    }

    /// A child gets the flow by a channel, so that its own copy ends; or it does not any more, and its own copy goes on
    /// behind what it has.
    pub(super) fn on_by_channel(
        &mut self,
        (flow, link): (FlowId, LinkIndex),
        is_so: bool,
        have: Option<Number>,
    ) {
        let Some(carried) = self.carried.get_mut(flow) else {
            return;
        };
        let child = carried.children.get_mut(&link);
        let child = child.filter(|child| child.state == ChildState::Granted);
        let Some(child) = child.filter(|child| child.by_channel != is_so) else {
            return;
        };
        child.by_channel = is_so;
        if is_so {
            self.command(flow, FlowCommand::RemoveEgress(link));
        } else {
            self.add_egress(flow, link, have);
        }
    }

    pub(super) fn on_accept(&mut self, link: LinkIndex, accept: Accept) {
        let flow = accept.flow;
        if let Some(grant) = accept.key
            && !self.take_carry_key(flow, link, &grant)
        {
            self.abandon(flow, link, RefuseReason::FalseKey);
            return;
        }
        let reassert_at = self.now + jittered(REQUEST_AGAIN, &mut self.rng);
        let Some(carried) = self.carried.get_mut(flow) else {
            return;
        };
        let keyed = carried.key.is_some();
        if let Some(Second::Asking { link: asked, .. }) = carried.second
            && asked == link
        {
            carried.second = Some(Second::Accepted {
                link,
                reassert_at,
                until: self.now + ANSWER_WAIT,
            });
            return;
        }
        match &mut carried.upstream {
            Upstream::Asking { link: asked, .. } if *asked == link => {
                if keyed {
                    carried.upstream = Upstream::Flowing {
                        link,
                        reassert_at,
                        challenger: None,
                    };
                    self.grant_waiting(flow);
                } else {
                    // An accept without a key that opens: the neighbour is not able to serve.
                    self.abandon(flow, link, RefuseReason::Other);
                }
            }
            Upstream::Flowing {
                challenger: Some(challenger),
                ..
            } => {
                if let Challenger::Asking { link: asked, .. } = *challenger
                    && asked == link
                {
                    *challenger = Challenger::Accepted {
                        link,
                        until: self.now + ANSWER_WAIT,
                    };
                    self.command(flow, FlowCommand::Compare(link));
                }
            }
            _ => {}
        }
    }

    /// Takes the key from the neighbour that was asked for it, and from nobody else; `false` if it is not the key that
    /// the origin commits to. A false key would make every genuine packet false, here and at whoever it is handed on
    /// to, long after its giver is gone.
    // spec: WIRE 3.2 a carry key that does not lead to the carry end MUST NOT be used
    fn take_carry_key(&mut self, flow: FlowId, link: LinkIndex, grant: &CarryGrant) -> bool {
        let Some(carried) = self.carried.get_mut(flow) else {
            return true;
        };
        let asked =
            matches!(carried.upstream, Upstream::Asking { link: asked, .. } if asked == link);
        if !asked || carried.key.is_some() {
            return true;
        }
        let context = carry_context(flow, grant.epoch);
        let Some(opened) = self.identity.open_secret::<16>(&grant.sealed, &context) else {
            return true;
        };
        let key = CarryKey::from_bytes(*opened);
        if !carried.is_true_key(grant.epoch, &key) {
            return false;
        }
        carried.key = Some((grant.epoch, key.clone()));
        self.command(
            flow,
            FlowCommand::SetCarryKey {
                epoch: grant.epoch,
                key,
            },
        );
        true
    }

    pub(super) fn on_refuse(&mut self, link: LinkIndex, refuse: &Refuse) {
        self.abandon(refuse.flow, link, refuse.reason);
    }

    /// The flow will not come over this link, at least for now.
    pub(super) fn abandon(&mut self, flow: FlowId, link: LinkIndex, reason: RefuseReason) {
        let later = self.now + jittered(REQUEST_PAUSE, &mut self.rng);
        let now = self.now;
        self.avoid(flow, link, reason);
        let way = self.carried.get(flow).and_then(|carried| self.way(carried));
        let Some(carried) = self.carried.get_mut(flow) else {
            return;
        };
        let has_other = carried.avoided.contains_key(&link) && way.is_some_and(|way| way != link);
        let idle = Upstream::Idle {
            retry_at: Some(if has_other { now } else { later }),
            cause: Some(reason),
        };
        if carried
            .second
            .take_if(|second| second.link() == link)
            .is_some()
            || carried.upstream.link() == Some(link) && carried.promote_second(now)
        {
            self.command(flow, FlowCommand::RemoveUpstream(link));
            return;
        }
        match &mut carried.upstream {
            Upstream::Asking { link: asked, .. } if *asked == link => carried.upstream = idle,
            Upstream::Flowing {
                link: from,
                challenger,
                ..
            } if *from == link => {
                carried.upstream = match challenger.take() {
                    Some(Challenger::Accepted { link, .. }) => Upstream::Flowing {
                        link,
                        reassert_at: now,
                        challenger: None,
                    },
                    Some(Challenger::Asking { link, until }) => Upstream::Asking { link, until },
                    Some(Challenger::Refused { .. }) | None => idle,
                };
            }
            Upstream::Flowing {
                challenger: Some(challenger),
                ..
            } if challenger.link() == link => {
                *challenger = Challenger::Refused { link, until: later };
            }
            _ => return,
        }
        self.command(flow, FlowCommand::RemoveUpstream(link));
    }

    /// Asks a neighbour for a flow: at once if it never came, else when the datapath has said how far it has.
    pub(super) fn ask(&mut self, flow: FlowId, link: LinkIndex) {
        let is_wanted_here = self.wanted.contains_key(&flow);
        let Some(carried) = self.carried.get_mut(flow) else {
            return;
        };
        let has_come = carried.has_come;
        let beginning = carried.beginning().filter(|_| !is_wanted_here);
        if has_come {
            carried.unsaid.insert(link);
        }
        self.command(flow, FlowCommand::AddUpstream(link));
        if has_come {
            return self.command(flow, FlowCommand::Reach(link));
        }
        if let Some(beginning) = beginning {
            self.command(flow, FlowCommand::Begin(beginning));
        }
        self.request(flow, link, beginning);
    }

    /// The datapath says how far a flow has come that a neighbour is to be asked for.
    pub(super) fn on_reached(&mut self, flow: FlowId, link: LinkIndex, have: Option<Number>) {
        let Some(carried) = self.carried.get_mut(flow) else {
            return;
        };
        if carried.unsaid.remove(&link) && carried.asked().any(|asked| asked == link) {
            self.request(flow, link, have);
        }
    }

    /// Says a request again: it lives on, or its budget is another.
    pub(super) fn reassert(&mut self, flow: FlowId, link: LinkIndex) {
        let carried = self.carried.get(flow);
        if carried.is_some_and(|carried| !carried.unsaid.contains(&link)) {
            self.request(flow, link, None);
        }
    }

    fn request(&mut self, flow: FlowId, link: LinkIndex, have: Option<Number>) {
        let Some(carried) = self.carried.get(flow) else {
            return;
        };
        let request = Request {
            flow,
            needs_key: carried.key.is_none(),
            budget: carried.budget,
            have,
        };
        self.send(link, FlowMessage::Request(request));
    }

    /// Tells a neighbour that the flow is not wanted from it any more.
    pub(super) fn cancel(&mut self, flow: FlowId, link: LinkIndex) {
        self.command(flow, FlowCommand::RemoveUpstream(link));
        self.send(link, FlowMessage::Cancel(Cancel { flow }));
    }

    /// A neighbour that was asked delivers, or does so again.
    pub(super) fn on_delivering(&mut self, flow: FlowId, link: LinkIndex) {
        let Some(carried) = self.carried.get_mut(flow) else {
            return;
        };
        carried.has_come = true;
        if carried.asked().any(|asked| asked == link) {
            carried.delivering.insert(link);
            carried
                .avoided
                .retain(|by, (why, _)| *by != link || *why != RefuseReason::Timeout);
            if carried.is_stalled() {
                self.subscriptions.touch_flow(flow);
            }
        }
    }

    /// Nothing comes from a neighbour for far longer than the flow pauses: meanwhile another is asked besides, if there
    /// is one that cannot make a loop. When something comes again that one is let go.
    pub(super) fn on_suspect(&mut self, flow: FlowId, link: LinkIndex) {
        let Some(carried) = self.carried.get(flow) else {
            return;
        };
        let comes =
            matches!(carried.upstream, Upstream::Flowing { link: from, .. } if from == link);
        let comes = comes || carried.second.is_some_and(|second| second.link() == link);
        if comes && carried.ending_at.is_none() {
            self.avoid(flow, link, RefuseReason::Timeout);
        }
    }

    /// The challenger has delivered all that was here when it accepted: the old upstream is let go.
    pub(super) fn on_caught_up(&mut self, flow: FlowId, link: LinkIndex) {
        self.on_delivering(flow, link);
        let reassert_at = self.now + jittered(REQUEST_AGAIN, &mut self.rng);
        let Some(carried) = self.carried.get_mut(flow) else {
            return;
        };
        let Upstream::Flowing {
            link: old,
            challenger: Some(challenger),
            ..
        } = &carried.upstream
        else {
            return;
        };
        let proven = matches!(
            challenger,
            Challenger::Asking { .. } | Challenger::Accepted { .. }
        );
        if challenger.link() != link || !proven {
            return;
        }
        let old = *old;
        carried.upstream = Upstream::Flowing {
            link,
            reassert_at,
            challenger: None,
        };
        if carried.children.contains_key(&link) {
            // Who was fed before has another way now, and its packets overtook its cancel.
            self.remove_child(flow, link);
            self.refuse(flow, link, RefuseReason::Loop);
        }
        if !self.keeps_as_second(flow, old) {
            self.cancel(flow, old);
        }
    }

    /// While this node did not run, its children may have said their requests again: none runs out for that.
    pub(super) fn forgive_own_absence(&mut self, now: Instant) {
        let Some(due) = self.poll_timeout() else {
            return;
        };
        let late = now.since(due.at);
        if late <= OWN_LATENESS {
            return;
        }
        for carried in self
            .carried
            .matching(|carried| !carried.children.is_empty())
        {
            for child in carried.children.values_mut() {
                child.expires = (child.expires + late).max(now + 2 * REQUEST_AGAIN);
            }
        }
    }

    /// Answers and forgets what is over. Who is forgotten is told: should it still be there, it asks anew at once.
    pub(super) fn expire_children(&mut self, flow: FlowId) {
        let Some(carried) = self.carried.get(flow) else {
            return;
        };
        let late = late_reason(carried);
        let over = carried
            .children
            .iter()
            .filter_map(|(link, child)| match child.state {
                ChildState::Waiting { until, .. } if until <= self.now => {
                    Some((*link, self.obstacle(*link, carried).unwrap_or(late)))
                }
                ChildState::Granted if carried.dry_until.is_some_and(|at| at <= self.now) => {
                    Some((*link, late))
                }
                _ if carried.expiry_of(child).is_some_and(|at| at <= self.now) => {
                    Some((*link, RefuseReason::Timeout))
                }
                _ => None,
            });
        for (link, reason) in over.collect::<Vec<_>>() {
            self.remove_child(flow, link);
            self.refuse(flow, link, reason);
        }
    }
}

/// Why a child was not served in time.
fn late_reason(carried: &Carried) -> RefuseReason {
    match carried.upstream {
        Upstream::Idle {
            cause: Some(cause), ..
        } => cause,
        Upstream::Idle { cause: None, .. } => RefuseReason::NoRoute,
        _ => RefuseReason::Timeout,
    }
}
