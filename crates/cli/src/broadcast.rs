//! From sources to the network: opens them, publishes what comes out, and takes the streams back at the end.
//!
//! Not the sources (`source.rs`) and not the node (`access.rs`). Called by `publish` and `run`. Invariant: one stream
//! that ends or fails does not disturb the others.

use anyhow::Context as _;
use levada::{Description, PublishOptions, StreamName};
use levada_media::source::{Feed, Item, Options, Source};
use tokio::task::JoinSet;

use crate::access::Access;
use crate::shutdown::Shutdown;

/// One thing that the user wants published.
#[derive(Clone, Debug)]
pub(crate) struct PublishSpec {
    pub(crate) name: StreamName,
    pub(crate) source: Source,
    pub(crate) options: Options,
}

/// A stream whose source is open and whose tracks are known.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) name: StreamName,
    pub(crate) description: Description,
    feed: Feed,
}

/// Opens the sources. Nothing is announced before all are open.
pub(crate) async fn open(specs: &[PublishSpec]) -> anyhow::Result<Vec<Ready>> {
    let pipes = specs.iter().filter(|spec| spec.source == Source::Pipe);
    anyhow::ensure!(
        pipes.count() <= 1,
        "standard input can be the source of one stream only: publish the others from files, or by `levada publish`"
    );
    let mut ready = Vec::new();
    for spec in specs {
        let feeds = spec.source.open(&spec.name, spec.options).await;
        let feeds = feeds.with_context(|| format!("cannot publish `{}`", spec.name))?;
        for (name, mut feed) in feeds {
            let first = feed.next().await?;
            let Some(Item::Description(description)) = first else {
                anyhow::bail!(
                    "cannot publish `{name}`: {} does not say what it holds",
                    spec.source
                );
            };
            ready.push(Ready {
                name,
                description,
                feed,
            });
        }
    }
    Ok(ready)
}

/// The streams that are being published.
#[derive(Debug, Default)]
pub(crate) struct Broadcasts(JoinSet<(StreamName, anyhow::Result<()>)>);

impl Broadcasts {
    /// Announces a stream; from then on it flows by itself, until its source ends or `shutdown` comes.
    pub(crate) async fn start(
        &mut self,
        access: &Access,
        ready: Ready,
        options: PublishOptions,
        shutdown: &Shutdown,
    ) -> anyhow::Result<()> {
        let Ready {
            name,
            description,
            feed,
        } = ready;
        let publisher = access.publish(&name, description, options).await?;
        let mut shutdown = shutdown.clone();
        self.0.spawn(async move {
            let result = flow(feed, publisher, &mut shutdown).await;
            (name, result)
        });
        Ok(())
    }

    /// Waits until a stream has ended, and says which and how; `None` when there is none left.
    pub(crate) async fn ended(&mut self) -> Option<(StreamName, anyhow::Result<()>)> {
        match self.0.join_next().await? {
            Ok(ended) => Some(ended),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => unreachable!("nobody aborts a broadcast"),
            },
        }
    }
}

async fn flow(
    mut feed: Feed,
    mut publisher: crate::access::AnyPublisher,
    shutdown: &mut Shutdown,
) -> anyhow::Result<()> {
    loop {
        let item = tokio::select! {
            item = feed.next() => item,
            () = shutdown.wait() => Ok(None),
        };
        match item {
            Ok(Some(Item::Frame(frame))) => publisher.send(frame).await?,
            Ok(Some(Item::Description(description))) => publisher.describe(description).await?,
            Ok(None) => return publisher.finish().await,
            Err(error) => {
                // What was read is still to be sent, and the stream to be taken back.
                publisher.finish().await?;
                return Err(error.into());
            }
        }
    }
}
