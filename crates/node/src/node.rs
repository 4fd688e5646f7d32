//! A running node, as a program holds it.
//!
//! Not its life, which is in `driver`: this only asks. Used by programs and by `admin`. Invariant: when the last
//! [`Node`], publisher and subscriber of a start are dropped, its tasks end.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use levada_wire::control::Message;
use levada_wire::{Description, LinkIndex, NodeId, StreamName};

use crate::builder::{Builder, StartError};
use crate::driver::{self, Handle, Request};
use crate::events::Events;
use crate::publisher::{PublishError, PublishOptions, Publisher};
use crate::resolve::Address;
use crate::streams::Streams;
use crate::subscriber::{SubscribeError, SubscribeOptions, Subscriber};
use crate::view::{About, Row, View, gather};

/// A running node. Clones are the same node.
#[derive(Clone, Debug)]
pub struct Node {
    driver: Handle,
}

impl Node {
    /// What can be said about a node before it starts.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) async fn start(builder: Builder) -> Result<Self, StartError> {
        Ok(Self {
            driver: driver::start(builder).await?,
        })
    }

    pub(crate) const fn from_handle(driver: Handle) -> Self {
        Self { driver }
    }

    pub(crate) const fn handle(&self) -> &Handle {
        &self.driver
    }

    /// The node id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.driver.about().id
    }

    /// What the node calls itself.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.driver.about().name
    }

    /// The address that it listens on, with the port it really has.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.driver.about().local_addr
    }

    /// Its state directory.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.driver.about().state_dir
    }

    /// Offers a stream. The node announces it at once; frames may follow at once.
    ///
    /// # Errors
    ///
    /// When this node offers that name already, the description is not sound, a limit is reached, or the node is
    /// gone.
    pub async fn publish(
        &self,
        name: StreamName,
        description: Description,
        options: PublishOptions,
    ) -> Result<Publisher, PublishError> {
        if let Err(source) = description.check() {
            return Err(PublishError::Description { name, source });
        }
        self.driver
            .publish(name, Arc::new(description), options)
            .await
    }

    /// Wants a stream, wherever it comes from, now or later.
    ///
    /// # Errors
    ///
    /// When a limit is reached, or the node is gone. That nobody offers the stream is not an error: the
    /// subscriber says so and waits.
    pub async fn subscribe(
        &self,
        name: StreamName,
        options: SubscribeOptions,
    ) -> Result<Subscriber, SubscribeError> {
        self.driver.subscribe(name, options).await
    }

    /// All that the node knows and does at this moment. [`Node::rows`] costs less.
    ///
    /// # Errors
    ///
    /// When the node is gone.
    pub async fn view(&self) -> Result<View, Stopped> {
        gather::view(self).await
    }

    /// What the node is, and what it promises to others.
    ///
    /// # Errors
    ///
    /// When the node is gone.
    pub async fn about(&self) -> Result<About, Stopped> {
        gather::about(self).await
    }

    /// The rows of one table: `node.rows::<LinkRow>()`. It costs what it shows.
    ///
    /// # Errors
    ///
    /// When the node is gone.
    pub async fn rows<R: Row>(&self) -> Result<Vec<R>, Stopped> {
        R::gather(self).await
    }

    /// Keeps a link to one more neighbour from now on, as [`Builder::join`] does from the start. How it goes is seen in
    /// the rows of links, and in events.
    ///
    /// # Errors
    ///
    /// When the node is gone.
    pub async fn join(&self, address: Address) -> Result<(), Stopped> {
        self.driver.request(Request::Join { address }).await
    }

    /// Dials the node at the other end of a link no more, and closes the link. `false` if there is no such link. A node
    /// that dials this one comes back.
    ///
    /// # Errors
    ///
    /// When the node is gone.
    pub async fn part(&self, link: LinkIndex) -> Result<bool, Stopped> {
        self.driver.ask(|reply| Request::Part { link, reply }).await
    }

    /// Watches the streams that the node knows: all of them first, then each that changes, with its tracks, its state,
    /// and who wants it. Costs the node nothing while nothing changes.
    ///
    /// # Errors
    ///
    /// When the node is gone.
    pub async fn streams(&self) -> Result<Streams, Stopped> {
        self.driver.streams().await
    }

    /// Answers a word that the program around the node knows, `sessions` say, to commands of this user
    /// ([`crate::admin`]): from a question to its answer, or to what is wrong with it, in words for people. It is
    /// called where others wait, so it must not take long; and it must not hold the node, which would never end.
    pub fn answer(
        &self,
        word: &'static str,
        answer: impl Fn(&str) -> Result<String, String> + Send + Sync + 'static,
    ) {
        self.driver.set_answer(word, Arc::new(answer));
    }

    /// Says something to all neighbours that the node itself would not: for tests, whose hostile neighbours are nodes.
    #[doc(hidden)]
    pub async fn say(&self, message: Message) -> Result<(), Stopped> {
        self.driver.request(Request::Say { message }).await
    }

    /// What happens at the node from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::new(self.driver.events())
    }

    /// Goes away on purpose: streams are taken back, requests cancelled, neighbours told, then all is closed.
    /// Returns when that is done. Every clone, publisher and subscriber of this node ends with it.
    pub async fn leave(self) {
        // A node that has stopped already has left.
        let _ = self.driver.ask(|reply| Request::Leave { reply }).await;
        // Gone it is, whatever it ended by.
        let _ = self.stopped().await;
    }

    /// Waits until the node is gone, whoever ended it: [`Node::leave`] of a clone, or a `leave` through
    /// [`crate::admin`].
    ///
    /// # Errors
    ///
    /// When nobody did: a part of the node failed, without which it cannot go on.
    pub async fn stopped(&self) -> Result<(), Failed> {
        self.driver.stopped().await
    }
}

/// Why a node ended that nobody told to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node had to stop: {reason}")]
pub struct Failed {
    pub(crate) reason: &'static str,
}

/// The node is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node has stopped")]
pub struct Stopped;
