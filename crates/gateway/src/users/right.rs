//! What somebody may do, as a file and a command line say it: `play`, `publish sports/`.
//!
//! Not who has it, which is the parent's. Called by the parent, by configurations and by the command line. Invariant:
//! what is written reads back as the same.

use std::fmt;
use std::str::FromStr;

use levada::StreamName;
use serde::{Deserialize, Serialize};

use crate::session::Role;

/// A role, for streams whose names begin with a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Right {
    /// Whether it is a right to play or to publish.
    pub role: Role,
    /// With streams whose names begin like this; all if it is empty.
    pub prefix: String,
}

impl Right {
    /// Whether it covers that role with a stream of that name.
    #[must_use]
    pub fn covers(&self, role: Role, name: &str) -> bool {
        self.role == role && name.starts_with(&self.prefix)
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix.is_empty() {
            return self.role.fmt(f);
        }
        write!(f, "{} {}", self.role, self.prefix)
    }
}

impl From<Right> for String {
    fn from(right: Right) -> Self {
        right.to_string()
    }
}

impl TryFrom<String> for Right {
    type Error = RightError;

    fn try_from(text: String) -> Result<Self, RightError> {
        text.parse()
    }
}

impl FromStr for Right {
    type Err = RightError;

    fn from_str(text: &str) -> Result<Self, RightError> {
        let (role, prefix) = text
            .trim()
            .split_once(' ')
            .unwrap_or_else(|| (text.trim(), ""));
        let role = match role {
            "play" => Role::Play,
            "publish" => Role::Publish,
            _ => {
                let text = text.to_owned();
                return Err(RightError::Role { text });
            }
        };
        let prefix = prefix.trim();
        // A prefix is the beginning of a name; the end of one is added to find out.
        if !prefix.is_empty() && format!("{prefix}x").parse::<StreamName>().is_err() {
            let prefix = prefix.to_owned();
            return Err(RightError::Prefix { prefix });
        }
        Ok(Self {
            role,
            prefix: prefix.to_owned(),
        })
    }
}

/// Why a text is no right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RightError {
    /// Neither of the two roles.
    #[error(
        "`{text}` is no right: write `play` or `publish`, and behind it how names begin: `play sports/`"
    )]
    Role {
        /// As it was written, for people.
        text: String,
    },
    /// No stream's name begins like that.
    #[error(
        "no stream's name begins with `{prefix}`: names are made of letters, digits and -_./, as in `sports/`"
    )]
    Prefix {
        /// As it was written, for people.
        prefix: String,
    },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_right_survives_its_text() {
        for text in ["play", "publish", "play sports/", "publish lobby/cam"] {
            assert_eq!(text.parse::<Right>().unwrap().to_string(), text);
        }
        let json = serde_json::to_string(&"play a/".parse::<Right>().unwrap()).unwrap();
        assert_eq!(json, "\"play a/\"");
    }

    #[test]
    fn what_is_no_right_is_refused_with_the_cure() {
        for (text, cure) in [
            ("", "`play` or `publish`"),
            ("watch sports/", "`play` or `publish`"),
            ("play /sports", "as in `sports/`"),
            ("play *", "letters, digits"),
            ("play a b", "letters, digits"),
        ] {
            let error = text.parse::<Right>().unwrap_err().to_string();
            assert!(error.contains(cure), "{text}: {error}");
        }
    }

    #[test]
    fn a_right_covers_its_role_and_names_that_begin_like_it() {
        let right: Right = "play sports/".parse().unwrap();

        assert!(right.covers(Role::Play, "sports/final"));
        assert!(!right.covers(Role::Publish, "sports/final"));
        assert!(!right.covers(Role::Play, "sport"));
    }
}
