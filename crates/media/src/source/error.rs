//! Why a source cannot be opened or read on, with what to do.
//!
//! Not damage within a source, which is passed over and logged (`demux.rs`). Made by the files beside it, shown to the
//! user by whoever opened the source. Invariant: each says which source it speaks of.

use std::io;
use std::path::PathBuf;

/// Why a source gives nothing, or nothing more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was named is no source.
    #[error(
        "cannot read {path}; a source is `test`, an MPEG-TS file, a folder of them, or `-` for standard input",
        path = .path.display()
    )]
    Missing {
        /// The path as the user gave it.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The system does not give its bytes.
    #[error("cannot read {what}")]
    Unreadable {
        /// The source.
        what: String,
        /// What the system says.
        source: io::Error,
    },
    /// It has no bytes.
    #[error("{} is empty", .0.display())]
    Empty(PathBuf),
    /// It has bytes of something else.
    #[error(
        "{path} is not an MPEG transport stream: only those can be published from files at present; \
         convert it with `ffmpeg -i {path} -c copy -f mpegts {path}.ts`",
        path = .0.display()
    )]
    NoTransportStream(PathBuf),
    /// It has no track.
    #[error("{} has no pictures, sound or data that could be published", .0.display())]
    NoTracks(PathBuf),
    /// The folder has no file of transport streams.
    #[error("there is no file to publish in {path}: it holds none that ends in {extensions}", path = .path.display())]
    NoFiles {
        /// The folder.
        path: PathBuf,
        /// What such files end in.
        extensions: String,
    },
    /// No file of the folder can be a source.
    #[error("no file of {path} can be published: {reasons}", path = .path.display())]
    NoFileFits {
        /// The folder.
        path: PathBuf,
        /// What is wrong with each.
        reasons: String,
    },
    /// Standard input is no pipe.
    #[error("standard input is a terminal: pipe an MPEG transport stream into it")]
    Terminal,
    /// Standard input had nothing.
    #[error("standard input ended before anything came: pipe an MPEG transport stream into it")]
    NothingPiped,
    /// Standard input has something else.
    #[error(
        "what comes on standard input is not an MPEG transport stream: \
         convert it, for example with `ffmpeg -i INPUT -c copy -f mpegts - | levada publish NAME -`"
    )]
    NoTransportStreamPiped,
}

impl Error {
    /// For `map_err`: the bytes of `what` cannot be had.
    pub(super) fn unreadable(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::Unreadable { what, source }
    }
}
