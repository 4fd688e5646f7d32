//! When to connect to a server, and when not: on demand or always, again after a failure, and by one node of several.
//!
//! ```text
//!   another node offers it ──▶ wait ── it is gone ──▶ a moment by chance ──▶ offer it ourselves
//!        ▲                                                                       │ wanted
//!        │ of two, the one with the smaller (group base, instance) stays         ▼
//!        └───────────── hand over at a group's start ◀──────── connected ◀──▶ pause, longer each time
//! ```
//!
//! Not one connection. Called by the parent, as a task for each stream. Invariant: a stream is offered for as long as
//! the task runs or another node offers it, and connected to only while somebody wants it, or always if so configured.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use levada::view::StreamRow;
use levada::{Node, NodeId, PublishError, PublishOptions, StreamName};
use levada_gateway::encode::HOLD;
use levada_gateway::offers::Origins;
use levada_gateway::{Offers, OnDemand, Registry};
use tokio::sync::watch;

use super::Spec;
use super::connection::{self, Outcome, Purpose};
use super::dialogue::Failure;

/// The first pause after a failure...
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// ...and the longest.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A connection that lasted as long was a good one: the pauses begin anew.
const GOOD: Duration = Duration::from_secs(10);
/// How long a node may wait before it takes over from one that is gone. Several have not the same luck.
const TAKE_OVER_MAX: Duration = Duration::from_millis(300);

/// What keeps a stream.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) node: Node,
    pub(super) offers: Offers,
    pub(super) registry: Registry,
    pub(super) name: StreamName,
    pub(super) spec: Spec,
    /// Why it does not come, if it does not.
    pub(super) trouble: Arc<Mutex<Option<Failure>>>,
}

/// Why a stream is offered here no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The server said that there is no more.
    Ended,
    /// Nobody wants it, and nobody here may.
    Unwanted,
    /// Another node offers it.
    Yielded,
    /// The node is gone.
    Stopped,
}

impl Keeper {
    /// Keeps a stream that is configured: for ever.
    pub(super) async fn configured(self) {
        // There is always somebody who may want it.
        let (_one, wishes) = watch::channel(1);
        let (_never, yields) = watch::channel(false);
        loop {
            let Some(publisher) = self.publish().await else {
                return;
            };
            match self.feed(publisher, &yields, &wishes).await {
                End::Stopped => return,
                // Whoever still waits is let go before the stream begins anew.
                End::Ended => tokio::time::sleep(HOLD + PAUSE_MIN).await,
                End::Unwanted | End::Yielded => {}
            }
        }
    }

    /// Keeps a stream that players of this node asked for, while one of them is here or somebody else wants it.
    pub(super) async fn asked_for(self, wishes: watch::Receiver<usize>) {
        let mut origins = self.offers.of(&self.name);
        let me = self.node.id();
        loop {
            let is_offered = |origins: &Origins| others(origins, me).next().is_some();
            if is_offered(&origins.borrow()) {
                tokio::select! {
                    changed = origins.wait_for(|origins| !is_offered(origins)) => {
                        if changed.is_err() {
                            return;
                        }
                    }
                    () = nobody(&wishes) => return,
                }
                tokio::time::sleep(share(TAKE_OVER_MAX)).await;
                if is_offered(&origins.borrow()) {
                    continue;
                }
            }
            let Some(publisher) = self.publish().await else {
                return;
            };
            let (tell, yields) = watch::channel(false);
            let watching = watch_others(origins.clone(), me, tell);
            let end = tokio::select! {
                end = self.feed(publisher, &yields, &wishes) => end,
                () = watching => return,
            };
            tracing::info!(stream = %self.name, ?end, "is pulled here no more");
            if end != End::Yielded {
                return;
            }
        }
    }

