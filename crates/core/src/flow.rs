//! Flows: who offers what, who wants it, which link it comes from and which links it goes to.
//!
//! | part | keeps |
//! |---|---|
//! | [`catalogue`] | announces and withdraws, spread epidemically |
//! | [`carried`] | the flows that this node requests, forwards or originates |
//! | `published` | streams of which this node is the origin |
//! | `keyring` | content secrets that are here or asked for |
//! | `breaker` | when a congested link is cut, and for how long |
//! | `peak` | what is declared of a flow that is measured |
//! | [`subscriptions`] | local subscriptions by name |
//! | `steady` | ways that vanished lately |
//! | `listener` | how far a neighbour was told of the catalogue |
//! | `intake` | what is taken from strangers at most |
//! | `watched` | which streams are to be shown again |
//!
//! What `Flows` does with them is in eleven files: `offers` (what this node publishes, announces and withdraws),
//! `requests` (what neighbours ask of each other for a flow), [`keys`] (how content secrets travel), `admission` (for
//! which flows there is room), `eligible` (which link may carry which flow), `congestion` (what is cut on a congested
//! link), `settle` (which flow is asked of whom), `second` (of whom besides, for who wants two ways), `telling` (what
//! neighbours are told of streams), `greed` (what follows where somebody wants too much), `rows` (what is shown of it).
//! The parts know nothing of `Flows`.
//!
//! **Who decides to request a flow:** `Flows::settle`. It looks at what is wanted (children, subscriptions) and at
//! where the route leads, and makes upstream requests follow. Everything else only changes what it looks at.
//!
//! ```text
//!  HOLD ─────wanted──────▶ Asking ──Accept──▶ Flowing ──route moves──▶ Flowing + challenger ─▶ Flowing
//!                            │  Refuse, 3 s                               (old kept until the new delivers)
//!                            ▼
//!                          Idle { retry_at }
//! ```
//!
//! Requests are soft state: the child says each again every few seconds, the parent forgets what is not said
//! again, and every request is accepted or refused within a deadline. Not routes (`route`) and not packets (the
//! lanes, told by [`FlowCommand`]). Called by `Control`. Invariant: a link is an egress of a flow only while its
//! peer keeps asking, and a flow nobody wants is asked of nobody.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use levada_wire::control::flow::{InstanceRef, RefuseReason};
use levada_wire::control::{FlowMessage, Message};
use levada_wire::lane::{FlowCommand, FlowEvent};
use levada_wire::machine::{Machine, Wakeup};
use levada_wire::{Bitrate, FlowId, Identity, Instant, LinkIndex, NodeId, Number, PacketSize};
use rand_chacha::ChaCha20Rng;

use crate::api::{self, Event, FlowInput, Settings};
use crate::chance;
use crate::channels::Shape;
use crate::link::{Path, PathSize};
use crate::route::{Alternative, Route};
use crate::subnet::Subnet;

mod admission;
mod breaker;
pub mod carried;
pub mod catalogue;
mod congestion;
mod eligible;
mod greed;
mod intake;
mod keyring;
pub mod keys;
mod listener;
mod offers;
mod peak;
mod published;
mod requests;
mod rows;
mod second;
mod settle;
mod steady;
pub mod subscriptions;
mod table;
mod telling;
#[cfg(test)]
mod tests;
mod watched;

use breaker::Breaker;
use carried::Carried;
use catalogue::Catalogue;
use intake::Intake;
use keyring::Keys;
use listener::Listener;
use published::Published;
use steady::Vanished;
use subscriptions::{Subscriptions, Wanted};
use table::Table;
use watched::Watched;

