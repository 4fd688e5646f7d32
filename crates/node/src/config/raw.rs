//! What the user wrote, as it was written: every key may be absent.
//!
//! Not its meaning (`config`). Called by `cli`, once per place that a configuration comes from. Invariant: a key
//! that does not exist is refused with the one that was probably meant.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::suggest::closest;

/// All keys of the library, each commented out with what it means.
pub const SAMPLE: &str = include_str!("sample.toml");

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// What a variable of the environment starts with.
const PREFIX: &str = "LEVADA_";

/// One place's configuration.
///
/// A file and an environment may have keys of the program that stands on the library, for its gateways say. It names
/// them (`above`), and reads them itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct RawConfig {
    /// What the node calls itself.
    pub name: Option<String>,
    /// The UDP address for everything unicast.
    pub listen: Option<String>,
    /// Neighbours to keep links to.
    pub join: Option<Vec<String>>,
    /// `always`, `auto` or `never`.
    pub relay: Option<String>,
    /// Whether to accept nobody.
    pub client: Option<bool>,
    /// How many threads move packets.
    pub lanes: Option<usize>,
    /// The rate that is promised to other nodes at most.
    #[serde(default, deserialize_with = "super::rate::written")]
    pub uplink: Option<String>,
    /// What each network interface carries.
    #[serde(default, deserialize_with = "super::rate::written")]
    pub interface_rate: Option<String>,
    /// Whether to form a site with the nodes on the LAN.
    pub multicast: Option<bool>,
    /// The site's label.
    pub site: Option<String>,
    /// The interfaces to form a site on.
    pub interface: Option<Vec<String>>,
    /// The state directory.
    pub state: Option<PathBuf>,
    /// The filter of the log: a level, or levels by module.
    pub log: Option<String>,
}

const KEYS: [&str; 13] = [
    "name",
    "listen",
    "join",
    "relay",
    "client",
    "lanes",
    "uplink",
    "interface_rate",
    "multicast",
    "site",
    "interface",
    "state",
    "log",
];

