//! Cuts an RTSP connection's bytes into requests, responses and interleaved packets (RFC 2326 sections 4 and 10.12).
//!
//! ```text
//!   $ channel length(2) payload   METHOD uri RTSP/1.0 CRLF name: value CRLF ... CRLF body
//! ```
//!
//! Tolerant of what players and cameras send: line feeds alone, blank lines between messages, any case, spaces around
//! the colon, folded lines, lines without a colon, bytes that are not UTF-8. Not a judge of what a message means.
//! Called by the server's connections, by clients, and by the fuzz target `rtsp`. Invariant: the decoder holds at most
//! [`HEAD_BYTES_MAX`] of a head and [`BODY_BYTES_MAX`] of a body; what is longer is an error before it is read.

use bytes::{Buf as _, Bytes, BytesMut};

use crate::message::{Headers, Method, Request, Response, Status};

/// The longest line of a head.
pub const LINE_BYTES_MAX: usize = 4_096;
/// The most lines of a head, the first one included.
pub const HEAD_LINES_MAX: usize = 64;
/// The longest head.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// The longest body: an SDP of 32 tracks with their parameter sets fits several times.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// `$`, channel, length.
const INTERLEAVED_HEADER_BYTES: usize = 4;

/// A message, or a packet between messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A request.
    Request(Request),
    /// A response.
    Response(Response),
    /// A packet between messages.
    Interleaved {
        /// The channel; even ones carry RTP by convention, odd ones RTCP.
        channel: u8,
        /// The packet.
        payload: Bytes,
    },
}

/// Why a connection cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The first line is neither a request's nor a response's.
    #[error("this is not RTSP")]
    NotRtsp,
    /// A line is longer than [`LINE_BYTES_MAX`].
    #[error("a line is longer than {LINE_BYTES_MAX} bytes")]
    Line,
    /// There are more lines than [`HEAD_LINES_MAX`].
    #[error("a message has more than {HEAD_LINES_MAX} lines")]
    Lines,
    /// The head is longer than [`HEAD_BYTES_MAX`].
    #[error("the head of a message is longer than {HEAD_BYTES_MAX} bytes")]
    Head,
    /// `Content-Length` is not a number.
    #[error("Content-Length is not a number")]
    Length,
    /// The body is longer than [`BODY_BYTES_MAX`].
    #[error("the body of a message is longer than {BODY_BYTES_MAX} bytes")]
    Body,
}

impl DecodeError {
    /// What the peer is told before the connection closes.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::Line => Status::URI_TOO_LONG,
            Self::Body | Self::Head | Self::Lines => Status::TOO_LARGE,
            Self::NotRtsp | Self::Length => Status::BAD_REQUEST,
        }
    }
}

/// Finds messages in the bytes of one connection.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes of the head that were searched for its end.
    searched: usize,
    /// Where the line begins that is being searched.
    line: usize,
    lines: usize,
    /// A message whose body is not complete, and how long that is.
    head: Option<(Box<Start>, usize)>,
}

/// A message without its body.
#[derive(Debug)]
enum Start {
    Request(Request),
    Response(Response),
}

