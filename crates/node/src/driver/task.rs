//! The loop of the driver: take what happened, hand it to the core, do what the core says.
//!
//! Not the doing (`outputs`, `requests`). Spawned by `start`. Invariant: after each turn the core has nothing left
//! to say.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use levada_core::limits::{NEIGHBOURS_MAX, ROWS_AT_ONCE};
use levada_core::site;
use levada_core::view::StreamChange;
use levada_core::{Control, DialId, Input, LinkDown, LinkInput, Neighbour};
use levada_lane::api::Command;
use levada_wire::lane::{self, FlowCommand};
use levada_wire::{FlowId, LinkIndex, NodeId, StreamName};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant as Deadline;

use super::interests::Interests;
use super::names::{Change, Names};
use super::pump::Pump;
use super::rarely::Rarely;
use super::{Asked, SlotId, datapath};
use crate::events::Event;
use crate::fanout::Fanout;
use crate::node::Failed;
use crate::quic::connection::{ConnectionHandle, LinkKeys, Surroundings};
use crate::quic::endpoint::Endpoint;
use crate::quic::{Established, QuicEvent};
use crate::resolve::{self, Address, Resolved};
use crate::site::SitePorts;
use crate::state::StateDir;
use crate::streams::Board;
use crate::survey::Questions;
use crate::tap;

/// How long a node that leaves waits for its neighbours to hear it.
const LEAVE_DEADLINE: Duration = Duration::from_secs(2);
/// How long the end of QUIC may take after that.
const CLOSE_DEADLINE: Duration = Duration::from_millis(500);

/// Why a node fails whose datapath ended.
const DATAPATH_GONE: &str = "the thread that moves its packets has ended, which is a bug: the log says where; start it \
    again, and please report it";
/// Why a node fails whose driver panicked: what is said of its end until the driver comes to it.
pub(super) const DRIVER_GONE: &str = "the task that decides has ended, which is a bug: the log says where; start it \
    again, and please report it";

/// The task's state. See the module's head.
#[derive(Debug)]
pub(super) struct Driver {
    pub(super) pump: Pump<Control>,
    pub(super) datapath: datapath::Datapath,
    /// What interfaces carry is as the system says, not as the settings do.
    pub(super) asks_rates: bool,
    pub(super) fanout: Arc<Fanout>,
    pub(super) streams: Arc<Board>,
    pub(super) quic: Endpoint,
    pub(super) around: Surroundings,
    pub(super) events: broadcast::Sender<Event>,
    pub(super) inbox: Inbox,
    pub(super) site: SitePorts,
    pub(super) links: BTreeMap<LinkIndex, Connected>,
    pub(super) next_link: LinkIndex,
    pub(super) dials: BTreeMap<DialId, AbortHandle>,
    pub(super) publications: BTreeMap<StreamName, Publication>,
    pub(super) interests: Interests,
    pub(super) resolving: Resolving,
    /// Inputs that doing an output brought about.
    pub(super) again: VecDeque<Input>,
    pub(super) dial_failures: Rarely,
    pub(super) questions: Questions,
    pub(super) leaving: Option<Deadline>,
    /// Keeps the lock for as long as the node runs.
    pub(super) state: StateDir,
    /// Its end is the message that the node is gone; what is in it then, why it had to.
    pub(super) stopped: watch::Sender<Option<Failed>>,
    /// End with the node.
    pub(super) helpers: Vec<JoinHandle<()>>,
}

/// Where things come from.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) quic_events: mpsc::Receiver<QuicEvent>,
    pub(super) datapath: mpsc::Receiver<lane::Event>,
    pub(super) asked: mpsc::Receiver<Asked>,
    pub(super) resolved: mpsc::Receiver<Resolved>,
    /// Of the site: what was heard, and the host's interfaces.
    pub(super) site: mpsc::Receiver<site::Input>,
    /// Whether anybody can still ask.
    pub(super) is_asked: bool,
}

