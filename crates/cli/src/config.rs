//! What stands in a configuration file above the library: gateways, users, limits, and what is published.
//!
//! ```text
//!  file ──┬─ the library's keys ──▶ levada::config        (RawConfig ▶ Config)
//!         └─ those of this file ──▶ RawProgram ──resolve──▶ Program
//! ```
//!
//! Not the flags, which `run` has, and not what becomes of it. Called by `run` at the start and at each reload, and by
//! `user`. Invariant: a [`Program`] is sound; what cannot be is refused with the key, the reason and the cure.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use levada::StreamName;
use levada::config::{Config, RawConfig, RawError, check_keys, text_of};
use levada_gateway::users::{Token, User};
use levada_gateway::{Limits, Settings, Users};
use levada_gateway_http as http;
use levada_gateway_rtsp as rtsp;
use levada_gateway_rtsp::header::transport::Lower;
use levada_gateway_rtsp::pull;
use levada_gateway_udp as udp;
use levada_media::source::{Options, Request};
use levada_wire::NetworkId;
use serde::Deserialize;

use crate::units::{bitrate, duration};

/// The keys of this file, after those of the library.
pub(crate) const KEYS: [&str; 16] = [
    "gateway_only",
    "rtsp",
    "rtsps",
    "certificate",
    "key",
    "http",
    "gateways",
    "gui",
    "media_dir",
    "publish",
    "pull",
    "pull_allow",
    "output",
    "user",
    "token",
    "limits",
];
/// Those that the environment has too.
pub(crate) const KEYS_OF_ENVIRONMENT: [&str; 5] =
    ["gateway_only", "rtsp", "rtsps", "http", "gateways"];
/// What can be said of entries and tables.
const KEYS_WITHIN: [(&str, &[&str]); 6] = [
    ("publish", &["name", "source", "loop", "program", "rate"]),
    ("pull", &["name", "from", "transport", "variant", "always"]),
    (
        "output",
        &[
            "name",
            "to",
            "rate",
            "ttl",
            "interface",
            "announce",
            "delay",
        ],
    ),
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
    pub(crate) gateway_only: Option<bool>,
    pub(crate) rtsp: Option<String>,
    pub(crate) rtsps: Option<String>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) http: Option<String>,
    pub(crate) gateways: Option<bool>,
    pub(crate) gui: Option<bool>,
    pub(crate) media_dir: Option<PathBuf>,
    pub(crate) publish: Option<Vec<RawPublish>>,
    pub(crate) pull: Option<Vec<RawPull>>,
    pub(crate) pull_allow: Option<Vec<String>>,
    pub(crate) output: Option<Vec<RawOutput>>,
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

/// One `[[pull]]`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPull {
    name: Option<String>,
    from: Option<String>,
    transport: Option<String>,
    variant: Option<String>,
    always: Option<bool>,
}

impl fmt::Debug for RawPull {
    /// Without where from, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawPull({:?})", self.name)
    }
}