/// What may happen to the flows.
#[derive(Clone, Debug)]
pub enum Input {
    /// The link that comes up next was opened by a stranger.
    Stranger {
        /// This node's number for the link.
        link: LinkIndex,
        /// Where it comes from.
        subnet: Subnet,
    },
    /// Something outside the core.
    Outside(FlowInput),
    /// A lane tells of a flow.
    Lane(FlowId, FlowEvent),
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
        /// Of the concern of flows.
        message: FlowMessage,
    },
    /// The selected route to an origin changed.
    Route {
        /// The origin's node id.
        origin: NodeId,
        /// The route; none when there is no way.
        route: Option<Route>,
    },
    /// What was found out about the path of a link.
    Path(LinkIndex, Path),
    /// Neighbours besides the selected one that tell of a way to an origin, the nearest first.
    Alternatives {
        /// The origin's node id.
        origin: NodeId,
        /// The neighbours.
        alternatives: Vec<Alternative>,
    },
    /// What a neighbour was told before a mark was written.
    Written {
        /// This node's number for the link.
        link: LinkIndex,
    },
    /// A child gets a flow by a channel and needs no copy of its own, or needs one again.
    ByChannel {
        /// The flow.
        flow: FlowId,
        /// The link to the child.
        link: LinkIndex,
        /// Whether it gets it by a channel.
        is_so: bool,
        /// What it has, if it needs a copy of its own again.
        have: Option<Number>,
    },
    /// This node leaves.
    Leave,
}

/// What the flows want done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Something outside the core.
    Outside(api::Output),
    /// Whether a link carries flows changed.
    Active {
        /// This node's number for the link.
        link: LinkIndex,
        /// Whether.
        active: bool,
    },
    /// Whether this node offers streams changed.
    Originate(bool),
    /// The packet sizes that known streams have changed.
    Sizes(BTreeSet<PacketSize>),
    /// Where a flow comes from and goes to changed.
    Shape(Shape),
    /// Whether this node's own subscriptions want something of that origin changed.
    Wants(NodeId, bool),
}

/// All flows of this node.
#[derive(Debug)]
pub struct Flows {
    identity: Identity,
    me: NodeId,
    relay: bool,
    /// What children are promised at most.
    uplink: Option<Bitrate>,
    now: Instant,
    rng: ChaCha20Rng,
    neighbours: BTreeMap<LinkIndex, NodeId>,
    /// How far each neighbour was told of the catalogue.
    listeners: BTreeMap<LinkIndex, Listener>,
    /// What is taken from strangers.
    intake: Intake,
    /// When those who were told much are told more.
    tell_at: Option<Instant>,
    /// When the flows are settled that one call did not get to.
    settle_at: Option<Instant>,
    routes: BTreeMap<NodeId, Route>,
    /// Other ways than the routes.
    alternatives: BTreeMap<NodeId, Vec<Alternative>>,
    /// Routes that were taken back lately.
    vanished: Vanished,
    /// The packet size of each link whose size is not the default.
    path_sizes: BTreeMap<LinkIndex, PathSize>,
    breakers: BTreeMap<LinkIndex, Breaker>,
    catalogue: Catalogue,
    published: BTreeMap<levada_wire::StreamName, Published>,
    carried: Table,
    /// The flows that subscriptions point at.
    wanted: BTreeMap<FlowId, Wanted>,
    /// Those of them that are not carried: there is no room.
    uncarried: BTreeSet<FlowId>,
    /// The instances that this node wants of others, by their origins.
    origins: BTreeMap<NodeId, BTreeSet<InstanceRef>>,
    keys: Keys,
    subscriptions: Subscriptions,
    active: BTreeSet<LinkIndex>,
    watched: Watched,
    outputs: VecDeque<Output>,
}

impl Machine for Flows {
    type Input = Input;
    type Output = Output;

