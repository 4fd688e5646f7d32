//! Who offers a stream, and who wants it: one watch of a node's streams, shared by all who ask for single names.
//!
//! Not the streams' frames. Called by [`crate::demand`], and by gateways that bring streams in. Invariant: a change of
//! one stream wakes those alone who asked for its name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use levada::view::StreamRow;
use levada::{Node, NodeId, StreamChange, StreamName};
use tokio::sync::watch;

/// The origins that offer one name, by node id.
pub type Origins = BTreeMap<NodeId, Arc<StreamRow>>;

/// The watch. Clones are the same; it ends with the node.
#[derive(Clone, Debug)]
pub struct Offers {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    streams: BTreeMap<StreamName, Origins>,
    asked: BTreeMap<StreamName, watch::Sender<Origins>>,
}

impl Offers {
    /// Watches a node's streams from now on. Must be called on a tokio runtime.
    #[must_use]
    pub fn new(node: &Node) -> Self {
        let offers = Self {
            table: Arc::default(),
        };
        // It must not keep the node: only the watch does not.
        let (table, node) = (Arc::downgrade(&offers.table), node.clone());
        tokio::spawn(async move {
            let Ok(mut streams) = node.streams().await else {
                return;
            };
            drop(node);
            while let Some(change) = streams.next().await {
                let Some(table) = table.upgrade() else { return };
                lock(&table).on_change(change);
            }
        });
        offers
    }

    /// The origins of a name, and how they change.
    #[must_use]
    pub fn of(&self, name: &StreamName) -> watch::Receiver<Origins> {
        let mut table = lock(&self.table);
        table.asked.retain(|_, sender| !sender.is_closed());
        let known = table.streams.get(name).cloned().unwrap_or_default();
        let sender = table
            .asked
            .entry(name.clone())
            .or_insert_with(|| watch::Sender::new(known));
        sender.subscribe()
    }
}

impl Table {
    fn on_change(&mut self, change: StreamChange) {
        let name = match change {
            StreamChange::Known(row) => {
                let name = row.name.clone();
                let origins = self.streams.entry(name.clone()).or_default();
                origins.insert(row.origin, row);
                name
            }
            StreamChange::Gone { name, origin } => {
                if let Some(origins) = self.streams.get_mut(&name) {
                    origins.remove(&origin);
                }
                name
            }
            // All that are known follow; until then nothing is.
            _ => {
                self.streams.clear();
                for asked in self.asked.values() {
                    asked.send_replace(Origins::new());
                }
                return;
            }
        };
        let origins = self.streams.get(&name).cloned().unwrap_or_default();
        if origins.is_empty() {
            self.streams.remove(&name);
        }
        if let Some(asked) = self.asked.get(&name) {
            asked.send_replace(origins);
        }
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table
        .lock()
        .expect("no code that can panic runs under this lock")
}