/// One `[[output]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawOutput {
    pub(crate) name: Option<String>,
    pub(crate) to: Option<String>,
    pub(crate) rate: Option<String>,
    pub(crate) ttl: Option<u8>,
    pub(crate) interface: Option<String>,
    pub(crate) announce: Option<bool>,
    pub(crate) delay: Option<String>,
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
    /// Whether the node is here for its gateways alone.
    pub(crate) gateway_only: bool,
    /// Where the RTSP gateway listens; nowhere if none.
    pub(crate) rtsp: Option<SocketAddr>,
    /// Where it listens for TLS; nowhere if none.
    pub(crate) rtsps: Option<SocketAddr>,
    /// The files of the certificate and of its key; the node's own if none.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
    /// Where the HTTP gateway listens; nowhere if none.
    pub(crate) http: Option<SocketAddr>,
    /// Whether HTTP has the page that shows the node.
    pub(crate) has_gui: bool,
    /// Below it lies what the API may publish; nothing if none.
    pub(crate) media_dir: Option<PathBuf>,
    pub(crate) publish: Vec<Request>,
    pub(crate) pull: BTreeMap<StreamName, pull::Spec>,
    /// Those that are pulled by HLS.
    pub(crate) pull_hls: BTreeMap<StreamName, http::pull::Spec>,
    pub(crate) pull_allow: Vec<String>,
    pub(crate) output: Vec<udp::Spec>,
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
        let truth = |key: &str| {
            let value = read(key).map(|value| match value.as_str() {
                "true" | "1" | "yes" => Ok(true),
                "false" | "0" | "no" => Ok(false),
                _ => anyhow::bail!("`LEVADA_{key}` is `{value}`: write `true` or `false`"),
            });
            value.transpose()
        };
        Ok(Self {
            gateway_only: truth("GATEWAY_ONLY")?,
            rtsp: read("RTSP"),
            rtsps: read("RTSPS"),
            http: read("HTTP"),
            gateways: truth("GATEWAYS")?,
            ..Self::default()
        })
    }

    /// What is written here, and where nothing is, what is written in `weaker`.
    pub(crate) fn or(self, weaker: Self) -> Self {
        Self {
            gateway_only: self.gateway_only.or(weaker.gateway_only),
            rtsp: self.rtsp.or(weaker.rtsp),
            rtsps: self.rtsps.or(weaker.rtsps),
            certificate: self.certificate.or(weaker.certificate),
            key: self.key.or(weaker.key),
            http: self.http.or(weaker.http),
            gateways: self.gateways.or(weaker.gateways),
            gui: self.gui.or(weaker.gui),
            media_dir: self.media_dir.or(weaker.media_dir),
            publish: self.publish.or(weaker.publish),
            pull: self.pull.or(weaker.pull),
            pull_allow: self.pull_allow.or(weaker.pull_allow),
            output: self.output.or(weaker.output),
            user: self.user.or(weaker.user),
            token: self.token.or(weaker.token),
            limits: self.limits.or(weaker.limits),
        }
    }

    /// What the library is told: as it was written, and for a node that is here for its gateways alone what that means.
    pub(crate) fn library(&self, raw: RawConfig) -> anyhow::Result<RawConfig> {
        if self.gateway_only != Some(true) {
            return Ok(raw);
        }
        let is_never = raw.relay.as_deref().is_none_or(|relay| relay == "never");
        anyhow::ensure!(
            is_never && raw.client != Some(false),
            "`gateway_only` forwards nothing and accepts no node: leave `relay` and `client` out"
        );
        anyhow::ensure!(
            raw.join.as_ref().is_some_and(|join| !join.is_empty()),
            "`gateway_only` needs somebody to dial: give a NEIGHBOUR, `--join`, or `join` in the file"
        );
        let mut raw = raw;
        raw.relay = Some("never".to_owned());
        raw.client = Some(true);
        // One thread carries what a few players watch.
        raw.lanes = raw.lanes.or(Some(1));
        Ok(raw)
    }

    /// Checks it and fills in the defaults.
    pub(crate) fn resolve(self) -> anyhow::Result<Program> {
        let listen = |key: &str, text: Option<String>, port| match text {
            Some(text) => address(&text, port).with_context(|| format!("`{key}`")),
            None => Ok(SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port))),
        };
        let rtsp = listen("rtsp", self.rtsp, rtsp::PORT_DEFAULT)?;
        let rtsps = self
            .rtsps
            .map(|text| address(&text, rtsp::SECURE_PORT_DEFAULT).context("`rtsps`"));
        let rtsps = rtsps.transpose()?;
        let certificate = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => anyhow::bail!(
                "`certificate` and `key` belong together: give both files, or neither for the node's own"
            ),
        };
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
        let (mut pull, mut pull_hls) = (BTreeMap::new(), BTreeMap::new());
        for raw in self.pull.unwrap_or_default() {
            let (name, spec) = raw.resolve()?;
            let is_published = publish.iter().any(|spec| spec.name == name);
            let is_twice = pull.contains_key(&name) || pull_hls.contains_key(&name);
            match spec {
                Pulled::Rtsp(spec) => drop(pull.insert(name.clone(), spec)),
                Pulled::Hls(spec) => drop(pull_hls.insert(name.clone(), spec)),
            }
            anyhow::ensure!(
                !is_twice && !is_published,
                "two `[[pull]]` or `[[publish]]` have the name `{name}`: give one another"
            );
        }
        let output = self.output.unwrap_or_default();
        let output = output.into_iter().map(RawOutput::resolve);
        let output = output.collect::<anyhow::Result<Vec<_>>>()?;
        check_outputs(&output)?;
        let mut settings = Settings::default();
        settings.users = self.user.unwrap_or_default();
        settings.tokens = self.token.unwrap_or_default();
        // Whether they can be, which the start must know before anything runs.
        Users::new(settings.users.clone(), settings.tokens.clone())?;
        settings.limits = self.limits.unwrap_or_default().resolve()?;
        Ok(Program {
            gateway_only: self.gateway_only.unwrap_or(false),
            rtsp: has_gateways.then_some(rtsp),
            rtsps: rtsps.filter(|_| has_gateways),
            certificate,
            http: has_gateways.then_some(http),
            has_gui: self.gui.unwrap_or(true),
            media_dir: self.media_dir,
            publish,
            pull,
            pull_hls,
            pull_allow: self.pull_allow.unwrap_or_default(),
            output,
            settings,
        })
    }
}

