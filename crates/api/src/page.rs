//! The page that shows the node: files that were built from `web/` and are embedded, so that a build needs no Node.js.
//!
//! Not what it shows, which it asks of the API like everybody else. Called by the router. Invariant: the page asks no
//! address but this node's, as its policy demands of the browser.

use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};

use crate::problem::Problem;

/// Nothing from elsewhere; styles of charts are set by script.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; \
     media-src 'self' blob:; connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);

/// A file of the page: its name, its media type, its bytes.
type File = (&'static str, &'static str, &'static [u8]);

const INDEX: &[u8] = include_bytes!("../../../web/dist/index.html");
const FILES: &[File] = &[
    (
        "app.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../../../web/dist/app.js"),
    ),
    (
        "app.css",
        "text/css; charset=utf-8",
        include_bytes!("../../../web/dist/app.css"),
    ),
];

pub(crate) async fn moved() -> Redirect {
    Redirect::permanent("/ui/")
}

pub(crate) async fn index() -> Response {
    send("text/html; charset=utf-8", INDEX)
}

pub(crate) async fn file(Path(path): Path<String>) -> Result<Response, Problem> {
    let found = FILES.iter().find(|(name, ..)| *name == path);
    let Some((_, media_type, bytes)) = found else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "the page has no such file: it is at /ui/",
        ));
    };
    Ok(send(media_type, bytes))
}

fn send(media_type: &'static str, bytes: &'static [u8]) -> Response {
    let mut response = bytes.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    // The names of files stay from one release to the next.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
