//! From sources to the network: opens them, publishes what comes out, and takes the streams back at the end.
//!
//! Not the sources (`levada_media::source`) and not the node (`access.rs`). Called by `publish`, `run` and `demo`.
//! Invariant: one stream that ends or fails does not disturb the others; whoever stops waiting for news loses none.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use levada::{Description, PublishOptions, StreamName};
use levada_gateway_http::pull::{self, Choice};
use levada_media::source::{Catalogue, Change, Error, Item, Opened, Request, Source, Sources};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};

use crate::access::{Access, AnyPublisher};
use crate::say;
use crate::shutdown::Shutdown;

/// Changes of folders, and sources that were opened later, that wait to be published.
const CHANGES_MAX: usize = 16;

/// All sources that there are.
fn sources(variant: &Choice) -> Sources {
    let variant = variant.clone();
    Sources::new().with_look(pull::is_playlist, move |request| {
        Box::pin(pull::open(request, variant.clone()))
    })
}

/// A stream whose source is open and whose tracks are known.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) name: StreamName,
    pub(crate) description: Description,
    source: Box<dyn Source>,
}

/// What was asked for, open.
#[derive(Debug, Default)]
pub(crate) struct Opening {
    pub(crate) streams: Vec<Ready>,
    /// Folders, whose files come and go, by the first part of their streams' names.
    catalogues: Vec<(StreamName, Catalogue)>,
}

/// What a request opened, later than the others.
type Later = (StreamName, anyhow::Result<Opening>);

/// What became of a file in a folder.
#[derive(Debug)]
enum Changed {
    /// It is to be a stream, or cannot be.
    Added(StreamName, anyhow::Result<Ready>),
    /// It is none any more.
    Removed(StreamName),
}

impl Changed {
    /// The same, with the tracks of a file that came.
    async fn of(change: Change) -> Self {
        match change {
            Change::Removed(name) => Self::Removed(name),
            Change::Added(name, source) => Self::Added(name.clone(), begin(name, source).await),
        }
    }
}

/// A stream that has been announced, or could not be.
#[derive(Debug)]
struct Announced {
    ready: Ready,
    publisher: anyhow::Result<AnyPublisher>,
    stopped: oneshot::Receiver<()>,
}

/// Opens the sources. Nothing is announced before all are open.
pub(crate) async fn open(requests: &[Request]) -> anyhow::Result<Opening> {
    open_variant(requests, &Choice::Best).await
}

/// The same, with another choice where a source has variants.
pub(crate) async fn open_variant(
    requests: &[Request],
    variant: &Choice,
) -> anyhow::Result<Opening> {
    let pipes = requests.iter().filter(|request| request.text == "-");
    anyhow::ensure!(
        pipes.count() <= 1,
        "standard input can be the source of one stream only: publish the others from files, or by `levada publish`"
    );
    let (sources, mut opening) = (sources(variant), Opening::default());
    for request in requests {
        let name = &request.name;
        let opened = sources.open(request.clone()).await;
        match opened.with_context(|| format!("cannot publish `{name}`"))? {
            Opened::One(source) => opening.streams.push(begin(name.clone(), source).await?),
            Opened::Folder(mut catalogue) => {
                for (name, source) in catalogue.take_first() {
                    opening.streams.push(begin(name, source).await?);
                }
                opening.catalogues.push((name.clone(), *catalogue));
            }
        }
    }
    Ok(opening)
}

/// Learns the tracks of a source.
async fn begin(name: StreamName, mut source: Box<dyn Source>) -> anyhow::Result<Ready> {
    match source.next().await? {
        Some(Item::Description(description)) => Ok(Ready {
            name,
            description,
            source,
        }),
        _ => anyhow::bail!("cannot publish `{name}`: its source does not say what it holds"),
    }
}

