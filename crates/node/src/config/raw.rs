//! What the user wrote, as it was written: every key may be absent.
//!
//! Not its meaning (`config`). Called by `cli`, once per place that a configuration comes from. Invariant: a key
//! that does not exist is refused with the one that was probably meant.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::suggest::closest;

/// All keys, each commented out with what it means.
pub const SAMPLE: &str = include_str!("sample.toml");

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// What a variable of the environment starts with.
const PREFIX: &str = "LEVADA_";

/// One place's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// The state directory.
    pub state: Option<PathBuf>,
    /// The filter of the log: a level, or levels by module.
    pub log: Option<String>,
    /// Streams to publish from the start.
    pub publish: Option<Vec<RawPublish>>,
}

/// One `[[publish]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RawPublish {
    /// The stream's name.
    pub name: Option<String>,
    /// Where its frames come from.
    pub source: Option<String>,
    /// Whether a file repeats from its start.
    pub r#loop: Option<bool>,
    /// The program of a transport stream with several.
    pub program: Option<u16>,
    /// Pictures in a second of motion JPEG.
    pub rate: Option<u32>,
}

const KEYS: [&str; 10] = [
    "name", "listen", "join", "relay", "client", "lanes", "uplink", "state", "log", "publish",
];
const PUBLISH_KEYS: [&str; 5] = ["name", "source", "loop", "program", "rate"];

impl RawConfig {
    /// Reads a configuration file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is not TOML, or has a key that does not exist.
    pub fn from_file(path: &Path) -> Result<Self, RawError> {
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
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::from_toml(&text).map_err(|error| RawError::File {
            path: path.to_owned(),
            error: Box::new(error),
        })
    }

    /// Reads TOML.
    ///
    /// # Errors
    ///
    /// When it is not TOML, or has a key that does not exist.
    pub fn from_toml(text: &str) -> Result<Self, RawError> {
        let malformed = |error: toml::de::Error| RawError::Malformed {
            text: error.to_string().trim_end().to_owned(),
        };
        let table: toml::Table = toml::from_str(text).map_err(malformed)?;
        check_keys(table.keys(), &KEYS)?;
        if let Some(toml::Value::Array(streams)) = table.get("publish") {
            for stream in streams.iter().filter_map(toml::Value::as_table) {
                check_keys(stream.keys(), &PUBLISH_KEYS)?;
            }
        }
        // From the text once more, so that a value of the wrong type is shown with its line.
        toml::from_str(text).map_err(malformed)
    }

    /// Reads `LEVADA_*` from `variables`: `LEVADA_JOIN` has its addresses divided by commas; the rest are written
    /// like in the file. Other variables are ignored.
    ///
    /// # Errors
    ///
    /// When a `LEVADA_*` means no key, or has a value that its key cannot have.
    pub fn from_env(
        variables: impl IntoIterator<Item = (String, String)>,
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
                "STATE" => raw.state = Some(value.into()),
                "LOG" => raw.log = Some(value),
                _ => {
                    let known = KEYS.iter().filter(|known| **known != "publish");
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
            state: self.state.or(weaker.state),
            log: self.log.or(weaker.log),
            publish: self.publish.or(weaker.publish),
        }
    }
}

fn check_keys<'a>(
    keys: impl Iterator<Item = &'a String>,
    known: &'static [&'static str],
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
        /// The parser's words, with line and column.
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
