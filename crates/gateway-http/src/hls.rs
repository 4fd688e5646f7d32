//! HLS: a playlist of the last half minute, and its segments, whose names and bytes are the same on every node.
//!
//! ```text
//!   Subscriber ──▶ Maker: a group ─▶ a segment ──▶ Window: what is listed, what is kept ◀── requests
//!                  (one task a stream, for as long as somebody asks)
//! ```
//!
//! | file | what |
//! |---|---|
//! | `maker` | frames into segments: names, numbers and bytes follow from instance and group alone |
//! | `making` | a group as it comes: its parts, and at its end its segment |
//! | `window` | the segments that there are, and the playlist of them |
//! | `answer` | both as answers, with what caches are told |
//! | `visits` | who plays: a session is the requests of a client |
//!
//! No segment of before this node had the stream. Called by `live`. Invariant: a name means the same
//! bytes wherever it is asked for, so a player may be moved from node to node between two requests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use levada::{Delivery, Node, State, StreamName, SubscribeError, SubscribeOptions};
use tokio::sync::watch;

use maker::Maker;
use window::Window;

pub(crate) mod answer;
mod maker;
mod making;
pub(crate) mod visits;
mod window;

/// The most streams that are cut into segments at a time.
pub(crate) const STREAMS_MAX: usize = 256;
/// How long a stream is cut that nobody asks for.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a request may wait for what it asks for.
const PATIENCE: Duration = Duration::from_secs(12);
/// The same for a segment, which was listed somewhere and so is there, or almost.
const SEGMENT_PATIENCE: Duration = Duration::from_secs(3);

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// The playlist of playlists.
    Master,
    /// The playlist of segments.
    Media,
    /// The same for players that know LL-HLS: of playlists, and of segments and parts.
    LowMaster,
    Low,
    /// A segment or an init segment, by its name.
    File(String),
}

impl Ask {
    /// Splits a path into the stream's name and what is asked of it.
    pub(crate) fn split(path: &str) -> Option<(&str, Self)> {
        let (name, file) = path.rsplit_once('/')?;
        let ask = match file {
            "index.m3u8" => Self::Master,
            "media.m3u8" => Self::Media,
            "ll.m3u8" => Self::LowMaster,
            "low.m3u8" => Self::Low,
            _ if maker::is_name(file) => Self::File(file.to_owned()),
            _ => return None,
        };
        Some((name, ask))
    }
}

/// What a playlist is to have, at least (RFC 8216bis section 6.2.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// A segment's number.
    pub(crate) segment: u64,
    /// A part of it; the whole if none.
    pub(crate) part: Option<usize>,
}

/// A stream that is cut into segments.
#[derive(Debug)]
pub(crate) struct Cut {
    window: Mutex<Window>,
    /// Counts what was added.
    changes: watch::Sender<u64>,
    used: Mutex<Instant>,
}

/// Why there is nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HlsError {
    #[error("that is more than two segments ahead of what there is: ask for less")]
    Far,
    #[error("no segment has come yet")]
    NotYet,
    #[error("that segment is not here: it is too old, or not of this stream")]
    Gone,
    #[error("{0}")]
    Unsuitable(String),
    #[error("no node offers it")]
    Unknown,
    #[error("{STREAMS_MAX} streams are cut into segments here, which is all there may be")]
    Full,
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
}

impl Cut {
    fn new() -> Self {
        Self {
            window: Mutex::default(),
            changes: watch::Sender::new(0),
            used: Mutex::new(Instant::now()),
        }
    }

    /// Looks until there is something, at most so long.
    async fn wait<T>(
        &self,
        patience: Duration,
        look: impl Fn(&Window) -> Option<T>,
    ) -> Result<T, HlsError> {
        *lock(&self.used) = Instant::now();
        let mut changes = self.changes.subscribe();
        let looking = async {
            loop {
                changes.borrow_and_update();
                {
                    let window = lock(&self.window);
                    if let Some(why) = &window.unsuitable {
                        return Err(HlsError::Unsuitable(why.clone()));
                    }
                    if let Some(found) = look(&window) {
                        return Ok(found);
                    }
                }
                if changes.changed().await.is_err() {
                    return Err(HlsError::NotYet);
                }
            }
        };
        let found = tokio::time::timeout(patience, looking).await;
        found.unwrap_or(Err(HlsError::NotYet))
    }

    /// The playlist of playlists, which is of `media`; `query` is what goes behind each address.
    pub(crate) async fn master(
        &self,
        media: &str,
        peak_bps: u64,
        query: &str,
    ) -> Result<String, HlsError> {
        self.wait(PATIENCE, |window| window.master(media, peak_bps, query))
            .await
    }

    /// The playlist of segments and parts, once it has what is wanted.
    pub(crate) async fn low(
        &self,
        wanted: Option<Wanted>,
        query: &str,
    ) -> Result<String, HlsError> {
        self.wait(PATIENCE, |window| match wanted {
            Some(wanted) if window.is_far(wanted) => Some(Err(HlsError::Far)),
            Some(wanted) if !window.has(wanted) => None,
            _ => window.low(query).map(Ok),
        })
        .await?
    }