/// The streams that are being published.
#[derive(Debug)]
pub(crate) struct Broadcasts {
    access: Access,
    options: PublishOptions,
    shutdown: Shutdown,
    flows: JoinSet<(StreamName, anyhow::Result<()>)>,
    /// Those that are being announced.
    starts: JoinSet<Announced>,
    /// What ends a stream; those that have ended are forgotten when the next begins.
    stops: BTreeMap<StreamName, oneshot::Sender<()>>,
    changes: mpsc::Receiver<Changed>,
    changes_in: mpsc::Sender<Changed>,
    /// What ends the watch of a folder, by the first part of its streams' names.
    folders: BTreeMap<StreamName, oneshot::Sender<()>>,
    /// Streams that are being announced, or whose flows have not ended yet.
    flowing: BTreeSet<StreamName>,
    openings: mpsc::Receiver<Later>,
    openings_in: mpsc::Sender<Later>,
    /// How many are being opened.
    opening: usize,
    /// Those that wait for their former stream to end.
    waiting: BTreeMap<StreamName, Ready>,
}

/// What became of a stream.
#[derive(Debug)]
pub(crate) enum News {
    /// It is published since now: a file that came into a folder, or what a configuration says newly.
    Begun(StreamName, Description),
    /// It has ended, and how.
    Ended(StreamName, anyhow::Result<()>),
}

impl Broadcasts {
    /// None yet.
    pub(crate) fn new(access: &Access, options: PublishOptions, shutdown: &Shutdown) -> Self {
        let (changes_in, changes) = mpsc::channel(CHANGES_MAX);
        let (openings_in, openings) = mpsc::channel(CHANGES_MAX);
        Self {
            access: access.clone(),
            options,
            shutdown: shutdown.clone(),
            flows: JoinSet::new(),
            starts: JoinSet::new(),
            stops: BTreeMap::new(),
            changes,
            changes_in,
            folders: BTreeMap::new(),
            flowing: BTreeSet::new(),
            openings,
            openings_in,
            opening: 0,
            waiting: BTreeMap::new(),
        }
    }

    /// Announces a stream; from then on it flows by itself, until its source ends or the command does.
    pub(crate) async fn start(&mut self, ready: Ready) -> anyhow::Result<()> {
        let stopped = self.enter(&ready.name);
        let announced = announce(self.access.clone(), ready, self.options, stopped).await;
        self.flow(announced).map(|_| ())
    }

    /// Announces a stream beside everything else; what comes of it is news.
    fn start_later(&mut self, ready: Ready) {
        let stopped = self.enter(&ready.name);
        let announcing = announce(self.access.clone(), ready, self.options, stopped);
        self.starts.spawn(announcing);
    }

    /// A stream begins: what will end it.
    fn enter(&mut self, name: &StreamName) -> oneshot::Receiver<()> {
        let (stop, stopped) = oneshot::channel();
        self.stops.retain(|_, stop| !stop.is_closed());
        self.stops.insert(name.clone(), stop);
        self.flowing.insert(name.clone());
        stopped
    }

    /// Lets a stream that has been announced flow. Returns what it holds.
    fn flow(&mut self, announced: Announced) -> anyhow::Result<Description> {
        let Announced {
            ready,
            publisher,
            stopped,
        } = announced;
        let publisher = publisher.inspect_err(|_| {
            self.flowing.remove(&ready.name);
        })?;
        let Ready {
            name,
            description,
            source,
        } = ready;
        let mut shutdown = self.shutdown.clone();
        self.flows.spawn(async move {
            let result = flow(source, publisher, &mut shutdown, stopped).await;
            (name, result)
        });
        Ok(description)
    }

    /// Watches the folders that were opened, from now on until the command ends.
    pub(crate) fn watch(&mut self, opening: &mut Opening) {
        for (name, mut catalogue) in opening.catalogues.drain(..) {
            let (stop, mut stopped) = oneshot::channel();
            self.folders.insert(name, stop);
            let (changes, mut shutdown) = (self.changes_in.clone(), self.shutdown.clone());
            tokio::spawn(async move {
                loop {
                    let changed = async { Changed::of(catalogue.next().await).await };
                    let change = tokio::select! {
                        change = changed => change,
                        () = shutdown.wait() => return,
                        _ = &mut stopped => return,
                    };
                    if changes.send(change).await.is_err() {
                        return;
                    }
                }
            });
        }
    }

