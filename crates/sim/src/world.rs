//! The world: all nodes, the networks between them, and time, which moves from event to event.
//!
//! One thread, no clock but its own, all chance from one seed: a run is the same each time. The world calls machines
//! and carries bytes; what the bytes mean it does not know. Each file below has one kind of event:
//!
//! | file | events |
//! |---|---|
//! | `carry` | datagrams and segments from stage to stage, connections |
//! | `channel` | datagrams to multicast channels, and who has joined those |
//! | `process` | calls of a node's machines, their effects, start and end of a process |
//! | `script` | publishers, players, frames |
//! | `fault` | what goes wrong, and when it is over |
//! | `stranger` | datagrams of somebody who has no key |
//!
//! Called by `run`. Invariant: after each event every machine has said all it has to say, and every checker has seen
//! it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use levada_core::Input;
use levada_lane::ledger::DropReason;
use levada_wire::{Identity, Instant, NodeId};

use crate::chance::{Chance, Rng};
use crate::check::{Checks, Overview, Peer, Snapshot, Violation};
use crate::connection::{ConnectionId, Connections, Host, Segment};
use crate::hostile::Hostile;
use crate::net::lan::QUERY_INTERVAL;
use crate::net::{Net, Transit};
use crate::node::{Clock, Process};
use crate::queue::Queue;
use crate::report::{self, KnownStream, Report};
use crate::sabotage::Sabotage;
use crate::scenario::Scenario;
use crate::trace::{Trace, TraceHash};

mod carry;
mod channel;
mod fault;
mod hostile;
mod process;
mod script;
mod stranger;

use script::Publisher;

/// How often the checkers look at all nodes.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// The port of every node.
const PORT: u16 = 7_800;

/// What waits in the queue of virtual time.
#[derive(Debug)]
enum Event {
    /// A datagram or segment has come to the end of a stage.
    Flight(Flight),
    /// A datagram to a channel has come to a host that joined it.
    Heard {
        node: usize,
        from: SocketAddr,
        to: SocketAddr,
        bytes: Bytes,
    },
    /// A lost segment is due again.
    Retry(Segment),
    /// A connection wants to be looked after.
    Watch(ConnectionId),
    /// A node's machines wanted to be woken.
    Wake(usize),
    /// A node starts, for the first time or after a fault.
    Boot(usize),
    /// A node that left is gone for good.
    Gone {
        node: usize,
        boot: u32,
    },
    /// The script moves on.
    Script(Script),
    /// A publisher has its next frame.
    Frame {
        stream: usize,
        start: u32,
        track: usize,
        slot: u64,
    },
    FaultBegins(usize),
    FaultEnds(usize),
    /// A stranger sends something.
    Stranger(usize),
    /// A hostile neighbour speaks.
    Hostile(usize),
    /// A LAN's querier asks.
    Query(usize),
    /// The checkers look.
    Check,
}

/// What publishers and players do, by the scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    Publish(usize),
    Unpublish(usize),
    Subscribe(usize),
    Unsubscribe(usize),
}

/// Something on its way.
#[derive(Debug)]
struct Flight {
    transit: Transit,
    cargo: Cargo,
}

#[derive(Clone, Debug)]
enum Cargo {
    Datagram(Bytes),
    Segment(Segment),
}

/// What waits for a node that stands still.
#[derive(Debug)]
enum Parcel {
    Datagram {
        from: SocketAddr,
        bytes: Bytes,
    },
    Heard {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Bytes,
    },
    Segment(Segment),
    Input(Input),
    Script(Script),
}

/// A machine in the world, with or without a process on it.
#[derive(Debug)]
struct Node {
    identity: Identity,
    id: NodeId,
    address: SocketAddr,
    clock: Clock,
    process: Option<Process>,
    /// Starts of the process so far.
    boots: u32,
    /// Faults that make it stand still.
    pauses: u32,
    inbox: VecDeque<Parcel>,
    /// The earliest wake-up that is planned.
    wake: Option<Instant>,
    /// Wake-ups at one moment.
    wakes_now: (Instant, u32),
}

impl Node {
    const fn is_paused(&self) -> bool {
        self.pauses > 0
    }

    fn host(&self, index: usize) -> Option<Host> {
        self.process.as_ref()?;
        Some(Host {
            node: index,
            boot: self.boots,
            address: self.address,
        })
    }
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct World<'a> {
    scenario: &'a Scenario,
    chance: Chance,
    now: Instant,
    queue: Queue<Event>,
    net: Net,
    connections: Connections,
    nodes: Vec<Node>,
    by_address: BTreeMap<SocketAddr, usize>,
    by_id: BTreeMap<NodeId, usize>,
    /// By stream: who publishes it now.
    publishers: Vec<Option<Publisher>>,
    /// By stream and by subscription: whether the script wants it now.
    wants: Wants,
    /// Publishers that were started so far.
    starts: u32,
    /// Faults that happen at all, and how long each lasts.
    faults: Vec<Option<Option<Duration>>>,
    stranger: stranger::Stranger,
    /// By node.
    hostile: BTreeMap<usize, Hostile>,
    rng: Rng,
    checks: Checks,
    trace: Trace<'a>,
    counts: report::Counts,
    sabotage: Option<Sabotage>,
}