impl RawConfig {
    /// Reads a configuration file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is not TOML, or has a key that does not exist.
    pub fn from_file(path: &Path, above: &[&'static str]) -> Result<Self, RawError> {
        let text = text_of(path)?;
        Self::from_toml(&text, above).map_err(|error| error.in_file(path))
    }

    /// Reads TOML.
    ///
    /// # Errors
    ///
    /// When it is not TOML, or has a key that does not exist.
    pub fn from_toml(text: &str, above: &[&'static str]) -> Result<Self, RawError> {
        let known = [&KEYS, above].concat();
        let malformed =
            |error: toml::de::Error| RawError::malformed(text, error.message(), error.span());
        let table: toml::Table = toml::from_str(text).map_err(malformed)?;
        check_keys(table.keys(), &known)?;
        // From the text once more, so that a value of the wrong type is shown with its line.
        toml::from_str(text).map_err(malformed)
    }

    /// Reads `LEVADA_*` from `variables`: `LEVADA_JOIN` and `LEVADA_INTERFACE` have their parts divided by commas; the
    /// rest are written like in the file. Other variables are ignored.
    ///
    /// # Errors
    ///
    /// When a `LEVADA_*` means no key, or has a value that its key cannot have.
    pub fn from_env(
        variables: impl IntoIterator<Item = (String, String)>,
        above: &[&'static str],
    ) -> Result<Self, RawError> {
        let mut raw = Self::default();
        for (variable, value) in variables {
            let Some(key) = variable.strip_prefix(PREFIX) else {
                continue;
            };
            match key {
                "NAME" => raw.name = Some(value),
                "LISTEN" => raw.listen = Some(value),
                "JOIN" => raw.join = Some(divide(&value)),
                "RELAY" => raw.relay = Some(value),
                "CLIENT" => raw.client = Some(truth(&variable, &value)?),
                "LANES" => raw.lanes = Some(number(&variable, &value)?),
                "UPLINK" => raw.uplink = Some(value),
                "INTERFACE_RATE" => raw.interface_rate = Some(value),
                "MULTICAST" => raw.multicast = Some(truth(&variable, &value)?),
                "SITE" => raw.site = Some(value),
                "INTERFACE" => raw.interface = Some(divide(&value)),
                "STATE" => raw.state = Some(value.into()),
                "LOG" => raw.log = Some(value),
                _ if above.iter().any(|known| known.to_uppercase() == key) => {}
                _ => {
                    let known = KEYS.iter().chain(above);
                    let known: Vec<String> = known
                        .map(|known| format!("{PREFIX}{}", known.to_uppercase()))
                        .collect();
                    return Err(unknown(&variable, known.iter().map(String::as_str)));
                }
            }
        }
        Ok(raw)
    }

    /// What is written here, and where nothing is, what is written in `weaker`.
    #[must_use]
    pub fn or(self, weaker: Self) -> Self {
        Self {
            name: self.name.or(weaker.name),
            listen: self.listen.or(weaker.listen),
            join: self.join.or(weaker.join),
            relay: self.relay.or(weaker.relay),
            client: self.client.or(weaker.client),
            lanes: self.lanes.or(weaker.lanes),
            uplink: self.uplink.or(weaker.uplink),
            interface_rate: self.interface_rate.or(weaker.interface_rate),
            multicast: self.multicast.or(weaker.multicast),
            site: self.site.or(weaker.site),
            interface: self.interface.or(weaker.interface),
            state: self.state.or(weaker.state),
            log: self.log.or(weaker.log),
        }
    }
}

/// The text of a configuration file.
///
/// # Errors
///
/// When it cannot be read, or is larger than any configuration.
pub fn text_of(path: &Path) -> Result<String, RawError> {
    let unreadable = |source| RawError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(unreadable(std::io::Error::other(
            "it is larger than 1 MiB, which no configuration is",
        )));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

/// Refuses a key that does not exist, with the one that was probably meant.
///
/// # Errors
///
/// For the first that is none of `known`.
pub fn check_keys<'a>(
    keys: impl Iterator<Item = &'a String>,
    known: &[&'static str],
) -> Result<(), RawError> {
    for key in keys {
        if !known.contains(&key.as_str()) {
            return Err(unknown(key, known.iter().copied()));
        }
    }
    Ok(())
}

fn unknown<'a>(key: &str, known: impl Iterator<Item = &'a str> + Clone) -> RawError {
    let advice = match closest(key, known.clone()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("there are {}", known.collect::<Vec<_>>().join(", ")),
    };
    RawError::UnknownKey {
        key: key.to_owned(),
        advice,
    }
}

fn divide(value: &str) -> Vec<String> {
    let parts = value.split(',').map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

fn truth(variable: &str, value: &str) -> Result<bool, RawError> {
    match value {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" | "" => Ok(false),
        _ => Err(RawError::Truth {
            variable: variable.to_owned(),
            value: value.to_owned(),
        }),
    }
}

fn number(variable: &str, value: &str) -> Result<usize, RawError> {
    value.parse().map_err(|_| RawError::Number {
        variable: variable.to_owned(),
        value: value.to_owned(),
    })
}

/// Why what the user wrote cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RawError {
    /// No such file, or no right to it.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Something in a file.
    #[error("in {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error, with its line in the file where it has one.
        error: Box<Self>,
    },
    /// Not TOML, or a value of the wrong type.
    #[error("{text}")]
    Malformed {
        /// Line and column, and the parser's words.
        text: String,
    },
    /// A key that does not exist.
    #[error("unknown key `{key}`: {advice}")]
    UnknownKey {
        /// The key.
        key: String,
        /// What was probably meant.
        advice: String,
    },
    /// Not a number.
    #[error("`{variable}` is `{value}`: write a number, for example `2`")]
    Number {
        /// The variable.
        variable: String,
        /// The value of the variable.
        value: String,
    },
    /// Neither true nor false.
    #[error("`{variable}` is `{value}`: write `true` or `false`")]
    Truth {
        /// The variable.
        variable: String,
        /// The value of the variable.
        value: String,
    },
}

impl RawError {
    /// What a parser of TOML says, and where. The line itself is left out: it may hold a password.
    #[must_use]
    pub fn malformed(text: &str, message: &str, span: Option<Range<usize>>) -> Self {
        let before = span.and_then(|span| text.get(..span.start));
        let place = before.map_or_else(String::new, |before| {
            let line = before.matches('\n').count() + 1;
            let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1;
            format!("line {line}, column {column}: ")
        });
        Self::Malformed {
            text: format!("{place}{}", message.replace('\n', ", ")),
        }
    }

    /// The same, of something in a file.
    #[must_use]
    pub fn in_file(self, path: &Path) -> Self {
        Self::File {
            path: path.to_owned(),
            error: Box::new(self),
        }
    }
}