    /// Publishes what is asked for now and was not before, and takes back what is asked for no more. What is the same
    /// goes on untouched.
    pub(crate) fn change(&mut self, before: &[Request], after: &[Request]) {
        for gone in before.iter().filter(|request| !after.contains(request)) {
            self.take_back(&gone.name);
        }
        for new in after.iter().filter(|request| !before.contains(request)) {
            self.opening += 1;
            let (request, openings) = (new.clone(), self.openings_in.clone());
            let mut shutdown = self.shutdown.clone();
            tokio::spawn(async move {
                let opened = tokio::select! {
                    opened = open(std::slice::from_ref(&request)) => opened,
                    () = shutdown.wait() => Ok(Opening::default()),
                };
                // Nobody waits for it once the command ends.
                let _ = openings.send((request.name, opened)).await;
            });
        }
    }

    fn take_back(&mut self, name: &StreamName) {
        self.waiting.remove(name);
        let first = format!("{name}/");
        let is_folder = self.folders.remove(name).is_some();
        let is_its =
            |known: &&StreamName| *known == name || is_folder && known.as_str().starts_with(&first);
        let its: Vec<_> = self.stops.keys().filter(is_its).cloned().collect();
        for name in its {
            // One that has ended already needs no word.
            let _ = self.stops.remove(&name).map(|stop| stop.send(()));
        }
    }

    /// Publishes what was opened later; says what has become of it, if that is decided.
    fn on_opening(&mut self, (name, opened): Later) -> Option<News> {
        self.opening -= 1;
        let mut opening = match opened {
            Ok(opening) => opening,
            Err(error) => return Some(News::Ended(name, Err(error))),
        };
        self.watch(&mut opening);
        for ready in opening.streams {
            if self.flowing.contains(&ready.name) {
                self.waiting.insert(ready.name.clone(), ready);
            } else {
                self.start_later(ready);
            }
        }
        None
    }

    /// Waits for what becomes of a stream; `None` when there is none left and none will come. Whoever stops waiting
    /// loses nothing: all that takes time is a task, and what it ends with waits here.
    pub(crate) async fn next(&mut self) -> Option<News> {
        loop {
            let may_come = !self.folders.is_empty() || self.opening > 0 || !self.waiting.is_empty();
            let is_watching = may_come && !self.shutdown.is_asked();
            let news = tokio::select! {
                Some(ended) = self.flows.join_next() => Some(self.on_ended(outcome(ended))),
                Some(started) = self.starts.join_next() => Some(self.on_started(outcome(started))),
                Some(later) = self.openings.recv(), if is_watching => self.on_opening(later),
                Some(changed) = self.changes.recv(), if is_watching => self.on_change(changed),
                () = self.shutdown.wait(), if is_watching => None,
                else => return None,
            };
            if news.is_some() {
                return news;
            }
        }
    }

    fn on_ended(&mut self, (name, result): (StreamName, anyhow::Result<()>)) -> News {
        self.flowing.remove(&name);
        if let Some(ready) = self.waiting.remove(&name) {
            self.start_later(ready);
        }
        News::Ended(name, result)
    }

    fn on_started(&mut self, announced: Announced) -> News {
        let name = announced.ready.name.clone();
        match self.flow(announced) {
            Ok(description) => News::Begun(name, description),
            Err(error) => News::Ended(name, Err(error)),
        }
    }

    fn on_change(&mut self, changed: Changed) -> Option<News> {
        match changed {
            Changed::Removed(name) => {
                // One that has ended already needs no word.
                let _ = self.stops.remove(&name).map(|stop| stop.send(()));
                self.waiting.remove(&name);
            }
            Changed::Added(name, Err(error)) => return Some(News::Ended(name, Err(error))),
            // A file that was put in another's place: the former stream is still ending.
            Changed::Added(name, Ok(ready)) if self.flowing.contains(&name) => {
                self.waiting.insert(name, ready);
            }
            Changed::Added(_, Ok(ready)) => self.start_later(ready),
        }
        None
    }
}

