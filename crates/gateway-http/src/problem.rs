//! What is answered when something cannot be had: a status, and a sentence that says why and what to do.
//!
//! Called by all handlers. Invariant: it is never cached, and what a client sent is in it only as a checked name.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use levada::StreamName;
use levada_gateway::streams::SourceError;

use crate::hls::HlsError;
use crate::hls::visits::Turned;

/// Seconds after which a client may try again for a stream that does not come yet.
const RETRY_SECONDS: &str = "2";

/// Why not.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    text: String,
    header: Option<(HeaderName, String)>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
            header: None,
        }
    }

    /// Why a stream is not there as HLS.
    pub(crate) fn of_hls(name: &StreamName, error: &HlsError) -> Self {
        match error {
            HlsError::Unknown => Self::of_source(name, &SourceError::Unknown),
            HlsError::Unsuitable(why) => Self::new(StatusCode::NOT_ACCEPTABLE, why.clone()),
            HlsError::Far => Self::new(StatusCode::BAD_REQUEST, error.to_string()),
            HlsError::Gone => Self::new(StatusCode::NOT_FOUND, format!("`{name}`: {error}")),
            error => Self::later(format!("`{name}`: {error}")),
        }
    }

    /// Why a client is not served any more.
    pub(crate) fn of_turned(turned: Turned) -> Self {
        match turned {
            Turned::Kicked => Self::new(StatusCode::FORBIDDEN, "an operator ended this"),
            Turned::Quota => Self::new(
                StatusCode::FORBIDDEN,
                "this client had all the bytes that one may have",
            ),
            Turned::Full => Self::later("there are as many clients as there may be".to_owned()),
        }
    }

    /// It may be otherwise soon.
    fn later(text: String) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, text);
        problem.with(header::RETRY_AFTER, RETRY_SECONDS.to_owned())
    }

    pub(crate) fn with(mut self, name: HeaderName, value: String) -> Self {
        self.header = Some((name, value));
        self
    }

    /// Why a stream cannot be played.
    pub(crate) fn of_source(name: &StreamName, error: &SourceError) -> Self {
        let status = match error {
            SourceError::Unknown => StatusCode::NOT_FOUND,
            SourceError::Unsuitable(_) => StatusCode::NOT_ACCEPTABLE,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        let text = match error {
            SourceError::Unknown => {
                format!("no node offers `{name}`: what is on is listed at /live/")
            }
            SourceError::Unsuitable(why) => why.to_string(),
            error => format!("`{name}`: {error}"),
        };
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return Self::later(text);
        }
        Self::new(status, text)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, format!("{}\n", self.text)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some((name, value)) = self.header
            && let Ok(value) = value.parse()
        {
            headers.insert(name, value);
        }
        response
    }
}
