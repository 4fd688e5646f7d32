//! Rows that change, as server-sent events: first a table as it is, then what became of it, encoded once for all.
//!
//! ```text
//!   event: snapshot   {"table":"links","version":7,"rows":[...]}
//!   event: delta      {"table":"links","version":8,"changed":[rows],"removed":[keys]}
//!
//!   one task for each table that is watched: rows ─▶ compare ─▶ bytes ─▶ broadcast ─▶ each watcher
//! ```
//!
//! A watcher that is [`WAITING_MAX`] deltas behind gets the table anew. Where nobody watches nothing is looked at. Not
//! rows once, which are `rows`'. Called by the router. Invariant: a snapshot and the deltas after it, in the order of
//! their versions, are the table.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use levada::Node;
use levada_gateway::Registry;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use crate::Shared;
use crate::events::KEEP_ALIVE;
use crate::problem::Problem;
use crate::rows::Table;

/// How often a watched table is looked at; the map less often.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Watchers of one table at once.
pub const WATCHERS_MAX: usize = 64;
/// Deltas that may wait for a watcher, before it gets the table anew.
pub const WAITING_MAX: usize = 16;
/// Messages that may wait in a watcher's own connection.
const QUEUE: usize = 4;

/// All tables that are or were watched.
#[derive(Debug)]
pub(crate) struct Watches {
    node: Node,
    registry: Registry,
    tables: Mutex<BTreeMap<Table, Arc<Watched>>>,
}

/// One table.
#[derive(Debug)]
struct Watched {
    table: Table,
    state: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    version: u64,
    rows: BTreeMap<String, Value>,
    /// Whether a task looks.
    is_looked_at: bool,
    deltas: broadcast::Sender<Arc<Delta>>,
}

/// A change, encoded.
#[derive(Debug)]
struct Delta {
    version: u64,
    text: String,
}

#[derive(Serialize)]
struct Snapshot<'a> {
    table: &'static str,
    version: u64,
    rows: Vec<&'a Value>,
}

#[derive(Serialize)]
struct Change<'a> {
    table: &'static str,
    version: u64,
    changed: Vec<&'a Value>,
    removed: Vec<&'a str>,
}

impl Watched {
    fn new(table: Table) -> Arc<Self> {
        let state = Known {
            version: 0,
            rows: BTreeMap::new(),
            is_looked_at: false,
            deltas: broadcast::Sender::new(WAITING_MAX),
        };
        let state = Mutex::new(state);
        Arc::new(Self { table, state })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.state
            .lock()
            .expect("no code that can panic runs under this lock")
    }

    /// Takes up the rows of now, and tells the watchers what has changed.
    fn update(&self, rows: Vec<Value>) {
        let rows: BTreeMap<_, _> = rows
            .into_iter()
            .map(|row| (self.table.key(&row), row))
            .collect();
        let mut known = self.known();
        let before = std::mem::take(&mut known.rows);
        let is_new = |(key, row): &(&String, &Value)| before.get(*key) != Some(row);
        let changed: Vec<_> = rows.iter().filter(is_new).map(|(_, row)| row).collect();
        let is_gone = |key: &&String| !rows.contains_key(*key);
        let removed: Vec<_> = before.keys().filter(is_gone).map(String::as_str).collect();
        if changed.is_empty() && removed.is_empty() {
            known.rows = rows;
            return;
        }
        known.version += 1;
        let change = Change {
            table: self.table.name(),
            version: known.version,
            changed,
            removed,
        };
        let text = serde_json::to_string(&change).expect("rows can be written");
        let version = known.version;
        // Nobody may watch at this moment.
        let _ = known.deltas.send(Arc::new(Delta { version, text }));
        known.rows = rows;
    }

    /// The table as it is, and what becomes of it from there on.
    fn snapshot(&self) -> (String, u64, broadcast::Receiver<Arc<Delta>>) {
        let known = self.known();
        let snapshot = Snapshot {
            table: self.table.name(),
            version: known.version,
            rows: known.rows.values().collect(),
        };
        let text = serde_json::to_string(&snapshot).expect("rows can be written");
        (text, known.version, known.deltas.subscribe())
    }
}

impl Watches {
    pub(crate) fn new(node: Node, registry: Registry) -> Self {
        Self {
            node,
            registry,
            tables: Mutex::default(),
        }
    }

    /// A table that is looked at from now on; none if too many watch it.
    async fn watch(&self, table: Table) -> Option<Arc<Watched>> {
        let watched = {
            let mut tables = self.tables.lock().expect("nothing panics under this lock");
            Arc::clone(tables.entry(table).or_insert_with(|| Watched::new(table)))
        };
        {
            let mut known = watched.known();
            if known.deltas.receiver_count() >= WATCHERS_MAX {
                return None;
            }
            if known.is_looked_at {
                return Some(Arc::clone(&watched));
            }
            known.is_looked_at = true;
        }
        if let Ok(rows) = table.rows(&self.node, &self.registry).await {
            watched.update(rows);
        }
        let (node, registry) = (self.node.clone(), self.registry.clone());
        tokio::spawn(look(Arc::clone(&watched), node, registry));
        Some(watched)
    }
}

