//! What nodes say of themselves to others, and how a program asks: the map of the network and the way of a stream.
//!
//! ```text
//!   Node::rows::<MapRow>: this node ─▶ its neighbours ─▶ theirs ...   each asked once, over the shortest way known
//!   Node::trace: this node ─▶ the node that its flow comes from ─▶ the one that comes from ... to the origin
//! ```
//!
//! Not which questions are taken, which is `core::survey`. Called by the driver, by [`crate::Node`] and by `admin`.
//! Invariant: a map has [`MAP_NODES_MAX`] nodes at most, and what a node is told of another it shows as that one's
//! word.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use levada_core::survey::{Ask, Unheard};
use levada_core::{Input, view as core};
use levada_ports::worker::WorkerCounters;
use levada_wire::control::link::NODE_NAME_BYTES_MAX;
use levada_wire::control::survey::{
    OVERVIEW_ROWS_MAX, Overview, OverviewFlow, OverviewLink, SURVEY_PATH_MAX,
};
use levada_wire::{FlowId, LinkIndex, NodeId, StreamName};
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::driver::{Handle, Request, WeakHandle};
use crate::node::{Node, Stopped};
use crate::view::gather::Gather;
use crate::view::{FlowState, HopRow, MapFlow, MapLink, MapRow, MemberRole, Ratio, Seconds};

/// The most nodes of a map; those nearest are on it.
pub const MAP_NODES_MAX: usize = 64;
/// Nodes that are asked at once.
const ASKED_AT_ONCE: usize = 16;
/// Flows that are looked at for those that flow.
const FLOWS_LOOKED_AT_MAX: usize = 1_024;
/// How old may be what the lanes counted.
const COUNTED_FOR: Duration = Duration::from_millis(500);

/// The questions of the driver.
#[derive(Debug)]
pub(crate) struct Questions {
    me: WeakHandle,
    next: u64,
    asks: BTreeMap<u64, oneshot::Sender<Result<Overview, Unheard>>>,
    counted: Counted,
}

/// What the lanes counted last: many questions cost one look.
type Counted = Arc<Mutex<Option<(Instant, Arc<WorkerCounters>)>>>;

impl Questions {
    pub(crate) fn new(me: WeakHandle) -> Self {
        Self {
            me,
            next: 0,
            asks: BTreeMap::new(),
            counted: Counted::default(),
        }
    }

    /// What the core is told when the user asks. It answers each, so that none stays here.
    pub(crate) fn ask(
        &mut self,
        path: &[NodeId],
        flow: Option<FlowId>,
        reply: oneshot::Sender<Result<Overview, Unheard>>,
    ) -> Input {
        let ask = self.next;
        self.next += 1;
        self.asks.insert(ask, reply);
        let path = path.iter().map(NodeId::prefix).collect();
        Input::Ask(Ask { ask, path, flow })
    }

    pub(crate) fn heard(&mut self, ask: u64, heard: Result<Overview, Unheard>) {
        if let Some(reply) = self.asks.remove(&ask) {
            // Who asked may have gone.
            let _ = reply.send(heard);
        }
    }

    /// Has this node describe itself. As many at once as the core takes questions.
    pub(crate) fn describe(&self, question: u32, flow: Option<FlowId>) {
        let Some(handle) = self.me.upgrade() else {
            return;
        };
        let counted = Arc::clone(&self.counted);
        tokio::spawn(async move {
            let Ok(overview) = overview(&handle, flow, &counted).await else {
                return;
            };
            // A node that has stopped answers nobody.
            let _ = handle
                .request(Request::Described { question, overview })
                .await;
        });
    }
}