/// A connection that the core knows.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) peer: NodeId,
    pub(super) remote: std::net::SocketAddr,
    /// The address of this host that the handshake was sent to: the peer knows the link by it.
    pub(super) local: Option<std::net::IpAddr>,
    pub(super) keys: LinkKeys,
    /// None once a close was ordered.
    pub(super) handle: Option<ConnectionHandle>,
}

/// A stream that is published here.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) slot: SlotId,
    /// Set when the core says that it is published.
    pub(super) flow: Option<FlowId>,
}

/// Neighbours by name.
#[derive(Debug)]
pub(super) struct Resolving {
    /// In client mode all addresses that may be anybody's are one neighbour, and so are all of one node.
    pub(super) merges: bool,
    pub(super) merged: BTreeMap<Option<NodeId>, Neighbour>,
    /// All that are dialled, before they are merged; at most as many as the core takes.
    pub(super) wanted: Vec<Neighbour>,
    /// What was not found yet, and why.
    pub(super) unresolved: BTreeMap<String, String>,
    /// Neighbours by name, as resolved last.
    pub(super) names: Names,
    /// Where look-ups put what they find.
    pub(super) results: mpsc::Sender<Resolved>,
}

/// One thing that happened.
enum Step {
    QuicEvent(QuicEvent),
    Datapath(lane::Event),
    Asked(Option<Asked>),
    Resolved(Resolved),
    Site(site::Input),
    Due,
    /// More streams are to be shown to whoever watches.
    Shows,
    LeaveDeadline,
    DatapathGone,
}

impl Driver {
    pub(super) async fn run(mut self) {
        // What the start gave the core has outputs already.
        self.settle().await;
        while !self.is_done() {
            match self.step().await {
                Step::QuicEvent(event) => self.on_quic_event(event).await,
                Step::Datapath(event) => self.pump.handle(Input::Lane(event)),
                Step::Asked(Some(asked)) => self.on_request(asked.request).await,
                Step::Asked(None) => {
                    self.inbox.is_asked = false;
                    self.begin_to_leave();
                }
                Step::Resolved(resolved) => self.on_resolved(resolved),
                Step::Site(input) => self.pump.handle(input),
                Step::Due => self.pump.fire(),
                Step::Shows => {}
                Step::LeaveDeadline => self.links.clear(),
                Step::DatapathGone => {
                    self.fail(DATAPATH_GONE);
                    return self.shut_down().await;
                }
            }
            self.settle().await;
            self.show_streams();
        }
        self.stopped.send_replace(None);
        self.shut_down().await;
    }

