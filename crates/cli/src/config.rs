//! What stands in a configuration file above the library: gateways, users, limits, and what is published.
//!
//! ```text
//!  file ──┬─ the library's keys ──▶ levada::config        (RawConfig ▶ Config)
//!         └─ those of this file ──▶ RawProgram ──resolve──▶ Program
//! ```
//!
//! Not the flags, which `run` has, and not what becomes of it. Called by `run` at the start and at each reload, and by
//! `user`. Invariant: a [`Program`] is sound; what cannot be is refused with the key, the reason and the cure.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use levada::StreamName;
use levada::config::{Config, RawConfig, RawError, check_keys, text_of};
use levada_gateway::users::{Token, User};
use levada_gateway::{Limits, Settings, Users};
use levada_gateway_http as http;
use levada_gateway_rtsp as rtsp;
use levada_media::source::{Options, Request};
use serde::Deserialize;

use crate::units::duration;

/// The keys of this file, after those of the library.
pub(crate) const KEYS: [&str; 7] = [
    "rtsp", "http", "gateways", "publish", "user", "token", "limits",
];
/// Those that the environment has too.
pub(crate) const KEYS_OF_ENVIRONMENT: [&str; 3] = ["rtsp", "http", "gateways"];
/// What can be said of entries and tables.
const KEYS_WITHIN: [(&str, &[&str]); 4] = [
    ("publish", &["name", "source", "loop", "program", "rate"]),
    ("user", &["name", "password", "digest", "rights"]),
    ("token", &["name", "hash", "rights"]),
    (
        "limits",
        &["clients", "handshakes_per_address", "client_bytes", "stall"],
    ),
];
/// How long a client may be allowed to take nothing.
const STALL_MIN: Duration = Duration::from_secs(1);

/// What one place says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct RawProgram {
    pub(crate) rtsp: Option<String>,
    pub(crate) http: Option<String>,
    pub(crate) gateways: Option<bool>,
    pub(crate) publish: Option<Vec<RawPublish>>,
    pub(crate) user: Option<Vec<User>>,
    pub(crate) token: Option<Vec<Token>>,
    pub(crate) limits: Option<RawLimits>,
}

/// One `[[publish]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPublish {
    pub(crate) name: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) r#loop: Option<bool>,
    pub(crate) program: Option<NonZeroU16>,
    pub(crate) rate: Option<NonZeroU32>,
}

/// `[limits]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawLimits {
    clients: Option<usize>,
    handshakes_per_address: Option<usize>,
    client_bytes: Option<u64>,
    stall: Option<String>,
}

/// What the program does around its node.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// Where the RTSP gateway listens; nowhere if none.
    pub(crate) rtsp: Option<SocketAddr>,
    /// Where the HTTP gateway listens; nowhere if none.
    pub(crate) http: Option<SocketAddr>,
    pub(crate) publish: Vec<Request>,
    /// What can be set while gateways run.
    pub(crate) settings: Settings,
}

impl RawProgram {
    /// Reads a file: the library's part and this one.
    pub(crate) fn from_file(path: &Path) -> Result<(RawConfig, Self), RawError> {
        let text = text_of(path)?;
        let in_file = |error: RawError| error.in_file(path);
        let raw = RawConfig::from_toml(&text, &KEYS).map_err(in_file)?;
        let program = Self::from_toml(&text).map_err(in_file)?;
        Ok((raw, program))
    }

    /// Whether a text is a configuration.
    pub(crate) fn check(text: &str) -> anyhow::Result<()> {
        Config::resolve(RawConfig::from_toml(text, &KEYS)?)?;
        Self::from_toml(text)?.resolve().map(|_| ())
    }

    fn from_toml(text: &str) -> Result<Self, RawError> {
        let malformed =
            |error: toml::de::Error| RawError::malformed(text, error.message(), error.span());
        let table: toml::Table = toml::from_str(text).map_err(malformed)?;
        for (key, known) in KEYS_WITHIN {
            let entries = match table.get(key) {
                Some(toml::Value::Array(entries)) => entries.iter().collect(),
                Some(value) => vec![value],
                None => Vec::new(),
            };
            for entry in entries.into_iter().filter_map(toml::Value::as_table) {
                check_keys(entry.keys(), known)?;
            }
        }
        // From the text once more, so that a value of the wrong type is shown with its line.
        toml::from_str(text).map_err(malformed)
    }

    /// Reads the variables of the environment: those of [`KEYS_OF_ENVIRONMENT`].
    pub(crate) fn from_env() -> anyhow::Result<Self> {
        let read = |key: &str| std::env::var(format!("LEVADA_{key}")).ok();
        let gateways = read("GATEWAYS").map(|value| match value.as_str() {
            "true" | "1" | "yes" => Ok(true),
            "false" | "0" | "no" => Ok(false),
            _ => anyhow::bail!("`LEVADA_GATEWAYS` is `{value}`: write `true` or `false`"),
        });
        Ok(Self {
            rtsp: read("RTSP"),
            http: read("HTTP"),
            gateways: gateways.transpose()?,
            ..Self::default()
        })
    }

