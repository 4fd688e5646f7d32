//! What the user wrote, from wherever, and what it means.
//!
//! ```text
//!  flags ─┐
//!  LEVADA_* ─┤ RawConfig::or ──▶ RawConfig ──▶ Config::resolve ──▶ Config ──▶ Builder
//!  file ─┘   (flag > environment > file)        (checks; defaults)
//! ```
//!
//! Not the parsing of flags, which is the command line's, and not what stands above the library: sources, users and
//! gateways have keys of their own in the same file, which the program reads. Called by `cli`. Invariant: a [`Config`]
//! is sound; what cannot be is refused with the key, the reason and the cure.

use std::net::SocketAddr;
use std::path::PathBuf;

use levada_wire::Bitrate;

use crate::builder::{Builder, LANES_MAX, PORT_DEFAULT, Relay};
use crate::node::Node;
use crate::resolve::{Address, AddressError};
use crate::site::SiteOptions;

mod rate;
mod raw;
mod suggest;
pub use rate::bitrate;
pub use raw::{RawConfig, RawError, SAMPLE, check_keys, text_of};

/// A configuration that is sound and complete.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// What the node calls itself; the host's name if none.
    pub name: Option<String>,
    /// The UDP address for everything unicast.
    pub listen: SocketAddr,
    /// Neighbours to keep links to.
    pub join: Vec<Address>,
    /// Whether the node forwards for others.
    pub relay: Relay,
    /// Whether it accepts nobody.
    pub client: bool,
    /// How many threads move packets; one per processor if none.
    pub lanes: Option<usize>,
    /// The rate that is promised to other nodes at most; no limit if none.
    pub uplink: Option<Bitrate>,
    /// What each network interface carries; what the system says of it if none.
    pub interface_rate: Option<Bitrate>,
    /// How the node forms a site; it does not if none.
    pub site: Option<SiteOptions>,
    /// The state directory.
    pub state: PathBuf,
    /// What is logged, as a `tracing` filter.
    pub log: String,
}

impl Config {
    /// Checks what the user wrote and fills in the defaults.
    ///
    /// # Errors
    ///
    /// For the first value that cannot be meant.
    pub fn resolve(raw: RawConfig) -> Result<Self, ConfigError> {
        let client = raw.client.unwrap_or(false);
        let port = if client { 0 } else { PORT_DEFAULT };
        let listen = match raw.listen {
            Some(text) => listen(&text)?,
            None => SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port)),
        };
        let join = raw.join.unwrap_or_default();
        let join: Vec<Address> = join
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()?;
        if client && join.is_empty() {
            return Err(ConfigError::ClientAlone);
        }
        let site = site(raw.multicast, raw.site, raw.interface)?;
        Ok(Self {
            name: raw.name,
            listen,
            join,
            relay: raw.relay.as_deref().map_or(Ok(Relay::Auto), parse_relay)?,
            client,
            lanes: raw.lanes.map(check_lanes).transpose()?,
            uplink: rate("uplink", raw.uplink.as_deref())?,
            interface_rate: rate("interface_rate", raw.interface_rate.as_deref())?,
            site: site.filter(|_| !client),
            state: raw.state.unwrap_or_else(crate::state::default_dir),
            log: raw.log.unwrap_or_else(|| "info".to_owned()),
        })
    }

    /// The keys in which another configuration differs. None of them can change while a node runs.
    #[must_use]
    pub fn differs(&self, other: &Self) -> Vec<&'static str> {
        let label = |config: &Self| config.site.as_ref().map(|site| site.label.clone());
        let interfaces = |config: &Self| config.site.as_ref().map(|site| site.interfaces.clone());
        let has_sites = self.site.is_some() && other.site.is_some();
        let keys = [
            ("name", self.name != other.name),
            ("listen", self.listen != other.listen),
            ("join", self.join != other.join),
            ("relay", self.relay != other.relay),
            ("client", self.client != other.client),
            ("lanes", self.lanes != other.lanes),
            ("uplink", self.uplink != other.uplink),
            (
                "interface_rate",
                self.interface_rate != other.interface_rate,
            ),
            ("multicast", self.site.is_some() != other.site.is_some()),
            ("site", has_sites && label(self) != label(other)),
            (
                "interface",
                has_sites && interfaces(self) != interfaces(other),
            ),
            ("state", self.state != other.state),
            ("log", self.log != other.log),
        ];
        let differing = keys.into_iter().filter(|(_, differs)| *differs);
        differing.map(|(key, _)| key).collect()
    }

    /// The node that this configuration describes, findable by other commands.
    pub fn builder(&self) -> Builder {
        let mut builder = Node::builder()
            .state(&self.state)
            .listen(self.listen)
            .relay(self.relay)
            .client(self.client)
            .admin(true);
        if let Some(lanes) = self.lanes {
            builder = builder.lanes(lanes);
        }
        if let Some(uplink) = self.uplink {
            builder = builder.uplink(uplink);
        }
        if let Some(rate) = self.interface_rate {
            builder = builder.interface_rate(rate);
        }
        if let Some(site) = &self.site {
            builder = builder.site(site.clone());
        }
        if let Some(name) = &self.name {
            builder = builder.name(name);
        }
        let addresses = self.join.iter().map(ToString::to_string);
        addresses.fold(builder, Builder::join)
    }
}

