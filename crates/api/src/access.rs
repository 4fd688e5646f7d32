//! Who may ask: programs and pages of this machine, and no page of another site.
//!
//! ```text
//!   client not at a loopback address ─▶ 403
//!   `Host` is no name of this machine (a foreign name made to lead here: DNS rebinding) ─▶ 403
//!   `Sec-Fetch-Site` or `Origin` of another site ─▶ 403
//! ```
//!
//! Whoever sits at the machine may ask without a password, as by the local socket: so a page of another site in the
//! same browser is the danger. `curl` sends neither header, which is as good as none. Not the gateway's users, who may
//! play and publish. Called by the router before each handler. Invariant: what changes something is never reached by a
//! request that a browser makes for another site.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::Shared;
use crate::problem::Problem;

pub(crate) async fn guard(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let remote = (shared.peer)(request.extensions()).map(|remote| remote.ip());
    // Over HTTP/2 the host is in the URL.
    let authority = request.uri().authority().map(|it| it.as_str().to_owned());
    match check(remote, authority.as_deref(), request.headers()) {
        Ok(()) => share_nothing(next.run(request).await),
        Err(detail) => Problem::new(StatusCode::FORBIDDEN, detail).into_response(),
    }
}

/// What a node tells of itself is kept by no cache and shown in nobody's frame.
fn share_nothing(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let no_store = HeaderValue::from_static("no-store");
    headers.entry(header::CACHE_CONTROL).or_insert(no_store);
    let deny = HeaderValue::from_static("DENY");
    headers.insert(header::X_FRAME_OPTIONS, deny);
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

fn check(
    remote: Option<IpAddr>,
    authority: Option<&str>,
    headers: &HeaderMap,
) -> Result<(), &'static str> {
    if !remote.is_some_and(|remote| remote.to_canonical().is_loopback()) {
        return Err(
            "the API answers this machine only: ask at http://localhost, or through `ssh -L 8080:localhost:8080`",
        );
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).or(authority).unwrap_or_default();
    if !is_this_machine(host) {
        return Err("the host in the URL is not this machine: ask at http://localhost");
    }
    let fetched = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if fetched.is_some_and(|site| !matches!(site, b"same-origin" | b"none")) {
        return Err("pages of other sites may not ask");
    }
    let is_foreign = |origin: &str| origin.split_once("://").is_none_or(|(_, it)| it != host);
    if headers.contains_key(header::ORIGIN) && text(header::ORIGIN).is_none_or(is_foreign) {
        return Err("pages of other sites may not ask");
    }
    Ok(())
}

/// Whether `HOST[:PORT]` is a name or address of the loopback interface.
fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let address = bare.unwrap_or(name).parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|it| it.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn asked(remote: &str, headers: &[(&'static str, &'static str)]) -> bool {
        let headers = headers
            .iter()
            .map(|&(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        check(remote.parse().ok(), None, &headers).is_ok()
    }

    #[test]
    fn programs_of_this_machine_may_ask_and_others_may_not() {
        let host = [("host", "localhost:8080")];

        for remote in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(asked(remote, &host), "{remote}");
        }
        for remote in ["192.168.1.2", "::ffff:192.168.1.2", "unknown"] {
            assert!(!asked(remote, &host), "{remote}");
        }
    }

    #[test]
    fn a_name_that_was_made_to_lead_here_is_refused() {
        for host in ["localhost", "127.0.0.1:80", "[::1]:8080", "LOCALHOST:1"] {
            assert!(asked("127.0.0.1", &[("host", host)]), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "10.0.0.1:8080",
            "",
            "localhost.evil.example",
        ] {
            assert!(!asked("127.0.0.1", &[("host", host)]), "{host}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_refused_and_ones_of_this_node_are_not() {
        let from = |name, value| asked("::1", &[("host", "localhost:8080"), (name, value)]);

        assert!(from("origin", "http://localhost:8080"));
        assert!(from("sec-fetch-site", "same-origin"));
        assert!(from("sec-fetch-site", "none"));
        for origin in ["http://evil.example", "http://localhost:9", "null"] {
            assert!(!from("origin", origin), "{origin}");
        }
        for site in ["cross-site", "same-site", "?"] {
            assert!(!from("sec-fetch-site", site), "{site}");
        }
    }
}
