//! Who asks: what a request says of a user, and what is answered to who may not.
//!
//! A password or token comes by `Authorization` (Basic, Bearer), or as `?token=` for players that take a URL alone.
//! Not who may do what, which is `levada_gateway::users`. Called by `live`. Invariant: no password is ever formatted.

use axum::http::{HeaderMap, StatusCode, header};
use base64ct::{Base64, Encoding as _};
use levada::StreamName;
use levada_gateway::users::{Decision, Proof, REALM};
use levada_gateway::{Role, Users};

use crate::problem::Problem;

/// The value of a parameter of the query.
pub(crate) fn parameter<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    let pairs = query?.split('&');
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs
        .into_iter()
        .find_map(|(known, value)| (known == name).then_some(value))
}

/// What a request says of its user.
pub(crate) fn proof(headers: &HeaderMap, query: Option<&str>) -> Proof {
    let header = headers.get(header::AUTHORIZATION);
    let said = header.and_then(|value| authorization(value.to_str().ok()?));
    let token = || Some(Proof::Token(parameter(query, "token")?.to_owned()));
    said.or_else(token).unwrap_or(Proof::None)
}

fn authorization(value: &str) -> Option<Proof> {
    let (scheme, rest) = value.trim().split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Proof::Token(rest.to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(Base64::decode_vec(rest).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(Proof::Password {
        user: user.to_owned(),
        password: password.to_owned(),
    })
}

/// Lets through who may play a stream: as which user.
///
/// # Errors
///
/// The answer to who may not.
pub(crate) async fn check(
    users: &Users,
    proof: Proof,
    name: &StreamName,
) -> Result<Option<String>, Problem> {
    match users.check(proof, Role::Play, name).await {
        Decision::Granted(user) => Ok(user),
        Decision::Unproven => Err(unproven()),
        Decision::Forbidden => {
            let text = format!("that user or token may not play `{name}`");
            Err(Problem::new(StatusCode::FORBIDDEN, text))
        }
    }
}

/// What is answered to who does not say who it is: a browser asks its user then.
fn unproven() -> Problem {
    let text = "this needs a user and a password, or a token as `?token=...`";
    let problem = Problem::new(StatusCode::UNAUTHORIZED, text);
    problem.with(
        header::WWW_AUTHENTICATE,
        format!("Basic realm=\"{REALM}\", charset=\"UTF-8\""),
    )
}

/// Who asks, if there are users; whatever it may do.
///
/// # Errors
///
/// The answer to who does not say it, or not rightly.
pub(crate) async fn identify(users: &Users, proof: Proof) -> Result<Option<String>, Problem> {
    match users.identify(proof).await {
        Decision::Granted(user) => Ok(user),
        Decision::Unproven | Decision::Forbidden => Err(unproven()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn said(value: &str) -> Proof {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        proof(&headers, Some("only=video&token=abc"))
    }

    #[test]
    fn a_password_comes_by_header_and_a_token_by_header_or_url() {
        // "ann:a:b"
        let basic = said("basic YW5uOmE6Yg==");

        assert!(
            matches!(&basic, Proof::Password { user, password } if user == "ann" && password == "a:b")
        );
        assert!(matches!(said("Bearer xyz"), Proof::Token(token) if token == "xyz"));
        for other in ["Digest x=1", "Basic", "Basic ???", "Basic YW5u"] {
            assert!(
                matches!(said(other), Proof::Token(token) if token == "abc"),
                "{other}"
            );
        }
        assert!(matches!(proof(&HeaderMap::new(), None), Proof::None));
    }
}