/// What this node says of itself.
async fn overview(
    handle: &Handle,
    flow: Option<FlowId>,
    counted: &Counted,
) -> Result<Overview, Stopped> {
    let counters = counters(handle, counted).await?;
    let (links, flows, hub, streams) = handle
        .look(move |seen| {
            let links: Vec<_> = seen
                .control
                .link_rows(None)
                .filter(|row| row.state.is_up())
                .collect();
            let after = flow.and_then(|flow| flow.0.checked_sub(1)).map(FlowId);
            let flows = seen.control.flow_rows(after).take(match flow {
                Some(_) => 1,
                None => FLOWS_LOOKED_AT_MAX,
            });
            let is_wanted = |row: &core::FlowRow| {
                row.state != FlowState::Hold && flow.is_none_or(|flow| flow == row.flow)
            };
            let flows: Vec<_> = flows.filter(is_wanted).take(OVERVIEW_ROWS_MAX).collect();
            let this = seen.control.member_rows(None).next();
            let hub = this.is_some_and(|row| row.role == MemberRole::Hub);
            (links, flows, hub, seen.control.catalogue_counts().streams)
        })
        .await?;
    let peers: BTreeMap<_, _> = links
        .iter()
        .filter_map(|row| Some((row.link?, row.peer?)))
        .collect();
    let mut name = handle.about().name.clone();
    name.truncate(name.floor_char_boundary(NODE_NAME_BYTES_MAX));
    let upstreams: BTreeSet<_> = flows.iter().filter_map(|row| row.upstream).collect();
    // Of one flow only the link that it comes by is of interest.
    let is_shown = |row: &&core::LinkRow| {
        flow.is_none() || row.link.is_some_and(|link| upstreams.contains(&link))
    };
    let shown = links.iter().filter(is_shown).take(OVERVIEW_ROWS_MAX);
    Ok(Overview {
        name,
        relay: handle.about().relay,
        hub,
        uptime_ms: u64::try_from(handle.uptime().as_millis()).unwrap_or(u64::MAX),
        links: shown.filter_map(|row| link(row, &counters)).collect(),
        flows: flows
            .iter()
            .map(|row| self::flow(row, &peers, &counters))
            .collect(),
        links_total: u32::try_from(links.len()).unwrap_or(u32::MAX),
        streams_total: u32::try_from(streams).unwrap_or(u32::MAX),
    })
}

async fn counters(handle: &Handle, counted: &Counted) -> Result<Arc<WorkerCounters>, Stopped> {
    let mut counted = counted.lock().await;
    match &*counted {
        Some((at, counters)) if at.elapsed() < COUNTED_FOR => Ok(Arc::clone(counters)),
        _ => {
            let counters = Arc::new(handle.counters().await?);
            *counted = Some((Instant::now(), Arc::clone(&counters)));
            Ok(counters)
        }
    }
}

fn link(row: &core::LinkRow, counters: &WorkerCounters) -> Option<OverviewLink> {
    let index = row.link?;
    let links = &counters.lane.links;
    let at = links.binary_search_by_key(&index, |row| row.link).ok();
    let counted = at.map(|at| links[at]).unwrap_or_default();
    let micros = |rtt: Seconds| u32::try_from(rtt.0.as_micros()).unwrap_or(u32::MAX);
    let permille = |ratio: Option<Ratio>| ratio.map_or(0, |ratio| ratio.permille);
    Some(OverviewLink {
        peer: row.peer?,
        name: row.name.clone(),
        rtt_us: row.rtt_seconds.map(micros),
        loss_in_permille: permille(row.loss_in_ratio),
        loss_out_permille: permille(row.loss_out_ratio),
        datagrams_in: counted.datagrams_in,
        datagrams_out: counted.datagrams_out,
    })
}

fn flow(
    row: &core::FlowRow,
    peers: &BTreeMap<LinkIndex, NodeId>,
    counters: &WorkerCounters,
) -> OverviewFlow {
    let flows = &counters.lane.flows;
    let at = flows.binary_search_by_key(&row.flow.0, |row| row.flow).ok();
    let counted = at.map(|at| flows[at]).unwrap_or_default();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    OverviewFlow {
        flow: row.flow,
        name: row.name.clone(),
        origin: row.origin,
        upstream: row.upstream.and_then(|link| peers.get(&link).copied()),
        subscriptions: count(row.subscriptions),
        egresses: count(row.egresses.len()),
        packets_in: counted.packets_in,
        bytes_in: counted.bytes_in,
        packets_out: counted.packets_out,
        repaired: counted.repaired,
        withheld: counted.withheld,
    }
}

impl Node {
    /// Asks a node that is reached over `path`, a neighbour first, what it says of itself; this node itself if there
    /// is no path.
    async fn ask(
        &self,
        path: Vec<NodeId>,
        flow: Option<FlowId>,
    ) -> Result<Result<Overview, Unheard>, Stopped> {
        if path.is_empty() {
            let overview = overview(self.handle(), flow, &Counted::default()).await?;
            return Ok(Ok(overview));
        }
        let reply = self
            .handle()
            .ask(|reply| Request::Ask { path, flow, reply });
        reply.await
    }

