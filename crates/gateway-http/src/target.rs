//! What a path below `/live/` asks for: which stream, and as what.
//!
//! ```text
//!   /live/sports/final.mp4
//!         └── name ──┘└ as ┘     without an ending that is known, or with a slash behind: the page
//!   /live/sports/final/index.m3u8, media.m3u8, INSTANCE-NUMBER.m4s, INSTANCE-HASH.mp4: HLS
//! ```
//!
//! Not a check of who may have it. Called by `live`. Invariant: a path that is no stream's name in its plainest form is
//! refused: nothing here walks a folder, and still no `..`, no `%00` and no second spelling of a name gets further.

use levada::StreamName;

use crate::hls::Ask;

/// As what a stream is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The page that plays it.
    Page,
    /// Fragmented MP4.
    Mp4,
    /// An MPEG transport stream.
    Ts,
    /// Motion JPEG.
    Mjpeg,
    /// A playlist of one entry, which a browser hands to a player.
    M3u,
    /// A playlist or segment of HLS.
    Hls(Ask),
}

/// Endings of paths.
const ENDINGS: [(&str, Form); 4] = [
    (".mp4", Form::Mp4),
    (".ts", Form::Ts),
    (".mjpeg", Form::Mjpeg),
    (".m3u", Form::M3u),
];

/// A stream, and as what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: StreamName,
    pub(crate) form: Form,
}

impl Target {
    /// Reads what follows `/live/`, as it came in the request.
    ///
    /// # Errors
    ///
    /// What is wrong with the name, for people.
    pub(crate) fn parse(path: &str) -> Result<Self, String> {
        let path = decode_percent(path).ok_or("a `%` in it is not followed by two digits")?;
        let (name, form) = match path.strip_suffix('/') {
            Some(name) => (name, Form::Page),
            None => split(&path).unwrap_or((path.as_str(), Form::Page)),
        };
        let name = name.parse::<StreamName>();
        let name = name.map_err(|error| error.to_string())?;
        Ok(Self { name, form })
    }
}

/// The stream's name and the form, of a path that is not a page's.
fn split(path: &str) -> Option<(&str, Form)> {
    if let Some((name, ask)) = Ask::split(path) {
        return Some((name, Form::Hls(ask)));
    }
    let ending = |(ending, form): &(&str, Form)| Some((path.strip_suffix(ending)?, form.clone()));
    ENDINGS.iter().find_map(ending)
}

/// The path of a stream's page.
pub(crate) fn page_of(name: &StreamName) -> String {
    let is_ambiguous = split(name.as_str()).is_some();
    format!("/live/{name}{}", if is_ambiguous { "/" } else { "" })
}

fn decode_percent(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        if byte == b'%' {
            let digits = bytes.get(at + 1..at + 3)?;
            let digits = digits.iter().all(u8::is_ascii_hexdigit).then_some(digits)?;
            out.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
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
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn parse(path: &str) -> Option<(String, Form)> {
        let target = Target::parse(path).ok()?;
        Some((target.name.to_string(), target.form))
    }

    #[test]
    fn the_ending_says_as_what_a_stream_is_asked_for() {
        let of = |name: &str, form| Some((name.to_owned(), form));

        assert_eq!(parse("sports/final"), of("sports/final", Form::Page));
        assert_eq!(parse("sports/final.mp4"), of("sports/final", Form::Mp4));
        assert_eq!(parse("cam.ts"), of("cam", Form::Ts));
        assert_eq!(parse("cam.mjpeg"), of("cam", Form::Mjpeg));
        assert_eq!(parse("cam.m3u"), of("cam", Form::M3u));
        assert_eq!(parse("a/b/index.m3u8"), of("a/b", Form::Hls(Ask::Master)));
        assert_eq!(parse("cam%2ets"), of("cam", Form::Ts));
        assert_eq!(parse("films/clip.mp4/"), of("films/clip.mp4", Form::Page));
        assert_eq!(parse("films/clip.mp4.ts"), of("films/clip.mp4", Form::Ts));
    }

    #[test]
    fn the_page_of_any_stream_can_be_linked_to() {
        for name in ["cam", "films/clip.mp4", "a.ts", "b.m3u8", "c/index.m3u8"] {
            let name: StreamName = name.parse().unwrap();

            let path = page_of(&name);

            let target = Target::parse(path.strip_prefix("/live/").unwrap()).unwrap();
            assert_eq!(
                target,
                Target {
                    name,
                    form: Form::Page
                }
            );
        }
    }

    #[test]
    fn paths_that_are_no_name_are_refused() {
        let long = "a".repeat(129);
        for path in [
            "",
            "/",
            "..",
            "../etc/passwd",
            "cam/../cam",
            "cam/%2e%2e/x",
            "%2e%2e%2fx.ts",
            "cam%00.ts",
            "cam//x",
            "cam%",
            "cam%2",
            "cam%zz",
            "cam%+1",
            "cam\\x",
            "cam;x",
            "cam x",
            "caf\u{e9}",
            "%ff",
            &long,
            "cam//",
        ] {
            assert!(Target::parse(path).is_err(), "{path}");
        }
    }
}
