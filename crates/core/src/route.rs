//! Routes: per origin node, which neighbour leads there, without ever making a loop.
//!
//! Babel's mechanism (RFC 8966) with one source per destination. Each node tells each neighbour how far an
//! origin is; whoever believes it adds the cost of the link. Loops cannot form because of one rule, the
//! *feasibility condition*: use a neighbour only if the distance it tells is smaller than any this node ever told
//! (or comes with a newer sequence number, which only the origin can raise). So along every selected path the
//! least distance ever told falls strictly, and a path cannot come back to where it was.
//!
//! ```text
//!   told to me:  A: 40   B: 70   C: 90      I have told: 43 at best
//!   feasible:    A (40 < 43)                selected: A, distance 40 + cost
//!   A dies:      none: B and C may pass through me. Ask for a newer sequence; the origin raises it; all are free
//! ```
//!
//! Each neighbour is told the best route that does not pass through that neighbour; a route that carries flows
//! already has no bonus. A node that does not relay tells of no way but to itself. Hop lists (at most 32) catch what
//! distances cannot say, and give disjoint backups.
//!
//! Not flows (`flow`), which only ask which link leads to an origin. Called by `Control`. Invariant: what is
//! told never makes the selected route infeasible.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use levada_wire::control::RouteMessage;
use levada_wire::control::route::{HOPS_MAX, Hops, Sequence, SequenceRequest, Update};
use levada_wire::machine::{Machine, Wakeup};
use levada_wire::{Distance, Instant, LinkIndex, NodeId};

use crate::credit::{Blocked, Bucket, Credit};
use crate::limits::{
    LINK_COST, LINK_COST_NEAR, LINK_COST_STANDBY, NEWS_PER_CALL_MAX, ORIGINS_MAX,
    ORIGINS_PER_ADDRESS_MAX, ORIGINS_PER_CALL_MAX, PART_PAUSE, SEQUENCE_INTERVAL, SEQUENCE_RETRY,
    UPDATES_BURST, UPDATES_PER_SECOND, UPDATES_UNDER_WAY_MAX,
};
use crate::subnet::{Shares, Subnet};
use crate::view::{RouteRow, Seconds};
use crate::wakeups::Wakeups;

mod origin_routes;
#[cfg(test)]
mod tests;

pub use origin_routes::{Alternative, Route};

use origin_routes::{Advertised, OriginRoutes};

/// What may happen to the routes.
#[derive(Clone, Debug)]
pub enum Input {
    /// The link that comes up next was opened by a stranger.
    Stranger {
        /// This node's number for the link.
        link: LinkIndex,
        /// Where it comes from.
        subnet: Subnet,
    },
    /// A link is up.
    LinkUp {
        /// This node's number for the link.
        link: LinkIndex,
        /// The peer's node id.
        peer: NodeId,
    },
    /// A link went down.
    LinkDown {
        /// This node's number for the link.
        link: LinkIndex,
    },
    /// A neighbour speaks.
    Message {
        /// Over which link.
        link: LinkIndex,
        /// Of the concern of routes.
        message: RouteMessage,
    },
    /// Whether this node is an origin: it tells of itself then.
    Originate(bool),
    /// What a neighbour was told before a mark was written.
    Written {
        /// This node's number for the link.
        link: LinkIndex,
    },
    /// Links to that node cost more or less than others from now on.
    Weigh(NodeId, Weight),
}

/// What a link costs, beside others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weight {
    /// As much as any.
    #[default]
    Usual,
    /// Half as much: the way from a deputy to its hub. So the deputy is nearer to all that is behind the hub than the
    /// other members are, and is a feasible way for them.
    Near,
    /// Twice as much, and the neighbour is told of no way: a deputy's own link out of the site, which is there for the
    /// day on which the hub is not.
    Standby,
}

impl Weight {
    /// The cost of such a link.
    const fn cost(self) -> Distance {
        match self {
            Self::Usual => LINK_COST,
            Self::Near => LINK_COST_NEAR,
            Self::Standby => LINK_COST_STANDBY,
        }
    }
}