    /// The way of a stream from its origin to this node, hop by hop, this node first. Each node on the way is asked;
    /// the last row says why it is the last, if that is not the origin.
    ///
    /// # Errors
    ///
    /// When the stream does not flow here, or the node is gone.
    pub async fn trace(&self, name: &StreamName) -> Result<Vec<HopRow>, TraceError> {
        let mine = self.ask(Vec::new(), None).await?;
        let flows = mine.map(|overview| overview.flows).unwrap_or_default();
        let Some(flow) = flows.iter().find(|flow| flow.name == *name) else {
            let name = name.clone();
            return Err(TraceError::NotHere { name });
        };
        let (flow, origin) = (flow.flow, flow.origin);
        let (mut rows, mut path) = (Vec::new(), Vec::new());
        loop {
            let node = path.last().copied().unwrap_or_else(|| self.id());
            let heard = self.ask(path.clone(), Some(flow)).await?;
            let row = match &heard {
                Ok(overview) => HopRow::of(node, origin, overview),
                Err(why) => HopRow::silent(node, origin, *why),
            };
            let next = row.upstream;
            rows.push(row);
            match next {
                // What nodes say need not be true: a way that comes back ends.
                Some(next) if next != self.id() && !path.contains(&next) => path.push(next),
                _ => return Ok(rows),
            }
            if path.len() > SURVEY_PATH_MAX {
                return Ok(rows);
            }
        }
    }
}

/// Why a stream has no way to show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// It does not flow through this node.
    #[error(
        "`{name}` does not flow here: play it at this node, then its way can be shown; `levada streams` lists what \
         is known"
    )]
    NotHere {
        /// Its name.
        name: StreamName,
    },
    /// The node is gone.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl HopRow {
    fn of(node: NodeId, origin: NodeId, overview: &Overview) -> Self {
        let flow = overview.flows.first();
        let upstream = flow.and_then(|flow| flow.upstream);
        let link = overview
            .links
            .iter()
            .find(|link| Some(link.peer) == upstream);
        let link = link.map(MapLink::of);
        let cause = match flow {
            Some(_) if node == origin || upstream.is_some() => None,
            Some(_) => Some("nothing comes here yet".to_owned()),
            None => Some("it does not flow here".to_owned()),
        };
        Self {
            node,
            name: shown_name(&overview.name),
            is_origin: node == origin,
            upstream,
            rtt_seconds: link.as_ref().and_then(|link| link.rtt_seconds),
            loss_ratio: link.map(|link| link.loss_in_ratio),
            packets_in: flow.map_or(0, |flow| flow.packets_in),
            packets_out: flow.map_or(0, |flow| flow.packets_out),
            repaired: flow.map_or(0, |flow| flow.repaired),
            withheld: flow.map_or(0, |flow| flow.withheld),
            subscriptions: flow.map_or(0, |flow| flow.subscriptions),
            egresses: flow.map_or(0, |flow| flow.egresses),
            cause,
        }
    }

    fn silent(node: NodeId, origin: NodeId, why: Unheard) -> Self {
        let unknown = Self::of(node, origin, &Overview::default());
        Self {
            cause: Some(in_words(why).to_owned()),
            ..unknown
        }
    }
}

const fn in_words(why: Unheard) -> &'static str {
    match why {
        Unheard::NoWay => "a node on the way to it has no link to the next",
        Unheard::Silent => "it does not answer, or a node on the way to it does not",
        Unheard::Busy => "this node asks as much as it may",
    }
}

/// What others say is cut and cleaned before it is shown.
fn shown_name(name: &str) -> String {
    let cut = &name[..name.floor_char_boundary(NODE_NAME_BYTES_MAX)];
    cut.replace(char::is_control, " ")
}

impl MapLink {
    fn of(link: &OverviewLink) -> Self {
        let ratio = |permille: u16| Ratio {
            permille: permille.min(1_000),
        };
        Self {
            peer: link.peer,
            name: shown_name(&link.name),
            rtt_seconds: link
                .rtt_us
                .map(|micros| Seconds(Duration::from_micros(micros.into()))),
            loss_in_ratio: ratio(link.loss_in_permille),
            loss_out_ratio: ratio(link.loss_out_permille),
            datagrams_in: link.datagrams_in,
            datagrams_out: link.datagrams_out,
        }
    }
}

impl MapFlow {
    fn of(flow: &OverviewFlow) -> Self {
        Self {
            flow: flow.flow,
            name: flow.name.clone(),
            origin: flow.origin,
            upstream: flow.upstream,
            subscriptions: flow.subscriptions,
            egresses: flow.egresses,
            packets_in: flow.packets_in,
            bytes_in: flow.bytes_in,
            packets_out: flow.packets_out,
            repaired: flow.repaired,
            withheld: flow.withheld,
        }
    }
}

impl MapRow {
    fn of(node: NodeId, path: &[NodeId], heard: Result<Overview, Unheard>) -> Self {
        let (cause, overview) = match heard {
            Ok(overview) => (None, overview),
            Err(why) => (Some(in_words(why).to_owned()), Overview::default()),
        };
        let rows = OVERVIEW_ROWS_MAX;
        Self {
            id: node,
            name: shown_name(&overview.name),
            hops: path.len(),
            via: path.len().checked_sub(2).map(|at| path[at]),
            is_relay: overview.relay,
            is_hub: overview.hub,
            uptime_seconds: Seconds(Duration::from_millis(overview.uptime_ms)),
            cause,
            links: overview.links.iter().take(rows).map(MapLink::of).collect(),
            flows: overview.flows.iter().take(rows).map(MapFlow::of).collect(),
            links_total: overview.links_total,
            streams_total: overview.streams_total,
        }
    }
}