    /// Offers it. A name that this node offers otherwise is waited for.
    async fn publish(&self) -> Option<OnDemand> {
        let mut pause = PAUSE_MIN;
        loop {
            let options = PublishOptions::default();
            let name = self.name.clone();
            match OnDemand::publish(&self.node, &self.offers, name, options).await {
                Ok(publisher) => return Some(publisher),
                Err(PublishError::Stopped(_)) => return None,
                // The one before it may be about to be taken back.
                Err(error) => {
                    if pause > PAUSE_MIN {
                        tracing::warn!(stream = %self.name, "cannot be pulled: {error}");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Connects whenever it is wanted, until it is over.
    async fn feed(
        &self,
        mut publisher: OnDemand,
        yields: &watch::Receiver<bool>,
        wishes: &watch::Receiver<usize>,
    ) -> End {
        let mut pause = PAUSE_MIN;
        let end = loop {
            let mut demand = publisher.demand();
            if !self.spec.always && !demand.is_any() {
                tokio::select! {
                    () = demand.wanted() => {}
                    () = nobody(wishes) => break End::Unwanted,
                    () = until(yields.clone()) => break End::Yielded,
                }
            }
            let began = Instant::now();
            let purpose = Purpose {
                spec: &self.spec,
                registry: &self.registry,
                yields: yields.clone(),
            };
            match connection::run(&purpose, &mut publisher).await {
                Outcome::Ended => break End::Ended,
                Outcome::Unwanted => continue,
                Outcome::Yielded => break End::Yielded,
                Outcome::Stopped => return End::Stopped,
                Outcome::Failed(failure) => self.on_failure(failure),
            }
            if began.elapsed() >= GOOD {
                pause = PAUSE_MIN;
            }
            tokio::select! {
                () = tokio::time::sleep(pause / 2 + share(pause / 2)) => {}
                () = until(yields.clone()) => break End::Yielded,
            }
            pause = (pause * 2).min(PAUSE_MAX);
        };
        // A node that is gone has taken it back.
        let _ = publisher.finish().await;
        end
    }

    /// Said once for each reason, not once for each try.
    fn on_failure(&self, failure: Failure) {
        let mut trouble = self
            .trouble
            .lock()
            .expect("no code that can panic runs under this lock");
        if trouble.as_ref() != Some(&failure) {
            tracing::warn!(stream = %self.name, "cannot be pulled, and is tried again: {failure}");
        }
        *trouble = Some(failure);
    }
}

/// The other nodes that offer it and can be reached.
fn others(origins: &Origins, me: NodeId) -> impl Iterator<Item = &StreamRow> {
    let rows = origins.values().map(|row| &**row);
    rows.filter(move |row| row.origin != me && row.distance_seconds.is_some())
}

/// Says when another node is to go on with the stream: of several, the one that began first.
async fn watch_others(
    mut origins: watch::Receiver<Origins>,
    me: NodeId,
    tell: watch::Sender<bool>,
) {
    let rank = |row: &StreamRow| (row.group_base, row.instance);
    let is_behind = |origins: &Origins| {
        let own = origins.get(&me).map(|row| rank(row));
        own.is_some_and(|own| others(origins, me).any(|row| rank(row) < own))
    };
    loop {
        let Ok(behind) = origins
            .wait_for(|_| true)
            .await
            .map(|origins| is_behind(&origins))
        else {
            return;
        };
        tell.send_replace(behind);
        if origins.changed().await.is_err() {
            return;
        }
    }
}

async fn until(mut flag: watch::Receiver<bool>) {
    if flag.wait_for(|flag| *flag).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until no player here asks for it any more.
async fn nobody(wishes: &watch::Receiver<usize>) {
    if wishes.clone().wait_for(|count| *count == 0).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A part of a time by chance.
fn share(time: Duration) -> Duration {
    let mut byte = [0];
    // Without chance, all of it.
    match getrandom::fill(&mut byte) {
        Ok(()) => time * u32::from(byte[0]) / 255,
        Err(_) => time,
    }
}
