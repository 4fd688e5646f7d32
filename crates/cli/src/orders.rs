//! What is published by the API while a node runs: checked, opened, announced, taken back.
//!
//! ```text
//!   API ─▶ Desk ─▶ order ─▶ Orders (in the loop of `run`) ─▶ check ─▶ open (a task) ─▶ Broadcasts ─▶ answer
//! ```
//!
//! Not the API, and not sources. Called by `run`. Invariant: what the API reads of this machine is a file below
//! `media_dir`, whatever it is called; nothing waits for a source that takes long to open.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use levada::StreamName;
use levada_api::actions::{Order, Pending, Publishing};
use levada_media::source::{Options, Request};
use tokio::sync::{mpsc, oneshot};

use crate::broadcast::{self, Broadcasts, Opening};
use crate::say;

/// Orders that may wait.
const ORDERS_MAX: usize = 16;
/// Streams that may be published in this way.
const PUBLISHED_MAX: usize = 256;
/// What may be published besides files.
const SCHEMES: [&str; 2] = ["udp://", "rtp://"];
const CARDS: [&str; 3] = ["test", "test-waves", "test-sound"];

type Reply = oneshot::Sender<Result<(), String>>;

/// The API's end.
#[derive(Clone, Debug)]
struct Desk(mpsc::Sender<Asked>);

#[derive(Debug)]
enum Asked {
    Publish(Order, Reply),
    TakeBack(StreamName, Reply),
}

impl Desk {
    fn ask(
        &self,
        asked: impl FnOnce(Reply) -> Asked + Send + 'static,
    ) -> Pending<Result<(), String>> {
        let desk = self.0.clone();
        Box::pin(async move {
            let gone = || "the node ends".to_owned();
            let (reply, answer) = oneshot::channel();
            desk.send(asked(reply)).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        })
    }
}

impl Publishing for Desk {
    fn publish(&self, order: Order) -> Pending<Result<(), String>> {
        self.ask(|reply| Asked::Publish(order, reply))
    }

    fn take_back(&self, name: StreamName) -> Pending<Result<(), String>> {
        self.ask(|reply| Asked::TakeBack(name, reply))
    }
}

/// The node's end.
#[derive(Debug)]
pub(crate) struct Orders {
    media_dir: Option<PathBuf>,
    asked: mpsc::Receiver<Asked>,
    opened: mpsc::Receiver<Opened>,
    opened_in: mpsc::Sender<Opened>,
    published: Vec<Request>,
}

/// A source that was opened, or not.
#[derive(Debug)]
struct Opened {
    request: Request,
    opening: anyhow::Result<Opening>,
    reply: Reply,
}

/// An order, or a source that is open by now.
#[derive(Debug)]
pub(crate) struct Step(Next);

#[derive(Debug)]
enum Next {
    Asked(Asked),
    Opened(Opened),
}

impl Orders {
    /// The two ends.
    pub(crate) fn new(media_dir: Option<PathBuf>) -> (Self, Arc<dyn Publishing>) {
        let (desk, asked) = mpsc::channel(ORDERS_MAX);
        let (opened_in, opened) = mpsc::channel(ORDERS_MAX);
        let orders = Self {
            media_dir,
            asked,
            opened,
            opened_in,
            published: Vec::new(),
        };
        (orders, Arc::new(Desk(desk)))
    }

    /// Waits for what is next; for ever if nobody can ask. May be dropped before it is ready.
    pub(crate) async fn next(&mut self) -> Step {
        tokio::select! {
            Some(asked) = self.asked.recv() => Step(Next::Asked(asked)),
            Some(opened) = self.opened.recv() => Step(Next::Opened(opened)),
            else => std::future::pending().await,
        }
    }

    /// Does it.
    pub(crate) async fn take(&mut self, step: Step, broadcasts: &mut Broadcasts) {
        match step.0 {
            Next::Asked(Asked::Publish(order, reply)) => match self.check(&order) {
                Ok(request) => self.open(request, reply),
                Err(why) => answer(reply, Err(why)),
            },
            Next::Asked(Asked::TakeBack(name, reply)) => {
                let at = self
                    .published
                    .iter()
                    .position(|request| request.name == name);
                answer(
                    reply,
                    match at {
                        Some(at) => {
                            let request = self.published.remove(at);
                            broadcasts.change(&[request], &[]);
                            Ok(())
                        }
                        None => Err(format!(
                            "`{name}` was not published from here: end it where it was begun"
                        )),
                    },
                );
            }
            Next::Opened(opened) => self.announce(opened, broadcasts).await,
        }
    }

