//! The checkers: what must be true of every run, looked at all the time.
//!
//! | checker | says |
//! |---|---|
//! | `loop` | no cycle of selected upstreams lasts ([`loops`]) |
//! | `consumer` | frames come in order, once, whole, each to the last bit as it was sent, from a fresh group on ([`consumer`]) |
//! | `ledger` | both ledgers of every lane sum to zero ([`ledger`]) |
//! | `secret` | no secret crosses a network in clear, no content secret reaches a node where nobody subscribes ([`secret`]) |
//! | `quiet` | nobody watching: no media packet moves ([`quiet`]) |
//! | `copy` | a node sends a packet to a neighbour once, and again only when asked ([`copies`]) |
//! | `liveness` | who subscribes to what is alive and can be reached gets frames ([`liveness`]) |
//! | `answer` | each request is answered or refused ([`answer`]) |
//! | `unwanted` | a flow that nobody wants ends ([`unwanted`]) |
//! | `continuity` | where only loss is wrong, and a scenario says so, consumers miss nothing ([`continuity`]) |
//! | `steady` | where a scenario says so, consumers miss nothing and get nothing late, whatever fails ([`steady`]) |
//! | `waiting` | what is said to a neighbour that does not read stays within bounds ([`waiting`]) |
//! | `order` | control bytes come out of a connection in the order they went in ([`order`]) |
//! | `machine` | no machine spins, or leaves more outputs behind than its contract allows ([`Checks::spins`]) |
//!
//! A checker sees all nodes at once, which no node does, and never changes anything. This is the one place of the
//! simulator that may look inside control messages. Called by `world`. Invariant: the first violation ends the run.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use levada_core::view::FlowRow;
use levada_core::{Event, SubscriptionId};
use levada_lane::api::{Delivery, FlowCommand};
use levada_lane::ledger::Difference;
use levada_wire::{FlowId, Instant, LinkIndex, StreamName};

use crate::connection::{ConnectionId, End};
use crate::scenario::{Bounds, Scenario};

mod answer;
mod consumer;
mod continuity;
mod copies;
mod facts;
mod ledger;
mod liveness;
mod loops;
mod order;
mod quiet;
mod secret;
mod steady;
mod unwanted;
mod waiting;

pub(crate) use facts::Facts;

/// Something that must not be, and who saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) checker: &'static str,
    pub(crate) saw: String,
}

/// All nodes at one moment.
#[derive(Debug)]
pub(crate) struct Overview {
    pub(crate) now: Instant,
    /// By node; `None` where no process runs.
    pub(crate) nodes: Vec<Option<Snapshot>>,
    /// By node: the neighbours it could have a link with, both running and the way open in both directions.
    pub(crate) reachable: Vec<Vec<usize>>,
}

/// One node at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) is_paused: bool,
    pub(crate) relay: bool,
    pub(crate) flows: Vec<FlowRow>,
    /// Who is at the other end of each link.
    pub(crate) peers: BTreeMap<LinkIndex, Peer>,
    pub(crate) difference: Difference,
}

/// The other end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) node: usize,
    pub(crate) connection: ConnectionId,
}

/// What the checkers counted beside looking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) frames: u64,
    pub(crate) gaps: u64,
}

/// All checkers of a run.
#[derive(Debug)]
pub(crate) struct Checks {
    facts: Facts,
    answer: answer::Answers,
    consumer: consumer::Consumers,
    copies: copies::Copies,
    liveness: liveness::Liveness,
    loops: loops::Loops,
    order: order::Order,
    waiting: waiting::Waiting,
    quiet: quiet::Quiet,
    secret: secret::Secrets,
    unwanted: unwanted::Unwanted,
    continuity: continuity::Continuity,
    steady: steady::Steady,
    violation: Option<Violation>,
}