#[derive(Debug)]
struct Wants {
    streams: Vec<bool>,
    subscriptions: Vec<bool>,
}

/// How a run ended.
pub(crate) struct Ending {
    pub(crate) at: Instant,
    pub(crate) trace: TraceHash,
    pub(crate) outcome: Result<Report, Violation>,
}

impl<'a> World<'a> {
    /// The world of a scenario and a seed, before anything has happened.
    pub(crate) fn new(
        scenario: &'a Scenario,
        seed: u64,
        sabotage: Option<Sabotage>,
        trace: Trace<'a>,
    ) -> Self {
        let chance = Chance::new(seed);
        let is_broken = |what| sabotage == Some(what);
        let connections = if is_broken(Sabotage::Link) {
            Connections::broken()
        } else {
            Connections::default()
        };
        let mut world = Self {
            scenario,
            chance,
            now: Instant::ZERO,
            queue: Queue::new(),
            net: Net::new(
                scenario
                    .networks
                    .iter()
                    .map(|network| network.settings.clone())
                    .collect(),
                scenario
                    .wans
                    .iter()
                    .map(|wan| (wan.ends, wan.settings.clone()))
                    .collect(),
                chance,
            ),
            connections,
            nodes: Vec::new(),
            by_address: BTreeMap::new(),
            by_id: BTreeMap::new(),
            publishers: scenario.streams.iter().map(|_| None).collect(),
            wants: Wants {
                streams: vec![false; scenario.streams.len()],
                subscriptions: vec![false; scenario.subscriptions.len()],
            },
            starts: 0,
            faults: vec![None; scenario.faults.len()],
            stranger: stranger::Stranger::default(),
            hostile: BTreeMap::new(),
            rng: chance.split("world", 0),
            checks: Checks::new(scenario, is_broken(Sabotage::Checker)),
            trace,
            counts: report::Counts::default(),
            sabotage,
        };
        world.place_nodes();
        world.place_hostile();
        world.plan_script();
        world.plan_faults();
        world
            .queue
            .push(Instant::ZERO + CHECK_INTERVAL, Event::Check);
        for lan in
            (0..scenario.networks.len()).filter(|lan| scenario.networks[*lan].settings.querier)
        {
            world
                .queue
                .push(Instant::ZERO + QUERY_INTERVAL, Event::Query(lan));
        }
        world
    }

    /// Lets time run to the scenario's end, or to the first thing that must not be.
    pub(crate) fn run(mut self) -> Ending {
        let until = Instant::ZERO + self.scenario.duration;
        let violation = self.run_until(until);
        let outcome = match violation {
            Some(violation) => Err(violation),
            None => Ok(self.report(until)),
        };
        Ending {
            at: if outcome.is_ok() { until } else { self.now },
            trace: self.trace.hash(),
            outcome,
        }
    }

