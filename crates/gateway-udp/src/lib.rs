//! Outputs: streams that leave a node as MPEG-TS datagrams, to televisions and whoever else listens to an address.
//!
//! | module | what it is |
//! |---|---|
//! | [`spec`] | what an output is: `udp://239.1.1.1:5000` and what can be said beside it |
//! | `socket` | the socket of an output |
//! | `output` | one output: a stream's frames into a shaper, its datagrams out of it in time |
//! | `announce` | SAP: what is sent is said to whoever listens for that |
//! | [`row`] | what can be seen of an output |
//!
//! ```text
//!   Subscriber ──▶ task ──▶ Shaper (levada_media::ts) ──▶ thread: sleeps until a datagram is due ──▶ socket
//! ```
//!
//! Not the transport stream, and not datagrams that come in, which are a source of `levada-media`. [`Outputs`] is what
//! `levada run` holds. Invariant: an output that cannot be is tried again and shown with its reason, and disturbs no
//! other; nothing of a node's output is taken in by a source of the same network.

#![forbid(unsafe_code)]

pub mod row;
pub mod spec;

mod announce;
mod output;
mod socket;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use levada::Node;
use levada_gateway::Registry;

use announce::Announcer;
use output::Output;
pub use row::{Row, State};
pub use spec::{Spec, SpecError};

/// The most outputs of a node: each has a thread.
pub const OUTPUTS_MAX: usize = 64;

/// All outputs of a node. Clones are the same.
#[derive(Clone, Debug)]
pub struct Outputs {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    node: Node,
    registry: Registry,
    table: Board,
}

/// The outputs by what they are, which is all that those who look at them hold.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<BTreeMap<Spec, Output>>>);

impl Board {
    /// What can be seen of each.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        self.lock().values().map(Output::row).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Spec, Output>> {
        self.0
            .lock()
            .expect("no code that can panic runs under this lock")
    }
}

impl Outputs {
    /// None yet. `registry` gets a record of each. Must be called on a tokio runtime.
    #[must_use]
    pub fn new(node: Node, registry: Registry) -> Self {
        let table = Board::default();
        tokio::spawn(Announcer::default().run(Arc::downgrade(&table.0)));
        let shared = Shared {
            node,
            registry,
            table,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// What those hold who show the outputs: it does not keep them running.
    #[must_use]
    pub fn board(&self) -> Board {
        self.shared.table.clone()
    }

    /// Has these from now on. Those that are as before go on untouched. Returns how many ended.
    pub fn set(&self, specs: Vec<Spec>) -> usize {
        let Shared {
            node,
            registry,
            table,
        } = &*self.shared;
        let mut table = table.lock();
        let before = table.len();
        table.retain(|spec, _| specs.contains(spec));
        let ended = before - table.len();
        for spec in specs {
            if table.len() >= OUTPUTS_MAX && !table.contains_key(&spec) {
                tracing::warn!(output = %spec, "is left out: a node has {OUTPUTS_MAX} outputs at most");
                continue;
            }
            table
                .entry(spec)
                .or_insert_with_key(|spec| Output::start(spec, node, registry));
        }
        ended
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.table.lock().clear();
    }
}
