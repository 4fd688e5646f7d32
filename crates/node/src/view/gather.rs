//! Gathers the rows of a table: looks at the core in slices, asks the lanes what they counted, and joins the two.
//!
//! Runs in the task of whoever asked. Between two slices the node goes on, so rows of one answer may be a few
//! milliseconds apart; none is there twice, and none that stays is left out, since slices follow the order of keys.
//! Called by [`crate::Node`] and `admin`. Invariant: the core's task makes [`ROWS_AT_ONCE`] rows at most before it does
//! something else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use levada_core::limits::ROWS_AT_ONCE;
use levada_core::{Control, view as core};
use levada_lane::api::{FRAMES_REFUSED, FrameRefusal};
use levada_ports::worker::WorkerCounters;
use levada_wire::{LinkIndex, NodeId};

use super::{
    About, CounterRow, FlowCounters, FlowRow, LinkCounters, LinkRow, LinkState, MemberRow,
    NodeRole, NodeRow, Remote, RouteRow, Seconds, StreamRow, VERSION, View,
};
use crate::fanout::Fanout;
use crate::node::{Node, Stopped};
use crate::quic::close;

/// Rows of one kind, from wherever they are.
pub trait Gather: Sized + Send {
    /// All of them, in the order of their keys.
    fn gather(node: &Node) -> impl Future<Output = Result<Vec<Self>, Stopped>> + Send;
}

/// All of what the core has of one kind: slice by slice, each behind the last key of the one before.
async fn slices<T, K>(
    node: &Node,
    key: impl Fn(&T) -> K,
    slice: fn(&Control, Option<K>) -> Vec<T>,
) -> Result<Vec<T>, Stopped>
where
    T: Send + 'static,
    K: Send + 'static,
{
    let mut rows: Vec<T> = Vec::new();
    loop {
        let after = rows.last().map(&key);
        let more = node
            .handle()
            .look(move |seen| slice(seen.control, after))
            .await?;
        let is_last = more.len() < ROWS_AT_ONCE;
        rows.extend(more);
        if is_last {
            return Ok(rows);
        }
    }
}

impl Gather for StreamRow {
    async fn gather(node: &Node) -> Result<Vec<Self>, Stopped> {
        let key = |row: &Self| (row.name.clone(), row.origin);
        let mut rows = slices(node, key, |control, after| {
            control.stream_rows(after).take(ROWS_AT_ONCE).collect()
        })
        .await?;
        let fanout = fanout(node).await?;
        for row in &mut rows {
            fanout.count_readers(row.flow, &mut row.demand.subscriptions);
        }
        Ok(rows)
    }
}

impl Gather for RouteRow {
    async fn gather(node: &Node) -> Result<Vec<Self>, Stopped> {
        let key = |row: &Self| row.origin;
        slices(node, key, |control, after| {
            control.route_rows(after).take(ROWS_AT_ONCE).collect()
        })
        .await
    }
}

impl Gather for MemberRow {
    async fn gather(node: &Node) -> Result<Vec<Self>, Stopped> {
        let key = |row: &Self| row.node;
        slices(node, key, |control, after| {
            control.member_rows(after).take(ROWS_AT_ONCE).collect()
        })
        .await
    }
}

impl Gather for FlowRow {
    async fn gather(node: &Node) -> Result<Vec<Self>, Stopped> {
        let rows = flows(node).await?;
        Ok(with_flow_counters(rows, &node.handle().counters().await?))
    }
}

impl Gather for LinkRow {
    async fn gather(node: &Node) -> Result<Vec<Self>, Stopped> {
        let rows = links(node).await?;
        Ok(with_link_counters(rows, &node.handle().counters().await?))
    }
}

impl Gather for CounterRow {
    async fn gather(node: &Node) -> Result<Vec<Self>, Stopped> {
        counters(node, &node.handle().counters().await?).await
    }
}

/// This node, then its neighbours, then the origins behind them, each once.
impl Gather for NodeRow {
    async fn gather(node: &Node) -> Result<Vec<Self>, Stopped> {
        let this = about(node).await?;
        let links = links(node).await?;
        let routes = RouteRow::gather(node).await?;
        let origins = slices(
            node,
            |(origin, _)| *origin,
            |control, after| control.origins(after).take(ROWS_AT_ONCE).collect(),
        );
        let streams: BTreeMap<NodeId, usize> = origins.await?.into_iter().collect();
        Ok(nodes(this, links, &routes, &streams))
    }
}

/// Everything.
pub(crate) async fn view(node: &Node) -> Result<View, Stopped> {
    let about = about(node).await?;
    let (links, flows) = (links(node).await?, flows(node).await?);
    let routes = RouteRow::gather(node).await?;
    let streams = StreamRow::gather(node).await?;
    let members = MemberRow::gather(node).await?;
    let counted = node.handle().counters().await?;
    Ok(View {
        version: VERSION,
        node: about,
        links: with_link_counters(links, &counted),
        routes,
        streams,
        flows: with_flow_counters(flows, &counted),
        members,
        counters: counters(node, &counted).await?,
    })
}

pub(crate) async fn about(node: &Node) -> Result<About, Stopped> {
    let admission = node.handle().look(|seen| seen.control.admission()).await?;
    let about = node.handle().about();
    Ok(About {
        id: about.id,
        name: about.name.clone(),
        listen: about.local_addr,
        state_dir: about.state_dir.clone(),
        is_relay: about.relay,
        is_client: about.client,
        uptime_seconds: Seconds(node.handle().uptime()),
        admission,
    })
}

