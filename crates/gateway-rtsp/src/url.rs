//! The URLs of requests: which stream and which track they name.
//!
//! ```text
//!   rtsp://user@host:8554/sports/final?token=abc/trackID=2
//!                         └── name ──┘ └ query ┘ └control┘
//! ```
//!
//! Players append a track's control to the base URL, query or not, so a control is looked for at the very end. Not a
//! check of who may have the stream. Called by `connection`. Invariant: no URL makes it fail otherwise than by `None`.

use levada_wire::StreamName;

use crate::pull::Address;

/// How the server names tracks in its own descriptions.
const CONTROL: &str = "trackID=";

/// What a request's URL says. It borrows from the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    /// The path without slashes around it, percent-encoded as it came.
    path: &'a str,
    /// What follows the question mark.
    query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Reads a URL or a path. User and password are skipped: they come in a header.
    pub(crate) fn parse(uri: &'a str) -> Self {
        let rest = uri.split_once("://").map_or(uri, |(_, rest)| {
            rest.find('/').map_or("", |slash| &rest[slash..])
        });
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        Self {
            path: path.trim_matches('/'),
            query: query.map(|query| query.trim_end_matches('/')),
        }
    }

    /// The stream's name, if the path can be one.
    pub(crate) fn name(&self) -> Option<StreamName> {
        decode_percent(self.path)?.parse().ok()
    }

    /// Where the stream is, if the query names a server to fetch it from: `rtsp://NODE/PATH?SERVER[:PORT]`.
    pub(crate) fn at_server(&self) -> Option<Address> {
        Address::of_player(self.path, self.query?)
    }

    /// The value of a parameter of the query.
    pub(crate) fn parameter(&self, name: &str) -> Option<&'a str> {
        let pairs = self.query?.split('&');
        pairs
            .filter_map(|pair| pair.split_once('='))
            .find_map(|(known, value)| (known == name).then_some(value))
    }

    /// Takes `/trackID=N` off the end, of whichever stream it is.
    pub(crate) fn split_control(self) -> (Self, Option<&'a str>) {
        let of = |text: &'a str| {
            let (before, last) = text.rsplit_once('/').unwrap_or(("", text));
            last.starts_with(CONTROL).then_some((before, last))
        };
        if let Some((query, control)) = self.query.and_then(of) {
            let query = Some(query);
            return (Self { query, ..self }, Some(control));
        }
        match of(self.path) {
            Some((path, control)) => (Self { path, ..self }, Some(control)),
            None => (self, None),
        }
    }
}

/// The control of the track at that place, from 0.
pub(crate) fn control_of(track: usize) -> String {
    format!("{CONTROL}{}", track + 1)
}

/// Which of the tracks a SETUP means: one whose control the URL is, or ends in; the only one, if there is but one.
pub(crate) fn find_track(uri: &str, controls: &[String]) -> Option<usize> {
    let uri = uri.trim_end_matches('/');
    let is_named = |control: &String| {
        let control = control.trim_end_matches('/');
        !control.is_empty()
            && uri
                .strip_suffix(control)
                .is_some_and(|base| base.is_empty() || base.ends_with(['/', '?', '&']))
    };
    let named = controls.iter().position(is_named);
    named.or_else(|| (controls.len() == 1).then_some(0))
}

pub(crate) fn decode_percent(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        if byte == b'%' {
            let digits = std::str::from_utf8(bytes.get(at + 1..at + 3)?).ok()?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
            at += 3;
        } else {
            out.push(byte);
            at += 1;
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(uri: &str) -> Option<String> {
        Target::parse(uri).name().map(|name| name.to_string())
    }

    #[test]
    fn the_name_is_the_path_whatever_stands_around_it() {
        for uri in [
            "rtsp://h:8554/sports/final",
            "rtsp://h/sports/final/",
            "rtsp://u:p@[2001:db8::1]:8554//sports/final?token=x",
            "RTSPS://h/sports/fin%61l",
            "/sports/final",
        ] {
            assert_eq!(name(uri).as_deref(), Some("sports/final"), "{uri}");
        }
        for uri in [
            "rtsp://h",
            "rtsp://h/",
            "*",
            "rtsp://h/a b",
            "rtsp://h/a/../b",
            "rtsp://h/%2",
            "rtsp://h/%zz",
            "rtsp://h/%FF",
        ] {
            assert_eq!(name(uri), None, "{uri}");
        }
    }

    #[test]
    fn a_control_is_found_behind_the_path_and_behind_the_query() {
        for uri in [
            "rtsp://h/cam?token=x/trackID=2",
            "rtsp://h/cam/trackID=2?token=x",
            "rtsp://h/cam/trackID=2",
        ] {
            let (target, control) = Target::parse(uri).split_control();
            assert_eq!(control, Some("trackID=2"), "{uri}");
            assert_eq!(
                target.name().map(|name| name.to_string()).as_deref(),
                Some("cam")
            );
            if uri.contains("token") {
                assert_eq!(target.parameter("token"), Some("x"), "{uri}");
            }
        }
        assert_eq!(Target::parse("rtsp://h/cam").split_control().1, None);
    }

    #[test]
    fn a_track_is_found_by_its_relative_and_its_absolute_control() {
        let relative = ["streamid=0".to_owned(), "streamid=1".to_owned()];
        let absolute = ["rtsp://h/cam/a".to_owned(), "rtsp://h/cam/b/".to_owned()];

        assert_eq!(find_track("rtsp://h/cam/streamid=1", &relative), Some(1));
        assert_eq!(
            find_track("rtsp://h/cam?token=x/streamid=1/", &relative),
            Some(1)
        );
        assert_eq!(find_track("rtsp://h/cam/b", &absolute), Some(1));
        assert_eq!(find_track("rtsp://h/cam/xstreamid=1", &relative), None);
        assert_eq!(find_track("rtsp://h/cam", &relative), None);
        assert_eq!(find_track("rtsp://h/cam", &relative[..1]), Some(0));
        assert_eq!(find_track("rtsp://h/cam", &[String::new()]), Some(0));
    }

    proptest! {
        #[test]
        fn no_url_is_too_strange_to_be_read(uri in "\\PC{0,60}", control in "\\PC{0,10}") {
            let (target, _) = Target::parse(&uri).split_control();
            let _ = (target.name(), target.parameter("token"), find_track(&uri, &[control.clone(), control]));
        }
    }
}