    /// Waits for the next thing.
    async fn step(&mut self) -> Step {
        let Inbox {
            quic_events,
            datapath,
            asked,
            resolved,
            site,
            is_asked,
        } = &mut self.inbox;
        let shows = self.pump.machine().has_stream_changes();
        let leave = async {
            match self.leaving {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(event) = quic_events.recv() => Step::QuicEvent(event),
            Some(event) = datapath.recv() => Step::Datapath(event),
            asked = asked.recv(), if *is_asked => Step::Asked(asked),
            Some(resolved) = resolved.recv() => Step::Resolved(resolved),
            Some(input) = site.recv() => Step::Site(input),
            () = self.pump.due() => Step::Due,
            () = std::future::ready(()), if shows => Step::Shows,
            () = leave => Step::LeaveDeadline,
            () = self.datapath.gone() => Step::DatapathGone,
        }
    }

    /// Shows a slice of the streams that changed to whoever watches them.
    fn show_streams(&mut self) {
        let core = self.pump.machine_mut();
        if !core.has_stream_changes() {
            return;
        }
        if !self.streams.is_watched() {
            core.watch_streams(false);
            return;
        }
        let mut changes = core.take_stream_changes(ROWS_AT_ONCE);
        for change in &mut changes {
            if let StreamChange::Known(row) = change {
                self.fanout
                    .count_readers(row.flow, &mut row.demand.subscriptions);
            }
        }
        self.streams.put(changes);
    }

    fn is_done(&self) -> bool {
        self.leaving.is_some() && self.links.is_empty()
    }

    /// Does all that the core has to say.
    pub(super) async fn settle(&mut self) {
        loop {
            while let Some(output) = self.pump.poll() {
                self.on_output(output).await;
            }
            match self.again.pop_front() {
                Some(input) => self.pump.handle(input),
                None => return,
            }
        }
    }

    async fn on_quic_event(&mut self, event: QuicEvent) {
        match event {
            QuicEvent::Established(established) => self.on_established(established),
            QuicEvent::DialFailed { dial, reason } => {
                if self.dials.remove(&dial).is_some() {
                    self.pump.handle(LinkInput::DialFailed { dial, reason });
                }
            }
            QuicEvent::Message { link, message } => {
                tracing::trace!(link = link.0, ?message, "heard");
                self.pump.handle(LinkInput::Message { link, message });
            }
            QuicEvent::Written { link, concern } => {
                self.pump.handle(Input::Written { link, concern });
            }
            QuicEvent::Lost { link, reason } => {
                self.links.remove(&link);
                self.pump.handle(LinkInput::Disconnected { link, reason });
            }
        }
    }

    fn on_established(&mut self, established: Established) {
        let dial = established.dial;
        // An attempt that was cancelled while its success was on the way ends here: dropping closes it.
        if dial.is_some_and(|dial| self.dials.remove(&dial).is_none()) || self.leaving.is_some() {
            return;
        }
        let peer = established.peer;
        let connection = &established.connection;
        let remote = levada_lane::canonical(connection.remote_address());
        let local = connection.local_ip().map(|local| local.to_canonical());
        let Some(keys) = LinkKeys::export(connection, dial.is_some()) else {
            if let Some(dial) = dial {
                let reason = "the connection ended before its keys could be made".to_owned();
                self.pump.handle(LinkInput::DialFailed { dial, reason });
            }
            return;
        };
        let link = self.next_link;
        self.next_link = LinkIndex(link.0.wrapping_add(1));
        if let Some(tap) = &self.around.tap {
            tap::show_link_keys(&keys, &**tap);
        }
        let handle = crate::quic::connection::serve(established, link, &self.around);
        let connected = Connected {
            peer,
            remote,
            local,
            keys,
            handle: Some(handle),
        };
        self.links.insert(link, connected);
        self.pump.handle(LinkInput::Connected {
            link,
            peer,
            remote,
            dial,
        });
    }

    fn on_resolved(&mut self, resolved: Resolved) {
        match resolved {
            Resolved::Found { address, neighbour } => {
                self.resolving.unresolved.remove(&address.to_string());
                let now = self.pump.now();
                match self.resolving.names.found(now, address, &neighbour) {
                    Change::None => {}
                    Change::New => self.add_neighbour(neighbour),
                    Change::Replaces(before) => {
                        tracing::info!("a neighbour's name stands for other addresses now");
                        self.remove_neighbour(&before);
                        self.add_neighbour(neighbour);
                    }
                }
            }
            Resolved::NotYet { address, cause } => {
                let address = address.to_string();
                tracing::warn!(
                    cause,
                    "a neighbour's name is not found; it is looked up again"
                );
                self.tell(Event::NotResolved {
                    address: address.clone(),
                    reason: cause.clone(),
                });
                self.resolving.unresolved.insert(address, cause);
            }
        }
    }

    pub(super) fn add_neighbour(&mut self, neighbour: Neighbour) {
        if !self.resolving.wanted.contains(&neighbour)
            && self.resolving.wanted.len() < NEIGHBOURS_MAX
        {
            self.resolving.wanted.push(neighbour.clone());
        }
        if !self.resolving.merges {
            self.pump.handle(LinkInput::AddNeighbour(neighbour));
            return;
        }
        let merged = self.resolving.merged.entry(neighbour.node);
        let merged = merged.or_insert_with(|| Neighbour {
            addresses: Vec::new(),
            node: neighbour.node,
        });
        let before = merged.clone();
        merged.addresses.extend(neighbour.addresses);
        let after = merged.clone();
        if !before.addresses.is_empty() {
            self.pump.handle(LinkInput::RemoveNeighbour(before));
        }
        self.pump.handle(LinkInput::AddNeighbour(after));
    }

    /// Keeps a link to a neighbour that the user named while the node runs.
    pub(super) fn join(&mut self, address: Address) {
        match address.literal() {
            Some(neighbour) => self.add_neighbour(neighbour),
            None => self.look_up(vec![address]),
        }
    }

    /// Dials the peer of a link no more, and closes the link. Whether there was one.
    pub(super) fn part(&mut self, link: LinkIndex) -> bool {
        let Some(connected) = self.links.get(&link) else {
            return false;
        };
        let (remote, peer) = (connected.remote, connected.peer);
        let is_it = |neighbour: &Neighbour| {
            neighbour.addresses.contains(&remote) || neighbour.node == Some(peer)
        };
        let wanted = self.resolving.wanted.iter().filter(|it| is_it(it));
        for neighbour in wanted.cloned().collect::<Vec<_>>() {
            self.remove_neighbour(&neighbour);
        }
        self.close(link, &LinkDown::Leaving);
        true
    }

    /// Forgets a neighbour. What is merged keeps the addresses of the others.
    fn remove_neighbour(&mut self, neighbour: &Neighbour) {
        self.resolving.wanted.retain(|known| known != neighbour);
        if !self.resolving.merges {
            let gone = neighbour.clone();
            self.pump.handle(LinkInput::RemoveNeighbour(gone));
            return;
        }
        if let Some(merged) = self.resolving.merged.get_mut(&neighbour.node) {
            let before = merged.clone();
            merged
                .addresses
                .retain(|address| !neighbour.addresses.contains(address));
            let after = merged.clone();
            self.pump.handle(LinkInput::RemoveNeighbour(before));
            self.pump.handle(LinkInput::AddNeighbour(after));
        }
    }

    /// Looks names up, until each is found.
    pub(super) fn look_up(&mut self, names: Vec<Address>) {
        self.helpers.retain(|helper| !helper.is_finished());
        let results = self.resolving.results.clone();
        let look_ups = resolve::run(names, results);
        self.helpers.push(tokio::spawn(look_ups));
    }

    pub(super) fn begin_to_leave(&mut self) {
        if self.leaving.is_none() {
            self.leaving = Some(Deadline::now() + LEAVE_DEADLINE);
            self.pump.handle(Input::Leave);
        }
    }

    /// Says that the node ends, and why. Without its datapath it can neither carry anything nor tell its neighbours.
    fn fail(&self, reason: &'static str) {
        tracing::error!(reason, "the node stops");
        self.tell(Event::Failed {
            reason: reason.to_owned(),
        });
        self.stopped.send_replace(Some(Failed { reason }));
    }

    /// Tells whoever listens.
    pub(super) fn tell(&self, event: Event) {
        // Nobody listens, or somebody does: both are fine.
        let _ = self.events.send(event);
    }

    /// Tells the datapath something. If it is gone the next step says so.
    pub(super) async fn command(&self, command: Command) {
        let _ = self.datapath.send(command).await;
    }

    /// Tells the datapath what the core wants of a flow, and subscribers that it begins or ends to be theirs.
    pub(super) async fn on_flow(&self, flow: FlowId, command: FlowCommand) {
        if let Some(tap) = &self.around.tap {
            tap::show_secrets(&command, &**tap);
        }
        if matches!(command, FlowCommand::Consume { .. }) {
            self.fanout.open(flow);
        }
        let is_over = matches!(command, FlowCommand::Close | FlowCommand::StopConsuming);
        self.command(Command::Flow(flow, command)).await;
        if is_over {
            self.fanout.close(flow);
        }
    }

    async fn shut_down(self) {
        self.quic.close(CLOSE_DEADLINE).await;
        self.datapath.stop().await;
        self.fanout.finish();
        self.streams.close();
        for helper in self.helpers {
            helper.abort();
            // What it held, the local socket's file above all, is gone before another node may make its own.
            let _ = helper.await;
        }
        tracing::info!("the node has stopped");
        // The lock goes before whoever waits for the end may start anew.
        drop(self.state);
        drop(self.stopped);
    }
}