/// Links by number, then neighbours to which there is none, then those whose names are being looked up.
async fn links(node: &Node) -> Result<Vec<core::LinkRow>, Stopped> {
    let key = |row: &core::LinkRow| row.link.unwrap_or(LinkIndex(u32::MAX));
    let mut rows = slices(node, key, |control, after| {
        control.link_rows(after).take(ROWS_AT_ONCE).collect()
    })
    .await?;
    let others = node.handle().look(|seen| {
        let unresolved = seen.unresolved.iter().map(|(name, cause)| core::LinkRow {
            cause: Some(cause.clone()),
            ..core::LinkRow::to(Remote::Name(name.clone()), LinkState::Resolving)
        });
        let neighbours = seen.control.neighbour_rows();
        neighbours.chain(unresolved).collect::<Vec<_>>()
    });
    rows.extend(others.await?);
    // What a peer said of itself, or of why it went, goes to a terminal.
    for row in &mut rows {
        row.name = close::shorten(&row.name);
        row.cause = row.cause.as_deref().map(close::shorten);
    }
    Ok(rows)
}

async fn flows(node: &Node) -> Result<Vec<core::FlowRow>, Stopped> {
    let key = |row: &core::FlowRow| row.flow;
    let mut rows = slices(node, key, |control, after| {
        control.flow_rows(after).take(ROWS_AT_ONCE).collect()
    })
    .await?;
    let fanout = fanout(node).await?;
    for row in &mut rows {
        fanout.count_readers(row.flow, &mut row.subscriptions);
    }
    Ok(rows)
}

async fn fanout(node: &Node) -> Result<Arc<Fanout>, Stopped> {
    node.handle().look(|seen| Arc::clone(seen.fanout)).await
}

fn with_link_counters(rows: Vec<core::LinkRow>, counted: &WorkerCounters) -> Vec<LinkRow> {
    let counted = counted.lane.links.iter();
    let counted: BTreeMap<_, _> = counted.map(|one| (one.link, *one)).collect();
    let joined = rows.into_iter().map(|control| {
        let counters = control.link.and_then(|link| counted.get(&link).copied());
        LinkRow {
            control,
            // The row has its key already, and is read back without this one.
            counters: LinkCounters {
                link: LinkIndex::default(),
                ..counters.unwrap_or_default()
            },
        }
    });
    joined.collect()
}

fn with_flow_counters(rows: Vec<core::FlowRow>, counted: &WorkerCounters) -> Vec<FlowRow> {
    let counted = counted.lane.flows.iter();
    let counted: BTreeMap<_, _> = counted.map(|one| (one.flow, *one)).collect();
    let joined = rows.into_iter().map(|control| {
        let counters = counted.get(&control.flow.0).copied();
        FlowRow {
            control,
            counters: FlowCounters {
                flow: 0,
                ..counters.unwrap_or_default()
            },
        }
    });
    joined.collect()
}

fn nodes(
    this: About,
    links: Vec<core::LinkRow>,
    routes: &[RouteRow],
    streams: &BTreeMap<NodeId, usize>,
) -> Vec<NodeRow> {
    let distances = routes.iter().map(|row| (row.origin, row.distance_seconds));
    let distances: BTreeMap<_, _> = distances.collect();
    let row = |id: NodeId, role| NodeRow {
        id,
        name: String::new(),
        role,
        address: None,
        distance_seconds: distances.get(&id).copied().flatten(),
        is_relay: None,
        streams: streams.get(&id).copied().unwrap_or(0),
        admission: None,
    };
    let mut shown = BTreeSet::from([this.id]);
    let mut rows = vec![NodeRow {
        name: this.name,
        address: Some(Remote::Address(this.listen)),
        distance_seconds: Some(Seconds::default()),
        is_relay: Some(this.is_relay),
        admission: Some(this.admission),
        ..row(this.id, NodeRole::This)
    }];
    for link in links {
        let Some(peer) = link.peer else { continue };
        shown.insert(peer);
        rows.push(NodeRow {
            name: link.name,
            address: Some(link.remote),
            is_relay: Some(link.is_relay),
            ..row(peer, NodeRole::Neighbour)
        });
    }
    for origin in distances.keys().chain(streams.keys()) {
        if shown.insert(*origin) {
            rows.push(row(*origin, NodeRole::Origin));
        }
    }
    rows
}

/// What was counted: packets and copies and why they went no further, then what sockets and the joints of this crate
/// did.
async fn counters(node: &Node, counted: &WorkerCounters) -> Result<Vec<CounterRow>, Stopped> {
    let (lane, ledger) = (&counted.lane, &counted.lane.ledger);
    let mut rows: Vec<CounterRow> = ledger.counts().map(CounterRow::new).collect();
    rows.extend(ledger.by_reason().map(|(declared, reason, value)| {
        CounterRow::new((declared, value)).with_reason(reason.as_str(), reason.help())
    }));
    rows.extend(ledger.repair.counts().map(CounterRow::new));
    rows.extend(lane.counts().map(CounterRow::new));
    rows.extend(FrameRefusal::ALL.map(|reason| {
        let value = lane.frames_refused.get(&reason).copied().unwrap_or(0);
        CounterRow::new((&FRAMES_REFUSED, value)).with_reason(reason.as_str(), reason.help())
    }));
    rows.extend(counted.counts().map(CounterRow::new));
    rows.extend(counted.send.counts().map(CounterRow::new));
    rows.extend(node.handle().losses().counts().map(CounterRow::new));
    let catalogue = node.handle().look(|seen| seen.control.catalogue_counts());
    rows.extend(catalogue.await?.counts().map(CounterRow::new));
    Ok(rows)
}
