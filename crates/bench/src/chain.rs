//! Nodes in a row with bad paths between them: an origin, perhaps relays, and a consumer, each with real lanes.
//!
//! ```text
//!   frames ─▶ origin ─▶ path ─▶ relay ─▶ path ─▶ ... ─▶ consumer ─▶ frames, gaps
//!             lanes             lanes                   lanes
//!                └──────────────── pings ─────────────────┘        as `core::link` would have them sent
//! ```
//!
//! Not a node's core: what links and routes would decide is set up before anything flows. Not the paths
//! (`forwarder.rs`) and not the report (`loss.rs`). Called by `loss`. Invariant: what one node knows of another came
//! over their path.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use levada_lane::{
    Command, Delivery, EgressTerms, Event, FlowCommand, LaneSettings, LinkCommand, LinkEvent,
    Originate, Path, PublisherCommand,
};
use levada_ports::{Clock, Lanes, WorkerCounters};
use levada_wire::datagram::link::{LinkDatagram, Ping, Pong};
use levada_wire::key::LinkKey;
use levada_wire::lane;
use levada_wire::{Frame, LinkIndex, PacketSize, RepairBudget, WallTime};

use crate::forwarder::{Ends, Forwarder, Plan, Taken};
use crate::{contender, drive, origin, traffic};

/// The most hops: one node more than that has a lane each on this machine.
pub const HOPS_MAX: usize = 8;
/// Each node's own numbers for its links.
const TO_PARENT: LinkIndex = LinkIndex(0);
const TO_CHILD: LinkIndex = LinkIndex(1);
/// How often each end of a link pings while a flow is active, as a node does.
const PING_INTERVAL: Duration = Duration::from_millis(100);
/// Before anything flows a link has been up for a while: so many pings, closer together.
const FIRST_PINGS: u32 = 10;
const FIRST_PING_INTERVAL: Duration = Duration::from_millis(20);
/// Pings that wait to be answered, far more than come in a moment.
const NOTES_MAX: usize = 1_024;
/// What the consumer was delivered and nobody has looked at: frames of a minute.
const NEWS_MAX: usize = 65_536;

/// What the consumer was delivered, and when.
#[derive(Debug)]
pub(crate) struct News {
    pub(crate) at: Instant,
    pub(crate) delivery: Delivery,
}

/// Something for the thread that pings.
enum Note {
    /// A node was pinged over a link; datagrams that had arrived there before.
    Pinged {
        node: usize,
        link: LinkIndex,
        ping: Ping,
        received: u64,
    },
    Stop,
}

/// What nodes and paths counted, each from the origin on.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) nodes: Vec<WorkerCounters>,
    pub(crate) paths: Vec<Taken>,
}

/// See the module's head.
pub(crate) struct Chain {
    nodes: Arc<[Lanes]>,
    forwarder: Forwarder,
    notes: SyncSender<Note>,
    pings: JoinHandle<()>,
    pub(crate) news: Receiver<News>,
}

impl Chain {
    /// Sets it up with that many hops, and lets its links find out how long they are.
    pub(crate) fn start(hops: usize, plan: Plan, budget: Duration) -> anyhow::Result<Self> {
        let (notes, given) = sync_channel(NOTES_MAX);
        let (tell, news) = sync_channel(NEWS_MAX);
        let clock = Clock::start();
        let settings = LaneSettings {
            repair_budget: budget,
            ..LaneSettings::default()
        };
        let node = |node| {
            let (notes, tell) = (notes.clone(), tell.clone());
            let on_event = move |event| on_event(node, event, &notes, &tell);
            contender::spawn_lanes_with(1, settings.clone(), clock, Arc::new(on_event))
        };
        let nodes: Arc<[Lanes]> = (0..=hops).map(node).collect::<anyhow::Result<_>>()?;
        let addresses: Vec<SocketAddr> = nodes.iter().map(Lanes::local_addr).collect();
        let paths = addresses.windows(2).map(|two| Ends {
            parent: two[0],
            child: two[1],
        });
        let forwarder = Forwarder::start(&paths.collect::<Vec<_>>(), plan)?;
        for (place, lanes) in nodes.iter().enumerate() {
            for command in links(place, hops, &forwarder) {
                lanes.send(command)?;
            }
        }
        for (place, lanes) in nodes.iter().enumerate().rev() {
            for command in flow(place, hops, budget) {
                lanes.send(command)?;
            }
            let refused = lanes.fresh_counters().lane.commands_refused;
            anyhow::ensure!(refused == 0, "a lane refused {refused} commands");
        }
        let pings = std::thread::Builder::new().name("bench-pings".to_owned());
        let pinged = Arc::clone(&nodes);
        let pings = pings
            .spawn(move || ping(&pinged, &given, clock))
            .context("the system gives no thread")?;
        let until = Instant::now() + FIRST_PINGS * FIRST_PING_INTERVAL;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
        Ok(Self {
            nodes,
            forwarder,
            notes,
            pings,
            news,
        })
    }