impl Checks {
    /// Checkers for a run. A broken one sees loops that are not there, for a negative control.
    pub(crate) fn new(scenario: &Scenario, is_broken: bool) -> Self {
        let bounds: &Bounds = &scenario.bounds;
        Self {
            facts: Facts::new(scenario),
            answer: answer::Answers::new(bounds.answers),
            consumer: consumer::Consumers::default(),
            copies: copies::Copies::default(),
            liveness: liveness::Liveness::new(bounds.frames),
            loops: loops::Loops::new(bounds.loops, is_broken),
            order: order::Order::default(),
            waiting: waiting::Waiting::default(),
            quiet: quiet::Quiet::new(bounds.quiet),
            secret: secret::Secrets::default(),
            unwanted: unwanted::Unwanted::new(bounds.unwanted),
            continuity: continuity::Continuity::new(bounds.continuity),
            steady: steady::Steady::new(bounds.steady, bounds.late),
            violation: None,
        }
    }

    /// What was violated, if anything.
    pub(crate) const fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// The consumer checker's counts so far.
    pub(crate) const fn counts(&self) -> Counts {
        self.consumer.counts
    }

    /// The longest that a frame took to a consumer that is steady.
    pub(crate) const fn slowest(&self) -> Duration {
        self.steady.slowest
    }

    /// A fault begins.
    pub(crate) const fn fault_begins(&mut self) {
        self.facts.fault_begins();
    }

    /// A fault is over.
    pub(crate) const fn fault_ends(&mut self, now: Instant) {
        self.facts.fault_ends(now);
    }

    /// A publisher was started at a node; `start` counts the starts of a run.
    pub(crate) fn published(&mut self, now: Instant, node: usize, stream: usize, start: u32) {
        self.facts.published(now, node, stream, start);
    }

    /// A publisher ended on purpose.
    pub(crate) fn unpublished(&mut self, node: usize, stream: usize) {
        self.facts.unpublished(node, stream);
    }

    /// Somebody at a node wants a stream from now on.
    pub(crate) fn subscribed(
        &mut self,
        now: Instant,
        node: usize,
        id: SubscriptionId,
        name: StreamName,
    ) {
        self.facts.subscribed(node, id, name.clone());
        self.quiet.watched(now, &name);
    }

    /// Not any more.
    pub(crate) fn unsubscribed(&mut self, now: Instant, node: usize, id: SubscriptionId) {
        if let Some(name) = self.facts.unsubscribed(node, id) {
            self.quiet.watched(now, &name);
        }
    }

    /// A node's process is gone, and with it all it knew.
    pub(crate) fn ended(&mut self, now: Instant, node: usize) {
        for name in self.facts.ended(node) {
            self.quiet.watched(now, &name);
        }
        self.consumer.ended(node);
        self.continuity.ended(node);
        self.steady.ended(node);
        self.copies.ended(node);
    }

    /// The core of a node changes what its datapath does.
    pub(crate) fn commanded(
        &mut self,
        now: Instant,
        node: usize,
        flow: FlowId,
        command: &FlowCommand,
        egress: Option<SocketAddr>,
    ) {
        self.secret.learn(command);
        let mut found = None;
        match command {
            FlowCommand::AddEgress(link, _) | FlowCommand::MoveEgress(link, ..) => {
                if let Some(neighbour) = egress {
                    self.copies.egress_added(node, flow, *link, neighbour);
                }
            }
            FlowCommand::RemoveEgress(link) => {
                self.copies.egress_removed(node, flow, *link);
            }
            FlowCommand::Consume { .. } => {
                self.consumer.begins(now, node, flow);
                self.continuity.begins(now, node, flow);
                self.steady.begins(now, node, flow);
                found = secret::misplaced(&self.facts, node, flow);
            }
            FlowCommand::StopConsuming | FlowCommand::Close => {
                self.consumer.ends(node, flow);
                self.steady.ends(node, flow);
                let missed = self.continuity.ends(now, &self.facts, node, flow);
                self.found("continuity", missed);
                if matches!(command, FlowCommand::Close) {
                    self.copies.flow_closed(node, flow);
                }
            }
            _ => {}
        }
        self.found("secret", found);
    }

    /// A core says something to its user.
    pub(crate) fn said(&mut self, node: usize, event: &Event) {
        if let Event::Published { name, flow, .. } = event {
            self.facts.originates(node, *flow, name);
        }
    }

