//! How a connection is closed: a code for programs and words for people.
//!
//! Not the decision to close, which is the core's. Called by `driver` and `quic`. Invariant: the words say what
//! the peer's operator can do, and nothing secret.
//!
//! Wire definition: docs/wire.md section 7

use levada_core::{ConnectionLost, LinkDown};
use quinn::VarInt;

/// The longest words sent, and kept of what a peer sent, in bytes.
pub(crate) const WORDS_BYTES_MAX: usize = 200;

/// The application code of a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// On purpose; nothing is wrong.
    Done,
    /// A control stream that makes no sense.
    Protocol,
    /// A limit of the closing node is reached.
    Full,
    /// Another link to the same node is kept.
    Duplicate,
    /// Not the node, or not the network, that was expected.
    Wrong,
    /// More control messages waited for the peer than the limit allows.
    Overrun,
}

impl Code {
    pub(crate) const fn number(self) -> VarInt {
        VarInt::from_u32(match self {
            Self::Done => 0,
            Self::Protocol => 1,
            Self::Full => 2,
            Self::Duplicate => 3,
            Self::Wrong => 4,
            Self::Overrun => 5,
        })
    }
}

/// Code and words for the core's reason.
pub(crate) fn of(reason: &LinkDown) -> (Code, String) {
    let code = match reason {
        LinkDown::Duplicate | LinkDown::Superseded | LinkDown::Copied => Code::Duplicate,
        LinkDown::WrongNode | LinkDown::WrongNetwork | LinkDown::Self_ => Code::Wrong,
        LinkDown::Protocol(_) => Code::Protocol,
        LinkDown::Full | LinkDown::Crowded => Code::Full,
        _ => Code::Done,
    };
    (code, words(reason))
}

/// The core's reason in words, whatever a peer has put into them.
pub(crate) fn words(reason: &LinkDown) -> String {
    shorten(&reason.to_string())
}

/// How quinn says that a connection ended, in the core's words.
pub(crate) fn lost(error: &quinn::ConnectionError) -> ConnectionLost {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => {
            ConnectionLost::ClosedByPeer(shorten(&String::from_utf8_lossy(&close.reason)))
        }
        quinn::ConnectionError::LocallyClosed => ConnectionLost::ClosedHere,
        other => ConnectionLost::Failed(shorten(&other.to_string())),
    }
}

/// Keeps as much of `text` as may be kept, without control characters: it is a stranger's, and goes to a terminal.
pub(crate) fn shorten(text: &str) -> String {
    let mut kept = String::new();
    for character in text.chars().filter(|c| !c.is_control()) {
        if kept.len() + character.len_utf8() > WORDS_BYTES_MAX {
            break;
        }
        kept.push(character);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_words_are_cut_and_cannot_move_the_cursor() {
        let shown = shorten(&format!("\x1b[2Jhello{}", "é".repeat(500)));

        assert!(shown.starts_with("[2Jhello"), "{shown}");
        assert!(shown.len() <= WORDS_BYTES_MAX);
    }
}
