//! What a request says, read as `live` reads it, for the fuzzer.
//!
//! Not for programs. Called by `fuzz/src/targets.rs`. Invariant: nothing that a client sends makes a reader panic.

use axum::http::{HeaderMap, HeaderValue, header};

use crate::hls::answer;
use crate::target::{self, Target};
use crate::{access, live};

/// Reads all of it; gives the page of the stream that the path names, if it names one.
pub fn request(path: &str, query: &str, authorization: &str, range: &str) -> Option<String> {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(authorization) {
        headers.insert(header::AUTHORIZATION, value);
    }
    let _ = access::proof(&headers, Some(query));
    let _ = (live::token(Some(query)), live::least(Some(query)));
    for total in [0, 1, 1_000] {
        if let Some(Ok((from, to))) = answer::parse_range(range, total) {
            assert!(from < to && to <= total, "{range} of {total}");
        }
    }
    let target = Target::parse(path).ok()?;
    Some(target::page_of(&target.name))
}
