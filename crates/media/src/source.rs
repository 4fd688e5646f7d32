//! Sources: where the frames of a published stream come from.
//!
//! ```text
//! text ── Sources::open ──▶ Opened ──▶ Source (one for each stream) ── next ──▶ Item, when it is due
//! ```
//!
//! What a source is, is one trait: [`Source`]. Which text names which is the table of [`Sources`], to which others add
//! theirs by the scheme of a URL; the recipe is in CONTRIBUTING. Not the publishing. Called by `levada publish` and
//! `run`, and by gateways. Invariant: what a source gives starts at time zero, and the times of a track never fall.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use levada_wire::{Description, Frame, NetworkId, StreamName};

mod card;
mod clip;
mod demux;
mod error;
mod ffmpeg;
mod file;
mod folder;
mod pipe;
mod sdp;
mod socket;
mod timeline;
mod udp;

pub use error::Error;
pub use folder::{Catalogue, Change};
pub use timeline::Timeline;

/// What is not ready yet.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An open source of one stream.
pub trait Source: fmt::Debug + Send {
    /// Waits until the next item is due; `None` at the end. The first is a description, which is there at once.
    ///
    /// Whoever drops the future before it is ready may lose an item and should drop the source too. An error is of a
    /// source that cannot be read on; what was read before has come out.
    fn next(&mut self) -> Pending<'_, Result<Option<Item>, Error>>;
}

/// What comes out of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// The tracks: first of all, and whenever they change.
    Description(Description),
    /// A frame that is due now.
    Frame(Frame),
}

/// What somebody wants published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The source, as the user names it.
    pub text: String,
    /// The stream's name; of a folder, the first part of the names.
    pub name: StreamName,
    /// What the user wants of it.
    pub options: Options,
}

/// How a source is opened. Sources take what concerns them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// A file starts anew at its end.
    pub repeats: bool,
    /// The program of a transport stream with several; the first one if none.
    pub program: Option<NonZeroU16>,
    /// Pictures in a second of motion JPEG, which has no times; 25 if none.
    pub rate: Option<NonZeroU32>,
    /// The network that is published to: what one of its nodes sends out as datagrams is not taken in again.
    pub network: Option<NetworkId>,
}

/// What a request opened.
#[derive(Debug)]
pub enum Opened {
    /// One stream, of the name that was asked for.
    One(Box<dyn Source>),
    /// A stream for each file of a folder.
    Folder(Box<Catalogue>),
}

/// Whether a text is one that somebody opens.
type Looks = fn(&str) -> bool;

type Open = dyn Fn(Request) -> Pending<'static, Result<Opened, Error>> + Send + Sync;

/// Which text names which source.
///
/// | text | source |
/// |---|---|
/// | `test` | the built-in test card |
/// | `test-waves`, `test-sound` | another picture without sound; the test card's sound alone |
/// | `-` | MPEG-TS on standard input |
/// | `udp://`, `rtp://` | MPEG-TS in datagrams, unicast or multicast |
/// | what looks as was added | what [`Sources::with_look`] was given |
/// | a scheme that was added | what [`Sources::with_scheme`] was given |
/// | any other `SCHEME://` | what ffmpeg makes of it |
/// | a folder | its files, and those that come |
/// | a file | MPEG-TS, MP4, motion JPEG, the SDP of an RTP session, or what ffmpeg makes of it |
#[derive(Clone, Default)]
pub struct Sources {
    schemes: BTreeMap<String, Arc<Open>>,
    /// Of texts that look so, whatever their scheme.
    looks: Vec<(Looks, Arc<Open>)>,
}

