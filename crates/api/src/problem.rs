//! What is answered when something cannot be had: problem details (RFC 9457), whose `detail` says why and what to do.
//!
//! Called by all handlers. Invariant: it is never cached, and nothing of what a client sent is in it but numbers.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use levada::Stopped;
use serde::Serialize;

const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Why not.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
}

/// RFC 9457 section 3.1; a `type` that is left out is `about:blank`.
#[derive(Serialize)]
struct Details<'a> {
    status: u16,
    title: &'a str,
    detail: &'a str,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
        }
    }
}

impl From<Stopped> for Problem {
    fn from(_: Stopped) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the node has stopped: start it again with `levada run`",
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let details = Details {
            status: self.status.as_u16(),
            title: self.status.canonical_reason().unwrap_or("Error"),
            detail: &self.detail,
        };
        let body = serde_json::to_vec(&details).expect("numbers and strings can be written");
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, MEDIA_TYPE);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}