    /// Has the origin send a frame.
    pub(crate) fn push(&self, frame: Frame) -> anyhow::Result<()> {
        let (flow, wall) = (origin::flow(0), WallTime(drive::wall_nanos() / 1_000));
        Ok(self.nodes[0].send(Command::Publisher(
            flow,
            PublisherCommand::Push { frame, wall },
        ))?)
    }

    /// Has the origin end the flow.
    pub(crate) fn finish_flow(&self) -> anyhow::Result<()> {
        let flow = origin::flow(0);
        Ok(self.nodes[0].send(Command::Publisher(flow, PublisherCommand::Finish))?)
    }

    /// Ends it; gives what was counted. An error if a ledger does not sum to zero.
    pub(crate) fn finish(self) -> anyhow::Result<Counted> {
        self.notes.send(Note::Stop).context("nobody pings")?;
        let ended = self.pings.join();
        ended.map_err(|_| anyhow::anyhow!("the thread that pings panicked"))?;
        let nodes: Vec<WorkerCounters> = self.nodes.iter().map(Lanes::fresh_counters).collect();
        let paths = self.forwarder.finish()?;
        for counters in &nodes {
            let ledger = &counters.lane.ledger;
            anyhow::ensure!(ledger.check().is_zero(), "a ledger is not zero: {ledger:?}");
        }
        Ok(Counted { nodes, paths })
    }
}

/// What a node's lanes tell it.
fn on_event(node: usize, event: Event, notes: &SyncSender<Note>, tell: &SyncSender<News>) {
    match event {
        Event::Core(lane::Event::Link(
            link,
            LinkEvent::Datagram {
                message: LinkDatagram::Ping(ping),
                received,
            },
        )) => {
            let note = Note::Pinged {
                node,
                link,
                ping,
                received,
            };
            let _ = notes.try_send(note); // a ping without an answer is lost, as on any path
        }
        Event::Delivery { delivery, .. } => {
            let at = Instant::now();
            let _ = tell.try_send(News { at, delivery }); // what finds no room counts as lost
        }
        _ => {}
    }
}

/// The commands that give a node its links.
fn links(place: usize, hops: usize, forwarder: &Forwarder) -> Vec<Command> {
    // Both ends know both keys: that of the way down and that of the way up.
    let (down, up) = (
        || LinkKey::from_bytes([6; 32]),
        || LinkKey::from_bytes([7; 32]),
    );
    let to_parent = (place > 0).then(|| {
        Command::Link(
            TO_PARENT,
            LinkCommand::Add {
                remote_index: TO_CHILD,
                remote: forwarder.towards_parent(place - 1),
                source: None,
                path: Path::Unknown,
                send: up(),
                receive: down(),
            },
        )
    });
    let to_child = (place < hops).then(|| {
        Command::Link(
            TO_CHILD,
            LinkCommand::Add {
                remote_index: TO_PARENT,
                remote: forwarder.towards_child(place),
                source: None,
                path: Path::Unknown,
                send: down(),
                receive: up(),
            },
        )
    });
    to_parent.into_iter().chain(to_child).collect()
}