    /// The playlist of segments.
    pub(crate) async fn media(&self, query: &str) -> Result<String, HlsError> {
        self.wait(PATIENCE, |window| window.media(query)).await
    }

    /// A segment, or what comes before the first.
    pub(crate) async fn file(&self, name: &str) -> Result<Bytes, HlsError> {
        let found = self
            .wait(SEGMENT_PATIENCE, |window| window.file(name))
            .await;
        found.map_err(|error| match error {
            HlsError::NotYet => HlsError::Gone,
            error => error,
        })
    }

    fn is_idle(&self) -> bool {
        lock(&self.used).elapsed() >= IDLE_MAX
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("no code that can panic runs under this lock")
}

type Table = BTreeMap<StreamName, Arc<Cut>>;

/// All streams that are cut.
#[derive(Debug)]
pub(crate) struct Cuts {
    node: Node,
    table: Arc<tokio::sync::Mutex<Table>>,
}

impl Cuts {
    pub(crate) fn new(node: Node) -> Self {
        Self {
            node,
            table: Arc::default(),
        }
    }

    /// The stream of that name, cut from now on if it is not yet, and if some node is known to offer it. Must be called
    /// on a tokio runtime.
    pub(crate) async fn get(
        &self,
        name: &StreamName,
        is_offered: bool,
    ) -> Result<Arc<Cut>, HlsError> {
        let mut table = self.table.lock().await;
        if let Some(cut) = table.get(name) {
            return Ok(Arc::clone(cut));
        }
        if !is_offered {
            return Err(HlsError::Unknown);
        }
        if table.len() >= STREAMS_MAX {
            return Err(HlsError::Full);
        }
        let options = SubscribeOptions::default();
        let subscriber = self.node.subscribe(name.clone(), options).await?;
        let cut = Arc::new(Cut::new());
        table.insert(name.clone(), Arc::clone(&cut));
        let (table, made, name) = (Arc::downgrade(&self.table), Arc::clone(&cut), name.clone());
        tokio::spawn(run(subscriber, name, made, table));
        Ok(cut)
    }
}

/// Cuts until nobody asks any more.
async fn run(
    mut subscriber: levada::Subscriber,
    name: StreamName,
    cut: Arc<Cut>,
    table: Weak<tokio::sync::Mutex<Table>>,
) {
    let mut maker = Maker::default();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            delivery = subscriber.next() => match delivery {
                Some(delivery) => take(&mut maker, delivery, &cut, &name),
                None => break,
            },
            _ = looks.tick() => {
                let Some(table) = table.upgrade() else { return };
                // Under the table's lock, so that nobody gets what ends.
                let mut table = table.lock().await;
                if cut.is_idle() {
                    table.remove(&name);
                    return;
                }
            }
        }
    }
    if let Some(table) = table.upgrade() {
        table.lock().await.remove(&name);
    }
}

fn take(maker: &mut Maker, delivery: Delivery, cut: &Cut, name: &StreamName) {
    match delivery {
        Delivery::NewInstance(instance)
        | Delivery::State(State::Active { instance } | State::OnePath { instance }) => {
            maker.begin(instance.into());
        }
        Delivery::Description(description) => {
            let described = maker.describe(&description);
            let mut window = lock(&cut.window);
            window.unsuitable = described.as_ref().err().map(|codecs| {
                format!("`{name}` has nothing that HLS players take ({codecs}): it is /live/{name}.ts for others")
            });
            window.left_out = described.unwrap_or_default();
            drop(window);
            cut.changes.send_modify(|changes| *changes += 1);
        }
        Delivery::Gap(_) => maker.gap(),
        Delivery::Frame { group, frame, wall } => {
            let made = maker.push(group, frame, wall);
            if !made.segments.is_empty() || made.open.is_some() {
                lock(&cut.window).add(made);
                cut.changes.send_modify(|changes| *changes += 1);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn one_stream_more_than_may_be_cut_is_refused_and_those_that_are_go_on() {
        let builder = Node::builder().temporary_state().lanes(1);
        let builder = builder.listen(([127, 0, 0, 1], 0).into());
        let cuts = Cuts::new(builder.start().await.unwrap());
        let name = |at: usize| format!("cam{at}").parse().unwrap();
        for at in 0..STREAMS_MAX {
            cuts.get(&name(at), true).await.unwrap();
        }

        let refused = cuts.get(&name(STREAMS_MAX), true).await;

        assert!(matches!(refused, Err(HlsError::Full)), "{refused:?}");
        assert!(cuts.get(&name(0), true).await.is_ok());
        assert!(matches!(
            cuts.get(&name(STREAMS_MAX), false).await,
            Err(HlsError::Unknown)
        ));
    }
}
