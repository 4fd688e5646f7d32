//! A watch of the streams that a node knows: what they are, their state, and who wants them; each change once.
//!
//! ```text
//!   core ──what changed, in slices──▶ Board: each stream's newest row, under a number that grows ──▶ Streams, ...
//! ```
//!
//! A watch is a position in the board's numbers, so that it costs nothing while nothing changes, and a slow one gets
//! only the newest row of each stream. What went is remembered for the slow, up to [`GONE_MAX`]; who is slower begins
//! anew. Not the rows of other tables (`view`). Filled by `driver`. Invariant: the board has one row for each stream
//! that is known, and nobody who watches holds up the driver.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use levada_core::view::{self, StreamRow};
use levada_wire::{NodeId, StreamName};

/// The most streams that went and are remembered. A watch that has not heard of one more begins anew.
pub(crate) const GONE_MAX: usize = 1_024;

type Key = (StreamName, NodeId);

/// What became of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamChange {
    /// It is news, or its row is another.
    Known(Arc<StreamRow>),
    /// It is offered no more: its origin took it back, or could not be reached for too long.
    Gone {
        /// Its name.
        name: StreamName,
        /// The origin's node id.
        origin: NodeId,
    },
    /// This watch was too slow to hear of all that went: what it knows is void, and all that is known follows.
    Reset,
}

/// A watch of streams: first all that are known, then each that changes. Made by [`crate::Node::streams`].
///
/// ```no_run
/// # async fn example(node: levada::Node) -> Result<(), levada::Stopped> {
/// let mut streams = node.streams().await?;
/// while let Some(change) = streams.next().await {
///     if let levada::StreamChange::Known(stream) = change {
///         println!("{} is {}, wanted: {}", stream.name, stream.state, stream.demand.is_any());
///     }
/// }
/// # Ok(()) }
/// ```
///
/// Several origins may offer one name: each is a stream here. What is not taken is not kept: there is one change at
/// most for each stream, its newest. A watch does not keep the node alive.
#[derive(Debug)]
pub struct Streams {
    board: Arc<Board>,
    watch: u64,
    watermark: Watermark,
}

/// How far a watch has read.
#[derive(Clone, Copy, Debug)]
struct Watermark {
    /// The number of the last change that it saw.
    seen: u64,
    /// What went before this number it never heard of.
    began: u64,
}

impl Streams {
    /// Waits for the next change; `None` once the node is gone.
    ///
    /// May be dropped before it is ready: nothing is lost.
    pub async fn next(&mut self) -> Option<StreamChange> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &Context<'_>) -> Poll<Option<StreamChange>> {
        let mut table = self.board.table();
        match table.behind(&mut self.watermark) {
            Some(change) => Poll::Ready(Some(change)),
            None if table.is_closed => Poll::Ready(None),
            None => {
                let waker = context.waker().clone();
                table.watches.insert(self.watch, Some(waker));
                Poll::Pending
            }
        }
    }
}

impl Stream for Streams {
    type Item = StreamChange;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<StreamChange>> {
        self.poll(context)
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.board.table().watches.remove(&self.watch);
    }
}

/// The streams as all watches see them.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// The number of the newest change.
    newest: u64,
    /// With the number of its newest change; what went has no row.
    streams: BTreeMap<Key, (u64, Option<Arc<StreamRow>>)>,
    by_number: BTreeMap<u64, Key>,
    /// What went, by number, and the number of the newest one that is forgotten.
    gone: BTreeMap<u64, Key>,
    forgotten: u64,
    watches: BTreeMap<u64, Option<Waker>>,
    next_watch: u64,
    is_closed: bool,
}

impl Board {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0
            .lock()
            .expect("no code that can panic runs under this lock")
    }

    /// A watch that is told of everything first.
    pub(crate) fn watch(self: &Arc<Self>) -> Streams {
        let mut table = self.table();
        table.next_watch += 1;
        let watch = table.next_watch;
        table.watches.insert(watch, None);
        Streams {
            board: Arc::clone(self),
            watch,
            watermark: Watermark {
                seen: 0,
                began: table.newest,
            },
        }
    }

    pub(crate) fn is_watched(&self) -> bool {
        !self.table().watches.is_empty()
    }

    /// Takes what changed, and wakes whoever waits for it.
    pub(crate) fn put(&self, changes: Vec<view::StreamChange>) {
        let mut table = self.table();
        let before = table.newest;
        for change in changes {
            match change {
                view::StreamChange::Known(row) => {
                    let key = (row.name.clone(), row.origin);
                    table.set(key, Some(Arc::new(row)));
                }
                view::StreamChange::Gone { name, origin } => table.set((name, origin), None),
            }
        }
        if table.newest != before {
            table.wake();
        }
    }

    /// Forgets everything: nobody watches.
    pub(crate) fn clear(&self) {
        let mut table = self.table();
        let newest = table.newest;
        *table = Table {
            newest,
            forgotten: newest,
            next_watch: table.next_watch,
            ..Table::default()
        };
    }

    /// The node is gone.
    pub(crate) fn close(&self) {
        let mut table = self.table();
        table.is_closed = true;
        table.wake();
    }
}

impl Table {
    fn set(&mut self, key: Key, row: Option<Arc<StreamRow>>) {
        match (self.streams.get(&key), &row) {
            (Some((_, before)), after) if before == after => return,
            // Nobody was told of it.
            (None, None) => return,
            _ => {}
        }
        self.newest += 1;
        let number = self.newest;
        self.by_number.insert(number, key.clone());
        if row.is_none() {
            self.gone.insert(number, key.clone());
        }
        if let Some((former, _)) = self.streams.insert(key, (number, row)) {
            self.by_number.remove(&former);
            self.gone.remove(&former);
        }
        if self.gone.len() > GONE_MAX
            && let Some((number, key)) = self.gone.pop_first()
        {
            self.forgotten = number;
            self.by_number.remove(&number);
            self.streams.remove(&key);
        }
    }

    /// The next change above a watermark, which it moves on.
    fn behind(&self, watermark: &mut Watermark) -> Option<StreamChange> {
        if watermark.seen.max(watermark.began) < self.forgotten {
            *watermark = Watermark {
                seen: 0,
                began: self.newest,
            };
            return Some(StreamChange::Reset);
        }
        for (number, key) in self.by_number.range(watermark.seen + 1..) {
            watermark.seen = *number;
            let (name, origin) = key.clone();
            match self.streams.get(key) {
                Some((_, Some(row))) => return Some(StreamChange::Known(Arc::clone(row))),
                // It went before the watch could hear of it.
                _ if *number <= watermark.began => {}
                _ => return Some(StreamChange::Gone { name, origin }),
            }
        }
        None
    }

    fn wake(&mut self) {
        for waker in self.watches.values_mut().filter_map(Option::take) {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests;
