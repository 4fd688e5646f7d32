//! Negative controls: a part that is broken on purpose, to show that a run would notice.
//!
//! Not faults, which a network must survive. Chosen by `levada sim run --sabotage`, built in where the part is: `Link`
//! in `connection`, `Machine` in `node`, `Checker` in `check::loops`. Invariant: a run with a sabotage fails.

use std::fmt;
use std::str::FromStr;

/// A fault put in on purpose: a checker must find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Sabotage {
    /// A checker sees loops that are not there.
    Checker,
    /// A node never stops sending a flow to a link.
    Machine,
    /// A link brings control bytes twice.
    Link,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Checker, Self::Machine, Self::Link];

    /// The checker that notices.
    #[must_use]
    pub const fn noticed_by(self) -> &'static str {
        match self {
            Self::Checker => "loop",
            Self::Machine => "quiet",
            Self::Link => "order",
        }
    }
}

impl fmt::Display for Sabotage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checker => "checker",
            Self::Machine => "machine",
            Self::Link => "link",
        })
    }
}

impl FromStr for Sabotage {
    type Err = UnknownSabotage;

    fn from_str(text: &str) -> Result<Self, UnknownSabotage> {
        let known = Self::ALL
            .into_iter()
            .find(|sabotage| sabotage.to_string() == text);
        known.ok_or_else(|| UnknownSabotage(text.to_owned()))
    }
}

/// A word that names no sabotage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot be sabotaged: choose checker, machine or link")]
pub struct UnknownSabotage(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_what_is_broken() {
        for sabotage in Sabotage::ALL {
            assert_eq!(sabotage.to_string().parse(), Ok(sabotage));
        }
        let error = "router"
            .parse::<Sabotage>()
            .map_err(|error| error.to_string());
        assert_eq!(
            error,
            Err("`router` cannot be sabotaged: choose checker, machine or link".to_owned())
        );
    }
}