/// Reads `IP:PORT`, or an IP address alone, which means the default port.
///
/// # Errors
///
/// If it is neither.
pub fn listen(text: &str) -> Result<SocketAddr, ConfigError> {
    let alone = |text: &str| Some(SocketAddr::new(text.parse().ok()?, PORT_DEFAULT));
    let parsed = text.parse().ok().or_else(|| alone(text));
    parsed.ok_or_else(|| ConfigError::Listen {
        text: text.to_owned(),
    })
}

/// How a site is formed, if it is.
fn site(
    multicast: Option<bool>,
    label: Option<String>,
    interface: Option<Vec<String>>,
) -> Result<Option<SiteOptions>, ConfigError> {
    let is_on = multicast.unwrap_or(true);
    for (key, is_given) in [
        ("site", label.is_some()),
        ("interface", interface.is_some()),
    ] {
        if !is_on && is_given {
            return Err(ConfigError::WithoutMulticast { key });
        }
    }
    if label.as_deref() == Some("") {
        return Err(ConfigError::SiteLabel);
    }
    Ok(is_on.then(|| SiteOptions {
        label,
        interfaces: interface.unwrap_or_default(),
    }))
}

fn check_lanes(lanes: usize) -> Result<usize, ConfigError> {
    let is_possible = (1..=LANES_MAX).contains(&lanes);
    is_possible
        .then_some(lanes)
        .ok_or(ConfigError::Lanes { lanes })
}

fn rate(key: &'static str, text: Option<&str>) -> Result<Option<Bitrate>, ConfigError> {
    let rate = |text: &str| {
        bitrate(text).map_err(|reason| ConfigError::Rate {
            key,
            text: text.to_owned(),
            reason,
        })
    };
    text.map(rate).transpose()
}

fn parse_relay(text: &str) -> Result<Relay, ConfigError> {
    match text {
        "always" => Ok(Relay::Always),
        "auto" => Ok(Relay::Auto),
        "never" => Ok(Relay::Never),
        other => Err(ConfigError::Relay {
            text: other.to_owned(),
        }),
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value that is not `IP:PORT`.
    #[error(
        "`listen` is `{text}`, which is not an address: write `IP:PORT`, for example `0.0.0.0:7800` or `[::]:7800`"
    )]
    Listen {
        /// The value as written.
        text: String,
    },
    /// A word that is none of the three.
    #[error("`relay` is `{text}`: write `always`, `auto` or `never`")]
    Relay {
        /// The value as written.
        text: String,
    },
    /// Not a number of lanes that a node may have.
    #[error("`lanes` is {lanes}: write 1 to {LANES_MAX}, or leave it out for one per processor")]
    Lanes {
        /// The number as written.
        lanes: usize,
    },
    /// Not a rate.
    #[error("`{key}` is `{text}`: {reason}")]
    Rate {
        /// `uplink` or `interface_rate`.
        key: &'static str,
        /// The value as written.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A neighbour's address that makes no sense.
    #[error("`join`: {0}")]
    Join(#[from] AddressError),
    /// An empty label.
    #[error("`site` is empty: give a label, for example `hall`, or leave it out")]
    SiteLabel,
    /// What only a site needs, where there is none.
    #[error("`{key}` has no effect without multicast: leave it out, or let multicast be on")]
    WithoutMulticast {
        /// The key.
        key: &'static str,
    },
    /// A client without anybody to dial.
    #[error("`client` needs somebody to dial: give at least one `join`")]
    ClientAlone,
}

#[cfg(test)]
mod tests;