/// What the routes want done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Speak to a neighbour.
    Send {
        /// Over which link.
        link: LinkIndex,
        /// Of the concern of routes.
        message: RouteMessage,
    },
    /// Say [`Input::Written`] when what was sent before this was written.
    Mark {
        /// This node's number for the link.
        link: LinkIndex,
    },
    /// The selected route to an origin changed.
    Changed {
        /// The origin's node id.
        origin: NodeId,
        /// The route; none when there is no way.
        route: Option<Route>,
    },
    /// The neighbours besides the selected one that tell of a way changed.
    Alternatives {
        /// To which origin.
        origin: NodeId,
        /// Those neighbours, the nearest first.
        alternatives: Vec<Alternative>,
    },
}

/// All routes of this node.
#[derive(Debug)]
pub struct Routes {
    me: NodeId,
    /// Whether this node forwards for others: who does not tells of no way but to itself.
    relay: bool,
    now: Instant,
    neighbours: BTreeMap<LinkIndex, NodeId>,
    /// The neighbours whose links do not cost what others do.
    weights: BTreeMap<NodeId, Weight>,
    origins: BTreeMap<NodeId, OriginRoutes>,
    /// The links that strangers opened.
    strangers: BTreeMap<LinkIndex, Subnet>,
    /// Who brought which origin.
    shares: Shares<NodeId>,
    own: Own,
    /// When each origin is to be looked at.
    wakeups: Wakeups<NodeId>,
    /// What may be news to whom; looked at once at the end of each call.
    untold: BTreeMap<NodeId, Untold>,
    /// When the rest of it is looked at.
    tell_at: Option<Instant>,
    /// The links that are lost, each with the first of the origins that it is still to be forgotten for.
    lost: VecDeque<(LinkIndex, NodeId)>,
    /// When more of that is done.
    forget_at: Option<Instant>,
    /// How much each neighbour may be told.
    credits: BTreeMap<LinkIndex, Credit>,
    /// What may be news to those who may be told nothing now.
    waiting: BTreeMap<LinkIndex, BTreeSet<NodeId>>,
    /// Those of them who may be told more by then.
    ready_at: BTreeMap<LinkIndex, Instant>,
    outputs: VecDeque<Output>,
}

/// To whom a route may be news.
#[derive(Debug)]
enum Untold {
    /// To the neighbours from this link on.
    From(LinkIndex),
    /// To these.
    To(BTreeSet<LinkIndex>),
}

/// What this node tells of itself. The sequence is kept over a pause of being an origin, so that it never falls.
#[derive(Debug, Default)]
struct Own {
    sequence: Sequence,
    /// When to raise the sequence; none while this node is no origin.
    raise_at: Option<Instant>,
    /// Until when it is not raised again on request.
    raised_until: Option<Instant>,
}

impl Machine for Routes {
    type Input = Input;
    type Output = Output;