    fn check(&self, order: &Order) -> Result<Request, String> {
        let name: StreamName = order
            .name
            .parse()
            .map_err(|why| format!("`{}` is no name of a stream: {why}", order.name))?;
        if self.published.iter().any(|request| request.name == name) {
            return Err(format!("`{name}` is published already: take it back first"));
        }
        if self.published.len() >= PUBLISHED_MAX {
            return Err(format!(
                "{PUBLISHED_MAX} streams are published from here already"
            ));
        }
        Ok(Request {
            text: source(&order.source, self.media_dir.as_deref())?,
            name,
            options: Options {
                repeats: order.r#loop,
                ..Options::default()
            },
        })
    }

    /// Opens a source, however long that takes.
    fn open(&self, request: Request, reply: Reply) {
        let opened = self.opened_in.clone();
        tokio::spawn(async move {
            let opening = broadcast::open(std::slice::from_ref(&request)).await;
            // Fails only when the node ends.
            let _ = opened
                .send(Opened {
                    request,
                    opening,
                    reply,
                })
                .await;
        });
    }

    async fn announce(&mut self, opened: Opened, broadcasts: &mut Broadcasts) {
        let Opened {
            request,
            opening,
            reply,
        } = opened;
        let mut opening = match opening {
            Ok(opening) => opening,
            Err(error) => return answer(reply, Err(say::failure(&error))),
        };
        broadcasts.watch(&mut opening);
        for ready in opening.streams {
            if let Err(error) = broadcasts.start(ready).await {
                return answer(reply, Err(say::failure(&error)));
            }
        }
        self.published.push(request);
        answer(reply, Ok(()));
    }
}

/// Whoever asked may have gone.
fn answer(reply: Reply, result: Result<(), String>) {
    let _ = reply.send(result);
}

/// The source that a text names, if the API may read it.
fn source(text: &str, media_dir: Option<&Path>) -> Result<String, String> {
    let text = text.trim();
    if CARDS.contains(&text) || SCHEMES.iter().any(|scheme| text.starts_with(scheme)) {
        return Ok(text.to_owned());
    }
    if text.is_empty() || text == "-" || text.contains("://") {
        return Err(format!(
            "`{text}` is not published from here: write `test`, `udp://...`, `rtp://...`, or a file below `media_dir`; \
             `levada publish` takes everything else"
        ));
    }
    let Some(media_dir) = media_dir else {
        return Err(format!(
            "`{text}` is a file, and this node publishes none from here: say where files are with `media_dir` in its \
             configuration"
        ));
    };
    let cannot =
        |path: &Path, why: std::io::Error| format!("cannot read {}: {why}", path.display());
    let media_dir = media_dir
        .canonicalize()
        .map_err(|why| cannot(media_dir, why))?;
    let path = media_dir.join(text);
    // Where links and `..` really lead.
    let path = path
        .canonicalize()
        .map_err(|why| cannot(Path::new(text), why))?;
    if !path.starts_with(&media_dir) {
        return Err(format!(
            "`{text}` is not below `media_dir`, and only files there are published from here"
        ));
    }
    path.into_os_string()
        .into_string()
        .map_err(|_| format!("the name of `{text}` is no text"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn only_files_below_the_media_directory_are_read_wherever_a_name_leads() {
        let dir = tempfile::tempdir().unwrap();
        let media = dir.path().join("media");
        std::fs::create_dir(&media).unwrap();
        std::fs::write(media.join("news.ts"), "").unwrap();
        std::fs::write(dir.path().join("secret.ts"), "").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret.ts"), media.join("way-out.ts")).unwrap();
        let outside = dir.path().join("secret.ts").display().to_string();

        let read = |text: &str| source(text, Some(&media));

        assert!(read("news.ts").unwrap().ends_with("/media/news.ts"));
        for text in ["../secret.ts", "way-out.ts", &*outside, "/etc/passwd"] {
            assert!(read(text).unwrap_err().contains("media_dir"), "{text}");
        }
        for text in [
            "",
            "-",
            "file:///etc/passwd",
            "concat://a",
            "http://localhost/x",
        ] {
            assert!(read(text).unwrap_err().contains("levada publish"), "{text}");
        }
        assert!(read("none.ts").unwrap_err().contains("none.ts"));
        assert_eq!(source("test", None).as_deref(), Ok("test"));
        assert!(source("udp://:5000", None).is_ok());
        assert!(source("news.ts", None).unwrap_err().contains("`media_dir`"));
    }
}
