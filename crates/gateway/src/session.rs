//! Who plays and publishes what, by which protocol and transport, since when, and why it ended: as typed records.
//!
//! Not the sessions themselves, which gateways run. Written by gateways; read by tables, the API and tests. Invariant:
//! a session that began ends once, with a reason, and the registry remembers the last [`ENDED_MAX`].

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use levada::StreamName;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// Ended sessions that are remembered.
pub const ENDED_MAX: usize = 256;

/// What a client is to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// It plays.
    Play,
    /// It publishes.
    Publish,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Play => "play",
            Self::Publish => "publish",
        })
    }
}

/// How media really travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Transport {
    /// Within a TCP connection.
    Tcp,
    /// In UDP datagrams to one client.
    Udp,
    /// In UDP datagrams to a channel.
    Multicast,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Multicast => "multicast",
        })
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndReason {
    /// The client said goodbye.
    Left,
    /// The client's connection closed.
    Closed,
    /// The client gave no sign of life.
    Silent,
    /// The client broke the protocol.
    Malformed,
    /// The client did not read fast enough.
    Slow,
    /// The client had all the bytes that one may have.
    Quota,
    /// The stream ended, or was away for longer than its clients are held.
    StreamEnded,
    /// The stream's tracks became others than the client was told.
    TracksChanged,
    /// Somebody in charge ended it.
    Kicked,
    /// The gateway or its node stopped.
    Stopped,
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Left => "the client left",
            Self::Closed => "the connection closed",
            Self::Silent => "the client gave no sign of life",
            Self::Malformed => "the client broke the protocol",
            Self::Slow => "the client did not read fast enough",
            Self::Quota => "the client had all the bytes that one may have",
            Self::StreamEnded => "the stream ended",
            Self::TracksChanged => "the stream's tracks changed",
            Self::Kicked => "ended by an operator",
            Self::Stopped => "the gateway stopped",
        })
    }
}

/// One session as a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Row {
    /// Its number, never used again.
    pub id: u64,
    /// What the client is to the stream.
    pub role: Role,
    /// The stream's name.
    pub stream: String,
    /// The protocol, in one word: `rtsp`.
    pub protocol: String,
    /// How media really travel.
    pub transport: Transport,
    /// The user, if one was asked for.
    pub user: Option<String>,
    /// Where the client is.
    pub remote: SocketAddr,
    /// What the client calls itself; empty if it does not say.
    pub agent: String,
    /// When it began, in milliseconds of Unix time.
    pub since_unix_ms: u64,
    /// Media bytes to or from the client.
    pub bytes: u64,
    /// How many times the client was skipped to a later group.
    pub skips: u64,
    /// Why it ended; none while it goes on.
    pub ended: Option<EndReason>,
}

/// What a session is, when it begins.
#[derive(Clone, Debug)]
pub struct About {
    /// What the client is to the stream.
    pub role: Role,
    /// The stream.
    pub stream: StreamName,
    /// The protocol, in one word.
    pub protocol: &'static str,
    /// How media really travel.
    pub transport: Transport,
    /// The user, if one was asked for.
    pub user: Option<String>,
    /// Where the client is.
    pub remote: SocketAddr,
    /// What the client calls itself.
    pub agent: String,
}

/// All sessions of a node. Clones are the same registry.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    live: BTreeMap<u64, Live>,
    ended: VecDeque<Row>,
}

#[derive(Debug)]
struct Live {
    row: Row,
    counts: Arc<Counts>,
    kick: Arc<Notify>,
}

/// What a session counts while it goes on. Written by whoever sends.
#[derive(Debug, Default)]
pub struct Counts {
    bytes: AtomicU64,
    skips: AtomicU64,
}

impl Counts {
    /// Adds media bytes, and returns how many there are now.
    pub fn add_bytes(&self, bytes: usize) -> u64 {
        let bytes = bytes as u64;
        self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    /// Sets how many times the client was skipped.
    pub fn set_skips(&self, skips: u64) {
        self.skips.store(skips, Ordering::Relaxed);
    }
}

impl Live {
    fn row(&self) -> Row {
        Row {
            bytes: self.counts.bytes.load(Ordering::Relaxed),
            skips: self.counts.skips.load(Ordering::Relaxed),
            ..self.row.clone()
        }
    }
}

impl Registry {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table
            .lock()
            .expect("no code that can panic runs under this lock")
    }

