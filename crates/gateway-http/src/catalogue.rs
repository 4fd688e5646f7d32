//! The streams that the node knows, by name, as the list shows them.
//!
//! A watch of the node's streams, so that a look at the list costs the node nothing. Not who may see them. Kept by
//! `server`. Invariant: what is here is what the node's board says, one row for each origin.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use levada::view::StreamRow;
use levada::{Node, NodeId, Stopped, StreamChange, StreamName};
use tokio::task::JoinHandle;

type Rows = BTreeMap<(StreamName, NodeId), Arc<StreamRow>>;

/// All that is on at the node, kept up to date by a task of its own.
#[derive(Debug)]
pub(crate) struct Catalogue {
    rows: Arc<Mutex<Rows>>,
    task: JoinHandle<()>,
}

impl Catalogue {
    /// Follows the node's streams. Must be called on a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the node is gone.
    pub(crate) async fn follow(node: &Node) -> Result<Self, Stopped> {
        let mut streams = node.streams().await?;
        let rows: Arc<Mutex<Rows>> = Arc::default();
        let filled = Arc::clone(&rows);
        let task = tokio::spawn(async move {
            while let Some(change) = streams.next().await {
                let mut rows = lock(&filled);
                match change {
                    StreamChange::Known(row) => {
                        drop(rows.insert((row.name.clone(), row.origin), row))
                    }
                    StreamChange::Gone { name, origin } => drop(rows.remove(&(name, origin))),
                    _ => rows.clear(),
                }
            }
        });
        Ok(Self { rows, task })
    }

    /// Whether some node offers a stream of that name.
    pub(crate) fn has(&self, name: &StreamName) -> bool {
        let rows = lock(&self.rows);
        let mut from = rows.range((name.clone(), NodeId([0; 32]))..);
        from.next().is_some_and(|((known, _), _)| known == name)
    }

    /// The rate that the stream of that name declares.
    pub(crate) fn peak_bps(&self, name: &StreamName) -> u64 {
        let rows = lock(&self.rows);
        let mut from = rows.range((name.clone(), NodeId([0; 32]))..);
        let row = from.next().filter(|((known, _), _)| known == name);
        row.map_or(0, |(_, row)| row.peak_bps.0)
    }

    /// One row for each name that may be told, by name, at most so many; and how many such names there are.
    pub(crate) fn rows(
        &self,
        max: usize,
        may: impl Fn(&StreamName) -> bool,
    ) -> (Vec<Arc<StreamRow>>, usize) {
        let rows = lock(&self.rows);
        let (mut listed, mut names) = (Vec::new(), 0);
        let mut last = None;
        for ((name, _), row) in rows.iter() {
            if last == Some(name) {
                continue;
            }
            last = Some(name);
            if !may(name) {
                continue;
            }
            names += 1;
            if listed.len() < max {
                listed.push(Arc::clone(row));
            }
        }
        (listed, names)
    }
}

impl Drop for Catalogue {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(rows: &Mutex<Rows>) -> MutexGuard<'_, Rows> {
    rows.lock()
        .expect("no code that can panic runs under this lock")
}