impl Decoder {
    /// Takes the next item off the front of `buffer`; `None` until more bytes have come.
    ///
    /// # Errors
    ///
    /// When the bytes are not RTSP or go beyond a limit. There is no next message then.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Item>, DecodeError> {
        if self.head.is_none() {
            if self.searched == 0 {
                skip_blank_lines(buffer);
                if buffer.first() == Some(&b'$') {
                    return Ok(interleaved(buffer));
                }
            }
            let Some(end) = self.find_end(buffer)? else {
                return Ok(None);
            };
            let head = buffer.split_to(end);
            *self = Self::default();
            let (start, body) = parse_head(&String::from_utf8_lossy(&head))?;
            self.head = Some((Box::new(start), body));
        }
        let is_whole = |(_, body): &mut (Box<Start>, usize)| buffer.len() >= *body;
        let Some((start, body)) = self.head.take_if(is_whole) else {
            return Ok(None);
        };
        let body = buffer.split_to(body).freeze();
        Ok(Some(match *start {
            Start::Request(request) => Item::Request(Request { body, ..request }),
            Start::Response(response) => Item::Response(Response { body, ..response }),
        }))
    }

    /// Whether a message has begun and is not complete: whoever waits for the rest too long may give up.
    #[must_use]
    pub const fn is_within(&self) -> bool {
        self.searched > 0 || self.head.is_some()
    }

    /// Where the head ends, its blank line included.
    fn find_end(&mut self, buffer: &[u8]) -> Result<Option<usize>, DecodeError> {
        while let Some(at) = buffer[self.searched..].iter().position(|&b| b == b'\n') {
            let end = self.searched + at;
            let line = &buffer[self.line..end];
            if line.len() > LINE_BYTES_MAX {
                return Err(DecodeError::Line);
            }
            if end >= HEAD_BYTES_MAX {
                return Err(DecodeError::Head);
            }
            if line.is_empty() || line == b"\r" {
                return Ok(Some(end + 1));
            }
            self.lines += 1;
            if self.lines > HEAD_LINES_MAX {
                return Err(DecodeError::Lines);
            }
            self.searched = end + 1;
            self.line = end + 1;
        }
        self.searched = buffer.len();
        if buffer.len() - self.line > LINE_BYTES_MAX + 1 {
            return Err(DecodeError::Line);
        }
        if buffer.len() > HEAD_BYTES_MAX {
            return Err(DecodeError::Head);
        }
        Ok(None)
    }
}

fn skip_blank_lines(buffer: &mut BytesMut) {
    let blank = buffer
        .iter()
        .take_while(|&&b| b == b'\r' || b == b'\n')
        .count();
    buffer.advance(blank);
}

fn interleaved(buffer: &mut BytesMut) -> Option<Item> {
    let &[_, channel, high, low] = buffer.first_chunk::<INTERLEAVED_HEADER_BYTES>()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if buffer.len() < INTERLEAVED_HEADER_BYTES + length {
        return None;
    }
    buffer.advance(INTERLEAVED_HEADER_BYTES);
    let payload = buffer.split_to(length).freeze();
    Some(Item::Interleaved { channel, payload })
}

/// Reads a head; with it the length of the body that follows.
fn parse_head(head: &str) -> Result<(Start, usize), DecodeError> {
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default();
    let mut headers = Headers::default();
    for line in lines.take_while(|line| !line.is_empty()) {
        if line.starts_with([' ', '\t']) {
            headers.extend_last(line.trim());
        } else if let Some((name, value)) = line.split_once(':') {
            headers.push(name.trim(), value.trim());
        }
    }
    let body = match headers.value("Content-Length") {
        Some(length) => length.parse().map_err(|_| DecodeError::Length)?,
        None => 0,
    };
    if body > BODY_BYTES_MAX {
        return Err(DecodeError::Body);
    }
    Ok((parse_start(first, headers)?, body))
}

fn parse_start(line: &str, headers: Headers) -> Result<Start, DecodeError> {
    let (first, rest) = line
        .trim()
        .split_once([' ', '\t'])
        .ok_or(DecodeError::NotRtsp)?;
    let body = Bytes::new();
    if version(first).is_some() {
        let code = rest.trim().split([' ', '\t']).next();
        let status = code
            .and_then(|code| code.parse().ok())
            .ok_or(DecodeError::NotRtsp)?;
        return Ok(Start::Response(Response {
            status: Status(status),
            headers,
            body,
        }));
    }
    // A URL with spaces in it is no URL, and some send one.
    let (uri, last) = rest
        .trim()
        .rsplit_once([' ', '\t'])
        .ok_or(DecodeError::NotRtsp)?;
    let request = Request {
        method: Method::of(first),
        uri: uri.trim().to_owned(),
        version: version(last).ok_or(DecodeError::NotRtsp)?,
        headers,
        body,
    };
    Ok(Start::Request(request))
}

/// The major version of `RTSP/1.0`.
fn version(word: &str) -> Option<u8> {
    let (name, number) = word.split_once('/')?;
    let (major, _) = number.split_once('.')?;
    name.eq_ignore_ascii_case("RTSP")
        .then(|| major.parse().ok())?
}

#[cfg(test)]
mod tests;
