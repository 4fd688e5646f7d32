//! All that a lane owns: its flows, and what they share.
//!
//! ```text
//!  State ─┬─ flows: each with its keys, window, cache, children ...        `flow.rs`
//!         └─ io: links, ways out, ledger, room of the caches, turns        what more than one flow touches
//! ```
//!
//! What is done to one flow is a function of the flow, the io and the time, so that the flow is looked up once. Not the
//! doing: `forward`, `commands`, `repair`, `child`. Made by the lane. Invariant: no flow is reachable from the io.

use std::collections::BTreeMap;
use std::sync::Arc;

use levada_wire::FlowId;

use crate::api::FrameRefusal;
use crate::child::queue::Queue;
use crate::child::repairs::Repaired;
use crate::flow::cache::Room;
use crate::flow::closed::ClosedFlows;
use crate::flow::run::Growing;
use crate::flow::{self, Flow};
use crate::joined::Joined;
use crate::ledger::Ledger;
use crate::link::{self, overflow::Overflow, totals::Totals};
use crate::outbox::Outbox;
use crate::settings::LaneSettings;
use crate::shared::Shared;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) flows: flow::Table,
    pub(crate) io: Io,
}

/// What the flows of a lane share.
#[derive(Debug)]
pub(crate) struct Io {
    /// The counts of links over all lanes.
    pub(crate) totals: Arc<Totals>,
    pub(crate) settings: LaneSettings,
    pub(crate) closed: ClosedFlows,
    pub(crate) links: link::Table,
    pub(crate) queue: Queue,
    /// What children were sent again.
    pub(crate) repaired: Repaired,
    pub(crate) joined: Joined,
    pub(crate) room: Room,
    pub(crate) outbox: Outbox,
    pub(crate) ledger: Ledger,
    /// What this node's own receive buffer lost, and what came.
    pub(crate) overflow: Overflow,
    /// The runs of the train that is being forwarded; empty between calls, and kept for its memory.
    pub(crate) runs: Vec<Growing>,
    /// Flows that must be driven before the call returns.
    pub(crate) touched: Vec<FlowId>,
    pub(crate) commands_refused: u64,
    pub(crate) frames_refused: BTreeMap<FrameRefusal, u64>,
}

impl State {
    pub(crate) fn new(number: u8, settings: LaneSettings, shared: Shared) -> Self {
        Self {
            flows: flow::Table::default(),
            io: Io {
                totals: shared.totals,
                closed: ClosedFlows::default(),
                links: link::Table::default(),
                queue: Queue::new(&settings, usize::from(number), shared.interfaces),
                repaired: Repaired::default(),
                joined: Joined::default(),
                room: Room::new(settings.cache_bytes_max).among(usize::from(number), shared.room),
                outbox: Outbox::new(number),
                ledger: Ledger::default(),
                overflow: Overflow::default(),
                runs: Vec::new(),
                touched: Vec::new(),
                commands_refused: 0,
                frames_refused: BTreeMap::new(),
                settings,
            },
        }
    }

    /// The flow beside what it shares with others.
    pub(crate) fn flow(&mut self, id: FlowId) -> Option<(&mut Flow, &mut Io)> {
        Some((self.flows.get_mut(id)?, &mut self.io))
    }
}
