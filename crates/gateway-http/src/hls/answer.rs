//! Playlists and segments as answers: their types, how long caches keep them, and parts of them.
//!
//! A segment's name means its bytes for ever, so a cache may keep it; a playlist is old when the next segment comes.
//! Where there are users, only the client's own cache may keep anything. Called by `live`. Invariant: a range is
//! answered with exactly that, or with the whole.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

const PLAYLIST: &str = "application/vnd.apple.mpegurl";
const SEGMENT: &str = "video/mp4";

/// A playlist.
pub(crate) fn playlist(text: String) -> Response {
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PLAYLIST));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// A segment, or what was asked for of it.
pub(crate) fn file(bytes: Bytes, is_open: bool, asked: &HeaderMap) -> Response {
    let range = asked
        .get(header::RANGE)
        .and_then(|range| range.to_str().ok());
    let range = range.and_then(|range| parse_range(range, bytes.len()));
    let total = bytes.len();
    let mut response = match range {
        Some(Ok((from, to))) => {
            let mut response = (StatusCode::PARTIAL_CONTENT, bytes.slice(from..to)).into_response();
            let said = format!("bytes {from}-{}/{total}", to - 1);
            if let Ok(value) = said.parse() {
                response.headers_mut().insert(header::CONTENT_RANGE, value);
            }
            response
        }
        Some(Err(())) => {
            let mut response = StatusCode::RANGE_NOT_SATISFIABLE.into_response();
            if let Ok(value) = format!("bytes */{total}").parse() {
                response.headers_mut().insert(header::CONTENT_RANGE, value);
            }
            return response;
        }
        None => bytes.into_response(),
    };
    let cache = if is_open {
        "public, max-age=86400, immutable"
    } else {
        "private, max-age=86400, immutable"
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(SEGMENT));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    response
}

/// From where to where a range reaches (RFC 9110 section 14.1.2); an error if there is nothing there, none if it is not
/// one range of bytes, and then the whole is the answer.
pub(crate) fn parse_range(text: &str, total: usize) -> Option<Result<(usize, usize), ()>> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| text.trim().parse::<usize>().ok();
    let (from, to) = match (from.trim(), to.trim()) {
        ("", "") => return None,
        ("", last) => (total.saturating_sub(number(last)?), total),
        (from, "") => (number(from)?, total),
        (from, to) => (number(from)?, number(to)?.checked_add(1)?.min(total)),
    };
    Some(if from < to { Ok((from, to)) } else { Err(()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_what_the_standard_says() {
        for (text, expected) in [
            ("bytes=0-9", Some(Ok((0, 10)))),
            ("bytes=90-", Some(Ok((90, 100)))),
            ("bytes=90-200", Some(Ok((90, 100)))),
            ("bytes=-10", Some(Ok((90, 100)))),
            ("bytes=-200", Some(Ok((0, 100)))),
            ("bytes=100-", Some(Err(()))),
            ("bytes=9-3", Some(Err(()))),
            ("bytes=-0", Some(Err(()))),
            ("bytes=0-1,3-4", None),
            ("bytes=-", None),
            ("bytes=0-18446744073709551615", None),
            ("lines=0-9", None),
        ] {
            assert_eq!(parse_range(text, 100), expected, "{text}");
        }
    }
}