    /// Takes up a session. It ends with what is returned.
    #[must_use]
    pub fn begin(&self, about: About) -> Session {
        let (counts, kick) = (Arc::<Counts>::default(), Arc::<Notify>::default());
        let mut table = self.table();
        table.next += 1;
        let id = table.next;
        let row = Row {
            id,
            role: about.role,
            stream: about.stream.to_string(),
            protocol: about.protocol.to_owned(),
            transport: about.transport,
            user: about.user,
            remote: about.remote,
            agent: about.agent,
            since_unix_ms: unix_ms(),
            bytes: 0,
            skips: 0,
            ended: None,
        };
        tracing::info!(
            session = id, stream = %row.stream, protocol = row.protocol, transport = %row.transport, role = %row.role,
            "a session began"
        );
        let live = Live {
            row,
            counts: Arc::clone(&counts),
            kick: Arc::clone(&kick),
        };
        table.live.insert(id, live);
        drop(table);
        Session {
            id,
            counts,
            kick,
            registry: self.clone(),
            reason: Mutex::new(None),
        }
    }

    /// All sessions that go on, and the last ones that ended, oldest first.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let table = self.table();
        let live = table.live.values().map(Live::row);
        table.ended.iter().cloned().chain(live).collect()
    }

    /// The sessions that go on, oldest first.
    #[must_use]
    pub fn live(&self) -> Vec<Row> {
        self.table().live.values().map(Live::row).collect()
    }

    /// How many sessions go on.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table().live.len()
    }

    /// Whether no session goes on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends a session; says whether there was one of that number.
    pub fn kick(&self, id: u64) -> bool {
        let table = self.table();
        let live = table.live.get(&id);
        if let Some(live) = live {
            live.kick.notify_one();
        }
        live.is_some()
    }

    fn end(&self, id: u64, reason: EndReason) {
        let mut table = self.table();
        let Some(live) = table.live.remove(&id) else {
            return;
        };
        let row = Row {
            ended: Some(reason),
            ..live.row()
        };
        tracing::info!(
            session = id, stream = %row.stream, bytes = row.bytes, skips = row.skips, "a session ended: {reason}"
        );
        if table.ended.len() == ENDED_MAX {
            table.ended.pop_front();
        }
        table.ended.push_back(row);
    }
}

/// A session that goes on. It ends when this is dropped: as closed, unless a reason was given before.
#[derive(Debug)]
pub struct Session {
    id: u64,
    counts: Arc<Counts>,
    kick: Arc<Notify>,
    registry: Registry,
    reason: Mutex<Option<EndReason>>,
}

impl Session {
    /// Its number.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Its counters, which whoever sends to the client writes.
    #[must_use]
    pub const fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Says why it will end. The first reason counts.
    pub fn end_with(&self, reason: EndReason) {
        let mut known = self
            .reason
            .lock()
            .expect("no code that can panic runs under this lock");
        known.get_or_insert(reason);
    }

    /// Waits until somebody in charge ends it.
    pub async fn kicked(&self) {
        self.kick.notified().await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let reason = self.reason.get_mut().ok().and_then(|reason| *reason);
        let reason = reason.unwrap_or(EndReason::Closed);
        self.registry.end(self.id, reason);
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn about(stream: &str) -> About {
        About {
            role: Role::Play,
            stream: stream.parse().unwrap(),
            protocol: "rtsp",
            transport: Transport::Tcp,
            user: None,
            remote: ([10, 0, 0, 1], 5_000).into(),
            agent: String::new(),
        }
    }

    #[test]
    fn a_session_is_a_row_while_it_goes_on_and_after() {
        let registry = Registry::default();
        let session = registry.begin(about("cam"));
        session.counts().add_bytes(1_000);
        session.counts().set_skips(2);

        let live = registry.rows();
        session.end_with(EndReason::Slow);
        session.end_with(EndReason::Left);
        drop(session);
        let ended = registry.rows();

        assert_eq!(
            (live[0].bytes, live[0].skips, live[0].ended),
            (1_000, 2, None)
        );
        assert_eq!(ended[0].ended, Some(EndReason::Slow));
        assert!(registry.is_empty());
        let text = serde_json::to_string(&ended[0]).unwrap();
        assert!(text.contains("\"transport\":\"tcp\""), "{text}");
        assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), ended[0]);
    }

    #[test]
    fn only_the_last_ended_sessions_are_remembered() {
        let registry = Registry::default();

        for _ in 0..=ENDED_MAX {
            drop(registry.begin(about("cam")));
        }

        let rows = registry.rows();
        assert_eq!(rows.len(), ENDED_MAX);
        assert_eq!(rows[0].id, 2);
        assert_eq!(rows[0].ended, Some(EndReason::Closed));
    }

    #[tokio::test]
    async fn a_session_can_be_kicked() {
        let registry = Registry::default();
        let session = registry.begin(about("cam"));

        assert!(registry.kick(session.id()));
        assert!(!registry.kick(session.id() + 1));

        session.kicked().await;
    }
}