    fn handle_input(&mut self, now: Instant, input: Input) {
        self.handle_timeout(now);
        match input {
            Input::Stranger { link, subnet } => self.intake.on_stranger(link, subnet),
            Input::LinkUp { link, peer } => self.on_link_up(link, peer),
            Input::LinkDown { link } => self.on_link_down(link),
            Input::Message { link, message } => {
                if self.neighbours.contains_key(&link) {
                    self.on_message(link, message);
                }
            }
            Input::Route { origin, route } => self.on_route(origin, route),
            Input::Lane(flow, FlowEvent::Delivering(link)) => self.on_delivering(flow, link),
            Input::Lane(flow, FlowEvent::Reached { link, have }) => {
                self.on_reached(flow, link, have);
            }
            Input::Lane(flow, FlowEvent::CaughtUp(link)) => self.on_caught_up(flow, link),
            Input::Lane(flow, FlowEvent::Suspect(link)) => self.on_suspect(flow, link),
            Input::Lane(
                flow,
                FlowEvent::Slow {
                    link,
                    takes,
                    budget,
                },
            ) => self.on_slow(flow, link, (takes, budget)),
            Input::Lane(flow, FlowEvent::Measured(rate)) => self.on_measured(flow, rate),
            // What is heard on channels is their own part's.
            Input::Lane(
                _,
                FlowEvent::Heard(_) | FlowEvent::ChannelEnded(_) | FlowEvent::CannotJoin(_),
            ) => {}
            Input::Path(link, Path::Size(size)) => self.on_path_size(link, size),
            Input::Path(link, Path::Pressure(pressure)) => self.on_pressure(link, pressure),
            Input::Alternatives {
                origin,
                alternatives,
            } => self.on_alternatives(origin, alternatives),
            Input::Outside(input) => self.on_input(input),
            Input::Written { link } => self.on_written(link),
            Input::ByChannel {
                flow,
                link,
                is_so,
                have,
            } => self.on_by_channel((flow, link), is_so, have),
            Input::Leave => self.on_leave(),
        }
        self.settle();
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.forgive_own_absence(now);
        self.now = self.now.max(now);
        let is_due = self.poll_timeout().is_some_and(|due| due.at <= self.now);
        if !is_due && !self.carried.is_touched() {
            return;
        }
        self.expire();
        self.tell_more();
        self.settle();
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Wakeup> {
        let telling = self.tell_at.map(|at| Wakeup {
            at,
            why: "tell who was told much",
        });
        let settling = self.settle_at.map(|at| Wakeup {
            at,
            why: "settle the rest",
        });
        let parts = [
            telling,
            settling,
            self.catalogue.wakeup(),
            self.keys.wakeup(),
            self.carried.wakeup(),
        ];
        parts.into_iter().fold(None, Wakeup::earlier)
    }
}

impl Flows {
    /// No flows yet.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            identity: settings.identity.clone(),
            me: settings.identity.id(),
            relay: settings.relay,
            uplink: settings.uplink,
            now: Instant::ZERO,
            rng: chance::generator(&settings.seed, 3),
            neighbours: BTreeMap::new(),
            listeners: BTreeMap::new(),
            intake: Intake::default(),
            tell_at: None,
            settle_at: None,
            routes: BTreeMap::new(),
            alternatives: BTreeMap::new(),
            vanished: Vanished::default(),
            path_sizes: BTreeMap::new(),
            breakers: BTreeMap::new(),
            catalogue: Catalogue::default(),
            published: BTreeMap::new(),
            carried: Table::default(),
            wanted: BTreeMap::new(),
            uncarried: BTreeSet::new(),
            origins: BTreeMap::new(),
            keys: Keys::default(),
            subscriptions: Subscriptions::default(),
            active: BTreeSet::new(),
            watched: Watched::default(),
            outputs: VecDeque::new(),
        }
    }

    fn on_link_up(&mut self, link: LinkIndex, peer: NodeId) {
        self.neighbours.insert(link, peer);
        self.listen(link);
    }

    fn on_link_down(&mut self, link: LinkIndex) {
        self.neighbours.remove(&link);
        self.listeners.remove(&link);
        self.vanished.on_link_down(link);
        self.intake.on_link_down(link);
        self.path_sizes.remove(&link);
        self.breakers.remove(&link);
        self.active.remove(&link);
        self.keys.on_link_down(link);
        let now = self.now;
        let over = self.carried.over(link);
        let uses = |carried: &Carried| carried.links().any(|used| used == link);
        self.carried
            .change(over, uses, |carried| carried.on_link_down(now, link));
    }

    fn on_route(&mut self, origin: NodeId, route: Option<Route>) {
        let back = if self.routes.contains_key(&origin) == route.is_some() {
            Vec::new()
        } else {
            let is_reachable = route.is_some();
            self.catalogue
                .note_reachable(self.now, &origin, is_reachable)
        };
        self.subscriptions.touch_origin(origin);
        if let Some(names) = self.catalogue.names_of(&origin) {
            self.subscriptions.touch_names(names);
        }
        // Their upstream follows the route.
        for flow in self.carried.of_origin(&origin) {
            self.carried.touch(flow);
        }
        let before = self.routes.get(&origin).map(|route| route.link);
        let after = route.as_ref().map(|route| route.link);
        if let Some(before) = before.filter(|before| after != Some(*before))
            && self.neighbours.contains_key(&before)
            && !self.is_other_way(&origin, before)
        {
            self.vanished.note(self.now, origin, before);
        }
        match route {
            Some(route) => {
                let link = route.link;
                self.routes.insert(origin, route);
                self.on_back(link, back);
            }
            None => {
                self.routes.remove(&origin);
            }
        }
        self.mark_origin(origin);
    }

    fn on_message(&mut self, link: LinkIndex, message: FlowMessage) {
        match message {
            FlowMessage::Announce(announce) => self.on_announce(Some(link), announce.statement),
            FlowMessage::Collection(collection) => {
                for statement in collection.statements {
                    self.on_announce(Some(link), statement);
                }
            }
            FlowMessage::Doubts(doubts) => {
                for statement in doubts.statements {
                    self.on_doubt(link, statement.content());
                }
            }
            FlowMessage::Withdraw(withdraw) => self.on_withdraw(Some(link), withdraw.statement),
            FlowMessage::AnnounceRefusal(refusal) => self.on_announce_refusal(link, refusal),
            FlowMessage::Request(request) => self.on_request(link, &request),
            FlowMessage::Accept(accept) => self.on_accept(link, accept),
            FlowMessage::Refuse(refuse) => self.on_refuse(link, &refuse),
            FlowMessage::Cancel(cancel) => self.on_cancel(link, cancel.flow),
            FlowMessage::KeyRequest(request) => self.on_key_request(link, request),
            FlowMessage::KeyGrant(grant) => self.on_key_grant(link, grant),
            FlowMessage::KeyRefusal(refusal) => self.on_key_refusal(link, refusal),
            // Of channels, which are another part's.
            FlowMessage::ChannelOffer(_)
            | FlowMessage::ChannelEnd(_)
            | FlowMessage::ChannelReport(_) => {}
        }
    }

    fn on_input(&mut self, input: FlowInput) {
        match input {
            FlowInput::Publish(offer) => self.on_publish(offer),
            FlowInput::Revise { name, layers } => self.on_revise(&name, layers),
            FlowInput::Unpublish { name } => self.on_unpublish(&name),
            FlowInput::Subscribe {
                id,
                name,
                layer,
                budget,
                paths,
            } => {
                let terms = (budget, paths);
                if let Some(event) = self.subscriptions.add(id, name, layer, terms) {
                    self.event(event);
                }
            }
            FlowInput::Unsubscribe { id } => self.on_unsubscribe(id),
        }
    }

    fn on_leave(&mut self) {
        let names: Vec<_> = self.published.keys().cloned().collect();
        for name in names {
            self.on_unpublish(&name);
        }
    }

    fn send(&mut self, link: LinkIndex, message: FlowMessage) {
        let message = Message::Flow(message);
        self.put(api::Output::Send { link, message });
    }

    fn command(&mut self, flow: FlowId, command: FlowCommand) {
        self.put(api::Output::Flow(flow, command));
    }

    fn event(&mut self, event: Event) {
        self.put(api::Output::Event(event));
    }

    fn put(&mut self, output: api::Output) {
        self.outputs.push_back(Output::Outside(output));
    }

    /// How far an origin is: zero for this node, infinite without a way.
    fn distance_to(&self, origin: &NodeId) -> levada_wire::Distance {
        if *origin == self.me {
            return levada_wire::Distance::ZERO;
        }
        self.routes
            .get(origin)
            .map_or(levada_wire::Distance::INFINITE, |route| route.distance)
    }

    /// The link toward an origin.
    fn toward(&self, of: &InstanceRef) -> Option<LinkIndex> {
        let link = self.routes.get(&of.origin)?.link;
        // A route over a link that was lost just now is about to change.
        self.neighbours.contains_key(&link).then_some(link)
    }

    /// Why a neighbour cannot be served a flow of that origin by this node's route, if it cannot.
    fn refusal_for(&self, link: LinkIndex, origin: &NodeId) -> Option<RefuseReason> {
        if *origin == self.me {
            return None;
        }
        if !self.relay {
            return Some(RefuseReason::NotWilling);
        }
        let neighbour = self.neighbours.get(&link)?;
        let route = self.routes.get(origin)?;
        let through = route.link == link || route.hops.contains(neighbour.prefix());
        through.then_some(RefuseReason::Loop)
    }
}
