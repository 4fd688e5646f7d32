//! URLs of playlists and segments: taken apart, and put together from one and what is relative to it (RFC 3986).
//!
//! Not the connection. Called by `client` and `source`. Invariant: neither `Debug` nor `Display` shows credentials,
//! and these go with no request to another server.

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64, Encoding as _};

/// The longest URL that is taken.
pub(crate) const URL_BYTES_MAX: usize = 4_096;

/// A place on a server of HTTP.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    is_https: bool,
    host: String,
    port: u16,
    /// With its first slash and its query.
    path: String,
    /// For `Authorization: Basic`.
    credentials: Option<String>,
}

/// Why a text is no URL to pull from. It never repeats the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Another protocol.
    #[error("only `http://` and `https://` are pulled as HLS")]
    Scheme,
    /// No host, or one that cannot be.
    #[error("the URL names no server: write https://[USER:PASSWORD@]HOST[:PORT]/PATH.m3u8")]
    Host,
    /// Not a port.
    #[error("the port of the URL is no number from 1 to 65535")]
    Port,
    /// Too long, or with characters that no URL has.
    #[error("the URL has more than {URL_BYTES_MAX} bytes, or spaces or control characters in it")]
    Form,
}

impl Url {
    pub(crate) const fn is_https(&self) -> bool {
        self.is_https
    }

    /// Host and port, as they are looked up; the host without brackets.
    pub(crate) fn endpoint(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// As requests name the server.
    pub(crate) fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match (self.is_https, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn authorization(&self) -> Option<String> {
        let credentials = self.credentials.as_ref()?;
        let encoded = Base64::encode_string(credentials.as_bytes());
        Some(format!("Basic {encoded}"))
    }

    /// Whether the same connection serves both.
    pub(crate) fn is_same_server(&self, other: &Self) -> bool {
        self.endpoint() == other.endpoint() && self.is_https == other.is_https
    }

    /// What a reference means that stands in a file of this URL.
    pub(crate) fn join(&self, reference: &str) -> Result<Self, UrlError> {
        let reference = reference.split('#').next().unwrap_or("");
        if reference.contains("://") && reference.find(['/', '?']) > reference.find(':') {
            let mut to: Self = reference.parse()?;
            let is_same = to.is_same_server(self);
            to.credentials = to
                .credentials
                .or_else(|| self.credentials.clone().filter(|_| is_same));
            return Ok(to);
        }
        if let Some(rest) = reference.strip_prefix("//") {
            let scheme = if self.is_https { "https" } else { "http" };
            return self.join(&format!("{scheme}://{rest}"));
        }
        let own = self.path.split('?').next().unwrap_or("/");
        let path = if reference.starts_with('/') {
            reference.to_owned()
        } else if reference.starts_with('?') {
            format!("{own}{reference}")
        } else if reference.is_empty() {
            self.path.clone()
        } else {
            let folder = own.rfind('/').map_or("/", |at| &own[..=at]);
            format!("{folder}{reference}")
        };
        if path.len() > URL_BYTES_MAX || is_malformed(&path) {
            return Err(UrlError::Form);
        }
        let path = without_dots(&path);
        Ok(Self {
            path,
            ..self.clone()
        })
    }
}

fn is_malformed(text: &str) -> bool {
    text.contains(|c: char| c.is_control() || c == ' ') || !text.is_ascii()
}

/// The path without `.` and `..` (RFC 3986 section 5.2.4).
fn without_dots(path: &str) -> String {
    let (path, query) = match path.find('?') {
        Some(at) => path.split_at(at),
        None => (path, ""),
    };
    let mut parts: Vec<&str> = Vec::new();
    let count = path.split('/').count();
    for (at, part) in path.split('/').enumerate().skip(1) {
        let is_last = at + 1 == count;
        match part {
            "." | ".." => {
                if part == ".." {
                    parts.pop();
                }
                if is_last {
                    parts.push("");
                }
            }
            part => parts.push(part),
        }
    }
    format!("/{}{query}", parts.join("/"))
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if text.len() > URL_BYTES_MAX || is_malformed(text) {
            return Err(UrlError::Form);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(UrlError::Scheme),
        };
        let rest = rest.split('#').next().unwrap_or("");
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let (credentials, place) = match authority.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials.to_owned()), place),
            None => (None, authority),
        };
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or(UrlError::Host)?;
                (host, port.strip_prefix(':'))
            }
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        if host.is_empty() || host.contains(['[', ']', '@', '\\']) {
            return Err(UrlError::Host);
        }
        let port = match port {
            None | Some("") => 80 + u16::from(is_https) * 363,
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or(UrlError::Port)?,
        };
        let path = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/{path}"),
        };
        Ok(Self {
            is_https,
            host: host.to_ascii_lowercase(),
            port,
            path: without_dots(&path),
            credentials,
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        // A query may hold a token.
        let path = self.path.split('?').next().unwrap_or("/");
        write!(f, "{scheme}://{}{path}", self.authority())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn references_mean_what_the_standard_says() {
        let base = url("https://cdn.example:8443/live/cam/index.m3u8?token=1");

        for (reference, meant) in [
            ("seg.ts", "/live/cam/seg.ts"),
            ("a/../seg.ts?x=/../y", "/live/cam/seg.ts?x=/../y"),
            ("../other/./seg.ts", "/live/other/seg.ts"),
            ("../../../../seg.ts", "/seg.ts"),
            ("/seg.ts", "/seg.ts"),
            ("?token=2", "/live/cam/index.m3u8?token=2"),
            ("..", "/live/"),
        ] {
            let joined = base.join(reference).unwrap();
            assert_eq!(joined.path(), meant, "{reference}");
            assert!(joined.is_same_server(&base));
        }
        assert_eq!(base.join("//b/x").unwrap().to_string(), "https://b/x");
        assert_eq!(
            base.join("http://b:81/x?u=http://c").unwrap().path(),
            "/x?u=http://c"
        );
        assert_eq!(
            base.join("x?u=http://c").unwrap().path(),
            "/live/cam/x?u=http://c"
        );
        assert!(base.join("a b").is_err() && base.join(&"a".repeat(5_000)).is_err());
    }

    #[test]
    fn credentials_stay_with_their_server_and_are_never_shown() {
        let base = url("http://ann:geheim@host/a.m3u8?token=geheim");

        assert!(base.authorization().unwrap().starts_with("Basic "));
        assert_eq!(
            base.join("b.ts").unwrap().authorization(),
            base.authorization()
        );
        assert_eq!(
            base.join("http://host/b.ts").unwrap().authorization(),
            base.authorization()
        );
        assert_eq!(
            base.join("http://other/b.ts").unwrap().authorization(),
            None
        );
        assert_eq!(
            base.join("https://host/b.ts").unwrap().authorization(),
            None
        );
        assert!(!format!("{base} {base:?}").contains("geheim"));
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for (text, error) in [
            ("rtsp://host/a", UrlError::Scheme),
            ("host/a", UrlError::Scheme),
            ("http:///a", UrlError::Host),
            ("http://[::1/a", UrlError::Host),
            ("http://host:0/a", UrlError::Port),
            ("http://host:99999/a", UrlError::Port),
            ("http://host/a b", UrlError::Form),
        ] {
            assert_eq!(text.parse::<Url>(), Err(error), "{text}");
        }
        assert_eq!(url("https://[::1]/a").endpoint(), ("::1", 443));
        assert_eq!(url("http://host?a").path(), "/?a");
    }
}