    /// What is written here, and where nothing is, what is written in `weaker`.
    pub(crate) fn or(self, weaker: Self) -> Self {
        Self {
            rtsp: self.rtsp.or(weaker.rtsp),
            http: self.http.or(weaker.http),
            gateways: self.gateways.or(weaker.gateways),
            publish: self.publish.or(weaker.publish),
            user: self.user.or(weaker.user),
            token: self.token.or(weaker.token),
            limits: self.limits.or(weaker.limits),
        }
    }

    /// Checks it and fills in the defaults.
    pub(crate) fn resolve(self) -> anyhow::Result<Program> {
        let listen = |key: &str, text: Option<String>, port| match text {
            Some(text) => address(&text, port).with_context(|| format!("`{key}`")),
            None => Ok(SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port))),
        };
        let rtsp = listen("rtsp", self.rtsp, rtsp::PORT_DEFAULT)?;
        let http = listen("http", self.http, http::PORT_DEFAULT)?;
        let has_gateways = self.gateways.unwrap_or(true);
        let publish = self.publish.unwrap_or_default();
        let publish = publish.into_iter().map(RawPublish::resolve);
        let publish = publish.collect::<anyhow::Result<Vec<_>>>()?;
        for (at, spec) in publish.iter().enumerate() {
            let is_twice = publish[..at].iter().any(|before| before.name == spec.name);
            anyhow::ensure!(
                !is_twice,
                "two `[[publish]]` have the name `{}`: give one another",
                spec.name
            );
        }
        let mut settings = Settings::default();
        settings.users = self.user.unwrap_or_default();
        settings.tokens = self.token.unwrap_or_default();
        // Whether they can be, which the start must know before anything runs.
        Users::new(settings.users.clone(), settings.tokens.clone())?;
        settings.limits = self.limits.unwrap_or_default().resolve()?;
        Ok(Program {
            rtsp: has_gateways.then_some(rtsp),
            http: has_gateways.then_some(http),
            publish,
            settings,
        })
    }
}

impl Program {
    /// The keys in which another one differs, of those that hold from a start on.
    pub(crate) fn differs_for_good(&self, other: &Self) -> Vec<&'static str> {
        let rtsp = (self.rtsp != other.rtsp).then_some("rtsp");
        let http = (self.http != other.http).then_some("http");
        let publish = (self.publish != other.publish).then_some("publish");
        rtsp.into_iter().chain(http).chain(publish).collect()
    }
}

impl RawPublish {
    fn resolve(self) -> anyhow::Result<Request> {
        let missing = |key: &str| {
            format!("`publish.{key}` is missing: each `[[publish]]` has a `name` and a `source`")
        };
        let name = self.name.with_context(|| missing("name"))?;
        let source = self.source.with_context(|| missing("source"))?;
        let parsed: Result<StreamName, _> = name.parse();
        Ok(Request {
            text: source,
            name: parsed.with_context(|| format!("`publish.name` is `{name}`"))?,
            options: Options {
                repeats: self.r#loop.unwrap_or(false),
                program: self.program,
                rate: self.rate,
            },
        })
    }
}

impl RawLimits {
    fn resolve(self) -> anyhow::Result<Limits> {
        let mut limits = Limits::default();
        if let Some(clients) = self.clients {
            limits = limits.with_clients(clients);
        }
        if let Some(handshakes) = self.handshakes_per_address {
            anyhow::ensure!(
                handshakes > 0,
                "`limits.handshakes_per_address` is 0, with which nobody could come: write 1 at least"
            );
            limits = limits.with_handshakes_per_address(handshakes);
        }
        if let Some(bytes) = self.client_bytes {
            limits = limits.with_client_bytes(bytes);
        }
        if let Some(text) = self.stall {
            let stall = duration(&text);
            let stall =
                stall.map_err(|why| anyhow::anyhow!("`limits.stall` is `{text}`: {why}"))?;
            anyhow::ensure!(
                stall >= STALL_MIN,
                "`limits.stall` is `{text}`: write `1s` at least, for a busy network needs as much"
            );
            limits = limits.with_stall(stall);
        }
        Ok(limits)
    }
}

/// Reads `IP:PORT`, or an IP address alone, which means the default port.
pub(crate) fn address(text: &str, port: u16) -> anyhow::Result<SocketAddr> {
    let alone = || Some(SocketAddr::new(text.parse().ok()?, port));
    let parsed = text.parse().ok().or_else(alone);
    parsed.with_context(|| {
        format!("`{text}` is not an address: write `IP:PORT`, for example `0.0.0.0:{port}` or `[::]:{port}`")
    })
}

#[cfg(test)]
mod tests;
