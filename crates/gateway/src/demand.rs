//! A stream whose source runs only while somebody wants it.
//!
//! ```text
//!   publish ──▶ Idle ── wanted ──▶ the source starts ── begin ──▶ send, send, ...
//!                ▲                                                   │
//!                └──────────── unwanted for a while: it stops ◀──────┘
//! ```
//!
//! It is announced from the start, so that everybody finds it; its tracks are known with its source, which may be only
//! when somebody wants it. Until then it has one track in the announce, [`PENDING`], and no frame. Not the source.
//! Called by gateways that bring streams in. Invariant: what is sent after a pause begins with a frame with which
//! decoding can start, and times go on unbroken.

use std::num::NonZeroU32;
use std::time::Duration;

use levada::{
    Description, Frame, Node, NodeId, PublishError, PublishOptions, Publisher, SendError,
    StreamName, Track, TrackId, TrackKind,
};
use levada_media::Rebase;
use tokio::sync::watch;

use crate::offers::{Offers, Origins};

/// The codec of the only track of a stream whose tracks are not known yet.
pub const PENDING: &str = "pending";

/// Whether the tracks of a stream are not known yet.
#[must_use]
pub fn is_pending(description: &Description) -> bool {
    matches!(&description.tracks[..], [only] if only.codec == PENDING)
}

/// A publisher that is told whether anybody wants its stream.
#[derive(Debug)]
pub struct OnDemand {
    publisher: Publisher,
    origins: watch::Receiver<Origins>,
    /// Keeps the watch.
    _offers: Offers,
    me: NodeId,
    rebase: Rebase,
    /// A frame with which decoding can start has come since the source began.
    has_begun: bool,
}

impl OnDemand {
    /// Announces a stream whose tracks are not known yet.
    ///
    /// # Errors
    ///
    /// As for [`Node::publish`].
    pub async fn publish(
        node: &Node,
        offers: &Offers,
        name: StreamName,
        options: PublishOptions,
    ) -> Result<Self, PublishError> {
        let origins = offers.of(&name);
        let publisher = node.publish(name, pending(), options).await?;
        Ok(Self {
            publisher,
            origins,
            _offers: offers.clone(),
            me: node.id(),
            rebase: Rebase::from_zero(),
            has_begun: false,
        })
    }

    /// The stream's name.
    #[must_use]
    pub const fn name(&self) -> &StreamName {
        self.publisher.name()
    }

    /// All who offer a stream of that name, this node among them.
    #[must_use]
    pub fn origins(&self) -> watch::Receiver<Origins> {
        self.origins.clone()
    }

    /// How whether anybody wants it changes.
    #[must_use]
    pub fn demand(&self) -> Demanded {
        Demanded {
            origins: self.origins.clone(),
            me: self.me,
        }
    }

    /// The source runs, with these tracks. Its times begin anew, those of the stream go on.
    ///
    /// # Errors
    ///
    /// As for [`Publisher::describe`].
    pub async fn begin(&mut self, description: Description) -> Result<(), SendError> {
        self.rebase.start_instance(&description);
        self.has_begun = false;
        self.publisher.describe(description).await
    }

    /// Whether that frame can be the first: one with which decoding of the leading track can start.
    #[must_use]
    pub fn starts(&self, frame: &Frame) -> bool {
        let leading = self.publisher.description().leading();
        frame.sync && leading.is_some_and(|track| track.id == frame.track)
    }

    /// Hands in a frame of the source. Those before the first with which decoding can start are left out.
    ///
    /// # Errors
    ///
    /// As for [`Publisher::send`].
    pub async fn send(&mut self, frame: Frame) -> Result<(), SendError> {
        self.has_begun |= self.starts(&frame);
        if !self.has_begun {
            return Ok(());
        }
        match self.rebase.shift(frame) {
            Some(frame) => self.publisher.send(frame).await,
            None => Ok(()),
        }
    }

    /// Takes the stream back.
    ///
    /// # Errors
    ///
    /// When the node is gone.
    pub async fn finish(self) -> Result<(), SendError> {
        self.publisher.finish().await
    }
}

/// Tells whether anybody wants a stream of this node.
#[derive(Clone, Debug)]
pub struct Demanded {
    origins: watch::Receiver<Origins>,
    me: NodeId,
}

impl Demanded {
    /// Whether anybody does at this moment.
    #[must_use]
    pub fn is_any(&self) -> bool {
        let origins = self.origins.borrow();
        let own = origins.get(&self.me);
        own.is_some_and(|row| row.demand.is_any())
    }

    /// Waits until somebody does. Never ready once the node is gone.
    pub async fn wanted(&mut self) {
        self.until(true).await;
    }

    /// Waits until nobody has wanted it for so long. Never ready once the node is gone.
    pub async fn unwanted_for(&mut self, linger: Duration) {
        loop {
            self.until(false).await;
            if tokio::time::timeout(linger, self.until(true))
                .await
                .is_err()
            {
                return;
            }
        }
    }

    async fn until(&mut self, wanted: bool) {
        let me = self.me;
        let is_so = |origins: &Origins| {
            let own = origins.get(&me);
            own.is_some_and(|row| row.demand.is_any()) == wanted
        };
        if self.origins.wait_for(is_so).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn pending() -> Description {
    Description {
        tracks: vec![Track {
            id: TrackId(1),
            kind: TrackKind::Data,
            codec: PENDING.to_owned(),
            timescale: NonZeroU32::new(1_000).expect("it is not zero"),
            config: Vec::new(),
            language: None,
        }],
    }
}

#[cfg(test)]
mod tests;
