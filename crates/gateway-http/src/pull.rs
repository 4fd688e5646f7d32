//! Streams that are fetched from other servers by HLS: as sources of `levada publish`, and as `[[pull]]` on demand or
//! always.
//!
//! | module | what it is |
//! |---|---|
//! | `playlist`, `url` | what servers say, and where |
//! | `client` | files by HTTP |
//! | `source` | segments ahead of time, frames when they are due |
//!
//! A stream that is pulled is a stream like any other: published under its name, played at every node. Not our own
//! playlists, which are `hls`'s. Called by `levada-cli`. Invariant: dropping [`Pulls`] ends all of it; what a server
//! answers costs a bounded amount of memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use levada::{Node, PublishError, PublishOptions, SendError, StreamName};
use levada_gateway::{Offers, OnDemand};
use levada_media::source::Item;
use tokio::task::AbortHandle;

mod client;
pub(crate) mod playlist;
mod source;
mod url;

pub use source::{Choice, open};
pub use url::{Url, UrlError};

use source::Hls;

/// The first pause after a failure...
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// ...and the longest.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// What was pulled for as long was good: the pauses begin anew.
const GOOD: Duration = Duration::from_secs(10);
/// How long it is pulled that nobody wants any more.
const LINGER: Duration = Duration::from_secs(10);

/// What of a URL may be shown: nothing before the server, nothing behind the path.
pub(crate) fn shown(text: &str) -> String {
    text.parse::<Url>()
        .map_or_else(|_| "the URL".to_owned(), |url| url.to_string())
}

/// How a stream is pulled.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spec {
    /// As it was written, with credentials.
    text: String,
    /// Which of several variants.
    pub variant: Choice,
    /// Whether to pull also while nobody wants it.
    pub always: bool,
}

impl std::fmt::Debug for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Spec({})", shown(&self.text))
    }
}

impl Spec {
    /// On demand, in the best quality.
    ///
    /// # Errors
    ///
    /// When the text is no URL of HTTP.
    pub fn new(text: &str) -> Result<Self, UrlError> {
        text.parse::<Url>()?;
        Ok(Self {
            text: text.to_owned(),
            variant: Choice::Best,
            always: false,
        })
    }
}

/// Whether a URL is a playlist of HLS, as far as it says itself.
#[must_use]
pub fn is_playlist(text: &str) -> bool {
    let path = text.split(['?', '#']).next().unwrap_or("");
    let path = path.to_ascii_lowercase();
    path.ends_with(".m3u8") && (path.starts_with("http://") || path.starts_with("https://"))
}

/// All streams that a node pulls by HLS. Clones are the same.
#[derive(Clone, Debug)]
pub struct Pulls {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    node: Node,
    offers: Offers,
    table: Mutex<BTreeMap<StreamName, (Spec, Kept)>>,
}

/// A stream that is kept; no more once this is dropped.
#[derive(Debug)]
struct Kept(AbortHandle);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Pulls {
    /// Pulls nothing yet. Must be called on a tokio runtime.
    #[must_use]
    pub fn new(node: Node) -> Self {
        let shared = Shared {
            offers: Offers::new(&node),
            node,
            table: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<StreamName, (Spec, Kept)>> {
        self.shared
            .table
            .lock()
            .expect("no code that can panic runs under this lock")
    }

    /// Pulls these from now on. Those that are as before go on untouched. Returns how many are others, or gone.
    pub fn set(&self, specs: BTreeMap<StreamName, Spec>) -> usize {
        let mut table = self.table();
        let before = table.len();
        table.retain(|name, (spec, _)| specs.get(name) == Some(spec));
        let changed = before - table.len();
        for (name, spec) in specs {
            table.entry(name).or_insert_with_key(|name| {
                let keeper = Keeper {
                    node: self.shared.node.clone(),
                    offers: self.shared.offers.clone(),
                    name: name.clone(),
                    spec: spec.clone(),
                    trouble: None,
                };
                (spec, Kept(tokio::spawn(keeper.run()).abort_handle()))
            });
        }
        changed
    }
}

/// What keeps a stream.
struct Keeper {
    node: Node,
    offers: Offers,
    name: StreamName,
    spec: Spec,
    /// What was said last of why it does not come.
    trouble: Option<String>,
}

impl Keeper {
    async fn run(mut self) {
        let Some(mut publisher) = self.publish().await else {
            return;
        };
        let mut pause = PAUSE_MIN;
        loop {
            let mut demand = publisher.demand();
            if !self.spec.always && !demand.is_any() {
                demand.wanted().await;
            }
            let began = Instant::now();
            let pulled = tokio::select! {
                pulled = pull(&self.spec, &mut publisher) => pulled,
                () = demand.unwanted_for(LINGER), if !self.spec.always => {
                    pause = PAUSE_MIN;
                    continue;
                }
            };
            match pulled {
                Ok(()) => self.say("the recording has ended, and begins anew"),
                Err(Failure::Stopped) => return,
                Err(Failure::Source(why)) => self.say(&why),
            }
            if began.elapsed() >= GOOD {
                pause = PAUSE_MIN;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Offers it. A name that this node offers otherwise is waited for.
    async fn publish(&mut self) -> Option<OnDemand> {
        let mut pause = PAUSE_MIN;
        loop {
            let (name, options) = (self.name.clone(), PublishOptions::default());
            match OnDemand::publish(&self.node, &self.offers, name, options).await {
                Ok(publisher) => return Some(publisher),
                Err(PublishError::Stopped(_)) => return None,
                Err(error) => self.say(&error.to_string()),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Said once for each reason, not once for each try.
    fn say(&mut self, why: &str) {
        if self.trouble.as_deref() != Some(why) {
            tracing::warn!(stream = %self.name, "is not pulled at the moment, and tried again: {why}");
            self.trouble = Some(why.to_owned());
        }
    }
}

/// Why a stream stopped coming.
enum Failure {
    Source(String),
    Stopped,
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Stopped(_) => Self::Stopped,
            error => Self::Source(error.to_string()),
        }
    }
}

/// Publishes what comes, until no more does.
async fn pull(spec: &Spec, publisher: &mut OnDemand) -> Result<(), Failure> {
    let failed = |error: source::HlsError| Failure::Source(error.to_string());
    let opened = Hls::open(&spec.text, spec.variant.clone(), false).await;
    let mut source = opened.map_err(failed)?;
    while let Some(item) = source.due().await.map_err(failed)? {
        match item {
            Item::Description(description) => publisher.begin(description).await?,
            Item::Frame(frame) => publisher.send(frame).await?,
        }
    }
    Ok(())
}