/// The commands that make a node carry the flow.
fn flow(place: usize, hops: usize, budget: Duration) -> Vec<Command> {
    let flow = origin::flow(0);
    let mut commands = if place == 0 {
        vec![Command::Flow(
            flow,
            FlowCommand::Originate(Box::new(Originate {
                instance: origin::instance(),
                suite: origin::SUITE,
                epoch: origin::EPOCH,
                secret: origin::secret(),
                carry: origin::carry(),
                packet_size: PacketSize::DEFAULT,
                description: traffic::description(),
                flush_interval: origin::FLUSH_INTERVAL,
            })),
        )]
    } else {
        let key = origin::carry();
        let epoch = origin::EPOCH;
        vec![
            Command::Flow(flow, FlowCommand::Open),
            Command::Flow(flow, FlowCommand::SetCarryKey { epoch, key }),
            Command::Flow(flow, FlowCommand::AddUpstream(TO_PARENT)),
        ]
    };
    commands.push(if place < hops {
        Command::Flow(
            flow,
            FlowCommand::AddEgress(
                TO_CHILD,
                EgressTerms {
                    budget: RepairBudget::new(budget),
                    ..EgressTerms::UNLIMITED
                },
            ),
        )
    } else {
        Command::Flow(
            flow,
            FlowCommand::Consume {
                instance: origin::instance(),
                suite: origin::SUITE,
                epoch: origin::EPOCH,
                secret: origin::secret(),
            },
        )
    });
    commands
}

/// Pings over all links from both ends, and answers, until it is told to stop.
fn ping(nodes: &[Lanes], notes: &Receiver<Note>, clock: Clock) {
    let mut next = Instant::now();
    let mut rounds = 0;
    loop {
        match notes.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(Note::Pinged {
                node,
                link,
                ping,
                received,
            }) => {
                let pong = Pong {
                    time: ping.time,
                    sent: ping.sent,
                    received,
                    size: ping.size(),
                };
                say(&nodes[node], link, LinkDatagram::Pong(pong));
            }
            Ok(Note::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let time = clock.now().as_micros();
                let ping = || {
                    LinkDatagram::Ping(Ping {
                        time,
                        sent: 0,
                        padding: 0,
                    })
                };
                let last = nodes.len() - 1;
                for (place, lanes) in nodes.iter().enumerate() {
                    if place > 0 {
                        say(lanes, TO_PARENT, ping());
                    }
                    if place < last {
                        say(lanes, TO_CHILD, ping());
                    }
                }
                rounds += 1;
                next += if rounds < FIRST_PINGS {
                    FIRST_PING_INTERVAL
                } else {
                    PING_INTERVAL
                };
            }
        }
    }
}

fn say(lanes: &Lanes, link: LinkIndex, message: LinkDatagram) {
    // A full queue loses it, as a path may.
    let _ = lanes.send(Command::Link(link, LinkCommand::Send(message)));
}

#[cfg(test)]
mod tests {
    use levada_wire::Bitrate;

    use super::*;
    use crate::forwarder::Passes;
    use crate::impair::Impairment;
    use crate::traffic::Traffic;

    /// Longer than any machine takes for a frame.
    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn what_the_origin_is_given_comes_out_of_the_last_node_and_every_hop_knows_its_length()
    -> anyhow::Result<()> {
        let plan = Plan {
            impairment: Impairment {
                delay: Duration::from_millis(5),
                ..Impairment::default()
            },
            passes: Passes::All,
            seed: 1,
        };
        let chain = Chain::start(2, plan, Duration::from_millis(400))?;
        let mut traffic = Traffic::new(Bitrate(1_000_000), 1);

        let sent: Vec<_> = (0..30).map(|_| traffic.next().frame).collect();
        for frame in &sent {
            chain.push(frame.clone())?;
        }
        chain.finish_flow()?;
        let mut came = Vec::new();
        loop {
            match chain.news.recv_timeout(PATIENCE)?.delivery {
                Delivery::Frame { frame, .. } => came.push(frame),
                Delivery::End => break,
                _ => {}
            }
        }

        let counted = chain.finish()?;
        assert_eq!(came.len(), sent.len());
        assert!(sent.iter().all(|frame| came.contains(frame)));
        assert_eq!(counted.paths.len(), 2);
        for path in &counted.paths {
            assert!(path.first.taken > 30 && path.first.lost + path.overruns == 0);
            assert!(path.back.taken >= u64::from(FIRST_PINGS), "{path:?}");
        }
        assert_eq!(counted.nodes.len(), 3);
        Ok(())
    }
}
