//! Where a stream is pulled from, and what it is called in the network.
//!
//! ```text
//!   rtsp://user:password@cam.example:8555/axis-media?camera=2      in a configuration
//!   rtsp://localhost:8554/Mediafile?MediaServer:8555               asked of this node by a player
//!            ──▶ stream pull/mediaserver_8555/Mediafile
//! ```
//!
//! The name follows from the URL alone, without credentials, so that all nodes whose players ask for the same share one
//! connection to the server. A server on the very machine is another one at each node: its name holds the node's. Not
//! the connection. Called by the configuration and by `connection`. Invariant: neither `Debug` nor `Display` shows
//! credentials.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use levada::StreamName;
use levada_gateway::users::Hash;

/// The port of RTSP servers, unless a URL says another (RFC 2326 section 3.2).
const PORT: u16 = 554;
/// What names of pulled streams begin with.
const PREFIX: &str = "pull";
/// The longest URL that is taken.
const URL_BYTES_MAX: usize = 2_048;
/// Hex digits that tell names apart whose URLs are not like names.
const HASH_DIGITS: usize = 8;

/// Who one is to a server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// A stream at an RTSP server.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// As it was written: a name, or an IP address without brackets; in lower case.
    host: String,
    port: u16,
    /// With its first slash and its query, as it goes into requests.
    path: String,
    credentials: Option<Credentials>,
}

impl Address {
    /// Host and port, as they are looked up.
    #[must_use]
    pub fn endpoint(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    pub(crate) const fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// The server as people write it: `HOST`, or `HOST:PORT` if that is not the usual one.
    #[must_use]
    pub fn server(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match self.port {
            PORT => host,
            port => format!("{host}:{port}"),
        }
    }

    /// The URL of requests: without credentials.
    #[must_use]
    pub fn url(&self) -> String {
        format!("rtsp://{}{}", self.server(), self.path)
    }

    /// The same server and credentials with another URL, as a redirection says it.
    pub(crate) fn redirected(&self, url: &str) -> Option<Self> {
        let mut to: Self = url.parse().ok()?;
        // Who the user is at one server is nobody else's business.
        let is_same = to.endpoint() == self.endpoint();
        to.credentials = to
            .credentials
            .or_else(|| self.credentials.clone().filter(|_| is_same));
        Some(to)
    }

    /// What a player asks for by `rtsp://NODE/PATH?SERVER[:PORT]`: the path, and the query up to an ampersand.
    pub(crate) fn of_player(path: &str, query: &str) -> Option<Self> {
        let server = query.split('&').next().filter(|part| !part.contains('='))?;
        if server.is_empty() || path.is_empty() {
            return None;
        }
        format!("rtsp://{server}/{path}").parse().ok()
    }

    /// What the stream is called; `node` tells this machine from others. `None` if the name would be too long.
    #[must_use]
    pub fn stream_name(&self, node: &str) -> Option<StreamName> {
        let mut host = self.host.replace(':', "-");
        if self.is_this_machine() {
            host = format!("{host}.{node}");
        }
        if self.port != PORT {
            // No host has an underscore, so no other server's name is like it.
            host = format!("{host}_{}", self.port);
        }
        let path = self.path.trim_matches('/');
        let plain: String = path
            .chars()
            .map(|c| match c {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' | '/' => c,
                _ => '_',
            })
            .collect();
        let name = format!("{PREFIX}/{host}/{plain}");
        match name.parse() {
            Ok(name) if plain == path => Some(name),
            // Another URL could look like this one: a hash of it tells them apart.
            _ => {
                let parts = plain
                    .split('/')
                    .filter(|part| !matches!(*part, "" | "." | ".."));
                let plain = parts.collect::<Vec<_>>().join("/");
                let hash = &Hash::Sha256.hex(path)[..HASH_DIGITS];
                format!("{PREFIX}/{host}/{plain}.{hash}").parse().ok()
            }
        }
    }

    fn is_this_machine(&self) -> bool {
        let ip = self.host.parse::<IpAddr>();
        self.host == "localhost" || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
    }

    /// Whether a pattern of `pull_allow` allows the server: a host, with a port if only that one is meant; a star at
    /// the front stands for the beginning of a name.
    #[must_use]
    pub fn is_allowed_by(&self, pattern: &str) -> bool {
        let pattern = pattern.to_ascii_lowercase();
        let (host, port) = split_port(&pattern);
        let is_port = port.is_none_or(|port| port.parse() == Ok(self.port));
        let is_host = match host.strip_prefix('*') {
            Some(end) => self.host.ends_with(end),
            None => self.host == host,
        };
        is_port && is_host
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// Why a text is no address to pull from. It never repeats the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Another protocol, or none.
    #[error("only `rtsp://` can be pulled: write rtsp://[USER:PASSWORD@]HOST[:PORT]/PATH")]
    Scheme,
    /// No host, or one that cannot be.
    #[error("the URL names no server: write rtsp://[USER:PASSWORD@]HOST[:PORT]/PATH")]
    Host,
    /// Not a port.
    #[error("the port of the URL is no number from 1 to 65535")]
    Port,
    /// Too long, or with characters that no URL has.
    #[error("the URL has more than {URL_BYTES_MAX} bytes, or spaces or control characters in it")]
    Form,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.len() > URL_BYTES_MAX || text.contains(|c: char| c.is_control() || c == ' ') {
            return Err(AddressError::Form);
        }
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::Scheme)?;
        if !scheme.eq_ignore_ascii_case("rtsp") {
            return Err(AddressError::Scheme);
        }
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        // A password may hold an `@`; a host cannot.
        let (user, server) = match authority.rsplit_once('@') {
            Some((user, server)) => (Some(user), server),
            None => (None, authority),
        };
        let credentials = user.map(|user| {
            let (user, password) = user.split_once(':').unwrap_or((user, ""));
            Credentials {
                user: unescape(user),
                password: unescape(password),
            }
        });
        let (host, port) = split_port(server);
        let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':');
        if host.is_empty() || !host.chars().all(is_host) {
            return Err(AddressError::Host);
        }
        let port = match port {
            None => PORT,
            Some(port) => match port.parse() {
                Ok(port) if port > 0 => port,
                _ => return Err(AddressError::Port),
            },
        };
        let path = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/{path}"),
        };
        Ok(Self {
            host: host.to_ascii_lowercase(),
            port,
            path,
            credentials,
        })
    }
}