    fn handle_input(&mut self, now: Instant, input: Input) {
        self.handle_timeout(now);
        match input {
            Input::Stranger { link, subnet } => {
                self.strangers.insert(link, subnet);
            }
            Input::LinkUp { link, peer } => self.on_link_up(link, peer),
            Input::LinkDown { link } => self.on_link_down(link),
            Input::Message { link, message } => match message {
                _ if !self.neighbours.contains_key(&link) => {}
                RouteMessage::Update(update) => self.on_update(link, update),
                RouteMessage::SequenceRequest(request) => {
                    self.on_sequence_request(link, &request);
                }
            },
            Input::Originate(offers) => self.on_originate(offers),
            Input::Written { link } => {
                if let Some(credit) = self.credits.get_mut(&link) {
                    credit.on_written();
                    self.wait_no_more(link);
                }
            }
            Input::Weigh(peer, weight) => self.on_weight(peer, weight),
        }
        self.tell_news();
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        if self.own.raise_at.is_some_and(|at| at <= self.now) {
            self.raise_own_sequence();
        }
        for id in self.wakeups.due(self.now) {
            self.on_origin_timeout(id);
        }
        if self.forget_at.is_some_and(|at| at <= self.now) {
            self.forget_lost();
        }
        let ready = self.ready_at.iter().filter(|(_, at)| **at <= self.now);
        for link in ready.map(|(link, _)| *link).collect::<Vec<_>>() {
            self.wait_no_more(link);
        }
        if self.tell_at.is_none_or(|at| at <= self.now) {
            self.tell_news();
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Wakeup> {
        let own = self.own.raise_at.map(|at| Wakeup {
            at,
            why: "raise sequence",
        });
        let news = self.tell_at.map(|at| Wakeup {
            at,
            why: "tell the rest",
        });
        let lost = self.forget_at.map(|at| Wakeup {
            at,
            why: "forget a lost link",
        });
        let news = Wakeup::earlier(news, lost);
        let ready = self.ready_at.values().min().map(|at| Wakeup {
            at: *at,
            why: "tell who was told much",
        });
        let own = Wakeup::earlier(Wakeup::earlier(own, news), ready);
        Wakeup::earlier(own, self.wakeups.first())
    }
}

impl Routes {
    /// The routes of node `me`: none yet.
    ///
    /// A restarted origin begins at sequence one again. Whoever remembers more finds that infeasible and asks
    /// for a newer one, which costs one round trip.
    #[must_use]
    pub fn new(me: NodeId, relay: bool) -> Self {
        Self {
            me,
            relay,
            now: Instant::ZERO,
            neighbours: BTreeMap::new(),
            weights: BTreeMap::new(),
            origins: BTreeMap::new(),
            strangers: BTreeMap::new(),
            shares: Shares::new(ORIGINS_PER_ADDRESS_MAX),
            own: Own::default(),
            wakeups: Wakeups::default(),
            untold: BTreeMap::new(),
            tell_at: None,
            lost: VecDeque::new(),
            forget_at: None,
            credits: BTreeMap::new(),
            waiting: BTreeMap::new(),
            ready_at: BTreeMap::new(),
            outputs: VecDeque::new(),
        }
    }

    /// The selected route to an origin.
    #[must_use]
    pub fn route(&self, origin: &NodeId) -> Option<Route> {
        self.origins.get(origin)?.route()
    }

    /// The rows of the origins behind `after`, by their ids; this node's own is the first of all, if it offers
    /// anything.
    pub fn rows(&self, after: Option<NodeId>) -> impl Iterator<Item = RouteRow> {
        let own = self.own.raise_at.filter(|_| after.is_none());
        let own = own.map(|_| RouteRow {
            origin: self.me,
            distance_seconds: Seconds::of(Distance::ZERO),
            link: None,
            feasible_backups: 0,
        });
        let from = after.filter(|id| *id != self.me);
        let from = from.map_or(Bound::Unbounded, Bound::Excluded);
        let others = self.origins.range((from, Bound::Unbounded));
        own.into_iter().chain(others.map(|(id, origin)| {
            let route = origin.route();
            let distance = route.as_ref().map(|route| route.distance);
            RouteRow {
                origin: *id,
                distance_seconds: distance.and_then(Seconds::of),
                link: route.map(|route| route.link),
                feasible_backups: origin.feasible_backups(),
            }
        }))
    }

    fn on_link_up(&mut self, link: LinkIndex, peer: NodeId) {
        self.neighbours.insert(link, peer);
        let bucket = Bucket::new(UPDATES_BURST, UPDATES_PER_SECOND);
        let credit = Credit::new(UPDATES_UNDER_WAY_MAX, bucket);
        self.credits.insert(link, credit);
        self.tell_all(link);
    }

    /// Tells a neighbour all there is.
    fn tell_all(&mut self, link: LinkIndex) {
        self.tell_of_self(link);
        let known: Vec<NodeId> = self.origins.keys().copied().collect();
        for origin in known {
            self.tell(origin, link);
        }
    }

    fn weight(&self, link: LinkIndex) -> Weight {
        let peer = self.neighbours.get(&link);
        let weight = peer.and_then(|peer| self.weights.get(peer));
        weight.copied().unwrap_or_default()
    }

    fn on_weight(&mut self, peer: NodeId, weight: Weight) {
        let before = match weight {
            Weight::Usual => self.weights.remove(&peer),
            weight => self.weights.insert(peer, weight),
        };
        if before.unwrap_or_default() == weight {
            return;
        }
        let links = self.neighbours.iter().filter(|(_, to)| **to == peer);
        let links: Vec<LinkIndex> = links.map(|(link, _)| *link).collect();
        for link in links {
            let known: Vec<NodeId> = self.origins.keys().copied().collect();
            for id in known {
                if let Some(origin) = self.origins.get_mut(&id)
                    && origin.weigh(link, weight.cost())
                {
                    self.reselect(id);
                }
            }
            if before == Some(Weight::Standby) {
                self.tell_all(link);
            }
        }
    }

    fn on_link_down(&mut self, link: LinkIndex) {
        self.neighbours.remove(&link);
        self.credits.remove(&link);
        self.strangers.remove(&link);
        self.waiting.remove(&link);
        self.ready_at.remove(&link);
        self.lost.push_back((link, NodeId([0; 32])));
        if self.forget_at.is_none() {
            self.forget_lost();
        }
    }

    /// Forgets what was told over lost links, of as many origins as one call may. What of it is left is as if it were
    /// noticed a moment later, but nothing is said over such a link.
    fn forget_lost(&mut self) {
        let mut left = ORIGINS_PER_CALL_MAX;
        while let Some((link, from)) = self.lost.pop_front() {
            let mut origins = self.origins.range(from..).map(|(id, _)| *id);
            let part: Vec<NodeId> = origins.by_ref().take(left).collect();
            if let Some(next) = origins.next() {
                self.lost.push_front((link, next));
            }
            left -= part.len();
            for id in part {
                let origin = self.origins.get_mut(&id);
                if origin.is_some_and(|origin| origin.forget_link(link)) {
                    self.reselect(id);
                }
            }
            if left == 0 {
                break;
            }
        }
        self.forget_at = (!self.lost.is_empty()).then(|| self.now + PART_PAUSE);
    }

    fn on_update(&mut self, link: LinkIndex, update: Update) {
        let Update {
            origin: id,
            sequence,
            distance,
            hops,
        } = update;
        if id == self.me {
            self.on_echo(sequence);
            return;
        }
        // A route that passes here is no route. One without its teller at the end was not made by this protocol.
        let teller = self.neighbours.get(&link).map(NodeId::prefix);
        let usable = distance.is_finite()
            && !hops.contains(self.me.prefix())
            && hops.as_slice().last().copied() == teller;
        if !self.origins.contains_key(&id) {
            let subnet = self.strangers.get(&link).copied();
            if !usable || self.origins.len() >= ORIGINS_MAX || self.shares.is_full(subnet) {
                return;
            }
            self.shares.add(id, subnet);
            self.origins.insert(id, OriginRoutes::default());
        }
        let cost = self.weight(link).cost();
        let Some(origin) = self.origins.get_mut(&id) else {
            return;
        };
        if usable {
            let distance_here = distance.plus(cost);
            origin.on_advertised(
                link,
                Advertised {
                    sequence,
                    told: distance,
                    distance: distance_here,
                    hops,
                },
            );
        } else {
            origin.forget_news(link);
        }
        self.reselect(id);
    }

    /// News of this node itself: only a sequence ahead of its own matters, from a life it does not remember.
    fn on_echo(&mut self, sequence: Sequence) {
        if self.own.raise_at.is_some() && sequence.is_newer_than(self.own.sequence) {
            self.own.sequence = sequence;
            self.raise_own_sequence();
        }
    }

    fn on_originate(&mut self, offers: bool) {
        match (offers, self.own.raise_at) {
            (true, None) => self.raise_own_sequence(),
            (false, Some(_)) => {
                self.own.raise_at = None;
                self.tell_all_of_self();
            }
            _ => {}
        }
    }

    fn raise_own_sequence(&mut self) {
        self.own.sequence = self.own.sequence.next();
        self.own.raise_at = Some(self.now + SEQUENCE_INTERVAL);
        self.tell_all_of_self();
    }

    fn tell_all_of_self(&mut self) {
        let links: Vec<LinkIndex> = self.neighbours.keys().copied().collect();
        for link in links {
            self.tell_of_self(link);
        }
    }

    fn tell_of_self(&mut self, link: LinkIndex) {
        if self.weight(link) == Weight::Standby {
            return;
        }
        let offers = self.own.raise_at.is_some();
        let never_did = self.own.sequence == Sequence::default();
        if !offers && never_did {
            return;
        }
        let update = Update {
            origin: self.me,
            sequence: self.own.sequence,
            distance: if offers {
                Distance::ZERO
            } else {
                Distance::INFINITE
            },
            hops: Hops::origin(self.me.prefix()),
        };
        self.outputs.push_back(Output::Send {
            link,
            message: RouteMessage::Update(update),
        });
    }

    fn on_sequence_request(&mut self, link: LinkIndex, request: &SequenceRequest) {
        if request.origin == self.me {
            self.on_sequence_wanted(request.sequence);
            return;
        }
        if !self.relay {
            return;
        }
        let Some(origin) = self.origins.get_mut(&request.origin) else {
            return;
        };
        let newer_here = origin
            .route()
            .is_some_and(|_| !request.sequence.is_newer_than(origin.selected_sequence()));
        if newer_here {
            origin.untell(link);
            self.tell(request.origin, link);
            return;
        }
        let hops_left = request
            .hops_left
            .min(u8::try_from(HOPS_MAX).unwrap_or(u8::MAX));
        if hops_left == 0 || !origin.may_pass_on(self.now) {
            return;
        }
        let asker = self.neighbours.get(&link).map(NodeId::prefix);
        let next = origin.way_around(asker);
        let Some(next) = next.filter(|link| self.neighbours.contains_key(link)) else {
            return;
        };
        let message = RouteMessage::SequenceRequest(SequenceRequest {
            hops_left: hops_left - 1,
            ..request.clone()
        });
        self.outputs.push_back(Output::Send {
            link: next,
            message,
        });
    }

    /// Raises the own sequence for whoever needs a newer one; not more often than one asker asks.
    fn on_sequence_wanted(&mut self, sequence: Sequence) {
        let wanted = self.own.raise_at.is_some() && sequence.is_newer_than(self.own.sequence);
        if !wanted || self.own.raised_until.is_some_and(|until| until > self.now) {
            return;
        }
        self.own.sequence = sequence;
        self.own.raise_at = Some(self.now + SEQUENCE_INTERVAL);
        self.own.raised_until = Some(self.now + SEQUENCE_RETRY);
        self.tell_all_of_self();
    }

    fn on_origin_timeout(&mut self, id: NodeId) {
        let Some(origin) = self.origins.get_mut(&id) else {
            return;
        };
        if origin.is_forgotten(self.now) {
            // Nobody tells of it, so no other way was reported either.
            self.origins.remove(&id);
            self.shares.remove(&id);
            self.wakeups.note(id, None);
            return;
        }
        let starved = origin.starve(self.now);
        self.wakeups.note(id, origin.wakeup());
        if let Some((links, sequence)) = starved {
            let is_there = |link: &LinkIndex| self.neighbours.contains_key(link);
            for link in links.into_iter().filter(is_there) {
                let hops_left = u8::try_from(HOPS_MAX).unwrap_or(u8::MAX);
                let message = RouteMessage::SequenceRequest(SequenceRequest {
                    origin: id,
                    sequence,
                    hops_left,
                });
                self.outputs.push_back(Output::Send { link, message });
            }
        }
    }

    /// Selects again, and tells whoever must know.
    fn reselect(&mut self, id: NodeId) {
        let Some(origin) = self.origins.get_mut(&id) else {
            return;
        };
        origin.select(self.now);
        // Before the selected one: who follows that may stay with what is now another way.
        self.report_others(id);
        let Some(origin) = self.origins.get_mut(&id) else {
            return;
        };
        if let Some(route) = origin.unreported() {
            let passes_here = |route: &Route| route.hops.contains(self.me.prefix());
            assert!(
                !route.as_ref().is_some_and(passes_here),
                "a route that passes here was never taken"
            );
            self.outputs
                .push_back(Output::Changed { origin: id, route });
        }
        if self.relay {
            self.untold.insert(id, Untold::From(LinkIndex(0)));
        }
        // What was told may have changed what is feasible; starvation is asked about at once.
        self.on_origin_timeout(id);
    }

    /// Says which other neighbours tell of a way, if that changed: also what was told to one may change it.
    fn report_others(&mut self, id: NodeId) {
        let alternatives = self
            .origins
            .get_mut(&id)
            .and_then(OriginRoutes::unreported_alternatives);
        if let Some(alternatives) = alternatives {
            self.outputs.push_back(Output::Alternatives {
                origin: id,
                alternatives,
            });
        }
    }

    /// Looks at what may be news to whom, as far as one call goes: in a large network one lost link changes every
    /// route to every neighbour.
    fn tell_news(&mut self) {
        let mut left = NEWS_PER_CALL_MAX;
        while left > 0
            && let Some((id, untold)) = self.untold.pop_first()
        {
            let links: Vec<LinkIndex> = match &untold {
                Untold::From(link) => self.links_from(*link).take(left).collect(),
                Untold::To(links) => links.iter().copied().take(left).collect(),
            };
            for link in &links {
                self.look_at(id, *link);
            }
            left -= links.len();
            let last = links.last().copied();
            let rest = match untold {
                Untold::From(_) => last
                    .and_then(|last| self.links_from(LinkIndex(last.0.saturating_add(1))).next())
                    .map(Untold::From),
                Untold::To(mut links) => {
                    let rest = last.map(|last| links.split_off(&last));
                    let rest = rest.map(|mut rest| {
                        rest.pop_first();
                        rest
                    });
                    rest.filter(|rest| !rest.is_empty()).map(Untold::To)
                }
            };
            if let Some(rest) = rest {
                self.untold.insert(id, rest);
            }
        }
        self.tell_at = (!self.untold.is_empty()).then(|| self.now + PART_PAUSE);
    }

    fn links_from(&self, link: LinkIndex) -> impl Iterator<Item = LinkIndex> {
        self.neighbours.range(link..).map(|(link, _)| *link)
    }

    /// Tells a neighbour what is news of an origin, now or when it may be told.
    fn look_at(&mut self, id: NodeId, link: LinkIndex) {
        if self.may_tell(link) {
            self.tell_now(id, link);
        } else if self.neighbours.contains_key(&link) {
            self.waiting.entry(link).or_default().insert(id);
        }
    }

    /// Whether a neighbour may be told something now; if not, it is looked at again when it may.
    fn may_tell(&mut self, link: LinkIndex) -> bool {
        let Some(credit) = self.credits.get_mut(&link) else {
            return false;
        };
        match credit.check(self.now) {
            Ok(()) => return true,
            Err(Blocked::Unwritten { mark: true }) => self.outputs.push_back(Output::Mark { link }),
            Err(Blocked::Unwritten { mark: false }) => {}
            Err(Blocked::Until(at)) => {
                self.ready_at.insert(link, at);
            }
        }
        false
    }

    /// A neighbour may be told more: what waited for that is looked at.
    fn wait_no_more(&mut self, link: LinkIndex) {
        self.ready_at.remove(&link);
        for id in self.waiting.remove(&link).into_iter().flatten() {
            self.tell(id, link);
        }
    }

    fn tell(&mut self, id: NodeId, link: LinkIndex) {
        if !self.relay {
            return;
        }
        let untold = self.untold.entry(id);
        match untold.or_insert_with(|| Untold::To(BTreeSet::new())) {
            Untold::To(links) => {
                links.insert(link);
            }
            Untold::From(first) if link < *first => {
                // It was passed already: all are looked at again.
                *first = link;
            }
            Untold::From(_) => {}
        }
    }

    /// Tells one neighbour the best route that does not pass through it, if that is news.
    fn tell_now(&mut self, id: NodeId, link: LinkIndex) {
        let Some(peer) = self.neighbours.get(&link) else {
            return;
        };
        if *peer == id || self.weight(link) == Weight::Standby {
            return;
        }
        let Some(origin) = self.origins.get_mut(&id) else {
            return;
        };
        let before = origin.feasibility();
        let Some(news) = origin.news_for(link, peer.prefix(), self.me.prefix()) else {
            return;
        };
        let is_stricter = origin.feasibility() != before;
        let update = Update {
            origin: id,
            sequence: news.sequence,
            distance: news.distance,
            hops: news.hops,
        };
        self.outputs.push_back(Output::Send {
            link,
            message: RouteMessage::Update(update),
        });
        if let Some(credit) = self.credits.get_mut(&link) {
            credit.spend(self.now, 1, 1);
        }
        // Not for each neighbour that is told the same: all ways are looked at and put in order.
        if is_stricter {
            self.report_others(id);
        }
    }
}
