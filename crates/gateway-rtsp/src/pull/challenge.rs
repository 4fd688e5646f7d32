//! What a server asks for in `WWW-Authenticate`, and the answer to it (RFC 7616, RFC 7617).
//!
//! Not the server's own side, which is `auth`. Called by `dialogue`. Invariant: of several challenges the one is
//! answered that shows the least of the password.

use base64ct::{Base64, Encoding as _};
use levada_gateway::users::Hash;

use super::address::Credentials;
use crate::auth::{Digest, pairs};
use crate::message::Method;

/// One challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Digest {
        hash: Hash,
        realm: String,
        nonce: String,
        opaque: Option<String>,
        /// Whether the answer is to count and to have a nonce of its own.
        counts: bool,
    },
}

impl Challenge {
    /// The best of those that a response offers.
    pub(super) fn choose<'a>(values: impl Iterator<Item = &'a str>) -> Option<Self> {
        values
            .filter_map(Self::parse)
            .max_by_key(|challenge| match challenge {
                Self::Basic => 0,
                Self::Digest {
                    hash: Hash::Md5, ..
                } => 1,
                Self::Digest { .. } => 2,
            })
    }

    fn parse(value: &str) -> Option<Self> {
        let (scheme, rest) = value
            .trim()
            .split_once(' ')
            .unwrap_or_else(|| (value.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("digest") {
            return None;
        }
        let (mut hash, mut realm, mut nonce) = (Hash::Md5, String::new(), None);
        let (mut opaque, mut counts) = (None, false);
        for (name, value) in pairs(rest) {
            match name.to_ascii_lowercase().as_str() {
                "algorithm" => hash = Hash::parse(&value)?,
                "realm" => realm = value,
                "nonce" => nonce = Some(value),
                "opaque" => opaque = Some(value),
                // A server that takes `auth-int` alone cannot be answered.
                "qop" => {
                    counts = value
                        .split(',')
                        .any(|one| one.trim() == "auth")
                        .then_some(true)?
                }
                _ => {}
            }
        }
        Some(Self::Digest {
            hash,
            realm,
            nonce: nonce?,
            opaque,
            counts,
        })
    }

    /// The value of `Authorization`. `count` and `own` are the answer's number and nonce.
    pub(super) fn answer(
        &self,
        credentials: &Credentials,
        (method, uri): (Method, &str),
        (count, own): (u32, &str),
    ) -> String {
        let Credentials { user, password } = credentials;
        let Self::Digest {
            hash,
            realm,
            nonce,
            opaque,
            counts,
        } = self
        else {
            let text = format!("{user}:{password}");
            return format!("Basic {}", Base64::encode_string(text.as_bytes()));
        };
        let quality = counts.then(|| [format!("{count:08x}"), own.to_owned(), "auth".to_owned()]);
        let digest = Digest {
            user: user.clone(),
            realm: realm.clone(),
            nonce: nonce.clone(),
            uri: uri.to_owned(),
            response: String::new(),
            hash: *hash,
            quality,
        };
        let ha1 = hash.hex(&format!("{user}:{realm}:{password}"));
        let response = digest.expected(&ha1, method);
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let mut text = format!(
            "Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{uri}\", response=\"{response}\", algorithm={}",
            quoted(user),
            quoted(realm),
            quoted(nonce),
            hash.name()
        );
        if let Some([count, own, quality]) = &digest.quality {
            text.push_str(&format!(", qop={quality}, nc={count}, cnonce=\"{own}\""));
        }
        if let Some(opaque) = opaque {
            text.push_str(&format!(", opaque=\"{}\"", quoted(opaque)));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::auth::{Authorization, challenges};

    fn credentials() -> Credentials {
        Credentials {
            user: "an\"na".into(),
            password: "p".into(),
        }
    }

    #[test]
    fn the_challenge_that_shows_least_is_chosen() {
        let all = challenges("levada", "n", true);

        let best = Challenge::choose(all.iter().map(String::as_str)).unwrap();
        let basic = Challenge::choose(["Basic realm=\"x\"", "Bearer"].into_iter());

        assert!(matches!(
            best,
            Challenge::Digest {
                hash: Hash::Sha256,
                ..
            }
        ));
        assert_eq!(basic, Some(Challenge::Basic));
        assert_eq!(
            Challenge::choose(["Digest realm=\"x\", nonce=\"n\", qop=\"auth-int\""].into_iter()),
            None
        );
        assert_eq!(Challenge::choose(["Digest realm=\"x\""].into_iter()), None);
    }

    #[test]
    fn answers_are_what_our_own_server_expects() {
        for text in [
            "Digest realm=\"r\", nonce=\"n\", algorithm=SHA-256",
            "Digest realm=\"r\", nonce=\"n\"",
            "Digest realm=\"r\", nonce=\"n\", qop=\"auth,auth-int\", opaque=\"o\"",
        ] {
            let challenge = Challenge::choose([text].into_iter()).unwrap();
            let answer =
                challenge.answer(&credentials(), (Method::Describe, "rtsp://h/a"), (1, "c"));

            let Some(Authorization::Digest(digest)) = Authorization::parse(&answer) else {
                panic!("{answer}");
            };
            let ha1 = digest.hash.hex("an\"na:r:p");
            assert_eq!(
                digest.expected(&ha1, Method::Describe),
                digest.response,
                "{text}"
            );
            assert_eq!(digest.quality.is_some(), text.contains("qop"));
        }
        let basic = Challenge::Basic.answer(&credentials(), (Method::Play, "x"), (1, "c"));
        assert!(matches!(
            Authorization::parse(&basic),
            Some(Authorization::Basic { password, .. }) if password == "p"
        ));
    }
}
