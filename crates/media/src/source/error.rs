//! Why a source cannot be opened or read on, with what to do.
//!
//! Not damage within a source, which is passed over and logged (`demux.rs`). Made by the files beside it, shown to the
//! user by whoever opened the source. Invariant: each says which source it speaks of.

use std::io;
use std::num::NonZeroU16;
use std::path::PathBuf;

use super::demux::listed;
use crate::mp4::Mp4Error;
use crate::sdp::SdpError;

/// Why a source gives nothing, or nothing more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was named is no source.
    #[error(
        "cannot read {path}; a source is `test`, a file (MPEG-TS, MP4, motion JPEG, SDP), a folder of files, `-` for \
         MPEG-TS on standard input, or a URL such as `udp://239.1.1.1:5000`",
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
    /// An MP4 file without anything that can be read.
    #[error(
        "{path} cannot be published; `ffmpeg -i {path} -c:v libx264 -c:a aac {path}.mp4` makes of it what can, \
         if ffmpeg can read it",
        path = .path.display()
    )]
    Mp4 {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Mp4Error,
    },
    /// An SDP without anything that can be received.
    #[error("nothing can be received by {}", .path.display())]
    Sdp {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SdpError,
    },
    /// A track of an SDP that does not say where it is sent to.
    #[error(
        "{path} says no port for its {codec} track, as the SDP of RTSP does: write the URL of the RTSP server instead \
         of this file, or the port behind `m=`",
        path = .path.display()
    )]
    NoPort {
        /// The file.
        path: PathBuf,
        /// The track's word.
        codec: String,
    },
    /// It has no track.
    #[error("{} has no pictures, sound or data that could be published", .0.display())]
    NoTracks(PathBuf),
    /// The transport stream has not the program that is wanted.
    #[error(
        "the transport stream has no program {wanted}: it has {}; choose one of these with `--program NUMBER`",
        listed(.programs)
    )]
    NoProgram {
        /// What `--program` says.
        wanted: NonZeroU16,
        /// All that it has.
        programs: Vec<u16>,
    },
    /// Only ffmpeg could read it.
    #[error(
        "{0} is nothing that levada reads by itself (MPEG-TS, MP4, motion JPEG, SDP), and ffmpeg, which reads the \
         rest, is not installed: install it, on Debian with `apt install ffmpeg`"
    )]
    NoFfmpeg(String),
    /// ffmpeg cannot read it, or not any more.
    #[error("ffmpeg cannot read {what}: {said}")]
    Ffmpeg {
        /// The source, without credentials.
        what: String,
        /// What it says itself.
        said: String,
    },
    /// What it holds cannot be passed on as it is.
    #[error(
        "{0} has a codec that cannot be passed on as it is: `ffmpeg -i {0} -c copy OUT.mp4` makes a file that can be \
         published of AV1, VP9 and Opus, and `-c:v libx264 -c:a aac` instead of `-c copy` of anything"
    )]
    NotCarried(String),
    /// A URL that cannot be meant.
    #[error(
        "`{url}` cannot be listened to: {reason}; write `udp://GROUP:PORT` for a multicast group, `udp://:PORT` for \
         what is sent to this machine"
    )]
    Url {
        /// What the user wrote.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The system does not let us listen.
    #[error("cannot listen to {what}: {cure}")]
    Socket {
        /// What the user wrote.
        what: String,
        /// How to mend it, in words.
        cure: String,
        /// What the system says.
        source: io::Error,
    },
    /// What comes is something else.
    #[error(
        "what comes on {0} is no MPEG transport stream: send one, for example with \
         `ffmpeg -re -i INPUT -c copy -f mpegts {0}`, or name an SDP file for other RTP"
    )]
    NoTransportStreamFrom(String),
    /// What comes is what a node of this network sends.
    #[error(
        "what comes on {0} is an output of this very network (`[[output]]`), and taking it in again would make a \
         circle: play the stream by its name, or listen to another group"
    )]
    OwnOutput(String),
    /// The folder has no file that looks like media.
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
    /// Whatever else keeps a source of somebody else's from being read, with what to do.
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// For `map_err`: the bytes of `what` cannot be had.
    pub(super) fn unreadable(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::Unreadable { what, source }
    }
}