/// Whom a map has still to ask.
#[derive(Debug)]
struct Frontier {
    /// All nodes of the map so far, with the names that their neighbours say.
    known: BTreeMap<NodeId, String>,
    waiting: VecDeque<Vec<NodeId>>,
}

impl Frontier {
    fn new(me: NodeId) -> Self {
        Self {
            known: BTreeMap::from([(me, String::new())]),
            waiting: VecDeque::from([Vec::new()]),
        }
    }

    /// Takes in the row of the node at the end of that path: its neighbours are asked next.
    fn take(&mut self, path: &[NodeId], row: &mut MapRow) {
        if row.name.is_empty() {
            row.name = self.known.get(&row.id).cloned().unwrap_or_default();
        }
        for link in &row.links {
            let is_room = self.known.len() < MAP_NODES_MAX && path.len() < SURVEY_PATH_MAX;
            if is_room && !self.known.contains_key(&link.peer) {
                self.known.insert(link.peer, link.name.clone());
                self.waiting.push_back([path, &[link.peer]].concat());
            }
        }
    }
}

impl Gather for MapRow {
    async fn gather(node: &Node) -> Result<Vec<Self>, Stopped> {
        let mut frontier = Frontier::new(node.id());
        let mut asked: JoinSet<(Vec<NodeId>, Result<_, Stopped>)> = JoinSet::new();
        let mut rows = Vec::new();
        loop {
            while asked.len() < ASKED_AT_ONCE
                && let Some(path) = frontier.waiting.pop_front()
            {
                let node = node.clone();
                asked.spawn(async move {
                    let heard = node.ask(path.clone(), None).await;
                    (path, heard)
                });
            }
            let Some(heard) = asked.join_next().await else {
                break;
            };
            // A task that asks does not panic, and nobody aborts it.
            let Ok((path, heard)) = heard else { continue };
            let id = path.last().copied().unwrap_or_else(|| node.id());
            let mut row = Self::of(id, &path, heard?);
            frontier.take(&path, &mut row);
            rows.push(row);
        }
        rows.sort_by_key(|row| (row.hops, row.id));
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(node: u8) -> NodeId {
        NodeId([node; 32])
    }

    fn row(node: u8, path: &[NodeId], links: impl Iterator<Item = u8>) -> MapRow {
        let links = links.map(|peer| OverviewLink {
            peer: id(peer),
            name: format!("node {peer}\n{}", "x".repeat(100)),
            rtt_us: Some(1_000),
            loss_in_permille: 2_000,
            loss_out_permille: 0,
            datagrams_in: 0,
            datagrams_out: 0,
        });
        let overview = Overview {
            links: links.collect(),
            ..Overview::default()
        };
        MapRow::of(id(node), path, Ok(overview))
    }

    #[test]
    fn what_a_node_says_is_cut_and_cleaned() {
        let row = row(1, &[id(1)], 2..100);

        assert_eq!(row.links.len(), OVERVIEW_ROWS_MAX);
        let name = &row.links[0].name;
        assert!(
            name.starts_with("node 2 xx") && name.len() == NODE_NAME_BYTES_MAX,
            "{name}"
        );
        assert_eq!(row.links[0].loss_in_ratio.permille, 1_000);
    }

    #[test]
    fn a_map_asks_each_node_once_and_ends_at_its_limit() {
        let mut frontier = Frontier::new(id(0));
        assert_eq!(frontier.waiting.pop_front(), Some(Vec::new()));

        frontier.take(&[], &mut row(0, &[], 1..40));
        let mut second = row(1, &[id(1)], 0..60);
        frontier.take(&[id(1)], &mut second);
        frontier.take(&[id(2)], &mut row(2, &[id(2)], 0..255));

        assert_eq!(frontier.known.len(), MAP_NODES_MAX);
        assert_eq!(frontier.waiting.len(), MAP_NODES_MAX - 1);
        assert!(frontier.waiting.contains(&vec![id(1), id(59)]));
        assert!(second.name.starts_with("node 1 "), "{}", second.name);
        let long = vec![id(1); SURVEY_PATH_MAX];
        let before = frontier.waiting.len();
        frontier.take(&long, &mut row(3, &long, 200..220));
        assert_eq!(frontier.waiting.len(), before);
    }
}
