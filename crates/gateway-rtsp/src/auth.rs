//! `Authorization` and `WWW-Authenticate`: Basic and Digest with MD5 and SHA-256 (RFC 7617, RFC 7616; RTSP takes over
//! both).
//!
//! ```text
//!   HA1 = H(user:realm:password)   HA2 = H(method:uri)   response = H(HA1:nonce[:nc:cnonce:qop]:HA2)
//! ```
//!
//! A nonce belongs to one connection, so that what was heard on one is of no use on another. Not who may do what, which
//! is `levada_gateway::users`. Called by the server's connections. Invariant: no password is ever formatted.

use std::fmt;

use base64ct::{Base64, Encoding as _};
use levada_gateway::users::Hash;

use crate::message::Method;

/// What a client says of itself.
#[derive(Clone, PartialEq, Eq)]
pub enum Authorization {
    /// User and password as they are.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A proof of the password.
    Digest(Digest),
}

/// The parts of a digest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// The user.
    pub user: String,
    /// What the server called itself.
    pub realm: String,
    /// The number that the server gave.
    pub nonce: String,
    /// The URL that is signed. Some players sign another one than they ask for.
    pub uri: String,
    /// The proof, in hex.
    pub response: String,
    /// The hash; MD5 if it is not said.
    pub hash: Hash,
    /// The quality of protection with the client's counter and nonce, if used.
    pub quality: Option<[String; 3]>,
}

impl Authorization {
    /// Reads the header; `None` for other schemes and for what makes no sense.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let (scheme, rest) = value.trim().split_once(' ')?;
        if scheme.eq_ignore_ascii_case("basic") {
            let decoded = Base64::decode_vec(rest.trim()).ok()?;
            let text = String::from_utf8(decoded).ok()?;
            let (user, password) = text.split_once(':')?;
            return Some(Self::Basic {
                user: user.to_owned(),
                password: password.to_owned(),
            });
        }
        if !scheme.eq_ignore_ascii_case("digest") {
            return None;
        }
        Digest::parse(rest).map(Self::Digest)
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { user, .. } => write!(f, "Basic({user})"),
            Self::Digest(digest) => write!(f, "Digest({})", digest.user),
        }
    }
}

impl Digest {
    fn parse(text: &str) -> Option<Self> {
        let mut digest = Self::default();
        let (mut quality, mut count, mut nonce) = (None, String::new(), String::new());
        for (name, value) in pairs(text) {
            match name.to_ascii_lowercase().as_str() {
                "username" => digest.user = value,
                "realm" => digest.realm = value,
                "nonce" => digest.nonce = value,
                "uri" => digest.uri = value,
                "response" => digest.response = value,
                "algorithm" => digest.hash = Hash::parse(&value)?,
                "qop" => quality = Some(value),
                "nc" => count = value,
                "cnonce" => nonce = value,
                _ => {}
            }
        }
        digest.quality = quality.map(|quality| [count, nonce, quality]);
        (!digest.user.is_empty() && !digest.response.is_empty()).then_some(digest)
    }

    /// The response that is right for a user's HA1, in hex. To be compared in constant time.
    #[must_use]
    pub fn expected(&self, ha1: &str, method: Method) -> String {
        let ha2 = self.hash.hex(&format!("{}:{}", method.name(), self.uri));
        let middle = match &self.quality {
            Some([count, nonce, quality]) => {
                format!("{}:{count}:{nonce}:{quality}", self.nonce)
            }
            None => self.nonce.clone(),
        };
        self.hash.hex(&format!("{ha1}:{middle}:{ha2}"))
    }
}

/// Reads `name="value", name=value`; a quoted value may hold commas and escaped quotes.
pub(crate) fn pairs(text: &str) -> Vec<(&str, String)> {
    let (mut pairs, mut rest) = (Vec::new(), text);
    while let Some((name, after)) = rest.split_once('=') {
        let (value, left) = value_of(after.trim_start());
        pairs.push((name.trim_start_matches([',', ' ', '\t']).trim_end(), value));
        rest = left;
    }
    pairs
}

fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(',').unwrap_or(text.len());
        return (text[..end].trim().to_owned(), &text[end..]);
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (at, character) in quoted.char_indices() {
        match character {
            _ if escaped => {
                escaped = false;
                value.push(character);
            }
            '\\' => escaped = true,
            '"' => return (value, &quoted[at + 1..]),
            _ => value.push(character),
        }
    }
    (value, "")
}

/// The `WWW-Authenticate` headers that ask for a password, the one that players take last at the end: ffmpeg takes the
/// last digest it reads, and builds without SHA-256 are common. Digest is offered only where every user can use it.
#[must_use]
pub fn challenges(realm: &str, nonce: &str, with_digest: bool) -> Vec<String> {
    let basic = format!("Basic realm=\"{realm}\"");
    let digest = |hash: Hash| {
        let name = hash.name();
        format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm={name}")
    };
    if with_digest {
        vec![basic, digest(Hash::Sha256), digest(Hash::Md5)]
    } else {
        vec![basic]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use proptest::prelude::*;

    use super::*;

    fn digest(value: &str) -> Digest {
        match Authorization::parse(value).unwrap() {
            Authorization::Digest(digest) => digest,
            Authorization::Basic { .. } => panic!("basic"),
        }
    }

    #[test]
    fn basic_is_read_with_a_colon_in_the_password() {
        let read = Authorization::parse("Basic YW5uYTpwYTpzcw==").unwrap();

        assert_eq!(
            read,
            Authorization::Basic {
                user: "anna".into(),
                password: "pa:ss".into()
            }
        );
        assert_eq!(format!("{read:?}"), "Basic(anna)");
        assert_eq!(Authorization::parse("Basic !"), None);
        assert_eq!(Authorization::parse("Bearer x"), None);
    }

    /// The example of RFC 7616 section 3.9.1, in both hashes.
    #[test]
    fn the_responses_of_the_rfc_are_expected() {
        let with = |algorithm: &str, response: &str| {
            digest(&format!(
                "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", \
                 algorithm={algorithm}, \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, \
                 cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, response=\"{response}\", \
                 opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            ))
        };
        let md5 = with("MD5", "8ca523f5e9506fed4657c9700eebdbec");
        let sha = with(
            "SHA-256",
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        );

        for digest in [md5, sha] {
            let ha1 = digest
                .hash
                .hex("Mufasa:http-auth@example.org:Circle of Life");
            let text = format!("GET:{}", digest.uri);
            // The RFC's example is of HTTP, so its method is put where this crate's would stand.
            let [nc, cnonce, qop] = digest.quality.clone().unwrap();
            let ha2 = digest.hash.hex(&text);
            let expected = digest
                .hash
                .hex(&format!("{ha1}:{}:{nc}:{cnonce}:{qop}:{ha2}", digest.nonce));
            assert_eq!(expected, digest.response);
        }
    }

    /// The example of RFC 2069 as RTSP players use it: without a quality of protection.
    #[test]
    fn a_digest_without_quality_is_expected() {
        let digest = digest(
            "digest username=\"u\",realm=\"levada\",nonce=\"n\",uri=\"rtsp://h/a,b\",response=\"00\"",
        );

        assert_eq!(digest.uri, "rtsp://h/a,b");
        let ha1 = Hash::Md5.hex("u:levada:p");
        let ha2 = Hash::Md5.hex("DESCRIBE:rtsp://h/a,b");
        assert_eq!(
            digest.expected(&ha1, Method::Describe),
            Hash::Md5.hex(&format!("{ha1}:n:{ha2}"))
        );
    }

    #[test]
    fn an_unknown_hash_is_no_digest() {
        let text = "Digest username=\"u\", algorithm=SHA-512-256, response=\"00\"";

        assert_eq!(Authorization::parse(text), None);
    }

    #[test]
    fn digest_is_offered_only_where_all_can_use_it() {
        assert_eq!(challenges("levada", "n", false).len(), 1);
        let all = challenges("levada", "n", true);
        assert!(all.last().unwrap().ends_with("algorithm=MD5"));
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange_to_be_read(text in "(Basic|Digest) \\PC{0,80}") {
            let _ = Authorization::parse(&text);
        }
    }
}