    /// Lets time run to that moment; says what must not be, if anything.
    fn run_until(&mut self, until: Instant) -> Option<Violation> {
        while let Some((at, event)) = self.queue.pop_until(until) {
            self.now = at;
            self.counts.events += 1;
            self.handle(event);
            self.settle_connections();
            if self.queue.is_overfull() || self.connections.is_overfull() {
                self.checks.spins(
                    0,
                    "more is planned, or dialled, than any sane run needs".to_owned(),
                );
            }
            if let Some(violation) = self.checks.violation() {
                return Some(violation.clone());
            }
        }
        None
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Flight(flight) => self.on_flight(flight),
            Event::Heard {
                node,
                from,
                to,
                bytes,
            } => self.on_heard(node, [from, to], bytes),
            Event::Retry(segment) => {
                let nodes = &self.nodes;
                self.connections
                    .retry(self.now, segment, |node| nodes[node].is_paused());
            }
            Event::Watch(connection) => {
                let nodes = &self.nodes;
                self.connections
                    .watch(self.now, connection, |node| nodes[node].is_paused());
            }
            Event::Wake(node) => self.on_wake(node),
            Event::Boot(node) => self.boot(node),
            Event::Gone { node, boot } => {
                if self.nodes[node].boots == boot {
                    self.kill(node);
                }
            }
            Event::Script(script) => self.on_script(script),
            Event::Frame {
                stream,
                start,
                track,
                slot,
            } => self.on_frame(stream, start, track, slot),
            Event::FaultBegins(fault) => self.on_fault_begins(fault),
            Event::FaultEnds(fault) => self.on_fault_ends(fault),
            Event::Stranger(fault) => self.on_stranger(fault),
            Event::Hostile(fault) => self.on_hostile(fault),
            Event::Query(lan) => {
                self.net.lan_mut(lan).on_query(self.now);
                self.queue
                    .push(self.now + QUERY_INTERVAL, Event::Query(lan));
            }
            Event::Check => {
                let overview = self.overview();
                self.checks.tick(&overview);
                self.queue.push(self.now + CHECK_INTERVAL, Event::Check);
            }
        }
    }

    /// Gives every node an identity, an address and a time to start.
    fn place_nodes(&mut self) {
        for (index, plan) in self.scenario.nodes.iter().enumerate() {
            let mut rng = self.chance.split("node", index as u64);
            let identity = Identity::from_secret(&rng.bytes());
            let [_, _, high, low] = u32::try_from(index + 1)
                .expect("ITEMS_MAX nodes")
                .to_be_bytes();
            let lan = u8::try_from(plan.network % 256).expect("below 256");
            let address = SocketAddr::from(([10, lan, high, low], PORT));
            self.net.attach(plan.network, address.ip());
            self.by_address.insert(address, index);
            self.by_id.insert(identity.id(), index);
            self.queue.push(
                Instant::ZERO + plan.start.choose(&mut rng),
                Event::Boot(index),
            );
            self.nodes.push(Node {
                id: identity.id(),
                identity,
                address,
                clock: Clock::new(&mut rng),
                process: None,
                boots: 0,
                pauses: 0,
                inbox: VecDeque::new(),
                wake: None,
                wakes_now: (Instant::ZERO, 0),
            });
        }
    }

    /// What the checkers see.
    fn overview(&self) -> Overview {
        let peer_of = |end| self.connections.peer(end).map(|host| host.node);
        let snapshot = |(index, node): (usize, &Node)| {
            let process = node.process.as_ref()?;
            let peers = process.links().filter_map(|(link, end)| {
                Some((
                    link,
                    Peer {
                        node: peer_of(end)?,
                        connection: end.connection,
                    },
                ))
            });
            Some(Snapshot {
                is_paused: node.is_paused(),
                relay: self.scenario.nodes[index].relay,
                flows: process.control().flow_rows(None).collect(),
                peers: peers.collect(),
                difference: process.lane().ledger().check(),
            })
        };
        Overview {
            now: self.now,
            nodes: self.nodes.iter().enumerate().map(snapshot).collect(),
            reachable: self.reachable(),
        }
    }

    /// By node: the neighbours it could have a link with.
    fn reachable(&self) -> Vec<Vec<usize>> {
        let runs = |node: &Node| node.process.is_some() && !node.is_paused();
        let mut reachable = vec![Vec::new(); self.nodes.len()];
        for (a, plan) in self.scenario.nodes.iter().enumerate() {
            for &b in &plan.neighbours {
                let (one, other) = (&self.nodes[a], &self.nodes[b]);
                let [from, to] = [one.address.ip(), other.address.ip()];
                if runs(one)
                    && runs(other)
                    && self.net.is_open(from, to)
                    && self.net.is_open(to, from)
                {
                    reachable[a].push(b);
                    reachable[b].push(a);
                }
            }
        }
        reachable
    }

    fn report(&self, until: Instant) -> Report {
        let checked = self.checks.counts();
        let connections = self.connections.count() as u64;
        let report = report::report(
            self.scenario,
            &self.net,
            until,
            self.trace.hash(),
            self.counts,
            checked,
            connections,
        );
        Report {
            known: self.known(),
            slowest: self.checks.slowest(),
            duplicates: self.duplicates(),
            ..report
        }
    }

    /// What came to each running node that it had already.
    fn duplicates(&self) -> Vec<(String, u64)> {
        let of_node = |(index, node): (usize, &Node)| {
            let ledger = node.process.as_ref()?.lane().ledger();
            let name = self.scenario.nodes[index].name.clone();
            Some((name, ledger.dropped(DropReason::Duplicate)))
        };
        self.nodes.iter().enumerate().filter_map(of_node).collect()
    }

    /// What each running node knows of streams.
    fn known(&self) -> Vec<KnownStream> {
        let of_node = |(index, node): (usize, &Node)| {
            let name = &self.scenario.nodes[index].name;
            let streams = node
                .process
                .iter()
                .flat_map(|process| process.control().stream_rows(None));
            let known = streams.map(|row| KnownStream {
                node: name.clone(),
                peak: row.peak_bps,
                stream: row.name,
            });
            known.collect::<Vec<_>>()
        };
        self.nodes.iter().enumerate().flat_map(of_node).collect()
    }
}
