//! Sources: where the frames of a published stream come from.
//!
//! ```text
//! text ── Source::parse ──▶ Source ── Source::open ──▶ Feed (one for each stream) ── next ──▶ Item, when it is due
//! ```
//!
//! A new source is a variant of [`Source`], a file beside the others and a variant of `Kind`. Not the publishing
//! . Called by `levada publish` and `run`, and by gateways. Invariant: what a feed gives starts at time zero, and the
//! times of a track never fall.

use std::fmt;
use std::path::{Path, PathBuf};

use levada_wire::{Description, Frame, StreamName};

mod card;
mod demux;
mod error;
mod file;
mod folder;
mod pipe;
mod timeline;

pub use error::Error;

/// What may be published, as the user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `test`: the built-in test card.
    TestCard,
    /// `-`: MPEG-TS on standard input.
    Pipe,
    /// A file, or a folder of files.
    Path(PathBuf),
}

/// How a source is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// A file starts anew at its end.
    pub repeats: bool,
}

/// What comes out of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// The tracks: first of all, and whenever they change.
    Description(Description),
    /// A frame that is due now.
    Frame(Frame),
}

impl Source {
    /// The source that `text` names: everything but the two words is a path.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "test" => Self::TestCard,
            "-" => Self::Pipe,
            path => Self::Path(path.into()),
        }
    }

    /// Opens it: a folder has one feed for each of its files, everything else has one.
    ///
    /// # Errors
    ///
    /// A source that cannot be published is refused here, before anything is announced.
    pub async fn open(
        &self,
        name: &StreamName,
        options: Options,
    ) -> Result<Vec<(StreamName, Feed)>, Error> {
        let feed = match self {
            Self::TestCard => Kind::TestCard(card::Feed::new()),
            Self::Pipe => Kind::Pipe(Box::new(pipe::Feed::open().await?)),
            Self::Path(path) if is_folder(path).await? => {
                return folder::open(path, name, options).await;
            }
            Self::Path(path) => Kind::File(Box::new(file::Feed::open(path, options).await?)),
        };
        Ok(vec![(name.clone(), Feed(feed))])
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TestCard => f.write_str("the test card"),
            Self::Pipe => f.write_str("standard input"),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

/// An open source of one stream.
#[derive(Debug)]
pub struct Feed(Kind);

#[derive(Debug)]
enum Kind {
    TestCard(card::Feed),
    Pipe(Box<pipe::Feed>),
    File(Box<file::Feed>),
}

impl Feed {
    /// Waits until the next item is due; `None` at the end.
    ///
    /// Whoever drops the future before it is ready may lose an item and should drop the feed too.
    ///
    /// # Errors
    ///
    /// When the source cannot be read on; what was read before has come out.
    pub async fn next(&mut self) -> Result<Option<Item>, Error> {
        match &mut self.0 {
            Kind::TestCard(feed) => Ok(Some(feed.next().await)),
            Kind::Pipe(feed) => feed.next().await,
            Kind::File(feed) => feed.next().await,
        }
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
    use super::*;

    #[test]
    fn a_source_is_a_word_or_a_path() {
        assert_eq!(Source::parse("test"), Source::TestCard);
        assert_eq!(Source::parse("-"), Source::Pipe);
        assert_eq!(Source::parse("./test"), Source::Path("./test".into()));
    }
}
