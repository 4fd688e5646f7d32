//! The node that a command publishes or plays at: one that runs already, or one of the command's own.
//!
//! Not what is published or played. Called by `publish`, `play` and `run`. Invariant: which of the two it is makes
//! no difference to the stream.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use levada::admin::{Client, ClientError, RemotePublisher, RemoteSubscriber};
use levada::view::{Row, Rows};
use levada::{
    Delivery, Description, Frame, Node, PublishOptions, Publisher, Relay, StreamName,
    SubscribeOptions, Subscriber, View,
};
use tokio::sync::mpsc;

use crate::home;

/// Deliveries between the task that reads the local socket and the command. When they are full the node's own queue
/// for this command fills, which has its own rule.
const DELIVERIES_MAX: usize = 64;

/// How a command finds its node.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct NodeArgs {
    /// Run a node for this command alone, with a link to this neighbour; may be given several times
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) join: Vec<levada::Address>,
    /// Run a node for this command alone, listening here [default: any free port]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Run a node for this command alone, with this state directory
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Use the running node whose state directory this is [default: the one of `levada run`]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["join", "listen", "state"])]
    pub(crate) node: Option<PathBuf>,
}

impl NodeArgs {
    /// Whether the user asked for a node of the command's own.
    const fn wants_own(&self) -> bool {
        !self.join.is_empty() || self.listen.is_some() || self.state.is_some()
    }

    /// Whether a node of the command's own could not have any neighbour.
    pub(crate) const fn is_alone(&self) -> bool {
        self.join.is_empty() && self.listen.is_none()
    }

    /// Finds the running node, or starts one for `command`.
    pub(crate) async fn access(
        &self,
        command: &str,
        stream: &StreamName,
    ) -> anyhow::Result<Access> {
        if !self.wants_own() {
            let dir = self.node.clone().unwrap_or_else(home::node_dir);
            match Client::connect(&dir).await {
                Ok(_) => return Ok(Access::Running(dir)),
                Err(ClientError::NotRunning { .. }) if self.node.is_none() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let listen = self
            .listen
            .unwrap_or_else(|| (Ipv6Addr::UNSPECIFIED, 0).into());
        let builder = Node::builder()
            .listen(listen)
            // It is here for one stream; whoever wants a relay starts one.
            .relay(Relay::Never)
            .admin(true);
        let joins = self.join.iter().map(ToString::to_string);
        let builder = joins.fold(builder, levada::Builder::join);
        let node = home::start_own(builder, self.state.as_deref(), command, stream).await?;
        Ok(Access::Own(node))
    }
}

/// A node to publish or play at.
#[derive(Clone, Debug)]
pub(crate) enum Access {
    /// It lives in this process.
    Own(Node),
    /// It runs already, with this state directory.
    Running(PathBuf),
}

impl Access {
    pub(crate) async fn publish(
        &self,
        name: &StreamName,
        description: Description,
        options: PublishOptions,
    ) -> anyhow::Result<AnyPublisher> {
        Ok(match self {
            Self::Own(node) => {
                AnyPublisher::Own(node.publish(name.clone(), description, options).await?)
            }
            Self::Running(dir) => {
                let client = Client::connect(dir).await?;
                AnyPublisher::Running(client.publish(name, &description, options).await?)
            }
        })
    }

    pub(crate) async fn subscribe(
        &self,
        name: &StreamName,
        options: SubscribeOptions,
    ) -> anyhow::Result<AnySubscriber> {
        Ok(match self {
            Self::Own(node) => AnySubscriber::Own(node.subscribe(name.clone(), options).await?),
            Self::Running(dir) => {
                let client = Client::connect(dir).await?;
                AnySubscriber::Running(forward(client.play(name, options).await?))
            }
        })
    }

    pub(crate) async fn view(&self) -> anyhow::Result<View> {
        Ok(match self {
            Self::Own(node) => node.view().await?,
            Self::Running(dir) => view(dir).await?,
        })
    }

    /// Waits until a node of our own is gone, because somebody told it to leave. The running one says so by itself,
    /// to whoever uses it. An error if it had to stop.
    pub(crate) async fn stopped(&self) -> Result<(), levada::Failed> {
        match self {
            Self::Own(node) => node.stopped().await,
            Self::Running(_) => std::future::pending().await,
        }
    }

    /// Ends a node of our own in order; leaves the running one alone.
    pub(crate) async fn leave(self) {
        if let Self::Own(node) = self {
            node.leave().await;
        }
    }
}

/// All rows of the node that runs with the state directory `dir`.
pub(crate) async fn view(dir: &Path) -> Result<View, ClientError> {
    Client::connect(dir).await?.view().await
}

/// The rows of one of its tables.
pub(crate) async fn rows<R: Row>(dir: &Path) -> Result<Rows<R>, ClientError> {
    Client::connect(dir).await?.rows().await
}

/// Where this machine reaches a node that listens on `address`.
pub(crate) fn here(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) | IpAddr::V6(_) => Ipv4Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

/// A stream's way in, wherever the node is.
#[derive(Debug)]
pub(crate) enum AnyPublisher {
    Own(Publisher),
    Running(RemotePublisher),
}

impl AnyPublisher {
    pub(crate) async fn send(&mut self, frame: Frame) -> anyhow::Result<()> {
        match self {
            Self::Own(publisher) => publisher.send(frame).await?,
            Self::Running(publisher) => publisher.send(frame).await?,
        }
        Ok(())
    }

    pub(crate) async fn describe(&mut self, description: Description) -> anyhow::Result<()> {
        match self {
            Self::Own(publisher) => publisher.describe(description).await?,
            Self::Running(publisher) => publisher.describe(&description).await?,
        }
        Ok(())
    }

    /// Ends the stream on purpose.
    pub(crate) async fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Own(publisher) => publisher.finish().await?,
            Self::Running(publisher) => publisher.finish().await?,
        }
        Ok(())
    }
}

/// A stream's way out, wherever the node is.
#[derive(Debug)]
pub(crate) enum AnySubscriber {
    Own(Subscriber),
    Running(mpsc::Receiver<Result<Delivery, ClientError>>),
}

impl AnySubscriber {
    /// Waits for what comes next; `None` once a node of our own is gone, because somebody told it to leave. May be
    /// dropped before it is ready.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Delivery>> {
        match self {
            Self::Own(subscriber) => Ok(subscriber.next().await),
            Self::Running(deliveries) => match deliveries.recv().await {
                Some(delivery) => Ok(Some(delivery?)),
                None => Err(ClientError::Gone.into()),
            },
        }
    }
}

/// Reads the local socket in a task of its own, because reading it cannot be called off half way.
fn forward(mut subscriber: RemoteSubscriber) -> mpsc::Receiver<Result<Delivery, ClientError>> {
    let (sender, receiver) = mpsc::channel(DELIVERIES_MAX);
    tokio::spawn(async move {
        while let Some(next) = subscriber.next().await.transpose() {
            let is_end = next.is_err();
            if sender.send(next).await.is_err() || is_end {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_on_all_addresses_is_reached_at_this_machine() {
        for (listens, reached) in [
            (([0, 0, 0, 0], 7).into(), "127.0.0.1:7"),
            ((Ipv6Addr::UNSPECIFIED, 7).into(), "127.0.0.1:7"),
            (([10, 0, 0, 1], 7).into(), "10.0.0.1:7"),
        ] {
            assert_eq!(here(listens).to_string(), reached);
        }
    }
}