async fn announce(
    access: Access,
    ready: Ready,
    options: PublishOptions,
    stopped: oneshot::Receiver<()>,
) -> Announced {
    let description = ready.description.clone();
    let publisher = access.publish(&ready.name, description, options).await;
    Announced {
        ready,
        publisher,
        stopped,
    }
}

/// What a task came to; one that panicked is a panic here.
fn outcome<T>(ended: Result<T, JoinError>) -> T {
    ended.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => unreachable!("nobody aborts a broadcast"),
    })
}

async fn flow(
    mut source: Box<dyn Source>,
    mut publisher: AnyPublisher,
    shutdown: &mut Shutdown,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    tokio::pin!(stopped);
    loop {
        let item = tokio::select! {
            item = source.next() => item,
            () = shutdown.wait() => Ok(None),
            _ = &mut stopped => Ok(None),
        };
        match item {
            Ok(Some(Item::Frame(frame))) => publisher.send(frame).await?,
            Ok(Some(Item::Description(description))) => publisher.describe(description).await?,
            Ok(None) => return publisher.finish().await,
            Err(error) => return give_up(publisher, error).await,
        }
    }
}

/// What was read is still to be sent, and the stream to be taken back.
async fn give_up(publisher: AnyPublisher, error: Error) -> anyhow::Result<()> {
    publisher.finish().await?;
    Err(error.into())
}

/// What a stream holds, in words of codecs.
pub(crate) fn codecs(description: &Description) -> String {
    let codecs = description.tracks.iter().map(|track| &*track.codec);
    codecs.collect::<Vec<_>>().join(", ")
}

/// Says how a stream ended, in the log of a node.
pub(crate) fn report(name: &StreamName, ended: anyhow::Result<()>) {
    match ended {
        Ok(()) => tracing::info!(stream = %name, "the source has ended"),
        Err(error) => {
            tracing::warn!(stream = %name, "the stream has ended: {}", say::failure(&error));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::num::NonZeroU32;
    use std::time::Duration;

    use levada::{Node, Track, TrackId, TrackKind};
    use levada_media::source::Pending;

    use super::*;

    /// A source whose stream never ends.
    #[derive(Debug, Default)]
    struct Still(bool);

    impl Source for Still {
        fn next(&mut self) -> Pending<'_, Result<Option<Item>, Error>> {
            Box::pin(async {
                let track = Track {
                    id: TrackId(1),
                    kind: TrackKind::Data,
                    codec: "text".to_owned(),
                    timescale: NonZeroU32::MIN,
                    config: Vec::new(),
                    language: None,
                };
                let tracks = vec![track];
                if std::mem::replace(&mut self.0, true) {
                    return std::future::pending::<Result<Option<Item>, Error>>().await;
                }
                Ok(Some(Item::Description(Description { tracks })))
            })
        }
    }

    /// Looks for news once, and then does something else.
    async fn glance(broadcasts: &mut Broadcasts) -> Option<News> {
        let next = broadcasts.next();
        tokio::select! {
            biased;
            news = next => news,
            () = tokio::task::yield_now() => None,
        }
    }

    #[tokio::test]
    async fn a_file_that_comes_is_published_however_often_waiting_for_it_is_broken_off() {
        let node = Node::builder().temporary_state().admin(false);
        let node = node.listen(([127, 0, 0, 1], 0).into()).start();
        let access = Access::Own(node.await.unwrap());
        let (_asked, shutdown) = Shutdown::by_hand();
        let mut broadcasts = Broadcasts::new(&access, PublishOptions::default(), &shutdown);
        // As a folder that is watched.
        let (stop, _stopped) = oneshot::channel();
        broadcasts.folders.insert("clips".parse().unwrap(), stop);
        let name: StreamName = "clips/new".parse().unwrap();
        let added = Change::Added(name.clone(), Box::new(Still::default()));
        let changed = Changed::of(added).await;
        broadcasts.changes_in.send(changed).await.unwrap();

        let looking = async {
            loop {
                if let Some(news) = glance(&mut broadcasts).await {
                    return news;
                }
            }
        };
        let news = tokio::time::timeout(Duration::from_secs(60), looking).await;

        assert!(matches!(news, Ok(News::Begun(begun, _)) if begun == name));
    }
}