    /// Keys of a link were made.
    pub(crate) fn learn_link_key(&mut self, key: &[u8]) {
        self.secret.learn_bytes("a link key", key);
    }

    /// A node sends a datagram, from an address of its own to another.
    pub(crate) fn datagram(
        &mut self,
        now: Instant,
        node: usize,
        way: [SocketAddr; 2],
        bytes: &[u8],
    ) {
        let found = self
            .secret
            .find_in(bytes)
            .map(|what| format!("{what} in a datagram of {}", self.facts.name(node)));
        self.found("secret", found);
        let found = self.quiet.datagram(now, &self.facts, node, bytes);
        self.found("quiet", found);
        let found = self.copies.datagram(now, &self.facts, node, way, bytes);
        self.found("copy", found);
    }

    /// A node sends control bytes over a connection, from this end of it.
    pub(crate) fn chunk_sent(
        &mut self,
        now: Instant,
        node: usize,
        end: End,
        concern: u8,
        bytes: &[u8],
    ) {
        let found = self
            .secret
            .find_in(bytes)
            .map(|what| format!("{what} in control bytes of {}", self.facts.name(node)));
        self.found("secret", found);
        self.order.sent(end, concern, bytes);
        self.answer.sent(now, end, node, bytes);
    }

    /// Control bytes leave a process for a neighbour that does not read.
    pub(crate) fn waits(&mut self, node: usize, end: End, bytes: usize) {
        let found = self.waiting.sent(end, bytes);
        let found = found.map(|saw| format!("{}: {saw}", self.facts.name(node)));
        self.found("waiting", found);
    }

    /// Control bytes came out of a connection at this end.
    pub(crate) fn chunk_came_out(&mut self, node: usize, end: End, concern: u8, bytes: &[u8]) {
        let found = self.order.came_out(end, concern, bytes);
        let found = found.map(|saw| format!("{}: {saw}", self.facts.name(node)));
        self.found("order", found);
        self.answer.came_out(end, bytes);
    }

    /// An end of a connection is gone.
    pub(crate) fn connection_lost(&mut self, end: End) {
        self.order.lost(end);
        self.waiting.lost(end);
        self.answer.lost(end.connection);
    }

    /// A lane hands something to the subscribers of its node.
    pub(crate) fn delivered(
        &mut self,
        now: Instant,
        node: usize,
        flow: FlowId,
        delivery: &Delivery,
    ) {
        let found = self.consumer.delivered(&self.facts, node, flow, delivery);
        let found = found
            .err()
            .map(|saw| format!("{}, flow {flow}: {saw}", self.facts.name(node)));
        self.found("consumer", found);
        let found = self
            .steady
            .delivered(now, &self.facts, node, flow, delivery);
        self.found("steady", found);
        if matches!(delivery, Delivery::End) {
            self.continuity.hears_end(node, flow);
        }
        if let Delivery::Gap(gap) = delivery {
            let found = self.continuity.gap(now, &self.facts, node, flow, gap);
            self.found("continuity", found);
        }
        if matches!(delivery, Delivery::Frame { .. }) {
            self.liveness.frame(now, node, self.facts.stream_of(flow));
        }
    }

    /// A machine wants to be called again and again at one moment, or says more than any sane one does.
    pub(crate) fn spins(&mut self, node: usize, what: String) {
        let saw = format!("{}: {what}", self.facts.name(node));
        self.found("machine", Some(saw));
    }

    /// Looks at all nodes.
    pub(crate) fn tick(&mut self, overview: &Overview) {
        let facts = &self.facts;
        let found = [
            ("ledger", ledger::check(facts, overview)),
            ("loop", self.loops.check(facts, overview)),
            ("liveness", self.liveness.check(facts, overview)),
            ("answer", self.answer.check(facts, overview.now)),
            ("unwanted", self.unwanted.check(facts, overview)),
        ];
        for (checker, saw) in found {
            self.found(checker, saw);
        }
    }

    fn found(&mut self, checker: &'static str, saw: Option<String>) {
        if let (Some(saw), None) = (saw, &self.violation) {
            self.violation = Some(Violation { checker, saw });
        }
    }
}

#[cfg(test)]
mod fixture;
