//! Control messages: what two linked nodes say to each other over QUIC.
//!
//! Each concern (link, route, flow) has a QUIC stream of its own in each direction, so that a large
//! collection never delays a request. A message is a frame of its own:
//!
//! ```text
//! off len field
//!  0   4  length   bytes of the body, at most MESSAGE_BYTES_MAX
//!  4   1  concern  1 link, 2 route, 3 flow
//!  5   1  type     by concern
//!  6   n  body     one CBOR map; unknown fields are ignored
//! ```
//!
//! A type nobody knows is skipped: that is how N talks to N-1. Not the meaning of the messages, which is in
//! `core::link`, `core::route` and `core::flow`. How to add a message: CONTRIBUTING.md, "Add a control message".
//! Invariant: a decoder holds at most one message's bytes and never panics.
//!
//! Wire definition: docs/wire.md section 7

use minicbor::{Decode, Encode};

pub mod channel;
pub mod flow;
pub mod link;
pub mod route;
pub mod survey;

pub use flow::FlowMessage;
pub use link::LinkMessage;
pub use route::RouteMessage;

/// The largest body of a message.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Length and type.
pub const MESSAGE_HEADER_BYTES: usize = 6;

/// What a control stream is about. Its number is the first byte of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Concern {
    /// The link itself.
    Link,
    /// Routes to origins.
    Route,
    /// Streams and flows.
    Flow,
}

impl Concern {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Link, Self::Route, Self::Flow];

    /// Its number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Link => 1,
            Self::Route => 2,
            Self::Flow => 3,
        }
    }

    /// The concern of that number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|concern| concern.code() == code)
    }
}

/// Any control message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// About the link.
    Link(LinkMessage),
    /// About routes.
    Route(RouteMessage),
    /// About streams and flows.
    Flow(FlowMessage),
}

impl Message {
    /// The stream it travels on.
    #[must_use]
    pub const fn concern(&self) -> Concern {
        match self {
            Self::Link(_) => Concern::Link,
            Self::Route(_) => Concern::Route,
            Self::Flow(_) => Concern::Flow,
        }
    }

    /// Appends the message's frame to `out`.
    ///
    /// # Panics
    ///
    /// If the body is larger than [`MESSAGE_BYTES_MAX`]: senders split what could be.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; MESSAGE_HEADER_BYTES]);
        let code = match self {
            Self::Link(message) => message.encode(out),
            Self::Route(message) => message.encode(out),
            Self::Flow(message) => message.encode(out),
        };
        let length = out.len() - start - MESSAGE_HEADER_BYTES;
        assert!(
            length <= MESSAGE_BYTES_MAX,
            "a message of {length} bytes must be split"
        );
        let length = u32::try_from(length).expect("at most MESSAGE_BYTES_MAX");
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        out[start + 4] = self.concern().code();
        out[start + 5] = code;
    }

    /// How much memory it takes while it waits to be sent, about. Statements count little: they are shared with
    /// whoever else has them.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let more = match self {
            Self::Link(message) => message.held_bytes(),
            Self::Route(message) => message.held_bytes(),
            Self::Flow(message) => message.held_bytes(),
        };
        size_of::<Self>() + more
    }

    /// Decodes one body; `Ok(None)` for a type that this version does not know.
    fn decode(concern: u8, code: u8, body: &[u8]) -> Result<Option<Self>, ControlError> {
        let Some(concern) = Concern::from_code(concern) else {
            return Ok(None);
        };
        let message = match concern {
            Concern::Link => LinkMessage::decode(code, body)?.map(Self::Link),
            Concern::Route => RouteMessage::decode(code, body)?.map(Self::Route),
            Concern::Flow => FlowMessage::decode(code, body)?.map(Self::Flow),
        };
        Ok(message)
    }
}

/// Cuts one control stream into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The beginning of a message that is not whole yet.
    buffer: Vec<u8>,
    /// The stream made no sense; nothing of it is taken any more.
    broken: bool,
}

