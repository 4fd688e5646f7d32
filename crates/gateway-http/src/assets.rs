//! The pages' own files, embedded in the binary: nothing that a page needs comes from anywhere else.
//!
//! Not built: what is in `web/` is what a browser gets. Called by `live` and `list`. Invariant: a page asks no address
//! but that of the node that it came from, which [`POLICY`] has the browser enforce.

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};

use crate::problem::Problem;

/// What a page may load: all from its own node; media may come from buffers that its script fills.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'";
/// A browser asks each time whether a file is still the same, so that a page never meets the script of another version.
const FILE_CACHE: &str = "no-cache";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

const FILES: [(&str, &str, &str); 3] = [
    ("list.js", SCRIPT, include_str!("../web/list.js")),
    ("player.js", SCRIPT, include_str!("../web/player.js")),
    ("style.css", STYLE, include_str!("../web/style.css")),
];
/// What others wrote: `web/vendor/README.md`.
const VENDORED: [(&str, &str, &str); 2] = [
    (
        "hls.light.min.js",
        SCRIPT,
        include_str!("../web/vendor/hls.light.min.js"),
    ),
    (
        "hls.js-LICENSE",
        PLAIN,
        include_str!("../web/vendor/hls.js-LICENSE"),
    ),
];
const PLAYER: &str = include_str!("../web/player.html");
const LIST: &str = include_str!("../web/list.html");

/// Answers `/assets/FILE`.
pub(crate) async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let mut files = FILES.iter().chain(&VENDORED);
    let Some((_, kind, text)) = files.find(|(known, _, _)| *known == name) else {
        return Problem::new(StatusCode::NOT_FOUND, "the pages have no such file").into_response();
    };
    cached(kind, FILE_CACHE, (*text).to_owned(), &headers)
}

/// The page that plays. `rtsp` is where RTSP players ask on this node.
pub(crate) fn player(rtsp: Option<u16>, headers: &HeaderMap) -> Response {
    let rtsp = rtsp.map(|port| port.to_string()).unwrap_or_default();
    page(PLAYER.replace("{rtsp}", &rtsp), headers)
}

/// The list, with these rows.
pub(crate) fn list(rows: &str, headers: &HeaderMap) -> Response {
    page(LIST.replace("{rows}", rows), headers)
}

fn page(text: String, headers: &HeaderMap) -> Response {
    let mut response = cached(HTML, "no-cache", text, headers);
    let out = response.headers_mut();
    out.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(POLICY),
    );
    // A token may be in the address.
    out.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    response
}

/// A text, or that it has not changed since the client got it.
fn cached(kind: &'static str, cache: &'static str, text: String, headers: &HeaderMap) -> Response {
    let hash = Sha256::digest(text.as_bytes());
    let hash: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{hash}\"");
    let known = headers.get(header::IF_NONE_MATCH);
    let is_known = known.is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        text.into_response()
    };
    let out = response.headers_mut();
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    out.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if let Ok(tag) = tag.parse() {
        out.insert(header::ETAG, tag);
    }
    if !is_known {
        out.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    response
}

/// A text as HTML shows it.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_page_names_an_address_outside_the_node() {
        let texts = FILES.iter().map(|(_, _, text)| *text).chain([PLAYER, LIST]);
        for text in texts {
            let foreign = text.match_indices("://").filter(|(at, _)| {
                // Of the node itself, as the script makes them: `rtsp://${host}`.
                !text[at + 3..].starts_with("${")
            });
            assert_eq!(foreign.count(), 0, "{text}");
        }
    }

    #[test]
    fn pages_are_small() {
        let bytes: usize = FILES.iter().map(|(_, _, text)| text.len()).sum();

        assert!(bytes + PLAYER.len() + LIST.len() < 100_000, "{bytes}");
    }

    #[test]
    fn what_others_named_is_no_markup() {
        assert_eq!(
            escape("<a href='x'>&\""),
            "&lt;a href=&#39;x&#39;&gt;&amp;&quot;"
        );
    }
}
