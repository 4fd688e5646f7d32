//! RTSP/1.0 messages: requests, responses and their headers, in memory and as text (RFC 2326 section 4).
//!
//! Not the cutting of messages out of a byte stream, which is [`crate::decode`], and not what a header's value means,
//! which is [`crate::header`]. Called by both ends of a connection. Invariant: nothing that is written contains a line
//! break that a peer or a user put into a value.

use std::fmt;

use bytes::Bytes;

/// The headers of a message in the order in which they came. Names compare without regard to case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    lines: Vec<(String, String)>,
}

impl Headers {
    /// The first value of that name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// All values of that name, in order.
    pub fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let of_name = |(known, value): &'a (String, String)| {
            known.eq_ignore_ascii_case(name).then_some(value.as_str())
        };
        self.lines.iter().filter_map(of_name)
    }

    /// Appends a header. Line breaks in the value become spaces.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let mut value = value.into();
        if value.contains(['\r', '\n']) {
            value = value.replace(['\r', '\n'], " ");
        }
        self.lines.push((name.into(), value));
    }

    /// Appends to the value of the last header: a folded line.
    pub(crate) fn extend_last(&mut self, text: &str) {
        if let Some((_, value)) = self.lines.last_mut() {
            value.push(' ');
            value.push_str(text);
        }
    }

    /// All headers.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.lines.iter();
        pairs.map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Method {
    /// `OPTIONS`
    Options,
    /// `DESCRIBE`
    Describe,
    /// `ANNOUNCE`
    Announce,
    /// `SETUP`
    Setup,
    /// `PLAY`
    Play,
    /// `PAUSE`
    Pause,
    /// `RECORD`
    Record,
    /// `GET_PARAMETER`
    GetParameter,
    /// `SET_PARAMETER`
    SetParameter,
    /// `TEARDOWN`
    Teardown,
    /// Anything else, `REDIRECT` included.
    Unknown,
}

/// The methods that the server knows, for `Public` and `Allow`.
pub(crate) const METHODS: &str = "OPTIONS, DESCRIBE, ANNOUNCE, SETUP, PLAY, PAUSE, RECORD, \
    GET_PARAMETER, SET_PARAMETER, TEARDOWN";

const NAMES: [(&str, Method); 10] = [
    ("OPTIONS", Method::Options),
    ("DESCRIBE", Method::Describe),
    ("ANNOUNCE", Method::Announce),
    ("SETUP", Method::Setup),
    ("PLAY", Method::Play),
    ("PAUSE", Method::Pause),
    ("RECORD", Method::Record),
    ("GET_PARAMETER", Method::GetParameter),
    ("SET_PARAMETER", Method::SetParameter),
    ("TEARDOWN", Method::Teardown),
];

impl Method {
    /// Reads a method's name. The RFC has upper case; lower case is accepted.
    pub(crate) fn of(name: &str) -> Self {
        let known = NAMES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        known.map_or(Self::Unknown, |(_, method)| *method)
    }

    /// The method's name, as digest authentication hashes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        let known = NAMES.iter().find(|(_, method)| *method == self);
        known.map_or("UNKNOWN", |(name, _)| name)
    }
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method of the request.
    pub method: Method,
    /// The URL as it was sent, or `*`.
    pub uri: String,
    /// The major version of the protocol: 1, or what this server does not speak.
    pub version: u8,
    /// The headers.
    pub headers: Headers,
    /// The body; empty if there is none.
    pub body: Bytes,
}

impl Request {
    /// A request without headers.
    #[must_use]
    pub fn new(method: Method, uri: impl Into<String>) -> Self {
        Self {
            method,
            uri: uri.into(),
            version: 1,
            headers: Headers::default(),
            body: Bytes::new(),
        }
    }

    /// Appends a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push(name, value);
        self
    }

    /// The request as bytes. `Content-Length` is written if there is a body.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let start = format!(
            "{} {} RTSP/{}.0\r\n",
            self.method.name(),
            self.uri.replace(['\r', '\n'], "%0A"),
            self.version
        );
        write(start, &self.headers, &self.body)
    }
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: Status,
    /// The headers.
    pub headers: Headers,
    /// The body; empty if there is none.
    pub body: Bytes,
}

impl Response {
    /// A response without headers.
    #[must_use]
    pub fn new(status: Status) -> Self {
        Self {
            status,
            headers: Headers::default(),
            body: Bytes::new(),
        }
    }

    /// Appends a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push(name, value);
        self
    }

    /// Sets the body and says what it is.
    #[must_use]
    pub fn with_body(self, kind: &str, body: impl Into<Bytes>) -> Self {
        let mut response = self.with("Content-Type", kind);
        response.body = body.into();
        response
    }

    /// The response as bytes. `Content-Length` is written if there is a body.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let start = format!("RTSP/1.0 {} {}\r\n", self.status.0, self.status.reason());
        write(start, &self.headers, &self.body)
    }
}

fn write(mut text: String, headers: &Headers, body: &Bytes) -> Bytes {
    for (name, value) in headers.iter() {
        if !name.eq_ignore_ascii_case("content-length") {
            text.push_str(name);
            text.push_str(": ");
            text.push_str(value);
            text.push_str("\r\n");
        }
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes.into()
}

/// A status code (RFC 2326 section 7.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u16);

impl Status {
    /// It worked.
    pub const OK: Self = Self(200);
    /// The request makes no sense.
    pub const BAD_REQUEST: Self = Self(400);
    /// A user and a password are asked for.
    pub const UNAUTHORIZED: Self = Self(401);
    /// This user may not.
    pub const FORBIDDEN: Self = Self(403);
    /// There is no stream or track of that name.
    pub const NOT_FOUND: Self = Self(404);
    /// Not with this URL or in this way.
    pub const NOT_ALLOWED: Self = Self(405);
    /// The body is too long.
    pub const TOO_LARGE: Self = Self(413);
    /// The URL is too long.
    pub const URI_TOO_LONG: Self = Self(414);
    /// The body is of a kind or codec that the server does not take.
    pub const UNSUPPORTED_MEDIA: Self = Self(415);
    /// A limit on clients or bandwidth is reached.
    pub const NOT_ENOUGH_BANDWIDTH: Self = Self(453);
    /// There is no such session.
    pub const SESSION_NOT_FOUND: Self = Self(454);
    /// Not in this state.
    pub const NOT_VALID_IN_STATE: Self = Self(455);
    /// None of the offered transports can be used.
    pub const UNSUPPORTED_TRANSPORT: Self = Self(461);
    /// The server failed.
    pub const INTERNAL: Self = Self(500);
    /// The method is unknown.
    pub const NOT_IMPLEMENTED: Self = Self(501);
    /// Not at the moment.
    pub const UNAVAILABLE: Self = Self(503);
    /// Another version of the protocol.
    pub const VERSION: Self = Self(505);
    /// A `Require` header names what the server does not have.
    pub const OPTION_NOT_SUPPORTED: Self = Self(551);

    /// The words beside the number.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self.0 {
            200 => "OK",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            413 => "Request Entity Too Large",
            414 => "Request-URI Too Long",
            415 => "Unsupported Media Type",
            453 => "Not Enough Bandwidth",
            451 => "Parameter Not Understood",
            454 => "Session Not Found",
            455 => "Method Not Valid In This State",
            459 => "Aggregate Operation Not Allowed",
            461 => "Unsupported Transport",
            500 => "Internal Server Error",
            501 => "Not Implemented",
            503 => "Service Unavailable",
            505 => "RTSP Version Not Supported",
            551 => "Option Not Supported",
            _ => "Unknown",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.reason())
    }
}