impl Decoder {
    /// Takes bytes as they came from the stream and appends the messages that are now whole to `messages`.
    ///
    /// # Errors
    ///
    /// When the stream cannot be made sense of, and from then on always; it must be closed, for its bytes have lost
    /// their order.
    pub fn push(
        &mut self,
        mut bytes: &[u8],
        messages: &mut Vec<Message>,
    ) -> Result<(), ControlError> {
        if self.broken {
            return Err(ControlError::Broken);
        }
        while !bytes.is_empty() {
            let result = self.take(&mut bytes);
            if result.is_err() {
                self.broken = true;
                self.buffer = Vec::new();
            }
            messages.extend(result?);
        }
        Ok(())
    }

    /// Moves what the current message still lacks from `bytes` to the buffer, and decodes the message once it is whole.
    fn take(&mut self, bytes: &mut &[u8]) -> Result<Option<Message>, ControlError> {
        let lacking = frame_bytes(&self.buffer)? - self.buffer.len();
        let (taken, rest) = bytes.split_at(lacking.min(bytes.len()));
        *bytes = rest;
        self.buffer.extend_from_slice(taken);
        let whole = frame_bytes(&self.buffer)?;
        let Some(&[_, _, _, _, concern, code]) = self.buffer.first_chunk::<MESSAGE_HEADER_BYTES>()
        else {
            return Ok(None);
        };
        if self.buffer.len() < whole {
            return Ok(None);
        }
        let message = Message::decode(concern, code, &self.buffer[MESSAGE_HEADER_BYTES..])?;
        self.buffer.clear();
        Ok(message)
    }
}

/// The bytes of the frame that starts with `bytes`, as far as they tell: those of its header until it is whole.
fn frame_bytes(bytes: &[u8]) -> Result<usize, ControlError> {
    let Some(&[a, b, c, d, _, _]) = bytes.first_chunk::<MESSAGE_HEADER_BYTES>() else {
        return Ok(MESSAGE_HEADER_BYTES);
    };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    // spec: WIRE 7 a stream that brings a frame beyond the limit MUST be closed
    if length > MESSAGE_BYTES_MAX {
        return Err(ControlError::TooLong { bytes: length });
    }
    Ok(MESSAGE_HEADER_BYTES + length)
}

/// Why a control stream makes no sense.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// A frame longer than [`MESSAGE_BYTES_MAX`].
    #[error("a control message of {bytes} bytes; the limit is {MESSAGE_BYTES_MAX}")]
    TooLong {
        /// The length it claims.
        bytes: usize,
    },
    /// A body that is not what its type says.
    #[error("a control message that does not decode: {0}")]
    Malformed(#[from] minicbor::decode::Error),
    /// Bytes after an error.
    #[error("a control stream that lost its order before")]
    Broken,
}

/// Appends `body` in CBOR.
fn append(body: &impl Encode<()>, out: &mut Vec<u8>) {
    minicbor::encode(body, out).expect("writing to memory does not fail");
}

/// Reads a body in CBOR.
fn read<'b, T: Decode<'b, ()>>(body: &'b [u8]) -> Result<T, minicbor::decode::Error> {
    minicbor::decode(body)
}

/// Writes the enum of one concern's messages with the table of their numbers.
macro_rules! messages {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $code:literal => $variant:ident,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $variant($variant),)+
        }

        impl $name {
            /// Appends the body and returns the message's number.
            pub(super) fn encode(&self, out: &mut Vec<u8>) -> u8 {
                match self {
                    $(Self::$variant(body) => { $crate::control::append(body, out); $code })+
                }
            }

            /// Decodes the body of message `code`; `None` for a number this version does not know.
            pub(super) fn decode(
                code: u8,
                body: &[u8],
            ) -> Result<Option<Self>, minicbor::decode::Error> {
                Ok(Some(match code {
                    $($code => Self::$variant($crate::control::read(body)?),)+
                    _ => return Ok(None),
                }))
            }
        }
    };
}
use messages;

#[cfg(test)]
mod tests;
