//! Who plays by HLS: a client is its address, its own name for itself, its user and the stream, and a session is its
//! requests.
//!
//! Called by `live` at each request. Invariant: there are at most [`VISITS_MAX`], and who asks for nothing for
//! [`SILENCE_MAX`] has left.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use levada_gateway::session::About;
use levada_gateway::{EndReason, Registry, Session};

/// The most clients at a time.
pub(crate) const VISITS_MAX: usize = 10_000;
/// Players ask once for each segment.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(30);
const SWEEP_EVERY: Duration = Duration::from_secs(5);

type Key = (IpAddr, String, Option<String>, String);

#[derive(Debug)]
struct Visit {
    session: Session,
    last: Instant,
}

/// All clients by HLS.
#[derive(Debug)]
pub(crate) struct Visits {
    registry: Registry,
    table: Mutex<BTreeMap<Key, Visit>>,
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    /// Somebody in charge ended the session.
    Kicked,
    /// There are as many as there may be.
    Full,
    /// It had all the bytes that one may have.
    Quota,
}

impl Visits {
    /// Nobody yet. Must be called on a tokio runtime: it forgets who is silent by itself.
    pub(crate) fn new(registry: Registry) -> Arc<Self> {
        let visits = Arc::new(Self {
            registry,
            table: Mutex::default(),
        });
        let swept = Arc::downgrade(&visits);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                let Some(visits) = swept.upgrade() else {
                    return;
                };
                visits.sweep(Instant::now());
            }
        });
        visits
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<Key, Visit>> {
        self.table
            .lock()
            .expect("no code that can panic runs under this lock")
    }

    /// Notes a request that is answered with so many bytes of media.
    ///
    /// # Errors
    ///
    /// When it is not to be answered.
    pub(crate) fn note(
        &self,
        about: About,
        bytes: usize,
        bytes_max: Option<u64>,
        now: Instant,
    ) -> Result<(), Turned> {
        let key = (
            about.remote.ip(),
            about.agent.clone(),
            about.user.clone(),
            about.stream.to_string(),
        );
        let mut table = self.table();
        let is_full = table.len() >= VISITS_MAX;
        let visit = match table.entry(key.clone()) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(_) if is_full => return Err(Turned::Full),
            std::collections::btree_map::Entry::Vacant(free) => free.insert(Visit {
                session: self.registry.begin(about),
                last: now,
            }),
        };
        visit.last = now;
        let mut context = Context::from_waker(Waker::noop());
        let turned = if pin!(visit.session.kicked())
            .as_mut()
            .poll(&mut context)
            .is_ready()
        {
            visit.session.end_with(EndReason::Kicked);
            Turned::Kicked
        } else {
            let total = visit.session.counts().add_bytes(bytes);
            if bytes_max.is_none_or(|max| total <= max) {
                return Ok(());
            }
            visit.session.end_with(EndReason::Quota);
            Turned::Quota
        };
        table.remove(&key);
        Err(turned)
    }

    /// Forgets who is silent.
    fn sweep(&self, now: Instant) {
        self.table().retain(|_, visit| {
            let is_there = now.saturating_duration_since(visit.last) < SILENCE_MAX;
            if !is_there {
                visit.session.end_with(EndReason::Silent);
            }
            is_there
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use levada_gateway::{Role, Transport};

    use super::*;

    fn about(agent: usize) -> About {
        About {
            role: Role::Play,
            stream: "cam".parse().unwrap(),
            protocol: "hls",
            transport: Transport::Tcp,
            user: None,
            remote: ([10, 0, 0, 1], 5_000).into(),
            agent: agent.to_string(),
        }
    }

    #[tokio::test]
    async fn a_session_is_all_requests_of_a_client_until_it_is_silent() {
        let (registry, now) = (Registry::default(), Instant::now());
        let visits = Visits::new(registry.clone());

        for bytes in [0, 100, 200] {
            visits.note(about(1), bytes, None, now).unwrap();
        }
        visits
            .note(about(2), 5, None, now + SILENCE_MAX / 2)
            .unwrap();
        visits.sweep(now + SILENCE_MAX);

        let rows = registry.rows();
        assert_eq!(rows.len(), 2, "{rows:?}");
        assert_eq!(
            (rows[0].bytes, rows[0].ended),
            (300, Some(EndReason::Silent))
        );
        assert_eq!((rows[1].bytes, rows[1].ended), (5, None));
    }

    #[tokio::test]
    async fn who_is_kicked_or_has_had_all_is_turned_away() {
        let (registry, now) = (Registry::default(), Instant::now());
        let visits = Visits::new(registry.clone());
        visits.note(about(1), 0, Some(10), now).unwrap();

        registry.kick(registry.live()[0].id);

        assert_eq!(visits.note(about(1), 0, None, now), Err(Turned::Kicked));
        assert_eq!(visits.note(about(1), 11, Some(10), now), Err(Turned::Quota));
        let ended: Vec<_> = registry.rows().iter().map(|row| row.ended).collect();
        assert_eq!(ended, [Some(EndReason::Kicked), Some(EndReason::Quota)]);
    }

    #[tokio::test]
    async fn more_clients_than_the_limit_are_turned_away() {
        let (visits, now) = (Visits::new(Registry::default()), Instant::now());
        for agent in 0..VISITS_MAX {
            visits.note(about(agent), 0, None, now).unwrap();
        }

        assert_eq!(
            visits.note(about(VISITS_MAX), 0, None, now),
            Err(Turned::Full)
        );
        assert_eq!(visits.note(about(0), 0, None, now), Ok(()));
    }
}
