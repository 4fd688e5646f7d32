//! Three nodes in a row for the negative controls of the checkers: `a` publishes `cam`, `b` relays, `c` may subscribe.
//!
//! Not a world: the tests write down what the machines would have said. Used by tests of `check` only. Invariant: as it
//! stands, no checker finds anything.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use levada_core::view::{FlowRow, FlowState};
use levada_lane::ledger::Difference;
use levada_wire::packet::Class;
use levada_wire::{
    FlowId, Group, Header, Instant, LinkIndex, NodeId, Number, OriginTime, StreamName,
};

use super::{Facts, Overview, Peer, Snapshot};
use crate::connection::ConnectionId;
use crate::scenario::Scenario;

pub(super) const FLOW: FlowId = FlowId(7);
pub(super) const START: u32 = 3;

const SCENARIO: &str = r#"
about = "three nodes in a row"
duration = "10s"
[[network]]
name = "lan"
[[node]]
name = "a"
network = "lan"
[[node]]
name = "b"
network = "lan"
relay = true
neighbours = ["a"]
[[node]]
name = "c"
network = "lan"
neighbours = ["b"]
[[stream]]
name = "cam"
origin = "a"
video = { frames_per_second = 10, bytes = 100, sync_every = 10, sync_bytes = 200 }
audio = { frames_per_second = 10, bytes = 50 }
"#;

pub(super) fn cam() -> StreamName {
    "cam".parse().unwrap()
}

pub(super) fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}

/// `cam` is published, its flow known; nobody subscribes.
pub(super) fn facts() -> Facts {
    let mut facts = Facts::new(&Scenario::parse("fixture.toml", SCENARIO).unwrap());
    facts.published(Instant::ZERO, 0, 0, START);
    facts.originates(0, FLOW, &cam());
    facts
}

/// All three run, linked in a row; nothing flows.
pub(super) fn overview(seconds: u64) -> Overview {
    let snapshot = |relay| Snapshot {
        is_paused: false,
        relay,
        flows: Vec::new(),
        peers: BTreeMap::new(),
        difference: Difference::default(),
    };
    Overview {
        now: at(seconds),
        nodes: vec![
            Some(snapshot(false)),
            Some(snapshot(true)),
            Some(snapshot(false)),
        ],
        reachable: vec![vec![1], vec![0, 2], vec![1]],
    }
}

/// A node takes a flow from another.
pub(super) fn takes_from(overview: &mut Overview, node: usize, flow: FlowId, from: usize) {
    let link = link(overview, node, from);
    row(overview, node, flow).upstream = Some(link);
}

/// A node sends a flow to another.
pub(super) fn sends_to(overview: &mut Overview, node: usize, flow: FlowId, to: usize) {
    let link = link(overview, node, to);
    row(overview, node, flow).egresses.push(link);
}

/// Somebody at a node subscribes to a flow.
pub(super) fn subscribes(overview: &mut Overview, node: usize, flow: FlowId) {
    row(overview, node, flow).subscriptions += 1;
}

/// A node's link to another: both ends of one connection.
fn link(overview: &mut Overview, node: usize, peer: usize) -> LinkIndex {
    let number = |node: usize| u32::try_from(node).unwrap();
    let link = LinkIndex(number(peer));
    let connection = ConnectionId(number(node.min(peer) * 10 + node.max(peer)));
    overview.nodes[node].as_mut().unwrap().peers.insert(
        link,
        Peer {
            node: peer,
            connection,
        },
    );
    link
}

fn row(overview: &mut Overview, node: usize, flow: FlowId) -> &mut FlowRow {
    let rows = &mut overview.nodes[node].as_mut().unwrap().flows;
    if !rows.iter().any(|row| row.flow == flow) {
        rows.push(FlowRow {
            flow,
            name: cam(),
            origin: NodeId([0; 32]),
            state: FlowState::Streaming,
            peak_bps: levada_wire::Bitrate(1_000_000),
            upstream: None,
            second_upstream: None,
            egresses: Vec::new(),
            subscriptions: 0,
            cause: None,
        });
    }
    rows.iter_mut().find(|row| row.flow == flow).unwrap()
}

/// A media packet of a flow; its tags are false, which no checker looks at.
pub(super) fn packet(flow: FlowId, number: Number) -> Vec<u8> {
    let header = Header {
        last: true,
        discardable: false,
        class: Class::KEEP,
        key: 0,
        description: 0,
        flow,
        number,
        index: 0,
        group: Group(0),
        offset: 0,
        sent: OriginTime(0),
    };
    [header.encode().as_slice(), &[0; 100]].concat()
}
