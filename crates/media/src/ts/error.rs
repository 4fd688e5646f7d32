//! What was wrong with a transport stream. Nothing here ends it: the demuxer notes it and goes on.
//!
//! Not the muxer's errors, which are its caller's. Called by the demuxer. Invariant: notes are bounded; what is
//! above the bound is counted.

use super::packet::Pid;

/// Errors kept between two calls of [`super::Demuxer::take_errors`].
pub(super) const ERRORS_MAX: usize = 64;

/// One thing that was wrong with a transport stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}{}: {kind}", Of(*.pid))]
pub struct Error {
    /// Where: bytes from the beginning of the stream.
    pub at: u64,
    /// Whose packet it was, when that is known.
    pub pid: Option<Pid>,
    /// The rule of the format that was broken.
    pub kind: ErrorKind,
}

/// The rules of the format that a stream may break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Bytes that belong to no packet.
    #[error("{bytes} bytes are not transport stream packets")]
    Junk {
        /// How many bytes were skipped.
        bytes: u64,
    },
    /// The sender marked the packet as damaged, or its adaptation field is longer than itself.
    #[error("the packet is damaged")]
    Damaged,
    /// The payload is encrypted.
    #[error("the packet is scrambled, and there is no key for it")]
    Scrambled,
    /// The continuity counter jumped.
    #[error("packets were lost")]
    Lost,
    /// A table's checksum is wrong.
    #[error("the checksum of a table is wrong")]
    TableChecksum,
    /// A table is shorter than what it announces.
    #[error("a table is cut short")]
    TableForm,
    /// The program has more tracks than a stream may have.
    #[error(
        "the program has more than {} tracks, the last are left out",
        levada_wire::frame::TRACKS_MAX
    )]
    TooManyTracks,
    /// A PES packet does not begin as one must.
    #[error("a PES packet has no valid header")]
    PesHeader,
    /// A frame is larger than a frame may be.
    #[error(
        "a frame is larger than {} bytes and is left out",
        levada_wire::frame::FRAME_BYTES_MAX
    )]
    FrameTooLarge,
    /// Bytes of an audio track that belong to no frame.
    #[error("{bytes} bytes are not audio frames")]
    AudioJunk {
        /// How many bytes were skipped.
        bytes: usize,
    },
    /// A frame of a track that never said a time.
    #[error("a frame has no time and is left out")]
    Untimed,
}

/// Writes ` of PID 0x0100` or nothing.
struct Of(Option<Pid>);

impl std::fmt::Display for Of {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |pid| write!(f, " of {pid}"))
    }
}

/// Where errors are noted.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Where the packet in hand begins.
    pub(super) at: u64,
    list: Vec<Error>,
    total: u64,
}

impl Notes {
    pub(super) fn add(&mut self, pid: Option<Pid>, kind: ErrorKind) {
        self.total += 1;
        if self.list.len() < ERRORS_MAX {
            self.list.push(Error {
                at: self.at,
                pid,
                kind,
            });
        }
    }

    pub(super) fn take(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.list)
    }

    pub(super) const fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_above_the_limit_are_counted() {
        let mut notes = Notes::default();

        for _ in 0..=ERRORS_MAX {
            notes.add(None, ErrorKind::Lost);
        }

        assert_eq!(notes.take().len(), ERRORS_MAX);
        assert_eq!(notes.total(), 65);
    }

    #[test]
    fn an_error_says_where() {
        let pid = Some(Pid::from_low_bits(0x100));
        let error = Error {
            at: 376,
            pid,
            kind: ErrorKind::Lost,
        };

        assert_eq!(
            error.to_string(),
            "at byte 376 of PID 0x0100: packets were lost"
        );
    }
}