/// Looks at a table while somebody watches it and the node lives.
async fn look(watched: Arc<Watched>, node: Node, registry: Registry) {
    loop {
        tokio::time::sleep(watched.table.look_every()).await;
        {
            let mut known = watched.known();
            if known.deltas.receiver_count() == 0 {
                known.is_looked_at = false;
                return;
            }
        }
        let Ok(rows) = watched.table.rows(&node, &registry).await else {
            watched.known().is_looked_at = false;
            return;
        };
        watched.update(rows);
    }
}

#[derive(Deserialize)]
pub(crate) struct Wanted {
    tables: Option<String>,
}

pub(crate) async fn serve(
    State(shared): State<Arc<Shared>>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let names = wanted.tables.unwrap_or_default();
    let mut tables = Vec::new();
    for name in names.split(',').filter(|name| !name.is_empty()) {
        let Some(table) = Table::of(name) else {
            let detail = format!("there is no such table: there are {}", Table::names());
            return Err(Problem::new(StatusCode::NOT_FOUND, detail));
        };
        if !tables.contains(&table) {
            tables.push(table);
        }
    }
    if tables.is_empty() {
        let detail = format!(
            "say which tables, as in `?tables=links,streams`: there are {}",
            Table::names()
        );
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    let (to, messages) = mpsc::channel(QUEUE);
    for table in tables {
        let Some(watched) = shared.watches.watch(table).await else {
            let detail = format!(
                "too many watch `{}` already: close one of the pages",
                table.name()
            );
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
        };
        // Subscribes before the task that looks can find nobody.
        let begun = watched.snapshot();
        tokio::spawn(follow(watched, begun, to.clone()));
    }
    let sse = Sse::new(Messages(messages)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(([(header::CACHE_CONTROL, "no-store")], sse).into_response())
}

/// Sends a watcher what becomes of a table, until it goes.
async fn follow(
    watched: Arc<Watched>,
    begun: (String, u64, broadcast::Receiver<Arc<Delta>>),
    to: mpsc::Sender<Message>,
) {
    let (mut text, mut version, mut deltas) = begun;
    loop {
        if to
            .send(Message::default().event("snapshot").data(text))
            .await
            .is_err()
        {
            return;
        }
        loop {
            let delta = tokio::select! {
                delta = deltas.recv() => delta,
                () = to.closed() => return,
            };
            match delta {
                Ok(delta) if delta.version <= version => {}
                Ok(delta) => {
                    version = delta.version;
                    let message = Message::default().event("delta").data(&delta.text);
                    if to.send(message).await.is_err() {
                        return;
                    }
                }
                Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return,
            }
        }
        (text, version, deltas) = watched.snapshot();
    }
}

/// Messages of one connection.
pub(crate) struct Messages(pub(crate) mpsc::Receiver<Message>);

impl futures_core::Stream for Messages {
    type Item = Result<Message, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|message| message.map(Ok))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use serde_json::json;

    use super::*;

    fn table(rows: &[(u64, u64)]) -> Vec<Value> {
        let row = |&(id, bytes): &(u64, u64)| json!({"id": id, "bytes": bytes});
        rows.iter().map(row).collect()
    }

    /// What a page makes of messages.
    fn applied(rows: &mut BTreeMap<String, Value>, delta: &Value) {
        for row in delta["changed"].as_array().unwrap() {
            rows.insert(Table::Sessions.key(row), row.clone());
        }
        for key in delta["removed"].as_array().unwrap() {
            assert!(rows.remove(key.as_str().unwrap()).is_some());
        }
    }

    #[test]
    fn a_snapshot_and_the_deltas_after_it_are_the_table() {
        let watched = Watched::new(Table::Sessions);
        watched.update(table(&[(1, 0), (2, 0)]));
        let (text, version, mut deltas) = watched.snapshot();
        let snapshot: Value = serde_json::from_str(&text).unwrap();
        let mut rows = BTreeMap::new();
        for row in snapshot["rows"].as_array().unwrap() {
            rows.insert(Table::Sessions.key(row), row.clone());
        }

        watched.update(table(&[(1, 5), (3, 0)]));
        watched.update(table(&[(1, 5), (3, 0)]));
        watched.update(table(&[(3, 7)]));

        let mut expected = version;
        while let Ok(delta) = deltas.try_recv() {
            expected += 1;
            assert_eq!(delta.version, expected);
            applied(&mut rows, &serde_json::from_str(&delta.text).unwrap());
        }
        assert_eq!(expected, version + 2, "what did not change is not told");
        assert_eq!(rows, watched.known().rows);
    }

    #[tokio::test]
    async fn a_watcher_that_does_not_read_gets_the_table_anew() {
        let watched = Watched::new(Table::Sessions);
        watched.update(table(&[(1, 0)]));
        let (to, mut messages) = mpsc::channel(1);
        let begun = watched.snapshot();
        for bytes in 1..3 * WAITING_MAX as u64 {
            watched.update(table(&[(1, bytes)]));
        }
        let following = tokio::spawn(follow(Arc::clone(&watched), begun, to));

        let mut texts = Vec::new();
        for _ in 0..2 {
            texts.push(format!("{:?}", messages.recv().await.unwrap()));
        }
        drop(messages);
        following.await.unwrap();

        assert!(
            texts[0].contains("snapshot") && texts[1].contains("snapshot"),
            "{texts:?}"
        );
        let newest = 3 * WAITING_MAX as u64 - 1;
        assert!(texts[1].contains(&newest.to_string()), "{texts:?}");
    }
}
