//! The streams that a gateway has in its format at the moment: each subscribed to and encoded once, however many
//! clients.
//!
//! Not what an encoder does, which is [`crate::encode`]. Called by gateways when a client asks for a stream. Invariant:
//! a stream that no client holds is not subscribed to, and leaves nothing behind.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use levada::{Node, State, StreamName, SubscribeError, SubscribeOptions};
use tokio::sync::{Mutex, watch};

use crate::encode::{self, Encode, HOLD, Phase, Shared, Unsuitable};
use crate::ring::Ring;
use crate::session::EndReason;

/// The most streams that are encoded at a time.
pub const STREAMS_MAX: usize = 1_024;

/// A stream in a format. It is encoded for as long as this or a clone is held.
pub struct EncodedStream<E: Encode> {
    shared: Arc<Shared<E::Body, E::Outline>>,
}

impl<E: Encode> Clone for EncodedStream<E> {
    fn clone(&self) -> Self {
        let shared = Arc::clone(&self.shared);
        Self { shared }
    }
}

impl<E: Encode> fmt::Debug for EncodedStream<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncodedStream")
    }
}

/// Why a stream cannot be played.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// No node offers it.
    #[error("no node offers a stream of that name")]
    Unknown,
    /// It is known, and does not come.
    #[error("the stream does not come yet: {0}")]
    NotYet(String),
    /// The format cannot carry it.
    #[error(transparent)]
    Unsuitable(#[from] Unsuitable),
    /// It ended just now.
    #[error("{0}")]
    Ended(EndReason),
    /// There are as many streams as there may be.
    #[error("{max} streams are played here, which is all there may be")]
    Full {
        /// The limit.
        max: usize,
    },
    /// The node does not takes the subscription.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
}

impl<E: Encode> EncodedStream<E> {
    /// The pieces.
    #[must_use]
    pub fn ring(&self) -> &Arc<Ring<E::Body>> {
        &self.shared.ring
    }

    /// How far it is, and how that changes.
    #[must_use]
    pub fn phase(&self) -> watch::Receiver<Phase<E::Outline>> {
        self.shared.phase.subscribe()
    }

    /// Waits until a client can begin, at most so long.
    ///
    /// # Errors
    ///
    /// When it cannot in that time: the reason is what was known last.
    pub async fn ready(&self, patience: Duration) -> Result<Arc<E::Outline>, SourceError> {
        let mut phases = self.phase();
        let settled = phases.wait_for(|phase| !matches!(phase, Phase::Starting(_)));
        let phase = match tokio::time::timeout(patience, settled).await {
            Ok(Ok(phase)) => phase.clone(),
            _ => self.shared.phase.borrow().clone(),
        };
        match phase {
            Phase::Running(outline) | Phase::Held(outline) => Ok(outline),
            Phase::Unsuitable(why) => Err(SourceError::Unsuitable(why)),
            Phase::Ended(reason) => Err(SourceError::Ended(reason)),
            Phase::Starting(Some(State::Unknown)) => Err(SourceError::Unknown),
            Phase::Starting(Some(state)) => Err(SourceError::NotYet(state.to_string())),
            Phase::Starting(None) => {
                let why = "it was asked for, and no picture came in time";
                Err(SourceError::NotYet(why.to_owned()))
            }
        }
    }
}

type Table<E> = BTreeMap<StreamName, Weak<Shared<<E as Encode>::Body, <E as Encode>::Outline>>>;

/// All streams of a gateway in one format.
pub struct Streams<E: Encode> {
    node: Node,
    make: Box<dyn Fn(&StreamName) -> E + Send + Sync>,
    hold: Duration,
    table: Mutex<Table<E>>,
}

impl<E: Encode> fmt::Debug for Streams<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Streams")
    }
}

impl<E: Encode> Streams<E> {
    /// No stream yet; `make` makes an encoder.
    pub fn new(node: Node, make: impl Fn(&StreamName) -> E + Send + Sync + 'static) -> Self {
        Self {
            node,
            make: Box::new(make),
            hold: HOLD,
            table: Mutex::default(),
        }
    }

    /// Sets how long clients are held while a source is away.
    #[must_use]
    pub const fn with_hold(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }

    /// The stream of that name, subscribed to if it is not yet. Must be called on a tokio runtime.
    ///
    /// # Errors
    ///
    /// When a limit is reached or the node is gone.
    pub async fn source(&self, name: &StreamName) -> Result<EncodedStream<E>, SourceError> {
        let mut table = self.table.lock().await;
        table.retain(|_, known| known.strong_count() > 0);
        let known = table.get(name).and_then(Weak::upgrade);
        if let Some(shared) = known
            && !matches!(
                &*shared.phase.borrow(),
                Phase::Ended(_) | Phase::Unsuitable(_)
            )
        {
            return Ok(EncodedStream {
                shared: Arc::clone(&shared),
            });
        }
        if table.len() >= STREAMS_MAX {
            return Err(SourceError::Full { max: STREAMS_MAX });
        }
        let options = SubscribeOptions::default();
        let subscriber = self.node.subscribe(name.clone(), options).await?;
        let shared = Arc::new(Shared::new());
        table.insert(name.clone(), Arc::downgrade(&shared));
        let (encoder, hold, weak) = ((self.make)(name), self.hold, Arc::downgrade(&shared));
        tokio::spawn(async move { encode::run(encoder, subscriber, &weak, hold).await });
        Ok(EncodedStream { shared })
    }
}