/// Host without brackets, and what follows it behind a colon.
fn split_port(server: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = server
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        return (host, rest.strip_prefix(':'));
    }
    match server.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (server, None),
    }
}

/// Without its percent escapes; as it is if they make no sense.
fn unescape(text: &str) -> String {
    crate::url::decode_percent(text).unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn name(text: &str) -> String {
        address(text).stream_name("0a0b0c0d").unwrap().to_string()
    }

    #[test]
    fn a_url_is_taken_apart_and_put_together_without_its_credentials() {
        let address = address("RTSP://anna:p%40ss@Cam.Example:8555/axis?camera=2");

        assert_eq!(address.endpoint(), ("cam.example", 8_555));
        assert_eq!(address.url(), "rtsp://cam.example:8555/axis?camera=2");
        let credentials = address.credentials().unwrap();
        assert_eq!(
            (&*credentials.user, &*credentials.password),
            ("anna", "p@ss")
        );
        let shown = format!("{address} {address:?} {credentials:?}");
        assert!(!shown.contains("ss@") && !shown.contains("anna"), "{shown}");
        assert_eq!(
            Address::from_str("rtsp://[fd00::1]/a").unwrap().url(),
            "rtsp://[fd00::1]/a"
        );
    }

    #[test]
    fn what_cannot_be_pulled_is_refused_without_repeating_it() {
        for (text, error) in [
            ("http://h/a", AddressError::Scheme),
            ("cam", AddressError::Scheme),
            ("rtsps://h/a", AddressError::Scheme),
            ("rtsp:///a", AddressError::Host),
            ("rtsp://u:geheim@/a", AddressError::Host),
            ("rtsp://h_1/a", AddressError::Host),
            ("rtsp://u:geheim@h:0/a", AddressError::Port),
            ("rtsp://h:x/a", AddressError::Port),
            ("rtsp://h/a b", AddressError::Form),
        ] {
            let refused = text.parse::<Address>().unwrap_err();
            assert_eq!(refused, error, "{text}");
            assert!(!refused.to_string().contains("geheim"));
        }
        let long = format!("rtsp://h/{}", "a".repeat(URL_BYTES_MAX));
        assert_eq!(long.parse::<Address>(), Err(AddressError::Form));
    }

    #[test]
    fn names_follow_from_the_url_alone() {
        for (url, expected) in [
            ("rtsp://MediaServer/Mediafile", "pull/mediaserver/Mediafile"),
            (
                "rtsp://u:p@mediaserver:554/Mediafile",
                "pull/mediaserver/Mediafile",
            ),
            ("rtsp://h:8555/a/b.mp4", "pull/h_8555/a/b.mp4"),
            ("rtsp://[fd00::1]/a", "pull/fd00--1/a"),
            ("rtsp://localhost/a", "pull/localhost.0a0b0c0d/a"),
            ("rtsp://127.0.0.1:8555/a", "pull/127.0.0.1.0a0b0c0d_8555/a"),
        ] {
            assert_eq!(name(url), expected, "{url}");
        }
    }

    #[test]
    fn urls_that_are_not_like_names_have_names_that_differ() {
        let names = ["a%20b", "a_b", "a?b", "a//b", "../a", "", "."]
            .map(|path| name(&format!("rtsp://h/{path}")));

        let mut distinct = names.to_vec();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
        assert_eq!(
            address(&format!("rtsp://h/{}", "a".repeat(200))).stream_name("n"),
            None
        );
    }

    #[test]
    fn a_player_names_the_server_in_the_query() {
        let of = |query| Address::of_player("film", query).map(|address| address.url());

        assert_eq!(of("media:8555").as_deref(), Some("rtsp://media:8555/film"));
        assert_eq!(of("media&token=x").as_deref(), Some("rtsp://media/film"));
        for query in ["token=x", "", "&media", "a/b?c d", "h:0"] {
            assert_eq!(of(query), None, "{query}");
        }
    }

    #[test]
    fn patterns_allow_a_host_a_port_or_the_end_of_a_name() {
        let address = address("rtsp://cam1.example:8555/a");

        for pattern in ["cam1.example", "CAM1.example:8555", "*.example", "*"] {
            assert!(address.is_allowed_by(pattern), "{pattern}");
        }
        for pattern in ["cam1.example:554", "cam2.example", "*.org", "", "example"] {
            assert!(!address.is_allowed_by(pattern), "{pattern}");
        }
    }

    #[test]
    fn credentials_stay_at_their_server() {
        let from = address("rtsp://anna:p@h/a");

        assert!(
            from.redirected("rtsp://h/b")
                .unwrap()
                .credentials()
                .is_some()
        );
        assert!(
            from.redirected("rtsp://other/b")
                .unwrap()
                .credentials()
                .is_none()
        );
        assert!(from.redirected("http://h/b").is_none());
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "(rtsp://)?\\PC{0,60}", query in "\\PC{0,20}") {
            if let Ok(address) = text.parse::<Address>() {
                let _ = (address.stream_name("n"), address.url().parse::<Address>().unwrap());
            }
            let _ = Address::of_player(&text, &query);
        }
    }
}