impl Sources {
    /// The sources of this crate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
            .with_scheme("udp", |request| Box::pin(udp::open(request)))
            .with_scheme("rtp", |request| Box::pin(udp::open(request)))
    }

    /// Adds what opens the URLs of a scheme, written in small letters and without `://`.
    #[must_use]
    pub fn with_scheme(
        mut self,
        scheme: &str,
        open: impl Fn(Request) -> Pending<'static, Result<Opened, Error>> + Send + Sync + 'static,
    ) -> Self {
        self.schemes.insert(scheme.to_owned(), Arc::new(open));
        self
    }

    /// Adds what opens the texts that look so, before their scheme is asked for.
    #[must_use]
    pub fn with_look(
        mut self,
        looks: fn(&str) -> bool,
        open: impl Fn(Request) -> Pending<'static, Result<Opened, Error>> + Send + Sync + 'static,
    ) -> Self {
        self.looks.push((looks, Arc::new(open)));
        self
    }

    /// Opens what a request names.
    ///
    /// # Errors
    ///
    /// What cannot be published is refused here, before anything is announced.
    pub async fn open(&self, request: Request) -> Result<Opened, Error> {
        let mut looks = self.looks.iter();
        if let Some((_, open)) = looks.find(|(looks, _)| looks(&request.text)) {
            return open(request).await;
        }
        let scheme = request.text.split_once("://");
        let scheme = scheme.map(|(scheme, _)| scheme.to_ascii_lowercase());
        if let Some(card) = card::Card::named(&request.text) {
            return Ok(Opened::One(Box::new(card)));
        }
        match (request.text.as_str(), scheme) {
            ("-", _) => {
                let pipe = pipe::open_stdin(request.options).await?;
                Ok(Opened::One(Box::new(pipe)))
            }
            (_, Some(scheme)) => match self.schemes.get(&scheme) {
                Some(open) => open(request).await,
                None => ffmpeg::open(&request).await,
            },
            (path, None) if is_folder(Path::new(path)).await? => {
                let catalogue = Catalogue::open(request).await?;
                Ok(Opened::Folder(Box::new(catalogue)))
            }
            (path, None) => {
                let source = file::open(Path::new(path), request.options).await?;
                Ok(Opened::One(source))
            }
        }
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.schemes.keys()).finish()
    }
}

/// What a user named, without the name and the password that a URL may have.
#[must_use]
pub fn without_credentials(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Cow::Borrowed(text);
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at @ 1..) => Cow::Owned(format!("{scheme}://{}", &rest[at + 1..])),
        // `udp://@GROUP` has none, and is how some write it.
        _ => Cow::Borrowed(text),
    }
}

async fn is_folder(path: &Path) -> Result<bool, Error> {
    let metadata = tokio::fs::metadata(path).await;
    let metadata = metadata.map_err(|source| Error::Missing {
        path: path.to_owned(),
        source,
    })?;
    Ok(metadata.is_dir())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use levada_wire::TrackKind;

    use super::*;

    fn request(text: &str) -> Request {
        Request {
            text: text.into(),
            name: "cam".parse().unwrap(),
            options: Options::default(),
        }
    }

    #[tokio::test]
    async fn the_test_card_is_a_source_and_begins_with_its_tracks() {
        let Opened::One(mut card) = Sources::new().open(request("test")).await.unwrap() else {
            panic!("it is one stream");
        };

        let first = card.next().await.unwrap();

        assert!(matches!(first, Some(Item::Description(tracks)) if tracks.tracks.len() == 3));
    }

    #[tokio::test]
    async fn the_other_cards_have_a_picture_alone_and_sound_alone() {
        for (text, kind) in [
            ("test-waves", TrackKind::Video),
            ("test-sound", TrackKind::Audio),
        ] {
            let Opened::One(mut card) = Sources::new().open(request(text)).await.unwrap() else {
                panic!("it is one stream");
            };
            let Some(Item::Description(description)) = card.next().await.unwrap() else {
                panic!("it begins with its tracks");
            };

            let kinds: Vec<_> = description.tracks.iter().map(|track| track.kind).collect();
            assert_eq!(kinds, [kind, TrackKind::Data], "{text}");
            assert_eq!(description.leading().unwrap().kind, kind);
            assert!(matches!(card.next().await.unwrap(), Some(Item::Frame(frame)) if frame.sync));
        }
    }

    #[tokio::test]
    async fn a_scheme_that_was_added_opens_its_urls() {
        let sources = Sources::new().with_scheme("cam", |request| {
            Box::pin(async move {
                assert_eq!(request.text, "CAM://7");
                let card = card::Card::named("test").unwrap();
                Ok(Opened::One(Box::new(card)))
            })
        });

        assert!(sources.open(request("CAM://7")).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_not_there_is_refused_with_what_a_source_is() {
        let error = Sources::new().open(request("./nowhere.ts")).await;

        let error = error.unwrap_err().to_string();
        assert!(error.contains("./nowhere.ts"), "{error}");
        assert!(error.contains("udp://"), "{error}");
    }

    #[test]
    fn credentials_of_a_url_are_not_shown() {
        for (text, shown) in [
            ("rtsp://me:secret@cam/1?a@b", "rtsp://cam/1?a@b"),
            ("http://me:p@ss@host", "http://host"),
            ("http://host/a@b", "http://host/a@b"),
            ("udp://@239.1.1.1:5000", "udp://@239.1.1.1:5000"),
            ("clips/me@home.ts", "clips/me@home.ts"),
        ] {
            assert_eq!(without_credentials(text), shown);
        }
    }
}