impl Program {
    /// The keys in which another one differs, of those that hold from a start on.
    pub(crate) fn differs_for_good(&self, other: &Self) -> Vec<&'static str> {
        let only = (self.gateway_only != other.gateway_only).then_some("gateway_only");
        let rtsp = (self.rtsp != other.rtsp).then_some("rtsp");
        let rtsps = (self.rtsps != other.rtsps).then_some("rtsps");
        let tls = (self.certificate != other.certificate).then_some("certificate");
        let http = (self.http != other.http).then_some("http");
        let gui = (self.has_gui != other.has_gui).then_some("gui");
        let media = (self.media_dir != other.media_dir).then_some("media_dir");
        let all = [only, rtsp, rtsps, tls, http, gui, media];
        all.into_iter().flatten().collect()
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
                network: Some(NetworkId::OPEN),
            },
        })
    }
}

/// How a stream is pulled.
#[derive(Debug)]
enum Pulled {
    Rtsp(pull::Spec),
    Hls(http::pull::Spec),
}

impl RawPull {
    fn resolve(self) -> anyhow::Result<(StreamName, Pulled)> {
        let missing = |key: &str| {
            format!("`pull.{key}` is missing: each `[[pull]]` has a `name` and a `from`")
        };
        let name = self.name.with_context(|| missing("name"))?;
        let from = self.from.with_context(|| missing("from"))?;
        let parsed: Result<StreamName, _> = name.parse();
        let parsed = parsed.with_context(|| format!("`pull.name` is `{name}`"))?;
        if http::pull::is_playlist(&from) {
            anyhow::ensure!(
                self.transport.is_none(),
                "`pull.transport` of `{name}` is for RTSP: leave it out, HLS comes by HTTP"
            );
            let spec = http::pull::Spec::new(&from);
            let mut spec = spec.with_context(|| format!("`pull.from` of `{name}`"))?;
            let variant = self.variant.as_deref().unwrap_or("best").parse();
            spec.variant =
                variant.map_err(|why| anyhow::anyhow!("`pull.variant` of `{name}`: {why}"))?;
            spec.always = self.always.unwrap_or(false);
            return Ok((parsed, Pulled::Hls(spec)));
        }
        anyhow::ensure!(
            self.variant.is_none(),
            "`pull.variant` of `{name}` is for HLS (http://...m3u8): leave it out"
        );
        let address: pull::Address = from
            .parse()
            .with_context(|| format!("`pull.from` of `{name}`"))?;
        let mut spec = pull::Spec::new(address);
        spec.transport = match self.transport.as_deref() {
            None => None,
            Some("tcp") => Some(Lower::Tcp),
            Some("udp") => Some(Lower::Udp),
            Some(other) => anyhow::bail!(
                "`pull.transport` of `{name}` is `{other}`: write `tcp` or `udp`, or leave it out for what works"
            ),
        };
        spec.always = self.always.unwrap_or(false);
        Ok((parsed, Pulled::Rtsp(spec)))
    }
}

impl RawOutput {
    fn resolve(self) -> anyhow::Result<udp::Spec> {
        let missing = |key: &str| {
            format!("`output.{key}` is missing: each `[[output]]` has a `name` and a `to`")
        };
        let name = self.name.with_context(|| missing("name"))?;
        let to = self.to.with_context(|| missing("to"))?;
        let parsed: Result<StreamName, _> = name.parse();
        let parsed = parsed.with_context(|| format!("`output.name` is `{name}`"))?;
        let said = || format!("`[[output]]` of `{name}`");
        let mut spec = udp::Spec::new(parsed, &to).with_context(said)?;
        let rate = self.rate.as_deref().map(bitrate).transpose();
        spec.rate = rate.map_err(|why| anyhow::anyhow!("`output.rate` of `{name}`: {why}"))?;
        spec.ttl = self.ttl.unwrap_or(spec.ttl);
        spec.interface = self.interface;
        spec.announce = self.announce.unwrap_or(spec.announce);
        let delay = self.delay.as_deref().map(duration).transpose();
        let delay = delay.map_err(|why| anyhow::anyhow!("`output.delay` of `{name}`: {why}"))?;
        spec.delay = delay.unwrap_or(spec.delay);
        spec.check().with_context(said)
    }
}

/// Refuses outputs that whoever listens could not tell from each other.
fn check_outputs(outputs: &[udp::Spec]) -> anyhow::Result<()> {
    for (at, spec) in outputs.iter().enumerate() {
        if let Some(other) = outputs[..at].iter().find(|before| before.collides(spec)) {
            anyhow::bail!(
                "two `[[output]]` are sent to {}, `{}` and `{}`: give one another port or group",
                spec.url(),
                other.name,
                spec.name
            );
        }
    }
    anyhow::ensure!(
        outputs.len() <= udp::OUTPUTS_MAX,
        "there are {} `[[output]]`, and a node has {} at most: give the others to another node",
        outputs.len(),
        udp::OUTPUTS_MAX
    );
    Ok(())
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
