//! What a request says, read as `live` reads it, and what another server's playlist says, for the fuzzer.
//!
//! Not for programs. Called by `fuzz/src/targets.rs`. Invariant: nothing that a client sends makes a reader panic.

use axum::http::{HeaderMap, HeaderValue, header};

use crate::hls::answer;
use crate::pull::Url;
use crate::pull::playlist::{Playlist, SEGMENTS_MAX, VARIANTS_MAX};
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

/// Reads a playlist, and what its addresses mean at a server.
pub fn playlist(text: &str) {
    let base: Url = "https://user:secret@host.example/live/index.m3u8?x"
        .parse()
        .expect("it is a URL");
    let addresses: Vec<String> = match Playlist::parse(text) {
        Ok(Playlist::Variants(variants)) => {
            assert!(variants.len() <= VARIANTS_MAX);
            variants.into_iter().map(|variant| variant.uri).collect()
        }
        Ok(Playlist::Media(media)) => {
            assert!(media.segments.len() <= SEGMENTS_MAX);
            let segments = media.segments.into_iter();
            segments.map(|segment| segment.uri).collect()
        }
        Err(_) => Vec::new(),
    };
    for address in addresses {
        if let Ok(url) = base.join(&address) {
            assert!(url.path().starts_with('/'), "{address}");
            let path = url.path().split('?').next().unwrap_or("");
            assert!(!path.contains("/../"), "{address}");
            let knows = url.authorization().is_some() && !address.contains('@');
            assert!(!knows || url.is_same_server(&base), "{address}");
        }
    }
}
